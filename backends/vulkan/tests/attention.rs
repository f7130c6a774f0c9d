//! Every variant of attention by itself, on slices of the conformance cases.

use halite_hal::{DeviceOptions, Profile};
use halite_kernels::testing;
use halite_vulkan::{VulkanDevice, VulkanDriver};

/// The first device, restricted by a profile.
fn conforms(profile: Option<&str>, turns: usize, step: usize) {
    let mut options = DeviceOptions::default();
    options.profile = profile.map(|p| Profile::named(p).unwrap());
    match VulkanDriver::new(0, &options) {
        Ok(driver) => {
            testing::attention_conforms(&mut VulkanDevice::new(driver, &options).unwrap(), turns, step);
        }
        Err(e) => println!("skipped: {e}"),
    }
}

#[test]
fn every_variant_conforms() {
    conforms(None, 4, 11);
}

#[test]
fn every_variant_conforms_within_small_limits() {
    conforms(Some("minimal"), 4, 17);
}

#[test]
fn every_variant_conforms_without_barriers() {
    conforms(Some("mlu-class"), 4, 17);
}
