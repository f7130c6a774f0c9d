//! Writes ops into a graph, with f32 temporaries in between.
//!
//! A decomposition may stand for an op that works in place. So each output is written once, and no earlier
//! than every other use of the input that it may share memory with; the op that writes it reads that input
//! as its first operand or not at all.

use crate::{BinaryFn, DType, Graph, Op, ReduceFn, TensorRef, UnaryFn};

/// A factor and a summand.
pub(super) fn affine(scale: f32, shift: f32) -> UnaryFn {
    UnaryFn::Affine { scale: scale.into(), shift: shift.into() }
}

pub(super) struct Parts<'a>(pub &'a mut Graph);

impl Parts<'_> {
    pub fn push(&mut self, op: Op) {
        self.0.push(op);
    }

    pub fn f32(&mut self, shape: &[usize]) -> TensorRef {
        self.0.temporary(DType::F32, shape)
    }

    pub fn fill(&mut self, value: f32, shape: &[usize]) -> TensorRef {
        let y = self.f32(shape);
        self.push(Op::fill(value, y.clone()));
        y
    }

    pub fn unary(&mut self, f: UnaryFn, x: &TensorRef) -> TensorRef {
        let y = self.f32(&x.shape);
        self.push(Op::unary(f, x.clone(), y.clone()));
        y
    }

    pub fn binary(&mut self, f: BinaryFn, a: &TensorRef, b: &TensorRef) -> TensorRef {
        let y = self.f32(&a.shape);
        self.push(Op::binary(f, a.clone(), b.clone(), y.clone()));
        y
    }

    pub fn mul(&mut self, a: &TensorRef, b: &TensorRef) -> TensorRef {
        self.binary(BinaryFn::Mul, a, b)
    }

    /// `f` of a temporary, in its memory.
    pub fn update(&mut self, f: UnaryFn, t: &TensorRef) {
        self.push(Op::unary(f, t.clone(), t.clone()));
    }

    /// `f` of a temporary and `b`, in the temporary's memory.
    pub fn update_with(&mut self, f: BinaryFn, t: &TensorRef, b: &TensorRef) {
        self.push(Op::binary(f, t.clone(), b.clone(), t.clone()));
    }

    /// Reduces the last axis.
    pub fn reduce(&mut self, f: ReduceFn, x: &TensorRef) -> TensorRef {
        let y = self.f32(&x.shape[..x.rank() - 1]);
        self.push(Op::reduce(f, x.clone(), y.clone(), false));
        y
    }

    /// `[.., n]` with 1 where the last axis' index is `index [..]` i32, else 0.
    pub fn one_hot(&mut self, index: &TensorRef, n: usize) -> TensorRef {
        let numbers = self.0.temporary(DType::I32, &[n]);
        self.push(Op::iota(numbers.clone()));
        let index = along_last(index, n);
        self.binary(BinaryFn::Equal, &numbers.broadcast(&index.shape), &index)
    }
}

/// `x [..]` repeated along a new axis before axis `axis`.
pub(super) fn along(x: &TensorRef, axis: usize, n: usize) -> TensorRef {
    let (mut shape, mut strides) = (x.shape.to_vec(), x.strides.to_vec());
    shape.insert(axis, n);
    strides.insert(axis, 0);
    x.clone().with_layout(&shape, &strides)
}

/// `x [..]` repeated along a new last axis.
pub(super) fn along_last(x: &TensorRef, n: usize) -> TensorRef {
    along(x, x.rank(), n)
}

/// `x [1]` repeated to any shape.
pub(super) fn scalar(x: &TensorRef, shape: &[usize]) -> TensorRef {
    x.clone().with_layout(shape, &vec![0; shape.len()])
}
