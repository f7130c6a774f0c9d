//! The key-value cache of a decoder: what each layer keeps of the tokens of several sequences.
//!
//! All sequences share a tensor in each layer; each has rows of its own there, one after another in the order of
//! its tokens, so that attention finds them by a start and a length. A layer with a sliding window keeps no more
//! than the window and a piece of new tokens: when its rows are full, the window moves to their beginning.

use super::generate::PREFILL;
use crate::config::{AttentionKind, ModelConfig};
use crate::model::{Model, Store};
use crate::{Error, Result};
use halite_hal::{DType, Source, StreamId, TensorRef};
use std::ops::Range;

const STREAM: StreamId = StreamId(0);

/// What a cache has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Tokens of each sequence at most.
    pub capacities: Vec<usize>,
    /// What keys, values and latent vectors are rounded to: f32, f16, bf16 or q8_0, whose heads (or latent
    /// vectors) take up whole blocks of 32 elements.
    pub dtype: DType,
    /// Tokens that are fed at once at most; longer texts are fed in pieces. At least 1.
    pub piece: usize,
}

impl CacheOptions {
    /// Sequences of up to so many tokens, in f32.
    pub fn new(capacities: Vec<usize>) -> Self {
        CacheOptions { capacities, dtype: DType::F32, piece: PREFILL }
    }

    /// The same in another type.
    pub fn dtype(self, dtype: DType) -> Self {
        CacheOptions { dtype, ..self }
    }

    /// Bytes of the cache of such a model.
    pub fn bytes(&self, config: &ModelConfig) -> u64 {
        let row: u64 = kept(self.dtype, config).iter().map(|shape| row_bytes(self.dtype, shape)).sum();
        let layer = |i| {
            let rows: usize = self.capacities.iter().map(|&c| self.rows(window(config, i), c)).sum();
            rows as u64 * row
        };
        (0..config.num_hidden_layers).map(layer).sum()
    }

    /// Rows of a layer for a sequence.
    fn rows(&self, window: Option<usize>, capacity: usize) -> usize {
        // A token sees so many before it.
        window.map_or(capacity, |w| capacity.min(w.saturating_sub(1) + self.piece))
    }
}

/// The window that a layer's cache may be limited to.
fn window(config: &ModelConfig, layer: usize) -> Option<usize> {
    match config.attention {
        AttentionKind::GroupedQuery => config.window(layer),
        AttentionKind::Latent(_) => None,
    }
}

/// The shapes of what a layer keeps of a token: keys and values, or a latent vector with its rotary part. Each head or
/// part is filled up with zeros to whole blocks of the cache's type.
fn kept(dtype: DType, config: &ModelConfig) -> Vec<Vec<usize>> {
    let whole = |n: usize| n.next_multiple_of(dtype.block_elems());
    match config.attention {
        AttentionKind::GroupedQuery => vec![vec![config.num_key_value_heads, whole(config.head_dim)]; 2],
        AttentionKind::Latent(latent) => {
            vec![vec![whole(latent.kv_lora_rank) + whole(config.rope.rotary_dim)]]
        }
    }
}

/// Elements from one token's to the next. Quantised rows are written in words, two blocks at a time.
fn pitch(dtype: DType, shape: &[usize]) -> usize {
    let width: usize = shape.iter().product();
    if dtype.is_block() { width.next_multiple_of(2 * dtype.block_elems()) } else { width }
}

/// Bytes of a token's.
fn row_bytes(dtype: DType, shape: &[usize]) -> u64 {
    dtype.bytes(&[pitch(dtype, shape)]).expect("whole blocks")
}

/// A sequence's rows in the layers of a region.
#[derive(Clone, Debug)]
struct Block {
    start: usize,
    rows: usize,
    /// The place in the sequence of the token in the first row.
    base: usize,
}

/// Layers that keep the same tokens.
#[derive(Debug)]
struct Region {
    window: Option<usize>,
    /// One for each sequence.
    blocks: Vec<Block>,
}

