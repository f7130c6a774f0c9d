//! Cross-entropy.

use crate::conformance::case::{Cases, Value};
use crate::conformance::data::ints;
use crate::reference::{Array, eval};
use crate::{DType, DType::*, OpKind};

/// Targets of which some are ignored.
fn targets(c: &mut Cases, n: usize, vocab: usize) -> Array {
    c.data.map(I32, &[n], |d| match d.below(5) {
        0 => [-1.0, -100.0, vocab as f64, f64::from(i32::MAX)][d.below(4)],
        _ => d.below(vocab.max(1)) as f64,
    })
}

/// Rows, vocabulary, scale of the logits.
const SIZES: [(usize, usize, f64); 9] = [
    (1, 1, 1.0),
    (0, 7, 1.0),
    (3, 2, 5.0),
    (5, 100, 1e4),
    (9, 31, 0.0),
    (2, 32_003, 3.0),
    (2, 32_003, 1e4),
    (129, 17, 30.0),
    (1, 70_001, 0.0),
];

pub fn cross_entropy(c: &mut Cases) {
    let outputs = |c: &mut Cases, n: usize| vec![c.out(F32, &[n]), c.out(F32, &[n])];
    for dtype in DType::FLOATS {
        let logits = c.data.normal(dtype, &[6, 41], 4.0).into();
        let target = ints(&[6], &[0, 40, -1, 41, -100, 7]).into();
        let y = outputs(c, 6);
        c.all("cross_entropy", OpKind::CrossEntropy, vec![logits, target], y);
        for (n, vocab, scale) in SIZES {
            let logits = c.data.normal(dtype, &[n, vocab], scale).into();
            let target = targets(c, n, vocab).into();
            let y = outputs(c, n);
            c.add("cross_entropy", OpKind::CrossEntropy, vec![logits, target], y);
        }
    }
}

pub fn cross_entropy_backward(c: &mut Cases) {
    let operands = |c: &mut Cases, dtype: DType, n: usize, vocab: usize, scale: f64| -> Vec<Value> {
        let (logits, target) = (c.data.normal(dtype, &[n, vocab], scale), targets(c, n, vocab));
        let mut y = [Array::full(F32, &[n], 0.0), Array::full(F32, &[n], 0.0)];
        eval(&OpKind::CrossEntropy, &[logits.clone(), target.clone()], &mut y);
        let [_, lse] = y;
        let dloss = c.data.normal(F32, &[n], 1.0);
        vec![logits.into(), target.into(), lse.rounded().into(), dloss.into()]
    };
    for [from, _, to] in super::TRIPLES {
        let x = operands(c, from, 6, 41, 4.0);
        let y = vec![c.out(to, &[6, 41])];
        c.all("cross_entropy_backward", OpKind::CrossEntropyBackward, x, y);
    }
    for dtype in DType::FLOATS {
        for (n, vocab, scale) in SIZES {
            let x = operands(c, dtype, n, vocab, scale);
            let y = vec![c.out(dtype, &[n, vocab])];
            c.add("cross_entropy_backward", OpKind::CrossEntropyBackward, x.clone(), y.clone());
            c.in_place("cross_entropy_backward", OpKind::CrossEntropyBackward, x, y);
        }
    }
}
