//! Instructions by family: each module decodes its instructions, and says what a lane computes where lanes don't
//! depend on each other.

mod approximate;
mod asynchronous;
mod atomic;
mod bits;
mod carry;
mod compare;
mod control;
mod convert;
mod float;
mod half;
mod integer;
mod matrix;
mod memory;
mod moves;
mod together;

pub(crate) use convert::Conversion;

use super::op::{Instr, Op};
use super::operand::{Build, Result};
use super::statement::{Operand, Statement};
use super::types::Type;
use crate::exec::file::Alu;

/// What an instruction does.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "abs" | "neg" | "min" | "max" | "sad"
        | "mul24" | "mad24" => arithmetic(b, s),
        "addc" | "subc" | "madc" => carry::decode(b, s),
        "popc" | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "shl" | "shr" | "shf" | "prmt" | "lop3"
        | "cnot" | "szext" | "bmsk" | "dp4a" | "dp2a" | "and" | "or" | "xor" | "not" => bits::decode(b, s),
        "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => approximate::decode(b, s),
        "copysign" => float::copysign(b, s),
        "setp" | "set" | "testp" | "slct" | "selp" => compare::decode(b, s),
        "cvt" => convert::decode(b, s),
        "mov" | "cvta" | "isspacep" => moves::decode(b, s),
        "ld" | "ldu" | "st" | "prefetch" | "prefetchu" | "applypriority" | "discard" => memory::decode(b, s),
        "atom" | "red" => atomic::decode(b, s),
        "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" | "nanosleep" | "pmevent" | "bar"
        | "barrier" | "membar" | "fence" | "griddepcontrol" | "setmaxnreg" => control::decode(b, s),
        "shfl" | "vote" | "match" | "redux" | "activemask" | "elect" => together::decode(b, s),
        "cp" => asynchronous::decode(b, s),
        "ldmatrix" | "stmatrix" | "mma" | "movmatrix" => matrix::decode(b, s),
        _ => Err(s.opcode.unknown()),
    }
}

/// What integers and floats have in common, by the type.
fn arithmetic<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    // `.cc` of an addition sets what the next one carries.
    if s.opcode.take("cc") {
        return carry::decode_cc(b, s);
    }
    match s.opcode.ty()? {
        ty @ (Type::Float(32) | Type::Float(64)) => float::decode(b, s, ty),
        ty @ (Type::Float(16) | Type::Bf16 | Type::F16x2 | Type::Bf16x2) => half::decode(b, s, ty),
        ty => integer::decode(b, s, ty),
    }
}

/// The operands, if there are as many as that.
fn operands<'s, 'a, const N: usize>(s: &'s Statement<'a>) -> Result<&'s [Operand<'a>; N]> {
    let found = s.operands.as_slice();
    found
        .try_into()
        .map_err(|_| format!("`{}` has {} operands where it takes {N}", s.opcode.text, found.len()))
}

/// Keeps something that is done before what an instruction ends with, under the same predicate.
fn before<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, op: Op) -> Result<()> {
    let guard = s.guard.map(|(name, negated)| b.guard(name, negated)).transpose()?;
    b.code.push(Instr { line: s.line as u32, guard, op });
    Ok(())
}

/// An instruction of each lane: a result, from operands of these types.
fn lanes<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, run: Alu, to: Type, from: &[Type]) -> Result<Op> {
    if s.operands.len() != from.len() + 1 {
        let (n, found) = (from.len() + 1, s.operands.len());
        return Err(format!("`{}` has {found} operands where it takes {n}", s.opcode.text));
    }
    let mut r = [0; 5];
    for (k, (operand, &ty)) in s.operands[1..].iter().zip(from).enumerate() {
        r[k + 1] = b.source(operand, ty)?;
    }
    r[0] = b.target(&s.operands[0], to)?;
    Ok(Op::Alu { run, r })
}
