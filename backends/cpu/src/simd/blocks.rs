//! Block-quantised types (see `halite_hal::blocks` for what the bytes mean): decoding them to f32, and products of
//! columns of them with rows of f32, for which they are decoded in registers.
//!
//! A product adds in an order of its own: 32 sums along `k`, each in order, then those as a tree. It is the same
//! for any number of rows.

use super::group::{Group, Plain};
#[cfg(target_arch = "x86_64")]
use super::group::{Ymm, Zmm};
use super::{Level, level, prefetch_ahead};
use halite_hal::DType;

/// The most elements of a block.
const LONGEST: usize = 256;

/// Elements that are decoded together.
const GROUP: usize = 32;

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
                run(dtype, &Decode { blocks: block, count: whole, y: now.as_mut_ptr() });
                block = block.wrapping_add(whole * bytes);
            } else {
                let mut all = [0.0; LONGEST];
                run(dtype, &Decode { blocks: block, count: 1, y: all.as_mut_ptr() });
                now.copy_from_slice(&all[first..first + n]);
                block = block.wrapping_add(bytes);
            }
        }
        (first, y) = (0, later);
    }
}

/// Columns of blocks and rows to multiply them with.
pub(crate) struct Columns {
    /// The columns' type.
    pub(crate) dtype: DType,
    /// The first column, `k` elements.
    pub(crate) blocks: *const u8,
    /// Bytes from one column to the next.
    pub(crate) column_bytes: usize,
    /// Number of columns.
    pub(crate) count: usize,
    /// Elements of a column and a row, whole blocks.
    pub(crate) k: usize,
    /// The rows, `[rows, k]`.
    pub(crate) x: *const f32,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Receives the product of row `i` and column `j` at `i · stride + j`.
    pub(crate) sums: *mut f32,
    /// At least `count`.
    pub(crate) stride: usize,
}

/// Multiplies every row with every column.
///
/// # Safety
/// The operands are there, and no one else uses the sums meanwhile.
pub(crate) unsafe fn multiply(columns: &Columns) {
    // SAFETY: by the caller.
    unsafe { run(columns.dtype, columns) }
}

/// Something to do with blocks of any type on any instruction set.
trait Task {
    /// # Safety
    /// As the task's fields say; the processor has the instructions of `G`.
    unsafe fn run<G: Group, B: Block>(&self);
}

/// # Safety
/// As for [`Task::run`].
unsafe fn run(dtype: DType, task: &impl Task) {
    // SAFETY: by the caller.
    unsafe {
        match dtype {
            DType::Q8_0 => run_level::<Q8_0>(task),
            DType::Q4_0 => run_level::<Q4_0>(task),
            DType::Q4_1 => run_level::<Q4_1>(task),
            DType::Q5_0 => run_level::<Q5_0>(task),
            DType::Q5_1 => run_level::<Q5_1>(task),
            DType::Q4K => run_level::<Q4K>(task),
            DType::Q5K => run_level::<Q5K>(task),
            DType::Q6K => run_level::<Q6K>(task),
            DType::Mxfp4 => run_level::<Mxfp4>(task),
            DType::F8E4M3 => run_level::<F8E4M3>(task),
            other => unreachable!("{other} has no blocks"),
        }
    }
}

/// # Safety
/// As for [`Task::run`].
unsafe fn run_level<B: Block>(task: &impl Task) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    unsafe fn avx512<B: Block>(task: &impl Task) {
        // SAFETY: by the caller.
        unsafe { task.run::<Zmm, B>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<B: Block>(task: &impl Task) {
        // SAFETY: by the caller.
        unsafe { task.run::<Ymm, B>() }
    }
    // SAFETY: the processor has the instructions; the rest by the caller.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::<B>(task),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::<B>(task),
            Level::Base => task.run::<Plain, B>(),
        }
    }
}

/// Whole blocks to f32.
struct Decode {
    blocks: *const u8,
    count: usize,
    /// As many numbers as the blocks have.
    y: *mut f32,
}

impl Task for Decode {
    #[inline(always)]
    unsafe fn run<G: Group, B: Block>(&self) {
        for i in 0..self.count {
            for g in 0..B::GROUPS {
                // SAFETY: by the caller.
                unsafe {
                    let group: G = B::group(self.blocks.add(i * B::BYTES), g);
                    group.store(self.y.add((i * B::GROUPS + g) * GROUP));
                }
            }
        }
    }
}

