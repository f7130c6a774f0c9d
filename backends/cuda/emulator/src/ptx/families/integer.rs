//! Arithmetic of integers.

use super::lanes;
use crate::exec::file::{Alu, alu};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type::{self, S16x2, Signed, U16x2, Unsigned};

/// A function of two or three integers of each size that registers hold.
macro_rules! ints {
    ($ty:expr, |$a:ident, $b:ident| $f:expr) => {
        match $ty {
            Unsigned(16) => Some(alu!((u16, u16) -> u16, |$a, $b| $f)),
            Unsigned(32) => Some(alu!((u32, u32) -> u32, |$a, $b| $f)),
            Unsigned(64) => Some(alu!((u64, u64) -> u64, |$a, $b| $f)),
            Signed(16) => Some(alu!((i16, i16) -> i16, |$a, $b| $f)),
            Signed(32) => Some(alu!((i32, i32) -> i32, |$a, $b| $f)),
            Signed(64) => Some(alu!((i64, i64) -> i64, |$a, $b| $f)),
            _ => None,
        }
    };
    ($ty:expr, |$a:ident, $b:ident, $c:ident| $f:expr) => {
        match $ty {
            Unsigned(16) => Some(alu!((u16, u16, u16) -> u16, |$a, $b, $c| $f)),
            Unsigned(32) => Some(alu!((u32, u32, u32) -> u32, |$a, $b, $c| $f)),
            Unsigned(64) => Some(alu!((u64, u64, u64) -> u64, |$a, $b, $c| $f)),
            Signed(16) => Some(alu!((i16, i16, i16) -> i16, |$a, $b, $c| $f)),
            Signed(32) => Some(alu!((i32, i32, i32) -> i32, |$a, $b, $c| $f)),
            Signed(64) => Some(alu!((i64, i64, i64) -> i64, |$a, $b, $c| $f)),
            _ => None,
        }
    };
}

/// The upper half of products.
fn high(ty: Type) -> Option<Alu> {
    Some(match ty {
        Unsigned(16) => alu!((u16, u16) -> u16, high_u16),
        Signed(16) => alu!((i16, i16) -> i16, high_i16),
        Unsigned(32) => alu!((u32, u32) -> u32, high_u32),
        Signed(32) => alu!((i32, i32) -> i32, high_i32),
        Unsigned(64) => alu!((u64, u64) -> u64, high_u64),
        Signed(64) => alu!((i64, i64) -> i64, high_i64),
        _ => return None,
    })
}

/// The upper half of products, plus a third operand.
fn high_add(ty: Type, saturate: bool) -> Option<Alu> {
    Some(match ty {
        Signed(32) if saturate => alu!((i32, i32, i32) -> i32, |a, b, c| high_i32(a, b).saturating_add(c)),
        _ if saturate => return None,
        Unsigned(16) => alu!((u16, u16, u16) -> u16, |a, b, c| high_u16(a, b).wrapping_add(c)),
        Signed(16) => alu!((i16, i16, i16) -> i16, |a, b, c| high_i16(a, b).wrapping_add(c)),
        Unsigned(32) => alu!((u32, u32, u32) -> u32, |a, b, c| high_u32(a, b).wrapping_add(c)),
        Signed(32) => alu!((i32, i32, i32) -> i32, |a, b, c| high_i32(a, b).wrapping_add(c)),
        Unsigned(64) => alu!((u64, u64, u64) -> u64, |a, b, c| high_u64(a, b).wrapping_add(c)),
        Signed(64) => alu!((i64, i64, i64) -> i64, |a, b, c| high_i64(a, b).wrapping_add(c)),
        _ => return None,
    })
}

