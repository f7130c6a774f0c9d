//! Conversions between types.

use crate::exec::file::{Alu, File, alu, lanes};
use crate::exec::rounding::{
    AWAY, DOWN, NEAREST, UP, ZERO, bf16_of, direct, f16_of, f32_of, flush, odd, tf32_of,
};
use crate::ptx::op::Op;
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::Statement;
use crate::ptx::types::Type::{self, Bf16, Bf16x2, F16x2, Float, Signed, Tf32, Unsigned};
use half::{bf16, f16};

/// A conversion: from and to what, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversion {
    from: Type,
    to: Type,
    mode: u8,
    /// Whether floats become whole numbers, even where they stay floats.
    whole: bool,
    flush: bool,
    saturate: bool,
    relu: bool,
    /// Registers, the second of which gives the lower half, and whether they have 64 bits.
    d: u32,
    a: u32,
    b: Option<u32>,
    d_wide: bool,
    a_wide: bool,
}

/// A value on its way.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Conversion {
    fn read(&self, bits: u64) -> Number {
        match self.from {
            Unsigned(n) => Number::Int(i128::from(bits & (u64::MAX >> (64 - n)))),
            Signed(n) => Number::Int(i128::from((bits << (64 - n)) as i64 >> (64 - n))),
            Float(16) => Number::Float(f64::from(f16::from_bits(bits as u16))),
            Bf16 => Number::Float(f64::from(bf16::from_bits(bits as u16))),
            Float(32) => {
                let x = f32::from_bits(bits as u32);
                Number::Float(f64::from(if self.flush { flush::<true>(x) } else { x }))
            }
            _ => Number::Float(f64::from_bits(bits)),
        }
    }

    fn whole(&self, x: f64) -> f64 {
        match self.mode {
            NEAREST => x.round_ties_even(),
            ZERO => x.trunc(),
            DOWN => x.floor(),
            _ => x.ceil(),
        }
    }

    /// The value's bits, extended to 64.
    fn write(&self, value: Number) -> u64 {
        if let Unsigned(n) | Signed(n) = self.to {
            return self.integer(value, n, matches!(self.to, Signed(_)));
        }
        // A float, and what was lost on the way to it.
        let (mut x, mut error) = match value {
            Number::Int(v) => {
                let near = v as f64;
                (near, (v - near as i128).signum() as f64)
            }
            Number::Float(x) if self.whole => (self.whole(x), 0.0),
            Number::Float(x) => (x, 0.0),
        };
        if self.saturate {
            (x, error) = (if x > 0.0 { x.min(1.0) } else { 0.0 }, 0.0);
        }
        if self.relu && x <= 0.0 {
            x = 0.0;
        }
        match self.to {
            Float(64) => direct(x, error, self.mode).to_bits(),
            Float(32) if x.is_nan() => 0x7FFF_FFFF,
            Float(32) => {
                let y = f32_of(odd(x, error), self.mode);
                u64::from(if self.flush { flush::<true>(y) } else { y }.to_bits())
            }
            Tf32 => u64::from(tf32_of(x as f32, self.mode).to_bits()),
            Float(16) | F16x2 => u64::from(f16_of(odd(x, error), self.mode).to_bits()),
            _ => u64::from(bf16_of(odd(x, error), self.mode).to_bits()),
        }
    }

    /// Integers: floats are clamped to their range, other integers only if asked.
    fn integer(&self, value: Number, n: u32, signed: bool) -> u64 {
        let (least, most) =
            if signed { (-(1_i128 << (n - 1)), (1_i128 << (n - 1)) - 1) } else { (0, (1_i128 << n) - 1) };
        let v = match value {
            Number::Int(v) if self.saturate => v.clamp(least, most),
            Number::Int(v) => v,
            Number::Float(x) if x.is_nan() => {
                let wide = n == 64 || self.from == Float(64);
                return if !wide {
                    0
                } else if signed {
                    (-(1_i64 << (n - 1))) as u64
                } else {
                    1 << (n - 1)
                };
            }
            Number::Float(x) => (self.whole(x) as i128).clamp(least, most),
        };
        let bits = v as u64;
        if signed { ((bits << (64 - n)) as i64 >> (64 - n)) as u64 } else { bits & (u64::MAX >> (64 - n)) }
    }

    /// Converts the lanes of a mask.
    pub(crate) fn run(&self, file: &mut File, mask: u32) {
        for l in lanes(mask) {
            let mut bits = self.write(self.read(file.any(self.a, self.a_wide, l)));
            if let Some(low) = self.b {
                bits = bits << 16 | self.write(self.read(file.any(low, false, l)));
            }
            if self.d_wide {
                file.row_mut::<u64>(self.d)[l] = bits;
            } else {
                file.row_mut::<u32>(self.d)[l] = bits as u32;
            }
        }
    }
}

