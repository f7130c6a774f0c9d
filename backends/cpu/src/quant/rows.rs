//! Rows rounded to bytes.

use super::GROUP;
use crate::simd::simd;

/// Rows of `k` elements, `scale · q` each, with a scale for each group of 32.
pub(crate) struct Rows {
    pub(super) k: usize,
    /// `[m, k]`, -127 to 127.
    pub(super) q: Vec<i8>,
    /// `[m, k / 32]`: a 127th of the largest magnitude.
    pub(super) scales: Vec<f32>,
    /// `[m, k / 32]`: the sums of the groups' values.
    pub(super) sums: Vec<f32>,
}

impl Rows {
    /// Of dense rows of `k` elements, a multiple of 32 above 0.
    pub(crate) fn new(x: &[f32], k: usize) -> Self {
        let groups = x.len() / GROUP;
        let mut rows = Rows { k, q: vec![0; x.len()], scales: vec![0.0; groups], sums: vec![0.0; groups] };
        let q = rows.q.as_chunks_mut().0;
        round(x.as_chunks().0, q, &mut rows.scales, &mut rows.sums);
        rows
    }

    /// Writes the rounded values to `out`, which has the size of all rows.
    pub(crate) fn values(&self, out: &mut [f32]) {
        spread(self.q.as_chunks().0, &self.scales, out.as_chunks_mut().0);
    }
}

simd! {
    fn round(x: &[[f32; GROUP]], q: &mut [[i8; GROUP]], scales: &mut [f32], sums: &mut [f32]) {
        for (((x, q), scale), sum) in x.iter().zip(q).zip(scales).zip(sums) {
            // As integers, magnitudes have the same order, and a NaN is the largest.
            let most = x.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
            *scale = f32::from_bits(most) / 127.0;
            let inverse = if *scale == 0.0 { 0.0 } else { 1.0 / *scale };
            let mut total = 0;
            for (q, x) in q.iter_mut().zip(x) {
                *q = (x * inverse).round_ties_even() as i8;
                total += i32::from(*q);
            }
            *sum = *scale * total as f32;
        }
    }

    fn spread(q: &[[i8; GROUP]], scales: &[f32], out: &mut [[f32; GROUP]]) {
        for ((q, scale), out) in q.iter().zip(scales).zip(out) {
            for (x, q) in out.iter_mut().zip(q) {
                *x = scale * f32::from(*q);
            }
        }
    }
}
