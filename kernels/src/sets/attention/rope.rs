//! Rotary embedding.

use super::Target;
use crate::{Access, Lowering, template};
use halite_hal::{Op, Result};

pub(super) fn lower(op: &Op, inverse: bool, interleaved: bool, to: &mut Lowering<'_>) -> Result<()> {
    let (x, cos, sin, index) = (&op.inputs[0], &op.inputs[1], &op.inputs[2], &op.inputs[3]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| x.shape[axis]);
    let half = cos.shape[1];
    // As many columns at a time as let each half start at a multiple.
    let step = match interleaved {
        true if half.is_multiple_of(2) => 4,
        true => 2,
        false => 1 << half.trailing_zeros().min(2),
    };
    let access = if step == 1 { Access::Single } else { Access::Pairs };
    let y = Target::new(&op.outputs[0], access, to)?;
    let turned = if interleaved { 2 * half / step } else { half / step };
    let units = turned + (d - 2 * half).div_ceil(step);
    let items = tokens * heads * units;
    let group = to.info.max_workgroup_size.min(64);
    // A lone invocation does the work of a group.
    let per = if group == 1 { 64 } else { 1 };
    to.launch(template!("rope.wgsl"))
        .input("x", x)
        .input("cos", cos)
        .input("sin", sin)
        .input("index", index)
        .operand("y", &y.written, access)
        .literal("interleaved", interleaved)
        .literal("step", step as u32)
        .param("heads", heads)
        .param("d", d)
        .param("half", half)
        .param("turned", turned)
        .param("units", units)
        .param_i32("last", (cos.shape[0] - 1).min(i32::MAX as usize) as i32)
        .param_f32("sign", if inverse { -1.0 } else { 1.0 })
        .param("per", per)
        .param("items", items)
        .workgroup([group, 1, 1])
        .linear(items.div_ceil(per * group as usize))?;
    y.finish(to)
}
