//! The backward ops against central differences of the forward ops.

use super::{Array, eval};
use crate::DType::{F32, I32};
use crate::philox::Normals;
use crate::{Attention, BinaryFn, GroupScore, OpKind, Router, ScoreFn, UnaryFn};

struct Draw(Normals);

impl Draw {
    fn new(stream: u32) -> Self {
        Draw(Normals::new(11, stream))
    }
    fn normal(&mut self, shape: &[usize]) -> Array {
        let n = shape.iter().product();
        Array::new(F32, shape, self.0.by_ref().take(n).collect())
    }
}

fn ints(shape: &[usize], values: &[i32]) -> Array {
    Array::new(I32, shape, values.iter().map(|&x| x.into()).collect())
}

fn run(kind: &OpKind, inputs: &[Array], outputs: &[Array]) -> Vec<Array> {
    let mut outputs = outputs.to_vec();
    eval(kind, inputs, &mut outputs);
    outputs
}

fn zeros(shape: &[usize]) -> Array {
    Array::full(F32, shape, 0.0)
}

/// Checks `gradient` of `Σ weights · output o` with respect to input `i`.
fn check(
    kind: &OpKind,
    inputs: &[Array],
    outputs: &[Array],
    o: usize,
    weights: &Array,
    i: usize,
    gradient: &Array,
) {
    let value = |x: &[Array]| -> f64 {
        run(kind, x, outputs)[o].data.iter().zip(&weights.data).map(|(y, w)| y * w).sum()
    };
    assert_eq!(gradient.data.len(), inputs[i].data.len());
    for e in 0..gradient.data.len() {
        let h = 1e-5;
        let mut moved = inputs.to_vec();
        moved[i].data[e] += h;
        let above = value(&moved);
        moved[i].data[e] -= 2.0 * h;
        let slope = (above - value(&moved)) / (2.0 * h);
        let got = gradient.data[e];
        assert!(
            (got - slope).abs() < 1e-7 * (1.0 + slope.abs()),
            "{} input {i}[{e}]: {got}, slope {slope}",
            kind.name()
        );
    }
}

#[test]
fn softmax() {
    let mut d = Draw::new(0);
    let (x, dy) = (d.normal(&[3, 5]), d.normal(&[3, 5]));
    let y = run(&OpKind::Softmax, std::slice::from_ref(&x), &[zeros(&[3, 5])]);
    let dx = run(&OpKind::SoftmaxBackward, &[y[0].clone(), dy.clone()], &[zeros(&[3, 5])]);
    check(&OpKind::Softmax, &[x], &[zeros(&[3, 5])], 0, &dy, 0, &dx[0]);
}

#[test]
fn rms_norm() {
    let mut d = Draw::new(1);
    let inputs = [d.normal(&[3, 5]), d.normal(&[5])];
    let dy = d.normal(&[3, 5]);
    let kind = OpKind::RmsNorm { eps: 0.1.into() };
    let outputs = [zeros(&[3, 5]), zeros(&[3])];
    let rstd = run(&kind, &inputs, &outputs).remove(1);
    let held = d.normal(&[5]);
    let backward = OpKind::RmsNormBackward { accumulate: true };
    let operands = [dy.clone(), inputs[0].clone(), inputs[1].clone(), rstd];
    let mut grads = run(&backward, &operands, &[zeros(&[3, 5]), held.clone()]);
    grads[1].data.iter_mut().zip(&held.data).for_each(|(g, h)| *g -= h);
    for (i, g) in grads.iter().enumerate() {
        check(&kind, &inputs, &outputs, 0, &dy, i, g);
    }
}

#[test]
fn swiglu() {
    let mut d = Draw::new(2);
    let [dy, gate, up] = [0; 3].map(|_| d.normal(&[2, 7]));
    let grads = run(
        &OpKind::SwiGluBackward,
        &[dy.clone(), gate.clone(), up.clone()],
        &[zeros(&[2, 7]), zeros(&[2, 7])],
    );
    for (i, g) in grads.iter().enumerate() {
        check(&OpKind::SwiGlu, &[gate.clone(), up.clone()], &[zeros(&[2, 7])], 0, &dy, i, g);
    }
}

