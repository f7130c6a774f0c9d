//! A model's weights on a device: one tensor a parameter, experts stacked.

use super::forward::router;
use super::tree::{
    AttentionWeights, FeedForwardWeights, GroupedQuery, LatentAttention, Layer, Linear, Mlp, Moe, Weights,
};
use crate::Result;
use crate::config::{
    AttentionKind, FeedForward, Init, LayerParam, ModelConfig, ParamId, ParamSpec, Projection, parameters,
};
use crate::weights::{Values, WeightsError};
use halite_hal::philox::Normals;
use halite_hal::{Buffer, DType, Device, Op, Packing, StreamId, TensorRef};
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor of weights. A stack of experts is one parameter with a member for each expert; any other
/// parameter has one member.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Shape; `[experts, out, in]` for a stack.
    pub shape: Vec<usize>,
    /// The logical parameters that lie in it one after another.
    pub members: Vec<ParamSpec>,
}

impl Parameter {
    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether gradients change it.
    pub fn trainable(&self) -> bool {
        self.members[0].trainable
    }

    /// Whether weight decay applies by default.
    pub fn decay(&self) -> bool {
        self.members[0].decay
    }
}

fn too_large(name: &str) -> WeightsError {
    WeightsError::Values { name: name.into(), reason: "its size can't be addressed".into() }
}

/// The parameter that a logical one lies in: experts are told by their first.
fn stack_of(id: ParamId) -> ParamId {
    match id {
        ParamId::Layer { layer, param: LayerParam::Expert { projection, .. } } => {
            ParamId::Layer { layer, param: LayerParam::Expert { expert: 0, projection } }
        }
        ParamId::Layer { layer, param: LayerParam::ExpertBias { projection, .. } } => {
            ParamId::Layer { layer, param: LayerParam::ExpertBias { expert: 0, projection } }
        }
        id => id,
    }
}

/// The parameters of a configuration, and which is which.
#[derive(Clone, Debug)]
pub struct ParameterTable {
    /// In the order of [`parameters`].
    pub list: Vec<Parameter>,
    /// Indices into `list`.
    pub weights: Weights<usize>,
}

impl ParameterTable {
    /// The parameters of a valid configuration.
    pub fn new(config: &ModelConfig) -> Self {
        let mut list: Vec<Parameter> = Vec::new();
        let mut index: HashMap<ParamId, usize> = HashMap::new();
        for spec in parameters(config) {
            let at = *index.entry(stack_of(spec.id)).or_insert_with(|| {
                list.push(Parameter { shape: spec.shape.clone(), members: Vec::new() });
                list.len() - 1
            });
            list[at].members.push(spec);
        }
        for p in &mut list {
            if let ParamId::Layer {
                param: LayerParam::Expert { .. } | LayerParam::ExpertBias { .. }, ..
            } = p.members[0].id
            {
                p.shape.insert(0, p.members.len());
            }
        }
        let weights = tree(config, &index);
        ParameterTable { list, weights }
    }

    /// Number of weights, and how many of them a token uses.
    pub fn counts(&self, config: &ModelConfig) -> (usize, usize) {
        let per_token = config.moe.as_ref().map_or(1, |m| m.num_experts_per_tok);
        let mut total = 0;
        let mut active = 0;
        for p in &self.list {
            total += p.elems();
            active += p.elems() / p.members.len() * p.members.len().min(per_token);
        }
        (total, active)
    }
}