/// Where tokens go in a layer, and what they see there.
pub(super) struct Placed {
    /// Rows of the tokens.
    pub rows: Range<usize>,
    /// The sequence's first row, and how many of its rows hold tokens, the new ones included.
    pub seen: [usize; 2],
}

#[derive(Debug)]
pub(super) struct Cache {
    /// One for each layer: its region, and what it keeps.
    pub layers: Vec<(usize, Store)>,
    regions: Vec<Region>,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
    options: CacheOptions,
}

impl Cache {
    pub fn new(model: &Model, options: &CacheOptions) -> Result<Self> {
        let c = &model.config;
        let maximum = c.max_position_embeddings;
        if let Some(&requested) = options.capacities.iter().find(|&&n| n == 0 || n > maximum) {
            return Err(Error::ContextLength { requested, maximum });
        }
        if !options.dtype.is_float() && options.dtype != DType::Q8_0 {
            let value = options.dtype.to_string();
            return Err(Error::Setting { key: "the cache's type", value, wanted: "f32, f16, bf16 or q8_0" });
        }
        if options.piece == 0 {
            let wanted = "at least 1";
            return Err(Error::Setting { key: "piece", value: "0".into(), wanted });
        }
        let mut regions: Vec<Region> = Vec::new();
        let mut layers = Vec::new();
        for layer in 0..c.num_hidden_layers {
            // A window that no sequence outgrows is none.
            let shorter = |&w: &usize| options.capacities.iter().any(|&n| options.rows(Some(w), n) < n);
            let window = window(c, layer).filter(shorter);
            let region = regions.iter().position(|r| r.window == window).unwrap_or_else(|| {
                regions.push(region(window, options));
                regions.len() - 1
            });
            let rows = regions[region].blocks.iter().map(|b| b.rows).sum();
            layers.push((region, store(model, options.dtype, rows)?));
        }
        let lengths = vec![0; options.capacities.len()];
        Ok(Cache { layers, regions, lengths, options: options.clone() })
    }

    pub fn options(&self) -> &CacheOptions {
        &self.options
    }

