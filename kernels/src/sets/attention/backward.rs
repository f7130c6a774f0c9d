//! Attention's gradient, without atomics: one kernel goes by query rows for `dq`, one by key rows for `dk` and
//! `dv`.

use super::{Target, WIDTH, apart, each, sequences};
use crate::{Access, Lowering, Variant, template};
use halite_hal::{Attention, DType, DeviceInfo, Op, OpDesc, Result};

pub(super) fn variants(_desc: &OpDesc, _info: &DeviceInfo) -> Vec<Variant> {
    vec![Variant::named("rows")]
}

pub(super) fn lower(op: &Op, a: Attention, _variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
    let [grad, q, k, v, o, lse, seqs] = [0, 1, 2, 3, 4, 5, 6].map(|i| &op.inputs[i]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| q.shape[axis]);
    let [kv, kv_heads, dv] = [0, 1, 2].map(|axis| v.shape[axis]);
    let [dq, dk, dv_grad] = [
        Target::new(&op.outputs[0], Access::Pairs, to)?,
        Target::new(&op.outputs[1], Access::Pairs, to)?,
        Target::new(&op.outputs[2], Access::Pairs, to)?,
    ];
    let group = apart(to.info);
    let row = to.scratch(DType::F32, &[tokens, heads, 2])?;
    let launch = to
        .launch(template!("attention_delta.wgsl"))
        .input("grad", grad)
        .input("o", o)
        .input("lse", lse)
        .output("row", &row)
        .param("heads", heads)
        .param("dv", dv);
    each(launch, tokens * heads, group)?;

    let parts = d.div_ceil(WIDTH);
    let launch = to
        .launch(template!("attention_dq_rows.wgsl"))
        .input("q", q)
        .input("k", k)
        .input("v", v)
        .input("grad", grad)
        .input("row", &row);
    let launch = sequences(launch, a, [q, k, seqs])
        .output("dq", &dq.written)
        .literal("width", WIDTH as u32)
        .param("parts", parts)
        .param("heads", heads)
        .param("share", heads / kv_heads)
        .param("d", d)
        .param("dv", dv);
    each(launch, tokens * heads * parts, group)?;

    let parts = d.max(dv).div_ceil(WIDTH);
    let launch = to
        .launch(template!("attention_dkv_rows.wgsl"))
        .input("q", q)
        .input("k", k)
        .input("v", v)
        .input("grad", grad)
        .input("row", &row);
    let launch = sequences(launch, a, [q, k, seqs])
        .output("dk", &dk.written)
        .output("dv", &dv_grad.written)
        .literal("width", WIDTH as u32)
        .param("parts", parts)
        .param("kv_heads", kv_heads)
        .param("share", heads / kv_heads)
        .param("d", d)
        .param("dv", dv);
    each(launch, kv * kv_heads * parts, group)?;

    dq.finish(to)?;
    dk.finish(to)?;
    dv_grad.finish(to)
}
