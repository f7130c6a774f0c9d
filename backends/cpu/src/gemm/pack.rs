//! Packing in plain Rust: copies a block of A or B to f32 panels that a micro kernel reads in order.

use half::{bf16, f16};

use super::Elem;

/// A block to pack: `len` rows of A (or columns of B), each `depth` long. Panel `q` of width `W` holds lines
/// `q*W..(q+1)*W` as `panel[p * W + i]`; lines past `len` are zero.
pub(super) struct Strip {
    /// Line 0, position 0.
    pub ptr: *const u8,
    pub elem: Elem,
    pub len: usize,
    pub depth: usize,
    /// Elements between lines.
    pub stride: isize,
    /// Elements between positions of a line.
    pub step: isize,
}

/// An element that widens to f32.
pub(super) trait Widen: Copy {
    fn widen(self) -> f32;
}

impl Widen for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Widen for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Widen for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Packs `s` into panels of width `W` for any strides.
///
/// # Safety
///
/// The strip's elements are readable; `dst` has room for `ceil(len / W) * W * depth` values.
pub(super) unsafe fn pack_any<const W: usize>(dst: *mut f32, s: &Strip) {
    // SAFETY: the caller's promise, with the element type the strip names.
    unsafe {
        match s.elem {
            Elem::F32 => pack_typed::<W, f32>(dst, s),
            Elem::F16 => pack_typed::<W, f16>(dst, s),
            Elem::Bf16 => pack_typed::<W, bf16>(dst, s),
        }
    }
}

/// # Safety
///
/// As [`pack_any`], with elements of type `E`.
unsafe fn pack_typed<const W: usize, E: Widen>(dst: *mut f32, s: &Strip) {
    let src = s.ptr.cast::<E>();
    for q in 0..s.len.div_ceil(W) {
        let valid = W.min(s.len - q * W);
        // SAFETY: panel q lies in `dst`, and its first line is line q*W of the strip; every index below stays within
        // the panel's `W * depth` values and the line's `depth` elements.
        unsafe {
            let panel = dst.add(q * W * s.depth);
            let src = src.offset((q * W) as isize * s.stride);
            if valid < W {
                panel.write_bytes(0, W * s.depth);
            }
            if s.stride == 1 && valid == W {
                for p in 0..s.depth {
                    let line = src.offset(p as isize * s.step);
                    for i in 0..W {
                        *panel.add(p * W + i) = (*line.add(i)).widen();
                    }
                }
            } else {
                // The panel is in L1: better to read each line in one go and to write with a stride.
                for i in 0..valid {
                    let line = src.offset(i as isize * s.stride);
                    for p in 0..s.depth {
                        *panel.add(p * W + i) = (*line.offset(p as isize * s.step)).widen();
                    }
                }
            }
        }
    }
}
