//! A device and its queue, and how what goes wrong with them becomes an error.
//!
//! wgpu reports through callbacks and error scopes, and panics where there is neither; here every call is
//! made inside scopes, and the callbacks keep what they are told for the next call.

use crate::info;
use halite_hal::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{ErrorFilter, MemoryHints, PollError, PollType};

/// A wgpu device and its queue.
pub(crate) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub selector: String,
    /// 0 where it isn't known.
    pub memory_bytes: u64,
    /// What callbacks were told first.
    failed: Arc<Failed>,
}

#[derive(Default)]
struct Failed(Mutex<Option<Error>>);

impl Failed {
    fn keep(&self, e: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
    }

    fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }
}

/// wgpu's tree of causes in one line.
fn one_line(error: &wgpu::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|l| !["", "Validation Error", "Caused by:"].contains(l));
    lines.collect::<Vec<_>>().join(": ")
}

impl Context {
    /// Opens device `index` with all its limits.
    pub(crate) fn open(adapter: &wgpu::Adapter, index: usize) -> Result<Self> {
        let selector = format!("wgpu:{index}");
        let mut limits = adapter.limits();
        // On Direct3D 12 memory is set aside for as many.
        limits.max_non_sampler_bindings =
            limits.max_non_sampler_bindings.min(wgpu::Limits::default().max_non_sampler_bindings);
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("halite"),
            required_features: adapter.features() & info::FEATURES,
            required_limits: limits,
            memory_hints: MemoryHints::MemoryUsage,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request)
            .map_err(|e| Error::backend(&selector, format!("opening the device: {e}")))?;
        let context = Context::adopt(device, queue, selector);
        let (failed, selector) = (context.failed.clone(), context.selector.clone());
        context.device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            failed.keep(Error::DeviceLost { device: selector.clone(), message });
        });
        let (failed, selector) = (context.failed.clone(), context.selector.clone());
        context.device.on_uncaptured_error(Arc::new(move |e| {
            failed.keep(Error::backend(&selector, one_line(&e)));
        }));
        Ok(context)
    }

    /// A device of the host's; its callbacks stay as they are.
    pub(crate) fn adopt(device: wgpu::Device, queue: wgpu::Queue, selector: String) -> Self {
        let memory_bytes = info::memory_of_device(&device);
        Context { device, queue, selector, memory_bytes, failed: Arc::default() }
    }

    /// What went wrong outside of calls.
    pub(crate) fn check(&self) -> Result<()> {
        self.failed.check()
    }

    /// Makes calls that `what` describes, and that need about `bytes` bytes of memory.
    pub(crate) fn checked<T>(&self, what: &str, bytes: u64, calls: impl FnOnce() -> T) -> Result<T> {
        self.failed.check()?;
        let filters = [ErrorFilter::OutOfMemory, ErrorFilter::Validation, ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = calls();
        let mut error = None;
        for scope in scopes.into_iter().rev() {
            error = pollster::block_on(scope.pop()).or(error);
        }
        self.failed.check()?;
        match error {
            None => Ok(made),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(self.out_of_memory(bytes)),
            Some(e) => Err(Error::backend(&self.selector, format!("{what}: {}", one_line(&e)))),
        }
    }

    fn out_of_memory(&self, requested: u64) -> Error {
        let taken = self.device.generate_allocator_report().map_or(0, |r| r.total_reserved_bytes);
        Error::OutOfMemory {
            device: self.selector.clone(),
            requested,
            available: self.memory_bytes.saturating_sub(taken),
            limit: self.memory_bytes,
        }
    }

    /// Looks after the queue, or waits; whether what was waited for is done.
    pub(crate) fn poll(&self, kind: PollType) -> Result<bool> {
        // wgpu panics when a device is lost while it waits.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(kind)));
        self.failed.check()?;
        match polled {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(PollError::Timeout)) => Ok(false),
            Ok(Err(e)) => Err(Error::backend(&self.selector, format!("waiting for the device: {e}"))),
            Err(_) => Err(Error::DeviceLost {
                device: self.selector.clone(),
                message: "it was lost while its work was waited for".into(),
            }),
        }
    }
}
