//! AVX-512 kernels: a 14 × 32 register tile and packing by 16 × 16 transposition.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Elem;
use super::isa::{Isa, KC, Micro};
use super::pack::{Strip, Widen, pack_any};
use super::skinny::{MAX_ROWS, Skinny};
use super::skinny_x86::{CacheAligned, RUN, define_skinny};

const MR: usize = 14;
const NR: usize = 32;

pub(super) const ISA: Isa =
    Isa { mr: MR, nr: NR, lanes: 16, micro, pack_a: pack::<MR>, pack_b: pack::<NR>, skinny: Some(skinny) };

/// The kernels for 1..=MR rows and one or two vectors of columns.
static TILES: [[unsafe fn(&Micro); 2]; MR] = [
    [tile::<1, 1>, tile::<1, 2>],
    [tile::<2, 1>, tile::<2, 2>],
    [tile::<3, 1>, tile::<3, 2>],
    [tile::<4, 1>, tile::<4, 2>],
    [tile::<5, 1>, tile::<5, 2>],
    [tile::<6, 1>, tile::<6, 2>],
    [tile::<7, 1>, tile::<7, 2>],
    [tile::<8, 1>, tile::<8, 2>],
    [tile::<9, 1>, tile::<9, 2>],
    [tile::<10, 1>, tile::<10, 2>],
    [tile::<11, 1>, tile::<11, 2>],
    [tile::<12, 1>, tile::<12, 2>],
    [tile::<13, 1>, tile::<13, 2>],
    [tile::<14, 1>, tile::<14, 2>],
];

/// # Safety
///
/// As [`Micro`] describes; the machine has AVX-512 F.
unsafe fn micro(t: &Micro) {
    // SAFETY: the caller's promise.
    unsafe { TILES[t.rows - 1][t.cols.div_ceil(16) - 1](t) }
}

/// # Safety
///
/// As [`Micro`] describes, with `rows` = R and `cols` at most 16 V.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize, const V: usize>(t: &Micro) {
    let mut acc = [[_mm512_setzero_ps(); V]; R];
    let (mut a, mut b) = (t.a, t.b);
    for _ in 0..t.k {
        let mut y = [_mm512_setzero_ps(); V];
        for (v, y) in y.iter_mut().enumerate() {
            // SAFETY: the panel has k rows of NR values, 64-byte aligned.
            *y = unsafe { _mm512_load_ps(b.add(v * 16)) };
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the panel has k rows of MR values.
            let x = _mm512_set1_ps(unsafe { *a.add(i) });
            for v in 0..V {
                acc[v] = _mm512_fmadd_ps(x, y[v], acc[v]);
            }
        }
        (a, b) = (a.wrapping_add(MR), b.wrapping_add(NR));
    }
    for (i, acc) in acc.iter().enumerate() {
        for (v, &sum) in acc.iter().enumerate() {
            // SAFETY: `dst` has R rows of 16 V values, and `bias` NR if it is not null.
            unsafe {
                let dst = t.dst.offset(i as isize * t.dst_stride).add(v * 16);
                let mut sum = sum;
                if !t.bias.is_null() {
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(t.bias.add(v * 16)));
                }
                if t.add {
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps(dst));
                }
                _mm512_storeu_ps(dst, sum);
            }
        }
    }
}

/// Sixteen elements widened to f32.
trait Wide: Widen {
    /// # Safety
    ///
    /// The machine has AVX-512 F, BW and VL; the elements whose bit is set in `mask` are readable. Others become zero.
    unsafe fn load(ptr: *const Self, mask: u16) -> __m512;

    /// # Safety
    ///
    /// As `load` with every bit set.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn full(ptr: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { Self::load(ptr, !0) }
    }

    /// Elements that [`turn`](Wide::turn) takes of a column.
    const DEPTH: usize = 16;

    /// Turns sixteen columns: gives `put` vectors across them, by their place along the columns.
    ///
    /// # Safety
    ///
    /// As for `full`, of each of the columns, `stride` apart.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn turn(src: *const Self, stride: isize, mut put: impl FnMut(usize, __m512)) {
        let mut r = [_mm512_setzero_ps(); 16];
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *r = unsafe { Self::full(src.offset(i as isize * stride)) };
        }
        transpose16(r).into_iter().enumerate().for_each(|(q, r)| put(q, r));
    }
}

impl Wide for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(ptr: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, ptr) }
    }
}

impl Wide for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(ptr: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, ptr.cast()) })
    }
}

impl Wide for bf16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(ptr: *const Self, mask: u16) -> __m512 {
        // SAFETY: the caller's promise.
        let bits = _mm512_cvtepu16_epi32(unsafe { _mm256_maskz_loadu_epi16(mask, ptr.cast()) });
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}

/// # Safety
///
/// As [`pack_any`]; the machine has AVX-512 F, BW and VL.
unsafe fn pack<const W: usize>(dst: *mut f32, s: &Strip) {
    // SAFETY: the caller's promise, with the element type the strip names.
    unsafe {
        match (s.stride, s.step) {
            (1, _) => match s.elem {
                Elem::F32 => copy::<W, f32>(dst, s),
                Elem::F16 => copy::<W, f16>(dst, s),
                Elem::Bf16 => copy::<W, bf16>(dst, s),
            },
            (_, 1) => match s.elem {
                Elem::F32 => transpose::<W, f32>(dst, s),
                Elem::F16 => transpose::<W, f16>(dst, s),
                Elem::Bf16 => transpose::<W, bf16>(dst, s),
            },
            _ => pack_any::<W>(dst, s),
        }
    }
}

