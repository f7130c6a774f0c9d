//! Compiled kernels.

use crate::error::failed;
use crate::handle::{Context, Kernel, Program};
use halite_hal::{Error, Result};
use halite_kernels::Cache;
use opencl3::kernel::{
    CL_KERNEL_FUNCTION_NAME, CL_KERNEL_LOCAL_MEM_SIZE, CL_KERNEL_NUM_ARGS, CL_KERNEL_WORK_GROUP_SIZE,
    create_kernel, create_kernels_in_program, get_kernel_info, get_kernel_work_group_info,
};
use opencl3::program::{
    CL_PROGRAM_BINARIES, CL_PROGRAM_BUILD_LOG, build_program, create_program_with_binary,
    create_program_with_source, get_program_build_info, get_program_info,
};
use opencl3::types::{cl_device_id, cl_int, cl_ulong};
use std::ffi::CString;
use std::fmt;
use std::ptr;

/// What programs are compiled with: no option that trades accuracy or the handling of zeros for speed.
const OPTIONS: &std::ffi::CStr = c"-cl-std=CL1.2";

/// A compiled kernel.
pub struct OpenClProgram {
    program: Program,
    name: CString,
    pub(crate) workgroup: [u32; 3],
}

impl fmt::Debug for OpenClProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenClProgram({:?})", self.name)
    }
}

/// What compiles programs for one device.
pub(crate) struct Compiler {
    pub selector: String,
    pub device: cl_device_id,
    /// Device, driver and platform with versions: a binary is good for these only.
    pub identity: String,
    pub cache: Cache,
    pub workgroup_sizes: [u64; 3],
    pub workgroup_size: u64,
    pub local_memory_bytes: u64,
}

// SAFETY: a root device is a name that is valid everywhere and for ever.
unsafe impl Send for Compiler {}
// SAFETY: as above.
unsafe impl Sync for Compiler {}

/// What is expected of a program, by the kernel that it is made from.
pub(crate) struct Interface<'a> {
    pub name: &'a str,
    pub arguments: u32,
    pub workgroup: [u32; 3],
}

impl Compiler {
    /// Compiles the only kernel of `source`.
    pub(crate) fn compile(
        &self,
        context: &Context,
        source: &str,
        interface: &Interface<'_>,
    ) -> Result<OpenClProgram> {
        let key = self.key(source);
        let cached = self.cache.get(&key).and_then(|binary| self.load(context, &binary));
        let program = match cached {
            Some(program) => program,
            None => {
                let program = self.build(context, source, interface.name)?;
                if let Some(binary) = binary(&program) {
                    self.cache.put(&key, &binary);
                }
                program
            }
        };
        self.check(program, interface)
    }

    /// Everything that the binary of a program depends on.
    pub(crate) fn key<'a>(&'a self, source: &'a str) -> [&'a [u8]; 4] {
        [b"opencl", self.identity.as_bytes(), OPTIONS.to_bytes(), source.as_bytes()]
    }

    /// A program from the cache, unless the driver has changed its mind about it.
    fn load(&self, context: &Context, binary: &[u8]) -> Option<Program> {
        // SAFETY: the binary came from this driver, as the cache's key and checksum say.
        let program = unsafe { create_program_with_binary(context.raw(), &[self.device], &[binary]) }.ok()?;
        // SAFETY: the program was made for this call.
        let program = unsafe { Program::owned(program) };
        build_program(program.raw(), &[self.device], OPTIONS, None, ptr::null_mut()).ok()?;
        Some(program)
    }

    fn build(&self, context: &Context, source: &str, name: &str) -> Result<Program> {
        let what = |code| failed(&self.selector, &format!("compiling kernel {name}"), code);
        let program = create_program_with_source(context.raw(), &[source]).map_err(what)?;
        // SAFETY: the program was made for this call.
        let program = unsafe { Program::owned(program) };
        let built = build_program(program.raw(), &[self.device], OPTIONS, None, ptr::null_mut());
        let log = get_program_build_info(program.raw(), self.device, CL_PROGRAM_BUILD_LOG);
        let log = log.map(String::from).unwrap_or_default();
        if let Err(code) = built {
            let what = format!("kernel {name} doesn't compile:\n{}\n", log.trim());
            return Err(failed(&self.selector, &what, code));
        }
        if !log.trim().is_empty() {
            tracing::debug!("{}: kernel {name}: {}", self.selector, log.trim());
        }
        Ok(program)
    }

    /// Refuses what could only fail when it is run.
    fn check(&self, program: Program, interface: &Interface<'_>) -> Result<OpenClProgram> {
        let name = interface.name;
        let what = |code| failed(&self.selector, &format!("kernel {name}"), code);
        let kernels = create_kernels_in_program(program.raw()).map_err(what)?;
        // SAFETY: the kernels were made for this call.
        let kernels: Vec<_> = kernels.into_iter().map(|k| unsafe { Kernel::owned(k) }).collect();
        let [kernel] = &kernels[..] else {
            let message = format!("kernel {name}: the source has {} kernels, not one", kernels.len());
            return Err(Error::backend(&self.selector, message));
        };
        let arguments = get_kernel_info(kernel.raw(), CL_KERNEL_NUM_ARGS).map_err(what)?;
        let arguments = u32::from(arguments);
        if arguments != interface.arguments {
            let message = format!("kernel {name} has {arguments} arguments, not {}", interface.arguments);
            return Err(Error::backend(&self.selector, message));
        }

        let limit = |what: String, requested, maximum| {
            if requested <= maximum {
                return Ok(());
            }
            Err(Error::Limit { device: self.selector.clone(), what, requested, maximum })
        };
        let of_kernel = |what| get_kernel_work_group_info(kernel.raw(), self.device, what);
        for (axis, n) in interface.workgroup.into_iter().enumerate() {
            let what = format!("invocations of a workgroup of kernel {name} along axis {axis}");
            limit(what, n.into(), self.workgroup_sizes[axis])?;
        }
        let invocations = interface.workgroup.iter().map(|&n| u64::from(n)).product();
        // It depends on the registers that the kernel takes.
        let maximum = usize::from(of_kernel(CL_KERNEL_WORK_GROUP_SIZE).map_err(what)?) as u64;
        let maximum = maximum.min(self.workgroup_size);
        limit(format!("invocations of a workgroup of kernel {name}"), invocations, maximum)?;
        let local = cl_ulong::from(of_kernel(CL_KERNEL_LOCAL_MEM_SIZE).map_err(what)?);
        limit(format!("bytes of local memory of kernel {name}"), local, self.local_memory_bytes)?;

        let name = get_kernel_info(kernel.raw(), CL_KERNEL_FUNCTION_NAME).map(String::from).map_err(what)?;
        let name = CString::new(name).map_err(|e| Error::backend(&self.selector, e.to_string()))?;
        Ok(OpenClProgram { program, name, workgroup: interface.workgroup })
    }
}

/// The driver's own form of a program, if it has one.
fn binary(program: &Program) -> Option<Vec<u8>> {
    let binaries: Vec<Vec<u8>> = get_program_info(program.raw(), CL_PROGRAM_BINARIES).ok()?.into();
    binaries.into_iter().find(|b| !b.is_empty())
}

impl OpenClProgram {
    /// A kernel object, to have its arguments set.
    pub(crate) fn kernel(&self) -> Result<Kernel, cl_int> {
        let raw = create_kernel(self.program.raw(), &self.name)?;
        // SAFETY: the kernel was made for this call.
        Ok(unsafe { Kernel::owned(raw) })
    }
}
