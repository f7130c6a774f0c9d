//! What the tests of drivers have in common: a kernel that multiplies numbers, as each driver writes it, the commands
//! that run it, and words in memory.

use crate::{Command, Dispatch, Driver, Kernel, Region};
use std::sync::Arc;

/// The description of a kernel `y[i] = k · x[i]` with parameters `n` and `k`, bindings `x` and `y`, and workgroups of
/// four; `wgsl` may be empty where a driver is given a source of its own.
pub fn scale(wgsl: &str) -> Kernel {
    Kernel {
        name: "scale".into(),
        wgsl: wgsl.into(),
        bindings: 2,
        params: 2,
        wide_params: false,
        workgroup: [4, 1, 1],
        subgroup: None,
    }
}

/// A range of memory.
pub fn region<D: Driver>(memory: &Arc<D::Memory>, offset: u64, bytes: u64) -> Region<D> {
    Region { memory: memory.clone(), offset, bytes }
}

/// Runs the kernel of [`scale`] over all of `y`.
pub fn dispatch<D: Driver>(program: &Arc<D::Program>, k: u32, x: Region<D>, y: Region<D>) -> Command<D> {
    let n = (y.bytes / 4) as u32;
    Command::Dispatch(Dispatch {
        program: program.clone(),
        params: vec![n, k],
        bindings: vec![x, y],
        groups: [n.div_ceil(4), 1, 1],
        label: "the scaling".into(),
    })
}

/// Words as they are in memory.
pub fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// The first `n` words of memory.
///
/// # Panics
/// They can't be read.
pub fn words<D: Driver>(driver: &D, memory: &Arc<D::Memory>, n: u64) -> Vec<u32> {
    driver.download(memory, 0, 4 * n).unwrap().wait_as().unwrap()
}
