//! Loads and stores.

use crate::ptx::op::{Access, Op, Order, Space};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type;

/// Takes the space that is named.
pub(super) fn space(s: &Statement<'_>) -> Space {
    let found = s.opcode.find(|m| match m {
        "global" | "const" => Some(Space::Global),
        "shared" | "shared::cta" => Some(Space::Shared),
        "local" => Some(Space::Local),
        "param" | "param::entry" | "param::func" => Some(Space::Param),
        _ => None,
    });
    found.unwrap_or(Space::Generic)
}

/// Takes what asks for order, and its scope.
pub(super) fn order(s: &Statement<'_>) -> Order {
    let volatile = s.opcode.take_any(&["volatile", "mmio"]).is_some();
    let strong = s.opcode.take_any(&["relaxed", "acquire", "release", "acq_rel"]).is_some();
    s.opcode.take_any(&["cta", "cluster", "gpu", "sys"]);
    match (strong, volatile) {
        (true, _) => Order::Strong,
        (_, true) => Order::Volatile,
        _ => Order::Weak,
    }
}

/// Takes what only hints at caches.
pub(super) fn hints(s: &Statement<'_>) {
    let hint = |m: &str| {
        let cache = matches!(m, "nc" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" | "weak");
        let level = m.starts_with("L1::") || m.starts_with("L2::") && m != "L2::cache_hint";
        (cache || level).then_some(())
    };
    while s.opcode.find(hint).is_some() {}
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "ld" | "ldu" => access(b, s, false),
        "st" => access(b, s, true),
        _ => {
            // Nothing that a program could notice.
            space(s);
            hints(s);
            s.opcode.take_any(&["L1", "L2", "tensormap"]);
            Ok(Op::Nop)
        }
    }
}

fn access<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, store: bool) -> Result<Op> {
    let space = space(s);
    let order = order(s);
    hints(s);
    let count = s.opcode.take_any(&["v2", "v4", "v8"]).map_or(1, |v| match v {
        "v2" => 2,
        "v4" => 4,
        _ => 8,
    });
    let ty = s.opcode.ty()?;
    if matches!(ty, Type::Pred | Type::Tf32 | Type::F16x2 | Type::Bf16x2) {
        return Err(s.opcode.unknown());
    }
    let [x, y] = super::operands::<2>(s)?;
    let (at, value) = if store { (x, y) } else { (y, x) };
    let elements = b.elements(value, ty, !store)?;
    if elements.len() != count {
        return Err(format!("`{}` of {} registers", s.opcode.text, elements.len()));
    }
    let at = b.address(at, space)?;
    if store && at.space == Space::Param {
        return Err("a store to a kernel's parameters".into());
    }
    let width = ty.bits() / 8;
    let access = Access { at, elements, width, signed: matches!(ty, Type::Signed(_)), order };
    Ok(if store { Op::Store(Box::new(access)) } else { Op::Load(Box::new(access)) })
}
