//! Generation on the f64 reference.

mod common;

use common::{lively, tiny};
use halite_hal::DType;
use halite_models::Error;
use halite_models::config::ModelConfig;
use halite_models::inference::{Decoder, Finish, GenerateOptions, Generation, Generator, Want};
use halite_models::model::Model;
use halite_models::sampling::SamplingOptions;
use halite_models::tokenizer::Tokenizer;

fn config() -> ModelConfig {
    let mut c = tiny(260);
    c.num_hidden_layers = 1;
    c
}

fn model() -> Model {
    lively(&config(), 5).1
}

fn greedy(max_new_tokens: usize) -> GenerateOptions {
    let sampling = SamplingOptions { temperature: 0.0, ..Default::default() };
    GenerateOptions { sampling, max_new_tokens, stop: Vec::new(), logprobs: None, cache_type: DType::F32 }
}

fn generate(model: &Model, prompt: &str, options: &GenerateOptions) -> Result<Generation, Error> {
    let tokenizer = Tokenizer::byte_level();
    let mut pieces = String::new();
    let generation = Generator::new(model, &tokenizer)?.generate(prompt, options, &mut |text: &str| {
        assert!(!text.is_empty());
        pieces.push_str(text);
        true
    })?;
    assert_eq!(generation.text, pieces);
    assert_eq!(generation.text, tokenizer_text(&generation, options));
    Ok(generation)
}

/// The text of all tokens but an end of text, cut before the first stop string.
fn tokenizer_text(generation: &Generation, options: &GenerateOptions) -> String {
    let ended = usize::from(generation.finish == Finish::EndOfText);
    let tokens = &generation.tokens[..generation.tokens.len() - ended];
    let text = Tokenizer::byte_level().decode(tokens, true).unwrap();
    let cut = options.stop.iter().filter_map(|s| text.find(s)).min();
    text[..cut.unwrap_or(text.len())].to_string()
}

/// Tokens of highest logit, each by a pass over everything before it.
fn recomputed(model: &Model, prompt: &str, n: usize) -> Vec<u32> {
    let mut ids: Vec<u32> = prompt.bytes().map(u32::from).collect();
    let start = ids.len();
    for _ in 0..n {
        let logits = Decoder::new(model, ids.len()).unwrap().feed(&ids, Want::Last).unwrap().logits;
        let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b });
        ids.push(best as u32);
    }
    ids.split_off(start)
}

#[test]
fn greedy_tokens_are_those_of_a_full_recomputation() {
    let model = model();
    for prompt in ["a", "hello", "\u{fc}ber"] {
        let got = generate(&model, prompt, &greedy(12)).unwrap();
        let mut want = recomputed(&model, prompt, 12);
        if let Some(end) = want.iter().position(|&t| t == 256) {
            want.truncate(end + 1);
        }
        assert_eq!(got.tokens, want, "{prompt}");
        assert_eq!(got.prompt_tokens, prompt.len());
    }
}

#[test]
fn generation_ends_where_it_should() {
    let model = model();
    let none = generate(&model, "abc", &greedy(0)).unwrap();
    assert_eq!((none.tokens.len(), none.finish, none.text.as_str()), (0, Finish::Length, ""));
    let one = generate(&model, "abc", &greedy(1)).unwrap();
    assert_eq!((one.tokens.len(), one.finish), (1, Finish::Length));

    let long = generate(&model, "abc", &greedy(20)).unwrap();
    assert_eq!(long.finish, Finish::Length);
    // Any token that came can be the end of text.
    let mut config = config();
    let end = long.tokens[4];
    let first = long.tokens.iter().position(|&t| t == end).unwrap();
    config.eos_token_ids = vec![end];
    let ending = Model { config, ..model.clone() };
    let got = generate(&ending, "abc", &greedy(20)).unwrap();
    assert_eq!((got.finish, got.tokens.as_slice()), (Finish::EndOfText, &long.tokens[..=first]));

    // 64 tokens of context: the last position still predicts a token.
    let full = generate(&model, &"x".repeat(60), &greedy(100)).unwrap();
    assert_eq!((full.finish, full.tokens.len()), (Finish::Context, 5));
    let error = generate(&model, &"x".repeat(64), &greedy(1)).unwrap_err();
    assert!(matches!(error, Error::ContextLength { requested: 65, maximum: 64 }), "{error}");
    assert!(matches!(generate(&model, "", &greedy(1)), Err(Error::EmptyPrompt)));
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let model = model();
    let free = generate(&model, "abc", &greedy(30)).unwrap();
    let chars: Vec<char> = free.text.chars().collect();
    // One character, two, and one that never comes.
    for stop in [&chars[3..4], &chars[5..7], &['\u{2603}']] {
        let stop: String = stop.iter().collect();
        let options = GenerateOptions { stop: vec!["never".into(), stop.clone()], ..greedy(30) };
        let got = generate(&model, "abc", &options).unwrap();
        match free.text.find(&stop) {
            Some(at) => {
                assert_eq!((got.finish, got.text.as_str()), (Finish::Stop, &free.text[..at]));
                assert!(got.tokens.len() < 30 && free.tokens.starts_with(&got.tokens));
            }
            None => assert_eq!((got.finish, &got.text), (free.finish, &free.text)),
        }
    }
    let options = GenerateOptions { stop: vec![String::new()], ..greedy(1) };
    assert!(matches!(generate(&model, "abc", &options), Err(Error::Sampling(_))));
}

#[test]
fn a_caller_that_has_enough_ends_it() {
    let (model, tokenizer) = (model(), Tokenizer::byte_level());
    let mut calls = 0;
    let mut emit = |_: &str| {
        calls += 1;
        calls < 3
    };
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let got = generator.generate("abc", &greedy(30), &mut emit).unwrap();
    assert_eq!((calls, got.finish), (3, Finish::Cancelled));
    assert!(got.tokens.len() < 30);
}

