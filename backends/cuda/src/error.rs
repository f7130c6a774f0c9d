//! CUDA's result codes as errors of the hardware-abstraction layer.

use cudarc::driver::sys::CUresult;
use halite_hal::Error;

/// The code as a result.
pub(crate) fn check(code: CUresult) -> Result<(), CUresult> {
    if code == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(code) }
}

/// `what` failed with `code`.
pub(crate) fn failed(device: &str, what: &str, code: CUresult) -> Error {
    let message = format!("{what}: {code:?} ({})", code as u32);
    if is_lost(code) {
        let message = format!("{message}; its context can't be used again in this process");
        Error::DeviceLost { device: device.into(), message }
    } else {
        Error::backend(device, message)
    }
}

/// Whether no later call on the context can succeed: CUDA repeats these errors at every call.
fn is_lost(code: CUresult) -> bool {
    use CUresult::*;
    matches!(
        code,
        CUDA_ERROR_DEINITIALIZED
            | CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_MPS_CLIENT_TERMINATED
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_device_the_command_and_the_code() {
        let e = failed("cuda:3", "matmul", CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
        assert_eq!(e.to_string(), "cuda:3: matmul: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)");
        assert!(matches!(e, Error::Backend { .. }));
        let e = failed("cuda:3", "matmul", CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        assert!(
            e.to_string().starts_with("cuda:3 is lost: matmul: CUDA_ERROR_ILLEGAL_ADDRESS (700); "),
            "{e}"
        );
        assert!(matches!(e, Error::DeviceLost { .. }));
        assert_eq!(check(CUresult::CUDA_SUCCESS), Ok(()));
        assert_eq!(check(CUresult::CUDA_ERROR_NOT_READY), Err(CUresult::CUDA_ERROR_NOT_READY));
    }
}
