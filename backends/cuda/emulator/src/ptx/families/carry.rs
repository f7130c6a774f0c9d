//! Additions that hand on a carry, for integers of several words.

use super::integer::high_u64;
use crate::exec::file::{Alu, File, Pred, Reg, Word, alu};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, CARRY, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type;

/// A sum or difference of two words and a carry, and the carry that it leaves.
type Step<W> = fn(W, W, bool) -> (W, bool);

fn run<W: Word>(file: &mut File, mask: u32, r: &[Reg; 5], step: Step<W>, takes: bool, leaves: bool) {
    let carry = if takes { file.predicate(Pred { index: CARRY, negated: false }) } else { 0 };
    let (a, b) = (file.row::<W>(r[1]), file.row::<W>(r[2]));
    let (mut out, mut left) = ([W::default(); 32], 0);
    for l in 0..32 {
        let (sum, carries) = step(a[l], b[l], carry >> l & 1 == 1);
        out[l] = sum;
        left |= u32::from(carries) << l;
    }
    file.set(r[0], &out, mask);
    if leaves {
        file.set_predicate(CARRY, left, mask);
    }
}

fn add32(a: u32, b: u32, c: bool) -> (u32, bool) {
    let sum = u64::from(a) + u64::from(b) + u64::from(c);
    (sum as u32, sum >> 32 != 0)
}

fn sub32(a: u32, b: u32, c: bool) -> (u32, bool) {
    let rest = i64::from(a) - i64::from(b) - i64::from(c);
    (rest as u32, rest < 0)
}

fn add64(a: u64, b: u64, c: bool) -> (u64, bool) {
    let sum = u128::from(a) + u128::from(b) + u128::from(c);
    (sum as u64, sum >> 64 != 0)
}

fn sub64(a: u64, b: u64, c: bool) -> (u64, bool) {
    let rest = i128::from(a) - i128::from(b) - i128::from(c);
    (rest as u64, rest < 0)
}

/// The step as an instruction: `steps!(u32, add32, takes, leaves)`.
macro_rules! steps {
    ($w:ty, $step:expr, $takes:expr, $leaves:expr) => {
        match ($takes, $leaves) {
            (false, _) => {
                |file: &mut File, mask: u32, r: &[Reg; 5]| run::<$w>(file, mask, r, $step, false, true)
            }
            (true, false) => {
                |file: &mut File, mask: u32, r: &[Reg; 5]| run::<$w>(file, mask, r, $step, true, false)
            }
            (true, true) => {
                |file: &mut File, mask: u32, r: &[Reg; 5]| run::<$w>(file, mask, r, $step, true, true)
            }
        }
    };
}

/// `addc`, `subc` and `madc`, which take a carry.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let leaves = s.opcode.take("cc");
    with_carry(b, s, true, leaves)
}

/// `add.cc`, `sub.cc` and `mad.cc`, which only leave one.
pub(super) fn decode_cc<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    with_carry(b, s, false, true)
}

fn with_carry<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, takes: bool, leaves: bool) -> Result<Op> {
    let ty = s.opcode.ty()?;
    if !matches!(ty, Type::Unsigned(32 | 64) | Type::Signed(32 | 64)) {
        return Err(s.opcode.unknown());
    }
    let subtracts = s.opcode.name.starts_with("sub");
    let run: Alu = match (subtracts, ty.wide()) {
        (false, false) => steps!(u32, add32, takes, leaves),
        (true, false) => steps!(u32, sub32, takes, leaves),
        (false, true) => steps!(u64, add64, takes, leaves),
        (true, true) => steps!(u64, sub64, takes, leaves),
    };
    if !s.opcode.name.starts_with("mad") {
        return super::lanes(b, s, run, ty, &[ty, ty]);
    }
    product(b, s, ty, run)
}

/// The product comes first, in a register of its own.
fn product<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, ty: Type, sum: Alu) -> Result<Op> {
    let [d, x, y, z] = super::operands::<4>(s)?;
    let high = match s.opcode.take_any(&["lo", "hi"]) {
        Some(part) => part == "hi",
        None => return Err(s.opcode.unknown()),
    };
    let multiply = match (ty, high) {
        (Type::Unsigned(32) | Type::Signed(32), false) => alu!((u32, u32) -> u32, |a, b| a.wrapping_mul(b)),
        (Type::Unsigned(32), true) => {
            alu!((u32, u32) -> u32, |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32)
        }
        (Type::Signed(32), true) => {
            alu!((i32, i32) -> i32, |a, b| ((i64::from(a) * i64::from(b)) >> 32) as i32)
        }
        (_, false) => alu!((u64, u64) -> u64, |a, b| a.wrapping_mul(b)),
        (Type::Unsigned(_), true) => alu!((u64, u64) -> u64, high_u64),
        (_, true) => alu!((i64, i64) -> i64, |a, b| ((i128::from(a) * i128::from(b)) >> 64) as i64),
    };
    let between = b.fresh(ty.wide());
    let r = [between, b.source(x, ty)?, b.source(y, ty)?, 0, 0];
    super::before(b, s, Op::Alu { run: multiply, r })?;
    Ok(Op::Alu { run: sum, r: [b.target(d, ty)?, between, b.source(z, ty)?, 0, 0] })
}
