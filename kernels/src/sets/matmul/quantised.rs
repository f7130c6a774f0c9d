//! Few rows times quantised weights, as in decoding, for CUDA's devices; see `cuda/quantised_rows.cu`.

use super::kernel::{Family, Kernel};
use super::problem::{By, Problem};
use crate::Lowering;
use crate::source::cuda_template;
use halite_hal::{DType, DeviceInfo, Result};

/// Warps of a workgroup, which have columns of their own.
const WARPS: usize = 4;

/// A warp's rows and columns, and how many workgroups share a multiprocessor by their registers: while some wait for
/// memory, others compute.
const fn rows(name: &'static str, own: [usize; 2], blocks: usize, speed: usize) -> Kernel {
    Kernel { name, family: Family::Quantised { blocks }, own, group: [1, WARPS], speed: [speed; 2] }
}

/// The sizes; names give the workgroup's rows and columns.
pub(super) const KERNELS: &[Kernel] = &[
    rows("quantised-1x8", [1, 2], 8, 300),
    rows("quantised-4x4", [4, 1], 4, 500),
    rows("quantised-8x4", [8, 1], 4, 600),
];

/// The types of weights that it reads.
pub(super) const DTYPES: [DType; 5] = [DType::Q4_0, DType::Q4_1, DType::Q8_0, DType::Q4K, DType::Mxfp4];

/// Whether such a product can be done, and the kernel is the one with the fewest rows that hold them all.
pub(super) fn suits(kernel: &Kernel, p: &Problem, info: &DeviceInfo) -> bool {
    let rows = p.mean_rows();
    let fewest = KERNELS.iter().map(|k| k.own[0]).find(|&n| rows <= n);
    info.backend == "cuda"
        && info.subgroup_sizes == Some((32, 32))
        && fewest == Some(kernel.own[0])
        && DTYPES.contains(&p.b.dtype)
        && (p.a_by(), p.b_by()) == (By::K, By::K)
        && p.sums_alike()
        && [Some(&p.a), Some(&p.c), p.bias.as_ref()].into_iter().flatten().all(|t| t.dtype.is_float())
}

/// Lowers a product.
pub(super) fn lower(kernel: &Kernel, blocks: usize, p: &Problem, to: &mut Lowering<'_>) -> Result<()> {
    let (tile, dtype) = (kernel.tile(), p.b.dtype);
    let sizes = [
        ("tm", kernel.own[0]),
        ("tn", kernel.own[1]),
        ("tile_m", tile[0]),
        ("tile_n", tile[1]),
        ("elems", dtype.block_elems()),
        ("bytes", dtype.block_bytes()),
        ("blocks", blocks),
        // Rows of few tiles: those of a column follow each other.
        ("band", 1),
    ];
    let launch = to.launch(cuda_template!("quantised_rows.cu")).workgroup([32 * WARPS as u32, 1, 1]);
    let launch = sizes.into_iter().fold(launch, |launch, (name, size)| launch.literal(name, size as u32));
    let launch = launch.literal("a_type", if p.a.dtype == DType::F32 { "float" } else { "ushort" });
    let (launch, groups) = p.bind(launch.literal("weights", dtype.name()), tile);
    launch.linear(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::matmul::Matmul;
    use crate::sets::matmul::tests::t;
    use crate::sets::tests::cuda;
    use crate::{KernelSet, Traits, Variant};
    use halite_hal::Op;

    /// A product of `m` rows with weights `[7, 256]` of a type.
    fn product(m: usize, a: DType, b: DType) -> Op {
        Op::matmul(t(0, a, &[m, 256]), t(1, b, &[7, 256]).transpose(0, 1), t(2, DType::F32, &[m, 7]))
    }

    #[test]
    fn few_rows_of_weights_that_it_reads_come_to_it() {
        let first = |m, b, info: &DeviceInfo| {
            Matmul.variants(&product(m, DType::BF16, b).desc(), info)[0].to_string()
        };
        for (m, name) in [(1, "quantised-1x8"), (2, "quantised-4x4"), (8, "quantised-8x4")] {
            for b in DTYPES {
                assert_eq!(first(m, b, &cuda()), name, "{b}");
            }
        }
        let mut vulkan = cuda();
        vulkan.backend = "vulkan".into();
        let other =
            [first(9, DType::Q4_0, &cuda()), first(1, DType::Q6K, &cuda()), first(1, DType::Q4_0, &vulkan)];
        assert!(other.iter().all(|name| !name.starts_with("quantised")), "{other:?}");
    }

    #[test]
    fn every_kernel_is_written_for_every_type() {
        let info = cuda();
        for (kernel, m) in KERNELS.iter().zip([1, 4, 8]) {
            for b in DTYPES {
                for a in DType::FLOATS {
                    let mut lowering = Lowering::new(&info);
                    Matmul.lower(&product(m, a, b), &Variant::named(kernel.name), &mut lowering).unwrap();
                    let launches = lowering.finish().launches;
                    let kernel = launches[0].source.render(&Traits::new()).unwrap();
                    assert!(launches.len() == 1 && !kernel.text.contains("{{"), "{}", kernel.text);
                }
            }
        }
    }
}
