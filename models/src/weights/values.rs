//! The values of a parameter in a type that devices know, and where they come from.

use std::borrow::Cow;

use half::{bf16, f16};
use halite_hal::{DType, blocks};

use super::{WeightsError, map_groups};
use crate::Result;
use crate::config::ParamSpec;

/// The elements of a parameter, row-major in its own shape, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Values<'a> {
    /// f32, f16, bf16 or a block type.
    pub dtype: DType,
    /// The elements; aligned to nothing in particular.
    pub bytes: Cow<'a, [u8]>,
}

/// Something that has a model's parameters: a checkpoint of some format.
pub trait ParameterSource {
    /// The values of a parameter, in the type in which they are stored where devices know it, else in f32.
    ///
    /// # Errors
    /// When it isn't there, has another shape, or scales that aren't finite.
    fn values(&self, spec: &ParamSpec) -> Result<Values<'_>>;
}

impl Values<'_> {
    /// As f32.
    pub fn of_f32(values: &[f32]) -> Values<'static> {
        Values { dtype: DType::F32, bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect() }
    }

    /// The elements as f32; `name` is the parameter's, for errors.
    pub fn to_f32(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let bytes = &self.bytes;
        Ok(match self.dtype {
            DType::F32 => map_groups(bytes, f32::from_le_bytes),
            DType::F16 => map_groups(bytes, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => map_groups(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            block => {
                let mut out = vec![0.0; bytes.len() / block.block_bytes() * block.block_elems()];
                blocks::decode(block, bytes, &mut out)
                    .map_err(|e| WeightsError::Values { name: name.into(), reason: e.to_string() })?;
                out
            }
        })
    }

    /// Checks the scales of a block type: one that isn't finite makes a whole block useless, and spreads.
    pub fn check_scales(&self, name: &str) -> Result<(), WeightsError> {
        // Where blocks have scales in f16.
        let places: &[usize] = match self.dtype {
            DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
            DType::Q6K => &[208],
            _ => &[],
        };
        let finite = |block: &[u8]| match self.dtype {
            DType::Mxfp4 => block[0] != 255,
            DType::F8E4M3 => f32::from_le_bytes([block[0], block[1], block[2], block[3]]).is_finite(),
            _ => places.iter().all(|&at| f16::from_le_bytes([block[at], block[at + 1]]).is_finite()),
        };
        if !self.dtype.is_block() {
            return Ok(());
        }
        match self.bytes.chunks_exact(self.dtype.block_bytes()).position(|block| !finite(block)) {
            None => Ok(()),
            Some(block) => {
                let reason = format!("block {block} of its {} has a scale that isn't finite", self.dtype);
                Err(WeightsError::Values { name: name.into(), reason })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_that_is_no_number_is_found_in_every_block_type() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_block()) {
            let x: Vec<f32> = (0..2 * dtype.block_elems()).map(|i| (i as f32).sin()).collect();
            let mut bytes = vec![0; 2 * dtype.block_bytes()];
            blocks::encode(dtype, &x, &mut bytes).unwrap();
            let values = Values { dtype, bytes: bytes.clone().into() };
            values.check_scales("t").unwrap();
            assert_eq!(values.to_f32("t").unwrap().len(), x.len());
            let second = dtype.block_bytes();
            let scale = if dtype == DType::Q6K { 208 } else { 0 };
            bytes[second + scale..][..if dtype == DType::F8E4M3 { 4 } else { 1 }].fill(0xff);
            if dtype.block_bytes() != 17 && dtype != DType::F8E4M3 {
                bytes[second + scale + 1] = 0x7f;
            }
            let message = Values { dtype, bytes: bytes.into() }.check_scales("t").unwrap_err().to_string();
            assert!(message.contains("block 1 of its"), "{dtype}: {message}");
        }
    }
}
