//! The text of a module: statements, declarations and labels.

use super::decode::decode;
use super::{Global, Kernel, Module, Op, Param, PtxError, Reg, Space, Special, Start};
use std::collections::HashMap;

/// Reads a module.
///
/// # Errors
///
/// Names the first line that isn't understood.
pub fn load(text: &str) -> Result<Module, PtxError> {
    let mut reader = Reader::default();
    for (line, statement) in statements(text) {
        reader.take(line, statement.trim()).map_err(|message| PtxError { line, message })?;
    }
    if reader.names.in_body {
        return Err(PtxError { line: text.lines().count(), message: "the last kernel has no end".into() });
    }
    Ok(reader.module)
}

/// Statements with the lines that they start on. Braces that enclose statements stand alone.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let (mut now, mut start) = (String::new(), 0);
    let mut comment = false;
    for (n, mut raw) in text.lines().enumerate() {
        let kept;
        if comment {
            let Some((_, rest)) = raw.split_once("*/") else { continue };
            raw = rest;
            comment = false;
        }
        raw = raw.split("//").next().unwrap_or("");
        if let Some((before, after)) = raw.split_once("/*") {
            match after.split_once("*/") {
                Some((_, rest)) => {
                    kept = format!("{before} {rest}");
                    raw = &kept;
                }
                None => {
                    comment = true;
                    raw = before;
                }
            }
        }
        let trimmed = raw.trim_start();
        let whole = [
            ".version",
            ".target",
            ".address_size",
            ".file",
            ".loc ",
            ".loc\t",
            ".section",
            ".maxnreg",
            ".req",
            ".min",
            ".pragma",
        ];
        if whole.iter().any(|w| trimmed.starts_with(w)) {
            continue;
        }
        for c in raw.chars() {
            if now.trim().is_empty() {
                now.clear();
                start = n + 1;
            }
            match c {
                ';' => out.push((start, std::mem::take(&mut now))),
                ':' if !now.contains(' ') && !now.contains('\t') && !now.contains("::") => {
                    now.push(':');
                    out.push((start, std::mem::take(&mut now)));
                }
                '{' if now.is_empty() || now.contains(".entry") => {
                    if !now.is_empty() {
                        out.push((start, std::mem::take(&mut now)));
                    }
                    out.push((n + 1, "{".into()));
                }
                '}' if now.is_empty() => out.push((n + 1, "}".into())),
                c => now.push(c),
            }
        }
        now.push(' ');
    }
    out
}

/// Names and registers of the kernel that is being read.
#[derive(Default)]
pub(super) struct Names {
    registers: HashMap<String, Reg>,
    constants: HashMap<u64, Reg>,
    specials: HashMap<Special, Reg>,
    /// Variables and parameters: their space, and the register with their address.
    variables: HashMap<String, (Space, Start)>,
    addresses: HashMap<String, Reg>,
    labels: HashMap<String, u32>,
    /// Instructions that branch, and to which label.
    pub(super) branches: Vec<(usize, String)>,
    pub(super) start: Vec<Start>,
    in_body: bool,
    shared: u32,
    local: u32,
}

impl Names {
    fn fresh(&mut self, start: Start) -> Reg {
        self.start.push(start);
        (self.start.len() - 1) as Reg
    }

    pub(super) fn constant(&mut self, value: u64) -> Reg {
        match self.constants.get(&value) {
            Some(&reg) => reg,
            None => {
                let reg = self.fresh(Start::Value(value));
                self.constants.insert(value, reg);
                reg
            }
        }
    }

    pub(super) fn register(&self, name: &str) -> Option<Reg> {
        self.registers.get(name).copied()
    }

    /// A register that nothing else uses.
    pub(super) fn scratch(&mut self) -> Reg {
        self.fresh(Start::Value(0))
    }

    pub(super) fn special(&mut self, special: Special) -> Reg {
        match self.specials.get(&special) {
            Some(&reg) => reg,
            None => {
                let reg = self.fresh(Start::Special(special));
                self.specials.insert(special, reg);
                reg
            }
        }
    }

    /// The register with the address of a variable.
    pub(super) fn variable(&mut self, name: &str) -> Option<Reg> {
        if let Some(&reg) = self.addresses.get(name) {
            return Some(reg);
        }
        let &(_, start) = self.variables.get(name)?;
        let reg = self.fresh(start);
        self.addresses.insert(name.into(), reg);
        Some(reg)
    }
}

#[derive(Default)]
struct Reader {
    module: Module,
    names: Names,
    /// Variables of the module itself, which every kernel sees.
    outer: HashMap<String, (Space, Start)>,
    outer_shared: u32,
    kernel: Kernel,
    depth: u32,
}

impl Reader {
    fn take(&mut self, line: usize, s: &str) -> Result<(), String> {
        match s {
            "" => Ok(()),
            "{" => {
                self.depth += 1;
                Ok(())
            }
            "}" => {
                self.depth = self.depth.checked_sub(1).ok_or("a brace that closes nothing")?;
                if self.depth == 0 { self.finish() } else { Ok(()) }
            }
            _ if s.contains(".entry") => self.entry(s),
            _ if s.starts_with('.') => self.declare(s),
            _ if !self.names.in_body => Err(format!("{s:?} stands outside of a kernel")),
            _ if s.ends_with(':') => {
                let at = self.kernel.code.len() as u32;
                self.names.labels.insert(s.trim_end_matches(':').into(), at);
                Ok(())
            }
            _ => decode(line, s, &mut self.names, &mut self.kernel.code),
        }
    }

