//! The numbers that the reference computes with.

use super::Array;
use crate::CustomOp;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A running sum.
pub trait Sum<T>: Default {
    /// Adds a term.
    fn push(&mut self, x: T);
    /// The sum so far; 0 of no terms.
    fn total(&self) -> T;
}

impl Sum<f64> for f64 {
    fn push(&mut self, x: f64) {
        *self += x;
    }
    fn total(&self) -> f64 {
        *self
    }
}

/// A number that the reference can compute with: f64, or one that carries more than its value.
pub trait Real:
    Copy
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// How long sums are added up.
    type Sum: Sum<Self>;

    /// The value, for comparisons and indices.
    fn value(self) -> f64;
    /// eˣ
    fn exp(self) -> Self;
    /// ln x
    fn ln(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// sin x
    fn sin(self) -> Self;
    /// cos x
    fn cos(self) -> Self;
    /// The larger one.
    fn max(self, other: Self) -> Self;
    /// Evaluates an op from outside the catalogue.
    fn custom(op: &dyn CustomOp, inputs: &[Array<Self>], outputs: &mut [Array<Self>]);

    /// The value as part of a block, which changes it by up to `rounding`, after arithmetic that loses up to `error`.
    fn in_block(self, rounding: f64, error: f64) -> Self;

    /// The smaller one.
    fn min(self, other: Self) -> Self {
        -(-self).max(-other)
    }

    /// |x|
    fn abs(self) -> Self {
        if self.value() < 0.0 { -self } else { self }
    }

    /// 0
    fn zero() -> Self {
        Self::from(0.0)
    }

    /// The value as an index: anything that is no integer in `0..n` gives `None`.
    fn index(self, n: usize) -> Option<usize> {
        let v = self.value();
        (v >= 0.0 && v < n as f64).then_some(v as usize)
    }

    /// The sum of all terms.
    fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::Sum::default();
        terms.into_iter().for_each(|x| sum.push(x));
        sum.total()
    }

    /// The largest term; the lowest f32 of nothing.
    fn largest(terms: impl IntoIterator<Item = Self>) -> Self {
        let mut terms = terms.into_iter();
        let first = terms.next().unwrap_or_else(|| f64::from(f32::MIN).into());
        terms.fold(first, Self::max)
    }
}

impl Real for f64 {
    type Sum = f64;

    fn value(self) -> f64 {
        self
    }
    fn exp(self) -> f64 {
        self.exp()
    }
    fn ln(self) -> f64 {
        self.ln()
    }
    fn sqrt(self) -> f64 {
        self.sqrt()
    }
    fn tanh(self) -> f64 {
        self.tanh()
    }
    fn sin(self) -> f64 {
        self.sin()
    }
    fn cos(self) -> f64 {
        self.cos()
    }
    fn max(self, other: f64) -> f64 {
        self.max(other)
    }
    fn in_block(self, _: f64, _: f64) -> f64 {
        self
    }
    fn custom(op: &dyn CustomOp, inputs: &[Array], outputs: &mut [Array]) {
        op.reference(inputs, outputs);
    }
}
