//! `halite bench model`: prompts, generation and training steps.

use crate::measure::{self, Plan, Times};
use crate::row::nanoseconds;
use crate::statistics::Summary;
use crate::{Clock, Conformance, Host, Replay, Result, Row, Run, Speed, Subject, Timing, run};
use halite_hal::{DType, StreamId, philox};
use halite_models::data::Batch;
use halite_models::inference::{Decoder, Want};
use halite_models::model::Model;
use halite_models::training::{OptimizerOptions, Trainer};

/// What to run; a size of 0 leaves a test out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens generated.
    pub generate: usize,
    /// Rows of a training batch.
    pub batch_size: usize,
    /// Tokens of a row.
    pub seq_len: usize,
    /// To see that everything runs: no warm-up beyond one run.
    pub quick: bool,
    /// Samples of each test.
    pub samples: usize,
    /// Whether a part of the conformance suite is run too.
    pub conformance: bool,
}

/// What a test does.
#[derive(Clone, Copy, Debug)]
enum Test {
    Prompt(usize),
    Generate(usize),
    Train { rows: usize, tokens: usize },
}

impl Options {
    fn tests(&self) -> Vec<Test> {
        let train = Test::Train { rows: self.batch_size, tokens: self.seq_len };
        let all = [
            (self.prompt, Test::Prompt(self.prompt)),
            (self.generate, Test::Generate(self.generate)),
            (self.batch_size * self.seq_len, train),
        ];
        all.into_iter().filter(|(n, _)| *n > 0).map(|(_, test)| test).collect()
    }

    /// How many tests there are.
    pub fn count(&self) -> usize {
        self.tests().len()
    }
}

impl Test {
    fn tokens(self) -> usize {
        match self {
            Test::Prompt(n) | Test::Generate(n) => n,
            Test::Train { rows, tokens } => rows * tokens,
        }
    }

    fn name(self) -> String {
        match self {
            Test::Prompt(n) => format!("pp{n}"),
            Test::Generate(n) => format!("tg{n}"),
            Test::Train { rows, tokens } => format!("train{rows}x{tokens}"),
        }
    }
}

/// Runs the tests on a model, which `name` describes; `progress` is called after each. A test that can't be
/// run is a row with the reason. Training changes the model's weights.
///
/// # Errors
/// When the device is lost.
pub fn run(
    model: &Model,
    name: &str,
    host: &Host,
    options: &Options,
    mut progress: impl FnMut(),
) -> Result<(Run, Vec<Row>)> {
    let device = &*model.device;
    // A sample is one run of the test, however short.
    let plan = if options.quick {
        Plan::quick(options.samples)
    } else {
        Plan { sample_time: std::time::Duration::ZERO, ..Plan::thorough(options.samples) }
    };
    let conformance = options.conformance.then(|| Conformance::of_all(device));
    let mut rows = Vec::new();
    for test in options.tests() {
        let mut row = Row {
            test: test.name(),
            subject: subject(model, name, test),
            test_time: run::now(),
            conformance,
            reason: None,
            timing: None,
            speed: None,
            replay: None,
        };
        let found = match test {
            Test::Prompt(n) => prompt(model, &plan, n).map(|s| (s, None)),
            Test::Generate(n) => generate(model, &plan, n).map(|(s, r)| (s, Some(r))),
            Test::Train { rows, tokens } => train(model, &plan, rows, tokens).map(|s| (s, None)),
        };
        match found {
            Ok((seconds, replay)) => {
                let times = Times { clock: Clock::Host, wall: seconds.clone(), seconds };
                row.timing = Timing::new(&times);
                row.speed = speed(test.tokens(), &times.seconds);
                row.replay = replay;
            }
            Err(e) if is_loss(&e) => return Err(e),
            Err(e) => row.reason = Some(e.to_string()),
        }
        rows.push(row);
        progress();
    }
    Ok((Run::new(device, host, None), rows))
}

fn is_loss(e: &crate::Error) -> bool {
    use halite_hal::Error::DeviceLost;
    matches!(
        e,
        crate::Error::Device(DeviceLost { .. })
            | crate::Error::Model(halite_models::Error::Device(DeviceLost { .. }))
    )
}

fn subject(model: &Model, name: &str, test: Test) -> Subject {
    let (total, active) = model.parameter_counts();
    let of = |wanted: bool| if wanted { test.tokens() } else { 0 };
    let n_batch = if matches!(test, Test::Generate(_)) { 1 } else { test.tokens() };
    Subject::Model {
        model_filename: name.into(),
        model_type: model.config.model_type.as_str(),
        model_size: model.weights.bytes(),
        model_n_params: total as u64,
        model_n_params_active: active as u64,
        n_batch,
        n_ubatch: n_batch,
        type_k: DType::F32.name(),
        type_v: DType::F32.name(),
        n_prompt: of(matches!(test, Test::Prompt(_))),
        n_gen: of(matches!(test, Test::Generate(_))),
        n_train: of(matches!(test, Test::Train { .. })),
    }
}

fn speed(tokens: usize, seconds: &[f64]) -> Option<Speed> {
    let rates: Vec<f64> = seconds.iter().map(|s| tokens as f64 / s.max(1e-9)).collect();
    let s = Summary::of(&rates)?;
    Some(Speed::Tokens { avg_ts: s.mean, stddev_ts: s.deviation, median_ts: s.median, samples_ts: rates })
}

