//! The choice of experts, and its gradient.

use super::each;
use crate::sets::rows::{Team, staged};
use crate::{Access, LaunchBuilder, Lowering, template};
use halite_hal::{DType, GroupScore, Result, Router, ScoreFn, TensorRef};

fn attributes<'l, 'a>(l: LaunchBuilder<'l, 'a>, r: &Router) -> LaunchBuilder<'l, 'a> {
    let scores = match r.scores {
        ScoreFn::Softmax => "softmax",
        ScoreFn::Sigmoid => "sigmoid",
        other => unreachable!("{other:?} is in the catalogue and has no kernel"),
    };
    let l = l.literal("scores_by", scores).literal("normalize", r.normalize);
    l.param("top_k", r.top_k).param_f32("scale", r.scale.0)
}

/// Adds what `route.wgsl` needs to a launch, `scores` and `grouped` being its scratch memory.
pub(super) fn route<'l, 'a>(
    l: LaunchBuilder<'l, 'a>,
    r: &Router,
    i: &[TensorRef],
    o: &[TensorRef],
    [scores, grouped]: [&TensorRef; 2],
) -> LaunchBuilder<'l, 'a> {
    let group_score = match r.group_score {
        GroupScore::Max => "max",
        GroupScore::SumTop2 => "top2",
        other => unreachable!("{other:?} is in the catalogue and has no kernel"),
    };
    let l = attributes(l, r).input("x", &i[0]).literal("biased", r.bias);
    let l = l.literal("grouped_by", r.groups as u32).literal("group_score", group_score);
    let l = if r.bias { l.input("bias", &i[1]) } else { l };
    let l = l.output("chosen", &o[0]).output("weights", &o[1]).output("scores", scores);
    let l = if r.groups > 1 { l.output("grouped", grouped) } else { l };
    let l = l.param("tokens", i[0].shape[0]).param("experts", i[0].shape[1]);
    let l = l.loops(loops(r, i[0].shape[1]));
    l.param("groups", r.groups).param("top_groups", r.top_groups)
}

/// Iterations of the loops of a token's choice of experts.
pub(super) fn loops(r: &Router, experts: usize) -> usize {
    let groups = experts + 3 * (r.groups + 1);
    let chosen_groups = (r.top_groups + 1) * (r.groups + 2);
    let chosen = (r.top_k + 1) * (experts + 2 * r.groups + 3);
    4 * (experts + 1) + groups + chosen_groups + chosen
}

/// Memory for the scores of tokens and of their groups.
pub(super) fn scratch(to: &mut Lowering<'_>, r: &Router, x: &TensorRef) -> Result<[TensorRef; 2]> {
    let scores = to.scratch(DType::F32, &x.shape)?;
    let grouped =
        if r.groups > 1 { to.scratch(DType::F32, &[x.shape[0], r.groups])? } else { scores.clone() };
    Ok([scores, grouped])
}

pub(super) fn forward(to: &mut Lowering<'_>, r: Router, i: &[TensorRef], o: &[TensorRef]) -> Result<()> {
    let most = to.info.max_workgroup_size;
    let [scores, grouped] = scratch(to, &r, &i[0])?;
    let l = route(to.launch(template!("router.wgsl")), &r, i, o, [&scores, &grouped]);
    each(l, most, i[0].shape[0])
}

pub(super) fn backward(
    to: &mut Lowering<'_>,
    r: Router,
    i: &[TensorRef],
    dlogits: &TensorRef,
    team: Team,
) -> Result<()> {
    staged(to, dlogits, Access::Pairs, false, |to, y| {
        let most = to.info.max_workgroup_size;
        let l = attributes(to.launch(template!("router_backward.wgsl")), &r).input("x", &i[0]);
        let l = l.input("chosen", &i[1]).input("dweights", &i[2]).output("y", y);
        let (rows, n) = (y.shape[0], y.shape[1]);
        // Four columns are compared with each choice.
        team.launch(l.param("rows", rows).param("n", n), most, rows, n * (r.top_k + 3))
    })
}
