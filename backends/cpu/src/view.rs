//! Operands as addresses: strided views, their rows, and rows as f32.
//!
//! A kernel works on rows of f32. Where a row lies so in memory it is used in place; otherwise it is
//! converted into scratch memory, and back.

use crate::simd::{blocks, convert, prefetch};
use half::{bf16, f16};
use halite_hal::{DType, MAX_RANK, Packing, Shape, Strides, TensorRef};

/// A strided view of memory.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// The first element (of its block).
    pub(crate) ptr: *mut u8,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) strides: Strides,
    /// Whether a matrix of blocks is in panels, see [`panels`](crate::simd::panels).
    pub(crate) packed: bool,
}

// SAFETY: a view is an address; the kernels that share it write to separate parts.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

/// One row of a view: `len` elements, `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    ptr: *mut u8,
    dtype: DType,
    len: usize,
    stride: usize,
    /// Element of the block at `ptr` that the row starts at; 0 for plain types.
    first: usize,
}

// SAFETY: as for a view.
unsafe impl Send for Row {}
// SAFETY: as for a view.
unsafe impl Sync for Row {}

impl View {
    /// To fill arrays with.
    pub(crate) fn empty() -> View {
        let (shape, strides) = (Shape::new(&[]), Strides::new(&[]));
        View { ptr: std::ptr::null_mut(), dtype: DType::F32, shape, strides, packed: false }
    }

    /// The view `t` of memory that starts at `base`.
    pub(crate) fn new(base: *mut u8, t: &TensorRef) -> Self {
        let bytes = t.offset / t.dtype.block_elems() * t.dtype.block_bytes();
        // Nothing bounds the strides of an empty view, and nothing needs them.
        let strides = if t.elems() == 0 { Strides::new(&[0; MAX_RANK][..t.rank()]) } else { t.strides };
        let packed = t.packing != Packing::Plain;
        View { ptr: base.wrapping_add(bytes), dtype: t.dtype, shape: t.shape, strides, packed }
    }

    /// Extent of the last axis; 1 without axes.
    pub(crate) fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all axes but the last.
    pub(crate) fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Whether the last axis is f32 without gaps.
    pub(crate) fn dense(&self) -> bool {
        self.dtype == DType::F32 && self.strides.last().is_none_or(|&s| s == 1 || self.cols() <= 1)
    }

    /// Row `i` in row-major order of the outer axes.
    pub(crate) fn row(&self, mut i: usize) -> Row {
        let Some((&stride, strides)) = self.strides.split_last() else {
            return self.part(0, 1, 1);
        };
        let mut offset = 0;
        for (axis, &s) in strides.iter().enumerate().rev() {
            if axis == 0 {
                offset += i * s;
            } else {
                offset += i % self.shape[axis] * s;
                i /= self.shape[axis];
            }
        }
        self.part(offset, self.cols(), stride)
    }

    /// Row `(i, j)` of a view of three axes.
    pub(crate) fn row2(&self, i: usize, j: usize) -> Row {
        self.part(i * self.strides[0] + j * self.strides[1], self.shape[2], self.strides[2])
    }

    /// `len` elements, `stride` apart, from the element at distance `offset` from the first.
    pub(crate) fn part(&self, offset: usize, len: usize, stride: usize) -> Row {
        let block = self.dtype.block_elems();
        let ptr = self.ptr.wrapping_add(offset / block * self.dtype.block_bytes());
        Row { ptr, dtype: self.dtype, len, stride, first: offset % block }
    }

    /// The view at `index` of the first axis.
    pub(crate) fn at(&self, index: usize) -> View {
        let bytes = index * self.strides[0] / self.dtype.block_elems() * self.dtype.block_bytes();
        View {
            ptr: self.ptr.wrapping_add(bytes),
            shape: Shape::new(&self.shape[1..]),
            strides: Strides::new(&self.strides[1..]),
            ..*self
        }
    }

    /// All elements of an i32 view, in row-major order.
    ///
    /// # Safety
    /// The memory is there, and no one writes to it.
    pub(crate) unsafe fn ints(&self) -> Vec<i32> {
        let mut out = Vec::with_capacity(self.shape.elems());
        for r in 0..self.rows() {
            let row = self.row(r);
            // SAFETY: by the caller.
            out.extend((0..row.len).map(|i| unsafe { row.int(i) }));
        }
        out
    }
}

impl Row {
    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The elements from `start` on, `len` of them.
    pub(crate) fn slice(&self, start: usize, len: usize) -> Row {
        debug_assert!(start + len <= self.len);
        let block = self.dtype.block_elems();
        let element = self.first + start * self.stride;
        let ptr = self.ptr.wrapping_add(element / block * self.dtype.block_bytes());
        Row { ptr, first: element % block, len, ..*self }
    }

    fn plain<T>(&self, i: usize) -> *mut T {
        debug_assert!(i < self.len && self.dtype.block_bytes() == size_of::<T>());
        self.ptr.wrapping_add(i * self.stride * size_of::<T>()).cast()
    }

