//! A column of weights as bytes with scales, unpacked from blocks.

use super::GROUP;
use crate::simd::blocks::{E2M1, half, half_power, nibbles, scale_min, word};
use crate::simd::simd;
use halite_hal::DType;

/// Whether elements of a block type are small integers with a scale.
pub(crate) fn has_bytes(dtype: DType) -> bool {
    dtype.is_block() && dtype != DType::F8E4M3
}

/// `k` weights: `scale · byte + min`.
pub(crate) struct Column {
    dtype: DType,
    /// `[k]`.
    pub(super) bytes: Vec<u8>,
    /// Whether bytes are signed; then there are no minima. Unsigned ones are below 32.
    pub(super) signed: bool,
    /// `[k / 32]`, or `[k / 16]` if `split`.
    pub(super) scales: Vec<f32>,
    /// Whether there are two scales for each 32.
    pub(super) split: bool,
    /// `[k / 32]`, or nothing.
    pub(super) mins: Vec<f32>,
}

impl Column {
    /// Room for `k` weights, whole blocks of a type that [`has_bytes`].
    pub(crate) fn new(dtype: DType, k: usize) -> Self {
        let signed = !matches!(dtype, DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K);
        let split = dtype == DType::Q6K;
        let groups = k / GROUP;
        Column {
            dtype,
            bytes: vec![0; k],
            signed,
            scales: vec![0.0; if split { 2 * groups } else { groups }],
            split,
            mins: vec![0.0; if signed { 0 } else { groups }],
        }
    }

    /// The scale of a half group.
    pub(super) fn scale(&self, half: usize) -> f32 {
        self.scales[if self.split { half } else { half / 2 }]
    }

    /// Takes the weights of the blocks at `blocks`.
    ///
    /// # Safety
    /// As many blocks are there as the column's elements are.
    pub(crate) unsafe fn unpack(&mut self, blocks: *const u8) {
        let (bytes, scales, mins) = (&mut self.bytes[..], &mut self.scales[..], &mut self.mins[..]);
        macro_rules! unpack {
            ($f:ident, $elems:literal, $($out:ident),*) => {{
                let bytes = bytes.as_chunks_mut::<$elems>().0;
                // SAFETY: by the caller; blocks are bytes without alignment.
                $f(unsafe { std::slice::from_raw_parts(blocks.cast(), bytes.len()) }, bytes, $($out),*)
            }};
        }
        match self.dtype {
            DType::Q8_0 => unpack!(q8_0, 32, scales),
            DType::Q4_0 => unpack!(q4_0, 32, scales),
            DType::Q4_1 => unpack!(q4_1, 32, scales, mins),
            DType::Q5_0 => unpack!(q5_0, 32, scales),
            DType::Q5_1 => unpack!(q5_1, 32, scales, mins),
            DType::Q4K => unpack!(q4_k, 256, scales, mins),
            DType::Q5K => unpack!(q5_k, 256, scales, mins),
            DType::Q6K => unpack!(q6_k, 256, scales),
            DType::Mxfp4 => unpack!(mxfp4, 32, scales),
            other => unreachable!("{other} is no integers"),
        }
    }
}

