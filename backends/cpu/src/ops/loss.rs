//! Cross-entropy.

use crate::par;
use crate::simd::math::{exp, exp_sum, map, max};
use crate::simd::simd;
use crate::view::View;

simd! {
    /// ln Σ exp x.
    fn log_sum_exp(x: &[f32]) -> f32 {
        let shift = max(x);
        shift + exp_sum::<FMA>(x, shift).ln()
    }

    fn gradient(x: &[f32], lse: f32, factor: f32, y: &mut [f32]) {
        map(x, y, |x| factor * exp::<FMA>(x - lse));
    }
}

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn cross_entropy(logits: &View, target: &View, loss: &View, lse: &View) {
    let n = logits.cols();
    let (target, loss, lse) = (target.row(0), loss.row(0), lse.row(0));
    par::ranges(logits.rows(), 4 * n, |rows| {
        par::with_scratch(n, |scratch| {
            for r in rows {
                // SAFETY: by the caller; each row's results are written once.
                unsafe {
                    let x = logits.row(r).read(scratch);
                    let l = log_sum_exp(x);
                    let t = usize::try_from(target.int(r)).ok().and_then(|t| x.get(t));
                    loss.set(r, t.map_or(0.0, |t| f64::from(l - t)));
                    lse.set(r, f64::from(l));
                }
            }
        });
    });
}

pub(super) unsafe fn cross_entropy_backward(i: &[View], dlogits: &View) {
    let (logits, target, lse, dloss) = (&i[0], i[1].row(0), i[2].row(0), i[3].row(0));
    let n = logits.cols();
    par::ranges(logits.rows(), 2 * n, |rows| {
        par::with_scratch(2 * n, |scratch| {
            let (a, b) = scratch.split_at_mut(n);
            for r in rows {
                let out = dlogits.row(r);
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    let Some(t) = usize::try_from(target.int(r)).ok().filter(|&t| t < n) else {
                        out.zero();
                        continue;
                    };
                    let (lse, d) = (lse.get(r) as f32, dloss.get(r) as f32);
                    let x = logits.row(r);
                    let x = if logits.ptr == dlogits.ptr { x.copied(a) } else { x.read(a) };
                    out.write(b, |y| {
                        gradient(x, lse, d, y);
                        y[t] = d * ((x[t] - lse).exp() - 1.0);
                    });
                }
            }
        });
    });
}
