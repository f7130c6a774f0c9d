//! Whether a device computes the right thing: speed means nothing without it.

use halite_hal::conformance::{self, Options};
use halite_hal::{Device, OpKind};
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
    /// Which part of the suite was run; `halite verify` runs all of it.
    pub part: Part,
}

/// A part of the conformance suite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Every 16th case of the op.
    #[default]
    EverySixteenth,
    /// One case of each op of the catalogue.
    OneOfEachOp,
}

impl Part {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Part::EverySixteenth => "every 16th of the suite",
            Part::OneOfEachOp => "one of each op",
        }
    }
}

impl Conformance {
    /// Runs every 16th case of an op.
    pub(crate) fn of_op(device: &dyn Device, op: &str) -> Self {
        Self::check(device, &[op], 16, Part::EverySixteenth)
    }

    /// Runs one case of each op.
    pub(crate) fn of_all(device: &dyn Device) -> Self {
        Self::check(device, &OpKind::NAMES, usize::MAX, Part::OneOfEachOp)
    }

    fn check(device: &dyn Device, ops: &[&str], one_in: usize, part: Part) -> Self {
        let mut found = Conformance { part, ..Self::default() };
        for &op in ops {
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

#[cfg(test)]
mod tests {
    use super::*;
    use halite_hal::devices::NullDevice;
    use halite_hal::reference::ReferenceDevice;
    use halite_hal::{DeviceInfo, DeviceKind};

    #[test]
    fn right_and_wrong_devices_are_told_apart() {
        let right = Conformance::of_all(&ReferenceDevice::rounding());
        assert_eq!((right.cases, right.passed, right.failed), (OpKind::NAMES.len(), OpKind::NAMES.len(), 0));
        let nothing = NullDevice::new(DeviceInfo::new("null", 0, "nothing", DeviceKind::Accelerator));
        let wrong = Conformance::of_op(&nothing, "softmax");
        assert!(wrong.failed > 0 && wrong.cases == wrong.passed + wrong.failed, "{wrong:?}");
    }
}
