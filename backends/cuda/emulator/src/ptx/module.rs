//! A module: its variables, and which functions and kernels there are.

use super::body::kernel;
use super::lex::{Kind, Token, tokens};
use super::statement::{Cursor, Variable};
use super::{Global, Module, PtxError};
use std::collections::HashMap;
use std::sync::Arc;

/// A function or a kernel as it is written.
#[derive(Debug)]
pub(super) struct Function<'t, 'a> {
    pub name: &'a str,
    pub line: usize,
    pub results: Vec<Variable<'a>>,
    pub params: Vec<Variable<'a>>,
    pub max_threads: Option<u32>,
    pub body: &'t [Token<'a>],
}

/// What kernels of a module can name.
#[derive(Debug, Default)]
pub(super) struct Source<'t, 'a> {
    /// Numbers of variables.
    pub globals: HashMap<&'a str, usize>,
    pub shared: HashMap<&'a str, Variable<'a>>,
    pub functions: HashMap<&'a str, Function<'t, 'a>>,
}

/// Reads a module.
pub(super) fn read(text: &str) -> Result<Module, PtxError> {
    let tokens = tokens(text)?;
    let mut cursor = Cursor::new(&tokens);
    let mut source = Source::default();
    let (mut globals, mut entries) = (Vec::new(), Vec::new());
    while cursor.peek().is_some() {
        let line = cursor.line();
        let word = cursor.word()?;
        match word {
            ".version" | ".target" | ".address_size" | ".file" => cursor.skip_line(),
            ".visible" | ".extern" | ".weak" | ".common" => {}
            ".pragma" | ".alias" => cursor.skip_statement(),
            ".section" => {
                cursor.word()?;
                cursor.braces()?;
            }
            ".global" | ".const" => {
                for v in cursor.variables()? {
                    source.globals.insert(v.name, globals.len());
                    let name = v.name.to_owned();
                    globals.push(Global { name, bytes: v.bytes, align: v.align, init: v.init });
                }
            }
            ".shared" => {
                for v in cursor.variables()? {
                    source.shared.insert(v.name, v);
                }
            }
            ".entry" => entries.extend(function(&mut cursor, line, false)?),
            ".func" => {
                if let Some(f) = function(&mut cursor, line, true)? {
                    source.functions.insert(f.name, f);
                }
            }
            _ => {
                return Err(PtxError { line, message: format!("`{word}` isn't known between functions") });
            }
        }
    }
    let kernels = entries.iter().map(|e| kernel(&source, e).map(Arc::new)).collect::<Result<_, _>>()?;
    Ok(Module { kernels, globals })
}

/// A function or a kernel after its first word; `None` where it is only declared.
fn function<'t, 'a>(
    cursor: &mut Cursor<'t, 'a>,
    line: usize,
    may_return: bool,
) -> Result<Option<Function<'t, 'a>>, PtxError> {
    while may_return && (cursor.word_is(".noreturn") || cursor.word_is(".attribute")) {}
    let results = if may_return { parameters(cursor)? } else { Vec::new() };
    let name = cursor.word()?;
    let params = parameters(cursor)?;
    let mut max_threads = None;
    loop {
        if cursor.mark(';') {
            return Ok(None);
        }
        if cursor.peek() == Some(Kind::Mark('{')) {
            let body = cursor.braces()?;
            return Ok(Some(Function { name, line, results, params, max_threads, body }));
        }
        match cursor.word()? {
            ".maxntid" | ".reqntid" => max_threads = Some(product(cursor)?),
            ".minnctapersm" | ".maxnctapersm" | ".maxnreg" => drop(product(cursor)?),
            ".pragma" => cursor.skip_statement(),
            ".noreturn" => {}
            word => return cursor.wrong(format!("`{word}` isn't known before a function's code")),
        }
    }
}

/// Numbers with commas between, multiplied.
fn product(cursor: &mut Cursor<'_, '_>) -> Result<u32, PtxError> {
    let mut all = cursor.int()?;
    while cursor.mark(',') {
        all = all.saturating_mul(cursor.int()?);
    }
    Ok(u32::try_from(all).unwrap_or(u32::MAX))
}

/// Parameters between parentheses, if there are any.
fn parameters<'a>(cursor: &mut Cursor<'_, 'a>) -> Result<Vec<Variable<'a>>, PtxError> {
    let mut found = Vec::new();
    if !cursor.mark('(') || cursor.mark(')') {
        return Ok(found);
    }
    loop {
        match cursor.word()? {
            ".param" => found.push(cursor.parameter()?),
            word => return cursor.wrong(format!("`{word}` where `.param` was expected")),
        }
        if !cursor.mark(',') {
            cursor.expect(')')?;
            return Ok(found);
        }
    }
}
