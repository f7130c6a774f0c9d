//! wgpu devices against the reference. The whole suite is `halite verify --device wgpu`; here every device
//! is checked beside ops, and computes some of the cases.

use halite_hal::conformance::check_backend;
use halite_hal::{Backend, DeviceOptions};
use halite_wgpu::WgpuBackend;
use std::process::Command;

#[test]
fn every_device_conforms_in_part() {
    check_backend(&WgpuBackend::new(), (0, 80));
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
