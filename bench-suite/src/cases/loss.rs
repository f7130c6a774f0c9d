//! Cross-entropy over a vocabulary.

use super::{Case, Operands, Sizes};
use halite_hal::{DType, Op};

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    let (n, vocab) = (s.tokens, s.vocab);
    let label = format!("{n}x{vocab}");
    let targets: Vec<i32> = (0..n).map(|i| (i * 31 % vocab) as i32).collect();
    for dtype in DType::FLOATS {
        let mut o = Operands::new();
        let (logits, target) = (o.normal(dtype, &[n, vocab]), o.ints(&[n], &targets));
        let (loss, lse) = (o.zeros(DType::F32, &[n]), o.zeros(DType::F32, &[n]));
        cases.push(o.case(Op::cross_entropy(logits, target, loss, lse), &label, dtype, 3 * n * vocab));

        let mut o = Operands::new();
        let (logits, target) = (o.normal(dtype, &[n, vocab]), o.ints(&[n], &targets));
        let (lse, dloss) = (o.floats(&vec![(vocab as f32).ln(); n]), o.floats(&vec![1.0 / n as f32; n]));
        let dlogits = o.zeros(dtype, &[n, vocab]);
        let op = Op::cross_entropy_backward(logits, target, lse, dloss, dlogits);
        cases.push(o.case(op, &label, dtype, 3 * n * vocab));
    }
}
