//! Statements.
//!
//! An expression is evaluated once, where the source has it evaluated: it gets a variable there if it reads
//! memory, has a name, or is used more than once. What is left depends on nothing that can change, and is
//! written where it is used.

use naga::{Barrier, Block, Expression, Handle, Statement, SwitchCase, SwitchValue};

use super::WriteError;
use super::expressions::Code;
use super::function::{FunctionWriter, RESULT};
use super::places::words;
use super::types::is_aggregate;

impl FunctionWriter<'_, '_> {
    /// Writes the statements of a block, without its braces.
    pub fn block(&mut self, block: &Block) -> Result<(), WriteError> {
        block.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), WriteError> {
        match *statement {
            Statement::Emit(ref range) => {
                for handle in range.clone() {
                    if self.needs_variable(handle) {
                        let code = self.evaluate(handle)?;
                        self.bake(handle, code)?;
                    }
                }
            }
            Statement::Block(ref block) => {
                self.open("{");
                self.block(block)?;
                self.close("}");
            }
            Statement::If { condition, ref accept, ref reject } => {
                let condition = self.expression(condition)?;
                self.branch(condition, accept, reject)?;
            }
            Statement::Switch { selector, ref cases } => self.switch(selector, cases)?,
            Statement::Loop { ref body, ref continuing, break_if } => {
                self.looped(body, continuing, break_if)?;
            }
            Statement::Break => self.line("break;"),
            Statement::Continue => match self.loops.last() {
                Some(Some(label)) => {
                    let line = format!("goto {label};");
                    self.line(line);
                }
                _ => self.line("continue;"),
            },
            Statement::Return { value: None } => self.line("return;"),
            Statement::Return { value: Some(value) } => {
                let value = self.expression(value)?.text;
                match &self.function.result {
                    Some(result) if is_aggregate(&self.module.types[result.ty].inner) => {
                        self.line(format!("*{RESULT} = {value};"));
                        self.line("return;");
                    }
                    _ => self.line(format!("return {value};")),
                }
            }
            Statement::ControlBarrier(barrier) => self.barrier(barrier)?,
            Statement::MemoryBarrier(barrier) => self.fence(barrier)?,
            Statement::Store { pointer, value } => self.store(pointer, value)?,
            Statement::Atomic { pointer, fun, value, result } => self.atomic(pointer, fun, value, result)?,
            Statement::WorkGroupUniformLoad { pointer, result } => {
                self.barrier(Barrier::WORK_GROUP)?;
                let code = match self.atomic_lanes(pointer)? {
                    Some(lanes) => self.atomic_load(pointer, lanes)?,
                    None => Code::primary(self.place_of(pointer)?),
                };
                self.bake(result, code)?;
                self.barrier(Barrier::WORK_GROUP)?;
            }
            Statement::Call { function, ref arguments, result } => {
                let mut values = Vec::new();
                for argument in arguments {
                    values.push(if self.is_pointer(*argument) {
                        self.pointer_value(*argument)?
                    } else {
                        self.expression(*argument)?.text
                    });
                }
                for (handle, global) in self.used_globals(&self.module_info[function]) {
                    values.push(self.global_argument(handle, global));
                }
                let ty = self.module.functions[function].result.as_ref().map(|r| r.ty);
                if let Some(result) =
                    result.filter(|_| ty.is_some_and(|ty| is_aggregate(&self.module.types[ty].inner)))
                {
                    let name = self.declare_baked(result)?;
                    values.push(format!("&{name}"));
                    let line = format!("{}({});", self.writer.functions[&function], values.join(", "));
                    self.line(line);
                    return Ok(());
                }
                let code = format!("{}({})", self.writer.functions[&function], values.join(", "));
                match result {
                    Some(result) => self.bake(result, Code::primary(code))?,
                    None => self.line(format!("{code};")),
                }
            }
            Statement::SubgroupBallot { result, predicate } => self.ballot(result, predicate)?,
            Statement::SubgroupGather { mode, argument, result } => self.gather(mode, argument, result)?,
            Statement::SubgroupCollectiveOperation { op, collective_op, argument, result } => {
                self.collective(op, collective_op, argument, result)?;
            }
            Statement::ImageStore { .. } => return Err(self.unsupported("textures", "image store")),
            Statement::ImageAtomic { .. } => return Err(self.unsupported("textures", "image atomic")),
            Statement::CooperativeStore { .. } => {
                return Err(self.unsupported("matrices", "cooperative store"));
            }
            Statement::RayQuery { .. } | Statement::RayPipelineFunction(_) => {
                return Err(self.unsupported("ray queries", "ray query"));
            }
            Statement::Kill => return Err(self.unsupported("fragment functions", "discard")),
        }
        Ok(())
    }

