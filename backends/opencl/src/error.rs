//! OpenCL's error codes as errors of the hardware-abstraction layer.

use crate::memory::Account;
use halite_hal::Error;
use opencl3::error_codes::{
    CL_CONTEXT_TERMINATED_KHR, CL_DEVICE_NOT_AVAILABLE, CL_INVALID_BUFFER_SIZE, CL_INVALID_COMMAND_QUEUE,
    CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_HOST_MEMORY, CL_OUT_OF_RESOURCES, error_text,
};
use opencl3::types::cl_int;

/// `what` failed with `code`.
pub(crate) fn failed(device: &str, what: &str, code: cl_int) -> Error {
    let message = format!("{what}: {} ({code})", error_text(code));
    if is_lost(code) {
        Error::DeviceLost { device: device.into(), message }
    } else {
        Error::backend(device, message)
    }
}

/// `what`, which uses `bytes` bytes of memory, was refused with `code`. Drivers may leave it to the first
/// use of a buffer to find memory for it.
pub(crate) fn refused(device: &str, account: &Account, what: &str, bytes: u64, code: cl_int) -> Error {
    if code != CL_MEM_OBJECT_ALLOCATION_FAILURE {
        return failed(device, what, code);
    }
    out_of_memory(device, account, bytes)
}

/// There are no `requested` bytes left.
pub(crate) fn out_of_memory(device: &str, account: &Account, requested: u64) -> Error {
    Error::OutOfMemory {
        device: device.into(),
        requested,
        available: account.available(),
        limit: account.limit(),
    }
}

/// Whether no later call can succeed. A queue doesn't become invalid while it is held, unless its device is
/// lost.
fn is_lost(code: cl_int) -> bool {
    matches!(code, CL_DEVICE_NOT_AVAILABLE | CL_CONTEXT_TERMINATED_KHR | CL_INVALID_COMMAND_QUEUE)
}

/// Whether making a buffer of an allowed size failed for want of memory. Drivers use all of these codes.
pub(crate) fn is_out_of_memory(code: cl_int) -> bool {
    matches!(
        code,
        CL_MEM_OBJECT_ALLOCATION_FAILURE
            | CL_OUT_OF_RESOURCES
            | CL_OUT_OF_HOST_MEMORY
            | CL_INVALID_BUFFER_SIZE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_device_the_command_and_the_code() {
        let e = failed("opencl:3", "matmul", CL_OUT_OF_RESOURCES);
        assert_eq!(e.to_string(), "opencl:3: matmul: CL_OUT_OF_RESOURCES (-5)");
        assert!(matches!(e, Error::Backend { .. }));
        assert!(matches!(failed("d", "w", CL_DEVICE_NOT_AVAILABLE), Error::DeviceLost { .. }));
        assert!(failed("d", "w", -77_777).to_string().contains("-77777"));
    }
}
