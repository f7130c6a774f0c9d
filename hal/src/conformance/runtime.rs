//! What a device does beside single ops: recordings, transfers, streams, errors.

use super::check::Outcome;
use super::{columns, sequences};
use crate::reference::Array;
use crate::{
    Attention, BinaryFn, Binding, Buffer, CustomOp, DType, Device, Error, Graph, Layout, Op, OpDesc, OpKind,
    ReduceFn, Result, SlotKind, StreamId, TensorRef, UnaryFn,
};
use std::sync::Arc;

type Check = fn(&dyn Device, u64) -> Outcome;

/// Checks of one kind: name, and what each tries.
type Group = (&'static str, &'static [(&'static str, Check)]);

/// What a device does beside ops.
pub const GROUPS: &[Group] = &[
    (
        "device.record",
        &[
            ("replay equals submission", |d, s| done(replay(d, s))),
            ("temporaries are reused", |d, _| done(temporaries(d))),
            ("scalars change between replays", |d, s| done(scalars(d, s))),
            ("timing runs a recording once", |d, _| done(timing(d))),
            ("bindings are checked", |d, _| done(bindings(d))),
            ("an empty graph", |d, _| done(empty(d))),
        ],
    ),
    (
        "device.transfer",
        &[
            ("odd offsets and sizes", |d, _| done(transfers(d))),
            ("copy between buffers", |d, _| done(copies(d))),
            ("out of range", |d, _| done(out_of_range(d))),
            ("order in a stream", |d, _| done(order(d))),
            ("large", |d, s| done(large(d, s))),
        ],
    ),
    ("device.streams", &[("events order streams", |d, _| done(streams(d)))]),
    ("device.memory", &[("use is counted", |d, _| done(memory(d)))]),
    ("device.errors", &[("invalid ops", |d, _| done(invalid(d)))]),
    ("device.custom", &[("a custom op by its decomposition", |d, _| custom(d))]),
];

/// Ops in combination: as much work for the kernels as cases of single ops, and in slices like those.
pub const COMBINATIONS: &[Group] = &[
    (
        "device.columns",
        &[
            ("swiglu", |d, s| columns::swiglu(d, s, DType::F32)),
            ("swiglu bf16", |d, s| columns::swiglu(d, s, DType::BF16)),
            ("swiglu_backward", |d, s| columns::swiglu_backward(d, s, DType::F32)),
            ("swiglu_backward bf16", |d, s| columns::swiglu_backward(d, s, DType::BF16)),
            ("attention", |d, s| columns::attention(d, s, DType::F32)),
            ("attention f16", |d, s| columns::attention(d, s, DType::F16)),
        ],
    ),
    (
        "device.sequences",
        &[
            ("products", |d, s| done(sequences::products(d, s, DType::F32, DType::F32))),
            ("products of f16 weights", |d, s| done(sequences::products(d, s, DType::F32, DType::F16))),
            ("products of bf16 weights", |d, s| done(sequences::products(d, s, DType::F32, DType::BF16))),
            ("products of q8_0 weights", |d, s| done(sequences::products(d, s, DType::F32, DType::Q8_0))),
            ("products of q4_0 weights", |d, s| done(sequences::products(d, s, DType::BF16, DType::Q4_0))),
            ("products of q4_k weights", |d, s| done(sequences::products(d, s, DType::F32, DType::Q4K))),
            ("products of mxfp4 weights", |d, s| done(sequences::products(d, s, DType::F16, DType::Mxfp4))),
            ("gated", |d, s| done(sequences::gated(d, s, DType::F32, DType::F32, false))),
            ("gated by rows", |d, s| done(sequences::gated(d, s, DType::F32, DType::F32, true))),
            ("gated f16", |d, s| done(sequences::gated(d, s, DType::F16, DType::F16, false))),
            ("gated f16 by rows", |d, s| done(sequences::gated(d, s, DType::F16, DType::F16, true))),
            ("gated bf16", |d, s| done(sequences::gated(d, s, DType::BF16, DType::BF16, false))),
            ("gated bf16 by rows", |d, s| done(sequences::gated(d, s, DType::BF16, DType::BF16, true))),
            ("gated of bf16 weights", |d, s| done(sequences::gated(d, s, DType::F32, DType::BF16, false))),
            ("norms", |d, s| done(sequences::norms(d, s, DType::F32))),
            ("norms bf16", |d, s| done(sequences::norms(d, s, DType::BF16))),
            ("experts", |d, s| done(sequences::experts(d, s, DType::F32, false))),
            ("experts bf16", |d, s| done(sequences::experts(d, s, DType::BF16, true))),
            ("updates", |d, s| done(sequences::updates(d, s, DType::F16))),
            ("updates bf16", |d, s| done(sequences::updates(d, s, DType::BF16))),
            ("cached", |d, s| done(sequences::cached(d, s, DType::F32, false))),
            ("cached interleaved", |d, s| done(sequences::cached(d, s, DType::F32, true))),
            ("cached f16", |d, s| done(sequences::cached(d, s, DType::F16, false))),
        ],
    ),
];

/// A failed check, in words, or the device's error.
pub(super) enum Fault {
    Wrong(String),
    Device(Error),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Fault::Device(e)
    }
}

pub(super) type Checked = Result<(), Fault>;

fn done(result: Checked) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed { composed: false, fraction: 0.0 },
        Err(Fault::Wrong(message)) => Outcome::Failed(message),
        Err(Fault::Device(Error::Unsupported { reason, .. })) => Outcome::Unsupported(reason),
        Err(Fault::Device(e)) => Outcome::Failed(e.to_string()),
    }
}

