//! What a model's GGUF file says and holds: the way back from a configuration to metadata and tensors.
//!
//! Files are those that llama.cpp's converter would make of the Hugging Face model, and read back as the
//! same configuration. What llama.cpp builds differently is refused.

use std::collections::HashMap;

use super::architecture::Architecture;
use super::latent::{LatentUp, Part};
use super::names::interleave;
use super::{GgmlType, GgufError, GgufWriter};
use crate::config::{AttentionKind, LayerParam, ModelConfig, ParamId, ParamSpec, RopeScaling, parameters};
use crate::weights::BoxError;

/// A model to be written as a GGUF file.
///
/// ```
/// use halite_models::config::{ModelConfig, ParamSpec};
/// use halite_models::gguf::{GgmlType, Gguf, GgufExport, GgufModel, GgufWriter};
///
/// let config = ModelConfig::tiny();
/// let export = GgufExport::new(&config)?;
/// let mut writer = GgufWriter::new();
/// export.describe(&mut writer)?;
/// for tensor in export.tensors()? {
///     let zeros = |spec: &ParamSpec| vec![0; 4 * spec.shape.iter().product::<usize>()];
///     tensor.add_to(&mut writer, GgmlType::F32, move |members| Ok(members.iter().flat_map(zeros).collect()))?;
/// }
/// let mut file = Vec::new();
/// writer.write(&mut file)?;
/// assert_eq!(GgufModel::new(Gguf::from_bytes(file)?)?.config().hidden_size, config.hidden_size);
/// # Ok::<_, halite_models::gguf::GgufError>(())
/// ```
pub struct GgufExport<'a> {
    config: &'a ModelConfig,
    architecture: &'static Architecture,
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct ExportTensor {
    /// Its name.
    pub name: String,
    /// Sizes, outermost first: of its one parameter, or `[experts, out, in]`; with latent attention also
    /// `[heads, kv_lora_rank, plain]` and `[heads, value, kv_lora_rank]`, the parts of one parameter.
    pub shape: Vec<usize>,
    /// The parameters that lie in it one after another.
    pub members: Vec<ParamSpec>,
    layout: Layout,
}

/// What becomes of its members' bytes.
#[derive(Debug, Clone, Copy)]
enum Layout {
    AsIs,
    /// Rows are moved within so many heads.
    Interleaved(usize),
    Part(LatentUp, Part),
}

impl ExportTensor {
    /// Adds it to a file. When its turn comes, `read` gives the bytes of its members one after another, all
    /// of that type, with rows in Hugging Face's order. The parts of a parameter must be of a plain type.
    pub fn add_to<'a>(
        self,
        writer: &mut GgufWriter<'a>,
        ggml_type: GgmlType,
        read: impl FnOnce(&[ParamSpec]) -> Result<Vec<u8>, BoxError> + 'a,
    ) -> Result<(), GgufError> {
        let ExportTensor { name, shape, members, layout } = self;
        let rows = shape.first().copied().unwrap_or(1);
        let bytes = move || {
            let bytes = read(&members)?;
            Ok(match layout {
                Layout::AsIs => bytes,
                Layout::Interleaved(heads) => interleave(&bytes, rows, heads),
                Layout::Part(up, part) => up.split(part, &bytes, ggml_type)?,
            }
            .into())
        };
        writer.tensor(name, ggml_type, &shape, bytes)
    }
}

