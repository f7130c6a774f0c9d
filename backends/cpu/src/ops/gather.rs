//! Rows by index: embedding and scatter.

use crate::par;
use crate::view::View;

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn embedding(table: &View, index: &View, y: &View) {
    let (rows, width) = (table.shape[0], table.shape[1]);
    // SAFETY: by the caller.
    let index = unsafe { index.ints() };
    par::ranges(index.len(), width, |range| {
        par::with_scratch(width, |scratch| {
            for n in range {
                let out = y.row(n);
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    match usize::try_from(index[n]).ok().filter(|&i| i < rows) {
                        None => out.zero(),
                        Some(i) => {
                            let from = table.row(i);
                            if table.dtype == y.dtype
                                && let (Some(a), Some(b)) = (from.as_bytes(), out.as_bytes())
                            {
                                std::ptr::copy_nonoverlapping(a, b, width * y.dtype.block_bytes());
                            } else {
                                out.store(from.read(scratch));
                            }
                        }
                    }
                }
            }
        });
    });
}

/// Rows of `y` that one task owns: it goes through the whole index and takes what falls on its rows, so
/// that each row gets its terms in order, from one thread.
const OWNERS: usize = 32;

pub(super) unsafe fn scatter(x: &View, index: &View, y: &View, accumulate: bool) {
    let (rows, width) = (y.shape[0], y.shape[1]);
    // SAFETY: by the caller.
    let index = unsafe { index.ints() };
    let owners = if index.len() * width > par::GRAIN { OWNERS } else { 1 };
    let each = rows.div_ceil(owners).max(1);
    // The terms of each owner's rows, by row and then by their order.
    par::for_each(rows.div_ceil(each), |owner| {
        let own = owner * each..((owner + 1) * each).min(rows);
        let mut terms: Vec<(usize, usize)> = index
            .iter()
            .enumerate()
            .filter_map(|(n, &i)| Some((usize::try_from(i).ok().filter(|i| own.contains(i))?, n)))
            .collect();
        terms.sort_unstable();
        par::with_scratch(2 * width, |scratch| {
            let (sum, term) = scratch.split_at_mut(width);
            for group in terms.chunk_by(|a, b| a.0 == b.0) {
                let out = y.row(group[0].0);
                // SAFETY: by the caller; each row of `y` has one owner.
                unsafe {
                    if accumulate {
                        out.load(sum);
                        for &(_, n) in group {
                            let x = x.row(n).read(term);
                            sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
                        }
                    } else {
                        x.row(group[group.len() - 1].1).load(sum);
                    }
                    out.store(sum);
                }
            }
        });
    });
}