    /// Whether an expression gets a variable where it is evaluated.
    fn needs_variable(&self, handle: Handle<Expression>) -> bool {
        if self.is_pointer(handle) {
            return false;
        }
        let uses = self.info[handle].ref_count;
        let named = self.function.named_expressions.contains_key(&handle);
        let limit = match self.function.expressions[handle] {
            Expression::Load { .. } => 1,
            Expression::AccessIndex { .. } | Expression::Literal(_) => usize::MAX,
            _ => 2,
        };
        named || uses >= limit
    }

    /// Declares the variable that holds an expression, unless that has been done, and returns its name.
    pub fn declare_baked(&mut self, handle: Handle<Expression>) -> Result<String, WriteError> {
        if self.hoisted.contains(&handle) {
            return Ok(self.baked[&handle].clone());
        }
        let name = self.baked_name(handle);
        let ty = self.writer.resolved_name(&self.info[handle].ty, &self.place)?;
        self.line(format!("{ty} {name};"));
        Ok(name)
    }

    fn baked_name(&mut self, handle: Handle<Expression>) -> String {
        let name = match self.function.named_expressions.get(&handle) {
            Some(name) => self.names.unique(Some(name), "value"),
            None => format!("_e{}", handle.index()),
        };
        self.baked.insert(handle, name.clone());
        name
    }

    /// Evaluates an expression into its variable.
    pub fn bake(&mut self, handle: Handle<Expression>, code: Code) -> Result<(), WriteError> {
        if self.hoisted.contains(&handle) {
            let line = format!("{} = {};", self.baked[&handle], code.text);
            self.line(line);
            return Ok(());
        }
        let ty = self.writer.resolved_name(&self.info[handle].ty, &self.place)?;
        let name = self.baked_name(handle);
        self.line(format!("{ty} {name} = {};", code.text));
        Ok(())
    }

    fn branch(&mut self, condition: Code, accept: &Block, reject: &Block) -> Result<(), WriteError> {
        if accept.is_empty() {
            self.open(format!("if (!{}) {{", condition.operand()));
            self.block(reject)?;
        } else {
            self.open(format!("if ({}) {{", condition.text));
            self.block(accept)?;
            if !reject.is_empty() {
                self.reopen("} else {");
                self.block(reject)?;
            }
        }
        self.close("}");
        Ok(())
    }

    fn switch(&mut self, selector: Handle<Expression>, cases: &[SwitchCase]) -> Result<(), WriteError> {
        let selector = self.expression(selector)?.text;
        self.open(format!("switch ({selector}) {{"));
        for case in cases {
            let label = match case.value {
                SwitchValue::I32(value) => format!("case {}:", super::literals::i32_literal(value).0),
                SwitchValue::U32(value) => format!("case {value}u:"),
                SwitchValue::Default => "default:".into(),
            };
            if case.fall_through && case.body.is_empty() {
                self.line(label);
                continue;
            }
            self.open(format!("{label} {{"));
            self.block(&case.body)?;
            if !case.fall_through && !case.body.last().is_some_and(Statement::is_terminator) {
                self.line("break;");
            }
            self.close("}");
        }
        self.close("}");
        Ok(())
    }

