//! CUDA devices against the reference. The whole suite is `halite verify --device cuda`; here every device
//! is checked beside ops, and computes some of the cases.

use halite_cuda::CudaBackend;
use halite_hal::conformance::check_backend;

#[test]
fn every_device_conforms_in_part() {
    check_backend(&CudaBackend, (0, 80));
}
