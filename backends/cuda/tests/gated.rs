//! Gate and up, with the SwiGLU of them in the same launch, in each tile on tensor cores: what one launch writes is
//! what three write.

use halite_cuda::{CudaDevice, CudaDriver};
use halite_hal::conformance::{Options, run};
use halite_hal::{DType, DeviceOptions, Op, TensorRef};
use halite_kernels::testing::slice;

#[test]
fn every_tile_gates_as_three_launches_do() {
    let options = DeviceOptions::default();
    let driver = match CudaDriver::new(0, &options) {
        Ok(driver) => driver,
        Err(e) => return println!("skipped: {e}"),
    };
    let mut device = CudaDevice::new(driver, &options).unwrap();
    let t = |slot| TensorRef::slot(slot, DType::BF16, &[64, 64]);
    let variants = device.variants(&Op::matmul(t(0), t(1), t(2)).desc());
    let tiles: Vec<String> =
        variants.iter().map(ToString::to_string).filter(|name| name.starts_with("mma")).collect();
    assert_eq!(tiles.len(), 5, "{tiles:?}");
    // Compilers take long: tiles take their turns, save where all are asked for.
    let (turn, turns) = slice();
    for (_, tile) in tiles.into_iter().enumerate().filter(|(i, _)| turns == 1 || i % 5 == turn % 5) {
        device.force_variant(Some(tile.clone()));
        let mut options = Options::default();
        options.op = Some("device.sequences".into());
        let report = run(&device, &options);
        assert!(report.passed() && report.ops[0].passed > 0, "{tile}: {report}");
    }
}
