//! One training step: forward, backward, clipped AdamW. Each part is recorded once and replayed.

use crate::config::RouterScores;
use crate::data::Batch;
use crate::model::{FeedForwardWeights, Model, ParameterSet, RopeBuffers, Weights, forward};
use crate::tape::{Tape, Var};
use crate::{Error, Result, model};
use halite_hal::{AdamW, Buffer, DType, Graph, Op, Recording, ReduceFn, StreamId, TensorRef};

const STREAM: StreamId = StreamId(0);

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Matrices; not norms and biases.
    #[default]
    Matrices,
    /// Every trained parameter.
    All,
}

/// How gradients change weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerOptions {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f32,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Which parameters decay.
    pub decay: Decay,
    /// Largest gradient norm; `None` doesn't clip.
    pub clip: Option<f32>,
    /// Whether experts are balanced: softmax routers by the load-balancing loss with the configuration's
    /// `router_aux_loss_coef`, routers with a selection bias by moving it.
    pub balance: bool,
    /// Step of a selection bias towards balance (DeepSeek-V3 §2.1.2, γ).
    pub bias_rate: f32,
}

impl Default for OptimizerOptions {
    fn default() -> Self {
        OptimizerOptions {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            decay: Decay::Matrices,
            clip: Some(1.0),
            balance: true,
            bias_rate: 1e-3,
        }
    }
}

/// What a step found.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Mean cross-entropy in nats over the scored tokens, before the step.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// For each layer with experts the share of assignments that each expert got.
    pub expert_load: Vec<Vec<f64>>,
}

/// Buffers that a pass of a certain size reads and writes.
#[derive(Debug)]
struct Feed {
    tokens: usize,
    sequences: usize,
    ids: Buffer,
    targets: Buffer,
    positions: Buffer,
    seqs: Buffer,
}

impl Feed {
    fn fits(&self, batch: &Batch) -> bool {
        self.tokens == batch.ids.len() && self.sequences >= batch.seqs.len()
    }
}

/// The recording for one size of microbatch. There is one at a time: each holds all activations.
#[derive(Debug)]
struct Pass {
    feed: Feed,
    /// Microbatches of a step. A single one writes gradients; more add to gradients that are cleared before.
    batches: usize,
    recording: Recording,
}

/// A model in training: its weights, gradients, and moments.
#[derive(Debug)]
pub struct Trainer {
    /// The model; its weights change with each step.
    pub model: Model,
    /// First moments.
    pub first_moments: ParameterSet,
    /// Second moments.
    pub second_moments: ParameterSet,
    /// Optimizer steps taken.
    pub steps: u64,
    gradients: ParameterSet,
    options: OptimizerOptions,
    rope: RopeBuffers,
    positions: usize,
    pass: Option<Pass>,
    evaluation: Option<(Feed, Recording)>,
    clear: Recording,
    norm: Recording,
    update: Recording,
    /// Device scalars: loss sum; 1 / scored tokens; learning rate and bias corrections; norm; factor.
    loss: Buffer,
    dloss: Buffer,
    hyper: Buffer,
    norm_out: Buffer,
    /// Expert offsets, i32 `[layers with experts, experts + 1]`.
    loads: Buffer,
}

impl Trainer {
    /// Starts training with zero moments. Sequences may have up to `positions` tokens.
    pub fn new(model: Model, options: OptimizerOptions, positions: usize) -> Result<Self> {
        let maximum = model.config.max_position_embeddings;
        if positions > maximum {
            return Err(Error::ContextLength { requested: positions, maximum });
        }
        let device = model.device.clone();
        let set = || ParameterSet::allocate(&device, &model.table);
        let (gradients, first_moments, second_moments) = (set()?, set()?, set()?);
        first_moments.clear(&model.table)?;
        second_moments.clear(&model.table)?;
        let scalars = |n: usize| device.allocate(4 * n as u64, 0);
        let (loss, dloss, hyper, norm_out) = (scalars(1)?, scalars(1)?, scalars(3)?, scalars(2)?);
        let experts = model.config.moe.as_ref().map_or(0, |m| m.num_experts);
        let loads = scalars((model.config.num_hidden_layers * (experts + 1)).max(1))?;

        let clear = device.record(&clear_graph(&model, &gradients))?;
        let norm = device.record(&norm_graph(&model, &gradients, &norm_out, options.clip))?;
        let moments = [&first_moments, &second_moments];
        let update =
            device.record(&update_graph(&model, &gradients, moments, &hyper, &norm_out, &options))?;
        let rope = model.rope_tables(positions)?;
        Ok(Trainer {
            model,
            first_moments,
            second_moments,
            steps: 0,
            gradients,
            options,
            rope,
            positions,
            pass: None,
            evaluation: None,
            clear,
            norm,
            update,
            loss,
            dloss,
            hyper,
            norm_out,
            loads,
        })
    }

