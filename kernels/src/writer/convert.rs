//! Conversions from one scalar kind to another, and bit casts.

use naga::{Scalar, ScalarKind};

use super::expressions::{Code, Value};
use super::function::FunctionWriter;
use super::lanes::Kind;
use super::{Dialect, WriteError, types};

impl FunctionWriter<'_, '_> {
    /// `value` as `kind`: bits as they are, or converted to a scalar of `width` bytes.
    pub fn convert(&mut self, value: Value, kind: ScalarKind, width: Option<u8>) -> Result<Code, WriteError> {
        let to = match types::kind(Scalar { kind, width: width.unwrap_or(4) }) {
            Ok(to) => to,
            Err(name) => return Err(self.unsupported("scalars of this type", name)),
        };
        if width.is_none() {
            return Ok(self.reinterpret(value, to).code);
        }
        Ok(self.convert_to(value, to))
    }

    fn convert_to(&mut self, value: Value, to: Kind) -> Code {
        let from = value.lanes.kind;
        let scalar = value.lanes.is_scalar();
        let opencl = self.dialect == Dialect::OpenClC;
        match (from, to) {
            _ if from == to => value.code,
            (Kind::I32 | Kind::U32, Kind::I32 | Kind::U32) => self.reinterpret(value, to).code,
            (Kind::F32, Kind::I32 | Kind::U32) => {
                // The ends are the outermost floats that are integers of the kind.
                let (low, high) = match to {
                    Kind::I32 => ("-2147483648.0f", "2147483520.0f"),
                    _ => ("0.0f", "4294967040.0f"),
                };
                let (max, min) = self.dialect.pick(("fmax", "fmin"), ("fmaxf", "fminf"));
                self.helper(&format!("to_{}", to.id()), &[value], to, &|p| {
                    format!("({}){min}({max}({}, {low}), {high})", to.c_name(), p[0])
                })
            }
            (_, Kind::Bool) => {
                let zero = if from == Kind::F32 { "0.0f" } else { "0" };
                if scalar {
                    return Code::compound(format!("{} != {zero}", value.code.operand()));
                }
                self.helper("to_bool", &[value], to, &|p| format!("{} != {zero}", p[0]))
            }
            // Vectors of bool in OpenCL C have -1 for true.
            (Kind::Bool, _) if opencl && !scalar => {
                self.helper(&format!("to_{}", to.id()), &[value], to, &|p| {
                    format!("({}){}", to.c_name(), p[0])
                })
            }
            _ if scalar => Code::compound(format!("({}){}", to.c_name(), value.code.operand())),
            _ if opencl => {
                let name = value.lanes.with_kind(to).c_name(self.dialect);
                Code::primary(format!("convert_{name}({})", value.code.text))
            }
            _ => self
                .helper(&format!("to_{}", to.id()), &[value], to, &|p| format!("({}){}", to.c_name(), p[0])),
        }
    }
}
