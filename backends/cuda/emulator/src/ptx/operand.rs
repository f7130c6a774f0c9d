//! What names and numbers in operands mean: registers, addresses, places in the code.

use super::module::Source;
use super::op::{Address, Element, Instr, Space, Special, Start, Value};
use super::statement::{Operand, Variable};
use super::types::Type;
use crate::exec::file::{Pred, Reg};
use std::collections::HashMap;

/// Why an operand doesn't fit; the line is added later.
pub(super) type Result<T> = std::result::Result<T, String>;

/// What a declared name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    /// A register, and its bits.
    Register(Reg, u32),
    Predicate(u32),
    /// An offset in a space.
    Variable(Space, u64),
    Global(usize),
    DynamicShared,
}

/// `%r<10>`: registers by number.
#[derive(Debug, Clone, Copy)]
struct Numbered {
    first: u32,
    count: u32,
    bits: u32,
}

/// Names between a pair of braces.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Symbol>,
    numbered: HashMap<&'a str, Numbered>,
    /// Lists of labels.
    pub tables: HashMap<&'a str, Vec<&'a str>>,
}

/// Where a register is first and last named, and the rows that it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub first: usize,
    pub last: usize,
    pub rows: u32,
}

/// A function that a kernel calls: where it begins, and where its parameters are in local memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Callee {
    pub entry: u32,
    /// Offsets and sizes.
    pub results: Vec<(u64, u64)>,
    pub params: Vec<(u64, u64)>,
}