    /// Element `i` of an i32 row.
    ///
    /// # Safety
    /// `i` is less than the length, the memory is there, and no one writes to it.
    pub(crate) unsafe fn int(&self, i: usize) -> i32 {
        // SAFETY: by the caller.
        unsafe { self.plain::<i32>(i).read() }
    }

    /// Sets element `i` of an i32 row.
    ///
    /// # Safety
    /// `i` is less than the length, the memory is there, and no one else uses it.
    pub(crate) unsafe fn set_int(&self, i: usize, x: i32) {
        // SAFETY: by the caller.
        unsafe { self.plain::<i32>(i).write(x) }
    }

    /// Element `i`, of any type, exactly.
    ///
    /// # Safety
    /// As for [`Row::int`].
    pub(crate) unsafe fn get(&self, i: usize) -> f64 {
        // SAFETY: by the caller.
        unsafe {
            match self.dtype {
                DType::F32 => f64::from(self.plain::<f32>(i).read()),
                DType::F16 => self.plain::<f16>(i).read().to_f64(),
                DType::BF16 => self.plain::<bf16>(i).read().to_f64(),
                DType::I32 => f64::from(self.plain::<i32>(i).read()),
                DType::U32 => f64::from(self.plain::<u32>(i).read()),
                DType::U8 => f64::from(self.plain::<u8>(i).read()),
                DType::I8 => f64::from(self.plain::<i8>(i).read()),
                dtype => {
                    let element = self.first + i * self.stride;
                    let elems = dtype.block_elems();
                    let block = self.ptr.wrapping_add(element / elems * dtype.block_bytes());
                    f64::from(blocks::block_element(dtype, block, element % elems))
                }
            }
        }
    }

    /// Sets element `i`, of any plain type: floats rounded to nearest even, integers truncated and
    /// saturated.
    ///
    /// # Safety
    /// As for [`Row::set_int`].
    pub(crate) unsafe fn set(&self, i: usize, x: f64) {
        // SAFETY: by the caller.
        unsafe {
            match self.dtype {
                DType::F32 => self.plain::<f32>(i).write(x as f32),
                DType::F16 => self.plain::<f16>(i).write(f16::from_f64(x)),
                DType::BF16 => self.plain::<bf16>(i).write(bf16::from_f64(x)),
                DType::I32 => self.plain::<i32>(i).write(x as i32),
                DType::U32 => self.plain::<u32>(i).write(x as u32),
                DType::U8 => self.plain::<u8>(i).write(x as u8),
                DType::I8 => self.plain::<i8>(i).write(x as i8),
                other => unreachable!("{other} is never written"),
            }
        }
    }

    /// Fetches the elements of a row without gaps, or what lies beyond the last one.
    pub(crate) fn prefetch(&self) {
        let bytes = self.len / self.dtype.block_elems() * self.dtype.block_bytes();
        (0..bytes).step_by(64).for_each(|line| prefetch(self.ptr.wrapping_add(line)));
    }

    /// The address of the elements, if they are f32 without gaps.
    pub(crate) fn as_f32(&self) -> Option<*mut f32> {
        (self.dtype == DType::F32 && (self.stride == 1 || self.len <= 1)).then(|| self.ptr.cast())
    }

    /// The address of the bytes, if there are no gaps between elements of a plain type.
    pub(crate) fn as_bytes(&self) -> Option<*mut u8> {
        (!self.dtype.is_block() && (self.stride == 1 || self.len <= 1)).then_some(self.ptr)
    }

