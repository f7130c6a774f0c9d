//! Products with block-quantised matrices in integers: rows rounded to bytes, times columns of bytes.
//!
//! # Numerics
//!
//! Rows are rounded to 8 bits with a scale for each 32 elements of k ([`Rows`]), as the op catalogue allows for
//! blocks along k. Products of 32 (or, where a type has scales for 16, of 16) are exact in integers; scaled, they
//! are added in f32, eight lanes for every column, in order of k. A result doesn't depend on the rows and columns
//! around it.

mod column;
mod rows;

#[cfg(target_arch = "x86_64")]
mod avx2;

pub(crate) use column::{Column, has_bytes};
pub(crate) use rows::Rows;

use crate::simd::{Level, level};

/// Elements of a group: those of a row that share a scale.
pub(crate) const GROUP: usize = 32;

/// `sums[i] = rows[i] · column`, where `sums` is as many as rows.
pub(crate) fn dots(rows: &Rows, column: &Column, sums: &mut [f32]) {
    assert!(sums.len() * rows.k == rows.q.len() && column.bytes.len() == rows.k);
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has these instructions, and row and column are of one length.
        Level::Avx512 | Level::Avx2 => unsafe { avx2::dots(rows, column, sums) },
        Level::Base => {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = dot(rows, i, column);
            }
        }
    }
}

fn dot(rows: &Rows, row: usize, column: &Column) -> f32 {
    let groups = rows.k / GROUP;
    let q = rows.q[row * rows.k..][..rows.k].as_chunks::<16>().0;
    let (scales, sums) = (&rows.scales[row * groups..][..groups], &rows.sums[row * groups..][..groups]);
    let mut sum = 0.0;
    for (half, (a, w)) in q.iter().zip(column.bytes.as_chunks::<16>().0).enumerate() {
        let weight = |w: u8| if column.signed { i32::from(w as i8) } else { i32::from(w) };
        let product: i32 = a.iter().zip(w).map(|(a, w)| i32::from(*a) * weight(*w)).sum();
        sum += column.scale(half) * scales[half / 2] * product as f32;
    }
    sum + column.mins.iter().zip(sums).map(|(m, s)| m * s).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::{DType, blocks};

    /// Rows and columns against the same product in f64 of what they stand for.
    #[test]
    fn dots_are_the_products_of_what_was_rounded() {
        for dtype in DType::BLOCKS.into_iter().filter(|&d| has_bytes(d)) {
            for (k, m) in [(256, 1), (512, 3), (1280, 8)] {
                let noise =
                    |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
                let x: Vec<f32> = (0..m * k).map(|i| 3.0 * noise(i + 7)).collect();
                let w: Vec<f32> = (0..k).map(|i| noise(3 * i + 1) + 0.25).collect();
                let mut bytes = vec![0; dtype.bytes(&[k]).unwrap() as usize];
                blocks::encode(dtype, &w, &mut bytes).unwrap();
                let mut w = vec![0.0; k];
                blocks::decode(dtype, &bytes, &mut w).unwrap();

                let rows = Rows::new(&x, k);
                let mut rounded = vec![0.0; m * k];
                rows.values(&mut rounded);
                for (x, r) in x.chunks(GROUP).zip(rounded.chunks(GROUP)) {
                    let most = x.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
                    assert!(x.iter().zip(r).all(|(x, r)| (x - r).abs() <= most / 253.9), "{x:?} {r:?}");
                }
                let mut column = Column::new(dtype, k);
                // SAFETY: these are the blocks of k elements.
                unsafe { column.unpack(bytes.as_ptr()) };
                let mut sums = vec![f32::NAN; m];
                dots(&rows, &column, &mut sums);
                for (i, &sum) in sums.iter().enumerate() {
                    let terms =
                        rounded[i * k..][..k].iter().zip(&w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (want, size) = terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + t.abs()));
                    assert!((f64::from(sum) - want).abs() < 1e-6 * size, "{dtype} {k}: {sum} for {want}");
                    let plain = dot(&rows, i, &column);
                    assert!((f64::from(plain) - want).abs() < 1e-6 * size, "{dtype} {k}: {plain} for {want}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let mut column = Column::new(DType::Q8_0, 32);
        let mut bytes = vec![0; 34];
        blocks::encode(DType::Q8_0, &[1.0; 32], &mut bytes).unwrap();
        // SAFETY: one block.
        unsafe { column.unpack(bytes.as_ptr()) };
        for odd in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0; 32];
            x[5] = odd;
            let mut sum = [0.0];
            dots(&Rows::new(&x, 32), &column, &mut sum);
            assert!(!sum[0].is_finite());
        }
    }
}
