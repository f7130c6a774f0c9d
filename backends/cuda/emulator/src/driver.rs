//! The state behind the entry points: devices, and the objects that handles stand for.

use crate::config::Config;
use crate::graph::{Exec, Graph};
use crate::memory::Memory;
use crate::module::{Function, Loaded};
use crate::stream::{Capture, Event};
use cudarc::driver::sys::CUresult;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What CUDA's calls return.
pub(crate) type Answer<T = ()> = Result<T, CUresult>;

/// What stands for an object, in place of a pointer. 0 is none.
pub(crate) type Handle = usize;

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

thread_local! {
    /// The contexts that this thread made current, the last one on top.
    static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// A device.
#[derive(Default)]
pub(crate) struct Device {
    /// Its primary context, and how often that is held.
    pub primary: Option<(Handle, u32)>,
    /// Handle of its pool of memory.
    pub pool: Handle,
    /// Bytes that the pool is asked to keep.
    pub threshold: u64,
    /// What a kernel failed with.
    pub fault: Option<CUresult>,
    /// Whether somebody was told: from then on, every call is.
    pub told: bool,
}

/// What a handle stands for.
pub(crate) enum Object {
    Context { device: usize },
    Pool { device: usize },
    Stream { context: Handle, capture: Option<Capture> },
    Event(Event),
    Module(Loaded),
    Function(Function),
    Graph(Graph),
    Exec(Exec),
}

/// Everything.
pub(crate) struct Driver {
    pub config: Config,
    pub devices: Vec<Device>,
    pub memory: Memory,
    objects: BTreeMap<Handle, Object>,
    last: Handle,
}

/// The driver, locked; none before it is initialised.
pub(crate) fn lock() -> MutexGuard<'static, Option<Driver>> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calling thread's contexts, the last one on top.
pub(crate) fn with_current<T>(then: impl FnOnce(&mut Vec<Handle>) -> T) -> T {
    CURRENT.with(|current| then(&mut current.borrow_mut()))
}

/// A way to an object of one kind, or to what CUDA says of a handle that isn't one.
macro_rules! object {
    ($get:ident, $kind:ident, $type:ty, $otherwise:ident) => {
        pub(crate) fn $get(&mut self, handle: Handle) -> Answer<&mut $type> {
            match self.objects.get_mut(&handle) {
                Some(Object::$kind(object)) => Ok(object),
                _ => Err(CUresult::$otherwise),
            }
        }
    };
}

impl Driver {
    pub(crate) fn new(config: Config) -> Self {
        let devices = (0..config.devices).map(|_| Device::default()).collect();
        let mut driver =
            Driver { config, devices, memory: Memory::default(), objects: BTreeMap::new(), last: 0x1000 };
        for device in 0..driver.devices.len() {
            driver.devices[device].pool = driver.add(Object::Pool { device });
        }
        driver
    }

    /// A handle for an object; no other was or will be the same.
    pub(crate) fn add(&mut self, object: Object) -> Handle {
        self.last += 16;
        self.objects.insert(self.last, object);
        self.last
    }

    /// A handle without an object of its own, such as that of a graph's node.
    pub(crate) fn number(&mut self) -> Handle {
        self.last += 16;
        self.last
    }

    /// Removes an object if it is of the kind.
    pub(crate) fn remove(&mut self, handle: Handle, is: impl Fn(&Object) -> bool) -> Answer<Object> {
        if !self.objects.get(&handle).is_some_and(is) {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        }
        self.objects.remove(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    }

    /// Removes those for which `keep` is false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Object) -> bool) {
        self.objects.retain(|_, object| keep(object));
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = (Handle, &Object)> {
        self.objects.iter().map(|(handle, object)| (*handle, object))
    }

    object!(event, Event, Event, CUDA_ERROR_INVALID_HANDLE);
    object!(module, Module, Loaded, CUDA_ERROR_INVALID_HANDLE);
    object!(function, Function, Function, CUDA_ERROR_INVALID_HANDLE);
    object!(graph, Graph, Graph, CUDA_ERROR_INVALID_VALUE);
    object!(exec, Exec, Exec, CUDA_ERROR_INVALID_VALUE);

    pub(crate) fn device(&mut self, ordinal: i32) -> Answer<&mut Device> {
        let index = usize::try_from(ordinal).map_err(|_| CUresult::CUDA_ERROR_INVALID_DEVICE)?;
        self.devices.get_mut(index).ok_or(CUresult::CUDA_ERROR_INVALID_DEVICE)
    }

    /// The device of a context.
    pub(crate) fn device_of(&self, context: Handle) -> Answer<usize> {
        match self.objects.get(&context) {
            Some(Object::Context { device }) => Ok(*device),
            _ => Err(CUresult::CUDA_ERROR_INVALID_CONTEXT),
        }
    }

    /// The device of a pool.
    pub(crate) fn device_of_pool(&self, pool: Handle) -> Answer<usize> {
        match self.objects.get(&pool) {
            Some(Object::Pool { device }) => Ok(*device),
            _ => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        }
    }

    /// The calling thread's current context.
    pub(crate) fn current(&self) -> Answer<Handle> {
        let context = with_current(|current| current.last().copied()).unwrap_or(0);
        self.device_of(context).map(|_| context)
    }

    /// The current context's device, unless a kernel failed there and that was told.
    pub(crate) fn healthy(&self) -> Answer<usize> {
        let device = self.device_of(self.current()?)?;
        self.state(device).map(|()| device)
    }

    /// What every call on a device returns after one was told that a kernel failed.
    pub(crate) fn state(&self, device: usize) -> Answer {
        match &self.devices[device] {
            Device { fault: Some(code), told: true, .. } => Err(*code),
            _ => Ok(()),
        }
    }

    /// What a call returns that waits for a device.
    pub(crate) fn synchronize(&mut self, device: usize) -> Answer {
        self.devices[device].told = self.devices[device].fault.is_some();
        self.state(device)
    }

    /// The context of a stream; that of default streams is the current one.
    pub(crate) fn context_of(&self, stream: Handle) -> Answer<Handle> {
        // 1 and 2 are CU_STREAM_LEGACY and CU_STREAM_PER_THREAD.
        if stream <= 2 {
            return self.current();
        }
        match self.objects.get(&stream) {
            Some(Object::Stream { context, .. }) => Ok(*context),
            _ => Err(CUresult::CUDA_ERROR_INVALID_HANDLE),
        }
    }

    /// The device of a stream, whatever happened to it.
    pub(crate) fn device_of_stream(&self, stream: Handle) -> Answer<usize> {
        self.device_of(self.context_of(stream)?)
    }

    /// What is recorded of a stream; default streams can't be captured.
    pub(crate) fn capture(&mut self, stream: Handle) -> Answer<&mut Option<Capture>> {
        match self.objects.get_mut(&stream) {
            Some(Object::Stream { capture, .. }) => Ok(capture),
            _ => Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
        }
    }

    /// Ends a recording on every stream.
    pub(crate) fn leave_capture(&mut self, graph: Handle) {
        for object in self.objects.values_mut() {
            if let Object::Stream { capture, .. } = object {
                capture.take_if(|capture| capture.graph == graph);
            }
        }
    }

    /// Ends a context, with everything that belongs to it.
    pub(crate) fn end_context(&mut self, context: Handle) -> Answer {
        let device = self.device_of(context)?;
        self.objects.remove(&context);
        self.retain(|object| match object {
            Object::Stream { context: of, .. } => *of != context,
            Object::Event(event) => event.context != context,
            Object::Module(module) => module.context != context,
            Object::Function(function) => function.context != context,
            _ => true,
        });
        let others =
            self.objects.values().any(|o| matches!(o, Object::Context { device: d } if *d == device));
        if !others {
            self.memory.free_all(device);
        }
        Ok(())
    }
}
