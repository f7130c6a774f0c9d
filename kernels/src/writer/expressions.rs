//! Expressions: literals, constants, and the ways to put values together and take them apart.

use naga::{Arena, Constant, Expression, Handle, Literal, SwizzleComponent, Type, TypeInner};

use super::function::FunctionWriter;
use super::lanes::{Kind, LETTERS, Lanes};
use super::literals::{f32_literal, i32_literal};
use super::module::Writer;
use super::places::expression_name;
use super::types::is_aggregate;
use super::{Dialect, WriteError};

/// Code that has a value.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub text: String,
    /// Whether operators can be put around it without parentheses.
    pub primary: bool,
}

impl Code {
    pub fn primary(text: impl Into<String>) -> Self {
        Code { text: text.into(), primary: true }
    }

    pub fn compound(text: impl Into<String>) -> Self {
        Code { text: text.into(), primary: false }
    }

    /// The code as an operand.
    pub fn operand(&self) -> String {
        if self.primary { self.text.clone() } else { format!("({})", self.text) }
    }
}

/// The code of a value, and its type.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub code: Code,
    pub lanes: Lanes,
}

impl Writer<'_> {
    fn literal(&self, literal: Literal, place: &str) -> Result<Code, WriteError> {
        let (text, primary) = match literal {
            Literal::F32(value) => f32_literal(value, self.dialect),
            Literal::U32(value) => (format!("{value}u"), true),
            Literal::I32(value) => i32_literal(value),
            Literal::Bool(value) => (value.to_string(), true),
            Literal::F16(_) => return Err(self.unsupported("scalars of this type", "f16", place)),
            Literal::F64(_) => return Err(self.unsupported("scalars of this type", "f64", place)),
            Literal::U16(_) | Literal::I16(_) => {
                return Err(self.unsupported("scalars of this type", "16-bit integer", place));
            }
            Literal::U64(_) | Literal::I64(_) => {
                return Err(self.unsupported("scalars of this type", "64-bit integer", place));
            }
            Literal::AbstractInt(_) | Literal::AbstractFloat(_) => {
                return Err(self.unsupported("scalars of this type", "abstract number", place));
            }
        };
        Ok(Code { text, primary })
    }

    /// The value of `ty` in which all is zero.
    pub fn zero(&mut self, ty: Handle<Type>, place: &str) -> Result<Code, WriteError> {
        let braces = self.zero_braces(ty, place)?;
        Ok(if is_aggregate(&self.module.types[ty].inner) {
            self.aggregate(ty, &braces, place)?
        } else {
            Code::primary(braces)
        })
    }

    /// `{...}` as a value of type `ty`.
    fn aggregate(&mut self, ty: Handle<Type>, braces: &str, place: &str) -> Result<Code, WriteError> {
        let name = self.type_name(ty, place)?;
        Ok(Code::primary(self.dialect.pick(format!("(({name}){braces})"), format!("{name}{braces}"))))
    }

    /// As [`Writer::zero`], as part of an initialiser. C sets to zero what it leaves out.
    fn zero_braces(&mut self, ty: Handle<Type>, place: &str) -> Result<String, WriteError> {
        let module = self.module;
        self.type_name(ty, place)?;
        match module.types[ty].inner {
            TypeInner::Array { base, .. } => Ok(format!("{{{{{}}}}}", self.zero_braces(base, place)?)),
            TypeInner::Struct { .. } => {
                let types: Vec<_> = self.members(ty).iter().map(|member| member.ty).collect();
                let mut values = Vec::new();
                for ty in types {
                    values.push(match ty {
                        Some(ty) => self.zero_braces(ty, place)?,
                        None => "{0u}".into(),
                    });
                }
                Ok(format!("{{{}}}", values.join(", ")))
            }
            ref inner => {
                let lanes = self.lanes(inner, place)?;
                let zero = match lanes.kind {
                    Kind::Bool => "false",
                    Kind::I32 => "0",
                    Kind::U32 => "0u",
                    Kind::F32 => "0.0f",
                };
                Ok(if lanes.is_scalar() {
                    zero.into()
                } else {
                    let parts = vec![(lanes.with_size(1), zero.to_string()); lanes.size];
                    lanes.compose(self.dialect, &parts)
                })
            }
        }
    }

    /// The value of a constant expression of the module.
    pub fn constant_value(&mut self, handle: Handle<Expression>, place: &str) -> Result<Code, WriteError> {
        let module = self.module;
        let braces = self.constant_braces(handle, &module.global_expressions, place)?;
        Ok(match constant_type(module, handle) {
            Some(ty) if is_aggregate(&module.types[ty].inner) => self.aggregate(ty, &braces, place)?,
            _ => Code::compound(braces),
        })
    }

    /// The value of a constant expression as part of an initialiser.
    fn constant_braces(
        &mut self,
        handle: Handle<Expression>,
        expressions: &Arena<Expression>,
        place: &str,
    ) -> Result<String, WriteError> {
        let module = self.module;
        match expressions[handle] {
            Expression::Literal(literal) => Ok(self.literal(literal, place)?.text),
            Expression::ZeroValue(ty) => self.zero_braces(ty, place),
            Expression::Constant(constant) => {
                self.constant_braces(module.constants[constant].init, &module.global_expressions, place)
            }
            Expression::Override(handle) => Err(self.unresolved(handle)),
            Expression::Splat { size, value } => {
                let part = self.constant_braces(value, expressions, place)?;
                let kind = self.constant_kind(value, expressions, place)?;
                let lanes = Lanes { kind, size: size as usize };
                self.helpers.use_type(lanes);
                let parts = vec![(lanes.with_size(1), part); lanes.size];
                Ok(lanes.compose(self.dialect, &parts))
            }
            Expression::Compose { ty, ref components } => {
                self.type_name(ty, place)?;
                if matches!(module.types[ty].inner, TypeInner::Vector { .. }) {
                    return self.constant_vector(ty, components, expressions, place);
                }
                let mut values = Vec::new();
                for component in components {
                    values.push(self.constant_braces(*component, expressions, place)?);
                }
                Ok(self.braces(ty, values))
            }
            ref other => Err(self.unsupported("constants of this kind", expression_name(other), place)),
        }
    }

    fn constant_vector(
        &mut self,
        ty: Handle<Type>,
        components: &[Handle<Expression>],
        expressions: &Arena<Expression>,
        place: &str,
    ) -> Result<String, WriteError> {
        let lanes = self.lanes(&self.module.types[ty].inner, place)?;
        let types = &self.module.types;
        let mut parts = Vec::new();
        for component in naga::proc::flatten_compose(ty, components, expressions, types) {
            parts.push((lanes.with_size(1), self.constant_braces(component, expressions, place)?));
        }
        Ok(lanes.compose(self.dialect, &parts))
    }

    fn constant_kind(
        &self,
        handle: Handle<Expression>,
        expressions: &Arena<Expression>,
        place: &str,
    ) -> Result<Kind, WriteError> {
        match expressions[handle] {
            Expression::Literal(Literal::Bool(_)) => Ok(Kind::Bool),
            Expression::Literal(Literal::I32(_)) => Ok(Kind::I32),
            Expression::Literal(Literal::U32(_)) => Ok(Kind::U32),
            Expression::Literal(Literal::F32(_)) => Ok(Kind::F32),
            Expression::Literal(literal) => self.literal(literal, place).map(|_| Kind::F32),
            Expression::ZeroValue(ty) => Ok(self.lanes(&self.module.types[ty].inner, place)?.kind),
            Expression::Constant(constant) => {
                let ty = self.module.constants[constant].ty;
                Ok(self.lanes(&self.module.types[ty].inner, place)?.kind)
            }
            ref other => Err(self.unsupported("constants of this kind", expression_name(other), place)),
        }
    }

    /// `{...}` with the values of an array's elements or a structure's members.
    fn braces(&self, ty: Handle<Type>, values: Vec<String>) -> String {
        if matches!(self.module.types[ty].inner, TypeInner::Array { .. }) {
            return format!("{{{{{}}}}}", values.join(", "));
        }
        let mut values = values.into_iter();
        let members = self.members(ty).iter();
        let all: Vec<String> = members
            .map(|member| if member.ty.is_some() { values.next().unwrap_or_default() } else { "{0u}".into() })
            .collect();
        format!("{{{}}}", all.join(", "))
    }

    /// The code of a module constant: its value, or the name of an array or structure in constant memory.
    fn constant(&mut self, handle: Handle<Constant>, place: &str) -> Result<Code, WriteError> {
        let module = self.module;
        let constant = &module.constants[handle];
        if self.declared_constants.contains(&handle) {
            return Ok(Code::primary(self.constants[&handle].clone()));
        }
        let value = self.constant_braces(constant.init, &module.global_expressions, place)?;
        match self.constants.get(&handle).cloned() {
            Some(name) => {
                let ty = self.type_name(constant.ty, place)?;
                let qualifier = self.dialect.pick("__constant", "static __constant__ const");
                self.constants_text += &format!("{qualifier} {ty} {name} = {value};\n");
                self.declared_constants.insert(handle);
                Ok(Code::primary(name))
            }
            _ if value.starts_with('-') => Ok(Code::compound(value)),
            _ => Ok(Code::primary(value)),
        }
    }
}

