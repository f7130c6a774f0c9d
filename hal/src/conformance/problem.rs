//! Problems of the sizes that models have: to time and check kernels on.
//!
//! Unlike the suite's cases, which are small and odd, these have extents of powers of two and the layouts of
//! a model's forward and backward passes. Each is checked in the same way, against the same bounds.

use super::case::{Case, Cases, Style, Value};
use super::check::{self, Expected, Outcome};
use super::data::Data;
use crate::DType::{self, BF16, F32, I32, Q4_0, Q8_0};
use crate::reference::{Array, eval};
use crate::{Attention, Device, Op, OpDesc, OpKind, ReduceFn, Result, Shape};
use std::fmt;
use std::sync::OnceLock;

/// An op with operands that make sense, and what the reference says of it.
pub struct Problem {
    case: Case,
    data: Data,
    expected: OnceLock<Expected>,
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({})", self.desc())
    }
}

impl Problem {
    /// The op, without its memory.
    pub fn desc(&self) -> OpDesc {
        self.case.op().desc()
    }

    /// Asks the reference, which may take seconds; otherwise the first use does.
    pub fn prepare(&self) {
        self.expected();
    }

    fn expected(&self) -> &Expected {
        self.expected.get_or_init(|| Expected::new(&self.case, &mut self.data.clone()))
    }

    /// Runs it on a device and compares; says what is wrong, if anything is.
    ///
    /// # Errors
    /// Those of the device.
    pub fn check(&self, device: &dyn Device) -> Result<Result<(), String>> {
        Ok(match check::compare_on(device, &self.case, self.expected())? {
            Outcome::Passed { .. } => Ok(()),
            Outcome::Failed(message) => Err(message),
            Outcome::Unsupported(reason) => Err(format!("unsupported: {reason}")),
        })
    }

    /// The op with memory of its own on a device.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn op(&self, device: &dyn Device) -> Result<Op> {
        Ok(check::place(device, &self.case, self.expected())?.op)
    }
}

/// The problems of an op, the quick ones or all; none for ops that are always done in one way.
pub fn problems(op: &str, quick: bool) -> impl Iterator<Item = Problem> + use<> {
    let name = op.to_string();
    setups(op, quick).into_iter().map(move |setup| {
        let mut cases = Cases::new(Data::new(0, &name));
        let (kind, inputs, outputs) = setup.operands(&mut cases);
        let case = Case {
            name: String::new(),
            kind,
            inputs,
            outputs,
            styles: setup.styles(),
            in_place: false,
            pooled: false,
            packed: false,
        };
        Problem { case, data: cases.data, expected: OnceLock::new() }
    })
}

/// Which of the factors of a product lie with their last two axes swapped.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// The weight: `x·Wᵀ`.
    Forward,
    /// Neither: `dy·W`.
    Backward,
    /// The first: `dyᵀ·x`.
    Weight,
}

#[derive(Clone, Copy, Debug)]
enum Setup {
    Matmul { pass: Pass, dtypes: [DType; 3], m: usize, k: usize, n: usize },
    Grouped { pass: Pass, dtype: DType, rows: usize, k: usize, n: usize },
    GroupedWeight { dtype: DType, rows: usize, m: usize, n: usize },
    Rows { op: Row, dtype: DType, rows: usize, n: usize },
    Attention { backward: bool, dtype: DType, tokens: usize, kv: usize },
    Permutation { tokens: usize },
}

/// Ops on rows.
#[derive(Clone, Copy, Debug)]
enum Row {
    Reduce,
    Softmax,
    SoftmaxBackward,
    RmsNorm,
    RmsNormBackward,
    CrossEntropy,
}

const EXPERTS: usize = 8;
const WIDTH: usize = 512;

