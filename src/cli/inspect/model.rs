//! `halite inspect model`: what a model is made of, and what it takes on each device.

use crate::cli::DeviceArgs;
use crate::cli::error::Result;
use crate::cli::model::{CacheArgs, ModelArgs};
use crate::cli::output::{self, say, size};
use halite::hal::{DType, Device};
use halite::models::ModelFiles;
use halite::models::config::{AttentionKind, ModelConfig};
use halite::models::inference::CacheOptions;
use halite::models::model::ParameterTable;
use halite::models::weights::ParameterSource;
use serde::Serialize;
use std::collections::BTreeMap;

/// Say what a model is made of, and what it takes on each device
#[derive(clap::Args)]
#[command(after_help = "Example:\n  halite inspect model --model model.gguf --tensors")]
pub struct InspectModel {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// List the tensors with their types and shapes
    #[arg(long)]
    tensors: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: u64,
}

/// What a model takes on a device, in bytes.
#[derive(Serialize)]
struct Place {
    device: String,
    weights: u64,
    /// Types that the device can't multiply with: these weights are f32 on it.
    expanded: Vec<DType>,
    /// Of the key-value cache, by context length.
    cache: BTreeMap<usize, u64>,
    free: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    model_type: String,
    parameters: usize,
    active_parameters: usize,
    layers: usize,
    hidden_size: usize,
    vocab_size: usize,
    attention: String,
    feed_forward: String,
    context: usize,
    cache_type: DType,
    bytes_by_type: BTreeMap<DType, u64>,
    devices: Vec<Place>,
    tensors: Vec<Tensor>,
}

impl InspectModel {
    pub fn run(self) -> Result<()> {
        let files = self.model.find()?;
        let config = files.config();
        let table = ParameterTable::new(config);
        let tensors = tensors(&files, &table)?;
        let devices = self.device.open_all()?;
        let (parameters, active_parameters) = table.counts(config);
        let mut bytes_by_type = BTreeMap::new();
        for tensor in &tensors {
            *bytes_by_type.entry(tensor.dtype).or_default() += tensor.bytes;
        }
        let report = Report {
            model_type: config.model_type.to_string(),
            parameters,
            active_parameters,
            layers: config.num_hidden_layers,
            hidden_size: config.hidden_size,
            vocab_size: config.vocab_size,
            attention: attention(config),
            feed_forward: feed_forward(config),
            context: config.max_position_embeddings,
            cache_type: self.cache.cache_type,
            bytes_by_type,
            devices: devices
                .iter()
                .map(|d| place(d.as_ref(), config, &table, &tensors, self.cache.cache_type))
                .collect(),
            tensors,
        };
        if self.json { output::json(&report) } else { print(&report, self.tensors) }
    }
}

/// Parameters as they are stored; a stack of experts is one tensor.
fn tensors(files: &ModelFiles, table: &ParameterTable) -> Result<Vec<Tensor>> {
    let mut list = Vec::with_capacity(table.list.len());
    for p in &table.list {
        let values = files.values(&p.members[0])?;
        list.push(Tensor {
            name: p.members[0].name.clone(),
            dtype: values.dtype,
            shape: p.shape.clone(),
            bytes: (values.bytes.len() * p.members.len()) as u64,
        });
    }
    Ok(list)
}

fn attention(c: &ModelConfig) -> String {
    let mut text = match c.attention {
        AttentionKind::Latent(latent) => {
            let query = latent.q_lora_rank.map_or("none".into(), |rank| rank.to_string());
            format!(
                "latent, {} heads of {} ({} rotary), values of {}; latent vector of {}, query compression {query}",
                c.num_attention_heads, c.head_dim, c.rope.rotary_dim, latent.v_head_dim, latent.kv_lora_rank
            )
        }
        _ => format!(
            "{} heads of {} on {} key/value heads",
            c.num_attention_heads, c.head_dim, c.num_key_value_heads
        ),
    };
    if let Some(window) = c.sliding_window {
        let full = c.full_attention_layers.len();
        text += &format!(
            "; window of {window} in {} of {} layers",
            c.num_hidden_layers - full,
            c.num_hidden_layers
        );
    }
    if c.attention_sinks {
        text += "; sinks";
    }
    text
}

