//! The optimizer's step.

use super::{Array, Real};
use crate::{AdamW, Scalar};

pub(super) fn clip_factor<T: Real>(max_norm: Scalar, sum_squares: &Array<T>, outputs: &mut [Array<T>]) {
    let norm = sum_squares.data[0].sqrt();
    outputs[0].data[0] = norm;
    outputs[1].data[0] = (T::from(f64::from(max_norm.0)) / (norm + T::from(1e-6))).min(T::from(1.0));
}

pub(super) fn adamw<T: Real>(a: AdamW, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let [grad, hyper, factor] = inputs else { unreachable!("three inputs were checked") };
    let [param, m, v] = outputs else { unreachable!("three outputs were checked") };
    let [beta1, beta2, eps, decay] =
        [a.beta1, a.beta2, a.eps, a.weight_decay].map(|x| T::from(f64::from(x.0)));
    let one = T::from(1.0);
    let (lr, correction1, correction2) = (hyper.data[0], hyper.data[1], hyper.data[2]);
    for i in 0..grad.data.len() {
        let g = grad.data[i] * factor.data[0];
        let m = &mut m.data[i];
        let v = &mut v.data[i];
        *m = beta1 * *m + (one - beta1) * g;
        *v = beta2 * *v + (one - beta2) * (g * g);
        let step = lr * (*m / correction1) / ((*v / correction2).sqrt() + eps);
        param.data[i] = param.data[i] * (one - lr * decay) - step;
    }
}
