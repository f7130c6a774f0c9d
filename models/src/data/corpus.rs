//! Tokenised documents, their hash, and the bytes they stand for.

use std::f64::consts::LN_2;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::DataError;
use crate::tokenizer::Tokenizer;

/// Documents as one run of token ids, each followed by the end-of-text token.
#[derive(Clone, Debug)]
pub struct Corpus {
    tokens: Vec<u32>,
    /// Where each document starts, and the number of tokens at the end.
    starts: Vec<usize>,
    end_of_text: u32,
    bytes: u64,
    hash: String,
}

impl Corpus {
    /// Tokenises `texts`, one document each; empty ones are left out. The end-of-text token is
    /// [`Tokenizer::eos_id`]. An error if there is none, no text, or the tokenizer fails.
    pub fn new<S: AsRef<str>>(texts: &[S], tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let end_of_text = tokenizer.eos_id().ok_or(DataError::NoEndOfText)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).filter(|text| !text.is_empty()).collect();
        if texts.is_empty() {
            return Err(DataError::Empty { origin: "the documents to tokenise".into() });
        }
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        Ok(Self::from_ids(&tokenizer.encode_batch(&texts)?, end_of_text, bytes))
    }

    /// A corpus of documents that are tokens already, which stand for `bytes` bytes of text.
    pub(super) fn from_ids(documents: &[Vec<u32>], end_of_text: u32, bytes: u64) -> Self {
        let mut tokens = Vec::with_capacity(documents.iter().map(|document| document.len() + 1).sum());
        let mut starts = vec![0];
        for document in documents {
            tokens.extend_from_slice(document);
            tokens.push(end_of_text);
            starts.push(tokens.len());
        }
        let hash = hash(&tokens, &starts);
        Self { tokens, starts, end_of_text, bytes, hash }
    }

    /// All tokens, with the end-of-text token after each document.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Where each document starts in the tokens, ascending from 0, and at last their number.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The token after each document.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Bytes of the text that the tokens stand for, without end-of-text tokens.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the tokens and the document bounds, in hexadecimal: the same for the same
    /// documents in the same order under the same tokenizer.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A loss summed over all tokens, in nats, as bits per byte of text: nats / (ln 2 · bytes).
    /// Unlike loss per token it compares models with different tokenizers.
    pub fn bits_per_byte(&self, nats: f64) -> f64 {
        nats / LN_2 / self.bytes as f64
    }
}

fn hash(tokens: &[u32], starts: &[usize]) -> String {
    let mut hasher = Sha256::new();
    hasher.update((starts.len() as u64).to_le_bytes());
    for &start in starts {
        hasher.update((start as u64).to_le_bytes());
    }
    for &token in tokens {
        hasher.update(token.to_le_bytes());
    }
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_with_end_of_text() {
        let corpus = Corpus::new(&["ab", "", "é"], &Tokenizer::byte_level()).unwrap();
        assert_eq!(corpus.tokens(), [97, 98, 256, 0xc3, 0xa9, 256]);
        assert_eq!(corpus.starts(), [0, 3, 6]);
        assert_eq!((corpus.bytes(), corpus.end_of_text()), (4, 256));
        assert_eq!(corpus.bits_per_byte(8.0 * LN_2), 2.0);
    }

    #[test]
    fn the_hash_sees_content_order_and_bounds() {
        let hash = |texts: &[&str]| Corpus::new(texts, &Tokenizer::byte_level()).unwrap().hash;
        let base = hash(&["ab", "c"]);
        assert_eq!(base.len(), 64);
        assert_eq!(base, hash(&["ab", "c"]));
        for other in [hash(&["c", "ab"]), hash(&["a", "bc"]), hash(&["ab", "d"]), hash(&["ab<|endoftext|>c"])]
        {
            assert_ne!(base, other);
        }
        // SHA-256 of 2, 0, 1 as 64-bit and 7 as 32-bit little-endian numbers, by Python's hashlib.
        assert_eq!(
            Corpus::from_ids(&[vec![]], 7, 0).hash,
            "9ebaf27167cff993329fb2eb3783a36557af6bafbf71e9b9de582f69ce3fb0d7"
        );
    }

    #[test]
    fn missing_text_or_end_of_text_is_an_error() {
        let tokenizer = Tokenizer::byte_level();
        assert!(matches!(Corpus::new(&[""], &tokenizer), Err(DataError::Empty { .. })));
        let json =
            r#"{"version":"1.0","added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#;
        let tokenizer = Tokenizer::from_bytes(json.as_bytes()).unwrap();
        assert!(matches!(Corpus::new(&["a"], &tokenizer), Err(DataError::NoEndOfText)));
    }
}
