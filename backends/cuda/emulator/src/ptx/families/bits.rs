//! Logic, shifts, and what else works on single bits or bytes.

use super::{lanes, operands};
use crate::exec::file::{Alu, alu};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Bits, Pred, Signed, Unsigned};

const U32: Type = Unsigned(32);

/// A function of bits of each size.
macro_rules! words {
    ($ty:expr, |$a:ident| $f:expr) => {
        match $ty {
            Bits(16) => Some(alu!((u16) -> u16, |$a| $f)),
            Bits(32) => Some(alu!((u32) -> u32, |$a| $f)),
            Bits(64) => Some(alu!((u64) -> u64, |$a| $f)),
            _ => None,
        }
    };
    ($ty:expr, |$a:ident, $b:ident| $f:expr) => {
        match $ty {
            Bits(16) => Some(alu!((u16, u16) -> u16, |$a, $b| $f)),
            Bits(32) => Some(alu!((u32, u32) -> u32, |$a, $b| $f)),
            Bits(64) => Some(alu!((u64, u64) -> u64, |$a, $b| $f)),
            _ => None,
        }
    };
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "and" | "or" | "xor" | "not" => logic(b, s),
        "lop3" => lop3(b, s),
        "shl" | "shr" => shift(b, s),
        "shf" => funnel(b, s),
        "prmt" => permute(b, s),
        "dp4a" | "dp2a" => dot(b, s),
        "bfe" => extract(b, s),
        "bfi" => insert(b, s),
        _ => count(b, s),
    }
}

fn logic<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    if ty == Pred {
        let d = b.pred_target(&s.operands[0])?.ok_or("a result that nobody takes")?;
        if s.opcode.name == "not" {
            let [_, x] = operands::<2>(s)?;
            let a = b.pred(x)?;
            return Ok(Op::Logic { f: |a, _| !a, d, a, b: a });
        }
        let [_, x, y] = operands::<3>(s)?;
        let f = match s.opcode.name {
            "and" => |a, b| a & b,
            "or" => |a, b| a | b,
            _ => |a, b| a ^ b,
        };
        return Ok(Op::Logic { f, d, a: b.pred(x)?, b: b.pred(y)? });
    }
    let run = match s.opcode.name {
        "and" => words!(ty, |a, b| a & b),
        "or" => words!(ty, |a, b| a | b),
        "xor" => words!(ty, |a, b| a ^ b),
        _ => words!(ty, |a| !a),
    };
    let run = run.ok_or_else(|| s.opcode.unknown())?;
    let from: &[Type] = if s.opcode.name == "not" { &[ty] } else { &[ty, ty] };
    lanes(b, s, run, ty, from)
}

/// Any function of three bits, by its table of truth.
fn lop3<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if s.opcode.ty()? != Bits(32) {
        return Err(s.opcode.unknown());
    }
    let [d, x, y, z, table] = operands::<5>(s)?;
    let Operand::Int(table @ 0..256) = *table else { return Err("a table that isn't from 0 to 255".into()) };
    let run = alu!((u32, u32, u32, u32) -> u32, |a, b, c, table| {
        (0..8).fold(0, |sum, k| {
            let bit = |v: u32, n: u32| if k >> n & 1 == 1 { v } else { !v };
            let chosen = if table >> k & 1 == 1 { u32::MAX } else { 0 };
            sum | bit(a, 2) & bit(b, 1) & bit(c, 0) & chosen
        })
    });
    let t = Bits(32);
    let r = [b.target(d, t)?, b.source(x, t)?, b.source(y, t)?, b.source(z, t)?, b.constant(table, false)];
    Ok(Op::Alu { run, r })
}

/// Shifts by at most the type's size: what is shifted further is what is shifted by it.
fn shift<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let run: Alu = match (s.opcode.name, ty) {
        ("shl", Bits(16)) => alu!((u16, u32) -> u16, |a, n| u32::from(a).checked_shl(n).unwrap_or(0) as u16),
        ("shl", Bits(32)) => alu!((u32, u32) -> u32, |a, n| if n < 32 { a << (n & 31) } else { 0 }),
        ("shl", Bits(64)) => alu!((u64, u32) -> u64, |a, n| if n < 64 { a << (n & 63) } else { 0 }),
        ("shr", Bits(16) | Unsigned(16)) => {
            alu!((u16, u32) -> u16, |a, n| u32::from(a).checked_shr(n).unwrap_or(0) as u16)
        }
        ("shr", Bits(32) | Unsigned(32)) => {
            alu!((u32, u32) -> u32, |a, n| if n < 32 { a >> (n & 31) } else { 0 })
        }
        ("shr", Bits(64) | Unsigned(64)) => {
            alu!((u64, u32) -> u64, |a, n| if n < 64 { a >> (n & 63) } else { 0 })
        }
        ("shr", Signed(16)) => alu!((i16, u32) -> i16, |a, n| a >> n.min(15)),
        ("shr", Signed(32)) => alu!((i32, u32) -> i32, |a, n| a >> n.min(31)),
        ("shr", Signed(64)) => alu!((i64, u32) -> i64, |a, n| a >> n.min(63)),
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, ty, &[ty, U32])
}

