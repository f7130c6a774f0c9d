//! The way of few tokens to their experts: the choice, the sort, and the rows themselves.

use super::{permutation, router};
use crate::fusion::{Context, Fusion, meet_only};
use crate::{Access, Lowering, template};
use halite_hal::{DeviceKind, Op, OpKind, Result};

/// `router, expert_permutation`, and perhaps the `embedding` that takes rows to experts; by one workgroup.
#[derive(Debug)]
pub(crate) struct Routing;

/// Most assignments that one workgroup sorts.
const ASSIGNMENTS: usize = 128;
/// Most elements that one workgroup moves.
const ELEMENTS: usize = 8192;

/// The ops that were found.
struct Found<'a> {
    router: &'a Op,
    permutation: &'a Op,
    gather: Option<&'a Op>,
}

impl<'a> Found<'a> {
    fn of(ops: &'a [Op], on: &Context<'_>) -> Option<Found<'a>> {
        let [router, permutation, rest @ ..] = ops else { return None };
        let (OpKind::Router(_), OpKind::ExpertPermutation { .. }) = (&router.kind, &permutation.kind) else {
            return None;
        };
        let chosen = &router.outputs[0];
        let sorts = permutation.inputs[0].same_view(chosen)
            && permutation.outputs[0].shape[0] == router.inputs[0].shape[1] + 1
            && chosen.elems() <= ASSIGNMENTS
            && permutation::is_direct(&(on.variant)(permutation)?);
        let lowering = Lowering::new(on.info);
        let rows = &permutation.outputs[1];
        let gathers = |op: &&Op| {
            let y = op.outputs.first();
            op.kind == OpKind::Embedding
                && op.inputs[1].same_view(rows)
                && op.inputs[0].dtype.is_float()
                && op.inputs[0].shape[0] == chosen.shape[0]
                && y.is_some_and(|y| y.elems() <= ELEMENTS && lowering.can_write(y, Access::Pairs))
                && meet_only(&ops[..3], &[(0, 1), (1, 2)])
        };
        let gather = rest.first().filter(gathers);
        (sorts && (gather.is_some() || meet_only(&ops[..2], &[(0, 1)]))).then_some(Found {
            router,
            permutation,
            gather,
        })
    }

    fn len(&self) -> usize {
        2 + usize::from(self.gather.is_some())
    }
}

impl Fusion for Routing {
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize> {
        let found = Found::of(ops, on)?;
        let ours = ops[..found.len()].iter().all(|op| (on.variant)(op).is_some());
        // Logits, bias, choice, weights, two of scratch, three of the sort, and two of rows.
        (ours && on.info.max_bindings >= 11).then_some(found.len())
    }

    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()> {
        let Some(Found { router, permutation, gather }) = Found::of(ops, on) else {
            return Err(to.unsupported(&ops[0].desc(), "no kernel for routing as a whole"));
        };
        let OpKind::Router(r) = router.kind else { unreachable!("found as a router") };
        // Processors run the invocations of a workgroup one after the other, and stop at each barrier.
        let processor = matches!(to.info.kind, DeviceKind::Software | DeviceKind::Cpu);
        let size = if to.info.barriers && !processor { to.info.max_workgroup_size.min(64) } else { 1 };
        let [scores, grouped] = router::scratch(to, &r, &router.inputs[0])?;
        let l = to.launch(template!("routing.wgsl")).literal("gathers", gather.is_some());
        let l = router::route(l, &r, &router.inputs, &router.outputs, [&scores, &grouped]);
        let o = &permutation.outputs;
        let l = l.output("offsets", &o[0]).output("rows", &o[1]).output("positions", &o[2]);
        let l = l.param("units", o[2].elems().max(o[0].shape[0]));
        let l = match gather {
            Some(op) => {
                let y = &op.outputs[0];
                let chunks = y.shape[1].div_ceil(4);
                let l = l.input("table", &op.inputs[0]).output("y", y).param("n", y.shape[1]);
                l.param("chunks", chunks).param("items", y.shape[0] * chunks)
            }
            None => l,
        };
        // One workgroup does what has an invocation each otherwise.
        let tokens = router.inputs[0].shape[0];
        let (k, experts) = (r.top_k, router.inputs[0].shape[1]);
        let units = (tokens * k).max(experts + 1).div_ceil(size as usize) + 1;
        let moved = gather.map_or(0, |op| op.outputs[0].elems().div_ceil(4 * size as usize) + 1);
        let routed = (tokens.div_ceil(size as usize) + 1) * router::loops(&r, experts);
        let l = l.loops(routed + units * (tokens * (k + 2) + 2) + moved);
        l.workgroup([size, 1, 1]).linear(1)
    }
}
