//! Element types, including block-quantised ones.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The element type of a tensor.
///
/// Block types pack [`block_elems`](DType::block_elems) elements into
/// [`block_bytes`](DType::block_bytes) bytes, so there is no size of one element: ask
/// [`bytes`](DType::bytes) for the size of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// Signed 32-bit integer; the type of every index, offset and token id.
    I32,
    /// Unsigned 32-bit integer; random bits and counters.
    U32,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 32 elements in 34 bytes: an f16 scale, then 32 signed bytes (GGML's `Q8_0`).
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 32 elements in 18 bytes: an f16 scale, then 16 bytes of nibbles, low ones first (GGML's `Q4_0`).
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 32 elements in 20 bytes: an f16 scale and an f16 minimum, then 16 bytes of nibbles, low ones first
    /// (GGML's `Q4_1`).
    #[serde(rename = "q4_1")]
    Q4_1,
    /// 32 elements in 22 bytes: an f16 scale, a word of fifth bits, then 16 bytes of nibbles, low ones first
    /// (GGML's `Q5_0`).
    #[serde(rename = "q5_0")]
    Q5_0,
    /// 32 elements in 24 bytes: an f16 scale and an f16 minimum, a word of fifth bits, then 16 bytes of nibbles,
    /// low ones first (GGML's `Q5_1`).
    #[serde(rename = "q5_1")]
    Q5_1,
    /// 256 elements in 144 bytes: an f16 scale and an f16 scale of minima, 12 bytes with a scale and a minimum of
    /// 6 bits for each 32 elements, then 128 bytes of nibbles (GGML's `Q4_K`).
    #[serde(rename = "q4_k")]
    Q4K,
    /// 256 elements in 176 bytes: as [`Q4K`](DType::Q4K), with 32 bytes of fifth bits before the nibbles (GGML's
    /// `Q5_K`).
    #[serde(rename = "q5_k")]
    Q5K,
    /// 256 elements in 210 bytes: 128 bytes of nibbles, 64 bytes of pairs of upper bits, a signed byte of scale
    /// for each 16 elements, then an f16 scale (GGML's `Q6_K`).
    #[serde(rename = "q6_k")]
    Q6K,
    /// 32 elements in 17 bytes: the exponent of a power of two (E8M0), then 16 bytes of E2M1 floats, low nibbles
    /// first (OCP Microscaling's MXFP4 in GGML's order).
    #[serde(rename = "mxfp4")]
    Mxfp4,
    /// 32 elements in 36 bytes: an f32 scale, then 32 E4M3 floats (the variant without infinities, largest 448).
    /// For checkpoints of 8-bit floats with a scale a tile: each block repeats its tile's.
    #[serde(rename = "f8_e4m3")]
    F8E4M3,
}

impl DType {
    /// Every type, in a fixed order.
    pub const ALL: [DType; 17] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::U32,
        DType::U8,
        DType::I8,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::Mxfp4,
        DType::F8E4M3,
    ];

    /// The block types: those of [`ALL`](DType::ALL) with [`is_block`](DType::is_block).
    pub const BLOCKS: [DType; 10] = [
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q4K,
        DType::Q5K,
        DType::Q6K,
        DType::Mxfp4,
        DType::F8E4M3,
    ];

    /// The floating-point types that ops compute on.
    pub const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

    /// Elements in one block; 1 for plain types.
    pub const fn block_elems(self) -> usize {
        match self {
            DType::Q4K | DType::Q5K | DType::Q6K => 256,
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 => 32,
            DType::Mxfp4 | DType::F8E4M3 => 32,
            _ => 1,
        }
    }

    /// Bytes of one block; for plain types, of one element.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 | DType::I8 => 1,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
            DType::Mxfp4 => 17,
            DType::F8E4M3 => 36,
        }
    }

    /// Whether this is a block type: contiguous along one axis, read by matmuls, embedding and copy.
    /// [`Q8_0`](DType::Q8_0) is read by attention too, as keys and values, and written by scatter.
    pub const fn is_block(self) -> bool {
        self.block_elems() > 1
    }

    /// Whether this is one of [`FLOATS`](DType::FLOATS).
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// Bytes of a contiguous tensor of `shape`, or `None` when the last axis is no multiple of the
    /// block or the size overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        if self.is_block() && shape.last().is_none_or(|n| n % self.block_elems() != 0) {
            return None;
        }
        let elems = shape.iter().try_fold(1u64, |p, &d| p.checked_mul(d as u64))?;
        (elems / self.block_elems() as u64).checked_mul(self.block_bytes() as u64)
    }

    /// The unit roundoff of a floating type: half the distance from 1 to the next number; 0 for others.
    pub const fn unit_roundoff(self) -> f64 {
        match self {
            DType::F32 => 5.960_464_477_539_063e-8,
            DType::F16 => 4.882_812_5e-4,
            DType::BF16 => 3.906_25e-3,
            _ => 0.0,
        }
    }

    /// The lower-case name, as in configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::Q4_1 => "q4_1",
            DType::Q5_0 => "q5_0",
            DType::Q5_1 => "q5_1",
            DType::Q4K => "q4_k",
            DType::Q5K => "q5_k",
            DType::Q6K => "q6_k",
            DType::Mxfp4 => "mxfp4",
            DType::F8E4M3 => "f8_e4m3",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_blocks() {
        assert_eq!(DType::F16.bytes(&[3, 5]), Some(30));
        assert_eq!(DType::Q8_0.bytes(&[2, 64]), Some(2 * 2 * 34));
        assert_eq!(DType::Q4_0.bytes(&[2, 33]), None);
        assert_eq!(DType::F32.bytes(&[usize::MAX, 8]), None);
        assert_eq!(DType::F32.bytes(&[]), Some(4));
        assert_eq!(DType::Q6K.bytes(&[2, 512]), Some(2 * 2 * 210));
        assert_eq!(DType::Q4K.bytes(&[2, 32]), None);
    }

    #[test]
    fn names_are_those_of_files_and_blocks_are_all_listed() {
        for dtype in DType::ALL {
            assert_eq!(serde_json::to_value(dtype).unwrap(), dtype.name());
        }
        let blocks: Vec<DType> = DType::ALL.into_iter().filter(|d| d.is_block()).collect();
        assert_eq!(blocks, DType::BLOCKS);
    }
}