    /// One optimizer step on the mean loss over all scored tokens of `batches`; they best have one size,
    /// as each change of it prepares the pass anew. A loss or gradient that isn't finite is an error, and
    /// the weights are as before then.
    pub fn step(&mut self, batches: &[Batch], lr: f64) -> Result<StepReport> {
        let report = self.gradients_of(batches)?;
        if !report.loss.is_finite() || !report.grad_norm.is_finite() {
            let (loss, grad_norm) = (report.loss, report.grad_norm);
            return Err(Error::NotFinite { step: self.steps + 1, loss, grad_norm });
        }
        let t = self.steps as f64 + 1.0;
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(t)) as f32;
        let hyper = [lr as f32, correction(self.options.beta1), correction(self.options.beta2)];
        let device = self.model.device.clone();
        device.upload(STREAM, &self.hyper, 0, bytemuck::cast_slice(&hyper))?;
        device.replay(STREAM, &self.update, &[])?;
        if self.options.balance {
            self.balance_biases(&report.expert_load)?;
        }
        self.steps += 1;
        Ok(report)
    }

    /// The mean loss over `batches` and its gradients, without a step.
    pub fn gradients_of(&mut self, batches: &[Batch]) -> Result<StepReport> {
        let scored: usize = batches.iter().map(Batch::target_count).sum();
        if scored == 0 {
            return Err(Error::NothingToLearn);
        }
        let device = self.model.device.clone();
        let scale = 1.0 / scored as f32;
        device.upload(STREAM, &self.dloss, 0, bytemuck::bytes_of(&scale))?;
        let layers = self.expert_layers();
        let experts = self.model.config.moe.as_ref().map_or(0, |m| m.num_experts);
        let mut counts = vec![vec![0u64; experts]; layers];
        let mut nats = 0.0;
        if batches.len() > 1 {
            device.replay(STREAM, &self.clear, &[])?;
        }
        for batch in batches {
            let pass = self.prepare(batch, batches.len())?;
            device.replay(STREAM, &pass.recording, &[])?;
            nats += f64::from(self.read_f32(&self.loss)?[0]);
            let bytes = 4 * (layers * (experts + 1)) as u64;
            let offsets: Vec<i32> = device.download(STREAM, &self.loads, 0, bytes)?.wait_as()?;
            for (layer, offsets) in counts.iter_mut().zip(offsets.chunks(experts + 1)) {
                for (count, w) in layer.iter_mut().zip(offsets.windows(2)) {
                    *count += (w[1] - w[0]) as u64;
                }
            }
        }
        device.replay(STREAM, &self.norm, &[])?;
        let grad_norm = f64::from(self.read_f32(&self.norm_out)?[0]);
        let share = |layer: Vec<u64>| {
            let total = layer.iter().sum::<u64>().max(1) as f64;
            layer.into_iter().map(|n| n as f64 / total).collect()
        };
        let expert_load = counts.into_iter().map(share).collect();
        Ok(StepReport { loss: nats / scored as f64, grad_norm, expert_load })
    }

    /// The gradients of the last pass, by parameter.
    pub fn gradients(&self) -> &ParameterSet {
        &self.gradients
    }

    /// Sum of the cross-entropy in nats over the scored tokens of a batch, without gradients.
    pub fn evaluate(&mut self, batch: &Batch) -> Result<f64> {
        if !self.evaluation.as_ref().is_some_and(|(f, _)| f.fits(batch)) {
            // The old temporaries go before the new ones come.
            self.evaluation = None;
            let feed = self.feed(batch)?;
            let mut tape = Tape::new();
            let weights = self.model.table.weights.map(|&i| tape.constant(self.model.weights.tensor(i)));
            self.loss_of(&mut tape, &weights, &feed, None);
            let recording = self.model.device.record(&tape.graph)?;
            self.evaluation = Some((feed, recording));
        }
        let (feed, recording) = self.evaluation.as_ref().expect("just prepared");
        self.fill(feed, batch)?;
        self.model.device.replay(STREAM, recording, &[])?;
        Ok(f64::from(self.read_f32(&self.loss)?[0]))
    }

    fn expert_layers(&self) -> usize {
        let c = &self.model.config;
        c.moe.as_ref().map_or(0, |_| c.num_hidden_layers.saturating_sub(c.first_k_dense_replace))
    }

    fn read_f32(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        Ok(self.model.device.download(STREAM, buffer, 0, buffer.bytes())?.wait_as()?)
    }

    /// Buffers for batches like `batch`, with some room for more sequences.
    fn feed(&self, batch: &Batch) -> Result<Feed> {
        let tokens = batch.ids.len();
        let sequences = batch.seqs.len().next_power_of_two();
        let int = |n: usize| self.model.device.allocate(4 * n as u64, 0);
        Ok(Feed {
            tokens,
            sequences,
            ids: int(tokens)?,
            targets: int(tokens)?,
            positions: int(tokens)?,
            seqs: int(4 * sequences)?,
        })
    }

    fn fill(&self, feed: &Feed, batch: &Batch) -> Result<()> {
        let vocab_size = self.model.config.vocab_size;
        let bad = |&&id: &&i32| usize::try_from(id).is_ok_and(|id| id >= vocab_size);
        if let Some(&id) =
            batch.ids.iter().find(|id| **id < 0).or(batch.ids.iter().chain(&batch.targets).find(bad))
        {
            return Err(Error::TokenId { id: i64::from(id), vocab_size });
        }
        let longest = batch.positions.iter().max().map_or(0, |&p| (i64::from(p) + 1).max(0) as usize);
        if longest > self.positions {
            return Err(Error::ContextLength { requested: longest, maximum: self.positions });
        }
        let device = &self.model.device;
        let put =
            |buffer: &Buffer, data: &[i32]| device.upload(STREAM, buffer, 0, bytemuck::cast_slice(data));
        put(&feed.ids, &batch.ids)?;
        put(&feed.targets, &batch.targets)?;
        put(&feed.positions, &batch.positions)?;
        let mut seqs = batch.seqs.concat();
        seqs.resize(4 * feed.sequences, 0);
        Ok(put(&feed.seqs, &seqs)?)
    }

    /// The pass for one of `batches` microbatches like `batch`, fed with it.
    fn prepare(&mut self, batch: &Batch, batches: usize) -> Result<&Pass> {
        let fits = |p: &Pass| p.batches == batches && p.feed.fits(batch);
        if !self.pass.as_ref().is_some_and(fits) {
            // The old temporaries go before the new ones come.
            self.pass = None;
            let feed = self.feed(batch)?;
            let recording = self.record(&feed, batches)?;
            self.pass = Some(Pass { feed, batches, recording });
        }
        let pass = self.pass.as_ref().expect("just prepared");
        self.fill(&pass.feed, batch)?;
        Ok(pass)
    }

    /// Forward and backward pass over a feed.
    fn record(&self, feed: &Feed, batches: usize) -> Result<Recording> {
        let accumulate = batches > 1;
        let mut tape = Tape::new();
        let table = &self.model.table;
        let mut vars: Vec<Var> = Vec::new();
        for (i, p) in table.list.iter().enumerate() {
            let w = self.model.weights.tensor(i);
            vars.push(match p.trainable() {
                true => tape.parameter(w, self.gradients.tensor(i), accumulate),
                false => tape.constant(w),
            });
        }
        let weights = table.weights.map(|&i| vars[i]);
        let balance = self.options.balance.then_some(batches);
        let loss = self.loss_of(&mut tape, &weights, feed, balance);
        let dloss = TensorRef::new(&self.dloss, DType::F32, &[1]).broadcast(&[feed.tokens]);
        tape.backward(loss, dloss);
        Ok(self.model.device.record(&tape.graph)?)
    }

    /// Appends the loss of each token, its sum and the expert offsets. With `balance`, the number of
    /// batches of the step, the load-balancing loss joins the gradient.
    fn loss_of(&self, tape: &mut Tape, weights: &Weights<Var>, feed: &Feed, balance: Option<usize>) -> Var {
        let int = |b: &Buffer| TensorRef::new(b, DType::I32, &[feed.tokens]);
        let batch = model::Batch {
            ids: int(&feed.ids),
            rope: self.rope.at(int(&feed.positions)),
            seqs: TensorRef::new(&feed.seqs, DType::I32, &[feed.sequences, 4]),
            cache: None,
            select: None,
            choices: None,
        };
        let output = forward(tape, &self.model.config, weights, &batch);
        let loss = tape.cross_entropy(output.logits, int(&feed.targets));
        let sum = tape.tensor(loss).reshape(&[1, feed.tokens]);
        tape.graph.push(Op::reduce(ReduceFn::Sum, sum, TensorRef::new(&self.loss, DType::F32, &[1]), false));
        for (i, (_, routing)) in output.routing.iter().enumerate() {
            let n = routing.offsets.elems();
            let to = TensorRef::new(&self.loads, DType::I32, &[n]).with_offset(i * n);
            tape.graph.push(Op::copy(routing.offsets.clone(), to));
            if let (Some(batches), Some(moe)) = (balance, &self.model.config.moe)
                && moe.scores == RouterScores::Softmax
                && moe.router_aux_loss_coef > 0.0
            {
                tape.balance(routing, moe.router_aux_loss_coef / batches as f64);
            }
        }
        loss
    }

    /// Moves the selection bias of each overloaded expert down and of each idle one up.
    fn balance_biases(&self, load: &[Vec<f64>]) -> Result<()> {
        let biases = self.model.table.weights.layers.iter().filter_map(|l| match &l.feed_forward {
            FeedForwardWeights::Moe(m) => Some(m.bias),
            FeedForwardWeights::Dense(_) => None,
        });
        for (bias, load) in biases.zip(load) {
            let Some(i) = bias else { continue };
            let mut values = self.model.weights.read(i)?;
            let even = 1.0 / load.len() as f64;
            for (b, &share) in values.iter_mut().zip(load) {
                *b +=
                    self.options.bias_rate * (even - share).partial_cmp(&0.0).map_or(0.0, |o| o as i8 as f32);
            }
            self.model.weights.write(&self.model.table, i, 0, &values)?;
        }
        Ok(())
    }
}

