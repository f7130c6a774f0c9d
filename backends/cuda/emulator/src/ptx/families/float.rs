//! Arithmetic of f32 and f64.

use super::lanes;
use crate::exec::file::{Alu, File, Reg, alu, map3};
use crate::exec::rounding::{self, DOWN, NEAREST, UP, ZERO, finish, flush};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type::{self, Float};

/// An f32 function with two switches as an instruction: `switched!(flush, clamp, (f32) -> f32, name)`.
macro_rules! switched {
    ($x:expr, $y:expr, ($($from:ty),*) -> $to:ty, $f:ident) => {
        match ($x, $y) {
            (false, false) => alu!(($($from),*) -> $to, $f::<false, false>),
            (false, true) => alu!(($($from),*) -> $to, $f::<false, true>),
            (true, false) => alu!(($($from),*) -> $to, $f::<true, false>),
            (true, true) => alu!(($($from),*) -> $to, $f::<true, true>),
        }
    };
}

pub(super) use switched;

/// An f32 operation that is rounded as asked.
macro_rules! rounded {
    ($name:ident($($a:ident),*), $mode:expr, $f:expr) => {
        fn $name<const F: bool, const C: bool>($($a: f32),*) -> f32 {
            finish::<F, C>($f($(flush::<F>($a),)* $mode))
        }
    };
}

fn add<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    finish::<F, C>(flush::<F>(a) + flush::<F>(b))
}

fn sub<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    finish::<F, C>(flush::<F>(a) - flush::<F>(b))
}

fn mul<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    finish::<F, C>(flush::<F>(a) * flush::<F>(b))
}

fn div<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    finish::<F, C>(flush::<F>(a) / flush::<F>(b))
}

#[inline(always)]
fn fma<const F: bool, const C: bool>(a: f32, b: f32, c: f32) -> f32 {
    finish::<F, C>(flush::<F>(a).mul_add(flush::<F>(b), flush::<F>(c)))
}

rounded!(add_z(a, b), ZERO, rounding::add_f32);
rounded!(add_d(a, b), DOWN, rounding::add_f32);
rounded!(add_u(a, b), UP, rounding::add_f32);
rounded!(mul_z(a, b), ZERO, rounding::mul_f32);
rounded!(mul_d(a, b), DOWN, rounding::mul_f32);
rounded!(mul_u(a, b), UP, rounding::mul_f32);
rounded!(fma_z(a, b, c), ZERO, rounding::fma_f32);
rounded!(fma_d(a, b, c), DOWN, rounding::fma_f32);
rounded!(fma_u(a, b, c), UP, rounding::fma_f32);
rounded!(div_z(a, b), ZERO, rounding::div_f32);
rounded!(div_d(a, b), DOWN, rounding::div_f32);
rounded!(div_u(a, b), UP, rounding::div_f32);

fn sub_z<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    add_z::<F, C>(a, -b)
}

fn sub_d<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    add_d::<F, C>(a, -b)
}

fn sub_u<const F: bool, const C: bool>(a: f32, b: f32) -> f32 {
    add_u::<F, C>(a, -b)
}

/// The smaller of two; a number rather than NaN, -0 before +0.
fn min<const F: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (flush::<F>(a), flush::<F>(b));
    let least = if a < b || a == b && a.is_sign_negative() || b.is_nan() { a } else { b };
    if least.is_nan() || NAN && (a.is_nan() || b.is_nan()) { rounding::NAN } else { least }
}

fn max<const F: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    let (a, b) = (flush::<F>(a), flush::<F>(b));
    let most = if a > b || a == b && a.is_sign_positive() || b.is_nan() { a } else { b };
    if most.is_nan() || NAN && (a.is_nan() || b.is_nan()) { rounding::NAN } else { most }
}

/// The smaller magnitude, with the product of the signs.
fn min_xorsign<const F: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    min::<F, NAN>(a.abs(), b.abs()).copysign(f32::from_bits(a.to_bits() ^ b.to_bits()))
}

fn max_xorsign<const F: bool, const NAN: bool>(a: f32, b: f32) -> f32 {
    max::<F, NAN>(a.abs(), b.abs()).copysign(f32::from_bits(a.to_bits() ^ b.to_bits()))
}

fn min_f64(a: f64, b: f64) -> f64 {
    if a < b || a == b && a.is_sign_negative() || b.is_nan() { a } else { b }
}

fn max_f64(a: f64, b: f64) -> f64 {
    if a > b || a == b && a.is_sign_positive() || b.is_nan() { a } else { b }
}

