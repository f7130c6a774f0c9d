//! Training data: documents from files, tokens, the train/validation split, and packed batches.
//!
//! Everything here is deterministic. The same files, options and seed give the same batches, and a
//! batch is a function of its index, so that a run resumes exactly where it stopped.

mod batch;
mod bigram;
mod corpus;
mod order;
mod source;
mod split;

use std::path::PathBuf;

use crate::tokenizer::TokenizerError;

pub use batch::{Batch, BatchShape, DataState, IGNORED, Packing, TrainBatches, ValidationBatches};
pub use bigram::bigram_bits_per_byte;
pub use corpus::Corpus;
pub use order::Permutation;
pub use source::{Document, read_documents};
pub use split::{Split, split};

/// What can go wrong with data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A path does not exist or cannot be read.
    #[error("cannot read data {path}: {source}")]
    Read {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A path is neither a file nor a folder.
    #[error("data {path} is neither a file nor a folder")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A named file is not text.
    #[error("data {path} is not UTF-8 text: binary content at byte {offset}")]
    Binary {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is NUL or not valid UTF-8.
        offset: usize,
    },
    /// A glob pattern cannot be understood.
    #[error("data pattern {pattern} is malformed: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Where and why.
        source: glob::PatternError,
    },
    /// A glob pattern matches nothing.
    #[error("data pattern {pattern} matches no file")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A line of a .jsonl file is not an object with the text.
    #[error("data {path}, line {line}: {reason}")]
    Jsonl {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no text at all.
    #[error("no text in {origin}")]
    Empty {
        /// Where text was looked for.
        origin: String,
    },
    /// The validation share is not a share.
    #[error("validation fraction is {0}, but must be at least 0 and below 1")]
    Fraction(f64),
    /// There is too little text for a part of it to be held out.
    #[error("{bytes} bytes of text are too few to hold out validation data: give more, or a fraction of 0")]
    TooSmall {
        /// All text in bytes.
        bytes: usize,
    },
    /// The tokenizer has no token to put between documents.
    #[error("the tokenizer has no end-of-text token: set one with set_eos_id")]
    NoEndOfText,
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A batch of this shape is impossible.
    #[error(
        "batches of {batch_size} rows of {seq_len} tokens are impossible: both must be at least 1, and their product below 2^31"
    )]
    Shape {
        /// Rows per batch.
        batch_size: usize,
        /// Tokens per row.
        seq_len: usize,
    },
    /// A saved state belongs to other data.
    #[error(
        "the training data changed: the checkpoint was trained on corpus {saved}, this one is {given}; resume with the same data, tokenizer, validation share and seed"
    )]
    CorpusChanged {
        /// Hash in the saved state.
        saved: String,
        /// Hash of the corpus at hand.
        given: String,
    },
    /// A saved state was made with another setting.
    #[error("the checkpoint was trained with {setting} {saved}, which cannot change to {given} on resume")]
    StateMismatch {
        /// The setting.
        setting: &'static str,
        /// Its value in the saved state.
        saved: u64,
        /// Its value now.
        given: u64,
    },
    /// A saved state points between two batches or outside the epoch.
    #[error(
        "data state at row {row} of epoch {epoch} is not at the start of a batch of {batch_size} rows, with {rows} rows an epoch"
    )]
    Misaligned {
        /// Epoch in the saved state.
        epoch: u64,
        /// Row in the epoch in the saved state.
        row: u64,
        /// Rows per batch now.
        batch_size: usize,
        /// Rows per epoch.
        rows: u64,
    },
}
