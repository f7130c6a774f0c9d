//! What the lanes of a warp do together.

use super::operands;
use crate::ptx::op::{Op, Shuffle, Together, Vote};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Bits, Pred, Signed, Unsigned};

const U32: Type = Unsigned(32);
const B32: Type = Bits(32);

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if s.opcode.name == "activemask" {
        if s.opcode.ty()? != B32 {
            return Err(s.opcode.unknown());
        }
        let [d] = operands::<1>(s)?;
        return Ok(Op::ActiveMask { d: b.target(d, B32)? });
    }
    if !s.opcode.take("sync") {
        return Err(format!(
            "`{}` without `.sync`, which devices since compute capability 7.0 lack",
            s.opcode.text
        ));
    }
    match s.opcode.name {
        "shfl" => shuffle(b, s),
        "vote" => vote(b, s),
        "match" => matches(b, s),
        "redux" => reduce(b, s),
        _ => elect(b, s),
    }
}

/// `bar.warp.sync`, whose first modifiers were taken.
pub(super) fn warp_barrier<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if !s.opcode.take("sync") {
        return Err(s.opcode.unknown());
    }
    let [mask] = operands::<1>(s)?;
    Ok(together(b.source(mask, U32)?, Together::Barrier))
}

fn together(mask: u32, what: Together) -> Op {
    Op::Together { mask, what: Box::new(what) }
}

fn shuffle<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let mode = match s.opcode.take_any(&["up", "down", "bfly", "idx"]) {
        Some("up") => Shuffle::Up,
        Some("down") => Shuffle::Down,
        Some("bfly") => Shuffle::Butterfly,
        Some(_) => Shuffle::Index,
        None => return Err(s.opcode.unknown()),
    };
    if s.opcode.ty()? != B32 {
        return Err(s.opcode.unknown());
    }
    let [d, a, lane, bounds, mask] = operands::<5>(s)?;
    let (d, valid) = match d {
        Operand::Pair(d, p) => (&**d, b.pred_target(p)?),
        d => (d, None),
    };
    let (from, lane, bounds) = (b.source(a, B32)?, b.source(lane, U32)?, b.source(bounds, U32)?);
    let mask = b.source(mask, U32)?;
    Ok(together(mask, Together::Shuffle { mode, to: b.target(d, B32)?, valid, from, lane, bounds }))
}

fn vote<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let how = s.opcode.take_any(&["all", "any", "uni", "ballot"]).ok_or_else(|| s.opcode.unknown())?;
    let ty = s.opcode.ty()?;
    let [d, p, mask] = operands::<3>(s)?;
    let of = b.pred(p)?;
    let mask = b.source(mask, U32)?;
    let kind = match (how, ty) {
        ("ballot", Bits(32)) => Vote::Ballot(b.target(d, B32)?),
        (how @ ("all" | "any" | "uni"), Pred) => {
            let d = b.pred_target(d)?.ok_or("a result that nobody takes")?;
            match how {
                "all" => Vote::All(d),
                "any" => Vote::Any(d),
                _ => Vote::Uniform(d),
            }
        }
        _ => return Err(s.opcode.unknown()),
    };
    Ok(together(mask, Together::Vote { kind, of }))
}

fn matches<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let how = s.opcode.take_any(&["any", "all"]).ok_or_else(|| s.opcode.unknown())?;
    let ty = s.opcode.ty()?;
    if !matches!(ty, Bits(32 | 64)) {
        return Err(s.opcode.unknown());
    }
    let [d, a, mask] = operands::<3>(s)?;
    let (of, mask) = (b.source(a, ty)?, b.source(mask, U32)?);
    let (d, all) = match (how, d) {
        ("all", Operand::Pair(d, p)) => (&**d, Some(b.pred_target(p)?)),
        ("all", d) => (d, Some(None)),
        (_, d) => (d, None),
    };
    Ok(together(mask, Together::Match { to: b.target(d, B32)?, of, wide: ty.wide(), all }))
}

fn reduce<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let how =
        s.opcode.take_any(&["add", "min", "max", "and", "or", "xor"]).ok_or_else(|| s.opcode.unknown())?;
    let ty = s.opcode.ty()?;
    let f: fn(u32, u32) -> u32 = match (how, ty) {
        ("add", Unsigned(32) | Signed(32)) => u32::wrapping_add,
        ("min", Unsigned(32)) => |a, b| a.min(b),
        ("max", Unsigned(32)) => |a, b| a.max(b),
        ("min", Signed(32)) => |a, b| (a as i32).min(b as i32) as u32,
        ("max", Signed(32)) => |a, b| (a as i32).max(b as i32) as u32,
        ("and", Bits(32)) => |a, b| a & b,
        ("or", Bits(32)) => |a, b| a | b,
        ("xor", Bits(32)) => |a, b| a ^ b,
        _ => return Err(s.opcode.unknown()),
    };
    let [d, a, mask] = operands::<3>(s)?;
    let (of, mask) = (b.source(a, ty)?, b.source(mask, U32)?);
    Ok(together(mask, Together::Reduce { to: b.target(d, ty)?, of, f }))
}

fn elect<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let [Operand::Pair(d, p), mask] = operands::<2>(s)? else { return Err(s.opcode.unknown()) };
    let mask = b.source(mask, U32)?;
    let to = if **d == Operand::Sink { None } else { Some(b.target(d, B32)?) };
    let chosen = b.pred_target(p)?.ok_or("a result that nobody takes")?;
    Ok(together(mask, Together::Elect { to, chosen }))
}