fn high_u16(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

fn high_i16(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

fn high_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

fn high_i32(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

pub(super) fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

fn high_i64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// Twice as wide products, and the type of what they are.
fn wide(ty: Type) -> Option<(Alu, Type)> {
    Some(match ty {
        Unsigned(16) => (alu!((u16, u16) -> u32, |a, b| u32::from(a) * u32::from(b)), Unsigned(32)),
        Signed(16) => (alu!((i16, i16) -> i32, |a, b| i32::from(a) * i32::from(b)), Signed(32)),
        Unsigned(32) => (alu!((u32, u32) -> u64, |a, b| u64::from(a) * u64::from(b)), Unsigned(64)),
        Signed(32) => (alu!((i32, i32) -> i64, |a, b| i64::from(a) * i64::from(b)), Signed(64)),
        _ => return None,
    })
}

fn wide_add(ty: Type) -> Option<(Alu, Type)> {
    Some(match ty {
        Unsigned(16) => {
            let f = alu!((u16, u16, u32) -> u32, |a, b, c| (u32::from(a) * u32::from(b)).wrapping_add(c));
            (f, Unsigned(32))
        }
        Signed(16) => {
            let f = alu!((i16, i16, i32) -> i32, |a, b, c| (i32::from(a) * i32::from(b)).wrapping_add(c));
            (f, Signed(32))
        }
        Unsigned(32) => {
            let f = alu!((u32, u32, u64) -> u64, |a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c));
            (f, Unsigned(64))
        }
        Signed(32) => {
            let f = alu!((i32, i32, i64) -> i64, |a, b, c| (i64::from(a) * i64::from(b)).wrapping_add(c));
            (f, Signed(64))
        }
        _ => return None,
    })
}

/// 24 bits of two factors, and 48 of their product.
fn product24(a: u32, b: u32, signed: bool) -> i64 {
    let low = |v: u32| if signed { i64::from((v << 8) as i32 >> 8) } else { i64::from(v & 0xFF_FFFF) };
    low(a) * low(b)
}

fn mul24(ty: Type, high: bool) -> Option<Alu> {
    Some(match (ty, high) {
        (Unsigned(32), false) => alu!((u32, u32) -> u32, |a, b| product24(a, b, false) as u32),
        (Signed(32), false) => alu!((u32, u32) -> u32, |a, b| product24(a, b, true) as u32),
        (Unsigned(32), true) => alu!((u32, u32) -> u32, |a, b| (product24(a, b, false) >> 16) as u32),
        (Signed(32), true) => alu!((u32, u32) -> u32, |a, b| (product24(a, b, true) >> 16) as u32),
        _ => return None,
    })
}

fn mad24(ty: Type, high: bool, saturate: bool) -> Option<Alu> {
    Some(match (ty, high, saturate) {
        (Signed(32), true, true) => {
            alu!((u32, u32, i32) -> i32, |a, b, c| ((product24(a, b, true) >> 16) as i32).saturating_add(c))
        }
        (_, _, true) => return None,
        (Unsigned(32), false, _) => {
            alu!((u32, u32, u32) -> u32, |a, b, c| (product24(a, b, false) as u32).wrapping_add(c))
        }
        (Signed(32), false, _) => {
            alu!((u32, u32, u32) -> u32, |a, b, c| (product24(a, b, true) as u32).wrapping_add(c))
        }
        (Unsigned(32), true, _) => {
            alu!((u32, u32, u32) -> u32, |a, b, c| ((product24(a, b, false) >> 16) as u32).wrapping_add(c))
        }
        (Signed(32), true, _) => {
            alu!((u32, u32, u32) -> u32, |a, b, c| ((product24(a, b, true) >> 16) as u32).wrapping_add(c))
        }
        _ => return None,
    })
}

/// Division and remainder. A quotient by zero isn't specified: all bits are set, as devices have it.
fn quotient(ty: Type) -> Option<Alu> {
    ints!(ty, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) })
}

fn remainder(ty: Type) -> Option<Alu> {
    ints!(ty, |a, b| if b == 0 { a } else { a.wrapping_rem(b) })
}

fn pairs(s: &Statement<'_>, ty: Type) -> Option<Alu> {
    let relu = s.opcode.take("relu");
    Some(match (s.opcode.name, ty, relu) {
        ("add", U16x2 | S16x2, false) => {
            alu!(([u16; 2], [u16; 2]) -> [u16; 2], |a, b| [a[0].wrapping_add(b[0]), a[1].wrapping_add(b[1])])
        }
        ("min", U16x2, false) => {
            alu!(([u16; 2], [u16; 2]) -> [u16; 2], |a, b| [a[0].min(b[0]), a[1].min(b[1])])
        }
        ("max", U16x2, false) => {
            alu!(([u16; 2], [u16; 2]) -> [u16; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])])
        }
        ("min", S16x2, false) => {
            alu!(([i16; 2], [i16; 2]) -> [i16; 2], |a, b| [a[0].min(b[0]), a[1].min(b[1])])
        }
        ("max", S16x2, false) => {
            alu!(([i16; 2], [i16; 2]) -> [i16; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])])
        }
        ("min", S16x2, true) => {
            alu!(([i16; 2], [i16; 2]) -> [i16; 2], |a, b| [a[0].min(b[0]).max(0), a[1].min(b[1]).max(0)])
        }
        ("max", S16x2, true) => {
            alu!(([i16; 2], [i16; 2]) -> [i16; 2], |a, b| [a[0].max(b[0]).max(0), a[1].max(b[1]).max(0)])
        }
        ("min", Signed(32), true) => alu!((i32, i32) -> i32, |a, b| a.min(b).max(0)),
        ("max", Signed(32), true) => alu!((i32, i32) -> i32, |a, b| a.max(b).max(0)),
        _ => return None,
    })
}

