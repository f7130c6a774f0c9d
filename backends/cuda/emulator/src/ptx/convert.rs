//! `cvt` between integers and floats, rounded as asked.

use super::Alu;
use super::alu::{flush, lanes, one};
use super::decode::{bits, ones};
use half::{bf16, f16};

/// The conversion, and the bits of its operands.
pub(super) fn decode(parts: &[&str]) -> Result<(Alu, Vec<u32>), String> {
    let n = parts.len();
    if n < 3 {
        return Err("a conversion without types".into());
    }
    let (to, from) = (parts[n - 2], parts[n - 1]);
    let mode = parts[1..n - 2].iter().copied().find(|p| p.starts_with('r')).unwrap_or("");
    let has = |word| parts.contains(&word);
    if let Some(half) = to.strip_suffix("x2") {
        let round = rounder(half, mode)?;
        let relu = has("relu");
        return Ok((
            lanes(move |a, b, _| {
                let f = |v: u64| {
                    let v = f64::from(f32::from_bits(v as u32));
                    round(if relu { v.max(0.0) } else { v })
                };
                f(a) << 16 | f(b)
            }),
            vec![32, 32],
        ));
    }
    let (wide_to, wide_from) = (bits(to)?, bits(from)?);
    let float = |t: &str| t.contains('f');
    let (ftz, sat) = (has("ftz"), has("sat"));
    let f = match (float(from), float(to)) {
        (false, false) => {
            let read = integer(from)?;
            let (low, high) = range(to)?;
            one(move |v| {
                let v = read(v);
                let v = if sat { v.clamp(low, high) } else { v };
                v as u64 & ones(wide_to)
            })
        }
        (false, true) => {
            let read = integer(from)?;
            let single = to == "f32";
            let round = rounder(to, mode)?;
            one(move |v| match single {
                // A sum by way of f64 would be rounded twice.
                true if wide_from == 64 => (read(v) as f32).to_bits().into(),
                _ => round(read(v) as f64),
            })
        }
        (true, false) => {
            let read = float_of(from)?;
            let (low, high) = range(to)?;
            let mode = mode.to_string();
            one(move |v| {
                let v = read(if ftz { flush(v) } else { v });
                let v = to_integer(v, &mode);
                // NaN gives 0, as Rust's conversion does.
                ((v as i128).clamp(low, high) as u64) & ones(wide_to)
            })
        }
        (true, true) => {
            let read = float_of(from)?;
            let whole = mode.ends_with('i');
            let round = rounder(to, if whole { "rn" } else { mode })?;
            let mode = mode.to_string();
            one(move |v| {
                let v = read(if ftz && wide_from == 32 { flush(v) } else { v });
                let v = if whole { to_integer(v, &mode) } else { v };
                let v = if sat { if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) } } else { v };
                let r = round(v);
                if ftz && wide_to == 32 { flush(r) } else { r }
            })
        }
    };
    Ok((f, vec![wide_from]))
}

fn to_integer(v: f64, mode: &str) -> f64 {
    match mode {
        "rni" => v.round_ties_even(),
        "rmi" => v.floor(),
        "rpi" => v.ceil(),
        _ => v.trunc(),
    }
}

fn integer(ty: &str) -> Result<impl Fn(u64) -> i128 + Copy + Send + Sync + 'static, String> {
    let shift = 64 - bits(ty)?;
    let signed = ty.starts_with('s');
    Ok(move |v: u64| match signed {
        true => i128::from(((v << shift) as i64) >> shift),
        false => i128::from((v << shift) >> shift),
    })
}

fn range(ty: &str) -> Result<(i128, i128), String> {
    let bits = bits(ty)?;
    Ok(match ty.starts_with('s') {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false => (0, (1 << bits) - 1),
    })
}

fn float_of(ty: &str) -> Result<fn(u64) -> f64, String> {
    Ok(match ty {
        "f16" => |v| f16::from_bits(v as u16).to_f64(),
        "bf16" => |v| bf16::from_bits(v as u16).to_f64(),
        "f32" => |v| f64::from(f32::from_bits(v as u32)),
        "f64" => f64::from_bits,
        _ => return Err(format!("the type {ty}")),
    })
}

fn rounder(ty: &str, mode: &str) -> Result<fn(f64) -> u64, String> {
    Ok(match (ty, mode) {
        ("f16", "" | "rn") => |v| f16::from_f64(v).to_bits().into(),
        ("bf16", "" | "rn") => |v| bf16::from_f64(v).to_bits().into(),
        ("f32", "" | "rn") => |v| (v as f32).to_bits().into(),
        ("f32", "rz") => |v| super::alu::directed(v, 'z').to_bits().into(),
        ("f32", "rm") => |v| super::alu::directed(v, 'm').to_bits().into(),
        ("f32", "rp") => |v| super::alu::directed(v, 'p').to_bits().into(),
        ("f64", _) => f64::to_bits,
        _ => return Err(format!("rounding {mode:?} to {ty}")),
    })
}
