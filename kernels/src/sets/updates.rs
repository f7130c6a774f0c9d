//! The optimiser's step of several tensors in one launch, for CUDA's devices: a model has hundreds, most of them
//! small, and kernels of theirs would take longer to start than to run.

use super::elementwise::step;
use crate::fusion::{Context, Fusion, meet_only};
use crate::source::cuda_template;
use crate::{Access, Lowering};
use halite_hal::{AdamW, DType, Op, OpKind, Result, TensorRef};

/// Two or more AdamW steps that differ in nothing but their tensors and the weight decay.
#[derive(Debug)]
pub(crate) struct Updates;

/// What the kernel calls a tensor's operands and parameters.
struct Names {
    grad: &'static str,
    param: &'static str,
    m: &'static str,
    v: &'static str,
    n: &'static str,
    end: &'static str,
    decay: &'static str,
}

macro_rules! names {
    ($($i:literal)*) => {
        [$(Names {
            grad: concat!("grad", $i),
            param: concat!("param", $i),
            m: concat!("m", $i),
            v: concat!("v", $i),
            n: concat!("n", $i),
            end: concat!("end", $i),
            decay: concat!("decay", $i),
        }),*]
    };
}

/// Tensors of a launch: their pointers and strides take less than a quarter of the 4 KiB of a kernel's arguments.
const NAMES: [Names; 16] = names!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// Invocations of a workgroup, and elements of each.
const GROUP: u32 = 256;
const PER: u32 = 8;

/// The attributes of an op whose tensors are plain rows of elements.
fn plain(op: &Op, on: &Context<'_>) -> Option<AdamW> {
    let OpKind::AdamW(kind) = op.kind else { return None };
    let tensors = || op.inputs[..1].iter().chain(&op.outputs);
    let fits = tensors().all(|t| {
        t.is_contiguous() && t.dtype.is_float() && u32::try_from(t.elems()).is_ok_and(|n| n < 1 << 31)
    });
    (fits && op.inputs[1..].iter().all(|t| t.dtype == DType::F32) && (on.variant)(op).is_some())
        .then_some(kind)
}

/// Whether two ops can be of one launch.
fn alike((a, p): (&Op, AdamW), (b, q): (&Op, AdamW)) -> bool {
    let same = (p.beta1, p.beta2, p.eps) == (q.beta1, q.beta2, q.eps);
    let tensors = |op: &Op| op.inputs[..1].iter().chain(&op.outputs).map(|t| t.dtype).collect::<Vec<_>>();
    same && tensors(a) == tensors(b) && a.inputs[1..].iter().zip(&b.inputs[1..]).all(|(x, y)| x.same_view(y))
}

impl Fusion for Updates {
    fn matches(&self, ops: &[Op], on: &Context<'_>) -> Option<usize> {
        if on.info.backend != "cuda" {
            return None;
        }
        let first = (ops.first()?, plain(ops.first()?, on)?);
        let more = ops[1..].iter().take(NAMES.len() - 1);
        let alike = 1 + more.take_while(|op| plain(op, on).is_some_and(|k| alike(first, (op, k)))).count();
        // Few kernels do for any number of tensors.
        let count = 1 << alike.ilog2();
        let bindings = 4 * count + 2;
        (count > 1 && bindings <= on.info.max_bindings as usize && meet_only(&ops[..count], &[]))
            .then_some(count)
    }

    fn lower(&self, ops: &[Op], on: &Context<'_>, to: &mut Lowering<'_>) -> Result<()> {
        let kinds: Option<Vec<AdamW>> = ops.iter().map(|op| plain(op, on)).collect();
        let Some(kinds) = kinds else {
            return Err(to.unsupported(&ops[0].desc(), "no kernel for several steps"));
        };
        let launch = to.launch(cuda_template!("adamw_many.cu"));
        let launch = launch.literal("count", ops.len() as u32).literal("per", PER);
        let mut launch = step(launch, &ops[0], &kinds[0]);
        let mut end = 0;
        for ((op, kind), names) in ops.iter().zip(&kinds).zip(&NAMES) {
            let n = op.inputs[0].elems();
            end += n.div_ceil((GROUP * PER) as usize);
            let row = |t: &TensorRef| t.clone().reshape(&[n]);
            launch = launch
                .input(names.grad, &row(&op.inputs[0]))
                .operand(names.param, &row(&op.outputs[0]), Access::Single)
                .operand(names.m, &row(&op.outputs[1]), Access::Single)
                .operand(names.v, &row(&op.outputs[2]), Access::Single)
                .param(names.n, n)
                .param(names.end, end)
                .param_f32(names.decay, kind.weight_decay.0);
        }
        launch.workgroup([GROUP, 1, 1]).linear(end)
    }
}
