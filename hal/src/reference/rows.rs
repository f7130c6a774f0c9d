//! Rows by index.

use super::{Array, Real, Sum};
use crate::DType;

pub(super) fn embedding<T: Real>(inputs: &[Array<T>], y: &mut Array<T>) {
    let (table, index) = (&inputs[0], &inputs[1]);
    for (n, i) in index.data.iter().enumerate() {
        match i.index(table.shape[0]) {
            Some(i) => y.row_mut(n).copy_from_slice(table.row(i)),
            None => y.row_mut(n).fill(T::zero()),
        }
    }
}

/// Notes what Q8_0 changes: half a step, and the rounding of the step to f16, of which a value has up to 127.
fn quantise<T: Real>(block: &mut [T]) {
    let largest = block.iter().fold(0.0, |max: f64, x| max.max(x.value().abs()));
    let step = largest / 127.0;
    let rounding = 0.5 * step + 127.0 * DType::F16.unit_roundoff() * step.max(2f64.powi(-14));
    // The step, its inverse, and the product that is rounded.
    let error = 8.0 * f64::from(f32::EPSILON) * largest + f64::from(f32::MIN_POSITIVE);
    block.iter_mut().for_each(|x| *x = x.in_block(rounding, error));
}

pub(super) fn scatter<T: Real>(accumulate: bool, inputs: &[Array<T>], y: &mut Array<T>) {
    let (x, index) = (&inputs[0], &inputs[1]);
    let rows = y.shape[0];
    if !accumulate {
        for (n, i) in index.data.iter().enumerate() {
            if let Some(i) = i.index(rows) {
                y.row_mut(i).copy_from_slice(x.row(n));
                if y.dtype == DType::Q8_0 {
                    y.row_mut(i).chunks_mut(DType::Q8_0.block_elems()).for_each(quantise);
                }
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
