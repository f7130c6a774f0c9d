//! AVX2 kernels: a 6 × 16 register tile and packing by 8 × 8 transposition.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Elem;
use super::isa::{Isa, KC, Micro};
use super::pack::{Strip, Widen, pack_any};
use super::skinny::{MAX_ROWS, Skinny};
use super::skinny_x86::{CacheAligned, RUN, define_skinny};

const MR: usize = 6;
const NR: usize = 16;

pub(super) const ISA: Isa =
    Isa { mr: MR, nr: NR, lanes: 8, micro, pack_a: pack::<MR>, pack_b: pack::<NR>, skinny: Some(skinny) };

/// The kernels for 1..=MR rows and one or two vectors of columns.
static TILES: [[unsafe fn(&Micro); 2]; MR] = [
    [tile::<1, 1>, tile::<1, 2>],
    [tile::<2, 1>, tile::<2, 2>],
    [tile::<3, 1>, tile::<3, 2>],
    [tile::<4, 1>, tile::<4, 2>],
    [tile::<5, 1>, tile::<5, 2>],
    [tile::<6, 1>, tile::<6, 2>],
];

/// # Safety
///
/// As [`Micro`] describes; the machine has AVX2 and FMA.
unsafe fn micro(t: &Micro) {
    // SAFETY: the caller's promise.
    unsafe { TILES[t.rows - 1][t.cols.div_ceil(8) - 1](t) }
}

/// # Safety
///
/// As [`Micro`] describes, with `rows` = R and `cols` at most 8 V.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize, const V: usize>(t: &Micro) {
    let mut acc = [[_mm256_setzero_ps(); V]; R];
    let (mut a, mut b) = (t.a, t.b);
    for _ in 0..t.k {
        let mut y = [_mm256_setzero_ps(); V];
        for (v, y) in y.iter_mut().enumerate() {
            // SAFETY: the panel has k rows of NR values, 64-byte aligned.
            *y = unsafe { _mm256_load_ps(b.add(v * 8)) };
        }
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the panel has k rows of MR values.
            let x = _mm256_set1_ps(unsafe { *a.add(i) });
            for v in 0..V {
                acc[v] = _mm256_fmadd_ps(x, y[v], acc[v]);
            }
        }
        (a, b) = (a.wrapping_add(MR), b.wrapping_add(NR));
    }
    for (i, acc) in acc.iter().enumerate() {
        for (v, &sum) in acc.iter().enumerate() {
            // SAFETY: `dst` has R rows of 8 V values, and `bias` NR if it is not null.
            unsafe {
                let dst = t.dst.offset(i as isize * t.dst_stride).add(v * 8);
                let mut sum = sum;
                if !t.bias.is_null() {
                    sum = _mm256_add_ps(sum, _mm256_loadu_ps(t.bias.add(v * 8)));
                }
                if t.add {
                    sum = _mm256_add_ps(sum, _mm256_loadu_ps(dst));
                }
                _mm256_storeu_ps(dst, sum);
            }
        }
    }
}

/// Eight elements widened to f32.
trait Wide: Widen {
    /// # Safety
    ///
    /// The machine has AVX2 and F16C; eight elements are readable.
    unsafe fn full(ptr: *const Self) -> __m256;

    /// Elements that [`turn`](Wide::turn) takes of a column.
    const DEPTH: usize;

    /// Turns eight columns: gives `put` vectors across them, by their place along the columns.
    ///
    /// # Safety
    ///
    /// The machine has AVX2 and F16C; `DEPTH` elements of the columns, `stride` apart, are readable.
    unsafe fn turn(src: *const Self, stride: isize, put: impl FnMut(usize, __m256));
}

/// [`Wide::turn`] of elements of 16 bits, with how eight of them are widened: they are turned before that, as half as
/// many vectors.
///
/// # Safety
///
/// As there.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn turn_halves<E>(
    src: *const E,
    stride: isize,
    widen: impl Fn(__m128i) -> __m256,
    mut put: impl FnMut(usize, __m256),
) {
    let mut r = [_mm256_setzero_si256(); 8];
    for (i, r) in r.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *r = unsafe { _mm256_loadu_si256(src.offset(i as isize * stride).cast()) };
    }
    // Afterwards vector 2c + h holds, in its 128-bit lane l, elements 8l + 4h.. of columns 2c and 2c + 1.
    let mut pairs = r;
    for i in (0..8).step_by(2) {
        pairs[i] = _mm256_unpacklo_epi16(r[i], r[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi16(r[i], r[i + 1]);
    }
    for h in 0..2 {
        for (pair, fours) in [
            (
                4 * h,
                [
                    _mm256_unpacklo_epi32(pairs[h], pairs[h + 2]),
                    _mm256_unpacklo_epi32(pairs[h + 4], pairs[h + 6]),
                ],
            ),
            (
                4 * h + 2,
                [
                    _mm256_unpackhi_epi32(pairs[h], pairs[h + 2]),
                    _mm256_unpackhi_epi32(pairs[h + 4], pairs[h + 6]),
                ],
            ),
        ] {
            let even = _mm256_unpacklo_epi64(fours[0], fours[1]);
            let odd = _mm256_unpackhi_epi64(fours[0], fours[1]);
            for (q, r) in [(pair, even), (pair + 1, odd)] {
                put(q, widen(_mm256_castsi256_si128(r)));
                put(q + 8, widen(_mm256_extracti128_si256::<1>(r)));
            }
        }
    }
}

impl Wide for f32 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn full(ptr: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(ptr) }
    }

    const DEPTH: usize = 8;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn turn(src: *const Self, stride: isize, mut put: impl FnMut(usize, __m256)) {
        let mut r = [_mm256_setzero_ps(); 8];
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *r = unsafe { Self::full(src.offset(i as isize * stride)) };
        }
        transpose8(r).into_iter().enumerate().for_each(|(q, r)| put(q, r));
    }
}

