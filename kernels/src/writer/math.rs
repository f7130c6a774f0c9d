//! WGSL's functions of numbers: those of the language where they mean the same, and helpers otherwise.
//!
//! Sums of products are written out, so that every device adds in the same order.

use naga::{Expression, Handle, MathFunction};

use super::expressions::{Code, Value, call};
use super::function::FunctionWriter;
use super::lanes::{Kind, Lanes};
use super::places::words;
use super::{Dialect, WriteError};

impl FunctionWriter<'_, '_> {
    /// Writes `fun` of `args`; `handle` is the whole expression.
    pub fn math(
        &mut self,
        fun: MathFunction,
        args: &[Value],
        handle: Handle<Expression>,
    ) -> Result<Code, WriteError> {
        if let Some((opencl, cuda)) = native_name(fun) {
            return Ok(self.native(opencl, cuda, args, Kind::F32));
        }
        let [first, ..] = args else { return Err(self.no_function(fun)) };
        let kind = first.lanes.kind;
        if kind == Kind::F32
            && let Some(code) = self.float_function(fun, args)
        {
            return Ok(code);
        }
        match fun {
            MathFunction::Abs if kind == Kind::U32 => Ok(first.code.clone()),
            MathFunction::Abs if self.dialect == Dialect::OpenClC => {
                // OpenCL C's has an unsigned result, so that none overflows.
                let lanes = first.lanes.with_kind(Kind::U32);
                Ok(self.reinterpret(Value { code: call("abs", args), lanes }, kind).code)
            }
            MathFunction::Abs => {
                Ok(self
                    .helper("abs", args, kind, &|p| format!("{0} < 0 ? (int)(0u - (uint){0}) : {0}", p[0])))
            }
            MathFunction::Sign => {
                Ok(self.helper("sign", args, kind, &|p| format!("({0} > 0) - ({0} < 0)", p[0])))
            }
            MathFunction::Min => Ok(self.native("min", "min", args, kind)),
            MathFunction::Max => Ok(self.native("max", "max", args, kind)),
            MathFunction::Clamp => {
                let [value, low, high] = args else { return Err(self.no_function(fun)) };
                let raised = self.native("max", "max", &[value.clone(), low.clone()], kind);
                let raised = Value { code: raised, lanes: value.lanes };
                Ok(self.native("min", "min", &[raised, high.clone()], kind))
            }
            MathFunction::Dot => Ok(self.dot(args)),
            _ => match self.bit_function(fun, args) {
                Some(code) => Ok(code),
                None => self.pack_function(fun, args, handle),
            },
        }
    }

    /// The error for a function that the writer doesn't know, or of such arguments.
    pub fn no_function(&self, fun: MathFunction) -> WriteError {
        let kind = match fun {
            MathFunction::Outer
            | MathFunction::Inverse
            | MathFunction::Transpose
            | MathFunction::Determinant => "matrices",
            _ => "functions of this kind",
        };
        self.unsupported(kind, words(&format!("{fun:?}")))
    }

