//! Each kernel of matrix products against the reference, on every Vulkan device that is there.

use halite_hal::conformance::{Options, run};
use halite_hal::devices::{TraceDevice, TraceEvent};
use halite_hal::{Backend, DType, DeviceOptions, Op, TensorRef};
use halite_kernels::testing::slice;
use halite_vulkan::{VulkanBackend, VulkanDevice, VulkanDriver};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The names of all variants that the device has.
fn names(device: &VulkanDevice) -> BTreeSet<String> {
    let t = |slot, shape: &[usize]| TensorRef::slot(slot, DType::F32, shape);
    let product = |m: usize, b| Op::matmul(t(0, &[m, 16]), b, t(2, &[m, 16])).desc();
    [1, 2, 8, 9]
        .into_iter()
        .flat_map(|m| [product(m, t(1, &[16, 16])), product(m, t(1, &[16, 16]).transpose(0, 1))])
        .flat_map(|desc| device.variants(&desc))
        .map(|v| v.to_string())
        .collect()
}

/// Every variant takes its turn on a part of the cases, and on more until it has met one that it does. A quarter of them
/// at a time, as `HALITE_SLICE=i/n` in the environment says, since drivers take long to compile them; all for `0/1`.
#[test]
fn every_variant_conforms() {
    const PARTS: usize = 16;
    const TURNS: usize = 4;
    let (turn, of) = slice();
    let options = DeviceOptions::default();
    for index in 0..VulkanBackend::new().devices().len() {
        let driver = VulkanDriver::new(index, &options).unwrap();
        let mut device = Arc::new(VulkanDevice::new(driver, &options).unwrap());
        let names = names(&device);
        let count = names.len();
        assert!(count > 5, "{names:?}");
        let names = names.into_iter().enumerate();
        for (i, name) in names.filter(|(i, _)| of == 1 || i % TURNS == turn % TURNS) {
            Arc::get_mut(&mut device).unwrap().force_variant(Some(name.clone()));
            let ran = |e: &TraceEvent| match e {
                TraceEvent::Op { desc, .. } => {
                    device.variants(desc).first().is_some_and(|v| v.to_string() == name)
                }
                _ => false,
            };
            let trace = TraceDevice::new(device.clone());
            let parts = PARTS * count;
            let met = (0..parts).any(|part| {
                for op in ["matmul", "grouped_matmul", "grouped_matmul_weight"] {
                    let mut options = Options::default();
                    options.op = Some(op.into());
                    options.slice = Some(((i + part) % parts, parts));
                    let report = run(&trace, &options);
                    assert!(report.passed(), "{name}: {report}");
                }
                trace.take().iter().any(ran)
            });
            assert!(met, "{name} met no case");
        }
    }
}
