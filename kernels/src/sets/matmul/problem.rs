//! The three products as one problem.

use crate::sets::elementwise::copy;
use crate::{Access, LaunchBuilder, Lowering};
use halite_hal::{Layout, Op, OpDesc, OpKind, Result, TensorRef};

/// What is spread over the experts.
#[derive(Clone, Debug)]
pub(super) enum Experts {
    /// Nothing: a batch of products.
    None,
    /// Rows of `a` and `c`, by these offsets.
    Rows(TensorRef),
    /// The length of the sum.
    Sum(TensorRef),
}

/// `c [z, m, n] (+)= a [z, m, k] · b [z, k, n] + bias [z, n]`; operands that the experts share have one matrix.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub a: TensorRef,
    pub b: TensorRef,
    pub c: TensorRef,
    pub bias: Option<TensorRef>,
    pub accumulate: bool,
    pub experts: Experts,
}

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum By {
    /// Contiguous along the sum.
    K,
    /// Contiguous along the other axis.
    Mn,
    /// Not contiguous.
    Any,
}

impl By {
    /// Of a matrix, its sum being along axis `k` of a batch of matrices.
    fn of(t: &TensorRef, k: usize) -> By {
        let dense = |axis: usize| match t.dtype.is_block() {
            true => t.strides[axis] == 1 && t.shape[axis].is_multiple_of(t.dtype.block_elems()),
            false => t.strides[axis] == 1 || t.shape[axis] <= 1,
        };
        match (dense(k), dense(3 - k)) {
            (true, _) => By::K,
            (_, true) => By::Mn,
            _ => By::Any,
        }
    }

    fn literal(self) -> &'static str {
        match self {
            By::K => "k",
            By::Mn => "mn",
            By::Any => "any",
        }
    }
}

/// A matrix as a batch of one.
fn batch(t: &TensorRef) -> TensorRef {
    match t.rank() {
        2 => t.clone().with_layout(&[1, t.shape[0], t.shape[1]], &[0, t.strides[0], t.strides[1]]),
        _ => t.clone(),
    }
}

impl Problem {
    /// Of an op; `None` if it is no product.
    pub fn new(op: &Op) -> Option<Problem> {
        use OpKind::{GroupedMatmul, GroupedMatmulWeight, Matmul};
        if !matches!(op.kind, Matmul { .. } | GroupedMatmul { .. } | GroupedMatmulWeight { .. }) {
            return None;
        }
        let (i, c) = (&op.inputs, batch(&op.outputs[0]));
        let (a, b) = (batch(&i[0]), batch(&i[1]));
        Some(match op.kind {
            Matmul { accumulate, bias } => {
                let bias = bias.then(|| i[2].clone().with_layout(&[1, c.shape[2]], &[0, i[2].strides[0]]));
                Problem { a, b, c, bias, accumulate, experts: Experts::None }
            }
            GroupedMatmul { accumulate, .. } => {
                Problem { a, b, c, bias: i.get(3).cloned(), accumulate, experts: Experts::Rows(i[2].clone()) }
            }
            GroupedMatmulWeight { accumulate } => {
                let (a, experts) = (a.transpose(1, 2), Experts::Sum(i[2].clone()));
                Problem { a, b, c, bias: None, accumulate, experts }
            }
            _ => return None,
        })
    }

    /// Of an op without its memory.
    pub fn of(desc: &OpDesc) -> Option<Problem> {
        let slot = |l: &Layout| TensorRef::slot(0, l.dtype, &l.shape).with_layout(&l.shape, &l.strides);
        let all = |layouts: &[Layout]| layouts.iter().map(slot).collect();
        Problem::new(&Op::new(desc.kind.clone(), all(&desc.inputs), all(&desc.outputs)))
    }

    pub fn m(&self) -> usize {
        self.c.shape[1]
    }

    pub fn n(&self) -> usize {
        self.c.shape[2]
    }

    /// The length of the sum; for [`Experts::Sum`] that of all experts.
    pub fn k(&self) -> usize {
        self.a.shape[2]
    }

    /// How many products there are.
    pub fn batch(&self) -> usize {
        match self.experts {
            Experts::Rows(_) => self.b.shape[0],
            _ => self.c.shape[0],
        }
    }

