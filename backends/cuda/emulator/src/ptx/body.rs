//! The code of a kernel, with the functions that it calls behind its own.

use super::lex::Kind;
use super::module::{Function, Source};
use crate::exec::file::Reg;

use super::op::{Instr, Op, Order, Space, Value};
use super::operand::{Build, Scope, Symbol};
use super::statement::{Cursor, Statement};
use super::types::Type;
use super::{Kernel, Param, PtxError, families, flow, live};

/// The label at which functions return.
pub(super) const END: &str = "";

/// Reads a kernel and what it calls.
pub(super) fn kernel<'a>(source: &Source<'_, 'a>, entry: &Function<'_, 'a>) -> Result<Kernel, PtxError> {
    let at_entry = |message: String| PtxError { line: entry.line, message };
    let mut b = Build::new(source);
    b.scopes.push(Scope::default());
    let (mut params, mut end) = (Vec::new(), 0_u64);
    for p in &entry.params {
        let offset = end.next_multiple_of(p.align);
        b.declare(p.name, Symbol::Variable(Space::Param, offset));
        params.push(Param { offset: offset as usize, bytes: p.bytes as usize });
        end = offset + p.bytes;
    }
    code(&mut b, entry)?;
    b.in_kernel = false;
    while let Some(name) = b.pending.pop() {
        let f = source.functions.get(name).expect("calls are to functions that are here");
        b.scopes.push(Scope::default());
        let place = b.code.len() as u32;
        let callee = b.callees.get_mut(name).expect("it was called");
        callee.entry = place;
        let offsets = callee.results.iter().chain(&callee.params).map(|&(at, _)| at).collect::<Vec<_>>();
        for (v, at) in f.results.iter().chain(&f.params).zip(offsets) {
            b.declare(v.name, Symbol::Variable(Space::Local, at));
        }
        code(&mut b, f)?;
    }
    for &(at, _, name) in &b.calls {
        if let Op::Call { target, .. } = &mut b.code[at].op {
            *target = b.callees[name].entry;
        }
    }
    if let Some(name) = recursive(&b.calls, entry.name, &mut Vec::new()) {
        return Err(at_entry(format!("`{name}` calls itself, which isn't supported")));
    }
    let small = |what: &str, bytes: u64| {
        let message = format!("{bytes} bytes of {what} memory; there are less than 4 GiB");
        u32::try_from(bytes).map_err(|_| at_entry(message))
    };
    let dynamic = b.start.iter().any(|s| matches!(s.value, Value::DynamicShared(_)));
    let ordered = b.code.iter().any(|i| ordered(&b, &i.op));
    Ok(Kernel {
        name: entry.name.to_owned(),
        params,
        param_bytes: end as usize,
        static_shared: small("shared", b.shared)?,
        local_bytes: small("local", b.local)?,
        registers: live::registers(&b.code, b.named.values(), entry.max_threads),
        max_threads: entry.max_threads,
        start: b.start,
        rows: b.rows as usize,
        predicates: b.predicates as usize,
        granule: granule(&b.code, b.shared > 0 || dynamic),
        ordered,
        code: b.code,
    })
}

/// A function that calls itself, by way of others perhaps.
fn recursive<'a>(
    calls: &[(usize, &'a str, &'a str)],
    name: &'a str,
    within: &mut Vec<&'a str>,
) -> Option<&'a str> {
    if within.contains(&name) {
        return Some(name);
    }
    within.push(name);
    let found =
        calls.iter().filter(|c| c.1 == name).find_map(|&(_, _, callee)| recursive(calls, callee, within));
    within.pop();
    found
}

/// The narrowest access that may be to shared memory, 4 bytes at most.
fn granule(code: &[Instr], has_shared: bool) -> u32 {
    let may = |at: Space| at == Space::Shared || at == Space::Generic && has_shared;
    let width = |i: &Instr| match &i.op {
        Op::Load(a) | Op::Store(a) if may(a.at.space) => Some(a.width),
        Op::Atomic(a) if may(a.at.space) => Some(a.width),
        Op::Matrices(_) => Some(2),
        _ => None,
    };
    code.iter().filter_map(width).min().unwrap_or(4).min(4)
}

/// Whether the order in which blocks come to an instruction can show.
fn ordered(b: &Build<'_, '_>, op: &Op) -> bool {
    // Who learns the old value learns the order.
    let read = |r: Reg| b.named.get(&r).is_some_and(|n| n.first != n.last);
    let global = |at: Space| matches!(at, Space::Global | Space::Generic);
    match op {
        Op::Atomic(a) => global(a.at.space) && (a.ordered || a.to.is_some_and(read)),
        Op::Load(a) | Op::Store(a) => global(a.at.space) && a.order == Order::Strong,
        _ => false,
    }
}