fn ensure(ok: bool, message: impl FnOnce() -> String) -> Checked {
    if ok { Ok(()) } else { Err(Fault::Wrong(message())) }
}

pub(super) fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, got: &T, want: &T) -> Checked {
    ensure(got == want, || format!("{what}: {got:?}, must be {want:?}"))
}

pub(super) const STREAM: StreamId = StreamId(0);

fn buffer(d: &dyn Device, x: &[f32]) -> Result<Buffer> {
    let b = d.allocate(4 * x.len() as u64, 0)?;
    d.upload(STREAM, &b, 0, bytemuck::cast_slice(x))?;
    Ok(b)
}

fn tensor(b: &Buffer) -> TensorRef {
    TensorRef::new(b, DType::F32, &[b.bytes() as usize / 4])
}

fn read(d: &dyn Device, b: &Buffer) -> Result<Vec<f32>> {
    d.download(STREAM, b, 0, b.bytes())?.wait_as()
}

fn floats(seed: u64, n: usize) -> Vec<f32> {
    super::data::Data::new(seed, "device")
        .normal(DType::F32, &[n], 1.0)
        .data
        .iter()
        .map(|&x| x as f32)
        .collect()
}

/// A small layer, `y = swiglu(norm(x·w), x) + x`; `h` and `rstd` are intermediate.
fn layer(x: TensorRef, w: TensorRef, h: TensorRef, rstd: TensorRef, y: TensorRef) -> Vec<Op> {
    let weight = w.clone().slice(0, 0, 1).reshape(&[w.shape[1]]);
    vec![
        Op::matmul(x.clone(), w, h.clone()),
        Op::rms_norm(h.clone(), weight, h.clone(), rstd, 1e-5),
        Op::swiglu(h.clone(), x.clone(), h.clone()),
        Op::binary(BinaryFn::Add, h, x, y),
    ]
}

fn replay(d: &dyn Device, seed: u64) -> Checked {
    let (m, n) = (3, 8);
    let weights = buffer(d, &floats(seed, n * n))?;
    let w = TensorRef::new(&weights, DType::F32, &[n, n]);
    let mut g = Graph::new();
    let (x, y) = (g.external(DType::F32, &[m, n]), g.external(DType::F32, &[m, n]));
    let (h, rstd) = (g.temporary(DType::F32, &[m, n]), g.temporary(DType::F32, &[m]));
    layer(x, w.clone(), h, rstd, y).into_iter().for_each(|op| g.push(op));
    let recording = d.record(&g)?;
    let (scratch, rstd) = (buffer(d, &vec![0.0; m * n])?, buffer(d, &vec![0.0; m])?);
    let mut earlier: Option<(Buffer, Vec<f32>)> = None;
    for round in 0..3 {
        // A larger buffer than the slot may be bound.
        let input = buffer(d, &floats(seed + 1 + round, m * n + 5))?;
        let (replayed, fresh) = (buffer(d, &[9.0; 24])?, buffer(d, &[7.0; 24])?);
        d.replay(STREAM, &recording, &[Binding::new(0, &input), Binding::new(1, &replayed)])?;
        let of = |b: &Buffer| TensorRef::new(b, DType::F32, &[m, n]);
        d.submit(STREAM, &layer(of(&input), w.clone(), of(&scratch), tensor(&rstd), of(&fresh)))?;
        let got = read(d, &replayed)?;
        same("replay against submission", &got, &read(d, &fresh)?)?;
        if let Some((buffer, want)) = &earlier {
            same("an earlier replay's result", &read(d, buffer)?, want)?;
            ensure(&got != want, || "another input gave the same result".into())?;
        }
        earlier = Some((replayed, got));
    }
    Ok(())
}