/// The type of a constant expression that is composed or zero.
fn constant_type(module: &naga::Module, handle: Handle<Expression>) -> Option<Handle<Type>> {
    match module.global_expressions[handle] {
        Expression::ZeroValue(ty) | Expression::Compose { ty, .. } => Some(ty),
        Expression::Constant(constant) => Some(module.constants[constant].ty),
        _ => None,
    }
}

impl FunctionWriter<'_, '_> {
    /// A scalar or vector.
    pub fn value(&mut self, handle: Handle<Expression>) -> Result<Value, WriteError> {
        let lanes = self.lanes_of(handle)?;
        Ok(Value { code: self.expression(handle)?, lanes })
    }

    /// The code of an expression: its variable if it has been evaluated, or else what evaluates it.
    pub fn expression(&mut self, handle: Handle<Expression>) -> Result<Code, WriteError> {
        match self.baked.get(&handle) {
            Some(name) => Ok(Code::primary(name.clone())),
            None => self.evaluate(handle),
        }
    }

    /// The code that evaluates an expression.
    pub fn evaluate(&mut self, handle: Handle<Expression>) -> Result<Code, WriteError> {
        let function = self.function;
        match function.expressions[handle] {
            Expression::Literal(literal) => self.writer.literal(literal, &self.place),
            Expression::Constant(constant) => self.writer.constant(constant, &self.place),
            Expression::Override(handle) => Err(self.writer.unresolved(handle)),
            Expression::ZeroValue(ty) => self.writer.zero(ty, &self.place),
            Expression::Compose { ty, ref components } => self.compose(ty, components),
            Expression::Splat { size, value } => {
                let value = self.value(value)?;
                Ok(self.splat(value, size as usize).code)
            }
            Expression::Swizzle { size, vector, ref pattern } => {
                let vector = self.value(vector)?;
                Ok(self.swizzle(&vector, &pattern[..size as usize]))
            }
            Expression::Access { base, index } => {
                let index = self.expression(index)?;
                self.access(base, index)
            }
            Expression::AccessIndex { base, index } => self.access_index(base, index),
            Expression::FunctionArgument(index) => Ok(Code::primary(self.arguments[index as usize].clone())),
            Expression::Load { pointer } => self.load(pointer),
            Expression::GlobalVariable(_) | Expression::LocalVariable(_) => {
                Err(self.unsupported("pointers as values", expression_name(&function.expressions[handle])))
            }
            Expression::Unary { op, expr } => {
                let value = self.value(expr)?;
                self.unary(op, value)
            }
            Expression::Binary { op, left, right } => self.binary(op, left, right),
            Expression::Select { condition, accept, reject } => self.select(condition, accept, reject),
            Expression::Relational { fun, argument } => {
                let argument = self.value(argument)?;
                self.relational(fun, argument)
            }
            Expression::Math { fun, arg, arg1, arg2, arg3 } => {
                let mut args = Vec::new();
                for arg in [Some(arg), arg1, arg2, arg3].into_iter().flatten() {
                    args.push(self.value(arg)?);
                }
                self.math(fun, &args, handle)
            }
            Expression::As { expr, kind, convert } => {
                let value = self.value(expr)?;
                self.convert(value, kind, convert)
            }
            Expression::ImageSample { .. } | Expression::ImageLoad { .. } | Expression::ImageQuery { .. } => {
                Err(self.unsupported("textures", expression_name(&function.expressions[handle])))
            }
            Expression::Derivative { .. } => Err(self.unsupported("derivatives", "derivative")),
            Expression::ArrayLength(_) => {
                Err(self.unsupported("lengths of runtime-sized arrays", "arrayLength"))
            }
            Expression::CooperativeLoad { .. } | Expression::CooperativeMultiplyAdd { .. } => {
                Err(self.unsupported("matrices", expression_name(&function.expressions[handle])))
            }
            Expression::RayQueryVertexPositions { .. }
            | Expression::RayQueryProceedResult
            | Expression::RayQueryGetIntersection { .. } => {
                Err(self.unsupported("ray queries", expression_name(&function.expressions[handle])))
            }
            // The statement that makes these has baked them, or else the module isn't valid.
            Expression::CallResult(_)
            | Expression::AtomicResult { .. }
            | Expression::WorkGroupUniformLoadResult { .. }
            | Expression::SubgroupBallotResult
            | Expression::SubgroupOperationResult { .. } => Err(self.unsupported(
                "results before their statement",
                expression_name(&function.expressions[handle]),
            )),
        }
    }

