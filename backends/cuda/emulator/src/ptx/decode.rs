//! One statement becomes one instruction.

use super::parse::Names;
use super::{Instr, Op, Reg, Shuffle, Special, Vote, alu, convert, memory};

/// Decodes `s`, without its semicolon, and appends it to `code`.
pub(super) fn decode(line: usize, s: &str, names: &mut Names, code: &mut Vec<Instr>) -> Result<(), String> {
    let (guard, s) = match s.strip_prefix('@') {
        Some(rest) => {
            let (p, rest) = rest.split_once(char::is_whitespace).ok_or("a predicate without instruction")?;
            let negated = p.starts_with('!');
            let p = p.trim_start_matches('!');
            (Some((names.register(p).ok_or_else(|| format!("{p} isn't declared"))?, negated)), rest.trim())
        }
        None => (None, s),
    };
    let (opcode, rest) = s.split_once(char::is_whitespace).unwrap_or((s, ""));
    let args = split(rest);
    if opcode.starts_with("bfi.") && args.len() == 5 {
        return insert_bits(line as u32, guard, opcode, &args, names, code);
    }
    let op = operation(opcode, &args, names, code.len())
        .map_err(|why| format!("{why} in the instruction {s:?}"))?;
    code.push(Instr { line: line as u32, guard, op });
    Ok(())
}

/// The only instruction of four operands: position and length are put into one register first.
fn insert_bits(
    line: u32,
    guard: Option<(Reg, bool)>,
    opcode: &str,
    args: &[&str],
    names: &mut Names,
    code: &mut Vec<Instr>,
) -> Result<(), String> {
    let w = bits(&opcode["bfi.".len()..])?;
    let (both, zero) = (names.scratch(), names.constant(0));
    let s = [operand(names, args[3], 32)?, operand(names, args[4], 32)?, zero];
    let f = alu::lanes(|position, length, _| (position & 255) << 8 | (length & 255));
    code.push(Instr { line, guard, op: Op::Alu { f, d: both, s } });
    let s = [operand(names, args[1], w)?, operand(names, args[2], w)?, both];
    let f = alu::lanes(move |a, b, both| {
        let (position, length) = ((both >> 8) as u32, (both & 255) as u32);
        let field = ones(length).checked_shl(position).unwrap_or(0) & ones(w);
        a.checked_shl(position).unwrap_or(0) & field | b & !field
    });
    code.push(Instr { line, guard, op: Op::Alu { f, d: destination(names, args, 0)?, s } });
    Ok(())
}

fn operation(opcode: &str, args: &[&str], names: &mut Names, at: usize) -> Result<Op, String> {
    let parts: Vec<&str> = opcode.split('.').collect();
    let count = |n: usize| match args.len() == n {
        true => Ok(()),
        false => Err(format!("{} operands instead of {n}", args.len())),
    };
    let mask_or_all = |names: &mut Names, i: usize| match args.get(i) {
        Some(text) => operand(names, text, 32),
        None => Ok(names.constant(0xffff_ffff)),
    };
    Ok(match parts[0] {
        "bra" => {
            count(1)?;
            names.branches.push((at, args[0].into()));
            Op::Branch { target: 0 }
        }
        "ret" | "exit" => Op::Exit,
        "trap" => Op::Trap,
        "membar" | "fence" | "prefetch" | "prefetchu" | "brkpt" | "discard" | "nanosleep" => Op::Fence,
        "bar" if parts.get(1) == Some(&"warp") => Op::WarpBarrier { mask: mask_or_all(names, 0)? },
        "bar" | "barrier" => {
            count(1)?;
            if !parts.contains(&"sync") || number(args[0]).is_none() {
                return Err("only barriers of the whole block are supported".into());
            }
            Op::Barrier
        }
        "activemask" => Op::ActiveMask { d: destination(names, args, 0)? },
        "shfl" => {
            count(5)?;
            let kind = match parts[2] {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Xor,
                "idx" => Shuffle::Index,
                _ => return Err("an unknown shuffle".into()),
            };
            let (d, p) = args[0].split_once('|').map_or((args[0], None), |(d, p)| (d, Some(p)));
            let p =
                p.map(|p| names.register(p.trim()).ok_or("a predicate that isn't declared")).transpose()?;
            Op::Shuffle {
                kind,
                d: names.register(d.trim()).ok_or("a register that isn't declared")?,
                p,
                s: [operand(names, args[1], 32)?, operand(names, args[2], 32)?, operand(names, args[3], 32)?],
                mask: operand(names, args[4], 32)?,
            }
        }
        "vote" => {
            count(3)?;
            let kind = match parts[2] {
                "all" => Vote::All,
                "any" => Vote::Any,
                "uni" => Vote::Uniform,
                "ballot" => Vote::Ballot,
                _ => return Err("an unknown vote".into()),
            };
            Op::Vote {
                kind,
                d: destination(names, args, 0)?,
                s: operand(names, args[1].trim_start_matches('!'), 1)?,
                negated: args[1].starts_with('!'),
                mask: operand(names, args[2], 32)?,
            }
        }
        "ld" | "ldu" | "st" | "atom" | "red" | "cp" => memory::decode(&parts, args, names)?,
        "mov" if args.len() == 2 && args[0].starts_with('{') => Op::Unpack {
            d: list(names, args[0], 64)?,
            s: operand(names, args[1], 64)?,
            bits: bits(parts[1])? / args[0].split(',').count() as u32,
        },
        "mov" if args.len() == 2 && args[1].starts_with('{') => Op::Pack {
            d: destination(names, args, 0)?,
            s: list(names, args[1], 64)?,
            bits: bits(parts[1])? / args[1].split(',').count() as u32,
        },
        _ => {
            let (f, widths) = match parts[0] {
                "cvt" => convert::decode(&parts)?,
                _ => alu::decode(&parts)?,
            };
            count(widths.len() + 1)?;
            let zero = names.constant(0);
            let mut s = [zero; 3];
            for (i, &bits) in widths.iter().enumerate() {
                let text = args[i + 1];
                s[i] = match text.strip_prefix('!') {
                    Some(p) => return Err(format!("the negated operand {p}")),
                    None => operand(names, text, bits)?,
                };
            }
            Op::Alu { f, d: destination(names, args, 0)?, s }
        }
    })
}

