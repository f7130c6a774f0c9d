//! A model on a device: configuration, weights, forward pass.

mod forward;
mod latent;
mod load;
mod parameters;
mod tree;
mod whole_blocks;

pub use forward::{Batch, LayerCache, Output, Store, forward, router};
pub use load::{Progress, WeightTypes};
pub use parameters::{Parameter, ParameterSet, ParameterTable};
pub use tree::{
    AttentionWeights, FeedForwardWeights, GroupedQuery, LatentAttention, Layer, Linear, Mlp, Moe, Weights,
};

use crate::config::ModelConfig;
use crate::tape::RopeTables;
use crate::{Result, checkpoint, weights};
use halite_hal::{Buffer, DType, Device, StreamId, TensorRef};
use std::path::Path;
use std::sync::Arc;

/// A transformer with its weights on a device.
#[derive(Clone, Debug)]
pub struct Model {
    /// The device.
    pub device: Arc<dyn Device>,
    /// What the model is made of.
    pub config: ModelConfig,
    /// Which parameters it has.
    pub table: Arc<ParameterTable>,
    /// Their values.
    pub weights: ParameterSet,
}

impl Model {
    /// Memory for the weights, their values undefined.
    fn allocate(device: Arc<dyn Device>, config: ModelConfig) -> Result<Self> {
        config.validate()?;
        let table = Arc::new(ParameterTable::new(&config));
        let weights = ParameterSet::allocate(&device, &table)?;
        Ok(Model { device, config, table, weights })
    }

    /// A new model with random weights; the same seed gives the same weights on every device.
    pub fn new(device: Arc<dyn Device>, config: ModelConfig, seed: u64) -> Result<Self> {
        let model = Model::allocate(device, config)?;
        model.weights.initialize(&model.table, seed)?;
        Ok(model)
    }

    /// A model with the weights of a file or folder, converted to f32.
    pub fn from_weights(
        device: Arc<dyn Device>,
        config: ModelConfig,
        from: &weights::Weights,
    ) -> Result<Self> {
        Model::load(device, config, from, WeightTypes::F32, &mut |_, _| {})
    }

    /// The model of a Hugging Face folder or of a run's latest checkpoint, in f32.
    pub fn open(device: Arc<dyn Device>, path: &Path) -> Result<Self> {
        let opened = checkpoint::open_model(path)?;
        Model::from_weights(device, opened.config, &opened.weights)
    }

    /// Number of weights, and how many of them a token uses.
    pub fn parameter_counts(&self) -> (usize, usize) {
        self.table.counts(&self.config)
    }

    /// Layers with experts, experts in each, and experts that a token chooses there; zeros in a dense model.
    pub(crate) fn experts(&self) -> (usize, usize, usize) {
        let config = &self.config;
        let layers = config.num_hidden_layers - config.first_k_dense_replace;
        config.moe.as_ref().map_or((0, 0, 0), |m| (layers, m.num_experts, m.num_experts_per_tok))
    }

    /// Rotary tables for positions `0..positions` on the device.
    pub fn rope_tables(&self, positions: usize) -> Result<RopeBuffers> {
        RopeBuffers::new(&self.device, &self.config, positions)
    }

    /// Writes i32 values to a new buffer.
    pub fn upload_i32(&self, data: &[i32]) -> Result<Buffer> {
        let buffer = self.device.allocate(4 * data.len() as u64, 0)?;
        self.device.upload(StreamId(0), &buffer, 0, bytemuck::cast_slice(data))?;
        Ok(buffer)
    }
}

/// Rotary tables on a device.
#[derive(Clone, Debug)]
pub struct RopeBuffers {
    cos: TensorRef,
    sin: TensorRef,
    interleaved: bool,
}

impl RopeBuffers {
    /// Cosines and sines of position times inverse frequency, times the scaling's attention factor,
    /// computed in f64, for positions `0..positions`.
    fn new(device: &Arc<dyn Device>, config: &ModelConfig, positions: usize) -> Result<Self> {
        let frequencies = config.rope.inverse_frequencies();
        let factor = config.rope.attention_factor();
        let positions = positions.max(1);
        let table = |f: fn(f64) -> f64| -> Result<TensorRef> {
            let values: Vec<f32> = (0..positions)
                .flat_map(|p| frequencies.iter().map(move |w| (f(p as f64 * w) * factor) as f32))
                .collect();
            let buffer = device.allocate(4 * values.len() as u64, 0)?;
            device.upload(StreamId(0), &buffer, 0, bytemuck::cast_slice(&values))?;
            Ok(TensorRef::new(&buffer, DType::F32, &[positions, frequencies.len()]))
        };
        let interleaved = config.rope.interleaved;
        Ok(RopeBuffers { cos: table(f64::cos)?, sin: table(f64::sin)?, interleaved })
    }

    /// With the positions of a batch, i32 `[tokens]`.
    pub fn at(&self, positions: TensorRef) -> RopeTables {
        RopeTables { cos: self.cos.clone(), sin: self.sin.clone(), positions, interleaved: self.interleaved }
    }
}