fn setups(op: &str, quick: bool) -> Vec<Setup> {
    let mut all = Vec::new();
    let dtypes: &[DType] = if quick { &[F32] } else { &[F32, BF16] };
    let rows = |op: Row| {
        let mut all = Vec::new();
        let sizes: &[_] = match quick {
            true => &[(64, 1024)],
            false => &[(1, 1024), (1, 32_768), (64, 64), (64, 1024), (1024, 1024), (8192, 64)],
        };
        for &dtype in dtypes {
            all.extend(sizes.iter().map(|&(rows, n)| Setup::Rows { op, dtype, rows, n }));
        }
        all
    };
    match op {
        "matmul" => {
            let ms: &[usize] = if quick { &[1, 512] } else { &[1, 8, 64, 512] };
            let widths: &[usize] = if quick { &[WIDTH] } else { &[128, WIDTH] };
            let passes: &[Pass] =
                if quick { &[Pass::Forward] } else { &[Pass::Forward, Pass::Backward, Pass::Weight] };
            for &dtype in dtypes {
                for &width in widths {
                    for &pass in passes {
                        let of = |&m| Setup::Matmul { pass, dtypes: [dtype; 3], m, k: width, n: width };
                        all.extend(ms.iter().map(of));
                    }
                }
            }
            let blocks: &[DType] = if quick { &[] } else { &[Q8_0, Q4_0] };
            for &b in blocks {
                let pass = Pass::Forward;
                let of = |m| Setup::Matmul { pass, dtypes: [F32, b, F32], m, k: WIDTH, n: WIDTH };
                all.extend([1, 64].map(of));
            }
        }
        "grouped_matmul" => {
            for &dtype in dtypes {
                for pass in [Pass::Forward, Pass::Backward] {
                    all.extend([8, 512].map(|rows| Setup::Grouped { pass, dtype, rows, k: 256, n: 256 }));
                }
            }
        }
        "grouped_matmul_weight" => {
            all.extend(dtypes.iter().map(|&dtype| Setup::GroupedWeight { dtype, rows: 512, m: 256, n: 256 }));
        }
        "reduce" => all = rows(Row::Reduce),
        "softmax" => all = rows(Row::Softmax),
        "softmax_backward" => all = rows(Row::SoftmaxBackward),
        "rms_norm" => all = rows(Row::RmsNorm),
        "rms_norm_backward" => all = rows(Row::RmsNormBackward),
        "cross_entropy" => all = rows(Row::CrossEntropy),
        "attention" | "attention_backward" => {
            let backward = op == "attention_backward";
            for &dtype in dtypes {
                let of = |(tokens, kv)| Setup::Attention { backward, dtype, tokens, kv };
                all.push(of((128, 128)));
                if !backward {
                    all.push(of((1, 1024)));
                }
            }
        }
        "expert_permutation" => all.extend([16, 4096].map(|tokens| Setup::Permutation { tokens })),
        _ => {}
    }
    all
}

type Operands = (OpKind, Vec<Value>, Vec<Value>);

impl Setup {
    /// The layout of each operand, inputs first, repeated.
    fn styles(self) -> Vec<Style> {
        use Style::{Columns, Plain};
        match self {
            Setup::Matmul { pass, .. } | Setup::Grouped { pass, .. } => match pass {
                Pass::Forward => vec![Plain, Columns, Plain, Plain],
                Pass::Backward => vec![Plain],
                Pass::Weight => vec![Columns, Plain, Plain, Plain],
            },
            _ => vec![Plain],
        }
    }

    fn operands(self, c: &mut Cases) -> Operands {
        match self {
            Setup::Matmul { dtypes: [da, db, dc], m, k, n, .. } => {
                let a = c.data.normal(da, &[m, k], 1.0).into();
                let b = match db.is_block() {
                    true => Value::Blocks(db, Shape::new(&[k, n])),
                    false => c.data.normal(db, &[k, n], 1.0).into(),
                };
                let y = c.out(dc, &[m, n]);
                (OpKind::Matmul { accumulate: false, bias: false }, vec![a, b], vec![y])
            }
            Setup::Grouped { dtype, rows, k, n, .. } => {
                let a = c.data.normal(dtype, &[rows, k], 1.0).into();
                let b = c.data.normal(dtype, &[EXPERTS, k, n], 1.0).into();
                let y = c.out(dtype, &[rows, n]);
                let kind = OpKind::GroupedMatmul { accumulate: false, bias: false };
                (kind, vec![a, b, offsets(c, rows)], vec![y])
            }
            Setup::GroupedWeight { dtype, rows, m, n } => {
                let a = c.data.normal(dtype, &[rows, m], 1.0).into();
                let b = c.data.normal(dtype, &[rows, n], 1.0).into();
                let y = c.out(F32, &[EXPERTS, m, n]);
                (OpKind::GroupedMatmulWeight { accumulate: false }, vec![a, b, offsets(c, rows)], vec![y])
            }
            Setup::Rows { op, dtype, rows, n } => op.operands(c, dtype, rows, n),
            Setup::Attention { backward, dtype, tokens, kv } => attention(c, backward, dtype, tokens, kv),
            Setup::Permutation { tokens } => {
                let k = 2;
                let x = c.data.indices(&[tokens, k], EXPERTS).into();
                let y = [vec![EXPERTS + 1], vec![tokens * k], vec![tokens, k]].map(|s| c.out(I32, &s));
                (OpKind::ExpertPermutation { experts: EXPERTS }, vec![x], y.into())
            }
        }
    }
}