/// Operands, split at commas outside of braces and brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                out.push(text[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    if !text[from..].trim().is_empty() {
        out.push(text[from..].trim());
    }
    out
}

pub(super) fn destination(names: &mut Names, args: &[&str], i: usize) -> Result<Reg, String> {
    let name = args.get(i).ok_or("no destination")?;
    if *name == "_" {
        return Ok(names.scratch());
    }
    names.register(name).ok_or_else(|| format!("{name} isn't declared"))
}

/// The registers of `{a, b}`, or of one operand.
pub(super) fn list(names: &mut Names, text: &str, bits: u32) -> Result<Vec<Reg>, String> {
    let inner = text.trim_start_matches('{').trim_end_matches('}');
    inner
        .split(',')
        .map(|t| match t.trim() {
            "_" => Ok(names.scratch()),
            t => operand(names, t, bits),
        })
        .collect()
}

/// The bits of a type such as `u32`.
pub(super) fn bits(ty: &str) -> Result<u32, String> {
    Ok(match ty {
        "pred" => 1,
        "f16x2" | "bf16x2" => 32,
        "bf16" => 16,
        _ => ty
            .trim_start_matches(['b', 'u', 's', 'f'])
            .parse()
            .ok()
            .filter(|b| [8, 16, 32, 64, 128].contains(b))
            .ok_or_else(|| format!("the type {ty:?}"))?,
    })
}

/// All ones in the low `bits`.
pub(super) fn ones(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// A constant: an integer, or a float by its bits.
pub(super) fn number(text: &str) -> Option<u64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let digits = digits.trim_end_matches('U');
    let value = if let Some(hex) = digits.strip_prefix("0f").or(digits.strip_prefix("0F")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(hex) = digits.strip_prefix("0d").or(digits.strip_prefix("0D")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

/// The register with an operand's value.
pub(super) fn operand(names: &mut Names, text: &str, bits: u32) -> Result<Reg, String> {
    if let Some(reg) = names.register(text) {
        return Ok(reg);
    }
    if text.starts_with('%') {
        let (stem, axis) = text.split_once('.').unwrap_or((text, "x"));
        let axis = "xyz".find(axis).ok_or_else(|| format!("the axis of {text}"))?;
        let special = match stem {
            "%tid" => Special::Tid(axis),
            "%ntid" => Special::Ntid(axis),
            "%ctaid" => Special::Ctaid(axis),
            "%nctaid" => Special::Nctaid(axis),
            "%laneid" => Special::Lane,
            "%warpid" => Special::Warp,
            "%nwarpid" => Special::Warps,
            "%dynamic_smem_size" => Special::DynamicShared,
            "%lanemask_lt" => Special::MaskBelow,
            "%lanemask_le" => Special::MaskUpTo,
            "%lanemask_eq" => Special::MaskAt,
            "%lanemask_ge" => Special::MaskFrom,
            "%lanemask_gt" => Special::MaskAbove,
            _ => return Err(format!("the register {text}")),
        };
        return Ok(names.special(special));
    }
    if let Some(value) = number(text) {
        return Ok(names.constant(value & ones(bits)));
    }
    names.variable(text).ok_or_else(|| format!("the operand {text:?}"))
}
