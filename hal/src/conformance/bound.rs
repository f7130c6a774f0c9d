//! Numbers that carry a bound of what f32 arithmetic may do to them.
//!
//! The reference is evaluated on [`Bounded`] instead of f64. Each operation adds to the bound what it
//! passes on from its operands (to first order, or as an interval where a function is steep) and what it
//! may lose itself, counted in ulps of f32 (2⁻²³ relative). So the tolerance of an element follows from
//! the formula, the reduction length and the data; no case has one of its own. What an operation may lose:
//!
//! - `+ − ×`: 1 ulp, i.e. twice a correct rounding, which leaves room for truncating hardware;
//! - a sum of `n > 1` terms: `(2 + √n)` ulps of `Σ |terms|`. The worst case is `n − 1`, but rounding errors
//!   behave like a random walk (Higham & Mary 2019, "A new approach to probabilistic rounding error
//!   analysis", √n), and partial sums, as lanes or threads have them, do better still. One running f32 sum
//!   over tens of thousands of terms of one sign is biased and does not fit: long rows need partial sums;
//! - `÷ √ ln`: 4 ulps, and for `ln` another 2⁻²¹ absolute; `exp`: `4 + 2|x|` ulps; `tanh sin cos`: 2⁻²¹
//!   absolute. This is what WGSL and Vulkan promise of `exp`, `log`, `/` and `sqrt` (3 + 2|x|, 3 and 2⁻²¹,
//!   2.5, 3 ulps); `exp` by way of 2ˣ can't do better, as the product with log₂e is rounded;
//! - subnormal results may be flushed to zero.
//!
//! An element without any of these (a copied, negated or chosen one) has the bound 0: it must be exact.

use crate::CustomOp;
use crate::philox::Normals;
use crate::reference::{Array, Real, Sum};
use std::ops::{Add, Div, Mul, Neg, Sub};

const ULP: f64 = f32::EPSILON as f64;
const FLUSH: f64 = f32::MIN_POSITIVE as f64;

/// A value, and how far from it a device's f32 may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounded {
    pub value: f64,
    pub error: f64,
    /// What storing it changes besides, where that isn't known by its type alone: it is part of a block.
    pub rounding: f64,
}

/// A value that isn't part of a block.
fn bounded(value: f64, error: f64) -> Bounded {
    Bounded { value, error, rounding: 0.0 }
}

/// A result that inherited `error` and may lose `ulps` ulps of itself.
fn computed(value: f64, error: f64, ulps: f64) -> Bounded {
    bounded(value, error + ulps * ULP * value.abs() + FLUSH)
}

/// The larger distance from `f(x)` to `f` at the ends of the interval around `x`.
fn spread(x: Bounded, f: impl Fn(f64) -> f64) -> f64 {
    let at = f(x.value);
    (f(x.value + x.error) - at).abs().max((at - f(x.value - x.error)).abs())
}

impl From<f64> for Bounded {
    fn from(value: f64) -> Self {
        bounded(value, 0.0)
    }
}

impl Add for Bounded {
    type Output = Bounded;
    fn add(self, b: Bounded) -> Bounded {
        computed(self.value + b.value, self.error + b.error, 1.0)
    }
}

impl Sub for Bounded {
    type Output = Bounded;
    fn sub(self, b: Bounded) -> Bounded {
        self + -b
    }
}

impl Mul for Bounded {
    type Output = Bounded;
    fn mul(self, b: Bounded) -> Bounded {
        let passed = self.value.abs() * b.error + (b.value.abs() + b.error) * self.error;
        computed(self.value * b.value, passed, 1.0)
    }
}

impl Div for Bounded {
    type Output = Bounded;
    fn div(self, b: Bounded) -> Bounded {
        let quotient = self.value / b.value;
        let room = b.value.abs() - b.error;
        let passed = if room > 0.0 { (self.error + quotient.abs() * b.error) / room } else { f64::INFINITY };
        computed(quotient, passed, 4.0)
    }
}

impl Neg for Bounded {
    type Output = Bounded;
    fn neg(self) -> Bounded {
        bounded(-self.value, self.error)
    }
}

/// Terms of a sum and their magnitude.
#[derive(Clone, Copy, Debug, Default)]
pub struct BoundedSum {
    value: f64,
    error: f64,
    magnitude: f64,
    terms: u32,
}

impl Sum<Bounded> for BoundedSum {
    fn push(&mut self, x: Bounded) {
        self.value += x.value;
        self.error += x.error;
        self.magnitude += x.value.abs();
        self.terms += 1;
    }

    fn total(&self) -> Bounded {
        let mut error = self.error;
        if self.terms > 1 {
            error += (2.0 + f64::from(self.terms).sqrt()) * ULP * self.magnitude + FLUSH;
        }
        bounded(self.value, error)
    }
}

impl Real for Bounded {
    type Sum = BoundedSum;

