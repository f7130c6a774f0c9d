//! Element by element, and reductions over the last axis.

use super::{Array, Real};
use crate::{BinaryFn, ReduceFn, Scalar, UnaryFn};

fn constant<T: Real>(x: Scalar) -> T {
    f64::from(x.0).into()
}

pub(super) fn fill<T: Real>(value: Scalar, y: &mut Array<T>) {
    y.data.fill(constant(value));
}

pub(super) fn iota<T: Real>(y: &mut Array<T>) {
    let n = y.width();
    for (i, out) in y.data.iter_mut().enumerate() {
        *out = ((i % n) as f64).into();
    }
}

/// 1/(1 + e⁻ˣ), written so that the exponential never overflows.
pub(super) fn sigmoid<T: Real>(x: T) -> T {
    let one = T::from(1.0);
    let e = (-x.abs()).exp();
    if x.value() < 0.0 { e / (one + e) } else { one / (one + e) }
}

pub(super) fn unary<T: Real>(f: UnaryFn, x: &Array<T>, y: &mut Array<T>) {
    let one = T::from(1.0);
    for (y, &x) in y.data.iter_mut().zip(&x.data) {
        *y = match f {
            UnaryFn::Neg => -x,
            UnaryFn::Abs => x.abs(),
            UnaryFn::Exp => x.exp(),
            UnaryFn::Log => x.ln(),
            UnaryFn::Sqrt => x.sqrt(),
            UnaryFn::Rsqrt => one / x.sqrt(),
            UnaryFn::Recip => one / x,
            UnaryFn::Square => x * x,
            UnaryFn::Sigmoid => sigmoid(x),
            UnaryFn::Silu => x * sigmoid(x),
            UnaryFn::Tanh => x.tanh(),
            UnaryFn::Relu => x.max(T::zero()),
            UnaryFn::Affine { scale, shift } => constant::<T>(scale) * x + constant(shift),
        };
    }
}

pub(super) fn binary<T: Real>(f: BinaryFn, inputs: &[Array<T>], y: &mut Array<T>) {
    let truth = |yes: bool| T::from(f64::from(u8::from(yes)));
    for ((y, &a), &b) in y.data.iter_mut().zip(&inputs[0].data).zip(&inputs[1].data) {
        *y = match f {
            BinaryFn::Add => a + b,
            BinaryFn::Sub => a - b,
            BinaryFn::Mul => a * b,
            BinaryFn::Div => a / b,
            BinaryFn::Max => a.max(b),
            BinaryFn::Min => a.min(b),
            BinaryFn::Equal => truth(a.value() == b.value()),
            BinaryFn::Less => truth(a.value() < b.value()),
        };
    }
}

pub(super) fn reduce<T: Real>(f: ReduceFn, accumulate: bool, x: &Array<T>, y: &mut Array<T>) {
    for (r, y) in y.data.iter_mut().enumerate() {
        let row = x.row(r);
        let mean = |sum: T| if row.is_empty() { sum } else { sum / T::from(row.len() as f64) };
        let result = match f {
            ReduceFn::Sum => T::sum(row.iter().copied()),
            ReduceFn::Mean => mean(T::sum(row.iter().copied())),
            ReduceFn::SumSquares => T::sum(row.iter().map(|&x| x * x)),
            ReduceFn::Max => T::largest(row.iter().copied()),
            ReduceFn::ArgMax => {
                let best = (1..row.len())
                    .fold(0, |best, i| if row[i].value() > row[best].value() { i } else { best });
                T::from(best as f64)
            }
        };
        *y = if accumulate { *y + result } else { result };
    }
}

pub(super) fn swiglu<T: Real>(inputs: &[Array<T>], y: &mut Array<T>) {
    for ((y, &gate), &up) in y.data.iter_mut().zip(&inputs[0].data).zip(&inputs[1].data) {
        *y = gate * sigmoid(gate) * up;
    }
}

/// With `s = sigmoid(gate)`: `dgate = dy · up · s · (1 + gate · (1 − s))`, `dup = dy · gate · s`.
pub(super) fn swiglu_backward<T: Real>(inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    let one = T::from(1.0);
    for i in 0..inputs[0].data.len() {
        let (dy, gate, up) = (inputs[0].data[i], inputs[1].data[i], inputs[2].data[i]);
        let s = sigmoid(gate);
        outputs[0].data[i] = dy * up * s * (one + gate * (one - s));
        outputs[1].data[i] = dy * gate * s;
    }
}
