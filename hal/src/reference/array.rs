//! Dense arrays of the reference, rounding to a dtype, and the bytes of each dtype.

use crate::{DType, Shape, TensorRef, blocks};
use half::{bf16, f16};

/// A dense row-major array of any dtype, held in f64 (which holds every value of every type exactly).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Array<T = f64> {
    /// The type that the values are rounded to when they are stored.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Shape,
    /// The values.
    pub data: Vec<T>,
}

impl<T: Copy> Array<T> {
    /// From the parts.
    ///
    /// # Panics
    /// When there are not as many values as the shape says.
    pub fn new(dtype: DType, shape: &[usize], data: Vec<T>) -> Self {
        let shape = Shape::new(shape);
        assert_eq!(shape.elems(), data.len(), "values of shape {shape:?}");
        Array { dtype, shape, data }
    }

    /// Every element the same.
    pub fn full(dtype: DType, shape: &[usize], value: T) -> Self {
        Self::new(dtype, shape, vec![value; shape.iter().product()])
    }

    /// Extent of the last axis; 1 without axes.
    pub(super) fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows when all axes but the last are taken as one.
    pub(super) fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// Row `r` when all axes but the last are taken as one.
    pub(super) fn row(&self, r: usize) -> &[T] {
        let n = self.width();
        &self.data[r * n..(r + 1) * n]
    }

    /// Row `r`, mutable.
    pub(super) fn row_mut(&mut self, r: usize) -> &mut [T] {
        let n = self.width();
        &mut self.data[r * n..(r + 1) * n]
    }
}

impl Array {
    /// The same with every value rounded to the array's dtype.
    pub fn rounded(mut self) -> Self {
        self.data.iter_mut().for_each(|x| *x = round(self.dtype, *x));
        self
    }

    /// Reads contiguous bytes of a dtype, block types included.
    ///
    /// # Panics
    /// When the bytes are not as many as the shape needs.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Self {
        assert_eq!(dtype.bytes(shape), Some(bytes.len() as u64), "bytes of {dtype} {shape:?}");
        Self::read(&TensorRef::slot(0, dtype, shape), bytes)
    }

    /// Reads a view of memory that starts with `bytes`, whatever its source.
    ///
    /// # Panics
    /// When the view reaches beyond the bytes.
    pub fn read(view: &TensorRef, bytes: &[u8]) -> Self {
        let mut values = Vec::with_capacity(view.elems());
        if view.dtype.is_block() {
            let (start, end) = view.byte_range().expect("a view of memory");
            let blocks = &bytes[start as usize..end as usize];
            let mut decoded = vec![0.0; blocks.len() / view.dtype.block_bytes() * view.dtype.block_elems()];
            blocks::decode(view.dtype, blocks, &mut decoded).expect("whole blocks");
            // The first element of the view is the first of its block.
            let mut take = |at: usize| values.push(f64::from(decoded[at]));
            for_each_offset(&view.shape, &view.strides, 0, &mut take);
        } else {
            let mut take = |at| values.push(decode(view.dtype, bytes, at));
            for_each_offset(&view.shape, &view.strides, view.offset, &mut take);
        }
        Array::new(view.dtype, &view.shape, values)
    }

    /// Writes the values, rounded to the view's dtype, to a view of memory that starts with `bytes`. A block that
    /// holds its values already stays as it is.
    ///
    /// # Panics
    /// When the view has another shape, reaches beyond the bytes, or has blocks that don't lie along its last axis.
    pub fn write(&self, view: &TensorRef, bytes: &mut [u8]) {
        assert_eq!(self.shape, view.shape, "a view of another shape");
        if view.dtype.is_block() {
            return write_blocks(view, &self.data, bytes);
        }
        let mut values = self.data.iter();
        for_each_offset(&view.shape, &view.strides, view.offset, &mut |at| {
            encode(view.dtype, bytes, at, *values.next().expect("as many values as elements"));
        });
    }

    /// The values rounded to the dtype, as contiguous bytes.
    ///
    /// # Panics
    /// For block types, which are only read.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.data.len() * self.dtype.block_bytes()];
        for (i, &x) in self.data.iter().enumerate() {
            encode(self.dtype, &mut bytes, i, x);
        }
        bytes
    }
}

