//! Weights from a checkpoint to a device: in the types in which they are stored, as far as the device can read
//! them, so that quantised weights stay quantised; or in f32, to be trained.

use super::{Model, Parameter, ParameterSet, ParameterTable};
use crate::Result;
use crate::config::{LayerParam, ModelConfig, ParamId};
use crate::weights::{ParameterSource, Values};
use halite_hal::{DType, Device, Op, OpDesc, Support, TensorRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The types that weights have on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightTypes {
    /// f32: weights can be trained.
    F32,
    /// Matrices as they are stored, if the device can multiply with them; the rest f32.
    Stored,
}

/// What is told while weights are loaded: parameters done, and all.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

impl Model {
    /// A model with the weights of a checkpoint.
    pub fn load(
        device: Arc<dyn Device>,
        config: ModelConfig,
        from: &dyn ParameterSource,
        types: WeightTypes,
        progress: Progress<'_>,
    ) -> Result<Self> {
        config.validate()?;
        let table = Arc::new(ParameterTable::new(&config));
        let mut weights = ParameterSet::empty(&device);
        let mut expanded: BTreeMap<DType, usize> = BTreeMap::new();
        for (i, p) in table.list.iter().enumerate() {
            let values: Vec<Values<'_>> =
                p.members.iter().map(|spec| from.values(spec)).collect::<Result<_>>()?;
            let dtype = values[0].dtype;
            let alike = values.iter().all(|v| v.dtype == dtype);
            if types == WeightTypes::Stored && alike && p.type_on(&*device, dtype) == dtype {
                weights.push(p, dtype)?;
                put(&weights, i, &values)?;
                if p.is_only_multiplied() {
                    weights.pack(i)?;
                }
            } else {
                if dtype.is_block() {
                    *expanded.entry(dtype).or_default() += 1;
                }
                weights.push(p, DType::F32)?;
                for (member, (values, spec)) in values.iter().zip(&p.members).enumerate() {
                    weights.write(&table, i, member, &values.to_f32(&spec.name)?)?;
                }
            }
            progress(i + 1, table.list.len());
        }
        if types == WeightTypes::Stored {
            for (dtype, count) in expanded {
                tracing::warn!(
                    "{count} parameters of type {dtype} are expanded to f32 on {}",
                    device.info().name
                );
            }
        }
        Ok(Model { device, config, table, weights })
    }
}

impl Parameter {
    /// Whether nothing is done with the parameter but products with the whole of it. Rows of an embedding are
    /// looked up, and decoding takes the projection of latents apart.
    fn is_only_multiplied(&self) -> bool {
        let apart =
            |id| matches!(id, ParamId::Embedding | ParamId::Layer { param: LayerParam::LatentUp, .. });
        !self.members.iter().any(|m| apart(m.id))
    }

    /// The type that the parameter has on a device when it is stored as `stored`: that one if it is multiplied
    /// with and the device can, else f32.
    pub fn type_on(&self, device: &dyn Device, stored: DType) -> DType {
        let matrix = self.decay() && self.shape.len() >= 2;
        if matrix && reads(device, self, stored) { stored } else { DType::F32 }
    }
}

/// Members one after another.
fn put(weights: &ParameterSet, i: usize, values: &[Values<'_>]) -> Result<()> {
    let mut offset = 0;
    // Uploads begin at words.
    if values.iter().all(|v| v.bytes.len().is_multiple_of(4)) {
        for v in values {
            weights.write_bytes(i, offset, &v.bytes)?;
            offset += v.bytes.len() as u64;
        }
        return Ok(());
    }
    let all: Vec<u8> = values.iter().flat_map(|v| v.bytes.iter().copied()).collect();
    weights.write_bytes(i, 0, &all)
}

/// Whether a device does all that a model does with a parameter, in one type.
fn reads(device: &dyn Device, p: &Parameter, dtype: DType) -> bool {
    if dtype.bytes(&p.shape).is_none() {
        return false;
    }
    let slot = |n, dtype, shape: &[usize]| TensorRef::slot(n, dtype, shape);
    let weight = slot(0, dtype, &p.shape);
    let f32s = |n, shape: &[usize]| slot(n, DType::F32, shape);
    let product = |w: &TensorRef| {
        let w = w.clone().transpose(0, 1);
        Op::matmul(f32s(1, &[1, w.shape[0]]), w.clone(), f32s(2, &[1, w.shape[1]]))
    };
    let ops = match p.members[0].id {
        ParamId::Embedding => {
            let rows = slot(1, DType::I32, &[1]);
            vec![Op::embedding(weight.clone(), rows, f32s(2, &[1, p.shape[1]])), product(&weight)]
        }
        ParamId::Layer { param: LayerParam::Expert { .. }, .. } => {
            let w = weight.transpose(1, 2);
            let offsets = slot(3, DType::I32, &[w.shape[0] + 1]);
            let (a, c) = (f32s(1, &[1, w.shape[1]]), f32s(2, &[1, w.shape[2]]));
            vec![Op::grouped_matmul(a, w, offsets, None, c, false)]
        }
        _ => vec![product(&weight)],
    };
    ops.iter().map(Op::desc).all(|desc: OpDesc| device.supports(&desc) == Support::Native)
}
