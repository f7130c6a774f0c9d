//! Runs tokens through a model, with a key-value cache.
//!
//! Decoding one token is one replay of a recording: positions, lengths and the token itself are device
//! scalars that are uploaded before it.

use crate::config::AttentionKind;
use crate::model::{Batch, CacheRef, LayerCache, Model, RopeBuffers, forward};
use crate::sampling::likeliest;
use crate::tape::{Choices, Tape};
use crate::{Error, Result};
use halite_hal::{Buffer, DType, Op, Recording, StreamId, TensorRef};

const STREAM: StreamId = StreamId(0);

/// What is wanted of a call of [`Decoder::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Logits of the last token.
    Last,
    /// Logits of every token.
    All,
    /// Logits of every token, what the routers said of it, and which experts it chose.
    Routing,
}

/// What a call of [`Decoder::feed`] gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fed {
    /// `[wanted tokens, vocab]`.
    pub logits: Vec<f32>,
    /// For each layer with experts the router's logits `[tokens, num_experts]`; empty unless wanted.
    pub router_logits: Vec<Vec<f32>>,
    /// For each layer with experts the choice `[tokens, num_experts_per_tok]`; empty unless wanted.
    pub experts: Vec<Vec<i32>>,
}

/// A prepared pass of a fixed number of tokens.
#[derive(Debug)]
struct Pass {
    tokens: usize,
    want: Want,
    recording: Recording,
    ids: Buffer,
    positions: Buffer,
    seqs: Buffer,
    /// Experts and places for [`Choices`], i32 `[2, layers, tokens, k]`, where they aren't chosen here.
    choices: Option<Buffer>,
    logits: Buffer,
    router_logits: Vec<Buffer>,
    experts: Vec<Buffer>,
}

/// A sequence under way: a model, and the keys and values of the tokens so far.
#[derive(Debug)]
pub struct Decoder<'m> {
    model: &'m Model,
    capacity: usize,
    length: usize,
    rope: RopeBuffers,
    cache: Vec<LayerCache>,
    /// The pass of one token, kept because it is used again and again.
    single: Option<Pass>,
}

