//! Matrix products at the sizes of training and decoding, with 1 and 2 threads, beside the rate of a loop that does
//! nothing but multiply-adds in registers. Throughput is in floating-point operations (two for a multiply-add).
//!
//! Groups `x/1` and `x/2` have that many threads; compare `x/t` with `peak/t`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halite_cpu::ThreadPool;
use halite_cpu::gemm::{Elem, MatMut, MatRef, Problem, run};

/// Independent chains enough to hide the latency of a multiply-add, in vectors of 16.
const CHAINS: usize = 24;
const STEPS: u64 = 100_000;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_adds_avx512() {
    use std::arch::x86_64::*;
    let (x, y) = (black_box(_mm512_set1_ps(0.999)), black_box(_mm512_set1_ps(0.001)));
    let mut acc = [_mm512_set1_ps(1.0); CHAINS];
    for _ in 0..STEPS {
        for a in &mut acc {
            *a = _mm512_fmadd_ps(*a, x, y);
        }
    }
    black_box(acc);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_adds_avx2() {
    use std::arch::x86_64::*;
    let (x, y) = (black_box(_mm256_set1_ps(0.999)), black_box(_mm256_set1_ps(0.001)));
    let mut acc = [_mm256_set1_ps(1.0); CHAINS / 2];
    for _ in 0..STEPS {
        for a in &mut acc {
            *a = _mm256_fmadd_ps(*a, x, y);
        }
    }
    black_box(acc);
}

/// Runs the register loop of the machine's best level, and says how many operations that was.
fn multiply_adds() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has AVX-512 F.
            unsafe { multiply_adds_avx512() };
            return Some(2 * 16 * CHAINS as u64 * STEPS);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has AVX2 and FMA.
            unsafe { multiply_adds_avx2() };
            return Some(2 * 8 * (CHAINS / 2) as u64 * STEPS);
        }
    }
    None
}

fn time(runs: u64, mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..runs).for_each(|_| f());
    start.elapsed()
}

/// Operands large enough for every case below.
struct Memory {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Memory {
    fn read(v: &[f32], row_stride: usize, col_stride: usize) -> MatRef {
        let (row_stride, col_stride) = (row_stride as isize, col_stride as isize);
        MatRef { ptr: v.as_ptr().cast(), elem: Elem::F32, row_stride, col_stride }
    }

    fn write(&mut self, cols: usize) -> MatMut {
        MatMut { ptr: self.c.as_mut_ptr().cast(), elem: Elem::F32, row_stride: cols as isize, col_stride: 1 }
    }

    /// `X[m,k]·W[n,k]ᵀ`.
    fn forward(&mut self, m: usize, n: usize, k: usize) -> Problem {
        let (a, b) = (Self::read(&self.a, k, 1), Self::read(&self.b, 1, k));
        Problem { m, n, k, a, b, c: self.write(n), bias: None, accumulate: false }
    }

    /// `dY[rows,n]ᵀ·X[rows,k]`.
    fn weight_grad(&mut self, rows: usize, n: usize, k: usize) -> Problem {
        let (a, b) = (Self::read(&self.a, 1, n), Self::read(&self.b, k, 1));
        Problem { m: n, n: k, k: rows, a, b, c: self.write(k), bias: None, accumulate: false }
    }
}

fn bench(criterion: &mut Criterion) {
    let len = 1 << 24;
    let fill =
        |seed: usize| (0..len).map(|i| ((i * 7 + seed) % 31) as f32 / 16.0 - 1.0).collect::<Vec<f32>>();
    let mut memory = Memory { a: fill(1), b: fill(2), c: vec![0.0; len] };
    let even: Vec<i32> = (0..=8).map(|e| e * 512).collect();
    let skewed = [0, 1600, 2500, 3100, 3500, 3800, 4000, 4060, 4096];
    let product = |p: Problem| (vec![p], p.m * p.n * p.k);
    // Rows `offsets[e]..offsets[e + 1]` of `a` and `c` with matrix `e` of `b`.
    let expert = |p: Problem, offsets: &[i32]| {
        let problems = offsets.windows(2).enumerate().map(|(e, w)| {
            let (row, m) = (w[0] as usize, (w[1] - w[0]) as usize);
            let b = p.b.shifted((e * p.n * p.k) as isize);
            Problem { m, a: p.a.at(row, 0), b, c: p.c.at(row, 0), ..p }
        });
        (problems.collect(), p.m * p.n * p.k)
    };
    // The same rows of `dy` and `x`, into matrix `e` of `dw`.
    let expert_grad = |p: Problem, offsets: &[i32]| {
        let problems = offsets.windows(2).enumerate().map(|(e, w)| {
            let (row, k) = (w[0] as usize, (w[1] - w[0]) as usize);
            let c = p.c.shifted((e * p.m * p.n) as isize);
            Problem { k, a: p.a.at(0, row), b: p.b.at(row, 0), c, ..p }
        });
        (problems.collect(), p.m * p.n * p.k)
    };
    let cases = [
        ("head", product(memory.forward(2048, 4096, 256))),
        ("head_weight_grad", product(memory.weight_grad(2048, 4096, 256))),
        ("projection", product(memory.forward(2048, 256, 256))),
        ("projection_weight_grad", product(memory.weight_grad(2048, 256, 256))),
        ("router", product(memory.forward(2048, 8, 256))),
        ("experts_up", expert(memory.forward(4096, 512, 256), &even)),
        ("experts_up_skewed", expert(memory.forward(4096, 512, 256), &skewed)),
        ("experts_down", expert(memory.forward(4096, 256, 512), &even)),
        ("experts_up_weight_grad", expert_grad(memory.weight_grad(4096, 512, 256), &even)),
        ("decode_1", product(memory.forward(1, 4096, 4096))),
        ("decode_4", product(memory.forward(4, 4096, 4096))),
    ];
    for threads in [1, 2] {
        // A pool of a few threads starts on any machine that runs the bench.
        let mut pool = ThreadPool::new(threads).expect("a small pool");
        if let Some(operations) = multiply_adds() {
            let mut group = criterion.benchmark_group("peak");
            group.throughput(Throughput::Elements(operations * threads as u64));
            group.bench_function(threads.to_string(), |b| {
                let peak = || std::thread::scope(|s| (0..threads).for_each(|_| drop(s.spawn(multiply_adds))));
                b.iter_custom(|runs| time(runs, peak));
            });
            group.finish();
        }
        for (name, (problems, multiply_adds)) in &cases {
            let mut group = criterion.benchmark_group(*name);
            group.throughput(Throughput::Elements(2 * *multiply_adds as u64));
            group.bench_function(threads.to_string(), |b| {
                b.iter_custom(|runs| {
                    pool.install(|| {
                        // SAFETY: `memory` outlives the loop and holds every operand; nothing else uses it.
                        time(runs, || unsafe { run(problems) })
                    })
                });
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = gemm;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = bench
}
criterion_main!(gemm);
