//! The kernels of the catalogue, by family.

mod attention;
mod elementwise;
mod matmul;
mod moe;
mod rows;
mod updates;

use crate::KernelSet;
use crate::fusion::Fusion;
use halite_hal::{DType, DeviceInfo, MatrixShape};
use std::sync::Arc;

/// Every set of this crate.
pub(crate) fn all() -> Vec<Arc<dyn KernelSet>> {
    vec![
        Arc::new(elementwise::Elementwise),
        Arc::new(matmul::Matmul),
        Arc::new(attention::Attention),
        Arc::new(rows::Rows),
        Arc::new(moe::Moe),
    ]
}

/// Every way of doing several ops at once, the first that matches being taken.
pub(crate) fn fusions() -> Vec<Box<dyn Fusion>> {
    vec![
        Box::new(matmul::Products),
        Box::new(rows::AddNorm),
        Box::new(attention::RopeBoth),
        Box::new(moe::Routing),
        Box::new(updates::Updates),
    ]
}

/// The shape of `mma.sync` that kernels in CUDA C use, for factors of this type.
fn mma_shape(input: DType) -> MatrixShape {
    MatrixShape { m: 16, n: 8, k: 16, input, accumulator: DType::F32 }
}

/// Whether a device takes CUDA C and multiplies factors of this type on tensor cores.
fn has_mma(info: &DeviceInfo, input: DType) -> bool {
    info.backend == "cuda" && info.matrix.contains(&mma_shape(input))
}

#[cfg(test)]
mod spirv;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Lowering, Traits};
    use halite_hal::{DeviceKind, Op, Profile};

    /// A device of the CUDA backend.
    pub(crate) fn cuda() -> DeviceInfo {
        let mut info = DeviceInfo::new("cuda", 0, "test", DeviceKind::DiscreteGpu);
        info.subgroup_sizes = Some((32, 32));
        info.local_memory_bytes = 163 << 10;
        info.max_workgroup_size = 1024;
        info.matrix = [DType::F16, DType::BF16].map(mma_shape).to_vec();
        info
    }

    /// Lowers the ops in every variant, on a device without limits and on one of each profile, and checks
    /// that the kernels are valid.
    pub(crate) fn translates(set: &dyn KernelSet, ops: &[Op]) {
        let mut full = DeviceInfo::new("test", 0, "test", DeviceKind::DiscreteGpu);
        full.subgroup_sizes = Some((32, 32));
        let mut infos = vec![full];
        for profile in ["minimal", "mlu-class"] {
            let mut info = infos[0].clone();
            Profile::named(profile).unwrap().apply(&mut info);
            infos.push(info);
        }
        let mut seen = std::collections::HashSet::new();
        for info in &infos {
            for op in ops {
                op.check(|_| Some(1 << 30)).unwrap();
                let variants = set.variants(&op.desc(), info);
                let needed = op.kind.is_core() || info.barriers;
                assert!(!variants.is_empty() || !needed, "{} on {:?}", op.desc(), info.profile);
                for variant in variants {
                    let mut lowering = Lowering::new(info);
                    set.lower(op, &variant, &mut lowering).unwrap();
                    for launch in lowering.finish().launches {
                        for traits in [Traits::new(), Traits::tracked()] {
                            let kernel = launch.source.render(&traits).unwrap();
                            if seen.insert(kernel.text.clone()) {
                                let parsed = kernel.parse();
                                let parsed = parsed.unwrap_or_else(|e| panic!("{e}\n{}", kernel.text));
                                parsed.spirv().unwrap_or_else(|e| panic!("{e}\n{}", kernel.text));
                            }
                        }
                    }
                }
            }
        }
    }
}