    /// Functions of floats that are no single function of the languages.
    fn float_function(&mut self, fun: MathFunction, args: &[Value]) -> Option<Code> {
        let f32 = Kind::F32;
        let (min, max) = self.dialect.pick(("fmin", "fmax"), ("fminf", "fmaxf"));
        let floor = self.dialect.pick("floor", "floorf");
        Some(match fun {
            MathFunction::Abs => self.native("fabs", "fabsf", args, f32),
            MathFunction::Clamp => {
                self.helper("clamp", args, f32, &|p| format!("{min}({max}({}, {}), {})", p[0], p[1], p[2]))
            }
            MathFunction::Saturate => {
                self.helper("saturate", args, f32, &|p| format!("{min}({max}({}, 0.0f), 1.0f)", p[0]))
            }
            MathFunction::Radians => {
                self.helper("radians", args, f32, &|p| format!("{} * 0x1.1df46ap-6f", p[0]))
            }
            MathFunction::Degrees => {
                self.helper("degrees", args, f32, &|p| format!("{} * 0x1.ca5dc2p+5f", p[0]))
            }
            MathFunction::Fract => self.helper("fract", args, f32, &|p| format!("{0} - {floor}({0})", p[0])),
            MathFunction::Sign => self.helper("sign", args, f32, &|p| {
                format!("{0} > 0.0f ? 1.0f : {0} < 0.0f ? -1.0f : 0.0f", p[0])
            }),
            MathFunction::Mix => self
                .helper("mix", args, f32, &|p| format!("{0} * (1.0f - {2}) + {1} * {2}", p[0], p[1], p[2])),
            MathFunction::Step => {
                self.helper("step", args, f32, &|p| format!("{} <= {} ? 1.0f : 0.0f", p[0], p[1]))
            }
            MathFunction::SmoothStep => {
                let part = args.first()?.lanes.size;
                let values: Vec<Value> = args.iter().map(|arg| self.splat(arg.clone(), part)).collect();
                let position = self.helper("between", &values, f32, &|p| {
                    format!("{min}({max}(({2} - {0}) / ({1} - {0}), 0.0f), 1.0f)", p[0], p[1], p[2])
                });
                let position = Value { code: position, lanes: Lanes { kind: f32, size: part } };
                self.helper("smooth", &[position], f32, &|p| format!("{0} * {0} * (3.0f - 2.0f * {0})", p[0]))
            }
            MathFunction::QuantizeToF16 => {
                let (to, from) = (self.f32_to_f16(), self.f16_to_f32());
                self.helper("quantize", args, f32, &|p| format!("{from}({to}({}))", p[0]))
            }
            MathFunction::Dot => self.dot(args),
            MathFunction::Length => {
                let name = self.length(args.first()?.lanes);
                call(&name, args)
            }
            MathFunction::Distance => {
                let lanes = args.first()?.lanes;
                let length = self.length(lanes);
                let minus = self.minus(lanes);
                self.vector_helper("distance", args, Lanes::F32, &format!("return {length}({minus});"))
            }
            MathFunction::Normalize => {
                let lanes = args.first()?.lanes;
                let length = self.length(lanes);
                let quotient = self.each(lanes, &|a, _| format!("{a} / l"));
                let body = format!("float l = {length}(a);\nreturn {quotient};");
                self.vector_helper("normalize", args, lanes, &body)
            }
            MathFunction::Cross => {
                let lanes = args.first()?.lanes;
                let parts: Vec<(Lanes, String)> = [("y", "z"), ("z", "x"), ("x", "y")]
                    .iter()
                    .map(|(i, j)| (Lanes::F32, format!("a.{i} * b.{j} - a.{j} * b.{i}")))
                    .collect();
                let body = format!("return {};", lanes.compose(self.dialect, &parts));
                self.vector_helper("cross", args, lanes, &body)
            }
            MathFunction::FaceForward => {
                let lanes = args.first()?.lanes;
                let dot = self.dot_helper(lanes);
                let negated = self.each(lanes, &|a, _| format!("-{a}"));
                let body = format!("return {dot}(b, c) < 0.0f ? a : {negated};");
                self.vector_helper("face_forward", args, lanes, &body)
            }
            MathFunction::Reflect => {
                let lanes = args.first()?.lanes;
                let dot = self.dot_helper(lanes);
                let result = self.each(lanes, &|a, b| format!("{a} - 2.0f * d * {b}"));
                let body = format!("float d = {dot}(b, a);\nreturn {result};");
                self.vector_helper("reflect", args, lanes, &body)
            }
            MathFunction::Refract => {
                let lanes = args.first()?.lanes;
                let dot = self.dot_helper(lanes);
                let sqrt = self.dialect.pick("sqrt", "sqrtf");
                let zero = self.each(lanes, &|_, _| "0.0f".into());
                let result = self.each(lanes, &|a, b| format!("c * {a} - (c * d + {sqrt}(k)) * {b}"));
                let body = format!(
                    "float d = {dot}(b, a);\nfloat k = 1.0f - c * c * (1.0f - d * d);\n\
                     if (k < 0.0f) return {zero};\nreturn {result};"
                );
                self.vector_helper("refract", args, lanes, &body)
            }
            _ => return None,
        })
    }

    /// Calls a helper that works on whole vectors.
    fn vector_helper(&mut self, name: &str, args: &[Value], result: Lanes, body: &str) -> Code {
        let params: Vec<Lanes> = args.iter().map(|arg| arg.lanes).collect();
        let name = format!("wgsl_{name}_{}", params[0].id());
        self.writer.helpers.define(&name, &params, result, body);
        call(&name, args)
    }

    /// The code of a vector each lane of which is made from the lanes of `a` and `b`.
    fn each(&self, lanes: Lanes, lane: &dyn Fn(&str, &str) -> String) -> String {
        let dialect = self.dialect;
        let at = |name: &str, i: usize| lanes.lane(dialect, name, i);
        let parts: Vec<(Lanes, String)> =
            (0..lanes.size).map(|i| (lanes.with_size(1), lane(&at("a", i), &at("b", i)))).collect();
        if lanes.is_scalar() { parts[0].1.clone() } else { lanes.compose(dialect, &parts) }
    }

