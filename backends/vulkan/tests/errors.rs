//! What goes wrong is told as it is, on every Vulkan device that is there.

use halite_hal::{Backend, Buffer, DType, Device, DeviceOptions, Error, Op, Result, StreamId, TensorRef};
use halite_kernels::{Driver, Kernel};
use halite_vulkan::{VulkanBackend, VulkanDevice, VulkanDriver};

const STREAM: StreamId = StreamId(0);

fn open(options: &DeviceOptions) -> Vec<VulkanDevice> {
    let open = |i| VulkanDevice::new(VulkanDriver::new(i, options).unwrap(), options).unwrap();
    let found: Vec<VulkanDevice> = (0..VulkanBackend::new().devices().len()).map(open).collect();
    if found.is_empty() {
        eprintln!("skipped: there is no Vulkan device");
    }
    found
}

fn all() -> Vec<VulkanDevice> {
    open(&DeviceOptions::default())
}

fn fill(b: &Buffer) -> Op {
    Op::fill(3.0, TensorRef::new(b, DType::F32, &[b.bytes() as usize / 4]))
}

fn works(d: &VulkanDevice) {
    let b = d.allocate(64, 0).unwrap();
    d.submit(STREAM, &[fill(&b)]).unwrap();
    assert_eq!(d.download(STREAM, &b, 0, 64).unwrap().wait_as::<f32>().unwrap(), [3.0; 16]);
}

fn is_lost<T>(result: Result<T>) {
    match result.map(drop) {
        Err(e @ Error::DeviceLost { .. }) => {
            let text = e.to_string();
            assert!(text.starts_with("vulkan:") && text.contains("is lost: vkQueueSubmit"), "{text}");
        }
        other => panic!("{other:?}, must be that the device is lost"),
    }
}

#[test]
fn a_lost_device_stays_lost_and_others_go_on() {
    for d in all() {
        works(&d);
        let b = d.allocate(64, 0).unwrap();
        let before = d.record_event(STREAM).unwrap();
        before.wait().unwrap();
        d.driver().lose_device();
        is_lost(d.submit(STREAM, &[fill(&b)]));
        for _ in 0..2 {
            is_lost(d.submit(STREAM, &[fill(&b)]));
            is_lost(d.upload(STREAM, &b, 0, &[0; 64]));
            is_lost(d.download(STREAM, &b, 0, 64));
            is_lost(d.synchronize(STREAM));
        }
        // It can be dropped, and opened anew.
        drop((b, before, d));
    }
    all().iter().for_each(works);
}

#[test]
fn what_fails_after_its_call_is_told_by_every_wait() {
    for d in all() {
        let b = d.allocate(64, 0).unwrap();
        // Uploads are gathered, and sent by the first wait.
        d.upload(STREAM, &b, 0, &[1; 64]).unwrap();
        let uploaded = d.record_event(STREAM).unwrap();
        d.driver().lose_device();
        for _ in 0..2 {
            is_lost(uploaded.poll());
            is_lost(uploaded.wait());
            is_lost(d.synchronize(STREAM));
        }
        is_lost(d.submit(STREAM, &[fill(&b)]));
    }
}

#[test]
fn a_kernel_that_does_not_compile_is_named() {
    for d in all() {
        // SAFETY: it doesn't compile.
        let e = unsafe { d.compile("mine", "@compute @workgroup_size(1) fn main() { y = 1; }") }.unwrap_err();
        assert!(e.to_string().contains("kernel mine") && e.to_string().contains("y = 1"), "{e}");
        let kernel = Kernel {
            subgroup: Some(3),
            ..Kernel::from_wgsl("mine", "@compute @workgroup_size(1) fn main() {}").unwrap()
        };
        let Err(e) = d.driver().compile(&kernel) else { panic!("no device has subgroups of 3") };
        assert!(e.to_string().contains("kernel mine needs subgroups of 3"), "{e}");
        works(&d);
    }
}

#[test]
fn memory_that_is_not_there_is_told_with_what_was_asked_for() {
    let limit = 1 << 20;
    for d in open(&DeviceOptions::default().memory_limit(limit)) {
        let _some = d.allocate(1 << 19, 0).unwrap();
        let e = d.allocate(1 << 20, 0).unwrap_err();
        let name = &d.info().selector;
        let says = format!("{name} is out of memory: 1048576 bytes requested, 524288 of 1048576 available");
        assert_eq!(e.to_string(), says);
        works(&d);
    }
    for d in all() {
        let Err(Error::OutOfMemory { requested, limit, .. }) = d.allocate(u64::MAX, 0) else {
            panic!("there can't be as much")
        };
        assert_eq!((requested, limit), (u64::MAX, d.info().memory_bytes));
        let most = d.info().max_buffer_bytes;
        match d.driver().allocate(most + 1) {
            Err(Error::Limit { requested, maximum, .. }) => {
                assert_eq!((requested, maximum), (most + 1, most))
            }
            other => panic!("{:?}, must be beyond the limit", other.map(drop)),
        }
    }
}

#[test]
fn buffers_of_another_device_are_refused() {
    for (d, other) in all().into_iter().zip(all()) {
        let (mine, theirs) = (d.allocate(64, 0).unwrap(), other.allocate(64, 0).unwrap());
        for result in [
            d.submit(STREAM, &[fill(&theirs)]),
            d.upload(STREAM, &theirs, 0, &[0; 4]),
            d.copy(STREAM, (&mine, 0), (&theirs, 0), 4),
            d.export(&theirs).map(drop),
        ] {
            assert!(matches!(result, Err(Error::WrongDevice { .. })), "{result:?}");
        }
        works(&d);
    }
}

#[test]
fn without_a_loader_there_are_no_devices_and_a_note() {
    let backend = VulkanBackend::with_library("/nowhere/libvulkan.so.1");
    assert!(backend.devices().is_empty());
    let [note] = &backend.notes()[..] else { panic!("{:?}", backend.notes()) };
    for word in ["/nowhere/libvulkan.so.1", "was not found", "libvulkan1", "mesa-vulkan-drivers"] {
        assert!(note.contains(word), "{note}");
    }
    let e = backend.open(0, &DeviceOptions::default()).unwrap_err();
    assert!(matches!(&e, Error::NoDevice { .. }) && e.to_string().contains("was not found"), "{e}");
}

#[test]
fn a_device_that_is_not_there_is_told_with_those_that_are() {
    let n = VulkanBackend::new().devices().len();
    match VulkanDriver::new(n, &DeviceOptions::default()) {
        Err(Error::NoDevice { selector, available, .. }) => {
            assert_eq!((selector, available.len()), (format!("vulkan:{n}"), n));
        }
        other => panic!("{other:?}"),
    }
}
