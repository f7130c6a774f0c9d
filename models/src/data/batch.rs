//! Packed batches: documents end to end in rows of equal length, in shuffled order for training and
//! in their own order for validation.
//!
//! Target i of the corpus is its token i; the input there is the token before it, which for the
//! first token of a document is an end-of-text token. So every token, first ones and end-of-text
//! included, is predicted exactly once an epoch, and a text is generated from an end-of-text token.

use std::sync::Arc;

use super::order::Permutation;
use super::{Corpus, DataError};

/// The target of places that do not count towards the loss.
pub const IGNORED: i32 = -100;

/// What is a sequence for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Each document: tokens do not see those of other documents in their row.
    Documents,
    /// Each row, whatever documents it holds.
    Rows,
}

/// Size and layout of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Rows per batch.
    pub batch_size: usize,
    /// Tokens per row.
    pub seq_len: usize,
    /// What is a sequence for attention.
    pub packing: Packing,
}

impl BatchShape {
    fn check(&self) -> Result<(), DataError> {
        let BatchShape { batch_size, seq_len, .. } = *self;
        match batch_size.checked_mul(seq_len) {
            Some(1..=0x7fff_ffff) => Ok(()),
            _ => Err(DataError::Shape { batch_size, seq_len }),
        }
    }
}

/// Rows of tokens, flattened to `[batch_size * seq_len]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Input tokens `[batch_size * seq_len]`.
    pub ids: Vec<i32>,
    /// The token after each input, or [`IGNORED`], `[batch_size * seq_len]`.
    pub targets: Vec<i32>,
    /// Place of each token in its sequence, from 0, `[batch_size * seq_len]`.
    pub positions: Vec<i32>,
    /// Sequences for attention `[sequences]`: `q_start, q_len, kv_start, kv_len` in flattened
    /// tokens. They cover all tokens, in order; padding is a sequence of its own.
    pub seqs: Vec<[i32; 4]>,
}

impl Batch {
    /// `rows` sequences of equal length, one after another in `ids`: each token is to predict the next of
    /// its row, the last of a row nothing.
    pub fn rows(ids: &[i32], rows: usize) -> Self {
        let len = (ids.len() / rows.max(1)).max(1);
        let mut batch =
            Batch { ids: ids.to_vec(), targets: Vec::new(), positions: Vec::new(), seqs: Vec::new() };
        for row in ids.chunks(len) {
            batch.targets.extend(&row[1..]);
            batch.targets.push(IGNORED);
            push_sequence(&mut batch, row.len());
        }
        batch
    }

    /// Number of targets that count towards the loss.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}

/// The rows of a corpus.
#[derive(Clone, Debug)]
struct Rows {
    corpus: Arc<Corpus>,
    shape: BatchShape,
}

impl Rows {
    fn new(corpus: Arc<Corpus>, shape: BatchShape) -> Result<Self, DataError> {
        shape.check()?;
        Ok(Self { corpus, shape })
    }

    fn count(&self) -> u64 {
        self.corpus.tokens().len().div_ceil(self.shape.seq_len) as u64
    }

    /// The batch of these rows; a row past the end is all padding.
    fn batch(&self, rows: impl Iterator<Item = u64>) -> Batch {
        let places = self.shape.batch_size * self.shape.seq_len;
        let mut batch = Batch {
            ids: Vec::with_capacity(places),
            targets: Vec::with_capacity(places),
            positions: Vec::with_capacity(places),
            seqs: Vec::new(),
        };
        rows.for_each(|row| self.push_row(&mut batch, row));
        batch
    }

    fn push_row(&self, batch: &mut Batch, row: u64) {
        let (tokens, starts) = (self.corpus.tokens(), self.corpus.starts());
        let seq_len = self.shape.seq_len;
        let end_of_text = self.corpus.end_of_text();
        let start = (row as usize).saturating_mul(seq_len).min(tokens.len());
        let end = (start + seq_len).min(tokens.len());
        let padding = seq_len - (end - start);

        let before = if start == 0 { end_of_text } else { tokens[start - 1] };
        let inputs = std::iter::once(&before).chain(&tokens[start..end]).take(end - start);
        batch.ids.extend(inputs.map(|&id| id as i32));
        batch.ids.extend(std::iter::repeat_n(end_of_text as i32, padding));
        batch.targets.extend(tokens[start..end].iter().map(|&id| id as i32));
        batch.targets.extend(std::iter::repeat_n(IGNORED, padding));

        if self.shape.packing == Packing::Rows {
            push_sequence(batch, seq_len);
            return;
        }
        let mut at = start;
        while at < end {
            // The first document bound after `at`: there is one, as the last bound is the end of all.
            let bound = starts[starts.partition_point(|&bound| bound <= at)].min(end);
            push_sequence(batch, bound - at);
            at = bound;
        }
        if padding > 0 {
            push_sequence(batch, padding);
        }
    }
}

/// Adds the sequence of the next `len` tokens.
fn push_sequence(batch: &mut Batch, len: usize) {
    let (start, len) = (batch.positions.len() as i32, len as i32);
    batch.seqs.push([start, len, start, len]);
    batch.positions.extend(0..len);
}

/// Where training stands in its data: everything needed to go on with the next batch.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataState {
    /// Seed of the order.
    pub seed: u64,
    /// Tokens per row.
    pub seq_len: u64,
    /// Times that the corpus was seen completely.
    pub epoch: u64,
    /// Rows seen in this epoch.
    pub row: u64,
    /// Hash of the corpus.
    pub corpus: String,
}