    fn minus(&self, lanes: Lanes) -> String {
        self.each(lanes, &|a, b| format!("{a} - {b}"))
    }

    fn dot(&mut self, args: &[Value]) -> Code {
        let name = self.dot_helper(args[0].lanes);
        call(&name, args)
    }

    fn dot_helper(&mut self, lanes: Lanes) -> String {
        let name = format!("wgsl_dot_{}", lanes.id());
        let sum: Vec<String> = (0..lanes.size)
            .map(|i| {
                let (a, b) = (lanes.lane(self.dialect, "a", i), lanes.lane(self.dialect, "b", i));
                if lanes.kind == Kind::I32 { format!("(uint){a} * (uint){b}") } else { format!("{a} * {b}") }
            })
            .collect();
        let sum = sum.join(" + ");
        let sum = if lanes.kind == Kind::I32 { format!("(int)({sum})") } else { sum };
        self.writer.helpers.define(&name, &[lanes, lanes], lanes.with_size(1), &format!("return {sum};"));
        name
    }

    fn length(&mut self, lanes: Lanes) -> String {
        let name = format!("wgsl_length_{}", lanes.id());
        let body = if lanes.is_scalar() {
            format!("return {}(a);", self.dialect.pick("fabs", "fabsf"))
        } else {
            let dot = self.dot_helper(lanes);
            format!("return {}({dot}(a, a));", self.dialect.pick("sqrt", "sqrtf"))
        };
        self.writer.helpers.define(&name, &[lanes], Lanes::F32, &body);
        name
    }

    /// The helper that rounds an f32 to the bits of an f16.
    pub fn f32_to_f16(&mut self) -> &'static str {
        let body = match self.dialect {
            Dialect::OpenClC => "ushort h;\nvstore_half_rte(a, 0, (half *)&h);\nreturn h;",
            Dialect::CudaC => {
                "unsigned short h;\nasm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(h) : \"f\"(a));\nreturn h;"
            }
        };
        self.writer.helpers.define("wgsl_f32_to_f16", &[Lanes::F32], Lanes::U32, body);
        "wgsl_f32_to_f16"
    }

    /// The helper that widens the bits of an f16, the lower half of a u32.
    pub fn f16_to_f32(&mut self) -> &'static str {
        let body = match self.dialect {
            Dialect::OpenClC => "ushort h = (ushort)a;\nreturn vload_half(0, (const half *)&h);",
            Dialect::CudaC => {
                "float f;\nasm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(f) : \"h\"((unsigned short)a));\nreturn f;"
            }
        };
        self.writer.helpers.define("wgsl_f16_to_f32", &[Lanes::U32], Lanes::F32, body);
        "wgsl_f16_to_f32"
    }
}

/// The functions of floats that both languages have, precise, under these names.
fn native_name(fun: MathFunction) -> Option<(&'static str, &'static str)> {
    Some(match fun {
        MathFunction::Cos => ("cos", "cosf"),
        MathFunction::Cosh => ("cosh", "coshf"),
        MathFunction::Sin => ("sin", "sinf"),
        MathFunction::Sinh => ("sinh", "sinhf"),
        MathFunction::Tan => ("tan", "tanf"),
        MathFunction::Tanh => ("tanh", "tanhf"),
        MathFunction::Acos => ("acos", "acosf"),
        MathFunction::Asin => ("asin", "asinf"),
        MathFunction::Atan => ("atan", "atanf"),
        MathFunction::Atan2 => ("atan2", "atan2f"),
        MathFunction::Asinh => ("asinh", "asinhf"),
        MathFunction::Acosh => ("acosh", "acoshf"),
        MathFunction::Atanh => ("atanh", "atanhf"),
        MathFunction::Ceil => ("ceil", "ceilf"),
        MathFunction::Floor => ("floor", "floorf"),
        MathFunction::Round => ("rint", "rintf"),
        MathFunction::Trunc => ("trunc", "truncf"),
        MathFunction::Exp => ("exp", "expf"),
        MathFunction::Exp2 => ("exp2", "exp2f"),
        MathFunction::Log => ("log", "logf"),
        MathFunction::Log2 => ("log2", "log2f"),
        MathFunction::Pow => ("pow", "powf"),
        MathFunction::Ldexp => ("ldexp", "ldexpf"),
        MathFunction::Fma => ("fma", "fmaf"),
        MathFunction::Sqrt => ("sqrt", "sqrtf"),
        MathFunction::InverseSqrt => ("rsqrt", "rsqrtf"),
        _ => return None,
    })
}
