//! Scalars and vectors: the values that operators and functions work on, lane by lane.
//!
//! A vector of bool is an `intN` of 0 and -1 in OpenCL C, as its comparisons give it, and a structure of
//! `bool` in CUDA C.

use super::Dialect;

/// What a lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Bool,
    I32,
    U32,
    F32,
}

impl Kind {
    /// The name in the dialects, which is the same in both.
    pub fn c_name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::I32 => "int",
            Kind::U32 => "uint",
            Kind::F32 => "float",
        }
    }

    /// The name in WGSL, which is part of the helpers' names.
    pub fn id(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::I32 => "i32",
            Kind::U32 => "u32",
            Kind::F32 => "f32",
        }
    }
}

/// The type of a scalar (`size` 1) or of a vector (`size` 2 to 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lanes {
    pub kind: Kind,
    pub size: usize,
}

impl Lanes {
    pub const BOOL: Lanes = Lanes::scalar(Kind::Bool);
    pub const I32: Lanes = Lanes::scalar(Kind::I32);
    pub const U32: Lanes = Lanes::scalar(Kind::U32);
    pub const F32: Lanes = Lanes::scalar(Kind::F32);

    pub const fn scalar(kind: Kind) -> Self {
        Lanes { kind, size: 1 }
    }

    pub fn with_kind(self, kind: Kind) -> Self {
        Lanes { kind, ..self }
    }

    pub fn with_size(self, size: usize) -> Self {
        Lanes { size, ..self }
    }

    pub fn is_scalar(self) -> bool {
        self.size == 1
    }

    /// `f32x4`.
    pub fn id(self) -> String {
        if self.is_scalar() { self.kind.id().into() } else { format!("{}x{}", self.kind.id(), self.size) }
    }

    /// The type's name. CUDA's own vectors of three are 12 bytes wide and it has none of bool, so those are
    /// the writer's own, declared by `Helpers::use_type`.
    pub fn c_name(self, dialect: Dialect) -> String {
        if self.is_scalar() {
            return self.kind.c_name().into();
        }
        match (dialect, self.kind) {
            (Dialect::OpenClC, Kind::Bool) => format!("int{}", self.size),
            (Dialect::CudaC, kind) if kind == Kind::Bool || self.size == 3 => {
                format!("wgsl_{}{}", kind.c_name(), self.size)
            }
            (_, kind) => format!("{}{}", kind.c_name(), self.size),
        }
    }

    /// Whether a lane of a vector of this type is kept as 0 or -1.
    fn keeps_bool_as_int(self, dialect: Dialect) -> bool {
        dialect == Dialect::OpenClC && self.kind == Kind::Bool && !self.is_scalar()
    }

    /// The code that reads lane `index` of `code`, which must be a primary expression.
    pub fn lane(self, dialect: Dialect, code: &str, index: usize) -> String {
        if self.is_scalar() {
            return code.into();
        }
        let lane = format!("{code}.{}", LETTERS[index]);
        if self.keeps_bool_as_int(dialect) { format!("({lane} != 0)") } else { lane }
    }

    /// The code of a vector made of `parts`: scalars, or in OpenCL C vectors too.
    pub fn compose(self, dialect: Dialect, parts: &[(Lanes, String)]) -> String {
        let parts: Vec<String> = parts
            .iter()
            .map(|(lanes, part)| {
                if self.keeps_bool_as_int(dialect) && lanes.is_scalar() {
                    format!("-(int)({part})")
                } else {
                    part.clone()
                }
            })
            .collect();
        let (name, parts) = (self.c_name(dialect), parts.join(", "));
        match dialect {
            Dialect::OpenClC => format!("({name})({parts})"),
            Dialect::CudaC => format!("{name}{{{parts}}}"),
        }
    }
}

/// The lanes' names.
pub(super) const LETTERS: [&str; 4] = ["x", "y", "z", "w"];
