//! Types: their names, and the declarations of those that C must be told about.
//!
//! An array is a structure with the one member `data`, so that it can be copied and returned.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use naga::proc::TypeResolution;
use naga::{AddressSpace, ArraySize, Handle, Scalar, ScalarKind, StorageAccess, Type, TypeInner};

use super::WriteError;
use super::lanes::{Kind, Lanes};
use super::layout;
use super::module::Writer;
use super::names::Names;

/// The types declared so far.
#[derive(Default)]
pub(super) struct Types {
    pub text: String,
    names: HashMap<Handle<Type>, String>,
    members: HashMap<Handle<Type>, Vec<Member>>,
    /// The names of the structures, declared or not.
    pub structs: HashMap<Handle<Type>, String>,
    /// Types in storage or uniform memory, whose layout the host shares.
    pub shared: HashSet<Handle<Type>>,
}

/// A structure's member as it is declared: one of WGSL's, or padding.
pub(super) struct Member {
    pub name: String,
    pub ty: Option<Handle<Type>>,
}

/// The lanes of a scalar or vector type, `None` for other types, and the name of a scalar that the writer
/// doesn't know as the error.
pub(super) fn inner_lanes(inner: &TypeInner) -> Option<Result<Lanes, &'static str>> {
    let (scalar, size) = match *inner {
        TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => (scalar, 1),
        TypeInner::Vector { size, scalar } => (scalar, size as usize),
        _ => return None,
    };
    Some(kind(scalar).map(|kind| Lanes { kind, size }))
}

/// What a scalar type is here, and the name of one that the writer doesn't know as the error.
pub(super) fn kind(scalar: Scalar) -> Result<Kind, &'static str> {
    match (scalar.kind, scalar.width) {
        (ScalarKind::Bool, _) => Ok(Kind::Bool),
        (ScalarKind::Sint, 4) => Ok(Kind::I32),
        (ScalarKind::Uint, 4) => Ok(Kind::U32),
        (ScalarKind::Float, 4) => Ok(Kind::F32),
        (ScalarKind::Sint, 2) => Err("i16"),
        (ScalarKind::Uint, 2) => Err("u16"),
        (ScalarKind::Float, 2) => Err("f16"),
        (ScalarKind::Sint, _) => Err("i64"),
        (ScalarKind::Uint, _) => Err("u64"),
        (ScalarKind::Float, _) => Err("f64"),
        (ScalarKind::AbstractInt | ScalarKind::AbstractFloat, _) => Err("abstract number"),
    }
}

/// Whether a value of this type is put together from others by braces.
pub(super) fn is_aggregate(inner: &TypeInner) -> bool {
    matches!(inner, TypeInner::Array { .. } | TypeInner::Struct { .. })
}

/// Whether a value of this type is an array whose length only the host knows.
pub(super) fn is_runtime_array(inner: &TypeInner) -> bool {
    matches!(inner, TypeInner::Array { size: ArraySize::Dynamic, .. })
}

