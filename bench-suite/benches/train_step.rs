//! A training step on the CPU: d_model 256, 6 layers, 4 heads, 8 experts top-2 of width 512, vocabulary
//! 4096, 8 rows of 256 tokens, f32, two threads: forward, backward, clip and AdamW.
//!
//! `bench-suite/peers/compare_training.sh` runs it beside the same model in PyTorch.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halite_cpu::CpuDevice;
use halite_hal::philox;
use halite_hal::{Device, DeviceOptions};
use halite_models::config::ModelConfig;
use halite_models::data::Batch;
use halite_models::model::Model;
use halite_models::training::{OptimizerOptions, Trainer};
use std::sync::Arc;

const ROWS: usize = 8;
const TOKENS: usize = 256;

fn train_step(c: &mut Criterion) {
    let options = DeviceOptions::default().threads(2);
    let device: Arc<dyn Device> = Arc::new(CpuDevice::new(&options).expect("the CPU is always there"));
    let config = ModelConfig::small();
    let vocab = config.vocab_size as u32;
    let model = Model::new(device.clone(), config, 1).expect("the preset is valid");
    let mut trainer = Trainer::new(model, OptimizerOptions::default(), TOKENS).expect("memory for the model");
    let ids: Vec<i32> =
        (0..(ROWS * TOKENS) as u64).map(|i| (philox::block_at([7, 0], i)[0] % vocab) as i32).collect();
    let batch = [Batch::rows(&ids, ROWS)];
    let mut group = c.benchmark_group("train_step");
    group.throughput(Throughput::Elements((ROWS * TOKENS) as u64)).sample_size(10);
    group.bench_function("small", |b| b.iter(|| trainer.step(&batch, 1e-3).expect("a finite loss")));
    group.finish();
    let mib = device.memory().peak >> 20;
    println!("peak in device buffers: {mib} MiB");
}

criterion_group!(benches, train_step);
criterion_main!(benches);
