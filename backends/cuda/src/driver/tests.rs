//! What the driver does beyond the test kit that all drivers share, on every device that is there.

use super::*;
use crate::program::key;
use crate::{CudaBackend, CudaDevice};
use halite_hal::{Backend, DType, Device, Op, Profile, StreamId, TensorRef};
use halite_kernels::testing::{self, bytes, dispatch, region, words};
use halite_kernels::{Dispatch, ENTRY, Language, writer};

/// `y[i] = k * x[i]`.
const SCALE: &str = "
    struct P { unsigned n; unsigned k; };
    extern \"C\" __global__ void NAME(const P p, const unsigned *x, unsigned *y) {
        unsigned i = blockIdx.x * 4u + threadIdx.x;
        if (i < p.n) y[i] = p.k * x[i];
    }";

fn scale() -> Kernel {
    let source = SCALE.replace("NAME", &writer::kernel_name(ENTRY));
    Kernel { language: Language::CudaC, ..testing::scale(&source) }
}

fn compile(driver: &CudaDriver) -> Arc<CudaProgram> {
    Arc::new(driver.compile(&scale()).unwrap())
}

fn drivers(options: &DeviceOptions) -> Vec<CudaDriver> {
    let n = CudaBackend.devices().len();
    if n == 0 {
        println!("skipped: {}", CudaBackend.notes().join("; "));
    }
    (0..n).map(|i| CudaDriver::new(i, options).unwrap()).collect()
}

fn all() -> Vec<CudaDriver> {
    drivers(&DeviceOptions::default())
}

