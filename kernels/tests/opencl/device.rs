//! An OpenCL device that runs kernels from the writer, as plainly as that can be done.

use std::ffi::c_void;
use std::ptr;

use halite_kernels::writer::{self, Dialect};
use opencl3::command_queue::CommandQueue;
use opencl3::context::Context;
use opencl3::device::{CL_DEVICE_TYPE_ALL, Device};
use opencl3::kernel::Kernel;
use opencl3::memory::{Buffer, CL_MEM_COPY_HOST_PTR, CL_MEM_READ_WRITE, ClMem};
use opencl3::platform::get_platforms;
use opencl3::program::Program;
use opencl3::types::CL_BLOCKING;

/// A device to run kernels on.
pub struct OpenCl {
    context: Context,
    queue: CommandQueue,
}

/// A storage binding: words, and the byte offset in them at which the binding starts.
pub struct Storage<'a> {
    pub words: &'a mut [u32],
    pub offset: u64,
}

impl OpenCl {
    /// The first device, or `None`, and a line that says so, where there is no OpenCL.
    pub fn open() -> Option<Self> {
        let platforms = get_platforms().unwrap_or_default();
        let mut devices = platforms.iter().filter_map(|p| p.get_devices(CL_DEVICE_TYPE_ALL).ok()).flatten();
        let Some(id) = devices.next() else {
            println!("skipped: no OpenCL device was found");
            return None;
        };
        let context = Context::from_device(&Device::new(id)).unwrap();
        #[allow(deprecated)] // The replacement needs OpenCL 2.0.
        let queue = CommandQueue::create_default(&context, 0).unwrap();
        Some(OpenCl { context, queue })
    }

    /// Runs the entry point `main` of `wgsl` and leaves in `storage` what it wrote.
    pub fn run(
        &self,
        wgsl: &str,
        params: Option<&[u32]>,
        storage: &mut [Storage<'_>],
        workgroups: [usize; 3],
    ) {
        let (module, info) = parse(wgsl);
        let source = writer::write(&module, &info, "main", Dialect::OpenClC).unwrap();
        let program = Program::create_and_build_from_source(&self.context, &source, "-cl-std=CL1.2")
            .unwrap_or_else(|log| panic!("{log}\n{source}"));
        let kernel = Kernel::create(&program, &writer::kernel_name("main")).unwrap();
        let mut index = 0;
        if let Some(params) = params {
            // SAFETY: the kernel's first argument is a structure of these words.
            let set = unsafe {
                opencl3::kernel::set_kernel_arg(kernel.get(), 0, size_of_val(params), params.as_ptr().cast())
            };
            set.unwrap();
            index = 1;
        }
        let mut buffers: Vec<Buffer<u32>> = Vec::new();
        for binding in storage.iter_mut() {
            let data = binding.words.as_mut_ptr().cast::<c_void>();
            let flags = CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR;
            // SAFETY: `data` points to that many words, which are copied before the call returns.
            let buffer =
                unsafe { Buffer::<u32>::create(&self.context, flags, binding.words.len(), data) }.unwrap();
            // SAFETY: the kernel's next arguments are a pointer and a `ulong`.
            unsafe {
                kernel.set_arg(index, &buffer.get()).unwrap();
                kernel.set_arg(index + 1, &binding.offset).unwrap();
            }
            index += 2;
            buffers.push(buffer);
        }
        let local = module.entry_points[0].workgroup_size.map(|size| size as usize);
        let global = [0, 1, 2].map(|axis| local[axis] * workgroups[axis]);
        // SAFETY: the arguments are set, and the kernel stays within its buffers.
        unsafe {
            self.queue
                .enqueue_nd_range_kernel(kernel.get(), 3, ptr::null(), global.as_ptr(), local.as_ptr(), &[])
                .unwrap();
        }
        for (binding, buffer) in storage.iter_mut().zip(&buffers) {
            // SAFETY: the read is blocking, and as long as the buffer.
            unsafe { self.queue.enqueue_read_buffer(buffer, CL_BLOCKING, 0, binding.words, &[]) }.unwrap();
        }
    }
}

/// Parses and validates WGSL, with all that naga knows allowed.
pub fn parse(wgsl: &str) -> (naga::Module, naga::valid::ModuleInfo) {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(wgsl).unwrap_or_else(|e| panic!("{}", e.emit_to_string(wgsl)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(wgsl)));
    (module, info)
}
