//! Tiles on tensor cores, for CUDA's devices: factors of one 16-bit type, sums in f32.
//!
//! Where `a` is f32 and `b` bf16, as activations and weights are, `a` is cut into three numbers of bf16 that add up to
//! it exactly, and the products of each are added: three times the work on units that do many times as much.

use super::kernel::{Family, Kernel};
use super::problem::{By, Experts, Problem, SEVERAL};
use super::rows;
use crate::lowering::is_aligned;
use crate::sets::has_mma;
use crate::sets::rows::items;
use crate::source::cuda_template;
use crate::{LaunchBuilder, Lowering, template};
use halite_hal::{DType, DeviceInfo, Result, TensorRef};

/// What belongs to a tile beside its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// How much of the sum is staged at a time.
    pub depth: usize,
    /// Stages in shared memory.
    pub stages: usize,
    /// Workgroups that a multiprocessor has room for, by registers and by shared memory (164 KiB on sm_80).
    pub blocks: usize,
}

const fn tile(
    name: &'static str,
    own: [usize; 2],
    group: [usize; 2],
    [depth, stages, blocks]: [usize; 3],
    speed: usize,
) -> Kernel {
    let family = Family::Mma(Pipeline { depth, stages, blocks });
    Kernel { name, family, own, group, speed: [speed, speed] }
}

/// The sizes; names give the workgroup's tile and the part of the sum that is staged. `own` is a warp's tile, and
/// `group` counts warps.
pub(super) const KERNELS: &[Kernel] = &[
    tile("mma-128x256x32", [64, 64], [2, 4], [32, 4, 1], 10_000),
    tile("mma-128x128x32", [64, 32], [2, 4], [32, 4, 2], 9000),
    tile("mma-64x128x64", [32, 64], [2, 2], [64, 3, 2], 7500),
    tile("mma-64x64x64", [32, 32], [2, 2], [64, 3, 3], 6000),
    tile("mma-16x128x64", [16, 32], [1, 4], [64, 4, 2], 3000),
];

/// See [`parts`].
const PARTS: usize = 3;

/// Columns of c that a band of tiles has: 28 MiB of b, where sums have 7168 terms.
const BAND: usize = 2048;

/// Bytes of shared memory.
pub(super) fn bytes(kernel: &Kernel, pipeline: Pipeline) -> usize {
    let [rows, columns] = kernel.tile();
    2 * pipeline.depth * (rows + columns) * pipeline.stages
}

/// Numbers that an element of a is cut into.
pub(super) fn parts(p: &Problem) -> usize {
    if p.a.dtype == DType::F32 { PARTS } else { 1 }
}

/// Whether such a product can be done.
pub(super) fn suits(p: &Problem, info: &DeviceInfo) -> bool {
    // Sums of parts are as precise as they are kept. Few rows take the time of reading b, which parts read three times.
    let cut = [p.a.dtype, p.b.dtype, p.c.dtype] == [DType::F32, DType::BF16, DType::F32]
        && rows::SIZES.iter().all(|&few| few < p.mean_rows());
    has_mma(info, p.b.dtype)
        && (p.a.dtype == p.b.dtype || cut)
        && p.c.dtype.is_float()
        && p.bias.as_ref().is_none_or(|bias| bias.dtype.is_float())
}

/// Whether a and b are copied by 16 bytes: not where rows begin at other places, nor where experts begin within rows.
fn copied_by_pieces(p: &Problem) -> [bool; 2] {
    let by_rows = matches!(p.experts, Experts::Rows(_));
    let by_sum = matches!(p.experts, Experts::Sum(_));
    let a = match p.a_by() {
        By::Mn => !by_rows && is_aligned(&p.a.clone().transpose(1, 2), 8),
        _ => !by_sum && is_aligned(&p.a, 8),
    };
    let b = match p.b_by() {
        By::Mn => is_aligned(&p.b, 8),
        _ => !by_sum && is_aligned(&p.b.clone().transpose(1, 2), 8),
    };
    [a, b]
}

/// Lowers products of the same `a`.
pub(super) fn lower(
    kernel: &Kernel,
    pipeline: Pipeline,
    problems: &[Problem],
    to: &mut Lowering<'_>,
) -> Result<()> {
    if parts(&problems[0]) == 1 {
        return problems.iter().try_for_each(|p| product(kernel, pipeline, p, to));
    }
    let cut = cut(&problems[0], to)?;
    for p in problems {
        for (i, a) in cut.iter().enumerate() {
            let bias = p.bias.clone().filter(|_| i == 0);
            let part = Problem { a: a.clone(), bias, accumulate: p.accumulate || i > 0, ..p.clone() };
            product(kernel, pipeline, &part, to)?;
        }
    }
    Ok(())
}