impl Wide for f16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn full(ptr: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(ptr.cast()) })
    }

    const DEPTH: usize = 16;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn turn(src: *const Self, stride: isize, put: impl FnMut(usize, __m256)) {
        // SAFETY: the caller's promise.
        unsafe { turn_halves(src, stride, |x| _mm256_cvtph_ps(x), put) }
    }
}

impl Wide for bf16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn full(ptr: *const Self) -> __m256 {
        // SAFETY: the caller's promise.
        widen_bf16(unsafe { _mm_loadu_si128(ptr.cast()) })
    }

    const DEPTH: usize = 16;

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn turn(src: *const Self, stride: isize, put: impl FnMut(usize, __m256)) {
        // SAFETY: the caller's promise.
        unsafe { turn_halves(src, stride, |x| widen_bf16(x), put) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen_bf16(x: __m128i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x)))
}

/// # Safety
///
/// As [`pack_any`]; the machine has AVX2 and F16C.
unsafe fn pack<const W: usize>(dst: *mut f32, s: &Strip) {
    // SAFETY: the caller's promise, with the element type the strip names.
    unsafe {
        if s.stride != 1 && s.step != 1 {
            return pack_any::<W>(dst, s);
        }
        match s.elem {
            Elem::F32 => pack_unit::<W, f32>(dst, s),
            Elem::F16 => pack_unit::<W, f16>(dst, s),
            Elem::Bf16 => pack_unit::<W, bf16>(dst, s),
        }
    }
}

/// Packs where one of the strides is 1: whole panels by vectors, the last one, if it is not full, one by one.
///
/// # Safety
///
/// As [`pack_any`], with elements of type `E` and `stride` or `step` = 1.
#[target_feature(enable = "avx2,f16c")]
unsafe fn pack_unit<const W: usize, E: Wide>(dst: *mut f32, s: &Strip) {
    let full = s.len / W;
    let src = s.ptr.cast::<E>();
    // SAFETY: panel q has `depth` rows of W values and takes lines q*W..(q+1)*W, all within the strip.
    unsafe {
        for q in 0..full {
            let panel = dst.add(q * W * s.depth);
            let src = src.offset((q * W) as isize * s.stride);
            let vectors = W / 8 * 8;
            let mut p = 0;
            if s.stride == 1 {
                while p < s.depth {
                    let line = src.offset(p as isize * s.step);
                    for c in (0..vectors).step_by(8) {
                        _mm256_storeu_ps(panel.add(p * W + c), E::full(line.add(c)));
                    }
                    for c in vectors..W {
                        *panel.add(p * W + c) = (*line.add(c)).widen();
                    }
                    p += 1;
                }
            } else {
                while p + 8 <= s.depth {
                    for c in (0..W).step_by(8) {
                        let src = src.offset(c as isize * s.stride).add(p);
                        block::<W, E>(src, s.stride, 8.min(W - c), panel.add(p * W + c));
                    }
                    p += 8;
                }
            }
            for p in p..s.depth {
                for c in 0..W {
                    let x = src.offset(c as isize * s.stride + p as isize * s.step);
                    *panel.add(p * W + c) = (*x).widen();
                }
            }
        }
        if full * W < s.len {
            let ptr = src.offset((full * W) as isize * s.stride).cast();
            pack_any::<W>(dst.add(full * W * s.depth), &Strip { ptr, len: s.len - full * W, ..*s });
        }
    }
}

/// Transposes `lines` lines of 8 elements; rows of `out` are W apart and take `lines` values.
///
/// # Safety
///
/// The lines, `stride` apart, are readable at `src`; 8 rows are writable at `out`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn block<const W: usize, E: Wide>(src: *const E, stride: isize, lines: usize, out: *mut f32) {
    let mut r = [_mm256_setzero_ps(); 8];
    for (i, r) in r.iter_mut().enumerate() {
        if i < lines {
            // SAFETY: line i is readable.
            *r = unsafe { E::full(src.offset(i as isize * stride)) };
        }
    }
    let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(lines as i32), index);
    for (i, &r) in transpose8(r).iter().enumerate() {
        // SAFETY: row i is writable.
        unsafe { _mm256_maskstore_ps(out.add(i * W), keep, r) };
    }
}

/// The transposed 8 × 8 matrix.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose8(mut r: [__m256; 8]) -> [__m256; 8] {
    let mut t = r;
    for i in (0..8).step_by(2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    // Afterwards r[g + c] holds, in its 128-bit lane l, column 4l + c of rows g..g + 4.
    for g in [0, 4] {
        r[g] = _mm256_shuffle_ps::<0x44>(t[g], t[g + 2]);
        r[g + 1] = _mm256_shuffle_ps::<0xee>(t[g], t[g + 2]);
        r[g + 2] = _mm256_shuffle_ps::<0x44>(t[g + 1], t[g + 3]);
        r[g + 3] = _mm256_shuffle_ps::<0xee>(t[g + 1], t[g + 3]);
    }
    for c in 0..4 {
        t[c] = _mm256_permute2f128_ps::<0x20>(r[c], r[4 + c]);
        t[4 + c] = _mm256_permute2f128_ps::<0x31>(r[c], r[4 + c]);
    }
    t
}

define_skinny! {
    features: "avx2,fma,f16c", lanes: 8, panel: NR, zero: _mm256_setzero_ps, set1: _mm256_set1_ps,
    fma: _mm256_fmadd_ps, add: _mm256_add_ps, load: _mm256_loadu_ps, store: _mm256_storeu_ps
}
