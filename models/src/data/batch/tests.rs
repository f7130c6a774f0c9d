//! Tests of packing and order.

use super::*;
use proptest::prelude::*;

const END: u32 = 99;

/// A corpus of documents of these lengths whose tokens count up from 100: no two are the same.
fn corpus(lengths: &[usize]) -> Arc<Corpus> {
    let mut next = 100;
    let documents: Vec<Vec<u32>> = lengths
        .iter()
        .map(|&len| {
            next += len as u32;
            (next - len as u32..next).collect()
        })
        .collect();
    Arc::new(Corpus::from_ids(&documents, END, 1))
}

fn shape(batch_size: usize, seq_len: usize) -> BatchShape {
    BatchShape { batch_size, seq_len, packing: Packing::Documents }
}

#[test]
fn rows_hold_documents_as_separate_sequences() {
    let batches: Vec<Batch> = ValidationBatches::new(corpus(&[2, 3]), shape(2, 4)).unwrap().collect();
    assert_eq!(batches.len(), 1);
    let (e, no) = (END as i32, IGNORED);
    assert_eq!(batches[0].ids, [e, 100, 101, e, 102, 103, 104, e]);
    assert_eq!(batches[0].targets, [100, 101, e, 102, 103, 104, e, no]);
    assert_eq!(batches[0].positions, [0, 1, 2, 0, 0, 1, 2, 0]);
    assert_eq!(batches[0].seqs, [[0, 3, 0, 3], [3, 1, 3, 1], [4, 3, 4, 3], [7, 1, 7, 1]]);
    assert_eq!(batches[0].target_count(), 7);
}

