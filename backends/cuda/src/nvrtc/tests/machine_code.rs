//! What becomes of the kernels that are written for CUDA: registers, shared memory, the blocks that share a
//! multiprocessor, and the instructions of the main loop. `docs/cuda-kernels.md` keeps it, so that a change is seen;
//! `HALITE_BLESS=1` writes that file anew.

use super::here;
use super::sass::{Class, Code, Mix};
use crate::kernels_only::{KernelsOnly, device_info};
use halite_hal::{AdamW, Attention, DType, Device, DeviceOptions, Graph, Op, TensorRef};
use halite_kernels::testing::slice;
use halite_kernels::{Engine, Kernel, Language};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// A kind of device, as far as it decides how many blocks share a multiprocessor (CUDA C++ Programming Guide,
/// "Technical Specifications per Compute Capability").
struct Arch {
    name: &'static str,
    /// Bytes of shared memory of a multiprocessor, and of a block.
    shared: [u32; 2],
    warps: u32,
    blocks: u32,
}

const ARCHS: [Arch; 3] = [
    Arch { name: "sm_80", shared: [164 << 10, 163 << 10], warps: 64, blocks: 32 },
    Arch { name: "sm_89", shared: [100 << 10, 99 << 10], warps: 48, blocks: 24 },
    Arch { name: "sm_90", shared: [228 << 10, 227 << 10], warps: 64, blocks: 32 },
];

/// Registers of a multiprocessor, and what a warp takes is a multiple of.
const REGISTERS: [u32; 2] = [65536, 256];

/// Shared memory of a block that CUDA itself uses.
const RESERVED: u32 = 1 << 10;

impl Arch {
    /// Blocks that share a multiprocessor.
    fn resident(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32);
        let by_registers = REGISTERS[0] / (registers * 32).next_multiple_of(REGISTERS[1]) / warps;
        let by_shared = self.shared[0] / (shared + RESERVED).next_multiple_of(128);
        by_registers.min(by_shared).min(self.warps / warps).min(self.blocks)
    }
}

/// What `ptxas` and `nvdisasm` say of a kernel on one kind of device.
struct Report {
    registers: u32,
    /// Bytes of shared memory that the kernel declares.
    shared: u32,
    /// Bytes of the stack, of spill stores and of spill loads.
    spilled: u32,
    whole: Mix,
    main_loop: Option<Mix>,
}

fn tool(command: &mut Command) -> String {
    let ran = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{command:?}: {said}");
    said
}

