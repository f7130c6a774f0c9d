//! WGSL's functions of bits.

use naga::MathFunction;

use super::expressions::{Code, Value};
use super::function::FunctionWriter;
use super::lanes::{Kind, Lanes};

/// `a` with its bits in the opposite order, for OpenCL C 1.2, which has no function for it.
const REVERSE: &str = "\
a = ((a >> 1u) & 0x55555555u) | ((a & 0x55555555u) << 1u);
a = ((a >> 2u) & 0x33333333u) | ((a & 0x33333333u) << 2u);
a = ((a >> 4u) & 0x0f0f0f0fu) | ((a & 0x0f0f0f0fu) << 4u);
a = ((a >> 8u) & 0x00ff00ffu) | ((a & 0x00ff00ffu) << 8u);
return (a >> 16u) | (a << 16u);";

/// `n` bits from bit `o` on, both brought into range as WGSL says.
const UNSIGNED_FIELD: &str = "\
uint o = min(b, 32u);
uint n = min(c, 32u - o);
return n == 0u ? 0u : (a >> o) & (0xffffffffu >> (32u - n));";

const SIGNED_FIELD: &str = "\
uint o = min(b, 32u);
uint n = min(c, 32u - o);
return n == 0u ? 0u : (uint)((int)(a << (32u - o - n)) >> (32u - n));";

const INSERT_FIELD: &str = "\
uint o = min(c, 32u);
uint n = min(d, 32u - o);
if (n == 0u) return a;
uint mask = (0xffffffffu >> (32u - n)) << o;
return (a & ~mask) | ((b << o) & mask);";

impl FunctionWriter<'_, '_> {
    /// A function of bits, or `None` if `fun` is none.
    pub fn bit_function(&mut self, fun: MathFunction, args: &[Value]) -> Option<Code> {
        let kind = args.first()?.lanes.kind;
        let signed = kind == Kind::I32;
        let clz = self.dialect.pick("clz(", "(uint)__clz((int)");
        // With its lowest bit alone, a number has as many leading zeros as say where that bit is.
        let lowest = format!("31u - {clz}(a & (0u - a)))");
        let (name, body) = match fun {
            MathFunction::CountOneBits => {
                ("count_one_bits", format!("return {}(a);", self.dialect.pick("popcount", "(uint)__popc")))
            }
            MathFunction::CountLeadingZeros => ("count_leading_zeros", format!("return {clz}(a));")),
            MathFunction::CountTrailingZeros => {
                ("count_trailing_zeros", format!("return a == 0u ? 32u : {lowest};"))
            }
            MathFunction::FirstTrailingBit => {
                ("first_trailing_bit", format!("return a == 0u ? 0xffffffffu : {lowest};"))
            }
            MathFunction::FirstLeadingBit => ("first_leading_bit", format!("return 31u - {clz}(a));")),
            MathFunction::ReverseBits => {
                ("reverse_bits", self.dialect.pick(REVERSE, "return __brev(a);").to_string())
            }
            MathFunction::ExtractBits if signed => ("extract_signed_bits", SIGNED_FIELD.into()),
            MathFunction::ExtractBits => ("extract_bits", UNSIGNED_FIELD.into()),
            MathFunction::InsertBits => ("insert_bits", INSERT_FIELD.into()),
            _ => return None,
        };
        // The work is done on one unsigned number; a helper of its own brings lanes and signs to it.
        let bits = format!("wgsl_bits_{name}");
        self.writer.helpers.define(&bits, &vec![Lanes::U32; args.len()], Lanes::U32, &body);
        Some(self.helper(name, args, kind, &|p| {
            let args: Vec<String> = match (signed, fun) {
                (true, MathFunction::FirstLeadingBit) => vec![format!("(uint)({0} < 0 ? ~{0} : {0})", p[0])],
                (true, _) => p.iter().map(|arg| format!("(uint){arg}")).collect(),
                (false, _) => p.iter().map(|arg| arg.to_string()).collect(),
            };
            let result = format!("{bits}({})", args.join(", "));
            if signed { format!("(int){result}") } else { result }
        }))
    }
}
