//! How much memory training takes, on a device that only counts.

mod common;

use common::{batch, moe, tiny};
use halite_hal::devices::NullDevice;
use halite_hal::{Device, DeviceInfo, DeviceKind};
use halite_models::config::ModelConfig;
use halite_models::model::Model;
use halite_models::training::Trainer;
use std::sync::Arc;

const TOKENS: usize = 256;

fn config(layers: usize) -> ModelConfig {
    let mut c = tiny(64);
    c.num_hidden_layers = layers;
    (c.hidden_size, c.head_dim, c.rope.rotary_dim) = (64, 32, 32);
    c.max_position_embeddings = TOKENS;
    moe(&mut c).moe_intermediate_size = 96;
    c
}

/// Bytes that a step's pass holds beside parameters, gradients and moments.
fn activations(layers: usize, microbatches: usize) -> u64 {
    let device: Arc<dyn Device> =
        Arc::new(NullDevice::new(DeviceInfo::new("null", 0, "null", DeviceKind::Software)));
    let model = Model::new(device.clone(), config(layers), 1).unwrap();
    let mut trainer = Trainer::new(model, Default::default(), TOKENS).unwrap();
    let before = device.memory().used;
    let batches = vec![batch(1, 64, &[TOKENS]); microbatches];
    trainer.gradients_of(&batches).unwrap();
    device.memory().used - before
}

/// What the gradient of one layer reads, in bytes, if nothing else is kept.
fn needed(c: &ModelConfig) -> u64 {
    let m = c.moe.as_ref().expect("experts");
    let (h, d, k) = (c.hidden_size, c.head_dim, m.num_experts_per_tok);
    let (q, kv) = (c.num_attention_heads * d, c.num_key_value_heads * d);
    // Two residuals, each as it is and normed; rotated queries and keys, values, results of attention;
    // permuted rows, gate, up, their product, results of experts; the router's logits.
    let wide = 4 * h + 2 * q + 2 * kv + k * (2 * h + 3 * m.moe_intermediate_size) + m.num_experts;
    // Two reciprocal deviations, log-sum-exps, choices, weights and positions; offsets.
    let narrow = 2 + c.num_attention_heads + 3 * k;
    4 * (TOKENS * (wide + narrow) + m.num_experts + 1) as u64
}

#[test]
fn a_layer_keeps_what_its_gradient_reads_and_no_more() {
    let (four, eight) = (activations(4, 1), activations(8, 1));
    let layer = (eight - four) / 4;
    let needed = needed(&config(4));
    // The plan may leave small gaps.
    assert!(layer <= needed + needed / 100, "{layer} bytes a layer, {needed} are needed");
    assert!(layer >= needed, "{layer} bytes a layer, {needed} are needed");
    // What isn't kept over a layer is shared by all layers, and small beside four of them.
    assert!(four - 4 * layer < 2 * layer, "{four} bytes for four layers of {layer}");
}

#[test]
fn more_microbatches_take_no_more_memory() {
    assert_eq!(activations(2, 1), activations(2, 4));
}