impl<'m> Decoder<'m> {
    /// Room for `capacity` tokens; the cache is f32.
    pub fn new(model: &'m Model, capacity: usize) -> Result<Self> {
        let c = &model.config;
        if capacity == 0 || capacity > c.max_position_embeddings {
            return Err(Error::ContextLength { requested: capacity, maximum: c.max_position_embeddings });
        }
        let store = |shape: &[usize]| -> Result<TensorRef> {
            let row = 4 * shape[1..].iter().product::<usize>() as u64;
            let buffer = model.device.allocate(row * capacity as u64, row)?;
            Ok(TensorRef::new(&buffer, DType::F32, shape))
        };
        let layer = |_| match c.attention {
            AttentionKind::GroupedQuery => {
                let shape = [capacity, c.num_key_value_heads, c.head_dim];
                Ok(LayerCache::KeyValue(store(&shape)?, store(&shape)?))
            }
            AttentionKind::Latent(latent) => {
                Ok(LayerCache::Latent(store(&[capacity, latent.kv_lora_rank + c.rope.rotary_dim])?))
            }
        };
        let cache = (0..c.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        let rope = model.rope_tables(capacity)?;
        Ok(Decoder { model, capacity, length: 0, rope, cache, single: None })
    }

    /// Tokens in the cache.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens that the cache has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all tokens but the first `length`.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// What runs for one token, once one has been fed by itself: to be looked at and measured. A replay
    /// decodes the last such token again, at its place.
    pub fn recording(&self) -> Option<&Recording> {
        self.single.as_ref().map(|pass| &pass.recording)
    }

    /// Appends `tokens` to the sequence and computes what is wanted of them.
    pub fn feed(&mut self, tokens: &[u32], want: Want) -> Result<Fed> {
        self.feed_routed(tokens, want, None)
    }

    /// [`feed`](Decoder::feed); with `choices`, each layer that has experts sends the tokens to those of its
    /// `[tokens, num_experts_per_tok]`, and only their weights come from the router.
    pub fn feed_routed(&mut self, tokens: &[u32], want: Want, choices: Option<&[&[i32]]>) -> Result<Fed> {
        let vocab = self.model.config.vocab_size;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::TokenId { id: i64::from(id), vocab_size: vocab });
        }
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if self.length + tokens.len() > self.capacity {
            let requested = self.length + tokens.len();
            return Err(Error::ContextLength { requested, maximum: self.capacity });
        }
        let choices = choices.map(|c| self.places(tokens.len(), c)).transpose()?;
        let routed = choices.is_some();
        let kept = self
            .single
            .take_if(|p| p.tokens == tokens.len() && p.want == want && p.choices.is_some() == routed);
        let pass = match kept {
            Some(pass) => pass,
            None => self.prepare(tokens.len(), want, routed)?,
        };
        if let (Some(buffer), Some(choices)) = (&pass.choices, &choices) {
            self.model.device.upload(STREAM, buffer, 0, bytemuck::cast_slice(choices))?;
        }
        let fed = self.run(&pass, tokens)?;
        self.length += tokens.len();
        if tokens.len() == 1 {
            self.single = Some(pass);
        }
        Ok(fed)
    }

    /// The likeliest next `count` tokens, one after another. `logits [.., vocab]` ends with those of the last
    /// token that was fed; the last of the result isn't fed.
    pub fn greedy(&mut self, logits: &[f32], count: usize) -> Result<Vec<u32>> {
        let vocab = self.model.config.vocab_size;
        let mut last = logits[logits.len().saturating_sub(vocab)..].to_vec();
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            if let Some(&token) = tokens.last() {
                last = self.feed(&[token], Want::Last)?.logits;
            }
            tokens.push(likeliest(&last));
        }
        Ok(tokens)
    }

    /// Checks choices of experts, and gives them with their places: `[2, layers, tokens, k]`.
    fn places(&self, tokens: usize, choices: &[&[i32]]) -> Result<Vec<i32>> {
        let (layers, experts, per_token) = self.model.experts();
        let fits = |layer: &&[i32]| {
            layer.len() == tokens * per_token && layer.iter().all(|&e| (0..experts as i32).contains(&e))
        };
        if choices.len() != layers || !choices.iter().all(fits) {
            return Err(Error::Choices { tokens, layers, experts, per_token });
        }
        let places = choices.iter().flat_map(|layer| Choices::places(layer, per_token, experts));
        Ok(choices.iter().copied().flatten().copied().chain(places).collect())
    }

    /// Room for choices of experts, and the parts of it that each layer reads.
    fn choices(&self, tokens: usize) -> Result<(Buffer, Vec<Choices>)> {
        let (layers, _, per_token) = self.model.experts();
        let each = tokens * per_token;
        let buffer = self.model.device.allocate(8 * (layers * each) as u64, 0)?;
        let part =
            |i: usize, shape: &[usize]| TensorRef::new(&buffer, DType::I32, shape).with_offset(i * each);
        let layer = |i| Choices { experts: part(i, &[tokens, per_token]), places: part(layers + i, &[each]) };
        let choices = (0..layers).map(layer).collect();
        Ok((buffer, choices))
    }

    fn prepare(&self, tokens: usize, want: Want, routed: bool) -> Result<Pass> {
        let device = &self.model.device;
        let mut tape = Tape::new();
        let int = |n: usize| device.allocate(4 * n as u64, 0);
        let (ids, positions, seqs) = (int(tokens)?, int(tokens)?, int(4)?);
        let at = TensorRef::new(&positions, DType::I32, &[tokens]);
        let select = match want {
            Want::Last if tokens > 1 => Some(self.model.upload_i32(&[tokens as i32 - 1])?),
            _ => None,
        };
        let (choices, parts) = routed.then(|| self.choices(tokens)).transpose()?.unzip();
        let batch = Batch {
            ids: TensorRef::new(&ids, DType::I32, &[tokens]),
            rope: self.rope.at(at.clone()),
            seqs: TensorRef::new(&seqs, DType::I32, &[1, 4]),
            cache: Some(CacheRef { layers: self.cache.clone(), rows: at }),
            select: select.map(|b| TensorRef::new(&b, DType::I32, &[1])),
            choices: parts,
        };
        let weights = self.model.table.weights.map(|&i| tape.constant(self.model.weights.tensor(i)));
        let output = forward(&mut tape, &self.model.config, &weights, &batch);
        let keep = |tape: &mut Tape, t: TensorRef| -> Result<Buffer> {
            let buffer = device.allocate(4 * t.elems() as u64, 0)?;
            tape.graph.push(Op::copy(t.clone(), TensorRef::new(&buffer, t.dtype, &t.shape)));
            Ok(buffer)
        };
        let (mut router_logits, mut experts) = (Vec::new(), Vec::new());
        if want == Want::Routing {
            for (_, routing) in &output.routing {
                let logits = tape.tensor(routing.logits);
                router_logits.push(keep(&mut tape, logits)?);
                experts.push(keep(&mut tape, routing.experts.clone())?);
            }
        }
        let logits = tape.tensor(output.logits);
        let logits = keep(&mut tape, logits)?;
        let recording = device.record(&tape.graph)?;
        Ok(Pass { tokens, want, recording, ids, positions, seqs, choices, logits, router_logits, experts })
    }

    fn run(&self, pass: &Pass, tokens: &[u32]) -> Result<Fed> {
        let device = &self.model.device;
        let put =
            |buffer: &Buffer, data: &[i32]| device.upload(STREAM, buffer, 0, bytemuck::cast_slice(data));
        let start = self.length as i32;
        let n = tokens.len() as i32;
        put(&pass.ids, bytemuck::cast_slice(tokens))?;
        put(&pass.positions, &(start..start + n).collect::<Vec<_>>())?;
        put(&pass.seqs, &[0, n, 0, start + n])?;
        device.replay(STREAM, &pass.recording, &[])?;
        let get = |buffer: &Buffer| device.download(STREAM, buffer, 0, buffer.bytes());
        let logits = get(&pass.logits)?.wait_as()?;
        let router_logits =
            pass.router_logits.iter().map(|b| Ok(get(b)?.wait_as()?)).collect::<Result<_>>()?;
        let experts = pass.experts.iter().map(|b| Ok(get(b)?.wait_as()?)).collect::<Result<_>>()?;
        Ok(Fed { logits, router_logits, experts })
    }
}

#[cfg(test)]
mod tests;
