//! Whether a device computes the right thing: speed means nothing without it.

use halite_hal::Device;
use halite_hal::conformance::{self, Options};
use serde::Serialize;

/// What a part of the conformance suite found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conformance {
    /// Cases that were run.
    pub cases: usize,
    /// Cases within tolerance.
    pub passed: usize,
    /// Cases outside of it, or with an error.
    pub failed: usize,
    /// Cases that the device says it can't do.
    pub unsupported: usize,
    /// Every so manieth case of the suite was run: `halite verify` runs all.
    pub one_in: usize,
}

impl Conformance {
    /// Runs every `one_in`th case of some ops.
    pub fn check<'a>(device: &dyn Device, ops: impl IntoIterator<Item = &'a str>, one_in: usize) -> Self {
        let mut found = Conformance { one_in, ..Self::default() };
        for op in ops {
            let mut options = Options::default();
            options.op = Some(op.into());
            options.slice = Some((0, one_in));
            for report in conformance::run(device, &options).ops {
                found.cases += report.cases;
                found.passed += report.passed;
                found.failed += report.failed;
                found.unsupported += report.unsupported;
            }
        }
        found
    }
}