    fn load(&mut self, pointer: Handle<Expression>) -> Result<Code, WriteError> {
        if let Some(lanes) = self.atomic_lanes(pointer)? {
            return self.atomic_load(pointer, lanes);
        }
        let place = self.place_of(pointer)?;
        Ok(if self.dialect == Dialect::OpenClC && self.is_bool_lane(pointer) {
            Code::compound(format!("{place} != 0"))
        } else {
            Code::primary(place)
        })
    }

    fn compose(&mut self, ty: Handle<Type>, components: &[Handle<Expression>]) -> Result<Code, WriteError> {
        let name = self.writer.type_name(ty, &self.place)?;
        if !matches!(self.module.types[ty].inner, TypeInner::Vector { .. }) {
            let mut values = Vec::new();
            for component in components {
                values.push(self.expression(*component)?.text);
            }
            let braces = self.writer.braces(ty, values);
            return Ok(Code::primary(self.dialect.pick(format!("(({name}){braces})"), name + &braces)));
        }
        let lanes = self.writer.lanes(&self.module.types[ty].inner, &self.place)?;
        let mut parts = Vec::new();
        for component in components {
            parts.push(self.value(*component)?);
        }
        if self.dialect == Dialect::OpenClC || parts.iter().all(|part| part.lanes.is_scalar()) {
            let parts: Vec<_> = parts.into_iter().map(|part| (part.lanes, part.code.text)).collect();
            return Ok(Code::primary(lanes.compose(self.dialect, &parts)));
        }
        Ok(self.join(lanes, &parts))
    }