#[test]
fn lists_run_in_order_and_again() {
    let mut validating = DeviceOptions::default();
    validating.validation = true;
    for d in all().into_iter().chain(drivers(&validating)) {
        let program = compile(&d);
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
        assert_eq!(prepared.graph.is_some(), !d.validation);
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
fn a_graph_orders_what_barriers_separate() {
    for d in all() {
        let program = compile(&d);
        let memory = Arc::new(d.allocate(256).unwrap());
        let piece = |i: u64| region(&memory, 64 * i, 16);
        d.upload(&memory, 0, &bytes(&[1; 64])).unwrap();
        // Two side by side, then one that reads what each wrote, then two that read that.
        let list = [
            Command::Barrier,
            dispatch(&program, 2, piece(0), piece(1)),
            dispatch(&program, 3, piece(0), piece(2)),
            Command::Barrier,
            Command::Barrier,
            dispatch(&program, 5, piece(1), piece(3)),
            Command::Copy { from: region(&memory, 128, 16), to: region(&memory, 80, 16) },
            Command::Barrier,
            dispatch(&program, 7, piece(3), piece(0)),
            Command::Copy { from: region(&memory, 80, 16), to: region(&memory, 144, 16) },
            Command::Barrier,
        ];
        let prepared = Arc::new(d.prepare(&list).unwrap());
        d.run(&prepared).unwrap();
        let found = words(&d, &memory, 64);
        assert_eq!([0, 16, 20, 32, 36, 48].map(|i| found[i]), [70, 2, 3, 3, 3, 10]);
    }
}

#[test]
fn nothing_to_do_is_no_command() {
    for d in all() {
        let x = Arc::new(d.allocate(4).unwrap());
        assert_eq!(d.upload(&x, 4, &[]).unwrap(), Ticket(0));
        assert_eq!(d.submit(&[Command::Barrier]).unwrap(), Ticket(0));
        assert_eq!(d.run(&Arc::new(d.prepare(&[Command::Barrier]).unwrap())).unwrap(), Ticket(0));
        assert!(d.download(&x, 0, 0).unwrap().wait().unwrap().is_empty());
        assert!(d.wait(Ticket(0), true).unwrap());
        assert_eq!(d.time(&[Command::Barrier]).unwrap(), [0.0]);
    }
}

#[test]
fn a_kernel_that_does_not_compile_is_told_with_the_compilers_words() {
    for d in all() {
        let faulty = scale().text.replace("p.k", "p.no_such_member");
        let e = d.compile(&Kernel { text: faulty, ..scale() }).unwrap_err().to_string();
        assert!(e.contains("kernel scale") && e.contains("no_such_member"), "{e}");
        // The device goes on.
        compile(&d);
    }
}

#[test]
fn a_kernel_that_could_not_run_is_refused() {
    for d in all() {
        let refusal = |kernel| d.compile(&kernel).unwrap_err();
        let too_many = d.info.max_workgroup_size + 1;
        let e = refusal(Kernel { workgroup: [1, too_many, 1], ..scale() });
        assert!(matches!(e, Error::Limit { requested, .. } if requested == u64::from(too_many)), "{e}");
        let e = refusal(Kernel { workgroup: [1, 1, 65], ..scale() });
        assert!(matches!(e, Error::Limit { requested: 65, maximum: 64, .. }), "{e}");
        let e = refusal(Kernel { dynamic_bytes: d.info.local_memory_bytes + 1, ..scale() });
        assert!(matches!(e, Error::Limit { .. }), "{e}");
    }
}

#[test]
fn workgroup_memory_beyond_what_a_kernel_declares_is_given() {
    for d in all() {
        let wgsl = "@group(0) @binding(1) var<storage, read_write> y: array<f32>;
            var<workgroup> tile: array<vec4<f32>, 4096>;
            @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
                tile[4032u + i] = vec4<f32>(f32(i));
                workgroupBarrier();
                y[i] = tile[4095u - i].w;
            }";
        let kernel = Kernel::from_wgsl("tile", wgsl).unwrap();
        let program = Arc::new(d.compile(&kernel).unwrap());
        assert_eq!(program.dynamic_bytes, 64 << 10);
        let y = Arc::new(d.allocate(256).unwrap());
        let list = [Command::Dispatch(Dispatch {
            program,
            params: Vec::new(),
            bindings: vec![region(&y, 0, 256)],
            groups: [1; 3],
            label: "tile".into(),
        })];
        d.submit(&list).unwrap();
        d.run(&Arc::new(d.prepare(&list).unwrap())).unwrap();
        let found: Vec<f32> = d.download(&y, 0, 256).unwrap().wait_as().unwrap();
        assert!(found.iter().rev().copied().eq((0..64).map(|i| i as f32)), "{found:?}");
    }
}

#[test]
fn a_profile_restricts_what_is_reported_and_used() {
    let minimal = Profile::named("minimal").unwrap();
    for d in drivers(&DeviceOptions::default().profile(minimal)) {
        assert_eq!(d.info.profile.as_deref(), Some("minimal"));
        assert!(d.info.max_workgroup_size <= 128 && d.info.local_memory_bytes <= 16 << 10);
        let kernel = Kernel { workgroup: [129, 1, 1], ..scale() };
        let e = d.compile(&kernel).unwrap_err();
        assert!(matches!(e, Error::Limit { requested: 129, maximum: 128, .. }), "{e}");
    }
}

#[test]
fn memory_that_is_not_there_is_not_given() {
    for d in all() {
        let (_, limit) = d.context.memory().unwrap();
        match d.allocate(limit + 1) {
            Err(Error::OutOfMemory { requested, available, limit: told, .. }) => {
                assert_eq!((requested, told), (limit + 1, limit));
                assert!(available <= limit);
            }
            other => panic!("there can't be as much: {other:?}"),
        }
        // The device goes on.
        d.allocate(4096).unwrap();
    }
}

#[test]
fn memory_works_without_pools() {
    for d in all() {
        let memory = Arc::new(CudaMemory::new(&d.context, 16, false).unwrap());
        d.upload(&memory, 0, &bytes(&[1, 2, 3, 4])).unwrap();
        assert_eq!(words(&d, &memory, 4), [1, 2, 3, 4]);
    }
}

#[test]
fn what_is_asked_of_the_wrong_device_is_told() {
    let options = DeviceOptions::default();
    let open = || drivers(&options).into_iter().map(|d| CudaDevice::new(d, &options).unwrap());
    for (d, other) in open().zip(open()) {
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
    let n = CudaBackend.devices().len();
    match CudaDriver::new(n, &DeviceOptions::default()) {
        Err(Error::NoDevice { selector, available, reason }) => {
            assert_eq!((selector, available.len()), (format!("cuda:{n}"), n));
            assert!(reason.contains(&format!("there are {n} devices of kind cuda")), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ptx_is_cached_and_bad_entries_replaced() {
    for index in 0..all().len() {
        let dir = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().path()).collect::<Vec<_>>();
        let open = || CudaDriver::new(index, &DeviceOptions::default().cache_dir(dir.path())).unwrap();
        let run = || {
            let d = open();
            let program = compile(&d);
            let x = Arc::new(d.allocate(32).unwrap());
            d.upload(&x, 0, &bytes(&[1, 2, 3, 4])).unwrap();
            d.submit(&[dispatch(&program, 3, region(&x, 0, 4), region(&x, 16, 4))]).unwrap();
            assert_eq!(words(&d, &x, 5), [1, 2, 3, 4, 3]);
        };
        run();
        let [file] = &files()[..] else { panic!("one program was compiled: {:?}", files()) };
        let written = std::fs::read(file).unwrap();
        let modified = std::fs::metadata(file).unwrap().modified().unwrap();
        run();
        assert_eq!(
            std::fs::metadata(file).unwrap().modified().unwrap(),
            modified,
            "it is used, not made anew"
        );
        // Whole entries that the driver doesn't take: no PTX, and no text that ends.
        for bad in [&b"not PTX\0"[..], b"no end"] {
            let key = key(&nvrtc::get().unwrap().version(), &scale().text);
            let key: Vec<&[u8]> = key.iter().map(Vec::as_slice).collect();
            open().compiler.cache.put(&key, bad);
            run();
            assert_eq!(std::fs::read(file).unwrap(), written, "replaced");
        }
    }
}

#[test]
fn large_transfers_are_cut_and_put_together() {
    for d in all() {
        // More than fits the pieces that may be on their way at the same time, and not a multiple of one.
        let data: Vec<u8> = (0..(100u32 << 20) + 12).map(|i| (i / 5 + i / 65_537) as u8).collect();
        let memory = Arc::new(d.allocate(data.len() as u64 + 4).unwrap());
        d.upload(&memory, 4, &data).unwrap();
        let found = d.download(&memory, 4, data.len() as u64).unwrap().wait().unwrap();
        assert!(found == data);
    }
}

#[test]
fn work_is_timed_by_the_devices_clock() {
    for d in all() {
        let program = compile(&d);
        let x = Arc::new(d.allocate(1 << 20).unwrap());
        let half = 1 << 19;
        d.upload(&x, 0, &vec![1; 1 << 20]).unwrap();
        let one = dispatch(&program, 2, region(&x, 0, half), region(&x, half, half));
        let copy = Command::Copy { from: region(&x, half, half), to: region(&x, 0, half) };
        let times = d.time(&[one, Command::Barrier, copy]).unwrap();
        let [one, barrier, copy] = times[..] else { panic!("{times:?}") };
        assert!(one >= 0.0 && copy >= 0.0 && barrier == 0.0, "{times:?}");
        // It was done, and in order.
        assert_eq!(words(&d, &x, 2), [0x0202_0202; 2]);
    }
}

#[test]
fn the_hosts_objects_are_adopted_and_stay_its_own() {
    for host in all() {
        let (context, stream) = (host.raw_context(), host.raw_stream());
        let options = DeviceOptions::default();
        // SAFETY: both live as long as `host`.
        let d = unsafe { CudaDriver::from_context(context, stream, &options) }.unwrap();
        assert_eq!((d.raw_context(), d.raw_stream()), (context, stream));
        let theirs = Arc::new(host.allocate(64).unwrap());
        // SAFETY: the memory lives as long as `theirs`.
        let import = |at, bytes| unsafe { d.import_memory(theirs.raw() + at, bytes) };
        assert!(matches!(import(16, 49), Err(Error::OutOfRange { end: 49, size: 48, .. })));
        assert!(import(8, 16).unwrap_err().to_string().contains("a multiple of 16"));
        // SAFETY: the address is no memory's, and refused.
        assert!(unsafe { d.import_memory(16, 16) }.is_err());
        let memory = Arc::new(import(16, 48).unwrap());
        assert_eq!(memory.raw(), theirs.raw() + 16);
        host.upload(&theirs, 0, &bytes(&[1; 16])).unwrap();
        d.upload(&memory, 0, &bytes(&[5; 8])).unwrap();
        drop((memory, d));
        // The stream orders both, and is still there.
        assert_eq!(words(&host, &theirs, 16), [1, 1, 1, 1, 5, 5, 5, 5, 5, 5, 5, 5, 1, 1, 1, 1]);
    }
}

#[test]
fn several_threads_may_use_a_driver() {
    for d in all() {
        let program = compile(&d);
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

/// A driver without NVRTC, whose device is like those that have kernels which are compiled already.
fn without_a_compiler(index: usize) -> CudaDriver {
    let mut driver = CudaDriver::new(index, &DeviceOptions::default()).unwrap();
    driver.info.kind = halite_hal::DeviceKind::DiscreteGpu;
    driver.compiler.find = crate::prebuilt::tests::find;
    driver.compiler.nvrtc = Err("NVRTC is hidden");
    driver
}

#[test]
fn models_generate_and_are_trained_without_a_compiler() {
    use halite_models::data::Batch;
    use halite_models::inference::{Decoder, Want};
    use halite_models::model::Model;
    use halite_models::training::{OptimizerOptions, Trainer};
    for index in 0..all().len() {
        let compiled = without_a_compiler(index);
        let mut ever = CudaDriver::new(index, &DeviceOptions::default()).unwrap();
        ever.info.kind = compiled.info.kind;
        let run = |driver: CudaDriver| {
            let device: Arc<dyn Device> =
                Arc::new(CudaDevice::new(driver, &DeviceOptions::default()).unwrap());
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/mixtral");
            let model = Model::open(device, folder.as_ref()).unwrap();
            let mut decoder = Decoder::new(&model, 64).unwrap();
            let logits = decoder.feed(&[5, 17, 99, 3, 42], Want::Last).unwrap().logits;
            let tokens = decoder.greedy(&logits, 8).unwrap();
            drop(decoder);
            let mut trainer = Trainer::new(model, OptimizerOptions::default(), 16).unwrap();
            let batch = Batch::rows(&(0..32).collect::<Vec<_>>(), 2);
            let steps = [(); 2].map(|()| trainer.step(std::slice::from_ref(&batch), 1e-3).unwrap());
            (tokens, steps.map(|report| (report.loss.to_bits(), report.grad_norm.to_bits())))
        };
        assert_eq!(run(compiled), run(ever));
    }
}

#[test]
fn a_kernel_that_nothing_can_compile_is_named_with_what_helps() {
    for index in 0..all().len() {
        let driver = without_a_compiler(index);
        let e = driver.compile(&scale()).unwrap_err().to_string();
        let parts =
            ["kernel scale", "NVRTC is hidden", "not among the compiled kernels that come with Halite"];
        assert!(parts.iter().all(|part| e.contains(part)), "{e}");
    }
}