/// Sets all gradients to zero.
fn clear_graph(model: &Model, gradients: &ParameterSet) -> Graph {
    let mut g = Graph::new();
    for (i, _) in model.table.list.iter().enumerate().filter(|(_, p)| p.trainable()) {
        g.push(Op::fill(0.0, gradients.tensor(i)));
    }
    g
}

/// The norm of all gradients, and the factor that clips it, into `out [2]`.
fn norm_graph(model: &Model, gradients: &ParameterSet, out: &Buffer, clip: Option<f32>) -> Graph {
    let mut g = Graph::new();
    let total = g.temporary(DType::F32, &[1]);
    g.push(Op::fill(0.0, total.clone()));
    for (i, p) in model.table.list.iter().enumerate().filter(|(_, p)| p.trainable()) {
        // Row by row first, so that a device has many sums to do at once.
        let width = *p.shape.last().expect("parameters have axes");
        let rows = p.elems() / width;
        let partial = g.temporary(DType::F32, &[rows]);
        let grad = gradients.tensor(i).reshape(&[rows, width]);
        g.push(Op::reduce(ReduceFn::SumSquares, grad, partial.clone(), false));
        g.push(Op::reduce(ReduceFn::Sum, partial.reshape(&[1, rows]), total.clone(), true));
    }
    let out = TensorRef::new(out, DType::F32, &[2]);
    let (norm, factor) = (out.clone().slice(0, 0, 1), out.slice(0, 1, 1));
    g.push(Op::clip_factor(clip.unwrap_or(f32::MAX), total, norm, factor));
    g
}

fn update_graph(
    model: &Model,
    gradients: &ParameterSet,
    moments: [&ParameterSet; 2],
    hyper: &Buffer,
    norm: &Buffer,
    o: &OptimizerOptions,
) -> Graph {
    let mut g = Graph::new();
    let hyper = TensorRef::new(hyper, DType::F32, &[3]);
    let factor = TensorRef::new(norm, DType::F32, &[1]).with_offset(1);
    for (i, p) in model.table.list.iter().enumerate().filter(|(_, p)| p.trainable()) {
        let decays = o.decay == Decay::All || p.decay();
        let kind = AdamW::new(o.beta1, o.beta2, o.eps, if decays { o.weight_decay } else { 0.0 });
        let state = [model.weights.tensor(i), moments[0].tensor(i), moments[1].tensor(i)];
        g.push(Op::adamw(kind, gradients.tensor(i), hyper.clone(), factor.clone(), state));
    }
    g
}
