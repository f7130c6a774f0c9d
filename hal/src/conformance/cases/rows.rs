//! Embedding and scatter.

use crate::conformance::case::{Cases, Style, Value};
use crate::conformance::data::ints;
use crate::reference::Array;
use crate::{DType, DType::*, OpKind, Shape};

pub fn embedding(c: &mut Cases) {
    let index = || ints(&[7], &[3, 0, 10, -1, 11, i64::from(i32::MIN), i64::from(i32::MAX)]);
    for from in DType::FLOATS {
        for to in DType::FLOATS {
            let table: Value = c.data.normal(from, &[11, 19], 1.0).into();
            let y = c.out(to, &[7, table.shape()[1]]);
            c.all("embedding", OpKind::Embedding, vec![table, index().into()], vec![y]);
        }
    }
    for from in DType::BLOCKS {
        let table = Value::Blocks(from, Shape::new(&[11, 3 * from.block_elems()]));
        let y = c.out(F32, &[7, table.shape()[1]]);
        c.all("embedding of blocks", OpKind::Embedding, vec![table.clone(), index().into()], vec![y]);
        for to in [F16, BF16] {
            let y = c.out(to, &[7, table.shape()[1]]);
            c.add("embedding of blocks", OpKind::Embedding, vec![table.clone(), index().into()], vec![y]);
        }
    }
    for (rows, width, n) in [(1, 1, 1), (5, 3, 0), (5, 0, 4), (300, 64, 129), (2, 4096, 3), (32_000, 5, 17)] {
        let table = c.data.normal(BF16, &[rows, width], 1.0).into();
        let index = c.data.indices(&[n], rows).into();
        let y = c.out(BF16, &[n, width]);
        c.add("embedding", OpKind::Embedding, vec![table, index], vec![y]);
    }
    let y = c.out(F32, &[2, 5]);
    let empty = Array::full(F32, &[0, 5], 0.0).into();
    c.add("embedding of no rows", OpKind::Embedding, vec![empty, ints(&[2], &[0, 1]).into()], vec![y]);
}

pub fn scatter(c: &mut Cases) {
    for [from, _, to] in super::TRIPLES {
        let x: Value = c.data.normal(from, &[6, 9], 1.0).into();
        let distinct = ints(&[6], &[4, 0, -1, 7, 2, i64::from(i32::MAX)]);
        let y = c.out(to, &[5, 9]);
        c.all("scatter", OpKind::Scatter { accumulate: false }, vec![x.clone(), distinct.into()], vec![y]);
        let shared = ints(&[6], &[4, 0, 4, 5, 4, -3]);
        let y = c.out(to, &[5, 9]);
        c.all("scatter accumulate", OpKind::Scatter { accumulate: true }, vec![x, shared.into()], vec![y]);
    }
    for (n, rows, width) in [(1, 1, 1), (0, 3, 4), (3, 0, 4), (4, 4, 0), (129, 300, 33), (3, 7, 4099)] {
        for accumulate in [false, true] {
            let x = c.data.normal(F32, &[n, width], 1.0).into();
            let order: Vec<i64> = c.data.shuffled(rows.max(n)).iter().map(|&i| i as i64).collect();
            let y = c.out(F32, &[rows, width]);
            let index = ints(&[n], &order[..n]).into();
            c.add("scatter", OpKind::Scatter { accumulate }, vec![x, index], vec![y]);
        }
    }
    // An embedding's gradient: many tokens, few rows.
    for to in [F32, BF16] {
        let x = c.data.normal(BF16, &[500, 8], 1.0).into();
        let index = c.data.indices(&[500], 3).into();
        let y = c.out(to, &[9, 8]);
        c.add("scatter accumulate many", OpKind::Scatter { accumulate: true }, vec![x, index], vec![y]);
    }
    quantised(c);
}

/// Rows that are quantised as they are written. They begin at a word or in the middle of one, and end so too.
fn quantised(c: &mut Cases) {
    let kind = || OpKind::Scatter { accumulate: false };
    for from in DType::FLOATS {
        for (width, style) in [
            (64, Style::Plain),
            (64, Style::Offset),
            (128, Style::Offset),
            (32, Style::Padded),
            (96, Style::Padded),
            (160, Style::Padded),
        ] {
            let mut x = c.data.normal(from, &[6, width], 1.0);
            // Steps that f16 has as a subnormal number or not at all, and none.
            for (row, scale) in [(0, 1e-3), (3, 200.0), (4, 0.0)] {
                x.data[row * width..][..width].iter_mut().for_each(|x| *x *= scale);
            }
            x.data[4 * width..][..32].fill(1e-7);
            let x: Value = x.rounded().into();
            let index: Value = ints(&[6], &[4, 0, -1, 6, 2, i64::from(i32::MAX)]).into();
            let y = c.out(Q8_0, &[7, width]);
            for first in [Style::Plain, Style::Padded] {
                let operands = vec![x.clone(), index.clone()];
                c.lie("scatter quantised", &[first, Style::Plain, style], kind(), operands, vec![y.clone()]);
            }
        }
    }
    for (n, rows, width) in [(1, 1, 32), (0, 3, 64), (3, 0, 64), (129, 300, 192), (3, 7, 4096)] {
        let x = c.data.normal(F32, &[n, width], 1.0).into();
        let order: Vec<i64> = c.data.shuffled(rows.max(n)).iter().map(|&i| i as i64).collect();
        let y = c.out(Q8_0, &[rows, width]);
        let index = ints(&[n], &order[..n]).into();
        c.lie("scatter quantised", &[Style::Plain], kind(), vec![x, index], vec![y]);
    }
}
