//! The kernels that do products, in their variants.

use super::mma::{self, Pipeline};
use super::problem::{By, Problem};
use super::{quantised, registers, rows, shared};
use crate::{LaunchBuilder, Lowering, Template, template};
use halite_hal::{DeviceInfo, Result};

/// A size of a kernel. Names give the workgroup's tile and the invocation's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub name: &'static str,
    pub family: Family,
    /// Rows and columns of an invocation; where [`Kernel::by_warps`], of a warp.
    pub own: [usize; 2],
    /// Invocations of a workgroup along rows and columns; of [`Family::Rows`] along the sum and columns. Where
    /// [`Kernel::by_warps`], warps.
    pub group: [usize; 2],
    /// How fast full tiles are, in thousandths of the fastest kernel: on software drivers, as measured, and on
    /// others, as expected.
    pub speed: [usize; 2],
}

/// What sort of kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Family {
    /// `matmul_registers.wgsl`.
    Registers,
    /// `matmul_shared.wgsl`.
    Shared,
    /// `matmul_rows.wgsl`.
    Rows,
    /// `mma_gemm.cu`.
    Mma(Pipeline),
    /// `quantised_rows.cu`, `blocks` of whose workgroups share a multiprocessor.
    Quantised { blocks: usize },
}

/// Every kernel.
pub(super) fn all() -> impl Iterator<Item = &'static Kernel> {
    registers::KERNELS
        .iter()
        .chain(shared::KERNELS)
        .chain(rows::KERNELS)
        .chain(mma::KERNELS)
        .chain(quantised::KERNELS)
}

impl Kernel {
    /// Rows and columns of a workgroup.
    pub fn tile(&self) -> [usize; 2] {
        let rows = if self.family == Family::Rows { 1 } else { self.group[0] };
        [self.own[0] * rows, self.own[1] * self.group[1]]
    }

    /// Of a workgroup.
    fn invocations(&self) -> usize {
        self.group[0] * self.group[1] * if self.by_warps() { 32 } else { 1 }
    }

    /// Whether sizes are those of warps.
    pub fn by_warps(&self) -> bool {
        matches!(self.family, Family::Mma(_) | Family::Quantised { .. })
    }

    /// Whether a device can run it.
    pub fn runs_on(&self, info: &DeviceInfo) -> bool {
        let (waits, bytes) = match self.family {
            Family::Registers => (false, 0),
            Family::Shared => (true, shared::bytes(self)),
            Family::Rows => (self.group[0] > 1, rows::bytes(self)),
            Family::Mma(pipeline) => (true, mma::bytes(self, pipeline)),
            Family::Quantised { .. } => (false, 0),
        };
        self.invocations() <= info.max_workgroup_size as usize
            && bytes <= info.local_memory_bytes as usize
            && (info.barriers || !waits)
    }

    /// Whether it is meant for such a product on a device.
    pub fn suits(&self, p: &Problem, info: &DeviceInfo) -> bool {
        match self.family {
            Family::Mma(_) => mma::suits(p, info),
            Family::Quantised { .. } => quantised::suits(self, p, info),
            Family::Registers | Family::Shared => true,
            // The fewest rows that hold them all, and neighbours in memory side by side.
            Family::Rows => {
                let rows = p.mean_rows();
                let fewest = rows::SIZES.iter().find(|&&n| rows <= n);
                let along_n = self.group[1] > 1;
                p.sums_alike()
                    && fewest == Some(&self.own[0])
                    && (self.group[0] == 1 || along_n == (p.b_by() == By::Mn))
            }
        }
    }

    /// A guess at the time of a call, in multiply-adds of the fastest kernel.
    pub fn cost(&self, p: &Problem, software: bool) -> usize {
        // Compiling is shared by this many calls, and takes as long as so many multiply-adds for each element
        // of an invocation: about 5 ms on software drivers.
        const CALLS: usize = 1000;
        let lanes = if self.by_warps() { 32 } else { 1 };
        let compile = 100_000_000 * self.own[0] * self.own[1] / lanes / CALLS;
        let [rows, columns] = self.tile();
        let groups = p.batch() * p.mean_rows().div_ceil(rows) * p.n().div_ceil(columns);
        // Workgroups that keep all of a device busy.
        let busy = groups.max(match (software, self.by_warps()) {
            (true, _) => 4,
            (false, true) => 128,
            (false, false) => 64,
        });
        let parts = if matches!(self.family, Family::Mma(_)) { mma::parts(p) } else { 1 };
        let work = busy.saturating_mul(rows * columns * parts).saturating_mul(p.mean_sum().max(1));
        compile + work.saturating_mul(1000) / self.speed[usize::from(!software)]
    }

    pub fn lower(&self, p: &Problem, to: &mut Lowering<'_>) -> Result<()> {
        let template = match self.family {
            Family::Mma(pipeline) => return mma::lower(self, pipeline, std::slice::from_ref(p), to),
            Family::Quantised { blocks } => return quantised::lower(self, blocks, p, to),
            Family::Registers => template!("matmul_registers.wgsl"),
            Family::Shared => template!("matmul_shared.wgsl"),
            Family::Rows => template!("matmul_rows.wgsl"),
        };
        let launch = self.launch(template, to);
        let launch = launch.literal("tk", shared::DEPTH as u32).literal("fours", p.reads_fours());
        let launch = launch.literal("products", 1).literal("gated", false);
        let (launch, groups) = p.bind(launch.loops(self.loops(p)), self.tile());
        launch.linear(groups)
    }

    /// Iterations of the loops of an invocation.
    pub fn loops(&self, p: &Problem) -> usize {
        let sum = p.k();
        // Where rows are of different experts, theirs is searched for.
        let around = 64 + self.own[0] * self.own[1];
        around
            + match self.family {
                // What is by fours for most is one by one at the edges.
                Family::Registers => sum.div_ceil(4) + sum + 4,
                Family::Shared => {
                    let [rows, columns] = self.tile();
                    let staged = shared::DEPTH * (rows + columns) / 4 / self.invocations() + 4;
                    (sum.div_ceil(shared::DEPTH) + 1) * (shared::DEPTH + 2 + staged)
                }
                Family::Rows if p.b_by() == By::Mn => 2 * sum.div_ceil(self.group[0]) + 4,
                Family::Rows => sum.div_ceil(4 * self.group[0]) + 8,
                Family::Mma(_) | Family::Quantised { .. } => 0,
            }
    }

    /// A launch of this size.
    pub fn launch<'l, 'a>(&self, template: Template, to: &'l mut Lowering<'a>) -> LaunchBuilder<'l, 'a> {
        let ([tm, tn], [wy, wx]) = (self.own.map(|n| n as u32), self.group.map(|n| n as u32));
        let launch = to.launch(template).workgroup([wx, wy, 1]);
        launch.literal("tm", tm).literal("tn", tn).literal("wx", wx).literal("wy", wy)
    }
}
