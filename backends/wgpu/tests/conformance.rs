//! wgpu devices against the reference. The whole suite is `halite verify --device wgpu`; here every device
//! runs all that isn't an op, and some cases of every op.

use halite_hal::conformance::{OpReport, Options, Report, run, run_with};
use halite_hal::{Backend, Device, DeviceOptions};
use halite_wgpu::WgpuBackend;
use std::process::Command;
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
    let backend = WgpuBackend::new();
    let n = backend.devices().len();
    if n == 0 {
        println!("skipped: {}", backend.notes().join("; "));
    }
    (0..n).map(|i| backend.open(i, &DeviceOptions::default()).unwrap()).collect()
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

/// Where no driver, or no loader, is there: this test program again, told to find none.
#[test]
fn without_drivers_there_are_notes_and_no_devices() {
    const MARK: &str = "HALITE_WGPU_TEST_WITHOUT_DRIVERS";
    if std::env::var_os(MARK).is_some() {
        let backend = WgpuBackend::new();
        assert_eq!(backend.devices(), []);
        let notes = backend.notes().join("\n");
        assert!(notes.contains("libvulkan1") && notes.contains("mesa-vulkan-drivers"), "{notes}");
        assert!(backend.open(0, &DeviceOptions::default()).is_err());
        return;
    }
    if !cfg!(target_os = "linux") {
        println!("skipped: other systems always have a driver");
        return;
    }
    // Found before the system's, and no library.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libvulkan.so.1"), "").unwrap();
    let none = folder.path().join("none.json");
    for (name, value) in [("VK_DRIVER_FILES", &*none), ("LD_LIBRARY_PATH", folder.path())] {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "without_drivers_there_are_notes_and_no_devices"])
            .env(MARK, "1")
            .env(name, value)
            // What older loaders call it.
            .env("VK_ICD_FILENAMES", &none)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{name}: {said}");
    }
}
