//! What is told when something is missing or fails. Each case is this test program again, in a process of its
//! own: libraries are looked for once, and a kernel that fails takes its context along.

use halite_cuda::{CudaBackend, CudaDriver};
use halite_hal::{Backend, DeviceOptions, Error};
use halite_kernels::{Command, Dispatch, Driver, Kernel, Region};
use std::path::Path;
use std::process;
use std::sync::Arc;

/// Tells a test that it is the process of its own.
const CASE: &str = "HALITE_CUDA_TEST_CASE";

fn case() -> Option<String> {
    std::env::var(CASE).ok()
}

/// Runs a test of this program as `case`, with more in its environment.
fn again(test: &str, case: &str, environment: &[(&str, &Path)]) {
    let ran = process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CASE, case)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success() && said.contains("1 passed"), "{case}: {said}");
}

#[test]
fn what_is_missing_is_told_with_what_would_bring_it() {
    if let Some(case) = case() {
        assert_eq!(CudaBackend.devices(), []);
        let notes = CudaBackend.notes().join("\n");
        let words = match &*case {
            "no driver" => ["libcuda.so.1", "NVIDIA's driver"],
            _ => ["pip install nvidia-cuda-nvrtc-cu12", "CUDA toolkit"],
        };
        assert!(words.iter().all(|word| notes.contains(word)), "{notes}");
        let e = CudaBackend.open(0, &DeviceOptions::default()).unwrap_err();
        assert!(matches!(&e, Error::NoDevice { reason, .. } if reason.contains(words[0])), "{e}");
        return;
    }
    if !cfg!(target_os = "linux") {
        println!("skipped: the libraries are hidden as Linux finds them");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Found before the system's, and no library.
    let hide = |names: &[&str]| {
        let hidden = folder.path().join(names[0].trim_start_matches("lib"));
        std::fs::create_dir(&hidden).unwrap();
        names.iter().for_each(|name| std::fs::write(hidden.join(name), "").unwrap());
        let others = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let all = [hidden].into_iter().chain(std::env::split_paths(&others));
        std::env::join_paths(all).unwrap()
    };
    let test = "what_is_missing_is_told_with_what_would_bring_it";
    let path = hide(&["libcuda.so", "libcuda.so.1"]);
    again(test, "no driver", &[("LD_LIBRARY_PATH", path.as_ref())]);
    if CudaBackend.devices().is_empty() || Path::new("/usr/local/cuda").exists() {
        println!("skipped: there is no device without a toolkit here, so NVRTC can't be hidden from it");
        return;
    }
    let path = hide(&["libnvrtc.so", "libnvrtc.so.12", "libnvrtc.so.13"]);
    // Not among Python's packages, and in no toolkit.
    let nowhere = folder.path();
    let mut environment = vec![("LD_LIBRARY_PATH", path.as_ref())];
    environment.extend(["PATH", "HOME", "CUDA_PATH", "CUDA_HOME"].map(|name| (name, nowhere)));
    again(test, "no compiler", &environment);
}

/// Writes 1, to where the parameter says.
const WGSL: &str = "struct P { far: u32 }
    @group(0) @binding(0) var<uniform> p: P;
    @group(0) @binding(1) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(1) fn main() { y[p.far] = 1u; }";

/// An index 12 GiB beyond the memory that is bound.
const FAR: u32 = 3 << 30;

#[test]
fn a_kernel_that_fails_is_named_and_takes_the_device_along() {
    let Some(case) = case() else {
        if CudaBackend.devices().is_empty() {
            println!("skipped: {}", CudaBackend.notes().join("; "));
            return;
        }
        let test = "a_kernel_that_fails_is_named_and_takes_the_device_along";
        for validation in ["0", "1"] {
            again(test, "fails", &[("HALITE_VALIDATE", validation.as_ref())]);
        }
        return;
    };
    assert_eq!(case, "fails");
    let validating = std::env::var("HALITE_VALIDATE").is_ok_and(|v| v == "1");
    let d = CudaDriver::new(0, &DeviceOptions::default()).unwrap();
    let program = Arc::new(d.compile(&Kernel::from_wgsl("far", WGSL).unwrap()).unwrap());
    let y = Arc::new(d.allocate(16).unwrap());
    let list = |far: u32, label: &str| {
        [Command::Dispatch(Dispatch {
            program: program.clone(),
            params: vec![far],
            bindings: vec![Region { memory: y.clone(), offset: 0, bytes: 16 }],
            groups: [1; 3],
            label: label.into(),
        })]
    };
    let well = d.submit(&list(0, "the sound one")).unwrap();
    assert!(d.wait(well, true).unwrap());
    let prepared = Arc::new(d.prepare(&list(FAR, "the failing one")).unwrap());
    let first = d.run(&prepared);
    assert_eq!(first.is_err(), validating, "{first:?}");
    let e = first.and_then(|ticket| d.wait(ticket, true)).unwrap_err();
    assert!(matches!(e, Error::DeviceLost { .. }), "{e:?}");
    let start = "cuda:0 is lost: the failing one: CUDA_ERROR_";
    assert!(e.to_string().starts_with(start), "{e}");
    // From then on, it is what everything reports; what was seen to run before is well.
    let later = [
        d.submit(&list(0, "another")).map(drop),
        d.upload(&y, 0, &[0; 16]).map(drop),
        d.download(&y, 0, 16).and_then(|read| read.wait()).map(drop),
        d.wait(d.last(), true).map(drop),
    ];
    for result in later {
        let e = result.unwrap_err();
        assert!(matches!(e, Error::DeviceLost { .. }), "{e:?}");
    }
    assert!(d.allocate(16).is_err());
    assert!(d.wait(well, true).unwrap());
}
