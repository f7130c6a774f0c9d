//! Values that are read more than once, and gradients that take the place of values.

use super::super::Var;
use super::{check, check_with, leaves};
use halite_hal::{Attention, GroupScore, Router, ScoreFn};

#[test]
fn residuals() {
    check(&[&[3, 4], &[4, 4], &[4]], &|_, t, v| {
        let n = t.rms_norm(v[0], v[2], 1e-3);
        let y = t.linear(n, v[1], None);
        let x = t.add(v[0], y);
        let n = t.rms_norm(x, v[2], 1e-3);
        let y = t.linear(n, v[1], None);
        let x = t.add(x, y);
        t.add(x, x)
    });
}

#[test]
fn a_tied_embedding() {
    check(&[&[5, 4], &[4]], &|lab, t, v| {
        let x = t.embedding(v[0], lab.int(&[3], &[1, 4, 1]));
        let x = t.rms_norm(x, v[1], 1e-3);
        let logits = t.linear(x, v[0], None);
        t.cross_entropy(logits, lab.int(&[3], &[4, 0, -100]))
    });
}

#[test]
fn queries_keys_and_values_of_one_input() {
    check(&[&[4, 3], &[4, 3], &[2, 3], &[2, 3], &[4]], &|lab, t, v| {
        let q = t.linear(v[0], v[1], Some(v[4]));
        let k = t.linear(v[0], v[2], None);
        let w = t.linear(v[0], v[3], None);
        let [q, k, w] = [(q, 2), (k, 1), (w, 1)].map(|(x, heads)| t.reshape(x, &[4, heads, 2]));
        let seqs = lab.int(&[2, 4], &[0, 3, 0, 3, 3, 1, 3, 1]);
        let o = t.attention(Attention::causal(0.7), [q, k, w], seqs, None);
        t.reshape(o, &[4, 4])
    });
    check(&[&[3, 2, 2]], &|lab, t, v| {
        let seqs = lab.int(&[1, 4], &[0, 3, 0, 3]);
        t.attention(Attention::causal(0.7), [v[0]; 3], seqs, None)
    });
}

#[test]
fn a_gate_that_something_else_reads_is_kept() {
    for other in 0..4 {
        check(&[&[3, 4], &[4, 4], &[4, 4]], &|_, t, v| {
            let gate = t.linear(v[0], v[1], None);
            let up = t.linear(v[0], v[2], None);
            let seen: Var = match other {
                0 => gate,
                1 => up,
                2 => t.reshape(gate, &[3, 4]),
                _ => t.swiglu(up, gate),
            };
            let early = t.linear(seen, v[1], None);
            let y = t.swiglu(gate, up);
            let late = t.linear(seen, v[2], None);
            let y = t.add(y, early);
            t.add(y, late)
        });
    }
}

#[test]
fn gates_that_are_views_of_one_value() {
    check(&[&[3, 4], &[4, 4]], &|_, t, v| {
        let x = t.linear(v[0], v[1], None);
        let gate = t.reshape(x, &[4, 3]);
        let up = t.reshape(x, &[4, 3]);
        t.swiglu(gate, up)
    });
    check(&[&[3, 4], &[4, 4]], &|_, t, v| {
        let gate = t.linear(v[0], v[1], None);
        let gate = t.reshape(gate, &[2, 6]);
        let up = t.linear(v[0], v[1], None);
        let up = t.reshape(up, &[2, 6]);
        t.swiglu(gate, up)
    });
}

/// The gradient of attention reads its result, which must not be written over before.
#[test]
fn attention_straight_into_a_gate_or_a_loss() {
    let attend = |lab: &super::Lab, t: &mut super::Tape, x: Var| {
        let seqs = lab.int(&[1, 4], &[0, 3, 0, 3]);
        t.attention(Attention::causal(0.7), [x; 3], seqs, None)
    };
    check(&[&[3, 2, 2], &[3, 2, 2]], &|lab, t, v| {
        let gate = attend(lab, t, v[0]);
        let up = t.add(v[1], v[1]);
        t.swiglu(gate, up)
    });
    check(&[&[3, 2, 2]], &|lab, t, v| {
        let o = attend(lab, t, v[0]);
        let logits = t.reshape(o, &[3, 4]);
        t.cross_entropy(logits, lab.int(&[3], &[3, 0, 2]))
    });
}

#[test]
fn logits_that_something_else_reads_are_kept() {
    check(&[&[3, 4], &[5, 4], &[3, 5]], &|lab, t, v| {
        let logits = t.linear(v[0], v[1], None);
        let again = t.add(logits, v[2]);
        let targets = lab.int(&[3], &[4, -100, 1]);
        let a = t.cross_entropy(logits, targets.clone());
        let b = t.cross_entropy(again, targets);
        t.add(a, b)
    });
}

