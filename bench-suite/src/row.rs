//! A line of a report: one test and its figures, with the keys of llama.cpp's `llama-bench` where it has the
//! same thing.

use crate::measure::Times;
use crate::skew::Skew;
use crate::statistics::Summary;
use crate::{Conformance, Run};
use serde::Serialize;

/// Whose clock a time is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The device's timestamps around each kernel.
    Device,
    /// The host's, from submission to the end of waiting.
    Host,
}

/// What a row is about.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Subject {
    /// An op.
    Op {
        /// Shapes and whatever else is special.
        case: String,
        /// Type of the large operands.
        dtype: &'static str,
        /// How tokens fall on experts, for ops where that matters.
        skew: Option<Skew>,
        /// `native`, `composed` or `unsupported`.
        support: &'static str,
        /// Operations of the formula.
        flops: u64,
        /// Bytes that move at least.
        bytes: u64,
    },
    /// A model.
    Model {
        /// The folder, or the name of the preset.
        model_filename: String,
        /// The model type of its configuration.
        model_type: &'static str,
        /// Bytes of the weights on the device.
        model_size: u64,
        /// Number of weights.
        model_n_params: u64,
        /// Number of weights that a token meets.
        model_n_params_active: u64,
        /// Tokens that go through the model at once.
        n_batch: usize,
        /// The same: batches are not cut.
        n_ubatch: usize,
        /// Type of the keys in the cache.
        type_k: &'static str,
        /// Type of the values in the cache.
        type_v: &'static str,
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens generated, after no prompt.
        n_gen: usize,
        /// Tokens of a training step.
        n_train: usize,
    },
}

/// Nanoseconds of a test.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// Whose clock the times are by.
    pub clock: Clock,
    /// Mean.
    pub avg_ns: u64,
    /// Standard deviation.
    pub stddev_ns: u64,
    /// Median.
    pub median_ns: u64,
    /// A quarter of the samples are below it.
    pub lower_quartile_ns: u64,
    /// A quarter of the samples are above it.
    pub upper_quartile_ns: u64,
    /// Every sample.
    pub samples_ns: Vec<u64>,
    /// Median by the host's clock.
    pub wall_ns: u64,
}

/// What a time means.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Speed {
    /// Of an op, by its median.
    Op {
        /// 10⁹ operations a second.
        gflops: f64,
        /// 10⁹ bytes a second.
        gbps: f64,
        /// What the roofline would take, in percent of what was taken.
        roofline_percent: Option<f64>,
    },
    /// Of a model, in tokens a second.
    Tokens {
        /// Mean.
        avg_ts: f64,
        /// Standard deviation.
        stddev_ts: f64,
        /// Median.
        median_ts: f64,
        /// Every sample.
        samples_ts: Vec<f64>,
    },
}

/// A replayed decode step beside the kernels that it is made of.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Replay {
    /// Median nanoseconds of a replay by the host's clock, from submission to the end of waiting.
    pub wall_ns: u64,
    /// Median nanoseconds of all its kernels by the device's clock, each alone; where it has one.
    pub kernels_ns: Option<u64>,
    /// Number of kernels; where they are timed.
    pub kernels: Option<usize>,
    /// `wall_ns / kernels_ns`.
    pub overhead_ratio: Option<f64>,
}

/// A test and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The op, or `ppN`, `tgN`, `trainRxT`.
    pub test: String,
    /// What was tested.
    #[serde(flatten)]
    pub subject: Subject,
    /// When the test began, in UTC (ISO 8601).
    pub test_time: String,
    /// Whether the device computes the right thing, as far as was looked.
    pub conformance: Option<Conformance>,
    /// Why there are no figures: what is unsupported, or what failed.
    pub reason: Option<String>,
    /// The times.
    #[serde(flatten)]
    pub timing: Option<Timing>,
    /// What they mean.
    #[serde(flatten)]
    pub speed: Option<Speed>,
    /// Of generation: what lies between the kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

impl Row {
    /// Whether the test was tried and went wrong; what is unsupported isn't tried.
    pub fn failed(&self) -> bool {
        self.reason.is_some() && !matches!(self.subject, Subject::Op { support: "unsupported", .. })
    }
}

/// A row with what it shares with all rows of its run: an object of the JSON report.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Line<'a> {
    /// The run.
    #[serde(flatten)]
    pub run: &'a Run,
    /// The test.
    #[serde(flatten)]
    pub row: &'a Row,
}

/// Whole nanoseconds.
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

impl Timing {
    /// Of one or more samples.
    pub(crate) fn new(times: &Times) -> Option<Timing> {
        let (s, wall) = (Summary::of(&times.seconds)?, Summary::of(&times.wall)?);
        Some(Timing {
            clock: times.clock,
            avg_ns: nanoseconds(s.mean),
            stddev_ns: nanoseconds(s.deviation),
            median_ns: nanoseconds(s.median),
            lower_quartile_ns: nanoseconds(s.lower_quartile),
            upper_quartile_ns: nanoseconds(s.upper_quartile),
            samples_ns: times.seconds.iter().map(|s| nanoseconds(*s)).collect(),
            wall_ns: nanoseconds(wall.median),
        })
    }

    /// Half the distance between the quartiles, in percent of the median.
    pub fn spread_percent(&self) -> f64 {
        let distance = self.upper_quartile_ns.saturating_sub(self.lower_quartile_ns);
        distance as f64 / 2.0 / self.median_ns.max(1) as f64 * 100.0
    }
}
