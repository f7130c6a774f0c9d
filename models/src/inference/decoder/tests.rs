//! The cache against a pass over everything, in f64 on the reference device.

use super::*;
use crate::config::{AttentionKind, Latent, ModelConfig, ModelType, QkNorm};
use halite_hal::reference::ReferenceDevice;
use std::sync::Arc;

fn config() -> ModelConfig {
    let mut c = ModelConfig::tiny();
    c.model_type = ModelType::Halite;
    (c.vocab_size, c.hidden_size, c.num_hidden_layers) = (23, 8, 3);
    (c.num_attention_heads, c.num_key_value_heads, c.head_dim) = (6, 2, 4);
    (c.rope.rotary_dim, c.max_position_embeddings, c.initializer_range) = (2, 32, 0.5);
    c.qk_norm = QkNorm::PerHead;
    let moe = c.moe.as_mut().expect("tiny has experts");
    (moe.num_experts, moe.moe_intermediate_size) = (5, 6);
    c
}

fn model(config: ModelConfig) -> (Arc<ReferenceDevice>, Model) {
    let device = Arc::new(ReferenceDevice::new());
    let model = Model::new(device.clone(), config, 4).unwrap();
    (device, model)
}

/// What [`Decoder::feed`] does, with logits that aren't rounded.
fn feed(device: &ReferenceDevice, decoder: &mut Decoder<'_>, tokens: &[u32], want: Want) -> Vec<f64> {
    let size = Size { tokens: tokens.len(), sequences: 1, want, routed: false };
    decoder.cache.make_room(decoder.model, 0, tokens.len()).unwrap();
    let pass = decoder.prepare(size).unwrap();
    decoder.run(&pass, &[(0, tokens)]).unwrap();
    decoder.cache.grow(0, tokens.len());
    let elems = pass.logits.bytes() as usize / 4;
    device.read_f64(&TensorRef::new(&pass.logits, DType::F32, &[elems])).unwrap()
}

fn assert_near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let far = got.iter().zip(want).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
    assert!(far <= 1e-12 * size && size > 0.1, "{what}: {far:e} of {size}");
}

fn tokens() -> Vec<u32> {
    (0..17).map(|i| i * i * 7 % 23).collect()
}

#[test]
fn pieces_and_single_tokens_give_the_logits_of_one_pass() {
    for window in [None, Some(1), Some(5)] {
        let (device, model) = model(ModelConfig { sliding_window: window, ..config() });
        let tokens = tokens();
        let whole = feed(&device, &mut Decoder::new(&model, 17).unwrap(), &tokens, Want::All);
        for sizes in [vec![17], vec![16, 1], vec![3, 1, 7, 6], vec![1; 17]] {
            let mut decoder = Decoder::new(&model, 20).unwrap();
            let (mut all, mut at) = (Vec::new(), 0);
            for size in sizes {
                all.extend(feed(&device, &mut decoder, &tokens[at..at + size], Want::All));
                at += size;
            }
            assert_near(&all, &whole, &format!("{window:?}"));
        }
        let mut decoder = Decoder::new(&model, 20).unwrap();
        let last = feed(&device, &mut decoder, &tokens, Want::Last);
        assert_near(&last, &whole[16 * 23..], "the last alone");
    }
}

