//! The optimizer's step.

use crate::conformance::case::{Cases, Value};
use crate::reference::Array;
use crate::{AdamW, DType, DType::*, OpKind};

pub fn clip_factor(c: &mut Cases) {
    for sum in [0.0, 1e-12, 0.25, 0.999, 1.0001, 4.0, 1e8, 1e30] {
        for max_norm in [1.0f32, 0.1, 5.0] {
            let x = Array::new(F32, &[1], vec![sum]).rounded().into();
            let y = vec![c.out(F32, &[1]), c.out(F32, &[1])];
            c.add("clip_factor", OpKind::ClipFactor { max_norm: max_norm.into() }, vec![x], y);
        }
    }
}

pub fn adamw(c: &mut Cases) {
    let operands = |c: &mut Cases, [grad, param]: [DType; 2], shape: &[usize], step: i32, size: f64| {
        let hyper = vec![3e-3, 1.0 - 0.9f64.powi(step), 1.0 - 0.95f64.powi(step)];
        let x: Vec<Value> = vec![
            c.data.normal(grad, shape, size).into(),
            Array::new(F32, &[3], hyper).rounded().into(),
            c.data.between(F32, &[1], 0.3, 1.0).into(),
        ];
        // Before the first step the moments are 0.
        let held = if step == 1 { 0.0 } else { size };
        let v = c.data.map(F32, shape, |d| (d.one_normal() * held).powi(2));
        let y = vec![c.out(param, shape), c.data.normal(F32, shape, held).into(), v.into()];
        (x, y)
    };
    let usual = AdamW::new(0.9, 0.95, 1e-8, 0.1);
    for grad in DType::FLOATS {
        for param in DType::FLOATS {
            for step in [1, 50] {
                let (x, y) = operands(c, [grad, param], &[4, 9], step, 0.3);
                c.all("adamw", OpKind::AdamW(usual), x, y);
            }
        }
    }
    for shape in [&[][..], &[1], &[0], &[10_007], &[2, 3, 65]] {
        for (i, kind) in [usual, AdamW::new(0.9, 0.999, 1e-8, 0.0), AdamW::new(0.0, 0.99, 1e-5, 0.01)]
            .into_iter()
            .enumerate()
        {
            let (x, y) = operands(c, [F32, F32], shape, 1 + 7 * i as i32, [1.0, 1e-3, 100.0][i]);
            c.add("adamw", OpKind::AdamW(kind), x, y);
        }
    }
    let (mut x, mut y) = operands(c, [F32, F32], &[33], 1, 1.0);
    x[0] = Array::full(F32, &[33], 0.0).into();
    y[2] = Array::full(F32, &[33], 0.0).into();
    c.add("adamw without gradient", OpKind::AdamW(usual), x, y);
}
