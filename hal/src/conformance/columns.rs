//! Operands that are columns of one matrix, as fused projections leave them.

use super::bound::exact;
use super::check::{Outcome, compare};
use super::data::{Data, ints};
use crate::reference::{Array, encode, eval, for_each_offset};
use crate::{Attention, DType, Device, Op, OpKind, Result, StreamId, Support, TensorRef};

const STREAM: StreamId = StreamId(0);

/// `gate` and `up` side by side, the result in place of `gate`.
pub fn swiglu(d: &dyn Device, seed: u64, dtype: DType) -> Outcome {
    let mut data = Data::new(seed, "columns");
    let x = [0; 2].map(|_| data.normal(dtype, &[5, 12], 2.0));
    run(d, OpKind::SwiGlu, &x, &[], &[dtype])
}

/// `gate` and `up` side by side, their gradients in their places.
pub fn swiglu_backward(d: &dyn Device, seed: u64, dtype: DType) -> Outcome {
    let mut data = Data::new(seed, "columns");
    let x = [0; 3].map(|_| data.normal(dtype, &[5, 12], 2.0));
    run(d, OpKind::SwiGluBackward, &x, &[], &[dtype; 2])
}

/// `q`, `k` and `v` side by side.
pub fn attention(d: &dyn Device, seed: u64, dtype: DType) -> Outcome {
    let mut data = Data::new(seed, "columns");
    let x = [4, 2, 2].map(|heads| data.normal(dtype, &[9, heads, 8], 1.0));
    let seqs = ints(&[2, 4], &[0, 5, 0, 5, 5, 4, 5, 4]);
    run(d, OpKind::Attention(Attention::causal(0.35)), &x, &[seqs], &[dtype, DType::F32])
}

fn run(d: &dyn Device, kind: OpKind, columns: &[Array], more: &[Array], outputs: &[DType]) -> Outcome {
    match try_run(d, kind, columns, more, outputs) {
        Ok(outcome) => outcome,
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

/// Runs `kind` on `columns`, parts of one matrix, and `more`, tensors of their own. Outputs are in place
/// where the op allows that; other outputs have the shape of the first column part, or its rows and heads
/// only when they are f32 statistics of attention.
fn try_run(
    d: &dyn Device,
    kind: OpKind,
    columns: &[Array],
    more: &[Array],
    outputs: &[DType],
) -> Result<Outcome> {
    let rows = columns[0].shape[0];
    let widths: Vec<usize> = columns.iter().map(|c| c.data.len() / rows).collect();
    let total: usize = widths.iter().sum();
    let dtype = columns[0].dtype;
    let mut bytes = vec![0; total * rows * dtype.block_bytes()];
    let matrix = d.allocate(bytes.len() as u64, 0)?;
    let mut inputs = Vec::new();
    let mut start = 0;
    for (part, width) in columns.iter().zip(&widths) {
        let mut strides = part.shape.contiguous_strides();
        strides.dims_mut()[0] = total;
        let mut x = part.data.iter();
        for_each_offset(&part.shape, &strides, start, &mut |at| {
            encode(dtype, &mut bytes, at, *x.next().expect("one value an element"));
        });
        inputs
            .push(TensorRef::new(&matrix, dtype, &[]).with_layout(&part.shape, &strides).with_offset(start));
        start += width;
    }
    d.upload(STREAM, &matrix, 0, &bytes)?;
    for x in more {
        let bytes = x.to_bytes();
        let buffer = d.allocate(bytes.len() as u64, 0)?;
        d.upload(STREAM, &buffer, 0, &bytes)?;
        inputs.push(TensorRef::new(&buffer, x.dtype, &x.shape));
    }
    let mut results = Vec::new();
    let mut buffers = Vec::new();
    for (o, &dtype) in outputs.iter().enumerate() {
        if let Some(i) = kind.in_place(o) {
            results.push(inputs[i].clone());
            buffers.push(matrix.clone());
            continue;
        }
        let shape = if o == 0 { &columns[0].shape[..] } else { &columns[0].shape[..2] };
        let buffer = d.allocate(dtype.bytes(shape).unwrap_or(0), 0)?;
        results.push(TensorRef::new(&buffer, dtype, shape));
        buffers.push(buffer);
    }
    let given: Vec<_> = columns.iter().chain(more).map(exact).collect();
    let mut want: Vec<_> = results.iter().map(|t| Array::full(t.dtype, &t.shape, f64::NAN.into())).collect();
    eval(&kind, &given, &mut want);
    let op = Op::new(kind, inputs, results);
    let composed = match d.supports(&op.desc()) {
        Support::Native => false,
        Support::Composed => true,
        Support::Unsupported(reason) => return Ok(Outcome::Unsupported(reason)),
    };
    op.check(|_| None)?;
    d.submit(STREAM, std::slice::from_ref(&op))?;
    let mut fraction: f64 = 0.0;
    for ((t, buffer), want) in op.outputs.iter().zip(&buffers).zip(&want) {
        let bytes = d.download(STREAM, buffer, 0, buffer.bytes())?.wait()?;
        match compare(&Array::read(t, &bytes), want) {
            Ok(f) => fraction = fraction.max(f),
            Err(message) => return Ok(Outcome::Failed(message)),
        }
    }
    Ok(Outcome::Passed { composed, fraction })
}
