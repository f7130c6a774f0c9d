//! Matrix products, dense and grouped by expert.
//!
//! All three ops are one: `c[z] (+)= a[z]·b[z] + bias`, where either the rows of `a` and `c` or the length of
//! the sum is spread over the experts. Offsets of experts are read on the device, so the grid has room for
//! any; see `wgsl/common/product.wgsl`.

mod fused;
mod kernel;
mod mma;
mod problem;
mod quantised;
mod registers;
mod rows;
mod shared;

use crate::{KernelSet, Lowering, Variant};
pub(crate) use fused::Products;
use halite_hal::{DeviceInfo, DeviceKind, Op, OpDesc, Result};
use problem::Problem;

/// See the module.
#[derive(Debug)]
pub(crate) struct Matmul;

impl KernelSet for Matmul {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        let Some(p) = Problem::of(desc) else { return Vec::new() };
        let software = matches!(info.kind, DeviceKind::Software | DeviceKind::Cpu);
        let mut kernels: Vec<_> = kernel::all().filter(|k| k.runs_on(info) && k.suits(&p, info)).collect();
        kernels.sort_by_key(|k| k.cost(&p, software));
        kernels.into_iter().map(|k| Variant::named(k.name)).collect()
    }

    fn lower(&self, op: &Op, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        let Some(problem) = Problem::new(op) else { return Err(to.unsupported(&op.desc(), "no kernel")) };
        match kernel::all().find(|k| variant.0 == k.name) {
            // It writes elements of any size.
            Some(kernel) if kernel.by_warps() => kernel.lower(&problem, to),
            Some(kernel) => problem.into_words(to, |p, to| kernel.lower(p, to)),
            None => Err(to.unsupported(&op.desc(), format!("no variant {variant}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::tests::translates;
    use halite_hal::{DType, Profile, TensorRef};

    pub(super) fn t(slot: u32, dtype: DType, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, dtype, shape)
    }

    fn columns(x: TensorRef) -> TensorRef {
        let r = x.rank();
        let mut shape = x.shape.to_vec();
        shape.swap(r - 2, r - 1);
        x.with_layout(&shape, &halite_hal::Shape::new(&shape).contiguous_strides()).transpose(r - 2, r - 1)
    }

    fn gaps(x: TensorRef) -> TensorRef {
        let strides: Vec<usize> = x.strides.iter().map(|s| s * 3).collect();
        let shape = x.shape;
        x.with_layout(&shape, &strides)
    }

    #[test]
    fn shapes_and_devices_decide_what_comes_first() {
        let info = |kind, profile: Option<&str>| {
            let mut info = DeviceInfo::new("test", 0, "test", kind);
            profile.into_iter().for_each(|p| Profile::named(p).unwrap().apply(&mut info));
            info
        };
        let first = |info: &DeviceInfo, [m, n, k]: [usize; 3], by_k: bool| {
            let b = t(1, DType::F32, &[k, n]);
            let b = if by_k { columns(b) } else { b };
            let op = Op::matmul(t(0, DType::F32, &[m, k]), b, t(2, DType::F32, &[m, n]));
            Matmul.variants(&op.desc(), info)[0].to_string()
        };
        let (large, row) = ([1024; 3], [1, 4096, 4096]);
        let software = info(DeviceKind::Software, None);
        assert_eq!(first(&software, [5, 7, 19], false), "registers-4x4-4x4");
        assert_eq!(first(&software, [512; 3], false), "registers-32x64-8x8");
        assert_eq!(first(&software, large, true), "registers-128x128-16x16");
        assert_eq!(first(&software, row, true), "rows-1x64-4");
        let gpu = info(DeviceKind::DiscreteGpu, None);
        assert_eq!(first(&gpu, large, false), "shared-128x128x16-8x8");
        assert_eq!(first(&gpu, row, true), "rows-1x4-4-k64");
        assert_eq!(first(&gpu, row, false), "rows-1x64-4-k4");
        assert_eq!(
            first(&info(DeviceKind::DiscreteGpu, Some("minimal")), large, false),
            "shared-64x64x16-8x4"
        );
        let task = info(DeviceKind::Accelerator, Some("mlu-class"));
        assert_eq!(first(&task, large, false), "registers-8x8-8x8");
        assert_eq!(first(&task, row, true), "rows-1x4-4");
    }

    /// Every layout of b with every other operand's, and every dtype.
    #[test]
    fn kernels_translate_for_every_dtype_and_layout() {
        let (f, i) = (DType::F32, DType::I32);
        let mut ops = Vec::new();
        for dtype in DType::FLOATS {
            for layout in [|x| x, columns, gaps] {
                for b in [DType::F32, dtype, DType::Q8_0, DType::Q4_0] {
                    let a = layout(t(0, dtype, &[5, 32]));
                    let c = layout(t(2, dtype, &[5, 64]));
                    let w = t(1, b, &[32, 64]);
                    let w = if b.is_block() { w } else { layout(w) };
                    ops.push(Op::matmul(a.clone(), w, c.clone()));
                    let bias = Some(t(3, f, &[64]));
                    ops.push(Op::matmul_with(a.clone(), columns(t(1, b, &[32, 64])), bias, c.clone(), true));
                    let w = columns(t(1, b, &[4, 32, 64]));
                    let bias = Some(layout(t(3, dtype, &[4, 64])));
                    ops.push(Op::grouped_matmul(a, w, t(4, i, &[5]), bias, c, false));
                }
                let (a, b) = (layout(t(0, dtype, &[5, 7])), layout(t(1, f, &[5, 9])));
                ops.push(Op::grouped_matmul_weight(a, b, t(4, i, &[5]), t(2, dtype, &[4, 7, 9]), true));
            }
        }
        for b in DType::BLOCKS {
            let (e, a, c) = (b.block_elems(), t(0, f, &[5, 256]), t(2, f, &[5, 7]));
            ops.push(Op::matmul(a.clone(), columns(t(1, b, &[256, 7])), c.clone()));
            ops.push(Op::matmul(t(0, f, &[5, 7]), t(1, b, &[7, e]), t(2, f, &[5, e])));
            ops.push(Op::grouped_matmul(a, columns(t(1, b, &[4, 256, 7])), t(4, i, &[5]), None, c, false));
        }
        translates(&Matmul, &ops);
    }
}
