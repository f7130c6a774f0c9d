//! Runs a case on a device and compares every byte with what the reference allows.

use super::bound::{Bounded, exact};
use super::case::{Case, Laid, SENTINEL, Style, Value};
use super::data::Data;
use crate::reference::{Array, eval, for_each_offset, round};
use crate::{Buffer, DType, Device, Op, Packing, Result, Source, StreamId, Support, TensorRef};

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
                    laid.bytes.fill(SENTINEL);
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

/// Runs `case` in some of the variants that the device has for it.
pub fn run_variants(device: &dyn Device, case: &Case, variants: &[String], data: &mut Data) -> Vec<Outcome> {
    let expected = Expected::new(case, data);
    let run = |variant: &String| {
        tracing::debug!("{variant}");
        device.set_tuning(&[(case.kind.name().into(), variant.clone())])?;
        compare_on(device, case, &expected)
    };
    let outcomes = variants.iter().map(|v| run(v).unwrap_or_else(|e| Outcome::Failed(e.to_string())));
    let outcomes = outcomes.collect();
    match device.set_tuning(&[]) {
        Ok(()) => outcomes,
        Err(e) => variants.iter().map(|_| Outcome::Failed(e.to_string())).collect(),
    }
}

fn try_run(device: &dyn Device, case: &Case, data: &mut Data) -> Result<Outcome> {
    compare_on(device, case, &Expected::new(case, data))
}

/// A case in memory of a device: the op, its buffers and what was uploaded to them, and for each operand the
/// buffer and first byte of its memory.
pub struct Placed {
    pub op: Op,
    buffers: Vec<Buffer>,
    images: Vec<Vec<u8>>,
    parts: Vec<(usize, usize)>,
    place: Vec<usize>,
}