/// Layers that keep a window and a piece, and one that keeps everything, against layers that keep everything.
#[test]
fn a_window_slides_over_its_rows() {
    let tokens: Vec<u32> = (0..30).map(|i| i * i * 7 % 23).collect();
    for window in [1, 2, 5] {
        let config = ModelConfig { sliding_window: Some(window), full_attention_layers: vec![1], ..config() };
        let (device, model) = model(config);
        let whole = feed(&device, &mut Decoder::new(&model, 30).unwrap(), &tokens, Want::All);
        for sizes in [vec![1; 30], vec![3; 10], vec![2, 3, 1, 1, 3, 1, 3, 3, 1, 1, 1, 1, 3, 3, 3]] {
            let options = CacheOptions { piece: 3, ..CacheOptions::new(vec![30, 4, 9]) };
            let mut decoder = Decoder::with_cache(&model, &options).unwrap();
            decoder.feed_to(1, &[1, 2, 3, 4]).unwrap();
            let (mut all, mut at) = (Vec::new(), 0);
            for size in sizes {
                all.extend(feed(&device, &mut decoder, &tokens[at..at + size], Want::All));
                at += size;
            }
            assert_near(&all, &whole, &format!("window of {window}"));
        }
        // Longer texts are cut into pieces.
        let options = CacheOptions { piece: 3, ..CacheOptions::new(vec![30, 30]) };
        let mut decoder = Decoder::with_cache(&model, &options).unwrap();
        let fed = decoder.feed(&tokens[..29], Want::Routing).unwrap();
        let rounded: Vec<f32> = whole.iter().map(|&x| x as f32).collect();
        let near =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&fed.logits, &rounded[..29 * 23]));
        assert_eq!(fed.experts[2].len(), 29 * 2);
        // A copy goes on as the sequence does.
        decoder.fork(0, 1).unwrap();
        assert!(near(&decoder.feed_to(1, &tokens[29..]).unwrap(), &rounded[29 * 23..]));
        // What a window has forgotten can't be gone back to.
        let back = decoder.truncate(20);
        assert_eq!(back, 0, "window of {window}");
        let choices: Vec<&[i32]> = fed.experts.iter().map(|e| &e[..]).collect();
        let again = decoder.feed_routed(&tokens[..29], Want::All, Some(&choices)).unwrap();
        assert!(near(&again.logits, &rounded[..29 * 23]));
        let memory = |config: &ModelConfig| options.bytes(config);
        let full = ModelConfig { sliding_window: None, ..model.config.clone() };
        assert_eq!(memory(&full), 4 * 3 * 60 * 16);
        assert_eq!(memory(&model.config), 4 * (60 + 2 * 2 * (window as u64 - 1 + 3)) * 16);
    }
}

#[test]
fn a_truncated_sequence_goes_on_as_if_nothing_had_been_there() {
    let (_, model) = model(config());
    let tokens = tokens();
    let whole = Decoder::new(&model, 17).unwrap().feed(&tokens, Want::Last).unwrap();
    let mut decoder = Decoder::new(&model, 17).unwrap();
    decoder.feed(&tokens[..5], Want::Last).unwrap();
    for id in [1, 2, 3] {
        decoder.feed(&[id], Want::Last).unwrap();
    }
    decoder.truncate(5);
    decoder.truncate(9);
    assert_eq!(decoder.length(), 5);
    assert_eq!(decoder.feed(&tokens[5..], Want::Last).unwrap(), whole);
}

#[test]
fn what_is_wanted_may_change_from_token_to_token() {
    let (_, model) = model(config());
    let mut decoder = Decoder::new(&model, 8).unwrap();
    for (i, want) in [Want::Last, Want::Routing, Want::All, Want::Routing].into_iter().enumerate() {
        let fed = decoder.feed(&[i as u32], want).unwrap();
        assert_eq!(fed.logits.len(), 23);
        let layers = if want == Want::Routing { 3 } else { 0 };
        assert_eq!(fed.experts.len(), layers);
        assert!(fed.experts.iter().all(|e| e.len() == 2 && e[0] != e[1]));
    }
    let fed = decoder.feed(&[1, 2, 3], Want::Routing).unwrap();
    assert_eq!((fed.logits.len(), fed.experts[2].len()), (3 * 23, 6));
}

#[test]
fn refused_tokens_leave_the_sequence_as_it_was() {
    let (_, model) = model(config());
    let tokens = tokens();
    let want = Decoder::new(&model, 8).unwrap().feed(&tokens[..4], Want::Last).unwrap();
    let mut decoder = Decoder::new(&model, 5).unwrap();
    decoder.feed(&tokens[..3], Want::Last).unwrap();
    assert!(matches!(decoder.feed(&[], Want::Last), Err(Error::EmptyPrompt)));
    assert!(matches!(decoder.feed(&[3, 23], Want::Last), Err(Error::TokenId { id: 23, vocab_size: 23 })));
    let full = decoder.feed(&[1, 2, 3], Want::Last).unwrap_err();
    assert!(matches!(full, Error::ContextLength { requested: 6, maximum: 5 }), "{full}");
    assert_eq!(decoder.length(), 3);
    assert_eq!(decoder.feed(&tokens[3..4], Want::Last).unwrap(), want);
    decoder.feed(&[0], Want::Last).unwrap();
    assert!(matches!(decoder.feed(&[0], Want::Last), Err(Error::ContextLength { requested: 6, .. })));
    for capacity in [0, 33] {
        assert!(matches!(Decoder::new(&model, capacity), Err(Error::ContextLength { maximum: 32, .. })));
    }
}

