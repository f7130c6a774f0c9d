//! Kernels that work on routing, permutation and combination of experts.

mod combine;
mod fused;
mod permutation;
mod router;

use crate::sets::rows::Team;
use crate::{KernelSet, LaunchBuilder, Lowering, Variant};
use halite_hal::{DeviceInfo, Op, OpDesc, OpKind, Result};

pub(crate) use fused::Routing;

/// See the module.
#[derive(Debug)]
pub(crate) struct Moe;

impl KernelSet for Moe {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        let by_team = |rows: usize, n: usize| {
            Team::for_rows(info, rows, n).into_iter().map(Team::variant).collect::<Vec<_>>()
        };
        match desc.kind {
            OpKind::Router(_) | OpKind::Combine { .. } => vec![Variant::ONLY],
            OpKind::RouterBackward(_) => by_team(desc.inputs[0].shape[0], desc.inputs[0].shape[1]),
            OpKind::ExpertPermutation { .. } => permutation::variants(&desc.inputs[0]),
            OpKind::CombineBackward => by_team(desc.inputs[1].shape[0], desc.inputs[1].shape[1]),
            _ => Vec::new(),
        }
    }

    fn lower(&self, op: &Op, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        let (i, o) = (&op.inputs[..], &op.outputs[..]);
        match &op.kind {
            OpKind::Router(r) => router::forward(to, *r, i, o),
            OpKind::RouterBackward(r) => router::backward(to, *r, i, &o[0], Team::of(variant)),
            OpKind::ExpertPermutation { experts } => permutation::lower(to, *experts, &i[0], o, variant),
            OpKind::Combine { accumulate, .. } => combine::forward(to, *accumulate, i, &o[0]),
            OpKind::CombineBackward => combine::backward(to, i, o, Team::of(variant)),
            _ => Err(to.unsupported(&op.desc(), "no kernel")),
        }
    }
}

/// Ends a launch of one invocation for each of `n` units.
fn each(launch: LaunchBuilder<'_, '_>, most: u32, n: usize) -> Result<()> {
    let size = most.min(64);
    launch.workgroup([size, 1, 1]).linear(n.div_ceil(size as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::tests::translates;
    use halite_hal::{DType, DType::*, GroupScore, Router, ScoreFn, TensorRef};

    fn t(slot: u32, dtype: DType, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, dtype, shape)
    }

    #[test]
    fn kernels_translate_for_every_dtype_and_attribute() {
        let mut ops = Vec::new();
        for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
            for r in [
                Router::new(scores, 2),
                Router::new(scores, 2).normalize(true).bias(true).groups(4, 2, GroupScore::Max),
                Router::new(scores, 2).groups(4, 2, GroupScore::SumTop2),
            ] {
                for d in DType::FLOATS {
                    let (x, bias) = (t(0, d, &[5, 12]), r.bias.then(|| t(1, F32, &[12])));
                    let (experts, weights) = (t(2, I32, &[5, 2]), t(3, F32, &[5, 2]));
                    ops.push(Op::router(r, x.clone(), bias, experts.clone(), weights.clone()));
                    let dx = t(4, d, &[5, 13]).slice(1, 1, 12);
                    ops.push(Op::router_backward(r, x, experts, weights, dx));
                }
            }
        }
        for tokens in [3, 3000] {
            let x = t(0, I32, &[tokens, 2]);
            let rows = t(2, I32, &[2 * tokens]);
            ops.push(Op::expert_permutation(x, t(1, I32, &[9]), rows, t(3, I32, &[tokens, 2])));
        }
        for d in DType::FLOATS {
            for y in [t(4, d, &[5, 12]), t(4, d, &[5, 13]).slice(1, 1, 12)] {
                let (x, positions, weights) = (t(0, d, &[9, 12]), t(1, I32, &[5, 2]), t(2, F32, &[5, 2]));
                for accumulate in [false, true] {
                    let op = |w| Op::combine(x.clone(), positions.clone(), w, y.clone(), accumulate);
                    ops.push(op(None));
                    ops.push(op(Some(weights.clone())));
                }
                let dx = t(5, d, &[9, 12]);
                let dweights = t(6, F32, &[5, 2]);
                ops.push(Op::combine_backward(y, x, positions, weights, dx, dweights));
            }
        }
        translates(&Moe, &ops);
    }
}
