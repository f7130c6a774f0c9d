//! Cuts ops whose operands are larger than a binding, or lie in several pieces of memory, into ops on parts.
//!
//! A cut halves one extent, and with it every operand that has it, until all parts fit. Sums are cut only
//! where their result is f32, so that nothing is rounded twice. Embedding and scatter aren't cut here: their
//! kernels take a table in parts.

use halite_hal::{DType, Op, OpKind, ReduceFn, TensorRef};

/// An extent that can be halved.
struct Cut {
    /// For each operand, inputs first, the axis that has the extent.
    axes: Vec<Option<usize>>,
    /// What the op of the second half adds to, if the extent is summed over.
    second: Option<OpKind>,
    /// The input of offsets: experts are cut, so it keeps one more element than the others.
    offsets: Option<usize>,
}

impl Cut {
    fn new(axes: Vec<Option<usize>>) -> Self {
        Cut { axes, second: None, offsets: None }
    }

    /// The op with the parts `start..start + len` of the extent.
    fn part(&self, op: &Op, start: usize, len: usize) -> Op {
        let slice = |(i, t): (usize, &TensorRef)| match self.axes[i] {
            Some(axis) if self.offsets == Some(i) => t.clone().slice(axis, start, len + 1),
            Some(axis) => t.clone().slice(axis, start, len),
            None => t.clone(),
        };
        let mut operands: Vec<TensorRef> = op.operands().enumerate().map(slice).collect();
        let outputs = operands.split_off(op.inputs.len());
        Op::new(op.kind.clone(), operands, outputs)
    }
}

/// The op as ops whose operands all fit, in order; `None` when it can't be cut so.
pub(crate) fn split(op: &Op, fits: &dyn Fn(&TensorRef) -> bool) -> Option<Vec<Op>> {
    let mut parts = Vec::new();
    // What is still to be done, last first.
    let mut left = vec![op.clone()];
    while let Some(op) = left.pop() {
        if matches!(op.kind, OpKind::Embedding | OpKind::Scatter { .. }) || op.operands().all(fits) {
            parts.push(op);
            continue;
        }
        if let OpKind::GroupedMatmul { accumulate: false, bias } = op.kind {
            // Parts add to rows of zeros, since none may clear the rows of another.
            let mut adding = op.clone();
            adding.kind = OpKind::GroupedMatmul { accumulate: true, bias };
            left.push(adding);
            left.push(Op::fill(0.0, op.outputs[0].clone()));
            continue;
        }
        let operands: Vec<&TensorRef> = op.operands().collect();
        let large = |i: usize| !fits(operands[i]);
        let (extent, cut) = cuts(&op)
            .into_iter()
            .filter_map(|cut| {
                // The extent along which an operand that doesn't fit reaches furthest.
                let reach = |i: usize| {
                    let axis = cut.axes[i]?;
                    let extent = operands[i].shape[axis];
                    (large(i) && extent > 1 && cut.offsets != Some(i))
                        .then(|| ((extent - 1).saturating_mul(operands[i].strides[axis]), extent))
                };
                let (bytes, extent) = (0..operands.len()).filter_map(reach).max()?;
                Some((bytes, extent, cut))
            })
            .max_by_key(|(bytes, _, _)| *bytes)
            .map(|(_, extent, cut)| (extent, cut))?;
        // Blocks of quantised operands stay whole.
        let block = operands.iter().map(|t| t.dtype.block_elems()).max().unwrap_or(1);
        let mut half = extent.div_ceil(2);
        if extent > block {
            half = half.next_multiple_of(block).min(extent - 1);
        }
        if block > 1 && (half % block != 0 || half == extent) {
            let along = |i: usize| cut.axes[i].is_some_and(|a| operands[i].strides[a] == 1);
            if (0..operands.len()).any(|i| operands[i].dtype.is_block() && along(i)) {
                return None;
            }
        }
        let first = cut.part(&op, 0, half);
        let mut second = cut.part(&op, half, extent - half);
        if let Some(kind) = cut.second {
            if let (OpKind::Matmul { bias: true, .. }, OpKind::Matmul { bias: false, .. }) = (&op.kind, &kind)
            {
                second.inputs.truncate(2);
            }
            second.kind = kind;
        }
        left.push(second);
        left.push(first);
    }
    Some(parts)
}

