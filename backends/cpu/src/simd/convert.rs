//! Conversions between f32 and the narrower types, whole slices at a time. Rounding is to nearest even;
//! a NaN stays a NaN.

use super::{Level, level, simd};
use half::{bf16, f16};
use halite_hal::DType;

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

/// Element `i` of the block at `block`.
///
/// # Safety
/// The block is there, and `i` is less than 32.
pub(crate) unsafe fn block_element(dtype: DType, block: *const u8, i: usize) -> f32 {
    // SAFETY: a Q8_0 block has 2 + 32 bytes, a Q4_0 block 2 + 16.
    unsafe {
        let scale = block_scale(block);
        match dtype {
            DType::Q8_0 => scale * f32::from(block.add(2 + i).cast::<i8>().read()),
            _ => {
                let byte = block.add(2 + i % 16).read();
                scale * (f32::from(if i < 16 { byte & 15 } else { byte >> 4 }) - 8.0)
            }
        }
    }
}

/// # Safety
/// Two bytes are there.
unsafe fn block_scale(block: *const u8) -> f32 {
    // SAFETY: by the caller.
    unsafe { block.cast::<f16>().read_unaligned() }.to_f32()
}

/// Writes `y.len()` elements to `y`, from element `first` of the block at `block` on, through the blocks
/// that follow it.
///
/// # Safety
/// The blocks are there.
pub(crate) unsafe fn blocks_to_f32(dtype: DType, block: *const u8, first: usize, y: &mut [f32]) {
    if first == 0 && y.len().is_multiple_of(32) {
        let y = y.as_chunks_mut::<32>().0;
        // SAFETY: by the caller; blocks are bytes without alignment.
        unsafe {
            match dtype {
                DType::Q8_0 => decode_q8(std::slice::from_raw_parts(block.cast(), y.len()), y),
                _ => decode_q4(std::slice::from_raw_parts(block.cast(), y.len()), y),
            }
        }
        return;
    }
    let bytes = dtype.block_bytes();
    for (i, y) in y.iter_mut().enumerate() {
        let e = first + i;
        // SAFETY: by the caller.
        *y = unsafe { block_element(dtype, block.add(e / 32 * bytes), e % 32) };
    }
}

simd! {
    fn decode_q8(blocks: &[[u8; 34]], y: &mut [[f32; 32]]) {
        for ([s0, s1, q @ ..], y) in blocks.iter().zip(y) {
            let scale = f16::from_le_bytes([*s0, *s1]).to_f32();
            for (y, q) in y.iter_mut().zip(q) {
                *y = scale * f32::from(*q as i8);
            }
        }
    }

    fn decode_q4(blocks: &[[u8; 18]], y: &mut [[f32; 32]]) {
        for ([s0, s1, q @ ..], y) in blocks.iter().zip(y) {
            let scale = f16::from_le_bytes([*s0, *s1]).to_f32();
            let (low, high) = y.split_at_mut(16);
            for ((l, h), q) in low.iter_mut().zip(high).zip(q) {
                *l = scale * (f32::from(q & 15) - 8.0);
                *h = scale * (f32::from(q >> 4) - 8.0);
            }
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

    #[test]
    fn blocks_are_decoded_whole_and_in_part() {
        for dtype in [DType::Q8_0, DType::Q4_0] {
            let bytes: Vec<u8> = (0..3 * dtype.block_bytes()).map(|i| (i * 37 + 5) as u8 & 0x3f).collect();
            let mut whole = [0.0; 96];
            // SAFETY: there are three blocks.
            unsafe { blocks_to_f32(dtype, bytes.as_ptr(), 0, &mut whole) };
            let mut part = [0.0; 40];
            // SAFETY: as above; elements 20 to 60 lie inside.
            unsafe { blocks_to_f32(dtype, bytes.as_ptr(), 20, &mut part) };
            assert_eq!(part, whole[20..60]);
            // The first block by hand: its scale is bytes 5 and 42.
            let scale = f16::from_le_bytes([5, 42]).to_f32();
            let expected = match dtype {
                DType::Q8_0 => scale * f32::from(bytes[2 + 17] as i8),
                _ => scale * (f32::from(bytes[2 + 1] >> 4) - 8.0),
            };
            assert_eq!(whole[17], expected);
        }
    }
}