#[test]
fn cross_entropy() {
    let mut d = Draw::new(3);
    let inputs = [d.normal(&[4, 6]), ints(&[4], &[5, 0, -1, 2])];
    let dloss = d.normal(&[4]);
    let outputs = [zeros(&[4]), zeros(&[4])];
    let lse = run(&OpKind::CrossEntropy, &inputs, &outputs).remove(1);
    let operands = [inputs[0].clone(), inputs[1].clone(), lse, dloss.clone()];
    let grad = run(&OpKind::CrossEntropyBackward, &operands, &[zeros(&[4, 6])]);
    check(&OpKind::CrossEntropy, &inputs, &outputs, 0, &dloss, 0, &grad[0]);
}

#[test]
fn rope_backwards_is_the_gradient() {
    let mut d = Draw::new(4);
    for interleaved in [false, true] {
        let angle = d.normal(&[6, 2]);
        let table = |f: fn(f64) -> f64| Array::new(F32, &[6, 2], angle.data.iter().map(|&x| f(x)).collect());
        let (cos, sin, index) = (table(f64::cos), table(f64::sin), ints(&[3], &[5, -2, 3]));
        let inputs = [d.normal(&[3, 2, 5]), cos.clone(), sin.clone(), index.clone()];
        let dy = d.normal(&[3, 2, 5]);
        let back = OpKind::Rope { inverse: true, interleaved };
        let dx = run(&back, &[dy.clone(), cos, sin, index], &[zeros(&[3, 2, 5])]);
        let kind = OpKind::Rope { inverse: false, interleaved };
        check(&kind, &inputs, &[zeros(&[3, 2, 5])], 0, &dy, 0, &dx[0]);
    }
}

#[test]
fn attention() {
    let mut d = Draw::new(5);
    let base = Attention::causal(0.4);
    for a in [base, base.full(), base.window(Some(2)), base.full().window(Some(2))] {
        let kind = OpKind::Attention(a);
        // Two sequences that share keys, one with fewer queries than keys, and rows of none.
        let seqs = ints(&[2, 4], &[1, 3, 0, 5, 4, 2, 3, 2]);
        let inputs = [d.normal(&[7, 4, 3]), d.normal(&[6, 2, 3]), d.normal(&[6, 2, 5]), seqs.clone()];
        let outputs = [zeros(&[7, 4, 5]), zeros(&[7, 4])];
        let grad = d.normal(&[7, 4, 5]);
        let [o, lse] = <[Array; 2]>::try_from(run(&kind, &inputs, &outputs)).unwrap();
        let [q, k, v, _] = inputs.clone();
        let held = [zeros(&q.shape), zeros(&k.shape), zeros(&v.shape)];
        let grads = run(&OpKind::AttentionBackward(a), &[grad.clone(), q, k, v, o, lse, seqs], &held);
        for (i, g) in grads.iter().enumerate() {
            check(&kind, &inputs, &outputs, 0, &grad, i, g);
        }
    }
}

#[test]
fn routing() {
    let mut d = Draw::new(6);
    for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
        for normalize in [false, true] {
            let r = Router::new(scores, 3).normalize(normalize).scale(1.5).groups(2, 1, GroupScore::SumTop2);
            let logits = d.normal(&[4, 8]);
            let outputs = [Array::full(I32, &[4, 3], 0.0), zeros(&[4, 3])];
            let experts = run(&OpKind::Router(r), std::slice::from_ref(&logits), &outputs).remove(0);
            let dw = d.normal(&[4, 3]);
            let grad =
                run(&OpKind::RouterBackward(r), &[logits.clone(), experts, dw.clone()], &[zeros(&[4, 8])]);
            check(&OpKind::Router(r), &[logits], &outputs, 1, &dw, 0, &grad[0]);
        }
    }
}