/// Token ids in no order, the same each time.
fn ids(n: usize, vocab: usize) -> Vec<u32> {
    (0..n as u64).map(|i| philox::block_at([7, 0], i)[0] % vocab.max(1) as u32).collect()
}

/// Seconds from a prompt to the logits of its last token, preparing the pass included.
fn prompt(model: &Model, plan: &Plan, tokens: usize) -> Result<Vec<f64>> {
    let mut decoder = Decoder::new(model, tokens)?;
    let ids = ids(tokens, model.config.vocab_size);
    measure::wall(plan, |_| {
        decoder.truncate(0);
        decoder.feed(&ids, Want::Last)?;
        Ok(())
    })
}

/// Seconds of tokens one after another, each with its logits read; then what one of them takes.
fn generate(model: &Model, plan: &Plan, tokens: usize) -> Result<(Vec<f64>, Replay)> {
    let mut decoder = Decoder::new(model, tokens)?;
    let ids = ids(tokens, model.config.vocab_size);
    let seconds = measure::wall(plan, |_| {
        decoder.truncate(0);
        for &id in &ids {
            decoder.feed(&[id], Want::Last)?;
        }
        Ok(())
    })?;
    Ok((seconds, replay(model, plan, &decoder)?))
}

/// The last token again: as a replay, and kernel by kernel.
fn replay(model: &Model, plan: &Plan, decoder: &Decoder<'_>) -> Result<Replay> {
    let device = &*model.device;
    // A token was just fed by itself.
    let recording = decoder.recording().expect("the recording of one token");
    let wall = measure::wall(plan, |_| {
        device.replay(StreamId(0), recording, &[])?;
        Ok(device.synchronize(StreamId(0))?)
    })?;
    let kernels = measure::kernels(plan, device, recording, &[])?;
    let sums = kernels.iter().flatten().map(|sample| sample.iter().sum()).collect::<Vec<f64>>();
    let median = |samples: &[f64]| Summary::of(samples).map_or(0.0, |s| s.median);
    let (wall, sum) = (median(&wall), kernels.as_ref().map(|_| median(&sums)));
    Ok(Replay {
        wall_ns: nanoseconds(wall),
        kernels_ns: sum.map(nanoseconds),
        kernels: kernels.and_then(|k| k.first().map(Vec::len)),
        overhead_ratio: sum.filter(|s| *s > 0.0).map(|s| wall / s),
    })
}

/// Seconds of training steps on one batch.
fn train(model: &Model, plan: &Plan, rows: usize, tokens: usize) -> Result<Vec<f64>> {
    let mut trainer = Trainer::new(model.clone(), OptimizerOptions::default(), tokens)?;
    let ids: Vec<i32> = ids(rows * tokens, model.config.vocab_size).into_iter().map(|id| id as i32).collect();
    let batch = [Batch::rows(&ids, rows)];
    measure::wall(plan, |_| {
        trainer.step(&batch, 1e-4)?;
        Ok(model.device.synchronize(StreamId(0))?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use halite_cpu::CpuDevice;
    use halite_hal::{Device, DeviceOptions};
    use halite_models::config::ModelConfig;
    use std::sync::Arc;

    fn found(options: &Options) -> (Run, Vec<Row>) {
        let device: Arc<dyn Device> = Arc::new(CpuDevice::new(&DeviceOptions::default().threads(1)).unwrap());
        let model = Model::new(device, ModelConfig::tiny(), 0).unwrap();
        let host = Host { cpu: "a processor".into(), threads: 1 };
        let (run, rows) = run(&model, "tiny", &host, options, || ()).unwrap();
        assert_eq!(rows.len(), options.count());
        (run, rows)
    }

    const QUICK: Options = Options {
        prompt: 4,
        generate: 2,
        batch_size: 1,
        seq_len: 4,
        quick: true,
        samples: 2,
        conformance: false,
    };

    #[test]
    fn reports_have_the_keys_of_llama_bench() {
        let (run, rows) = found(&QUICK);
        let lines: Vec<_> =
            rows.iter().map(|row| serde_json::to_value(Line { run: &run, row }).unwrap()).collect();
        for line in &lines {
            for key in ["model_filename", "model_type", "model_size", "model_n_params", "n_batch", "n_ubatch"]
            {
                assert!(!line[key].is_null(), "{key} in {line}");
            }
            for key in ["avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "median_ns", "median_ts"] {
                assert!(line[key].is_number(), "{key} in {line}");
            }
            for key in ["samples_ns", "samples_ts"] {
                assert_eq!(line[key].as_array().unwrap().len(), 2, "{key} in {line}");
            }
        }
        let sizes: Vec<_> =
            lines.iter().map(|l| ["n_prompt", "n_gen", "n_train"].map(|k| l[k].as_u64().unwrap())).collect();
        assert_eq!(sizes, [[4, 0, 0], [0, 2, 0], [0, 0, 4]]);
        // The processor has no clock of its own.
        assert!(lines[1]["replay"]["wall_ns"].as_u64().unwrap() > 0);
        assert!(lines[1]["replay"]["kernels_ns"].is_null() && lines[0].get("replay").is_none());
    }

    #[test]
    fn a_test_that_cannot_be_run_says_why_and_the_others_run() {
        let (_, rows) = found(&Options { prompt: 5000, batch_size: 0, ..QUICK });
        assert!(rows[0].failed() && rows[0].reason.as_ref().unwrap().contains("5000"));
        assert!(!rows[1].failed() && rows[1].timing.is_some());
    }
}
