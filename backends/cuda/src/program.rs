//! Compiled kernels: those that come with this crate, if they are built in; or CUDA C becomes PTX by NVRTC, which is
//! cached, and machine code by the driver.

use crate::context::Context;
use crate::error::check;
use crate::handle::Module;
use crate::nvrtc::{Nvrtc, OPTIONS};
use crate::prebuilt::{Find, PTX};
use cudarc::driver::sys::{self, CUfunction, CUfunction_attribute as Attribute, CUjit_option, CUresult};
use halite_hal::{Error, Result};
use halite_kernels::{Cache, ENTRY, Kernel, writer};
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

/// A compiled kernel.
pub struct CudaProgram {
    function: CUfunction,
    name: String,
    pub(crate) workgroup: [u32; 3],
    /// Bytes of workgroup memory that a launch gives.
    pub(crate) dynamic_bytes: u32,
    _module: Module,
}

// SAFETY: a function is a part of its module, which may be used from any thread.
unsafe impl Send for CudaProgram {}
// SAFETY: as above.
unsafe impl Sync for CudaProgram {}

impl fmt::Debug for CudaProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaProgram({:?})", self.name)
    }
}

impl CudaProgram {
    pub(crate) fn function(&self) -> CUfunction {
        self.function
    }
}

/// What compiles programs for one device.
pub(crate) struct Compiler {
    /// What has kernels that are compiled already.
    pub find: Find,
    /// NVRTC, or what would make it appear.
    pub nvrtc: Result<&'static Nvrtc, &'static str>,
    /// The device's, such as `sm_90`.
    pub architecture: String,
    pub cache: Cache,
    pub workgroup_sizes: [u64; 3],
    pub workgroup_size: u64,
    pub local_memory_bytes: u64,
}

/// The driver refused PTX: its code and its compiler's log.
struct Refusal(CUresult, String);

impl Compiler {
    /// Compiles a kernel in CUDA C, unless it is compiled already.
    pub(crate) fn compile(&self, context: &Arc<Context>, kernel: &Kernel) -> Result<CudaProgram> {
        self.check_sizes(&context.selector, kernel)?;
        let module = match (self.found(context, kernel), self.nvrtc) {
            (Ok(module), _) => module,
            (Err(why), Ok(nvrtc)) => {
                tracing::debug!("kernel {} is compiled: {why}", kernel.name);
                self.translated(context, nvrtc, kernel)?
            }
            (Err(why), Err(lacks)) => {
                let message = format!("kernel {} can't be compiled: {lacks}; {why}", kernel.name);
                return Err(Error::backend(&context.selector, message));
            }
        };
        self.finish(context, module, kernel)
    }

    /// A kernel that is compiled already, or why there is none.
    fn found(&self, context: &Arc<Context>, kernel: &Kernel) -> Result<Module, String> {
        let mut refusals = String::new();
        for archive in [&self.architecture, PTX] {
            let Some(image) = (self.find)(&kernel.text, archive)? else { continue };
            match load(context, image) {
                Ok(module) => return Ok(module),
                Err(Refusal(code, log)) => refusals += &format!(" {code:?} {}", log.trim()),
            }
        }
        Err(format!("the driver doesn't take the compiled kernel that comes with Halite:{refusals}"))
    }

    /// What the driver makes of NVRTC's PTX, or of that in the cache.
    fn translated(&self, context: &Arc<Context>, nvrtc: &Nvrtc, kernel: &Kernel) -> Result<Module> {
        let (name, source) = (&kernel.name, &kernel.text);
        let version = nvrtc.version();
        let key = key(&version, source);
        let key: Vec<&[u8]> = key.iter().map(Vec::as_slice).collect();
        if let Some(module) = self.cache.get(&key).and_then(|ptx| load(context, &ptx).ok()) {
            return Ok(module);
        }
        let ptx = nvrtc.compile(source).map_err(|log| {
            Error::backend(&context.selector, format!("kernel {name} doesn't compile: {log}"))
        })?;
        let module = load(context, &ptx).map_err(|Refusal(code, log)| {
            let mut what = format!("kernel {name} isn't taken by the driver: {log}");
            if code == CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION {
                what += &format!(
                    "NVRTC {version} of {} writes for a newer driver: update the driver, or install an \
                     NVRTC that isn't newer than what the driver knows ({})",
                    nvrtc.path(),
                    "`halite devices` names that version of CUDA"
                );
            }
            context.failed(&what, code)
        })?;
        self.cache.put(&key, &ptx);
        Ok(module)
    }

