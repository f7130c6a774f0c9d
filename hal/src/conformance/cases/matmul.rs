//! Matrix products.

use super::{TRIPLES, broadcast, expert_offsets};
use crate::conformance::case::{Cases, Style, Value};
use crate::reference::Array;
use crate::{DType, DType::*, OpKind, Shape};

pub fn matmul(c: &mut Cases) {
    for [da, db, dc] in TRIPLES {
        for (accumulate, bias) in [(false, false), (true, false), (false, true), (true, true)] {
            let kind = OpKind::Matmul { accumulate, bias };
            let mut x: Vec<Value> =
                vec![c.data.normal(da, &[5, 19], 1.0).into(), c.data.normal(db, &[19, 7], 1.0).into()];
            if bias {
                x.push(c.data.normal(db, &[7], 1.0).into());
            }
            let y = c.out(dc, &[5, 7]);
            c.all(&format!("accumulate {accumulate}"), kind, x, vec![y]);
        }
    }
    let plain = OpKind::Matmul { accumulate: false, bias: false };
    for (m, k, n) in [
        (1, 1, 1),
        (1, 64, 48),
        (3, 5, 7),
        (17, 33, 9),
        (64, 64, 64),
        (2, 0, 3),
        (0, 4, 3),
        (2, 3, 0),
        (1, 1000, 1),
        (65, 129, 67),
        (2, 4096, 8),
        (130, 2, 130),
        (4, 7, 1),
    ] {
        for dtype in DType::FLOATS {
            let x =
                vec![c.data.normal(dtype, &[m, k], 1.0).into(), c.data.normal(dtype, &[k, n], 1.0).into()];
            let y = c.out(dtype, &[m, n]);
            c.add("", plain.clone(), x, vec![y]);
        }
        for bias in [false, true] {
            let mut x: Vec<Value> =
                vec![c.data.normal(F32, &[m, k], 100.0).into(), c.data.normal(F32, &[k, n], 1.0).into()];
            if bias {
                x.push(c.data.normal(F32, &[n], 1.0).into());
            }
            let y = c.out(F32, &[m, n]);
            c.add("accumulate", OpKind::Matmul { accumulate: true, bias }, x, vec![y]);
        }
    }
    for (b, m, k, n) in [(3, 4, 5, 6), (1, 2, 3, 4), (0, 2, 3, 4), (2, 33, 17, 31)] {
        for dtype in [F32, BF16] {
            let (a, w) = (c.data.normal(dtype, &[b, m, k], 1.0), c.data.normal(dtype, &[b, k, n], 1.0));
            let y = c.out(F32, &[b, m, n]);
            c.all("batch", plain.clone(), vec![a.into(), w.into()], vec![y]);
            let (a, w) = (c.data.normal(dtype, &[b, m, k], 1.0), c.data.normal(dtype, &[1, k, n], 1.0));
            let y = c.out(dtype, &[b, m, n]);
            let shared = broadcast(w, &[b, k, n]);
            c.all("batch with one b", plain.clone(), vec![a.into(), shared], vec![y]);
        }
    }
    for block in [Q8_0, Q4_0] {
        for (da, dc) in [(F32, F32), (BF16, BF16), (F16, F32)] {
            for (m, k, n) in [(3, 64, 32), (1, 96, 64), (33, 32, 96)] {
                let a = c.data.normal(da, &[m, k], 1.0).into();
                let y = c.out(dc, &[m, n]);
                let b = Value::Blocks(block, Shape::new(&[k, n]));
                c.all("blocks", plain.clone(), vec![a, b], vec![y]);
            }
        }
        let a = c.data.normal(F32, &[2, 3, 32], 1.0).into();
        let bias = c.data.normal(F32, &[64], 1.0).into();
        let y = c.out(F32, &[2, 3, 64]);
        let x = vec![a, Value::Blocks(block, Shape::new(&[2, 32, 64])), bias];
        c.all("batch of blocks", OpKind::Matmul { accumulate: true, bias: true }, x, vec![y]);
    }
    for block in DType::BLOCKS {
        blocks(c, block);
    }
    for dtype in DType::BLOCKS.into_iter().chain(DType::FLOATS) {
        let e = dtype.block_elems();
        for (da, dc, [m, k, n], accumulate, bias) in [
            (F32, F32, [1, 3 * e, 48], false, false),
            (BF16, F32, [2, e, 33], false, true),
            (F32, BF16, [5, 2 * e, 7], true, false),
            (F16, F32, [8, e, 16], true, true),
            (F32, F16, [21, 2 * e, 67], false, true),
            (F32, F32, [9, e, 1], false, false),
            (F32, F32, [0, e, 32], false, false),
        ] {
            let b = match dtype.is_block() {
                true => Value::Blocks(dtype, Shape::new(&[k, n])),
                false => c.data.normal(dtype, &[k, n], 1.0).into(),
            };
            let mut x = vec![c.data.normal(da, &[m, k], 1.0).into(), b];
            if bias {
                x.push(c.data.normal(F32, &[n], 1.0).into());
            }
            let y = c.out(dc, &[m, n]);
            c.packed("packed", OpKind::Matmul { accumulate, bias }, x, vec![y]);
        }
        if dtype.is_block() {
            let x = vec![
                c.data.normal(F32, &[2, 3, e], 1.0).into(),
                Value::Blocks(dtype, Shape::new(&[2, e, 18])),
            ];
            let y = c.out(F32, &[2, 3, 18]);
            c.packed("packed batch", plain.clone(), x, vec![y]);
        }
    }
    // The sum cancels: only an accumulation in f32 gets near.
    let n = 512;
    let data: Vec<f64> =
        (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 } * (1.0 + (i / 2) as f64 / 128.0)).collect();
    for dtype in DType::FLOATS {
        let a = Array::new(dtype, &[1, n], data.clone()).rounded().into();
        let b = Array::full(dtype, &[n, 3], 1.0).into();
        let y = c.out(F32, &[1, 3]);
        c.add("cancelling", plain.clone(), vec![a, b], vec![y]);
    }
    // Activations in f32 with weights in bf16, of a model; some of them large, or no normal numbers in bf16.
    for (b, m, k, n) in [(1, 1, 33, 9), (1, 18, 40, 24), (2, 13, 9, 7), (1, 150, 72, 136), (1, 4, 0, 3)] {
        let mut a = c.data.normal(F32, &[b, m, k], 1.0);
        for (x, scale) in a.data.iter_mut().zip([1e30, 1e-30, -1e-38, 1e-42, 0.0].into_iter().cycle()).take(k)
        {
            *x *= scale;
        }
        let w = c.data.normal(BF16, &[b, k, n], 1.0);
        let bias = c.data.normal(F32, &[n], 1.0);
        let x = vec![a.rounded().into(), w.into(), bias.into()];
        let y = c.out(F32, &[b, m, n]);
        let kind = OpKind::Matmul { accumulate: m == 13, bias: true };
        if m == 150 { c.add("f32 by bf16", kind, x, vec![y]) } else { c.all("f32 by bf16", kind, x, vec![y]) }
    }
    // More columns than kernels take together, in rows of whole pieces of 16 bytes but not of whole tiles.
    for dtype in [BF16, F16] {
        let x =
            vec![c.data.normal(dtype, &[18, 40], 1.0).into(), c.data.normal(dtype, &[40, 2104], 1.0).into()];
        let y = c.out(dtype, &[18, 2104]);
        c.add("wide", plain.clone(), x, vec![y]);
    }
}