fn temporaries(d: &dyn Device) -> Checked {
    let n = 1000;
    let mut g = Graph::new();
    let (x, y) = (g.external(DType::F32, &[n]), g.external(DType::F32, &[n]));
    let mut last = x;
    let double = UnaryFn::Affine { scale: 2.0.into(), shift: 1.0.into() };
    for _ in 0..8 {
        let t = g.temporary(DType::F32, &[n]);
        g.push(Op::unary(double, last, t.clone()));
        last = t;
    }
    g.push(Op::copy(last, y));
    let recording = d.record(&g)?;
    let limit = 4 * 4 * n as u64;
    ensure(recording.temporary_bytes <= limit, || {
        format!("8 temporaries of 4000 bytes, 2 alive at a time, take {} bytes", recording.temporary_bytes)
    })?;
    let input = buffer(d, &vec![1.0; n])?;
    let output = buffer(d, &vec![0.0; n])?;
    d.replay(STREAM, &recording, &[Binding::new(0, &input), Binding::new(1, &output)])?;
    same("the chain", &read(d, &output)?, &vec![511.0; n])
}

/// One decoding step with the position and the lengths on the device.
fn scalars(d: &dyn Device, seed: u64) -> Checked {
    let (heads, width, kv) = (2, 4, 16);
    let cache = buffer(d, &floats(seed, kv * heads * width))?;
    let query = buffer(d, &floats(seed + 1, heads * width))?;
    let of = |b: &Buffer, rows: usize| TensorRef::new(b, DType::F32, &[rows, heads, width]);
    let seqs = d.allocate(16, 0)?;
    let ops = |o: &Buffer, lse: &Buffer| {
        let seqs = TensorRef::new(&seqs, DType::I32, &[1, 4]);
        let lse = TensorRef::new(lse, DType::F32, &[1, heads]);
        let k = of(&cache, kv);
        vec![Op::attention(Attention::causal(0.5), of(&query, 1), k.clone(), k, seqs, of(o, 1), lse)]
    };
    let [o, lse, o2, lse2] = [8, 2, 8, 2].map(|n| buffer(d, &vec![0.0; n]));
    let (o, lse, o2, lse2) = (o?, lse?, o2?, lse2?);
    let mut g = Graph::new();
    ops(&o, &lse).into_iter().for_each(|op| g.push(op));
    let recording = d.record(&g)?;
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for len in [1, 7, 16] {
        d.upload(STREAM, &seqs, 0, bytemuck::cast_slice(&[0i32, 1, 0, len]))?;
        d.replay(STREAM, &recording, &[])?;
        d.submit(STREAM, &ops(&o2, &lse2))?;
        let got = read(d, &o)?;
        same("replay against submission", &got, &read(d, &o2)?)?;
        same("its lse", &read(d, &lse)?, &read(d, &lse2)?)?;
        ensure(!seen.contains(&got), || format!("a length of {len} gave an earlier result"))?;
        seen.push(got);
    }
    Ok(())
}

