//! What the driver does beyond the test kit that all drivers share, on every device that is there.

use super::*;
use crate::{WgpuBackend, WgpuDevice};
use halite_hal::{Backend, DType, Device, Op, Profile, StreamId, TensorRef};
use halite_kernels::testing::{self, bytes, dispatch, region, words};

/// `y[i] = k * x[i]`.
const SCALE: &str = "
    struct Params { n: u32, k: u32 }
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read_write> x: array<u32>;
    @group(0) @binding(2) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(4) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < params.n { y[id.x] = params.k * x[id.x]; }
    }";

fn scale() -> Kernel {
    testing::scale(SCALE)
}

fn drivers(options: &DeviceOptions) -> Vec<WgpuDriver> {
    let backend = WgpuBackend::new();
    let n = backend.devices().len();
    if n == 0 {
        println!("skipped: {}", backend.notes().join("; "));
    }
    (0..n).map(|i| backend.open_driver(i, options).unwrap()).collect()
}

fn all() -> Vec<WgpuDriver> {
    drivers(&DeviceOptions::default())
}

/// A device and a queue, as hosts may have made them, one of each adapter.
fn hosts(desc: wgpu::InstanceDescriptor) -> Vec<(wgpu::Device, wgpu::Queue)> {
    let instance = wgpu::Instance::new(desc);
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    if adapters.is_empty() {
        println!("skipped: there is no adapter");
    }
    let open = |a: wgpu::Adapter| {
        // Less than what there is, as most hosts ask for.
        pollster::block_on(a.request_device(&wgpu::DeviceDescriptor::default())).unwrap()
    };
    adapters.into_iter().map(open).collect()
}

fn plain() -> wgpu::InstanceDescriptor {
    wgpu::InstanceDescriptor::new_without_display_handle()
}

fn adopt((device, queue): &(wgpu::Device, wgpu::Queue)) -> WgpuDriver {
    WgpuDriver::from_device_queue(device.clone(), queue.clone(), &DeviceOptions::default()).unwrap()
}

#[test]
fn lists_run_in_order_and_again() {
    for d in all() {
        let program = Arc::new(d.compile(&scale()).unwrap());
        let x = Arc::new(d.allocate(64).unwrap());
        let y = Arc::new(d.allocate(64).unwrap());
        d.upload(&x, 0, &bytes(&[1, 2, 3, 4, 5, 9, 9])).unwrap();
        d.upload(&y, 0, &bytes(&[7; 16])).unwrap();
        // Doubles what lies in x, and copies it to where it came from.
        let list = [
            dispatch(&program, 2, region(&x, 0, 20), region(&y, 0, 20)),
            Command::Barrier,
            Command::Copy { from: region(&y, 0, 20), to: region(&x, 0, 20) },
        ];
        d.submit(&list).unwrap();
        let prepared = Arc::new(d.prepare(&list).unwrap());
        drop(list);
        for _ in 0..3 {
            d.run(&prepared).unwrap();
        }
        drop((prepared, program));
        assert_eq!(words(&d, &x, 7), [16, 32, 48, 64, 80, 9, 9]);
        assert_eq!(words(&d, &y, 6), [16, 32, 48, 64, 80, 7]);
        assert!(d.wait(d.last(), false).unwrap());
    }
}

