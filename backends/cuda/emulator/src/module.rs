//! Modules: PTX that was loaded, its kernels and variables.

use crate::driver::{Answer, Driver, Handle, Object};
use crate::ptx::{self, Kernel};
use cudarc::driver::sys::CUresult;
use std::sync::Arc;

/// Shared memory of a block without asking for more.
pub(crate) const SHARED: u32 = 48 << 10;
/// Shared memory of a block, when asked for.
pub(crate) const SHARED_OPT_IN: u32 = 227 << 10;
/// Registers of a multiprocessor.
const REGISTERS: u32 = 64 << 10;
/// The newest PTX that is taken: that of CUDA 12.9.
const NEWEST: (u32, u32) = (8, 8);

/// A module.
pub(crate) struct Loaded {
    pub context: Handle,
    module: ptx::Module,
    /// Where its variables are.
    globals: Arc<[u64]>,
}

/// A kernel of a module.
#[derive(Clone)]
pub(crate) struct Function {
    pub context: Handle,
    module: Handle,
    pub kernel: Arc<Kernel>,
    pub globals: Arc<[u64]>,
    /// Bytes of shared memory that a launch may give.
    pub max_dynamic: u32,
}

impl Loaded {
    /// Address and bytes of a variable.
    pub(crate) fn global(&self, name: &str) -> Answer<(u64, u64)> {
        let index = self.module.globals.iter().position(|global| global.name == name);
        let index = index.ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?;
        Ok((self.globals[index], self.module.globals[index].bytes))
    }
}

/// Threads that a block of a kernel has at most.
pub(crate) fn max_threads(kernel: &Kernel) -> u32 {
    // Whole warps share out the registers, which a thread gets by eights.
    let by_registers = REGISTERS / kernel.registers.max(1).next_multiple_of(8) / 32 * 32;
    by_registers.min(kernel.max_threads.unwrap_or(1024)).min(1024)
}

/// What stands behind a directive of PTX, such as `.version`.
fn directive<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    line.split([' ', '\t', ',']).find(|word| !word.is_empty())
}

/// Whether a device takes PTX that says this of itself.
fn check_header(text: &str, arch: u32) -> Result<(), (CUresult, String)> {
    let version = directive(text, ".version").and_then(|version| version.split_once('.'));
    let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let Some(version): Option<(u32, u32)> = version else {
        return Err((CUresult::CUDA_ERROR_INVALID_PTX, "PTX has no .version".into()));
    };
    if version > NEWEST {
        let message =
            format!("PTX .version {}.{} is newer than {}.{}", version.0, version.1, NEWEST.0, NEWEST.1);
        return Err((CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, message));
    }
    let target = directive(text, ".target").and_then(|target| target.strip_prefix("sm_"));
    // sm_90a runs on 9.0 alone.
    let (number, only) = target.map_or(("", false), |t| (t.trim_end_matches('a'), t.ends_with('a')));
    match number.parse::<u32>() {
        Ok(number) if number == arch || number < arch && !only => Ok(()),
        Ok(_) => {
            let message = format!("PTX for sm_{}; the device is sm_{arch}", target.unwrap_or_default());
            Err((CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU, message))
        }
        Err(_) => Err((CUresult::CUDA_ERROR_INVALID_PTX, "PTX has no .target".into())),
    }
}

impl Driver {
    /// Loads PTX; `Err` has the log too.
    pub(crate) fn load(&mut self, text: &str) -> Result<Handle, (CUresult, String)> {
        let silent = |code| (code, String::new());
        let device = self.healthy().map_err(silent)?;
        let context = self.current().map_err(silent)?;
        if self.config.refuse_ptx {
            return Err((CUresult::CUDA_ERROR_INVALID_PTX, "PTX is made to be refused".into()));
        }
        check_header(text, self.config.arch)?;
        let module = ptx::load(text).map_err(|e| {
            (
                CUresult::CUDA_ERROR_INVALID_PTX,
                format!("ptxas application ptx input, line {}; error : {}", e.line, e.message),
            )
        })?;
        let mut globals = Vec::with_capacity(module.globals.len());
        for global in &module.globals {
            let address = self.memory.allocate(global.bytes, device);
            let address = address.ok_or_else(|| silent(CUresult::CUDA_ERROR_OUT_OF_MEMORY))?;
            self.fill(address, global).map_err(silent)?;
            globals.push(address);
        }
        let globals = globals.into();
        Ok(self.add(Object::Module(Loaded { context, module, globals })))
    }

    /// Gives a variable its initial value: zeros after what is given.
    fn fill(&mut self, address: u64, global: &ptx::Global) -> Answer {
        use crate::exec::GlobalMemory;
        let refused = |_| CUresult::CUDA_ERROR_INVALID_PTX;
        let host = self.memory.view().resolve(address, global.bytes, true).map_err(refused)?;
        // SAFETY: the memory was just allocated with as many bytes.
        let bytes = unsafe { std::slice::from_raw_parts_mut(host, global.bytes as usize) };
        bytes.fill(0);
        let given = global.init.len().min(bytes.len());
        bytes[..given].copy_from_slice(&global.init[..given]);
        Ok(())
    }

    pub(crate) fn unload(&mut self, handle: Handle) -> Answer {
        let Object::Module(module) = self.remove(handle, |o| matches!(o, Object::Module(_)))? else {
            return Err(CUresult::CUDA_ERROR_INVALID_HANDLE);
        };
        for address in module.globals.iter() {
            self.memory.free(*address, false);
        }
        self.retain(|object| !matches!(object, Object::Function(function) if function.module == handle));
        Ok(())
    }

    /// A kernel by its name: the same handle each time.
    pub(crate) fn find_function(&mut self, module: Handle, name: &str) -> Answer<Handle> {
        let Loaded { context, module: loaded, globals } = self.module(module)?;
        let kernel = loaded.kernels.iter().find(|kernel| kernel.name == name);
        let kernel = kernel.ok_or(CUresult::CUDA_ERROR_NOT_FOUND)?.clone();
        let max_dynamic = SHARED.saturating_sub(kernel.static_shared);
        let function = Function { context: *context, module, kernel, globals: globals.clone(), max_dynamic };
        let known = self.objects().find(|(_, object)| {
            matches!(object, Object::Function(f) if f.module == module && f.kernel.name == name)
        });
        Ok(match known.map(|(handle, _)| handle) {
            Some(handle) => handle,
            None => self.add(Object::Function(function)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_a_device_takes() {
        let check = |header: &str, arch| check_header(header, arch).map_err(|(code, _)| code);
        assert_eq!(check("// made\n.version 8.8\n.target sm_80\n", 90), Ok(()));
        assert_eq!(check(".version 8.0\n.target sm_90a, texmode_independent\n", 90), Ok(()));
        assert_eq!(check(".version 8.0\n.target sm_90a\n", 100), Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
        assert_eq!(check(".version 8.0\n.target sm_90\n", 80), Err(CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU));
        assert_eq!(
            check(".version 9.0\n.target sm_80\n", 90),
            Err(CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
        );
        assert_eq!(check(".version 8.0\n", 90), Err(CUresult::CUDA_ERROR_INVALID_PTX));
        assert_eq!(check("not PTX", 90), Err(CUresult::CUDA_ERROR_INVALID_PTX));
    }
}
