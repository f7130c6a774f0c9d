//! Where threads go, and where they wait for each other.

use super::operands;
use crate::exec::file::Reg;
use crate::ptx::body::END;
use crate::ptx::op::{Barrier, Meet, NOWHERE, Op, Piece};
use crate::ptx::operand::{Build, Callee, Result};
use crate::ptx::statement::{Operand, Statement};
use crate::ptx::types::Type::{self, Pred, Unsigned};

const U32: Type = Unsigned(32);

/// Reads an instruction.
pub(super) fn decode<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    match s.opcode.name {
        "bra" => {
            s.opcode.take("uni");
            let [Operand::Name(label, 0)] = operands::<1>(s)? else {
                return Err("a branch to no label".into());
            };
            b.branches.push((b.code.len(), vec![label], b.path.clone()));
            Ok(Op::Branch { target: NOWHERE, join: NOWHERE })
        }
        "brx" => switch(b, s),
        "call" => call(b, s),
        "ret" => {
            s.opcode.take("uni");
            if b.in_kernel {
                return Ok(Op::Exit);
            }
            // Threads return together, at the function's end.
            b.branches.push((b.code.len(), vec![END], b.path.clone()));
            Ok(Op::Branch { target: NOWHERE, join: NOWHERE })
        }
        "exit" => Ok(Op::Exit),
        "trap" => Ok(Op::Trap),
        // Nobody debugs, sleeps, counts, or waits for another grid.
        "brkpt" | "nanosleep" | "pmevent" => {
            s.opcode.take_any(&["u32", "mask"]);
            Ok(Op::Nop)
        }
        "griddepcontrol" => {
            s.opcode.take_any(&["launch_dependents", "wait"]);
            Ok(Op::Nop)
        }
        "setmaxnreg" => {
            s.opcode.take_any(&["inc", "dec"]);
            s.opcode.take("sync");
            s.opcode.take("aligned");
            s.opcode.take("u32");
            Ok(Op::Nop)
        }
        "membar" | "fence" => fence(s),
        _ => barrier(b, s),
    }
}

fn switch<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    s.opcode.take("uni");
    if !s.opcode.take("idx") {
        return Err(s.opcode.unknown());
    }
    let [index, Operand::Name(table, 0)] = operands::<2>(s)? else {
        return Err("a branch to no table".into());
    };
    let labels = b.table(table).ok_or_else(|| format!("there is no list of labels `{table}`"))?.clone();
    b.branches.push((b.code.len(), labels, b.path.clone()));
    Ok(Op::Switch { index: b.source(index, U32)?, targets: Vec::new(), join: NOWHERE })
}

fn fence(s: &Statement<'_>) -> Result<Op> {
    // What is done in order here is in order for all.
    const KNOWN: [&str; 18] = [
        "cta",
        "gl",
        "sys",
        "gpu",
        "cluster",
        "sc",
        "acq_rel",
        "acquire",
        "release",
        "mbarrier_init",
        "proxy",
        "alias",
        "async",
        "async::generic",
        "global",
        "shared",
        "shared::cta",
        "shared::cluster",
    ];
    let known = |m: &str| KNOWN.contains(&m).then_some(());
    while s.opcode.find(known).is_some() {}
    Ok(Op::Nop)
}

fn names<'s, 'a>(operand: Option<&'s Operand<'a>>) -> Result<&'s [Operand<'a>]> {
    match operand {
        Some(Operand::List(all)) => Ok(all),
        None => Ok(&[]),
        _ => Err("a call through a register, which isn't supported".into()),
    }
}

fn call<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    s.opcode.take("uni");
    let (results, rest) = match s.operands.as_slice() {
        [Operand::List(results), rest @ ..] => (results.as_slice(), rest),
        rest => (&[] as &[Operand<'a>], rest),
    };
    let (name, given) = match rest {
        [Operand::Name(name, 0)] => (*name, names(None)?),
        [Operand::Name(name, 0), given] => (*name, names(Some(given))?),
        _ => return Err("a call through a register, which isn't supported".into()),
    };
    let Some(f) = b.source.functions.get(name) else {
        return Err(format!("the function `{name}`, of which there is no code here"));
    };
    if !b.callees.contains_key(name) {
        let mut rooms = |all: &[_]| all.iter().map(|v| (b.room(v), v.bytes)).collect();
        let callee = Callee { entry: NOWHERE, results: rooms(&f.results), params: rooms(&f.params) };
        b.callees.insert(name, callee);
        b.pending.push(name);
    }
    let callee = b.callees[name].clone();
    if callee.params.len() != given.len() || callee.results.len() != results.len() {
        return Err(format!("`{name}` takes {} and gives {}", callee.params.len(), callee.results.len()));
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (operand, &(at, bytes)) in given.iter().zip(&callee.params) {
        let from = b.variable(operand)?;
        before.push(Piece { from: from as u32, to: at as u32, bytes: bytes as u32 });
    }
    for (operand, &(at, bytes)) in results.iter().zip(&callee.results) {
        let to = b.variable(operand)?;
        after.push(Piece { from: at as u32, to: to as u32, bytes: bytes as u32 });
    }
    b.calls.push((b.code.len(), b.function, name));
    Ok(Op::Call { target: NOWHERE, before, after })
}

/// Barriers of a block, or of a warp.
fn barrier<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<Op> {
    if s.opcode.take("warp") {
        return super::together::warp_barrier(b, s);
    }
    s.opcode.take("cta");
    let kind = s.opcode.take_any(&["sync", "arrive", "red"]).ok_or_else(|| s.opcode.unknown())?;
    let aligned = s.opcode.take("aligned") || s.opcode.name == "bar";
    let with_count = |b: &mut Build<'_, 'a>, all: &[Operand<'a>]| -> Result<(Reg, Option<Reg>)> {
        match all {
            [id] => Ok((b.source(id, U32)?, None)),
            [id, count] => Ok((b.source(id, U32)?, Some(b.source(count, U32)?))),
            _ => Err(format!("`{}` has {} operands", s.opcode.text, s.operands.len())),
        }
    };
    let (meet, (id, count)) = match kind {
        "sync" => (Meet::Sync, with_count(b, &s.operands)?),
        "arrive" => (Meet::Arrive, with_count(b, &s.operands)?),
        _ => {
            let how = s.opcode.take_any(&["popc", "and", "or"]).ok_or_else(|| s.opcode.unknown())?;
            let ty = s.opcode.ty()?;
            let [d, rest @ .., p] = s.operands.as_slice() else { return Err(s.opcode.unknown()) };
            let p = b.pred(p)?;
            let meet = match (how, ty) {
                ("popc", Unsigned(32)) => Meet::Count(b.target(d, U32)?, p),
                ("and", Pred) => Meet::All(b.pred_target(d)?.ok_or("a result that nobody takes")?, p),
                ("or", Pred) => Meet::Any(b.pred_target(d)?.ok_or("a result that nobody takes")?, p),
                _ => return Err(s.opcode.unknown()),
            };
            (meet, with_count(b, rest)?)
        }
    };
    if matches!(meet, Meet::Arrive) && count.is_none() {
        return Err("an arrival without the number of threads that meet".into());
    }
    Ok(Op::Barrier(Barrier { meet, aligned, id, count }))
}