fn feed_forward(c: &ModelConfig) -> String {
    let Some(moe) = &c.moe else { return format!("dense, {} wide", c.intermediate_size) };
    let mut text = format!(
        "{} of {} experts {} wide",
        moe.num_experts_per_tok, moe.num_experts, moe.moe_intermediate_size
    );
    if moe.n_shared_experts > 0 {
        text += &format!(", shared ones {} wide", moe.shared_intermediate_size);
    }
    if c.first_k_dense_replace > 0 {
        text +=
            &format!("; the first {} layers dense, {} wide", c.first_k_dense_replace, c.intermediate_size);
    }
    text
}

fn place(
    device: &dyn Device,
    config: &ModelConfig,
    table: &ParameterTable,
    tensors: &[Tensor],
    cache_type: DType,
) -> Place {
    let mut weights = 0;
    let mut expanded = Vec::new();
    for (p, tensor) in table.list.iter().zip(tensors) {
        let dtype = p.type_on(device, tensor.dtype);
        weights += dtype.bytes(&p.shape).unwrap_or(u64::MAX);
        if dtype != tensor.dtype && tensor.dtype.is_block() && !expanded.contains(&tensor.dtype) {
            expanded.push(tensor.dtype);
        }
    }
    let bytes = |n| CacheOptions::new(vec![n]).dtype(cache_type).bytes(config);
    let cache = contexts(config).into_iter().map(|n| (n, bytes(n)));
    Place {
        device: device.info().selector.clone(),
        weights,
        expanded,
        cache: cache.collect(),
        free: device.info().memory_free_bytes,
    }
}

/// Context lengths that memory is told for.
fn contexts(config: &ModelConfig) -> Vec<usize> {
    let most = config.max_position_embeddings;
    let mut all: Vec<usize> = [2048, 8192, 32768, most].into_iter().filter(|c| *c <= most).collect();
    all.dedup();
    all
}

fn print(r: &Report, tensors: bool) -> Result<()> {
    say!("{}: {} parameters, {} active", r.model_type, r.parameters, r.active_parameters)?;
    say!(
        "{} layers, hidden {}, vocabulary {}, context {}",
        r.layers,
        r.hidden_size,
        r.vocab_size,
        r.context
    )?;
    say!("attention: {}", r.attention)?;
    say!("feed-forward: {}", r.feed_forward)?;
    let types = r.bytes_by_type.iter().map(|(dtype, bytes)| format!("{dtype} {}", size(*bytes)));
    say!("cache: {}", r.cache_type)?;
    say!("stored: {}\n", types.collect::<Vec<_>>().join(", "))?;
    let mut rows = vec![vec!["device".to_string(), "weights".into()]];
    if let Some(p) = r.devices.first() {
        rows[0].extend(p.cache.keys().map(|n| format!("with {n} tokens")));
    }
    rows[0].extend(["free".into(), "expanded to f32".into()]);
    for p in &r.devices {
        let mut row = vec![p.device.clone(), size(p.weights)];
        row.extend(p.cache.values().map(|bytes| size(p.weights + bytes)));
        row.push(p.free.map_or("unknown".into(), size));
        row.push(p.expanded.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", "));
        rows.push(row);
    }
    output::table(&rows)?;
    if tensors {
        say!("")?;
        let mut rows = vec![["tensor", "type", "shape", "bytes"].map(String::from).to_vec()];
        for t in &r.tensors {
            rows.push(vec![
                t.name.clone(),
                t.dtype.to_string(),
                format!("{:?}", t.shape),
                t.bytes.to_string(),
            ]);
        }
        output::table(&rows)?;
    }
    Ok(())
}
