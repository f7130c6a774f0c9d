//! What the driver does beyond the test kit that all drivers share, on every device that is there.

use super::*;
use crate::CudaBackend;
use halite_hal::Backend;

#[test]
fn a_device_that_is_not_there_is_told_with_those_that_are() {
    let n = CudaBackend.devices().len();
    match CudaDriver::new(n, &DeviceOptions::default()) {
        Err(Error::NoDevice { selector, available, reason }) => {
            assert_eq!((selector, available.len()), (format!("cuda:{n}"), n));
            assert!(reason.contains(&format!("there are {n} devices of kind cuda")), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}