/// A window of quantised rows against all rows: heads that fill no block, and rows that lie apart.
#[test]
fn quantised_rows_move_as_they_are() {
    let tokens: Vec<u32> = (0..30).map(|i| i * i * 7 % 23).collect();
    for config in [config(), one_head_of(32)] {
        let (device, model) = model(ModelConfig { sliding_window: Some(4), ..config });
        let all = |piece| {
            let options = CacheOptions { piece, ..CacheOptions::new(vec![30]).dtype(DType::Q8_0) };
            let mut decoder = Decoder::with_cache(&model, &options).unwrap();
            let feed = |part: &[u32]| feed(&device, &mut decoder, part, Want::All);
            tokens.chunks(3).flat_map(feed).collect::<Vec<f64>>()
        };
        assert_eq!(all(3), all(30));
    }
}

/// A key-value head of so many elements.
fn one_head_of(elements: usize) -> ModelConfig {
    let mut c = config();
    (c.num_key_value_heads, c.head_dim) = (1, elements);
    c
}

#[test]
fn sequences_get_together_what_they_get_alone() {
    let mut latent = config();
    latent.attention =
        AttentionKind::Latent(Latent { q_lora_rank: None, kv_lora_rank: 40, v_head_dim: 5, norm_eps: 1e-6 });
    latent.num_key_value_heads = latent.num_attention_heads;
    latent.qk_norm = QkNorm::None;
    for (dtype, config) in [
        (DType::F32, config()),
        (DType::Q8_0, config()),
        (DType::Q8_0, one_head_of(32)),
        (DType::Q8_0, latent),
    ] {
        get_together_what_they_get_alone(dtype, config);
    }
}

fn get_together_what_they_get_alone(dtype: DType, config: ModelConfig) {
    let (_, model) = model(config);
    let prompts: [&[u32]; 4] = [&[3, 1, 4, 1, 5], &[9], &[2, 6, 5], &[2, 6, 5]];
    let next = |sequence: usize, i: usize| ((7 * sequence + 3 * i) % 23) as u32;
    // Sequences end after so many steps.
    let steps = [2, 6, 1, 4];
    let options = CacheOptions::new(vec![8, 7, 4, 9]).dtype(dtype);
    let mut decoder = Decoder::with_cache(&model, &options).unwrap();
    for s in [0, 2, 1] {
        decoder.feed_to(s, prompts[s]).unwrap();
    }
    decoder.fork(2, 3).unwrap();
    let mut together: Vec<Vec<Vec<f32>>> = vec![Vec::new(); 4];
    for i in 0..6 {
        let running: Vec<usize> = (0..4).filter(|&s| i < steps[s]).collect();
        let tokens: Vec<(usize, u32)> = running.iter().map(|&s| (s, next(s, i))).collect();
        let logits = decoder.step(&tokens).unwrap();
        assert_eq!(logits.len(), 23 * running.len());
        for (&s, row) in running.iter().zip(logits.chunks_exact(23)) {
            together[s].push(row.to_vec());
        }
    }
    for s in 0..4 {
        let options = CacheOptions::new(vec![12]).dtype(dtype);
        let mut alone = Decoder::with_cache(&model, &options).unwrap();
        alone.feed(prompts[s], Want::Last).unwrap();
        for (i, row) in together[s].iter().enumerate() {
            let fed = alone.feed(&[next(s, i)], Want::Last).unwrap();
            assert_eq!(&fed.logits, row, "{dtype}: {s}, step {i}");
        }
    }
}

#[test]
fn sequences_that_there_are_not_are_refused() {
    let (_, model) = model(config());
    let options = CacheOptions::new(vec![3, 1]);
    let mut decoder = Decoder::with_cache(&model, &options).unwrap();
    decoder.feed_to(0, &[1, 2]).unwrap();
    for tokens in [&[(0, 1), (2, 1)][..], &[(0, 1), (0, 2)]] {
        assert!(matches!(decoder.step(tokens), Err(Error::Sequence { sequences: 2, .. })));
    }
    assert!(matches!(decoder.fork(0, 1), Err(Error::ContextLength { requested: 2, maximum: 1 })));
    assert_eq!(decoder.length(), 2);
    assert!(decoder.step(&[]).unwrap().is_empty());
}