#[test]
fn dispatches_of_one_pass_see_each_other_and_have_their_own_parameters() {
    for d in all() {
        let program = Arc::new(d.compile(&scale()).unwrap());
        let [x, y] = [0, 0].map(|_| Arc::new(d.allocate(4096).unwrap()));
        d.upload(&x, 0, &bytes(&[1; 1024])).unwrap();
        let list: Vec<_> = (0..6)
            .map(|i| {
                let (from, to) = if i % 2 == 0 { (&x, &y) } else { (&y, &x) };
                dispatch(&program, 2 + i, region(from, 0, 4096), region(to, 0, 4096))
            })
            .collect();
        d.submit(&list).unwrap();
        assert_eq!(words(&d, &x, 1024), [2 * 3 * 4 * 5 * 6 * 7; 1024]);
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
fn data_is_copied_when_it_is_given_and_many_uploads_are_submitted() {
    for d in all() {
        let x = Arc::new(d.allocate(4 << 20).unwrap());
        let mut data = vec![1; 4 << 20];
        for round in 0..5u8 {
            data.fill(round);
            d.upload(&x, 0, &data).unwrap();
        }
        data.fill(0xff);
        assert_eq!(d.last(), Ticket(3), "two submissions of 8 MiB, and what is left");
        assert!(d.wait(d.last(), true).unwrap());
        let mut readback = d.download(&x, (4 << 20) - 4, 4).unwrap();
        while !readback.poll().unwrap() {
            std::thread::yield_now();
        }
        assert_eq!(readback.wait().unwrap(), [4; 4]);
    }
}

#[test]
fn a_kernel_that_does_not_compile_is_named() {
    for d in all() {
        let refusal = |kernel: &Kernel| d.compile(kernel).err().unwrap().to_string();
        let e = refusal(&Kernel { text: SCALE.replace("params.k", "params.no_such_member"), ..scale() });
        assert!(e.contains("kernel scale") && e.contains("no_such_member"), "{e}");
        let e = refusal(&Kernel { text: SCALE.replace("fn main", "fn other"), ..scale() });
        assert!(e.contains("kernel scale") && e.contains("main") && !e.contains('\n'), "{e}");
        let e = refusal(&Kernel { bindings: 1, ..scale() });
        assert!(e.contains("kernel scale"), "{e}");
        // The device goes on.
        d.compile(&scale()).unwrap();
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_with_it() {
    for d in all() {
        let most = d.info.max_buffer_bytes;
        let e = d.allocate(most + 1).unwrap_err();
        assert!(
            matches!(e, Error::Limit { requested, maximum, .. } if (requested, maximum) == (most + 1, most))
        );
        let too_many = d.info.max_workgroup_size + 1;
        let e = d.compile(&Kernel { workgroup: [1, too_many, 1], ..scale() }).err().unwrap();
        assert!(matches!(e, Error::Limit { requested, .. } if requested == u64::from(too_many)), "{e}");
        let bindings = d.raw_device().limits().max_storage_buffers_per_shader_stage as usize + 1;
        let e = d.compile(&Kernel { bindings, ..scale() }).err().unwrap();
        assert!(matches!(e, Error::Limit { requested, .. } if requested == bindings as u64), "{e}");
        let e = d.compile(&Kernel { subgroup: Some(7), ..scale() }).err().unwrap().to_string();
        assert!(e.contains("subgroups of 7"), "{e}");
    }
}

#[test]
fn memory_that_is_not_there_is_not_given() {
    let mut desc = plain();
    // No more than is in use already.
    desc.memory_budget_thresholds.for_resource_creation = Some(0);
    for host in hosts(desc) {
        let d = adopt(&host);
        match d.allocate(1 << 20) {
            Err(Error::OutOfMemory { requested, available, limit, .. }) => {
                assert_eq!((requested, limit), (1 << 20, d.info.memory_bytes));
                assert!(available <= limit);
            }
            Err(e) => panic!("{e}"),
            Ok(_) => println!("skipped: {} has no budget", d.info.name),
        }
    }
}

#[test]
fn a_profile_restricts_what_is_reported_and_used() {
    let minimal = Profile::named("minimal").unwrap();
    for d in drivers(&DeviceOptions::default().profile(minimal)) {
        assert_eq!(d.info.profile.as_deref(), Some("minimal"));
        let e = d.compile(&Kernel { workgroup: [129, 1, 1], ..scale() }).err().unwrap();
        assert!(matches!(e, Error::Limit { requested: 129, maximum: 128, .. }), "{e}");
    }
}

#[test]
fn a_lost_device_is_told_and_nothing_panics() {
    for d in all() {
        let program = Arc::new(d.compile(&scale()).unwrap());
        let x = Arc::new(d.allocate(64).unwrap());
        let y = Arc::new(d.allocate(64).unwrap());
        let list =
            Arc::new(d.prepare(&[dispatch(&program, 2, region(&x, 0, 64), region(&y, 0, 64))]).unwrap());
        let ticket = d.run(&list).unwrap();
        d.raw_device().destroy();
        let e = d.wait(ticket, true).unwrap_err();
        assert!(matches!(e, Error::DeviceLost { .. }), "{e}");
        let errors = [
            d.run(&list).err(),
            d.allocate(4).err(),
            d.upload(&x, 0, &[0; 4]).err(),
            d.download(&x, 0, 4).err(),
            d.compile(&scale()).err(),
            d.wait(ticket, false).err(),
        ];
        for e in errors {
            assert!(matches!(e, Some(Error::DeviceLost { .. })), "{e:?}");
        }
    }
}

#[test]
fn the_hosts_objects_are_adopted() {
    for host in hosts(plain()) {
        let (device, queue) = &host;
        let d = adopt(&host);
        let size = 64;
        let make = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let buffer = make(size, crate::memory::USAGES | wgpu::BufferUsages::INDIRECT);
        let memory = Arc::new(d.import_buffer(&buffer).unwrap());
        assert_eq!(memory.raw(), &buffer);
        // The host's writes and submissions are in order with the driver's.
        queue.write_buffer(&buffer, 0, &bytes(&[3; 16]));
        let program = Arc::new(d.compile(&scale()).unwrap());
        let y = Arc::new(d.allocate(size).unwrap());
        let run = |k| d.submit(&[dispatch(&program, k, region(&memory, 0, 64), region(&y, 0, 64))]).unwrap();
        run(2);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(y.raw(), 0, &buffer, 0, 32);
        queue.submit([encoder.finish()]);
        run(5);
        assert_eq!(words(&d, &y, 16), [[30; 8], [15; 8]].concat());

        let e = d.import_buffer(&make(64, wgpu::BufferUsages::STORAGE)).unwrap_err().to_string();
        assert!(e.contains("COPY_SRC"), "{e}");
        let e = d.import_buffer(&make(20, crate::memory::USAGES)).unwrap_err().to_string();
        assert!(e.contains("20 bytes") && e.contains("16"), "{e}");
    }
}

#[test]
fn memory_of_another_device_is_refused() {
    for host in hosts(plain()) {
        let engine = WgpuDevice::new(adopt(&host), &DeviceOptions::default()).unwrap();
        for other in all() {
            let other = WgpuDevice::new(other, &DeviceOptions::default()).unwrap();
            let foreign = other.allocate(64, 0).unwrap();
            let y = TensorRef::new(&foreign, DType::F32, &[16]);
            let e = engine.submit(StreamId(0), &[Op::fill(1.0, y)]).unwrap_err();
            assert!(matches!(e, Error::WrongDevice { .. }), "{e}");
        }
    }
}

#[test]
fn imports_from_another_device_of_the_instance_are_refused() {
    let instance = wgpu::Instance::new(plain());
    for adapter in pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all())) {
        let open = || {
            let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
            adopt(&(device, queue))
        };
        let (a, b) = (open(), open());
        let memory = a.allocate(64).unwrap();
        let e = b.import_buffer(memory.raw()).unwrap_err().to_string();
        assert!(e.contains("must be of this device"), "{e}");
    }
}

#[test]
fn compiled_kernels_are_kept_where_there_is_a_folder() {
    for index in 0..all().len() {
        let dir = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
        let mut options = DeviceOptions::default();
        options.cache_dir = Some(dir.path().into());
        let run = || {
            let d = WgpuBackend::new().open_driver(index, &options).unwrap();
            let program = Arc::new(d.compile(&scale()).unwrap());
            let [x, y] = [0, 0].map(|_| Arc::new(d.allocate(16).unwrap()));
            d.upload(&x, 0, &bytes(&[1, 2, 3, 4])).unwrap();
            d.submit(&[dispatch(&program, 3, region(&x, 0, 16), region(&y, 0, 16))]).unwrap();
            assert_eq!(words(&d, &y, 4), [3, 6, 9, 12]);
            d.raw_device().features().contains(wgpu::Features::PIPELINE_CACHE)
        };
        let keeps = run();
        let before = files();
        assert_eq!(before.len(), usize::from(keeps), "{before:?}");
        run();
        assert_eq!(files(), before);
    }
}

#[test]
fn work_is_timed() {
    for d in all() {
        let program = Arc::new(d.compile(&scale()).unwrap());
        let [x, y] = [0, 0].map(|_| Arc::new(d.allocate(1 << 18).unwrap()));
        d.upload(&x, 0, &vec![1; 1 << 18]).unwrap();
        let one = dispatch(&program, 2, region(&x, 0, 1 << 18), region(&y, 0, 1 << 18));
        let copy = Command::Copy { from: region(&y, 0, 1 << 18), to: region(&x, 0, 1 << 18) };
        let times = d.time(&[one, Command::Barrier, copy]).unwrap();
        let [one, barrier, copy] = times[..] else { panic!("{times:?}") };
        assert!(one > 0.0 && copy > 0.0 && barrier == 0.0, "{times:?}");
        // It was done, and in order.
        assert_eq!(words(&d, &x, 2), [0x0202_0202; 2]);
    }
}

#[test]
fn several_threads_may_use_a_driver() {
    for d in all() {
        let program = Arc::new(d.compile(&scale()).unwrap());
        std::thread::scope(|scope| {
            for k in 1..5 {
                let (d, program) = (&d, &program);
                scope.spawn(move || {
                    let [x, y] = [0, 0].map(|_| Arc::new(d.allocate(16).unwrap()));
                    for round in 0..100 {
                        d.upload(&x, 0, &bytes(&[round; 4])).unwrap();
                        d.submit(&[dispatch(program, k, region(&x, 0, 16), region(&y, 0, 16))]).unwrap();
                        assert_eq!(words(d, &y, 4), [k * round; 4]);
                    }
                });
            }
        });
    }
}