/// The number before or after a word.
fn number(text: &str, before: &str, after: &str) -> u32 {
    let from =
        |rest: &str| rest.trim().split(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse().ok();
    let found = match after.is_empty() {
        false => text.split(after).next().filter(|head| head.len() < text.len()).and_then(|head| {
            head.trim().rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("").parse().ok()
        }),
        true => text.split_once(before).and_then(|(_, rest)| from(rest)),
    };
    found.unwrap_or(0)
}

impl Report {
    fn of(kernel: &Kernel, ptx: &[u8], arch: &Arch, folder: &Path) -> Report {
        let [source, cubin] = ["kernel.ptx", "kernel.cubin"].map(|name| folder.join(name));
        std::fs::write(&source, ptx.strip_suffix(b"\0").unwrap_or(ptx)).unwrap();
        let mut ptxas = Command::new("ptxas");
        let said = tool(ptxas.args(["-v", "-arch", arch.name, "-o"]).arg(&cubin).arg(&source));
        let sass = tool(Command::new("nvdisasm").arg("-c").arg(&cubin));
        let code = Code::read(&sass);
        let spilled = ["bytes stack frame", "bytes spill stores", "bytes spill loads"];
        let report = Report {
            registers: number(&said, "Used", ""),
            shared: number(&said, "", "bytes smem"),
            spilled: spilled.map(|what| number(&said, "", what)).into_iter().sum(),
            whole: code.mix(),
            main_loop: code.main_loop(),
        };
        assert!(report.registers > 0 && report.whole.all() > 0, "{}: {said}", kernel.name);
        report
    }
}

/// The second of `__launch_bounds__(threads, blocks)`: how many blocks the design wants to share a multiprocessor.
fn stated(text: &str) -> u32 {
    let bounds = text.split_once("__launch_bounds__(").and_then(|(_, rest)| rest.split_once(')'));
    bounds.and_then(|(inside, _)| inside.split_once(',')?.1.trim().parse().ok()).unwrap_or(1)
}

/// Ops of the sizes that kernels are made for.
fn designs() -> Vec<(&'static str, Graph)> {
    const BF16: DType = DType::BF16;
    let graph = |f: &dyn Fn(&mut Graph) -> Op| {
        let mut graph = Graph::new();
        let op = f(&mut graph);
        graph.push(op);
        graph
    };
    let columns = |t: TensorRef| {
        let r = t.rank();
        t.transpose(r - 2, r - 1)
    };
    let offsets = |g: &mut Graph| g.external(DType::I32, &[9]);
    let attention = |g: &mut Graph, d: usize, tokens: usize, keys: usize| {
        let [q, kv] = [[tokens, 32, d], [keys, 8, d]];
        let [q, k, v] = [g.external(BF16, &q), g.external(BF16, &kv), g.external(BF16, &kv)];
        let (seqs, out) = (g.external(DType::I32, &[2, 4]), g.external(BF16, &[tokens, 32, d]));
        let lse = g.external(DType::F32, &[tokens, 32]);
        Op::attention(Attention::causal(0.125), q, k, v, seqs, out, lse)
    };
    let quantised = |m: usize, dtype: DType| {
        graph(&|g| {
            let (a, b) = (g.external(BF16, &[m, 7168]), g.external(dtype, &[4096, 7168]));
            Op::matmul(a, columns(b), g.external(BF16, &[m, 4096]))
        })
    };
    vec![
        (
            "matmul, weights [out, in]",
            graph(&|g| {
                let (a, b) = (g.external(BF16, &[4096, 7168]), g.external(BF16, &[4096, 7168]));
                Op::matmul(a, columns(b), g.external(BF16, &[4096, 4096]))
            }),
        ),
        (
            "matmul, weights [in, out]",
            graph(&|g| {
                let (a, b) = (g.external(BF16, &[4096, 7168]), g.external(BF16, &[7168, 4096]));
                Op::matmul(a, b, g.external(BF16, &[4096, 4096]))
            }),
        ),
        (
            "matmul, a gradient of weights",
            graph(&|g| {
                let (a, b) = (g.external(BF16, &[4096, 7168]), g.external(BF16, &[4096, 4096]));
                Op::matmul_with(columns(a), b, None, g.external(DType::F32, &[7168, 4096]), true)
            }),
        ),
        ("gate and up with their SwiGLU", {
            let mut g = Graph::new();
            let a = g.external(BF16, &[4096, 7168]);
            let [gate, up, inner] = [0; 3].map(|_| g.external(BF16, &[4096, 4096]));
            for y in [&gate, &up] {
                let weights = columns(g.external(BF16, &[4096, 7168]));
                g.push(Op::matmul(a.clone(), weights, y.clone()));
            }
            g.push(Op::swiglu(gate, up, inner));
            g
        }),
        (
            "grouped_matmul",
            graph(&|g| {
                let (a, b) = (g.external(BF16, &[4096, 7168]), g.external(BF16, &[8, 4096, 7168]));
                let (offsets, c) = (offsets(g), g.external(BF16, &[4096, 4096]));
                Op::grouped_matmul(a, columns(b), offsets, None, c, false)
            }),
        ),
        (
            "grouped_matmul_weight",
            graph(&|g| {
                let (a, b) = (g.external(BF16, &[4096, 7168]), g.external(BF16, &[4096, 4096]));
                let (offsets, c) = (offsets(g), g.external(DType::F32, &[8, 7168, 4096]));
                Op::grouped_matmul_weight(a, b, offsets, c, true)
            }),
        ),
        ("adamw of 16 tensors", {
            let mut g = Graph::new();
            let [hyper, factor] = [3, 1].map(|n| g.external(DType::F32, &[n]));
            for _ in 0..16 {
                let [grad, param, m, v] = [0; 4].map(|_| g.external(DType::F32, &[4096, 4096]));
                let kind = AdamW::new(0.9, 0.95, 1e-8, 0.1);
                g.push(Op::adamw(kind, grad, hyper.clone(), factor.clone(), [param, m, v]));
            }
            g
        }),
        ("1 row times q4_0", quantised(1, DType::Q4_0)),
        ("4 rows times q4_0", quantised(4, DType::Q4_0)),
        ("8 rows times q4_0", quantised(8, DType::Q4_0)),
        ("1 row times q4_1", quantised(1, DType::Q4_1)),
        ("1 row times q8_0", quantised(1, DType::Q8_0)),
        ("8 rows times q4_k", quantised(8, DType::Q4K)),
        ("1 row times mxfp4", quantised(1, DType::Mxfp4)),
        ("attention of 64", graph(&|g| attention(g, 64, 4096, 4096))),
        ("attention of 128", graph(&|g| attention(g, 128, 4096, 4096))),
        ("attention of 128, decoding", graph(&|g| attention(g, 128, 2, 8192))),
        (
            "attention_backward of 128",
            graph(&|g| {
                let (q, kv) = ([4096, 32, 128], [4096, 8, 128]);
                let inputs = [q, q, kv, kv, q].map(|shape| g.external(BF16, &shape));
                let [dout, q_, k, v, out] = inputs;
                let (lse, seqs) = (g.external(DType::F32, &[4096, 32]), g.external(DType::I32, &[2, 4]));
                let grads = [q, kv, kv].map(|shape| g.external(BF16, &shape));
                Op::attention_backward(Attention::causal(0.125), [dout, q_, k, v, out, lse, seqs], grads)
            }),
        ),
    ]
}

/// The kernels of a graph that are written for CUDA, in each variant of its first op.
fn native(graph: &Graph) -> Vec<(String, Kernel)> {
    let engine = || Engine::new(KernelsOnly::new(device_info()), &DeviceOptions::default()).unwrap();
    let mut found: Vec<(String, Kernel)> = Vec::new();
    for variant in engine().variants(&graph.ops[0].desc()) {
        let mut engine = engine();
        engine.force_variant(Some(variant.to_string()));
        engine.record(graph).unwrap();
        let kernels = engine.driver().kernels();
        let native = kernels.into_iter().filter(|kernel| kernel.language == Language::CudaC);
        found.extend(native.map(|kernel| (variant.to_string(), kernel)));
    }
    found
}

#[test]
fn kernels_of_cuda_spill_nothing_and_are_what_the_table_says() {
    let Some(nvrtc) = here() else { return };
    let Ok(version) = Command::new("ptxas").arg("--version").output() else {
        println!("skipped: there is no ptxas (scripts/cuda.sh obtains it)");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version =
        version.split("release ").nth(1).and_then(|v| v.split(',').next()).unwrap_or("?").to_owned();
    let folder = tempfile::tempdir().unwrap();
    let bless = std::env::var_os("HALITE_BLESS").is_some();
    let (turn, turns) = slice();
    let (mut tried, mut rows) = (Vec::new(), String::new());
    // Compilers take long: ops take their turns, save where all are asked for.
    let its_turn = |i: usize| bless || turns == 1 || i % 4 == turn % 4;
    for (_, (op, graph)) in designs().into_iter().enumerate().filter(|(i, _)| its_turn(*i)) {
        tried.push(op);
        for (variant, kernel) in native(&graph) {
            let ptx = nvrtc.compile(&kernel.text).unwrap_or_else(|e| panic!("{variant} of {op}: {e}"));
            let threads = kernel.workgroup.iter().product();
            for arch in &ARCHS {
                let at = format!("{op}, {variant}, {}, {}", kernel.name, arch.name);
                let report = Report::of(&kernel, &ptx, arch, folder.path());
                let shared = report.shared + kernel.dynamic_bytes;
                if shared > arch.shared[1] {
                    // Not offered there.
                    continue;
                }
                assert_eq!(report.spilled, 0, "{at}: bytes that registers didn't hold");
                assert_eq!(report.whole.of(Class::Local), 0, "{at}: accesses to local memory");
                let resident = arch.resident(threads, report.registers, shared);
                let stated = stated(&kernel.text).min(arch.shared[0] / (shared + RESERVED));
                assert!(resident >= stated, "{at}: {resident} blocks share a multiprocessor, not {stated}");
                let mix = report.main_loop.map_or("none".into(), |mix| {
                    format!("{}% of {}: {mix}", 100 * mix.of(Class::Matrix) / mix.all(), mix.all())
                });
                let _ = writeln!(
                    rows,
                    "| {op} | {variant} | {} | {} | {threads} | {} | {shared} | {resident} | {mix} |",
                    kernel.name, arch.name, report.registers
                );
            }
        }
    }
    compare(&version, &tried, &rows, bless);
}

/// Sets rows for some ops against those of `docs/cuda-kernels.md`, which another `ptxas` doesn't have to agree with.
fn compare(version: &str, tried: &[&str], rows: &str, bless: bool) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cuda-kernels.md");
    let kept = std::fs::read_to_string(path).unwrap();
    let (text, table) = kept.split_once("|---|\n").expect("a table");
    if bless {
        return std::fs::write(path, format!("{text}|---|\n{rows}")).unwrap();
    }
    if !text.contains(&format!("ptxas {version}")) {
        println!("skipped: ptxas {version} isn't the one of docs/cuda-kernels.md");
        return;
    }
    let of =
        |row: &&str| tried.contains(&row.split(" | ").next().unwrap_or_default().trim_start_matches("| "));
    let wanted: Vec<&str> = table.lines().filter(of).collect();
    let found: Vec<&str> = rows.lines().collect();
    assert!(!found.is_empty());
    assert!(
        found == wanted,
        "docs/cuda-kernels.md isn't what this gives (HALITE_BLESS=1 writes it):\n{rows}"
    );
}
