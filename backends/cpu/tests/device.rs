//! What the device does beside ops: order, errors, memory.

use halite_cpu::{CpuBackend, CpuDevice};
use halite_hal::{
    Binding, Buffer, DType, Device, DeviceOptions, Error, Graph, Op, Profile, ReduceFn, Registry, Storage,
    StreamId, TensorRef, UnaryFn,
};
use std::sync::Arc;

const S0: StreamId = StreamId(0);

fn device(threads: usize) -> CpuDevice {
    CpuDevice::new(&DeviceOptions::default().threads(threads)).unwrap()
}

fn upload(d: &CpuDevice, x: &[f32]) -> Buffer {
    let b = d.allocate(4 * x.len() as u64, 0).unwrap();
    d.upload(S0, &b, 0, &x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    b
}

fn floats(d: &CpuDevice, stream: StreamId, b: &Buffer) -> Result<Vec<f32>, Error> {
    d.download(stream, b, 0, b.bytes())?.wait_as()
}

/// Offsets that descend, which only shows when the op runs.
fn bad_op(d: &CpuDevice) -> Op {
    let offsets = d.allocate(12, 0).unwrap();
    let bytes: Vec<u8> = [0i32, 2, 1].iter().flat_map(|x| x.to_le_bytes()).collect();
    d.upload(S0, &offsets, 0, &bytes).unwrap();
    let t =
        |shape: &[usize]| TensorRef::new(&upload(d, &vec![0.0; shape.iter().product()]), DType::F32, shape);
    let offsets = TensorRef::new(&offsets, DType::I32, &[3]);
    Op::grouped_matmul(t(&[2, 2]), t(&[2, 2, 2]), offsets, None, t(&[2, 2]), false)
}

#[test]
fn a_late_error_sticks_to_its_stream_and_names_the_op() {
    let d = device(2);
    let other = d.create_stream().unwrap();
    let third = d.create_stream().unwrap();
    let x = upload(&d, &[1.0]);
    let bad = bad_op(&d);
    d.submit(other, &[bad]).unwrap();
    for _ in 0..2 {
        let e = d.synchronize(other).unwrap_err().to_string();
        assert!(e.contains("grouped_matmul") && e.contains("expert 1") && e.contains("2..1"), "{e}");
    }
    // Later work of that stream is not done, and its waits fail.
    let t = TensorRef::new(&x, DType::F32, &[1]);
    d.submit(other, &[Op::fill(7.0, t.clone())]).unwrap();
    assert!(floats(&d, other, &x).is_err());
    let event = d.record_event(other).unwrap();
    assert!(event.wait().is_err() && event.poll().is_err());
    // Other streams go on, unless they wait for it.
    assert_eq!(floats(&d, S0, &x).unwrap(), [1.0]);
    d.wait_event(third, &event).unwrap();
    assert!(d.synchronize(third).unwrap_err().to_string().contains("grouped_matmul"));
    d.synchronize(S0).unwrap();
}

#[test]
fn streams_wait_for_each_other() {
    let d = device(2);
    let streams: Vec<StreamId> = (0..8).map(|_| d.create_stream().unwrap()).collect();
    let x = upload(&d, &[0.0; 64]);
    let t = TensorRef::new(&x, DType::F32, &[64]);
    let add = UnaryFn::Affine { scale: 1.0.into(), shift: 1.0.into() };
    let mut before = d.record_event(S0).unwrap();
    for round in 0..20 {
        let s = streams[round % 8];
        d.wait_event(s, &before).unwrap();
        d.submit(s, &[Op::unary(add, t.clone(), t.clone())]).unwrap();
        before = d.record_event(s).unwrap();
    }
    before.wait().unwrap();
    assert!(before.poll().unwrap());
    assert_eq!(floats(&d, S0, &x).unwrap(), [20.0; 64]);
}

#[test]
fn a_download_can_be_polled() {
    let d = device(1);
    let x = upload(&d, &[3.0]);
    let mut r = d.download(S0, &x, 0, 4).unwrap();
    while !r.poll().unwrap() {
        std::thread::yield_now();
    }
    assert_eq!(r.wait_as::<f32>().unwrap(), [3.0]);
}

#[test]
fn dropping_a_busy_device_finishes_its_work() {
    let d = device(2);
    let x = upload(&d, &vec![1.0; 1 << 20]);
    let t = TensorRef::new(&x, DType::F32, &[1 << 20]);
    for _ in 0..20 {
        d.submit(S0, &[Op::unary(UnaryFn::Neg, t.clone(), t.clone())]).unwrap();
    }
    let read = d.download(S0, &x, 0, x.bytes()).unwrap();
    drop(d);
    assert!(read.wait_as::<f32>().unwrap().iter().all(|&v| v == 1.0));
    drop(x);
}

#[test]
fn submissions_keep_their_buffers() {
    let d = device(1);
    let y = upload(&d, &[0.0; 4]);
    let x = upload(&d, &[2.0; 4]);
    let op = Op::unary(
        UnaryFn::Square,
        TensorRef::new(&x, DType::F32, &[4]),
        TensorRef::new(&y, DType::F32, &[4]),
    );
    d.submit(S0, &[op]).unwrap();
    drop(x);
    assert_eq!(floats(&d, S0, &y).unwrap(), [4.0; 4]);
    assert_eq!(d.memory().used, 16);
}

#[test]
fn what_is_wrong_with_the_arguments_shows_at_once() {
    let d = device(1);
    let x = upload(&d, &[0.0; 4]);
    assert!(matches!(
        d.upload(S0, &x, 12, &[0; 8]),
        Err(Error::OutOfRange { start: 12, end: 20, size: 16, .. })
    ));
    assert!(d.copy(S0, (&x, 0), (&x, 4), 8).unwrap_err().to_string().contains("overlaps"));
    assert!(d.synchronize(StreamId(5)).unwrap_err().to_string().contains("stream 5"));
    let foreign = upload(&device(1), &[0.0; 4]);
    assert!(matches!(d.download(S0, &foreign, 0, 4), Err(Error::WrongDevice { .. })));
    let t = TensorRef::new(&x, DType::F32, &[4]);
    let to_foreign = Op::unary(UnaryFn::Neg, t.clone(), TensorRef::new(&foreign, DType::F32, &[4]));
    assert!(matches!(d.submit(S0, &[to_foreign]), Err(Error::WrongDevice { .. })));
    // Rows of an output that run into each other.
    let folded = t.clone().with_layout(&[2, 3], &[1, 1]);
    let e = d.submit(S0, &[Op::fill(1.0, folded)]).unwrap_err().to_string();
    assert!(e.contains("share memory"), "{e}");
    let limited = CpuDevice::new(&DeviceOptions::default().memory_limit(64)).unwrap();
    assert!(matches!(
        limited.allocate(65, 0),
        Err(Error::OutOfMemory { requested: 65, available: 64, limit: 64, .. })
    ));
    d.synchronize(S0).unwrap();
}

#[test]
fn views_that_only_seem_to_lie_inside_are_refused() {
    let d = device(1);
    let x = upload(&d, &[0.0; 4]);
    let square = TensorRef::new(&x, DType::F32, &[1 << 32, 1 << 32]);
    let before = TensorRef::new(&x, DType::U8, &[1]).with_offset(usize::MAX);
    let mut strided = TensorRef::new(&x, DType::F32, &[4]);
    strided.strides = halite_hal::Strides::new(&[1, 1 << 40]);
    for y in [square, before, strided] {
        assert!(d.submit(S0, &[Op::fill(1.0, y)]).is_err());
    }
    // An input that repeats one element of the output's range is an overlap like any other.
    let y = TensorRef::new(&x, DType::F32, &[4]);
    let one = y.clone().slice(0, 2, 1).broadcast(&[4]);
    let e = d.submit(S0, &[Op::unary(UnaryFn::Neg, one, y)]).unwrap_err().to_string();
    assert!(e.contains("overlaps"), "{e}");
    d.synchronize(S0).unwrap();
}

#[test]
fn empty_views_may_have_any_strides() {
    let d = device(1);
    let x = upload(&d, &[0.0; 4]);
    let far = usize::MAX / 2;
    let t =
        |shape: &[usize], strides: &[usize]| TensorRef::new(&x, DType::F32, &[]).with_layout(shape, strides);
    let empty = || t(&[4, 0], &[far, far]);
    let (k, n) = (t(&[4, 0], &[far, 1]), t(&[0, 3], &[1, far]));
    let y = upload(&d, &[5.0; 12]);
    let c = TensorRef::new(&y, DType::F32, &[4, 3]);
    let ops = [
        Op::fill(1.0, empty()),
        Op::copy(empty(), empty().with_offset(1)),
        Op::softmax(empty(), empty()),
        Op::matmul(k, n, c),
    ];
    d.submit(S0, &ops).unwrap();
    assert_eq!(floats(&d, S0, &y).unwrap(), [0.0; 12]);
}

/// Memory of a device in other clothes, as a wrapper of a device may have it.
struct Disguise(Buffer);

impl Storage for Disguise {
    fn device(&self) -> &str {
        self.0.storage().device()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self.0.storage().as_any()
    }
}

#[test]
fn disguised_memory_is_the_same_and_no_larger() {
    let d = device(1);
    let x = upload(&d, &[1.0, 2.0, 3.0, 4.0]);
    let larger = Buffer::new(Arc::new(Disguise(x.clone())), 1 << 40);
    assert!(d.upload(S0, &larger, 1 << 20, &[0; 4]).is_err());
    assert!(d.download(S0, &larger, 0, 32).is_err());
    let far = TensorRef::new(&larger, DType::F32, &[4]).with_offset(1 << 20);
    assert!(d.submit(S0, &[Op::fill(1.0, far)]).is_err());
    let same = Buffer::new(Arc::new(Disguise(x.clone())), 16);
    assert!(same.same(&x));
    let m = |b: &Buffer| TensorRef::new(b, DType::F32, &[2, 2]);
    let e = d.submit(S0, &[Op::matmul(m(&x), m(&x), m(&same))]).unwrap_err().to_string();
    assert!(e.contains("overlaps"), "{e}");
    assert_eq!(floats(&d, S0, &same).unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn one_buffer_behind_two_slots_is_checked_at_replay() {
    let d = device(1);
    let mut g = Graph::new();
    let x = g.external(DType::F32, &[4]);
    let y = g.external(DType::F32, &[4]);
    g.push(Op::matmul(x.clone().reshape(&[2, 2]), x.reshape(&[2, 2]), y.reshape(&[2, 2])));
    let r = d.record(&g).unwrap();
    let (a, b) = (upload(&d, &[1.0, 1.0, 0.0, 1.0]), upload(&d, &[0.0; 4]));
    d.replay(S0, &r, &[Binding::new(0, &a), Binding::new(1, &b)]).unwrap();
    assert_eq!(floats(&d, S0, &b).unwrap(), [1.0, 2.0, 0.0, 1.0]);
    let e = d.replay(S0, &r, &[Binding::new(0, &a), Binding::new(1, &a)]).unwrap_err().to_string();
    assert!(e.contains("overlaps"), "{e}");
    assert!(matches!(d.replay(S0, &r, &[Binding::new(0, &a)]), Err(Error::Slot { slot: 1, .. })));
    let small = upload(&d, &[0.0; 3]);
    let bound = [Binding::new(0, &a), Binding::new(1, &small)];
    assert!(matches!(d.replay(S0, &r, &bound), Err(Error::Slot { slot: 1, .. })));
    let mut changed = r.clone();
    changed.slots.clear();
    assert!(matches!(d.replay(S0, &changed, &[]), Err(Error::Slot { slot: 0, .. })));
    // Another device can't run it.
    let other = device(1);
    assert!(other.replay(S0, &r, &[Binding::new(0, &a), Binding::new(1, &b)]).is_err());
}

#[test]
fn the_backend_has_one_device_and_profiles_restrict_it() {
    let mut registry = Registry::new();
    registry.register(CpuBackend);
    let found = registry.find("cpu").unwrap();
    assert_eq!(found.len(), 1);
    assert!(!found[0].name.is_empty() && found[0].driver.starts_with("halite-cpu "));
    assert!(registry.open("cpu:1", &DeviceOptions::default()).is_err());
    let options = DeviceOptions::default().threads(1).profile(Profile::named("minimal").unwrap());
    let d: Arc<dyn Device> = registry.open("cpu", &options).unwrap();
    assert_eq!(d.info().profile.as_deref(), Some("minimal"));
    let b = d.allocate(300 << 20, 1 << 20).unwrap();
    assert_eq!(b.storage().chunks(), [0, 128 << 20, 256 << 20]);
}

/// Quantised products where nothing is left of an axis; of few rows, and of more.
#[test]
fn quantised_products_of_nothing_are_the_bias() {
    let d = device(1);
    for m in [0usize, 1, 20] {
        for k in [0usize, 32] {
            let weights = d.allocate(3 * 34, 0).unwrap();
            d.upload(S0, &weights, 0, &[0; 3 * 34]).unwrap();
            let w = TensorRef::new(&weights, DType::Q8_0, &[3, k]).transpose(0, 1);
            let t = |x: &[f32], shape: &[usize]| TensorRef::new(&upload(&d, x), DType::F32, shape);
            let c = upload(&d, &vec![9.0; 3 * m]);
            let bias = t(&[1.0, 2.0, 3.0], &[3]);
            let product = TensorRef::new(&c, DType::F32, &[m, 3]);
            d.submit(S0, &[Op::matmul_with(t(&vec![1.0; m * k], &[m, k]), w, Some(bias), product, false)])
                .unwrap();
            assert_eq!(floats(&d, S0, &c).unwrap(), [1.0, 2.0, 3.0].repeat(m));
        }
    }
}

#[test]
fn a_maximum_of_infinities_is_the_reference_s() {
    let d = device(1);
    let reference = halite_hal::reference::ReferenceDevice::rounding();
    for wide in [false, true] {
        let results = [&d as &dyn Device, &reference].map(|d| {
            let x = d.allocate(24, 0).unwrap();
            d.upload(S0, &x, 0, &[f32::NEG_INFINITY; 6].map(f32::to_le_bytes).concat()).unwrap();
            let y = d.allocate(8, 0).unwrap();
            let rows = TensorRef::new(&x, DType::F32, &[2, 3]);
            let columns = TensorRef::new(&x, DType::F32, &[3, 2]).transpose(0, 1);
            let x = if wide { columns } else { rows };
            let op = Op::reduce(ReduceFn::Max, x, TensorRef::new(&y, DType::F32, &[2]), false);
            d.submit(S0, &[op]).unwrap();
            d.download(S0, &y, 0, 8).unwrap().wait_as::<f32>().unwrap()
        });
        assert_eq!(results[0], results[1], "{wide}");
    }
}
