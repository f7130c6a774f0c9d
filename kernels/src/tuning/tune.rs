//! The tuner: measures the variants of an op and keeps the fastest that is right.
//!
//! A variant that fails, gives wrong results, is slow beyond a limit or never answers is excluded, and the
//! rest goes on, on a device opened anew. What is being tried is written to the file as excluded beforehand:
//! if it takes the process or the machine down, it isn't tried again.

use super::{Choices, Key, TuningError};
use halite_hal::conformance::{self, Problem};
use halite_hal::{Device, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The reason of what was being tried when tuning ended.
const UNFINISHED: &str = "tuning ended while it was tried";
/// Which of an op's conformance cases are run: in several layouts, each an attempt of its own, because strided
/// kernels can take long to compile.
const CASES: [usize; 4] = [3, 20, 65, 130];
/// How often a wait looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);
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
    stop: &'a dyn Fn() -> bool,
    path: PathBuf,
    limits: Limits,
    device: Arc<dyn Device>,
    choices: Choices,
    /// What was found of variants whatever the shape, by op and variant: that they conform, or why they are of
    /// no use.
    known: HashMap<(String, String), Result<(), String>>,
}

/// Why a variant is excluded.
enum Fault {
    /// For this problem.
    Here(String),
    /// For every shape of the op.
    Everywhere(String),
}

impl<'a> Tuner<'a> {
    /// Opens the device, and its file in `cache_dir` if there is one: choices of other keys are kept, and what
    /// was excluded stays so. A file that is damaged, or of another version, is replaced. When `stop` says yes,
    /// tuning ends, and what was being tried can be tried again.
    ///
    /// # Errors
    /// When the device can't be opened, or the file can't be read.
    pub fn new(
        open: Open<'a>,
        cache_dir: &Path,
        limits: Limits,
        stop: &'a dyn Fn() -> bool,
    ) -> Result<Self, TuningError> {
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
        Ok(Tuner { open, stop, path, limits, device, choices, known: HashMap::new() })
    }

