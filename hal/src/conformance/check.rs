//! Runs a case on a device and compares every byte with what the reference allows.

use super::bound::{Bounded, exact};
use super::case::{Case, Laid, Style, Value, view};
use super::data::Data;
use crate::reference::{Array, eval, for_each_offset, round};
use crate::{Buffer, DType, Device, Op, Result, StreamId, Support, TensorRef};

/// How a case went.
pub enum Outcome {
    /// Within tolerance; the largest part of a tolerance that was used.
    Passed { composed: bool, fraction: f64 },
    /// Not so, and what came instead.
    Failed(String),
    /// The device doesn't do the op, and why.
    Unsupported(String),
}

const STREAM: StreamId = StreamId(0);

/// What the reference says of a case: `want[o]` with bounds.
pub struct Expected {
    pub inputs: Vec<Laid>,
    pub outputs: Vec<Laid>,
    pub want: Vec<Array<Bounded>>,
}

impl Expected {
    pub fn new(case: &Case, data: &mut Data) -> Self {
        let style = |i: usize| case.styles[i % case.styles.len()];
        let lay = |v: &Value, style: Style, guard: bool, data: &mut Data| v.lay(style, guard, data);
        // An input that an output is in place of has a guard too.
        let inputs: Vec<Laid> =
            case.inputs.iter().enumerate().map(|(i, v)| lay(v, style(i), case.in_place, data)).collect();
        let outputs: Vec<Laid> = case
            .outputs
            .iter()
            .enumerate()
            .map(|(o, v)| {
                let mut laid = lay(v, style(case.inputs.len() + o), true, data);
                if !case.kind.updates(o) {
                    laid.bytes.fill(super::case::SENTINEL);
                }
                laid
            })
            .collect();
        let given: Vec<_> = inputs.iter().map(|l| exact(&l.values)).collect();
        let mut want: Vec<_> = outputs
            .iter()
            .enumerate()
            .map(|(o, l)| match case.kind.updates(o) {
                true => exact(&l.values),
                // An element that the reference forgets to write can't pass.
                false => Array::full(l.values.dtype, &l.values.shape, f64::NAN.into()),
            })
            .collect();
        eval(&case.kind, &given, &mut want);
        Expected { inputs, outputs, want }
    }
}

/// Runs `case`; an error of the device is a failure.
pub fn run(device: &dyn Device, case: &Case, data: &mut Data) -> Outcome {
    match try_run(device, case, data) {
        Ok(outcome) => outcome,
        Err(e) => Outcome::Failed(e.to_string()),
    }
}