    /// Writes the elements, of a float or block type, to `out`, as f32.
    ///
    /// # Safety
    /// The memory is there, and no one writes to it.
    pub(crate) unsafe fn load(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.len);
        if self.len == 0 {
            return;
        }
        // SAFETY: by the caller, for all cases.
        unsafe {
            match (self.dtype, self.stride) {
                (_, 0) => out.fill(self.get(0) as f32),
                (DType::F32, 1) => std::ptr::copy_nonoverlapping(self.ptr.cast(), out.as_mut_ptr(), self.len),
                (DType::F16, 1) => {
                    convert::f16_to_f32(std::slice::from_raw_parts(self.ptr.cast(), self.len), out);
                }
                (DType::BF16, 1) => {
                    convert::bf16_to_f32(std::slice::from_raw_parts(self.ptr.cast(), self.len), out);
                }
                (dtype, 1) if dtype.is_block() => {
                    blocks::blocks_to_f32(dtype, self.ptr, self.first, out);
                }
                (DType::F32, _) => {
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = self.plain::<f32>(i).read();
                    }
                }
                (DType::BF16, _) => {
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = self.plain::<bf16>(i).read().to_f32();
                    }
                }
                _ => {
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = self.get(i) as f32;
                    }
                }
            }
        }
    }

    /// Writes `x` to the elements, of a float type or in whole blocks.
    ///
    /// # Safety
    /// The memory is there, and no one else uses it.
    pub(crate) unsafe fn store(&self, x: &[f32]) {
        assert_eq!(x.len(), self.len);
        // SAFETY: by the caller, for all cases.
        unsafe {
            match (self.dtype, self.stride) {
                (dtype, 1) if dtype.is_block() => {
                    debug_assert!(self.first == 0, "rows that are written begin with a block");
                    let bytes = self.len / dtype.block_elems() * dtype.block_bytes();
                    let out = std::slice::from_raw_parts_mut(self.ptr, bytes);
                    halite_hal::blocks::encode(dtype, x, out).expect("whole blocks, as the op was checked");
                }
                (DType::F32, 1) => std::ptr::copy_nonoverlapping(x.as_ptr(), self.ptr.cast(), self.len),
                (DType::F16, 1) => {
                    convert::f32_to_f16(x, std::slice::from_raw_parts_mut(self.ptr.cast(), self.len));
                }
                (DType::BF16, 1) => {
                    convert::f32_to_bf16(x, std::slice::from_raw_parts_mut(self.ptr.cast(), self.len));
                }
                (DType::F32, _) => {
                    for (i, &v) in x.iter().enumerate() {
                        self.plain::<f32>(i).write(v);
                    }
                }
                _ => {
                    for (i, &v) in x.iter().enumerate() {
                        self.set(i, f64::from(v));
                    }
                }
            }
        }
    }

    /// The elements as f32: where they lie if that is possible, else in `scratch`.
    ///
    /// # Safety
    /// The memory is there, and no one writes to it while the result lives.
    pub(crate) unsafe fn read<'a>(&self, scratch: &'a mut [f32]) -> &'a [f32] {
        match self.as_f32() {
            // SAFETY: by the caller.
            Some(p) if self.len > 0 => unsafe { std::slice::from_raw_parts(p, self.len) },
            _ => {
                let out = &mut scratch[..self.len];
                // SAFETY: by the caller.
                unsafe { self.load(out) };
                out
            }
        }
    }

    /// The elements as f32 in `scratch`, for rows that are overwritten while they are read.
    ///
    /// # Safety
    /// The memory is there, and no one writes to it during the call.
    pub(crate) unsafe fn copied<'a>(&self, scratch: &'a mut [f32]) -> &'a [f32] {
        let out = &mut scratch[..self.len];
        // SAFETY: by the caller.
        unsafe { self.load(out) };
        out
    }

    /// Lets `f` write all elements: where they lie if that is possible, else in `scratch` first. What
    /// `f` finds there is undefined.
    ///
    /// # Safety
    /// The memory is there, and no one else uses it during the call.
    pub(crate) unsafe fn write<R>(&self, scratch: &mut [f32], f: impl FnOnce(&mut [f32]) -> R) -> R {
        match self.as_f32() {
            // SAFETY: by the caller.
            Some(p) if self.len > 0 => f(unsafe { std::slice::from_raw_parts_mut(p, self.len) }),
            _ => {
                let out = &mut scratch[..self.len];
                let result = f(out);
                // SAFETY: by the caller.
                unsafe { self.store(out) };
                result
            }
        }
    }

    /// As [`Row::write`], but `f` finds what the elements hold.
    ///
    /// # Safety
    /// As for [`Row::write`].
    pub(crate) unsafe fn update<R>(&self, scratch: &mut [f32], f: impl FnOnce(&mut [f32]) -> R) -> R {
        if self.as_f32().is_none() {
            // SAFETY: by the caller.
            unsafe { self.load(&mut scratch[..self.len]) };
        }
        // SAFETY: by the caller.
        unsafe { self.write(scratch, f) }
    }

    /// Sets all elements, of a float type, to zero.
    ///
    /// # Safety
    /// As for [`Row::store`].
    pub(crate) unsafe fn zero(&self) {
        // SAFETY: by the caller; zero is all bits clear in every float type.
        unsafe {
            match self.as_bytes() {
                Some(p) => p.write_bytes(0, self.len * self.dtype.block_bytes()),
                None => (0..self.len).for_each(|i| self.set(i, 0.0)),
            }
        }
    }
}

/// The same elements with axes merged where all views allow it, outer ones first. All have one shape;
/// the result has at least one axis.
pub(crate) fn coalesce<const N: usize>(views: [&View; N]) -> [View; N] {
    let shape = &views[0].shape;
    let mut dims: Vec<usize> = Vec::new();
    let mut strides: [Vec<usize>; N] = std::array::from_fn(|_| Vec::new());
    for axis in 0..shape.len() {
        let n = shape[axis];
        if n == 1 {
            continue;
        }
        let merges = !dims.is_empty()
            && views.iter().zip(&strides).all(|(v, s)| s.last().copied() == v.strides[axis].checked_mul(n));
        if merges {
            *dims.last_mut().expect("checked above") *= n;
            strides.iter_mut().zip(&views).for_each(|(s, v)| {
                s.pop();
                s.push(v.strides[axis]);
            });
        } else {
            dims.push(n);
            strides.iter_mut().zip(&views).for_each(|(s, v)| s.push(v.strides[axis]));
        }
    }
    if dims.is_empty() {
        dims.push(1);
        strides.iter_mut().for_each(|s| s.push(1));
    }
    std::array::from_fn(|i| View {
        shape: Shape::new(&dims),
        strides: Strides::new(&strides[i]),
        ..*views[i]
    })
}
