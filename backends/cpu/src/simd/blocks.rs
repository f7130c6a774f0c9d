//! Decoding block-quantised types to f32 (see `halite_hal::blocks` for what the bytes mean), whole blocks at a time.

use super::simd;
use half::f16;
use halite_hal::DType;

/// The most elements of a block.
const LONGEST: usize = 256;

/// Element `i` of the block at `block`.
///
/// # Safety
/// The block is there, and has more than `i` elements.
pub(crate) unsafe fn block_element(dtype: DType, block: *const u8, i: usize) -> f32 {
    let mut x = [0.0];
    // SAFETY: by the caller.
    unsafe { blocks_to_f32(dtype, block, i, &mut x) };
    x[0]
}

/// Writes `y.len()` elements to `y`, from element `first` of the block at `block` on, through the blocks
/// that follow it.
///
/// # Safety
/// The blocks are there.
pub(crate) unsafe fn blocks_to_f32(dtype: DType, mut block: *const u8, mut first: usize, mut y: &mut [f32]) {
    let (elems, bytes) = (dtype.block_elems(), dtype.block_bytes());
    while !y.is_empty() {
        let whole = y.len() / elems;
        let n = if first == 0 && whole > 0 { whole * elems } else { y.len().min(elems - first) };
        let (now, later) = y.split_at_mut(n);
        // SAFETY: by the caller, the blocks of these elements are there.
        unsafe {
            if first == 0 && whole > 0 {
                whole_blocks(dtype, block, now);
                block = block.wrapping_add(whole * bytes);
            } else {
                let mut all = [0.0; LONGEST];
                whole_blocks(dtype, block, &mut all[..elems]);
                now.copy_from_slice(&all[first..first + n]);
                block = block.wrapping_add(bytes);
            }
        }
        (first, y) = (0, later);
    }
}

/// # Safety
/// The blocks of `y`, which are whole, are there.
unsafe fn whole_blocks(dtype: DType, block: *const u8, y: &mut [f32]) {
    macro_rules! decode {
        ($f:ident, $elems:literal) => {{
            let y = y.as_chunks_mut::<$elems>().0;
            // SAFETY: by the caller; blocks are bytes without alignment.
            $f(unsafe { std::slice::from_raw_parts(block.cast(), y.len()) }, y)
        }};
    }
    match dtype {
        DType::Q8_0 => decode!(q8_0, 32),
        DType::Q4_0 => decode!(q4_0, 32),
        DType::Q4_1 => decode!(q4_1, 32),
        DType::Q5_0 => decode!(q5_0, 32),
        DType::Q5_1 => decode!(q5_1, 32),
        DType::Q4K => decode!(q4_k, 256),
        DType::Q5K => decode!(q5_k, 256),
        DType::Q6K => decode!(q6_k, 256),
        DType::Mxfp4 => decode!(mxfp4, 32),
        DType::F8E4M3 => decode!(f8_e4m3, 32),
        other => unreachable!("{other} has no blocks"),
    }
}

#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 32 numbers of 16 bytes, of four bits each, with a fifth above from the bits of a word.
#[inline(always)]
fn nibbles(bytes: &[u8], fifth: u32) -> [u8; 32] {
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = bytes[i] & 15;
        q[i + 16] = bytes[i] >> 4;
    }
    for (i, q) in q.iter_mut().enumerate() {
        *q |= ((fifth >> i) as u8 & 1) << 4;
    }
    q
}

#[inline(always)]
fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// `d · (q + zero) + m`. What is multiplied is exact, so that a fused multiply-add gives the same.
#[inline(always)]
fn spread(q: &[u8], d: f32, zero: f32, m: f32, y: &mut [f32]) {
    for (y, q) in y.iter_mut().zip(q) {
        *y = d * (f32::from(*q) + zero) + m;
    }
}

/// Scale and minimum, of six bits, of a group of 32 of a block of 256.
#[inline(always)]
pub(crate) fn scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    let j = group % 4;
    if group < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 8] & 15 | packed[j] >> 6 << 4, packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4)
    }
}

/// Twice the values of E2M1 floats.
pub(crate) const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of a power of two, by its biased exponent.
#[inline(always)]
pub(crate) fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

