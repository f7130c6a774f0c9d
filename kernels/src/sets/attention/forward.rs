//! Attention itself.

use super::{Target, WIDTH, apart, each, sequences};
use crate::{Access, Lowering, Variant, template};
use halite_hal::{Attention, DeviceInfo, Op, OpDesc, Result};

pub(super) fn variants(_desc: &OpDesc, _info: &DeviceInfo) -> Vec<Variant> {
    vec![Variant::named("rows")]
}

pub(super) fn lower(op: &Op, a: Attention, _variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
    let (q, k, v, seqs) = (&op.inputs[0], &op.inputs[1], &op.inputs[2], &op.inputs[3]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| q.shape[axis]);
    let dv = v.shape[2];
    let o = Target::new(&op.outputs[0], Access::Pairs, to)?;
    let parts = dv.div_ceil(WIDTH).max(1);
    let group = apart(to.info);
    let launch = to.launch(template!("attention_rows.wgsl")).input("q", q).input("k", k).input("v", v);
    let launch = sequences(launch, a, [q, k, seqs])
        .output("o", &o.written)
        .output("lse", &op.outputs[1])
        .literal("width", WIDTH as u32)
        .param("parts", parts)
        .param("heads", heads)
        .param("share", heads / k.shape[1])
        .param("d", d)
        .param("dv", dv);
    each(launch, tokens * heads * parts, group)?;
    o.finish(to)
}