#[test]
fn a_seed_gives_one_text() {
    let model = model();
    let with = |seed| GenerateOptions {
        sampling: SamplingOptions { temperature: 1.5, seed, ..Default::default() },
        ..greedy(16)
    };
    let [a, b, c] = [1, 1, 2].map(|seed| generate(&model, "abc", &with(seed)).unwrap().tokens);
    assert_eq!(a, b);
    assert_ne!(a, c);
}

#[test]
fn a_text_among_others_is_what_it_is_alone() {
    let (model, tokenizer) = (model(), Tokenizer::byte_level());
    let mut options = greedy(14);
    options.sampling = SamplingOptions { temperature: 1.2, seed: 5, ..Default::default() };
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let long = "x".repeat(57);
    let prompts = ["abc", "a", &long, "hello"];
    let sampled = |prompts: &[&str], samples, options: &GenerateOptions| {
        let mut texts = vec![String::new(); prompts.len() * samples as usize];
        let all = generator.generate_all(prompts, samples, options, |i, text| {
            texts[i].push_str(text);
            true
        });
        let all = all.unwrap();
        assert_eq!(all.iter().map(|g| &g.text).collect::<Vec<_>>(), texts.iter().collect::<Vec<_>>());
        all.into_iter().map(|g| (g.tokens, g.text, g.finish, g.prompt_tokens)).collect::<Vec<_>>()
    };
    let free = sampled(&prompts, 3, &options);
    // Some end at a stop string, one with its context, the others with the most tokens.
    options.stop = vec![free[4].1.chars().skip(2).take(3).collect()];
    let all = sampled(&prompts, 3, &options);
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = sampled(&[prompt], 3, &options);
        assert_eq!(all[3 * i..3 * i + 3], alone, "{prompt}");
        assert_eq!(alone[0], sampled(&[prompt], 1, &options)[0], "{prompt}");
        assert_ne!(alone[0].0, alone[1].0);
    }
    let finishes: Vec<Finish> = all.iter().map(|g| g.2).collect();
    for finish in [Finish::Stop, Finish::Length, Finish::Context] {
        assert!(finishes.contains(&finish), "{finish:?} in {finishes:?}");
    }
    assert!(matches!(generator.generate_all(&["a", ""], 1, &options, |_, _| true), Err(Error::EmptyPrompt)));
    assert!(generator.generate_all(&[], 1, &options, |_, _| true).unwrap().is_empty());
}

#[test]
fn log_probabilities_are_of_the_logits_before_any_filter() {
    let (model, tokenizer) = (model(), Tokenizer::byte_level());
    let sampling = SamplingOptions {
        temperature: 2.0,
        top_k: 3,
        repetition_penalty: 1.5,
        seed: 4,
        ..Default::default()
    };
    let options = GenerateOptions { sampling, logprobs: Some(5), ..greedy(6) };
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let got = generator.generate("abc", &options, |_| true).unwrap();
    assert_eq!(got.logprobs.len(), got.tokens.len());
    let mut ids: Vec<u32> = b"abc".map(u32::from).to_vec();
    for (token, scores) in got.tokens.iter().zip(&got.logprobs) {
        let logits = Decoder::new(&model, ids.len()).unwrap().feed(&ids, Want::Last).unwrap().logits;
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        let lse = wide.iter().map(|x| x.exp()).sum::<f64>().ln();
        assert_eq!((scores.chosen.token, scores.top.len()), (*token, 5));
        for score in scores.top.iter().chain([&scores.chosen]) {
            let want = wide[score.token as usize] - lse;
            assert!((f64::from(score.logprob) - want).abs() < 1e-6 * (1.0 + want.abs()), "{score:?}, {want}");
            assert_eq!(score.text, tokenizer.decode(&[score.token], false).unwrap());
        }
        assert!(scores.top.windows(2).all(|pair| pair[0].logprob >= pair[1].logprob));
        let best = (0..260).map(|id| wide[id]).fold(f64::MIN, f64::max);
        assert_eq!(wide[scores.top[0].token as usize], best);
        ids.push(*token);
    }
}

#[test]
fn one_text_may_end_and_the_others_go_on() {
    let (model, tokenizer) = (model(), Tokenizer::byte_level());
    let generator = Generator::new(&model, &tokenizer).unwrap();
    let free = generator.generate_all(&["abc", "hello"], 1, &greedy(12), |_, _| true).unwrap();
    let some = generator.generate_all(&["abc", "hello"], 1, &greedy(12), |i, _| i == 1).unwrap();
    assert_eq!(some[0].finish, Finish::Cancelled);
    assert!(some[0].tokens.len() < 12 && free[0].tokens.starts_with(&some[0].tokens));
    assert_eq!(some[1].tokens, free[1].tokens);
}

#[test]
fn long_prompts_are_fed_in_pieces() {
    let mut config = config();
    config.max_position_embeddings = 1200;
    let model = Model { config, ..model() };
    let prompt: String = (0..1030).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    let got = generate(&model, &prompt, &greedy(2)).unwrap();
    assert_eq!((got.tokens, got.prompt_tokens), (recomputed(&model, &prompt, 2), 1030));
}

#[test]
fn a_tokenizer_that_knows_more_than_the_model_is_refused() {
    let (_, model) = lively(&tiny(256), 5);
    let tokenizer = Tokenizer::byte_level();
    let error = Generator::new(&model, &tokenizer).unwrap_err();
    assert!(matches!(error, Error::TokenizerTooLarge { known: 257, vocab_size: 256 }), "{error}");
}
