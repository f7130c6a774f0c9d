//! NVRTC, NVIDIA's compiler of CUDA C: where it is found, and how it is called.
//!
//! It comes with the CUDA toolkit and, alone, as a Python package. cudarc would look only where the system's
//! loader does, for the libraries of its own version of CUDA, and panic when there is none; so the library is
//! opened here. Its interface has been the same since CUDA 8.

mod places;

use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

/// What programs are compiled for and with. PTX for the oldest devices that are used is good for all, and the
/// portable kernels need nothing newer: so one entry of the cache serves every device, and what was checked
/// for one architecture is what runs on the others. Products and sums aren't contracted, as the writer asks.
pub(crate) const OPTIONS: [&CStr; 3] = [c"--gpu-architecture=compute_80", c"--std=c++17", c"--fmad=false"];

type Program = *mut c_void;

/// The compiler.
pub(crate) struct Nvrtc {
    path: String,
    version: (c_int, c_int),
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    error_text: unsafe extern "C" fn(c_int) -> *const c_char,
    _library: Library,
}

/// The compiler, or what would make it appear. It is looked for once.
pub(crate) fn get() -> Result<&'static Nvrtc, &'static str> {
    static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_ref().map_err(String::as_str)
}

fn find() -> Result<Nvrtc, String> {
    for path in places::all() {
        match open(&path) {
            Ok(nvrtc) => return Ok(nvrtc),
            Err(e) => tracing::debug!("{}: {e}", path.display()),
        }
    }
    Err(format!(
        "NVRTC, which compiles kernels, was not found; `pip install nvidia-cuda-nvrtc-cu12` or the CUDA toolkit \
         brings it (looked for {} where the system's loader looks, in the toolkits of CUDA_PATH, CUDA_HOME and \
         /usr/local/cuda, and among Python's packages)",
        places::NAMES.join(", ")
    ))
}

fn open(path: &PathBuf) -> Result<Nvrtc, libloading::Error> {
    // SAFETY: opening the library runs no code but its own.
    let library = unsafe { Library::new(path) }?;
    // SAFETY: these are the types of `nvrtc.h`, and the functions stay as long as the library.
    unsafe {
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int =
            *library.get(b"nvrtcVersion\0")?;
        let mut numbers = (0, 0);
        version(&mut numbers.0, &mut numbers.1);
        Ok(Nvrtc {
            path: path.display().to_string(),
            version: numbers,
            create: *library.get(b"nvrtcCreateProgram\0")?,
            compile: *library.get(b"nvrtcCompileProgram\0")?,
            ptx_size: *library.get(b"nvrtcGetPTXSize\0")?,
            ptx: *library.get(b"nvrtcGetPTX\0")?,
            log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
            log: *library.get(b"nvrtcGetProgramLog\0")?,
            destroy: *library.get(b"nvrtcDestroyProgram\0")?,
            error_text: *library.get(b"nvrtcGetErrorString\0")?,
            _library: library,
        })
    }
}

/// A program of NVRTC's, destroyed when dropped.
struct Compilation<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Drop for Compilation<'_> {
    fn drop(&mut self) {
        // SAFETY: the program is this value's own.
        unsafe { (self.nvrtc.destroy)(&mut self.program) };
    }
}

impl Nvrtc {
    /// Where the library is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its version: `12.4`.
    pub(crate) fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Compiles CUDA C to PTX, which ends with a zero; the error is the compiler's log.
    pub(crate) fn compile(&self, source: &str) -> Result<Vec<u8>, String> {
        let source = CString::new(source).map_err(|e| e.to_string())?;
        let options = OPTIONS.map(CStr::as_ptr);
        let mut program = ptr::null_mut();
        // SAFETY: the texts end with zeros, and there are no headers.
        let code = unsafe {
            (self.create)(&mut program, source.as_ptr(), c"kernel.cu".as_ptr(), 0, ptr::null(), ptr::null())
        };
        self.check(code)?;
        let compilation = Compilation { nvrtc: self, program };
        // SAFETY: the program is alive, and there are as many options.
        let code = unsafe { (self.compile)(program, options.len() as c_int, options.as_ptr()) };
        if let Err(e) = self.check(code) {
            let log = compilation.text(self.log_size, self.log)?;
            return Err(format!("{e}:\n{}", String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n'])));
        }
        compilation.text(self.ptx_size, self.ptx)
    }

    fn check(&self, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the function returns a text of the library's for any code.
        let text = unsafe { CStr::from_ptr((self.error_text)(code)) };
        Err(format!("{} ({code})", text.to_string_lossy()))
    }
}

impl Compilation<'_> {
    fn text(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
        get: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the program is alive.
        self.nvrtc.check(unsafe { size(self.program, &mut bytes) })?;
        let mut text = vec![0; bytes];
        // SAFETY: the program is alive, and its text as long as it says, with the zero.
        self.nvrtc.check(unsafe { get(self.program, text.as_mut_ptr().cast()) })?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
