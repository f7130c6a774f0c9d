//! Sets of kernels: which ops they do, in which variants, and how.

use crate::Lowering;
use halite_hal::{DeviceInfo, Op, OpDesc, Result};
use std::borrow::Cow;
use std::fmt;

/// One way of doing an op: tile sizes, memory use, subgroups or not. Its name says all of it, and stays the
/// same from version to version: tuned choices refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant(pub Cow<'static, str>);

impl Variant {
    /// The variant of ops that have no other.
    pub const ONLY: Variant = Variant(Cow::Borrowed("only"));

    /// By name.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Variant(name.into())
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kernels for some ops.
pub trait KernelSet: fmt::Debug + Send + Sync {
    /// The variants that can do a well-formed op on a device, the best guess first; none for ops that the set
    /// doesn't do there. Values of offsets in the operands' memory don't matter.
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant>;

    /// Appends the launches of `op`. It has been checked, no extent is 0 unless the op writes something
    /// all the same, and every operand lies within one binding.
    fn lower(&self, op: &Op, variant: &Variant, to: &mut Lowering<'_>) -> Result<()>;
}