/// The value of `dtype` that stands for `x`: for floats the nearest, ties to even, subnormals included,
/// infinite beyond the largest; for integers `x` truncated and saturated, 0 for NaN. Block types keep `x`.
pub fn round(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::F16 => round_binary(x, 10, -14, 65504.0),
        DType::BF16 => round_binary(x, 7, -126, f64::from(bf16::MAX)),
        DType::I32 => f64::from(x as i32),
        DType::U32 => f64::from(x as u32),
        DType::U8 => f64::from(x as u8),
        DType::I8 => f64::from(x as i8),
        _ => x,
    }
}

/// To a binary format in one rounding (by way of f32 there would be two).
fn round_binary(x: f64, mantissa_bits: i32, min_exponent: i32, max: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let step = 2f64.powi(exponent.max(min_exponent) - mantissa_bits);
    let y = (x / step).round_ties_even() * step;
    if y.abs() > max { f64::INFINITY.copysign(x) } else { y }
}

/// [`Array::write`] to blocks along the last axis.
pub(super) fn write_blocks(view: &TensorRef, values: &[f64], bytes: &mut [u8]) {
    let (elems, size) = (view.dtype.block_elems(), view.dtype.block_bytes());
    let held = Array::read(view, bytes).data;
    let mut starts = Vec::with_capacity(values.len());
    for_each_offset(&view.shape, &view.strides, view.offset, &mut |at| starts.push(at / elems * size));
    let blocks = values.chunks(elems).zip(held.chunks(elems)).zip(starts.chunks(elems));
    for ((new, _), starts) in blocks.filter(|((new, held), _)| new != held) {
        assert!(starts.iter().all(|start| *start == starts[0]), "blocks along the last axis");
        let x: Vec<f32> = new.iter().map(|&x| x as f32).collect();
        blocks::encode(view.dtype, &x, &mut bytes[starts[0]..][..size]).expect("whole blocks");
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// Element `i`, of a plain type, of memory that starts with `bytes`.
pub(crate) fn decode(dtype: DType, bytes: &[u8], i: usize) -> f64 {
    match dtype {
        DType::F32 => f64::from(f32::from_le_bytes(bytes_at(bytes, 4 * i))),
        DType::F16 => f16::from_le_bytes(bytes_at(bytes, 2 * i)).to_f64(),
        DType::BF16 => bf16::from_le_bytes(bytes_at(bytes, 2 * i)).to_f64(),
        DType::I32 => f64::from(i32::from_le_bytes(bytes_at(bytes, 4 * i))),
        DType::U32 => f64::from(u32::from_le_bytes(bytes_at(bytes, 4 * i))),
        DType::U8 => f64::from(bytes[i]),
        DType::I8 => f64::from(bytes[i] as i8),
        block => unreachable!("{block} is decoded by the block"),
    }
}

/// Rounds `x` to `dtype` and writes it as element `i`.
pub(crate) fn encode(dtype: DType, bytes: &mut [u8], i: usize, x: f64) {
    let x = round(dtype, x);
    let mut put = |b: &[u8]| bytes[i * b.len()..(i + 1) * b.len()].copy_from_slice(b);
    match dtype {
        DType::F32 => put(&(x as f32).to_le_bytes()),
        DType::F16 => put(&f16::from_f64(x).to_le_bytes()),
        DType::BF16 => put(&bf16::from_f64(x).to_le_bytes()),
        DType::I32 => put(&(x as i32).to_le_bytes()),
        DType::U32 => put(&(x as u32).to_le_bytes()),
        DType::U8 => put(&[x as u8]),
        DType::I8 => put(&[x as i8 as u8]),
        _ => panic!("{dtype} is only read"),
    }
}

/// Calls `f` with the element offset of each element of a strided view, in row-major order.
pub(crate) fn for_each_offset(shape: &[usize], strides: &[usize], offset: usize, f: &mut impl FnMut(usize)) {
    match (shape, strides) {
        ([n, shape @ ..], [stride, strides @ ..]) => {
            for i in 0..*n {
                for_each_offset(shape, strides, offset + i * stride, f);
            }
        }
        _ => f(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_and_midpoints_go_to_even() {
        for bits in 0..0x7c00u16 {
            let (a, b) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
            assert_eq!(round(DType::F16, a), a);
            if bits + 1 < 0x7c00 {
                let even = if bits % 2 == 0 { a } else { b };
                let middle = (a + b) / 2.0;
                assert_eq!(round(DType::F16, middle), even, "{bits:#x}");
                // Too near the middle for a detour through f32.
                assert_eq!(round(DType::F16, middle * (1.0 + 1e-14)), b, "{bits:#x}");
                assert_eq!(round(DType::F16, -middle * (1.0 - 1e-14)), -a, "{bits:#x}");
            }
        }
        assert_eq!(round(DType::F16, 65519.9), 65504.0);
        assert_eq!(round(DType::F16, 65520.0), f64::INFINITY);
        for bits in (0..0x7f7fu16).step_by(7) {
            let (a, b) = (bf16::from_bits(bits).to_f64(), bf16::from_bits(bits + 1).to_f64());
            assert_eq!(round(DType::BF16, a), a);
            assert_eq!(round(DType::BF16, (a + b) / 2.0 * (1.0 + 1e-14)), b);
        }
    }

    #[test]
    fn integers_saturate() {
        assert_eq!(round(DType::I8, -1000.0), -128.0);
        assert_eq!(round(DType::U32, -1.0), 0.0);
        assert_eq!(round(DType::I32, 2.9), 2.0);
        assert_eq!(round(DType::I32, f64::NAN), 0.0);
    }

    #[test]
    fn blocks_decode() {
        let mut q8 = vec![0; 34];
        q8[..2].copy_from_slice(&f16::from_f64(0.5).to_le_bytes());
        (q8[2], q8[33]) = (3, 0x80);
        let a = Array::from_bytes(DType::Q8_0, &[32], &q8);
        assert_eq!((a.data[0], a.data[1], a.data[31]), (1.5, 0.0, -64.0));
        let mut q4 = vec![0x88; 18];
        q4[..2].copy_from_slice(&f16::from_f64(2.0).to_le_bytes());
        q4[3] = 0x2f;
        let a = Array::from_bytes(DType::Q4_0, &[32], &q4);
        assert_eq!((a.data[0], a.data[1], a.data[17]), (0.0, 14.0, -12.0));
    }

    #[test]
    fn views_are_read_and_written_alone() {
        let a = Array::new(DType::U8, &[2, 2], vec![1.0, 2.0, 3.0, 400.0]);
        // Column-major, from the second byte on.
        let view = TensorRef::slot(0, DType::U8, &[]).with_layout(&[2, 2], &[1, 2]).with_offset(1);
        let mut bytes = [9; 6];
        a.write(&view, &mut bytes);
        assert_eq!(bytes, [9, 1, 3, 2, 255, 9]);
        assert_eq!(Array::read(&view, &bytes), a.rounded());
    }

    #[test]
    fn blocks_are_written_where_they_change() {
        let view = TensorRef::slot(0, DType::Q8_0, &[2, 64]).slice(1, 32, 32);
        let mut bytes = [7; 4 * 34];
        let mut a = Array::read(&view, &bytes);
        // A block of random bytes is no block that encoding would give.
        a.data[32..].fill(2.0);
        a.write(&view, &mut bytes);
        assert_eq!(bytes[..3 * 34], [7; 3 * 34]);
        let read = Array::read(&view, &bytes);
        assert_eq!(read.data[..32], a.data[..32]);
        assert!(read.data[32..].iter().all(|x| (x - 2.0).abs() < 2e-3));
    }

    #[test]
    fn bytes_round_trip() {
        for dtype in DType::ALL.into_iter().filter(|d| !d.is_block()) {
            let a = Array::new(dtype, &[2, 2], vec![0.0, 1.0, 7.0, 100.0]);
            assert_eq!(Array::from_bytes(dtype, &[2, 2], &a.to_bytes()), a);
        }
    }
}
