//! Instruction-set levels and the table of kernels each one provides.

use super::pack::Strip;
use super::portable;
use super::skinny::Skinny;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Products are accumulated in blocks of this many k. Part of the numerics: the same at every level.
pub(super) const KC: usize = 256;

/// Upper bound of `mr * nr` over the levels.
pub(super) const MAX_TILE: usize = 14 * 32;
/// Upper bound of `nr` over the levels.
pub(super) const MAX_NR: usize = 32;

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust, vectorised by the compiler for the build's target.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW and VL.
    Avx512,
}

impl Level {
    /// The levels this machine can run, the best last.
    pub fn available() -> &'static [Level] {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            let all = &[Level::Portable, Level::Avx2, Level::Avx512];
            return if wide { all } else { &all[..2] };
        }
        &[Level::Portable]
    }

    /// The best level that this machine can run and the environment allows, as for all other ops.
    pub fn best() -> Level {
        match crate::simd::level() {
            #[cfg(target_arch = "x86_64")]
            crate::simd::Level::Avx512 => Level::Avx512,
            #[cfg(target_arch = "x86_64")]
            crate::simd::Level::Avx2 => Level::Avx2,
            crate::simd::Level::Base => Level::Portable,
        }
    }

    pub(super) fn isa(self) -> &'static Isa {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::ISA,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::ISA,
            _ => &portable::ISA,
        }
    }
}

/// One level's kernels.
pub(super) struct Isa {
    /// Rows of the register tile.
    pub mr: usize,
    /// Columns of the register tile.
    pub nr: usize,
    /// Columns are computed and written in multiples of this.
    pub lanes: usize,
    /// Computes one register tile.
    pub micro: unsafe fn(&Micro),
    /// Packs rows of A into panels `mr` wide.
    pub pack_a: unsafe fn(*mut f32, &Strip),
    /// Packs columns of B into panels `nr` wide.
    pub pack_b: unsafe fn(*mut f32, &Strip),
    /// Multiplies a few rows with a B that is not packed.
    pub skinny: Option<unsafe fn(&Skinny)>,
}

/// Arguments of a micro kernel: `dst = a·b (+ bias) (+ dst)` on `rows` × `cols` (rounded up to `lanes`) elements.
pub(super) struct Micro {
    /// 1..=mr.
    pub rows: usize,
    /// 1..=nr.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the portable tile has one width"))]
    pub cols: usize,
    /// Depth, 0..=KC.
    pub k: usize,
    /// Panel of A, `[k, mr]`.
    pub a: *const f32,
    /// Panel of B, `[k, nr]`, 64-byte aligned.
    pub b: *const f32,
    /// Row-contiguous result.
    pub dst: *mut f32,
    /// Elements between rows of `dst`.
    pub dst_stride: isize,
    /// `nr` values, or null.
    pub bias: *const f32,
    /// Whether `dst`'s old value is added.
    pub add: bool,
}

impl Isa {
    /// Whether the callers' fixed-size buffers hold this level's tile.
    const fn fits(&self) -> bool {
        self.mr * self.nr <= MAX_TILE && self.nr <= MAX_NR
    }
}

const _: () = assert!(portable::ISA.fits());
#[cfg(target_arch = "x86_64")]
const _: () = assert!(avx2::ISA.fits() && avx512::ISA.fits());
