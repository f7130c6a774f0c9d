//! Models that differ in a place or two, as two devices might, compared on the f64 reference device.

mod common;

use common::{lively, moe, tiny, write, zoo};
use halite_hal::reference::ReferenceDevice;
use halite_models::Error;
use halite_models::config::ModelConfig;
use halite_models::inference::parity::{NEAR_TIE, Parity, ParityFault, Parting, Reference, TIGHT};
use halite_models::inference::{Decoder, Fed, Want};
use halite_models::model::{FeedForwardWeights, Model};
use halite_models::sampling::likeliest;
use std::sync::Arc;

/// With it, the near-ties begin at a token in the middle, which all these cases need.
const SEED: u64 = 7;
const PROMPT: [u32; 12] = [1, 5, 2, 9, 9, 4, 7, 3, 10, 6, 8, 2];
const MORE: usize = 6;

fn compare(a: &Model, b: &Model) -> Parity {
    Reference::new(a, &PROMPT, MORE).unwrap().compare(b).unwrap()
}

/// The index of a layer's router among a model's parameters.
fn router(model: &Model, layer: usize) -> usize {
    match &model.table.weights.layers[layer].feed_forward {
        FeedForwardWeights::Moe(moe) => moe.router.weight,
        FeedForwardWeights::Dense(_) => panic!("layer {layer} has no experts"),
    }
}

/// Makes row `to` of a parameter `factor` times row `from`.
fn set_row(device: &ReferenceDevice, model: &Model, parameter: usize, from: usize, to: usize, factor: f64) {
    let tensor = model.weights.tensor(parameter);
    let mut values = device.read_f64(&tensor).unwrap();
    let width = tensor.shape[1];
    for i in 0..width {
        values[to * width + i] = factor * values[from * width + i];
    }
    write(device, &tensor, &values);
}

/// Three layers of six experts.
fn config() -> ModelConfig {
    let mut config = tiny(19);
    config.num_hidden_layers = 3;
    moe(&mut config).num_experts = 6;
    config
}

/// A model in whose layer 1 the logits of expert 4 are `factor` times those of expert 1.
fn tied(factor: f64) -> (Arc<ReferenceDevice>, Model) {
    let (device, model) = lively(&config(), SEED);
    set_row(&device, &model, router(&model, 1), 1, 4, factor);
    (device, model)
}

/// Models that part ways at near-ties of the router, and the device of the second.
fn near_tied() -> (Model, Model, Arc<ReferenceDevice>) {
    let ((_, a), (device, b)) = (tied(1.0), tied(1.0 + 1e-7));
    (a, b, device)
}

/// What the reference makes of the tokens, all in one pass.
fn fed(model: &Model) -> Fed {
    let tokens = Reference::new(model, &PROMPT, MORE).unwrap().tokens().to_vec();
    Decoder::new(model, tokens.len()).unwrap().feed(&tokens, Want::Routing).unwrap()
}

/// The first token that takes one of the two near-tied experts, and would rather have the one that is ahead.
fn first_near_tie(model: &Model) -> usize {
    let fed = fed(model);
    let rows = fed.experts[1].chunks(2).zip(fed.router_logits[1].chunks(6));
    let parts = |(e, logits): (&[i32], &[f32])| e.contains(&1) && !e.contains(&4) && logits[1] > 0.0;
    rows.map(parts).position(|parts| parts).unwrap()
}

#[test]
fn every_kind_of_model_agrees_with_itself_and_with_its_choices_replayed() {
    for (name, config) in zoo() {
        let (_, model) = lively(&config, SEED);
        let reference = Reference::new(&model, &PROMPT[..7], MORE).unwrap();
        let parity = reference.compare(&model).unwrap();
        assert_eq!((parity.free, parity.free_agreed, parity.router_agreement), (0.0, 0.0, 1.0), "{name}");
        assert_eq!((parity.first, parity.widest), (None, None), "{name}");
        assert!(parity.replayed <= 1e-6, "{name}: {parity:?}");
        parity.check().unwrap();

        let tokens = reference.tokens();
        assert_eq!(tokens.len(), 7 + MORE);
        let mut decoder = Decoder::new(&model, 13).unwrap();
        let logits = decoder.feed(&PROMPT[..7], Want::Last).unwrap().logits;
        assert_eq!(tokens[7..], decoder.greedy(&logits, MORE).unwrap(), "{name}");
    }
}

#[test]
fn a_near_tie_of_the_router_is_found_and_its_consequences_go_with_the_choices_replayed() {
    let (a, b, _) = near_tied();
    let token = first_near_tie(&a);
    assert!(token > 0, "some token comes before, so that there is something to agree");
    let parity = compare(&a, &b);
    assert_eq!(parity.first, Some(Parting { token, layer: Some(1), gap: 0.0 }));
    assert!(parity.widest.unwrap().gap <= NEAR_TIE && parity.free_agreed <= 1e-5, "{parity:?}");
    assert!(parity.free > 100.0 * TIGHT && parity.router_agreement < 1.0, "{parity:?}");
    assert!(parity.replayed <= 1e-5, "{parity:?}");
    parity.check().unwrap();
}