    /// The file that choices are kept in.
    pub fn path(&self) -> &Path {
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
    /// When it was stopped, the file can't be written, or the device can't be opened again.
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
            match self.measure(&problem, &key, &variant)? {
                Ok(seconds) => tuned.times.push((variant, seconds)),
                Err(reason) => tuned.excluded.push((variant, reason)),
            }
        }
        // Conformance takes longest, so only who would win has to pass.
        while let Some(winner) = tuned.winner().map(String::from) {
            match self.conforms(&key, &winner)? {
                Ok(()) => {
                    self.choices.choose(key, winner);
                    break;
                }
                Err(reason) => {
                    tuned.times.retain(|(variant, _)| *variant != winner);
                    tuned.excluded.push((winner, reason));
                }
            }
        }
        self.choices.write(&self.path)?;
        Ok(Some(tuned))
    }

    /// The seconds that a variant takes, or why it is excluded.
    fn measure(
        &mut self,
        problem: &Arc<Problem>,
        key: &Key,
        variant: &str,
    ) -> Result<Result<f64, String>, TuningError> {
        let (problem, limits) = (problem.clone(), self.limits);
        self.attempt(key, variant, move |device| measure(device, &problem, limits))
    }

    /// Whether a variant passes conformance, or why not. Asked once for each op.
    fn conforms(&mut self, key: &Key, variant: &str) -> Result<Result<(), String>, TuningError> {
        let name = (key.op().to_string(), variant.to_string());
        if let Some(found) = self.known.get(&name) {
            return Ok(found.clone());
        }
        for case in CASES {
            let op = name.0.clone();
            let found = self.attempt(key, variant, move |device| Ok(conforms(device, &op, case)))?;
            if found.is_err() {
                return Ok(found);
            }
        }
        self.known.insert(name, Ok(()));
        Ok(Ok(()))
    }

    /// Does something with a variant, excluded in the meantime, and afterwards if it fails.
    fn attempt<T: Send + 'static>(
        &mut self,
        key: &Key,
        variant: &str,
        work: impl FnOnce(&dyn Device) -> Result<Result<T, Fault>> + Send + 'static,
    ) -> Result<Result<T, String>, TuningError> {
        let name = (key.op().to_string(), variant.to_string());
        if let Some(Err(reason)) = self.known.get(&name) {
            let reason = reason.clone();
            self.choices.exclude(key.clone(), variant, &*reason);
            return Ok(Err(reason));
        }
        self.choices.exclude(key.clone(), variant, UNFINISHED);
        self.choices.write(&self.path)?;
        let (device, choice) = (self.device.clone(), [name.clone()]);
        let (found, answer) = mpsc::channel();
        // A call into the driver that never returns can only be left behind, with its thread and device.
        thread::spawn(move || {
            let done = device.set_tuning(&choice).and_then(|()| work(&*device));
            // Nobody waits for an answer that comes too late.
            let _ = found.send(done.unwrap_or_else(|e| Err(Fault::Here(e.to_string()))));
        });
        let fault = match self.wait(&answer) {
            Some(Ok(Ok(value))) => {
                self.choices.admit(key, variant);
                return Ok(Ok(value));
            }
            Some(Ok(Err(fault))) => fault,
            Some(Err(mpsc::RecvTimeoutError::Timeout)) => {
                Fault::Everywhere(format!("hangs: no answer within {:?}", self.limits.attempt))
            }
            Some(Err(mpsc::RecvTimeoutError::Disconnected)) => Fault::Everywhere("panics".into()),
            None => {
                self.choices.admit(key, variant);
                self.choices.write(&self.path)?;
                return Err(TuningError::Stopped);
            }
        };
        let reason = match fault {
            Fault::Here(reason) => reason,
            Fault::Everywhere(reason) => {
                self.known.insert(name, Err(reason.clone()));
                reason
            }
        };
        self.choices.exclude(key.clone(), variant, &*reason);
        // Errors of a device stay.
        self.device = (self.open)()?;
        Ok(Err(reason))
    }

    /// The answer of an attempt, or why there is none; `None` when tuning is to stop.
    fn wait<T>(&self, answer: &mpsc::Receiver<T>) -> Option<Result<T, mpsc::RecvTimeoutError>> {
        let start = Instant::now();
        loop {
            if (self.stop)() {
                return None;
            }
            let left = self.limits.attempt.saturating_sub(start.elapsed());
            match answer.recv_timeout(left.min(TICK)) {
                Err(mpsc::RecvTimeoutError::Timeout) if left > TICK => {}
                found => return Some(found),
            }
        }
    }
}

/// The median seconds of a run, if the results are right.
fn measure(device: &dyn Device, problem: &Problem, limits: Limits) -> Result<Result<f64, Fault>> {
    if let Err(message) = problem.check(device)? {
        return Ok(Err(Fault::Here(format!("wrong: {message}"))));
    }
    let one = [problem.op(device)?];
    let run = || -> Result<f64> { Ok(device.time_ops(&one)?.iter().sum()) };
    let first = run()?;
    if first > limits.run.as_secs_f64() {
        let reason = format!("slow: a run takes {first:.1} s, the limit is {:?}", limits.run);
        return Ok(Err(Fault::Here(reason)));
    }
    let mut samples = Vec::new();
    let mut total = 0.0;
    while samples.is_empty() || samples.len() < limits.samples && total < ENOUGH {
        let seconds = run()?;
        total += seconds;
        samples.push(seconds);
    }
    samples.sort_by(f64::total_cmp);
    Ok(Ok(samples[samples.len() / 2]))
}

/// Runs one of an op's conformance cases, if there are so many.
fn conforms(device: &dyn Device, op: &str, case: usize) -> Result<(), Fault> {
    let mut options = conformance::Options::default();
    options.op = Some(op.into());
    options.slice = Some((case, usize::MAX));
    let report = conformance::run(device, &options);
    match report.ops.iter().flat_map(|op| &op.failures).next() {
        Some(f) => Err(Fault::Everywhere(format!("fails conformance: {}: {}", f.case, f.message))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