impl<'a> GgufExport<'a> {
    /// For a valid configuration; [`GgufError::Unsupported`] if no architecture can express it.
    pub fn new(config: &'a ModelConfig) -> Result<GgufExport<'a>, GgufError> {
        let architecture = Architecture::for_model(config.model_type)?;
        (architecture.check)(config).map_err(inexpressible)?;
        if let Some(moe) = &config.moe {
            (architecture.check_experts)(config, moe).map_err(inexpressible)?;
        }
        Ok(GgufExport { config, architecture })
    }

    /// Adds the metadata that say what the model is made of (not its tokenizer's, but for the ids that begin
    /// and end a text, of which two can be told), and the tensor that says how the rotary embedding is scaled.
    pub fn describe(&self, writer: &mut GgufWriter<'_>) -> Result<(), GgufError> {
        let c = self.config;
        writer.metadata("general.architecture", self.architecture.name)?;
        writer.metadata("general.type", "model")?;
        let mut out = Out { writer, architecture: self.architecture.name };
        out.size("vocab_size", c.vocab_size)?;
        out.size("context_length", c.max_position_embeddings)?;
        out.size("embedding_length", c.hidden_size)?;
        out.size("block_count", c.num_hidden_layers)?;
        let width = if c.intermediate_size > 0 { Some(c.intermediate_size) } else { None };
        let width = width.or(c.moe.as_ref().map(|moe| moe.moe_intermediate_size)).unwrap_or(0);
        out.size("feed_forward_length", width)?;
        out.size("attention.head_count", c.num_attention_heads)?;
        match c.attention {
            AttentionKind::Latent(latent) => {
                // llama.cpp attends in the latent space: to one head that is as wide as the latent vector.
                out.size("attention.head_count_kv", 1)?;
                out.size("attention.key_length", latent.kv_lora_rank + c.rope.rotary_dim)?;
                out.size("attention.value_length", latent.kv_lora_rank)?;
                out.size("attention.key_length_mla", c.head_dim)?;
                out.size("attention.value_length_mla", latent.v_head_dim)?;
                out.size("attention.kv_lora_rank", latent.kv_lora_rank)?;
                // Whether llama.cpp wants this depends on the number of layers; 0 it takes always.
                out.size("attention.q_lora_rank", latent.q_lora_rank.unwrap_or(0))?;
            }
            _ => {
                out.size("attention.head_count_kv", c.num_key_value_heads)?;
                out.size("attention.key_length", c.head_dim)?;
                out.size("attention.value_length", c.head_dim)?;
            }
        }
        if let Some(window) = c.sliding_window {
            out.size("attention.sliding_window", window)?;
        }
        out.float("attention.layer_norm_rms_epsilon", c.rms_norm_eps)?;
        out.size("rope.dimension_count", c.rope.rotary_dim)?;
        out.float("rope.freq_base", c.rope.theta)?;
        if let Some(moe) = &c.moe {
            out.size("expert_count", moe.num_experts)?;
            out.size("expert_used_count", moe.num_experts_per_tok)?;
            if c.first_k_dense_replace > 0 {
                out.size("leading_dense_block_count", c.first_k_dense_replace)?;
            }
            (self.architecture.describe_experts)(moe, &mut out)?;
        }
        if let Some(scaling) = &c.rope.scaling {
            self.scaling(scaling, &mut out)?;
        }
        if let Some(id) = c.bos_token_id {
            writer.metadata("tokenizer.ggml.bos_token_id", id)?;
        }
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        for (key, id) in ends.into_iter().zip(&c.eos_token_ids) {
            writer.metadata(key, *id)?;
        }
        Ok(())
    }

    fn scaling(&self, scaling: &RopeScaling, out: &mut Out<'_, '_>) -> Result<(), GgufError> {
        const ORIGINAL: &str = "rope.scaling.original_context_length";
        match scaling {
            RopeScaling::Linear { factor } => {
                out.text("rope.scaling.type", "linear")?;
                out.float("rope.scaling.factor", *factor)
            }
            RopeScaling::Llama3 {
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings,
                ..
            } => {
                let rope = &self.config.rope;
                let plain = |i: usize| rope.theta.powf(-2.0 * i as f64 / rope.rotary_dim as f64);
                let factors: Vec<u8> = (rope.inverse_frequencies().iter().enumerate())
                    .flat_map(|(i, scaled)| ((plain(i) / scaled) as f32).to_le_bytes())
                    .collect();
                out.size(ORIGINAL, *original_max_position_embeddings)?;
                let shape = [rope.rotary_dim / 2];
                out.writer.tensor("rope_freqs.weight", GgmlType::F32, &shape, || Ok(factors.into()))
            }
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                attention_factor,
                truncate,
            } if *truncate == self.architecture.rounds_ramp
                && (self.architecture.latent || (mscale, mscale_all_dim) == (&None, &None)) =>
            {
                out.text("rope.scaling.type", "yarn")?;
                out.float("rope.scaling.factor", *factor)?;
                out.size(ORIGINAL, *original_max_position_embeddings)?;
                out.float("rope.scaling.yarn_beta_fast", *beta_fast)?;
                out.float("rope.scaling.yarn_beta_slow", *beta_slow)?;
                if let Some(strength) = mscale_all_dim {
                    // A tenth, for what llama.cpp once did with it.
                    out.float("rope.scaling.yarn_log_multiplier", 0.1 * strength)?;
                }
                match attention_factor {
                    Some(factor) => out.float("rope.scaling.yarn_attn_factor", *factor),
                    None => Ok(()),
                }
            }
            other => Err(inexpressible(format!("this scaling of the rotary embedding: {other:?}"))),
        }
    }

