//! The work whose kernels come with the crate: models that generate and are trained, on a device that does nothing.

use crate::kernels_only::{KernelsOnly, device_info};
use halite_hal::{DType, Device, DeviceInfo, DeviceOptions};
use halite_kernels::{Engine, Kernel};
use halite_models::config::{ModelConfig, ParamSpec, parameters};
use halite_models::data::Batch;
use halite_models::inference::{CacheOptions, Decoder, Want};
use halite_models::model::{Model, WeightTypes};
use halite_models::training::{OptimizerOptions, Trainer};
use halite_models::weights::{ParameterSource, Values};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A model of `prebuilt/models.json`: of its sizes, with as many layers as there are kinds of them.
#[derive(Deserialize)]
struct Listed {
    name: String,
    /// The types that its weights come in.
    weights: Vec<DType>,
    config: serde_json::Value,
}

/// Tokens of prompts: each size of tiles has one.
const PROMPTS: [usize; 20] = [1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 24, 32, 48, 64, 100, 128, 200, 300, 512, 700];

/// Sequences that go on together.
const TOGETHER: [usize; 7] = [2, 3, 4, 5, 8, 16, 64];

/// Types of the key-value cache.
const CACHES: [DType; 2] = [DType::F32, DType::BF16];

/// Models of tests/data that are trained too, by which tests see that no compiler is needed.
const SMALL: [&str; 2] = ["mixtral", "qwen2"];

/// Weights of one kind, all zeros.
struct Zeros {
    dtype: DType,
    /// As many as any parameter has; memory that isn't written takes no room.
    bytes: Vec<u8>,
}

impl Zeros {
    fn new(dtype: DType, config: &ModelConfig) -> Self {
        let elems = parameters(config).iter().map(|spec| spec.shape.iter().product::<usize>()).max();
        Zeros { dtype, bytes: vec![0; 4 * elems.unwrap_or(0)] }
    }

    /// The type of a parameter, as files have it.
    fn dtype(&self, spec: &ParamSpec) -> DType {
        let matrix = spec.decay && spec.shape.len() >= 2;
        let of = |words: &[&str]| words.iter().any(|word| spec.name.contains(word));
        let dtype = match self.dtype {
            _ if !matrix => DType::F32,
            DType::Mxfp4 if !of(&["experts"]) => DType::BF16,
            block if block.is_block() && of(&["router", "moe.gate", "mlp.gate.", "expert_gate"]) => {
                DType::F32
            }
            DType::Q4K if of(&["down", "w2", "v_proj", "lm_head", "embed"]) => DType::Q6K,
            dtype => dtype,
        };
        // Where rows aren't whole blocks, files have a type with smaller ones.
        [dtype, DType::Q8_0, DType::BF16]
            .into_iter()
            .find(|d| d.bytes(&spec.shape).is_some())
            .unwrap_or(dtype)
    }
}

impl ParameterSource for Zeros {
    fn values(&self, spec: &ParamSpec) -> halite_models::Result<Values<'_>> {
        let dtype = self.dtype(spec);
        let bytes = dtype.bytes(&spec.shape).expect("whole blocks") as usize;
        Ok(Values { dtype, bytes: (&self.bytes[..bytes]).into() })
    }
}

/// Devices with as much shared memory as there are kinds of: of compute capability 8.9, 8.0, and 9.0.
fn devices() -> impl Iterator<Item = DeviceInfo> {
    [99, 163, 227].into_iter().map(|kib| {
        let mut info = device_info();
        info.local_memory_bytes = kib << 10;
        (info.memory_bytes, info.max_buffer_bytes) = (1 << 40, 1 << 40);
        info
    })
}

/// Prompts, and sequences that go on, by one and together.
fn generate(model: &Model) {
    for dtype in CACHES {
        let decoder =
            |capacities| Decoder::with_cache(model, &CacheOptions::new(capacities).dtype(dtype)).unwrap();
        let ids = |n: usize| -> Vec<u32> { vec![1; n] };
        let most = model.config.max_position_embeddings.min(1024);
        let mut alone = decoder(vec![most]);
        for n in PROMPTS.into_iter().filter(|&n| n <= most) {
            alone.truncate(0);
            alone.feed(&ids(n), Want::Last).unwrap();
        }
        alone.truncate(0);
        alone.feed(&ids(30), Want::All).unwrap();
        // With few tokens to look back to, attention isn't split.
        decoder(vec![64]).feed(&ids(1), Want::Last).unwrap();
        for n in TOGETHER {
            let mut some = decoder(vec![256; n]);
            some.feed_to(0, &ids(4)).unwrap();
            some.fork(0, 1).unwrap();
            some.step(&(0..n).map(|i| (i, 1)).collect::<Vec<_>>()).unwrap();
        }
    }
}

/// Steps with one batch and with two.
fn train(model: Model) {
    for (rows, tokens) in [(1, 16), (4, 64), (8, 256)] {
        let mut trainer = Trainer::new(model.clone(), OptimizerOptions::default(), tokens).unwrap();
        let batch = Batch::rows(&vec![1; rows * tokens], rows);
        trainer.step(std::slice::from_ref(&batch), 1e-4).unwrap();
        trainer.step(&[batch.clone(), batch.clone()], 1e-4).unwrap();
        trainer.evaluate(&batch).unwrap();
    }
}

/// Everything that the models of the list, and small ones, do on a device.
fn run(listed: &[Listed], device: &Arc<dyn Device>) {
    for Listed { name, weights, config } in listed {
        let config = ModelConfig::from_json(config).unwrap_or_else(|e| panic!("{name}: {e}"));
        for &dtype in weights {
            let types = if dtype == DType::F32 { WeightTypes::F32 } else { WeightTypes::Stored };
            let zeros = Zeros::new(dtype, &config);
            generate(&Model::load(device.clone(), config.clone(), &zeros, types, &mut |_, _| {}).unwrap());
        }
    }
    let mut wide = ModelConfig::small();
    (wide.head_dim, wide.rope.rotary_dim) = (128, 128);
    for config in [ModelConfig::tiny(), ModelConfig::small(), wide] {
        let model = Model::new(device.clone(), config, 0).unwrap();
        generate(&model);
        train(model);
    }
    for name in SMALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name);
        let model = Model::open(device.clone(), &folder).unwrap();
        generate(&model);
        train(model);
    }
}

/// The kernels of all the work, in CUDA C, by name.
pub(super) fn kernels() -> Vec<Kernel> {
    let listed = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/prebuilt/models.json"));
    let listed: Vec<Listed> = serde_json::from_str(listed).unwrap();
    let mut found = HashSet::new();
    for info in devices() {
        let engine = Arc::new(Engine::new(KernelsOnly::new(info), &DeviceOptions::default()).unwrap());
        run(&listed, &(engine.clone() as Arc<dyn Device>));
        found.extend(engine.driver().kernels());
    }
    // Some differ in nothing but how they are launched.
    let native = found.iter().map(|kernel| kernel.to_cuda_c().unwrap());
    let native: BTreeMap<(String, String), Kernel> =
        native.map(|k| ((k.name.clone(), k.text.clone()), k)).collect();
    native.into_values().collect()
}
