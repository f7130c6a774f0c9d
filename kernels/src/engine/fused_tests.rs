//! Which ops that follow each other are done at once, and how their kernels translate.

use super::fake::Fake;
use super::*;
use crate::Traits;
use halite_hal::{Attention, BinaryFn, DType, Device, DeviceInfo, DeviceKind, Router, ScoreFn};

/// A number for each tensor.
#[derive(Default)]
struct Slots(u32);

impl Slots {
    fn of(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        self.0 += 1;
        TensorRef::slot(self.0, dtype, shape)
    }

    fn floats(&mut self, shape: &[usize]) -> TensorRef {
        self.of(DType::F32, shape)
    }
}

/// A layer with experts, for one token: what is done at once lies together.
fn layer() -> Vec<Vec<Op>> {
    let mut s = Slots::default();
    let (h, n, k) = (32, 8, 2);
    let x = s.floats(&[1, h]);
    let weight = |s: &mut Slots, out| s.floats(&[out, h]).transpose(0, 1);
    let mut parts = Vec::new();
    let qkv = [32, 16, 16].map(|out| s.floats(&[1, out]));
    parts.push(qkv.iter().map(|y| Op::matmul(x.clone(), weight(&mut s, y.shape[1]), y.clone())).collect());
    let [q, key, value] = qkv;
    let (cos, sin, at) = (s.floats(&[9, 4]), s.floats(&[9, 4]), s.of(DType::I32, &[1]));
    let heads = |t: &TensorRef| t.clone().reshape(&[1, t.shape[1] / 8, 8]);
    let [q_out, k_out] = [&q, &key].map(|t| s.floats(&heads(t).shape));
    let [keys, values] = [0; 2].map(|_| s.floats(&[9, 16]));
    let rope =
        |x: &TensorRef, y: &TensorRef| Op::rope(heads(x), cos.clone(), sin.clone(), at.clone(), y.clone());
    parts.push(vec![
        rope(&q, &q_out),
        rope(&key, &k_out),
        Op::scatter(k_out.clone().reshape(&[1, 16]), at.clone(), keys.clone(), false),
        Op::scatter(value, at.clone(), values.clone(), false),
    ]);
    let cache = |t: TensorRef| t.reshape(&[9, 2, 8]);
    let (seqs, o, lse) = (s.of(DType::I32, &[1, 4]), s.floats(&[1, 4, 8]), s.floats(&[1, 4]));
    let attention =
        Op::attention(Attention::causal(0.3), q_out, cache(keys), cache(values), seqs, o.clone(), lse);
    parts.push(vec![attention]);
    let attended = s.floats(&[1, h]);
    parts.push(vec![Op::matmul(o.reshape(&[1, h]), weight(&mut s, h), attended.clone())]);
    let (residual, normed) = (s.floats(&[1, h]), s.floats(&[1, h]));
    let norm =
        |s: &mut Slots, x: TensorRef, y: TensorRef| Op::rms_norm(x, s.floats(&[h]), y, s.floats(&[1]), 1e-5);
    let add = |a: &TensorRef, b: TensorRef, y: &TensorRef| Op::binary(BinaryFn::Add, a.clone(), b, y.clone());
    parts.push(vec![add(&x, attended, &residual), norm(&mut s, residual.clone(), normed.clone())]);
    let logits = s.floats(&[1, n]);
    parts.push(vec![Op::matmul(normed.clone(), weight(&mut s, n), logits.clone())]);
    let [chosen, positions] = [0; 2].map(|_| s.of(DType::I32, &[1, k]));
    let (offsets, rows) = (s.of(DType::I32, &[n + 1]), s.of(DType::I32, &[k]));
    let (weights, to_experts) = (s.floats(&[1, k]), s.floats(&[k, h]));
    parts.push(vec![
        Op::router(Router::new(ScoreFn::Softmax, k), logits, None, chosen.clone(), weights.clone()),
        Op::expert_permutation(chosen, offsets.clone(), rows.clone(), positions.clone()),
        Op::embedding(normed, rows, to_experts.clone()),
    ]);
    let [gate, up, inner, down] = [0; 4].map(|_| s.floats(&[k, h]));
    let grouped = |s: &mut Slots, a: &TensorRef, y: &TensorRef| {
        let w = s.floats(&[n, h, h]).transpose(1, 2);
        Op::grouped_matmul(a.clone(), w, offsets.clone(), None, y.clone(), false)
    };
    parts.push(vec![
        grouped(&mut s, &to_experts, &gate),
        grouped(&mut s, &to_experts, &up),
        Op::swiglu(gate, up, inner.clone()),
    ]);
    parts.push(vec![grouped(&mut s, &inner, &down)]);
    let (combined, out, y) = (s.floats(&[1, h]), s.floats(&[1, h]), s.floats(&[1, h]));
    parts.push(vec![
        Op::combine(down, positions, Some(weights), combined.clone(), false),
        add(&residual, combined, &out),
        norm(&mut s, out.clone(), y),
    ]);
    parts
}

/// The sizes of what a device does at once.
fn sizes(d: &Engine<Fake>, mut ops: &[Op]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while !ops.is_empty() {
        sizes.push(d.fuses(ops));
        ops = &ops[d.fuses(ops)..];
    }
    sizes
}

fn engine(change: impl FnOnce(&mut DeviceInfo)) -> Engine<Fake> {
    let mut fake = Fake::new(1 << 30, 1 << 28);
    change(&mut fake.info);
    Engine::new(fake, &DeviceOptions::default()).unwrap()
}

