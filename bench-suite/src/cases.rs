//! What is timed: for each op of the catalogue, shapes that models meet, with the operations that must be
//! done and the bytes that must move at least.

mod attention;
mod elementwise;
mod experts;
mod loss;
mod operands;
mod products;
mod rows;

pub use operands::Loaded;
use operands::{Data, Operands};

use crate::skew::Skew;
use halite_hal::{DType, Graph, Op, OpKind};

/// The sizes that the cases are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Tokens of a pass; those of decoding are one.
    pub tokens: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Keys that a decoded token sees.
    pub context: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Routed experts.
    pub experts: usize,
    /// Experts of a token.
    pub top_k: usize,
    /// Width of an expert.
    pub width: usize,
    /// Sides of square products.
    pub squares: [usize; 2],
    /// Output and input width of the weight of a decoded token.
    pub weight: [usize; 2],
    /// Elements of a large vector, as optimizers have them.
    pub elements: usize,
}

impl Sizes {
    /// Of a model that fits any device.
    pub const FULL: Sizes = Sizes {
        tokens: 512,
        hidden: 1024,
        heads: 16,
        kv_heads: 4,
        head_dim: 64,
        context: 4096,
        vocab: 16384,
        experts: 8,
        top_k: 2,
        width: 512,
        squares: [512, 1024],
        weight: [4096, 4096],
        elements: 1 << 22,
    };

    /// To see that everything runs; too small for figures.
    pub const QUICK: Sizes = Sizes {
        tokens: 16,
        hidden: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        context: 32,
        vocab: 128,
        experts: 4,
        top_k: 2,
        width: 32,
        squares: [32, 64],
        weight: [64, 64],
        elements: 1 << 10,
    };

    /// Rows of the sorted assignments.
    fn rows(&self) -> usize {
        self.tokens * self.top_k
    }
}

/// One op on operands of given layouts and contents.
#[derive(Debug)]
pub struct Case {
    /// What is special about it: shapes, and how operands lie.
    pub case: String,
    /// The type of the large operands.
    pub dtype: DType,
    /// How tokens fall on experts, where that matters.
    pub skew: Option<Skew>,
    /// Operations of the formula: a product counts two for each pair, a function such as exp one.
    pub flops: u64,
    /// Bytes of operands that are read and written, each once.
    pub bytes: u64,
    /// The op alone, its operands external slots.
    graph: Graph,
    /// What the slots hold at first.
    data: Vec<Data>,
}

impl Case {
    /// The op; its operands are slots.
    pub fn op(&self) -> &Op {
        &self.graph.ops[0]
    }

    /// The op's name.
    pub fn name(&self) -> &str {
        self.op().kind.name()
    }

    fn skewed(mut self, skew: Skew) -> Self {
        self.skew = Some(skew);
        self
    }

    /// Of an op that doesn't touch all of its operands.
    fn touching(mut self, bytes: usize) -> Self {
        self.bytes = bytes as u64;
        self
    }
}

/// Every case, in the order of the catalogue.
pub fn all(s: &Sizes) -> Vec<Case> {
    let mut cases = Vec::new();
    elementwise::cases(s, &mut cases);
    rows::cases(s, &mut cases);
    products::cases(s, &mut cases);
    attention::cases(s, &mut cases);
    loss::cases(s, &mut cases);
    experts::cases(s, &mut cases);
    let place = |c: &Case| OpKind::NAMES.iter().position(|n| *n == c.name());
    cases.sort_by_key(place);
    cases
}

/// A copy of `bytes` bytes: what a device's memory is measured with.
pub fn large_copy(bytes: u64) -> Case {
    let mut o = Operands::new();
    let n = (bytes / 4) as usize;
    let (x, y) = (o.zeros(DType::F32, &[n / 1024, 1024]), o.zeros(DType::F32, &[n / 1024, 1024]));
    o.case(Op::copy(x, y), "large", DType::F32, 0)
}

/// A product of square matrices, `n³`: what a device's arithmetic is measured with.
pub fn square_product(dtype: DType, n: usize) -> Case {
    products::square(dtype, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_has_a_case_and_every_case_is_a_valid_op() {
        for sizes in [Sizes::QUICK, Sizes::FULL] {
            let cases = all(&sizes);
            for name in OpKind::NAMES {
                assert!(cases.iter().any(|c| c.name() == name), "no case of {name}");
            }
            for c in &cases {
                c.graph.check().unwrap_or_else(|e| panic!("{}: {e}", c.case));
                assert_eq!(c.graph.ops.len(), 1);
                assert!(c.bytes > 0, "{} {}", c.name(), c.case);
            }
        }
    }

    #[test]
    fn no_two_cases_look_the_same() {
        let mut seen: Vec<String> = all(&Sizes::FULL)
            .iter()
            .map(|c| format!("{} {} {} {:?}", c.name(), c.case, c.dtype, c.skew))
            .collect();
        let n = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), n);
    }

    #[test]
    fn what_must_be_done_is_counted() {
        let c = square_product(DType::BF16, 64);
        assert_eq!((c.flops, c.bytes), (2 * 64 * 64 * 64, 3 * 64 * 64 * 2));
        let cases = all(&Sizes::QUICK);
        let find = |name: &str, case: &str| {
            cases.iter().find(|c| c.name() == name && c.case.contains(case) && c.dtype == DType::F32).unwrap()
        };
        // x [16, 64] and y, w [64], rstd [16].
        assert_eq!(find("rms_norm", "").bytes, 4 * (2 * 16 * 64 + 64 + 16));
        // 16 of 128 rows, their indices, and y.
        assert_eq!(find("embedding", "").bytes, 4 * (2 * 16 * 64 + 16));
        // grad, and param, m, v read and written; hyper and factor.
        assert_eq!(find("adamw", "").bytes, 4 * (7 * 1024 + 4));
        // Queries 16 of 4 heads, which see 1 to 16 keys.
        assert_eq!(find("attention", "prefill").flops, 4 * 4 * 16 * (16 * 17 / 2));
    }

    #[test]
    fn skew_is_an_axis_of_routed_ops() {
        for name in ["grouped_matmul", "grouped_matmul_weight", "expert_permutation"] {
            for skew in Skew::ALL {
                let found = |c: &Case| c.name() == name && c.skew == Some(skew);
                assert!(all(&Sizes::QUICK).iter().any(found), "{name} {skew:?}");
            }
        }
    }
}
