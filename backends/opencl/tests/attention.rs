//! Every variant of attention by itself, on slices of the conformance cases: small ones, since drivers
//! take long to compile kernels.

use halite_hal::conformance::{Options, run};
use halite_hal::{Attention, DType, DeviceOptions, Op, Profile, TensorRef};
use halite_kernels::Engine;
use halite_opencl::OpenClDriver;

/// The first device, restricted by a profile; none without a driver.
fn open(profile: Option<&str>) -> Option<Engine<OpenClDriver>> {
    let mut options = DeviceOptions::default();
    options.profile = profile.map(|p| Profile::named(p).unwrap());
    match OpenClDriver::new(0, &options) {
        Ok(driver) => Some(Engine::new(driver, &options).unwrap()),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

/// The variants of an op, for sizes that all of them can do.
fn variants(device: &Engine<OpenClDriver>, name: &str) -> Vec<String> {
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

/// One variant in four takes its turn, as `HALITE_SLICE=i/n` says: PoCL compiles some of them for a minute. All of
/// them do for `0/1`.
fn has_its_turn(variant: usize) -> bool {
    match std::env::var("HALITE_SLICE").as_deref().unwrap_or("0/20").split_once('/') {
        Some((_, "1")) => true,
        Some((i, _)) => i.parse().is_ok_and(|i: usize| i % 4 == variant % 4),
        None => panic!("HALITE_SLICE is i/n"),
    }
}

/// Each variant that has its turn does every `step`th case.
fn conform(profile: Option<&str>, step: usize) {
    for name in ["attention", "attention_backward"] {
        let Some(mut device) = open(profile) else { return };
        for (i, variant) in variants(&device, name).into_iter().enumerate().filter(|(i, _)| has_its_turn(*i))
        {
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
    conform(None, 41);
}

#[test]
fn every_variant_conforms_without_barriers() {
    conform(Some("mlu-class"), 61);
}
