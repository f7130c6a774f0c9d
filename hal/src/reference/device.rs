//! The reference as a device.

use super::array::write_blocks;
use super::{Array, decode, encode, eval, for_each_offset};
use crate::{
    Backend, Buffer, DType, Device, DeviceInfo, DeviceKind, DeviceOptions, Error, Event, MemoryStats, Op,
    OpDesc, OpKind, Packing, Readback, Result, Source, Storage, StreamId, Support, TensorRef,
};
use std::any::Any;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A device that runs [`eval`] on its own memory, one op after the other, before a submission returns.
///
/// Beside its bytes, memory keeps an f64 for every 32-bit word. An op's f32 results are stored there
/// unrounded, and f32 operands are read from there; so a whole model runs in f64, while uploads and
/// downloads see ordinary f32. Other dtypes are rounded like anywhere else.
#[derive(Debug)]
pub struct ReferenceDevice {
    info: DeviceInfo,
    eval: Eval,
    exact: bool,
    limit: u64,
    count: Arc<Count>,
    streams: AtomicU32,
}

type Eval = fn(&OpKind, &[Array], &mut [Array]);

#[derive(Debug, Default)]
struct Count {
    used: AtomicU64,
    peak: AtomicU64,
}

struct Memory {
    device: String,
    bytes: u64,
    count: Arc<Count>,
    data: Mutex<Data>,
}

#[derive(Default)]
struct Data {
    raw: Vec<u8>,
    /// For each aligned word the f64 that its f32 stands for.
    shadow: Vec<f64>,
}

impl Data {
    /// Zeros; `None` when the host has no room for them.
    fn new(bytes: u64) -> Option<Self> {
        fn zeros<T: bytemuck::Zeroable>(n: usize) -> Option<Vec<T>> {
            Some(bytemuck::allocation::try_zeroed_slice_box(n).ok()?.into_vec())
        }
        let n = usize::try_from(bytes).ok()?;
        Some(Data { raw: zeros(n)?, shadow: zeros(n / 4)? })
    }

    /// Takes words `first..last` as f32 again after their bytes were changed.
    fn refresh(&mut self, first: usize, last: usize) {
        for word in first..last.min(self.shadow.len()) {
            self.shadow[word] = decode(DType::F32, &self.raw, word);
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.raw[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.refresh(offset / 4, (offset + bytes.len()).div_ceil(4));
    }

    fn read_view(&self, t: &TensorRef) -> Vec<f64> {
        if t.dtype.is_block() {
            return Array::read(t, &self.raw).data;
        }
        let mut out = Vec::with_capacity(t.elems());
        for_each_offset(&t.shape, &t.strides, t.offset, &mut |at| {
            out.push(match t.dtype {
                DType::F32 => self.shadow[at],
                dtype => decode(dtype, &self.raw, at),
            });
        });
        out
    }

    fn write_view(&mut self, t: &TensorRef, values: &[f64], exact: bool) {
        if t.dtype.is_block() {
            write_blocks(t, values, &mut self.raw);
            let (start, end) = t.byte_range().expect("a view of this memory");
            return self.refresh(start as usize / 4, (end as usize).div_ceil(4));
        }
        let mut values = values.iter();
        for_each_offset(&t.shape, &t.strides, t.offset, &mut |at| {
            let x = *values.next().expect("as many values as elements");
            encode(t.dtype, &mut self.raw, at, x);
            let word = at * t.dtype.block_bytes() / 4;
            self.refresh(word, word + 1);
            if t.dtype == DType::F32 && exact {
                self.shadow[at] = x;
            }
        });
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Memory {
    fn device(&self) -> &str {
        &self.device
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.count.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Default for ReferenceDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl ReferenceDevice {
    /// A device that keeps f32 results in f64.
    pub fn new() -> Self {
        let mut info = DeviceInfo::new("reference", 0, "f64 reference", DeviceKind::Software);
        info.unified_memory = true;
        (info.f16, info.bf16) = (true, true);
        ReferenceDevice {
            info,
            eval: eval::<f64>,
            exact: true,
            limit: u64::MAX,
            count: Arc::default(),
            streams: AtomicU32::new(1),
        }
    }

    /// A device that rounds every f32 result to f32, like any other: what an op's f64 meaning gives when
    /// its neighbours only see f32.
    pub fn rounding() -> Self {
        ReferenceDevice { exact: false, ..Self::new() }
    }

    /// A rounding device that computes with another evaluation.
    #[cfg(all(test, feature = "conformance"))]
    pub(crate) fn evaluating(eval: Eval) -> Self {
        ReferenceDevice { eval, ..Self::rounding() }
    }

    /// What a tensor holds, f32 unrounded.
    pub fn read_f64(&self, t: &TensorRef) -> Result<Vec<f64>> {
        let Source::Buffer(buffer) = &t.source else {
            return Err(Error::invalid_op("read_f64", "needs a tensor in a buffer, not in a slot"));
        };
        t.check(buffer.bytes())?;
        Ok(self.memory_of(buffer)?.lock().read_view(t))
    }

    /// Writes unrounded f32 elements from element `offset` of a buffer on.
    pub fn write_f64(&self, to: &Buffer, offset: usize, values: &[f64]) -> Result<()> {
        let t = TensorRef::new(to, DType::F32, &[values.len()]).with_offset(offset);
        t.check(to.bytes())?;
        self.memory_of(to)?.lock().write_view(&t, values, true);
        Ok(())
    }

    fn memory_of<'a>(&self, buffer: &'a Buffer) -> Result<&'a Memory> {
        match buffer.downcast::<Memory>() {
            Some(m) if Arc::ptr_eq(&m.count, &self.count) => Ok(m),
            _ => Err(Error::WrongDevice {
                device: self.info.selector.clone(),
                found: buffer.storage().device().into(),
            }),
        }
    }

    fn operand<'a>(&self, t: &'a TensorRef) -> Result<&'a Memory> {
        match &t.source {
            Source::Buffer(b) => self.memory_of(b),
            Source::Slot(s) => Err(Error::Slot { slot: *s, message: "not bound to a buffer".into() }),
        }
    }

    fn run(&self, op: &Op) -> Result<()> {
        op.check(|_| None)?;
        let desc = op.desc();
        if let Support::Unsupported(reason) = self.supports(&desc) {
            let device = self.info.selector.clone();
            return Err(Error::Unsupported { device, op: desc.to_string(), reason });
        }
        let load = |t: &TensorRef| -> Result<Array> {
            Ok(Array::new(t.dtype, &t.shape, self.operand(t)?.lock().read_view(t)))
        };
        let inputs = op.inputs.iter().map(load).collect::<Result<Vec<_>>>()?;
        let mut outputs = Vec::with_capacity(op.outputs.len());
        for (o, t) in op.outputs.iter().enumerate() {
            outputs.push(if op.kind.updates(o) { load(t)? } else { Array::full(t.dtype, &t.shape, 0.0) });
        }
        (self.eval)(&op.kind, &inputs, &mut outputs);
        for (t, y) in op.outputs.iter().zip(&outputs) {
            self.operand(t)?.lock().write_view(t, &y.data, self.exact);
        }
        Ok(())
    }
}

impl Device for ReferenceDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, desc: &OpDesc) -> Support {
        if let Err(e) = desc.check() {
            return Support::Unsupported(e.to_string());
        }
        if desc.inputs.iter().chain(&desc.outputs).any(|l| l.packing != Packing::Plain) {
            return Support::Unsupported("packed operands".into());
        }
        Support::Native
    }

