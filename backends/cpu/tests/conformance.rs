//! The device against the reference, for several numbers of threads.

use halite_cpu::{CpuBackend, CpuDevice};
use halite_hal::conformance::{Options, Report, run};
use halite_hal::{Device, DeviceOptions, OpKind, Profile, Registry};

fn conforms(threads: usize) {
    let device = CpuDevice::new(&DeviceOptions::default().threads(threads)).unwrap();
    let report = passes(&device);
    for op in report.ops.iter().filter(|op| OpKind::NAMES.contains(&&*op.op)) {
        assert!(op.composed == 0, "{op:?}");
    }
}

/// Runs the suite; nothing may fail or be unsupported.
fn passes(device: &dyn Device) -> Report {
    let report = run(device, &Options::default());
    for op in &report.ops {
        println!("{:24} {:5} cases, worst {:.3}", op.op, op.cases, op.worst_tolerance_fraction);
    }
    let failures: Vec<String> = report
        .ops
        .iter()
        .flat_map(|op| op.failures.iter().map(|f| format!("{}: {}: {}", op.op, f.case, f.message)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
    for op in report.ops.iter().filter(|op| OpKind::NAMES.contains(&&*op.op)) {
        assert!(op.cases > 0 && op.unsupported == 0, "{op:?}");
    }
    report
}

#[test]
fn with_one_thread() {
    conforms(1);
}

#[test]
fn with_two_threads() {
    conforms(2);
}

#[test]
fn with_three_threads() {
    conforms(3);
}

/// With the ops that aren't core composed of those that are.
#[test]
fn with_core_ops_alone() {
    let mut registry = Registry::new();
    registry.register(CpuBackend);
    let options = DeviceOptions::default().threads(2).profile(Profile::named("core-only").unwrap());
    let report = passes(&*registry.open("cpu", &options).unwrap());
    assert!(report.ops.iter().any(|op| op.composed > 0));
}

/// What processors with less than this one run: this test program again, told to keep to less.
#[test]
fn with_lesser_instruction_sets() {
    for isa in ["avx2", "portable"] {
        let this = std::env::current_exe().unwrap();
        let ran = std::process::Command::new(this)
            .args(["--exact", "with_two_threads", "--nocapture"])
            .env("HALITE_CPU_ISA", isa)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{isa}: {said}");
    }
}

#[test]
fn an_unknown_instruction_set_is_an_error() {
    let this = std::env::current_exe().unwrap();
    let mut again = std::process::Command::new(this);
    again.args(["--exact", "with_two_threads"]).env("HALITE_CPU_ISA", "avx3");
    let ran = again.output().unwrap();
    assert!(!ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains("portable, avx2"));
}
