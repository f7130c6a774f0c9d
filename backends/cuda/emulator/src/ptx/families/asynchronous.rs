//! Copies that go on while threads do.

use super::memory::hints;
use crate::ptx::op::{Copy, Op, Space};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::Unsigned;

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if !s.opcode.take("async") {
        return Err(s.opcode.unknown());
    }
    match s.opcode.take_any(&["commit_group", "wait_group", "wait_all", "bulk", "mbarrier"]) {
        Some("commit_group") => Ok(Op::Commit),
        Some("wait_all") => Ok(Op::Wait(None)),
        Some("wait_group") => match s.operands.as_slice() {
            [Operand::Int(n)] => Ok(Op::Wait(Some(u32::try_from(*n).unwrap_or(u32::MAX)))),
            _ => Err("a number of groups that isn't a constant".into()),
        },
        Some(_) => Err(s.opcode.unknown()),
        None => copy(b, s),
    }
}

fn copy<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let all = s.opcode.take("ca");
    let global = s.opcode.take("cg");
    let spaces = s.opcode.take_any(&["shared", "shared::cta"]).is_some() && s.opcode.take("global");
    hints(s);
    let [to, from, Operand::Int(bytes), rest @ ..] = s.operands.as_slice() else {
        return Err("a copy of a size that isn't a constant".into());
    };
    let fits = matches!(bytes, 4 | 8 | 16) && all || *bytes == 16 && global;
    if all == global || !spaces || !fits {
        return Err(format!("`{}` of {bytes} bytes isn't known", s.opcode.text));
    }
    let (mut source, mut ignore) = (None, None);
    match rest {
        [] => {}
        [o] => match b.pred(o) {
            Ok(p) if !matches!(o, Operand::Int(_)) => ignore = Some(p),
            _ => source = Some(b.source(o, Unsigned(32))?),
        },
        _ => return Err(s.opcode.unknown()),
    }
    let (to, from) = (b.address(to, Space::Shared)?, b.address(from, Space::Global)?);
    Ok(Op::Copy(Box::new(Copy { to, from, bytes: *bytes as u32, source, ignore })))
}
