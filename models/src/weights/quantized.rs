//! Parameters of Hugging Face folders in types that devices know: 8-bit floats with a scale a tile become blocks.

use std::borrow::Cow;
use std::path::Path;

use halite_hal::DType;
use safetensors::Dtype;
use serde::Deserialize;

use super::{ParameterSource, TensorView, Values, Weights, WeightsError};
use crate::Result;
use crate::config::ParamSpec;

/// Elements of a block of 8-bit floats.
const BLOCK: usize = 32;

/// Rows and columns that share a scale, where the folder doesn't say.
pub(super) const TILE: [usize; 2] = [128, 128];

/// The part of `config.json` that says how weights are quantised.
#[derive(Deserialize)]
struct Config {
    quantization_config: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    weight_block_size: Option<[usize; 2]>,
}

/// The tile of a folder's 8-bit weights.
pub(super) fn tile(dir: &Path) -> [usize; 2] {
    // What is wrong with the file is told by who reads the model's configuration.
    let config = std::fs::read(dir.join("config.json")).ok();
    let config: Option<Config> = config.and_then(|text| serde_json::from_slice(&text).ok());
    config.and_then(|c| c.quantization_config?.weight_block_size).unwrap_or(TILE)
}

/// The name of the scales of an 8-bit weight.
pub(super) fn scale_name(weight: &str) -> String {
    format!("{weight}_scale_inv")
}

impl ParameterSource for Weights {
    fn values(&self, spec: &ParamSpec) -> Result<Values<'_>> {
        if !self.has(&spec.name)
            && let Some(values) = self.unstacked(spec)?
        {
            values.check_scales(&spec.name)?;
            return Ok(values);
        }
        let view = self.parameter(spec)?;
        Ok(match view.dtype {
            Dtype::F32 => Values { dtype: DType::F32, bytes: Cow::Borrowed(view.bytes) },
            Dtype::F16 => Values { dtype: DType::F16, bytes: Cow::Borrowed(view.bytes) },
            Dtype::BF16 => Values { dtype: DType::BF16, bytes: Cow::Borrowed(view.bytes) },
            Dtype::F8_E4M3 => self.tiled(&view)?,
            _ => Values::of_f32(&view.to_f32()?),
        })
    }
}

