//! Softmax and RMS normalisation.

use super::TRIPLES;
use crate::conformance::case::{Cases, Value};
use crate::reference::{Array, eval};
use crate::{DType, DType::*, OpKind};

const ROWS: [&[usize]; 9] =
    [&[1], &[9], &[0, 5], &[3, 0], &[4, 1], &[2, 1000], &[2, 32_003], &[2, 3, 33], &[129, 2]];

pub fn softmax(c: &mut Cases) {
    for [from, _, to] in TRIPLES {
        let x = c.data.normal(from, &[3, 2, 37], 3.0).into();
        let y = c.out(to, &[3, 2, 37]);
        c.all("softmax", OpKind::Softmax, vec![x], vec![y]);
    }
    for shape in ROWS {
        for (name, scale) in [("softmax", 2.0), ("softmax all equal", 0.0), ("softmax large", 1e4)] {
            let x = c.data.normal(F32, shape, scale).into();
            let y = c.out(F32, shape);
            c.add(name, OpKind::Softmax, vec![x], vec![y]);
        }
    }
    let x = Array::new(F32, &[2, 3], vec![1e4, -1e4, 0.0, -1e4, -1e4, -1e4]).into();
    let y = c.out(F32, &[2, 3]);
    c.all("softmax ends", OpKind::Softmax, vec![x], vec![y]);
}

/// The rounded softmax of normals.
fn probabilities(c: &mut Cases, dtype: DType, shape: &[usize], scale: f64) -> Array {
    let x = c.data.normal(F32, shape, scale);
    let mut y = [Array::full(dtype, shape, 0.0)];
    eval(&OpKind::Softmax, &[x], &mut y);
    let [y] = y;
    y.rounded()
}

pub fn softmax_backward(c: &mut Cases) {
    for [dy, ddy, ddx] in TRIPLES {
        for out in [ddx, ddy] {
            let y = probabilities(c, dy, &[3, 2, 37], 2.0).into();
            let g = c.data.normal(ddy, &[3, 2, 37], 1.0).into();
            let dx = c.out(out, &[3, 2, 37]);
            c.all("softmax_backward", OpKind::SoftmaxBackward, vec![y, g], vec![dx]);
        }
    }
    for shape in ROWS {
        for scale in [2.0, 0.0, 1e3] {
            let y = probabilities(c, F32, shape, scale).into();
            let g = c.data.normal(F32, shape, 1.0).into();
            let dx = c.out(F32, shape);
            c.add("softmax_backward", OpKind::SoftmaxBackward, vec![y, g], vec![dx]);
        }
    }
}

const NORMS: [(usize, usize); 9] =
    [(1, 1), (1, 8), (0, 5), (7, 0), (3, 1000), (2, 8191), (65, 33), (300, 3), (1, 4096)];

pub fn rms_norm(c: &mut Cases) {
    let kind = OpKind::RmsNorm { eps: 1e-5.into() };
    for [dx, dw, dy] in TRIPLES {
        for out in [dy, dx] {
            let x = vec![c.data.normal(dx, &[5, 19], 1.0).into(), c.data.normal(dw, &[19], 1.0).into()];
            let y = vec![c.out(out, &[5, 19]), c.out(F32, &[5])];
            c.all("rms_norm", kind.clone(), x, y);
        }
    }
    for (rows, n) in NORMS {
        for (name, scale, eps) in
            [("", 1.0, 1e-6f32), ("zeros", 0.0, 1e-5), ("large", 1e4, 1e-5), ("small", 1e-4, 1e-5)]
        {
            let x = vec![c.data.normal(F32, &[rows, n], scale).into(), c.data.normal(F32, &[n], 1.0).into()];
            let y = vec![c.out(F32, &[rows, n]), c.out(F32, &[rows])];
            c.add(name, OpKind::RmsNorm { eps: eps.into() }, x, y);
        }
        let x = vec![c.data.normal(BF16, &[rows, n], 3.0).into(), c.data.normal(BF16, &[n], 1.0).into()];
        let y = vec![c.out(BF16, &[rows, n]), c.out(F32, &[rows])];
        c.in_place("rms_norm", kind.clone(), x, y);
    }
}

pub fn rms_norm_backward(c: &mut Cases) {
    let operands =
        |c: &mut Cases, [dx, dw, ddy]: [DType; 3], rows: usize, n: usize, scale: f64| -> Vec<Value> {
            let (x, w) = (c.data.normal(dx, &[rows, n], scale), c.data.normal(dw, &[n], 1.0));
            let mut y = [Array::full(F32, &[rows, n], 0.0), Array::full(F32, &[rows], 0.0)];
            eval(&OpKind::RmsNorm { eps: 1e-5.into() }, &[x.clone(), w.clone()], &mut y);
            let [_, rstd] = y;
            let dy = c.data.normal(ddy, &[rows, n], 1.0);
            vec![dy.into(), x.into(), w.into(), rstd.rounded().into()]
        };
    for dtypes in TRIPLES {
        for accumulate in [false, true] {
            let x = operands(c, dtypes, 5, 19, 1.0);
            let y = vec![c.out(dtypes[2], &[5, 19]), c.out(F32, &[19])];
            c.all("rms_norm_backward", OpKind::RmsNormBackward { accumulate }, x.clone(), y);
            let y = vec![c.out(dtypes[1], &[5, 19]), c.out(F32, &[19])];
            c.add("rms_norm_backward", OpKind::RmsNormBackward { accumulate }, x, y);
        }
    }
    for (rows, n) in NORMS {
        for (i, scale) in [1.0, 1e4, 1e-3].into_iter().enumerate() {
            let x = operands(c, [F32; 3], rows, n, scale);
            let y = vec![c.out(F32, &[rows, n]), c.out(F32, &[n])];
            c.add("rms_norm_backward", OpKind::RmsNormBackward { accumulate: i == 1 }, x, y);
        }
    }
}