/// A shift of two words as one.
fn funnel<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let left = s.opcode.take("l");
    let right = s.opcode.take("r");
    let clamp = s.opcode.take("clamp");
    let wrap = s.opcode.take("wrap");
    if left == right || clamp == wrap || s.opcode.ty()? != Bits(32) {
        return Err(s.opcode.unknown());
    }
    fn join(a: u32, b: u32) -> u64 {
        u64::from(b) << 32 | u64::from(a)
    }
    let run = match (left, clamp) {
        (true, true) => alu!((u32, u32, u32) -> u32, |a, b, n| ((join(a, b) << n.min(32)) >> 32) as u32),
        (true, false) => alu!((u32, u32, u32) -> u32, |a, b, n| ((join(a, b) << (n & 31)) >> 32) as u32),
        (false, true) => alu!((u32, u32, u32) -> u32, |a, b, n| (join(a, b) >> n.min(32)) as u32),
        (false, false) => alu!((u32, u32, u32) -> u32, |a, b, n| (join(a, b) >> (n & 31)) as u32),
    };
    lanes(b, s, run, Bits(32), &[Bits(32), Bits(32), U32])
}

/// Bytes of two words, chosen one by one.
fn permute<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let mode = s.opcode.take_any(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
    if s.opcode.ty()? != Bits(32) {
        return Err(s.opcode.unknown());
    }
    fn choose(a: u32, b: u32, which: [u32; 4]) -> u32 {
        let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
        u32::from_le_bytes(which.map(|k| {
            let byte = bytes[(k & 7) as usize];
            // The sign of the byte, in all its bits.
            if k & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 }
        }))
    }
    let run = match mode {
        None => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [c, c >> 4, c >> 8, c >> 12].map(|k| k & 15)))
        }
        Some("f4e") => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [0, 1, 2, 3].map(|k| (c & 3) + k)))
        }
        Some("b4e") => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [8, 7, 6, 5].map(|k| ((c & 3) + k) & 7)))
        }
        Some("rc8") => alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [c & 3; 4])),
        Some("ecl") => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [0, 1, 2, 3].map(|k: u32| k.max(c & 3))))
        }
        Some("ecr") => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [0, 1, 2, 3].map(|k: u32| k.min(c & 3))))
        }
        _ => {
            alu!((u32, u32, u32) -> u32, |a, b, c| choose(a, b, [0, 1, 2, 3].map(|k| (c & 1) * 2 + (k & 1))))
        }
    };
    lanes(b, s, run, Bits(32), &[Bits(32), Bits(32), Bits(32)])
}