impl Task for Columns {
    #[inline(always)]
    unsafe fn run<G: Group, B: Block>(&self) {
        for j in 0..self.count {
            // SAFETY: by the caller.
            unsafe {
                let mut i = 0;
                while i + 2 <= self.rows {
                    self.dots::<G, B, 2>(i, j);
                    i += 2;
                }
                if i < self.rows {
                    self.dots::<G, B, 1>(i, j);
                }
            }
        }
    }
}

impl Columns {
    /// `R` rows, the first of which is `i`, with column `j`.
    ///
    /// # Safety
    /// As for [`Task::run`].
    #[inline(always)]
    unsafe fn dots<G: Group, B: Block, const R: usize>(&self, i: usize, j: usize) {
        // SAFETY: by the caller.
        unsafe {
            let (mut block, mut x) = (self.blocks.add(j * self.column_bytes), self.x.add(i * self.k));
            let mut sums = [G::zero(); R];
            for _ in 0..self.k / (B::GROUPS * GROUP) {
                prefetch_ahead(block);
                for g in 0..B::GROUPS {
                    let y: G = B::group(block, g);
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = y.mul_add(G::load(x.add(r * self.k)), *sum);
                    }
                    x = x.add(GROUP);
                }
                block = block.add(B::BYTES);
            }
            for (r, sum) in sums.into_iter().enumerate() {
                *self.sums.add((i + r) * self.stride + j) = sum.sum();
            }
        }
    }
}

/// A block type.
trait Block {
    const BYTES: usize;
    /// Groups of 32 elements of a block.
    const GROUPS: usize;
    /// Group `g` of the block at `block`. What is multiplied is exact, so that a fused multiply-add gives the
    /// same as two operations.
    ///
    /// # Safety
    /// As for [`Group`]; the block is there, and has that group.
    unsafe fn group<G: Group>(block: *const u8, g: usize) -> G;
}

/// Defines a block type: its bytes, its groups, and how one of them is decoded.
macro_rules! block {
    ($name:ident, $bytes:literal, $groups:literal, |$block:ident, $g:pat_param| $group:expr) => {
        struct $name;

        impl Block for $name {
            const BYTES: usize = $bytes;
            const GROUPS: usize = $groups;
            #[inline(always)]
            unsafe fn group<G: Group>($block: *const u8, $g: usize) -> G {
                // SAFETY: by the caller.
                unsafe { $group }
            }
        }
    };
}

block!(Q8_0, 34, 1, |block, _| G::signed(block.add(2)).spread([G::half(block); 2], 0.0));

block!(Q4_0, 18, 1, |block, _| {
    let d = G::half(block);
    G::nibbles(block.add(2)).spread([d; 2], -8.0 * d)
});

block!(Q4_1, 20, 1, |block, _| G::nibbles(block.add(4)).spread([G::half(block); 2], G::half(block.add(2))));

block!(Q5_0, 22, 1, |block, _| {
    let d = G::half(block);
    G::signed(five_bits(block.add(6), word(block.add(2))).as_ptr()).spread([d; 2], -16.0 * d)
});

block!(Q5_1, 24, 1, |block, _| {
    let q = five_bits(block.add(8), word(block.add(4)));
    G::signed(q.as_ptr()).spread([G::half(block); 2], G::half(block.add(2)))
});

block!(Q4K, 144, 8, |block, g| {
    let q = block.add(16 + g / 2 * 32);
    let (d, m) = scale_min::<G>(block, g);
    let q = if g.is_multiple_of(2) { G::lower(q) } else { G::upper(q) };
    q.spread([d; 2], m)
});

block!(Q5K, 176, 8, |block, g| {
    let (fifth, packed) = (bytes(block.add(16)), bytes(block.add(48 + g / 2 * 32)));
    let q: [u8; 32] = std::array::from_fn(|i| packed[i] >> (g % 2 * 4) & 15 | (fifth[i] >> g & 1) << 4);
    let (d, m) = scale_min::<G>(block, g);
    G::signed(q.as_ptr()).spread([d; 2], m)
});

