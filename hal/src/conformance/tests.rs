//! The suite itself: the reference passes, so does plain f32 code, and planted defects are caught.

use super::*;
use crate::devices::CoreOnly;
use crate::reference::{Array, Real, ReferenceDevice, Sum, eval};
use crate::{BinaryFn, DType, Op, ReduceFn, Result, Source, StreamId, TensorRef};
use std::ops::{Add, Div, Mul, Neg, Sub};

fn assert_clean(report: &Report) {
    println!("{report}");
    assert!(report.passed(), "{report}");
    assert!(report.ops.iter().all(|op| op.cases > 0 && op.unsupported == 0), "{report}");
}

fn worst(report: &Report) -> f64 {
    report.ops.iter().map(|op| op.worst_tolerance_fraction).fold(0.0, f64::max)
}

#[test]
fn the_reference_passes() {
    let report = run(&ReferenceDevice::new(), &Options::default());
    assert_clean(&report);
    assert_eq!(report.ops.len(), OpKind::NAMES.len() + runtime::GROUPS.len() + runtime::COMBINATIONS.len());
    assert!(report.ops.iter().zip(OpKind::NAMES).all(|(op, name)| op.op == name));
    // Only the rounding of the result is left, and that doesn't count.
    assert!(worst(&report) < 0.01, "{}", worst(&report));
}

/// Every op that isn't core, composed of core ops whose f32 results are rounded.
#[test]
fn core_ops_alone_pass() {
    let device = CoreOnly::new(Arc::new(ReferenceDevice::rounding()));
    let report = run(&device, &Options { seed: 1, ..Options::default() });
    assert_clean(&report);
    let cores = [
        "fill",
        "iota",
        "copy",
        "embedding",
        "scatter",
        "matmul",
        "grouped_matmul",
        "grouped_matmul_weight",
        "unary",
        "binary",
        "reduce",
        "softmax",
        "rope",
        "attention",
        "attention_backward",
        "router",
        "expert_permutation",
        "philox",
    ];
    for op in report.ops.iter().filter(|op| !op.op.starts_with("device.")) {
        let composed = if cores.contains(&&*op.op) { 0 } else { op.cases };
        assert_eq!(op.composed, composed, "{}", op.op);
    }
    assert!(worst(&report) < 0.7, "{}", worst(&report));
}

/// A number of plain f32 code.
#[derive(Clone, Copy, Debug)]
struct Single(f32);

impl From<f64> for Single {
    fn from(x: f64) -> Self {
        Single(x as f32)
    }
}

macro_rules! single {
    ($($op:ident $f:ident $sign:tt),*) => {$(
        impl $op for Single {
            type Output = Single;
            fn $f(self, b: Single) -> Single {
                Single(self.0 $sign b.0)
            }
        }
    )*};
}
single!(Add add +, Sub sub -, Mul mul *, Div div /);

impl Neg for Single {
    type Output = Single;
    fn neg(self) -> Single {
        Single(-self.0)
    }
}

/// Eight partial sums, the least that vector code has.
#[derive(Default)]
struct SingleSum {
    lanes: [f32; 8],
    terms: usize,
}

impl Sum<Single> for SingleSum {
    fn push(&mut self, x: Single) {
        self.lanes[self.terms % 8] += x.0;
        self.terms += 1;
    }
    fn total(&self) -> Single {
        Single(self.lanes.iter().sum())
    }
}

impl Real for Single {
    type Sum = SingleSum;

    fn value(self) -> f64 {
        self.0.into()
    }
    fn exp(self) -> Self {
        Single(self.0.exp())
    }
    fn ln(self) -> Self {
        Single(self.0.ln())
    }
    fn sqrt(self) -> Self {
        Single(self.0.sqrt())
    }
    fn tanh(self) -> Self {
        Single(self.0.tanh())
    }
    fn sin(self) -> Self {
        Single(self.0.sin())
    }
    fn cos(self) -> Self {
        Single(self.0.cos())
    }
    fn max(self, b: Self) -> Self {
        Single(self.0.max(b.0))
    }
    fn in_block(self, _: f64, _: f64) -> Single {
        self
    }
    fn custom(op: &dyn CustomOp, inputs: &[Array<Self>], outputs: &mut [Array<Self>]) {
        let wide =
            |a: &Array<Self>| Array::new(a.dtype, &a.shape, a.data.iter().map(|x| x.value()).collect());
        let mut out: Vec<Array> = outputs.iter().map(wide).collect();
        op.reference(&inputs.iter().map(wide).collect::<Vec<_>>(), &mut out);
        for (single, wide) in outputs.iter_mut().zip(out) {
            single.data = wide.data.into_iter().map(Single::from).collect();
        }
    }
}