/// A kernel as it is read: its registers, memory and code, and the names that are known at this place.
#[derive(Debug)]
pub(super) struct Build<'m, 'a> {
    pub source: &'m Source<'m, 'a>,
    pub rows: u32,
    pub predicates: u32,
    values: HashMap<(Value, bool), Reg>,
    pub start: Vec<Start>,
    pub shared: u64,
    shared_names: HashMap<&'a str, u64>,
    pub local: u64,
    pub scopes: Vec<Scope<'a>>,
    pub code: Vec<Instr>,
    pub callees: HashMap<&'a str, Callee>,
    /// Functions whose code is still to be read.
    pub pending: Vec<&'a str>,
    /// Calls: where, from which function, and to which.
    pub calls: Vec<(usize, &'a str, &'a str)>,
    /// The function that is read.
    pub function: &'a str,
    /// The braces around this place, by number, and how many there were so far.
    pub path: Vec<usize>,
    pub braces: usize,
    /// Labels of the function, by the braces that they are in.
    pub labels: HashMap<(usize, &'a str), u32>,
    /// Branches, their labels, and the braces around them.
    pub branches: Vec<(usize, Vec<&'a str>, Vec<usize>)>,
    /// Where registers are first and last named.
    pub named: HashMap<Reg, Named>,
    /// Whether this is a kernel's own code, whose parameters come from the launch.
    pub in_kernel: bool,
}

/// The predicate that never holds, and the one that carries between additions.
const FALSE: u32 = 0;
pub(super) const CARRY: u32 = 1;

impl<'m, 'a> Build<'m, 'a> {
    pub(super) fn new(source: &'m Source<'m, 'a>) -> Self {
        Self {
            source,
            rows: 0,
            predicates: 2,
            values: HashMap::new(),
            start: Vec::new(),
            shared: 0,
            shared_names: HashMap::new(),
            local: 0,
            scopes: Vec::new(),
            code: Vec::new(),
            callees: HashMap::new(),
            pending: Vec::new(),
            calls: Vec::new(),
            function: "",
            path: Vec::new(),
            braces: 0,
            labels: HashMap::new(),
            branches: Vec::new(),
            named: HashMap::new(),
            in_kernel: true,
        }
    }

    fn scope(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("code is read within braces")
    }

    /// Declares a name in the innermost braces.
    pub(super) fn declare(&mut self, name: &'a str, symbol: Symbol) {
        self.scope().names.insert(name, symbol);
    }

    /// Declares a register, or `count` of them that are numbered from 0.
    pub(super) fn declare_registers(&mut self, name: &'a str, ty: Type, count: Option<u32>) {
        let (bits, n) = (ty.bits(), count.unwrap_or(1));
        let first = if bits == 1 {
            self.predicates += n;
            self.predicates - n
        } else {
            let rows = if bits == 64 { 2 * n } else { n };
            self.rows += rows;
            self.rows - rows
        };
        match count {
            Some(count) => {
                self.scope().numbered.insert(name, Numbered { first, count, bits });
            }
            None if bits == 1 => self.declare(name, Symbol::Predicate(first)),
            None => self.declare(name, Symbol::Register(first, bits)),
        }
    }

    /// A register of its own, without a name.
    pub(super) fn fresh(&mut self, wide: bool) -> Reg {
        self.rows += 1 + u32::from(wide);
        self.rows - 1 - u32::from(wide)
    }

    /// Makes room in a thread's local memory.
    pub(super) fn room(&mut self, v: &Variable<'_>) -> u64 {
        let at = self.local.next_multiple_of(v.align);
        self.local = at + v.bytes;
        at
    }

    /// Makes room in shared memory.
    pub(super) fn shared_room(&mut self, v: &Variable<'_>) -> u64 {
        let at = self.shared.next_multiple_of(v.align);
        self.shared = at + v.bytes;
        at
    }

    /// What a name stands for, at the instruction that is read.
    fn symbol(&mut self, name: &'a str) -> Result<Symbol> {
        let symbol = self.look_up(name)?;
        if let Symbol::Register(reg, bits) = symbol {
            let at = self.code.len();
            let rows = if bits == 64 { 2 } else { 1 };
            self.named.entry(reg).or_insert(Named { first: at, last: at, rows }).last = at;
        }
        Ok(symbol)
    }

    fn look_up(&mut self, name: &'a str) -> Result<Symbol> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (prefix, number) = name.split_at(name.len() - digits);
        for scope in self.scopes.iter().rev() {
            if let Some(&s) = scope.names.get(name) {
                return Ok(s);
            }
            if let (Some(&n), Ok(k)) = (scope.numbered.get(prefix), number.parse::<u32>())
                && k < n.count
            {
                return Ok(match n.bits {
                    1 => Symbol::Predicate(n.first + k),
                    64 => Symbol::Register(n.first + 2 * k, 64),
                    bits => Symbol::Register(n.first + k, bits),
                });
            }
        }
        if let Some(&g) = self.source.globals.get(name) {
            return Ok(Symbol::Global(g));
        }
        if let Some(v) = self.source.shared.get(name) {
            if v.unsized_array {
                return Ok(Symbol::DynamicShared);
            }
            let at = match self.shared_names.get(name) {
                Some(&at) => at,
                None => self.shared_room(v),
            };
            self.shared_names.insert(name, at);
            return Ok(Symbol::Variable(Space::Shared, at));
        }
        Err(format!("`{name}` isn't declared"))
    }

    /// The register that holds a value from the start.
    pub(super) fn value(&mut self, value: Value, wide: bool) -> Reg {
        if let Some(&reg) = self.values.get(&(value, wide)) {
            return reg;
        }
        let reg = self.fresh(wide);
        self.values.insert((value, wide), reg);
        self.start.push(Start { reg, wide, value });
        reg
    }

    pub(super) fn constant(&mut self, bits: u64, wide: bool) -> Reg {
        self.value(Value::Constant(if wide { bits } else { bits & 0xFFFF_FFFF }), wide)
    }

    /// The address of a variable, in its space.
    fn address_of(&mut self, symbol: Symbol, offset: i64, wide: bool) -> Option<Reg> {
        Some(match symbol {
            Symbol::Variable(_, at) => self.constant(at.wrapping_add_signed(offset), wide),
            Symbol::Global(n) => self.value(Value::Global(n, offset), wide),
            Symbol::DynamicShared => self.value(Value::DynamicShared(offset), wide),
            Symbol::Register(..) | Symbol::Predicate(_) => return None,
        })
    }

    /// A register or constant that is read as a type.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let wide = ty.wide();
        let (reg, bits) = self.source_any(operand, ty)?;
        if (bits == 64) != wide || (bits == 16) != (ty.bits() <= 16) && bits != 0 {
            return Err(format!("a register of {bits} bits where one of {} is read", ty.bits()));
        }
        Ok(reg)
    }

    /// A list of labels.
    pub(super) fn table(&self, name: &str) -> Option<&Vec<&'a str>> {
        self.scopes.iter().rev().find_map(|s| s.tables.get(name))
    }

