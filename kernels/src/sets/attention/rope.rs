//! Rotary embedding.

use super::Target;
use crate::{Access, LaunchBuilder, Lowering, template};
use halite_hal::{DeviceInfo, Op, Result, TensorRef};

/// How the columns of a head are dealt out.
pub(super) struct Units {
    d: usize,
    half: usize,
    /// Pairs that are rotated at a time; with neighbours as pairs, columns.
    pub step: usize,
    /// Units of a head that are rotated.
    turned: usize,
    /// Units of a head.
    pub all: usize,
}

impl Units {
    /// Of heads of `d` columns, of which `half` pairs are rotated.
    pub fn new(d: usize, half: usize, interleaved: bool) -> Self {
        // As many columns at a time as let each half start at a multiple.
        let step = match interleaved {
            true if half.is_multiple_of(2) => 4,
            true => 2,
            false => 1 << half.trailing_zeros().min(2),
        };
        let turned = if interleaved { 2 * half / step } else { half / step };
        Units { d, half, step, turned, all: turned + (d - 2 * half).div_ceil(step) }
    }

    /// The parameters of `turn.wgsl`.
    pub fn describe<'l, 'a>(
        &self,
        launch: LaunchBuilder<'l, 'a>,
        cos: &TensorRef,
        inverse: bool,
    ) -> LaunchBuilder<'l, 'a> {
        launch
            .param("d", self.d)
            .param("half", self.half)
            .param("turned", self.turned)
            .param("units", self.all)
            .param_i32("last", (cos.shape[0] - 1).min(i32::MAX as usize) as i32)
            .param_f32("sign", if inverse { -1.0 } else { 1.0 })
    }
}

/// Ends a launch of `items` items.
pub(super) fn per(launch: LaunchBuilder<'_, '_>, items: usize, info: &DeviceInfo) -> Result<()> {
    let group = info.max_workgroup_size.min(64);
    // A lone invocation does the work of a group.
    let per = if group == 1 { 64 } else { 1 };
    let launch = launch.param("per", per).param("items", items).workgroup([group, 1, 1]);
    launch.linear(items.div_ceil(per * group as usize))
}

pub(super) fn lower(op: &Op, inverse: bool, interleaved: bool, to: &mut Lowering<'_>) -> Result<()> {
    let (x, cos, sin, index) = (&op.inputs[0], &op.inputs[1], &op.inputs[2], &op.inputs[3]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| x.shape[axis]);
    let units = Units::new(d, cos.shape[1], interleaved);
    let access = if units.step == 1 { Access::Single } else { Access::Pairs };
    let y = Target::new(&op.outputs[0], access, to)?;
    let info = to.info;
    let launch = to
        .launch(template!("rope.wgsl"))
        .input("x", x)
        .input("cos", cos)
        .input("sin", sin)
        .input("index", index)
        .operand("y", &y.written, access)
        .literal("interleaved", interleaved)
        .literal("step", units.step as u32)
        .param("heads", heads);
    per(units.describe(launch, cos, inverse), tokens * heads * units.all, info)?;
    y.finish(to)
}
