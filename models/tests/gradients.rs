//! Gradients of whole models, in f64 on the reference device.

mod common;

use common::{alone, batch, ignore, joined, lively, tiny, write, zoo};
use halite_hal::philox::Normals;
use halite_hal::reference::ReferenceDevice;
use halite_hal::{DType, Device, Op, Recording, StreamId, TensorRef};
use halite_models::config::{ModelConfig, RouterScores};
use halite_models::data::Batch;
use halite_models::model::{self, Model};
use halite_models::tape::Tape;
use halite_models::training::{OptimizerOptions, Trainer};

const STREAM: StreamId = StreamId(0);

/// The loss of a batch with all that the balance loss needs, by a tape of its own.
struct Probe {
    recording: Recording,
    loss: TensorRef,
    /// Router logits and expert offsets of each layer with experts.
    routing: Vec<[TensorRef; 2]>,
}

fn keep(device: &ReferenceDevice, tape: &mut Tape, t: TensorRef) -> TensorRef {
    let buffer = device.allocate(4 * t.elems() as u64, 0).unwrap();
    let kept = TensorRef::new(&buffer, t.dtype, &t.shape);
    tape.graph.push(Op::copy(t, kept.clone()));
    kept
}

impl Probe {
    fn new(device: &ReferenceDevice, model: &Model, batch: &Batch) -> Self {
        let int = |shape: &[usize], data: &[i32]| {
            TensorRef::new(&model.upload_i32(data).unwrap(), DType::I32, shape)
        };
        let tokens = batch.ids.len();
        let mut tape = Tape::new();
        let weights = model.table.weights.map(|&i| tape.constant(model.weights.tensor(i)));
        let inputs = model::Batch {
            ids: int(&[tokens], &batch.ids),
            rope: model.rope_tables(tokens).unwrap().at(int(&[tokens], &batch.positions)),
            seqs: int(&[batch.seqs.len(), 4], &batch.seqs.concat()),
            cache: None,
            select: None,
            choices: None,
        };
        let output = model::forward(&mut tape, &model.config, &weights, &inputs);
        let loss = tape.cross_entropy(output.logits, int(&[tokens], &batch.targets));
        let mut routing = Vec::new();
        for (_, r) in output.routing {
            let logits = tape.tensor(r.logits);
            routing.push([keep(device, &mut tape, logits), keep(device, &mut tape, r.offsets)]);
        }
        let loss = tape.tensor(loss);
        let loss = keep(device, &mut tape, loss);
        Probe { recording: device.record(&tape.graph).unwrap(), loss, routing }
    }

    /// The summed cross-entropy, and `Σ_layers E · Σ_e f_e P_e`.
    fn run(&self, device: &ReferenceDevice) -> (f64, f64) {
        device.replay(STREAM, &self.recording, &[]).unwrap();
        let nats = device.read_f64(&self.loss).unwrap().iter().sum();
        let mut balance = 0.0;
        for [logits, offsets] in &self.routing {
            let (tokens, experts) = (logits.shape[0] as f64, logits.shape[1]);
            let logits = device.read_f64(logits).unwrap();
            let offsets = device.read_f64(offsets).unwrap();
            for row in logits.chunks(experts) {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                for (x, count) in row.iter().zip(offsets.windows(2).map(|w| w[1] - w[0])) {
                    balance += experts as f64 * (count / tokens) * (x.exp() / sum / tokens);
                }
            }
        }
        (nats, balance)
    }
}

fn trainer(model: &Model, balance: bool) -> Trainer {
    Trainer::new(model.clone(), OptimizerOptions { balance, ..Default::default() }, 16).unwrap()
}

fn gradients(device: &ReferenceDevice, trainer: &Trainer) -> Vec<(String, Vec<f64>)> {
    let list = trainer.model.table.list.iter().enumerate().filter(|(_, p)| p.trainable());
    list.map(|(i, p)| (p.members[0].name.clone(), device.read_f64(&trainer.gradients().tensor(i)).unwrap()))
        .collect()
}

