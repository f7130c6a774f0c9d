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

/// What a kernel calls a matrix `b`, and what belongs to it.
pub(super) struct Names {
    pub b: &'static str,
    pub c: &'static str,
    pub bias: &'static str,
    pub b_by: &'static str,
    pub biased: &'static str,
    pub n: &'static str,
    pub tiles_n: &'static str,
    pub groups: &'static str,
}

macro_rules! names {
    ($s:literal) => {
        Names {
            b: concat!("b", $s),
            c: concat!("c", $s),
            bias: concat!("bias", $s),
            b_by: concat!("b_by", $s),
            biased: concat!("biased", $s),
            n: concat!("n", $s),
            tiles_n: concat!("tiles_n", $s),
            groups: concat!("groups", $s),
        }
    };
}

/// Of a product that is computed alone.
pub(super) const ALONE: Names = names!("");

/// Of products that one kernel computes.
pub(super) const SEVERAL: [Names; 3] = [names!("0"), names!("1"), names!("2")];

/// A matrix as a batch of one.
pub(super) fn batch(t: &TensorRef) -> TensorRef {
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
        tile: [usize; 2],
    ) -> (LaunchBuilder<'l, 'a>, usize) {
        let groups = self.groups(tile);
        let launch = self.bind_side(self.bind_shared(launch, tile), &ALONE, tile);
        let launch = launch.literal("accumulate", self.accumulate).param("groups", groups);
        (launch, groups)
    }

    /// How many workgroups there are that compute `rows` × `columns` elements.
    pub fn groups(&self, [rows, columns]: [usize; 2]) -> usize {
        let tiles = match &self.experts {
            Experts::None | Experts::Sum(_) => self.c.shape[0] * self.m().div_ceil(rows),
            // One more for each segment, whose tiles are rounded up.
            Experts::Rows(_) => self.m() / rows + self.b.shape[0] + 2,
        };
        tiles * self.n().div_ceil(columns)
    }

    /// What products of the same `a` have in common.
    pub fn bind_shared<'l, 'a>(
        &self,
        launch: LaunchBuilder<'l, 'a>,
        [rows, _]: [usize; 2],
    ) -> LaunchBuilder<'l, 'a> {
        // The last axis is the contiguous one.
        let a = if self.a_by() == By::Mn { self.a.clone().transpose(1, 2) } else { self.a.clone() };
        let mode = match &self.experts {
            Experts::None => "dense",
            Experts::Rows(_) => "grouped",
            Experts::Sum(_) => "weight",
        };
        let launch = launch
            .input("a", &a)
            .literal("a_by", self.a_by().literal())
            .literal("mode", mode)
            .param("m", self.m())
            .param("k", self.k())
            .param("tiles_m", self.m().div_ceil(rows));
        match &self.experts {
            Experts::None => launch,
            Experts::Rows(offsets) | Experts::Sum(offsets) => {
                let rows = if mode == "weight" { self.k() } else { self.m() };
                launch.input("offsets", offsets).param("experts", offsets.shape[0] - 1).param("rows", rows)
            }
        }
    }

    /// What `product_side.wgsl` needs of `b` and `c`.
    pub fn bind_side<'l, 'a>(
        &self,
        launch: LaunchBuilder<'l, 'a>,
        names: &Names,
        [_, columns]: [usize; 2],
    ) -> LaunchBuilder<'l, 'a> {
        let b = if self.b_by() == By::Mn { self.b.clone() } else { self.b.clone().transpose(1, 2) };
        let launch = launch
            .input(names.b, &b)
            .output(names.c, &self.c)
            .literal(names.b_by, self.b_by().literal())
            .literal(names.biased, self.bias.is_some())
            .param(names.n, self.n())
            .param(names.tiles_n, self.n().div_ceil(columns));
        match &self.bias {
            Some(bias) => launch.input(names.bias, bias),
            None => launch,
        }
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
