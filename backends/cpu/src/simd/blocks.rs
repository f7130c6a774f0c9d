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
pub(crate) fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 32 numbers of 16 bytes, of four bits each, less `zero`.
#[inline(always)]
pub(crate) fn nibbles(packed: &[u8], zero: u8, q: &mut [u8; 32]) {
    for i in 0..16 {
        q[i] = (packed[i] & 15).wrapping_sub(zero);
        q[16 + i] = (packed[i] >> 4).wrapping_sub(zero);
    }
}

/// For eight bits, bit `i` as the fifth bit of byte `i`.
static FIFTH: [u64; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < table.len() * 8 {
        table[n / 8] |= (((n / 8) >> (n % 8) & 1) as u64) << (8 * (n % 8) + 4);
        n += 1;
    }
    table
};

/// As [`nibbles`], with fifth bits from those of a word; eight bytes at a time.
#[inline(always)]
pub(crate) fn five_bits(packed: &[u8], fifth: u32, zero: u8, q: &mut [u8; 32]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let numbers = |low: u64, bits: u8| {
        let q = low & (0xf * ONES) | FIFTH[usize::from(bits)];
        // The highest bit keeps bytes from borrowing.
        ((q | TOPS) - u64::from(zero) * ONES) ^ TOPS
    };
    let fifth = fifth.to_le_bytes();
    let (low, high) = q.split_at_mut(16);
    for (i, packed) in packed.as_chunks::<8>().0.iter().enumerate() {
        let packed = u64::from_le_bytes(*packed);
        low[8 * i..][..8].copy_from_slice(&numbers(packed, fifth[i]).to_le_bytes());
        high[8 * i..][..8].copy_from_slice(&numbers(packed >> 4, fifth[2 + i]).to_le_bytes());
    }
}

/// Twice the values of 32 E2M1 floats.
#[inline(always)]
pub(crate) fn e2m1(packed: &[u8], q: &mut [u8; 32]) {
    nibbles(packed, 0, q);
    for q in q {
        // 0, 1, 2, 3, 4, 6, 8, 12.
        let m = *q & 7;
        let size = m + m.saturating_sub(4) + if m == 7 { 2 } else { 0 };
        *q = if *q & 8 == 0 { size } else { size.wrapping_neg() };
    }
}

/// The numbers of a block of Q4_K.
#[inline(always)]
pub(crate) fn bytes_q4_k(block: &[u8; 144], q: &mut [u8; 256]) {
    for (q, packed) in q.as_chunks_mut::<64>().0.iter_mut().zip(block[16..].as_chunks::<32>().0) {
        for i in 0..32 {
            q[i] = packed[i] & 15;
            q[32 + i] = packed[i] >> 4;
        }
    }
}

/// The numbers of a block of Q5_K.
#[inline(always)]
pub(crate) fn bytes_q5_k(block: &[u8; 176], q: &mut [u8; 256]) {
    let fifth = &block[16..48];
    let pairs = q.as_chunks_mut::<64>().0.iter_mut().zip(block[48..].as_chunks::<32>().0);
    for (pair, (q, packed)) in pairs.enumerate() {
        for i in 0..32 {
            let above = fifth[i] >> (2 * pair);
            q[i] = packed[i] & 15 | (above & 1) << 4;
            q[32 + i] = packed[i] >> 4 | (above & 2) << 3;
        }
    }
}

/// The numbers of a block of Q6_K, -32 to 31.
#[inline(always)]
pub(crate) fn bytes_q6_k(block: &[u8; 210], q: &mut [u8; 256]) {
    for (side, q) in q.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&block[side * 64..][..64], &block[128 + side * 32..][..32]);
        for i in 0..32 {
            q[i] = (low[i] & 15 | (high[i] & 3) << 4).wrapping_sub(32);
            q[32 + i] = (low[32 + i] & 15 | (high[i] >> 2 & 3) << 4).wrapping_sub(32);
            q[64 + i] = (low[i] >> 4 | (high[i] >> 4 & 3) << 4).wrapping_sub(32);
            q[96 + i] = (low[32 + i] >> 4 | (high[i] >> 6) << 4).wrapping_sub(32);
        }
    }
}

/// Scales and minima of the groups of 32 of a block of Q4_K or Q5_K: `scale · q + min`.
#[inline(always)]
pub(crate) fn scales_mins(block: &[u8], scales: &mut [f32; 8], mins: &mut [f32; 8]) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    for group in 0..8 {
        let (scale, min) = scale_min(&block[4..16], group);
        (scales[group], mins[group]) = (d * f32::from(scale), -(dmin * f32::from(min)));
    }
}

#[inline(always)]
pub(crate) fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// `d · q + m`. What is multiplied is exact, so that a fused multiply-add gives the same.
#[inline(always)]
fn spread(q: &[u8], d: f32, m: f32, y: &mut [f32]) {
    for (y, q) in y.iter_mut().zip(q) {
        *y = d * f32::from(*q as i8) + m;
    }
}

/// Scale and minimum, of six bits, of a group of 32 of a block of 256.
#[inline(always)]
fn scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    let j = group % 4;
    if group < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 8] & 15 | packed[j] >> 6 << 4, packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4)
    }
}

/// Half of a power of two, by its biased exponent.
#[inline(always)]
pub(crate) fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

simd! {
    fn q8_0(blocks: &[[u8; 34]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            spread(&block[2..], half(block, 0), 0.0, y);
        }
    }

    fn q4_0(blocks: &[[u8; 18]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 32];
            nibbles(&block[2..], 8, &mut q);
            spread(&q, half(block, 0), 0.0, y);
        }
    }

    fn q4_1(blocks: &[[u8; 20]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 32];
            nibbles(&block[4..], 0, &mut q);
            spread(&q, half(block, 0), half(block, 2), y);
        }
    }

    fn q5_0(blocks: &[[u8; 22]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 32];
            five_bits(&block[6..], word(block, 2), 16, &mut q);
            spread(&q, half(block, 0), 0.0, y);
        }
    }

    fn q5_1(blocks: &[[u8; 24]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 32];
            five_bits(&block[8..], word(block, 4), 0, &mut q);
            spread(&q, half(block, 0), half(block, 2), y);
        }
    }

    fn q4_k(blocks: &[[u8; 144]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let (mut q, mut scales, mut mins) = ([0; 256], [0.0; 8], [0.0; 8]);
            bytes_q4_k(block, &mut q);
            scales_mins(block, &mut scales, &mut mins);
            for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                spread(&q[group * 32..][..32], scales[group], mins[group], y);
            }
        }
    }

    fn q5_k(blocks: &[[u8; 176]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let (mut q, mut scales, mut mins) = ([0; 256], [0.0; 8], [0.0; 8]);
            bytes_q5_k(block, &mut q);
            scales_mins(block, &mut scales, &mut mins);
            for (group, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                spread(&q[group * 32..][..32], scales[group], mins[group], y);
            }
        }
    }

    fn q6_k(blocks: &[[u8; 210]], y: &mut [[f32; 256]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 256];
            bytes_q6_k(block, &mut q);
            let d = half(block, 208);
            for (group, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(block[192 + group] as i8);
                spread(&q[group * 16..][..16], scale, 0.0, y);
            }
        }
    }

    fn mxfp4(blocks: &[[u8; 17]], y: &mut [[f32; 32]]) {
        for (block, y) in blocks.iter().zip(y) {
            let mut q = [0; 32];
            e2m1(&block[1..], &mut q);
            spread(&q, half_power(block[0]), 0.0, y);
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
