//! Attention over a prompt and of one decoded token, its gradient, and rotary embedding.

use super::{Case, Operands, Sizes};
use halite_hal::{Attention, DType, Op};

pub fn cases(s: &Sizes, cases: &mut Vec<Case>) {
    let (tokens, d) = (s.tokens, s.head_dim);
    let attention = Attention::causal(1.0 / (d as f32).sqrt());
    let (q_shape, kv_shape) = ([tokens, s.heads, d], [tokens, s.kv_heads, d]);
    let heads = format!("{}/{} heads of {d}", s.heads, s.kv_heads);
    // Pairs of a query and a key that it sees.
    let pairs = tokens * (tokens + 1) / 2;
    let seqs = [0, tokens as i32, 0, tokens as i32];
    for dtype in DType::FLOATS {
        let mut o = Operands::new();
        let (q, k, v) = (o.normal(dtype, &q_shape), o.normal(dtype, &kv_shape), o.normal(dtype, &kv_shape));
        let seqs = o.ints(&[1, 4], &seqs);
        let (y, lse) = (o.zeros(dtype, &q_shape), o.zeros(DType::F32, &q_shape[..2]));
        let op = Op::attention(attention, q, k, v, seqs, y, lse);
        cases.push(o.case(op, format!("prefill {tokens}, {heads}"), dtype, 4 * s.heads * d * pairs));

        let mut o = Operands::new();
        let shape = [s.context, s.kv_heads, d];
        let (q, k, v) = (o.normal(dtype, &[1, s.heads, d]), o.normal(dtype, &shape), o.normal(dtype, &shape));
        let seqs = o.ints(&[1, 4], &[0, 1, 0, s.context as i32]);
        let (y, lse) = (o.zeros(dtype, &[1, s.heads, d]), o.zeros(DType::F32, &[1, s.heads]));
        let op = Op::attention(attention, q, k, v, seqs, y, lse);
        let flops = 4 * s.heads * d * s.context;
        cases.push(o.case(op, format!("decode over {}, {heads}", s.context), dtype, flops));

        let mut o = Operands::new();
        let angles = [tokens, d / 2];
        let x = o.normal(dtype, &q_shape);
        let (cos, sin) = (o.normal(DType::F32, &angles), o.normal(DType::F32, &angles));
        let index = o.ints(&[tokens], &(0..tokens as i32).collect::<Vec<_>>());
        let y = o.zeros(dtype, &q_shape);
        let label = format!("{tokens}x{}x{d}", s.heads);
        cases.push(o.case(Op::rope(x, cos, sin, index, y), label, dtype, 3 * tokens * s.heads * d));
    }
    for dtype in [DType::F32, DType::BF16] {
        let mut o = Operands::new();
        let dy = o.normal(dtype, &q_shape);
        let (q, k, v) = (o.normal(dtype, &q_shape), o.normal(dtype, &kv_shape), o.normal(dtype, &kv_shape));
        // Any output and sums do: the work is the same.
        let (y, lse) = (o.normal(dtype, &q_shape), o.zeros(DType::F32, &q_shape[..2]));
        let seqs = o.ints(&[1, 4], &seqs);
        let (dq, dk, dv) = (o.zeros(dtype, &q_shape), o.zeros(dtype, &kv_shape), o.zeros(dtype, &kv_shape));
        let op = Op::attention_backward(attention, [dy, q, k, v, y, lse, seqs], [dq, dk, dv]);
        // Five products where the forward pass has two.
        let flops = 10 * s.heads * d * pairs;
        cases.push(o.case(op, format!("{tokens}, {heads}"), dtype, flops));
    }
}