fn signed(ty: Type, absolute: bool) -> Option<Alu> {
    Some(match (ty, absolute) {
        (Signed(16), true) => alu!((i16) -> i16, |a| a.wrapping_abs()),
        (Signed(32), true) => alu!((i32) -> i32, |a| a.wrapping_abs()),
        (Signed(64), true) => alu!((i64) -> i64, |a| a.wrapping_abs()),
        (Signed(16), false) => alu!((i16) -> i16, |a| a.wrapping_neg()),
        (Signed(32), false) => alu!((i32) -> i32, |a| a.wrapping_neg()),
        (Signed(64), false) => alu!((i64) -> i64, |a| a.wrapping_neg()),
        _ => return None,
    })
}

/// Reads an instruction whose type was taken.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, ty: Type) -> Result<Op> {
    let part = s.opcode.take_any(&["lo", "hi", "wide"]);
    let saturate = s.opcode.take("sat");
    let plain = part.is_none() && !saturate;
    let mut to = ty;
    let run: Option<Alu> = match (s.opcode.name, part) {
        ("add" | "min" | "max", None) if ty.bits() == 32 && matches!(ty, U16x2 | S16x2) => pairs(s, ty),
        ("min" | "max", None) if s.opcode.text.contains("relu") => pairs(s, ty),
        ("add", None) if saturate => {
            (ty == Signed(32)).then(|| alu!((i32, i32) -> i32, |a, b| a.saturating_add(b)))
        }
        ("sub", None) if saturate => {
            (ty == Signed(32)).then(|| alu!((i32, i32) -> i32, |a, b| a.saturating_sub(b)))
        }
        ("add", None) => ints!(ty, |a, b| a.wrapping_add(b)),
        ("sub", None) => ints!(ty, |a, b| a.wrapping_sub(b)),
        ("mul", Some("lo")) if !saturate => ints!(ty, |a, b| a.wrapping_mul(b)),
        ("mul", Some("hi")) if !saturate => high(ty),
        ("mul", Some("wide")) if !saturate => wide(ty).map(|(run, t)| {
            to = t;
            run
        }),
        ("mad", Some("lo")) if !saturate => ints!(ty, |a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad", Some("hi")) => high_add(ty, saturate),
        ("mad", Some("wide")) if !saturate => wide_add(ty).map(|(run, t)| {
            to = t;
            run
        }),
        ("mul24", Some(part @ ("lo" | "hi"))) if !saturate => mul24(ty, part == "hi"),
        ("mad24", Some(part @ ("lo" | "hi"))) => mad24(ty, part == "hi", saturate),
        ("div", None) if plain => quotient(ty),
        ("rem", None) if plain => remainder(ty),
        ("min", None) if plain => ints!(ty, |a, b| a.min(b)),
        ("max", None) if plain => ints!(ty, |a, b| a.max(b)),
        ("sad", None) if plain => ints!(ty, |a, b, c| a.max(b).wrapping_sub(a.min(b)).wrapping_add(c)),
        ("abs", None) if plain => signed(ty, true),
        ("neg", None) if plain => signed(ty, false),
        _ => None,
    };
    let run = run.ok_or_else(|| s.opcode.unknown())?;
    let from: &[Type] = match s.opcode.name {
        "abs" | "neg" => &[ty],
        "mad" | "mad24" => &[ty, ty, to],
        "sad" => &[ty, ty, ty],
        _ => &[ty, ty],
    };
    lanes(b, s, run, to, from)
}
