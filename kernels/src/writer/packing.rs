//! Functions that pack small numbers into a word, take them out again, and multiply them there.

use naga::{Expression, Handle, MathFunction};

use super::expressions::{Code, Value, call};
use super::function::FunctionWriter;
use super::lanes::{Kind, Lanes};
use super::{Dialect, WriteError};

/// How a word is divided.
struct Format {
    /// Bits of each of the numbers, which fill the word.
    bits: usize,
    signed: bool,
    /// The integer that stands for 1.0, if the numbers are fractions.
    one: Option<u32>,
}

impl FunctionWriter<'_, '_> {
    /// A function that packs or unpacks. This is the last family that is looked into.
    pub fn pack_function(
        &mut self,
        fun: MathFunction,
        args: &[Value],
        handle: Handle<Expression>,
    ) -> Result<Code, WriteError> {
        use MathFunction as Fun;
        let format = |bits: usize, signed: bool, one: Option<u32>| Format { bits, signed, one };
        let result = self.lanes_of(handle).map_err(|_| self.no_function(fun))?;
        let (name, body) = match fun {
            Fun::Pack2x16float => {
                let half = self.f32_to_f16();
                ("pack2x16float", format!("return {half}(a.x) | ({half}(a.y) << 16u);"))
            }
            Fun::Unpack2x16float => {
                let float = self.f16_to_f32();
                let parts = [
                    (Lanes::F32, format!("{float}(a & 0xffffu)")),
                    (Lanes::F32, format!("{float}(a >> 16u)")),
                ];
                ("unpack2x16float", format!("return {};", result.compose(self.dialect, &parts)))
            }
            Fun::Pack4x8snorm => ("pack4x8snorm", self.pack_fractions(&format(8, true, Some(127)))),
            Fun::Pack4x8unorm => ("pack4x8unorm", self.pack_fractions(&format(8, false, Some(255)))),
            Fun::Pack2x16snorm => ("pack2x16snorm", self.pack_fractions(&format(16, true, Some(32767)))),
            Fun::Pack2x16unorm => ("pack2x16unorm", self.pack_fractions(&format(16, false, Some(65535)))),
            Fun::Pack4xI8 => ("pack4xI8", pack_integers("(uint)", "", 4)),
            Fun::Pack4xU8 => ("pack4xU8", pack_integers("", "", 4)),
            Fun::Pack4xI8Clamp => ("pack4xI8Clamp", pack_integers("(uint)max(min(", ", 127), -128)", 4)),
            Fun::Pack4xU8Clamp => ("pack4xU8Clamp", pack_integers("min(", ", 255u)", 4)),
            Fun::Unpack4x8snorm => ("unpack4x8snorm", self.unpack(&format(8, true, Some(127)), result)),
            Fun::Unpack4x8unorm => ("unpack4x8unorm", self.unpack(&format(8, false, Some(255)), result)),
            Fun::Unpack2x16snorm => ("unpack2x16snorm", self.unpack(&format(16, true, Some(32767)), result)),
            Fun::Unpack2x16unorm => ("unpack2x16unorm", self.unpack(&format(16, false, Some(65535)), result)),
            Fun::Unpack4xI8 => ("unpack4xI8", self.unpack(&format(8, true, None), result)),
            Fun::Unpack4xU8 => ("unpack4xU8", self.unpack(&format(8, false, None), result)),
            Fun::Dot4I8Packed => ("dot4I8Packed", self.packed_dot(&format(8, true, None))),
            Fun::Dot4U8Packed => ("dot4U8Packed", self.packed_dot(&format(8, false, None))),
            _ => return Err(self.no_function(fun)),
        };
        let name = format!("wgsl_{name}");
        let params: Vec<Lanes> = args.iter().map(|arg| arg.lanes).collect();
        self.writer.helpers.define(&name, &params, result, &body);
        Ok(call(&name, args))
    }

    fn pack_fractions(&self, format: &Format) -> String {
        let Format { bits, signed, one } = *format;
        let one = one.unwrap_or(1);
        let (min, max, floor) = self.dialect.pick(("fmin", "fmax", "floor"), ("fminf", "fmaxf", "floorf"));
        let low = if signed { "-1.0f" } else { "0.0f" };
        let mask = 0xffff_ffffu32 >> (32 - bits);
        let parts: Vec<String> = (0..32 / bits)
            .map(|i| {
                let lane = Lanes::F32.with_size(32 / bits).lane(self.dialect, "a", i);
                let rounded = format!("{floor}(0.5f + {one}.0f * {min}(1.0f, {max}({low}, {lane})))");
                format!("(((uint)(int){rounded} & {mask:#x}u) << {}u)", i * bits)
            })
            .collect();
        format!("return {};", parts.join("\n    | "))
    }

    /// The code of number `index` in the word `word`.
    fn number(format: &Format, word: &str, index: usize) -> String {
        let Format { bits, signed, .. } = *format;
        let (left, right) = (32 - bits * (index + 1), 32 - bits);
        if signed {
            format!("((int)({word} << {left}u) >> {right})")
        } else {
            format!("(({word} << {left}u) >> {right}u)")
        }
    }

    fn unpack(&self, format: &Format, result: Lanes) -> String {
        let max = self.dialect.pick("fmax", "fmaxf");
        let parts: Vec<(Lanes, String)> = (0..result.size)
            .map(|i| {
                let number = Self::number(format, "a", i);
                let code = match (format.one, format.signed) {
                    (Some(one), true) => format!("{max}((float){number} / {one}.0f, -1.0f)"),
                    (Some(one), false) => format!("(float){number} / {one}.0f"),
                    (None, _) => number,
                };
                (result.with_size(1), code)
            })
            .collect();
        format!("return {};", result.compose(self.dialect, &parts))
    }

    fn packed_dot(&self, format: &Format) -> String {
        if self.dialect == Dialect::CudaC {
            let kind = if format.signed { Kind::I32 } else { Kind::U32 }.c_name();
            return format!("return __dp4a(({kind})a, ({kind})b, ({kind})0);");
        }
        let products: Vec<String> = (0..4)
            .map(|i| format!("{} * {}", Self::number(format, "a", i), Self::number(format, "b", i)))
            .collect();
        format!("return {};", products.join("\n    + "))
    }
}

/// Packs integers of a vector, each put between `before` and `after` to bring it into range.
fn pack_integers(before: &str, after: &str, count: usize) -> String {
    let parts: Vec<String> = ["a.x", "a.y", "a.z", "a.w"][..count]
        .iter()
        .enumerate()
        .map(|(i, lane)| format!("(({before}{lane}{after} & 0xffu) << {}u)", 8 * i))
        .collect();
    format!("return {};", parts.join(" | "))
}