impl Writer<'_> {
    /// The lanes of a scalar or vector; an error for any other type.
    pub fn lanes(&self, inner: &TypeInner, place: &str) -> Result<Lanes, WriteError> {
        match inner_lanes(inner) {
            Some(Ok(lanes)) => Ok(lanes),
            Some(Err(name)) => Err(self.unsupported("scalars of this type", name, place)),
            None => Err(self.unsupported_type(inner, place)),
        }
    }

    /// The name of `ty`, which is declared first if need be.
    pub fn type_name(&mut self, ty: Handle<Type>, place: &str) -> Result<String, WriteError> {
        if let Some(name) = self.types.names.get(&ty) {
            return Ok(name.clone());
        }
        let module = self.module;
        let inner = &module.types[ty].inner;
        let name = match *inner {
            TypeInner::Scalar(_) | TypeInner::Vector { .. } | TypeInner::Atomic(_) => {
                let lanes = self.lanes(inner, place)?;
                self.helpers.use_type(lanes)
            }
            TypeInner::Array { base, size, stride } => self.declare_array(ty, base, size, stride, place)?,
            TypeInner::Struct { .. } => self.declare_struct(ty)?,
            _ => return Err(self.unsupported_type(inner, place)),
        };
        self.types.names.insert(ty, name.clone());
        Ok(name)
    }

    fn declare_array(
        &mut self,
        ty: Handle<Type>,
        base: Handle<Type>,
        size: ArraySize,
        stride: u32,
        place: &str,
    ) -> Result<String, WriteError> {
        let count = match size {
            ArraySize::Constant(count) => count,
            ArraySize::Pending(handle) => return Err(self.unresolved(handle)),
            ArraySize::Dynamic => {
                return Err(self.unsupported("runtime-sized arrays in other types", "array", place));
            }
        };
        if self.types.shared.contains(&ty) {
            layout::element_layout(self.module, ty, base, stride)?;
        }
        let element = self.type_name(base, place)?;
        let name = self.names.internal(format!("wgsl_array_{element}_{count}"));
        let _ = writeln!(self.types.text, "typedef struct {{ {element} data[{count}]; }} {name};\n");
        Ok(name)
    }

    fn declare_struct(&mut self, ty: Handle<Type>) -> Result<String, WriteError> {
        let module = self.module;
        let TypeInner::Struct { ref members, .. } = module.types[ty].inner else { return Ok(String::new()) };
        let wgsl_name = module.types[ty].name.as_deref();
        let place = format!("type `{}`", wgsl_name.unwrap_or("struct"));
        let padding = if self.types.shared.contains(&ty) { Some(layout::padding(module, ty)?) } else { None };
        let mut names = Names::default();
        let mut declared = Vec::new();
        let mut lines = String::new();
        let pad = |bytes: u32, names: &mut Names, lines: &mut String, declared: &mut Vec<Member>| {
            if bytes > 0 {
                let name = names.unique(None, "padding");
                let _ = writeln!(lines, "    uint {name}[{}];", bytes / 4);
                declared.push(Member { name, ty: None });
            }
        };
        for (index, member) in members.iter().enumerate() {
            let before = padding.as_ref().map_or(0, |padding| padding.before[index]);
            pad(before, &mut names, &mut lines, &mut declared);
            let type_name = self.type_name(member.ty, &place)?;
            let name = names.unique(member.name.as_deref(), "member");
            let _ = writeln!(lines, "    {type_name} {name};");
            declared.push(Member { name, ty: Some(member.ty) });
        }
        pad(padding.as_ref().map_or(0, |padding| padding.end), &mut names, &mut lines, &mut declared);
        let name = self.types.structs[&ty].clone();
        let _ = writeln!(self.types.text, "typedef struct {{\n{lines}}} {name};\n");
        self.types.members.insert(ty, declared);
        Ok(name)
    }

    /// The members of a declared structure in order, with padding.
    pub fn members(&self, ty: Handle<Type>) -> &[Member] {
        self.types.members.get(&ty).map_or(&[], Vec::as_slice)
    }

    /// The name of member `index`, counted as in WGSL.
    pub fn member_name(&mut self, ty: Handle<Type>, index: u32, place: &str) -> Result<String, WriteError> {
        self.type_name(ty, place)?;
        let mut members = self.members(ty).iter().filter(|member| member.ty.is_some());
        match members.nth(index as usize) {
            Some(member) => Ok(member.name.clone()),
            None => Err(self.unsupported_type(&self.module.types[ty].inner, place)),
        }
    }

    /// The name of the type that an expression has.
    pub fn resolved_name(&mut self, ty: &TypeResolution, place: &str) -> Result<String, WriteError> {
        match *ty {
            TypeResolution::Handle(handle) => self.type_name(handle, place),
            TypeResolution::Value(ref inner) => {
                let lanes = self.lanes(inner, place)?;
                Ok(self.helpers.use_type(lanes))
            }
        }
    }

    /// `float *`, `__local uint *`: a pointer to `base`, or to the elements of a runtime-sized array.
    pub fn pointer_type(
        &mut self,
        base: Handle<Type>,
        space: AddressSpace,
        place: &str,
    ) -> Result<String, WriteError> {
        let pointee = match self.module.types[base].inner {
            TypeInner::Array { base: element, size: ArraySize::Dynamic, stride } => {
                layout::element_layout(self.module, base, element, stride)?;
                element
            }
            _ => base,
        };
        let name = self.type_name(pointee, place)?;
        Ok(format!("{}{name} *", self.qualifier(space)))
    }

    /// What stands before a type that is pointed at in `space`.
    pub fn qualifier(&self, space: AddressSpace) -> &'static str {
        match space {
            AddressSpace::WorkGroup => self.dialect.pick("__local ", ""),
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                self.dialect.pick("__global ", "")
            }
            AddressSpace::Storage { .. } => self.dialect.pick("__global const ", "const "),
            AddressSpace::Uniform => "const ",
            _ => "",
        }
    }

    /// The error for a type that has no place in these languages.
    pub fn unsupported_type(&self, inner: &TypeInner, place: &str) -> WriteError {
        let (kind, name) = match *inner {
            TypeInner::Matrix { .. } | TypeInner::CooperativeMatrix { .. } => ("matrices", "matrix"),
            TypeInner::Image { .. } => ("textures", "texture"),
            TypeInner::Sampler { .. } => ("textures", "sampler"),
            TypeInner::AccelerationStructure { .. } => ("ray queries", "acceleration structure"),
            TypeInner::RayQuery { .. } => ("ray queries", "ray query"),
            TypeInner::BindingArray { .. } => ("arrays of bindings", "binding array"),
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => ("pointers as values", "pointer"),
            TypeInner::Array { .. } => ("arrays as operands", "array"),
            TypeInner::Struct { .. } => ("structures as operands", "struct"),
            TypeInner::Scalar(_) | TypeInner::Vector { .. } | TypeInner::Atomic(_) => {
                ("scalars of this type", "scalar")
            }
        };
        self.unsupported(kind, name, place)
    }
}
