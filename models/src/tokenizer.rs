//! Text to token ids and back, through the `tokenizers` crate: Hugging Face `tokenizer.json` files,
//! the vocabularies of GGUF files, a byte-level tokenizer that needs no training, and byte-level BPE training.
//!
//! Everything made here is saved as a normal `tokenizer.json` that other software can load.
//! Truncation and padding settings in a loaded file are ignored: encoding never drops text.

mod bytes;
mod gguf;
mod pre;
mod stream;
mod to_gguf;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model as _};

use crate::replace::replace_file;
pub use gguf::{GgufVocab, GgufVocabError};
pub use stream::DecodeStream;

/// The end-of-text token of tokenizers made here.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Names of end-of-text tokens, tried in this order.
const EOS_NAMES: [&str; 6] =
    [END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>", "<|im_end|>"];

/// Names of begin-of-text tokens, tried in this order.
const BOS_NAMES: [&str; 5] =
    ["<s>", "<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>"];

/// Longest text in bytes given to the `tokenizers` crate at once where a text may be cut: its
/// working memory is a hundred times the text.
const MAX_BLOCK: usize = 256 << 10;

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("cannot read tokenizer {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write tokenizer {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not a tokenizer.
    #[error("{origin} is not a usable tokenizer.json: {source}")]
    Parse {
        /// Where the bytes came from.
        origin: String,
        /// The parser's reason.
        source: tokenizers::Error,
    },
    /// The metadata of a GGUF file don't make a tokenizer.
    #[error("GGUF vocabulary: {0}")]
    Gguf(#[from] GgufVocabError),
    /// The tokenizer's own rules failed on a text or on ids.
    #[error("tokenizer failed: {0}")]
    Failed(#[source] tokenizers::Error),
    /// An id outside the vocabulary.
    #[error("token id {id} is not in the vocabulary of {vocab_size} tokens")]
    UnknownId {
        /// The id asked for.
        id: u32,
        /// Number of ids, see [`Tokenizer::vocab_size`].
        vocab_size: usize,
    },
    /// The vocabulary asked for does not even hold all bytes.
    #[error("vocabulary of {asked} tokens is too small: byte-level BPE needs at least {min}")]
    VocabTooSmall {
        /// Vocabulary size asked for.
        asked: usize,
        /// Smallest possible size: 256 bytes and the end-of-text token.
        min: usize,
    },
}

/// What the `tokenizers` crate answers. It panics at some files that contradict themselves: an error here.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    // Nothing is left half-changed: what is called reads only, or makes something new.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    caught.unwrap_or_else(|_| Err("the tokenizers crate panicked: the file contradicts itself".into()))
}

/// A tokenizer and its begin- and end-of-text tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
}

impl Tokenizer {
    /// Loads a `tokenizer.json` file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|source| TokenizerError::Read { path: path.into(), source })?;
        Self::parse(&bytes, path.display().to_string())
    }

    /// Loads the contents of a `tokenizer.json`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        Self::parse(bytes, format!("input of {} bytes", bytes.len()))
    }

    fn parse(bytes: &[u8], origin: String) -> Result<Self, TokenizerError> {
        let parsed = guarded(|| {
            // The crate panics where a decoder isn't valid JSON, which is better said before.
            let _: serde_json::Value = serde_json::from_slice(bytes)?;
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
            inner.with_padding(None).with_truncation(None)?;
            Ok(inner)
        });
        parsed.map(Self::new).map_err(|source| TokenizerError::Parse { origin, source })
    }

    fn new(inner: tokenizers::Tokenizer) -> Self {
        let added = inner.get_added_tokens_decoder();
        let find = |names: &[&str]| {
            let special = |name: &&str| {
                added.iter().find(|(_, token)| token.special && token.content == *name).map(|(&id, _)| id)
            };
            names.iter().find_map(special)
        };
        let (bos, eos) = (find(&BOS_NAMES), find(&EOS_NAMES));
        let model = inner.get_model().get_vocab().into_values().max();
        let vocab_size = added.keys().copied().max().max(model).map_or(0, |id| id as usize + 1);
        Self { inner, vocab_size, bos, eos, eot: None }
    }

    /// The tokenizer whose ids 0 to 255 are the bytes and 256 is [`END_OF_TEXT`]: 257 tokens, no
    /// training, every text representable.
    pub fn byte_level() -> Self {
        let vocab: Vocab = (0..=255u8).map(|b| (bytes::byte_to_char(b).to_string(), u32::from(b))).collect();
        let mut inner = tokenizers::Tokenizer::new(BPE::new(vocab, Vec::new()));
        // Without merges there is nothing to gain from cutting the text into words first.
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
        inner.with_decoder(Some(ByteLevel::default()));
        inner
            .add_special_tokens([AddedToken::from(END_OF_TEXT, true)])
            .expect("adding a token needs no normalizer, which is all that can fail");
        Self::new(inner)
    }

    /// Trains byte-level BPE (Sennrich et al. 2016 over GPT-2's byte alphabet and word pattern) on
    /// `texts`, with [`END_OF_TEXT`] as token 0. The same texts give the same tokenizer.
    ///
    /// Pairs seen once are not merged, so that little text gives fewer than `vocab_size` tokens;
    /// [`vocab_size`](Self::vocab_size) of the result says how many. An error if `vocab_size` is
    /// below 257.
    pub fn train_bpe<I, S>(texts: I, vocab_size: usize) -> Result<Self, TokenizerError>
    where
        I: Iterator<Item = S> + Send,
        S: AsRef<str> + Send,
    {
        let min = 257;
        if vocab_size < min {
            return Err(TokenizerError::VocabTooSmall { asked: vocab_size, min });
        }
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet((0..=255).map(bytes::byte_to_char).collect::<HashSet<_>>())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build();
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        inner.with_decoder(Some(ByteLevel::default()));
        let blocks =
            texts.flat_map(|text| blocks(text.as_ref()).map(str::to_owned).collect::<Vec<_>>().into_iter());
        inner.train(&mut TrainerWrapper::BpeTrainer(trainer), blocks).map_err(TokenizerError::Failed)?;
        Ok(Self::new(inner))
    }

    /// The content of a `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        guarded(|| self.inner.to_string(true)).map_err(TokenizerError::Failed)
    }

    /// Writes a `tokenizer.json`; one that is there is replaced only when all is written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TokenizerError> {
        let path = path.as_ref();
        let json = self.to_json()?;
        replace_file(path, |out| out.write_all(json.as_bytes()))
            .map_err(|source| TokenizerError::Write { path: path.into(), source })
    }

    /// The ids of `text`. Special tokens written out in the text become their ids;
    /// `add_special` also adds those that the tokenizer puts around a text (begin-of-text, say).
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = guarded(|| self.inner.encode_fast(text, add_special));
        let encoding = encoding.map_err(TokenizerError::Failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of each text without added special tokens, encoded on all cores.
    ///
    /// Texts longer than 256 KiB are encoded in parts that end at a line end where there is one: the
    /// ids then decode to the same text, but may differ from [`encode`](Self::encode)'s at these cuts.
    pub fn encode_batch(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizerError> {
        let mut ids = vec![Vec::new(); texts.len()];
        let parts: Vec<(usize, &str)> = texts
            .iter()
            .enumerate()
            .flat_map(|(i, text)| blocks(text).map(move |block| (i, block)))
            .collect();
        // A batch holds a bounded amount of text, again for the crate's working memory.
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, part): &&(usize, &str)| {
                bytes += part.len();
                bytes <= 16 * MAX_BLOCK
            };
            let count = rest.iter().take_while(fits).count();
            let (batch, tail) = rest.split_at(count);
            let inputs: Vec<&str> = batch.iter().map(|&(_, part)| part).collect();
            let encodings = guarded(|| self.inner.encode_batch_fast(inputs, false));
            let encodings = encodings.map_err(TokenizerError::Failed)?;
            for (&(i, _), encoding) in batch.iter().zip(&encodings) {
                ids[i].extend_from_slice(encoding.get_ids());
            }
            rest = tail;
        }
        Ok(ids)
    }

    /// The text of `ids`. Bytes that are not valid UTF-8 become U+FFFD; ids outside the vocabulary
    /// (a model's may be padded beyond the tokenizer's) decode to nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        guarded(|| self.inner.decode(ids, skip_special)).map_err(TokenizerError::Failed)
    }

    /// Starts decoding tokens one at a time.
    pub fn stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }

    /// The smallest number above all ids: what a model's vocabulary must hold at least.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token by its name in the vocabulary (`Ġ` for a space in byte-level ones).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The name of a token in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that ends a text: found by its name among the special tokens, or set by
    /// [`set_eos_id`](Self::set_eos_id).
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The token that begins a text: found by its name among the special tokens, or set by
    /// [`set_bos_id`](Self::set_bos_id).
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a turn of a chat, where a GGUF file names one.
    pub fn eot_id(&self) -> Option<u32> {
        self.eot
    }

    /// Whether a token is found in a text before all else: a special one, or another that was added to the
    /// vocabulary.
    pub fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().contains_key(&id)
    }

    /// Sets the token that ends a text; an error for an id outside the vocabulary.
    pub fn set_eos_id(&mut self, id: u32) -> Result<(), TokenizerError> {
        self.eos = Some(self.known(id)?);
        Ok(())
    }

    /// Sets the token that begins a text; an error for an id outside the vocabulary.
    pub fn set_bos_id(&mut self, id: u32) -> Result<(), TokenizerError> {
        self.bos = Some(self.known(id)?);
        Ok(())
    }

    fn known(&self, id: u32) -> Result<u32, TokenizerError> {
        match self.inner.id_to_token(id) {
            Some(_) => Ok(id),
            None => Err(TokenizerError::UnknownId { id, vocab_size: self.vocab_size }),
        }
    }
}

