//! The types that instructions name, and an opcode taken apart.

use std::cell::RefCell;

/// A type of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Unsigned(u32),
    Signed(u32),
    Bits(u32),
    Float(u32),
    Bf16,
    /// Two floats, or integers, of 16 bits.
    F16x2,
    Bf16x2,
    U16x2,
    S16x2,
    Tf32,
    Pred,
}

impl Type {
    /// The type of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "u8" => Self::Unsigned(8),
            "u16" => Self::Unsigned(16),
            "u32" => Self::Unsigned(32),
            "u64" => Self::Unsigned(64),
            "s8" => Self::Signed(8),
            "s16" => Self::Signed(16),
            "s32" => Self::Signed(32),
            "s64" => Self::Signed(64),
            "b8" => Self::Bits(8),
            "b16" => Self::Bits(16),
            "b32" => Self::Bits(32),
            "b64" => Self::Bits(64),
            "f16" => Self::Float(16),
            "f32" => Self::Float(32),
            "f64" => Self::Float(64),
            "bf16" => Self::Bf16,
            "f16x2" => Self::F16x2,
            "bf16x2" => Self::Bf16x2,
            "u16x2" => Self::U16x2,
            "s16x2" => Self::S16x2,
            "tf32" => Self::Tf32,
            "pred" => Self::Pred,
            _ => return None,
        })
    }

    /// Bits of a value; 1 for a predicate.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Unsigned(n) | Self::Signed(n) | Self::Bits(n) | Self::Float(n) => n,
            Self::Bf16 => 16,
            Self::F16x2 | Self::Bf16x2 | Self::U16x2 | Self::S16x2 | Self::Tf32 => 32,
            Self::Pred => 1,
        }
    }

    /// Whether a register of it takes two rows.
    pub(super) fn wide(self) -> bool {
        self.bits() == 64
    }
}

/// An opcode: its name, and modifiers that are taken one by one, so that one which nobody takes is noticed.
#[derive(Debug)]
pub(super) struct Opcode<'a> {
    pub text: &'a str,
    pub name: &'a str,
    left: RefCell<Vec<&'a str>>,
}

impl<'a> Opcode<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut parts = text.split('.');
        let name = parts.next().unwrap_or_default();
        Self { text, name, left: RefCell::new(parts.collect()) }
    }

    /// Takes a modifier that may be there.
    pub(super) fn take(&self, modifier: &str) -> bool {
        let mut left = self.left.borrow_mut();
        left.iter().position(|m| *m == modifier).map(|at| left.remove(at)).is_some()
    }

    /// Takes one of several modifiers.
    pub(super) fn take_any(&self, modifiers: &[&'static str]) -> Option<&'static str> {
        modifiers.iter().copied().find(|m| self.take(m))
    }

    /// Takes the first modifier that `f` knows.
    pub(super) fn find<T>(&self, f: impl Fn(&str) -> Option<T>) -> Option<T> {
        let mut left = self.left.borrow_mut();
        let (at, found) = left.iter().enumerate().find_map(|(at, m)| f(m).map(|found| (at, found)))?;
        left.remove(at);
        Some(found)
    }

    /// Takes the next type.
    pub(super) fn ty(&self) -> Result<Type, String> {
        self.find(Type::named).ok_or_else(|| format!("`{}` has no type that is known", self.text))
    }

    /// That nothing is left.
    pub(super) fn finish(&self) -> Result<(), String> {
        match self.left.borrow().first() {
            None => Ok(()),
            Some(m) => Err(format!("`.{m}` of `{}` isn't known", self.text)),
        }
    }

    /// The message of an instruction that isn't known.
    pub(super) fn unknown(&self) -> String {
        format!("the instruction `{}` isn't known", self.text)
    }
}
