//! Cross-entropy.

use super::{Array, Real};

/// `ln Σ exp x`, by way of the maximum.
pub(super) fn log_sum_exp<T: Real>(x: &[T]) -> T {
    let max = T::largest(x.iter().copied());
    max + T::sum(x.iter().map(|&x| (x - max).exp())).ln()
}

pub(super) fn cross_entropy<T: Real>(inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let (logits, target) = (&inputs[0], &inputs[1]);
    for r in 0..logits.rows() {
        let row = logits.row(r);
        let lse = log_sum_exp(row);
        outputs[0].data[r] = target.data[r].index(row.len()).map_or(T::zero(), |t| lse - row[t]);
        outputs[1].data[r] = lse;
    }
}

pub(super) fn cross_entropy_backward<T: Real>(inputs: &[Array<T>], dlogits: &mut Array<T>) {
    let [logits, target, lse, dloss] = inputs else { unreachable!("four inputs were checked") };
    for r in 0..logits.rows() {
        let row = logits.row(r);
        let target = target.data[r].index(row.len());
        for (i, out) in dlogits.row_mut(r).iter_mut().enumerate() {
            *out = match target {
                None => T::zero(),
                Some(t) => {
                    let p = (row[i] - lse.data[r]).exp();
                    dloss.data[r] * if t == i { p - T::from(1.0) } else { p }
                }
            };
        }
    }
}
