//! Small models of many kinds, and batches for them.
#![allow(dead_code)] // each test file uses a part

use halite_hal::philox::Normals;
use halite_hal::reference::ReferenceDevice;
use halite_hal::{Device, Source, TensorRef};
use halite_models::config::{
    AttentionBias, AttentionKind, GroupScore, Init, Latent, ModelConfig, ModelType, MoeConfig, QkNorm,
    RopeScaling, RouterScores,
};
use halite_models::data::{Batch, IGNORED};
use halite_models::model::Model;
use std::sync::Arc;

/// Two layers of width 8 with 4 of 2 experts each, and `vocab` tokens.
pub fn tiny(vocab: usize) -> ModelConfig {
    let mut c = ModelConfig::tiny();
    c.model_type = ModelType::Halite;
    (c.vocab_size, c.hidden_size, c.num_hidden_layers) = (vocab, 8, 2);
    (c.num_attention_heads, c.num_key_value_heads, c.head_dim) = (2, 1, 4);
    c.rope.rotary_dim = 4;
    c.max_position_embeddings = 64;
    let moe = moe(&mut c);
    (moe.num_experts, moe.num_experts_per_tok, moe.moe_intermediate_size) = (4, 2, 6);
    c
}

/// The experts of a configuration that has some.
pub fn moe(config: &mut ModelConfig) -> &mut MoeConfig {
    config.moe.as_mut().expect("a model with experts")
}

/// Configurations that together have everything a model can be made of.
pub fn zoo() -> Vec<(&'static str, ModelConfig)> {
    let mut mixtral = tiny(19);
    moe(&mut mixtral).router_aux_loss_coef = 0.5;

    // Everything on: sigmoid scores, bias, groups, scale, shared experts, a leading dense layer, norms,
    // biases, partial rotary embedding.
    let mut glm = tiny(17);
    glm.num_hidden_layers = 3;
    (glm.first_k_dense_replace, glm.intermediate_size) = (1, 10);
    (glm.num_attention_heads, glm.head_dim, glm.rope.rotary_dim) = (4, 6, 4);
    (glm.num_key_value_heads, glm.qk_norm, glm.attention_bias) = (2, QkNorm::PerHead, AttentionBias::Qkv);
    *moe(&mut glm) = MoeConfig {
        num_experts: 8,
        num_experts_per_tok: 3,
        moe_intermediate_size: 5,
        scores: RouterScores::Sigmoid,
        selection_bias: true,
        n_group: 4,
        topk_group: 2,
        group_score: GroupScore::SumTop2,
        norm_topk_prob: true,
        routed_scaling_factor: 2.5,
        n_shared_experts: 2,
        shared_intermediate_size: 10,
        shared_gate: false,
        bias: false,
        swiglu_limit: None,
        router_aux_loss_coef: 0.25,
    };

    let mut llama = tiny(19);
    (llama.moe, llama.intermediate_size, llama.tie_word_embeddings) = (None, 12, true);

    let mut mistral = llama.clone();
    (mistral.sliding_window, mistral.tie_word_embeddings) = (Some(2), false);
    (mistral.num_attention_heads, mistral.num_key_value_heads) = (5, 5);

    // Heads that are no power of two, wider than the residual stream; norms over the projection.
    let mut odd = tiny(13);
    (odd.hidden_size, odd.num_attention_heads, odd.num_key_value_heads) = (10, 3, 1);
    (odd.head_dim, odd.rope.rotary_dim) = (6, 6);
    (odd.qk_norm, odd.attention_bias) = (QkNorm::Projection, AttentionBias::Qkvo);
    let m = moe(&mut odd);
    (m.num_experts, m.num_experts_per_tok, m.norm_topk_prob) = (6, 3, false);
    (m.n_group, m.topk_group, m.router_aux_loss_coef) = (3, 2, 0.5);

    let mut switch = tiny(11);
    (switch.sliding_window, switch.first_k_dense_replace, switch.intermediate_size) = (Some(3), 1, 7);
    switch.tie_word_embeddings = true;
    let m = moe(&mut switch);
    (m.num_experts, m.num_experts_per_tok, m.norm_topk_prob) = (10, 1, false);
    (m.selection_bias, m.router_aux_loss_coef) = (true, 0.5);

    // Latent attention with and without compressed queries, values of another width than keys.
    let mut latent = tiny(17);
    (latent.num_attention_heads, latent.num_key_value_heads, latent.head_dim) = (3, 3, 6);
    (latent.rope.rotary_dim, latent.rope.interleaved) = (4, true);
    let ranks = Latent { q_lora_rank: Some(5), kv_lora_rank: 7, v_head_dim: 3, norm_eps: 1e-6 };
    latent.attention = AttentionKind::Latent(ranks);
    latent.rope.scaling = Some(RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 16,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale: Some(0.7),
        mscale_all_dim: Some(0.9),
        attention_factor: None,
        truncate: true,
    });
    let mut lite = latent.clone();
    lite.attention = AttentionKind::Latent(Latent { q_lora_rank: None, v_head_dim: 8, ..ranks });
    (lite.num_attention_heads, lite.num_key_value_heads) = (2, 2);

    // Sinks, a window in every second layer, biases everywhere, a clamp that bites.
    let mut sinks = tiny(13);
    (sinks.num_hidden_layers, sinks.attention_sinks, sinks.attention_bias) = (3, true, AttentionBias::Qkvo);
    (sinks.sliding_window, sinks.full_attention_layers) = (Some(3), vec![1]);
    let m = moe(&mut sinks);
    (m.bias, m.swiglu_limit) = (true, Some(0.75));

    // A shared expert behind a gate.
    let mut gated = tiny(11);
    gated.attention_bias = AttentionBias::Qkv;
    let m = moe(&mut gated);
    (m.n_shared_experts, m.shared_intermediate_size, m.shared_gate) = (1, 9, true);
    m.norm_topk_prob = false;

    let all = [
        ("latent", latent),
        ("lite", lite),
        ("sinks", sinks),
        ("gated", gated),
        ("mixtral", mixtral),
        ("glm", glm),
        ("llama", llama),
        ("mistral", mistral),
        ("odd", odd),
        ("switch", switch),
    ];
    all.iter().for_each(|(name, c)| c.validate().unwrap_or_else(|e| panic!("{name}: {e}")));
    all.into()
}

