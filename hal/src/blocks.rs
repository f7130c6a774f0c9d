//! Block-quantised types: what the bytes of [`DType::BLOCKS`] mean, and how floats become them.
//!
//! [`decode`] is the meaning of each type: whatever reads blocks, on any device, must get these values. Every
//! element is a product of a scale and a small number that f32 holds exactly, or such a product less or plus
//! another, so it has one rounding at most (two for subnormal results), and any order of the same operations
//! gives the same bits.
//!
//! [`encode`] gives the bits of GGML's reference quantisation, the `quantize_row_*_ref` of its `ggml-quants.c` (as
//! packed with llama-cpp-python 0.3.36), for all types that GGML has: files written by either are the same. It is deterministic and single-threaded; rows may be encoded one by one.

mod f8;
mod mxfp4;
mod search;
mod simple;
mod super_blocks;

#[cfg(test)]
mod tests;

use crate::DType;
use thiserror::Error;

/// Why blocks can't be decoded or encoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The type has no blocks.
    #[error(
        "{dtype} is no block type; those are q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, mxfp4 and f8_e4m3"
    )]
    NoBlocks {
        /// The type that was given.
        dtype: DType,
    },
    /// Elements that don't fill whole blocks.
    #[error("{elems} elements of {dtype}, must be a multiple of {}", dtype.block_elems())]
    Elements {
        /// The block type.
        dtype: DType,
        /// How many elements there are.
        elems: usize,
    },
    /// More or fewer bytes than the elements need.
    #[error("{bytes} bytes for {elems} elements of {dtype}, must be {wanted}")]
    Bytes {
        /// The block type.
        dtype: DType,
        /// How many elements there are.
        elems: usize,
        /// How many bytes there are.
        bytes: usize,
        /// How many there must be.
        wanted: usize,
    },
}

/// Decodes `bytes`, blocks of `dtype` one after the other, to `out`.
///
/// # Errors
/// When `dtype` is no block type, or `out` has not the elements of whole blocks of so many bytes.
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    check(dtype, bytes.len(), out.len())?;
    match dtype {
        DType::Q8_0 => each_decoded(bytes, out, simple::decode_q8_0),
        DType::Q4_0 => each_decoded(bytes, out, simple::decode_q4_0),
        DType::Q4_1 => each_decoded(bytes, out, simple::decode_q4_1),
        DType::Q5_0 => each_decoded(bytes, out, simple::decode_q5_0),
        DType::Q5_1 => each_decoded(bytes, out, simple::decode_q5_1),
        DType::Q4K => each_decoded(bytes, out, super_blocks::decode_q4_k),
        DType::Q5K => each_decoded(bytes, out, super_blocks::decode_q5_k),
        DType::Q6K => each_decoded(bytes, out, super_blocks::decode_q6_k),
        DType::Mxfp4 => each_decoded(bytes, out, mxfp4::decode),
        DType::F8E4M3 => each_decoded(bytes, out, f8::decode),
        _ => return Err(Error::NoBlocks { dtype }),
    }
    Ok(())
}

/// Encodes `x` as blocks of `dtype`, one after the other, in `out`. Values that are not finite give blocks
/// without meaning.
///
/// # Errors
/// When `dtype` is no block type, `x` doesn't fill whole blocks, or `out` is not of their size.
pub fn encode(dtype: DType, x: &[f32], out: &mut [u8]) -> Result<(), Error> {
    check(dtype, out.len(), x.len())?;
    match dtype {
        DType::Q8_0 => each_encoded(x, out, simple::encode_q8_0),
        DType::Q4_0 => each_encoded(x, out, simple::encode_q4_0),
        DType::Q4_1 => each_encoded(x, out, simple::encode_q4_1),
        DType::Q5_0 => each_encoded(x, out, simple::encode_q5_0),
        DType::Q5_1 => each_encoded(x, out, simple::encode_q5_1),
        DType::Q4K => each_encoded(x, out, super_blocks::encode_q4_k),
        DType::Q5K => each_encoded(x, out, super_blocks::encode_q5_k),
        DType::Q6K => each_encoded(x, out, super_blocks::encode_q6_k),
        DType::Mxfp4 => each_encoded(x, out, mxfp4::encode),
        DType::F8E4M3 => each_encoded(x, out, f8::encode),
        _ => return Err(Error::NoBlocks { dtype }),
    }
    Ok(())
}

fn check(dtype: DType, bytes: usize, elems: usize) -> Result<(), Error> {
    if !dtype.is_block() {
        return Err(Error::NoBlocks { dtype });
    }
    if !elems.is_multiple_of(dtype.block_elems()) {
        return Err(Error::Elements { dtype, elems });
    }
    // A slice of f32 has more bytes than its elements have as blocks.
    let wanted = elems / dtype.block_elems() * dtype.block_bytes();
    if bytes != wanted {
        return Err(Error::Bytes { dtype, elems, bytes, wanted });
    }
    Ok(())
}

fn each_decoded<const B: usize, const E: usize>(
    bytes: &[u8],
    out: &mut [f32],
    f: fn(&[u8; B], &mut [f32; E]),
) {
    let pairs = bytes.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<E>().0);
    pairs.for_each(|(block, out)| f(block, out));
}

fn each_encoded<const B: usize, const E: usize>(x: &[f32], out: &mut [u8], f: fn(&[f32; E], &mut [u8; B])) {
    let pairs = x.as_chunks::<E>().0.iter().zip(out.as_chunks_mut::<B>().0);
    pairs.for_each(|(x, block)| f(x, block));
}

/// The f16 at bytes `at` and `at + 1`.
fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Writes `x` as f16 to bytes `at` and `at + 1`.
fn put_half(block: &mut [u8], at: usize, x: f32) {
    block[at..at + 2].copy_from_slice(&half::f16::from_f32(x).to_le_bytes());
}

/// `1 / d`, or 0 where that has no meaning.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