/// The lowest `n` (at most 16) bits.
#[inline]
fn low_bits(n: usize) -> u16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

/// Packs lines that lie side by side.
///
/// # Safety
///
/// As [`pack_any`], with elements of type `E` and `stride` = 1.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn copy<const W: usize, E: Wide>(dst: *mut f32, s: &Strip) {
    let (full, rest) = (s.len / W, s.len % W);
    for p in 0..s.depth {
        // SAFETY: panel q's row p has W values; the source has `len` elements at position p.
        unsafe {
            let src = s.ptr.cast::<E>().offset(p as isize * s.step);
            for q in 0..full {
                let out = dst.add((q * s.depth + p) * W);
                for c in (0..W).step_by(16) {
                    let mask = low_bits(W - c);
                    _mm512_mask_storeu_ps(out.add(c), mask, E::load(src.add(q * W + c), mask));
                }
            }
            if rest > 0 {
                let out = dst.add((full * s.depth + p) * W);
                for c in (0..W).step_by(16) {
                    let valid = low_bits(rest.saturating_sub(c));
                    let v = E::load(src.wrapping_add(full * W + c), valid);
                    _mm512_mask_storeu_ps(out.add(c), low_bits(W - c), v);
                }
            }
        }
    }
}

/// Packs lines that are contiguous themselves.
///
/// # Safety
///
/// As [`pack_any`], with elements of type `E` and `step` = 1.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn transpose<const W: usize, E: Wide>(dst: *mut f32, s: &Strip) {
    for q in 0..s.len.div_ceil(W) {
        for p in (0..s.depth).step_by(16) {
            for c in (0..W).step_by(16) {
                let lines = W.min(s.len - q * W).saturating_sub(c).min(16);
                let depth = (s.depth - p).min(16);
                // SAFETY: `lines` lines from q*W + c have `depth` elements from p, and panel q has W values in each
                // of its rows p..p + depth.
                unsafe {
                    let src =
                        s.ptr.cast::<E>().wrapping_offset((q * W + c) as isize * s.stride).wrapping_add(p);
                    let out = dst.add((q * s.depth + p) * W + c);
                    if lines == 16.min(W - c) && depth == 16 {
                        block::<W, E>(src, s.stride, 16.min(W - c), 16, out, low_bits(W - c));
                    } else {
                        block::<W, E>(src, s.stride, lines, depth, out, low_bits(W - c));
                    }
                }
            }
        }
    }
}

/// Transposes up to 16 × 16 elements; rows of `out` are W apart and are written where `keep` has a bit.
///
/// # Safety
///
/// `lines` lines of `depth` elements, `stride` apart, are readable at `src`; `depth` rows are writable at `out`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn block<const W: usize, E: Wide>(
    src: *const E,
    stride: isize,
    lines: usize,
    depth: usize,
    out: *mut f32,
    keep: u16,
) {
    let mut r = [_mm512_setzero_ps(); 16];
    for (i, r) in r.iter_mut().enumerate() {
        if i < lines {
            // SAFETY: line i is readable.
            *r = unsafe { E::load(src.offset(i as isize * stride), low_bits(depth)) };
        }
    }
    let r = transpose16(r);
    for (i, &r) in r.iter().enumerate() {
        if i < depth {
            // SAFETY: row i is writable.
            unsafe { _mm512_mask_storeu_ps(out.add(i * W), keep, r) };
        }
    }
}

/// The transposed 16 × 16 matrix.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose16(mut r: [__m512; 16]) -> [__m512; 16] {
    let mut t = r;
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    // Afterwards r[g + c] holds, in its 128-bit lane l, column 4l + c of rows g..g + 4.
    for g in (0..16).step_by(4) {
        let d = |i: usize| _mm512_castps_pd(t[g + i]);
        r[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(d(0), d(2)));
        r[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(d(0), d(2)));
        r[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(d(1), d(3)));
        r[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(d(1), d(3)));
    }
    for c in 0..4 {
        let even =
            [_mm512_shuffle_f32x4::<0x88>(r[c], r[4 + c]), _mm512_shuffle_f32x4::<0x88>(r[8 + c], r[12 + c])];
        let odd =
            [_mm512_shuffle_f32x4::<0xdd>(r[c], r[4 + c]), _mm512_shuffle_f32x4::<0xdd>(r[8 + c], r[12 + c])];
        t[c] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
        t[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
        t[8 + c] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
        t[12 + c] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
    }
    t
}

define_skinny! {
    features: "avx512f,avx512bw,avx512vl", lanes: 16, panel: NR, zero: _mm512_setzero_ps, set1: _mm512_set1_ps,
    fma: _mm512_fmadd_ps, add: _mm512_add_ps, load: _mm512_loadu_ps, store: _mm512_storeu_ps
}
