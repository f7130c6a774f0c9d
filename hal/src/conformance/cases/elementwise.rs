//! Fills, copies, elementwise ops and reductions.

use super::{TRIPLES, broadcast};
use crate::conformance::case::{Cases, Value};
use crate::reference::Array;
use crate::{BinaryFn, DType, DType::*, OpKind, ReduceFn, Shape, UnaryFn};

pub fn fill(c: &mut Cases) {
    for dtype in DType::ALL.into_iter().filter(|d| !d.is_block()) {
        for (i, value) in [0.0f32, 1.0, -3.7, 300.0, 65000.0, 0.1].into_iter().enumerate() {
            let shape: &[usize] = [&[7][..], &[], &[3, 5], &[2, 3, 4], &[0], &[1031]][i];
            let y = c.out(dtype, shape);
            let kind = OpKind::Fill { value: value.into() };
            if i == 2 {
                c.all("fill", kind, vec![], vec![y]);
            } else {
                c.add("fill", kind, vec![], vec![y]);
            }
        }
    }
}

pub fn iota(c: &mut Cases) {
    for shape in [&[5][..], &[1], &[3, 4], &[2, 0], &[2, 3, 1], &[100_003]] {
        let y = c.out(I32, shape);
        c.add("iota", OpKind::Iota, vec![], vec![y]);
    }
    let y = c.out(I32, &[3, 7]);
    c.all("iota", OpKind::Iota, vec![], vec![y]);
}

/// Values at which conversions go wrong.
fn awkward(dtype: DType) -> Array {
    let values: Vec<f64> = match dtype {
        F32 => vec![
            0.0,
            -0.0,
            1.0,
            -1.9,
            2.5,
            3.5,
            127.9,
            128.0,
            -129.0,
            255.5,
            256.0,
            -0.9,
            1e10,
            -1e10,
            65504.0,
            1.0 + 1.0 / 2048.0,
            1.0 + 3.0 / 2048.0,
            1.0 + 1.0 / 2048.0 + 1e-7,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            2147483520.0,
            4294967040.0,
            5000000000.0,
            6e-5,
            5.9e-8,
            2.98e-8,
            1.4e-6,
            1e-9,
            16777216.0,
            -2147483648.0,
        ],
        I32 => vec![
            0.0,
            1.0,
            -1.0,
            127.0,
            128.0,
            -129.0,
            256.0,
            2049.0,
            2051.0,
            16777217.0,
            33554435.0,
            65504.0,
            2147483647.0,
            -2147483648.0,
        ],
        U32 => vec![0.0, 255.0, 256.0, 2049.0, 16777219.0, 4294967295.0, 2147483648.0],
        _ => return Array::full(dtype, &[0], 0.0),
    };
    Array::new(dtype, &[values.len()], values).rounded()
}

pub fn copy(c: &mut Cases) {
    let plain = || DType::ALL.into_iter().filter(|d| !d.is_block());
    for from in DType::ALL {
        for to in plain() {
            let (shape, x): (&[usize], Value) = match from {
                d if d.is_block() => {
                    let shape: &[usize] = if d.block_elems() == 32 { &[3, 64] } else { &[2, 512] };
                    (shape, Value::Blocks(d, Shape::new(shape)))
                }
                d => (&[3, 7], c.data.normal(d, &[3, 7], 100.0).into()),
            };
            let y = c.out(to, shape);
            if from == to || [from, to].contains(&F32) {
                c.all("copy", OpKind::Copy, vec![x], vec![y]);
            } else {
                c.add("copy", OpKind::Copy, vec![x], vec![y]);
            }
            let mut x = awkward(from);
            if to == F16 {
                // The largest stay finite.
                x.data.retain(|x| x.abs() < 65520.0);
                x.shape = Shape::new(&[x.data.len()]);
            }
            if !x.data.is_empty() {
                let y = c.out(to, &x.shape);
                c.add("copy awkward values", OpKind::Copy, vec![x.into()], vec![y]);
            }
        }
    }
    for (shape, dtype) in [
        (&[][..], F32),
        (&[0, 3], F16),
        (&[2, 3, 2, 3, 5], BF16),
        (&[65, 131], F32),
        (&[1, 4099], F16),
        (&[2, 2, 33], I32),
        (&[3, 1, 5], U8),
        (&[2, 31, 17], BF16),
    ] {
        let x = c.data.normal(dtype, shape, 50.0).into();
        let y = c.out(dtype, shape);
        c.all("copy", OpKind::Copy, vec![x], vec![y]);
    }
    for dtype in [F32, BF16, I32] {
        for (small, full) in [(&[1, 6][..], &[4, 6][..]), (&[4, 1], &[4, 6]), (&[1, 1], &[3, 5])] {
            let x = broadcast(c.data.normal(dtype, small, 50.0), full);
            let y = c.out(dtype, full);
            c.all("copy repeats", OpKind::Copy, vec![x], vec![y]);
        }
    }
}

