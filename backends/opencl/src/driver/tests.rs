//! What the driver does beyond the test kit that all drivers share, on every device that is there.

use super::*;
use crate::{OpenClBackend, OpenClDevice};
use halite_hal::{Backend, DType, Device, Op, Profile, StreamId, TensorRef};
use halite_kernels::testing::{self, bytes, dispatch, region, words};

use opencl3::command_queue::{enqueue_barrier_with_wait_list, release_command_queue};
use opencl3::context::context::release_context;
use opencl3::event::{create_user_event, release_event, set_user_event_status};
use opencl3::memory::release_mem_object;

/// `y[i] = k * x[i]`.
const SCALE: &str = "
    struct P { uint n; uint k; };
    kernel void scale(struct P p, global const uchar* x0, ulong x1, global uchar* y0, ulong y1) {
        global const uint* x = (global const uint*)(x0 + x1);
        global uint* y = (global uint*)(y0 + y1);
        size_t i = get_global_id(0);
        if (i < p.n) y[i] = p.k * x[i];
    }";

fn scale() -> Kernel {
    testing::scale("")
}

fn drivers(options: &DeviceOptions) -> Vec<OpenClDriver> {
    (0..OpenClBackend.devices().len()).map(|i| OpenClDriver::new(i, options).unwrap()).collect()
}

fn all() -> Vec<OpenClDriver> {
    drivers(&DeviceOptions::default())
}

/// A context, a queue and an event, as a host may have made them.
struct Host {
    context: cl_context,
    device: cl_device_id,
    queue: cl_command_queue,
}

impl Host {
    fn all() -> Vec<Host> {
        let make = |found: Found| {
            let context = create_context(&[found.device], ptr::null(), None, ptr::null_mut()).unwrap();
            // SAFETY: the device is the context's.
            let queue = unsafe { create_command_queue(context, found.device, 0) }.unwrap();
            Host { context, device: found.device, queue }
        };
        scan().0.into_iter().map(make).collect()
    }

    fn driver(&self) -> OpenClDriver {
        // SAFETY: they are alive.
        unsafe { OpenClDriver::from_raw(self.context, self.device, self.queue, &DeviceOptions::default()) }
            .unwrap()
    }

