//! Loads, stores, atomic operations and copies into shared memory.

use super::decode::{bits, destination, list, number, operand};
use super::parse::Names;
use super::{Address, Op, Space, Update};

fn space(parts: &[&str]) -> Space {
    parts
        .iter()
        .find_map(|p| match *p {
            "global" | "const" => Some(Space::Global),
            "param" => Some(Space::Param),
            "local" => Some(Space::Local),
            p if p.starts_with("shared") => Some(Space::Shared),
            _ => None,
        })
        .unwrap_or(Space::Generic)
}

fn address(names: &mut Names, text: &str, space: Space) -> Result<Address, String> {
    let inner =
        text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or("an address without brackets")?;
    let (base, offset) = match inner.rfind('+') {
        Some(i) => (&inner[..i], number(inner[i + 1..].trim()).ok_or("an offset that is no number")? as i64),
        None => (inner, 0),
    };
    Ok(Address { space, base: operand(names, base.trim(), 64)?, offset })
}

pub(super) fn decode(parts: &[&str], args: &[&str], names: &mut Names) -> Result<Op, String> {
    let ty = parts[parts.len() - 1];
    let at = space(parts);
    if parts[0] == "cp" {
        return copy(parts, args, names);
    }
    if at == Space::Param && parts[0] != "ld" {
        return Err("parameters can't be written".into());
    }
    let bits = bits(ty)?;
    let bytes = bits / 8;
    match (parts[0], args.len()) {
        ("ld" | "ldu", 2) => Ok(Op::Load {
            to: list(names, args[0], bits)?,
            at: address(names, args[1], at)?,
            bytes,
            signed: ty.starts_with('s'),
        }),
        ("st", 2) => {
            Ok(Op::Store { from: list(names, args[1], bits)?, at: address(names, args[0], at)?, bytes })
        }
        ("atom" | "red", n) => {
            let first = usize::from(parts[0] == "atom");
            if n < first + 2 {
                return Err("too few operands".into());
            }
            let d = if first == 1 { Some(destination(names, args, 0)?) } else { None };
            let b = operand(names, args[first + 1], bits)?;
            let c = match args.get(first + 2) {
                Some(c) => operand(names, c, bits)?,
                None => names.constant(0),
            };
            let f = update(parts[parts.len() - 2], ty)?;
            Ok(Op::Atomic { d, at: address(names, args[first], at)?, bytes, f, b, c })
        }
        _ => Err("the number of operands".into()),
    }
}

fn update(op: &str, ty: &str) -> Result<Update, String> {
    let extend = move |signed: bool, wide: bool, v: u64| match (signed, wide) {
        (true, false) => i128::from(v as u32 as i32),
        (true, true) => i128::from(v as i64),
        _ => i128::from(v),
    };
    let (signed, wide) = (ty.starts_with('s'), ty.ends_with("64"));
    let key = move |v| extend(signed, wide, v);
    Ok(match (op, ty) {
        ("add", "f32") => {
            Box::new(|o, b, _| (f32::from_bits(o as u32) + f32::from_bits(b as u32)).to_bits().into())
        }
        ("add", "f64") => Box::new(|o, b, _| (f64::from_bits(o) + f64::from_bits(b)).to_bits()),
        (_, t) if t.contains('f') => return Err(format!("the operation {op} of type {ty}")),
        ("add", _) => Box::new(|o, b, _| o.wrapping_add(b)),
        ("min", _) => Box::new(move |o, b, _| if key(b) < key(o) { b } else { o }),
        ("max", _) => Box::new(move |o, b, _| if key(b) > key(o) { b } else { o }),
        ("and", _) => Box::new(|o, b, _| o & b),
        ("or", _) => Box::new(|o, b, _| o | b),
        ("xor", _) => Box::new(|o, b, _| o ^ b),
        ("exch", _) => Box::new(|_, b, _| b),
        ("cas", _) => Box::new(|o, b, c| if o == b { c } else { o }),
        ("inc", "u32") => Box::new(|o, b, _| if o >= b { 0 } else { o + 1 }),
        ("dec", "u32") => Box::new(|o, b, _| if o == 0 || o > b { b } else { o - 1 }),
        _ => return Err(format!("the operation {op}")),
    })
}

fn copy(parts: &[&str], args: &[&str], names: &mut Names) -> Result<Op, String> {
    if parts.get(1) != Some(&"async") || parts.get(2) == Some(&"bulk") {
        return Err("only copies of the family cp.async are supported".into());
    }
    match parts[2] {
        "commit_group" => Ok(Op::Commit),
        "wait_all" => Ok(Op::WaitGroups { left: 0 }),
        "wait_group" => {
            let left = args.first().and_then(|a| number(a)).ok_or("no number of groups")?;
            Ok(Op::WaitGroups { left: left as u32 })
        }
        "ca" | "cg" if args.len() >= 3 => {
            let bytes =
                number(args[2]).filter(|b| [4, 8, 16].contains(b)).ok_or("a size other than 4, 8, 16")?;
            Ok(Op::CopyAsync {
                to: address(names, args[0], Space::Shared)?,
                from: address(names, args[1], Space::Global)?,
                bytes: bytes as u32,
                size: args.get(3).map(|size| operand(names, size, 32)).transpose()?,
            })
        }
        _ => Err("an unknown copy".into()),
    }
}
