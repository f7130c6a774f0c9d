//! Operands: where a tensor lies and how it is laid out.

use crate::{Buffer, DType, Error, Layout, Result, Shape, Strides};
use serde::{Deserialize, Serialize};

/// Where an operand's memory comes from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// Memory of a device.
    Buffer(Buffer),
    /// A slot of the [`Graph`](crate::Graph) that holds the op: bound at replay, or a planned temporary.
    Slot(u32),
}

impl Source {
    fn same(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Buffer(a), Source::Buffer(b)) => a.same(b),
            (Source::Slot(a), Source::Slot(b)) => a == b,
            _ => false,
        }
    }
}

/// How quantised or packed data is arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Packing {
    /// The portable layout that files use.
    #[default]
    Plain,
    /// A device's own weight layout, made by that device; never serialised.
    Packed(u32),
}

/// An operand of an op: a strided view of a buffer or of a graph's slot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TensorRef {
    /// The memory.
    pub source: Source,
    /// Elements (for block types a multiple of the block) from the start of the memory.
    pub offset: usize,
    /// Extent of each axis.
    pub shape: Shape,
    /// Elements between neighbours on each axis.
    pub strides: Strides,
    /// Element type.
    pub dtype: DType,
    /// Arrangement of quantised data.
    pub packing: Packing,
}

impl TensorRef {
    /// A contiguous tensor at the start of `buffer`.
    pub fn new(buffer: &Buffer, dtype: DType, shape: &[usize]) -> Self {
        Self::at(Source::Buffer(buffer.clone()), dtype, shape)
    }

    /// A contiguous tensor at the start of a slot.
    pub fn slot(slot: u32, dtype: DType, shape: &[usize]) -> Self {
        Self::at(Source::Slot(slot), dtype, shape)
    }

    fn at(source: Source, dtype: DType, shape: &[usize]) -> Self {
        let shape = Shape::new(shape);
        Self { source, offset: 0, strides: shape.contiguous_strides(), shape, dtype, packing: Packing::Plain }
    }