/// Products of bytes, summed.
fn dot<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let half = s.opcode.take_any(&["lo", "hi"]);
    let (a, c) = (s.opcode.ty()?, s.opcode.ty()?);
    let signed = |t: Type| match t {
        Unsigned(32) => Ok(false),
        Signed(32) => Ok(true),
        _ => Err(s.opcode.unknown()),
    };
    fn byte(v: u32, k: u32, signed: bool) -> i32 {
        let byte = (v >> (8 * k)) as u8;
        if signed { i32::from(byte as i8) } else { i32::from(byte) }
    }
    fn short(v: u32, k: u32, signed: bool) -> i32 {
        let short = (v >> (16 * k)) as u16;
        if signed { i32::from(short as i16) } else { i32::from(short) }
    }
    fn four<const A: bool, const B: bool>(a: u32, b: u32, c: u32) -> u32 {
        (0..4).fold(c, |sum, k| sum.wrapping_add((byte(a, k, A) * byte(b, k, B)) as u32))
    }
    fn two<const A: bool, const B: bool, const HIGH: bool>(a: u32, b: u32, c: u32) -> u32 {
        let first = if HIGH { 2 } else { 0 };
        (0..2).fold(c, |sum, k| sum.wrapping_add(short(a, k, A).wrapping_mul(byte(b, first + k, B)) as u32))
    }
    let run = match (s.opcode.name, half, signed(a)?, signed(c)?) {
        ("dp4a", None, false, false) => alu!((u32, u32, u32) -> u32, four::<false, false>),
        ("dp4a", None, false, true) => alu!((u32, u32, u32) -> u32, four::<false, true>),
        ("dp4a", None, true, false) => alu!((u32, u32, u32) -> u32, four::<true, false>),
        ("dp4a", None, true, true) => alu!((u32, u32, u32) -> u32, four::<true, true>),
        ("dp2a", Some("lo"), false, false) => alu!((u32, u32, u32) -> u32, two::<false, false, false>),
        ("dp2a", Some("lo"), false, true) => alu!((u32, u32, u32) -> u32, two::<false, true, false>),
        ("dp2a", Some("lo"), true, false) => alu!((u32, u32, u32) -> u32, two::<true, false, false>),
        ("dp2a", Some("lo"), true, true) => alu!((u32, u32, u32) -> u32, two::<true, true, false>),
        ("dp2a", Some("hi"), false, false) => alu!((u32, u32, u32) -> u32, two::<false, false, true>),
        ("dp2a", Some("hi"), false, true) => alu!((u32, u32, u32) -> u32, two::<false, true, true>),
        ("dp2a", Some("hi"), true, false) => alu!((u32, u32, u32) -> u32, two::<true, false, true>),
        ("dp2a", Some("hi"), true, true) => alu!((u32, u32, u32) -> u32, two::<true, true, true>),
        _ => return Err(s.opcode.unknown()),
    };
    let sum = if signed(a)? || signed(c)? { Signed(32) } else { U32 };
    lanes(b, s, run, sum, &[U32, U32, sum])
}

/// `n` bits from bit `at` on; beyond the top are zeros, or the sign of the topmost bit that is taken.
fn field(a: u64, at: u32, n: u32, size: u32, signed: bool) -> u64 {
    let (at, n) = (at & 0xFF, n & 0xFF);
    let top = (at + n).saturating_sub(1).min(size - 1);
    let negative = signed && n > 0 && a >> top & 1 == 1;
    let taken = a.checked_shr(at.min(size)).unwrap_or(0);
    let have = n.min(size.saturating_sub(at));
    let mask = 1_u64.checked_shl(have).unwrap_or(0).wrapping_sub(1);
    if negative { taken & mask | !mask } else { taken & mask }
}

fn extract<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let run = match ty {
        Unsigned(32) => {
            alu!((u32, u32, u32) -> u32, |a, at, n| field(u64::from(a), at, n, 32, false) as u32)
        }
        Signed(32) => alu!((u32, u32, u32) -> u32, |a, at, n| field(u64::from(a), at, n, 32, true) as u32),
        Unsigned(64) => alu!((u64, u32, u32) -> u64, |a, at, n| field(a, at, n, 64, false)),
        Signed(64) => alu!((u64, u32, u32) -> u64, |a, at, n| field(a, at, n, 64, true)),
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, ty, &[ty, U32, U32])
}

/// `b` with `n` bits from bit `at` on replaced by the lowest of `a`.
fn inserted(a: u64, b: u64, at: u32, n: u32) -> u64 {
    let (at, n) = (at & 0xFF, n & 0xFF);
    let mask = 1_u64.checked_shl(n).unwrap_or(0).wrapping_sub(1);
    let place = |v: u64| v.checked_shl(at).unwrap_or(0);
    b & !place(mask) | place(a & mask)
}

fn insert<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let run = match ty {
        Bits(32) => alu!((u32, u32, u32, u32) -> u32, |a, b, at, n| {
            inserted(u64::from(a), u64::from(b), at, n) as u32
        }),
        Bits(64) => alu!((u64, u64, u32, u32) -> u64, inserted),
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, ty, &[ty, ty, U32, U32])
}