    /// Refuses workgroups that no launch could have.
    fn check_sizes(&self, selector: &str, kernel: &Kernel) -> Result<()> {
        let name = &kernel.name;
        for (axis, n) in kernel.workgroup.into_iter().enumerate() {
            let what = format!("invocations of a workgroup of kernel {name} along axis {axis}");
            limit(selector, what, n.into(), self.workgroup_sizes[axis])?;
        }
        let invocations = kernel.workgroup.iter().map(|&n| u64::from(n)).product();
        limit(
            selector,
            format!("invocations of a workgroup of kernel {name}"),
            invocations,
            self.workgroup_size,
        )
    }

    /// Finds the function, and refuses what could only fail when it is run.
    fn finish(&self, context: &Arc<Context>, module: Module, kernel: &Kernel) -> Result<CudaProgram> {
        let name = &kernel.name;
        let what = |code| context.failed(&format!("kernel {name}"), code);
        let entry =
            CString::new(writer::kernel_name(ENTRY)).map_err(|e| Error::backend("cuda", e.to_string()))?;
        let _entered = context.enter()?;
        let mut function = ptr::null_mut();
        // SAFETY: the module is alive, and the name ends with a zero.
        check(unsafe { sys::cuModuleGetFunction(&mut function, module.raw(), entry.as_ptr()) })
            .map_err(what)?;
        let of_function = |attribute| {
            let mut value = 0;
            // SAFETY: the function's module is alive.
            check(unsafe { sys::cuFuncGetAttribute(&mut value, attribute, function) })
                .map(|()| u64::try_from(value).unwrap_or(0))
                .map_err(what)
        };
        // It depends on the registers that the kernel takes.
        let maximum = of_function(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?;
        let invocations = kernel.workgroup.iter().map(|&n| u64::from(n)).product();
        let selector = &context.selector;
        limit(selector, format!("invocations of a workgroup of kernel {name}"), invocations, maximum)?;
        let local =
            of_function(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)? + u64::from(kernel.dynamic_bytes);
        limit(selector, format!("bytes of local memory of kernel {name}"), local, self.local_memory_bytes)?;
        if kernel.dynamic_bytes > 0 {
            let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function's module is alive.
            let code = unsafe { sys::cuFuncSetAttribute(function, attribute, kernel.dynamic_bytes as i32) };
            check(code).map_err(what)?;
        }
        Ok(CudaProgram {
            function,
            name: name.into(),
            workgroup: kernel.workgroup,
            dynamic_bytes: kernel.dynamic_bytes,
            _module: module,
        })
    }
}

fn limit(selector: &str, what: String, requested: u64, maximum: u64) -> Result<()> {
    if requested <= maximum {
        return Ok(());
    }
    Err(Error::Limit { device: selector.into(), what, requested, maximum })
}

/// Everything that PTX depends on.
pub(crate) fn key(version: &str, source: &str) -> Vec<Vec<u8>> {
    let parts = [&b"cuda"[..], b"nvrtc", version.as_bytes()].into_iter();
    parts.chain(OPTIONS.map(CStr::to_bytes)).chain([source.as_bytes()]).map(<[u8]>::to_vec).collect()
}

/// What machine code begins with.
const ELF: &[u8] = b"\x7fELF";

/// PTX, which ends with a zero, or machine code as a module.
fn load(context: &Arc<Context>, image: &[u8]) -> Result<Module, Refusal> {
    if !image.starts_with(ELF) && CStr::from_bytes_with_nul(image).is_err() {
        return Err(Refusal(CUresult::CUDA_ERROR_INVALID_PTX, "PTX doesn't end with its only zero\n".into()));
    }
    let _entered =
        context.enter().map_err(|e| Refusal(CUresult::CUDA_ERROR_INVALID_CONTEXT, e.to_string()))?;
    let mut log = vec![0u8; 8192];
    let mut options =
        [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // Numbers stand in for pointers.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(log.len())];
    let mut raw = ptr::null_mut();
    // SAFETY: the context is current, and options, values and log are as large as they say.
    let code = unsafe {
        sys::cuModuleLoadDataEx(
            &mut raw,
            image.as_ptr().cast(),
            options.len() as u32,
            options.as_mut_ptr(),
            values.as_mut_ptr(),
        )
    };
    check(code).map_err(|code| {
        let text = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy).unwrap_or_default();
        Refusal(code, format!("{}\n", text.trim()))
    })?;
    // SAFETY: it was made for this call.
    Ok(unsafe { Module::owned(context, raw) })
}
