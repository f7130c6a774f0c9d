//! Runs tokens through a model, with a key-value cache.
//!
//! Decoding the next token of some sequences is one replay of a recording: positions, lengths and the tokens
//! themselves are device scalars that are uploaded before it.

use super::cache::{Cache, CacheOptions};
use crate::model::{Batch, LayerCache, Model, RopeBuffers, Store, forward};
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

impl Fed {
    /// Appends what the next tokens gave.
    pub(super) fn append(&mut self, next: Fed) {
        self.logits.extend(next.logits);
        self.router_logits.resize(next.router_logits.len(), Vec::new());
        self.experts.resize(next.experts.len(), Vec::new());
        self.router_logits.iter_mut().zip(next.router_logits).for_each(|(all, next)| all.extend(next));
        self.experts.iter_mut().zip(next.experts).for_each(|(all, next)| all.extend(next));
    }
}

/// The size of a pass, which its recording is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Size {
    tokens: usize,
    sequences: usize,
    want: Want,
    /// Whether experts come from [`Choices`].
    routed: bool,
}

/// A prepared pass of a fixed number of tokens.
#[derive(Debug)]
struct Pass {
    size: Size,
    recording: Recording,
    ids: Buffer,
    positions: Buffer,
    /// Rows of the tokens, and sequences, for each region of the cache.
    places: Vec<(Buffer, Buffer)>,
    /// Experts and places for [`Choices`], i32 `[2, layers, tokens, k]`, where they aren't chosen here.
    choices: Option<Buffer>,
    logits: Buffer,
    router_logits: Vec<Buffer>,
    experts: Vec<Buffer>,
}

/// Sequences under way: a model, and the keys and values of the tokens so far. Sequences are numbered from 0; what
/// names none is about the first.
#[derive(Debug)]
pub struct Decoder<'m> {
    model: &'m Model,
    rope: RopeBuffers,
    cache: Cache,
    /// The pass of one token for each sequence, kept because it is used again and again.
    step: Option<Pass>,
}

impl<'m> Decoder<'m> {
    /// One sequence with room for `capacity` tokens; the cache is f32.
    pub fn new(model: &'m Model, capacity: usize) -> Result<Self> {
        Decoder::with_cache(model, &CacheOptions::new(vec![capacity]))
    }

    /// As many sequences as there are capacities, all empty.
    ///
    /// # Errors
    /// A capacity of 0 or beyond the model's context, a type that isn't a float's, a piece of 0; not enough memory.
    pub fn with_cache(model: &'m Model, options: &CacheOptions) -> Result<Self> {
        let cache = Cache::new(model, options)?;
        let rope = model.rope_tables(options.capacities.iter().copied().max().unwrap_or(0))?;
        Ok(Decoder { model, rope, cache, step: None })
    }

    /// Tokens in the cache.
    pub fn length(&self) -> usize {
        self.cache.length(0)
    }

    /// Tokens that the cache has room for.
    pub fn capacity(&self) -> usize {
        self.cache.capacity(0)
    }

    /// Forgets all tokens but the first `length`, and says how many are left: none, where a layer with a sliding
    /// window has forgotten what those saw.
    pub fn truncate(&mut self, length: usize) -> usize {
        self.cache.truncate(0, length)
    }

