//! The key-value cache of a decoder: what each layer keeps of the tokens of several sequences.
//!
//! All sequences share a tensor in each layer; each has rows of its own there, one after another in the order of
//! its tokens, so that attention finds them by a start and a length.

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
}

impl CacheOptions {
    /// One sequence of up to `capacity` tokens.
    pub fn one(capacity: usize) -> Self {
        CacheOptions { capacities: vec![capacity] }
    }
}

/// A sequence's part of the cache.
#[derive(Clone, Debug)]
struct Sequence {
    /// Tokens so far.
    length: usize,
    /// Its first row, and how many there are.
    start: usize,
    rows: usize,
}

/// Where tokens go in the cache, and what they see there.
pub(super) struct Placed {
    /// Rows of the tokens.
    pub rows: Range<usize>,
    /// The sequence's first row, and how many of its rows hold tokens, the new ones included.
    pub seen: [usize; 2],
}

#[derive(Debug)]
pub(super) struct Cache {
    /// One for each layer.
    pub stores: Vec<Store>,
    sequences: Vec<Sequence>,
}

impl Cache {
    pub fn new(model: &Model, options: &CacheOptions) -> Result<Self> {
        let c = &model.config;
        let maximum = c.max_position_embeddings;
        let mut sequences = Vec::new();
        let mut total = 0;
        for &rows in &options.capacities {
            if rows == 0 || rows > maximum {
                return Err(Error::ContextLength { requested: rows, maximum });
            }
            sequences.push(Sequence { length: 0, start: total, rows });
            total += rows;
        }
        let stores = (0..c.num_hidden_layers).map(|_| store(model, c, total)).collect::<Result<_>>()?;
        Ok(Cache { stores, sequences })
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// Tokens of a sequence.
    pub fn length(&self, sequence: usize) -> usize {
        self.sequences[sequence].length
    }

    /// Tokens that a sequence has room for.
    pub fn capacity(&self, sequence: usize) -> usize {
        self.sequences[sequence].rows
    }

    /// The longest of all sequences.
    pub fn longest(&self) -> usize {
        self.sequences.iter().map(|s| s.rows).max().unwrap_or(0)
    }

    /// Forgets all tokens of a sequence but the first `length`.
    pub fn truncate(&mut self, sequence: usize, length: usize) {
        let s = &mut self.sequences[sequence];
        s.length = s.length.min(length);
    }

    /// Where the next `tokens` of a sequence go.
    pub fn place(&self, sequence: usize, tokens: usize) -> Placed {
        let s = &self.sequences[sequence];
        let first = s.start + s.length;
        Placed { rows: first..first + tokens, seen: [s.start, s.length + tokens] }
    }

    /// Counts tokens that were written.
    pub fn grow(&mut self, sequence: usize, tokens: usize) {
        self.sequences[sequence].length += tokens;
    }

    /// Makes `to` the same sequence as `from`, another one.
    pub fn fork(&mut self, model: &Model, from: usize, to: usize) -> Result<()> {
        let sequences = self.sequences();
        if let Some(sequence) = [from, to].into_iter().find(|&s| s >= sequences || from == to) {
            return Err(Error::Sequence { sequence, sequences });
        }
        let Sequence { length, start, .. } = self.sequences[from];
        let target = &mut self.sequences[to];
        if length > target.rows {
            return Err(Error::ContextLength { requested: length, maximum: target.rows });
        }
        target.length = length;
        let target = target.start;
        for tensor in self.stores.iter().flat_map(Store::tensors) {
            copy_rows(model, tensor, start..start + length, target)?;
        }
        Ok(())
    }
}

/// Memory for a layer.
fn store(model: &Model, c: &ModelConfig, rows: usize) -> Result<Store> {
    let tensor = |shape: &[usize]| -> Result<TensorRef> {
        let row = 4 * shape[1..].iter().product::<usize>() as u64;
        let buffer = model.device.allocate(row * rows as u64, row)?;
        Ok(TensorRef::new(&buffer, DType::F32, shape))
    };
    Ok(match c.attention {
        AttentionKind::GroupedQuery => {
            let shape = [rows, c.num_key_value_heads, c.head_dim];
            Store::KeyValue(tensor(&shape)?, tensor(&shape)?)
        }
        AttentionKind::Latent(latent) => {
            Store::Latent(tensor(&[rows, latent.kv_lora_rank + c.rope.rotary_dim])?)
        }
    })
}

/// Copies rows of a tensor to others of it, from row `to` on; none may be both.
fn copy_rows(model: &Model, tensor: &TensorRef, rows: Range<usize>, to: usize) -> Result<()> {
    let Source::Buffer(buffer) = &tensor.source else { unreachable!("stores are in memory") };
    let row = buffer.bytes() / tensor.shape[0] as u64;
    let [from, to, count] = [rows.start, to, rows.len()].map(|n| n as u64 * row);
    if count > 0 {
        model.device.copy(STREAM, (buffer, from), (buffer, to), count)?;
    }
    Ok(())
}