    /// The same memory with another offset, in elements.
    pub fn with_offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }

    /// The same memory with another shape and strides, in elements.
    pub fn with_layout(mut self, shape: &[usize], strides: &[usize]) -> Self {
        assert_eq!(shape.len(), strides.len(), "one stride for each axis");
        self.shape = Shape::new(shape);
        self.strides = Strides::new(strides);
        self
    }

    /// The same view of other memory.
    pub fn with_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.elems()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Whether elements follow each other without gaps in row-major order (axes of extent 1 don't count).
    pub fn is_contiguous(&self) -> bool {
        self.layout().is_contiguous()
    }

    /// Shape, strides and dtype without the memory.
    pub fn layout(&self) -> Layout {
        Layout { dtype: self.dtype, shape: self.shape, strides: self.strides, packing: self.packing }
    }

    /// Exchanges two axes.
    pub fn transpose(mut self, a: usize, b: usize) -> Self {
        self.shape.dims_mut().swap(a, b);
        self.strides.dims_mut().swap(a, b);
        self
    }

    /// The part `start..start + len` of an axis.
    pub fn slice(mut self, axis: usize, start: usize, len: usize) -> Self {
        assert!(start + len <= self.shape[axis], "slice {start}..{} of {}", start + len, self.shape[axis]);
        self.offset += start * self.strides[axis];
        self.shape.dims_mut()[axis] = len;
        self
    }

    /// Another shape over the same elements; the tensor must be contiguous and of as many elements.
    pub fn reshape(mut self, shape: &[usize]) -> Self {
        assert!(self.is_contiguous(), "reshape of a strided tensor {:?}/{:?}", self.shape, self.strides);
        assert_eq!(self.elems(), shape.iter().product::<usize>(), "reshape {:?} to {shape:?}", self.shape);
        self.shape = Shape::new(shape);
        self.strides = self.shape.contiguous_strides();
        self
    }

    /// Repeats axes of extent 1, and adds outer axes, until the shape is `shape`.
    pub fn broadcast(mut self, shape: &[usize]) -> Self {
        let added = shape.len().checked_sub(self.rank()).expect("broadcast to fewer axes");
        let mut strides = Strides::new(&vec![0; shape.len()]);
        for (axis, &extent) in self.shape.iter().enumerate() {
            let wanted = shape[added + axis];
            assert!(extent == wanted || extent == 1, "broadcast {:?} to {shape:?}", self.shape);
            strides.dims_mut()[added + axis] = if extent == wanted { self.strides[axis] } else { 0 };
        }
        self.shape = Shape::new(shape);
        self.strides = strides;
        self
    }

    /// First byte and one past the last byte that the view touches, from the start of its memory;
    /// `None` when that, or the number of elements, overflows.
    pub fn byte_range(&self) -> Option<(u64, u64)> {
        let block = self.dtype.block_elems() as u64;
        let bytes = self.dtype.block_bytes() as u64;
        let start = (self.offset as u64 / block).checked_mul(bytes)?;
        if self.elems() == 0 {
            return Some((start, start));
        }
        if self.elems() > isize::MAX as usize {
            return None;
        }
        let mut last = self.offset as u64;
        for (&extent, &stride) in self.shape.iter().zip(self.strides.iter()) {
            last = last.checked_add((extent as u64 - 1).checked_mul(stride as u64)?)?;
        }
        Some((start, (last / block).checked_add(1)?.checked_mul(bytes)?))
    }

    /// Checks that the view is well formed and lies inside memory of `size` bytes.
    pub fn check(&self, size: u64) -> Result<()> {
        let fail = |message: String| {
            Err(Error::InvalidTensor {
                dtype: self.dtype,
                shape: self.shape.to_vec(),
                strides: self.strides.to_vec(),
                offset: self.offset,
                message,
            })
        };
        if self.strides.len() != self.rank() {
            return fail(format!("{} strides for {} axes", self.strides.len(), self.rank()));
        }
        let block = self.dtype.block_elems();
        if block > 1 {
            let run = (0..self.rank()).find(|&i| self.strides[i] == 1 && self.shape[i].is_multiple_of(block));
            let apart = |i: usize| Some(i) == run || self.strides[i].is_multiple_of(block);
            if run.is_none() || !self.offset.is_multiple_of(block) || !(0..self.rank()).all(apart) {
                return fail(format!(
                    "{} needs one axis that is contiguous in whole blocks of {block}",
                    self.dtype
                ));
            }
        }
        match self.byte_range() {
            Some((_, end)) if end <= size => Ok(()),
            Some((_, end)) => fail(format!("ends at byte {end} of {size}")),
            None => fail("the extent overflows 64 bits".into()),
        }
    }

    /// Whether both views are the same elements in the same order.
    pub fn same_view(&self, other: &TensorRef) -> bool {
        self.source.same(&other.source)
            && self.offset == other.offset
            && self.dtype == other.dtype
            && self.shape == other.shape
            && self.strides == other.strides
    }

    /// Whether the two views may share bytes. Exact for views of separate byte ranges and for
    /// interleaved columns of one row-major matrix; otherwise errs towards `true`.
    pub fn may_overlap(&self, other: &TensorRef) -> bool {
        if !self.source.same(&other.source) || self.elems() == 0 || other.elems() == 0 {
            return false;
        }
        let (Some((a0, a1)), Some((b0, b1))) = (self.byte_range(), other.byte_range()) else { return true };
        if a1 <= b0 || b1 <= a0 {
            return false;
        }
        !self.separate_columns(other)
    }

    /// Whether two elements of the view may share memory: exact for views whose axes nest, as slices and
    /// transpositions of contiguous tensors do; otherwise errs towards `true`.
    pub fn overlaps_itself(&self) -> bool {
        if self.elems() == 0 {
            return false;
        }
        let mut axes: Vec<(usize, usize)> =
            self.strides.iter().copied().zip(self.shape.iter().copied()).filter(|&(_, n)| n > 1).collect();
        axes.sort_unstable();
        let mut span: usize = 0;
        for (stride, n) in axes {
            if stride <= span {
                return true;
            }
            span = span.saturating_add(stride.saturating_mul(n - 1));
        }
        false
    }

    /// Whether both are column ranges of one matrix whose row length is a common outer stride.
    fn separate_columns(&self, other: &TensorRef) -> bool {
        let row = |t: &TensorRef| {
            let steps = t.shape.iter().zip(t.strides.iter()).filter(|(e, s)| **e > 1 && **s > 0);
            let outer = steps.map(|(_, s)| *s).max()?;
            let inner: usize = t
                .shape
                .iter()
                .zip(t.strides.iter())
                .filter(|(_, s)| **s < outer)
                .map(|(e, s)| (e - 1) * s)
                .sum();
            let start = t.offset % outer;
            (start + inner < outer).then_some((outer, start, start + inner))
        };
        let same_size = self.dtype.block_bytes() == other.dtype.block_bytes() && !self.dtype.is_block();
        match (row(self), row(other)) {
            (Some((r, a0, a1)), Some((s, b0, b1))) if r == s && same_size => a1 < b0 || b1 < a0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Op, UnaryFn};

    fn t(shape: &[usize]) -> TensorRef {
        TensorRef::slot(0, DType::F32, shape)
    }

    #[test]
    fn views_compose() {
        let x = t(&[4, 6]).slice(1, 2, 3).transpose(0, 1);
        assert_eq!((&*x.shape, &*x.strides, x.offset), (&[3, 4][..], &[1, 6][..], 2));
        assert_eq!(x.byte_range(), Some((8, (2 + 2 + 18 + 1) * 4)));
        assert!(x.check(23 * 4).is_ok() && x.check(23 * 4 - 1).is_err());
        let b = t(&[1, 6]).broadcast(&[2, 4, 6]);
        assert_eq!(&*b.strides, &[0, 0, 1]);
    }

    #[test]
    fn overlap_sees_columns_apart() {
        let q = t(&[4, 6]).slice(1, 0, 2);
        let k = t(&[4, 6]).slice(1, 2, 4);
        assert!(!q.may_overlap(&k) && q.may_overlap(&t(&[4, 6])));
        assert!(q.may_overlap(&t(&[4, 6]).slice(1, 1, 2)));
        assert!(!t(&[2]).may_overlap(&t(&[2]).with_offset(2)));
        assert!(!t(&[0]).may_overlap(&t(&[4])));
    }

    #[test]
    fn views_that_fold_onto_themselves() {
        assert!(t(&[1]).broadcast(&[4]).overlaps_itself());
        assert!(t(&[8]).with_layout(&[3, 4], &[2, 1]).overlaps_itself());
        assert!(!t(&[3, 4]).transpose(0, 1).overlaps_itself());
        assert!(!t(&[0]).with_layout(&[0, 4], &[0, 0]).overlaps_itself());
    }

    #[test]
    fn overlap_of_a_repeated_element() {
        let one = t(&[1]).with_offset(2).broadcast(&[4]);
        assert!(one.may_overlap(&t(&[4])) && t(&[4]).may_overlap(&one));
        assert!(!one.may_overlap(&t(&[2])));
    }

    #[test]
    fn views_without_end_lie_inside_nothing() {
        // Products and sums that come to 0 modulo 2^64.
        let square = t(&[1 << 32, 1 << 32]);
        assert!(square.check(16).is_err());
        assert!(square.with_layout(&[1 << 32, 1 << 32], &[0, 0]).check(16).is_err());
        let bytes = TensorRef::slot(0, DType::U8, &[1]);
        assert!(bytes.clone().with_offset(usize::MAX).check(16).is_err());
        assert!(bytes.with_layout(&[2], &[usize::MAX]).check(16).is_err());
        // Empty ones may be of any shape.
        assert!(t(&[usize::MAX, usize::MAX, 0]).check(0).is_ok());
        assert!(t(&[0, usize::MAX, usize::MAX]).check(0).is_ok());
    }

    #[test]
    fn each_axis_needs_a_stride() {
        let mut x = t(&[4]);
        x.strides = Strides::new(&[1, 7]);
        assert!(x.check(16).unwrap_err().to_string().contains("2 strides"));
        x.strides = Strides::new(&[]);
        let op = Op::unary(UnaryFn::Neg, x.clone(), t(&[4]).with_source(Source::Slot(1)));
        assert!(op.check(|_| Some(16)).unwrap_err().to_string().contains("0 strides"));
        assert!(!x.is_contiguous());
    }

    #[test]
    fn block_tensors_need_whole_blocks() {
        let q = TensorRef::slot(0, DType::Q8_0, &[2, 64]);
        assert_eq!(q.byte_range(), Some((0, 4 * 34)));
        assert!(q.check(4 * 34).is_ok());
        assert!(q.clone().slice(1, 0, 32).check(4 * 34).is_ok());
        assert!(q.clone().transpose(0, 1).check(4 * 34).is_ok());
        assert!(q.slice(1, 0, 33).check(4 * 34).is_err());
    }
}