fn abs<const F: bool, const C: bool>(a: f32) -> f32 {
    flush::<F>(a).abs()
}

fn neg<const F: bool, const C: bool>(a: f32) -> f32 {
    -flush::<F>(a)
}

/// Fused products and sums to nearest: where the host has an instruction for them, that.
fn fused(flushed: bool, clamp: bool) -> Alu {
    #[cfg(target_arch = "x86_64")]
    if !flushed && !clamp && std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn fast(file: &mut File, mask: u32, r: &[Reg; 5]) {
            map3::<f32, f32, f32, f32>(file, mask, r, fma::<false, false>);
        }
        fn run(file: &mut File, mask: u32, r: &[Reg; 5]) {
            // SAFETY: that the host has these instructions was asked before.
            unsafe { fast(file, mask, r) }
        }
        return run;
    }
    switched!(flushed, clamp, (f32, f32, f32) -> f32, fma)
}

/// The rounding that an instruction asks for, if any.
pub(super) fn rounding(s: &Statement<'_>) -> Option<u8> {
    s.opcode.take_any(&["rn", "rz", "rm", "rp"]).map(|m| match m {
        "rn" => NEAREST,
        "rz" => ZERO,
        "rm" => DOWN,
        _ => UP,
    })
}

fn single(s: &Statement<'_>, mode: u8, f: bool, c: bool) -> Option<Alu> {
    Some(match (s.opcode.name, mode) {
        ("add", NEAREST) => switched!(f, c, (f32, f32) -> f32, add),
        ("add", ZERO) => switched!(f, c, (f32, f32) -> f32, add_z),
        ("add", DOWN) => switched!(f, c, (f32, f32) -> f32, add_d),
        ("add", _) => switched!(f, c, (f32, f32) -> f32, add_u),
        ("sub", NEAREST) => switched!(f, c, (f32, f32) -> f32, sub),
        ("sub", ZERO) => switched!(f, c, (f32, f32) -> f32, sub_z),
        ("sub", DOWN) => switched!(f, c, (f32, f32) -> f32, sub_d),
        ("sub", _) => switched!(f, c, (f32, f32) -> f32, sub_u),
        ("mul", NEAREST) => switched!(f, c, (f32, f32) -> f32, mul),
        ("mul", ZERO) => switched!(f, c, (f32, f32) -> f32, mul_z),
        ("mul", DOWN) => switched!(f, c, (f32, f32) -> f32, mul_d),
        ("mul", _) => switched!(f, c, (f32, f32) -> f32, mul_u),
        ("fma" | "mad", NEAREST) => fused(f, c),
        ("fma" | "mad", ZERO) => switched!(f, c, (f32, f32, f32) -> f32, fma_z),
        ("fma" | "mad", DOWN) => switched!(f, c, (f32, f32, f32) -> f32, fma_d),
        ("fma" | "mad", _) => switched!(f, c, (f32, f32, f32) -> f32, fma_u),
        ("div", _) if c => return None,
        ("div", NEAREST) => switched!(f, c, (f32, f32) -> f32, div),
        ("div", ZERO) => switched!(f, c, (f32, f32) -> f32, div_z),
        ("div", DOWN) => switched!(f, c, (f32, f32) -> f32, div_d),
        ("div", _) => switched!(f, c, (f32, f32) -> f32, div_u),
        _ => return None,
    })
}

