//! Matrix products.

use super::{Array, Real, Sum};

/// `Σ terms + bias + held`, as one sum.
fn total<T: Real>(terms: impl Iterator<Item = T>, extra: [Option<T>; 2]) -> T {
    T::sum(terms.chain(extra.into_iter().flatten()))
}

pub(super) fn matmul<T: Real>(accumulate: bool, bias: bool, inputs: &[Array<T>], c: &mut Array<T>) {
    let (a, b) = (&inputs[0], &inputs[1]);
    let rank = a.shape.len();
    let (m, k, n) = (a.shape[rank - 2], a.shape[rank - 1], b.shape[rank - 1]);
    for (i, c) in c.data.iter_mut().enumerate() {
        let (batch, row, col) = (i / (m * n), i / n % m, i % n);
        let terms = (0..k).map(|l| a.data[(batch * m + row) * k + l] * b.data[(batch * k + l) * n + col]);
        *c = total(terms, [bias.then(|| inputs[2].data[col]), accumulate.then_some(*c)]);
    }
}

/// The rows `offsets[e]..offsets[e + 1]` of each expert, cut to what there is.
pub(super) fn ranges<T: Real>(offsets: &Array<T>, rows: usize) -> Vec<std::ops::Range<usize>> {
    let at = |x: T| x.value().clamp(0.0, rows as f64) as usize;
    offsets.data.windows(2).map(|w| at(w[0])..at(w[1]).max(at(w[0]))).collect()
}

pub(super) fn grouped<T: Real>(accumulate: bool, bias: bool, inputs: &[Array<T>], c: &mut Array<T>) {
    let (a, b) = (&inputs[0], &inputs[1]);
    let (k, n) = (b.shape[1], b.shape[2]);
    let ranges = ranges(&inputs[2], a.shape[0]);
    for r in 0..a.shape[0] {
        let expert = ranges.iter().position(|range| range.contains(&r));
        for col in 0..n {
            let held = c.data[r * n + col];
            c.data[r * n + col] = match expert {
                Some(e) => {
                    let terms = (0..k).map(|l| a.data[r * k + l] * b.data[(e * k + l) * n + col]);
                    total(terms, [bias.then(|| inputs[3].data[e * n + col]), accumulate.then_some(held)])
                }
                None if accumulate => held,
                None => T::zero(),
            };
        }
    }
}

pub(super) fn grouped_weight<T: Real>(accumulate: bool, inputs: &[Array<T>], c: &mut Array<T>) {
    let (a, b) = (&inputs[0], &inputs[1]);
    let (m, n) = (c.shape[1], c.shape[2]);
    for (e, range) in ranges(&inputs[2], a.shape[0]).into_iter().enumerate() {
        for i in 0..m {
            for j in 0..n {
                let c = &mut c.data[(e * m + i) * n + j];
                let mut sum = T::Sum::default();
                range.clone().for_each(|r| sum.push(a.data[r * m + i] * b.data[r * n + j]));
                if accumulate {
                    sum.push(*c);
                }
                *c = sum.total();
            }
        }
    }
}
