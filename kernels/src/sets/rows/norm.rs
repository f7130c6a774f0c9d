//! Softmax and RMS normalisation.

use super::views::{Joined, items, staged};
use super::{Team, reduce};
use crate::{Access, Lowering, template};
use halite_hal::{DType, Op, ReduceFn, Result, TensorRef};

pub(super) fn softmax(to: &mut Lowering<'_>, x: &TensorRef, y: &TensorRef, team: Team) -> Result<()> {
    staged(to, y, Access::Pairs, false, |to, y| {
        let views = Joined::new(&[x, y], &[]);
        let most = to.info.max_workgroup_size;
        let l = to.launch(template!("softmax.wgsl")).input("x", &views.full[0]).output("y", &views.full[1]);
        let l = views.describe(l).param("n", x.shape[x.rank() - 1]);
        team.launch(l, most, views.rows(), x.shape[x.rank() - 1])
    })
}

pub(super) fn softmax_backward(
    to: &mut Lowering<'_>,
    y: &TensorRef,
    dy: &TensorRef,
    dx: &TensorRef,
    team: Team,
) -> Result<()> {
    staged(to, dx, Access::Pairs, false, |to, dx| {
        let views = Joined::new(&[y, dy, dx], &[]);
        let most = to.info.max_workgroup_size;
        let l = to.launch(template!("softmax_backward.wgsl"));
        let l = l.input("y", &views.full[0]).input("dy", &views.full[1]).output("dx", &views.full[2]);
        let l = views.describe(l).param("n", y.shape[y.rank() - 1]);
        team.launch(l, most, views.rows(), y.shape[y.rank() - 1])
    })
}

pub(super) fn rms_norm(
    to: &mut Lowering<'_>,
    eps: f32,
    i: &[TensorRef],
    o: &[TensorRef],
    team: Team,
) -> Result<()> {
    staged(to, &o[0], Access::Pairs, false, |to, y| {
        launch(to, eps, i, &[y.clone(), o[1].clone()], team, None)
    })
}

/// What the input of a norm is computed from, in the same launch.
pub(super) struct Sum<'a> {
    pub add: &'a Op,
    /// What the second part of the sum is computed from.
    pub combine: Option<&'a Op>,
}

/// The launch of an RMS norm whose outputs can be written.
pub(super) fn launch(
    to: &mut Lowering<'_>,
    eps: f32,
    i: &[TensorRef],
    o: &[TensorRef],
    team: Team,
    sum: Option<&Sum<'_>>,
) -> Result<()> {
    let (rows, n) = (i[0].shape[0], i[0].shape[1]);
    let most = to.info.max_workgroup_size;
    let combine = sum.and_then(|s| s.combine);
    let mut l = to.launch(template!("rms_norm.wgsl"));
    l = l.literal("adds", sum.is_some()).literal("combines", combine.is_some());
    if let Some(sum) = sum {
        let b = if combine.is_some() { Access::Pairs } else { Access::Read };
        l = l.input("a", &sum.add.inputs[0]).operand("b", &sum.add.inputs[1], b);
    }
    if let Some(op) = combine {
        let i = &op.inputs;
        l = l.input("from", &i[0]).input("positions", &i[1]).literal("weighted", i.len() > 2);
        l = i.get(2).into_iter().fold(l, |l, weights| l.input("weights", weights));
        l = l.param("from_rows", i[0].shape[0]).param("k", i[1].shape[1]);
    }
    let x = if sum.is_some() { Access::Pairs } else { Access::Read };
    let l = l.operand("x", &i[0], x).input("w", &i[1]).output("y", &o[0]).output("rstd", &o[1]);
    let l = l.param("rows", rows).param("n", n);
    // Four columns are those of all experts of a row, one after the other.
    let read = combine.map_or(n, |op| n * (op.inputs[1].shape[1] + 2));
    team.launch(l.param_f32("divisor", n.max(1) as f32).param_f32("eps", eps), most, rows, read)
}

/// Rows whose part of `dw` is summed one after the other.
const DEEP: usize = 64;

/// The weight's gradient comes first: the other one may be written in place of `dy`.
pub(super) fn rms_norm_backward(
    to: &mut Lowering<'_>,
    accumulate: bool,
    i: &[TensorRef],
    o: &[TensorRef],
    team: Team,
) -> Result<()> {
    let [dy, x, w, rstd] = i else { unreachable!("four inputs were checked") };
    let (rows, n) = (x.shape[0], x.shape[1]);
    let most = to.info.max_workgroup_size;
    if n == 0 {
        return Ok(());
    }
    let parts = rows.div_ceil(DEEP);
    let sums = to.scratch(DType::F32, &[parts, n])?;
    let l = to.launch(template!("rms_norm_backward_weight.wgsl")).input("dy", dy).input("x", x);
    let l = l.input("rstd", rstd).output("y", &sums).param("rows", rows).param("deep", DEEP);
    let l = l.loops(64 * (DEEP + 1));
    items(l, most, parts, n)?;
    let how = reduce::How { team: Team::Single, split: false };
    reduce::lower(to, ReduceFn::Sum, accumulate, &sums.transpose(0, 1), &o[1], how)?;
    staged(to, &o[0], Access::Pairs, false, |to, dx| {
        let l = to.launch(template!("rms_norm_backward.wgsl")).input("dy", dy).input("x", x).input("w", w);
        let l = l.input("rstd", rstd).output("dx", dx).param("rows", rows).param("n", n);
        team.launch(l.param_f32("divisor", n as f32), most, rows, n)
    })
}