/// Counts of bits, and the rest of one operand or two.
fn count<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let amount = s.opcode.take("shiftamt");
    let mode = s.opcode.take_any(&["clamp", "wrap"]);
    let ty = s.opcode.ty()?;
    /// The topmost bit that differs from the sign, as what to shift by to bring it to the top if `AMOUNT`.
    fn find(zeros: u32, size: u32, amount: bool) -> u32 {
        match (zeros < size, amount) {
            (false, _) => u32::MAX,
            (true, true) => zeros,
            (true, false) => size - 1 - zeros,
        }
    }
    let (run, to, from): (Alu, Type, Vec<Type>) = match (s.opcode.name, ty, amount, mode) {
        ("popc", Bits(32), false, None) => (alu!((u32) -> u32, |a| a.count_ones()), U32, vec![ty]),
        ("popc", Bits(64), false, None) => (alu!((u64) -> u32, |a| a.count_ones()), U32, vec![ty]),
        ("clz", Bits(32), false, None) => (alu!((u32) -> u32, |a| a.leading_zeros()), U32, vec![ty]),
        ("clz", Bits(64), false, None) => (alu!((u64) -> u32, |a| a.leading_zeros()), U32, vec![ty]),
        ("brev", Bits(32), false, None) => (alu!((u32) -> u32, |a| a.reverse_bits()), ty, vec![ty]),
        ("brev", Bits(64), false, None) => (alu!((u64) -> u64, |a| a.reverse_bits()), ty, vec![ty]),
        ("bfind", Unsigned(32), false, None) => {
            (alu!((u32) -> u32, |a| find(a.leading_zeros(), 32, false)), U32, vec![ty])
        }
        ("bfind", Unsigned(32), true, None) => {
            (alu!((u32) -> u32, |a| find(a.leading_zeros(), 32, true)), U32, vec![ty])
        }
        ("bfind", Signed(32), false, None) => {
            (alu!((i32) -> u32, |a| find((a ^ (a >> 31)).leading_zeros(), 32, false)), U32, vec![ty])
        }
        ("bfind", Signed(32), true, None) => {
            (alu!((i32) -> u32, |a| find((a ^ (a >> 31)).leading_zeros(), 32, true)), U32, vec![ty])
        }
        ("bfind", Unsigned(64), false, None) => {
            (alu!((u64) -> u32, |a| find(a.leading_zeros(), 64, false)), U32, vec![ty])
        }
        ("bfind", Unsigned(64), true, None) => {
            (alu!((u64) -> u32, |a| find(a.leading_zeros(), 64, true)), U32, vec![ty])
        }
        ("bfind", Signed(64), false, None) => {
            (alu!((i64) -> u32, |a| find((a ^ (a >> 63)).leading_zeros(), 64, false)), U32, vec![ty])
        }
        ("bfind", Signed(64), true, None) => {
            (alu!((i64) -> u32, |a| find((a ^ (a >> 63)).leading_zeros(), 64, true)), U32, vec![ty])
        }
        ("cnot", Bits(16), false, None) => (alu!((u16) -> u16, |a| u16::from(a == 0)), ty, vec![ty]),
        ("cnot", Bits(32), false, None) => (alu!((u32) -> u32, |a| u32::from(a == 0)), ty, vec![ty]),
        ("cnot", Bits(64), false, None) => (alu!((u64) -> u64, |a| u64::from(a == 0)), ty, vec![ty]),
        ("szext", Unsigned(32), false, Some(m)) => (extend(m == "wrap", false), ty, vec![ty, U32]),
        ("szext", Signed(32), false, Some(m)) => (extend(m == "wrap", true), ty, vec![ty, U32]),
        ("bmsk", Bits(32), false, Some("clamp")) => {
            let run = alu!((u32, u32) -> u32, |at, n| inserted(u64::MAX, 0, at.min(32), n.min(32)) as u32);
            (run, ty, vec![U32, U32])
        }
        ("bmsk", Bits(32), false, Some("wrap")) => {
            let run = alu!((u32, u32) -> u32, |at, n| inserted(u64::MAX, 0, at & 31, n & 31) as u32);
            (run, ty, vec![U32, U32])
        }
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, to, &from)
}

/// The lowest `n` bits, extended.
fn extend(wrap: bool, signed: bool) -> Alu {
    match (wrap, signed) {
        (false, false) => alu!((u32, u32) -> u32, |a, n| field(u64::from(a), 0, n.min(32), 32, false) as u32),
        (false, true) => alu!((u32, u32) -> u32, |a, n| field(u64::from(a), 0, n.min(32), 32, true) as u32),
        (true, false) => alu!((u32, u32) -> u32, |a, n| field(u64::from(a), 0, n & 31, 32, false) as u32),
        (true, true) => alu!((u32, u32) -> u32, |a, n| field(u64::from(a), 0, n & 31, 32, true) as u32),
    }
}