#[test]
fn one_value_reshaped_in_two_ways() {
    check(&[&[4, 6], &[6, 6], &[3], &[2]], &|_, t, v| {
        let x = t.linear(v[0], v[1], None);
        let a = t.reshape(x, &[8, 3]);
        let a = t.rms_norm(a, v[2], 1e-3);
        let a = t.reshape(a, &[4, 6]);
        let b = t.reshape(x, &[12, 2]);
        let b = t.rms_norm(b, v[3], 1e-3);
        let b = t.reshape(b, &[4, 6]);
        let y = t.add(a, b);
        t.add(y, x)
    });
}

#[test]
fn a_parameter_used_by_many_ops() {
    check(&[&[4, 4], &[4]], &|lab, t, v| {
        let n = t.rms_norm(v[0], v[1], 1e-3);
        let x = t.linear(n, v[0], Some(v[1]));
        let x = t.add(x, v[0]);
        let e = t.embedding(v[0], lab.int(&[4], &[0, 1, 1, 3]));
        let flat = t.reshape(v[0], &[4, 2, 2]);
        let flat = t.reshape(flat, &[4, 4]);
        let x = t.swiglu(x, flat);
        let x = t.add(x, e);
        t.linear(v[0], x, Some(v[1]))
    });
}

/// A value that gets its first gradient as a share of another's, and then contributions of its own.
#[test]
fn shared_gradients_are_not_written_over() {
    check(&[&[3, 4], &[4, 4], &[4]], &|lab, t, v| {
        let x = t.linear(v[0], v[1], None);
        let y = t.rms_norm(x, v[2], 1e-3);
        let picked = t.embedding(x, lab.int(&[3], &[2, 2, 0]));
        let z = t.linear(x, v[1], None);
        let s = t.add(y, x);
        let s = t.add(s, picked);
        let s = t.add(z, s);
        t.add(x, s)
    });
}

#[test]
fn a_layer_of_experts_with_everything() {
    let router = Router::new(ScoreFn::Sigmoid, 2).groups(3, 2, GroupScore::SumTop2).bias(true);
    for kind in [
        router.normalize(true).scale(2.5),
        Router::new(ScoreFn::Softmax, 3).normalize(true),
        Router::new(ScoreFn::Softmax, 1),
    ] {
        // Hidden 3, experts 6 of width 2, a shared expert of width 4.
        let shapes: [&[usize]; 8] =
            [&[4, 3], &[6, 3], &[6, 2, 3], &[6, 2, 3], &[6, 3, 2], &[4, 3], &[4, 3], &[3, 4]];
        check_with(
            leaves(8, &shapes),
            &|lab, t, v| {
                let bias = lab.float(&[6], &[0.5, -0.5, 0.25, 0.0, -0.25, 0.5]);
                let logits = t.linear(v[0], v[1], None);
                let routing = t.route(kind, logits, kind.bias.then_some(bias));
                let rows = t.permute(v[0], &routing);
                let gate = t.grouped_linear(rows, v[2], None, &routing);
                let up = t.grouped_linear(rows, v[3], None, &routing);
                let y = t.swiglu(gate, up);
                let y = t.grouped_linear(y, v[4], None, &routing);
                let y = t.combine(y, &routing);
                let gate = t.linear(v[0], v[5], None);
                let up = t.linear(v[0], v[6], None);
                let s = t.swiglu(gate, up);
                let s = t.linear(s, v[7], None);
                let y = t.add(y, s);
                t.add(v[0], y)
            },
            &|_| 0.0,
        );
    }
}

#[test]
fn nothing_flows_from_constants_or_to_unused_leaves() {
    let lab = super::Lab { device: halite_hal::reference::ReferenceDevice::new() };
    let x = lab.float(&[2], &[1.0, 2.0]);
    let mut tape = super::Tape::new();
    let c = tape.constant(x.clone());
    let unused = tape.input(x.clone());
    let p = tape.input(x.clone());
    let fixed = tape.swiglu(c, c);
    let y = tape.add(p, fixed);
    let ops = tape.graph.ops.len();
    tape.backward(y, x);
    // The gradient of a sum is shared, not copied.
    assert_eq!(tape.graph.ops.len(), ops);
    assert!(tape.gradient(c).is_none() && tape.gradient(unused).is_none());
    assert!(tape.gradient(p).is_some());
}
