//! Tokenizers out of the metadata of a GGUF file (`tokenizer.ggml.*`).
//!
//! `gpt2` is byte-level BPE with a pattern that cuts words; `llama` is SentencePiece's BPE, whose merges
//! follow from scores, with bytes for characters that the vocabulary lacks. Ids are those that llama.cpp
//! gives, which are the models' own; it adds nothing that the file doesn't carry, so that text isn't brought into
//! a Unicode normal form first.

use std::collections::HashMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::{SpecialToken, Template, TemplateProcessing};
use tokenizers::{AddedToken, decoders, normalizers};

use super::pre::Kind;
use super::{Tokenizer, TokenizerError};

/// The longest that all merges made of scores may be together, in bytes: a thousand times those of a large
/// vocabulary. Tokens that are prefixes of each other could ask for any amount.
const MAX_MERGES: usize = 1 << 28;

/// What stands for a space in SentencePiece's vocabularies.
const SPACE: &str = "▁";

// Types of tokens.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const BYTE: i32 = 6;

/// What a GGUF file says about its tokenizer; what it doesn't say is empty or `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `tokenizer.ggml.model`: "gpt2" or "llama".
    pub model: String,
    /// `tokenizer.ggml.pre`: how "gpt2" cuts words; "default" where the file doesn't say.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
    /// 6 byte. Empty: all are normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: two tokens with a space between, the most important merge first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.scores`, by id: the highest is merged first. Only "llama" has them.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.bos_token_id`: begin of text.
    pub bos_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`: end of text.
    pub eos_id: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: end of a turn.
    pub eot_id: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk_id: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`: whether "llama" puts a space before a text.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

