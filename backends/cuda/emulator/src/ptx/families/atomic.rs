//! Atomic operations.

use super::memory::{hints, order, space};
use crate::exec::rounding::{NEAREST, bf16_of, f16_of, finish};
use crate::ptx::op::{Atomic, Op, Space, Update};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Bf16, Bf16x2, Bits, F16x2, Float, Signed, Unsigned};
use half::{bf16, f16};

fn f32_sum(a: u64, b: u64, _: u64) -> u64 {
    let sum = f32::from_bits(a as u32) + f32::from_bits(b as u32);
    u64::from(finish::<false, false>(sum).to_bits())
}

fn f16_sum(a: u64, b: u64, _: u64) -> u64 {
    let wide = |v: u64| f64::from(f16::from_bits(v as u16));
    u64::from(f16_of(wide(a) + wide(b), NEAREST).to_bits())
}

fn bf16_sum(a: u64, b: u64, _: u64) -> u64 {
    let wide = |v: u64| f64::from(bf16::from_bits(v as u16));
    u64::from(bf16_of(wide(a) + wide(b), NEAREST).to_bits())
}

/// What becomes of the old value, and whether the order of several such operations shows.
fn update(name: &str, ty: Type) -> Option<(Update, bool)> {
    Some(match (name, ty) {
        ("add", Unsigned(32 | 64) | Signed(32) | Signed(64)) => (|a, b, _| a.wrapping_add(b), false),
        ("add", Float(32)) => (f32_sum, true),
        ("add", Float(64)) => (|a, b, _| (f64::from_bits(a) + f64::from_bits(b)).to_bits(), true),
        ("add", Float(16)) => (f16_sum, true),
        ("add", Bf16) => (bf16_sum, true),
        ("add", F16x2) => (|a, b, c| f16_sum(a, b, c) | f16_sum(a >> 16, b >> 16, c) << 16, true),
        ("add", Bf16x2) => (|a, b, c| bf16_sum(a, b, c) | bf16_sum(a >> 16, b >> 16, c) << 16, true),
        ("min", Unsigned(32 | 64)) => (|a, b, _| a.min(b), false),
        ("max", Unsigned(32 | 64)) => (|a, b, _| a.max(b), false),
        ("min", Signed(32)) => (|a, b, _| (a as i32).min(b as i32) as u32 as u64, false),
        ("max", Signed(32)) => (|a, b, _| (a as i32).max(b as i32) as u32 as u64, false),
        ("min", Signed(64)) => (|a, b, _| (a as i64).min(b as i64) as u64, false),
        ("max", Signed(64)) => (|a, b, _| (a as i64).max(b as i64) as u64, false),
        ("and", Bits(32 | 64)) => (|a, b, _| a & b, false),
        ("or", Bits(32 | 64)) => (|a, b, _| a | b, false),
        ("xor", Bits(32 | 64)) => (|a, b, _| a ^ b, false),
        ("inc", Unsigned(32)) => (|a, b, _| if a >= b { 0 } else { a + 1 }, false),
        ("dec", Unsigned(32)) => (|a, b, _| if a == 0 || a > b { b } else { a - 1 }, false),
        ("exch", Bits(32 | 64)) => (|_, b, _| b, true),
        ("cas", Bits(16 | 32 | 64)) => (|a, b, c| if a == b { c } else { a }, true),
        _ => return None,
    })
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let space = space(s);
    order(s);
    hints(s);
    s.opcode.take("noftz");
    let names = ["add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"];
    let name = s.opcode.take_any(&names).ok_or_else(|| s.opcode.unknown())?;
    let ty = s.opcode.ty()?;
    let (update, ordered) = update(name, ty).ok_or_else(|| s.opcode.unknown())?;
    if matches!(space, Space::Local | Space::Param) {
        return Err(s.opcode.unknown());
    }
    let (to, rest) = match (s.opcode.name, s.operands.as_slice()) {
        ("atom", [Operand::Sink, rest @ ..]) => (None, rest),
        ("atom", [d, rest @ ..]) => (Some(b.target(d, ty)?), rest),
        (_, rest) => (None, rest),
    };
    let (at, x, y) = match (name, rest) {
        ("cas", [at, x, y]) => (at, x, Some(y)),
        (_, [at, x]) if name != "cas" => (at, x, None),
        _ => return Err(format!("`{}` has {} operands", s.opcode.text, s.operands.len())),
    };
    let x = b.source(x, ty)?;
    let y = y.map(|y| b.source(y, ty)).transpose()?.unwrap_or(x);
    let at = b.address(at, space)?;
    let reads = name != "exch";
    Ok(Op::Atomic(Box::new(Atomic { at, to, width: ty.bits() / 8, update, reads, ordered, b: x, c: y })))
}
