//! Arithmetic, logic, comparison and selection: a result in one register from up to three others.

use super::decode::{bits, ones};
use super::{Alu, Lanes};
use std::array;

/// `f` on every lane.
pub(super) fn lanes(f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static) -> Alu {
    Box::new(move |a: &Lanes, b: &Lanes, c: &Lanes| array::from_fn(|i| f(a[i], b[i], c[i])))
}

pub(super) fn one(f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Alu {
    lanes(move |a, _, _| f(a))
}

/// An f32 without subnormal values.
pub(super) fn flush(v: u64) -> u64 {
    if v & 0x7f80_0000 == 0 { v & 0x8000_0000 } else { v }
}

/// To f32, towards zero (`z`), down (`m`) or up (`p`).
pub(super) fn directed(v: f64, mode: char) -> f32 {
    let near = v as f32;
    let wide = f64::from(near);
    let down = mode == 'm' || (mode == 'z' && v > 0.0);
    let up = mode == 'p' || (mode == 'z' && v < 0.0);
    if down && wide > v {
        near.next_down()
    } else if up && wide < v {
        near.next_up()
    } else {
        near
    }
}

/// a·b + c in f64, rounded to odd, so that a second rounding to f32 is exact in every direction.
fn fused(a: f64, b: f64, c: f64) -> f64 {
    // Products of f32 are exact.
    let p = a * b;
    let s = p + c;
    if !s.is_finite() {
        return s;
    }
    let back = s - p;
    let error = (p - (s - back)) + (c - back);
    if error == 0.0 || s.to_bits() & 1 == 1 {
        return s;
    }
    if (error > 0.0) == (s > 0.0) { f64::from_bits(s.to_bits() + 1) } else { f64::from_bits(s.to_bits() - 1) }
}

fn f(v: u64) -> f32 {
    f32::from_bits(v as u32)
}

type Decoded = Result<(Alu, Vec<u32>), String>;

/// The operation, and the bits of its operands.
pub(super) fn decode(parts: &[&str]) -> Decoded {
    let op = parts[0];
    let ty = parts[parts.len() - 1];
    match op {
        "setp" | "set" => return compare(parts),
        "cvta" => {
            let base = match parts.iter().find(|p| p.starts_with("shared") || **p == "local") {
                Some(&"local") => super::LOCAL_BASE,
                Some(_) => super::SHARED_BASE,
                None => 0,
            };
            let to = parts.contains(&"to");
            return Ok((
                one(move |a| if to { a.wrapping_sub(base) } else { a.wrapping_add(base) }),
                vec![64],
            ));
        }
        "dp4a" => return Ok((dot(parts), vec![32, 32, 32])),
        "slct" | "testp" | "copysign" => return Err("an unknown instruction".into()),
        _ => {}
    }
    let w = bits(ty)?;
    let m = ones(w);
    match (op, w) {
        ("mov", _) => return Ok((one(|a| a), vec![w])),
        ("selp", _) => return Ok((lanes(|a, b, p| if p != 0 { a } else { b }), vec![w, w, 1])),
        ("and", _) => return Ok((lanes(|a, b, _| a & b), vec![w, w])),
        ("or", _) => return Ok((lanes(|a, b, _| a | b), vec![w, w])),
        ("xor", _) => return Ok((lanes(|a, b, _| a ^ b), vec![w, w])),
        ("not", _) => return Ok((one(move |a| !a & m), vec![w])),
        _ => {}
    }
    match ty {
        "f32" => float(parts),
        "f64" => double(parts),
        _ if ty.contains('f') => Err(format!("arithmetic of type {ty}")),
        _ => whole(parts, ty, w, m),
    }
}

fn whole(parts: &[&str], ty: &str, w: u32, m: u64) -> Decoded {
    let s = ty.starts_with('s');
    let up = 64 - w;
    // Sign or zero extension.
    let x = move |v: u64| match s {
        true => i128::from(((v << up) as i64) >> up),
        false => i128::from(v & m),
    };
    let mode = parts.get(1).copied().unwrap_or("");
    let two = vec![w, w];
    Ok(match parts[0] {
        "add" if parts.len() == 2 => (lanes(move |a, b, _| a.wrapping_add(b) & m), two),
        "sub" if parts.len() == 2 => (lanes(move |a, b, _| a.wrapping_sub(b) & m), two),
        "mul" | "mad" => {
            let add = parts[0] == "mad";
            let (f, wide): (Alu, u32) = match mode {
                "lo" => (lanes(move |a, b, c| a.wrapping_mul(b).wrapping_add(c) & m), w),
                "wide" if w < 64 => {
                    let m = ones(2 * w);
                    (lanes(move |a, b, c| ((x(a) * x(b)) as u64).wrapping_add(c) & m), 2 * w)
                }
                "hi" => {
                    let high = move |a, b| match s || w < 64 {
                        true => ((x(a) * x(b)) >> w) as u64,
                        false => ((u128::from(a) * u128::from(b)) >> 64) as u64,
                    };
                    (lanes(move |a, b, c| high(a, b).wrapping_add(c) & m), w)
                }
                _ => return Err("a product of unknown width".into()),
            };
            (f, if add { vec![w, w, wide] } else { two })
        }
        // A division by zero gives all ones.
        "div" => (lanes(move |a, b, _| x(a).checked_div(x(b)).map_or(m, |q| q as u64 & m)), two),
        "rem" => (lanes(move |a, b, _| x(a).checked_rem(x(b)).map_or(a, |q| q as u64 & m)), two),
        "min" => (lanes(move |a, b, _| if x(b) < x(a) { b } else { a }), two),
        "max" => (lanes(move |a, b, _| if x(b) > x(a) { b } else { a }), two),
        "abs" => (one(move |a| x(a).unsigned_abs() as u64 & m), vec![w]),
        "neg" => (one(move |a| a.wrapping_neg() & m), vec![w]),
        "shl" => (lanes(move |a, b, _| if b >= u64::from(w) { 0 } else { (a << b) & m }), vec![w, 32]),
        "shr" => (lanes(move |a, b, _| (x(a) >> b.min(64)) as u64 & m), vec![w, 32]),
        "popc" => (one(|a| a.count_ones().into()), vec![w]),
        "clz" => (one(move |a| (a.leading_zeros() - up).into()), vec![w]),
        "brev" => (one(move |a| a.reverse_bits() >> up), vec![w]),
        "bfind" if !s && parts.len() == 2 => {
            (one(|a| if a == 0 { 0xffff_ffff } else { u64::from(63 - a.leading_zeros()) }), vec![w])
        }
        "bfe" if !s => (
            lanes(move |a, b, c| (a.checked_shr(b as u32 & 255).unwrap_or(0)) & ones(c as u32 & 255)),
            vec![w, 32, 32],
        ),
        "prmt" if parts.len() == 2 => (
            lanes(|a, b, c| {
                let both = b << 32 | a;
                (0..4).fold(0, |d, i| {
                    let pick = c >> (4 * i);
                    let byte = both >> (8 * (pick & 7)) & 0xff;
                    let byte = if pick & 8 == 0 { byte } else { 0xff * (byte >> 7) };
                    d | byte << (8 * i)
                })
            }),
            vec![32, 32, 32],
        ),
        "shf" => {
            let (left, clamp) = (mode == "l", parts[2] == "clamp");
            (
                lanes(move |a, b, c| {
                    let n = if clamp { c.min(32) } else { c & 31 };
                    let both = b << 32 | a;
                    let v = if left { ((u128::from(both) << n) >> 32) as u64 } else { both >> n };
                    v & 0xffff_ffff
                }),
                vec![32, 32, 32],
            )
        }
        _ => return Err("an unknown instruction".into()),
    })
}

fn dot(parts: &[&str]) -> Alu {
    let byte = |v: u64, i: u32, s: bool| {
        let v = (v >> (8 * i)) as u8;
        if s { i64::from(v as i8) } else { i64::from(v) }
    };
    let (sa, sb) = (parts[1] == "s32", parts[2] == "s32");
    lanes(move |a, b, c| {
        let sum: i64 = (0..4).map(|i| byte(a, i, sa) * byte(b, i, sb)).sum();
        (c as u32).wrapping_add(sum as u32).into()
    })
}

fn float(parts: &[&str]) -> Decoded {
    let has = |word| parts.contains(&word);
    let (ftz, sat) = (has("ftz"), has("sat"));
    let mode = if has("rz") {
        'z'
    } else if has("rm") {
        'm'
    } else if has("rp") {
        'p'
    } else {
        'n'
    };
    let wrap = move |g: fn(f32, f32, f32) -> f32| {
        lanes(move |a, b, c| {
            let [a, b, c] = [a, b, c].map(|v| f(if ftz { flush(v) } else { v }));
            let r = g(a, b, c);
            let r = if sat { if r.is_nan() { 0.0 } else { r.clamp(0.0, 1.0) } } else { r };
            let r = u64::from(r.to_bits());
            if ftz { flush(r) } else { r }
        })
    };
    let (n, g): (usize, fn(f32, f32, f32) -> f32) = match (parts[0], mode) {
        ("add" | "sub" | "mul" | "fma", 'z' | 'm' | 'p') => {
            let op = parts[0].to_string();
            let n = if op == "fma" { 3 } else { 2 };
            let f = lanes(move |a, b, c| {
                let [a, b, c] = [a, b, c].map(|v| f64::from(f(if ftz { flush(v) } else { v })));
                let r = match op.as_str() {
                    "add" => fused(a, 1.0, b),
                    "sub" => fused(a, 1.0, -b),
                    "mul" => a * b,
                    _ => fused(a, b, c),
                };
                directed(r, mode).to_bits().into()
            });
            return Ok((f, vec![32; n]));
        }
        ("add", _) => (2, |a, b, _| a + b),
        ("sub", _) => (2, |a, b, _| a - b),
        ("mul", _) => (2, |a, b, _| a * b),
        ("fma" | "mad", _) => (3, f32::mul_add_of),
        ("div", 'n') => (2, |a, b, _| a / b),
        ("min", _) if !has("NaN") => (2, |a, b, _| if a == b && a.is_sign_negative() { a } else { a.min(b) }),
        ("max", _) if !has("NaN") => (2, |a, b, _| if a == b && a.is_sign_positive() { a } else { a.max(b) }),
        ("abs", _) => (1, |a, _, _| a.abs()),
        ("neg", _) => (1, |a, _, _| -a),
        ("sqrt", 'n') => (1, |a, _, _| a.sqrt()),
        ("rcp", 'n') => (1, |a, _, _| 1.0 / a),
        ("rsqrt", _) => (1, |a, _, _| (1.0 / f64::from(a).sqrt()) as f32),
        ("ex2", _) => (1, |a, _, _| f64::from(a).exp2() as f32),
        ("lg2", _) => (1, |a, _, _| f64::from(a).log2() as f32),
        ("sin", _) => (1, |a, _, _| f64::from(a).sin() as f32),
        ("cos", _) => (1, |a, _, _| f64::from(a).cos() as f32),
        ("tanh", _) => (1, |a, _, _| f64::from(a).tanh() as f32),
        _ => return Err("an unknown instruction".into()),
    };
    Ok((wrap(g), vec![32; n]))
}

/// The fused product of f32, rounded once.
trait MulAdd {
    fn mul_add_of(self, b: f32, c: f32) -> f32;
}

impl MulAdd for f32 {
    fn mul_add_of(self, b: f32, c: f32) -> f32 {
        fused(f64::from(self), f64::from(b), f64::from(c)) as f32
    }
}

fn double(parts: &[&str]) -> Decoded {
    let g = |n, g: fn(f64, f64, f64) -> f64| {
        let f = lanes(move |a, b, c| g(f64::from_bits(a), f64::from_bits(b), f64::from_bits(c)).to_bits());
        Ok((f, vec![64; n]))
    };
    match parts[0] {
        "add" => g(2, |a, b, _| a + b),
        "sub" => g(2, |a, b, _| a - b),
        "mul" => g(2, |a, b, _| a * b),
        "div" => g(2, |a, b, _| a / b),
        "fma" => g(3, f64::mul_add),
        "abs" => g(1, |a, _, _| a.abs()),
        "neg" => g(1, |a, _, _| -a),
        "sqrt" => g(1, |a, _, _| a.sqrt()),
        "min" => g(2, |a, b, _| a.min(b)),
        "max" => g(2, |a, b, _| a.max(b)),
        _ => Err("an unknown instruction".into()),
    }
}

fn compare(parts: &[&str]) -> Decoded {
    let ty = parts[parts.len() - 1];
    if parts[0] == "set" || parts[2..parts.len() - 1].iter().any(|p| ["and", "or", "xor"].contains(p)) {
        return Err("a comparison that is combined with a predicate".into());
    }
    let w = bits(ty)?;
    let name = parts[1];
    if ty.contains('f') {
        let read: fn(u64) -> f64 = match ty {
            "f32" if parts.contains(&"ftz") => |v| f(flush(v)).into(),
            "f32" => |v| f(v).into(),
            "f64" => f64::from_bits,
            _ => return Err(format!("comparison of type {ty}")),
        };
        let test: fn(f64, f64) -> bool = match name {
            "eq" => |a, b| a == b,
            "ne" => |a, b| a.partial_cmp(&b).is_some_and(|order| order.is_ne()),
            "lt" => |a, b| a < b,
            "le" => |a, b| a <= b,
            "gt" => |a, b| a > b,
            "ge" => |a, b| a >= b,
            "equ" => |a, b| a.partial_cmp(&b).is_none_or(|order| order.is_eq()),
            "neu" => |a, b| a != b,
            "ltu" => |a, b| a < b || a.is_nan() || b.is_nan(),
            "leu" => |a, b| a <= b || a.is_nan() || b.is_nan(),
            "gtu" => |a, b| a > b || a.is_nan() || b.is_nan(),
            "geu" => |a, b| a >= b || a.is_nan() || b.is_nan(),
            "num" => |a, b| !a.is_nan() && !b.is_nan(),
            "nan" => |a, b| a.is_nan() || b.is_nan(),
            _ => return Err(format!("the comparison {name}")),
        };
        return Ok((lanes(move |a, b, _| test(read(a), read(b)).into()), vec![w, w]));
    }
    let (up, s) = (64 - w, ty.starts_with('s'));
    let x = move |v: u64| match s {
        true => i128::from(((v << up) as i64) >> up),
        false => i128::from((v << up) >> up),
    };
    let test: fn(i128, i128) -> bool = match name {
        "eq" => |a, b| a == b,
        "ne" => |a, b| a != b,
        "lt" | "lo" => |a, b| a < b,
        "le" | "ls" => |a, b| a <= b,
        "gt" | "hi" => |a, b| a > b,
        "ge" | "hs" => |a, b| a >= b,
        _ => return Err(format!("the comparison {name}")),
    };
    Ok((lanes(move |a, b, _| test(x(a), x(b)).into()), vec![w, w]))
}