/// Why the metadata of a GGUF file don't make a tokenizer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufVocabError {
    /// A kind of tokenizer that Halite doesn't have.
    #[error("tokenizer.ggml.model is {0:?}; Halite has gpt2 and llama")]
    Model(String),
    /// A way of cutting words that Halite doesn't know.
    #[error("tokenizer.ggml.pre is {name:?}, which is not known; known are: {known}")]
    Pre {
        /// The name.
        name: String,
        /// All names that are known.
        known: String,
    },
    /// There are no tokens.
    #[error("tokenizer.ggml.tokens is empty or missing")]
    NoTokens,
    /// Tokens of "gpt2" that nothing makes.
    #[error("tokenizer.ggml.merges is empty or missing, but tokens are longer than a character")]
    NoMerges,
    /// A list hasn't one entry for each token.
    #[error("tokenizer.ggml.{key} has {len} entries for {tokens} tokens")]
    Length {
        /// The list.
        key: &'static str,
        /// Its length.
        len: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// Two ids have the same token.
    #[error("tokens {first} and {second} are both {token:?}")]
    Twice {
        /// The token.
        token: String,
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
    },
    /// A special token's id is outside the vocabulary.
    #[error("tokenizer.ggml.{key}_token_id is {id}, but there are {tokens} tokens")]
    Id {
        /// Which special token.
        key: &'static str,
        /// The id.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A special token is to be added that isn't there.
    #[error("tokenizer.ggml.add_{key}_token is true, but tokenizer.ggml.{key}_token_id is missing")]
    Absent {
        /// Which special token.
        key: &'static str,
    },
    /// A merge isn't two tokens that make a third.
    #[error("merge {index} is {merge:?}, not two tokens that make a third")]
    Merge {
        /// Its place in the list.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// Scores ask for more merges than any real vocabulary.
    #[error("the tokens of tokenizer.ggml.tokens can be merged in too many ways")]
    TooManyMerges,
}

impl Tokenizer {
    /// The tokenizer of a GGUF file. Control tokens are special; they and user-defined tokens are found in a
    /// text before all else.
    pub fn from_gguf(mut vocab: GgufVocab) -> Result<Self, TokenizerError> {
        // No text has an empty token; llama.cpp gives them these names, so that each has its own.
        for (id, token) in vocab.tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[EMPTY_{id}]");
        }
        let ids = vocab.check()?;
        let inner = match vocab.model.as_str() {
            "gpt2" => vocab.byte_level(&ids)?,
            "llama" => vocab.sentencepiece(&ids)?,
            _ => return Err(GgufVocabError::Model(vocab.model).into()),
        };
        let mut tokenizer = Tokenizer::new(inner);
        (tokenizer.bos, tokenizer.eos, tokenizer.eot) = (vocab.bos_id, vocab.eos_id, vocab.eot_id);
        Ok(tokenizer)
    }
}

impl GgufVocab {
    /// Checks lengths and ids, and gives the id of each token.
    fn check(&self) -> Result<HashMap<&str, u32>, GgufVocabError> {
        let tokens = self.tokens.len();
        if tokens == 0 || u32::try_from(tokens).is_err() {
            return Err(GgufVocabError::NoTokens);
        }
        for (key, len) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            let needed = key == "scores" && self.model == "llama";
            if len != tokens && (needed || len != 0) {
                return Err(GgufVocabError::Length { key, len, tokens });
            }
        }
        for (key, id) in [
            ("bos", self.bos_id),
            ("eos", self.eos_id),
            ("eot", self.eot_id),
            ("unknown", self.unk_id),
            ("padding", self.pad_id),
        ] {
            if let Some(id) = id.filter(|&id| id as usize >= tokens) {
                return Err(GgufVocabError::Id { key, id, tokens });
            }
        }
        let mut ids = HashMap::with_capacity(tokens);
        for (id, token) in self.tokens.iter().enumerate() {
            let second = id as u32;
            if let Some(first) = ids.insert(token.as_str(), second) {
                return Err(GgufVocabError::Twice { token: token.clone(), first, second });
            }
        }
        Ok(ids)
    }

    /// Special tokens by the names that chat templates know them by, `bos_token` and so on.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = (String, String)> {
        let ids = [("bos", self.bos_id), ("eos", self.eos_id), ("unk", self.unk_id), ("pad", self.pad_id)];
        let token = |(name, id): (&str, Option<u32>)| {
            Some((format!("{name}_token"), self.tokens.get(id? as usize)?.clone()))
        };
        ids.into_iter().filter_map(token)
    }

    fn token_type(&self, id: u32) -> i32 {
        self.token_types.get(id as usize).copied().unwrap_or(NORMAL)
    }

    fn model_vocab(&self) -> Vocab {
        self.tokens.iter().cloned().zip(0..).collect()
    }

    fn byte_level(&self, ids: &HashMap<&str, u32>) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let name = self.pre.as_deref().unwrap_or("default");
        let kind = Kind::named(name)
            .ok_or_else(|| GgufVocabError::Pre { name: name.into(), known: Kind::names() })?;
        // Bytes alone need none.
        let long =
            |(id, token): (u32, &String)| self.token_type(id) == NORMAL && token.chars().nth(1).is_some();
        if self.merges.is_empty() && (0..).zip(&self.tokens).any(long) {
            return Err(GgufVocabError::NoMerges.into());
        }
        let merge = |(index, merge): (usize, &String)| {
            // A token may begin with a space, but has none elsewhere.
            let space = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
            let pair = space.map(|at| (&merge[..at], &merge[at + 1..]));
            let known = |&(a, b): &(&str, &str)| {
                ids.contains_key(a) && ids.contains_key(b) && ids.contains_key(format!("{a}{b}").as_str())
            };
            match pair.filter(known) {
                Some((a, b)) => Ok((a.to_string(), b.to_string())),
                None => Err(GgufVocabError::Merge { index, merge: merge.clone() }),
            }
        };
        let merges: Merges = self.merges.iter().enumerate().map(merge).collect::<Result<_, _>>()?;
        let model = BPE::builder()
            .vocab_and_merges(self.model_vocab(), merges)
            .ignore_merges(kind.ignore_merges)
            .build()
            .map_err(TokenizerError::Failed)?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(kind.pre_tokenizer()?));
        inner.with_decoder(Some(ByteLevel::default()));
        self.finish(inner, kind.add_bos)
    }

    fn sentencepiece(&self, ids: &HashMap<&str, u32>) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let mut builder = BPE::builder()
            .vocab_and_merges(self.model_vocab(), self.merges_of_scores(ids)?)
            .byte_fallback(true)
            .fuse_unk(true);
        if let Some(unk) = self.unk_id {
            builder = builder.unk_token(self.tokens[unk as usize].clone());
        }
        let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(TokenizerError::Failed)?);
        let prefix = self.add_space_prefix.unwrap_or(true);

        let replace = |from: &str, to: &str| Replace::new(from, to).map_err(TokenizerError::Failed);
        let mut steps = vec![NormalizerWrapper::Replace(replace(" ", SPACE)?)];
        let mut back = vec![
            DecoderWrapper::Replace(replace(SPACE, " ")?),
            DecoderWrapper::ByteFallback(ByteFallback::new()),
            DecoderWrapper::Fuse(Fuse::new()),
        ];
        if prefix {
            steps.insert(0, NormalizerWrapper::Prepend(Prepend::new(SPACE.into())));
            back.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
        }
        let normalizer = NormalizerWrapper::Sequence(normalizers::Sequence::new(steps));
        inner.with_normalizer(Some(normalizer)).map_err(TokenizerError::Failed)?;
        inner.with_decoder(Some(DecoderWrapper::Sequence(decoders::sequence::Sequence::new(back))));
        self.finish(inner, true)
    }

    /// Merges such that the pair whose token has the highest score is merged first, as SentencePiece does:
    /// each way to make a token of two others. Of the ways to make the same token, that with the longest left
    /// part comes first, which in runs of one character is the leftmost. Of tokens with the same score that
    /// with the lower id comes first, where SentencePiece takes the leftmost in the text.
    fn merges_of_scores(&self, ids: &HashMap<&str, u32>) -> Result<Merges, GgufVocabError> {
        let mergeable = |id: u32| !matches!(self.token_type(id), UNKNOWN | CONTROL | USER_DEFINED | BYTE);
        let mut order: Vec<u32> = (0..self.tokens.len() as u32).filter(|&id| mergeable(id)).collect();
        // A stable sort: equal scores stay in the order of ids.
        order.sort_by(|&a, &b| self.scores[b as usize].total_cmp(&self.scores[a as usize]));
        let part = |text: &str| ids.get(text).is_some_and(|&id| mergeable(id));
        let (mut merges, mut bytes) = (Vec::new(), 0);
        for id in order {
            let token = self.tokens[id as usize].as_str();
            let cuts = token.char_indices().rev().map(|(at, _)| token.split_at(at));
            for (left, right) in cuts.filter(|&(left, right)| part(left) && part(right)) {
                bytes += token.len();
                if bytes > MAX_MERGES {
                    return Err(GgufVocabError::TooManyMerges);
                }
                merges.push((left.to_string(), right.to_string()));
            }
        }
        Ok(merges)
    }

    /// Marks special tokens, and adds what is put around a text.
    fn finish(
        &self,
        mut inner: tokenizers::Tokenizer,
        add_bos: bool,
    ) -> Result<tokenizers::Tokenizer, TokenizerError> {
        let added = self.tokens.iter().zip(0..).filter_map(|(token, id)| match self.token_type(id) {
            UNKNOWN | CONTROL => Some(AddedToken::from(token.clone(), true).normalized(false)),
            USER_DEFINED => Some(AddedToken::from(token.clone(), false).normalized(false)),
            _ => None,
        });
        inner.add_tokens(added.collect::<Vec<_>>()).map_err(TokenizerError::Failed)?;

        let around = [
            ("bos", self.bos_id, self.add_bos.unwrap_or(add_bos && self.bos_id.is_some())),
            ("eos", self.eos_id, self.add_eos.unwrap_or(false)),
        ];
        let mut pieces = vec!["$A".to_string()];
        let mut specials = Vec::new();
        for (key, id, add) in around {
            if !add {
                continue;
            }
            let id = id.ok_or(GgufVocabError::Absent { key })?;
            let token = self.tokens[id as usize].clone();
            let at = if key == "bos" { 0 } else { pieces.len() };
            pieces.insert(at, key.into());
            let special = SpecialToken::new(key.into(), vec![id], vec![token]);
            specials.push(special.map_err(TokenizerError::Failed)?);
        }
        if !specials.is_empty() {
            let failed = |e: String| TokenizerError::Failed(e.into());
            let processor = TemplateProcessing::builder()
                .single(Template::try_from(pieces).map_err(failed)?)
                .special_tokens(specials)
                .build()
                .map_err(|e| failed(e.to_string()))?;
            inner.with_post_processor(Some(processor));
        }
        Ok(inner)
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
pub(super) mod tests;
