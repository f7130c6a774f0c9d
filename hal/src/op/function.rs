//! What attributes are made of: numbers that can be hashed, and the functions that ops choose from.

use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};

/// An f32 attribute, compared and hashed by its bits.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scalar(pub f32);

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl From<f32> for Scalar {
    fn from(x: f32) -> Self {
        Scalar(x)
    }
}

/// Functions of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UnaryFn {
    /// −x
    Neg,
    /// |x|
    Abs,
    /// eˣ
    Exp,
    /// ln x
    Log,
    /// √x
    Sqrt,
    /// 1/√x
    Rsqrt,
    /// 1/x
    Recip,
    /// x²
    Square,
    /// 1/(1 + e⁻ˣ)
    Sigmoid,
    /// x · sigmoid(x)
    Silu,
    /// tanh x
    Tanh,
    /// max(x, 0)
    Relu,
    /// scale · x + shift
    Affine {
        /// Factor.
        scale: Scalar,
        /// Summand.
        shift: Scalar,
    },
}

/// Functions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BinaryFn {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
    /// max(a, b)
    Max,
    /// min(a, b)
    Min,
    /// 1 if a = b, else 0
    Equal,
    /// 1 if a < b, else 0
    Less,
}

/// Reductions over the last axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReduceFn {
    /// Σ x
    Sum,
    /// Σ x / n
    Mean,
    /// max x
    Max,
    /// The lowest index of the largest element, as i32.
    ArgMax,
    /// Σ x²
    SumSquares,
}

/// What [`OpKind::Philox`](super::OpKind::Philox) draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Distribution {
    /// The u32 numbers themselves; bit-identical everywhere.
    Bits,
    /// Uniform on [0, 1): the upper 24 bits times 2⁻²⁴; bit-identical everywhere.
    Uniform,
    /// Standard normal, by Box–Muller from pairs of numbers.
    Normal,
}

/// How router logits become scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScoreFn {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each expert's logit.
    Sigmoid,
}

/// How a group of experts is scored in group-limited routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupScore {
    /// Its best biased score (DeepSeek-V2).
    Max,
    /// The sum of its two best biased scores (DeepSeek-V3).
    SumTop2,
}