const UNARY: [UnaryFn; 12] = [
    UnaryFn::Neg,
    UnaryFn::Abs,
    UnaryFn::Exp,
    UnaryFn::Log,
    UnaryFn::Sqrt,
    UnaryFn::Rsqrt,
    UnaryFn::Recip,
    UnaryFn::Square,
    UnaryFn::Sigmoid,
    UnaryFn::Silu,
    UnaryFn::Tanh,
    UnaryFn::Relu,
];

/// Arguments inside the function's domain whose results an f16 can hold.
fn argument(c: &mut Cases, f: UnaryFn, dtype: DType, shape: &[usize]) -> Array {
    match f {
        UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Rsqrt => {
            c.data.map(dtype, shape, |d| (2.0 * d.one_normal()).exp())
        }
        UnaryFn::Recip => c.data.away_from_zero(dtype, shape, 0.05, 20.0),
        UnaryFn::Sigmoid | UnaryFn::Silu | UnaryFn::Tanh => c.data.normal(dtype, shape, 6.0),
        _ => c.data.normal(dtype, shape, 2.5),
    }
}

pub fn unary(c: &mut Cases) {
    let affine = UnaryFn::Affine { scale: 0.3.into(), shift: (-1.7).into() };
    for f in UNARY.into_iter().chain([affine]) {
        let kind = OpKind::Unary(f);
        let name = format!("{f:?}");
        for [from, _, to] in TRIPLES {
            let x = argument(c, f, from, &[3, 5, 7]).into();
            let y = c.out(to, &[3, 5, 7]);
            if from == to {
                c.all(&name, kind.clone(), vec![x], vec![y]);
            } else {
                c.add(&name, kind.clone(), vec![x], vec![y]);
            }
        }
        for shape in [&[][..], &[0], &[1], &[10_007]] {
            let x = argument(c, f, F32, shape).into();
            let y = c.out(F32, shape);
            c.add(&name, kind.clone(), vec![x], vec![y]);
        }
    }
    for (f, values) in [
        (UnaryFn::Exp, &[0.0, -0.0, -80.0, 80.0, 88.0, -200.0, -1e4, 1e-6][..]),
        (UnaryFn::Sigmoid, &[0.0, 40.0, -40.0, 1e4, -1e4, 87.0, -87.0, 1e-6]),
        (UnaryFn::Silu, &[0.0, 40.0, -40.0, 1e4, -1e4, 87.0, -87.0, 1e-6]),
        (UnaryFn::Tanh, &[0.0, 1e-3, 1e-6, -30.0, 100.0, -1e4, 0.6, 9.0]),
        (UnaryFn::Log, &[1.0, 1.0000001, 0.9999999, 1e-30, 1e30, 0.5, 2.0, 3.0]),
        (UnaryFn::Sqrt, &[0.0, 1e-30, 1e30, 4.0]),
        (UnaryFn::Rsqrt, &[1e-30, 1e30, 4.0, 1.0]),
        (UnaryFn::Relu, &[0.0, -0.0, 1e30, -1e30]),
        (UnaryFn::Square, &[1e15, -1e-15, 0.0]),
    ] {
        let x = Array::new(F32, &[values.len()], values.to_vec()).rounded();
        let y = c.out(F32, &x.shape);
        c.add(&format!("{f:?} at the ends"), OpKind::Unary(f), vec![x.into()], vec![y]);
    }
}

