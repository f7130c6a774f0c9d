//! Arithmetic of f16 and bf16, one or two at a time.

use super::float::rounding;
use super::lanes;
use crate::exec::file::{Alu, Lane, alu};
use crate::exec::rounding::{NEAREST, bf16_of, f16_of, fma_bf16, fma_f16};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type::{self, Bf16, F16x2, Float};
use half::{bf16, f16};

/// A float of 16 bits.
trait Half: Lane {
    fn wide(self) -> f64;
    fn narrow(x: f64) -> Self;
    fn fused(a: Self, b: Self, c: Self) -> Self;
    fn bits(self) -> u16;
    fn of(bits: u16) -> Self;
    /// The smallest normal number.
    const NORMAL: f64;
}

impl Half for f16 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(x: f64) -> Self {
        f16_of(x, NEAREST)
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        fma_f16(a, b, c)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    const NORMAL: f64 = 1.0 / 16384.0;
}

impl Half for bf16 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(x: f64) -> Self {
        bf16_of(x, NEAREST)
    }
    fn fused(a: Self, b: Self, c: Self) -> Self {
        fma_bf16(a, b, c)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }
    const NORMAL: f64 = f32::MIN_POSITIVE as f64;
}

/// What is done with results.
const PLAIN: u8 = 0;
/// Clamped to [0, 1].
const CLAMPED: u8 = 1;
/// Not below zero.
const RELU: u8 = 2;

fn flush<H: Half, const F: bool>(a: H) -> H {
    if F && a.wide().abs() < H::NORMAL { H::of(a.bits() & 0x8000) } else { a }
}

fn finish<H: Half, const F: bool, const P: u8>(a: H) -> H {
    let x = a.wide();
    match P {
        CLAMPED if x > 0.0 => flush::<H, F>(if x > 1.0 { H::narrow(1.0) } else { a }),
        CLAMPED => H::of(0),
        // NaN stays.
        RELU if x <= 0.0 => H::of(0),
        _ => flush::<H, F>(a),
    }
}

fn add<H: Half, const F: bool, const P: u8>(a: H, b: H) -> H {
    finish::<H, F, P>(H::narrow(flush::<H, F>(a).wide() + flush::<H, F>(b).wide()))
}

fn sub<H: Half, const F: bool, const P: u8>(a: H, b: H) -> H {
    finish::<H, F, P>(H::narrow(flush::<H, F>(a).wide() - flush::<H, F>(b).wide()))
}

fn mul<H: Half, const F: bool, const P: u8>(a: H, b: H) -> H {
    finish::<H, F, P>(H::narrow(flush::<H, F>(a).wide() * flush::<H, F>(b).wide()))
}

fn fma<H: Half, const F: bool, const P: u8>(a: H, b: H, c: H) -> H {
    finish::<H, F, P>(H::fused(flush::<H, F>(a), flush::<H, F>(b), flush::<H, F>(c)))
}

/// The smaller or larger; a number rather than NaN, unless `NAN` asks for that.
fn extreme<H: Half, const F: bool, const NAN: bool, const MOST: bool>(a: H, b: H) -> H {
    let (a, b) = (flush::<H, F>(a), flush::<H, F>(b));
    let (x, y) = (a.wide(), b.wide());
    if x.is_nan() && y.is_nan() || NAN && (x.is_nan() || y.is_nan()) {
        return H::of(0x7FFF);
    }
    let first =
        if MOST { x > y || x == y && x.is_sign_positive() } else { x < y || x == y && x.is_sign_negative() };
    if first || y.is_nan() { a } else { b }
}

/// The smaller or larger magnitude, with the product of the signs.
fn extreme_xorsign<H: Half, const F: bool, const NAN: bool, const MOST: bool>(a: H, b: H) -> H {
    let magnitude = |v: H| H::of(v.bits() & 0x7FFF);
    let found = extreme::<H, F, NAN, MOST>(magnitude(a), magnitude(b));
    H::of(found.bits() | (a.bits() ^ b.bits()) & 0x8000)
}

fn abs<H: Half, const F: bool>(a: H) -> H {
    H::of(flush::<H, F>(a).bits() & 0x7FFF)
}

fn neg<H: Half, const F: bool>(a: H) -> H {
    H::of(flush::<H, F>(a).bits() ^ 0x8000)
}

