//! Roots, reciprocals, exponentials, logarithms and circular functions.
//!
//! What devices approximate is computed in f64 here, and rounded once: within their error bounds, and the same on
//! every host but for its library's last bits of f64.

use super::float::{rounding, switched};
use super::lanes;
use crate::exec::file::{Alu, alu};
use crate::exec::rounding::{self as r, DOWN, NEAREST, UP, ZERO, bf16_of, f16_of, finish, flush};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type::{self, Bf16, Bf16x2, F16x2, Float};

/// An f32 function by way of f64.
macro_rules! through_f64 {
    ($($name:ident, $f:expr;)*) => {$(
        fn $name<const F: bool, const C: bool>(a: f32) -> f32 {
            let f: fn(f64) -> f64 = $f;
            finish::<F, C>(f(f64::from(flush::<F>(a))) as f32)
        }
    )*};
}

through_f64! {
    rsqrt, |a| 1.0 / a.sqrt();
    ex2, |a| a.exp2();
    lg2, |a| a.log2();
    sin, |a| a.sin();
    cos, |a| a.cos();
    tanh, |a| a.tanh();
}

fn sqrt<const F: bool, const C: bool>(a: f32) -> f32 {
    finish::<F, C>(flush::<F>(a).sqrt())
}

fn rcp<const F: bool, const C: bool>(a: f32) -> f32 {
    finish::<F, C>(1.0 / flush::<F>(a))
}

/// Roots and reciprocals with a rounding other than to nearest.
fn directed(root: bool, mode: u8, flushed: bool) -> Alu {
    fn root_of<const MODE: u8, const F: bool>(a: f32) -> f32 {
        finish::<F, false>(r::sqrt_f32(flush::<F>(a), MODE))
    }
    fn one_over<const MODE: u8, const F: bool>(a: f32) -> f32 {
        finish::<F, false>(r::div_f32(1.0, flush::<F>(a), MODE))
    }
    match (root, mode, flushed) {
        (true, ZERO, false) => alu!((f32) -> f32, root_of::<ZERO, false>),
        (true, ZERO, true) => alu!((f32) -> f32, root_of::<ZERO, true>),
        (true, DOWN, false) => alu!((f32) -> f32, root_of::<DOWN, false>),
        (true, DOWN, true) => alu!((f32) -> f32, root_of::<DOWN, true>),
        (true, _, false) => alu!((f32) -> f32, root_of::<UP, false>),
        (true, _, true) => alu!((f32) -> f32, root_of::<UP, true>),
        (false, ZERO, false) => alu!((f32) -> f32, one_over::<ZERO, false>),
        (false, ZERO, true) => alu!((f32) -> f32, one_over::<ZERO, true>),
        (false, DOWN, false) => alu!((f32) -> f32, one_over::<DOWN, false>),
        (false, DOWN, true) => alu!((f32) -> f32, one_over::<DOWN, true>),
        (false, _, false) => alu!((f32) -> f32, one_over::<UP, false>),
        (false, _, true) => alu!((f32) -> f32, one_over::<UP, true>),
    }
}

fn double(name: &str, approximate: bool, mode: Option<u8>) -> Option<Alu> {
    Some(match (name, approximate, mode) {
        ("sqrt", false, Some(NEAREST)) => alu!((f64) -> f64, |a| a.sqrt()),
        ("sqrt", false, Some(ZERO)) => alu!((f64) -> f64, |a| r::sqrt_f64(a, ZERO)),
        ("sqrt", false, Some(DOWN)) => alu!((f64) -> f64, |a| r::sqrt_f64(a, DOWN)),
        ("sqrt", false, Some(UP)) => alu!((f64) -> f64, |a| r::sqrt_f64(a, UP)),
        ("rcp", true, None) | ("rcp", false, Some(NEAREST)) => alu!((f64) -> f64, |a| 1.0 / a),
        ("rcp", false, Some(ZERO)) => alu!((f64) -> f64, |a| r::div_f64(1.0, a, ZERO)),
        ("rcp", false, Some(DOWN)) => alu!((f64) -> f64, |a| r::div_f64(1.0, a, DOWN)),
        ("rcp", false, Some(UP)) => alu!((f64) -> f64, |a| r::div_f64(1.0, a, UP)),
        ("rsqrt", true, None) => alu!((f64) -> f64, |a| 1.0 / a.sqrt()),
        _ => return None,
    })
}

