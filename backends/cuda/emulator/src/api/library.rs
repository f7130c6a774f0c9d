//! The library as a whole: its start, its version, its error codes, its entry points by name. These need no
//! device.

use super::{In, Out, tables};
use crate::attributes::DRIVER_VERSION;
use crate::config::Config;
use crate::driver::{Driver, lock};
use cudarc::driver::sys::CUresult::{self, *};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> CUresult {
    if flags != 0 {
        return CUDA_ERROR_INVALID_VALUE;
    }
    let mut driver = lock();
    if driver.is_some() {
        return CUDA_SUCCESS;
    }
    match Config::read(|name| std::env::var(name).ok()) {
        Ok(config) if config.no_device || config.devices == 0 => CUDA_ERROR_NO_DEVICE,
        Ok(config) => {
            *driver = Some(Driver::new(config));
            CUDA_SUCCESS
        }
        Err(why) => {
            eprintln!("halite CUDA emulator: {why}");
            CUDA_ERROR_INVALID_VALUE
        }
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> CUresult {
    version.put(DRIVER_VERSION).err().unwrap_or(CUDA_SUCCESS)
}

/// The codes that are returned here, their names, and what they mean.
const CODES: &[(CUresult, &CStr, &CStr)] = &[
    (CUDA_SUCCESS, c"CUDA_SUCCESS", c"no error"),
    (CUDA_ERROR_INVALID_VALUE, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
    (CUDA_ERROR_OUT_OF_MEMORY, c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
    (CUDA_ERROR_NOT_INITIALIZED, c"CUDA_ERROR_NOT_INITIALIZED", c"initialization error"),
    (CUDA_ERROR_NO_DEVICE, c"CUDA_ERROR_NO_DEVICE", c"no CUDA-capable device is detected"),
    (CUDA_ERROR_INVALID_DEVICE, c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal"),
    (CUDA_ERROR_INVALID_IMAGE, c"CUDA_ERROR_INVALID_IMAGE", c"device kernel image is invalid"),
    (CUDA_ERROR_INVALID_CONTEXT, c"CUDA_ERROR_INVALID_CONTEXT", c"invalid device context"),
    (
        CUDA_ERROR_NO_BINARY_FOR_GPU,
        c"CUDA_ERROR_NO_BINARY_FOR_GPU",
        c"no kernel image is available for execution on the device",
    ),
    (CUDA_ERROR_INVALID_PTX, c"CUDA_ERROR_INVALID_PTX", c"a PTX JIT compilation failed"),
    (
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
        c"CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        c"the provided PTX was compiled with an unsupported toolchain.",
    ),
    (CUDA_ERROR_INVALID_HANDLE, c"CUDA_ERROR_INVALID_HANDLE", c"invalid resource handle"),
    (CUDA_ERROR_NOT_FOUND, c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
    (CUDA_ERROR_ILLEGAL_ADDRESS, c"CUDA_ERROR_ILLEGAL_ADDRESS", c"an illegal memory access was encountered"),
    (
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        c"too many resources requested for launch",
    ),
    (
        CUDA_ERROR_ILLEGAL_INSTRUCTION,
        c"CUDA_ERROR_ILLEGAL_INSTRUCTION",
        c"an illegal instruction was encountered",
    ),
    (CUDA_ERROR_MISALIGNED_ADDRESS, c"CUDA_ERROR_MISALIGNED_ADDRESS", c"misaligned address"),
    (CUDA_ERROR_LAUNCH_FAILED, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
    (CUDA_ERROR_NOT_SUPPORTED, c"CUDA_ERROR_NOT_SUPPORTED", c"operation not supported"),
    (
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        c"operation not permitted when stream is capturing",
    ),
    (CUDA_ERROR_UNKNOWN, c"CUDA_ERROR_UNKNOWN", c"unknown error"),
];

fn of_code(
    code: c_uint,
    text: Out<*const c_char>,
    pick: impl Fn(&(CUresult, &CStr, &CStr)) -> *const c_char,
) -> CUresult {
    let found = CODES.iter().find(|(known, ..)| *known as c_uint == code);
    let put = text.put(found.map_or(ptr::null(), pick));
    if found.is_none() { CUDA_ERROR_INVALID_VALUE } else { put.err().unwrap_or(CUDA_SUCCESS) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(code: c_uint, text: Out<*const c_char>) -> CUresult {
    of_code(code, text, |(_, name, _)| name.as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(code: c_uint, text: Out<*const c_char>) -> CUresult {
    of_code(code, text, |(.., meaning)| meaning.as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    symbol: In<c_char>,
    address: Out<*const c_void>,
    _version: c_int,
    _flags: u64,
) -> CUresult {
    let Ok(symbol) = symbol.text() else { return CUDA_ERROR_INVALID_VALUE };
    let newer = format!("{symbol}_v2");
    let of = |name: &str| tables().into_iter().flatten().find(|(known, _)| *known == name);
    let found = of(&newer).or_else(|| of(symbol)).map_or(ptr::null(), |(_, entry)| entry.cast());
    match address.put(found) {
        Err(code) => code,
        Ok(()) if found.is_null() => CUDA_ERROR_NOT_FOUND,
        Ok(()) => CUDA_SUCCESS,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    symbol: In<c_char>,
    address: Out<*const c_void>,
    version: c_int,
    flags: u64,
    status: Out<c_int>,
) -> CUresult {
    let code = cuGetProcAddress(symbol, address, version, flags);
    // 0 is found, 1 is not.
    status.put_if((code != CUDA_SUCCESS).into());
    code
}

/// There is no private interface here.
#[unsafe(no_mangle)]
pub extern "C" fn cuGetExportTable(table: Out<*const c_void>, _id: In<[u8; 16]>) -> CUresult {
    table.put_if(ptr::null());
    CUDA_ERROR_NOT_FOUND
}
