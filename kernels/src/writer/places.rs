//! Places in memory: what a pointer expression points to, as something that C can read and assign.

use naga::proc::TypeResolution;
use naga::{AddressSpace, Expression, Handle, Type, TypeInner};

use super::WriteError;
use super::function::{FunctionWriter, Role};
use super::lanes::{Kind, LETTERS, Lanes};
use super::module::is_pointer_in_kernel;
use super::types::{inner_lanes, is_runtime_array};

/// What a pointer points to.
#[derive(Clone, Copy)]
enum Pointee<'a> {
    Type(Handle<Type>, &'a TypeInner),
    /// A lane of a vector.
    Lane,
}

impl<'a> FunctionWriter<'_, 'a> {
    fn pointee(&self, pointer: Handle<Expression>) -> Result<(Pointee<'a>, AddressSpace), WriteError> {
        let module = self.module;
        match *self.info[pointer].ty.inner_with(&module.types) {
            TypeInner::Pointer { base, space } => Ok((Pointee::Type(base, &module.types[base].inner), space)),
            TypeInner::ValuePointer { size: None, space, .. } => Ok((Pointee::Lane, space)),
            TypeInner::ValuePointer { size: Some(_), .. } => {
                Err(self.unsupported("matrices", "pointer to a column"))
            }
            ref inner => Err(self.writer.unsupported_type(inner, &self.place)),
        }
    }

    /// The place that `pointer` points to. For a runtime-sized array it is the pointer to its first element.
    pub fn place_of(&mut self, pointer: Handle<Expression>) -> Result<String, WriteError> {
        let function = self.function;
        match function.expressions[pointer] {
            Expression::GlobalVariable(handle) => {
                let global = &self.module.global_variables[handle];
                let name = self.writer.globals[&handle].clone();
                let is_pointer = match self.role {
                    Role::Kernel { .. } => is_pointer_in_kernel(self.module, global),
                    Role::Function => !is_runtime_array(&self.module.types[global.ty].inner),
                };
                Ok(if is_pointer { format!("(*{name})") } else { name })
            }
            Expression::LocalVariable(handle) => Ok(self.local_names[&handle].clone()),
            Expression::FunctionArgument(index) => {
                let name = self.arguments[index as usize].clone();
                let runtime =
                    matches!(self.pointee(pointer)?.0, Pointee::Type(_, inner) if is_runtime_array(inner));
                Ok(if runtime { name } else { format!("(*{name})") })
            }
            Expression::AccessIndex { base, index } => {
                let place = self.place_of(base)?;
                match self.pointee(base)? {
                    (Pointee::Type(ty, TypeInner::Struct { .. }), _) => {
                        let member = self.writer.member_name(ty, index, &self.place)?;
                        Ok(format!("{place}.{member}"))
                    }
                    (Pointee::Type(_, TypeInner::Vector { .. }), _) => {
                        Ok(format!("{place}.{}", LETTERS[index as usize % 4]))
                    }
                    (pointee, space) => self.element(&place, pointee, space, &index.to_string()),
                }
            }
            Expression::Access { base, index } => {
                let place = self.place_of(base)?;
                let index = self.expression(index)?.text;
                let (pointee, space) = self.pointee(base)?;
                self.element(&place, pointee, space, &index)
            }
            ref other => Err(self.unsupported("pointers of this kind", expression_name(other))),
        }
    }

    /// The place of element `index` of what is at `place`.
    fn element(
        &mut self,
        place: &str,
        pointee: Pointee<'_>,
        space: AddressSpace,
        index: &str,
    ) -> Result<String, WriteError> {
        match pointee {
            Pointee::Type(_, inner) if is_runtime_array(inner) => Ok(format!("{place}[{index}]")),
            Pointee::Type(_, TypeInner::Array { .. }) => Ok(format!("{place}.data[{index}]")),
            Pointee::Type(_, inner @ TypeInner::Vector { .. }) => {
                let lanes = self.writer.lanes(inner, &self.place)?;
                // OpenCL C keeps lanes of bool in integers.
                let lane = match lanes.kind {
                    Kind::Bool => self.dialect.pick("int", "bool"),
                    kind => kind.c_name(),
                };
                let qualifier = self.writer.qualifier(space);
                Ok(format!("(({qualifier}{lane} *)&{place})[{index}]"))
            }
            Pointee::Type(_, inner) => Err(self.writer.unsupported_type(inner, &self.place)),
            Pointee::Lane => Err(self.unsupported("pointers of this kind", "pointer into a scalar")),
        }
    }

    /// Whether `pointer` points to a lane of a vector of bool.
    pub fn is_bool_lane(&self, pointer: Handle<Expression>) -> bool {
        let inner = self.info[pointer].ty.inner_with(&self.module.types);
        let bool_lane = |scalar: naga::Scalar| scalar.kind == naga::ScalarKind::Bool;
        matches!(*inner, TypeInner::ValuePointer { size: None, scalar, .. } if bool_lane(scalar))
    }

    /// The lanes of an atomic variable, if that is what `pointer` points to.
    pub fn atomic_lanes(&self, pointer: Handle<Expression>) -> Result<Option<Lanes>, WriteError> {
        let (pointee, _) = self.pointee(pointer)?;
        match pointee {
            Pointee::Type(_, inner @ TypeInner::Atomic(_)) => {
                let lanes = self.writer.lanes(inner, &self.place)?;
                if lanes.kind == Kind::F32 {
                    return Err(self.unsupported("float atomics", "atomic<f32>"));
                }
                Ok(Some(lanes))
            }
            _ => Ok(None),
        }
    }

    /// The address space of `pointer`.
    pub fn space_of(&self, pointer: Handle<Expression>) -> Result<AddressSpace, WriteError> {
        Ok(self.pointee(pointer)?.1)
    }

    /// The code of a pointer to pass to a function.
    pub fn pointer_value(&mut self, pointer: Handle<Expression>) -> Result<String, WriteError> {
        let place = self.place_of(pointer)?;
        let (pointee, _) = self.pointee(pointer)?;
        match pointee {
            Pointee::Type(_, inner) if is_runtime_array(inner) => Ok(place),
            Pointee::Type(..) => Ok(match place.strip_prefix("(*").and_then(|rest| rest.strip_suffix(')')) {
                Some(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => name.into(),
                _ => format!("&{place}"),
            }),
            Pointee::Lane => {
                Err(self.unsupported("pointers of this kind", "pointer to a vector's component"))
            }
        }
    }

    /// Whether `expression` is a pointer.
    pub fn is_pointer(&self, expression: Handle<Expression>) -> bool {
        self.info[expression].ty.inner_with(&self.module.types).pointer_space().is_some()
    }

    /// The lanes of an expression that is a scalar or vector.
    pub fn lanes_of(&self, expression: Handle<Expression>) -> Result<Lanes, WriteError> {
        self.writer.lanes(self.info[expression].ty.inner_with(&self.module.types), &self.place)
    }

    /// The lanes of an expression, if it is a scalar or vector that can be written.
    pub fn lanes_if_any(&self, expression: Handle<Expression>) -> Option<Lanes> {
        inner_lanes(self.info[expression].ty.inner_with(&self.module.types)).and_then(Result::ok)
    }

    /// The type in the arena that an expression has.
    pub fn type_handle(&self, expression: Handle<Expression>) -> Result<Handle<Type>, WriteError> {
        match self.info[expression].ty {
            TypeResolution::Handle(handle) => Ok(handle),
            TypeResolution::Value(ref inner) => Err(self.writer.unsupported_type(inner, &self.place)),
        }
    }
}

/// How an error calls an expression: its variant in words.
pub(super) fn expression_name(expression: &Expression) -> String {
    let debug = format!("{expression:?}");
    let variant: String = debug.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    words(&variant)
}

/// `ImageLoad` as `image load`.
pub(super) fn words(variant: &str) -> String {
    let mut text = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}
