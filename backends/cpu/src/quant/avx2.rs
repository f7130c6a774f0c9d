//! Dots with AVX2: 32 products of bytes at a time.

use super::{Column, GROUP, Rows};
use std::arch::x86_64::*;

/// Rows that a pass over the column serves.
const ROWS: usize = 4;

/// # Safety
/// The processor has AVX2 and FMA; each row is as long as the column; `sums` is as many as rows.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dots(rows: &Rows, column: &Column, sums: &mut [f32]) {
    let (many, few) = sums.as_chunks_mut::<ROWS>();
    let first = many.len() * ROWS;
    // SAFETY: by the caller.
    unsafe {
        for (i, sums) in many.iter_mut().enumerate() {
            pass(rows, i * ROWS, column, sums);
        }
        for (i, sum) in few.iter_mut().enumerate() {
            pass(rows, first + i, column, std::array::from_mut(sum));
        }
    }
}

/// # Safety
/// As [`dots`], for rows from `first` on.
#[target_feature(enable = "avx2,fma")]
unsafe fn pass<const R: usize>(rows: &Rows, first: usize, column: &Column, sums: &mut [f32; R]) {
    // SAFETY: by the caller.
    let lanes = unsafe {
        match (column.signed, column.split) {
            (true, false) => products::<true, false, R>(rows, first, column),
            (true, true) => products::<true, true, R>(rows, first, column),
            (false, _) => products::<false, false, R>(rows, first, column),
        }
    };
    let groups = rows.k / GROUP;
    for (i, sum) in sums.iter_mut().enumerate() {
        let row = &rows.sums[(first + i) * groups..][..groups];
        *sum = total(with_mins(&column.mins, row, lanes[i]));
    }
}

/// # Safety
/// As [`pass`].
#[target_feature(enable = "avx2,fma")]
unsafe fn products<const SIGNED: bool, const SPLIT: bool, const R: usize>(
    rows: &Rows,
    first: usize,
    column: &Column,
) -> [__m256; R] {
    let groups = rows.k / GROUP;
    let ones = _mm256_set1_epi16(1);
    let halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    let (q, scales) = (&rows.q[first * rows.k..], &rows.scales[first * groups..]);
    debug_assert!(q.len() >= R * rows.k && scales.len() >= R * groups);
    let mut lanes = [_mm256_setzero_ps(); R];
    for g in 0..groups {
        // SAFETY: the column has `groups` groups of bytes and as many scales (pairs of them if split), each row too.
        unsafe {
            let w = _mm256_loadu_si256(column.bytes.as_ptr().add(g * GROUP).cast());
            let size = if SIGNED { _mm256_abs_epi8(w) } else { w };
            let scale = match SPLIT {
                true => {
                    let both = column.scales.as_ptr().add(2 * g).cast::<i64>().read_unaligned();
                    _mm256_permutevar8x32_ps(_mm256_castsi256_ps(_mm256_set1_epi64x(both)), halves)
                }
                false => _mm256_broadcast_ss(&*column.scales.as_ptr().add(g)),
            };
            for (i, lanes) in lanes.iter_mut().enumerate() {
                let a = _mm256_loadu_si256(q.as_ptr().add(i * rows.k + g * GROUP).cast());
                let a = if SIGNED { _mm256_sign_epi8(a, w) } else { a };
                // Pairs are 2 · 128 · 127 at most, which 16 bits hold.
                let sums = _mm256_madd_epi16(_mm256_maddubs_epi16(size, a), ones);
                let d = _mm256_mul_ps(scale, _mm256_broadcast_ss(&*scales.as_ptr().add(i * groups + g)));
                *lanes = _mm256_fmadd_ps(d, _mm256_cvtepi32_ps(sums), *lanes);
            }
        }
    }
    lanes
}

/// Adds minima times sums of groups, as many of both, to eight lanes.
#[target_feature(enable = "avx2,fma")]
fn with_mins(mins: &[f32], sums: &[f32], mut lanes: __m256) -> __m256 {
    let ((mins, mins_rest), (sums, sums_rest)) = (mins.as_chunks::<8>(), sums.as_chunks::<8>());
    for (m, s) in mins.iter().zip(sums) {
        // SAFETY: both arrays hold eight elements.
        lanes = unsafe { _mm256_fmadd_ps(_mm256_loadu_ps(m.as_ptr()), _mm256_loadu_ps(s.as_ptr()), lanes) };
    }
    let mut rest = [0.0; 8];
    for ((r, m), s) in rest.iter_mut().zip(mins_rest).zip(sums_rest) {
        *r = m * s;
    }
    // SAFETY: the array holds eight elements.
    unsafe { _mm256_add_ps(lanes, _mm256_loadu_ps(rest.as_ptr())) }
}

#[target_feature(enable = "avx2,fma")]
fn total(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
