//! Moves between registers, and addresses of spaces as generic ones.

use super::{lanes, operands};
use crate::exec::file::{Alu, alu};
use crate::ptx::op::{LOCAL_BASE, Op, PARAM_BASE, SHARED_BASE, Space};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Pred, Unsigned};

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "mov" => plain(b, s),
        "cvta" => generic(b, s),
        _ => in_space(b, s),
    }
}

/// Registers that have other values each time they are read.
fn clock<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, name: &str, ty: Type) -> Result<Option<Op>> {
    let wide = match name {
        "%clock" | "%clock_hi" | "%globaltimer_lo" | "%globaltimer_hi" => false,
        "%clock64" | "%globaltimer" => true,
        _ => return Ok(None),
    };
    if wide != ty.wide() {
        return Err(format!("`{name}` read as {} bits", ty.bits()));
    }
    let d = b.target(&s.operands[0], ty)?;
    // Whole kernels take less than 2^32 steps.
    if name.ends_with("_hi") {
        let zero = b.constant(0, false);
        return Ok(Some(Op::Alu { run: alu!((u32) -> u32, |a| a), r: [d, zero, 0, 0, 0] }));
    }
    Ok(Some(Op::Clock { d, wide }))
}

fn plain<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let [d, a] = operands::<2>(s)?;
    if ty == Pred {
        let d = b.pred_target(d)?.ok_or("a result that nobody takes")?;
        let a = b.pred(a)?;
        return Ok(Op::Logic { f: |a, _| a, d, a, b: a });
    }
    match (d, a) {
        (Operand::Vector(to), _) => {
            let bits = part(s, ty, to.len())?;
            let to = to.iter().map(|o| match o {
                Operand::Sink => Ok(None),
                o => b.target(o, Type::Bits(bits)).map(Some),
            });
            let to = to.collect::<Result<_>>()?;
            Ok(Op::Unpack { to, bits, a: b.source(a, ty)?, wide: ty.wide() })
        }
        (_, Operand::Vector(from)) => {
            let bits = part(s, ty, from.len())?;
            let from = from.iter().map(|o| b.source(o, Type::Bits(bits))).collect::<Result<_>>()?;
            Ok(Op::Pack { d: b.target(d, ty)?, wide: ty.wide(), bits, from })
        }
        (_, &Operand::Name(name, 0)) => match clock(b, s, name, ty)? {
            Some(op) => Ok(op),
            None => lanes(b, s, copy(ty), ty, &[ty]),
        },
        _ => lanes(b, s, copy(ty), ty, &[ty]),
    }
}

fn copy(ty: Type) -> Alu {
    if ty.wide() { alu!((u64) -> u64, |a| a) } else { alu!((u32) -> u32, |a| a) }
}

/// Bits of each of several registers that make one.
fn part(s: &Statement<'_>, ty: Type, n: usize) -> Result<u32> {
    match (ty.bits(), n) {
        (32, 2) | (64, 4) => Ok(16),
        (64, 2) => Ok(32),
        _ => Err(format!("`{}` with {n} registers for {} bits", s.opcode.text, ty.bits())),
    }
}

fn space_of(s: &Statement<'_>) -> Result<Space> {
    let name = s.opcode.find(|m| match m {
        "global" | "const" => Some(Space::Global),
        "shared" | "shared::cta" | "shared::cluster" => Some(Space::Shared),
        "local" => Some(Space::Local),
        "param" | "param::entry" => Some(Space::Param),
        _ => None,
    });
    name.ok_or_else(|| s.opcode.unknown())
}

/// Addresses in a space as generic ones, and back.
fn generic<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let back = s.opcode.take("to");
    let space = space_of(s)?;
    let ty = s.opcode.ty()?;
    if ty != Unsigned(64) {
        return Err(s.opcode.unknown());
    }
    // Parameters of functions are in local memory.
    let space = if space == Space::Param && !b.in_kernel { Space::Local } else { space };
    let run = match (space, back) {
        (Space::Shared, false) => alu!((u64) -> u64, |a| a.wrapping_add(SHARED_BASE)),
        (Space::Shared, true) => alu!((u64) -> u64, |a| a.wrapping_sub(SHARED_BASE)),
        (Space::Local, false) => alu!((u64) -> u64, |a| a.wrapping_add(LOCAL_BASE)),
        (Space::Local, true) => alu!((u64) -> u64, |a| a.wrapping_sub(LOCAL_BASE)),
        (Space::Param, false) => alu!((u64) -> u64, |a| a.wrapping_add(PARAM_BASE)),
        (Space::Param, true) => alu!((u64) -> u64, |a| a.wrapping_sub(PARAM_BASE)),
        _ => alu!((u64) -> u64, |a| a),
    };
    lanes(b, s, run, ty, &[ty])
}

fn in_space<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let space = space_of(s)?;
    let [p, a] = operands::<2>(s)?;
    let p = b.pred_target(p)?.ok_or("a result that nobody takes")?;
    Ok(Op::InSpace { p, space, address: b.source(a, Unsigned(64))? })
}