    /// Rows of a product; of an expert, if all have the same number.
    pub fn mean_rows(&self) -> usize {
        match self.experts {
            Experts::Rows(_) => self.m().div_ceil(self.batch().max(1)),
            _ => self.m(),
        }
    }

    /// The length of a sum; of an expert, if all have the same.
    pub fn mean_sum(&self) -> usize {
        match self.experts {
            Experts::Sum(_) => self.k().div_ceil(self.batch().max(1)),
            _ => self.k(),
        }
    }

    /// Whether all sums begin at 0 and are of one length.
    pub fn sums_alike(&self) -> bool {
        !matches!(self.experts, Experts::Sum(_))
    }

    pub fn a_by(&self) -> By {
        By::of(&self.a, 2)
    }

    pub fn b_by(&self) -> By {
        By::of(&self.b, 1)
    }

    /// Lowers with `f`, by way of scratch memory where the device can't write the layout of `c`.
    pub fn into_words(
        mut self,
        to: &mut Lowering<'_>,
        f: impl FnOnce(&Problem, &mut Lowering<'_>) -> Result<()>,
    ) -> Result<()> {
        if to.can_write(&self.c, Access::Pairs) {
            return f(&self, to);
        }
        let [z, m, n] = [self.c.shape[0], self.c.shape[1], self.c.shape[2]];
        let row = n.next_multiple_of(4);
        let stage = to.scratch(self.c.dtype, &[z, m, row])?.with_layout(&[z, m, n], &[m * row, row, 1]);
        let c = std::mem::replace(&mut self.c, stage);
        if self.accumulate {
            copy(to, &c, &self.c)?;
        }
        f(&self, to)?;
        copy(to, &self.c, &c)
    }

    /// Adds what `product.wgsl` needs to a launch whose workgroups compute `rows` × `columns` elements, and
    /// says how many workgroups there are.
    pub fn bind<'l, 'a>(
        &self,
        launch: LaunchBuilder<'l, 'a>,
        [rows, columns]: [usize; 2],
    ) -> (LaunchBuilder<'l, 'a>, usize) {
        // The last axis is the contiguous one.
        let a = if self.a_by() == By::Mn { self.a.clone().transpose(1, 2) } else { self.a.clone() };
        let b = if self.b_by() == By::Mn { self.b.clone() } else { self.b.clone().transpose(1, 2) };
        let (tiles_m, tiles_n) = (self.m().div_ceil(rows), self.n().div_ceil(columns));
        let (mode, tiles) = match &self.experts {
            Experts::None => ("dense", self.c.shape[0] * tiles_m),
            // One more for each segment, whose tiles are rounded up.
            Experts::Rows(_) => ("grouped", self.m() / rows + self.b.shape[0] + 2),
            Experts::Sum(_) => ("weight", self.c.shape[0] * tiles_m),
        };
        let mut launch = launch
            .input("a", &a)
            .input("b", &b)
            .output("c", &self.c)
            .literal("a_by", self.a_by().literal())
            .literal("b_by", self.b_by().literal())
            .literal("mode", mode)
            .literal("bias", self.bias.is_some())
            .literal("accumulate", self.accumulate)
            .param("m", self.m())
            .param("n", self.n())
            .param("k", self.k())
            .param("tiles_m", tiles_m)
            .param("tiles_n", tiles_n)
            .param("groups", tiles * tiles_n);
        if let Some(bias) = &self.bias {
            launch = launch.input("bias", bias);
        }
        if let Experts::Rows(offsets) | Experts::Sum(offsets) = &self.experts {
            let rows = if mode == "weight" { self.k() } else { self.m() };
            launch =
                launch.input("offsets", offsets).param("experts", offsets.shape[0] - 1).param("rows", rows);
        }
        (launch, tiles * tiles_n)
    }

    /// Whether kernels may read four neighbours at multiples of 4 tiles and sums start at: not where experts
    /// begin at any element of the contiguous axis, nor where there is no such axis.
    pub fn reads_fours(&self) -> bool {
        let (a, b) = (self.a_by(), self.b_by());
        match self.experts {
            _ if a == By::Any || b == By::Any => false,
            Experts::None => true,
            Experts::Rows(_) => a == By::K,
            Experts::Sum(_) => a == By::Mn && b == By::Mn,
        }
    }
}