/// Products of few and many rows with blocks along k and along n, of which rows start at any byte.
fn blocks(c: &mut Cases, block: DType) {
    use Style::{Columns, Offset, Padded, Permuted, Plain};
    let e = block.block_elems();
    for (da, dc, [m, k, n], along, accumulate, bias) in [
        (F32, F32, [1, 3 * e, 7], Permuted, false, false),
        (BF16, BF16, [1, 2 * e, 40], Columns, false, true),
        (F32, F32, [3, e, 33], Columns, true, false),
        (F16, F16, [9, 3 * e, 5], Permuted, false, false),
        (F32, F32, [67, e, 36], Columns, true, true),
        (F32, F32, [1, 5, 3 * e], Padded, false, false),
        (BF16, F32, [4, 9, e], Offset, false, true),
        (F32, BF16, [34, 7, 2 * e], Plain, true, false),
    ] {
        let mut x = vec![c.data.normal(da, &[m, k], 1.0).into(), Value::Blocks(block, Shape::new(&[k, n]))];
        if bias {
            x.push(c.data.normal(F32, &[n], 1.0).into());
        }
        let y = c.out(dc, &[m, n]);
        let name = if matches!(along, Permuted | Columns) { "blocks along k" } else { "blocks along n" };
        c.lie(name, &[Plain, along, Plain, Plain], OpKind::Matmul { accumulate, bias }, x, vec![y]);
    }
    let a = c.data.normal(F32, &[2, 3, e], 1.0).into();
    let y = c.out(F32, &[2, 3, 5]);
    let x = vec![a, Value::Blocks(block, Shape::new(&[2, e, 5]))];
    c.lie(
        "batch of blocks",
        &[Plain, Permuted, Padded],
        OpKind::Matmul { accumulate: false, bias: false },
        x,
        vec![y],
    );
}

