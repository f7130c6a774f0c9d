//! Cases of custom ops.

use super::case::{Cases, Value};
use super::data::Data;
use crate::{CustomOp, CustomRef, Layout, OpKind, Packing};
use std::sync::Arc;

/// The cases that the op names, in every layout; inputs are normal random numbers. Descriptions with
/// packed operands are left out.
pub fn cases(op: &Arc<dyn CustomOp>, data: Data) -> Cases {
    let mut c = Cases::new(data);
    for desc in op.cases() {
        if desc.inputs.iter().chain(&desc.outputs).any(|l| l.packing != Packing::Plain) {
            continue;
        }
        let inputs = desc
            .inputs
            .iter()
            .map(|l: &Layout| match l.dtype.is_block() {
                true => Value::Blocks(l.dtype, l.shape),
                false => c.data.normal(l.dtype, &l.shape, 1.0).into(),
            })
            .collect();
        let outputs = desc.outputs.iter().map(|l| c.out(l.dtype, &l.shape)).collect();
        c.all(op.name(), OpKind::Custom(CustomRef(op.clone())), inputs, outputs);
    }
    c
}
