//! The backend is found by its selector, and does every op as it is defined.

use halite_hal::conformance::{Options, run};
use halite_hal::{DeviceOptions, Registry};

#[test]
fn the_whole_suite_passes() {
    let mut registry = Registry::new();
    registry.register(halite_toy::ToyBackend);
    let device = registry.open("toy:0", &DeviceOptions::default()).unwrap();
    let report = run(&*device, &Options::default());
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert!(report.ops.iter().all(|op| op.cases > 0 && op.unsupported == 0), "{report}");
}