/// `ex2` and `tanh` of 16 bits.
fn narrow(name: &str, ty: Type) -> Option<Alu> {
    use half::{bf16, f16};
    let wave = |name: &str| name == "tanh";
    Some(match (wave(name), ty) {
        (false, Float(16)) => alu!((f16) -> f16, |a| f16_of(f64::from(a).exp2(), NEAREST)),
        (true, Float(16)) => alu!((f16) -> f16, |a| f16_of(f64::from(a).tanh(), NEAREST)),
        (false, Bf16) => alu!((bf16) -> bf16, |a| bf16_of(f64::from(a).exp2(), NEAREST)),
        (true, Bf16) => alu!((bf16) -> bf16, |a| bf16_of(f64::from(a).tanh(), NEAREST)),
        (false, F16x2) => {
            alu!(([f16; 2]) -> [f16; 2], |a: [f16; 2]| a.map(|a| f16_of(f64::from(a).exp2(), NEAREST)))
        }
        (true, F16x2) => {
            alu!(([f16; 2]) -> [f16; 2], |a: [f16; 2]| a.map(|a| f16_of(f64::from(a).tanh(), NEAREST)))
        }
        (false, Bf16x2) => {
            alu!(([bf16; 2]) -> [bf16; 2], |a: [bf16; 2]| a.map(|a| bf16_of(f64::from(a).exp2(), NEAREST)))
        }
        (true, Bf16x2) => {
            alu!(([bf16; 2]) -> [bf16; 2], |a: [bf16; 2]| a.map(|a| bf16_of(f64::from(a).tanh(), NEAREST)))
        }
        _ => return None,
    })
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let name = s.opcode.name;
    let approximate = s.opcode.take("approx");
    let mode = rounding(s);
    let f = s.opcode.take("ftz");
    let ty = s.opcode.ty()?;
    let run = match (name, ty, approximate, mode) {
        (_, Float(64), _, _) if !f || approximate => double(name, approximate, mode),
        ("sqrt", Float(32), true, None) | ("sqrt", Float(32), false, Some(NEAREST)) => {
            Some(switched!(f, false, (f32) -> f32, sqrt))
        }
        ("rcp", Float(32), true, None) | ("rcp", Float(32), false, Some(NEAREST)) => {
            Some(switched!(f, false, (f32) -> f32, rcp))
        }
        ("sqrt" | "rcp", Float(32), false, Some(mode)) => Some(directed(name == "sqrt", mode, f)),
        ("rsqrt", Float(32), true, None) => Some(switched!(f, false, (f32) -> f32, rsqrt)),
        ("ex2", Float(32), true, None) => Some(switched!(f, false, (f32) -> f32, ex2)),
        ("lg2", Float(32), true, None) => Some(switched!(f, false, (f32) -> f32, lg2)),
        ("sin", Float(32), true, None) => Some(switched!(f, false, (f32) -> f32, sin)),
        ("cos", Float(32), true, None) => Some(switched!(f, false, (f32) -> f32, cos)),
        ("tanh", Float(32), true, None) if !f => Some(switched!(f, false, (f32) -> f32, tanh)),
        ("ex2", Float(16) | F16x2, true, None) if !f => narrow(name, ty),
        ("ex2", Bf16 | Bf16x2, true, None) if f => narrow(name, ty),
        ("tanh", Float(16) | F16x2 | Bf16 | Bf16x2, true, None) if !f => narrow(name, ty),
        _ => None,
    };
    let run = run.ok_or_else(|| s.opcode.unknown())?;
    lanes(b, s, run, ty, &[ty])
}