#[test]
fn a_row_can_be_one_sequence() {
    let shape = BatchShape { packing: Packing::Rows, ..shape(2, 4) };
    let batch = ValidationBatches::new(corpus(&[2, 3]), shape).unwrap().next().unwrap();
    assert_eq!(batch.positions, [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(batch.seqs, [[0, 4, 0, 4], [4, 4, 4, 4]]);
    assert_eq!(batch.targets[7], IGNORED);
}

#[test]
fn the_last_validation_batch_is_filled_with_ignored_rows() {
    let mut batches = ValidationBatches::new(corpus(&[8]), shape(2, 3)).unwrap();
    assert_eq!(batches.len(), 2);
    assert_eq!(batches.next().unwrap().target_count(), 6);
    let last = batches.next().unwrap();
    assert_eq!(last.targets, [106, 107, END as i32, IGNORED, IGNORED, IGNORED]);
    assert_eq!(last.seqs, [[0, 3, 0, 3], [3, 3, 3, 3]]);
    assert!(batches.next().is_none());
    assert_eq!(batches.len(), 0);
}

#[test]
fn resuming_goes_on_exactly() {
    let train = TrainBatches::new(corpus(&[7, 30, 2, 11]), shape(3, 4), 5).unwrap();
    assert_eq!(train.rows_per_epoch(), 14);
    let json = serde_json::to_string(&train.state(17)).unwrap();
    let state: DataState = serde_json::from_str(&json).unwrap();
    assert_eq!((state.epoch, state.row), (3, 9));
    let again = TrainBatches::new(corpus(&[7, 30, 2, 11]), shape(3, 4), 5).unwrap();
    let index = again.resume(&state).unwrap();
    assert_eq!(index, 17);
    assert_eq!(again.batch(index), train.batch(17));
    assert_ne!(train.batch(16), train.batch(17));
    // Another batch size goes on at the same row where it can.
    let single = TrainBatches::new(corpus(&[7, 30, 2, 11]), shape(1, 4), 5).unwrap();
    let first = single.batch(single.resume(&state).unwrap());
    assert_eq!(first.ids, train.batch(17).ids[..4]);
}

#[test]
fn resuming_with_anything_that_changes_the_order_is_refused() {
    let train = |lengths, shape, seed| TrainBatches::new(corpus(lengths), shape, seed).unwrap();
    let state = train(&[9, 9], shape(3, 4), 5).state(1);
    let error = train(&[9, 8], shape(3, 4), 5).resume(&state).unwrap_err();
    assert!(matches!(&error, DataError::CorpusChanged { saved, given }
        if *saved == state.corpus && saved != given));
    let error = train(&[9, 9], shape(3, 4), 6).resume(&state).unwrap_err();
    assert!(matches!(error, DataError::StateMismatch { setting: "seed", saved: 5, given: 6 }));
    let error = train(&[9, 9], shape(3, 5), 5).resume(&state).unwrap_err();
    assert!(matches!(error, DataError::StateMismatch { setting: "seq_len", saved: 4, given: 5 }));
    let error = train(&[9, 9], shape(2, 4), 5).resume(&state).unwrap_err();
    assert!(matches!(error, DataError::Misaligned { row: 3, batch_size: 2, .. }));
    let outside = DataState { row: 5, ..state };
    assert!(train(&[9, 9], shape(1, 4), 5).resume(&outside).is_err());
}

#[test]
fn shapes_without_tokens_or_with_too_many_are_errors() {
    for (batch_size, seq_len) in [(0, 4), (4, 0), (1 << 16, 1 << 15), (usize::MAX, 2)] {
        let error = TrainBatches::new(corpus(&[3]), shape(batch_size, seq_len), 0).unwrap_err();
        assert!(matches!(error, DataError::Shape { .. }));
        assert!(ValidationBatches::new(corpus(&[3]), shape(batch_size, seq_len)).is_err());
    }
}

/// What holds for any batch: sequences cover it in order, positions count up in each, inputs are the
/// targets one later, and with separate documents a sequence after another begins with end-of-text.
fn check(batch: &Batch, shape: BatchShape) {
    let places = shape.batch_size * shape.seq_len;
    assert_eq!((batch.ids.len(), batch.targets.len(), batch.positions.len()), (places, places, places));
    let mut next = 0;
    for &[start, len, kv_start, kv_len] in &batch.seqs {
        assert_eq!((start, kv_start, kv_len), (next, start, len));
        let range = start as usize..(start + len) as usize;
        assert!(batch.positions[range.clone()].iter().copied().eq(0..len));
        for i in range.clone().skip(1).filter(|&i| batch.targets[i] != IGNORED) {
            assert_eq!(batch.ids[i], batch.targets[i - 1]);
            assert!(shape.packing == Packing::Rows || batch.ids[i] != END as i32);
        }
        if range.start % shape.seq_len != 0 {
            assert_eq!(batch.ids[range.start], END as i32);
        }
        // No sequence crosses from one row into the next.
        assert_eq!(range.start / shape.seq_len, (range.end - 1) / shape.seq_len);
        next += len;
    }
    assert_eq!(next as usize, places);
}

fn shapes() -> impl Strategy<Value = BatchShape> {
    let packing = prop_oneof![Just(Packing::Documents), Just(Packing::Rows)];
    (1usize..6, 1usize..12, packing).prop_map(|(batch_size, seq_len, packing)| BatchShape {
        batch_size,
        seq_len,
        packing,
    })
}

fn counted(batches: impl Iterator<Item = Batch>) -> Vec<i32> {
    batches.flat_map(|batch| batch.targets).filter(|&target| target != IGNORED).collect()
}

proptest! {
    #[test]
    fn validation_predicts_every_token_once_in_order(
        lengths in prop::collection::vec(1usize..20, 1..12), shape in shapes()
    ) {
        let corpus = corpus(&lengths);
        let batches = ValidationBatches::new(corpus.clone(), shape).unwrap();
        batches.clone().for_each(|batch| check(&batch, shape));
        let expected: Vec<i32> = corpus.tokens().iter().map(|&id| id as i32).collect();
        prop_assert_eq!(counted(batches), expected);
    }

    #[test]
    fn every_epoch_predicts_every_token_once(
        lengths in prop::collection::vec(1usize..20, 1..12), shape in shapes(), seed in any::<u64>()
    ) {
        let corpus = corpus(&lengths);
        let train = TrainBatches::new(corpus.clone(), shape, seed).unwrap();
        // After as many batches as an epoch has rows, exactly `batch_size` epochs are over.
        let batches: Vec<Batch> = (0..train.rows_per_epoch()).map(|index| train.batch(index)).collect();
        batches.iter().for_each(|batch| check(batch, shape));
        let mut expected: Vec<i32> =
            corpus.tokens().iter().flat_map(|&id| vec![id as i32; shape.batch_size]).collect();
        expected.sort_unstable();
        let mut found = counted(batches.into_iter());
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
