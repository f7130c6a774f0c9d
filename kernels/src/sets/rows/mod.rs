//! Kernels that work on a row at a time: reductions, normalisations, losses, and rows by index.

mod fused;
mod gather;
mod loss;
mod norm;
mod reduce;
mod views;

use crate::{KernelSet, LaunchBuilder, Lowering, Variant};
pub(super) use fused::AddNorm;
use halite_hal::{DeviceInfo, DeviceKind, Op, OpDesc, OpKind, Result};
pub(super) use views::{items, staged};

/// See the module.
#[derive(Debug)]
pub(crate) struct Rows;

/// Who does a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Team {
    /// A workgroup of this many invocations.
    Group(u32),
    /// A workgroup that is one subgroup of this size, and needs no barriers.
    Subgroup(u32),
    /// One invocation.
    Single,
}

impl Team {
    const SINGLE: &'static str = "invocation";

    pub(super) fn variant(self) -> Variant {
        match self {
            Team::Group(n) => Variant::named(format!("workgroup-{n}")),
            Team::Subgroup(n) => Variant::named(format!("subgroup-{n}")),
            Team::Single => Variant::named(Self::SINGLE),
        }
    }

    /// That of a variant's name, whatever comes before it.
    pub(super) fn of(variant: &Variant) -> Team {
        let size = |kind: &str| variant.0.rsplit_once(kind).and_then(|(_, n)| n.parse().ok());
        let subgroup = || size("subgroup-").map(Team::Subgroup);
        size("workgroup-").map(Team::Group).or_else(subgroup).unwrap_or(Team::Single)
    }

    /// The workgroups that a device can have, a small one and a large one.
    pub(super) fn groups(info: &DeviceInfo) -> Vec<Team> {
        let mut sizes = Vec::new();
        // A workgroup shares 8 bytes an invocation at most.
        let most = info.max_workgroup_size.min(info.local_memory_bytes / 8).min(256);
        if info.barriers && most >= 2 {
            let large = 1 << most.ilog2();
            sizes.push(Team::Group(large));
            if large > 64 {
                sizes.insert(0, Team::Group(64));
            }
        }
        sizes
    }

    /// The largest subgroup that the device can be made to use.
    fn subgroup(info: &DeviceInfo) -> Option<Team> {
        let (low, high) = info.subgroup_sizes?;
        let known = low == high || info.subgroup_size_control;
        (known && high >= 2 && high <= info.max_workgroup_size).then_some(Team::Subgroup(high))
    }

    /// The best guess first, for rows of `n` elements.
    pub(super) fn for_rows(info: &DeviceInfo, rows: usize, n: usize) -> Vec<Team> {
        let mut all = Self::groups(info);
        if n > 2048 {
            all.reverse();
        }
        if let Some(team) = Self::subgroup(info) {
            all.insert(if n <= 512 { 0 } else { all.len() }, team);
        }
        let many_short = n <= 32 || (n <= 256 && rows >= 1 << 16);
        // Processors run the invocations of a workgroup one after the other, and stop at each barrier.
        let processor = matches!(info.kind, DeviceKind::Software | DeviceKind::Cpu);
        all.insert(if many_short || processor { 0 } else { all.len() }, Team::Single);
        all
    }

    /// Iterations of a loop of an invocation over a row of `n` elements, four at a time.
    pub(super) fn loops(self, n: usize) -> usize {
        let across = match self {
            Team::Group(size) | Team::Subgroup(size) => size as usize,
            Team::Single => 1,
        };
        n.div_ceil(4 * across) + 1
    }

    /// Ends a launch with `rows` rows, or other units, of `n` elements that kernels go through up to three times.
    pub(super) fn launch(
        self,
        launch: LaunchBuilder<'_, '_>,
        most: u32,
        rows: usize,
        n: usize,
    ) -> Result<()> {
        // What a team has in parts comes together in as many more steps as its size has bits.
        let launch = launch.loops(3 * (self.loops(n) + 9));
        let launch = launch.literal("group", self != Team::Single);
        let launch = launch.literal("subgroup", matches!(self, Team::Subgroup(_)));
        match self {
            Team::Group(n) => launch.workgroup([n, 1, 1]).linear(rows),
            Team::Subgroup(n) => launch.subgroup(n).workgroup([n, 1, 1]).linear(rows),
            Team::Single => {
                let n = most.min(64);
                launch.workgroup([n, 1, 1]).linear(rows.div_ceil(n as usize))
            }
        }
    }
}