#[test]
fn another_choice_that_is_no_near_tie_is_a_fault() {
    let ((_, a), (_, b)) = (tied(0.9), tied(1.1));
    let parity = compare(&a, &b);
    let parting = parity.widest.unwrap();
    assert!(parting.layer == Some(1) && parting.gap > 100.0 * NEAR_TIE, "{parting}");
    let fault = parity.check().unwrap_err();
    assert_eq!(fault, ParityFault::Choice(parting));
    assert!(fault.to_string().contains(&format!("token {}, layer 1", parting.token)), "{fault}");
}

#[test]
fn a_near_tie_excuses_only_what_it_can_have_caused() {
    let (a, b, device) = near_tied();
    let token = first_near_tie(&a);
    // An earlier layer goes wrong at a later token, which has seen nothing of the near-tie there.
    set_row(&device, &b, router(&b, 0), 3, 3, 1.05);
    let parity = compare(&a, &b);
    assert_eq!(parity.first, Some(Parting { token, layer: Some(1), gap: 0.0 }));
    let ParityFault::Choice(parting) = parity.check().unwrap_err() else { panic!("{parity:?}") };
    assert!(parting.token > token && parting.layer == Some(0), "{parting}");
}

#[test]
fn errors_hide_neither_before_nor_after_a_near_tie() {
    let (a, b, device) = near_tied();
    let token = first_near_tie(&a);
    let tokens = Reference::new(&a, &PROMPT, MORE).unwrap().tokens().to_vec();
    // An embedding that is slightly wrong: of a token before, and of one that only comes after.
    let embed = b.table.weights.embed;
    let row = tokens[0] as usize;
    set_row(&device, &b, embed, row, row, 1.002);
    let fault = compare(&a, &b).check().unwrap_err();
    assert!(matches!(fault, ParityFault::Free(x) if x > TIGHT), "{fault}");

    let (a, b, device) = near_tied();
    let row = *tokens[token + 1..].iter().find(|id| !tokens[..=token].contains(id)).unwrap() as usize;
    set_row(&device, &b, embed, row, row, 1.002);
    let parity = compare(&a, &b);
    assert_eq!(parity.first, Some(Parting { token, layer: Some(1), gap: 0.0 }));
    let fault = parity.check().unwrap_err();
    assert!(matches!(fault, ParityFault::Replayed(x) if x > TIGHT), "{fault}");

    // Numbers that are none.
    let norm = b.weights.tensor(b.table.weights.norm);
    write(&device, &norm, &vec![f64::NAN; norm.elems()]);
    assert!(compare(&a, &b).check().is_err());
}

#[test]
fn a_near_tie_of_the_next_token_is_found_and_changes_nothing_after_it() {
    let last = |model: &Model| {
        let logits = Decoder::new(model, 12).unwrap().feed(&PROMPT, Want::Last).unwrap().logits;
        let token = likeliest(&logits);
        (token as usize, logits[token as usize])
    };
    // The token after the prompt, and one of a higher number that is as likely.
    let (_, model) = lively(&config(), SEED);
    let (token, logit) = last(&model);
    assert!(logit > 0.0 && token < 18);
    let with_head = |factor| {
        let (device, model) = lively(&config(), SEED);
        set_row(&device, &model, model.table.weights.head, token, 18, factor);
        model
    };
    let parity = compare(&with_head(1.0), &with_head(1.0 + 1e-6));
    assert_eq!(parity.first, Some(Parting { token: 11, layer: None, gap: 0.0 }));
    assert_eq!(parity.router_agreement, 1.0);
    assert!(parity.free <= 1e-5 && parity.free == parity.free_agreed, "{parity:?}");
    parity.check().unwrap();

    let parity = compare(&with_head(0.99), &with_head(1.01));
    assert!(matches!(parity.first, Some(Parting { token: 11, layer: None, gap }) if gap > NEAR_TIE));
    let fault = parity.check().unwrap_err();
    assert!(matches!(fault, ParityFault::Choice(Parting { layer: None, .. })), "{fault}");
}

#[test]
fn what_cannot_be_compared_or_replayed_is_refused() {
    let (_, model) = lively(&config(), SEED);
    let (_, other) = lively(&tiny(19), SEED);
    let reference = Reference::new(&model, &[1], 0).unwrap();
    assert_eq!(reference.tokens(), [1]);
    reference.compare(&model).unwrap().check().unwrap();
    assert!(matches!(reference.compare(&other), Err(Error::DifferentModels)));
    assert!(Reference::new(&model, &[], 3).is_err());

    let mut decoder = Decoder::new(&model, 4).unwrap();
    let wrong: [&[&[i32]]; 4] = [
        &[&[0, 1], &[0, 1]],
        &[&[0, 1], &[0, 1], &[0, 1, 2]],
        &[&[0, 1], &[0, 6], &[0, 1]],
        &[&[0, 1], &[-1, 2], &[0, 1]],
    ];
    for choices in wrong {
        let e = decoder.feed_routed(&[1], Want::Last, Some(choices)).unwrap_err();
        assert!(matches!(e, Error::Choices { tokens: 1, layers: 3, experts: 6, per_token: 2 }), "{e}");
    }
    assert_eq!(decoder.length(), 0);

    // Choices that are replayed are the ones that are reported.
    let choices: [&[i32]; 3] = [&[0, 1], &[5, 2], &[3, 4]];
    let fed = decoder.feed_routed(&[1], Want::Routing, Some(&choices)).unwrap();
    assert_eq!(fed.experts, choices.map(<[i32]>::to_vec));
}