/// `a` in parts of bf16, contiguous along the same axis as it is.
fn cut(p: &Problem, to: &mut Lowering<'_>) -> Result<[TensorRef; PARTS]> {
    let across = p.a_by() == By::Mn;
    let a = if across { p.a.clone().transpose(1, 2) } else { p.a.clone() };
    // One matrix, if all are the same.
    let matrices = if a.strides[0] == 0 { a.shape[0].min(1) } else { a.shape[0] };
    let a = a.slice(0, 0, matrices);
    let [z, rows, columns] = [a.shape[0], a.shape[1], a.shape[2]];
    // Rows begin where they can be copied by 16 bytes.
    let pitch = columns.next_multiple_of(8);
    let shape = [z, rows, columns];
    let mut scratch = || -> Result<TensorRef> {
        Ok(to.scratch(DType::BF16, &[z, rows, pitch])?.with_layout(&shape, &[rows * pitch, pitch, 1]))
    };
    let cut = [scratch()?, scratch()?, scratch()?];
    let most = to.info.max_workgroup_size;
    let launch = to.launch(template!("bf16_parts.wgsl")).input("x", &a).param("n1", rows);
    let launch = launch.output("high", &cut[0]).output("middle", &cut[1]).output("low", &cut[2]);
    items(launch, most, z * rows, columns)?;
    Ok(cut.map(|part| {
        let part = if p.a.shape[0] > z {
            part.clone().with_layout(&[p.a.shape[0], rows, columns], &[0, pitch, 1])
        } else {
            part
        };
        if across { part.transpose(1, 2) } else { part }
    }))
}

/// Lowers a product of 16-bit factors.
fn product(kernel: &Kernel, pipeline: Pipeline, p: &Problem, to: &mut Lowering<'_>) -> Result<()> {
    let tile = kernel.tile();
    let [a, b] = copied_by_pieces(p);
    let launch = launch(kernel, pipeline, tile, to).literal("gated", false);
    let launch = launch.literal("a_aligned", a).literal("b_aligned", b);
    let launch = launch.literal("c_pairs", is_aligned(&p.c, 2));
    let (launch, groups) = p.bind(launch, tile);
    launch.linear(groups)
}

/// Lowers two products of the same `a`, and `inner`, the SwiGLU of them: half a tile's columns are of either.
pub(super) fn lower_gated(
    kernel: &Kernel,
    pipeline: Pipeline,
    [gate, up]: [&Problem; 2],
    inner: &TensorRef,
    to: &mut Lowering<'_>,
) -> Result<()> {
    let [rows, columns] = kernel.tile();
    let tile = [rows, columns / 2];
    let [[a, gate_b], [_, up_b]] = [gate, up].map(copied_by_pieces);
    let launch = launch(kernel, pipeline, tile, to).literal("gated", true);
    let launch = launch.literal("a_aligned", a).literal("b_aligned", gate_b && up_b);
    let launch = launch.literal("c_pairs", is_aligned(&gate.c, 2)).literal("c1_pairs", is_aligned(&up.c, 2));
    let launch = launch.literal("inner_pairs", is_aligned(inner, 2));
    let (launch, groups) = gate.bind(launch, tile);
    up.bind_side(launch, &SEVERAL[1], tile).output("inner", inner).linear(groups)
}

/// Whether one kernel can do both products and the SwiGLU of them.
pub(super) fn gates([gate, up]: [&Problem; 2], inner: &TensorRef) -> bool {
    parts(gate) == 1 && gate.b_by() == up.b_by() && gate.b.dtype == up.b.dtype && inner.dtype.is_float()
}

