//! Training runs: metrics, checkpoints, interruption, resumption, failure.

mod common;

use common::{moe, tiny};
use halite_hal::reference::ReferenceDevice;
use halite_hal::{Device, DeviceInfo, Graph, Op, Recording, StreamId};
use halite_models::config::{ModelConfig, RouterScores};
use halite_models::data::{Batch, BatchShape, Corpus, DataError, Packing, TrainBatches, ValidationBatches};
use halite_models::model::Model;
use halite_models::tokenizer::Tokenizer;
use halite_models::training::{
    BatchSource, DataConfig, Event, FixedBatch, Metrics, Outcome, Run, RunConfig, TrainingConfig, Validation,
};
use halite_models::{Error, checkpoint, schedule};
use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex};

const SHAPE: BatchShape = BatchShape { batch_size: 2, seq_len: 8, packing: Packing::Documents };

fn device() -> Arc<dyn Device> {
    // It rounds like other devices: a checkpoint holds all that memory did.
    Arc::new(ReferenceDevice::rounding())
}

/// With selection biases, which training moves without a gradient.
fn model_config() -> ModelConfig {
    let mut config = tiny(257);
    config.num_hidden_layers = 1;
    let m = moe(&mut config);
    (m.scores, m.selection_bias) = (RouterScores::Sigmoid, true);
    config
}

fn run_config(steps: u64, accumulation: usize) -> RunConfig {
    RunConfig {
        seed: 3,
        data: DataConfig { seq_len: 8, batch_size: 2, ..Default::default() },
        training: TrainingConfig { steps, accumulation, lr: 1e-2, warmup_steps: 2, ..Default::default() },
        ..Default::default()
    }
}

fn corpus(texts: &[&str]) -> Arc<Corpus> {
    Arc::new(Corpus::new(texts, &Tokenizer::byte_level()).unwrap())
}

fn batches() -> TrainBatches {
    let texts = ["the cat sat on the mat", "a", "the dog sat on the log", "so it goes", "end"];
    TrainBatches::new(corpus(&texts), SHAPE, 3).unwrap()
}

fn validation() -> Option<Validation> {
    let corpus = corpus(&["the cow sat on the plough", "ox"]);
    let batches = ValidationBatches::new(corpus.clone(), SHAPE).unwrap();
    Some(Validation { corpus, batches })
}

fn fixed() -> FixedBatch {
    FixedBatch(Batch::rows(&[1, 2, 3, 4, 1, 2, 3, 4, 9, 8, 7, 6, 9, 8, 7, 6], 2))
}

fn fresh<'s>(config: &RunConfig, source: &'s dyn BatchSource) -> Run<'s> {
    let model = Model::new(device(), model_config(), config.seed).unwrap();
    Run::new(model, config.clone(), source, validation(), vec![("note.txt".into(), b"hi".to_vec())]).unwrap()
}

fn resumed<'s>(dir: &Path, config: &RunConfig, source: &'s dyn BatchSource) -> Result<Run<'s>, Error> {
    let files = vec![("note.txt".into(), b"hi".to_vec())];
    let loaded = checkpoint::load(dir, None)?;
    Run::resume(device(), &loaded, config.clone(), source, validation(), files)
}

/// Takes at most `limit` steps.
fn take(run: &mut Run<'_>, dir: &Path, limit: u64) -> Outcome {
    run.save_to(dir).unwrap();
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > limit
    };
    run.run(&stop, &mut |_| {}).unwrap()
}

fn metrics(dir: &Path) -> Vec<Metrics> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let timeless = |line| Metrics { tokens_per_second: 0.0, ..serde_json::from_str(line).unwrap() };
    text.lines().map(timeless).collect()
}

