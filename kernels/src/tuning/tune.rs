//! The tuner: measures the variants of an op and keeps the fastest that is right.
//!
//! A variant that fails, gives wrong results, is slow beyond a limit or never answers is excluded, and the
//! rest goes on, on a device opened anew. What is being tried is written to the file as excluded beforehand:
//! if it takes the process or the machine down, it isn't tried again.

use super::{Choices, Key, TuningError};
use halite_hal::conformance::{self, Problem};
use halite_hal::{Device, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

/// The reason of what was being tried when tuning ended.
const UNFINISHED: &str = "tuning ended while it was tried";
/// Every so many of an op's conformance cases are run: a prime, so that layouts take turns.
const SLICE: usize = 13;
/// Seconds after which no further sample is taken.
const ENOUGH: f64 = 1.0;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// One run of an op; a variant that takes longer is excluded.
    pub run: Duration,
    /// All that is done with a variant, compilation included; after that it counts as hanging.
    pub attempt: Duration,
    /// Runs of which the median counts.
    pub samples: usize,
}

impl Default for Limits {
    /// For devices of any speed.
    fn default() -> Self {
        Limits { run: Duration::from_secs(5), attempt: Duration::from_secs(300), samples: 7 }
    }
}

/// What was found of a problem.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tuned {
    /// What it was measured for.
    pub key: Key,
    /// Seconds of a run of each variant that is right.
    pub times: Vec<(String, f64)>,
    /// The variants that were excluded, now or before, and why.
    pub excluded: Vec<(String, String)>,
}

impl Tuned {
    /// The fastest variant, unless all were excluded.
    pub fn winner(&self) -> Option<&str> {
        let fastest = self.times.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        fastest.map(|(variant, _)| variant.as_str())
    }
}

/// Opens the device to be tuned; again after a variant has spoilt it.
pub type Open<'a> = &'a dyn Fn() -> Result<Arc<dyn Device>>;

/// A device that is being tuned, and its file.
pub struct Tuner<'a> {
    open: Open<'a>,
    path: PathBuf,
    limits: Limits,
    device: Arc<dyn Device>,
    choices: Choices,
    /// What conformance says of variants, or why they aren't tried again, by op and variant.
    known: HashMap<(String, String), Result<(), String>>,
}

/// What an attempt found.
enum Attempt {
    /// The seconds of a run.
    Right(f64),
    /// This problem isn't solved by the variant.
    Failed(String),
    /// The variant is of no use at all.
    Hopeless(String),
}

impl<'a> Tuner<'a> {
    /// Opens the device, and its file in `cache_dir` if there is one: choices of other keys are kept, and what
    /// was excluded stays so. A file that is damaged, or of another version, is replaced.
    ///
    /// # Errors
    /// When the device can't be opened, or the file can't be read.
    pub fn new(open: Open<'a>, cache_dir: &std::path::Path, limits: Limits) -> Result<Self, TuningError> {
        let device = open()?;
        let path = Choices::path(cache_dir, device.info());
        let choices = match Choices::read(&path, device.info()) {
            Ok(choices) => choices,
            Err(e @ TuningError::Read { .. }) => return Err(e),
            Err(e) => {
                tracing::warn!("{e}; it is replaced");
                None
            }
        };
        let choices = choices.unwrap_or_else(|| Choices::new(device.info()));
        Ok(Tuner { open, path, limits, device, choices, known: HashMap::new() })
    }

