//! Operations as data: an [`Op`] is attributes ([`OpKind`]) plus operands; its [`OpDesc`] is the same
//! without the memory.

mod build;
mod check;
mod custom;
mod function;
mod kind;

pub use custom::{CustomOp, CustomRef};
pub use function::{BinaryFn, Distribution, GroupScore, ReduceFn, Scalar, ScoreFn, UnaryFn};
pub use kind::{AdamW, Attention, OpKind, Router};

use crate::{DType, Error, Packing, Result, Shape, Source, Strides, TensorRef};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shape, strides and dtype of an operand, without its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Layout {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Shape,
    /// Elements between neighbours on each axis.
    pub strides: Strides,
    /// Arrangement of quantised data.
    pub packing: Packing,
}

impl Layout {
    /// A contiguous layout.
    pub fn contiguous(dtype: DType, shape: &[usize]) -> Self {
        let shape = Shape::new(shape);
        Layout { dtype, strides: shape.contiguous_strides(), shape, packing: Packing::Plain }
    }

    /// Whether elements follow each other without gaps in row-major order (axes of extent 1 don't count).
    pub fn is_contiguous(&self) -> bool {
        let dense = self.shape.contiguous_strides();
        self.strides.len() == self.shape.len()
            && (self.shape.elems() == 0
                || (0..self.shape.len()).all(|i| self.shape[i] == 1 || self.strides[i] == dense[i]))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)?;
        if !self.is_contiguous() {
            write!(f, "/{:?}", self.strides)?;
        }
        Ok(())
    }
}

/// One operation: what to do, on which operands. The order of the operands and the layouts they may
/// have stand at each variant of [`OpKind`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Op {
    /// The operation and its attributes.
    pub kind: OpKind,
    /// Operands that are read.
    pub inputs: Vec<TensorRef>,
    /// Operands that are written; read as well where [`OpKind::updates`] says so.
    pub outputs: Vec<TensorRef>,
}

/// An [`Op`] without its memory: hashable and serialisable, the key for support, tuning, conformance
/// and benchmarks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpDesc {
    /// The operation and its attributes.
    pub kind: OpKind,
    /// Layouts of the operands that are read.
    pub inputs: Vec<Layout>,
    /// Layouts of the operands that are written.
    pub outputs: Vec<Layout>,
}

impl OpDesc {
    /// From the parts.
    pub fn new(kind: OpKind, inputs: Vec<Layout>, outputs: Vec<Layout>) -> Self {
        OpDesc { kind, inputs, outputs }
    }

    /// Checks operand count, dtypes, shapes and the number of strides against the definition of the op.
    pub fn check(&self) -> Result<()> {
        for l in self.inputs.iter().chain(&self.outputs) {
            if l.strides.len() != l.shape.len() {
                let message =
                    format!("an operand has {} strides for {} axes", l.strides.len(), l.shape.len());
                return Err(Error::invalid_op(self.to_string(), message));
            }
        }
        check::check(self).map_err(|message| Error::invalid_op(self.to_string(), message))
    }
}

impl fmt::Display for OpDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |l: &[Layout]| l.iter().map(|x| x.to_string()).collect::<Vec<_>>().join(", ");
        write!(f, "{}({}) -> ({})", self.kind.name(), join(&self.inputs), join(&self.outputs))
    }
}

impl Op {
    /// From the parts; nothing is checked yet.
    pub fn new(kind: OpKind, inputs: Vec<TensorRef>, outputs: Vec<TensorRef>) -> Self {
        Op { kind, inputs, outputs }
    }

    /// The op without its memory.
    pub fn desc(&self) -> OpDesc {
        OpDesc {
            kind: self.kind.clone(),
            inputs: self.inputs.iter().map(TensorRef::layout).collect(),
            outputs: self.outputs.iter().map(TensorRef::layout).collect(),
        }
    }

    /// Every operand, inputs first.
    pub fn operands(&self) -> impl Iterator<Item = &TensorRef> {
        self.inputs.iter().chain(&self.outputs)
    }

    /// Every operand, inputs first, mutable.
    pub fn operands_mut(&mut self) -> impl Iterator<Item = &mut TensorRef> {
        self.inputs.iter_mut().chain(&mut self.outputs)
    }