/// Reads the code of a function, whose parameters are declared in the scope that is there.
fn code<'a>(b: &mut Build<'_, 'a>, f: &Function<'_, 'a>) -> Result<(), PtxError> {
    let first = b.code.len();
    b.function = f.name;
    b.labels.clear();
    b.path = vec![0];
    b.braces = 0;
    let mut cursor = Cursor::new(f.body);
    while let Some(kind) = cursor.peek() {
        match (kind, cursor.second()) {
            (Kind::Mark('{'), _) => {
                cursor.next();
                b.braces += 1;
                b.path.push(b.braces);
                b.scopes.push(Scope::default());
            }
            (Kind::Mark('}'), _) => {
                cursor.next();
                b.path.pop();
                b.scopes.pop();
            }
            (Kind::Word(label), Some(Kind::Mark(':'))) => {
                cursor.next();
                cursor.next();
                if !table(b, &mut cursor, label)? {
                    let here = *b.path.last().expect("code is within braces");
                    b.labels.insert((here, label), b.code.len() as u32);
                }
            }
            (Kind::Word(word), _) if word.starts_with('.') => {
                cursor.next();
                directive(b, &mut cursor, word)?;
            }
            _ => {
                let s = cursor.statement()?;
                let line = s.line;
                instruction(b, &s).map_err(|message| PtxError { line, message })?;
            }
        }
    }
    b.scopes.clear();
    // Threads that come to the end of the text return.
    let op = if b.in_kernel { Op::Exit } else { Op::Return };
    b.labels.insert((0, END), b.code.len() as u32);
    b.code.push(Instr { line: cursor.line() as u32, guard: None, op });
    for (at, names, path) in std::mem::take(&mut b.branches) {
        let found = names.iter().map(|&name| {
            let place = path.iter().rev().find_map(|&scope| b.labels.get(&(scope, name)));
            let line = b.code[at].line as usize;
            place.copied().ok_or_else(|| PtxError { line, message: format!("there is no label `{name}`") })
        });
        let found: Vec<u32> = found.collect::<Result<_, _>>()?;
        match &mut b.code[at].op {
            Op::Branch { target, .. } => *target = found[0],
            Op::Switch { targets, .. } => *targets = found,
            _ => {}
        }
    }
    flow::join_paths(&mut b.code, first);
    Ok(())
}

/// A list of labels, if that is what is named here.
fn table<'a>(b: &mut Build<'_, 'a>, cursor: &mut Cursor<'_, 'a>, name: &'a str) -> Result<bool, PtxError> {
    if !cursor.word_is(".branchtargets") {
        return Ok(false);
    }
    let mut labels = vec![cursor.word()?];
    while cursor.mark(',') {
        labels.push(cursor.word()?);
    }
    cursor.expect(';')?;
    b.scopes.last_mut().expect("code is within braces").tables.insert(name, labels);
    Ok(true)
}

fn directive<'a>(b: &mut Build<'_, 'a>, cursor: &mut Cursor<'_, 'a>, word: &'a str) -> Result<(), PtxError> {
    match word {
        ".loc" => cursor.skip_line(),
        ".pragma" => cursor.skip_statement(),
        ".reg" => {
            let ty = cursor.word()?;
            let Some(ty) = Type::named(ty.trim_start_matches('.')) else {
                return cursor.wrong(format!("registers of type `{ty}` aren't known"));
            };
            loop {
                let name = cursor.word()?;
                let mut count = None;
                if cursor.mark('<') {
                    count = u32::try_from(cursor.int()?).ok().filter(|&n| n <= 1 << 20);
                    if count.is_none() {
                        return cursor.wrong("more than a million registers");
                    }
                    cursor.expect('>')?;
                }
                b.declare_registers(name, ty, count);
                if !cursor.mark(',') {
                    break;
                }
            }
            cursor.expect(';')?;
        }
        ".local" | ".param" => {
            for v in cursor.variables()? {
                let at = b.room(&v);
                b.declare(v.name, Symbol::Variable(Space::Local, at));
            }
        }
        ".shared" => {
            for v in cursor.variables()? {
                let at = b.shared_room(&v);
                b.declare(v.name, Symbol::Variable(Space::Shared, at));
            }
        }
        _ => return cursor.wrong(format!("`{word}` isn't known within a function")),
    }
    Ok(())
}

/// Reads an instruction, and keeps what it does.
fn instruction<'a>(b: &mut Build<'_, 'a>, s: &Statement<'a>) -> Result<(), String> {
    let guard = s.guard.map(|(name, negated)| b.guard(name, negated)).transpose()?;
    let op = families::decode(b, s)?;
    s.opcode.finish()?;
    b.code.push(Instr { line: s.line as u32, guard, op });
    Ok(())
}