#[test]
fn metrics_say_what_each_step_did() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = run_config(6, 1);
    config.training.validate_every = 4;
    config.training.save_every = 4;
    let source = fixed();
    let mut run = fresh(&config, &source);
    run.save_to(dir.path()).unwrap();
    let mut seen = Vec::new();
    let mut saved = Vec::new();
    let outcome = run
        .run(&|| false, &mut |event| match event {
            Event::Step(m) => seen.push(Metrics { tokens_per_second: 0.0, ..m.clone() }),
            Event::Saved(path) => saved.push(path.to_path_buf()),
            _ => {}
        })
        .unwrap();
    let lines = metrics(dir.path());
    assert_eq!(lines, seen);
    assert_eq!(lines.iter().map(|m| m.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(saved, [dir.path().join("step-4"), dir.path().join("step-6")]);
    let schedule = config.training.schedule();
    for (i, m) in lines.iter().enumerate() {
        assert_eq!(m.lr, schedule.at(i as u64));
        assert!(m.grad_norm > 0.0 && m.loss > 0.0);
        assert_eq!((m.expert_load.len(), m.expert_load[0].len()), (1, 4));
        assert!((m.expert_load[0].iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert_eq!(m.validation_loss.is_some(), m.step == 4 || m.step == 6);
    }
    assert!((lines[0].loss - 257f64.ln()).abs() < 0.1, "{}", lines[0].loss);
    assert!(lines[5].loss < lines[0].loss - 0.1);
    let (nats, bits) = (lines[5].validation_loss.unwrap(), lines[5].validation_bits_per_byte.unwrap());
    // 27 bytes and two ends of text.
    assert!((bits - nats * 29.0 / 27.0 / 2f64.ln()).abs() < 1e-12);
    assert_eq!(
        outcome,
        Outcome {
            finished: true,
            steps: 6,
            checkpoint: Some(dir.path().join("step-6")),
            validation: Some((nats, bits)),
        }
    );
    assert_eq!(std::fs::read(dir.path().join("step-6/note.txt")).unwrap(), b"hi");
    assert!(Model::open(device(), dir.path()).is_ok());
}

/// Everything of a checkpoint folder, by name.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn an_interrupted_run_ends_as_if_it_had_not_been() {
    let source = batches();
    let fixed = fixed();
    for (accumulation, cuts, source) in [
        (1, vec![5], &source as &dyn BatchSource),
        (1, vec![0, 3, 1, 2], &source),
        (2, vec![4, 3], &source),
        (2, vec![3], &fixed),
    ] {
        let config = run_config(9, accumulation);
        let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(take(&mut fresh(&config, source), whole.path(), u64::MAX).finished);

        let mut steps = 0;
        for (i, &limit) in cuts.iter().enumerate() {
            let mut run = match i {
                0 => fresh(&config, source),
                _ => resumed(cut.path(), &config, source).unwrap(),
            };
            steps += limit;
            let outcome = take(&mut run, cut.path(), limit);
            let path = cut.path().join(format!("step-{steps}"));
            assert_eq!((outcome.finished, outcome.steps, outcome.checkpoint), (false, steps, Some(path)));
        }
        let mut run = resumed(cut.path(), &config, source).unwrap();
        assert!(take(&mut run, cut.path(), u64::MAX).finished);

        assert_eq!(metrics(whole.path()), metrics(cut.path()), "{accumulation} {cuts:?}");
        // Each microbatch was a batch of its own.
        let data = checkpoint::load(whole.path(), None).unwrap().state.data;
        assert_eq!(data, source.state(9 * accumulation as u64));
        let [a, b] = [&whole, &cut].map(|d| contents(&d.path().join("step-9")));
        assert_eq!(a.len(), 6);
        assert!(a == b, "{accumulation} {cuts:?}: the checkpoints differ");
    }
}

#[test]
fn a_run_that_was_killed_computes_the_lost_steps_again() {
    let source = batches();
    let mut config = run_config(7, 1);
    config.training.save_every = 3;
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    take(&mut fresh(&config, &source), whole.path(), u64::MAX);
    let mut run = fresh(&config, &source);
    run.save_to(killed.path()).unwrap();
    // Step 5, with the checkpoint of step 3 as an event of its own: a panic stands for the process's end.
    let steps = Cell::new(0);
    let gone = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run.run(&|| false, &mut |_| {
            steps.set(steps.get() + 1);
            if steps.get() == 6 {
                std::panic::resume_unwind(Box::new(()));
            }
        })
    }));
    assert!(gone.is_err());
    assert_eq!(metrics(killed.path()).len(), 5);
    let mut run = resumed(killed.path(), &config, &source).unwrap();
    assert_eq!(run.trainer.steps, 3);
    take(&mut run, killed.path(), u64::MAX);
    assert_eq!(metrics(whole.path()), metrics(killed.path()));
    let [a, b] = [&whole, &killed].map(|d| contents(&d.path().join("step-7")));
    assert!(a == b);
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let source = batches();
    let dir = tempfile::tempdir().unwrap();
    let config = run_config(2, 1);
    take(&mut fresh(&config, &source), dir.path(), u64::MAX);
    let before = contents(&dir.path().join("step-2"));
    let outcome = take(&mut resumed(dir.path(), &config, &source).unwrap(), dir.path(), u64::MAX);
    assert_eq!((outcome.finished, outcome.steps), (true, 2));
    assert_eq!(before, contents(&dir.path().join("step-2")));
    assert_eq!(metrics(dir.path()).len(), 2);
}