    /// Checks the description, that every view lies inside its memory (`slot_bytes` gives the size of a
    /// slot), and that no output overlaps another operand, except where the op may work in place.
    pub fn check(&self, slot_bytes: impl Fn(u32) -> Option<u64>) -> Result<()> {
        let desc = self.desc();
        desc.check()?;
        for t in self.operands() {
            match &t.source {
                Source::Buffer(b) => t.check(b.bytes())?,
                Source::Slot(s) => {
                    let size = slot_bytes(*s).ok_or_else(|| Error::Slot {
                        slot: *s,
                        message: "not a slot of this graph".into(),
                    })?;
                    t.check(size)?;
                }
            }
        }
        for (o, out) in self.outputs.iter().enumerate() {
            let repeats = out.shape.iter().zip(out.strides.iter()).any(|(&e, &s)| e > 1 && s == 0);
            if repeats && out.elems() > 0 {
                return Err(Error::invalid_op(desc.to_string(), format!("output {o} is a broadcast view")));
            }
            if out.overlaps_itself() {
                let message = format!("elements of output {o} share memory");
                return Err(Error::invalid_op(desc.to_string(), message));
            }
            for (i, input) in self.inputs.iter().enumerate() {
                let in_place = self.kind.in_place(o) == Some(i) && out.same_view(input);
                if !in_place && out.may_overlap(input) {
                    return Err(Error::invalid_op(
                        desc.to_string(),
                        format!(
                            "output {o} overlaps input {i}; only the identical view may, and only where the op works in place"
                        ),
                    ));
                }
            }
            for (p, other) in self.outputs.iter().enumerate().skip(o + 1) {
                if out.may_overlap(other) {
                    return Err(Error::invalid_op(desc.to_string(), format!("outputs {o} and {p} overlap")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(n: u32, shape: &[usize]) -> TensorRef {
        TensorRef::slot(n, DType::F32, shape)
    }

    #[test]
    fn in_place_needs_the_same_view() {
        let size = |_| Some(64);
        let x = slot(0, &[4]);
        assert!(Op::unary(UnaryFn::Exp, x.clone(), x.clone()).check(size).is_ok());
        assert!(Op::unary(UnaryFn::Exp, x.clone(), x.clone().with_offset(1)).check(size).is_err());
        let m = slot(0, &[2, 2]);
        assert!(Op::matmul(m.clone(), slot(1, &[2, 2]), m).check(size).is_err());
    }

    #[test]
    fn outputs_are_no_broadcast_views_unless_they_are_empty() {
        let size = |_| Some(64);
        let neg = |x: TensorRef, y: TensorRef| Op::unary(UnaryFn::Neg, x, y).check(size);
        assert!(neg(slot(0, &[3, 0]), slot(1, &[3, 0])).is_ok());
        assert!(neg(slot(0, &[3, 2]), slot(1, &[1, 2]).broadcast(&[3, 2])).is_err());
    }

    #[test]
    fn attributes_and_shapes_without_end_are_errors() {
        let l = |dtype, shape: &[usize]| Layout::contiguous(dtype, shape);
        let (f, i) = (DType::F32, DType::I32);
        let outputs = vec![l(i, &[0]), l(i, &[4]), l(i, &[2, 2])];
        let kind = OpKind::ExpertPermutation { experts: usize::MAX };
        assert!(OpDesc::new(kind, vec![l(i, &[2, 2])], outputs).check().is_err());
        let angles = l(f, &[1, 1 << 63]);
        let x = l(f, &[1, 1, 2]);
        let kind = OpKind::Rope { inverse: false, interleaved: false };
        assert!(OpDesc::new(kind, vec![x, angles, angles, l(i, &[1])], vec![x]).check().is_err());
        let offsets = l(i, &[0]);
        let b = l(f, &[usize::MAX, 1, 1]);
        let kind = OpKind::GroupedMatmul { accumulate: false, bias: false };
        assert!(OpDesc::new(kind, vec![l(f, &[1, 1]), b, offsets], vec![l(f, &[1, 1])]).check().is_err());
    }

    #[test]
    fn blocks_of_a_product_lie_within_a_matrix() {
        let q = TensorRef::slot(0, DType::Q8_0, &[3, 2, 32]);
        let product = |b: TensorRef| {
            let (a, c) = (slot(1, &[b.shape[0], 1, b.shape[1]]), slot(2, &[b.shape[0], 1, b.shape[2]]));
            Op::matmul(a, b, c).check(|_| Some(1 << 20))
        };
        assert!(product(q.clone()).is_ok() && product(q.clone().transpose(1, 2)).is_ok());
        let e = product(q.transpose(0, 2)).unwrap_err().to_string();
        assert!(e.contains("blocks of b"), "{e}");
    }

    #[test]
    fn descriptions_survive_serialisation() {
        let op = Op::matmul(slot(0, &[2, 3]), slot(1, &[3, 4]), slot(2, &[2, 4]));
        let desc = op.desc();
        let text = serde_json::to_string(&desc).unwrap();
        assert_eq!(serde_json::from_str::<OpDesc>(&text).unwrap(), desc);
        assert_eq!(desc.to_string(), "matmul(f32[2, 3], f32[3, 4]) -> (f32[2, 4])");
    }
}