pub fn binary(c: &mut Cases) {
    for f in [
        BinaryFn::Add,
        BinaryFn::Sub,
        BinaryFn::Mul,
        BinaryFn::Div,
        BinaryFn::Max,
        BinaryFn::Min,
        BinaryFn::Equal,
        BinaryFn::Less,
    ] {
        let kind = OpKind::Binary(f);
        let name = format!("{f:?}");
        let compares = matches!(f, BinaryFn::Equal | BinaryFn::Less);
        let second = |c: &mut Cases, dtype: DType, shape: &[usize]| match f {
            BinaryFn::Div => c.data.away_from_zero(dtype, shape, 0.1, 5.0),
            // A few values only, so that some are equal.
            _ if compares => c.data.map(dtype, shape, |d| d.below(5) as f64 - 2.0),
            _ => c.data.normal(dtype, shape, 2.0),
        };
        for [da, db, dy] in TRIPLES {
            let shape = [4, 3, 9];
            let a = if compares { second(c, da, &shape) } else { c.data.normal(da, &shape, 2.0) };
            let b = second(c, db, &shape);
            let y = c.out(dy, &shape);
            c.all(&name, kind.clone(), vec![a.into(), b.into()], vec![y]);
        }
        for (sa, sb, full) in [
            (&[6, 5][..], &[1, 5][..], &[6, 5][..]),
            (&[6, 5], &[6, 1], &[6, 5]),
            (&[1, 5], &[6, 1], &[6, 5]),
            (&[3, 1, 4], &[1, 2, 1], &[3, 2, 4]),
            (&[1], &[1], &[1]),
            (&[0, 3], &[0, 3], &[0, 3]),
            (&[], &[], &[]),
            (&[9001], &[9001], &[9001]),
            (&[9001], &[1], &[9001]),
            (&[2, 2, 2, 2, 3], &[1, 2, 1, 2, 3], &[2, 2, 2, 2, 3]),
        ] {
            let a = c.data.normal(F32, sa, 2.0);
            let a = if compares { second(c, F32, sa) } else { a };
            let b = second(c, F32, sb);
            let y = c.out(F32, full);
            c.all(
                &format!("{name} repeats"),
                kind.clone(),
                vec![broadcast(a, full), broadcast(b, full)],
                vec![y],
            );
        }
        if compares {
            for to in DType::FLOATS {
                let values = |c: &mut Cases| c.data.map(I32, &[5, 8], |d| 16_777_216.0 + d.below(3) as f64);
                let (a, b) = (values(c), values(c));
                let y = c.out(to, &[5, 8]);
                c.all(&format!("{name} integers"), kind.clone(), vec![a.into(), b.into()], vec![y]);
            }
        }
        let (a, b) = (c.data.normal(F32, &[5, 6], 2.0), second(c, F32, &[6]));
        let b = broadcast(Array::new(F32, &[1, 6], b.data), &[5, 6]);
        let y = c.out(F32, &[5, 6]);
        c.in_place(&format!("{name} repeats"), kind, vec![a.into(), b], vec![y]);
    }
}