#[test]
fn other_data_are_refused() {
    let source = batches();
    let dir = tempfile::tempdir().unwrap();
    let config = run_config(4, 1);
    take(&mut fresh(&config, &source), dir.path(), 2);
    let refused = |source: &dyn BatchSource| resumed(dir.path(), &config, source).err().unwrap();
    let changed = TrainBatches::new(corpus(&["the cat sat on the hat"]), SHAPE, 3).unwrap();
    assert!(matches!(refused(&changed), Error::Data(DataError::CorpusChanged { .. })));
    let same = batches();
    resumed(dir.path(), &config, &same).unwrap();
    let longer = BatchShape { seq_len: 4, ..SHAPE };
    let corpus = corpus(&["the cat sat on the mat", "a", "the dog sat on the log", "so it goes", "end"]);
    let longer = TrainBatches::new(corpus, longer, 3).unwrap();
    assert!(matches!(refused(&longer), Error::Data(DataError::StateMismatch { .. })));
    assert!(matches!(refused(&fixed()), Error::State { what: "data" }));
}

#[test]
fn only_as_many_checkpoints_stay_as_were_asked_for() {
    let source = fixed();
    for (keep, left) in [(1, vec![5]), (2, vec![4, 5]), (0, vec![2, 4, 5])] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = run_config(5, 1);
        (config.training.save_every, config.training.keep) = (2, keep);
        take(&mut fresh(&config, &source), dir.path(), u64::MAX);
        assert_eq!(checkpoint::steps(dir.path()).unwrap(), left);
        assert_eq!(checkpoint::load(dir.path(), None).unwrap().state.step, 5);
    }
}

fn bits(run: &Run<'_>) -> Vec<Vec<u32>> {
    let t = &run.trainer;
    let sets = [&t.model.weights, &t.first_moments, &t.second_moments];
    let trained = |set: usize, i: usize| set == 0 || t.model.table.list[i].trainable();
    let mut all = Vec::new();
    for (s, set) in sets.into_iter().enumerate() {
        for i in (0..t.model.table.list.len()).filter(|&i| trained(s, i)) {
            all.push(set.read(i).unwrap().into_iter().map(f32::to_bits).collect());
        }
    }
    all
}

