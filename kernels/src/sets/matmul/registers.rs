//! Tiles in registers, without shared memory: for devices on processors, and those without barriers.

use super::problem::Problem;
use crate::{Lowering, template};
use halite_hal::{DeviceInfo, Result};

/// A size of tile.
#[derive(Debug)]
pub(super) struct Tile {
    pub name: &'static str,
    /// Rows and columns of an invocation.
    own: [usize; 2],
    /// Invocations of a workgroup along rows and columns.
    group: [usize; 2],
}

/// The sizes, the best guess first; names give the workgroup's tile and the invocation's.
pub(super) const TILES: &[Tile] = &[
    Tile { name: "registers-128x128-16x16", own: [16, 16], group: [8, 8] },
    Tile { name: "registers-32x64-8x8", own: [8, 8], group: [4, 8] },
    Tile { name: "registers-8x8-8x8", own: [8, 8], group: [1, 1] },
];

impl Tile {
    pub fn fits(&self, info: &DeviceInfo) -> bool {
        self.group[0] * self.group[1] <= info.max_workgroup_size as usize
    }

    pub fn lower(&self, p: &Problem, to: &mut Lowering<'_>) -> Result<()> {
        let [tm, tn] = self.own;
        let [wy, wx] = self.group;
        let launch = to
            .launch(template!("matmul_registers.wgsl"))
            .literal("tm", tm as u32)
            .literal("tn", tn as u32)
            .literal("wx", wx as u32)
            .literal("wy", wy as u32)
            .literal("fours", p.reads_fours())
            .workgroup([wx as u32, wy as u32, 1]);
        let (launch, groups) = p.bind(launch, tm * wy, tn * wx);
        launch.linear(groups)
    }
}
