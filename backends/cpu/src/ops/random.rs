//! Random numbers by counter.

use crate::par;
use crate::view::View;
use halite_hal::{DType, Distribution, philox};

/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn philox(distribution: Distribution, state: &View, y: &View) {
    let state = state.row(0);
    // SAFETY: by the caller; the state has four elements.
    let [k0, k1, low, high] = [0, 1, 2, 3].map(|i| unsafe { state.get(i) } as u32);
    let first = u64::from(high) << 32 | u64::from(low);
    let cols = y.cols().max(1);
    // Whole blocks of four, so that no block is drawn by two tasks.
    par::ranges(y.shape.elems().div_ceil(4), 64, |blocks| {
        let mut at = usize::MAX;
        let mut row = y.row(0);
        for block in blocks {
            let words = philox::block_at([k0, k1], first.wrapping_add(block as u64));
            let normals = match distribution {
                Distribution::Normal => {
                    let pairs =
                        [philox::normal_pair(words[0], words[1]), philox::normal_pair(words[2], words[3])];
                    [pairs[0].0, pairs[0].1, pairs[1].0, pairs[1].1]
                }
                _ => [0.0; 4],
            };
            for (w, i) in (4 * block..y.shape.elems().min(4 * block + 4)).enumerate() {
                if at != i / cols {
                    at = i / cols;
                    row = y.row(at);
                }
                debug_assert!(matches!(y.dtype, DType::F32 | DType::U32));
                let value = match distribution {
                    Distribution::Bits => f64::from(words[w]),
                    Distribution::Uniform => f64::from(philox::uniform(words[w])),
                    Distribution::Normal => normals[w],
                    other => unreachable!("{other:?} is no distribution of this backend"),
                };
                // SAFETY: by the caller; each element is written once.
                unsafe { row.set(i % cols, value) };
            }
        }
    });
}
