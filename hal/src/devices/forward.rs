//! For devices that wrap another: methods that are only passed on.

/// Implements methods of [`Device`](crate::Device) by calling those of a field. Inside
/// `impl Device for Wrapper`, `forward_to!(inner; info, allocate, memory);` passes those three on to
/// `self.inner`.
#[macro_export]
macro_rules! forward_to {
    (@info $inner:ident) => {
        fn info(&self) -> &$crate::DeviceInfo {
            self.$inner.info()
        }
    };
    (@supports $inner:ident) => {
        fn supports(&self, desc: &$crate::OpDesc) -> $crate::Support {
            self.$inner.supports(desc)
        }
    };
    (@fuses $inner:ident) => {
        fn fuses(&self, ops: &[$crate::Op]) -> usize {
            self.$inner.fuses(ops)
        }
    };
    (@packing $inner:ident) => {
        fn packing(&self, weight: &$crate::Layout) -> $crate::Packing {
            self.$inner.packing(weight)
        }
    };
    (@workspace $inner:ident) => {
        fn workspace(&self, desc: &$crate::OpDesc) -> u64 {
            self.$inner.workspace(desc)
        }
    };
    (@allocate $inner:ident) => {
        fn allocate(&self, bytes: u64, row_bytes: u64) -> $crate::Result<$crate::Buffer> {
            self.$inner.allocate(bytes, row_bytes)
        }
    };
    (@create_stream $inner:ident) => {
        fn create_stream(&self) -> $crate::Result<$crate::StreamId> {
            self.$inner.create_stream()
        }
    };
    (@upload $inner:ident) => {
        fn upload(
            &self,
            stream: $crate::StreamId,
            to: &$crate::Buffer,
            offset: u64,
            data: &[u8],
        ) -> $crate::Result<()> {
            self.$inner.upload(stream, to, offset, data)
        }
    };
    (@download $inner:ident) => {
        fn download(
            &self,
            stream: $crate::StreamId,
            from: &$crate::Buffer,
            offset: u64,
            bytes: u64,
        ) -> $crate::Result<$crate::Readback> {
            self.$inner.download(stream, from, offset, bytes)
        }
    };
    (@copy $inner:ident) => {
        fn copy(
            &self,
            stream: $crate::StreamId,
            from: (&$crate::Buffer, u64),
            to: (&$crate::Buffer, u64),
            bytes: u64,
        ) -> $crate::Result<()> {
            self.$inner.copy(stream, from, to, bytes)
        }
    };
    (@replay $inner:ident) => {
        fn replay(
            &self,
            stream: $crate::StreamId,
            recording: &$crate::Recording,
            bindings: &[$crate::Binding],
        ) -> $crate::Result<()> {
            self.$inner.replay(stream, recording, bindings)
        }
    };
    (@record_event $inner:ident) => {
        fn record_event(&self, stream: $crate::StreamId) -> $crate::Result<$crate::Event> {
            self.$inner.record_event(stream)
        }
    };
    (@wait_event $inner:ident) => {
        fn wait_event(&self, stream: $crate::StreamId, event: &$crate::Event) -> $crate::Result<()> {
            self.$inner.wait_event(stream, event)
        }
    };
    (@synchronize $inner:ident) => {
        fn synchronize(&self, stream: $crate::StreamId) -> $crate::Result<()> {
            self.$inner.synchronize(stream)
        }
    };
    (@memory $inner:ident) => {
        fn memory(&self) -> $crate::MemoryStats {
            self.$inner.memory()
        }
    };
    (@time $inner:ident) => {
        fn time(
            &self,
            recording: &$crate::Recording,
            bindings: &[$crate::Binding],
        ) -> $crate::Result<Option<Vec<(String, f64)>>> {
            self.$inner.time(recording, bindings)
        }
    };
    (@tuning $inner:ident) => {
        fn tuning(&self) -> Vec<(String, String)> {
            self.$inner.tuning()
        }
    };
    (@set_tuning $inner:ident) => {
        fn set_tuning(&self, choices: &[(String, String)]) -> $crate::Result<()> {
            self.$inner.set_tuning(choices)
        }
    };
    (@variants $inner:ident) => {
        fn variants(&self, desc: &$crate::OpDesc) -> Vec<String> {
            self.$inner.variants(desc)
        }
    };
    (@programs $inner:ident) => {
        fn programs(&self, op: &$crate::Op) -> $crate::Result<Vec<Vec<u64>>> {
            self.$inner.programs(op)
        }
    };
    ($inner:ident; $($method:ident),* $(,)?) => {
        $($crate::forward_to!(@$method $inner);)*
    };
}
