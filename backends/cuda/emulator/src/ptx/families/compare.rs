//! Comparisons, and choices by them.

use super::{lanes, operands};
use crate::exec::file::{Compare, Pred, alu, compare};
use crate::exec::rounding::flush;
use crate::ptx::op::{Combine, Op, Outcome};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Bf16, Bf16x2, Bits, F16x2, Float, Signed, Unsigned};
use half::{bf16, f16};

/// Comparisons of integers, or of floats when neither is NaN.
macro_rules! orders {
    ($name:expr, $t:ty, $f:expr) => {
        match $name {
            "eq" => Some(compare!($t, |a, b| $f(a) == $f(b))),
            "ne" => Some(compare!($t, |a, b| $f(a) < $f(b) || $f(a) > $f(b))),
            "lt" | "lo" => Some(compare!($t, |a, b| $f(a) < $f(b))),
            "le" | "ls" => Some(compare!($t, |a, b| $f(a) <= $f(b))),
            "gt" | "hi" => Some(compare!($t, |a, b| $f(a) > $f(b))),
            "ge" | "hs" => Some(compare!($t, |a, b| $f(a) >= $f(b))),
            _ => None,
        }
    };
}

/// Comparisons of floats that may be NaN; those whose names end in `u` hold then.
macro_rules! floats {
    ($name:expr, $t:ty, $f:expr) => {
        match $name {
            "equ" => Some(compare!($t, |a, b| $f(a) == $f(b) || $f(a).is_nan() || $f(b).is_nan())),
            "neu" => Some(compare!($t, |a, b| $f(a) != $f(b))),
            "ltu" => Some(compare!($t, |a, b| $f(a) < $f(b) || $f(a).is_nan() || $f(b).is_nan())),
            "leu" => Some(compare!($t, |a, b| $f(a) <= $f(b) || $f(a).is_nan() || $f(b).is_nan())),
            "gtu" => Some(compare!($t, |a, b| $f(a) > $f(b) || $f(a).is_nan() || $f(b).is_nan())),
            "geu" => Some(compare!($t, |a, b| $f(a) >= $f(b) || $f(a).is_nan() || $f(b).is_nan())),
            "num" => Some(compare!($t, |a, b| !$f(a).is_nan() && !$f(b).is_nan())),
            "nan" => Some(compare!($t, |a, b| $f(a).is_nan() || $f(b).is_nan())),
            name => orders!(name, $t, $f),
        }
    };
}

fn same<T>(a: T) -> T {
    a
}

fn flush_half(a: f16) -> f16 {
    if f64::from(a).abs() < 1.0 / 16384.0 { f16::from_bits(a.to_bits() & 0x8000) } else { a }
}

/// Names of comparisons.
fn is_comparison(m: &str) -> Option<&'static str> {
    const ALL: [&str; 18] = [
        "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
        "num", "nan",
    ];
    ALL.into_iter().find(|a| *a == m)
}

fn comparison(name: &str, ty: Type, ftz: bool) -> Option<Compare> {
    let unsigned = matches!(name, "lo" | "ls" | "hi" | "hs");
    match ty {
        Unsigned(16) => orders!(name, u16, same),
        Unsigned(32) => orders!(name, u32, same),
        Unsigned(64) => orders!(name, u64, same),
        Bits(16) if matches!(name, "eq" | "ne") => orders!(name, u16, same),
        Bits(32) if matches!(name, "eq" | "ne") => orders!(name, u32, same),
        Bits(64) if matches!(name, "eq" | "ne") => orders!(name, u64, same),
        _ if unsigned => None,
        Signed(16) => orders!(name, i16, same),
        Signed(32) => orders!(name, i32, same),
        Signed(64) => orders!(name, i64, same),
        Float(32) if ftz => floats!(name, f32, flush::<true>),
        Float(32) => floats!(name, f32, same),
        Float(64) => floats!(name, f64, same),
        Float(16) if ftz => floats!(name, f16, flush_half),
        Float(16) => floats!(name, f16, same),
        Bf16 => floats!(name, bf16, same),
        _ => None,
    }
}

fn combination(s: &Statement<'_>) -> Option<Combine> {
    Some(match s.opcode.take_any(&["and", "or", "xor"])? {
        "and" => |a, b| a & b,
        "or" => |a, b| a | b,
        _ => |a, b| a ^ b,
    })
}

/// What an outcome is combined with.
type With = Option<(Combine, Pred)>;

/// Where a comparison's outcome goes and what is compared; and, where there is one, the predicate that it is combined with.
fn compared<'s, 'a>(
    b: &mut Build<'_, 'a>,
    s: &'s Statement<'a>,
    combine: Option<Combine>,
) -> Result<([&'s Operand<'a>; 3], With)> {
    let Some(f) = combine else { return Ok((operands::<3>(s)?.each_ref(), None)) };
    let [d, x, y, c] = operands::<4>(s)?;
    Ok(([d, x, y], Some((f, b.pred(c)?))))
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "setp" => set_predicates(b, s),
        "set" => set_word(b, s),
        "testp" => test(b, s),
        "selp" => select(b, s),
        _ => by_sign(b, s),
    }
}

fn set_predicates<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let name = s.opcode.find(is_comparison).ok_or_else(|| s.opcode.unknown())?;
    let combine = combination(s);
    let ftz = s.opcode.take("ftz");
    let ty = s.opcode.ty()?;
    if matches!(ty, F16x2 | Bf16x2) {
        return pair(b, s, name, ty, ftz, combine);
    }
    let run = comparison(name, ty, ftz).ok_or_else(|| s.opcode.unknown())?;
    let ([d, x, y], with) = compared(b, s, combine)?;
    let to = match d {
        Operand::Pair(p, q) => Outcome::Predicates(b.pred_target(p)?, b.pred_target(q)?),
        p => Outcome::Predicates(b.pred_target(p)?, None),
    };
    Ok(Op::Compare { run, a: b.source(x, ty)?, b: b.source(y, ty)?, with, to })
}