/// Unrounded values of a tensor in a buffer, written over what it holds.
pub fn write(device: &ReferenceDevice, t: &TensorRef, values: &[f64]) {
    let Source::Buffer(buffer) = &t.source else { panic!("a tensor in a buffer") };
    device.write_f64(buffer, t.offset, values).unwrap();
}

/// A model on the f64 reference with weights so large that nothing is nearly linear or nearly tied.
pub fn lively(config: &ModelConfig, seed: u64) -> (Arc<ReferenceDevice>, Model) {
    let device = Arc::new(ReferenceDevice::new());
    let model = lively_on(device.clone(), &device, config, seed);
    (device, model)
}

/// The same on a device that keeps its memory on `reference`.
pub fn lively_on(
    device: Arc<dyn Device>,
    reference: &ReferenceDevice,
    config: &ModelConfig,
    seed: u64,
) -> Model {
    let model = Model::new(device, config.clone(), seed).unwrap();
    for (i, p) in model.table.list.iter().enumerate() {
        let (mean, std) = match p.members[0].init {
            Init::Normal { .. } => (0.0, 1.5 / (p.shape[p.shape.len() - 1] as f64).sqrt()),
            Init::Ones => (1.0, 0.3),
            _ => (0.0, 0.3),
        };
        let values: Vec<f64> =
            Normals::new(seed, 1000 + i as u32).take(p.elems()).map(|x| mean + std * x).collect();
        write(reference, &model.weights.tensor(i), &values);
    }
    model
}

/// Documents of these lengths in one row of random tokens; every token has a target.
pub fn batch(seed: u64, vocab: usize, documents: &[usize]) -> Batch {
    let tokens: usize = documents.iter().sum();
    let draw = |stream| -> Vec<i32> {
        let id = |x: f64| (x * 1000.0).abs() as i32 % vocab as i32;
        Normals::new(seed, stream).take(tokens).map(id).collect()
    };
    let mut batch = Batch { ids: draw(0), targets: draw(1), positions: Vec::new(), seqs: Vec::new() };
    for &len in documents {
        let start = batch.positions.len() as i32;
        batch.seqs.push([start, len as i32, start, len as i32]);
        batch.positions.extend(0..len as i32);
    }
    batch
}

/// Each sequence of a batch as a batch of its own.
pub fn alone(batch: &Batch) -> Vec<Batch> {
    let one = |&[start, len, ..]: &[i32; 4]| {
        let range = start as usize..(start + len) as usize;
        Batch {
            ids: batch.ids[range.clone()].to_vec(),
            targets: batch.targets[range.clone()].to_vec(),
            positions: batch.positions[range].to_vec(),
            seqs: vec![[0, len, 0, len]],
        }
    };
    batch.seqs.iter().map(one).collect()
}

/// Batches one after another as one.
pub fn joined(batches: &[Batch]) -> Batch {
    let mut all = Batch { ids: Vec::new(), targets: Vec::new(), positions: Vec::new(), seqs: Vec::new() };
    for b in batches {
        let start = all.ids.len() as i32;
        all.ids.extend(&b.ids);
        all.targets.extend(&b.targets);
        all.positions.extend(&b.positions);
        all.seqs.extend(b.seqs.iter().map(|s| [s[0] + start, s[1], s[2] + start, s[3]]));
    }
    all
}

/// Takes the targets at these places out of the loss.
pub fn ignore(batch: &mut Batch, places: &[usize]) {
    places.iter().for_each(|&i| batch.targets[i] = IGNORED);
}