#[test]
fn a_step_that_blows_up_is_an_error_and_changes_nothing() {
    let source = batches();
    let dir = tempfile::tempdir().unwrap();
    let mut config = run_config(5, 1);
    config.training.lr = 1e30;
    config.training.warmup_steps = 0;
    config.training.schedule = schedule::Decay::Constant;
    config.training.save_every = 1;
    let mut run = fresh(&config, &source);
    run.save_to(dir.path()).unwrap();
    let error = run.run(&|| false, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotFinite { step: 2, .. }), "{error}");
    assert_eq!(run.trainer.steps, 1);
    assert_eq!(metrics(dir.path()).len(), 1);
    let back = resumed(dir.path(), &config, &source).unwrap();
    assert_eq!(back.trainer.steps, 1);
    assert_eq!(bits(&run), bits(&back));
}

#[test]
fn weights_that_are_no_numbers_are_an_error() {
    for bad in [f32::INFINITY, f32::NAN] {
        let source = fixed();
        let mut run = fresh(&run_config(5, 1), &source);
        run.trainer.step(std::slice::from_ref(&source.0), 1e-3).unwrap();
        let table = run.trainer.model.table.clone();
        let head = table.weights.head;
        let mut values = run.trainer.model.weights.read(head).unwrap();
        values[0] = bad;
        run.trainer.model.weights.write(&table, head, 0, &values).unwrap();
        let before = bits(&run);
        let error = run.run(&|| false, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::NotFinite { step: 2, .. }), "{error}");
        assert_eq!(before, bits(&run));
    }
}

#[test]
fn selection_biases_go_against_the_load_and_are_saved() {
    let source = fixed();
    let dir = tempfile::tempdir().unwrap();
    let mut config = run_config(3, 1);
    let bias = |run: &Run<'_>| {
        let table = &run.trainer.model.table;
        let of = |p: &halite_models::model::Parameter| !p.trainable();
        run.trainer.model.weights.read(table.list.iter().position(of).unwrap()).unwrap()
    };
    let mut run = fresh(&config, &source);
    assert_eq!(bias(&run), [0.0; 4]);
    take(&mut run, dir.path(), 1);
    let load = metrics(dir.path())[0].expert_load[0].clone();
    assert!(load.iter().any(|&l| l > 0.25) && load.iter().any(|&l| l < 0.25), "{load:?}");
    for (b, share) in bias(&run).into_iter().zip(load) {
        let want = if share > 0.25 {
            -1e-3
        } else if share < 0.25 {
            1e-3
        } else {
            0.0
        };
        assert_eq!(b, want);
    }
    let moved = bias(&run);
    let mut run = resumed(dir.path(), &config, &source).unwrap();
    assert_eq!(bias(&run), moved);
    take(&mut run, dir.path(), 1);
    assert_ne!(bias(&run), moved);

    config.training.balance = false;
    let mut run = fresh(&config, &source);
    run.run(&|| false, &mut |_| {}).unwrap();
    assert_eq!(bias(&run), [0.0; 4]);
}

#[test]
fn batches_of_changing_size_and_raggedness_are_taken() {
    let config = run_config(3, 1);
    let source = fixed();
    let curve = |batches: &[Batch]| {
        let mut run = fresh(&config, &source);
        batches.iter().map(|b| run.trainer.gradients_of(std::slice::from_ref(b)).unwrap()).collect::<Vec<_>>()
    };
    let ragged: Vec<Batch> =
        [vec![8], vec![1, 2, 1, 4], vec![2; 4], vec![1; 8], vec![3, 5], vec![4], vec![8]]
            .iter()
            .map(|documents| common::batch(2, 257, documents))
            .collect();
    let one_after_another = curve(&ragged);
    for (b, want) in ragged.iter().zip(&one_after_another) {
        assert_eq!(&curve(std::slice::from_ref(b))[0], want);
    }
    let mut run = fresh(&config, &source);
    for (b, want) in ragged.iter().zip(&one_after_another) {
        let nats = run.trainer.evaluate(b).unwrap();
        assert!((nats / b.ids.len() as f64 - want.loss).abs() < 1e-6);
    }
}

