//! Operators with WGSL's meaning: what overflows wraps, and no division or shift is undefined.

use naga::{BinaryOperator, Expression, Handle, Literal, RelationalFunction, UnaryOperator};

use super::expressions::{Code, Value, call};
use super::function::FunctionWriter;
use super::lanes::{Kind, Lanes};
use super::{Dialect, WriteError};

impl FunctionWriter<'_, '_> {
    /// Calls the helper `name` that works lane by lane; `scalar` makes one lane of its result.
    pub fn helper(
        &mut self,
        name: &str,
        args: &[Value],
        kind: Kind,
        scalar: &dyn Fn(&[&str]) -> String,
    ) -> Code {
        let size = args.iter().map(|arg| arg.lanes.size).max().unwrap_or(1);
        let params: Vec<Lanes> = args.iter().map(|arg| arg.lanes).collect();
        let helpers = &mut self.writer.helpers;
        let result = Lanes { kind, size };
        let name = if size == 1 {
            helpers.lanewise(name, &params, result, scalar)
        } else {
            // A vector's helper calls the scalar's.
            let scalars: Vec<Lanes> = params.iter().map(|param| param.with_size(1)).collect();
            let one = helpers.lanewise(name, &scalars, Lanes::scalar(kind), scalar);
            helpers.lanewise(name, &params, result, &|lanes| format!("{one}({})", lanes.join(", ")))
        };
        call(&name, args)
    }

    /// Calls a function of the language, which is for all vectors in OpenCL C and for scalars in CUDA C. All
    /// arguments have the same size.
    pub fn native(&mut self, opencl: &str, cuda: &str, args: &[Value], kind: Kind) -> Code {
        let size = args.iter().map(|arg| arg.lanes.size).max().unwrap_or(1);
        let args: Vec<Value> = args.iter().map(|arg| self.splat(arg.clone(), size)).collect();
        if self.dialect == Dialect::OpenClC || size == 1 {
            return call(self.dialect.pick(opencl, cuda), &args);
        }
        let params: Vec<Lanes> = args.iter().map(|arg| arg.lanes).collect();
        let name = self.writer.helpers.lanewise(opencl, &params, Lanes { kind, size }, &|lanes| {
            format!("{cuda}({})", lanes.join(", "))
        });
        call(&name, &args)
    }

    /// Puts an infix operator between two values of the same kind; CUDA's vectors get one defined.
    fn infix(&mut self, operator: &str, left: &Value, right: &Value) -> Code {
        let size = left.lanes.size.max(right.lanes.size);
        let (left, right) = (self.splat(left.clone(), size), self.splat(right.clone(), size));
        if self.dialect == Dialect::CudaC && size > 1 {
            let signed = left.lanes.kind == Kind::I32 && matches!(operator, "+" | "-" | "*");
            self.writer.helpers.operator(operator, &[left.lanes, right.lanes], &|lanes| match signed {
                true => format!("(int)((uint){} {operator} (uint){})", lanes[0], lanes[1]),
                false => format!("{} {operator} {}", lanes[0], lanes[1]),
            });
        }
        Code::compound(format!("{} {operator} {}", left.code.operand(), right.code.operand()))
    }

    /// `value` seen as another kind of the same width.
    pub fn reinterpret(&mut self, value: Value, kind: Kind) -> Value {
        if value.lanes.kind == kind {
            return value;
        }
        let lanes = value.lanes.with_kind(kind);
        let integers = value.lanes.kind != Kind::F32 && kind != Kind::F32;
        let code = match self.dialect {
            _ if integers && lanes.is_scalar() => {
                Code::compound(format!("({}){}", kind.c_name(), value.code.operand()))
            }
            Dialect::OpenClC => call(&format!("as_{}", lanes.c_name(self.dialect)), &[value]),
            Dialect::CudaC if integers => {
                self.helper(&format!("as_{}", kind.id()), &[value], kind, &|lanes| {
                    format!("({}){}", kind.c_name(), lanes[0])
                })
            }
            Dialect::CudaC => {
                let function = format!("__{}_as_{}", value.lanes.kind.c_name(), kind.c_name());
                if lanes.is_scalar() {
                    call(&function, &[value])
                } else {
                    self.helper(&format!("as_{}", kind.id()), &[value], kind, &|lanes| {
                        format!("{function}({})", lanes[0])
                    })
                }
            }
        };
        Value { code, lanes }
    }

    /// Applies `operator` in unsigned arithmetic, which wraps, to what may be signed.
    fn wrapping(&mut self, operator: &str, left: Value, right: Value) -> Code {
        let kind = left.lanes.kind;
        if self.dialect == Dialect::CudaC && (left.lanes.size > 1 || right.lanes.size > 1) {
            return self.infix(operator, &left, &right);
        }
        let size = left.lanes.size.max(right.lanes.size);
        let (left, right) = (self.reinterpret(left, Kind::U32), self.reinterpret(right, Kind::U32));
        let code = self.infix(operator, &left, &right);
        self.reinterpret(Value { code, lanes: Lanes { kind: Kind::U32, size } }, kind).code
    }

