//! A sum and the norm of it, as after each part of a layer; the sum's second part may be what comes back from
//! experts.

use super::{Team, norm};
use crate::fusion::{Context, Fusion, meet_only};
use crate::{Access, Lowering};
use halite_hal::{BinaryFn, Op, OpKind, Result, TensorRef};

/// `[combine], add, rms_norm`.
#[derive(Debug)]
pub(crate) struct AddNorm;

/// The ops that were found.
struct Found<'a> {
    combine: Option<&'a Op>,
    add: &'a Op,
    norm: &'a Op,
}

impl<'a> Found<'a> {
    fn of(ops: &'a [Op], on: &Context<'_>) -> Option<Found<'a>> {
        let (combine, rest) = match ops {
            [combine, rest @ ..] if matches!(combine.kind, OpKind::Combine { accumulate: false, .. }) => {
                (Some(combine), rest)
            }
            rest => (None, rest),
        };
        let [add, norm, ..] = rest else { return None };
        let found = Found { combine, add, norm };
        found.eps()?;
        let x = add.outputs.first()?;
        let same = add.kind == OpKind::Binary(BinaryFn::Add)
            && add.inputs.iter().all(|t| t.dtype.is_float() && t.shape == x.shape)
            && norm.inputs[0].same_view(x)
            && combine.is_none_or(|c| c.outputs[0].same_view(&add.inputs[1]));
        let edges: &[_] = if combine.is_some() { &[(0, 1), (1, 2)] } else { &[(0, 1)] };
        let lowering = Lowering::new(on.info);
        let written = |t: &TensorRef| lowering.can_write(t, Access::Pairs);
        (same
            && ops[..found.len()].iter().flat_map(|op| &op.outputs).all(written)
            && meet_only(&ops[..found.len()], edges))
        .then_some(found)
    }

    fn eps(&self) -> Option<f32> {
        match self.norm.kind {
            OpKind::RmsNorm { eps } => Some(eps.0),
            _ => None,
        }
    }

    fn len(&self) -> usize {
        2 + usize::from(self.combine.is_some())
    }

    fn bindings(&self) -> usize {
        6 + self.combine.map_or(0, |c| c.inputs.len())
    }
}

impl Fusion for AddNorm {
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize> {
        let found = Found::of(ops, on).filter(|f| f.bindings() <= on.info.max_bindings as usize)?;
        // Each is done by a kernel of this crate.
        let ours = ops[..found.len()].iter().all(|op| (on.variant)(op).is_some());
        ours.then_some(found.len())
    }

    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()> {
        let found = Found::of(ops, on).and_then(|f| Some((f.eps()?, (on.variant)(f.norm)?, f)));
        let Some((eps, variant, found)) = found else {
            return Err(to.unsupported(&ops[0].desc(), "no kernel for a sum and its norm"));
        };
        let sum = norm::Sum { add: found.add, combine: found.combine };
        norm::launch(to, eps, &found.norm.inputs, &found.norm.outputs, Team::of(&variant), Some(&sum))
    }
}
