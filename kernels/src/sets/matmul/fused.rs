//! Products of the same rows: of a few, queries, keys and values; gate and up, with the SwiGLU of them, which tensor
//! cores do for any number of rows. Rows that tensor cores need cut into parts are cut once.

use super::kernel::{self, Family, Kernel};
use super::mma;
use super::problem::{Experts, Problem, SEVERAL};
use crate::fusion::{Context, Fusion, meet_only};
use crate::{Access, Lowering, template};
use halite_hal::{Op, OpKind, Result, TensorRef};

/// Two or three products with the same `a`; two may be followed by the SwiGLU of them.
#[derive(Debug)]
pub(crate) struct Products;

/// What was found.
struct Found {
    problems: Vec<Problem>,
    kernel: &'static Kernel,
    /// The output of the SwiGLU.
    gated: Option<TensorRef>,
}

impl Found {
    fn of(ops: &[Op], on: &Context<'_>) -> Option<Found> {
        let (first, kernel) = side(ops.first()?, on)?;
        let mut problems = vec![first];
        let (gate, gated) = (ops.get(1)?, ops.get(2).filter(|op| op.kind == OpKind::SwiGlu));
        let (second, other) = side(gate, on)?;
        if !together((&problems[0], kernel), (&second, other)) {
            return None;
        }
        problems.push(second);
        let found = |problems, gated| Some(Found { problems, kernel, gated });
        if let Some(swiglu) = gated
            && problems[0].n() == problems[1].n()
            && swiglu.inputs[0].same_view(&ops[0].outputs[0])
            && swiglu.inputs[1].same_view(&ops[1].outputs[0])
            && swiglu.outputs[0].rank() == ops[0].outputs[0].rank()
            && (kernel.family == Family::Rows || mma::gates([&problems[0], &problems[1]], &swiglu.outputs[0]))
            && Lowering::new(on.info).can_write(&swiglu.outputs[0], Access::Pairs)
            && meet_only(&ops[..3], &[(0, 2), (1, 2)])
        {
            return found(problems, Some(super::problem::batch(&swiglu.outputs[0])));
        }
        if kernel.family != Family::Rows && mma::parts(&problems[0]) == 1 {
            return None;
        }
        if let Some((third, other)) = ops.get(2).and_then(|op| side(op, on))
            && together((&problems[0], kernel), (&third, other))
            && meet_only(&ops[..3], &[])
        {
            problems.push(third);
            return found(problems, None);
        }
        if meet_only(&ops[..2], &[]) { found(problems, None) } else { None }
    }

    /// Ops that are done.
    fn len(&self) -> usize {
        self.problems.len() + usize::from(self.gated.is_some())
    }

    fn bindings(&self) -> usize {
        let shared = if matches!(self.problems[0].experts, Experts::None) { 1 } else { 2 };
        let sides = self.problems.iter().map(|p| 2 + usize::from(p.bias.is_some()));
        shared + sides.sum::<usize>() + usize::from(self.gated.is_some())
    }
}

/// A product by a kernel for few rows, or for tensor cores, which writes its result as it is.
fn side(op: &Op, on: &Context<'_>) -> Option<(Problem, &'static Kernel)> {
    let problem = Problem::new(op).filter(|p| !p.accumulate && p.sums_alike())?;
    let variant = (on.variant)(op)?;
    let joins = |k: &&Kernel| matches!(k.family, Family::Rows | Family::Mma(_)) && variant.0 == k.name;
    let kernel = kernel::all().find(joins)?;
    Lowering::new(on.info).can_write(&problem.c, Access::Pairs).then_some((problem, kernel))
}

/// Whether a kernel can do both products, and adds in the order in which each of theirs does.
fn together((p, of_p): (&Problem, &Kernel), (q, of_q): (&Problem, &Kernel)) -> bool {
    let experts = match (&p.experts, &q.experts) {
        (Experts::None, Experts::None) => true,
        (Experts::Rows(a), Experts::Rows(b)) => a.same_view(b) && p.b.shape[0] == q.b.shape[0],
        _ => false,
    };
    let alike = of_p.family == of_q.family && of_p.own == of_q.own && of_p.group[0] == of_q.group[0];
    experts && p.a.same_view(&q.a) && alike
}

impl Fusion for Products {
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize> {
        Found::of(ops, on).filter(|f| f.bindings() <= on.info.max_bindings as usize).map(|f| f.len())
    }

    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()> {
        let Some(Found { problems, kernel, gated }) = Found::of(ops, on) else {
            return Err(to.unsupported(&ops[0].desc(), "no kernel for several products"));
        };
        match (kernel.family, &gated, &problems[..]) {
            (Family::Mma(pipeline), Some(inner), [gate, up]) => {
                return mma::lower_gated(kernel, pipeline, [gate, up], inner, to);
            }
            (Family::Mma(pipeline), None, problems) => return mma::lower(kernel, pipeline, problems, to),
            _ => {}
        }
        let tile = kernel.tile();
        let launch = kernel.launch(template!("matmul_rows.wgsl"), to);
        let launch = launch.literal("products", problems.len() as u32).literal("gated", gated.is_some());
        let mut launch = problems[0].bind_shared(launch, tile).literal("accumulate", false);
        for (p, names) in problems.iter().zip(&SEVERAL) {
            launch = p.bind_side(launch, names, tile).param(names.groups, p.groups(tile));
        }
        let groups = match &gated {
            Some(y) => {
                launch = launch.output("y", y);
                problems[0].groups(tile)
            }
            None => problems.iter().map(|p| p.groups(tile)).sum(),
        };
        let loops = problems.iter().map(|p| kernel.loops(p)).sum();
        launch.loops(loops).param("groups", groups).linear(groups)
    }
}
