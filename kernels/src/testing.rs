//! What the tests of drivers have in common: a kernel that multiplies numbers, as each driver writes it, the commands
//! that run it, words in memory, parts of lists, and the conformance of each variant of an op.

use crate::{Command, Dispatch, Driver, Engine, Kernel, Language, Region, Variant};
use halite_hal::conformance::{Options, run};
use halite_hal::{Attention, DType, Op, OpDesc, TensorRef};
use std::sync::Arc;

/// The description of a kernel `y[i] = k · x[i]` with parameters `n` and `k`, bindings `x` and `y`, and workgroups of
/// four; `wgsl` may be empty where a driver is given a source of its own.
pub fn scale(wgsl: &str) -> Kernel {
    Kernel {
        name: "scale".into(),
        text: wgsl.into(),
        language: Language::Wgsl,
        dynamic_bytes: 0,
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

/// The part of a long list that tests take: every `n`th from the `i`th on, as `HALITE_SLICE=i/n` in the environment says.
///
/// # Panics
/// It says something else.
pub fn slice() -> (usize, usize) {
    let slice = std::env::var("HALITE_SLICE").unwrap_or_else(|_| "0/20".into());
    let parts = slice.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.expect("HALITE_SLICE is i/n")
}

/// Forces each variant of attention and of its gradient through every `step`th case of the conformance suite; see
/// [`variants_conform`].
///
/// # Panics
/// A variant fails a case.
pub fn attention_conforms<D: Driver>(device: &mut Engine<D>, turns: usize, step: usize) {
    for desc in [attention(), attention_backward()] {
        let variants = device.variants(&desc);
        variants_conform(device, variants, desc.kind.name(), turns, step);
    }
}

/// Forces each of these variants through every `step`th case of an op of the conformance suite. One variant in `turns`
/// takes its turn, as `HALITE_SLICE=i/n` in the environment says, for drivers take long to compile them; all do for
/// `0/1`.
///
/// # Panics
/// A variant fails a case.
pub fn variants_conform<D: Driver>(
    device: &mut Engine<D>,
    variants: Vec<Variant>,
    op: &str,
    turns: usize,
    step: usize,
) {
    let (turn, of) = slice();
    let variants = variants.into_iter().enumerate();
    for (i, variant) in variants.filter(|(i, _)| of == 1 || i % turns == turn % turns) {
        device.force_variant(Some(variant.to_string()));
        let mut options = Options::default();
        options.op = Some(op.into());
        options.slice = Some((i % step, step));
        let report = run(device, &options);
        println!("{variant}: {report}");
        assert!(report.passed() && report.ops[0].passed > 0, "{variant}: {report}");
    }
}

const Q: [usize; 3] = [2, 4, 32];
const KV: [usize; 3] = [4000, 2, 32];

fn f32s(slot: u32, shape: &[usize]) -> TensorRef {
    TensorRef::slot(slot, DType::F32, shape)
}

/// Attention of sizes that all variants can do.
fn attention() -> OpDesc {
    let [q, k, v, out] = [f32s(0, &Q), f32s(1, &KV), f32s(2, &KV), f32s(3, &Q)];
    let seqs = TensorRef::slot(7, DType::I32, &[2, 4]);
    Op::attention(Attention::causal(0.5), q, k, v, seqs, out, f32s(6, &[2, 4])).desc()
}

/// The gradient of [`attention`].
fn attention_backward() -> OpDesc {
    let [dout, q, k, v, out] = [f32s(5, &Q), f32s(0, &Q), f32s(1, &KV), f32s(2, &KV), f32s(3, &Q)];
    let seqs = TensorRef::slot(7, DType::I32, &[2, 4]);
    let inputs = [dout, q, k, v, out, f32s(6, &[2, 4]), seqs];
    Op::attention_backward(Attention::causal(0.5), inputs, [f32s(8, &Q), f32s(9, &KV), f32s(10, &KV)]).desc()
}