/// The reference's formulas in f32: integers and their conversions stay as they are.
fn eval_single(kind: &OpKind, inputs: &[Array], outputs: &mut [Array]) {
    let integers = inputs.iter().chain(&*outputs).any(|a| a.dtype == DType::I32 || a.dtype == DType::U32);
    if integers && matches!(kind, OpKind::Copy | OpKind::Philox(_) | OpKind::Binary(_)) {
        return eval(kind, inputs, outputs);
    }
    let narrow = |a: &Array| {
        let exact = |x: &f64| if a.dtype.is_float() { *x } else { x.clamp(-1e6, 1e6) };
        Array::new(a.dtype, &a.shape, a.data.iter().map(|x| Single::from(exact(x))).collect())
    };
    let inputs: Vec<_> = inputs.iter().map(narrow).collect();
    let mut out: Vec<_> = outputs.iter().map(narrow).collect();
    eval(kind, &inputs, &mut out);
    for (wide, single) in outputs.iter_mut().zip(out) {
        wide.data = single.data.iter().map(|x| x.value()).collect();
    }
}

/// The tolerances leave room for straightforward f32 code, composed or not.
#[test]
fn plain_f32_code_passes() {
    let device = Arc::new(ReferenceDevice::evaluating(eval_single));
    for seed in 2..4 {
        let options = Options { seed, ..Options::default() };
        let report = run(&*device, &options);
        assert_clean(&report);
        // Neither tight nor vacuous.
        assert!((0.2..0.9).contains(&worst(&report)), "{}", worst(&report));
    }
    assert_clean(&run(&CoreOnly::new(device), &Options::default()));
}

type Change = fn(&dyn Device, &Op) -> Result<Vec<Op>>;

/// A device that runs other ops than those it is given.
#[derive(Debug)]
struct Planted {
    inner: ReferenceDevice,
    change: Change,
}

impl Device for Planted {
    crate::forward_to!(inner; info, supports, allocate, create_stream, upload, download, copy, replay);
    crate::forward_to!(inner; record_event, wait_event, synchronize, memory);

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        for op in ops {
            self.inner.submit(stream, &(self.change)(&self.inner, op)?)?;
        }
        Ok(())
    }
}

fn failures(op: &str, change: Change) -> usize {
    let device = Planted { inner: ReferenceDevice::rounding(), change };
    let options = Options { op: Some(op.into()), ..Options::default() };
    let report = run(&device, &options);
    assert_eq!(report.ops.len(), 1);
    report.ops[0].failed
}

fn with_kind(op: &Op, kind: OpKind) -> Result<Vec<Op>> {
    Ok(vec![Op::new(kind, op.inputs.clone(), op.outputs.clone())])
}

fn scratch(device: &dyn Device, like: &TensorRef, dtype: DType) -> Result<TensorRef> {
    let buffer = device.allocate(dtype.bytes(&like.shape).unwrap(), 0)?;
    Ok(TensorRef::new(&buffer, dtype, &like.shape))
}

/// The results go through memory of another dtype, then through `back` to where they belong.
fn redirected(
    device: &dyn Device,
    op: &Op,
    from: DType,
    through: DType,
    back: fn(TensorRef) -> TensorRef,
) -> Result<Vec<Op>> {
    let mut op = op.clone();
    let mut after = Vec::new();
    for y in op.outputs.iter_mut().filter(|y| y.dtype == from) {
        let t = scratch(device, y, through)?;
        after.push(Op::copy(back(t.clone()), std::mem::replace(y, t)));
    }
    after.insert(0, op);
    Ok(after)
}