/// Allocates and fills the memory of a case.
pub fn place(device: &dyn Device, case: &Case, expected: &Expected) -> Result<Placed> {
    let Expected { inputs, outputs, .. } = expected;
    // Memory of each input, then of each output that isn't in place.
    let mut memory: Vec<(&Laid, DType)> =
        inputs.iter().zip(&case.inputs).map(|(l, v)| (l, v.dtype())).collect();
    let mut place: Vec<usize> = (0..inputs.len()).collect();
    for (o, laid) in outputs.iter().enumerate() {
        place.push(case.place_of(o).unwrap_or(memory.len()));
        if case.place_of(o).is_none() {
            memory.push((laid, case.outputs[o].dtype()));
        }
    }
    // Each memory is a part of a buffer: (buffer, first byte).
    let mut images: Vec<Vec<u8>> = Vec::new();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for (laid, dtype) in &memory {
        if images.is_empty() || !case.pooled {
            images.push(Vec::new());
        }
        let buffer = images.len() - 1;
        let image = &mut images[buffer];
        // A multiple of both the word and the block.
        let step = if dtype.is_block() { 4 * dtype.block_bytes() } else { 4 };
        let start = image.len().next_multiple_of(step);
        image.resize(start, SENTINEL);
        image.extend_from_slice(&laid.bytes);
        parts.push((buffer, start));
    }
    let buffers = images
        .iter()
        .map(|image| {
            let buffer = device.allocate(image.len() as u64, 0)?;
            device.upload(STREAM, &buffer, 0, image)?;
            Ok(buffer)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut op = case.op();
    for (t, &operand) in op.inputs.iter_mut().chain(&mut op.outputs).zip(&place) {
        let (buffer, start) = parts[operand];
        t.offset += start / t.dtype.block_bytes() * t.dtype.block_elems();
        t.source = Source::Buffer(buffers[buffer].clone());
    }
    Ok(Placed { op, buffers, images, parts, place })
}

/// Packs the weight of a product in place, if the device has a layout of its own for it.
fn pack(device: &dyn Device, placed: &mut Placed) -> Result<()> {
    let b = &mut placed.op.inputs[1];
    let weight = b.clone().transpose(b.rank() - 2, b.rank() - 1);
    b.packing = device.packing(&weight.layout());
    if b.packing == Packing::Plain {
        return Ok(());
    }
    let packed = TensorRef { packing: b.packing, ..weight.clone() };
    let op = Op::pack(weight, packed);
    op.check(|_| None)?;
    device.submit(STREAM, &[op])?;
    for (image, buffer) in placed.images.iter_mut().zip(&placed.buffers) {
        *image = device.download(STREAM, buffer, 0, buffer.bytes())?.wait()?;
    }
    Ok(())
}

/// Runs a case whose results are known.
pub fn compare_on(device: &dyn Device, case: &Case, expected: &Expected) -> Result<Outcome> {
    // The last that is seen is the one that hangs, or takes long.
    tracing::debug!("{} {}", case.kind.name(), case.name);
    let Expected { inputs, want, .. } = expected;
    let mut placed = place(device, case, expected)?;
    if case.packed {
        pack(device, &mut placed)?;
    }
    let Placed { op, buffers, images, parts, place } = placed;
    let composed = match device.supports(&op.desc()) {
        Support::Native => false,
        Support::Composed => true,
        Support::Unsupported(reason) => return Ok(Outcome::Unsupported(reason)),
    };
    op.check(|_| None)?;
    device.submit(STREAM, std::slice::from_ref(&op))?;
    device.synchronize(STREAM)?;

    let now = buffers
        .iter()
        .map(|b| device.download(STREAM, b, 0, b.bytes())?.wait())
        .collect::<Result<Vec<_>>>()?;
    if let Some((buffer, byte)) = stray_write(&op, &buffers, &images, &now) {
        let operand = parts.iter().rposition(|&(b, start)| b == buffer && start <= byte).unwrap_or(0);
        let what = match place.iter().position(|&p| p == operand) {
            Some(i) if i < inputs.len() => format!("input {i}"),
            other => format!("output {}, outside its view", other.unwrap_or(0).saturating_sub(inputs.len())),
        };
        return Ok(Outcome::Failed(format!("byte {byte} of buffer {buffer}, in {what}, was changed")));
    }
    let mut fraction: f64 = 0.0;
    for (o, (t, want)) in op.outputs.iter().zip(want).enumerate() {
        let (buffer, _) = parts[place[inputs.len() + o]];
        let got = Array::read(t, &now[buffer]);
        match compare(&got, want) {
            Ok(f) => fraction = fraction.max(f),
            Err(message) => return Ok(Outcome::Failed(format!("output {o}{message}"))),
        }
    }
    Ok(Outcome::Passed { composed, fraction })
}

/// The first byte, of the first buffer, that belongs to no output's view and is not as it was.
fn stray_write(op: &Op, buffers: &[Buffer], was: &[Vec<u8>], now: &[Vec<u8>]) -> Option<(usize, usize)> {
    buffers.iter().enumerate().find_map(|(b, buffer)| {
        let mut inside = vec![false; now[b].len()];
        for t in &op.outputs {
            let (size, elems) = (t.dtype.block_bytes(), t.dtype.block_elems());
            if matches!(&t.source, Source::Buffer(x) if x.same(buffer)) {
                for_each_offset(&t.shape, &t.strides, t.offset, &mut |at| {
                    inside[at / elems * size..][..size].fill(true);
                });
            }
        }
        let at = (0..inside.len()).find(|&i| !inside[i] && now[b][i] != was[b][i])?;
        Some((b, at))
    })
}

/// What one rounding of the result to `dtype` may change: `u · |result|`, or for subnormal results `u`
/// times the smallest normal number; in a block what was found for the whole of it.
fn rounding(dtype: DType, want: Bounded) -> f64 {
    let smallest = if dtype == DType::F16 { 2f64.powi(-14) } else { f64::from(f32::MIN_POSITIVE) };
    want.rounding + dtype.unit_roundoff() * (want.value.abs() + want.error).max(smallest)
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
        if want.error == 0.0 || !(dtype.is_float() || dtype.is_block()) {
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
