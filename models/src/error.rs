//! The error type of this crate.

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device refused or failed.
    #[error(transparent)]
    Device(#[from] halite_hal::Error),
    /// The configuration is impossible or not supported.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
    /// The model has no chat template, or one that fails.
    #[error(transparent)]
    Template(#[from] crate::chat::TemplateError),
    /// A GGUF file can't be read, or holds no model that is known.
    #[error(transparent)]
    Gguf(Box<crate::gguf::GgufError>),
    /// Sampling options are impossible, or logits aren't numbers.
    #[error(transparent)]
    Sampling(#[from] crate::sampling::SamplingError),
    /// More tokens than there is room for.
    #[error("{requested} tokens of context requested, 1 to {maximum} are possible")]
    ContextLength {
        /// Tokens asked for.
        requested: usize,
        /// The most that are possible.
        maximum: usize,
    },
    /// A token id that the model doesn't have.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: i64,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// A sequence that a decoder doesn't have, or that a step names twice.
    #[error("sequence {sequence} is named twice, or isn't one of the decoder's {sequences}")]
    Sequence {
        /// Its number.
        sequence: usize,
        /// How many there are.
        sequences: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A text is too short to be scored.
    #[error("the text has {tokens} tokens; two windows of the context, {wanted} tokens, are the least")]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// The fewest that will do.
        wanted: usize,
    },
    /// Choices of experts that can't be replayed.
    #[error(
        "experts to be replayed must be {per_token} of {experts} for each of {tokens} tokens in {layers} layers"
    )]
    Choices {
        /// Tokens of the batch.
        tokens: usize,
        /// Layers with experts.
        layers: usize,
        /// Experts in a layer.
        experts: usize,
        /// Experts that a token chooses.
        per_token: usize,
    },
    /// Models that are to be compared aren't one model.
    #[error("the models to compare have different configurations")]
    DifferentModels,
    /// Tokenizer and model don't belong together.
    #[error("the tokenizer knows {known} tokens, the model only {vocab_size}")]
    TokenizerTooLarge {
        /// Tokens that the tokenizer knows.
        known: usize,
        /// The model's vocabulary size.
        vocab_size: usize,
    },
    /// Training went off: the loss or the gradient isn't a finite number.
    #[error(
        "step {step}: the loss is {loss} and the gradient norm {grad_norm}; \
         the weights are those before the step; a lower learning rate or a smaller clip may help"
    )]
    NotFinite {
        /// The step that was to be taken.
        step: u64,
        /// The loss.
        loss: f64,
        /// The norm of the gradient.
        grad_norm: f64,
    },
    /// No token of a batch has a target.
    #[error("no token of the batch has a target to learn")]
    NothingToLearn,
    /// The data can't be used.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// Weights can't be read or written.
    #[error(transparent)]
    Weights(#[from] crate::weights::WeightsError),
    /// A checkpoint can't be read or written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The learning rate's schedule is impossible.
    #[error(transparent)]
    Schedule(#[from] crate::schedule::ScheduleError),
    /// A setting of a run is impossible.
    #[error("{key} is {value}, but must be {wanted}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        wanted: &'static str,
    },
    /// No preset of that name.
    #[error("no preset {name:?}; there are: {}", crate::config::PRESETS.join(", "))]
    Preset {
        /// The name as given.
        name: String,
    },
    /// A file can't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A checkpoint's state isn't what this version saves.
    #[error("the checkpoint's {what} state is not what this version of Halite saves")]
    State {
        /// Which part.
        what: &'static str,
    },
}
