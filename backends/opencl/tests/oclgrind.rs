//! Whether oclgrind reports what is wrong with a kernel: a sound one, and the same with a defect planted in it.
//! Without this its silence about Halite's kernels would mean nothing.

use halite_hal::{Device, DeviceOptions, StreamId};
use halite_kernels::Engine;
use halite_opencl::OpenClDriver;
use std::path::Path;
use std::process::{Command, Output};

const SOUND: &str = include_str!("fixtures/reverse.wgsl");

/// What is planted: the text that is replaced, and by what.
const DEFECTS: [(&str, &str, &str); 2] =
    [("a removed barrier", "workgroupBarrier();", ""), ("an off-by-one store", "y[i] =", "y[i + 1u] =")];

/// Runs this program's ignored test on oclgrind, with the defect of that number planted.
fn under_oclgrind(defect: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-oclgrind.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "run_the_kernel", "--nocapture"]).env("HALITE_PLANT", defect);
    command.output().unwrap()
}

#[test]
fn planted_defects_are_reported_and_sound_kernels_are_not() {
    let ran = under_oclgrind("");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.code() == Some(2) {
        println!("skipped: {said}");
        return;
    }
    assert!(ran.status.success(), "{said}");
    for (i, (name, from, _)) in DEFECTS.iter().enumerate() {
        assert!(SOUND.contains(from), "{name}");
        let ran = under_oclgrind(&i.to_string());
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && said.contains("oclgrind reports:"), "{name}: {said}");
        let word = ["race", "nvalid write"][i];
        assert!(said.contains(word), "{name}: {said}");
    }
}

#[test]
#[ignore = "the test above runs it under oclgrind"]
fn run_the_kernel() {
    let defect = std::env::var("HALITE_PLANT").ok().and_then(|n| n.parse::<usize>().ok());
    let wgsl = match defect {
        Some(i) => SOUND.replace(DEFECTS[i].1, DEFECTS[i].2),
        None => SOUND.into(),
    };
    let options = DeviceOptions::default();
    let engine = Engine::new(OpenClDriver::new(0, &options).unwrap(), &options).unwrap();
    assert!(engine.info().driver.starts_with("Oclgrind"), "{}", engine.info().driver);
    let words: Vec<u8> = (0..64u32).flat_map(u32::to_le_bytes).collect();
    let (x, y) = (engine.allocate(256, 0).unwrap(), engine.allocate(256, 0).unwrap());
    engine.upload(StreamId(0), &x, 0, &words).unwrap();
    // SAFETY: on oclgrind, which catches what the planted defects do.
    let kernel = unsafe { engine.compile("reverse", &wgsl) }.unwrap();
    engine.dispatch(&kernel, &[], &[(&x, 0, 256), (&y, 0, 256)], [1; 3]).unwrap();
    let found: Vec<u32> = engine.download(StreamId(0), &y, 0, 256).unwrap().wait_as().unwrap();
    if defect.is_none() {
        assert!(found.iter().rev().copied().eq(0..64));
    }
}
