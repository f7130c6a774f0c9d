//! Subgroup operations, which CUDA C has as operations on a warp of 32.
//!
//! All lanes take part: a workgroup is whole warps, and the kernel reaches these operations with all of them.
//! Reductions exchange in a fixed order, so that sums of floats come out the same each time.

use naga::{CollectiveOperation, Expression, GatherMode, Handle, SubgroupOperation};

use super::expressions::{Code, Value};
use super::function::{FunctionWriter, Role};
use super::lanes::{Kind, Lanes};
use super::places::words;
use super::{Dialect, WriteError};

const MASK: &str = "0xffffffffu";

impl FunctionWriter<'_, '_> {
    /// An error unless the dialect and the workgroup allow the subgroup operation `construct`.
    pub fn require_subgroups(&self, construct: &str) -> Result<(), WriteError> {
        if self.dialect == Dialect::OpenClC {
            return Err(self.unsupported("subgroup operations", words(construct)));
        }
        match self.role {
            Role::Kernel { workgroup_size: [x, y, z] } if (x * y * z) % 32 != 0 => Err(self
                .unsupported("subgroup operations in workgroups that aren't whole warps", words(construct))),
            _ => Ok(()),
        }
    }

    /// Which lanes have a true predicate, as a vec4<u32>.
    pub fn ballot(
        &mut self,
        result: Handle<Expression>,
        predicate: Option<Handle<Expression>>,
    ) -> Result<(), WriteError> {
        self.require_subgroups("SubgroupBallot")?;
        let predicate = match predicate {
            Some(predicate) => self.expression(predicate)?.text,
            None => "true".into(),
        };
        self.bake(result, Code::primary(format!("uint4{{__ballot_sync({MASK}, {predicate}), 0u, 0u, 0u}}")))
    }

    /// A value from another lane.
    pub fn gather(
        &mut self,
        mode: GatherMode,
        argument: Handle<Expression>,
        result: Handle<Expression>,
    ) -> Result<(), WriteError> {
        let construct = format!("Subgroup{mode:?}");
        self.require_subgroups(construct.split('(').next().unwrap_or_default())?;
        let argument = self.value(argument)?;
        let (name, function, index) = match mode {
            GatherMode::BroadcastFirst => ("broadcast", "__shfl_sync", None),
            GatherMode::Broadcast(index) => ("broadcast", "__shfl_sync", Some(index)),
            GatherMode::Shuffle(index) => ("shuffle", "__shfl_sync", Some(index)),
            GatherMode::ShuffleDown(index) => ("shuffle_down", "__shfl_down_sync", Some(index)),
            GatherMode::ShuffleUp(index) => ("shuffle_up", "__shfl_up_sync", Some(index)),
            GatherMode::ShuffleXor(index) => ("shuffle_xor", "__shfl_xor_sync", Some(index)),
            GatherMode::QuadBroadcast(_) | GatherMode::QuadSwap(_) => {
                return Err(self.unsupported("operations on quads", words(&construct)));
            }
        };
        let index = match index {
            Some(index) => self.value(index)?,
            None => Value { code: Code::primary("0u"), lanes: Lanes::U32 },
        };
        let index = self.reinterpret(index, Kind::U32);
        let kind = argument.lanes.kind;
        let code = self.helper(name, &[argument, index], kind, &|p| {
            let value = if kind == Kind::Bool { format!("(int){}", p[0]) } else { p[0].into() };
            let moved = format!("{function}({MASK}, {value}, {})", p[1]);
            if kind == Kind::Bool { format!("{moved} != 0") } else { moved }
        });
        self.bake(result, code)
    }

    /// A reduction over all lanes, or a scan over those up to this one.
    pub fn collective(
        &mut self,
        op: SubgroupOperation,
        collective: CollectiveOperation,
        argument: Handle<Expression>,
        result: Handle<Expression>,
    ) -> Result<(), WriteError> {
        self.require_subgroups(&format!("Subgroup{collective:?}{op:?}"))?;
        let argument = self.value(argument)?;
        let code = match op {
            SubgroupOperation::All => {
                Code::compound(format!("__all_sync({MASK}, {}) != 0", argument.code.text))
            }
            SubgroupOperation::Any => {
                Code::compound(format!("__any_sync({MASK}, {}) != 0", argument.code.text))
            }
            _ => self.reduce(op, collective, argument),
        };
        self.bake(result, code)
    }

    fn reduce(&mut self, op: SubgroupOperation, collective: CollectiveOperation, argument: Value) -> Code {
        let kind = argument.lanes.kind;
        let c_name = kind.c_name();
        let combine = |a: &str, b: &str| match (op, kind) {
            (SubgroupOperation::Add, Kind::I32) => format!("(int)((uint){a} + (uint){b})"),
            (SubgroupOperation::Mul, Kind::I32) => format!("(int)((uint){a} * (uint){b})"),
            (SubgroupOperation::Add, _) => format!("{a} + {b}"),
            (SubgroupOperation::Mul, _) => format!("{a} * {b}"),
            (SubgroupOperation::Min, Kind::F32) => format!("fminf({a}, {b})"),
            (SubgroupOperation::Max, Kind::F32) => format!("fmaxf({a}, {b})"),
            (SubgroupOperation::Min, _) => format!("min({a}, {b})"),
            (SubgroupOperation::Max, _) => format!("max({a}, {b})"),
            (SubgroupOperation::And, _) => format!("{a} & {b}"),
            (SubgroupOperation::Or, _) => format!("{a} | {b}"),
            _ => format!("{a} ^ {b}"),
        };
        let op_name = format!("{op:?}").to_lowercase();
        let lane = "uint lane;\nasm(\"mov.u32 %0, %%laneid;\" : \"=r\"(lane));";
        let (name, body) = match collective {
            CollectiveOperation::Reduce => {
                let other = format!("__shfl_xor_sync({MASK}, a, i)");
                let body =
                    format!("for (int i = 16; i > 0; i >>= 1) a = {};\nreturn a;", combine("a", &other));
                (format!("reduce_{op_name}"), body)
            }
            _ => {
                let exclusive = collective == CollectiveOperation::ExclusiveScan;
                let mut body = format!(
                    "{lane}\nfor (uint i = 1u; i < 32u; i <<= 1) {{\n    \
                     {c_name} below = __shfl_up_sync({MASK}, a, i);\n    if (lane >= i) a = {};\n}}",
                    combine("below", "a")
                );
                if exclusive {
                    let neutral = if op == SubgroupOperation::Mul { "1" } else { "0" };
                    body += &format!(
                        "\na = __shfl_up_sync({MASK}, a, 1u);\nreturn lane == 0u ? ({c_name}){neutral} : a;"
                    );
                } else {
                    body += "\nreturn a;";
                }
                (format!("{}_{op_name}", if exclusive { "exclusive" } else { "inclusive" }), body)
            }
        };
        let one = format!("wgsl_subgroup_{name}_{}", kind.id());
        let scalar = Lanes::scalar(kind);
        self.writer.helpers.define(&one, &[scalar], scalar, &body);
        self.helper(&name, &[argument], kind, &|p| format!("{one}({})", p[0]))
    }
}