#[test]
fn defects_are_caught() {
    let dropped_accumulate: Change =
        |_, op| with_kind(op, OpKind::Matmul { accumulate: false, bias: op.inputs.len() > 2 });
    let truncated: Change = |d, op| {
        // The upper half of an f32 is its bf16, rounded towards zero.
        redirected(d, op, DType::BF16, DType::F32, |t| {
            let strides: Vec<usize> = t.strides.iter().map(|s| 2 * s).collect();
            let shape = t.shape;
            let Source::Buffer(b) = &t.source else { unreachable!() };
            TensorRef::new(b, DType::BF16, &[]).with_offset(1).with_layout(&shape, &strides)
        })
    };
    let half_sums: Change = |d, op| redirected(d, op, DType::F32, DType::F16, |t| t);
    let half_factors: Change = |d, op| {
        let mut op = op.clone();
        let mut ops = Vec::new();
        for x in op.inputs.iter_mut().filter(|x| x.dtype == DType::F32) {
            let t = scratch(d, x, DType::BF16)?;
            ops.push(Op::copy(std::mem::replace(x, t.clone()), t));
        }
        ops.push(op);
        Ok(ops)
    };
    let wider_window: Change = |_, op| match op.kind {
        OpKind::Attention(a) => with_kind(op, OpKind::Attention(a.window(a.window.map(|w| w + 1)))),
        OpKind::AttentionBackward(a) => {
            with_kind(op, OpKind::AttentionBackward(a.window(a.window.map(|w| w + 1))))
        }
        _ => Ok(vec![op.clone()]),
    };
    let not_causal: Change = |_, op| match op.kind {
        OpKind::Attention(a) => with_kind(op, OpKind::Attention(a.full())),
        _ => Ok(vec![op.clone()]),
    };
    let last_left_out: Change = |_, op| {
        let mut op = op.clone();
        let axis = op.inputs[0].rank() - 1;
        let n = op.inputs[0].shape[axis];
        if n > 1 {
            op.inputs[0] = op.inputs[0].clone().slice(axis, 0, n - 1);
        }
        Ok(vec![op])
    };
    let no_eps: Change = |_, op| match op.kind {
        OpKind::RmsNorm { .. } => with_kind(op, OpKind::RmsNorm { eps: 1e-8.into() }),
        _ => Ok(vec![op.clone()]),
    };
    let forward_only: Change = |_, op| match op.kind {
        OpKind::Rope { interleaved, .. } => with_kind(op, OpKind::Rope { inverse: false, interleaved }),
        _ => Ok(vec![op.clone()]),
    };
    let not_normalised: Change = |_, op| match op.kind {
        OpKind::Router(r) => with_kind(op, OpKind::Router(r.normalize(false))),
        OpKind::RouterBackward(r) => with_kind(op, OpKind::RouterBackward(r.normalize(false))),
        _ => Ok(vec![op.clone()]),
    };
    let groups_by_best: Change = |_, op| match op.kind {
        OpKind::Router(r) => {
            with_kind(op, OpKind::Router(r.groups(r.groups, r.top_groups, crate::GroupScore::Max)))
        }
        _ => Ok(vec![op.clone()]),
    };
    let offset_ignored: Change = |_, op| {
        let mut op = op.clone();
        op.inputs[0].offset = 0;
        Ok(vec![op])
    };
    let strides_ignored: Change = |_, op| {
        let mut op = op.clone();
        if op.outputs[0].elems() > 0 {
            op.outputs[0].strides = op.outputs[0].shape.contiguous_strides();
        }
        Ok(vec![op])
    };
    let writes_behind: Change = |_, op| {
        let y = &op.outputs[0];
        let Source::Buffer(b) = &y.source else { unreachable!() };
        let (_, end) = y.byte_range().unwrap();
        let stray = TensorRef::new(b, DType::U8, &[1]).with_offset(end as usize);
        Ok(vec![op.clone(), Op::fill(7.0, stray)])
    };
    let writes_input: Change = |_, op| {
        let x = op.inputs[op.inputs.len() - 1].clone();
        let dims = vec![1; x.rank()];
        let mut ops = vec![op.clone()];
        if x.elems() > 0 && !x.dtype.is_block() {
            let strides = x.strides.to_vec();
            ops.push(Op::fill(77.0, x.with_layout(&dims, &strides)));
        }
        Ok(ops)
    };
    let nothing: Change = |_, _| Ok(vec![]);
    let no_decay: Change = |_, op| match op.kind {
        OpKind::AdamW(mut a) => {
            a.weight_decay = 0.0.into();
            with_kind(op, OpKind::AdamW(a))
        }
        _ => Ok(vec![op.clone()]),
    };
    let last_of_equals: Change = |d, op| match op.kind {
        OpKind::Reduce { f: ReduceFn::ArgMax, .. } => argmax_of_ramp(d, op),
        _ => Ok(vec![op.clone()]),
    };

    let cases: [(&str, &str, Change); 34] = [
        ("matmul", "accumulate ignored", dropped_accumulate),
        ("matmul", "bf16 truncated", truncated),
        ("matmul", "f16 result", half_sums),
        ("matmul", "bf16 factors", half_factors),
        ("matmul", "last term left out", |_, op| {
            let mut op = op.clone();
            let (a, b) = (op.inputs[0].rank() - 1, op.inputs[1].rank() - 2);
            let k = op.inputs[0].shape[a];
            if k > 1 && !op.inputs[1].dtype.is_block() {
                op.inputs[0] = op.inputs[0].clone().slice(a, 0, k - 1);
                op.inputs[1] = op.inputs[1].clone().slice(b, 0, k - 1);
            }
            Ok(vec![op])
        }),
        ("grouped_matmul", "bf16 truncated", truncated),
        ("grouped_matmul_weight", "offset ignored", offset_ignored),
        ("unary", "bf16 truncated", truncated),
        ("unary", "strides ignored", strides_ignored),
        ("unary", "writes behind its output", writes_behind),
        ("binary", "f16 result", half_sums),
        ("binary", "changes an input", writes_input),
        ("reduce", "last element left out", last_left_out),
        ("reduce", "the last of equals", last_of_equals),
        ("softmax", "f16 result", half_sums),
        ("softmax_backward", "changes an input", writes_input),
        ("rms_norm", "another eps", no_eps),
        ("rms_norm", "bf16 factors", half_factors),
        ("rms_norm_backward", "writes behind its output", writes_behind),
        ("rope", "inverse ignored", forward_only),
        ("attention", "window off by one", wider_window),
        ("attention", "not causal", not_causal),
        ("attention_backward", "window off by one", wider_window),
        ("swiglu", "bf16 truncated", truncated),
        ("cross_entropy", "bf16 factors", half_factors),
        ("cross_entropy_backward", "f16 result", half_sums),
        ("router", "not normalised", not_normalised),
        ("router", "groups by their best", groups_by_best),
        ("router_backward", "not normalised", not_normalised),
        ("expert_permutation", "does nothing", nothing),
        ("combine_backward", "strides ignored", strides_ignored),
        ("adamw", "no decay", no_decay),
        ("philox", "f16 result", half_sums),
        ("copy", "offset ignored", offset_ignored),
    ];
    for (op, what, change) in cases {
        assert!(failures(op, change) > 0, "{op}: {what} was not noticed");
    }
    // Without a defect the same device passes.
    assert_eq!(failures("matmul", |_, op| Ok(vec![op.clone()])), 0);
}