fn timing(d: &dyn Device) -> Checked {
    let mut g = Graph::new();
    let (x, y) = (g.external(DType::F32, &[1, 8]), g.external(DType::F32, &[1]));
    let t = g.temporary(DType::F32, &[1, 8]);
    g.push(Op::unary(UnaryFn::Neg, x, t.clone()));
    g.push(Op::reduce(ReduceFn::Sum, t, y, true));
    let recording = d.record(&g)?;
    let (input, output) = (buffer(d, &[1.0; 8])?, buffer(d, &[3.0])?);
    let times = d.time(&recording, &[Binding::new(0, &input), Binding::new(1, &output)])?;
    let want = if times.is_some() { -5.0 } else { 3.0 };
    same("the sum afterwards", &read(d, &output)?[..], &[want])?;
    let Some(times) = times else { return Ok(()) };
    ensure(d.info().timestamps, || "times without timestamps".into())?;
    let fine = |(label, seconds): &(String, f64)| !label.is_empty() && seconds.is_finite() && *seconds >= 0.0;
    ensure(times.len() >= 2 && times.iter().all(fine), || format!("the times of two ops: {times:?}"))
}

fn bindings(d: &dyn Device) -> Checked {
    let mut g = Graph::new();
    let (x, y) = (g.external(DType::F32, &[4]), g.external(DType::F32, &[4]));
    let t = g.temporary(DType::F32, &[4]);
    g.push(Op::unary(UnaryFn::Neg, x, t.clone()));
    g.push(Op::unary(UnaryFn::Neg, t, y));
    let recording = d.record(&g)?;
    let (four, three) = (buffer(d, &[1.0; 4])?, buffer(d, &[1.0; 3])?);
    let bad: [(&str, Vec<Binding>); 3] = [
        ("a slot left unbound", vec![Binding::new(0, &four)]),
        ("too small a buffer", vec![Binding::new(0, &four), Binding::new(1, &three)]),
        (
            "a slot that isn't there",
            vec![Binding::new(0, &four), Binding::new(1, &four), Binding::new(9, &four)],
        ),
    ];
    for (what, bad) in bad {
        let result = d.replay(STREAM, &recording, &bad);
        ensure(matches!(result, Err(Error::Slot { .. })), || {
            format!("{what}: {result:?}, must be a slot error")
        })?;
    }
    let mut g = Graph::new();
    let (t, y) = (g.temporary(DType::F32, &[4]), g.external(DType::F32, &[4]));
    g.push(Op::copy(t, y));
    let result = d.record(&g);
    ensure(result.is_err(), || "a temporary that is read before it is written was recorded".into())
}

fn empty(d: &dyn Device) -> Checked {
    let mut g = Graph::new();
    g.slot(SlotKind::External, 16);
    let recording = d.record(&g)?;
    d.replay(STREAM, &recording, &[])?;
    d.submit(STREAM, &[])?;
    Ok(d.synchronize(STREAM)?)
}

fn transfers(d: &dyn Device) -> Checked {
    let n = 203u64;
    let b = d.allocate(n, 0)?;
    let mut want = vec![0u8; n as usize];
    d.upload(STREAM, &b, 0, &want)?;
    for (offset, bytes) in
        [(0, 1), (1, 1), (3, 2), (5, 7), (63, 66), (130, 73), (200, 3), (203, 0), (17, 0), (1, 201)]
    {
        let data: Vec<u8> = (0..bytes).map(|i| (offset * 7 + i * 13 + 1) as u8).collect();
        d.upload(STREAM, &b, offset as u64, &data)?;
        want[offset..offset + bytes].copy_from_slice(&data);
        let got = d.download(STREAM, &b, 0, n)?.wait()?;
        same(&format!("after {bytes} bytes at {offset}"), &got, &want)?;
        let got = d.download(STREAM, &b, offset as u64, bytes as u64)?.wait()?;
        same(&format!("{bytes} bytes at {offset}"), &got, &data)?;
    }
    let mut readback = d.download(STREAM, &b, 1, 5)?;
    d.synchronize(STREAM)?;
    readback.poll()?;
    same("a polled download", &readback.wait()?, &want[1..6].to_vec())
}

fn copies(d: &dyn Device) -> Checked {
    let data: Vec<u8> = (0..101).collect();
    let (a, b) = (d.allocate(101, 0)?, d.allocate(90, 0)?);
    d.upload(STREAM, &a, 0, &data)?;
    let mut want = vec![0xffu8; 90];
    d.upload(STREAM, &b, 0, &want)?;
    for (from, to, bytes) in [(0, 0, 4), (1, 5, 3), (4, 12, 16), (50, 33, 51), (101, 90, 0), (3, 85, 5)] {
        d.copy(STREAM, (&a, from as u64), (&b, to as u64), bytes as u64)?;
        want[to..to + bytes].copy_from_slice(&data[from..from + bytes]);
        same(&format!("{bytes} from {from} to {to}"), &d.download(STREAM, &b, 0, 90)?.wait()?, &want)?;
    }
    d.copy(STREAM, (&a, 0), (&a, 60), 20)?;
    let got = d.download(STREAM, &a, 60, 20)?.wait()?;
    same("within a buffer", &got, &data[..20].to_vec())
}

