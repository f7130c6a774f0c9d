//! What streams are given: it runs at once, or becomes a node of the graph that the stream is recorded into.

use crate::driver::{Answer, Driver, Handle};
use crate::exec::{self, FaultKind, GlobalMemory, Launch};
use crate::memory::View;
use crate::module::Function;
use cudarc::driver::sys::CUresult;
use std::time::Instant;

/// The recording of a stream.
#[derive(Clone)]
pub(crate) struct Capture {
    pub graph: Handle,
    /// The nodes that the next one follows.
    pub after: Vec<Handle>,
}

/// An event.
pub(crate) struct Event {
    pub context: Handle,
    pub timed: bool,
    pub at: Option<Instant>,
    /// Where in a recording it was.
    pub captured: Option<Capture>,
}

/// A place in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Host(usize),
    Device(u64),
}

/// One end of a copy: where its first byte is, and bytes from row to row and from slice to slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    pub start: Place,
    pub pitch: u64,
    pub slice: u64,
}

/// A kernel with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub params: Vec<u8>,
}

/// What streams and graphs do.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Call(Call),
    /// Width in bytes, rows and slices.
    Copy {
        from: Side,
        to: Side,
        extent: [u64; 3],
    },
    /// Elements of 1, 2 or 4 bytes; width in elements, and rows.
    Set {
        to: u64,
        pitch: u64,
        value: u32,
        element: u64,
        extent: [u64; 2],
    },
    Empty,
}

impl Work {
    /// A copy of bytes in a row.
    pub(crate) fn copy(from: Place, to: Place, bytes: u64) -> Self {
        let side = |start| Side { start, pitch: bytes, slice: bytes };
        Work::Copy { from: side(from), to: side(to), extent: [bytes, 1, 1] }
    }
}

/// Where bytes are on the host.
fn locate(view: &View, side: &Side, offset: u64, bytes: u64, write: bool) -> Answer<*mut u8> {
    match side.start {
        Place::Host(0) => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        Place::Host(address) => Ok((address + offset as usize) as *mut u8),
        Place::Device(address) => view.resolve(address.wrapping_add(offset), bytes, write).map_err(|why| {
            eprintln!("halite CUDA emulator: a copy: {why}");
            CUresult::CUDA_ERROR_INVALID_VALUE
        }),
    }
}

impl Driver {
    /// Gives a stream something to do.
    pub(crate) fn enqueue(&mut self, stream: Handle, work: Work) -> Answer {
        let device = self.device_of_stream(stream)?;
        self.state(device)?;
        if let Work::Call(call) = &work {
            self.check(call)?;
            if self.function(call.function)?.context != self.context_of(stream)? {
                return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
            }
        }
        let Some(capture) = self.capture(stream).ok().and_then(|capture| capture.clone()) else {
            return self.perform(device, &work);
        };
        let node = self.number();
        self.graph(capture.graph)?.add(node, work, &capture.after)?;
        *self.capture(stream)? = Some(Capture { after: vec![node], ..capture });
        Ok(())
    }

    /// Does it, unless a kernel has failed before: then nothing happens, and the next call that waits tells.
    pub(crate) fn perform(&mut self, device: usize, work: &Work) -> Answer {
        if self.devices[device].fault.is_some() {
            return Ok(());
        }
        match work {
            Work::Empty => Ok(()),
            Work::Call(call) => self.launch(device, call),
            Work::Copy { from, to, extent } => self.copy(from, to, *extent),
            Work::Set { to, pitch, value, element, extent } => {
                self.set(*to, *pitch, *value, *element, *extent)
            }
        }
    }

    fn copy(&mut self, from: &Side, to: &Side, [width, rows, slices]: [u64; 3]) -> Answer {
        let view = self.memory.view();
        for (slice, row) in (0..slices).flat_map(|s| (0..rows).map(move |r| (s, r))) {
            if width == 0 {
                continue;
            }
            let offset = |side: &Side| slice * side.slice + row * side.pitch;
            let source = locate(&view, from, offset(from), width, false)?;
            let target = locate(&view, to, offset(to), width, true)?;
            // SAFETY: device memory was found to be there, and the caller says so of the host's.
            unsafe { std::ptr::copy(source, target, width as usize) };
        }
        Ok(())
    }

    fn set(&mut self, to: u64, pitch: u64, value: u32, element: u64, [width, rows]: [u64; 2]) -> Answer {
        let side = Side { start: Place::Device(to), pitch, slice: 0 };
        if !matches!(element, 1 | 2 | 4) || !to.is_multiple_of(element) {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let view = self.memory.view();
        let value = value.to_le_bytes();
        for row in 0..rows {
            let bytes = width.checked_mul(element).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
            if bytes == 0 {
                continue;
            }
            let start = locate(&view, &side, row * pitch, bytes, true)?;
            // SAFETY: the bytes were found to be there, and the driver's lock is held.
            let row = unsafe { std::slice::from_raw_parts_mut(start, bytes as usize) };
            row.chunks_exact_mut(element as usize)
                .for_each(|e| e.copy_from_slice(&value[..element as usize]));
        }
        Ok(())
    }

    /// Refuses what a device couldn't launch.
    pub(crate) fn check(&mut self, call: &Call) -> Answer {
        let Function { kernel, max_dynamic, .. } = self.function(call.function)?;
        let threads = call.block.iter().map(|n| u64::from(*n)).product::<u64>();
        let fits =
            call.grid.iter().zip([i32::MAX as u32, 65535, 65535]).all(|(n, most)| (1..=most).contains(n))
                && call.block.iter().zip([1024, 1024, 64]).all(|(n, most)| (1..=most).contains(n))
                && threads <= 1024
                && call.dynamic_shared <= *max_dynamic;
        if !fits || call.params.len() != kernel.param_bytes {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let most = crate::module::max_threads(kernel);
        if threads > u64::from(most) {
            return Err(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
        }
        Ok(())
    }

    fn launch(&mut self, device: usize, call: &Call) -> Answer {
        let view = self.memory.view();
        let function = self.function(call.function)?.clone();
        let name = &function.kernel.name;
        let injected = self.config.kernels.iter().find(|(kernel, _)| kernel == name);
        let failed = match injected {
            Some((_, code)) => Some((*code, format!("kernel {name}: made to fail"))),
            None => exec::run(&Launch {
                kernel: &function.kernel,
                grid: call.grid,
                block: call.block,
                dynamic_shared: call.dynamic_shared,
                params: &call.params,
                memory: &*view,
                globals: &function.globals,
                checks: self.config.checks,
                threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            })
            .err()
            .map(|fault| (code(&fault.kind), fault.message)),
        };
        if let Some((code, message)) = failed {
            eprintln!("halite CUDA emulator: {code:?}: {message}");
            self.devices[device].fault = Some(code);
        }
        Ok(())
    }
}

/// What CUDA calls a fault.
fn code(kind: &FaultKind) -> CUresult {
    match kind {
        FaultKind::IllegalAddress => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        FaultKind::MisalignedAddress => CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        FaultKind::IllegalInstruction => CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        FaultKind::LaunchFailure => CUresult::CUDA_ERROR_LAUNCH_FAILED,
    }
}