impl KernelSet for Rows {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        let input = desc.inputs.first();
        let by_team = || {
            let n = input.and_then(|l| l.shape.last().copied()).unwrap_or(1);
            let rows = input.map_or(1, |l| l.shape.elems()) / n.max(1);
            Team::for_rows(info, rows, n).into_iter().map(Team::variant).collect()
        };
        match desc.kind {
            OpKind::Reduce { .. } => reduce::variants(&desc.inputs[0], info),
            OpKind::Softmax
            | OpKind::SoftmaxBackward
            | OpKind::RmsNorm { .. }
            | OpKind::RmsNormBackward { .. }
            | OpKind::CrossEntropy => by_team(),
            OpKind::CrossEntropyBackward | OpKind::Embedding | OpKind::Scatter { .. } => vec![Variant::ONLY],
            _ => Vec::new(),
        }
    }

    fn lower(&self, op: &Op, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        let (i, o) = (&op.inputs[..], &op.outputs[..]);
        let team = Team::of(variant);
        match &op.kind {
            OpKind::Reduce { f, accumulate } => {
                reduce::lower(to, *f, *accumulate, &i[0], &o[0], reduce::How::of(variant))
            }
            OpKind::Softmax => norm::softmax(to, &i[0], &o[0], team),
            OpKind::SoftmaxBackward => norm::softmax_backward(to, &i[0], &i[1], &o[0], team),
            OpKind::RmsNorm { eps } => norm::rms_norm(to, eps.0, i, o, team),
            OpKind::RmsNormBackward { accumulate } => norm::rms_norm_backward(to, *accumulate, i, o, team),
            OpKind::CrossEntropy => loss::cross_entropy(to, i, o, team),
            OpKind::CrossEntropyBackward => loss::cross_entropy_backward(to, i, &o[0]),
            OpKind::Embedding => gather::embedding(to, &i[0], &i[1], &o[0]),
            OpKind::Scatter { accumulate } => gather::scatter(to, *accumulate, &i[0], &i[1], &o[0]),
            _ => Err(to.unsupported(&op.desc(), "no kernel")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::tests::translates;
    use halite_hal::{DType, DType::*, ReduceFn, TensorRef};

    fn t(slot: u32, dtype: DType, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, dtype, shape)
    }

    #[test]
    fn teams_are_found_by_the_names_of_variants() {
        for team in [Team::Group(64), Team::Subgroup(32), Team::Single] {
            assert_eq!(Team::of(&team.variant()), team);
            for split in [false, true] {
                let how = reduce::How { team, split };
                assert_eq!(reduce::How::of(&how.variant()), how);
            }
        }
    }

    #[test]
    fn kernels_translate_for_every_dtype_and_layout() {
        let mut ops = Vec::new();
        for d in DType::FLOATS {
            // Dense, and with gaps, at an odd offset.
            let dense = |slot: u32, shape: &[usize]| t(slot, d, shape);
            let gaps = |slot: u32, shape: &[usize]| {
                let mut wider = shape.to_vec();
                wider.iter_mut().for_each(|n| *n += 1);
                let inner = shape.iter().enumerate();
                inner.fold(t(slot, d, &wider), |t, (axis, &n)| t.slice(axis, 1, n))
            };
            for make in [&dense as &dyn Fn(u32, &[usize]) -> TensorRef, &gaps] {
                for f in
                    [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::ArgMax, ReduceFn::SumSquares]
                {
                    let y = |shape: &[usize]| match f {
                        ReduceFn::ArgMax => t(1, I32, shape),
                        _ => make(1, shape),
                    };
                    ops.push(Op::reduce(f, make(0, &[2, 3, 8]), y(&[2, 3]), false));
                    ops.push(Op::reduce(f, make(0, &[2, 9000]), y(&[2]), false));
                    if matches!(f, ReduceFn::Sum | ReduceFn::Mean) {
                        ops.push(Op::reduce(f, make(0, &[8, 300]).transpose(0, 1), y(&[300]), true));
                    }
                }
                ops.push(Op::softmax(make(0, &[2, 3, 8]), make(1, &[2, 3, 8])));
                ops.push(Op::softmax(make(0, &[9]), make(0, &[9])));
                ops.push(Op::softmax_backward(make(0, &[2, 8]), make(1, &[2, 8]), make(1, &[2, 8])));
                let (x, w, rstd) = (make(0, &[3, 8]), make(1, &[8]), t(2, F32, &[3]));
                ops.push(Op::rms_norm(x.clone(), w.clone(), x.clone(), rstd.clone(), 1e-5));
                for accumulate in [false, true] {
                    let (dy, dw) = (make(3, &[3, 8]), t(4, F32, &[8]));
                    let (x, w, rstd) = (x.clone(), w.clone(), rstd.clone());
                    ops.push(Op::rms_norm_backward(dy.clone(), x.clone(), w, rstd, dy, dw, accumulate));
                    let index = t(1, I32, &[3]);
                    ops.push(Op::scatter(x, index, make(5, &[7, 8]), accumulate));
                }
                let rows = t(5, Q8_0, &[7, 128]).slice(1, 32, 96);
                ops.push(Op::scatter(make(0, &[3, 96]), t(1, I32, &[3]), rows, false));
                let (target, loss, lse) = (t(1, I32, &[3]), t(2, F32, &[3]), t(3, F32, &[3]));
                ops.push(Op::cross_entropy(x.clone(), target.clone(), loss.clone(), lse.clone()));
                ops.push(Op::cross_entropy_backward(x.clone(), target, lse, loss, x.clone()));
                for from in DType::FLOATS.into_iter().chain(DType::BLOCKS) {
                    ops.push(Op::embedding(t(0, from, &[5, 256]), t(1, I32, &[3]), make(2, &[3, 256])));
                }
            }
        }
        translates(&Rows, &ops);
    }
}