#[test]
fn a_decoded_layer_takes_few_launches() {
    let parts = layer();
    let ops = parts.concat();
    assert_eq!(ops.len(), 22);
    let d = engine(|_| ());
    assert_eq!(sizes(&d, &ops), parts.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(d.ready(&ops).unwrap().0.len(), parts.len());
    // Where kernels are given few buffers, what needs more is done in parts.
    let sizes = sizes(&engine(|info| info.max_bindings = 8), &ops);
    assert_eq!(sizes.iter().sum::<usize>(), ops.len());
    assert!(sizes.contains(&3) && !sizes.contains(&4), "{sizes:?}");
}

#[test]
fn what_shares_memory_or_is_done_elsewhere_is_not_fused() {
    let parts = layer();
    let d = engine(|_| ());
    for part in parts.iter().filter(|part| part.len() > 1) {
        // The last op writes over what the first one reads.
        let mut ops = part.clone();
        let last = ops.len() - 1;
        ops[last].outputs[0].source = ops[0].inputs[0].source.clone();
        assert!(d.fuses(&ops) < part.len(), "{:?}", ops[0].kind.name());
        // Nothing is left of an empty extent.
        ops = part.clone();
        ops[0].outputs[0].shape.dims_mut()[0] = 0;
        assert_eq!(d.fuses(&ops[..2]), 1, "{:?}", ops[0].kind.name());
    }
    #[derive(Debug)]
    struct Norms;
    impl KernelSet for Norms {
        fn variants(&self, desc: &OpDesc, _: &DeviceInfo) -> Vec<Variant> {
            if desc.kind.name() == "rms_norm" { vec![Variant::ONLY] } else { Vec::new() }
        }
        fn lower(&self, _: &Op, _: &Variant, _: &mut Lowering<'_>) -> Result<()> {
            Ok(())
        }
    }
    d.register(Arc::new(Norms));
    assert_eq!(d.fuses(&parts[4]), 1);
    assert_eq!(d.fuses(&parts[0]), 3);
}

#[test]
fn fused_kernels_translate_for_every_interface() {
    let mut wide = Traits::new();
    wide.wide_params = true;
    for change in [|_: &mut DeviceInfo| (), |info: &mut DeviceInfo| info.kind = DeviceKind::DiscreteGpu] {
        let d = engine(change);
        for ready in d.ready(&layer().concat()).unwrap().0 {
            for traits in [Traits::new(), Traits::tracked(), wide] {
                let kernel = ready.launch.source.render(&traits).unwrap();
                let parsed = kernel.parse().unwrap_or_else(|e| panic!("{e}\n{}", kernel.text));
                parsed.spirv().unwrap_or_else(|e| panic!("{e}\n{}", kernel.text));
                assert_eq!(kernel.wide_params, traits.wide_params);
            }
        }
    }
}

#[test]
fn gate_and_up_of_many_rows_take_one_launch_on_tensor_cores() {
    let d = engine(|info| *info = crate::sets::tests::cuda());
    let gated = |by: [bool; 2], inner: DType| {
        let mut s = Slots::default();
        let x = s.of(DType::BF16, &[300, 64]);
        let [gate, up] = by.map(|rows| {
            let weights = match rows {
                true => s.of(DType::BF16, &[64, 96]),
                false => s.of(DType::BF16, &[96, 64]).transpose(0, 1),
            };
            Op::matmul(x.clone(), weights, s.of(DType::BF16, &[300, 96]))
        });
        let [g, u] = [&gate, &up].map(|op| op.outputs[0].clone());
        let swiglu = Op::swiglu(g, u, s.of(inner, &[300, 96]));
        d.fuses(&[gate, up, swiglu])
    };
    assert_eq!(gated([false, false], DType::BF16), 3);
    assert_eq!(gated([true, true], DType::F32), 3);
    // Weights that lie differently, which tiles are not copied for.
    assert_eq!(gated([true, false], DType::BF16), 1);
}

#[test]
fn steps_of_many_tensors_take_one_launch_on_cuda() {
    use halite_hal::AdamW;
    let mut s = Slots::default();
    let (hyper, factor) = (s.floats(&[3]), s.floats(&[1]));
    let mut step = |dtype, beta1, decay, factor: &TensorRef| {
        let state = [s.of(dtype, &[3, 5]), s.floats(&[3, 5]), s.floats(&[3, 5])];
        let grad = s.floats(&[3, 5]);
        Op::adamw(AdamW::new(beta1, 0.95, 1e-8, decay), grad, hyper.clone(), factor.clone(), state)
    };
    let mut ops: Vec<Op> =
        (0..20).map(|i| step(DType::F32, 0.9, if i % 2 == 0 { 0.1 } else { 0.0 }, &factor)).collect();
    let cuda = engine(|info| *info = crate::sets::tests::cuda());
    assert_eq!(sizes(&cuda, &ops), [16, 4]);
    assert_eq!(sizes(&cuda, &ops[1..]), [16, 2, 1]);
    assert_eq!(sizes(&engine(|_| ()), &ops), [1; 20]);
    // What differs in more than tensors and decay is of another launch.
    ops[3] = step(DType::BF16, 0.9, 0.1, &factor);
    ops[6] = step(DType::F32, 0.8, 0.1, &factor);
    ops[8] = step(DType::F32, 0.9, 0.1, &factor.clone().with_offset(1));
    ops[10].outputs[0] = ops[9].outputs[0].clone();
    assert_eq!(sizes(&cuda, &ops), [2, 1, 1, 2, 1, 1, 1, 1, 8, 2]);
}
