//! An op of the program's own, with a kernel of its own: squared ReLU, `y = max(x, 0)²`.
//!
//! `cargo run --release --example custom_op`
//!
//! The op works on every device by what [`CustomOp`] says of it: checks, a reference, and how it is made of
//! other ops. A [`KernelSet`] makes it one kernel where there is an engine to register it with.

use halite::hal::conformance::{Options, run_custom};
use halite::hal::reference::Array;
use halite::hal::{
    CustomOp, CustomRef, DType, Device, DeviceInfo, DeviceOptions, Error, Graph, Layout, Op, OpDesc, OpKind,
    UnaryFn,
};
use halite::kernels::{Access, Driver, Engine, KernelSet, Lowering, Template, Variant};
use halite::opencl::OpenClDriver;
use halite::vulkan::VulkanDriver;
use std::sync::Arc;

/// What the op is.
#[derive(Debug)]
struct SquaredRelu;

impl CustomOp for SquaredRelu {
    fn name(&self) -> &str {
        "example.squared_relu"
    }

    fn check(&self, inputs: &[Layout], outputs: &[Layout]) -> Result<(), String> {
        match (inputs, outputs) {
            ([x], [y])
                if x.shape == y.shape && x.shape.len() == 2 && x.dtype.is_float() && y.dtype.is_float() =>
            {
                Ok(())
            }
            _ => Err("needs one float input [rows, columns] and one float output of its shape".into()),
        }
    }

    /// The meaning, in f64: devices are measured by it.
    fn reference(&self, inputs: &[Array], outputs: &mut [Array]) {
        outputs[0].data = inputs[0].data.iter().map(|x| x.max(0.0) * x.max(0.0)).collect();
    }

    /// What the conformance suite shall try, in all sorts of views.
    fn cases(&self) -> Vec<OpDesc> {
        let case = |dtype, rows, columns| {
            let layout = Layout::contiguous(dtype, &[rows, columns]);
            OpDesc::new(kind(), vec![layout], vec![layout])
        };
        let dtypes = [DType::F32, DType::F16, DType::BF16];
        dtypes.into_iter().flat_map(|d| [case(d, 1, 1), case(d, 5, 77), case(d, 0, 3)]).collect()
    }

    /// The op as other ops, for devices without a kernel for it.
    fn decompose(&self, op: &Op, graph: &mut Graph) -> Option<Result<(), Error>> {
        let (x, y) = (op.inputs[0].clone(), op.outputs[0].clone());
        let positive = graph.temporary(DType::F32, &x.shape);
        graph.push(Op::unary(UnaryFn::Relu, x, positive.clone()));
        graph.push(Op::unary(UnaryFn::Square, positive, y));
        Some(Ok(()))
    }
}

fn kind() -> OpKind {
    OpKind::Custom(CustomRef(Arc::new(SquaredRelu)))
}

/// How an engine does it.
#[derive(Debug)]
struct Kernels;

/// The engine puts functions before this that hide where and how `x` and `y` lie: `at_x` and `at_y` find an
/// element, `ld_x` reads it as f32, whatever its dtype, and `st_y` writes it. A larger kernel would be a file
/// of its own, `wgsl/NAME`, taken in with `halite::kernels::template!("NAME")`.
const KERNEL: Template = Template::wgsl(
    "squared_relu",
    "
        @compute {{ workgroup }}
        fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) lane: u32) {
            let i = (group.x + group.y * groups.x) * {{ workgroup_size }}u + lane;
            if i >= params.elements { return; }
            let row = i / params.columns;
            let column = i % params.columns;
            let positive = max(ld_x(at_x(row, column)), 0.0);
            st_y(at_y(row, column), positive * positive);
        }",
);

impl KernelSet for Kernels {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        // Each invocation writes one element; 16-bit ones share words, which takes atomics.
        let can = info.atomics || desc.outputs.iter().all(|y| y.dtype == DType::F32);
        if desc.kind == kind() && can { vec![Variant::ONLY] } else { Vec::new() }
    }

    fn lower(&self, op: &Op, _: &Variant, to: &mut Lowering<'_>) -> Result<(), Error> {
        let (x, y) = (&op.inputs[0], &op.outputs[0]);
        let size = to.info.max_workgroup_size.min(64);
        to.launch(KERNEL)
            .input("x", x)
            .operand("y", y, Access::Single)
            .param("elements", x.elems())
            .param("columns", x.shape[1])
            .workgroup([size, 1, 1])
            .linear(x.elems().div_ceil(size as usize))
    }
}

fn main() -> Result<(), Error> {
    let options = DeviceOptions::default();
    match VulkanDriver::new(0, &options) {
        Ok(driver) => with_kernel(&Engine::new(driver, &options)?),
        Err(Error::NoDevice { .. }) => println!("no Vulkan device here: skipped"),
        Err(e) => return Err(e),
    }
    match OpenClDriver::new(0, &options) {
        Ok(driver) => with_kernel(&Engine::new(driver, &options)?),
        Err(Error::NoDevice { .. }) => println!("no OpenCL device here: skipped"),
        Err(e) => return Err(e),
    }
    // A device that knows nothing of the op.
    assert!(verify(&*halite::registry().open("cpu", &options)?) > 0, "composed");
    Ok(())
}

fn with_kernel<D: Driver>(engine: &Engine<D>) {
    engine.register(Arc::new(Kernels));
    assert_eq!(verify(engine), 0, "all cases run as the kernel");
}

/// Runs the op's cases on a device; how many of them were composed of other ops.
fn verify(device: &dyn Device) -> usize {
    let op: Arc<dyn CustomOp> = Arc::new(SquaredRelu);
    let report = run_custom(device, &op, &Options::default());
    assert!(report.passed > 0 && report.passed == report.cases, "{report:?}");
    println!("{}: {} cases passed, {} composed", device.info().name, report.passed, report.composed);
    report.composed
}
