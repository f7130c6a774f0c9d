//! Every variant of attention by itself, on slices of the conformance cases: small ones, since PoCL compiles some
//! kernels for a minute.

use halite_hal::{DeviceOptions, Profile};
use halite_kernels::{Engine, testing};
use halite_opencl::OpenClDriver;

/// The first device, restricted by a profile.
fn conforms(profile: Option<&str>, turns: usize, step: usize) {
    let mut options = DeviceOptions::default();
    options.profile = profile.map(|p| Profile::named(p).unwrap());
    match OpenClDriver::new(0, &options) {
        Ok(driver) => testing::attention_conforms(&mut Engine::new(driver, &options).unwrap(), turns, step),
        Err(e) => println!("skipped: {e}"),
    }
}

#[test]
fn every_variant_conforms() {
    conforms(None, 8, 83);
}

#[test]
fn every_variant_conforms_without_barriers() {
    conforms(Some("mlu-class"), 8, 61);
}