fn tree(config: &ModelConfig, index: &HashMap<ParamId, usize>) -> Weights<usize> {
    let layers = (0..config.num_hidden_layers).map(|layer| {
        let maybe = |param| index.get(&ParamId::Layer { layer, param }).copied();
        // The listing has these for every layer.
        let of = |param| maybe(param).expect("a parameter that every layer has");
        let linear = |weight, bias| Linear { weight: of(weight), bias: maybe(bias) };
        let mlp = |param: &dyn Fn(Projection) -> LayerParam| Mlp {
            gate: of(param(Projection::Gate)),
            up: of(param(Projection::Up)),
            down: of(param(Projection::Down)),
        };
        let feed_forward = match config.feed_forward(layer) {
            FeedForward::Dense { .. } => FeedForwardWeights::Dense(mlp(&LayerParam::Dense)),
            FeedForward::Moe(moe) => FeedForwardWeights::Moe(Moe {
                kind: router(moe),
                router: linear(LayerParam::Router, LayerParam::RouterBias),
                bias: maybe(LayerParam::SelectionBias),
                experts: mlp(&|projection| LayerParam::Expert { expert: 0, projection }),
                expert_bias: moe
                    .bias
                    .then(|| mlp(&|projection| LayerParam::ExpertBias { expert: 0, projection })),
                shared: maybe(LayerParam::Shared(Projection::Gate)).map(|_| mlp(&LayerParam::Shared)),
                shared_gate: maybe(LayerParam::SharedGate),
            }),
        };
        let attention = match config.attention {
            AttentionKind::GroupedQuery => AttentionWeights::GroupedQuery(GroupedQuery {
                q: linear(LayerParam::QueryWeight, LayerParam::QueryBias),
                k: linear(LayerParam::KeyWeight, LayerParam::KeyBias),
                v: linear(LayerParam::ValueWeight, LayerParam::ValueBias),
                o: linear(LayerParam::OutputWeight, LayerParam::OutputBias),
                q_norm: maybe(LayerParam::QueryNorm),
                k_norm: maybe(LayerParam::KeyNorm),
                sinks: maybe(LayerParam::Sinks),
            }),
            AttentionKind::Latent(latent) => AttentionWeights::Latent(LatentAttention {
                q_down: latent
                    .q_lora_rank
                    .map(|_| (of(LayerParam::QueryDown), of(LayerParam::QueryDownNorm))),
                q: of(match latent.q_lora_rank {
                    Some(_) => LayerParam::QueryUp,
                    None => LayerParam::QueryWeight,
                }),
                latent: of(LayerParam::LatentWeight),
                norm: of(LayerParam::LatentNorm),
                up: of(LayerParam::LatentUp),
                o: of(LayerParam::OutputWeight),
            }),
        };
        Layer {
            input_norm: of(LayerParam::InputNorm),
            attention,
            post_norm: of(LayerParam::PostAttentionNorm),
            feed_forward,
        }
    });
    let embed = index[&ParamId::Embedding];
    Weights {
        embed,
        layers: layers.collect(),
        norm: index[&ParamId::FinalNorm],
        head: index.get(&ParamId::Head).copied().unwrap_or(embed),
    }
}

/// Tensors on a device, one for each parameter of a table: weights, gradients, or moments. They are f32, but for
/// weights that are kept as they were stored.
#[derive(Clone, Debug)]
pub struct ParameterSet {
    device: Arc<dyn Device>,
    buffers: Vec<Buffer>,
    tensors: Vec<TensorRef>,
}

impl ParameterSet {
    /// Memory for no parameter yet.
    pub(super) fn empty(device: &Arc<dyn Device>) -> Self {
        ParameterSet { device: device.clone(), buffers: Vec::new(), tensors: Vec::new() }
    }

    /// f32 memory for every parameter, its content undefined.
    pub fn allocate(device: &Arc<dyn Device>, table: &ParameterTable) -> Result<Self> {
        let mut set = ParameterSet::empty(device);
        for p in &table.list {
            set.push(p, DType::F32)?;
        }
        Ok(set)
    }

    /// Memory for the next parameter of the table.
    pub(super) fn push(&mut self, p: &Parameter, dtype: DType) -> Result<()> {
        let bytes = |shape: &[usize]| dtype.bytes(shape).ok_or_else(|| too_large(&p.members[0].name));
        let row = bytes(&p.shape[p.shape.len().saturating_sub(1)..])?;
        let buffer = self.device.allocate(bytes(&p.shape)?, row)?;
        self.tensors.push(TensorRef::new(&buffer, dtype, &p.shape));
        self.buffers.push(buffer);
        Ok(())
    }

    /// The tensor of parameter `i`.
    pub fn tensor(&self, i: usize) -> TensorRef {
        self.tensors[i].clone()
    }