block!(Q6K, 210, 8, |block, g| {
    // Of each 128 elements, four quarters.
    let (side, quarter) = (g / 4, g % 4);
    let low = bytes(block.add(side * 64 + quarter % 2 * 32));
    let high = bytes(block.add(128 + side * 32));
    let q: [u8; 32] = std::array::from_fn(|i| {
        (low[i] >> (quarter / 2 * 4) & 15 | (high[i] >> (quarter * 2) & 3) << 4).wrapping_sub(32)
    });
    let d = G::half(block.add(208));
    let scales = block.add(192 + 2 * g).cast::<[i8; 2]>().read();
    G::signed(q.as_ptr()).spread(scales.map(|s| d * f32::from(s)), 0.0)
});

block!(Mxfp4, 17, 1, |block, _| {
    let packed = block.add(1).cast::<[u8; 16]>().read();
    let mut q = [0; 32];
    for i in 0..16 {
        q[i] = packed[i] & 15;
        q[16 + i] = packed[i] >> 4;
    }
    // Twice the values of E2M1 floats: 0, 1, 2, 3, 4, 6, 8, 12.
    let q = q.map(|q| {
        let m = q & 7;
        let size = m + m.saturating_sub(4) + if m == 7 { 2 } else { 0 };
        if q & 8 == 0 { size } else { size.wrapping_neg() }
    });
    G::signed(q.as_ptr()).spread([half_power(block.read()); 2], 0.0)
});

block!(F8E4M3, 36, 1, |block, _| {
    let x = bytes(block.add(4)).map(|q| {
        // Exponent and mantissa as those of an f32, whose bias is larger by 120; exact, subnormals too.
        let bits = u32::from(q & 0x7f) << 20;
        let x = f32::from_bits(bits) * f32::from_bits((120 + 127) << 23);
        let x = if q & 0x7f == 0x7f { f32::NAN } else { x };
        f32::from_bits(x.to_bits() | u32::from(q & 0x80) << 24)
    });
    G::load(x.as_ptr()).spread([f32::from_bits(word(block)); 2], 0.0)
});

/// # Safety
/// They are there.
#[inline(always)]
unsafe fn bytes(p: *const u8) -> [u8; 32] {
    // SAFETY: by the caller.
    unsafe { p.cast::<[u8; 32]>().read() }
}

/// # Safety
/// It is there.
#[inline(always)]
unsafe fn word(p: *const u8) -> u32 {
    // SAFETY: by the caller.
    u32::from_le_bytes(unsafe { p.cast::<[u8; 4]>().read() })
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

/// 32 numbers of five bits: the lower halves of 16 bytes, then the upper, with fifth bits from those of a word.
/// Eight at a time.
///
/// # Safety
/// The bytes are there.
#[inline(always)]
unsafe fn five_bits(packed: *const u8, fifth: u32) -> [u8; 32] {
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    // SAFETY: by the caller.
    let packed = unsafe { packed.cast::<[[u8; 8]; 2]>().read() }.map(u64::from_le_bytes);
    let [a, b, c, d] = fifth.to_le_bytes().map(|bits| FIFTH[usize::from(bits)]);
    let q = [packed[0] & LOW | a, packed[1] & LOW | b, packed[0] >> 4 & LOW | c, packed[1] >> 4 & LOW | d];
    let mut bytes = [0; 32];
    for (bytes, q) in bytes.as_chunks_mut().0.iter_mut().zip(q) {
        *bytes = q.to_le_bytes();
    }
    bytes
}

/// Scale and minimum of a group of a block of Q4_K or Q5_K: `scale · q + minimum`.
///
/// # Safety
/// As for [`Group`]; the block is there.
#[inline(always)]
unsafe fn scale_min<G: Group>(block: *const u8, g: usize) -> (f32, f32) {
    // SAFETY: by the caller.
    let (d, dmin, packed) =
        unsafe { (G::half(block), G::half(block.add(2)), block.add(4).cast::<[u8; 12]>().read()) };
    // Six bits each.
    let j = g % 4;
    let (scale, min) = if g < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 8] & 15 | packed[j] >> 6 << 4, packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4)
    };
    (d * f32::from(scale), -(dmin * f32::from(min)))
}

/// Half of a power of two, by its biased exponent.
#[inline(always)]
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
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