/// Two comparisons of halves, each with its predicate.
fn pair<'a>(
    b: &mut Build<'_, 'a>,
    s: &Statement<'a>,
    name: &str,
    ty: Type,
    ftz: bool,
    combine: Option<Combine>,
) -> Result<Op> {
    let element = if ty == F16x2 { Float(16) } else { Bf16 };
    let run = comparison(name, element, ftz).ok_or_else(|| s.opcode.unknown())?;
    let (Some(Operand::Pair(p, q)), None) = (s.operands.first(), combine) else {
        return Err(s.opcode.unknown());
    };
    let [_, x, y] = operands::<3>(s)?;
    let (x, y) = (b.source(x, ty)?, b.source(y, ty)?);
    let (p, q) = (b.pred_target(p)?, b.pred_target(q)?);
    let upper = alu!((u32) -> u32, |a| a >> 16);
    let (x_high, y_high) = (b.fresh(false), b.fresh(false));
    super::before(b, s, Op::Alu { run: upper, r: [x_high, x, 0, 0, 0] })?;
    super::before(b, s, Op::Alu { run: upper, r: [y_high, y, 0, 0, 0] })?;
    // One of them may be the predicate that guards this: it is written last.
    let guard = s.guard.map(|(name, negated)| b.guard(name, negated)).transpose()?;
    let guards = |d: Option<u32>| guard.is_some_and(|g| Some(g.index) == d);
    let low = Op::Compare { run, a: x, b: y, with: None, to: Outcome::Predicates(p, None) };
    let high = Op::Compare { run, a: x_high, b: y_high, with: None, to: Outcome::Predicates(q, None) };
    let (first, last) = if guards(p) { (high, low) } else { (low, high) };
    super::before(b, s, first)?;
    Ok(last)
}

fn set_word<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let name = s.opcode.find(is_comparison).ok_or_else(|| s.opcode.unknown())?;
    let combine = combination(s);
    let ftz = s.opcode.take("ftz");
    let (to, ty) = (s.opcode.ty()?, s.opcode.ty()?);
    let value = match to {
        Unsigned(32) | Signed(32) => u32::MAX,
        Float(32) => 1.0_f32.to_bits(),
        _ => return Err(s.opcode.unknown()),
    };
    let run = comparison(name, ty, ftz).ok_or_else(|| s.opcode.unknown())?;
    let ([d, x, y], with) = compared(b, s, combine)?;
    let to = Outcome::Word(b.target(d, to)?, value);
    Ok(Op::Compare { run, a: b.source(x, ty)?, b: b.source(y, ty)?, with, to })
}

/// Kinds of floats.
macro_rules! kinds {
    ($name:expr, $t:ty) => {
        match $name {
            "finite" => compare!($t, |a, _| a.is_finite()),
            "infinite" => compare!($t, |a, _| a.is_infinite()),
            "number" => compare!($t, |a, _| !a.is_nan()),
            "notanumber" => compare!($t, |a, _| a.is_nan()),
            "normal" => compare!($t, |a, _| a.is_normal()),
            _ => compare!($t, |a, _| a.is_subnormal()),
        }
    };
}

fn test<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let kinds = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let name = s.opcode.take_any(&kinds).ok_or_else(|| s.opcode.unknown())?;
    let ty = s.opcode.ty()?;
    let run = match ty {
        Float(32) => kinds!(name, f32),
        Float(64) => kinds!(name, f64),
        _ => return Err(s.opcode.unknown()),
    };
    let [p, x] = operands::<2>(s)?;
    let a = b.source(x, ty)?;
    let to = Outcome::Predicates(b.pred_target(p)?, None);
    Ok(Op::Compare { run, a, b: a, with: None, to })
}

fn select<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let [d, x, y, p] = operands::<4>(s)?;
    if ty.bits() < 16 {
        return Err(s.opcode.unknown());
    }
    let (a, c, p) = (b.source(x, ty)?, b.source(y, ty)?, b.pred(p)?);
    Ok(Op::Select { wide: ty.wide(), d: b.target(d, ty)?, a, b: c, p })
}

/// The first operand where the third isn't negative, the second elsewhere.
fn by_sign<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ftz = s.opcode.take("ftz");
    let (ty, by) = (s.opcode.ty()?, s.opcode.ty()?);
    let run = match (ty.bits(), by) {
        (16 | 32, Signed(32)) => alu!((u32, u32, i32) -> u32, |a, b, c| if c >= 0 { a } else { b }),
        (64, Signed(32)) => alu!((u64, u64, i32) -> u64, |a, b, c| if c >= 0 { a } else { b }),
        (16 | 32, Float(32)) if ftz => {
            alu!((u32, u32, f32) -> u32, |a, b, c| if flush::<true>(c) >= 0.0 { a } else { b })
        }
        (64, Float(32)) if ftz => {
            alu!((u64, u64, f32) -> u64, |a, b, c| if flush::<true>(c) >= 0.0 { a } else { b })
        }
        (16 | 32, Float(32)) => alu!((u32, u32, f32) -> u32, |a, b, c| if c >= 0.0 { a } else { b }),
        (64, Float(32)) => alu!((u64, u64, f32) -> u64, |a, b, c| if c >= 0.0 { a } else { b }),
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, ty, &[ty, ty, by])
}