impl Weights {
    /// A weight of 8-bit floats as blocks, each with its tile's scale; in f32 where rows have no whole blocks.
    fn tiled(&self, weight: &TensorView<'_>) -> Result<Values<'static>> {
        let scales = self.tensor(&scale_name(weight.name))?;
        let [tall, wide] = self.tile;
        let &[rows, columns] = weight.shape else {
            return Err(self.wrong_shape(weight, vec![0, 0]).into());
        };
        let wanted = vec![rows.div_ceil(tall.max(1)), columns.div_ceil(wide.max(1))];
        if tall == 0 || wide == 0 || scales.shape != wanted {
            return Err(self.wrong_shape(&scales, wanted).into());
        }
        let scale = scales.to_f32()?;
        let per_row = wanted[1];
        if let Some(at) = scale.iter().position(|s| !s.is_finite()) {
            let reason = format!("tile {at} has the scale {}", scale[at]);
            return Err(WeightsError::Values { name: weight.name.into(), reason }.into());
        }
        if columns.is_multiple_of(BLOCK) && wide.is_multiple_of(BLOCK) {
            let mut bytes = Vec::with_capacity(weight.bytes.len() / BLOCK * DType::F8E4M3.block_bytes());
            for (i, block) in weight.bytes.chunks_exact(BLOCK).enumerate() {
                let (row, column) = (i * BLOCK / columns, i * BLOCK % columns);
                bytes.extend(scale[row / tall * per_row + column / wide].to_le_bytes());
                bytes.extend(block);
            }
            return Ok(Values { dtype: DType::F8E4M3, bytes: bytes.into() });
        }
        // Blocks of scale 1 on a row made whole give the numbers themselves.
        let mut values = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for (column, numbers) in weight.bytes[row * columns..][..columns].chunks(BLOCK).enumerate() {
                let mut block = 1f32.to_le_bytes().to_vec();
                block.extend(numbers);
                block.resize(DType::F8E4M3.block_bytes(), 0);
                let numbers_f32 = Values { dtype: DType::F8E4M3, bytes: block.into() }.to_f32(weight.name)?;
                let first = column * BLOCK;
                values.extend(
                    numbers_f32
                        .iter()
                        .take(numbers.len())
                        .enumerate()
                        .map(|(i, x)| x * scale[row / tall * per_row + (first + i) / wide]),
                );
            }
        }
        Ok(Values::of_f32(&values))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{TensorMeta, TensorSource, save_tensors};
    use super::*;
    use crate::config::{Init, LayerParam, ParamId, Projection};

    fn spec(param: LayerParam, name: &str, shape: &[usize]) -> ParamSpec {
        let id = ParamId::Layer { layer: 0, param };
        let (name, shape, init) = (name.into(), shape.to_vec(), Init::Zeros);
        ParamSpec { id, name, shape, init, trainable: true, decay: true }
    }

    /// A folder with these tensors, opened.
    fn folder(config: &str, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Weights {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let mut source = TensorSource::new();
        for (name, dtype, shape, bytes) in tensors {
            let meta = TensorMeta { name: (*name).into(), dtype: *dtype, shape: shape.to_vec() };
            source.push(meta, move || Ok(bytes.as_slice().into()));
        }
        save_tensors(&dir.path().join("model.safetensors"), source).unwrap();
        Weights::open_folder(dir.path()).unwrap()
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// An e4m3 number by its definition.
    fn e4m3(bits: u8) -> f32 {
        let (exponent, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
        let size = match exponent {
            0 => fraction / 8.0 * 2f32.powi(-6),
            e => (1.0 + fraction / 8.0) * 2f32.powi(e - 7),
        };
        if bits >> 7 == 1 { -size } else { size }
    }

    #[test]
    fn eight_bit_weights_have_the_scale_of_their_tile() {
        let config = r#"{"quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 32]}}"#;
        for (columns, dtype) in [(96usize, DType::F8E4M3), (40, DType::F32)] {
            let rows = 6;
            let bits: Vec<u8> = (0..rows * columns).map(|i| (i * 37 % 127 + i % 2 * 128) as u8).collect();
            let across = columns.div_ceil(32);
            let scales: Vec<f32> = (0..2 * across).map(|i| 0.01 + 0.3 * i as f32).collect();
            let weights = folder(
                config,
                &[
                    ("w.weight", Dtype::F8_E4M3, &[rows, columns], bits.clone()),
                    ("w.weight_scale_inv", Dtype::F32, &[2, across], f32s(&scales)),
                ],
            );
            let spec = spec(LayerParam::OutputWeight, "w.weight", &[rows, columns]);
            assert_eq!(weights.check(std::slice::from_ref(&spec)).unwrap(), [""; 0]);
            let values = weights.values(&spec).unwrap();
            assert_eq!(values.dtype, dtype);
            for (i, x) in values.to_f32("w").unwrap().into_iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                assert_eq!(x, e4m3(bits[i]) * scales[row / 4 * across + column / 32], "{row} {column}");
            }
        }
    }

    #[test]
    fn scales_that_do_not_fit_are_errors() {
        let weight = || ("w", Dtype::F8_E4M3, &[2, 64][..], vec![0x38; 128]);
        let spec = spec(LayerParam::OutputWeight, "w", &[2, 64]);
        let message = |scales: (&str, Dtype, &[usize], Vec<u8>)| {
            folder("{}", &[weight(), scales]).values(&spec).unwrap_err().to_string()
        };
        let lonely = folder("{}", &[weight()]).values(&spec).unwrap_err().to_string();
        assert!(lonely.contains("w_scale_inv"), "{lonely}");
        let shape = message(("w_scale_inv", Dtype::F32, &[1, 2], f32s(&[1.0, 1.0])));
        assert!(shape.contains("[1, 2]") && shape.contains("[1, 1]"), "{shape}");
        let nan = message(("w_scale_inv", Dtype::F32, &[1, 1], f32s(&[f32::NAN])));
        assert!(nan.contains("tile 0 has the scale NaN"), "{nan}");
    }

    #[test]
    fn stacked_experts_are_taken_apart() {
        let (experts, width, hidden) = (2, 3, 32);
        let wide = 2 * width;
        let numbers: Vec<f32> = (0..experts * hidden * wide).map(|i| i as f32).collect();
        let biases: Vec<f32> = (0..experts * wide).map(|i| -(i as f32)).collect();
        let blocks: Vec<u8> = (0..experts * hidden * width / 2).map(|i| (i * 89 % 251) as u8).collect();
        let scales: Vec<u8> = (0..experts * hidden * width / 32).map(|i| 120 + i as u8 % 13).collect();
        let stack = "model.layers.0.mlp.experts";
        let names = ["gate_up_proj", "gate_up_proj_bias", "down_proj_blocks", "down_proj_scales"]
            .map(|n| format!("{stack}.{n}"));
        // The down projection with hidden as its width, so that a row has a whole block.
        let weights = folder(
            "{}",
            &[
                (&names[0], Dtype::F32, &[experts, hidden, wide], f32s(&numbers)),
                (&names[1], Dtype::F32, &[experts, wide], f32s(&biases)),
                (&names[2], Dtype::U8, &[experts, width, 1, 16], blocks.clone()),
                (&names[3], Dtype::U8, &[experts, width, 1], scales.clone()),
            ],
        );
        let (expert, projection) = (1, Projection::Up);
        let up = spec(LayerParam::Expert { expert, projection }, "none", &[width, hidden]);
        let values = weights.values(&up).unwrap().to_f32("up").unwrap();
        for (i, x) in values.into_iter().enumerate() {
            let (o, k) = (i / hidden, i % hidden);
            assert_eq!(x, numbers[(expert * hidden + k) * wide + 2 * o + 1]);
        }
        let bias = spec(LayerParam::ExpertBias { expert, projection }, "none", &[width]);
        let values = weights.values(&bias).unwrap().to_f32("bias").unwrap();
        assert_eq!(values, [1, 3, 5].map(|o| biases[expert * wide + o]));

        let projection = Projection::Down;
        let down = spec(LayerParam::Expert { expert, projection }, "none", &[width, 32]);
        let values = weights.values(&down).unwrap();
        assert_eq!(values.dtype, DType::Mxfp4);
        let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (i, x) in values.to_f32("down").unwrap().into_iter().enumerate() {
            let (row, k) = (expert * width + i / 32, i % 32);
            let code = blocks[row * 16 + k / 2] >> (4 * (k % 2)) & 15;
            let size = e2m1[usize::from(code & 7)] * 2f32.powi(i32::from(scales[row]) - 127);
            assert_eq!(x, if code > 7 { -size } else { size }, "{row} {k}");
        }
        assert_eq!(weights.check(&[up, bias, down]).unwrap(), [""; 0]);
        let absent = spec(LayerParam::Expert { expert: 2, projection }, "none", &[width, 32]);
        assert!(weights.values(&absent).unwrap_err().to_string().contains("down_proj_blocks"));
    }
}
