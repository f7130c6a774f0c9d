//! Products of matrices, and matrices between shared memory and registers.

use super::memory::hints;
use super::operands;
use crate::exec::file::Reg;
use crate::ptx::op::{Factor, Matrices, Op, Product, Space};
use crate::ptx::operand::{Build, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Bf16, Bits, Float, Signed, Tf32, Unsigned};

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "ldmatrix" => matrices(b, s, false),
        "stmatrix" => matrices(b, s, true),
        "mma" => product(b, s),
        _ => Err(s.opcode.unknown()),
    }
}

/// The registers of a vector, or one.
fn registers<'a>(b: &mut Build<'_, 'a>, operand: &Operand<'a>, ty: Type, write: bool) -> Result<Vec<Reg>> {
    let mut one = |o: &Operand<'a>| if write { b.target(o, ty) } else { b.source(o, ty) };
    match operand {
        Operand::Vector(all) => all.iter().map(one).collect(),
        o => Ok(vec![one(o)?]),
    }
}

fn matrices<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>, store: bool) -> Result<Op> {
    let shape = s.opcode.take("sync") && s.opcode.take("aligned") && s.opcode.take("m8n8");
    let count = match s.opcode.take_any(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => 0,
    };
    let transposed = s.opcode.take("trans");
    hints(s);
    let shared = s.opcode.take_any(&["shared", "shared::cta"]).is_some();
    if !shape || s.opcode.ty()? != Bits(16) {
        return Err(s.opcode.unknown());
    }
    let [x, y] = operands::<2>(s)?;
    let (at, regs) = if store { (x, y) } else { (y, x) };
    let regs = registers(b, regs, Bits(32), !store)?;
    if regs.len() != count {
        return Err(format!("`{}` with {} registers", s.opcode.text, regs.len()));
    }
    let at = b.address(at, if shared { Space::Shared } else { Space::Generic })?;
    Ok(Op::Matrices(Box::new(Matrices { at, regs, transposed, store })))
}

fn factor(ty: Type) -> Option<Factor> {
    Some(match ty {
        Float(16) => Factor::F16,
        Bf16 => Factor::Bf16,
        Tf32 => Factor::Tf32,
        Float(64) => Factor::F64,
        Signed(8) => Factor::S8,
        Unsigned(8) => Factor::U8,
        _ => return None,
    })
}

fn product<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    let plain = s.opcode.take("sync") && s.opcode.take("aligned");
    let shapes = ["m16n8k4", "m16n8k8", "m16n8k16", "m16n8k32", "m8n8k4", "m8n8k16"];
    let shape = match s.opcode.take_any(&shapes) {
        Some("m16n8k4") => [16, 8, 4],
        Some("m16n8k8") => [16, 8, 8],
        Some("m16n8k16") => [16, 8, 16],
        Some("m16n8k32") => [16, 8, 32],
        Some("m8n8k4") => [8, 8, 4],
        Some(_) => [8, 8, 16],
        None => return Err(s.opcode.unknown()),
    };
    let layouts = s.opcode.take("row") && s.opcode.take("col");
    let saturate = s.opcode.take("satfinite");
    let [d_type, a_type, b_type, c_type] = [s.opcode.ty()?, s.opcode.ty()?, s.opcode.ty()?, s.opcode.ty()?];
    let (Some(a_kind), Some(b_kind)) = (factor(a_type), factor(b_type)) else {
        return Err(s.opcode.unknown());
    };
    let integers = matches!(a_kind, Factor::S8 | Factor::U8);
    let sums = match (a_kind, d_type) {
        (Factor::F16, Float(16)) => Bits(32),
        (Factor::F16 | Factor::Bf16 | Factor::Tf32, Float(32)) => Float(32),
        (Factor::F64, Float(64)) => Float(64),
        (Factor::S8 | Factor::U8, Signed(32)) => Signed(32),
        _ => return Err(s.opcode.unknown()),
    };
    let same = if integers { matches!(b_kind, Factor::S8 | Factor::U8) } else { a_kind == b_kind };
    let fits = matches!(
        (a_kind, shape),
        (Factor::F16 | Factor::Bf16, [16, 8, 8 | 16])
            | (Factor::Tf32, [16, 8, 4 | 8])
            | (Factor::F64, [8, 8, 4] | [16, 8, 4 | 8 | 16])
            | (Factor::S8 | Factor::U8, [8, 8, 16] | [16, 8, 16 | 32])
    );
    if !plain || !layouts || !same || !fits || c_type != d_type || saturate && !integers {
        return Err(s.opcode.unknown());
    }
    let [d, x, y, c] = operands::<4>(s)?;
    let held = if a_kind == Factor::F64 { Float(64) } else { Bits(32) };
    let p = Product {
        shape,
        a_type: a_kind,
        b_type: b_kind,
        half_sums: d_type == Float(16),
        saturate,
        a: registers(b, x, held, false)?,
        b: registers(b, y, held, false)?,
        c: registers(b, c, sums, false)?,
        d: registers(b, d, sums, true)?,
    };
    // Each lane has a 32nd of each matrix.
    let [m, n, k] = shape;
    let (each, sum_each) = (a_kind.in_register(), if p.half_sums { 2 } else { 1 });
    let counts = [m * k / 32 / each, k * n / 32 / each, m * n / 32 / sum_each, m * n / 32 / sum_each];
    let found = [p.a.len(), p.b.len(), p.c.len(), p.d.len()];
    if counts != found {
        return Err(format!("`{}` with {found:?} registers where it takes {counts:?}", s.opcode.text));
    }
    Ok(Op::Product(Box::new(p)))
}