    /// CUDA: a vector made of scalars and vectors.
    fn join(&mut self, lanes: Lanes, parts: &[Value]) -> Code {
        let params: Vec<Lanes> = parts.iter().map(|part| part.lanes).collect();
        let sizes: Vec<String> = params.iter().map(|param| param.size.to_string()).collect();
        let mut values = Vec::new();
        for (param, name) in params.iter().zip(super::helpers::PARAMS) {
            for index in 0..param.size {
                values.push((lanes.with_size(1), param.lane(self.dialect, name, index)));
            }
        }
        let name = format!("wgsl_{}_from_{}", lanes.id(), sizes.join("_"));
        let body = format!("return {};", lanes.compose(self.dialect, &values));
        self.writer.helpers.define(&name, &params, lanes, &body);
        call(&name, parts)
    }

    /// `value` in each of `size` lanes; a vector stays as it is.
    pub fn splat(&mut self, value: Value, size: usize) -> Value {
        if !value.lanes.is_scalar() || size == 1 {
            return value;
        }
        let lanes = value.lanes.with_size(size);
        let code = match self.dialect {
            Dialect::OpenClC => {
                Code::primary(lanes.compose(self.dialect, &[(value.lanes, value.code.text.clone())]))
            }
            Dialect::CudaC => {
                let name = format!("wgsl_splat_{}", lanes.id());
                let parts = vec![(value.lanes, "a".to_string()); size];
                let body = format!("return {};", lanes.compose(self.dialect, &parts));
                self.writer.helpers.use_type(lanes);
                self.writer.helpers.define(&name, &[value.lanes], lanes, &body);
                call(&name, &[value])
            }
        };
        Value { code, lanes }
    }

