//! Rows by index.

use super::{Array, Real, Sum};

pub(super) fn embedding<T: Real>(inputs: &[Array<T>], y: &mut Array<T>) {
    let (table, index) = (&inputs[0], &inputs[1]);
    for (n, i) in index.data.iter().enumerate() {
        match i.index(table.shape[0]) {
            Some(i) => y.row_mut(n).copy_from_slice(table.row(i)),
            None => y.row_mut(n).fill(T::zero()),
        }
    }
}

pub(super) fn scatter<T: Real>(accumulate: bool, inputs: &[Array<T>], y: &mut Array<T>) {
    let (x, index) = (&inputs[0], &inputs[1]);
    let rows = y.shape[0];
    if !accumulate {
        for (n, i) in index.data.iter().enumerate() {
            if let Some(i) = i.index(rows) {
                y.row_mut(i).copy_from_slice(x.row(n));
            }
        }
        return;
    }
    for i in 0..rows {
        let from: Vec<usize> =
            (0..index.data.len()).filter(|&n| index.data[n].index(rows) == Some(i)).collect();
        for (c, y) in y.row_mut(i).iter_mut().enumerate() {
            let mut sum = T::Sum::default();
            sum.push(*y);
            from.iter().for_each(|&n| sum.push(x.row(n)[c]));
            *y = sum.total();
        }
    }
}
