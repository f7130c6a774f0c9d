//! What is generated for a template in CUDA C.
//!
//! Its text starts with the parameter block; `{{ entry }}` and `{{ arguments }}` are the name and the arguments
//! of the kernel, and `{{ operands }}` declares for each operand `x` a pointer to the first element of its view,
//! typed by dtype: `float`, `int`, `uint`, `ushort` for 16-bit floats, `uchar` for bytes and blocks. Strides are
//! `params.x_s0`, …, in elements. Two operands may be one view; none is `restrict`.

use super::{OperandSpec, Source, Store, unit};
use crate::program::ENTRY;
use crate::writer::kernel_name;
use halite_hal::DType;
use minijinja::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

impl Source {
    /// What stands before the template's text.
    pub(super) fn cuda_header(&self) -> String {
        let mut s = String::from(
            "// Compile with --fmad=false.\ntypedef unsigned char uchar;\ntypedef unsigned short ushort;\n\
             typedef unsigned int uint;\n",
        );
        let params = self.param_names();
        if !params.is_empty() {
            s.push_str("struct Params {\n");
            for (name, ty) in &params {
                let ty = match *ty {
                    "u32" => "uint",
                    "i32" => "int",
                    _ => "float",
                };
                let _ = writeln!(s, "    {ty} {name};");
            }
            s.push_str("};\n");
        }
        s
    }

    /// What the template says of its kernel.
    pub(super) fn cuda_values(&self, values: &mut BTreeMap<&str, Value>) {
        let params = (self.param_words() > 0).then(|| "const Params params".to_owned());
        let bindings = (1..=self.bindings()).map(|b| format!("uchar *b{b}_"));
        let arguments: Vec<String> = params.into_iter().chain(bindings).collect();
        values.insert("arguments", arguments.join(", ").into());
        values.insert("entry", kernel_name(ENTRY).into());
        let operands: Vec<String> = self.operands.iter().map(OperandSpec::pointer).collect();
        values.insert("operands", operands.join("\n    ").into());
    }
}

impl OperandSpec {
    /// The declaration of a pointer to its first element.
    fn pointer(&self) -> String {
        let (x, b) = (self.name, self.binding);
        let (ty, scale) = match self.dtype {
            DType::F32 => ("float", 1),
            DType::I32 => ("int", 1),
            DType::U32 => ("uint", 1),
            DType::F16 | DType::BF16 => ("ushort", 1),
            other => ("uchar", unit(other)),
        };
        let ty = if self.store == Store::None { format!("const {ty}") } else { ty.to_owned() };
        let offset = if scale == 1 { String::new() } else { format!(" * {scale}") };
        format!("{ty} *{x} = ({ty} *)b{b}_ + (unsigned long long)params.{x}_o{offset};")
    }
}