    /// Makes sequence `to` what sequence `from` is, as if the same tokens had been fed to it.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn fork(&mut self, from: usize, to: usize) -> Result<()> {
        self.cache.fork(self.model, from, to)
    }

    /// What runs for one token of each sequence, once some have been fed: to be looked at and measured. A replay
    /// decodes the last such tokens again, at their places.
    pub fn recording(&self) -> Option<&Recording> {
        self.step.as_ref().map(|pass| &pass.recording)
    }

    /// Appends `tokens` to the first sequence and computes what is wanted of them.
    pub fn feed(&mut self, tokens: &[u32], want: Want) -> Result<Fed> {
        self.feed_routed(tokens, want, None)
    }

    /// [`feed`](Decoder::feed); with `choices`, each layer that has experts sends the tokens to those of its
    /// `[tokens, num_experts_per_tok]`, and only their weights come from the router.
    pub fn feed_routed(&mut self, tokens: &[u32], want: Want, choices: Option<&[&[i32]]>) -> Result<Fed> {
        self.feed_pieces(0, tokens, want, choices)
    }

    /// Appends `tokens` to a sequence → the logits of the last of them, `[vocab]`.
    pub fn feed_to(&mut self, sequence: usize, tokens: &[u32]) -> Result<Vec<f32>> {
        Ok(self.feed_pieces(sequence, tokens, Want::Last, None)?.logits)
    }

    /// [`feed_routed`](Decoder::feed_routed) to any sequence, a piece at a time.
    fn feed_pieces(
        &mut self,
        sequence: usize,
        tokens: &[u32],
        want: Want,
        choices: Option<&[&[i32]]>,
    ) -> Result<Fed> {
        self.check(sequence, tokens)?;
        let (layers, experts, per_token) = self.model.experts();
        if let Some(choices) = choices {
            let fits = |layer: &&[i32]| {
                let known = layer.iter().all(|&e| (0..experts as i32).contains(&e));
                known && layer.len() == tokens.len() * per_token
            };
            if choices.len() != layers || !choices.iter().all(fits) {
                return Err(Error::Choices { tokens: tokens.len(), layers, experts, per_token });
            }
        }
        let mut fed = Fed::default();
        let mut start = 0;
        for piece in tokens.chunks(self.cache.options().piece) {
            let end = start + piece.len();
            let choices = choices.map(|layers| {
                let part = |layer: &&[i32]| layer[start * per_token..end * per_token].to_vec();
                let part: Vec<Vec<i32>> = layers.iter().map(part).collect();
                let places = part.iter().flat_map(|layer| Choices::places(layer, per_token, experts));
                part.iter().flatten().copied().chain(places).collect::<Vec<i32>>()
            });
            let size = Size { tokens: piece.len(), sequences: 1, want, routed: choices.is_some() };
            let next = self.pass(size, &[(sequence, piece)], choices.as_deref())?;
            if want == Want::Last {
                fed = next
            } else {
                fed.append(next)
            }
            start = end;
        }
        Ok(fed)
    }

    /// Appends a token to each of some different sequences, `(sequence, token)`, in one pass → their logits
    /// `[sequences, vocab]`.
    pub fn step(&mut self, tokens: &[(usize, u32)]) -> Result<Vec<f32>> {
        for (i, (sequence, token)) in tokens.iter().enumerate() {
            self.check(*sequence, &[*token])?;
            if tokens[..i].iter().any(|(other, _)| other == sequence) {
                return Err(Error::Sequence { sequence: *sequence, sequences: self.cache.sequences() });
            }
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let parts: Vec<(usize, &[u32])> =
            tokens.iter().map(|(sequence, token)| (*sequence, std::slice::from_ref(token))).collect();
        // A recording for some more sequences will do until half of them have ended.
        let n = parts.len();
        let of = |rows| Size { tokens: rows, sequences: rows, want: Want::Last, routed: false };
        let mut size = of(n);
        if let Some(kept) = &self.step
            && (n..2 * n).contains(&kept.size.sequences)
            && kept.size == of(kept.size.sequences)
        {
            size = kept.size;
        }
        let mut logits = self.pass(size, &parts, None)?.logits;
        logits.truncate(n * self.model.config.vocab_size);
        Ok(logits)
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

    /// Whether tokens can be appended to a sequence.
    fn check(&self, sequence: usize, tokens: &[u32]) -> Result<()> {
        let vocab_size = self.model.config.vocab_size;
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id: i64::from(id), vocab_size });
        }
        if tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if sequence >= self.cache.sequences() {
            return Err(Error::Sequence { sequence, sequences: self.cache.sequences() });
        }
        let requested = self.cache.length(sequence) + tokens.len();
        let maximum = self.cache.capacity(sequence);
        if requested > maximum { Err(Error::ContextLength { requested, maximum }) } else { Ok(()) }
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

    /// Runs tokens of some sequences, at most as many as `size` has, and counts them.
    fn pass(&mut self, size: Size, parts: &[(usize, &[u32])], choices: Option<&[i32]>) -> Result<Fed> {
        let kept = self.step.take_if(|p| p.size == size);
        let pass = match kept {
            Some(pass) => pass,
            None => self.prepare(size)?,
        };
        if let (Some(buffer), Some(choices)) = (&pass.choices, choices) {
            self.model.device.upload(STREAM, buffer, 0, bytemuck::cast_slice(choices))?;
        }
        for (sequence, tokens) in parts {
            self.cache.make_room(self.model, *sequence, tokens.len())?;
        }
        let fed = self.run(&pass, parts)?;
        for (sequence, tokens) in parts {
            self.cache.grow(*sequence, tokens.len());
        }
        if size.tokens == size.sequences {
            self.step = Some(pass);
        }
        Ok(fed)
    }

    fn prepare(&self, size: Size) -> Result<Pass> {
        let Size { tokens, sequences, want, routed } = size;
        let device = &self.model.device;
        let mut tape = Tape::new();
        let int = |n: usize| device.allocate(4 * n as u64, 0);
        let (ids, positions) = (int(tokens)?, int(tokens)?);
        let place = |_| Ok((int(tokens)?, int(4 * sequences)?));
        let places: Vec<(Buffer, Buffer)> = (0..self.cache.regions()).map(place).collect::<Result<_>>()?;
        let of_tokens = |buffer: &Buffer| TensorRef::new(buffer, DType::I32, &[tokens]);
        let of_seqs = |buffer: &Buffer| TensorRef::new(buffer, DType::I32, &[sequences, 4]);
        let select = match want {
            Want::Last if tokens > sequences => Some(self.model.upload_i32(&[tokens as i32 - 1])?),
            _ => None,
        };
        let (choices, parts) = routed.then(|| self.choices(tokens)).transpose()?.unzip();
        let layer = |(region, store): &(usize, Store)| {
            let (rows, seqs) = &places[*region];
            LayerCache { store: store.clone(), rows: of_tokens(rows), seqs: of_seqs(seqs) }
        };
        let batch = Batch {
            ids: of_tokens(&ids),
            rope: self.rope.at(of_tokens(&positions)),
            seqs: of_seqs(&places[0].1),
            cache: Some(self.cache.layers.iter().map(layer).collect()),
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
        Ok(Pass { size, recording, ids, positions, places, choices, logits, router_logits, experts })
    }

    /// Runs tokens of some sequences. What a pass has room for beyond them belongs to no sequence.
    fn run(&self, pass: &Pass, parts: &[(usize, &[u32])]) -> Result<Fed> {
        let device = &self.model.device;
        let put =
            |buffer: &Buffer, data: &[i32]| device.upload(STREAM, buffer, 0, bytemuck::cast_slice(data));
        let Size { tokens: room, sequences, .. } = pass.size;
        let (mut ids, mut positions) = (vec![], vec![]);
        for (sequence, tokens) in parts {
            let start = self.cache.length(*sequence);
            ids.extend(tokens.iter().map(|&id| id as i32));
            positions.extend((start..start + tokens.len()).map(|p| p as i32));
        }
        ids.resize(room, 0);
        positions.resize(room, 0);
        put(&pass.ids, &ids)?;
        put(&pass.positions, &positions)?;
        for (region, (row_buffer, seq_buffer)) in pass.places.iter().enumerate() {
            let (mut rows, mut seqs) = (vec![], vec![]);
            for (sequence, tokens) in parts {
                let placed = self.cache.place(region, *sequence, tokens.len());
                let [start, kept] = placed.seen;
                seqs.extend([rows.len(), tokens.len(), start, kept].map(|x| x as i32));
                rows.extend(placed.rows.map(|row| row as i32));
            }
            rows.resize(room, -1);
            seqs.resize(4 * sequences, 0);
            put(row_buffer, &rows)?;
            put(seq_buffer, &seqs)?;
        }
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
