//! Atomic operations on i32 and u32 in storage and workgroup memory.

use naga::{AddressSpace, AtomicFunction, Expression, Handle, TypeInner};

use super::expressions::Code;
use super::function::FunctionWriter;
use super::lanes::{Kind, Lanes};
use super::{Dialect, WriteError};

impl FunctionWriter<'_, '_> {
    /// Reads an atomic variable.
    pub fn atomic_load(&mut self, pointer: Handle<Expression>, lanes: Lanes) -> Result<Code, WriteError> {
        let place = self.place_of(pointer)?;
        let kind = lanes.kind.c_name();
        Ok(match self.dialect {
            Dialect::OpenClC => Code::primary(format!("atomic_or(&{place}, {})", zero(lanes))),
            Dialect::CudaC => Code::compound(format!("*(volatile {kind} *)&{place}")),
        })
    }

    /// Writes an atomic variable.
    pub fn atomic_store(
        &mut self,
        pointer: Handle<Expression>,
        value: Handle<Expression>,
    ) -> Result<(), WriteError> {
        let place = self.place_of(pointer)?;
        let value = self.expression(value)?.text;
        let function = self.dialect.pick("atomic_xchg", "atomicExch");
        self.line(format!("{function}(&{place}, {value});"));
        Ok(())
    }

    /// The statement that changes an atomic variable and, if `result` is given, says what it was before.
    pub fn atomic(
        &mut self,
        pointer: Handle<Expression>,
        fun: AtomicFunction,
        value: Handle<Expression>,
        result: Option<Handle<Expression>>,
    ) -> Result<(), WriteError> {
        if self.atomic_lanes(pointer)?.is_none() {
            return Err(self.unsupported("atomics of this kind", "atomic"));
        }
        if !matches!(self.space_of(pointer)?, AddressSpace::Storage { .. } | AddressSpace::WorkGroup) {
            return Err(self.unsupported("atomics of this kind", "atomic outside of shared memory"));
        }
        let place = self.place_of(pointer)?;
        let value = self.expression(value)?.text;
        let (opencl, cuda) = match fun {
            AtomicFunction::Add => ("atomic_add", "atomicAdd"),
            AtomicFunction::Subtract => ("atomic_sub", "atomicSub"),
            AtomicFunction::And => ("atomic_and", "atomicAnd"),
            AtomicFunction::InclusiveOr => ("atomic_or", "atomicOr"),
            AtomicFunction::ExclusiveOr => ("atomic_xor", "atomicXor"),
            AtomicFunction::Min => ("atomic_min", "atomicMin"),
            AtomicFunction::Max => ("atomic_max", "atomicMax"),
            AtomicFunction::Exchange { compare: None } => ("atomic_xchg", "atomicExch"),
            AtomicFunction::Exchange { compare: Some(compare) } => {
                return self.compare_exchange(&place, compare, &value, result);
            }
        };
        let code = format!("{}(&{place}, {value})", self.dialect.pick(opencl, cuda));
        match result {
            Some(result) => self.bake(result, Code::primary(code)),
            None => {
                self.line(format!("{code};"));
                Ok(())
            }
        }
    }

    fn compare_exchange(
        &mut self,
        place: &str,
        compare: Handle<Expression>,
        value: &str,
        result: Option<Handle<Expression>>,
    ) -> Result<(), WriteError> {
        let compare = self.expression(compare)?;
        let function = self.dialect.pick("atomic_cmpxchg", "atomicCAS");
        let code = format!("{function}(&{place}, {}, {value})", compare.text);
        let Some(result) = result else {
            self.line(format!("{code};"));
            return Ok(());
        };
        let ty = self.type_handle(result)?;
        let TypeInner::Struct { .. } = self.module.types[ty].inner else {
            return Err(self.writer.unsupported_type(&self.module.types[ty].inner, &self.place));
        };
        let name = self.declare_baked(result)?;
        let old = self.writer.member_name(ty, 0, &self.place)?;
        let exchanged = self.writer.member_name(ty, 1, &self.place)?;
        self.line(format!("{name}.{old} = {code};"));
        self.line(format!("{name}.{exchanged} = {name}.{old} == {};", compare.operand()));
        Ok(())
    }
}

fn zero(lanes: Lanes) -> &'static str {
    if lanes.kind == Kind::I32 { "0" } else { "0u" }
}