    fn allocate(&self, bytes: u64, _row_bytes: u64) -> Result<Buffer> {
        let available = self.limit.saturating_sub(self.count.used.load(Ordering::Relaxed));
        let out_of_memory = || Error::OutOfMemory {
            device: self.info.selector.clone(),
            requested: bytes,
            available,
            limit: self.limit,
        };
        if bytes > available {
            return Err(out_of_memory());
        }
        let data = Data::new(bytes).ok_or_else(out_of_memory)?;
        let used = self.count.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.count.peak.fetch_max(used, Ordering::Relaxed);
        let memory = Memory {
            device: self.info.selector.clone(),
            bytes,
            count: self.count.clone(),
            data: Mutex::new(data),
        };
        Ok(Buffer::new(Arc::new(memory), bytes))
    }

    fn create_stream(&self) -> Result<StreamId> {
        Ok(StreamId(self.streams.fetch_add(1, Ordering::Relaxed)))
    }

    fn upload(&self, _: StreamId, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        Error::check_range("upload", to, offset, data.len() as u64)?;
        self.memory_of(to)?.lock().write(offset as usize, data);
        Ok(())
    }

    fn download(&self, _: StreamId, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        Error::check_range("download", from, offset, bytes)?;
        let memory = self.memory_of(from)?.lock();
        Ok(Readback::ready(memory.raw[offset as usize..(offset + bytes) as usize].to_vec()))
    }

    fn copy(&self, _: StreamId, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        Error::check_range("copy", from.0, from.1, bytes)?;
        Error::check_range("copy", to.0, to.1, bytes)?;
        let (start, at, n) = (from.1 as usize, to.1 as usize, bytes as usize);
        let (raw, shadow) = {
            let source = self.memory_of(from.0)?.lock();
            let whole = start.is_multiple_of(4) && at.is_multiple_of(4);
            let words = if whole { source.shadow[start / 4..(start + n) / 4].to_vec() } else { Vec::new() };
            (source.raw[start..start + n].to_vec(), words)
        };
        let mut target = self.memory_of(to.0)?.lock();
        target.write(at, &raw);
        target.shadow[at / 4..at / 4 + shadow.len()].copy_from_slice(&shadow);
        Ok(())
    }