/// A launch with workgroups of a kernel's size that compute tiles of this size.
fn launch<'l, 'a>(
    kernel: &Kernel,
    pipeline: Pipeline,
    [m, n]: [usize; 2],
    to: &'l mut Lowering<'a>,
) -> LaunchBuilder<'l, 'a> {
    let [warps_m, warps_n] = kernel.group;
    let launch = to.launch(cuda_template!("mma_gemm.cu"));
    let sizes = [
        ("tile_m", m),
        ("tile_n", n),
        ("tile_k", pipeline.depth),
        ("warps_m", warps_m),
        ("warps_n", warps_n),
        ("stages", pipeline.stages),
        ("blocks", pipeline.blocks),
        // Of all matrices together.
        ("band", BAND / kernel.tile()[1]),
    ];
    sizes
        .into_iter()
        .fold(launch, |launch, (name, size)| launch.literal(name, size as u32))
        .workgroup([32 * (warps_m * warps_n) as u32, 1, 1])
        .dynamic_bytes(bytes(kernel, pipeline) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::matmul::Matmul;
    use crate::sets::matmul::tests::t;
    use crate::sets::tests::cuda;
    use crate::{KernelSet, Traits, Variant};
    use halite_hal::Op;

    /// Names of the variants on tensor cores.
    fn native(op: &Op, info: &DeviceInfo) -> Vec<String> {
        let all = Matmul.variants(&op.desc(), info).into_iter().map(|v| v.to_string());
        all.filter(|name| name.starts_with("mma")).collect()
    }

    #[test]
    fn every_size_is_written_for_every_mode_and_type() {
        let info = cuda();
        for dtype in [DType::F16, DType::BF16] {
            for c in [DType::F32, DType::F16, DType::BF16] {
                let (a, offsets) = (t(0, dtype, &[40, 32]), t(3, DType::I32, &[5]));
                let columns = |slot, shape: &[usize]| {
                    let r = shape.len();
                    t(slot, dtype, shape).transpose(r - 2, r - 1)
                };
                let bias = Some(t(4, DType::F32, &[4, 48]));
                let ops = [
                    Op::matmul(a.clone(), t(1, dtype, &[32, 48]), t(2, c, &[40, 48])),
                    Op::matmul(columns(0, &[33, 40]), columns(1, &[48, 33]), t(2, c, &[40, 48])),
                    Op::grouped_matmul(
                        a.clone(),
                        columns(1, &[4, 48, 32]),
                        offsets.clone(),
                        bias,
                        t(2, c, &[40, 48]),
                        true,
                    ),
                    Op::grouped_matmul_weight(a, t(1, dtype, &[40, 9]), offsets, t(2, c, &[4, 32, 9]), false),
                ];
                for op in &ops {
                    assert_eq!(native(op, &info).len(), KERNELS.len());
                    for name in native(op, &info) {
                        let mut lowering = Lowering::new(&info);
                        Matmul.lower(op, &Variant::named(name), &mut lowering).unwrap();
                        for launch in lowering.finish().launches {
                            let kernel = launch.source.render(&Traits::new()).unwrap();
                            let text = kernel.text;
                            assert!(text.contains("mma.sync") && !text.contains("False"), "{text}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn tensor_cores_come_first_where_they_are() {
        let op = |da, db, [m, n, k]: [usize; 3]| {
            Op::matmul(t(0, da, &[m, k]), t(1, db, &[k, n]), t(2, DType::F32, &[m, n]))
        };
        let (f, h, b) = (DType::F32, DType::F16, DType::BF16);
        let first = |size| Matmul.variants(&op(b, b, size).desc(), &cuda())[0].to_string();
        assert_eq!(first([8192, 4096, 7168]), "mma-128x256x32");
        assert_eq!(first([1024, 1024, 1024]), "mma-64x128x64");
        assert_eq!(first([16, 4096, 4096]), "mma-16x128x64");
        assert!(first([1, 4096, 4096]).starts_with("rows"));
        // Activations in f32: as soon as three products are less work than one elsewhere.
        let first = |size| Matmul.variants(&op(f, b, size).desc(), &cuda())[0].to_string();
        assert_eq!(first([8192, 4096, 7168]), "mma-128x256x32");
        assert!([1, 8].iter().all(|&m| first([m, 4096, 4096]).starts_with("rows")));
        let mut without = cuda();
        without.matrix.clear();
        for (op, info) in
            [(op(b, b, [64; 3]), without), (op(f, h, [64; 3]), cuda()), (op(h, b, [64; 3]), cuda())]
        {
            assert_eq!(native(&op, &info), [""; 0]);
        }
    }

    /// Where a piece lies, in pieces: `piece_at` of `cuda/common/swizzle.cuh`.
    fn piece_at(pieces: usize, row: usize, piece: usize) -> usize {
        let span = pieces.min(8);
        row * pieces + (piece ^ (row / (8 / span) % span))
    }

    /// Whether eight pieces lie in eight different groups of four banks, of which there are 32.
    fn apart(places: impl Iterator<Item = usize>) -> bool {
        let mut groups: Vec<usize> = places.map(|place| place % 8).collect();
        groups.sort_unstable();
        groups == [0, 1, 2, 3, 4, 5, 6, 7]
    }

    #[test]
    fn no_two_lanes_meet_in_a_bank() {
        for pieces in [2, 4, 8, 16, 32] {
            for row in (0..64).step_by(8) {
                // Eight rows of a matrix, as ldmatrix reads them.
                for piece in 0..pieces {
                    assert!(apart((row..row + 8).map(|r| piece_at(pieces, r, piece))), "{pieces}");
                }
                // Eight pieces in a row, as copies write them.
                for first in (row * pieces..(row + 8) * pieces).step_by(8) {
                    let places = (first..first + 8).map(|e| piece_at(pieces, e / pieces, e % pieces));
                    assert!(apart(places), "{pieces}");
                }
            }
            let mut all: Vec<usize> =
                (0..64 * pieces).map(|e| piece_at(pieces, e / pieces, e % pieces)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..64 * pieces), "{pieces}");
        }
    }
}