#[test]
fn combining() {
    let mut d = Draw::new(7);
    let positions = ints(&[3, 2], &[4, 0, -1, 2, 1, 9]);
    let inputs = [d.normal(&[5, 4]), positions.clone(), d.normal(&[3, 2])];
    let dy = d.normal(&[3, 4]);
    let operands = [dy.clone(), inputs[0].clone(), positions, inputs[2].clone()];
    let grads = run(&OpKind::CombineBackward, &operands, &[zeros(&[5, 4]), zeros(&[3, 2])]);
    let kind = OpKind::Combine { weighted: true, accumulate: false };
    check(&kind, &inputs, &[zeros(&[3, 4])], 0, &dy, 0, &grads[0]);
    check(&kind, &inputs, &[zeros(&[3, 4])], 0, &dy, 2, &grads[1]);
}

#[test]
fn grouped_matmul() {
    let mut d = Draw::new(8);
    let offsets = ints(&[4], &[0, 2, 2, 5]);
    let inputs = [d.normal(&[6, 3]), d.normal(&[3, 3, 4]), offsets.clone()];
    let dc = d.normal(&[6, 4]);
    let weight = OpKind::GroupedMatmulWeight { accumulate: false };
    let db = run(&weight, &[inputs[0].clone(), dc.clone(), offsets], &[zeros(&[3, 3, 4])]);
    let kind = OpKind::GroupedMatmul { accumulate: false, bias: false };
    check(&kind, &inputs, &[zeros(&[6, 4])], 0, &dc, 1, &db[0]);
}

/// The smallest examples by hand.
#[test]
fn by_hand() {
    let a = Array::new(F32, &[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let b = Array::new(F32, &[2, 1], vec![10.0, 1.0]);
    let bias = Array::new(F32, &[1], vec![0.5]);
    let held = Array::new(F32, &[2, 1], vec![100.0, 200.0]);
    let c = run(&OpKind::Matmul { accumulate: true, bias: true }, &[a.clone(), b, bias], &[held]);
    assert_eq!(c[0].data, [112.5, 234.5]);

    let experts = ints(&[2, 2], &[1, 0, 1, 7]);
    let empty = |shape: &[usize]| Array::full(I32, shape, 9.0);
    let out = run(
        &OpKind::ExpertPermutation { experts: 2 },
        &[experts],
        &[empty(&[3]), empty(&[4]), empty(&[2, 2])],
    );
    assert_eq!(out[0].data, [0.0, 1.0, 3.0]);
    assert_eq!(out[1].data, [0.0, 0.0, 1.0, -1.0]);
    assert_eq!(out[2].data, [1.0, 0.0, 2.0, -1.0]);

    // Groups {0, 1} and {2, 3}: the second has the best expert, the first the better sum of two.
    let logits = Array::new(F32, &[1, 4], vec![1.0, 1.0, 1.5, -9.0]);
    let outputs = [empty(&[1, 1]), zeros(&[1, 1])];
    for (score, chosen) in [(GroupScore::Max, 2.0), (GroupScore::SumTop2, 0.0)] {
        let r = Router::new(ScoreFn::Sigmoid, 1).groups(2, 1, score);
        assert_eq!(run(&OpKind::Router(r), std::slice::from_ref(&logits), &outputs)[0].data, [chosen]);
    }

    let y = run(
        &OpKind::Unary(UnaryFn::Affine { scale: 2.0.into(), shift: 1.0.into() }),
        std::slice::from_ref(&a),
        &[zeros(&[2, 2])],
    );
    assert_eq!(y[0].data, [3.0, 5.0, 7.0, 9.0]);
    let y = run(&OpKind::Binary(BinaryFn::Less), &[a.clone(), y[0].clone()], &[zeros(&[2, 2])]);
    assert_eq!(y[0].data, [1.0; 4]);

    // One step of AdamW from nothing moves by the learning rate against the sign.
    let hyper = Array::new(F32, &[3], vec![0.1, 0.5, 0.25]);
    let state = [zeros(&[2, 2]), zeros(&[2, 2]), zeros(&[2, 2])];
    let one = Array::full(F32, &[1], 1.0);
    let kind = OpKind::AdamW(crate::AdamW::new(0.5, 0.75, 0.0, 0.0));
    let out = run(&kind, &[a, hyper, one], &state);
    assert!(out[0].data.iter().all(|x| (x + 0.1).abs() < 1e-7), "{:?}", out[0].data);
}