    /// `continue` must reach the continuing block, which C has no word for once that isn't one expression.
    /// The block follows the body, and a `continue` that would skip it jumps there.
    fn looped(
        &mut self,
        body: &Block,
        continuing: &Block,
        break_if: Option<Handle<Expression>>,
    ) -> Result<(), WriteError> {
        let has_end = !continuing.is_empty() || break_if.is_some();
        let label = if has_end && has_continue(body) {
            self.hoist(body)?;
            Some(self.names.unique(Some("next"), "next"))
        } else {
            None
        };
        self.open("for (;;) {");
        self.loops.push(label.clone());
        if label.is_some() {
            self.open("{");
        }
        self.block(body)?;
        self.loops.pop();
        if let Some(label) = label {
            self.close("}");
            self.line(format!("{label}:;"));
        }
        if !body.last().is_some_and(|s| matches!(s, Statement::Break | Statement::Return { .. }))
            || has_continue(body)
        {
            self.block(continuing)?;
            if let Some(condition) = break_if {
                let condition = self.expression(condition)?.text;
                self.open(format!("if ({condition}) {{"));
                self.line("break;");
                self.close("}");
            }
        }
        self.close("}");
        Ok(())
    }

    /// Declares ahead of a loop what its body evaluates, because the continuing block, which is in another
    /// scope of C, sees it too.
    fn hoist(&mut self, body: &Block) -> Result<(), WriteError> {
        for statement in body.iter() {
            let handles: Vec<Handle<Expression>> = match *statement {
                Statement::Emit(ref range) => {
                    range.clone().filter(|handle| self.needs_variable(*handle)).collect()
                }
                Statement::Call { result, .. } | Statement::Atomic { result, .. } => {
                    result.into_iter().collect()
                }
                Statement::WorkGroupUniformLoad { result, .. }
                | Statement::SubgroupBallot { result, .. }
                | Statement::SubgroupGather { result, .. }
                | Statement::SubgroupCollectiveOperation { result, .. } => vec![result],
                _ => Vec::new(),
            };
            for handle in handles {
                self.declare_baked(handle)?;
                self.hoisted.insert(handle);
            }
        }
        Ok(())
    }

    fn store(&mut self, pointer: Handle<Expression>, value: Handle<Expression>) -> Result<(), WriteError> {
        if self.atomic_lanes(pointer)?.is_some() {
            return self.atomic_store(pointer, value);
        }
        let place = self.place_of(pointer)?;
        let code = self.expression(value)?;
        let bool_lane = self.is_bool_lane(pointer) && self.dialect == super::Dialect::OpenClC;
        let text = if bool_lane { format!("-(int){}", code.operand()) } else { code.text };
        self.line(format!("{place} = {text};"));
        Ok(())
    }

    fn barrier(&mut self, barrier: Barrier) -> Result<(), WriteError> {
        self.check_barrier(barrier)?;
        if barrier == Barrier::SUB_GROUP {
            self.require_subgroups("SubgroupBarrier")?;
            self.line("__syncwarp();");
            return Ok(());
        }
        let opencl = format!("barrier({});", fences(barrier));
        self.line(self.dialect.pick(opencl.as_str(), "__syncthreads();"));
        Ok(())
    }

    fn fence(&mut self, barrier: Barrier) -> Result<(), WriteError> {
        self.check_barrier(barrier)?;
        if barrier == Barrier::SUB_GROUP {
            self.require_subgroups("SubgroupBarrier")?;
        }
        let opencl = format!("mem_fence({});", fences(barrier));
        self.line(self.dialect.pick(opencl.as_str(), "__threadfence();"));
        Ok(())
    }

    fn check_barrier(&self, barrier: Barrier) -> Result<(), WriteError> {
        if barrier.contains(Barrier::TEXTURE) {
            return Err(self.unsupported("textures", words("TextureBarrier")));
        }
        Ok(())
    }
}

/// What OpenCL C's barrier orders.
fn fences(barrier: Barrier) -> &'static str {
    let storage = barrier.contains(Barrier::STORAGE);
    match (barrier.contains(Barrier::WORK_GROUP), storage) {
        (true, true) => "CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE",
        (false, true) => "CLK_GLOBAL_MEM_FENCE",
        (_, false) => "CLK_LOCAL_MEM_FENCE",
    }
}

/// Whether a `continue` in the block belongs to the loop around the block.
fn has_continue(block: &Block) -> bool {
    block.iter().any(|statement| match *statement {
        Statement::Continue => true,
        Statement::Block(ref block) => has_continue(block),
        Statement::If { ref accept, ref reject, .. } => has_continue(accept) || has_continue(reject),
        Statement::Switch { ref cases, .. } => cases.iter().any(|case| has_continue(&case.body)),
        _ => false,
    })
}
