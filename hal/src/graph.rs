//! A list of ops over slots: what a recording is made from.

use crate::{DType, Error, Op, OpKind, Result, Source, TensorRef};

/// What stands behind a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotKind {
    /// Memory that the caller binds at each replay.
    External,
    /// Memory that the recording plans by lifetime; undefined before the first write.
    Temporary,
}

/// A slot of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// Size in bytes.
    pub bytes: u64,
    /// What stands behind it.
    pub kind: SlotKind,
}

/// Ops in order, over buffers and slots. Nothing runs until it is recorded and replayed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Graph {
    /// The ops, in the order in which they take effect.
    pub ops: Vec<Op>,
    /// The slots that operands name by number.
    pub slots: Vec<Slot>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a slot of `bytes` bytes.
    pub fn slot(&mut self, kind: SlotKind, bytes: u64) -> u32 {
        self.slots.push(Slot { bytes, kind });
        (self.slots.len() - 1) as u32
    }

    /// A new contiguous temporary.
    ///
    /// # Panics
    /// When its size overflows.
    pub fn temporary(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let bytes = dtype.bytes(shape).expect("size of a temporary");
        TensorRef::slot(self.slot(SlotKind::Temporary, bytes), dtype, shape)
    }

    /// A new contiguous tensor that is bound at replay.
    ///
    /// # Panics
    /// When its size overflows.
    pub fn external(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let bytes = dtype.bytes(shape).expect("size of an external tensor");
        TensorRef::slot(self.slot(SlotKind::External, bytes), dtype, shape)
    }

    /// Appends an op.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Checks every op, see [`Op::check`], and that no temporary is read before it is written.
    pub fn check(&self) -> Result<()> {
        let mut written: Vec<bool> = self.slots.iter().map(|s| s.kind == SlotKind::External).collect();
        for op in &self.ops {
            op.check(|s| self.slots.get(s as usize).map(|s| s.bytes))?;
            let updated = op.outputs.iter().enumerate().filter(|(o, _)| {
                // A scatter or custom op may fill a temporary piece by piece.
                op.kind.updates(*o) && !matches!(op.kind, OpKind::Scatter { .. } | OpKind::Custom(_))
            });
            for t in op.inputs.iter().chain(updated.map(|(_, t)| t)) {
                if let Source::Slot(s) = t.source
                    && !written[s as usize]
                    && t.elems() > 0
                {
                    return Err(Error::Slot {
                        slot: s,
                        message: format!(
                            "{} reads the temporary before anything is written to it",
                            op.desc()
                        ),
                    });
                }
            }
            for t in &op.outputs {
                if let Source::Slot(s) = t.source {
                    written[s as usize] = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnaryFn;

    #[derive(Debug)]
    struct Double;

    impl crate::CustomOp for Double {
        fn name(&self) -> &str {
            "test.double"
        }
        fn check(&self, _: &[crate::Layout], _: &[crate::Layout]) -> Result<(), String> {
            Ok(())
        }
        fn reference(&self, _: &[crate::reference::Array], _: &mut [crate::reference::Array]) {}
    }

    #[test]
    fn a_custom_op_may_be_the_first_to_write_a_temporary() {
        let mut g = Graph::new();
        let (x, t) = (g.external(DType::F32, &[4]), g.temporary(DType::F32, &[4]));
        g.push(Op::custom(std::sync::Arc::new(Double), vec![x], vec![t]));
        g.check().unwrap();
    }

    #[test]
    fn reading_an_unwritten_temporary_is_an_error() {
        let mut g = Graph::new();
        let x = g.temporary(DType::F32, &[4]);
        let y = g.temporary(DType::F32, &[4]);
        g.push(Op::unary(UnaryFn::Exp, x.clone(), y));
        assert!(g.check().unwrap_err().to_string().contains("before anything is written"));
        g.ops.insert(0, Op::fill(1.0, x));
        g.check().unwrap();
    }
}