pub fn reduce(c: &mut Cases) {
    for f in [ReduceFn::Sum, ReduceFn::Mean, ReduceFn::Max, ReduceFn::ArgMax, ReduceFn::SumSquares] {
        let sums = !matches!(f, ReduceFn::Max | ReduceFn::ArgMax);
        for accumulate in [false, true] {
            if accumulate && !sums {
                continue;
            }
            let kind = OpKind::Reduce { f, accumulate };
            let name = format!("{f:?}{}", if accumulate { " accumulate" } else { "" });
            let result = |dtype: DType| if f == ReduceFn::ArgMax { I32 } else { dtype };
            for [from, _, to] in TRIPLES {
                let x = c.data.normal(from, &[3, 2, 33], 1.0).into();
                let y = c.out(result(to), &[3, 2]);
                c.all(&name, kind.clone(), vec![x], vec![y]);
            }
            for shape in [
                &[1][..],
                &[5],
                &[4, 1],
                &[0, 5],
                &[4, 0],
                &[257, 3],
                &[2, 1000],
                &[2, 32_003],
                &[2, 2, 2, 2, 5],
            ] {
                let x = c.data.normal(F32, shape, 1.0).into();
                let y = c.out(result(F32), &shape[..shape.len() - 1]);
                c.add(&name, kind.clone(), vec![x], vec![y]);
            }
            for n in [7, 1000] {
                let x = Array::full(F32, &[3, n], -0.75).into();
                let y = c.out(result(F32), &[3]);
                c.add(&format!("{name} all equal"), kind.clone(), vec![x], vec![y]);
                let x = c.data.map(F16, &[9, n], |d| d.below(4) as f64).into();
                let y = c.out(result(F16), &[9]);
                c.add(&format!("{name} ties"), kind.clone(), vec![x], vec![y]);
                let x = c.data.normal(F32, &[3, n], 1e4).into();
                let y = c.out(result(F32), &[3]);
                c.add(&format!("{name} large"), kind.clone(), vec![x], vec![y]);
            }
            let x = broadcast(c.data.normal(F32, &[3, 1], 1.0), &[3, 40]);
            let y = c.out(result(F32), &[3]);
            c.add(&format!("{name} repeats"), kind, vec![x], vec![y]);
        }
    }
}

/// Shapes for ops on gates.
const GATES: [&[usize]; 6] = [&[], &[1], &[0, 4], &[5, 7], &[2, 3, 11], &[3, 4099]];

pub fn swiglu(c: &mut Cases) {
    for dtypes in TRIPLES {
        let [gate, up] = [0, 1].map(|i| c.data.normal(dtypes[i], &[5, 9], 3.0).into());
        let y = c.out(dtypes[2], &[5, 9]);
        c.all("swiglu", OpKind::SwiGlu, vec![gate, up], vec![y]);
    }
    for shape in GATES {
        let [gate, up] = [2.0, 2.0].map(|s| c.data.normal(F32, shape, s).into());
        let y = c.out(F32, shape);
        c.add("swiglu", OpKind::SwiGlu, vec![gate, up], vec![y]);
    }
    let [gate, up] = [300.0, 1.0].map(|s| c.data.normal(F32, &[5, 9], s).into());
    let y = c.out(F32, &[5, 9]);
    c.all("swiglu large", OpKind::SwiGlu, vec![gate, up], vec![y]);
}

pub fn swiglu_backward(c: &mut Cases) {
    for dtypes in TRIPLES {
        let x: Vec<Value> = (0..3).map(|i| c.data.normal(dtypes[i], &[5, 9], 2.0).into()).collect();
        // In place where the dtypes allow it.
        let y = vec![c.out(dtypes[1], &[5, 9]), c.out(dtypes[2], &[5, 9])];
        c.all("swiglu_backward", OpKind::SwiGluBackward, x.clone(), y);
        let y = vec![c.out(dtypes[2], &[5, 9]), c.out(dtypes[0], &[5, 9])];
        c.all("swiglu_backward", OpKind::SwiGluBackward, x, y);
    }
    for (shape, scale) in GATES.into_iter().map(|s| (s, 2.0)).chain([(&[5, 9][..], 300.0)]) {
        let x: Vec<Value> = [1.0, scale, 1.0].map(|s| c.data.normal(F32, shape, s).into()).into();
        let y = vec![c.out(F32, shape), c.out(F32, shape)];
        c.add("swiglu_backward", OpKind::SwiGluBackward, x, y);
    }
}
