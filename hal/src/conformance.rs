//! Checks any device against the reference.
//!
//! [`run`] tries every op of the catalogue, and what a device does beside ops, on generated cases: each
//! dtype and flag, odd, empty and long shapes, strided and offset views, in place where that is allowed.
//! It compares every element with the f64 [reference](crate::reference), within a tolerance derived from
//! the formula and the data (see `conformance/bound.rs`), and every byte outside the outputs with what it
//! was. The cases depend on nothing but the seed.

mod bound;
mod case;
mod cases;
mod check;
mod columns;
mod custom;
mod data;
mod pairwise;
mod problem;
mod runtime;
mod sequences;

use crate::{Backend, CustomOp, Device, DeviceOptions, OpDesc, OpKind};
use case::Cases;
use check::Outcome;
use data::Data;
use pairwise::Pairs;
pub use problem::{Problem, problems};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// What to run.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Seed of the data.
    pub seed: u64,
    /// Only the op, or group of cases, of this name.
    pub op: Option<String>,
    /// `(i, n)`: only every `n`th of what would run of each op and of ops in combination, from the `i`th on, so that
    /// `n` runs cover everything. What a device does beside ops is always checked.
    pub slice: Option<(usize, usize)>,
    /// In which variants of the device's kernels cases are run.
    pub variants: Variants,
}

impl Options {
    /// Which of a list to run: the first, and how many further each next one is.
    fn part(&self) -> (usize, usize) {
        self.slice.map_or((0, 1), |(i, n)| (i % n.max(1), n.max(1)))
    }
}

/// In which variants of a device's kernels cases are run. With other than [`Variants::Chosen`] choices that were
/// [set](crate::Device::set_tuning) before are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variants {
    /// Each case in the one that the device chooses.
    #[default]
    Chosen,
    /// Each case in every one that can do it.
    Each,
    /// So few cases, small ones if those will do, and in such variants, that every pair of traits of a
    /// [program](crate::Device::programs) occurs that would with [`Variants::Each`].
    Pairwise,
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The device's selector.
    pub selector: String,
    /// The profile that restricts the device, if any.
    pub profile: Option<String>,
    /// For each op, in the order of the catalogue, what was found; then the groups `device.…`.
    pub ops: Vec<OpReport>,
}

impl Report {
    /// Whether nothing failed. Unsupported ops don't count.
    pub fn passed(&self) -> bool {
        self.ops.iter().all(|op| op.failed == 0)
    }
}

/// A line for each op, and below it the first three failures.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for op in &self.ops {
            writeln!(
                f,
                "{:24} {:5} passed ({} composed), {} failed, {} unsupported, worst {:.3}",
                op.op, op.passed, op.composed, op.failed, op.unsupported, op.worst_tolerance_fraction
            )?;
            for failure in op.failures.iter().take(3) {
                writeln!(f, "    {}: {}", failure.case, failure.message)?;
            }
            for reason in op.unsupported_reasons.iter().take(3) {
                writeln!(f, "    unsupported: {reason}")?;
            }
        }
        Ok(())
    }
}

/// What was found of one op.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct OpReport {
    /// The op's name, or `device.…` for what isn't an op.
    pub op: String,
    /// Cases that were run.
    pub cases: usize,
    /// Cases within tolerance.
    pub passed: usize,
    /// Cases outside of it, or with an error.
    pub failed: usize,
    /// Cases that the device says it can't do.
    pub unsupported: usize,
    /// Cases, of those that passed, that the device composed of other ops.
    pub composed: usize,
    /// The largest part of its bound that an element used beyond the one rounding to its dtype, 0 to 1, over
    /// the cases that passed.
    pub worst_tolerance_fraction: f64,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Why cases were unsupported, each reason once.
    pub unsupported_reasons: Vec<String>,
}

/// A case that failed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// The case: what it tries, layouts and memory styles.
    pub case: String,
    /// What was wrong.
    pub message: String,
}

impl OpReport {
    fn new(op: &str) -> Self {
        OpReport { op: op.into(), ..Self::default() }
    }

    fn note(&mut self, case: &str, outcome: Outcome) {
        self.cases += 1;
        match outcome {
            Outcome::Passed { composed, fraction } => {
                self.passed += 1;
                self.composed += usize::from(composed);
                self.worst_tolerance_fraction = self.worst_tolerance_fraction.max(fraction);
            }
            Outcome::Failed(message) => {
                self.failed += 1;
                self.failures.push(Failure { case: case.into(), message });
            }
            Outcome::Unsupported(reason) => {
                self.unsupported += 1;
                if !self.unsupported_reasons.contains(&reason) {
                    self.unsupported_reasons.push(reason);
                }
            }
        }
    }
}

