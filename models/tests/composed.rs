//! A device that has only the core ops trains and decodes like one that has every op.

mod common;

use common::{batch, lively_on, zoo};
use halite_hal::Device;
use halite_hal::devices::CoreOnly;
use halite_hal::reference::ReferenceDevice;
use halite_models::inference::{Decoder, Want};
use halite_models::training::{StepReport, Trainer};
use std::sync::Arc;

/// What a model does in three steps and then says, and its last gradients.
fn course(core_only: bool, config: &halite_models::config::ModelConfig) -> (Vec<StepReport>, Vec<f64>) {
    let reference = Arc::new(ReferenceDevice::new());
    let device: Arc<dyn Device> = match core_only {
        true => Arc::new(CoreOnly::new(reference.clone())),
        false => reference.clone(),
    };
    let model = lively_on(device, &reference, config, 9);
    let vocab = config.vocab_size;
    let mut trainer = Trainer::new(model, Default::default(), 8).unwrap();
    let batches = [batch(1, vocab, &[3, 1, 4]), batch(2, vocab, &[8])];
    let reports = (0..3).map(|i| trainer.step(&batches[..1 + i % 2], 1e-2).unwrap()).collect();
    let mut numbers = Vec::new();
    for (i, p) in trainer.model.table.list.iter().enumerate() {
        numbers.extend(reference.read_f64(&trainer.model.weights.tensor(i)).unwrap());
        if p.trainable() {
            numbers.extend(reference.read_f64(&trainer.gradients().tensor(i)).unwrap());
        }
    }
    let mut decoder = Decoder::new(&trainer.model, 8).unwrap();
    for ids in [&[1u32, 2, 3][..], &[4], &[5]] {
        numbers.extend(decoder.feed(ids, Want::All).unwrap().logits.into_iter().map(f64::from));
    }
    (reports, numbers)
}

#[test]
fn core_ops_are_enough() {
    for (name, config) in zoo() {
        let ((want, numbers), (got, composed)) = (course(false, &config), course(true, &config));
        for (a, b) in want.iter().zip(&got) {
            assert!((a.loss - b.loss).abs() <= 1e-6 * a.loss, "{name}: {a:?} {b:?}");
            assert!((a.grad_norm - b.grad_norm).abs() <= 1e-6 * a.grad_norm, "{name}: {a:?} {b:?}");
            assert_eq!(a.expert_load, b.expert_load, "{name}");
        }
        assert_eq!(numbers.len(), composed.len());
        let far = numbers.iter().zip(&composed).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert!(far <= 2e-6, "{name}: {far:e}");
    }
}