/// The last index of the largest, if the largest are equal: a slight ramp decides.
fn argmax_of_ramp(d: &dyn Device, op: &Op) -> Result<Vec<Op>> {
    let x = &op.inputs[0];
    let n = x.shape[x.rank() - 1];
    let (ramp, index) = (scratch(d, x, DType::F32)?, scratch(d, x, DType::I32)?);
    let tiny = crate::UnaryFn::Affine { scale: (1e-4 / n.max(1) as f32).into(), shift: 0.0.into() };
    Ok(vec![
        Op::iota(index.clone()),
        Op::copy(index, ramp.clone()),
        Op::unary(tiny, ramp.clone(), ramp.clone()),
        Op::binary(BinaryFn::Add, ramp.clone(), x.clone(), ramp.clone()),
        Op::reduce(ReduceFn::ArgMax, ramp, op.outputs[0].clone(), false),
    ])
}

#[test]
fn slices_cover_everything_once() {
    let device = ReferenceDevice::rounding();
    for name in ["softmax", "device.sequences"] {
        let run_slice = |slice| {
            let options = Options { op: Some(name.into()), slice, ..Options::default() };
            run(&device, &options).ops[0].cases
        };
        let parts: usize = (0..3).map(|i| run_slice(Some((i, 3)))).sum();
        assert_eq!(parts, run_slice(None));
    }
}

#[test]
fn the_report_is_serialisable() {
    let options = Options { op: Some("clip_factor".into()), ..Options::default() };
    let text = serde_json::to_string(&run(&ReferenceDevice::new(), &options)).unwrap();
    assert!(text.contains("\"op\":\"clip_factor\"") && text.contains("\"failures\":[]"), "{text}");
}

