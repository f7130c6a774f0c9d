//! The optimiser's step.

use super::elementwise::tiles;
use crate::simd::math::fma;
use crate::simd::simd;
use crate::view::{View, coalesce};
use halite_hal::AdamW;

/// # Safety
/// As for [`super::run`], here and below.
pub(super) unsafe fn clip_factor(max_norm: f32, sum_squares: &View, norm: &View, factor: &View) {
    // SAFETY: by the caller; all have one element.
    unsafe {
        let n = (sum_squares.row(0).get(0) as f32).sqrt();
        norm.row(0).set(0, f64::from(n));
        factor.row(0).set(0, f64::from((max_norm / (n + 1e-6)).min(1.0)));
    }
}

/// What a step needs besides the tensors.
#[derive(Clone, Copy)]
struct Step {
    attributes: AdamW,
    factor: f32,
    lr: f32,
    correction1: f32,
    correction2: f32,
}

simd! {
    fn step(s: Step, g: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let a = s.attributes;
        let (b1, b2, eps) = (a.beta1.0, a.beta2.0, a.eps.0);
        let (r1, r2) = (1.0 - b1, 1.0 - b2);
        let keep = 1.0 - s.lr * a.weight_decay.0;
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * s.factor;
            *m = fma::<FMA>(b1, *m, r1 * g);
            *v = fma::<FMA>(b2, *v, r2 * (g * g));
            let root = (*v / s.correction2).sqrt() + eps;
            *p = *p * keep - s.lr * (*m / s.correction1) / root;
        }
    }
}

pub(super) unsafe fn adamw(attributes: AdamW, i: &[View], o: &[View]) {
    let (hyper, factor) = (i[1].row(0), i[2].row(0));
    // SAFETY: by the caller; `hyper` has three elements and `factor` one.
    let s = unsafe {
        let [lr, correction1, correction2] = [0, 1, 2].map(|i| hyper.get(i) as f32);
        Step { attributes, factor: factor.get(0) as f32, lr, correction1, correction2 }
    };
    let views = coalesce([&i[0], &o[0], &o[1], &o[2]]);
    tiles(views[0].rows(), views[0].cols(), 4, |row, start, len, scratch| {
        let (s0, rest) = scratch.split_at_mut(scratch.len() / 4);
        let (s1, rest) = rest.split_at_mut(s0.len());
        let (s2, s3) = rest.split_at_mut(s0.len());
        let [g, p, m, v] = views.map(|x| x.row(row).slice(start, len));
        // SAFETY: by the caller; each piece is written once.
        unsafe {
            let g = g.read(s0);
            p.update(s1, |p| m.update(s2, |m| v.update(s3, |v| step(s, g, p, m, v))));
        }
    });
}