    /// Writes member `member` of f32 parameter `i`.
    pub fn write(&self, table: &ParameterTable, i: usize, member: usize, data: &[f32]) -> Result<()> {
        let elems: usize = table.list[i].members[member].shape.iter().product();
        assert_eq!(data.len(), elems, "elements of {}", table.list[i].members[member].name);
        self.write_bytes(i, 4 * (member * elems) as u64, bytemuck::cast_slice(data))
    }

    /// Writes bytes of parameter `i`, from byte `offset` on.
    pub(super) fn write_bytes(&self, i: usize, offset: u64, data: &[u8]) -> Result<()> {
        Ok(self.device.upload(StreamId(0), &self.buffers[i], offset, data)?)
    }

    /// Brings parameter `i`, a weight of products and nothing else, into the layout that the device multiplies
    /// with best.
    pub(super) fn pack(&mut self, i: usize) -> Result<()> {
        let plain = self.tensor(i);
        let packing = self.device.packing(&plain.layout());
        if packing != Packing::Plain {
            self.tensors[i].packing = packing;
            self.device.submit(StreamId(0), &[Op::pack(plain, self.tensor(i))])?;
        }
        Ok(())
    }

    /// Reads every element of parameter `i` as f32, members one after another.
    ///
    /// # Panics
    /// The parameter is in a layout of the device's own.
    pub fn read(&self, i: usize) -> Result<Vec<f32>> {
        assert_eq!(self.tensors[i].packing, Packing::Plain, "of parameter {i}");
        let buffer = &self.buffers[i];
        let bytes = self.device.download(StreamId(0), buffer, 0, buffer.bytes())?;
        match self.tensors[i].dtype {
            DType::F32 => Ok(bytes.wait_as()?),
            dtype => Ok(Values { dtype, bytes: bytes.wait()?.into() }.to_f32("of the model")?),
        }
    }

    /// Reads member `member` of f32 parameter `i` as little-endian bytes.
    pub fn read_bytes(&self, table: &ParameterTable, i: usize, member: usize) -> Result<Vec<u8>> {
        let bytes = 4 * (table.list[i].elems() / table.list[i].members.len()) as u64;
        let from = &self.buffers[i];
        Ok(self.device.download(StreamId(0), from, member as u64 * bytes, bytes)?.wait()?)
    }

    /// Bytes of device memory that the parameters take.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(Buffer::bytes).sum()
    }

    /// Fills every parameter as its specification says. The values depend on seed and parameter alone.
    pub fn initialize(&self, table: &ParameterTable, seed: u64) -> Result<()> {
        let mut stream = 0;
        for (i, p) in table.list.iter().enumerate() {
            for (m, spec) in p.members.iter().enumerate() {
                let n: usize = spec.shape.iter().product();
                let data: Vec<f32> = match spec.init {
                    Init::Ones => vec![1.0; n],
                    Init::Zeros => vec![0.0; n],
                    Init::Normal { std } => {
                        Normals::new(seed, stream).take(n).map(|x| (x * std) as f32).collect()
                    }
                };
                stream += 1;
                self.write(table, i, m, &data)?;
            }
        }
        Ok(())
    }

    /// Fills every parameter with zeros.
    pub fn clear(&self, table: &ParameterTable) -> Result<()> {
        for (i, p) in table.list.iter().enumerate() {
            let zeros = vec![0u8; 4 * p.elems()];
            self.device.upload(StreamId(0), &self.buffers[i], 0, &zeros)?;
        }
        Ok(())
    }

    /// The logical parameters in order, by name, with their values: `f(spec, values)`.
    pub fn for_each(
        &self,
        table: &ParameterTable,
        mut f: impl FnMut(&ParamSpec, &[f32]) -> Result<()>,
    ) -> Result<()> {
        for (i, p) in table.list.iter().enumerate() {
            let data = self.read(i)?;
            let each = data.len() / p.members.len();
            for (m, spec) in p.members.iter().enumerate() {
                f(spec, &data[m * each..(m + 1) * each])?;
            }
        }
        Ok(())
    }
}