#[test]
fn batches_that_do_not_fit_the_model_are_refused() {
    let source = fixed();
    let mut run = fresh(&run_config(3, 1), &source);
    let t = &mut run.trainer;
    let short = common::batch(1, 257, &[8, 8]);
    t.gradients_of(std::slice::from_ref(&short)).unwrap();
    t.evaluate(&short).unwrap();
    // As many tokens, no more sequences, but longer ones than the rotary tables.
    let long = common::batch(1, 257, &[16]);
    for refused in [t.gradients_of(std::slice::from_ref(&long)).unwrap_err(), t.evaluate(&long).unwrap_err()]
    {
        assert!(matches!(refused, Error::ContextLength { requested: 16, maximum: 8 }), "{refused}");
    }
    for id in [-1, 257] {
        let mut bad = short.clone();
        bad.ids[3] = id;
        assert!(matches!(t.gradients_of(&[bad]), Err(Error::TokenId { .. })));
    }
    let mut bad = short.clone();
    bad.targets[3] = 257;
    assert!(matches!(t.gradients_of(&[bad]), Err(Error::TokenId { id: 257, .. })));
    let mut nothing = short.clone();
    common::ignore(&mut nothing, &(0..16).collect::<Vec<_>>());
    assert!(matches!(t.gradients_of(&[nothing]), Err(Error::NothingToLearn)));
    assert!(matches!(t.gradients_of(&[]), Err(Error::NothingToLearn)));
    t.gradients_of(&[short]).unwrap();
}

/// The reference with choices of variants, as devices with kernels have them.
#[derive(Debug)]
struct Tuned {
    inner: ReferenceDevice,
    info: DeviceInfo,
    set: Mutex<Vec<(String, String)>>,
}

impl Tuned {
    fn new(name: &str) -> Arc<Tuned> {
        let inner = ReferenceDevice::rounding();
        let mut info = inner.info().clone();
        info.name = name.into();
        Arc::new(Tuned { inner, info, set: Mutex::default() })
    }
}

impl Device for Tuned {
    halite_hal::forward_to!(inner; supports, workspace, allocate, create_stream, upload, download, copy);
    halite_hal::forward_to!(inner; replay, record_event, wait_event, synchronize, memory);

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn submit(&self, stream: StreamId, ops: &[Op]) -> halite_hal::Result<()> {
        self.inner.submit(stream, ops)
    }
    fn record(&self, graph: &Graph) -> halite_hal::Result<Recording> {
        self.inner.record(graph)
    }
    fn tuning(&self) -> Vec<(String, String)> {
        vec![("matmul f32r 8".into(), "tiles".into())]
    }
    fn set_tuning(&self, choices: &[(String, String)]) -> halite_hal::Result<()> {
        *self.set.lock().unwrap() = choices.into();
        Ok(())
    }
}

#[test]
fn a_resumed_run_has_the_choices_of_its_device() {
    let dir = tempfile::tempdir().unwrap();
    let (config, source) = (run_config(1, 1), fixed());
    let model = Model::new(Tuned::new("one"), model_config(), config.seed).unwrap();
    let mut run = Run::new(model, config.clone(), &source, None, vec![]).unwrap();
    let saved = take(&mut run, dir.path(), 1).checkpoint.unwrap();

    let resume = |device: &Arc<Tuned>| {
        let loaded = checkpoint::load(dir.path(), None).unwrap();
        Run::resume(device.clone(), &loaded, config.clone(), &source, None, vec![]).unwrap();
        device.set.lock().unwrap().clone()
    };
    let one = Tuned::new("one");
    assert_eq!(resume(&one), one.tuning());
    assert_eq!(resume(&Tuned::new("another")), []);

    // Checkpoints of earlier versions name no choices.
    let path = saved.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("tuning").unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
    assert_eq!(resume(&Tuned::new("one")), []);
}
