//! Softmax and RMS normalisation, row by row.

use super::{Array, Real, Sum};
use crate::Scalar;

/// `exp(x − max) / Σ exp(x − max)`.
pub(super) fn softmax_row<T: Real>(x: &[T]) -> Vec<T> {
    let max = T::largest(x.iter().copied());
    let e: Vec<T> = x.iter().map(|&x| (x - max).exp()).collect();
    let sum = T::sum(e.iter().copied());
    e.into_iter().map(|e| e / sum).collect()
}

pub(super) fn softmax<T: Real>(x: &Array<T>, y: &mut Array<T>) {
    for r in 0..x.rows() {
        y.row_mut(r).copy_from_slice(&softmax_row(x.row(r)));
    }
}

pub(super) fn softmax_backward<T: Real>(inputs: &[Array<T>], dx: &mut Array<T>) {
    for r in 0..inputs[0].rows() {
        let (y, dy) = (inputs[0].row(r), inputs[1].row(r));
        let dot = T::sum(y.iter().zip(dy).map(|(&y, &dy)| y * dy));
        for (i, dx) in dx.row_mut(r).iter_mut().enumerate() {
            *dx = y[i] * (dy[i] - dot);
        }
    }
}

pub(super) fn rms_norm<T: Real>(eps: Scalar, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let (x, w) = (&inputs[0], &inputs[1]);
    let n = T::from(x.width() as f64);
    for r in 0..x.rows() {
        let row = x.row(r);
        let squares = T::sum(row.iter().map(|&x| x * x));
        let mean = if row.is_empty() { squares } else { squares / n };
        let rstd = T::from(1.0) / (mean + f64::from(eps.0).into()).sqrt();
        outputs[1].data[r] = rstd;
        for (i, y) in outputs[0].row_mut(r).iter_mut().enumerate() {
            *y = row[i] * rstd * w.data[i];
        }
    }
}

pub(super) fn rms_norm_backward<T: Real>(accumulate: bool, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let [dy, x, w, rstd] = inputs else { unreachable!("four inputs were checked") };
    let n = x.width();
    let mut dw: Vec<T::Sum> = (0..n).map(|_| T::Sum::default()).collect();
    for r in 0..x.rows() {
        let (dy, x, rstd) = (dy.row(r), x.row(r), rstd.data[r]);
        let dot = T::sum((0..n).map(|i| dy[i] * w.data[i] * x[i]));
        let mean = if n == 0 { dot } else { dot / T::from(n as f64) };
        for i in 0..n {
            outputs[0].data[r * n + i] = rstd * (dy[i] * w.data[i] - x[i] * rstd * rstd * mean);
            dw[i].push(dy[i] * x[i] * rstd);
        }
    }
    for (out, mut sum) in outputs[1].data.iter_mut().zip(dw) {
        if accumulate {
            sum.push(*out);
        }
        *out = sum.total();
    }
}
