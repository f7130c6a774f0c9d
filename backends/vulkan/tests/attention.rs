//! Every variant of attention by itself, on slices of the conformance cases.

use halite_hal::conformance::{Options, run};
use halite_hal::{Attention, DType, DeviceOptions, Op, Profile, TensorRef};
use halite_vulkan::{VulkanDevice, VulkanDriver};

/// The first device, restricted by a profile; none without a driver.
fn open(profile: Option<&str>) -> Option<VulkanDevice> {
    let mut options = DeviceOptions::default();
    options.profile = profile.map(|p| Profile::named(p).unwrap());
    match VulkanDriver::new(0, &options) {
        Ok(driver) => Some(VulkanDevice::new(driver, &options).unwrap()),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

/// The variants of an op, for sizes that all of them can do.
fn variants(device: &VulkanDevice, name: &str) -> Vec<String> {
    let t = |slot, shape: &[usize]| TensorRef::slot(slot, DType::F32, shape);
    let (q, kv, lse) = ([2, 4, 32], [4000, 2, 32], t(6, &[2, 4]));
    let seqs = TensorRef::slot(7, DType::I32, &[2, 4]);
    let a = Attention::causal(0.5);
    let op = match name {
        "attention" => Op::attention(a, t(0, &q), t(1, &kv), t(2, &kv), seqs, t(3, &q), lse),
        _ => {
            let inputs = [t(5, &q), t(0, &q), t(1, &kv), t(2, &kv), t(3, &q), lse, seqs];
            Op::attention_backward(a, inputs, [t(8, &q), t(9, &kv), t(10, &kv)])
        }
    };
    assert_eq!(op.kind.name(), name);
    device.variants(&op.desc()).into_iter().map(|v| v.0.into_owned()).collect()
}

/// Each variant does every `step`th case.
fn conform(profile: Option<&str>, step: usize) {
    for name in ["attention", "attention_backward"] {
        let Some(mut device) = open(profile) else { return };
        for (i, variant) in variants(&device, name).into_iter().enumerate() {
            device.force_variant(Some(variant.clone()));
            let mut options = Options::default();
            options.op = Some(name.into());
            options.slice = Some((i % step, step));
            let report = run(&device, &options);
            println!("{variant}: {report}");
            assert!(report.passed() && report.ops[0].passed > 0, "{variant}: {report}");
        }
    }
}

#[test]
fn every_variant_conforms() {
    conform(None, 11);
}

#[test]
fn every_variant_conforms_within_small_limits() {
    conform(Some("minimal"), 17);
}

#[test]
fn every_variant_conforms_without_barriers() {
    conform(Some("mlu-class"), 17);
}