/// Runs the suite on a device.
pub fn run(device: &dyn Device, options: &Options) -> Report {
    run_with(device, options, |_| {})
}

/// Runs the suite and shows each op's report as soon as it is there.
pub fn run_with(device: &dyn Device, options: &Options, mut progress: impl FnMut(&OpReport)) -> Report {
    let info = device.info();
    let mut report =
        Report { selector: info.selector.clone(), profile: info.profile.clone(), ops: Vec::new() };
    let wanted = |name: &str| options.op.as_ref().is_none_or(|op| op == name);
    let mut pairs = Pairs::default();
    for name in OpKind::NAMES.into_iter().filter(|n| wanted(n)) {
        let mut cases = Cases::new(Data::new(options.seed, name));
        cases::generate(name, &mut cases);
        report.ops.push(run_cases(device, options, name, cases, &mut pairs));
        progress(&report.ops[report.ops.len() - 1]);
    }
    let whole = runtime::GROUPS.iter().map(|group| (group, (0, 1)));
    let sliced = runtime::COMBINATIONS.iter().map(|group| (group, options.part()));
    for ((name, checks), (first, step)) in whole.chain(sliced).filter(|((n, _), _)| wanted(n)) {
        let mut found = OpReport::new(name);
        for (case, check) in checks.iter().skip(first).step_by(step) {
            found.note(case, check(device, options.seed));
        }
        report.ops.push(found);
        progress(&report.ops[report.ops.len() - 1]);
    }
    report
}

/// Checks what each device of a backend does beside ops, and a `slice` of what it computes: for the backend's
/// own tests. Without a device it says why there is none.
///
/// # Panics
/// A device can't be opened, or something failed.
pub fn check_backend(backend: &dyn Backend, slice: (usize, usize)) {
    let n = backend.devices().len();
    if n == 0 {
        println!("skipped: {}", backend.notes().join("; "));
    }
    let options = Options { slice: Some(slice), ..Options::default() };
    for index in 0..n {
        let device = backend.open(index, &DeviceOptions::default()).expect("a device that was listed opens");
        let name = device.info().name.clone();
        let show = |op: &OpReport| println!("{name} {}: {} of {}", op.op, op.passed, op.cases);
        let report = run_with(&*device, &options, show);
        assert!(report.passed(), "{}:\n{report}", report.selector);
        assert!(
            runtime::GROUPS
                .iter()
                .all(|(group, _)| { report.ops.iter().any(|op| op.op == *group && op.cases > 0) })
        );
    }
}

/// Runs the cases that a custom op names for itself.
pub fn run_custom(device: &dyn Device, op: &Arc<dyn CustomOp>, options: &Options) -> OpReport {
    let cases = custom::cases(op, Data::new(options.seed, op.name()));
    run_cases(device, options, op.name(), cases, &mut Pairs::default())
}

fn run_cases(
    device: &dyn Device,
    options: &Options,
    name: &str,
    cases: Cases,
    pairs: &mut Pairs,
) -> OpReport {
    let Cases { mut data, list } = cases;
    let mut report = OpReport::new(name);
    let (first, step) = options.part();
    let numbers = (0..list.len()).skip(first).step_by(step);
    let work: Vec<(usize, Vec<String>)> = match options.variants {
        Variants::Chosen => {
            for i in numbers {
                report.note(&list[i].name, check::run(device, &list[i], &mut data));
            }
            return report;
        }
        Variants::Each => numbers.map(|i| (i, variants(device, &list[i].op().desc()))).collect(),
        Variants::Pairwise => {
            let chosen = pairs.choose(device, &list).into_iter().skip(first).step_by(step);
            chosen.map(|(i, variant)| (i, vec![variant])).collect()
        }
    };
    for (i, variants) in work {
        let case = &list[i];
        for (variant, outcome) in variants.iter().zip(check::run_variants(device, case, &variants, &mut data))
        {
            report.note(&format!("{variant}: {}", case.name), outcome);
        }
    }
    report
}

/// The variants that a device has for an op, by name; one, to run it once, where there is nothing to choose.
fn variants(device: &dyn Device, desc: &OpDesc) -> Vec<String> {
    let variants = device.variants(desc);
    if variants.is_empty() { vec!["only".into()] } else { variants }
}

#[cfg(test)]
mod tests;