    fn value(self) -> f64 {
        self.value
    }
    fn exp(self) -> Bounded {
        let e = self.value.exp();
        computed(e, e * self.error.exp_m1(), 4.0 + 2.0 * self.value.abs())
    }
    fn ln(self) -> Bounded {
        if self.error >= self.value {
            return bounded(self.value.ln(), f64::INFINITY);
        }
        computed(self.value.ln(), spread(self, f64::ln) + 4.0 * ULP, 4.0)
    }
    fn sqrt(self) -> Bounded {
        computed(self.value.sqrt(), spread(self, |x| x.max(0.0).sqrt()), 4.0)
    }
    fn in_block(self, rounding: f64, error: f64) -> Bounded {
        Bounded { value: self.value, error: self.error + error, rounding }
    }
    fn tanh(self) -> Bounded {
        computed(self.value.tanh(), self.error + 4.0 * ULP, 0.0)
    }
    fn sin(self) -> Bounded {
        computed(self.value.sin(), self.error + 4.0 * ULP, 0.0)
    }
    fn cos(self) -> Bounded {
        computed(self.value.cos(), self.error + 4.0 * ULP, 0.0)
    }
    fn max(self, b: Bounded) -> Bounded {
        let (larger, other) = if b.value > self.value { (b, self) } else { (self, b) };
        let close = larger.value - other.value <= larger.error + other.error;
        Bounded { error: if close { larger.error.max(other.error) } else { larger.error }, ..larger }
    }

    /// The formula of a custom op is only known in f64. Its condition is measured: the inputs are moved by
    /// 4 ulps at random, four times, and the largest change counts four times. To that come 16 ulps of the
    /// largest result.
    fn custom(op: &dyn CustomOp, inputs: &[Array<Bounded>], outputs: &mut [Array<Bounded>]) {
        let mut noise = Normals::new(0, 0);
        let mut run = |size: f64| -> Vec<Array> {
            let mut moved = |a: &Array<Bounded>| {
                let mut values = values(a);
                if a.dtype.is_float() {
                    values
                        .data
                        .iter_mut()
                        .for_each(|x| *x *= 1.0 + size * noise.next().unwrap_or(0.0).signum());
                }
                values
            };
            let inputs: Vec<Array> = inputs.iter().map(&mut moved).collect();
            let mut out: Vec<Array> = outputs.iter().map(&mut moved).collect();
            op.reference(&inputs, &mut out);
            out
        };
        let want = run(0.0);
        let moved: Vec<Vec<Array>> = (0..4).map(|_| run(4.0 * ULP)).collect();
        for (o, out) in outputs.iter_mut().enumerate() {
            let largest = want[o].data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            for (i, y) in out.data.iter_mut().enumerate() {
                let value = want[o].data[i];
                let change = moved.iter().fold(0.0, |m: f64, run| m.max((run[o].data[i] - value).abs()));
                *y = bounded(value, 4.0 * change + 16.0 * ULP * largest + FLUSH);
            }
        }
    }
}

/// The array without bounds.
pub fn values(a: &Array<Bounded>) -> Array {
    Array::new(a.dtype, &a.shape, a.data.iter().map(|x| x.value).collect())
}

/// The array as exact numbers.
pub fn exact(a: &Array) -> Array<Bounded> {
    Array::new(a.dtype, &a.shape, a.data.iter().map(|&x| x.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_arithmetic_stays_inside() {
        let x: Vec<f32> = Normals::new(1, 0).take(3000).map(|x| x as f32).collect();
        for n in [2, 10, 100, 3000] {
            let sum: f32 = x[..n].iter().map(|x| x * x).sum();
            let want =
                Bounded::sum(x[..n].iter().map(|&x| Bounded::from(f64::from(x)) * f64::from(x).into()));
            let off = (f64::from(sum) - want.value).abs();
            assert!(off <= want.error && want.error < 1e-3 * want.value, "{n}: {off} of {}", want.error);
        }
        for &x in &x {
            let b = Bounded::from(f64::from(x));
            let pairs = [
                (f64::from((3.0 * x).exp()), (Bounded::from(3.0) * b).exp()),
                (f64::from((x * x).sqrt()), (b * b).sqrt()),
                (f64::from((1.0 + x * x).ln()), (Bounded::from(1.0) + b * b).ln()),
                (f64::from(x / (2.0 + x * x)), b / (Bounded::from(2.0) + b * b)),
                (f64::from(x - 1.0), b - 1.0.into()),
            ];
            for (i, (got, want)) in pairs.into_iter().enumerate() {
                assert!((got - want.value).abs() <= want.error, "{i} at {x}: {got} for {want:?}");
                assert!(want.error < 1e-5 * (1.0 + want.value.abs()), "{i} at {x}: {want:?}");
            }
        }
    }

    #[test]
    fn choices_are_exact_and_cancellation_is_not() {
        let (a, b) = (Bounded::from(1.0), Bounded::from(2.0));
        assert_eq!((-a.max(b)).error, 0.0);
        assert_eq!(Bounded::sum([a]).error, 0.0);
        let third = a / 3.0.into();
        assert!((third - Bounded::from(1.0 / 3.0)).error >= third.error);
        assert_eq!((a / (third - third)).error, f64::INFINITY);
    }
}