    /// The same, where wider registers will do: their bits are told, 0 for a constant of as many as the type.
    pub(super) fn source_any(&mut self, operand: &Operand<'a>, ty: Type) -> Result<(Reg, u32)> {
        let wide = ty.wide();
        let constant = |b: &mut Self, bits| (b.constant(bits, wide), if wide { 64 } else { 0 });
        Ok(match *operand {
            Operand::Int(v) => match ty {
                Type::Float(_) | Type::Bf16 => return Err(format!("the integer {v} where a float is read")),
                _ => constant(self, v),
            },
            Operand::Single(v) if ty.bits() == 32 => constant(self, u64::from(v)),
            Operand::Single(v) if wide => constant(self, f64::from(f32::from_bits(v)).to_bits()),
            Operand::Double(v) if ty.bits() == 32 => constant(self, u64::from((v as f32).to_bits())),
            Operand::Double(v) if wide => constant(self, v.to_bits()),
            Operand::Name(name, offset) => {
                if let Some(special) = special(name) {
                    return Ok(constant_bits(self.value(Value::Special(special), wide), wide));
                }
                match self.symbol(name)? {
                    Symbol::Register(reg, bits) if offset == 0 => (reg, bits),
                    Symbol::Predicate(_) => {
                        return Err(format!("the predicate `{name}` where a value is read"));
                    }
                    symbol => {
                        let at = self.address_of(symbol, offset, wide);
                        let at = at.ok_or_else(|| format!("`{name}+{offset}` isn't an operand"))?;
                        constant_bits(at, wide)
                    }
                }
            }
            _ => return Err("an operand of a form that doesn't fit".into()),
        })
    }

    /// A register that is written as a type.
    pub(super) fn target(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        let (reg, bits) = self.target_any(operand)?;
        if (bits == 64) != ty.wide() || (bits <= 16) != (ty.bits() <= 16) {
            return Err(format!("a register of {bits} bits where one of {} is written", ty.bits()));
        }
        Ok(reg)
    }

    /// A register that is written, and its bits.
    pub(super) fn target_any(&mut self, operand: &Operand<'a>) -> Result<(Reg, u32)> {
        match *operand {
            Operand::Name(name, 0) => match self.symbol(name)? {
                Symbol::Register(reg, bits) => Ok((reg, bits)),
                _ => Err(format!("`{name}` can't be written")),
            },
            Operand::Sink => Ok((self.fresh(true), 64)),
            _ => Err("an operand that can't be written".into()),
        }
    }

    /// A predicate that is read: `p`, `!p`, or a constant.
    pub(super) fn pred(&mut self, operand: &Operand<'a>) -> Result<Pred> {
        match *operand {
            Operand::Name(name, 0) => Ok(Pred { index: self.pred_index(name)?, negated: false }),
            Operand::Not(name) => Ok(Pred { index: self.pred_index(name)?, negated: true }),
            Operand::Int(v) => Ok(Pred { index: FALSE, negated: v != 0 }),
            _ => Err("an operand that isn't a predicate".into()),
        }
    }

    fn pred_index(&mut self, name: &'a str) -> Result<u32> {
        match self.symbol(name)? {
            Symbol::Predicate(index) => Ok(index),
            _ => Err(format!("`{name}` isn't a predicate")),
        }
    }

    /// A predicate by name.
    pub(super) fn guard(&mut self, name: &'a str, negated: bool) -> Result<Pred> {
        Ok(Pred { index: self.pred_index(name)?, negated })
    }

    /// A predicate that is written; `None` is `_`.
    pub(super) fn pred_target(&mut self, operand: &Operand<'a>) -> Result<Option<u32>> {
        match *operand {
            Operand::Sink => Ok(None),
            Operand::Name(name, 0) => self.pred_index(name).map(Some),
            _ => Err("an operand that isn't a predicate".into()),
        }
    }

