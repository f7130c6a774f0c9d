//! The kernels of the catalogue, by family.

mod attention;
mod elementwise;
mod matmul;
mod moe;
mod rows;

use crate::KernelSet;
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