/// Along one random direction of each parameter, the gradient is what the loss does. The numbers of scored
/// tokens are powers of two, so that no factor is rounded.
fn directions(name: &str, config: &ModelConfig, batches: &[Batch]) {
    let (device, model) = lively(config, 7);
    let scored: usize = batches.iter().map(Batch::target_count).sum();
    assert!(scored.is_power_of_two());
    let mut trainer = trainer(&model, true);
    let report = trainer.gradients_of(batches).unwrap();
    let gradients = gradients(&device, &trainer);

    let probes: Vec<Probe> = batches.iter().map(|b| Probe::new(&device, &model, b)).collect();
    // Sigmoid routers are balanced by their selection bias, not by a loss.
    let softmax = config.moe.as_ref().filter(|m| m.scores == RouterScores::Softmax);
    let coefficient = softmax.map_or(0.0, |m| m.router_aux_loss_coef);
    let loss = || {
        let (nats, balance) = probes
            .iter()
            .map(|p| p.run(&device))
            .fold((0.0, 0.0), |(a, b), (nats, balance)| (a + nats, b + balance));
        (nats / scored as f64, coefficient * balance / batches.len() as f64)
    };
    assert!((report.loss - loss().0).abs() < 1e-6, "{name}: {} {}", report.loss, loss().0);

    let trained = model.table.list.iter().enumerate().filter(|(_, p)| p.trainable());
    for ((i, p), (parameter, gradient)) in trained.zip(gradients) {
        let tensor = model.weights.tensor(i);
        let values = device.read_f64(&tensor).unwrap();
        let direction: Vec<f64> = Normals::new(11, i as u32).take(p.elems()).collect();
        let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
        let step = 1e-5;
        let at = |h: f64| {
            let moved: Vec<f64> = values.iter().zip(&direction).map(|(v, d)| v + h * d / length).collect();
            write(&device, &tensor, &moved);
            let (loss, balance) = loss();
            loss + balance
        };
        let want = (at(step) - at(-step)) / (2.0 * step);
        write(&device, &tensor, &values);
        let got = gradient.iter().zip(&direction).map(|(g, d)| g * d / length).sum::<f64>();
        assert!((got - want).abs() <= 1e-8 + 1e-6 * want.abs(), "{name}, {parameter}: {got} {want}");
        let zero = gradient.iter().all(|&g| g == 0.0);
        assert!(!zero, "{name}, {parameter}: the check says something");
    }
}

#[test]
fn every_parameter_of_every_kind_of_model_has_its_gradient() {
    for (name, config) in zoo() {
        let vocab = config.vocab_size;
        directions(name, &config, &[batch(1, vocab, &[3, 1, 4])]);
        let mut longer = batch(2, vocab, &[9, 3]);
        ignore(&mut longer, &[0, 5, 8, 11]);
        directions(name, &config, &[batch(3, vocab, &[1, 2, 4, 1]), longer]);
    }
}

/// Largest difference, relative to the largest gradient of the parameter.
fn assert_same(name: &str, a: &[(String, Vec<f64>)], b: &[(String, Vec<f64>)]) {
    for ((parameter, a), (_, b)) in a.iter().zip(b) {
        let size = a.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
        let far = a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(far <= 1e-12 * size, "{name}, {parameter}: {far} of {size}");
    }
}

#[test]
fn packed_documents_learn_what_they_learn_alone() {
    for (name, config) in zoo() {
        let (device, model) = lively(&config, 3);
        let packed = batch(4, config.vocab_size, &[5, 1, 2, 8]);
        let mut trainer = trainer(&model, false);
        let together = trainer.gradients_of(std::slice::from_ref(&packed)).unwrap();
        let want = gradients(&device, &trainer);
        let apart = trainer.gradients_of(&alone(&packed)).unwrap();
        assert!((together.loss - apart.loss).abs() <= 1e-6, "{name}: {} {}", together.loss, apart.loss);
        assert_eq!(together.expert_load, apart.expert_load, "{name}");
        assert_same(name, &want, &gradients(&device, &trainer));
        let nats = trainer.evaluate(&packed).unwrap();
        assert!((nats / 16.0 - together.loss).abs() < 1e-6, "{name}: {nats} {}", together.loss);
    }
}

#[test]
fn microbatches_add_up_to_one_large_batch() {
    for (name, config) in zoo() {
        let (device, model) = lively(&config, 3);
        let mut parts = [batch(5, config.vocab_size, &[2, 4]), batch(6, config.vocab_size, &[6])];
        ignore(&mut parts[1], &[2, 3]);
        let mut trainer = trainer(&model, false);
        let large = trainer.gradients_of(&[joined(&parts)]).unwrap();
        let want = gradients(&device, &trainer);
        for _ in 0..2 {
            let small = trainer.gradients_of(&parts).unwrap();
            assert!((large.loss - small.loss).abs() <= 1e-6, "{name}: {} {}", large.loss, small.loss);
            assert_same(name, &want, &gradients(&device, &trainer));
        }
    }
}

/// The share of the balance loss in each microbatch depends on how many there are.
#[test]
fn another_number_of_microbatches_of_one_size_is_balanced_alike() {
    let mut config = tiny(19);
    common::moe(&mut config).router_aux_loss_coef = 0.5;
    let (device, model) = lively(&config, 3);
    let one = batch(5, 19, &[8]);
    let mut trainer = trainer(&model, true);
    trainer.gradients_of(std::slice::from_ref(&one)).unwrap();
    let want = gradients(&device, &trainer);
    trainer.gradients_of(&[one.clone(), one.clone()]).unwrap();
    assert_same("twice the same", &want, &gradients(&device, &trainer));
    trainer.gradients_of(std::slice::from_ref(&one)).unwrap();
    assert_same("once again", &want, &gradients(&device, &trainer));
}