    /// `[…]` in a space.
    pub(super) fn address(&mut self, operand: &Operand<'a>, space: Space) -> Result<Address> {
        let Operand::Address(inner) = operand else { return Err("an operand that isn't an address".into()) };
        let constant =
            |b: &mut Self, at| Address { space, base: b.constant(at, true), wide: true, offset: 0 };
        match **inner {
            Operand::Int(at) => Ok(constant(self, at)),
            Operand::Name(name, offset) => Ok(match self.symbol(name)? {
                Symbol::Register(base, bits @ (32 | 64)) => {
                    // Parameters of functions are in local memory.
                    let space = if space == Space::Param && !self.in_kernel { Space::Local } else { space };
                    Address { space, base, wide: bits == 64, offset }
                }
                Symbol::Variable(own, at) => {
                    let mut found = constant(self, at.wrapping_add_signed(offset));
                    // Parameters of calls are in local memory too.
                    found.space = if space == Space::Param { own } else { space };
                    found
                }
                symbol => {
                    let base = self.address_of(symbol, 0, true);
                    let base = base.ok_or_else(|| format!("`{name}` isn't an address"))?;
                    Address { space, base, wide: true, offset }
                }
            }),
            _ => Err("an address of a form that isn't known".into()),
        }
    }

    /// What a declared variable's name stands for, in a call.
    pub(super) fn variable(&mut self, operand: &Operand<'a>) -> Result<u64> {
        match *operand {
            Operand::Name(name, 0) => match self.symbol(name)? {
                Symbol::Variable(Space::Local, at) => Ok(at),
                _ => Err(format!("`{name}` isn't a parameter of a call")),
            },
            _ => Err("an operand that isn't a parameter of a call".into()),
        }
    }

    /// The registers of a load or store, one or a vector.
    pub(super) fn elements(&mut self, operand: &Operand<'a>, ty: Type, write: bool) -> Result<Vec<Element>> {
        let one = |b: &mut Self, o: &Operand<'a>| -> Result<Element> {
            if *o == Operand::Sink {
                return Ok(None);
            }
            let (reg, bits) = if write { b.target_any(o)? } else { b.source_any(o, ty)? };
            if bits != 0 && bits < ty.bits() {
                return Err(format!("a register of {bits} bits for a value of {}", ty.bits()));
            }
            Ok(Some((reg, bits == 64)))
        };
        match operand {
            Operand::Vector(all) => all.iter().map(|o| one(self, o)).collect(),
            o => Ok(vec![one(self, o)?]),
        }
    }
}

/// A register with a value from the start, as wide as asked.
fn constant_bits(reg: Reg, wide: bool) -> (Reg, u32) {
    (reg, if wide { 64 } else { 0 })
}

/// The special register of that name.
fn special(name: &str) -> Option<Special> {
    let (register, axis) = match name.rsplit_once('.') {
        Some((register, axis)) => (register, ["x", "y", "z"].iter().position(|a| *a == axis)?),
        None => (name, 3),
    };
    Some(match (register, axis) {
        ("%tid", 0..3) => Special::Tid(axis),
        ("%ntid", 0..3) => Special::Ntid(axis),
        ("%ctaid", 0..3) => Special::Ctaid(axis),
        ("%nctaid", 0..3) => Special::Nctaid(axis),
        // Without clusters each block is one of its own.
        ("%cluster_ctaid", 0..3) => Special::Zero,
        ("%cluster_nctaid", 0..3) => Special::One,
        ("%clusterid", 0..3) => Special::Ctaid(axis),
        ("%nclusterid", 0..3) => Special::Nctaid(axis),
        ("%cluster_ctarank" | "%smid" | "%gridid", 3) => Special::Zero,
        ("%cluster_nctarank" | "%nsmid", 3) => Special::One,
        ("%laneid", 3) => Special::Lane,
        ("%warpid", 3) => Special::Warp,
        ("%nwarpid", 3) => Special::Warps,
        ("%lanemask_eq", 3) => Special::MaskEqual,
        ("%lanemask_lt", 3) => Special::MaskBelow,
        ("%lanemask_le", 3) => Special::MaskUpTo,
        ("%lanemask_gt", 3) => Special::MaskAbove,
        ("%lanemask_ge", 3) => Special::MaskFrom,
        ("%dynamic_smem_size", 3) => Special::DynamicShared,
        ("%total_smem_size", 3) => Special::TotalShared,
        _ => return None,
    })
}