    fn entry(&mut self, s: &str) -> Result<(), String> {
        let (head, tail) = s.split_once('(').unwrap_or((s, ""));
        // Without parameters, what the kernel asks for follows its name.
        let head = head.split(".maxntid").next().unwrap_or(head);
        self.names = Names {
            variables: self.outer.clone(),
            shared: self.outer_shared,
            in_body: true,
            ..Names::default()
        };
        self.kernel =
            Kernel { name: head.split_whitespace().last().unwrap_or("").into(), ..Kernel::default() };
        self.kernel.max_threads = s.split_once(".maxntid").and_then(|(_, rest)| {
            let words = rest.split('.').next()?;
            words.split(',').map(|n| n.trim().parse::<u32>().ok()).product()
        });
        let params = tail.split(')').next().unwrap_or("");
        for param in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, bytes, align) = shape(param)?;
            let offset = self.kernel.param_bytes.next_multiple_of(align);
            self.names.variables.insert(name, (Space::Param, Start::Value(offset as u64)));
            self.kernel.params.push(Param { offset, bytes });
            self.kernel.param_bytes = offset + bytes;
        }
        Ok(())
    }

    fn declare(&mut self, s: &str) -> Result<(), String> {
        if let Some(rest) = s.strip_prefix(".reg") {
            let list = rest.trim().split_once(char::is_whitespace).ok_or("registers without names")?.1;
            for name in list.split(',').map(str::trim) {
                match name.split_once('<') {
                    Some((stem, count)) => {
                        let count: u32 = count
                            .trim_end_matches('>')
                            .parse()
                            .map_err(|_| format!("{name:?} has no count"))?;
                        for i in 0..count {
                            let reg = self.names.scratch();
                            self.names.registers.insert(format!("{stem}{i}"), reg);
                        }
                    }
                    None => {
                        let reg = self.names.scratch();
                        self.names.registers.insert(name.into(), reg);
                    }
                }
            }
            return Ok(());
        }
        let words: Vec<&str> = s.split_whitespace().collect();
        let has = |w: &str| words.contains(&w);
        let (declaration, init) = s.split_once('=').unwrap_or((s, ""));
        if has(".shared") {
            let (name, bytes, align) = shape(declaration)?;
            let shared = if self.names.in_body { &mut self.names.shared } else { &mut self.outer_shared };
            let start = if bytes == 0 {
                Start::DynamicShared
            } else {
                let at = shared.next_multiple_of(align as u32);
                *shared = at + bytes as u32;
                Start::Value(at.into())
            };
            self.scope().insert(name, (Space::Shared, start));
            Ok(())
        } else if has(".local") {
            let (name, bytes, align) = shape(declaration)?;
            let at = self.names.local.next_multiple_of(align as u32);
            self.names.local = at + bytes as u32;
            self.scope().insert(name, (Space::Local, Start::Value(at.into())));
            Ok(())
        } else if has(".global") || has(".const") {
            let (name, bytes, align) = shape(declaration)?;
            let element = words.iter().find_map(|w| width(w)).unwrap_or(1);
            let mut data = Vec::new();
            for value in init.trim_matches(|c: char| "{} \t".contains(c)).split(',').map(str::trim) {
                if !value.is_empty() {
                    let value =
                        super::decode::number(value).ok_or_else(|| format!("{value:?} is no number"))?;
                    data.extend_from_slice(&value.to_le_bytes()[..element]);
                }
            }
            let n = self.module.globals.len();
            self.module.globals.push(Global {
                name: name.clone(),
                bytes: bytes as u64,
                align: align as u64,
                init: data,
            });
            self.scope().insert(name, (Space::Global, Start::Global(n)));
            Ok(())
        } else {
            Err(format!("{s:?} isn't supported"))
        }
    }

    fn scope(&mut self) -> &mut HashMap<String, (Space, Start)> {
        if self.names.in_body { &mut self.names.variables } else { &mut self.outer }
    }

    fn finish(&mut self) -> Result<(), String> {
        let mut names = std::mem::take(&mut self.names);
        let mut kernel = std::mem::take(&mut self.kernel);
        for (at, label) in &names.branches {
            let &target = names.labels.get(label).ok_or_else(|| format!("there is no label {label}"))?;
            kernel.code[*at].op = Op::Branch { target };
        }
        kernel.static_shared = names.shared;
        kernel.local_bytes = names.local.next_multiple_of(16);
        kernel.start = std::mem::take(&mut names.start);
        kernel.registers = kernel.start.len() as u32;
        self.module.kernels.push(kernel.into());
        Ok(())
    }
}

/// Bytes of a type such as `.u32`.
fn width(word: &str) -> Option<usize> {
    let bits: usize = word.trim_start_matches(['.', 'b', 'u', 's', 'f']).parse().ok()?;
    (word.len() > 2 && word.starts_with('.') && bits.is_multiple_of(8)).then_some(bits / 8)
}

/// Name, bytes and alignment of a declaration.
fn shape(s: &str) -> Result<(String, usize, usize), String> {
    let words: Vec<&str> = s.split_whitespace().collect();
    let element = words.iter().find_map(|w| width(w)).ok_or_else(|| format!("{s:?} has no type"))?;
    let align = words
        .iter()
        .position(|&w| w == ".align")
        .and_then(|i| words.get(i + 1)?.parse().ok())
        .unwrap_or(element);
    let last = words.last().ok_or("a declaration without a name")?;
    let (name, dims) = last.split_once('[').unwrap_or((last, "1]"));
    let count: usize = dims.trim_end_matches(']').split("][").map(|d| d.parse().unwrap_or(0)).product();
    Ok((name.into(), element * count, align))
}