/// A function as an instruction for each type, with these switches.
macro_rules! each_type {
    ($ty:expr, 1, $f:ident, $($c:tt),*) => {
        match $ty {
            Float(16) => alu!((f16) -> f16, $f::<f16, $($c),*>),
            Bf16 => alu!((bf16) -> bf16, $f::<bf16, $($c),*>),
            F16x2 => alu!(([f16; 2]) -> [f16; 2], |a: [f16; 2]| a.map($f::<f16, $($c),*>)),
            _ => alu!(([bf16; 2]) -> [bf16; 2], |a: [bf16; 2]| a.map($f::<bf16, $($c),*>)),
        }
    };
    ($ty:expr, 2, $f:ident, $($c:tt),*) => {
        match $ty {
            Float(16) => alu!((f16, f16) -> f16, $f::<f16, $($c),*>),
            Bf16 => alu!((bf16, bf16) -> bf16, $f::<bf16, $($c),*>),
            F16x2 => alu!(([f16; 2], [f16; 2]) -> [f16; 2], |a: [f16; 2], b: [f16; 2]| {
                [$f::<f16, $($c),*>(a[0], b[0]), $f::<f16, $($c),*>(a[1], b[1])]
            }),
            _ => alu!(([bf16; 2], [bf16; 2]) -> [bf16; 2], |a: [bf16; 2], b: [bf16; 2]| {
                [$f::<bf16, $($c),*>(a[0], b[0]), $f::<bf16, $($c),*>(a[1], b[1])]
            }),
        }
    };
    ($ty:expr, 3, $f:ident, $($c:tt),*) => {
        match $ty {
            Float(16) => alu!((f16, f16, f16) -> f16, $f::<f16, $($c),*>),
            Bf16 => alu!((bf16, bf16, bf16) -> bf16, $f::<bf16, $($c),*>),
            F16x2 => {
                alu!(([f16; 2], [f16; 2], [f16; 2]) -> [f16; 2], |a: [f16; 2], b: [f16; 2], c: [f16; 2]| {
                    [$f::<f16, $($c),*>(a[0], b[0], c[0]), $f::<f16, $($c),*>(a[1], b[1], c[1])]
                })
            }
            _ => {
                alu!(([bf16; 2], [bf16; 2], [bf16; 2]) -> [bf16; 2], |a: [bf16; 2], b: [bf16; 2], c: [bf16; 2]| {
                    [$f::<bf16, $($c),*>(a[0], b[0], c[0]), $f::<bf16, $($c),*>(a[1], b[1], c[1])]
                })
            }
        }
    };
}

/// An operation with what is done to its operands and results.
macro_rules! finished {
    ($ty:expr, $n:tt, $f:ident, $flush:expr, $post:expr) => {
        match ($flush, $post) {
            (false, PLAIN) => each_type!($ty, $n, $f, false, PLAIN),
            (false, CLAMPED) => each_type!($ty, $n, $f, false, CLAMPED),
            (false, _) => each_type!($ty, $n, $f, false, RELU),
            (true, PLAIN) => each_type!($ty, $n, $f, true, PLAIN),
            (true, CLAMPED) => each_type!($ty, $n, $f, true, CLAMPED),
            (true, _) => each_type!($ty, $n, $f, true, RELU),
        }
    };
}

macro_rules! extremes {
    ($ty:expr, $f:ident, $flush:expr, $nan:expr, $most:expr) => {
        match ($flush, $nan, $most) {
            (false, false, false) => each_type!($ty, 2, $f, false, false, false),
            (false, false, true) => each_type!($ty, 2, $f, false, false, true),
            (false, true, false) => each_type!($ty, 2, $f, false, true, false),
            (false, true, true) => each_type!($ty, 2, $f, false, true, true),
            (true, false, false) => each_type!($ty, 2, $f, true, false, false),
            (true, false, true) => each_type!($ty, 2, $f, true, false, true),
            (true, true, false) => each_type!($ty, 2, $f, true, true, false),
            (true, true, true) => each_type!($ty, 2, $f, true, true, true),
        }
    };
}

/// Reads an instruction whose type was taken.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, ty: Type) -> Result<Op> {
    let name = s.opcode.name;
    if rounding(s).is_some_and(|mode| mode != NEAREST) {
        return Err(s.opcode.unknown());
    }
    let f = s.opcode.take("ftz");
    let post = match s.opcode.take_any(&["sat", "relu"]) {
        None => PLAIN,
        Some("sat") => CLAMPED,
        Some(_) => RELU,
    };
    let run: Option<Alu> = match name {
        "add" => Some(finished!(ty, 2, add, f, post)),
        "sub" => Some(finished!(ty, 2, sub, f, post)),
        "mul" => Some(finished!(ty, 2, mul, f, post)),
        "fma" => Some(finished!(ty, 3, fma, f, post)),
        "min" | "max" if post == PLAIN => {
            let (nan, most) = (s.opcode.take("NaN"), name == "max");
            match (s.opcode.take("xorsign"), s.opcode.take("abs")) {
                (false, false) => Some(extremes!(ty, extreme, f, nan, most)),
                (true, true) => Some(extremes!(ty, extreme_xorsign, f, nan, most)),
                _ => None,
            }
        }
        "abs" if post == PLAIN && f => Some(each_type!(ty, 1, abs, true)),
        "abs" if post == PLAIN => Some(each_type!(ty, 1, abs, false)),
        "neg" if post == PLAIN && f => Some(each_type!(ty, 1, neg, true)),
        "neg" if post == PLAIN => Some(each_type!(ty, 1, neg, false)),
        _ => None,
    };
    let run = run.ok_or_else(|| s.opcode.unknown())?;
    let from: &[Type] = match name {
        "abs" | "neg" => &[ty],
        "fma" => &[ty, ty, ty],
        _ => &[ty, ty],
    };
    lanes(b, s, run, ty, from)
}
