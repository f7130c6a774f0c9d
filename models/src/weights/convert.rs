//! Tensor bytes to numbers.

use half::{bf16, f16};
use safetensors::Dtype;

use super::{TensorView, WeightsError};

impl TensorView<'_> {
    /// The elements as f32, from f32, f16, bf16 or f64 (rounded to nearest).
    pub fn to_f32(&self) -> Result<Vec<f32>, WeightsError> {
        self.check_float()?;
        Ok(match self.dtype {
            Dtype::F16 => map_groups(self.bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => map_groups(self.bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => map_groups(self.bytes, |b| f64::from_le_bytes(b) as f32),
            _ => map_groups(self.bytes, f32::from_le_bytes),
        })
    }

    /// Rows `first..first + rows` of `width` elements, as f32.
    pub(super) fn rows_f32(&self, first: usize, rows: usize, width: usize) -> Result<Vec<f32>, WeightsError> {
        let row = width * self.dtype.bitsize() / 8;
        TensorView { bytes: &self.bytes[first * row..(first + rows) * row], ..*self }.to_f32()
    }

    /// The elements as i64, from i64 or i32.
    pub fn to_i64(&self) -> Result<Vec<i64>, WeightsError> {
        match self.dtype {
            Dtype::I64 => Ok(map_groups(self.bytes, i64::from_le_bytes)),
            Dtype::I32 => Ok(map_groups(self.bytes, |b| i32::from_le_bytes(b).into())),
            _ => Err(self.wrong_dtype("I64 or I32")),
        }
    }

    pub(super) fn check_float(&self) -> Result<(), WeightsError> {
        match self.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => Ok(()),
            _ => Err(self.wrong_dtype("F32, F16, BF16 or F64")),
        }
    }

    pub(super) fn wrong_dtype(&self, wanted: &'static str) -> WeightsError {
        WeightsError::Dtype { name: self.name.into(), found: self.dtype, wanted }
    }
}

/// Bytes in groups of `N`, which is the element's size, so that none are left over.
pub(crate) fn map_groups<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (groups, _) = bytes.as_chunks::<N>();
    groups.iter().map(|group| convert(*group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dtype: Dtype, bytes: &[u8]) -> TensorView<'_> {
        TensorView { name: "t", dtype, shape: &[2], bytes }
    }

    #[test]
    fn every_float_type_becomes_f32() {
        let f32s: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let f64s: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> = [1.5, -2.0].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let bf16s: Vec<u8> = [1.5, -2.0].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        let all = [(Dtype::F32, f32s), (Dtype::F64, f64s), (Dtype::F16, f16s), (Dtype::BF16, bf16s)];
        for (dtype, bytes) in all {
            assert_eq!(view(dtype, &bytes).to_f32().unwrap(), [1.5, -2.0], "{dtype}");
        }
    }

    #[test]
    fn integers_become_i64_and_nothing_else() {
        let bytes: Vec<u8> = [7i32, -1].iter().flat_map(|x| x.to_le_bytes()).collect();
        let ints = view(Dtype::I32, &bytes);
        assert_eq!(ints.to_i64().unwrap(), [7, -1]);
        let message = ints.to_f32().unwrap_err().to_string();
        assert_eq!(message, "tensor t has dtype I32; it must be F32, F16, BF16 or F64");
        assert!(view(Dtype::F32, &bytes).to_i64().is_err());
    }
}