fn double(s: &Statement<'_>, mode: u8) -> Option<Alu> {
    Some(match (s.opcode.name, mode) {
        ("add", NEAREST) => alu!((f64, f64) -> f64, |a, b| a + b),
        ("add", ZERO) => alu!((f64, f64) -> f64, |a, b| rounding::add_f64(a, b, ZERO)),
        ("add", DOWN) => alu!((f64, f64) -> f64, |a, b| rounding::add_f64(a, b, DOWN)),
        ("add", _) => alu!((f64, f64) -> f64, |a, b| rounding::add_f64(a, b, UP)),
        ("sub", NEAREST) => alu!((f64, f64) -> f64, |a, b| a - b),
        ("sub", ZERO) => alu!((f64, f64) -> f64, |a, b: f64| rounding::add_f64(a, -b, ZERO)),
        ("sub", DOWN) => alu!((f64, f64) -> f64, |a, b: f64| rounding::add_f64(a, -b, DOWN)),
        ("sub", _) => alu!((f64, f64) -> f64, |a, b: f64| rounding::add_f64(a, -b, UP)),
        ("mul", NEAREST) => alu!((f64, f64) -> f64, |a, b| a * b),
        ("mul", ZERO) => alu!((f64, f64) -> f64, |a, b| rounding::mul_f64(a, b, ZERO)),
        ("mul", DOWN) => alu!((f64, f64) -> f64, |a, b| rounding::mul_f64(a, b, DOWN)),
        ("mul", _) => alu!((f64, f64) -> f64, |a, b| rounding::mul_f64(a, b, UP)),
        ("fma" | "mad", NEAREST) => alu!((f64, f64, f64) -> f64, |a, b, c| a.mul_add(b, c)),
        ("fma" | "mad", ZERO) => alu!((f64, f64, f64) -> f64, |a, b, c| rounding::fma_f64(a, b, c, ZERO)),
        ("fma" | "mad", DOWN) => alu!((f64, f64, f64) -> f64, |a, b, c| rounding::fma_f64(a, b, c, DOWN)),
        ("fma" | "mad", _) => alu!((f64, f64, f64) -> f64, |a, b, c| rounding::fma_f64(a, b, c, UP)),
        ("div", NEAREST) => alu!((f64, f64) -> f64, |a, b| a / b),
        ("div", ZERO) => alu!((f64, f64) -> f64, |a, b| rounding::div_f64(a, b, ZERO)),
        ("div", DOWN) => alu!((f64, f64) -> f64, |a, b| rounding::div_f64(a, b, DOWN)),
        ("div", _) => alu!((f64, f64) -> f64, |a, b| rounding::div_f64(a, b, UP)),
        _ => return None,
    })
}

/// Reads an instruction whose type was taken.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, ty: Type) -> Result<Op> {
    let wide = ty == Float(64);
    let f = s.opcode.take("ftz");
    let c = s.opcode.take("sat");
    if wide && (f || c) {
        return Err(s.opcode.unknown());
    }
    let name = s.opcode.name;
    let run = match name {
        "add" | "sub" | "mul" | "fma" | "mad" | "div" => {
            let loose = name == "div" && s.opcode.take_any(&["approx", "full"]).is_some();
            let mode = rounding(s);
            // Only sums and products have a rounding unless one is named.
            if mode.is_none() && !loose && !matches!(name, "add" | "sub" | "mul") {
                return Err(s.opcode.unknown());
            }
            let mode = mode.unwrap_or(NEAREST);
            if wide { double(s, mode) } else { single(s, mode, f, c) }
        }
        "min" | "max" if wide => Some(match name {
            "min" => alu!((f64, f64) -> f64, min_f64),
            _ => alu!((f64, f64) -> f64, max_f64),
        }),
        "min" | "max" if !c => {
            let nan = s.opcode.take("NaN");
            let xorsign = s.opcode.take("xorsign");
            if xorsign != s.opcode.take("abs") {
                return Err(s.opcode.unknown());
            }
            Some(match (name, xorsign) {
                ("min", false) => switched!(f, nan, (f32, f32) -> f32, min),
                ("max", false) => switched!(f, nan, (f32, f32) -> f32, max),
                ("min", true) => switched!(f, nan, (f32, f32) -> f32, min_xorsign),
                _ => switched!(f, nan, (f32, f32) -> f32, max_xorsign),
            })
        }
        "abs" if wide => Some(alu!((f64) -> f64, |a| a.abs())),
        "neg" if wide => Some(alu!((f64) -> f64, |a: f64| -a)),
        "abs" if !c => Some(switched!(f, false, (f32) -> f32, abs)),
        "neg" if !c => Some(switched!(f, false, (f32) -> f32, neg)),
        _ => None,
    };
    let run = run.ok_or_else(|| s.opcode.unknown())?;
    let from: &[Type] = match name {
        "abs" | "neg" => &[ty],
        "fma" | "mad" => &[ty, ty, ty],
        _ => &[ty, ty],
    };
    lanes(b, s, run, ty, from)
}

/// The magnitude of the second operand with the sign of the first.
pub(super) fn copysign<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let ty = s.opcode.ty()?;
    let run = match ty {
        Float(32) => alu!((f32, f32) -> f32, |a, b: f32| b.copysign(a)),
        Float(64) => alu!((f64, f64) -> f64, |a, b: f64| b.copysign(a)),
        _ => return Err(s.opcode.unknown()),
    };
    lanes(b, s, run, ty, &[ty, ty])
}
