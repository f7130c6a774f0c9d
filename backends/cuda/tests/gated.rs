//! Gate and up, with the SwiGLU of them in the same launch, in each tile on tensor cores: what one launch writes is
//! what three write.

use halite_cuda::{CudaDevice, CudaDriver};
use halite_hal::{DType, DeviceOptions, Op, TensorRef};
use halite_kernels::testing::variants_conform;

#[test]
fn every_tile_gates_as_three_launches_do() {
    let options = DeviceOptions::default();
    let driver = match CudaDriver::new(0, &options) {
        Ok(driver) => driver,
        Err(e) => return println!("skipped: {e}"),
    };
    let mut device = CudaDevice::new(driver, &options).unwrap();
    let t = |slot| TensorRef::slot(slot, DType::BF16, &[64, 64]);
    let mut tiles = device.variants(&Op::matmul(t(0), t(1), t(2)).desc());
    tiles.retain(|variant| variant.0.starts_with("mma"));
    assert_eq!(tiles.len(), 5, "{tiles:?}");
    variants_conform(&mut device, tiles, "device.sequences", 5, 1);
}