fn try_run(device: &dyn Device, case: &Case, data: &mut Data) -> Result<Outcome> {
    let expected = Expected::new(case, data);
    let upload = |laid: &Laid| -> Result<Buffer> {
        let buffer = device.allocate(laid.bytes.len() as u64, 0)?;
        device.upload(STREAM, &buffer, 0, &laid.bytes)?;
        Ok(buffer)
    };
    let tensor = |buffer: &Buffer, v: &Value, laid: &Laid| {
        TensorRef::new(buffer, v.dtype(), &[]).with_layout(&v.shape(), &laid.strides).with_offset(laid.offset)
    };
    let in_buffers = expected.inputs.iter().map(upload).collect::<Result<Vec<_>>>()?;
    let mut out_buffers = Vec::new();
    for (o, laid) in expected.outputs.iter().enumerate() {
        out_buffers.push(match case.place_of(o) {
            Some(i) => in_buffers[i].clone(),
            None => upload(laid)?,
        });
    }
    let zip = |buffers: &[Buffer], values: &[Value], laid: &[&Laid]| -> Vec<TensorRef> {
        buffers.iter().zip(values).zip(laid).map(|((b, v), l)| tensor(b, v, l)).collect()
    };
    let in_laid: Vec<&Laid> = expected.inputs.iter().collect();
    let out_laid: Vec<&Laid> = expected
        .outputs
        .iter()
        .enumerate()
        .map(|(o, laid)| case.place_of(o).map_or(laid, |i| &expected.inputs[i]))
        .collect();
    let op = Op::new(
        case.kind.clone(),
        zip(&in_buffers, &case.inputs, &in_laid),
        zip(&out_buffers, &case.outputs, &out_laid),
    );
    let composed = match device.supports(&op.desc()) {
        Support::Native => false,
        Support::Composed => true,
        Support::Unsupported(reason) => return Ok(Outcome::Unsupported(reason)),
    };
    op.check(|_| None)?;
    device.submit(STREAM, std::slice::from_ref(&op))?;
    device.synchronize(STREAM)?;

    let download = |b: &Buffer| device.download(STREAM, b, 0, b.bytes())?.wait();
    for (i, (buffer, laid)) in in_buffers.iter().zip(&expected.inputs).enumerate() {
        let written = (0..case.outputs.len()).any(|o| case.place_of(o) == Some(i));
        if !written && download(buffer)? != laid.bytes {
            return Ok(Outcome::Failed(format!("input {i} was changed")));
        }
    }
    let mut fraction: f64 = 0.0;
    for (o, (buffer, laid)) in out_buffers.iter().zip(&out_laid).enumerate() {
        let (dtype, shape) = (case.outputs[o].dtype(), case.outputs[o].shape());
        let bytes = download(buffer)?;
        if let Some(at) = stray_write(dtype, &shape, laid, &bytes) {
            return Ok(Outcome::Failed(format!("output {o}: byte {at}, outside the view, was changed")));
        }
        let got = view(dtype, &shape, &laid.strides, laid.offset, &bytes);
        match compare(&got, &expected.want[o]) {
            Ok(f) => fraction = fraction.max(f),
            Err(message) => return Ok(Outcome::Failed(format!("output {o}{message}"))),
        }
    }
    Ok(Outcome::Passed { composed, fraction })
}

/// The first byte outside the view that is not as it was.
fn stray_write(dtype: DType, shape: &[usize], laid: &Laid, bytes: &[u8]) -> Option<usize> {
    let mut inside = vec![false; bytes.len()];
    let size = dtype.block_bytes();
    for_each_offset(shape, &laid.strides, laid.offset, &mut |at| {
        inside[at * size..(at + 1) * size].fill(true)
    });
    (0..bytes.len()).find(|&i| !inside[i] && bytes[i] != laid.bytes[i])
}

/// What one rounding of the result to `dtype` may change: `u · |result|`, or for subnormal results `u`
/// times the smallest normal number.
fn rounding(dtype: DType, want: Bounded) -> f64 {
    let smallest = if dtype == DType::F16 { 2f64.powi(-14) } else { f64::from(f32::MIN_POSITIVE) };
    dtype.unit_roundoff() * (want.value.abs() + want.error).max(smallest)
}

/// The largest part of a bound that is used beyond the rounding to the dtype, or the first element that is
/// outside. Integers, and elements with a bound of 0, must be exact.
pub fn compare(got: &Array, want: &Array<Bounded>) -> Result<f64, String> {
    let dtype = want.dtype;
    let mut worst: f64 = 0.0;
    for (i, (&got, &want)) in got.data.iter().zip(&want.data).enumerate() {
        let fail = |wanted: String| Err(format!("[{i}] is {got:e}, {wanted}"));
        if !want.value.is_finite() || !want.error.is_finite() {
            return fail(format!("and the case is at fault: it wants {want:?}"));
        }
        let exact = round(dtype, want.value);
        if want.error == 0.0 || !dtype.is_float() {
            if got != exact {
                return fail(format!("must be {exact:e}"));
            }
            continue;
        }
        let beyond = (got - want.value).abs() - rounding(dtype, want);
        // Not a number is outside as well.
        if beyond.is_nan() || beyond > want.error {
            let used = beyond / want.error;
            return fail(format!(
                "wants {:e} to within {:e}: {used:.3} of the tolerance",
                want.value, want.error
            ));
        }
        worst = worst.max(beyond / want.error);
    }
    Ok(worst)
}