fn out_of_range(d: &dyn Device) -> Checked {
    let (a, b) = (d.allocate(16, 0)?, d.allocate(8, 0)?);
    let results: [(&str, Result<()>); 6] = [
        ("upload", d.upload(STREAM, &b, 5, &[0; 4])),
        ("upload far out", d.upload(STREAM, &b, u64::MAX, &[0; 4])),
        ("download", d.download(STREAM, &b, 0, 9).map(drop)),
        ("download far out", d.download(STREAM, &b, u64::MAX - 1, 4).map(drop)),
        ("copy from", d.copy(STREAM, (&b, 4), (&a, 0), 5)),
        ("copy to", d.copy(STREAM, (&a, 0), (&b, 4), 5)),
    ];
    for (what, result) in results {
        ensure(matches!(result, Err(Error::OutOfRange { .. })), || {
            format!("{what}: {result:?}, must be out of range")
        })?;
    }
    // Nothing of that is left behind.
    Ok(d.synchronize(STREAM)?)
}

fn order(d: &dyn Device) -> Checked {
    let b = buffer(d, &[0.0; 4])?;
    let add = UnaryFn::Affine { scale: 2.0.into(), shift: 1.0.into() };
    let mut pending = Vec::new();
    for i in 0..20 {
        d.upload(STREAM, &b, 4, bytemuck::bytes_of(&(i as f32)))?;
        d.submit(STREAM, &[Op::unary(add, tensor(&b), tensor(&b))])?;
        pending.push(d.download(STREAM, &b, 4, 4)?);
    }
    for (i, readback) in pending.into_iter().enumerate() {
        same("a download between submissions", &readback.wait_as::<f32>()?, &vec![2.0 * i as f32 + 1.0])?;
    }
    // A buffer lives as long as what was submitted with it.
    let x = buffer(d, &vec![3.0; 5000])?;
    let y = buffer(d, &vec![0.0; 5000])?;
    d.submit(STREAM, &[Op::copy(tensor(&x), tensor(&y))])?;
    drop(x);
    let other = buffer(d, &vec![4.0; 5000])?;
    same("the copy of a dropped buffer", &read(d, &y)?, &vec![3.0; 5000])?;
    same("the buffer after it", &read(d, &other)?[..2], &[4.0; 2][..])
}

fn large(d: &dyn Device, seed: u64) -> Checked {
    let x = floats(seed, 300_007);
    let b = buffer(d, &x)?;
    let y = d.allocate(b.bytes(), 0)?;
    d.submit(STREAM, &[Op::unary(UnaryFn::Neg, tensor(&b), tensor(&y))])?;
    let got = read(d, &y)?;
    ensure(got.iter().zip(&x).all(|(y, x)| *y == -x), || "a number was lost on the way".into())
}

fn streams(d: &dyn Device) -> Checked {
    let (n, rounds) = (10_000, 10);
    let other = d.create_stream()?;
    ensure(other != STREAM, || "the new stream is stream 0".into())?;
    let b = buffer(d, &vec![0.0; n])?;
    let add = UnaryFn::Affine { scale: 1.0.into(), shift: 1.0.into() };
    let mut last = d.record_event(STREAM)?;
    for i in 0..rounds {
        let stream = if i % 2 == 0 { other } else { STREAM };
        d.wait_event(stream, &last)?;
        d.submit(stream, &[Op::unary(add, tensor(&b), tensor(&b))])?;
        last = d.record_event(stream)?;
    }
    last.wait()?;
    ensure(last.poll()?, || "an event is not over after waiting for it".into())?;
    d.wait_event(STREAM, &last)?;
    same("the count", &read(d, &b)?, &vec![rounds as f32; n])?;
    d.synchronize(other)?;
    Ok(d.synchronize(STREAM)?)
}