    /// Lets the queue wait for an event, which is the host's to set.
    fn hold(&self) -> Event {
        let event = create_user_event(self.context).unwrap();
        // SAFETY: queue and event are alive.
        let barrier = unsafe { enqueue_barrier_with_wait_list(self.queue, 1, &event) }.unwrap();
        // SAFETY: the call made it.
        unsafe { release_event(barrier) }.unwrap();
        // SAFETY: the call made it.
        unsafe { Event::owned(event) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: they are this value's own.
        unsafe {
            release_command_queue(self.queue).unwrap();
            release_context(self.context).unwrap();
        }
    }
}

#[test]
fn lists_run_in_order_and_again() {
    for d in all() {
        let program = Arc::new(d.compile_source(&scale(), SCALE).unwrap());
        let x = Arc::new(d.allocate(64).unwrap());
        let y = Arc::new(d.allocate(64).unwrap());
        d.upload(&x, 0, &bytes(&[9, 9, 9, 9, 1, 2, 3, 4, 5])).unwrap();
        d.upload(&y, 0, &bytes(&[7; 16])).unwrap();
        // Doubles what lies at 16, and copies it to where it came from.
        let list = [
            dispatch(&program, 2, region(&x, 16, 20), region(&y, 32, 20)),
            Command::Barrier,
            Command::Copy { from: region(&y, 32, 20), to: region(&x, 16, 20) },
        ];
        d.submit(&list).unwrap();
        let prepared = Arc::new(d.prepare(&list).unwrap());
        drop(list);
        for _ in 0..3 {
            d.run(&prepared).unwrap();
        }
        drop((prepared, program));
        assert_eq!(words(&d, &x, 9), [9, 9, 9, 9, 16, 32, 48, 64, 80]);
        assert_eq!(words(&d, &y, 16), [7, 7, 7, 7, 7, 7, 7, 7, 16, 32, 48, 64, 80, 7, 7, 7]);
        assert!(d.wait(d.last(), false).unwrap());
    }
}

#[test]
fn nothing_to_do_is_no_command() {
    for d in all() {
        let x = Arc::new(d.allocate(4).unwrap());
        assert_eq!(d.upload(&x, 4, &[]).unwrap(), Ticket(0));
        assert_eq!(d.submit(&[Command::Barrier]).unwrap(), Ticket(0));
        assert!(d.download(&x, 0, 0).unwrap().wait().unwrap().is_empty());
        assert!(d.wait(Ticket(0), true).unwrap());
        assert_eq!(d.time(&[Command::Barrier]).unwrap(), [0.0]);
    }
}

#[test]
fn a_kernel_that_does_not_compile_is_told_with_the_compilers_words() {
    for d in all() {
        let e =
            d.compile_source(&scale(), &SCALE.replace("p.k", "p.no_such_member")).unwrap_err().to_string();
        assert!(e.contains("kernel scale") && e.contains("no_such_member"), "{e}");
        // The device goes on.
        d.compile_source(&scale(), SCALE).unwrap();
    }
}

#[test]
fn a_kernel_that_could_not_run_is_refused() {
    for d in all() {
        let refusal = |k: &Kernel, source: &str| d.compile_source(k, source).unwrap_err().to_string();
        let e = refusal(&Kernel { bindings: 1, ..scale() }, SCALE);
        assert!(e.contains("5 arguments, not 3"), "{e}");
        let e = refusal(&scale(), &format!("{SCALE} kernel void other() {{}}"));
        assert!(e.contains("2 kernels"), "{e}");
        let too_many = d.info.max_workgroup_size + 1;
        let e = d.compile_source(&Kernel { workgroup: [1, too_many, 1], ..scale() }, SCALE).unwrap_err();
        assert!(matches!(e, Error::Limit { requested, .. } if requested == u64::from(too_many)), "{e}");
    }
}

#[test]
fn a_profile_restricts_what_is_reported_and_used() {
    let minimal = Profile::named("minimal").unwrap();
    for d in drivers(&DeviceOptions::default().profile(minimal)) {
        assert_eq!(d.info.profile.as_deref(), Some("minimal"));
        assert!(d.info.max_workgroup_size <= 128 && d.info.local_memory_bytes <= 16 << 10);
        let e = d.compile_source(&Kernel { workgroup: [129, 1, 1], ..scale() }, SCALE).unwrap_err();
        assert!(matches!(e, Error::Limit { requested: 129, maximum: 128, .. }), "{e}");
        let local = SCALE
            .replace("size_t i", "local uint a[4097]; a[p.k] = p.n; size_t i")
            .replace("p.k *", "a[x[i]] *");
        let e = d.compile_source(&scale(), &local).unwrap_err();
        assert!(matches!(e, Error::Limit { requested: 16388.., maximum: 16384, .. }), "{e}");
    }
}

#[test]
fn memory_that_is_not_there_is_not_given() {
    for d in all() {
        let limit = d.info.memory_bytes;
        let _some = d.allocate(4096).unwrap();
        let Err(Error::OutOfMemory { requested, available, limit: told, .. }) = d.allocate(limit) else {
            panic!("there can't be as much");
        };
        assert_eq!((requested, available, told), (limit, limit - 4096, limit));
    }
}

#[test]
fn what_is_asked_of_the_wrong_device_or_beyond_its_limit_is_told() {
    let options = DeviceOptions::default().memory_limit(1 << 20);
    let open = || drivers(&options).into_iter().map(|d| OpenClDevice::new(d, &options).unwrap());
    for (d, other) in open().zip(open()) {
        let _some = d.allocate(1 << 19, 0).unwrap();
        let e = d.allocate(1 << 20, 0).unwrap_err().to_string();
        let says = "is out of memory: 1048576 bytes requested, 524288 of 1048576 available";
        assert_eq!(e, format!("{} {says}", d.info().selector));
        let theirs = other.allocate(64, 0).unwrap();
        for result in [
            d.upload(StreamId(0), &theirs, 0, &[0; 4]),
            d.submit(StreamId(0), &[Op::fill(1.0, TensorRef::new(&theirs, DType::F32, &[16]))]),
            d.export(&theirs).map(drop),
        ] {
            assert!(matches!(result, Err(Error::WrongDevice { .. })), "{result:?}");
        }
        d.synchronize(StreamId(0)).unwrap();
    }
}

#[test]
fn a_device_that_is_not_there_is_told_with_those_that_are() {
    let n = OpenClBackend.devices().len();
    match OpenClDriver::new(n, &DeviceOptions::default()) {
        Err(Error::NoDevice { selector, available, .. }) => {
            assert_eq!((selector, available.len()), (format!("opencl:{n}"), n));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn binaries_are_cached_and_bad_ones_replaced() {
    for index in 0..all().len() {
        let dir = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
        let options = || {
            let mut options = DeviceOptions::default();
            options.cache_dir = Some(dir.path().into());
            options
        };
        let run = || {
            let d = OpenClDriver::new(index, &options()).unwrap();
            let program = Arc::new(d.compile_source(&scale(), SCALE).unwrap());
            let x = Arc::new(d.allocate(16).unwrap());
            d.upload(&x, 0, &bytes(&[1, 2, 3, 4])).unwrap();
            d.submit(&[dispatch(&program, 3, region(&x, 0, 4), region(&x, 4, 4))]).unwrap();
            assert_eq!(words(&d, &x, 4), [1, 3, 3, 4]);
        };
        run();
        let [file] = &files()[..] else { panic!("one program was compiled: {:?}", files()) };
        let written = std::fs::metadata(file).unwrap().modified().unwrap();
        run();
        assert_eq!(
            std::fs::metadata(file).unwrap().modified().unwrap(),
            written,
            "it is used, not made anew"
        );
        // A whole entry that the driver doesn't take.
        let d = OpenClDriver::new(index, &options()).unwrap();
        d.compiler.cache.put(&d.compiler.key(SCALE), b"not a binary");
        run();
        assert!(std::fs::metadata(file).unwrap().len() > 100, "replaced");
    }
}

#[test]
fn work_is_timed_by_the_devices_clock() {
    for d in all() {
        let program = Arc::new(d.compile_source(&scale(), SCALE).unwrap());
        let x = Arc::new(d.allocate(1 << 20).unwrap());
        let half = 1 << 19;
        d.upload(&x, 0, &vec![1; 1 << 20]).unwrap();
        let one = dispatch(&program, 2, region(&x, 0, half), region(&x, half, half));
        let copy = Command::Copy { from: region(&x, half, half), to: region(&x, 0, half) };
        let times = d.time(&[one, Command::Barrier, copy]).unwrap();
        let [one, barrier, copy] = times[..] else { panic!("{times:?}") };
        assert!(one > 0.0 && copy > 0.0 && barrier == 0.0, "{times:?}");
        // It was done, and in order.
        assert_eq!(words(&d, &x, 2), [0x0202_0202; 2]);
    }
}

#[test]
fn the_hosts_objects_are_adopted_and_outlive_nobody() {
    let _turn = turn();
    for host in Host::all() {
        let d = host.driver();
        // SAFETY: no host memory is given.
        let buffer = unsafe { create_buffer(host.context, CL_MEM_READ_WRITE, 32, ptr::null_mut()) }.unwrap();
        // SAFETY: the buffer is alive.
        let (imported, beyond) = unsafe { (d.import_buffer(buffer, 32), d.import_buffer(buffer, 33)) };
        assert!(matches!(beyond, Err(Error::OutOfRange { end: 33, size: 32, .. })));
        let memory = Arc::new(imported.unwrap());
        assert_eq!(memory.raw(), buffer);
        // SAFETY: the reference is the test's.
        unsafe { release_mem_object(buffer) }.unwrap();
        drop(host);
        d.upload(&memory, 0, &bytes(&[5; 8])).unwrap();
        assert_eq!(words(&d, &memory, 8), [5; 8]);
        let other = OpenClDriver::new(0, &DeviceOptions::default()).unwrap();
        // SAFETY: the buffer is alive.
        let e = unsafe { other.import_buffer(memory.raw(), 32) }.unwrap_err().to_string();
        assert!(e.contains("another context"), "{e}");
    }
}

#[test]
fn foreign_or_unordered_queues_are_refused() {
    let _turn = turn();
    for host in Host::all() {
        let other = Host::all().remove(0);
        let options = DeviceOptions::default();
        // SAFETY: all are alive.
        let e = unsafe { OpenClDriver::from_raw(host.context, host.device, other.queue, &options) };
        assert!(e.unwrap_err().to_string().contains("another context"));
        let order = CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
        // SAFETY: the device is the context's.
        let Ok(queue) = (unsafe { create_command_queue(host.context, host.device, order) }) else { continue };
        // SAFETY: all are alive.
        let e = unsafe { OpenClDriver::from_raw(host.context, host.device, queue, &options) };
        assert!(e.unwrap_err().to_string().contains("out of order"));
        // SAFETY: the call above made it.
        unsafe { release_command_queue(queue) }.unwrap();
    }
}

#[test]
fn nothing_blocks_until_it_is_waited_for() {
    for host in Host::all() {
        let d = host.driver();
        if d.info.driver.starts_with("Oclgrind") {
            // It runs commands in the call that flushes them.
            continue;
        }
        let program = Arc::new(d.compile_source(&scale(), SCALE).unwrap());
        let x = Arc::new(d.allocate(32).unwrap());
        let held = host.hold();
        let mut data = bytes(&[1, 2, 3, 4]);
        let first = d.upload(&x, 0, &data).unwrap();
        data.fill(0xff);
        let second = d.submit(&[dispatch(&program, 2, region(&x, 0, 16), region(&x, 16, 16))]).unwrap();
        let mut readback = d.download(&x, 16, 16).unwrap();
        let forgotten = d.download(&x, 0, 32).unwrap();
        assert!(first < second && second < d.last());
        assert!(!d.wait(first, false).unwrap() && !readback.poll().unwrap());
        drop((program, forgotten));

        set_user_event_status(held.raw(), 0).unwrap();
        assert!(d.wait(second, true).unwrap() && d.wait(first, false).unwrap());
        assert_eq!(readback.wait_as::<u32>().unwrap(), [2, 4, 6, 8]);
    }
}

#[test]
fn several_threads_may_use_a_driver() {
    for d in all() {
        let program = Arc::new(d.compile_source(&scale(), SCALE).unwrap());
        std::thread::scope(|scope| {
            for k in 1..5 {
                let (d, program) = (&d, &program);
                scope.spawn(move || {
                    let x = Arc::new(d.allocate(32).unwrap());
                    for round in 0..20 {
                        d.upload(&x, 0, &bytes(&[round; 4])).unwrap();
                        d.submit(&[dispatch(program, k, region(&x, 0, 16), region(&x, 16, 16))]).unwrap();
                        assert_eq!(words(d, &x, 8)[4..], [k * round; 4]);
                    }
                });
            }
        });
    }
}