pub fn grouped(c: &mut Cases) {
    let add = |c: &mut Cases, [da, db, dc]: [DType; 3], (rows, k, n): (usize, usize, usize), all: bool| {
        for (i, (name, offsets)) in expert_offsets(rows).into_iter().enumerate() {
            let (accumulate, bias) = (i % 2 == 1, (i + rows) % 3 == 0);
            let kind = OpKind::GroupedMatmul { accumulate, bias };
            let b = match db {
                d if d.is_block() => Value::Blocks(d, Shape::new(&[4, k, n])),
                d => c.data.normal(d, &[4, k, n], 1.0).into(),
            };
            let mut x = vec![c.data.normal(da, &[rows, k], 1.0).into(), b, offsets];
            if bias {
                x.push(c.data.normal(if db.is_block() { F32 } else { db }, &[4, n], 1.0).into());
            }
            let y = vec![c.out(dc, &[rows, n])];
            if all {
                c.all(name, kind, x, y);
            } else {
                c.add(name, kind, x, y);
            }
        }
    };
    for dtypes in TRIPLES {
        add(c, dtypes, (13, 9, 7), true);
        add(c, dtypes, (40, 33, 18), false);
    }
    for (rows, k, n) in [(1, 1, 1), (0, 3, 4), (3, 0, 4), (5, 4, 0), (129, 64, 65)] {
        add(c, [F32; 3], (rows, k, n), false);
        add(c, [BF16; 3], (rows, k, n), false);
    }
    add(c, [F16, F16, F32], (150, 72, 136), false);
    add(c, [F32, BF16, F32], (13, 9, 7), true);
    add(c, [F32, BF16, F32], (150, 72, 136), false);
    for block in [Q8_0, Q4_0] {
        add(c, [F32, block, F32], (12, 64, 32), true);
        add(c, [BF16, block, BF16], (9, 32, 96), false);
    }
    for block in DType::BLOCKS {
        let e = block.block_elems();
        for (name, offsets) in expert_offsets(11).into_iter().step_by(2) {
            let b = Value::Blocks(block, Shape::new(&[4, e, 9]));
            let x = vec![c.data.normal(F32, &[11, e], 1.0).into(), b, offsets];
            let y = vec![c.out(F32, &[11, 9])];
            let styles = [Style::Plain, Style::Permuted, Style::Plain, Style::Padded];
            c.lie(name, &styles, OpKind::GroupedMatmul { accumulate: false, bias: false }, x, y);
        }
        add(c, [BF16, block, F32], (5, 3, e), false);
        for (rows, n) in [(3, 35), (40, 16)] {
            for (name, offsets) in expert_offsets(rows) {
                let b = Value::Blocks(block, Shape::new(&[4, e, n]));
                let bias = c.data.normal(F32, &[4, n], 1.0).into();
                let x = vec![c.data.normal(F32, &[rows, e], 1.0).into(), b, offsets, bias];
                let y = vec![c.out(F32, &[rows, n])];
                let kind = OpKind::GroupedMatmul { accumulate: rows == 40, bias: true };
                c.packed(&format!("packed, {name}"), kind, x, y);
            }
        }
    }
}

pub fn grouped_weight(c: &mut Cases) {
    let add = |c: &mut Cases, [da, db, dc]: [DType; 3], (rows, m, n): (usize, usize, usize), all: bool| {
        for (i, (name, offsets)) in expert_offsets(rows).into_iter().enumerate() {
            let kind = OpKind::GroupedMatmulWeight { accumulate: (i + rows) % 2 == 1 };
            let x = vec![
                c.data.normal(da, &[rows, m], 1.0).into(),
                c.data.normal(db, &[rows, n], 1.0).into(),
                offsets,
            ];
            let y = vec![c.out(dc, &[4, m, n])];
            if all {
                c.all(name, kind, x, y);
            } else {
                c.add(name, kind, x, y);
            }
        }
    };
    for dtypes in TRIPLES {
        add(c, dtypes, (13, 9, 7), true);
        add(c, dtypes, (40, 33, 18), false);
    }
    for (rows, m, n) in [(1, 1, 1), (0, 3, 4), (3, 0, 4), (5, 4, 0), (130, 65, 64)] {
        add(c, [F32; 3], (rows, m, n), false);
        add(c, [BF16, BF16, F32], (rows, m, n), false);
    }
    add(c, [F16, F16, BF16], (150, 72, 136), false);
    add(c, [F32, BF16, F32], (13, 9, 7), true);
    add(c, [F32, BF16, F32], (150, 72, 136), false);
}