/// The extents of an op that can be cut.
fn cuts(op: &Op) -> Vec<Cut> {
    let all = |axis: usize| Cut::new(vec![Some(axis); op.inputs.len() + op.outputs.len()]);
    let rank = op.outputs[0].rank();
    // The first axis of every operand but those in `whole`.
    let rows = |whole: &[usize]| {
        let axis = |i: usize| (!whole.contains(&i)).then_some(0);
        Cut::new((0..op.inputs.len() + op.outputs.len()).map(axis).collect())
    };
    match &op.kind {
        OpKind::Fill { .. }
        | OpKind::Copy
        | OpKind::Unary(_)
        | OpKind::Binary(_)
        | OpKind::SwiGlu
        | OpKind::SwiGluBackward => (0..rank).map(all).collect(),
        OpKind::Iota | OpKind::Softmax | OpKind::SoftmaxBackward => (0..rank - 1).map(all).collect(),
        OpKind::Reduce { f, accumulate } => {
            let mut cuts: Vec<Cut> = (0..rank).map(all).collect();
            let sums = matches!(f, ReduceFn::Sum | ReduceFn::SumSquares);
            if sums && op.outputs[0].dtype == DType::F32 {
                let mut cut = Cut::new(vec![Some(rank), None]);
                cut.second = Some(OpKind::Reduce { f: *f, accumulate: *accumulate || sums });
                cuts.push(cut);
            }
            cuts
        }
        OpKind::AdamW(_) => {
            let axis = |a| Cut::new(vec![Some(a), None, None, Some(a), Some(a), Some(a)]);
            (0..rank).map(axis).collect()
        }
        OpKind::RmsNorm { .. } => vec![rows(&[1])],
        OpKind::RmsNormBackward { .. } => {
            let mut cut = rows(&[2, 5]);
            cut.second = Some(OpKind::RmsNormBackward { accumulate: true });
            vec![cut]
        }
        OpKind::Rope { .. } => vec![rows(&[1, 2])],
        OpKind::CrossEntropy | OpKind::CrossEntropyBackward | OpKind::RouterBackward(_) => vec![rows(&[])],
        OpKind::Router(r) => vec![rows(if r.bias { &[1] } else { &[] })],
        OpKind::Matmul { bias, .. } => matmul(op, *bias),
        OpKind::GroupedMatmul { bias, .. } => {
            let mut axes = vec![None, Some(0), Some(0)];
            if *bias {
                axes.push(Some(0));
            }
            axes.push(None);
            let mut cut = Cut::new(axes);
            cut.offsets = Some(2);
            vec![cut]
        }
        OpKind::GroupedMatmulWeight { .. } => {
            let mut cut = Cut::new(vec![None, None, Some(0), Some(0)]);
            cut.offsets = Some(2);
            vec![cut]
        }
        _ => Vec::new(),
    }
}

fn matmul(op: &Op, bias: bool) -> Vec<Cut> {
    let r = op.outputs[0].rank();
    let with_bias = |a, b, bias_axis, c| {
        let mut axes = vec![a, b];
        if bias {
            axes.push(bias_axis);
        }
        axes.push(c);
        Cut::new(axes)
    };
    let mut cuts = vec![
        with_bias(Some(r - 2), None, None, Some(r - 2)),
        with_bias(None, Some(r - 1), Some(0), Some(r - 1)),
    ];
    if r == 3 {
        cuts.push(with_bias(Some(0), Some(0), None, Some(0)));
    }
    if op.outputs[0].dtype == DType::F32 {
        let mut cut = with_bias(Some(r - 1), Some(r - 2), None, None);
        cut.second = Some(OpKind::Matmul { accumulate: true, bias: false });
        cuts.push(cut);
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::{BinaryFn, UnaryFn};

    fn t(slot: u32, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, DType::F32, shape)
    }

    fn below(bytes: u64) -> impl Fn(&TensorRef) -> bool {
        move |t| t.byte_range().is_some_and(|(a, b)| b - a <= bytes)
    }

    fn pieces(op: &Op, bytes: u64) -> Vec<Op> {
        let parts = split(op, &below(bytes)).unwrap();
        for part in &parts {
            part.check(|_| Some(1 << 40)).unwrap();
            assert!(part.operands().all(below(bytes)), "{}", part.desc());
        }
        parts
    }

    #[test]
    fn what_fits_stays_whole() {
        let op = Op::unary(UnaryFn::Exp, t(0, &[5, 7]), t(1, &[5, 7]));
        assert_eq!(pieces(&op, 140).len(), 1);
        let parts = pieces(&op, 100);
        assert_eq!(parts.iter().map(|p| p.outputs[0].elems()).sum::<usize>(), 35);
        let broadcast =
            Op::binary(BinaryFn::Add, t(0, &[8, 8]), t(1, &[8]).broadcast(&[8, 8]), t(2, &[8, 8]));
        assert_eq!(pieces(&broadcast, 64).len(), 4);
    }

    #[test]
    fn products_are_cut_along_the_weight() {
        // [out, in] weights of 64 KiB, used along both axes.
        let w = t(1, &[128, 128]);
        let forward = Op::matmul(t(0, &[4, 128]), w.clone().transpose(0, 1), t(2, &[4, 128]));
        let parts = pieces(&forward, 1 << 14);
        assert!(parts.len() == 4 && parts.iter().all(|p| p.outputs[0].shape[1] == 32));
        let backward = Op::matmul(t(0, &[4, 128]), w, t(2, &[4, 128]));
        let parts = pieces(&backward, 1 << 14);
        let accumulates = |p: &Op| matches!(p.kind, OpKind::Matmul { accumulate: true, .. });
        assert_eq!(parts.iter().map(accumulates).collect::<Vec<_>>(), [false, true, true, true]);
    }

    #[test]
    fn experts_are_cut_with_their_offsets() {
        let offsets = TensorRef::slot(2, DType::I32, &[9]);
        let kind = OpKind::GroupedMatmul { accumulate: false, bias: false };
        let op = Op::new(kind, vec![t(0, &[6, 16]), t(1, &[8, 16, 16]), offsets], vec![t(3, &[6, 16])]);
        let parts = pieces(&op, 4096);
        assert!(matches!(parts[0].kind, OpKind::Fill { .. }));
        let starts: Vec<_> = parts[1..].iter().map(|p| (p.inputs[2].offset, p.inputs[2].shape[0])).collect();
        assert_eq!(starts, [(0, 5), (4, 5)]);
    }

    #[test]
    fn what_cannot_be_cut_is_said_so() {
        let state = TensorRef::slot(0, DType::U32, &[4]);
        let kind = OpKind::Philox(halite_hal::Distribution::Uniform);
        let op = Op::new(kind, vec![state], vec![t(1, &[100])]);
        assert!(split(&op, &below(64)).is_none());
        // A 16-bit result would be rounded twice.
        let c = TensorRef::slot(2, DType::BF16, &[1, 1]);
        assert!(split(&Op::matmul(t(0, &[1, 64]), t(1, &[64, 1]), c), &below(64)).is_none());
    }
}