/// Conversions that are frequent, as functions of lanes. Registers are as wide as the types.
fn frequent(c: &Conversion) -> Option<Alu> {
    if c.saturate || c.relu || c.flush {
        return None;
    }
    Some(match (c.to, c.from, c.mode, c.whole) {
        (Unsigned(32) | Signed(32), Unsigned(64) | Signed(64), ..) => alu!((u64) -> u32, |a| a as u32),
        (Unsigned(64) | Signed(64), Unsigned(32), ..) => alu!((u32) -> u64, u64::from),
        (Unsigned(64) | Signed(64), Signed(32), ..) => alu!((i32) -> i64, i64::from),
        (Unsigned(32) | Signed(32), Unsigned(16), ..) => alu!((u16) -> u32, u32::from),
        (Unsigned(32) | Signed(32), Signed(16), ..) => alu!((i16) -> i32, i32::from),
        (Unsigned(32) | Signed(32), Unsigned(8), ..) => alu!((u8) -> u32, u32::from),
        (Unsigned(32) | Signed(32), Signed(8), ..) => alu!((i8) -> i32, i32::from),
        (Unsigned(16) | Signed(16), Unsigned(32) | Signed(32), ..) => alu!((u16) -> u16, |a| a),
        (Float(32), Unsigned(32), NEAREST, _) => alu!((u32) -> f32, |a| a as f32),
        (Float(32), Signed(32), NEAREST, _) => alu!((i32) -> f32, |a| a as f32),
        // Rust's conversions clamp as PTX does, and NaN is 0 in both.
        (Signed(32), Float(32), ZERO, _) => alu!((f32) -> i32, |a| a as i32),
        (Unsigned(32), Float(32), ZERO, _) => alu!((f32) -> u32, |a| a as u32),
        (Float(32), Float(16), NEAREST, false) => alu!((f16) -> f32, |a| canonical(f32::from(a))),
        (Float(32), Bf16, NEAREST, false) => alu!((bf16) -> f32, |a| canonical(f32::from(a))),
        (Float(64), Float(32), NEAREST, false) => alu!((f32) -> f64, f64::from),
        (Float(32), Float(64), NEAREST, false) => alu!((f64) -> f32, |a| canonical(a as f32)),
        (Float(32), Float(32), DOWN, true) => alu!((f32) -> f32, |a| canonical(a.floor())),
        (Float(32), Float(32), UP, true) => alu!((f32) -> f32, |a| canonical(a.ceil())),
        (Float(32), Float(32), ZERO, true) => alu!((f32) -> f32, |a| canonical(a.trunc())),
        (Float(32), Float(32), NEAREST, true) => alu!((f32) -> f32, |a| canonical(a.round_ties_even())),
        _ => return None,
    })
}