    fn swizzle(&mut self, vector: &Value, pattern: &[SwizzleComponent]) -> Code {
        let letters: String = pattern.iter().map(|component| LETTERS[*component as usize]).collect();
        if self.dialect == Dialect::OpenClC {
            return Code::primary(format!("{}.{letters}", vector.code.operand()));
        }
        let lanes = vector.lanes.with_size(pattern.len());
        let parts: Vec<_> = pattern
            .iter()
            .map(|c| (lanes.with_size(1), vector.lanes.lane(self.dialect, "a", *c as usize)))
            .collect();
        let name = format!("wgsl_swizzle_{}_{letters}", vector.lanes.id());
        let body = format!("return {};", lanes.compose(self.dialect, &parts));
        self.writer.helpers.define(&name, &[vector.lanes], lanes, &body);
        call(&name, std::slice::from_ref(vector))
    }

    fn access(&mut self, base: Handle<Expression>, index: Code) -> Result<Code, WriteError> {
        let base_code = self.expression(base)?;
        let Some(lanes) = self.lanes_if_any(base) else {
            let inner = self.info[base].ty.inner_with(&self.module.types);
            return match *inner {
                TypeInner::Array { .. } => {
                    Ok(Code::primary(format!("{}.data[{}]", base_code.operand(), index.text)))
                }
                ref other => Err(self.writer.unsupported_type(other, &self.place)),
            };
        };
        let name = format!("wgsl_lane_{}", lanes.id());
        let last = lanes.lane(self.dialect, "a", lanes.size - 1);
        let choice = (0..lanes.size - 1)
            .rev()
            .fold(last, |rest, i| format!("b == {i}u ? {} : {rest}", lanes.lane(self.dialect, "a", i)));
        let result = lanes.with_size(1);
        self.writer.helpers.define(&name, &[lanes, Lanes::U32], result, &format!("return {choice};"));
        Ok(Code::primary(format!("{name}({}, (uint){})", base_code.text, index.operand())))
    }

    fn access_index(&mut self, base: Handle<Expression>, index: u32) -> Result<Code, WriteError> {
        let code = self.expression(base)?.operand();
        if let Some(lanes) = self.lanes_if_any(base) {
            return Ok(Code::primary(lanes.lane(self.dialect, &code, index as usize % 4)));
        }
        let inner = self.info[base].ty.inner_with(&self.module.types);
        match *inner {
            TypeInner::Array { .. } => Ok(Code::primary(format!("{code}.data[{index}]"))),
            TypeInner::Struct { .. } => {
                let ty = self.type_handle(base)?;
                let member = self.writer.member_name(ty, index, &self.place)?;
                Ok(Code::primary(format!("{code}.{member}")))
            }
            ref other => Err(self.writer.unsupported_type(other, &self.place)),
        }
    }
}

/// A call of the function `name`.
pub(super) fn call(name: &str, args: &[Value]) -> Code {
    let args: Vec<&str> = args.iter().map(|arg| arg.code.text.as_str()).collect();
    Code::primary(format!("{name}({})", args.join(", ")))
}