/// Training batches without end: each epoch visits all rows once, in an order of its own.
#[derive(Clone, Debug)]
pub struct TrainBatches {
    rows: Rows,
    seed: u64,
}

impl TrainBatches {
    /// Batches of a corpus in the order given by `seed`. An error for a shape without tokens or with
    /// 2^31 or more.
    pub fn new(corpus: Arc<Corpus>, shape: BatchShape, seed: u64) -> Result<Self, DataError> {
        Ok(Self { rows: Rows::new(corpus, shape)?, seed })
    }

    /// Rows in an epoch; the last row of the corpus may be padded.
    pub fn rows_per_epoch(&self) -> u64 {
        self.rows.count()
    }

    /// Batch number `index`, a function of corpus, shape, seed and index. A batch may hold the end
    /// of one epoch and the beginning of the next.
    pub fn batch(&self, index: u64) -> Batch {
        let (first, size) = (self.first_row(index), self.rows.shape.batch_size as u64);
        self.rows.batch((first..first + size).map(|row| {
            let (epoch, place) = (row / self.rows.count(), row % self.rows.count());
            Permutation::new(self.rows.count(), self.seed, epoch).at(place)
        }))
    }

    /// The state before batch number `index`.
    pub fn state(&self, index: u64) -> DataState {
        let row = self.first_row(index);
        DataState {
            seed: self.seed,
            seq_len: self.rows.shape.seq_len as u64,
            epoch: row / self.rows.count(),
            row: row % self.rows.count(),
            corpus: self.rows.corpus.hash().into(),
        }
    }

    /// The number of the batch that a saved state stands before. An error if corpus, seed or
    /// `seq_len` differ, since the order would, or if the state is not at the start of a batch,
    /// which a changed batch size can cause.
    pub fn resume(&self, state: &DataState) -> Result<u64, DataError> {
        let given = self.state(0);
        if state.corpus != given.corpus {
            return Err(DataError::CorpusChanged { saved: state.corpus.clone(), given: given.corpus });
        }
        for (setting, saved, given) in
            [("seed", state.seed, given.seed), ("seq_len", state.seq_len, given.seq_len)]
        {
            if saved != given {
                return Err(DataError::StateMismatch { setting, saved, given });
            }
        }
        let (rows, batch_size) = (self.rows.count(), self.rows.shape.batch_size);
        let row = state.epoch.checked_mul(rows).and_then(|row| row.checked_add(state.row));
        match row {
            Some(row) if state.row < rows && row % batch_size as u64 == 0 => Ok(row / batch_size as u64),
            _ => Err(DataError::Misaligned { epoch: state.epoch, row: state.row, batch_size, rows }),
        }
    }

    fn first_row(&self, index: u64) -> u64 {
        index * self.rows.shape.batch_size as u64
    }
}

/// Validation batches: every token once, in the order of the corpus. The last batch is filled up
/// with ignored targets, so that all batches have one shape.
#[derive(Clone, Debug)]
pub struct ValidationBatches {
    rows: Rows,
    next: u64,
}

impl ValidationBatches {
    /// Batches of a corpus from its beginning. An error for a shape without tokens or with 2^31 or
    /// more.
    pub fn new(corpus: Arc<Corpus>, shape: BatchShape) -> Result<Self, DataError> {
        Ok(Self { rows: Rows::new(corpus, shape)?, next: 0 })
    }
}

impl Iterator for ValidationBatches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let first = self.next;
        if first >= self.rows.count() {
            return None;
        }
        self.next += self.rows.shape.batch_size as u64;
        Some(self.rows.batch(first..self.next))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rows.count().saturating_sub(self.next);
        let batches = left.div_ceil(self.rows.shape.batch_size as u64) as usize;
        (batches, Some(batches))
    }
}

impl ExactSizeIterator for ValidationBatches {}

#[cfg(test)]
mod tests;
