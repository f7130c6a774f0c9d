use super::*;
use crate::{Clock, Line};
use halite_hal::devices::{CoreOnly, NullDevice};
use halite_hal::reference::ReferenceDevice;
use halite_hal::{Binding, DeviceInfo, DeviceKind, Graph, Op, OpDesc, Recording, StreamId};
use std::sync::Arc;

fn options(op: &str) -> Options {
    Options { op: Some(op.into()), quick: true, samples: 2, conformance: false }
}

fn host() -> Host {
    Host { cpu: "a processor".into(), threads: 2 }
}

fn run_on(device: &dyn Device, options: &Options) -> (Run, Vec<Row>) {
    run(device, &host(), &selected(options).unwrap(), options, || ()).unwrap()
}

/// Passes on to the reference, but can't do products in f16, breaks in bf16, and has a clock.
#[derive(Debug)]
struct Awkward {
    inner: ReferenceDevice,
    info: DeviceInfo,
}

impl Awkward {
    fn new() -> Self {
        let mut info = DeviceInfo::new("awkward", 1, "Awkward 9000", DeviceKind::Software);
        (info.uuid, info.driver, info.timestamps) = (Some("01-02".into()), "driver 3".into(), true);
        Awkward { inner: ReferenceDevice::rounding(), info }
    }

    fn has(desc: &OpDesc, dtype: DType) -> bool {
        matches!(desc.kind, OpKind::Matmul { .. }) && desc.inputs[0].dtype == dtype
    }
}

impl Device for Awkward {
    halite_hal::forward_to!(inner; allocate, create_stream, upload, download, copy, replay);
    halite_hal::forward_to!(inner; record_event, wait_event, synchronize, memory);

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn supports(&self, desc: &OpDesc) -> Support {
        match Self::has(desc, DType::F16) {
            true => Support::Unsupported("no halves".into()),
            false => self.inner.supports(desc),
        }
    }
    fn submit(&self, stream: StreamId, ops: &[Op]) -> halite_hal::Result<()> {
        self.inner.submit(stream, ops)
    }
    fn record(&self, graph: &Graph) -> halite_hal::Result<Recording> {
        if graph.ops.iter().any(|op| Self::has(&op.desc(), DType::BF16)) {
            return Err(halite_hal::Error::backend("awkward:1", "it broke"));
        }
        self.inner.record(graph)
    }
    fn time(&self, r: &Recording, b: &[Binding]) -> halite_hal::Result<Option<Vec<(String, f64)>>> {
        self.replay(StreamId(0), r, b)?;
        Ok(Some(vec![("first".into(), 1e-3), ("second".into(), 2e-3)]))
    }
    fn tuning(&self) -> Vec<(String, String)> {
        vec![("matmul f32".into(), "tile 8".into())]
    }
}

#[test]
fn an_unknown_op_is_an_error_that_names_the_known_ones() {
    let e = selected(&options("matmull")).unwrap_err().to_string();
    assert!(e.contains("\"matmull\"") && e.contains("grouped_matmul"), "{e}");
}

#[test]
fn what_cannot_be_run_is_a_row_with_the_reason() {
    let device = Awkward::new();
    let (run, rows) = run_on(&device, &options("matmul"));
    let of = |dtype: &str| {
        let is = |r: &&Row| matches!(r.subject, Subject::Op { dtype: d, .. } if d == dtype);
        rows.iter().filter(is).collect::<Vec<_>>()
    };
    for row in of("f16") {
        assert!(row.reason.as_deref() == Some("no halves") && !row.failed() && row.timing.is_none());
    }
    for row in of("bf16") {
        assert!(row.reason.as_ref().unwrap().contains("it broke") && row.failed());
    }
    assert!(!of("f32").is_empty() && of("f32").len() == of("bf16").len());
    let roofline = run.roofline.unwrap();
    assert!(roofline.missing["bf16"].contains("it broke") && roofline.gflops.contains_key("f32"));
    for row in of("f32") {
        assert!(row.reason.is_none() && row.speed.is_some());
        let t = row.timing.as_ref().unwrap();
        // By the device's clock, and the sum of its kernels.
        assert_eq!(
            (t.clock, t.median_ns, &t.samples_ns[..]),
            (Clock::Device, 3_000_000, &[3_000_000; 2][..])
        );
    }
}

#[test]
fn reports_have_the_keys_of_llama_bench_and_more() {
    let device = Awkward::new();
    let (run, rows) = run_on(&device, &Options { conformance: true, ..options("swiglu") });
    let line = serde_json::to_value(Line { run: &run, row: &rows[0] }).unwrap();
    for key in ["build_commit", "build_number", "cpu_info", "gpu_info", "backends", "n_threads", "test_time"]
    {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    for key in
        ["avg_ns", "stddev_ns", "samples_ns", "median_ns", "wall_ns", "gflops", "gbps", "roofline_percent"]
    {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
    assert_eq!(line["device"], "awkward:1");
    assert_eq!(line["gpu_info"], "Awkward 9000");
    assert_eq!(line["uuid"], "01-02");
    assert_eq!(line["driver"], "driver 3");
    assert_eq!((&line["software"], &line["kind"]), (&true.into(), &"software".into()));
    assert_eq!(line["profile"], serde_json::Value::Null);
    assert_eq!(line["tuning"]["matmul f32"], "tile 8");
    assert_eq!((&line["test"], &line["dtype"]), (&"swiglu".into(), &"f32".into()));
    let c = &line["conformance"];
    assert!(c["cases"].as_u64().unwrap() > 0 && c["passed"] == c["cases"] && c["failed"] == 0, "{c}");
}

#[test]
fn composed_ops_are_said_to_be_composed() {
    let device = CoreOnly::new(Arc::new(ReferenceDevice::new()));
    let (_, rows) = run_on(&device, &options("swiglu"));
    assert!(rows.iter().all(|r| matches!(r.subject, Subject::Op { support: "composed", .. })));
}

#[test]
fn every_case_is_recorded_and_run() {
    let device = NullDevice::new(DeviceInfo::new("null", 0, "nothing", DeviceKind::Accelerator));
    let everything = Options { op: None, ..options("") };
    let cases = selected(&everything).unwrap();
    let mut done = 0;
    let (run, rows) = super::run(&device, &host(), &cases, &everything, || done += 1).unwrap();
    assert_eq!((rows.len(), done), (cases.len(), cases.len()));
    assert!(rows.iter().all(|r| r.reason.is_none() && r.timing.is_some()));
    assert!(!run.software && run.tuning.is_empty() && run.gpu_info == "nothing");
}
