//! Conversions between f32 and the narrower types, whole slices at a time. Rounding is to nearest even;
//! a NaN stays a NaN.

use super::{Level, level, simd};
use half::{bf16, f16};

simd! {
    /// Widens; exact.
    pub(crate) fn bf16_to_f32(x: &[bf16], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        for (y, x) in y.iter_mut().zip(x) {
            *y = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }

    /// Rounds.
    pub(crate) fn f32_to_bf16(x: &[f32], y: &mut [bf16]) {
        assert_eq!(x.len(), y.len());
        for (y, x) in y.iter_mut().zip(x) {
            let bits = x.to_bits();
            // Adding just under half, and one more where the last bit kept is odd, rounds to even.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            let quiet = bits >> 16 | 0x40;
            *y = bf16::from_bits(if x.is_nan() { quiet } else { rounded } as u16);
        }
    }
}

/// Widens; exact.
pub(crate) fn f16_to_f32(x: &[f16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has these instructions.
        Level::Avx512 | Level::Avx2 => unsafe { f16c::widen(x, y) },
        Level::Base => y.iter_mut().zip(x).for_each(|(y, x)| *y = x.to_f32()),
    }
}

/// Rounds.
pub(crate) fn f32_to_f16(x: &[f32], y: &mut [f16]) {
    assert_eq!(x.len(), y.len());
    match level() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has these instructions.
        Level::Avx512 | Level::Avx2 => unsafe { f16c::narrow(x, y) },
        Level::Base => y.iter_mut().zip(x).for_each(|(y, x)| *y = f16::from_f32(*x)),
    }
}

#[cfg(target_arch = "x86_64")]
mod f16c {
    use half::f16;
    use std::arch::x86_64::*;

    /// Slices of one length.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(x: &[f16], y: &mut [f32]) {
        let (xs, x_rest) = x.as_chunks::<8>();
        let (ys, y_rest) = y.as_chunks_mut::<8>();
        for (x, y) in xs.iter().zip(ys) {
            // SAFETY: both arrays hold eight elements.
            unsafe { _mm256_storeu_ps(y.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast()))) }
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            *y = x.to_f32();
        }
    }

    /// Slices of one length.
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn narrow(x: &[f32], y: &mut [f16]) {
        let (xs, x_rest) = x.as_chunks::<8>();
        let (ys, y_rest) = y.as_chunks_mut::<8>();
        for (x, y) in xs.iter().zip(ys) {
            // SAFETY: both arrays hold eight elements.
            unsafe {
                let h = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(x.as_ptr()));
                _mm_storeu_si128(y.as_mut_ptr().cast(), h);
            }
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            *y = f16::from_f32(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn every_pattern_widens_and_narrows_back() {
        let h: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let b: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let (mut x, mut y) = (vec![0.0; h.len()], vec![0.0; h.len()]);
        f16_to_f32(&h, &mut x);
        bf16_to_f32(&b, &mut y);
        let (mut h2, mut b2) = (vec![f16::ZERO; h.len()], vec![bf16::ZERO; h.len()]);
        f32_to_f16(&x, &mut h2);
        f32_to_bf16(&y, &mut b2);
        for i in 0..h.len() {
            assert!(same(x[i], h[i].to_f32()) && same(y[i], b[i].to_f32()), "{i}");
            assert!(h2[i].is_nan() && h[i].is_nan() || h2[i].to_bits() == h[i].to_bits(), "{i}");
            assert!(b2[i].is_nan() && b[i].is_nan() || b2[i].to_bits() == b[i].to_bits(), "{i}");
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        // The middle between two neighbours, and its own neighbours on either side, for every pattern.
        let middles = |wide: &dyn Fn(u16) -> f32| -> Vec<f32> {
            let between = |i: u16| (f64::from(wide(i)) + f64::from(wide(i + 1))) / 2.0;
            (0..0x7c00)
                .chain(0x8000..0xfc00)
                .map(between)
                .flat_map(|m| {
                    let bits = (m as f32).to_bits();
                    [bits - 1, bits, bits + 1].map(f32::from_bits)
                })
                .collect()
        };
        let x = middles(&|i| f16::from_bits(i).to_f32());
        let mut h = vec![f16::ZERO; x.len()];
        f32_to_f16(&x, &mut h);
        for (x, h) in x.iter().zip(&h) {
            assert!(same(h.to_f32(), f16::from_f32_const(*x).to_f32()), "{x}");
        }
        let x = middles(&|i| bf16::from_bits(i).to_f32());
        let mut b = vec![bf16::ZERO; x.len()];
        f32_to_bf16(&x, &mut b);
        for (x, b) in x.iter().zip(&b) {
            assert!(same(b.to_f32(), bf16::from_f32(*x).to_f32()), "{x}");
        }
    }
}