    pub fn unary(&mut self, op: UnaryOperator, value: Value) -> Result<Code, WriteError> {
        let lanes = value.lanes;
        if self.dialect == Dialect::CudaC && !lanes.is_scalar() {
            return Ok(match (op, lanes.kind) {
                (UnaryOperator::Negate, Kind::I32) => {
                    self.helper("negate", &[value], lanes.kind, &|a| format!("(int)(0u - (uint){})", a[0]))
                }
                (UnaryOperator::Negate, _) => {
                    self.helper("negate", &[value], lanes.kind, &|a| format!("-{}", a[0]))
                }
                (UnaryOperator::LogicalNot, _) => {
                    self.helper("not", &[value], lanes.kind, &|a| format!("!{}", a[0]))
                }
                (UnaryOperator::BitwiseNot, _) => {
                    self.helper("complement", &[value], lanes.kind, &|a| format!("~{}", a[0]))
                }
            });
        }
        Ok(match (op, lanes.kind) {
            (UnaryOperator::Negate, Kind::I32) => {
                let zero = Value { code: Code::primary("0"), lanes: Lanes::I32 };
                let zero = self.splat(zero, lanes.size);
                self.wrapping("-", zero, value)
            }
            (UnaryOperator::Negate, _) => Code::compound(format!("-{}", value.code.operand())),
            (UnaryOperator::LogicalNot, _) => Code::compound(format!("!{}", value.code.operand())),
            (UnaryOperator::BitwiseNot, _) => Code::compound(format!("~{}", value.code.operand())),
        })
    }

    pub fn binary(
        &mut self,
        op: BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
    ) -> Result<Code, WriteError> {
        use BinaryOperator as Op;
        let known = self.known_integer(right);
        let (left, right) = (self.value(left)?, self.value(right)?);
        let kind = left.lanes.kind;
        Ok(match op {
            Op::Add | Op::Subtract | Op::Multiply => {
                let operator = arithmetic(op);
                if kind == Kind::I32 {
                    self.wrapping(operator, left, right)
                } else {
                    self.infix(operator, &left, &right)
                }
            }
            Op::Divide if kind == Kind::F32 => self.infix("/", &left, &right),
            Op::Modulo if kind == Kind::F32 => self.native("fmod", "fmodf", &[left, right], kind),
            Op::Divide | Op::Modulo => self.divide(op, left, right, known),
            Op::And | Op::ExclusiveOr | Op::InclusiveOr if kind == Kind::Bool => {
                let operator = match op {
                    Op::And => "&&",
                    Op::InclusiveOr => "||",
                    _ => "!=",
                };
                self.logical(op, operator, left, right)
            }
            Op::And => self.infix("&", &left, &right),
            Op::ExclusiveOr => self.infix("^", &left, &right),
            Op::InclusiveOr => self.infix("|", &left, &right),
            Op::LogicalAnd => self.logical(op, "&&", left, right),
            Op::LogicalOr => self.logical(op, "||", left, right),
            Op::ShiftLeft | Op::ShiftRight => self.shift(op, left, right, known),
            Op::Equal => self.compare("==", "equal", left, right),
            Op::NotEqual => self.compare("!=", "not_equal", left, right),
            Op::Less => self.compare("<", "less", left, right),
            Op::LessEqual => self.compare("<=", "less_equal", left, right),
            Op::Greater => self.compare(">", "greater", left, right),
            Op::GreaterEqual => self.compare(">=", "greater_equal", left, right),
        })
    }

    /// `left` and `right` of type bool. Scalars may be evaluated or not: an operand has no effect.
    fn logical(&mut self, op: BinaryOperator, operator: &str, left: Value, right: Value) -> Code {
        if left.lanes.is_scalar() {
            return Code::compound(format!("{} {operator} {}", left.code.operand(), right.code.operand()));
        }
        match self.dialect {
            // Lanes are 0 and -1, so bits will do.
            Dialect::OpenClC => {
                let operator = match op {
                    BinaryOperator::And | BinaryOperator::LogicalAnd => "&",
                    BinaryOperator::ExclusiveOr => "^",
                    _ => "|",
                };
                Code::compound(format!("{} {operator} {}", left.code.operand(), right.code.operand()))
            }
            Dialect::CudaC => {
                let name = match operator {
                    "&&" => "and",
                    "||" => "or",
                    _ => "not_equal",
                };
                self.helper(name, &[left, right], Kind::Bool, &|a| format!("{} {operator} {}", a[0], a[1]))
            }
        }
    }

    fn compare(&mut self, operator: &str, name: &str, left: Value, right: Value) -> Code {
        if self.dialect == Dialect::CudaC && !left.lanes.is_scalar() {
            return self
                .helper(name, &[left, right], Kind::Bool, &|a| format!("{} {operator} {}", a[0], a[1]));
        }
        Code::compound(format!("{} {operator} {}", left.code.operand(), right.code.operand()))
    }