    fn submit(&self, _: StreamId, ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| self.run(op))
    }

    fn record_event(&self, _: StreamId) -> Result<Event> {
        Ok(Event::past())
    }

    fn wait_event(&self, _: StreamId, _: &Event) -> Result<()> {
        Ok(())
    }

    fn synchronize(&self, _: StreamId) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> MemoryStats {
        let at = |x: &AtomicU64| x.load(Ordering::Relaxed);
        MemoryStats::new(at(&self.count.used), at(&self.count.peak), self.limit)
    }
}

/// The backend of [`ReferenceDevice`], kind `reference`: for checks, far too slow for anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceBackend;

impl Backend for ReferenceBackend {
    fn kind(&self) -> &str {
        "reference"
    }

    fn devices(&self) -> Vec<DeviceInfo> {
        vec![ReferenceDevice::new().info]
    }

    fn open(&self, index: usize, options: &DeviceOptions) -> Result<Arc<dyn Device>> {
        if index > 0 {
            return Err(Error::backend(format!("reference:{index}"), "there is one device, reference:0"));
        }
        let mut device = ReferenceDevice::new();
        if let Some(profile) = &options.profile {
            profile.apply(&mut device.info);
        }
        device.limit = options.memory_limit.unwrap_or(u64::MAX);
        Ok(Arc::new(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnaryFn;

    fn filled(device: &ReferenceDevice, x: &[f32]) -> TensorRef {
        let b = device.allocate(4 * x.len() as u64, 0).unwrap();
        device.upload(StreamId(0), &b, 0, bytemuck::cast_slice(x)).unwrap();
        TensorRef::new(&b, DType::F32, &[x.len()])
    }

    #[test]
    fn f32_results_stay_unrounded_between_ops() {
        let device = ReferenceDevice::new();
        let x = filled(&device, &[0.1, 3.0]);
        let ops = [UnaryFn::Recip, UnaryFn::Recip].map(|f| Op::unary(f, x.clone(), x.clone()));
        device.submit(StreamId(0), &ops[..1]).unwrap();
        assert_eq!(device.read_f64(&x).unwrap(), [1.0 / f64::from(0.1f32), 1.0 / 3.0]);
        // A copy of whole words takes the unrounded values along; one through bytes rounds.
        let (y, z) = (filled(&device, &[0.0; 3]), filled(&device, &[0.0; 3]));
        let buffer = |t: &TensorRef| match &t.source {
            Source::Buffer(b) => b.clone(),
            Source::Slot(_) => unreachable!(),
        };
        device.copy(StreamId(0), (&buffer(&x), 0), (&buffer(&y), 4), 8).unwrap();
        assert_eq!(device.read_f64(&y).unwrap(), [0.0, 1.0 / f64::from(0.1f32), 1.0 / 3.0]);
        let bytes = device.download(StreamId(0), &buffer(&x), 0, 8).unwrap().wait().unwrap();
        device.upload(StreamId(0), &buffer(&z), 0, &bytes).unwrap();
        assert_eq!(device.read_f64(&z).unwrap()[1], f64::from(1.0f32 / 3.0));
        device.write_f64(&buffer(&z), 2, &[0.1]).unwrap();
        assert_eq!(device.read_f64(&z).unwrap()[2], 0.1);

        let device = ReferenceDevice::rounding();
        let x = filled(&device, &[3.0]);
        device.submit(StreamId(0), &[Op::unary(UnaryFn::Recip, x.clone(), x.clone())]).unwrap();
        assert_eq!(device.read_f64(&x).unwrap(), [f64::from(1.0f32 / 3.0)]);
    }

    #[test]
    fn other_dtypes_refresh_the_words_they_touch() {
        let device = ReferenceDevice::new();
        let x = filled(&device, &[1.0, 3.0]);
        device.submit(StreamId(0), &[Op::unary(UnaryFn::Recip, x.clone(), x.clone())]).unwrap();
        let Source::Buffer(b) = &x.source else { unreachable!() };
        let half = TensorRef::new(b, DType::BF16, &[1]).with_offset(3);
        device.submit(StreamId(0), &[Op::fill(1.0, half)]).unwrap();
        let second = device.read_f64(&x).unwrap()[1];
        assert!(second > 1.0 && second < 1.01, "{second}");
    }

    #[test]
    fn memory_that_the_host_lacks_is_an_error() {
        let device = ReferenceDevice::new();
        for bytes in [u64::MAX, 1 << 62, 1 << 50] {
            assert!(matches!(device.allocate(bytes, 0), Err(Error::OutOfMemory { .. })), "{bytes}");
        }
        assert_eq!(device.memory().used, 0);
    }

    #[test]
    fn foreign_buffers_are_refused() {
        let b = ReferenceDevice::new().allocate(4, 0).unwrap();
        let device = ReferenceDevice::new();
        let e = device.upload(StreamId(0), &b, 0, &[0; 4]).unwrap_err();
        assert!(matches!(e, Error::WrongDevice { .. }), "{e}");
        assert!(matches!(device.upload(StreamId(0), &b, 1, &[0; 4]), Err(Error::OutOfRange { .. })));
    }
}
