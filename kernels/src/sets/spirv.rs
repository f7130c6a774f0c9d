//! Whether the SPIR-V of every kernel passes the Khronos validator: all variants of all ops that the conformance
//! suite tries, on devices of every profile.

use super::*;
use crate::{Lowering, Traits};
use halite_hal::conformance::{self, Options};
use halite_hal::devices::NullDevice;
use halite_hal::{Device, DeviceInfo, DeviceKind, Op, Profile, Result, StreamId};
use std::collections::HashSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A device that keeps the ops that it is given, and does nothing.
#[derive(Debug)]
struct Collector {
    inner: NullDevice,
    ops: Mutex<Vec<Op>>,
}

impl Device for Collector {
    halite_hal::forward_to!(inner; info, supports, allocate, create_stream, upload, download, copy);
    halite_hal::forward_to!(inner; record_event, wait_event, synchronize, memory);

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        self.inner.submit(stream, ops)?;
        self.ops.lock().unwrap().extend_from_slice(ops);
        Ok(())
    }
}

/// The ops of the suite's cases; every `n`th from the `i`th on, as `HALITE_SLICE=i/n` says.
fn ops() -> Vec<Op> {
    let mut options = Options::default();
    options.slice = Some(crate::testing::slice());
    let inner = NullDevice::new(DeviceInfo::new("test", 0, "test", DeviceKind::DiscreteGpu));
    let collector = Collector { inner, ops: Mutex::default() };
    conformance::run(&collector, &options);
    collector.ops.into_inner().unwrap()
}

/// Devices whose kernels differ: without limits, on a processor, and of every profile.
fn infos() -> Vec<DeviceInfo> {
    let mut full = DeviceInfo::new("test", 0, "test", DeviceKind::DiscreteGpu);
    full.f16 = true;
    full.subgroup_sizes = Some((32, 32));
    let mut processor = full.clone();
    processor.kind = DeviceKind::Software;
    let restricted = Profile::ALL.map(|p| {
        let mut info = full.clone();
        p.apply(&mut info);
        info
    });
    [full, processor].into_iter().chain(restricted).collect()
}

fn validate(words: &[u32]) -> std::result::Result<(), String> {
    let spawned = Command::new("spirv-val")
        .args(["--target-env", "vulkan1.1", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.map_err(|e| e.to_string())?;
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    child.stdin.take().expect("piped").write_all(&bytes).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
    }
}

#[test]
fn spirv_of_every_kernel_passes_the_validator() {
    if Command::new("spirv-val").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: spirv-val isn't here (Debian/Ubuntu: spirv-tools)");
        return;
    }
    // A module that is no module is refused: the validator can tell.
    assert!(validate(&[0x0723_0203, 0x0001_0300, 0, 0, 0]).is_err());
    let mut ops = ops();
    ops.retain(|op| op.outputs.iter().any(|t| t.elems() > 0));
    let mut seen = HashSet::new();
    for info in infos() {
        for op in &ops {
            for set in all() {
                for variant in set.variants(&op.desc(), &info) {
                    let mut lowering = Lowering::new(&info);
                    set.lower(op, &variant, &mut lowering).unwrap_or_else(|e| panic!("{}: {e}", op.desc()));
                    for launch in lowering.finish().launches {
                        let kernel = launch.source.render(&Traits::new()).unwrap();
                        if !seen.insert(kernel.text.clone()) {
                            continue;
                        }
                        let words = kernel.parse().and_then(|p| p.spirv());
                        let words = words.unwrap_or_else(|e| panic!("{e}\n{}", kernel.text));
                        validate(&words).unwrap_or_else(|e| panic!("{variant}: {e}\n{}", kernel.text));
                    }
                }
            }
        }
    }
    println!("{} modules", seen.len());
    assert!(seen.len() > 50);
}