simd! {
    fn q8_0(blocks: &[[u8; 34]], bytes: &mut [[u8; 32]], scales: &mut [f32]) {
        for ((block, bytes), scale) in blocks.iter().zip(bytes).zip(scales) {
            *scale = half(block, 0);
            bytes.copy_from_slice(&block[2..]);
        }
    }

    fn q4_0(blocks: &[[u8; 18]], bytes: &mut [[u8; 32]], scales: &mut [f32]) {
        for ((block, bytes), scale) in blocks.iter().zip(bytes).zip(scales) {
            *scale = half(block, 0);
            *bytes = nibbles(&block[2..], 0).map(|q| q.wrapping_sub(8));
        }
    }

    fn q4_1(blocks: &[[u8; 20]], bytes: &mut [[u8; 32]], scales: &mut [f32], mins: &mut [f32]) {
        for (((block, bytes), scale), min) in blocks.iter().zip(bytes).zip(scales).zip(mins) {
            (*scale, *min) = (half(block, 0), half(block, 2));
            *bytes = nibbles(&block[4..], 0);
        }
    }

    fn q5_0(blocks: &[[u8; 22]], bytes: &mut [[u8; 32]], scales: &mut [f32]) {
        for ((block, bytes), scale) in blocks.iter().zip(bytes).zip(scales) {
            *scale = half(block, 0);
            *bytes = nibbles(&block[6..], word(block, 2)).map(|q| q.wrapping_sub(16));
        }
    }

    fn q5_1(blocks: &[[u8; 24]], bytes: &mut [[u8; 32]], scales: &mut [f32], mins: &mut [f32]) {
        for (((block, bytes), scale), min) in blocks.iter().zip(bytes).zip(scales).zip(mins) {
            (*scale, *min) = (half(block, 0), half(block, 2));
            *bytes = nibbles(&block[8..], word(block, 4));
        }
    }

    fn q4_k(blocks: &[[u8; 144]], bytes: &mut [[u8; 256]], scales: &mut [f32], mins: &mut [f32]) {
        let ends = scales.as_chunks_mut::<8>().0.iter_mut().zip(mins.as_chunks_mut::<8>().0);
        for ((block, bytes), (scales, mins)) in blocks.iter().zip(bytes).zip(ends) {
            let (d, dmin) = (half(block, 0), half(block, 2));
            for group in 0..8 {
                let (scale, min) = scale_min(&block[4..16], group);
                (scales[group], mins[group]) = (d * f32::from(scale), -(dmin * f32::from(min)));
            }
            let pairs = bytes.as_chunks_mut::<64>().0.iter_mut();
            for (bytes, packed) in pairs.zip(block[16..].as_chunks::<32>().0) {
                for (i, q) in packed.iter().enumerate() {
                    bytes[i] = q & 15;
                    bytes[32 + i] = q >> 4;
                }
            }
        }
    }

    fn q5_k(blocks: &[[u8; 176]], bytes: &mut [[u8; 256]], scales: &mut [f32], mins: &mut [f32]) {
        let ends = scales.as_chunks_mut::<8>().0.iter_mut().zip(mins.as_chunks_mut::<8>().0);
        for ((block, bytes), (scales, mins)) in blocks.iter().zip(bytes).zip(ends) {
            let (d, dmin) = (half(block, 0), half(block, 2));
            for group in 0..8 {
                let (scale, min) = scale_min(&block[4..16], group);
                (scales[group], mins[group]) = (d * f32::from(scale), -(dmin * f32::from(min)));
            }
            let fifth = &block[16..48];
            let pairs = bytes.as_chunks_mut::<64>().0.iter_mut();
            for (pair, (bytes, packed)) in pairs.zip(block[48..].as_chunks::<32>().0).enumerate() {
                for (i, q) in packed.iter().enumerate() {
                    let above = fifth[i] >> (2 * pair);
                    bytes[i] = q & 15 | (above & 1) << 4;
                    bytes[32 + i] = q >> 4 | (above & 2) << 3;
                }
            }
        }
    }

    fn q6_k(blocks: &[[u8; 210]], bytes: &mut [[u8; 256]], scales: &mut [f32]) {
        for ((block, bytes), scales) in blocks.iter().zip(bytes).zip(scales.as_chunks_mut::<16>().0) {
            let d = half(block, 208);
            for (scale, q) in scales.iter_mut().zip(&block[192..208]) {
                *scale = d * f32::from(*q as i8);
            }
            for (side, bytes) in bytes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
                let (low, high) = (&block[side * 64..][..64], &block[128 + side * 32..][..32]);
                for i in 0..32 {
                    bytes[i] = (low[i] & 15 | (high[i] & 3) << 4).wrapping_sub(32);
                    bytes[32 + i] = (low[32 + i] & 15 | (high[i] >> 2 & 3) << 4).wrapping_sub(32);
                    bytes[64 + i] = (low[i] >> 4 | (high[i] >> 4 & 3) << 4).wrapping_sub(32);
                    bytes[96 + i] = (low[32 + i] >> 4 | (high[i] >> 6) << 4).wrapping_sub(32);
                }
            }
        }
    }

    fn mxfp4(blocks: &[[u8; 17]], bytes: &mut [[u8; 32]], scales: &mut [f32]) {
        for ((block, bytes), scale) in blocks.iter().zip(bytes).zip(scales) {
            *scale = half_power(block[0]);
            *bytes = nibbles(&block[1..], 0).map(|q| E2M1[usize::from(q)] as u8);
        }
    }
}