    /// The tensors of all parameters, in the parameters' order.
    pub fn tensors(&self) -> Result<Vec<ExportTensor>, GgufError> {
        let mut tensors: Vec<ExportTensor> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for spec in parameters(self.config) {
            if let (ParamId::Layer { layer, param: LayerParam::LatentUp }, Some(up)) =
                (spec.id, LatentUp::of(self.config))
            {
                tensors.extend(Part::BOTH.map(|part| ExportTensor {
                    name: part.tensor(layer),
                    shape: up.shape(part).into(),
                    members: vec![spec.clone()],
                    layout: Layout::Part(up, part),
                }));
                continue;
            }
            let place = self.architecture.place(spec.id);
            if let Some(&at) = index.get(&place.tensor) {
                tensors[at].members.push(spec);
                tensors[at].shape[0] += 1;
                continue;
            }
            index.insert(place.tensor.clone(), tensors.len());
            let mut shape = spec.shape.clone();
            if place.expert.is_some() {
                shape.insert(0, 1);
            }
            let layout = match self.architecture.moves_rows(spec.id) {
                true => Layout::Interleaved(shape[0] / self.config.head_dim),
                false => Layout::AsIs,
            };
            tensors.push(ExportTensor { name: place.tensor, shape, members: vec![spec], layout });
        }
        Ok(tensors)
    }
}

fn inexpressible(what: impl Into<String>) -> GgufError {
    GgufError::Unsupported {
        what: what.into(),
        wanted: "GGUF has no way to say it for this model type".into(),
    }
}

/// Metadata of an architecture.
pub(super) struct Out<'a, 'w> {
    writer: &'a mut GgufWriter<'w>,
    architecture: &'static str,
}

impl Out<'_, '_> {
    /// A whole number, as u32, of which all sizes of valid configurations are.
    pub fn size(&mut self, key: &str, value: usize) -> Result<(), GgufError> {
        let key = format!("{}.{key}", self.architecture);
        let value = u32::try_from(value)
            .map_err(|_| GgufError::metadata(&key, format!("{value} is too large; it must fit 32 bits")))?;
        self.writer.metadata(&key, value)
    }

    /// A number, as f32.
    pub fn float(&mut self, key: &str, value: f64) -> Result<(), GgufError> {
        self.writer.metadata(&format!("{}.{key}", self.architecture), value as f32)
    }

    pub fn flag(&mut self, key: &str, value: bool) -> Result<(), GgufError> {
        self.writer.metadata(&format!("{}.{key}", self.architecture), value)
    }

    fn text(&mut self, key: &str, value: &str) -> Result<(), GgufError> {
        self.writer.metadata(&format!("{}.{key}", self.architecture), value)
    }
}
