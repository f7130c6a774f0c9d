//! What an engine promises when something fails, and to a program with kernels of its own.

use super::fake::Fake;
use super::*;
use halite_hal::{DType, Device, StreamId};

const STREAM: StreamId = StreamId(0);

fn engine() -> Engine<Fake> {
    Engine::new(Fake::new(1 << 30, 1 << 28), &DeviceOptions::default()).unwrap()
}

fn tensor(b: &Buffer) -> TensorRef {
    TensorRef::new(b, DType::F32, &[b.bytes() as usize / 4])
}

#[test]
fn the_first_late_error_stays() {
    let d = engine();
    let b = d.allocate(64, 0).unwrap();
    let before = d.record_event(STREAM).unwrap();
    d.submit(STREAM, &[Op::fill(1.0, tensor(&b))]).unwrap();
    let lost = Error::DeviceLost { device: "fake:0".into(), message: "fill: it is gone".into() };
    *d.driver().fault.lock().unwrap() = Some(lost);
    for _ in 0..2 {
        let e = d.synchronize(STREAM).unwrap_err();
        assert_eq!(e.to_string(), "fake:0 is lost: fill: it is gone");
        // Another error later, or none, changes nothing.
        *d.driver().fault.lock().unwrap() = None;
    }
    let told = |r: Result<()>| assert!(matches!(r, Err(Error::DeviceLost { .. })), "{r:?}");
    told(d.submit(STREAM, &[Op::fill(1.0, tensor(&b))]));
    told(d.download(STREAM, &b, 0, 4).map(drop));
    told(d.replay(STREAM, &d.record(&halite_hal::Graph::new()).unwrap(), &[]));
    told(before.wait());
    told(before.poll().map(drop));
}

#[test]
fn a_kernel_that_is_refused_is_named_and_leaves_the_device_well() {
    let d = engine();
    let b = d.allocate(64, 0).unwrap();
    *d.driver().refused.lock().unwrap() = Some("fill");
    let e = d.submit(STREAM, &[Op::fill(1.0, tensor(&b))]).unwrap_err().to_string();
    assert!(e.contains("fake:0: kernel fill"), "{e}");
    d.synchronize(STREAM).unwrap();
    *d.driver().refused.lock().unwrap() = None;
    d.submit(STREAM, &[Op::fill(1.0, tensor(&b))]).unwrap();
    d.submit(STREAM, &[Op::fill(2.0, tensor(&b))]).unwrap();
    assert_eq!(*d.driver().compiled.lock().unwrap(), ["fill"], "compiled once");
}

#[test]
fn buffers_of_another_device_are_refused_everywhere() {
    let (d, other) = (engine(), engine());
    let (mine, theirs) = (d.allocate(64, 0).unwrap(), other.allocate(64, 0).unwrap());
    let refused = |r: Result<()>| assert!(matches!(r, Err(Error::WrongDevice { .. })), "{r:?}");
    refused(d.upload(STREAM, &theirs, 0, &[0; 4]));
    refused(d.download(STREAM, &theirs, 0, 4).map(drop));
    refused(d.copy(STREAM, (&theirs, 0), (&mine, 0), 4));
    refused(d.copy(STREAM, (&mine, 0), (&theirs, 0), 4));
    refused(d.submit(STREAM, &[Op::copy(tensor(&theirs), tensor(&mine))]));
    refused(d.submit(STREAM, &[Op::copy(tensor(&mine), tensor(&theirs))]));
    refused(d.export(&theirs).map(drop));
    d.synchronize(STREAM).unwrap();
}

const DOUBLE: &str = "struct P { n: u32 }
    @group(0) @binding(0) var<uniform> p: P;
    @group(0) @binding(1) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
        if at.x < p.n { x[at.x] *= 2.0; }
    }";

#[test]
fn kernels_of_the_host_are_checked_and_run() {
    let d = engine();
    // SAFETY: it keeps within its bounds.
    let compile = |d: &Engine<Fake>, wgsl: &str| unsafe { d.compile("double", wgsl) };
    let kernel = compile(&d, DOUBLE).unwrap();
    let b = d.allocate(100, 0).unwrap();
    d.dispatch(&kernel, &[25], &[(&b, 0, 100)], [1, 1, 1]).unwrap();
    d.dispatch(&kernel, &[25], &[(&b, 0, 100)], [1, 0, 1]).unwrap();
    assert_eq!(*d.driver().dispatched.lock().unwrap(), [("double".to_string(), vec![25])]);
    let why = |params: &[u32], bindings: &[(&Buffer, u64, u64)], groups| {
        d.dispatch(&kernel, params, bindings, groups).unwrap_err().to_string()
    };
    let one = [(&b, 0, 100)];
    for (e, says) in [
        (why(&[], &one, [1; 3]), "1 parameters and 1 bindings; it was given 0 and 1"),
        (why(&[1], &[one[0]; 2], [1; 3]), "given 1 and 2"),
        (why(&[1], &[(&b, 4, 104)], [1; 3]), "binding of bytes 4..108 is outside the buffer of 100 bytes"),
        (why(&[1], &[(&b, 2, 4)], [1; 3]), "multiple of 4"),
        (why(&[1], &[(&b, 0, 0)], [1; 3]), "not 0"),
        (why(&[1], &one, [1, 1001, 1]), "1001 requested, at most 1000"),
        (compile(&d, &DOUBLE.replace("64", "65")).unwrap_err().to_string(), "65 requested, at most 64"),
        (compile(&d, &DOUBLE.replace("at.x]", "at.q]")).unwrap_err().to_string(), "kernel double"),
    ] {
        assert!(e.contains(says), "{e}");
    }
    let other = engine();
    let theirs = other.allocate(16, 0).unwrap();
    let e = other.dispatch(&kernel, &[1], &[(&theirs, 0, 16)], [1; 3]).unwrap_err().to_string();
    assert!(e.contains("another device"), "{e}");
    let e = d.dispatch(&kernel, &[1], &[(&theirs, 0, 16)], [1; 3]).unwrap_err();
    assert!(matches!(e, Error::WrongDevice { .. }), "{e}");
    *d.driver().refused.lock().unwrap() = Some("double");
    assert!(compile(&d, DOUBLE).unwrap_err().to_string().contains("kernel double: refused"));
}

#[test]
fn memory_goes_in_and_out_as_it_is() {
    let d = engine();
    let made = || d.driver().allocate(64).unwrap();
    // SAFETY: it has as many bytes.
    let (whole, odd) = unsafe { (d.import(made(), 64), d.import(made(), 20)) };
    assert!(odd.unwrap_err().to_string().contains("multiple of 16 bytes, not 20"));
    let whole = whole.unwrap();
    assert_eq!(d.memory().used, 64);
    let [region] = &d.export(&whole).unwrap()[..] else { panic!("one piece") };
    assert_eq!((region.offset, region.bytes, region.memory.bytes()), (0, 64, 64));
    d.submit(STREAM, &[Op::fill(1.0, tensor(&whole))]).unwrap();
    // Small buffers share a piece of memory.
    let (_first, second) = (d.allocate(100, 0).unwrap(), d.allocate(100, 0).unwrap());
    let region = d.export(&second).unwrap().remove(0);
    assert!(region.offset >= 256 && region.bytes == 100 && region.memory.bytes() > 1 << 20);
}