    /// The file that choices are kept in.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The device; another one after a variant has failed.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Tries each variant that the device has for a problem, and keeps the fastest. `None` where there is no
    /// choice.
    ///
    /// # Errors
    /// When the file can't be written, or the device can't be opened again.
    pub fn tune(&mut self, problem: Problem) -> Result<Option<Tuned>, TuningError> {
        let desc = problem.desc();
        let mut variants = self.device.variants(&desc);
        if variants.len() < 2 {
            return Ok(None);
        }
        // The order in which the device prefers them depends on what was tuned before.
        variants.sort_unstable();
        problem.prepare();
        let problem = Arc::new(problem);
        let key = Key::of(&desc).bucket();
        let mut tuned = Tuned { key: key.clone(), times: Vec::new(), excluded: Vec::new() };
        for variant in variants {
            if let Some(reason) = self.choices.why_excluded(&key, &variant) {
                tuned.excluded.push((variant.clone(), reason.into()));
                continue;
            }
            self.choices.exclude(key.clone(), &*variant, UNFINISHED);
            self.choices.write(&self.path)?;
            match self.attempt(&problem, key.op(), &variant)? {
                Ok(seconds) => {
                    self.choices.admit(&key, &variant);
                    tuned.times.push((variant, seconds));
                }
                Err(reason) => {
                    self.choices.exclude(key.clone(), &*variant, &*reason);
                    tuned.excluded.push((variant, reason));
                }
            }
        }
        if let Some(winner) = tuned.winner() {
            self.choices.choose(key, winner);
        }
        self.choices.write(&self.path)?;
        Ok(Some(tuned))
    }

    /// The seconds that a variant takes, or why it is excluded.
    fn attempt(
        &mut self,
        problem: &Arc<Problem>,
        op: &str,
        variant: &str,
    ) -> Result<Result<f64, String>, TuningError> {
        let name = (op.to_string(), variant.to_string());
        let conforms = match self.known.get(&name) {
            Some(Err(reason)) => return Ok(Err(reason.clone())),
            Some(Ok(())) => true,
            None => false,
        };
        let (found, answer) = mpsc::channel();
        let (device, problem, limits) = (self.device.clone(), problem.clone(), self.limits);
        let (op, variant) = name.clone();
        // A call into the driver that never returns can only be left behind, with its thread and device.
        thread::spawn(move || {
            let attempt = try_variant(&*device, &problem, &op, &variant, conforms, limits);
            // Nobody waits for an answer that comes too late.
            let _ = found.send(attempt.unwrap_or_else(|e| Attempt::Failed(e.to_string())));
        });
        let attempt = match answer.recv_timeout(self.limits.attempt) {
            Ok(attempt) => attempt,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Attempt::Hopeless(format!("hangs: no answer within {:?}", self.limits.attempt))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Attempt::Hopeless("panics".into()),
        };
        match attempt {
            Attempt::Right(seconds) => {
                self.known.insert(name, Ok(()));
                Ok(Ok(seconds))
            }
            Attempt::Failed(reason) => {
                self.device = (self.open)()?;
                Ok(Err(reason))
            }
            Attempt::Hopeless(reason) => {
                self.known.insert(name, Err(reason.clone()));
                self.device = (self.open)()?;
                Ok(Err(reason))
            }
        }
    }
}

fn try_variant(
    device: &dyn Device,
    problem: &Problem,
    op: &str,
    variant: &str,
    conforms: bool,
    limits: Limits,
) -> Result<Attempt> {
    device.set_tuning(&[(op.into(), variant.into())])?;
    if let Err(message) = problem.check(device)? {
        return Ok(Attempt::Failed(format!("wrong: {message}")));
    }
    if !conforms {
        let mut options = conformance::Options::default();
        options.op = Some(op.into());
        options.slice = Some((0, SLICE));
        let report = conformance::run(device, &options);
        if let Some(failure) = report.ops.iter().flat_map(|op| &op.failures).next() {
            let conformance::Failure { case, message, .. } = failure;
            return Ok(Attempt::Hopeless(format!("fails conformance: {case}: {message}")));
        }
    }
    let one = [problem.op(device)?];
    let run = || -> Result<f64> { Ok(device.time_ops(&one)?.iter().sum()) };
    let first = run()?;
    if first > limits.run.as_secs_f64() {
        return Ok(Attempt::Failed(format!("slow: a run takes {first:.1} s, the limit is {:?}", limits.run)));
    }
    let mut samples = Vec::new();
    let mut total = 0.0;
    while samples.is_empty() || samples.len() < limits.samples && total < ENOUGH {
        let seconds = run()?;
        total += seconds;
        samples.push(seconds);
    }
    samples.sort_by(f64::total_cmp);
    Ok(Attempt::Right(samples[samples.len() / 2]))
}

#[cfg(test)]
mod tests;