fn memory(d: &dyn Device) -> Checked {
    d.synchronize(STREAM)?;
    let before = d.memory();
    let b = d.allocate(1 << 20, 0)?;
    let with = d.memory();
    ensure(with.used >= before.used + (1 << 20), || format!("{with:?} after a MiB more than {before:?}"))?;
    ensure(with.peak >= with.used, || format!("{with:?}: the peak is below what is used"))?;
    drop(b);
    d.synchronize(STREAM)?;
    let after = d.memory();
    ensure(after.used < with.used, || format!("{after:?} after a MiB less than {with:?}"))?;
    let empty = d.allocate(0, 0)?;
    same("the size of an empty buffer", &empty.bytes(), &0)
}

fn invalid(d: &dyn Device) -> Checked {
    let b = buffer(d, &[1.0, 2.0, 3.0, 4.0])?;
    let x = tensor(&b);
    let y = buffer(d, &[0.0; 4])?;
    let mut g = Graph::new();
    let slot = g.external(DType::F32, &[4]);
    let bad: [(&str, Op); 5] = [
        ("another shape", Op::unary(UnaryFn::Neg, x.clone(), tensor(&y).slice(0, 0, 3))),
        ("another dtype", Op::unary(UnaryFn::Neg, TensorRef::new(&b, DType::I32, &[4]), tensor(&y))),
        ("beyond the buffer", Op::unary(UnaryFn::Neg, x.clone().with_offset(1), tensor(&y))),
        ("an overlap", Op::unary(UnaryFn::Neg, x.clone().slice(0, 0, 3), x.clone().slice(0, 1, 3))),
        ("a slot", Op::unary(UnaryFn::Neg, slot, tensor(&y))),
    ];
    for (what, op) in bad {
        let result = d.submit(STREAM, &[op]);
        ensure(result.is_err(), || format!("an op with {what} was accepted"))?;
    }
    d.synchronize(STREAM)?;
    same("the input", &read(d, &b)?, &vec![1.0, 2.0, 3.0, 4.0])
}

/// `y = a · x²`, known to no backend.
#[derive(Debug)]
struct ScaledSquare;

impl CustomOp for ScaledSquare {
    fn name(&self) -> &str {
        "conformance.scaled_square"
    }

    fn check(&self, inputs: &[Layout], outputs: &[Layout]) -> Result<(), String> {
        match (inputs, outputs) {
            ([x], [y]) if x.dtype.is_float() && y.dtype.is_float() && x.shape == y.shape => Ok(()),
            _ => Err("needs one float input and one float output of its shape".into()),
        }
    }

    fn reference(&self, inputs: &[Array], outputs: &mut [Array]) {
        outputs[0].data = inputs[0].data.iter().map(|x| 3.0 * x * x).collect();
    }

    fn cases(&self) -> Vec<OpDesc> {
        let layout = |dtype: DType, shape: &[usize]| Layout::contiguous(dtype, shape);
        let kind = OpKind::Custom(crate::CustomRef(Arc::new(ScaledSquare)));
        [(DType::F32, &[5, 7][..]), (DType::BF16, &[33]), (DType::F16, &[0])]
            .map(|(d, s)| OpDesc::new(kind.clone(), vec![layout(d, s)], vec![layout(d, s)]))
            .into()
    }

    fn decompose(&self, op: &Op, graph: &mut Graph) -> Option<Result<()>> {
        let [x, y] = [&op.inputs[0], &op.outputs[0]];
        let t = graph.temporary(DType::F32, &x.shape);
        graph.push(Op::unary(UnaryFn::Square, x.clone(), t.clone()));
        let scale = UnaryFn::Affine { scale: 3.0.into(), shift: 0.0.into() };
        graph.push(Op::unary(scale, t, y.clone()));
        Some(Ok(()))
    }
}

fn custom(d: &dyn Device) -> Outcome {
    let op: Arc<dyn CustomOp> = Arc::new(ScaledSquare);
    let found = super::run_custom(d, &op, &super::Options::default());
    match (found.failures.first(), found.unsupported_reasons.first()) {
        (Some(f), _) => Outcome::Failed(format!("{}: {}", f.case, f.message)),
        (None, Some(reason)) => Outcome::Unsupported(reason.clone()),
        _ => Outcome::Passed { composed: found.composed > 0, fraction: found.worst_tolerance_fraction },
    }
}