/// A device with a good and a bad way to do reductions.
#[derive(Debug)]
struct TwoWays {
    inner: ReferenceDevice,
    bad: std::sync::atomic::AtomicBool,
}

impl Device for TwoWays {
    crate::forward_to!(inner; info, supports, workspace, allocate, create_stream, upload, download, copy);
    crate::forward_to!(inner; record_event, wait_event, synchronize, memory);

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        self.inner.submit(stream, ops)?;
        if self.bad.load(std::sync::atomic::Ordering::Relaxed) {
            let outputs = ops.iter().flat_map(|op| &op.outputs);
            let spoil: Vec<Op> = outputs.map(|t| Op::fill(7.0, t.clone())).collect();
            self.inner.submit(stream, &spoil)?;
        }
        Ok(())
    }
    fn variants(&self, desc: &crate::OpDesc) -> Vec<String> {
        let reduces = matches!(desc.kind, OpKind::Reduce { .. });
        if reduces { vec!["good".into(), "bad".into()] } else { Vec::new() }
    }
    /// Of the dtype, of the variant, and of the op and its attributes.
    fn programs(&self, op: &Op) -> Result<Vec<Vec<u64>>> {
        let OpKind::Reduce { f, .. } = &op.kind else { return Ok(Vec::new()) };
        if op.outputs[0].elems() == 0 {
            return Ok(Vec::new());
        }
        let bad = self.bad.load(std::sync::atomic::Ordering::Relaxed);
        Ok(vec![vec![1000 + op.inputs[0].dtype as u64, 2000 + u64::from(bad), 3000 + *f as u64]])
    }
    fn set_tuning(&self, choices: &[(String, String)]) -> Result<()> {
        let bad = choices.iter().any(|(op, variant)| op == "reduce" && variant == "bad");
        self.bad.store(bad, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn each_variant_is_tried_where_that_is_asked_for() {
    let device = TwoWays { inner: ReferenceDevice::new(), bad: false.into() };
    let of = |op: &str, variants| {
        let slice = Some((0, 8));
        let options = Options { op: Some(op.into()), slice, variants, ..Options::default() };
        run(&device, &options).ops.remove(0)
    };
    let (one, both) = (of("reduce", Variants::Chosen), of("reduce", Variants::Each));
    assert!(one.failed == 0 && both.cases == 2 * one.cases, "{both:?}");
    assert!(both.failed > 0 && both.failures.iter().all(|f| f.case.starts_with("bad: ")), "{both:?}");
    // What was chosen for a case is forgotten.
    assert_eq!(of("reduce", Variants::Chosen).failed, 0);
    let other = of("softmax", Variants::Each);
    assert!(other.failed == 0 && other.cases > 0, "{other:?}");
}

#[test]
fn each_pair_of_traits_is_run_where_that_is_asked_for() {
    let device = TwoWays { inner: ReferenceDevice::new(), bad: false.into() };
    let of = |op: &str, slice, variants| {
        let options = Options { op: Some(op.into()), slice, variants, ..Options::default() };
        run(&device, &options).ops.remove(0)
    };
    let each = of("reduce", None, Variants::Each);
    let pairs = of("reduce", None, Variants::Pairwise);
    // Each of three dtypes with each of the reductions and variants.
    assert!(pairs.cases >= 12 && 5 * pairs.cases < each.cases, "{pairs:?}");
    // What is written the bad way is wrong.
    assert!(pairs.failed >= 3 && pairs.failures.iter().all(|f| f.case.starts_with("bad: ")), "{pairs:?}");
    for dtype in ["f32", "f16", "bf16"] {
        assert!(pairs.failures.iter().any(|f| f.case.contains(&format!("({dtype}["))), "{dtype}: {pairs:?}");
    }
    assert!(!device.bad.load(std::sync::atomic::Ordering::Relaxed), "a choice is left");
    let parts = (0..4).map(|i| of("reduce", Some((i, 4)), Variants::Pairwise));
    let sum = parts.fold((0, 0), |(cases, failed), part| (cases + part.cases, failed + part.failed));
    assert_eq!(sum, (pairs.cases, pairs.failed));
    // Without programs every case is run.
    let (plain, other) = (of("softmax", None, Variants::Chosen), of("softmax", None, Variants::Pairwise));
    assert!(other.failed == 0 && other.cases == plain.cases, "{other:?}");
}