/// Cuts a text into blocks of at most [`MAX_BLOCK`] bytes, at line ends where possible.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut limit = rest.len().min(MAX_BLOCK);
        while !rest.is_char_boundary(limit) {
            limit -= 1;
        }
        let cut = if limit == rest.len() {
            limit
        } else {
            rest.as_bytes()[..limit].iter().rposition(|&b| b == b'\n').map_or(limit, |i| i + 1)
        };
        let (block, tail) = rest.split_at(cut);
        rest = tail;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIXTURE: &str = "tests/data/tokenizer-512.json";

    #[derive(serde::Deserialize)]
    struct Sample {
        text: String,
        ids: Vec<u32>,
        ids_add_special_tokens: Vec<u32>,
        decoded: String,
        decoded_skip_special: String,
    }

    fn samples() -> Vec<Sample> {
        serde_json::from_str(include_str!("../tests/data/tokenizer-512-samples.json")).unwrap()
    }

    #[test]
    fn agrees_with_the_reference_implementation() {
        let tokenizer = Tokenizer::from_file(FIXTURE).unwrap();
        assert_eq!(tokenizer.vocab_size(), 512);
        assert!(samples().len() > 5);
        for sample in samples() {
            assert_eq!(tokenizer.encode(&sample.text, false).unwrap(), sample.ids, "{:?}", sample.text);
            assert_eq!(tokenizer.encode(&sample.text, true).unwrap(), sample.ids_add_special_tokens);
            assert_eq!(tokenizer.encode_batch(&[&sample.text]).unwrap(), std::slice::from_ref(&sample.ids));
            assert_eq!(tokenizer.decode(&sample.ids, false).unwrap(), sample.decoded);
            assert_eq!(tokenizer.decode(&sample.ids, true).unwrap(), sample.decoded_skip_special);
            for (skip, whole) in [(false, sample.decoded), (true, sample.decoded_skip_special)] {
                let mut stream = tokenizer.stream(skip);
                let mut text: String = sample.ids.iter().map(|&id| stream.push(id).unwrap()).collect();
                text += &stream.finish().unwrap();
                assert_eq!(text, whole);
            }
        }
    }

    #[test]
    fn finds_special_tokens_and_takes_others() {
        let mut tokenizer = Tokenizer::from_file(FIXTURE).unwrap();
        assert_eq!((tokenizer.eos_id(), tokenizer.bos_id()), (Some(509), None));
        tokenizer.set_eos_id(tokenizer.token_to_id("<|im_end|>").unwrap()).unwrap();
        tokenizer.set_bos_id(509).unwrap();
        assert_eq!((tokenizer.eos_id(), tokenizer.bos_id()), (Some(511), Some(509)));
        assert_eq!(tokenizer.id_to_token(511).as_deref(), Some("<|im_end|>"));
        let error = tokenizer.set_eos_id(512).unwrap_err();
        assert_eq!(error.to_string(), "token id 512 is not in the vocabulary of 512 tokens");
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        let missing = Tokenizer::from_file("no/such/tokenizer.json").unwrap_err();
        assert!(matches!(missing, TokenizerError::Read { .. }));
        assert!(missing.to_string().contains("no/such/tokenizer.json"));
        let broken = Tokenizer::from_file("tests/data/tokenizer-512-samples.json").unwrap_err();
        assert!(matches!(broken, TokenizerError::Parse { .. }));
        assert!(broken.to_string().contains("tokenizer-512-samples.json"));
        assert!(Tokenizer::from_bytes(b"{").unwrap_err().to_string().contains("input of 1 bytes"));
        // Found by fuzzing.
        for (fault, reason) in [("x\":1", "key must be a string"), ("\"x\":\"\\ud800\"", "hex escape")] {
            let decoder = format!("{{\"version\":\"1.0\",\"decoder\":{{\"type\":\"Fuse\",{fault}}}}}");
            let error = Tokenizer::from_bytes(decoder.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    /// Found by fuzzing: the crate panics where a template names a token that isn't there.
    #[test]
    fn a_file_that_contradicts_itself_is_an_error() {
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(FIXTURE).unwrap()).unwrap();
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        json["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, text], "pair": [text, text],
            "special_tokens": {}});
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes());
        let error = tokenizer.and_then(|t| t.encode("a", true)).unwrap_err().to_string();
        assert!(error.contains("contradicts itself"), "{error}");
    }

    #[test]
    fn settings_of_a_file_never_drop_or_add_text() {
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(FIXTURE).unwrap()).unwrap();
        json["truncation"] = serde_json::json!(
            {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = serde_json::json!({"strategy": {"Fixed": 99}, "direction": "Right",
            "pad_to_multiple_of": null, "pad_id": 509, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        let sample = &samples()[0];
        assert_eq!(tokenizer.encode(&sample.text, false).unwrap(), sample.ids);
    }

    #[test]
    fn byte_level_ids_are_the_bytes_and_survive_saving() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokenizer.json");
        Tokenizer::byte_level().save(&file).unwrap();
        let tokenizer = Tokenizer::from_file(&file).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.eos_id()), (257, Some(256)));
        let ids = tokenizer.encode("né\n<|endoftext|>", true).unwrap();
        assert_eq!(ids, [b'n'.into(), 0xc3, 0xa9, b'\n'.into(), 256]);
        let error = tokenizer.save(dir.path()).unwrap_err();
        assert!(matches!(error, TokenizerError::Write { .. }));
    }

    #[test]
    fn training_is_deterministic_and_compresses() {
        let texts: Vec<String> = (0..200)
            .map(|i| format!("The {i}th river flows to the sea, and the sea is not full.\n"))
            .collect();
        let train = || Tokenizer::train_bpe(texts.iter(), 300).unwrap();
        let tokenizer = train();
        assert_eq!(tokenizer.vocab_size(), 300);
        assert_eq!(tokenizer.eos_id(), Some(0));
        for _ in 0..3 {
            assert_eq!(train().inner.to_string(false).unwrap(), tokenizer.inner.to_string(false).unwrap());
        }
        let text = "the sea is not full \u{1f30a}\0 naïve";
        let ids = tokenizer.encode(text, false).unwrap();
        assert!(ids.len() < text.len() * 2 / 3, "{} tokens", ids.len());
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        let error = Tokenizer::train_bpe(texts.iter(), 256).unwrap_err();
        assert!(matches!(error, TokenizerError::VocabTooSmall { asked: 256, min: 257 }));
    }

    #[test]
    fn long_texts_are_cut_at_line_ends() {
        let line = "é".repeat(99) + "\n";
        let text = line.repeat(MAX_BLOCK / line.len() * 2 + 10);
        let parts: Vec<&str> = blocks(&text).collect();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| part.ends_with('\n') && part.len() <= MAX_BLOCK));
        assert_eq!(parts.concat(), text);
        let unbroken = "é".repeat(MAX_BLOCK);
        assert_eq!(blocks(&unbroken).collect::<String>(), unbroken);
        let tokenizer = Tokenizer::byte_level();
        let ids = tokenizer.encode_batch(&[&text, "", "ab"]).unwrap();
        assert_eq!(tokenizer.decode(&ids[0], false).unwrap(), text);
        assert_eq!((ids[1].as_slice(), ids[2].as_slice()), (&[][..], &[97, 98][..]));
    }

    proptest! {
        #[test]
        fn any_text_survives_a_round_trip(text in any::<String>()) {
            let tokenizer = Tokenizer::byte_level();
            let ids = tokenizer.encode(&text, false).unwrap();
            prop_assert_eq!(ids.iter().map(|&id| id as u8).collect::<Vec<_>>(), text.as_bytes());
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
    }
}