    /// How many kinds of layers there are that keep different tokens.
    pub fn regions(&self) -> usize {
        self.regions.len()
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of a sequence.
    pub fn length(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Tokens that a sequence has room for.
    pub fn capacity(&self, sequence: usize) -> usize {
        self.options.capacities[sequence]
    }

    /// Forgets all tokens of a sequence but the first `length`; all, if what those see is no longer there. Says how
    /// many are left.
    pub fn truncate(&mut self, sequence: usize, length: usize) -> usize {
        let length = length.min(self.lengths[sequence]);
        let there = |r: &Region| {
            let base = r.blocks[sequence].base;
            base == 0 || r.window.is_none_or(|w| base + w - 1 <= length)
        };
        let length = if self.regions.iter().all(there) { length } else { 0 };
        if length == 0 {
            self.regions.iter_mut().for_each(|r| r.blocks[sequence].base = 0);
        }
        self.lengths[sequence] = length;
        length
    }

    /// Makes room for the next `tokens` of a sequence, at most a piece.
    pub fn make_room(&mut self, model: &Model, sequence: usize, tokens: usize) -> Result<()> {
        let length = self.lengths[sequence];
        for (i, region) in self.regions.iter_mut().enumerate() {
            let block = &mut region.blocks[sequence];
            let used = length - block.base;
            let Some(window) = region.window.filter(|_| used + tokens > block.rows) else { continue };
            let kept = used.min(window - 1);
            let from = block.start + used - kept;
            move_rows(model, &self.layers, i, from..from + kept, block.start)?;
            block.base = length - kept;
        }
        Ok(())
    }

    /// Where the next `tokens` of a sequence go in the layers of a region, which has room for them.
    pub fn place(&self, region: usize, sequence: usize, tokens: usize) -> Placed {
        let Block { start, base, .. } = self.regions[region].blocks[sequence];
        let used = self.lengths[sequence] - base;
        Placed { rows: start + used..start + used + tokens, seen: [start, used + tokens] }
    }

    /// Counts tokens that were written.
    pub fn grow(&mut self, sequence: usize, tokens: usize) {
        self.lengths[sequence] += tokens;
    }

    /// Makes `to` the same sequence as `from`, another one.
    pub fn fork(&mut self, model: &Model, from: usize, to: usize) -> Result<()> {
        let sequences = self.sequences();
        if let Some(sequence) = [from, to].into_iter().find(|&s| s >= sequences || from == to) {
            return Err(Error::Sequence { sequence, sequences });
        }
        let (length, maximum) = (self.lengths[from], self.capacity(to));
        if length > maximum {
            return Err(Error::ContextLength { requested: length, maximum });
        }
        for (i, region) in self.regions.iter_mut().enumerate() {
            let Block { start, base, .. } = region.blocks[from];
            let target = &mut region.blocks[to];
            // The newest tokens, if the other has fewer rows.
            let used = (length - base).min(target.rows);
            let first = start + length - base - used;
            move_rows(model, &self.layers, i, first..first + used, target.start)?;
            target.base = length - used;
        }
        self.lengths[to] = length;
        Ok(())
    }
}

fn region(window: Option<usize>, options: &CacheOptions) -> Region {
    let mut start = 0;
    let block = |&capacity| {
        let block = Block { start, rows: options.rows(window, capacity), base: 0 };
        start += block.rows;
        block
    };
    Region { window, blocks: options.capacities.iter().map(block).collect() }
}

/// Memory for a layer.
fn store(model: &Model, dtype: DType, rows: usize) -> Result<Store> {
    let tensor = |shape: &[usize]| -> Result<TensorRef> {
        let row = row_bytes(dtype, shape);
        let buffer = model.device.allocate(row * rows as u64, row)?;
        let dense = TensorRef::new(&buffer, dtype, &[&[rows], shape].concat());
        let strides = [&[pitch(dtype, shape)], &dense.strides[1..]].concat();
        Ok(dense.clone().with_layout(&dense.shape, &strides))
    };
    let tensors = kept(dtype, &model.config).iter().map(|shape| tensor(shape)).collect::<Result<Vec<_>>>()?;
    Ok(match <[TensorRef; 2]>::try_from(tensors) {
        Ok([keys, values]) => Store::KeyValue(keys, values),
        Err(one) => Store::Latent(one.into_iter().next().expect("a latent vector")),
    })
}

/// Copies rows of all layers of a region to those from row `to` on.
fn move_rows(
    model: &Model,
    layers: &[(usize, Store)],
    region: usize,
    rows: Range<usize>,
    to: usize,
) -> Result<()> {
    let mut tensors = layers.iter().filter(|(r, _)| *r == region).flat_map(|(_, store)| store.tensors());
    tensors.try_for_each(|tensor| move_rows_of(model, tensor, rows.clone(), to))
}

/// Copies rows of a tensor, by way of other memory where they overlap.
fn move_rows_of(model: &Model, tensor: &TensorRef, rows: Range<usize>, to: usize) -> Result<()> {
    let Source::Buffer(buffer) = &tensor.source else { unreachable!("stores are in memory") };
    let row = buffer.bytes() / tensor.shape[0] as u64;
    let [from, to, count] = [rows.start, to, rows.len()].map(|n| n as u64 * row);
    let device = &model.device;
    if count == 0 || from == to {
        return Ok(());
    }
    if from.abs_diff(to) >= count {
        return Ok(device.copy(STREAM, (buffer, from), (buffer, to), count)?);
    }
    let between = device.allocate(count, row)?;
    device.copy(STREAM, (buffer, from), (&between, 0), count)?;
    Ok(device.copy(STREAM, (&between, 0), (buffer, to), count)?)
}