simd! {
    fn q8_0(blocks: &[[u8; 34]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let d = half(block, 0);
            for (y, q) in y.iter_mut().zip(&block[2..]) {
                *y = d * f32::from(*q as i8);
            }
        }
    }

    fn q4_0(blocks: &[[u8; 18]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            spread(&nibbles(&block[2..], 0), half(block, 0), -8.0, 0.0, y);
        }
    }

    fn q4_1(blocks: &[[u8; 20]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            spread(&nibbles(&block[4..], 0), half(block, 0), 0.0, half(block, 2), y);
        }
    }

    fn q5_0(blocks: &[[u8; 22]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            spread(&nibbles(&block[6..], word(block, 2)), half(block, 0), -16.0, 0.0, y);
        }
    }

    fn q5_1(blocks: &[[u8; 24]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            spread(&nibbles(&block[8..], word(block, 4)), half(block, 0), 0.0, half(block, 2), y);
        }
    }

    fn q4_k(blocks: &[[u8; 144]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let (d, dmin) = (half(block, 0), half(block, 2));
            for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, min) = scale_min(&block[4..16], group);
                let bytes = &block[16 + group / 2 * 32..][..32];
                let q: [u8; 32] = std::array::from_fn(|i| bytes[i] >> (group % 2 * 4) & 15);
                spread(&q, d * f32::from(scale), 0.0, -(dmin * f32::from(min)), y);
            }
        }
    }

    fn q5_k(blocks: &[[u8; 176]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let (d, dmin) = (half(block, 0), half(block, 2));
            for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, min) = scale_min(&block[4..16], group);
                let (fifth, bytes) = (&block[16..48], &block[48 + group / 2 * 32..][..32]);
                let q: [u8; 32] = std::array::from_fn(|i| {
                    bytes[i] >> (group % 2 * 4) & 15 | (fifth[i] >> group & 1) << 4
                });
                spread(&q, d * f32::from(scale), 0.0, -(dmin * f32::from(min)), y);
            }
        }
    }

    fn q6_k(blocks: &[[u8; 210]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let d = half(block, 208);
            // Of each 128 elements, four quarters.
            for (quarter, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (side, quarter) = (quarter / 4, quarter % 4);
                let low = &block[side * 64 + quarter % 2 * 32..][..32];
                let high = &block[128 + side * 32..][..32];
                let q: [u8; 32] = std::array::from_fn(|i| {
                    low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (quarter * 2) & 3) << 4
                });
                for (i, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                    let scale = block[192 + side * 8 + quarter * 2 + i] as i8;
                    spread(&q[16 * i..][..16], d * f32::from(scale), -32.0, 0.0, y);
                }
            }
        }
    }

    fn mxfp4(blocks: &[[u8; 17]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let d = half_power(block[0]);
            for (y, q) in y.iter_mut().zip(nibbles(&block[1..], 0)) {
                *y = d * f32::from(E2M1[usize::from(q)]);
            }
        }
    }

    fn f8_e4m3(blocks: &[[u8; 36]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let scale = f32::from_bits(word(block, 0));
            for (y, q) in y.iter_mut().zip(&block[4..]) {
                // Exponent and mantissa as those of an f32, whose bias is larger by 120; exact, subnormals too.
                let bits = u32::from(q & 0x7f) << 20;
                let x = f32::from_bits(bits) * f32::from_bits((120 + 127) << 23);
                let x = if q & 0x7f == 0x7f { f32::NAN } else { x };
                *y = scale * f32::from_bits(x.to_bits() | u32::from(q & 0x80) << 24);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::blocks;

    /// Any bytes, against the definition, whole and in part.
    #[test]
    fn blocks_are_decoded_whole_and_in_part() {
        for dtype in DType::BLOCKS {
            let (elems, size) = (dtype.block_elems(), dtype.block_bytes());
            let mut bytes: Vec<u8> =
                (0..5 * size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 19) as u8).collect();
            // Scales that are finite.
            for block in bytes.chunks_mut(size) {
                match dtype {
                    DType::Q6K => block[209] &= 0x3f,
                    DType::F8E4M3 => {
                        block[3] &= 0x3f;
                        block[4..].iter_mut().filter(|q| **q & 0x7f == 0x7f).for_each(|q| *q = 0x81);
                    }
                    DType::Mxfp4 => {}
                    _ => (block[1], block[3]) = (block[1] & 0x3f, block[3] & 0xbf),
                }
            }
            let mut want = vec![0.0; 5 * elems];
            blocks::decode(dtype, &bytes, &mut want).unwrap();
            for (first, n) in [(0, 5 * elems), (0, 3 * elems + 7), (20, 9), (31, 4 * elems), (elems - 1, 2)] {
                let mut got = vec![0.0; n];
                // SAFETY: there are five blocks, and no element beyond them.
                unsafe { blocks_to_f32(dtype, bytes.as_ptr(), first, &mut got) };
                assert_eq!(got, want[first..first + n], "{dtype} from {first}");
            }
        }
    }
}