    /// Integer division or remainder. `known` is the divisor, if the source says it.
    fn divide(&mut self, op: BinaryOperator, left: Value, right: Value, known: Option<i64>) -> Code {
        let kind = left.lanes.kind;
        let is_division = op == BinaryOperator::Divide;
        let operator = if is_division { "/" } else { "%" };
        if known.is_some_and(|divisor| divisor != 0 && divisor != -1) {
            return self.infix(operator, &left, &right);
        }
        let size = left.lanes.size.max(right.lanes.size);
        let (left, right) = (self.splat(left, size), self.splat(right, size));
        let name = if is_division { "div" } else { "mod" };
        self.helper(name, &[left, right], kind, &|p| {
            let (a, b) = (p[0], p[1]);
            let overflow = match kind {
                Kind::I32 => format!("{b} == 0 || ({b} == -1 && {a} == (-2147483647 - 1))"),
                _ => format!("{b} == 0u"),
            };
            match (is_division, kind) {
                (true, _) => format!("{overflow} ? {a} : {a} / {b}"),
                (false, Kind::I32) => format!("({overflow}) ? 0 : {a} % {b}"),
                (false, _) => format!("{overflow} ? 0u : {a} % {b}"),
            }
        })
    }

    /// `known` is the amount, if the source says it.
    fn shift(&mut self, op: BinaryOperator, left: Value, right: Value, known: Option<i64>) -> Code {
        let kind = left.lanes.kind;
        let size = left.lanes.size;
        let amount = if known.is_some_and(|amount| (0..32).contains(&amount)) {
            right
        } else {
            let mask = Value { code: Code::primary("31u"), lanes: Lanes::U32 };
            let lanes = right.lanes;
            Value { code: self.infix("&", &right, &mask), lanes }
        };
        let operator = if op == BinaryOperator::ShiftLeft { "<<" } else { ">>" };
        if kind == Kind::I32 && op == BinaryOperator::ShiftLeft {
            let left = self.reinterpret(left, Kind::U32);
            let code = self.infix(operator, &left, &amount);
            return self.reinterpret(Value { code, lanes: Lanes { kind: Kind::U32, size } }, kind).code;
        }
        self.infix(operator, &left, &amount)
    }

    /// An integer, or a vector with one integer in all lanes, that the source gives as a literal.
    fn known_integer(&self, handle: Handle<Expression>) -> Option<i64> {
        match self.function.expressions[handle] {
            Expression::Literal(Literal::I32(value)) => Some(value.into()),
            Expression::Literal(Literal::U32(value)) => Some(value.into()),
            Expression::Splat { value, .. } => self.known_integer(value),
            Expression::Constant(constant) => {
                match self.module.global_expressions[self.module.constants[constant].init] {
                    Expression::Literal(Literal::I32(value)) => Some(value.into()),
                    Expression::Literal(Literal::U32(value)) => Some(value.into()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub fn select(
        &mut self,
        condition: Handle<Expression>,
        accept: Handle<Expression>,
        reject: Handle<Expression>,
    ) -> Result<Code, WriteError> {
        let condition = self.value(condition)?;
        let (accept, reject) = (self.value(accept)?, self.value(reject)?);
        if condition.lanes.is_scalar() {
            let (condition, accept, reject) =
                (condition.code.operand(), accept.code.operand(), reject.code.operand());
            return Ok(Code::compound(format!("{condition} ? {accept} : {reject}")));
        }
        Ok(match self.dialect {
            Dialect::OpenClC => call("select", &[reject, accept, condition]),
            Dialect::CudaC => {
                let kind = accept.lanes.kind;
                self.helper("select", &[reject, accept, condition], kind, &|p| {
                    format!("{} ? {} : {}", p[2], p[1], p[0])
                })
            }
        })
    }

    pub fn relational(&mut self, fun: RelationalFunction, argument: Value) -> Result<Code, WriteError> {
        let (name, operator) = match fun {
            RelationalFunction::All => ("all", " && "),
            RelationalFunction::Any => ("any", " || "),
            RelationalFunction::IsNan | RelationalFunction::IsInf => {
                return Err(self.unsupported("tests for NaN and infinity", format!("{fun:?}")));
            }
        };
        let lanes = argument.lanes;
        if lanes.is_scalar() {
            return Ok(argument.code);
        }
        if self.dialect == Dialect::OpenClC {
            return Ok(Code::compound(format!("{name}({}) != 0", argument.code.text)));
        }
        let name = format!("wgsl_{name}_{}", lanes.id());
        let parts: Vec<String> = (0..lanes.size).map(|i| lanes.lane(self.dialect, "a", i)).collect();
        self.writer.helpers.define(
            &name,
            &[lanes],
            Lanes::BOOL,
            &format!("return {};", parts.join(operator)),
        );
        Ok(call(&name, &[argument]))
    }
}

fn arithmetic(op: BinaryOperator) -> &'static str {
    match op {
        BinaryOperator::Add => "+",
        BinaryOperator::Subtract => "-",
        _ => "*",
    }
}