fn canonical(x: f32) -> f32 {
    if x.is_nan() { crate::exec::rounding::NAN } else { x }
}

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if s.opcode.take("pack") {
        return pack(b, s);
    }
    let rounding = s.opcode.take_any(&["rni", "rzi", "rmi", "rpi", "rna", "rn", "rz", "rm", "rp"]);
    let whole = matches!(rounding, Some("rni" | "rzi" | "rmi" | "rpi"));
    let mode = match rounding {
        None | Some("rn" | "rni") => NEAREST,
        Some("rz" | "rzi") => ZERO,
        Some("rm" | "rmi") => DOWN,
        Some("rp" | "rpi") => UP,
        Some(_) => AWAY,
    };
    let relu = s.opcode.take("relu");
    let flush = s.opcode.take("ftz");
    let saturate = s.opcode.take("sat");
    let (to, from) = (s.opcode.ty()?, s.opcode.ty()?);
    let int = |t| matches!(t, Unsigned(_) | Signed(_));
    let float = |t| matches!(t, Float(_) | Bf16);
    let two = matches!(to, F16x2 | Bf16x2);
    let known = match (to, from) {
        (Tf32, Float(32)) => matches!(rounding, Some("rn" | "rz" | "rna")) && !saturate && !flush,
        (F16x2 | Bf16x2, Float(32)) => matches!(rounding, Some("rn" | "rz")) && !flush && !saturate,
        _ if relu => matches!(to, Float(16) | Bf16) && from == Float(32) && !saturate,
        (to, from) if int(to) && float(from) => whole,
        (to, from) if float(to) && int(from) => rounding.is_some() && !whole && mode != AWAY,
        (to, from) if int(to) && int(from) => rounding.is_none() && !flush,
        (to, from) if float(to) && float(from) => {
            // What gets narrower needs a rounding; what doesn't has none, unless to whole numbers.
            let narrows = to.bits() < from.bits() || to != from && to.bits() == from.bits();
            mode != AWAY
                && if narrows {
                    rounding.is_some() && !whole
                } else {
                    rounding.is_none() || whole || to == Bf16
                }
        }
        _ => false,
    };
    if !known {
        return Err(s.opcode.unknown());
    }
    let ((a, a_bits), low) = match (two, s.operands.as_slice()) {
        (true, [_, high, low]) => (b.source_any(high, from)?, Some(b.source(low, from)?)),
        (false, [_, a]) => (b.source_any(a, from)?, None),
        _ => return Err(format!("`{}` has {} operands", s.opcode.text, s.operands.len())),
    };
    let (d, d_bits) = b.target_any(&s.operands[0])?;
    if d_bits < to.bits() || a_bits != 0 && a_bits < from.bits() {
        return Err(format!("registers of {d_bits} and {a_bits} bits for `{}`", s.opcode.text));
    }
    let a_wide = if a_bits == 0 { from.wide() } else { a_bits == 64 };
    let c = Conversion {
        from,
        to,
        mode,
        whole,
        flush,
        saturate,
        relu,
        d,
        a,
        b: low,
        d_wide: d_bits == 64,
        a_wide,
    };
    if c.d_wide == to.wide()
        && a_wide == from.wide()
        && (d_bits == to.bits().max(16))
        && let Some(run) = frequent(&c)
    {
        return Ok(Op::Alu { run, r: [d, a, 0, 0, 0] });
    }
    Ok(Op::Convert(Box::new(c)))
}

/// Two integers, clamped and put into one word, below what a third has.
fn pack<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if !s.opcode.take("sat") {
        return Err(s.opcode.unknown());
    }
    let short = s.opcode.ty()?;
    let from = s.opcode.ty()?;
    let below = s.opcode.find(|m| (m == "b32").then_some(())).is_some();
    fn two(a: i32, b: i32, least: i32, most: i32, bits: u32) -> u32 {
        let mask = (1 << bits) - 1;
        (a.clamp(least, most) as u32 & mask) << bits | b.clamp(least, most) as u32 & mask
    }
    let (run, takes_third) = match (short, from, below) {
        (Signed(16), Signed(32), false) => {
            (alu!((i32, i32) -> u32, |a, b| two(a, b, -32768, 32767, 16)), false)
        }
        (Unsigned(16), Signed(32), false) => (alu!((i32, i32) -> u32, |a, b| two(a, b, 0, 65535, 16)), false),
        (Signed(8), Signed(32), true) => {
            (alu!((i32, i32, u32) -> u32, |a, b, c| two(a, b, -128, 127, 8) | c << 16), true)
        }
        (Unsigned(8), Signed(32), true) => {
            (alu!((i32, i32, u32) -> u32, |a, b, c| two(a, b, 0, 255, 8) | c << 16), true)
        }
        _ => return Err(s.opcode.unknown()),
    };
    let word = Type::Bits(32);
    let from: &[Type] = if takes_third { &[from, from, word] } else { &[from, from] };
    super::lanes(b, s, run, word, from)
}