impl Row {
    fn operands(self, c: &mut Cases, dtype: DType, rows: usize, n: usize) -> Operands {
        let shape = [rows, n];
        let x = c.data.normal(dtype, &shape, 1.0);
        match self {
            Row::Reduce => {
                let y = c.out(F32, &[rows]);
                (OpKind::Reduce { f: ReduceFn::Sum, accumulate: false }, vec![x.into()], vec![y])
            }
            Row::Softmax => (OpKind::Softmax, vec![x.into()], vec![c.out(dtype, &shape)]),
            Row::SoftmaxBackward => {
                let [y] = done(&OpKind::Softmax, &[x], [(dtype, &shape)]);
                let grad = c.data.normal(dtype, &shape, 1.0).into();
                (OpKind::SoftmaxBackward, vec![y.into(), grad], vec![c.out(dtype, &shape)])
            }
            Row::RmsNorm => {
                let w = c.data.normal(F32, &[n], 1.0).into();
                let y = vec![c.out(dtype, &shape), c.out(F32, &[rows])];
                (OpKind::RmsNorm { eps: 1e-5.into() }, vec![x.into(), w], y)
            }
            Row::RmsNormBackward => {
                let w = c.data.normal(F32, &[n], 1.0);
                let norm = OpKind::RmsNorm { eps: 1e-5.into() };
                let inputs = [x.clone(), w.clone()];
                let [_, rstd] = done(&norm, &inputs, [(dtype, &shape), (F32, &[rows])]);
                let grad = c.data.normal(dtype, &shape, 1.0);
                let y = vec![c.out(dtype, &shape), c.out(F32, &[n])];
                let inputs = [grad, x, w, rstd].map(Value::from).into();
                (OpKind::RmsNormBackward { accumulate: false }, inputs, y)
            }
            Row::CrossEntropy => {
                let target = c.data.indices(&[rows], n).into();
                let y = vec![c.out(F32, &[rows]), c.out(F32, &[rows])];
                (OpKind::CrossEntropy, vec![x.into(), target], y)
            }
        }
    }
}

/// Offsets of rows that are spread unevenly: shares of 1, 2, … of the rows.
fn offsets(c: &mut Cases, rows: usize) -> Value {
    let total = EXPERTS * (EXPERTS + 1) / 2;
    let mut ends = (0..=EXPERTS).map(|e| (rows * (e * (e + 1) / 2) / total) as f64);
    c.data.map(I32, &[EXPERTS + 1], |_| ends.next().expect("one more than experts")).into()
}

/// One sequence: the last `tokens` of `kv`, 8 heads of 64 on 2 of keys.
fn attention(c: &mut Cases, backward: bool, dtype: DType, tokens: usize, kv: usize) -> Operands {
    let (heads, kv_heads, d) = (8, 2, 64);
    let kind = Attention::causal(1.0 / (d as f32).sqrt());
    let q = c.data.normal(dtype, &[tokens, heads, d], 1.0);
    let [k, v] = [(); 2].map(|()| c.data.normal(dtype, &[kv, kv_heads, d], 1.0));
    let seqs = Array::new(I32, &[1, 4], vec![0.0, tokens as f64, 0.0, kv as f64]);
    let o = [(dtype, &[tokens, heads, d][..]), (F32, &[tokens, heads])];
    if !backward {
        let y = o.map(|(dtype, shape)| c.out(dtype, shape)).into();
        return (OpKind::Attention(kind), [q, k, v, seqs].map(Value::from).into(), y);
    }
    let inputs = [q, k, v, seqs];
    let [o, lse] = done(&OpKind::Attention(kind), &inputs, o);
    let [q, k, v, seqs] = inputs;
    let grad = c.data.normal(dtype, &o.shape, 1.0);
    let y = [&q, &k, &v].map(|x| c.out(dtype, &x.shape)).into();
    (OpKind::AttentionBackward(kind), [grad, q, k, v, o, lse, seqs].map(Value::from).into(), y)
}

/// What the reference makes of an op, rounded.
fn done<const N: usize>(kind: &OpKind, inputs: &[Array], outputs: [(DType, &[usize]); N]) -> [Array; N] {
    let mut y = outputs.map(|(dtype, shape)| Array::full(dtype, shape, 0.0));
    eval(kind, inputs, &mut y);
    y.map(Array::rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_well_formed_and_described_as_they_lie() {
        let device = crate::reference::ReferenceDevice::new();
        for op in OpKind::NAMES {
            for (i, problem) in problems(op, true).enumerate() {
                let desc = problem.desc();
                desc.check().unwrap();
                assert_eq!(desc.kind.name(), op);
                // The others' references take long.
                if i == 0 {
                    assert_eq!(problem.op(&device).unwrap().desc(), desc);
                }
            }
            assert!(problems(op, false).count() >= problems(op, true).count());
        }
        assert!(problems("matmul", true).count() > 0);
    }

    #[test]
    fn the_reference_passes_and_a_device_that_does_nothing_fails() {
        let device = crate::reference::ReferenceDevice::new();
        for op in ["softmax", "rms_norm_backward", "expert_permutation"] {
            for problem in problems(op, true) {
                problem.check(&device).unwrap().unwrap();
            }
        }
        let idle = crate::devices::NullDevice::new(device.info().clone());
        let problem = problems("softmax", true).next().unwrap();
        assert!(problem.check(&idle).unwrap().is_err());
    }
}
