//! CUDA devices against the reference. The whole suite is `halite verify --device cuda`; here every device runs
//! all that isn't an op, and some cases of every op.

use halite_cuda::CudaBackend;
use halite_hal::conformance::{OpReport, Options, Report, run, run_with};
use halite_hal::{Backend, Device, DeviceOptions};
use std::sync::Arc;

/// What isn't an op.
const GROUPS: [&str; 6] = [
    "device.record",
    "device.transfer",
    "device.columns",
    "device.streams",
    "device.memory",
    "device.errors",
];

fn devices() -> Vec<Arc<dyn Device>> {
    let n = CudaBackend.devices().len();
    if n == 0 {
        println!("skipped: {}", CudaBackend.notes().join("; "));
    }
    (0..n).map(|i| CudaBackend.open(i, &DeviceOptions::default()).unwrap()).collect()
}

fn passed(report: &Report) {
    assert!(report.passed(), "{}:\n{report}", report.selector);
    assert!(!report.ops.is_empty());
}

#[test]
fn what_is_not_an_op_conforms() {
    for device in devices() {
        for group in GROUPS {
            let mut options = Options::default();
            options.op = Some(group.into());
            let report = run(&*device, &options);
            assert!(report.ops.iter().all(|op| op.cases > 0), "{group}");
            passed(&report);
        }
    }
}

#[test]
fn some_cases_of_every_op_conform() {
    for device in devices() {
        let mut options = Options::default();
        options.slice = Some((0, 80));
        let show =
            |op: &OpReport| println!("{} {}: {} of {}", device.info().name, op.op, op.passed, op.cases);
        passed(&run_with(&*device, &options, show));
    }
}
