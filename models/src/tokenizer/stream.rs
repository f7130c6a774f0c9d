//! Incremental decoding: text comes out as soon as later tokens can no longer change it.

use tokenizers::DecoderWrapper;

use super::bytes::char_to_byte;
use super::{Tokenizer, TokenizerError};

/// Decodes tokens one at a time. The pieces from [`push`](Self::push) and the rest from
/// [`finish`](Self::finish) add up to what [`Tokenizer::decode`] gives for all tokens at once.
///
/// That holds exactly for byte-level tokenizers, whatever the tokens. With other decoders
/// (SentencePiece with byte fallback) bytes that are not valid UTF-8 may turn into another number
/// of U+FFFD.
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    state: State,
}

enum State {
    /// Byte-level decoder: the bytes of a character that is not complete yet (at most three).
    Bytes(Vec<u8>),
    /// Any other decoder: the last tokens, of which the first `emitted` are already out. Those stay
    /// as context, since such decoders treat the first token differently (leading space).
    Window { ids: Vec<u32>, emitted: usize },
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        let state = match tokenizer.inner.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => State::Bytes(Vec::new()),
            _ => State::Window { ids: Vec::new(), emitted: 0 },
        };
        Self { tokenizer, skip_special, state }
    }

    /// Adds a token and returns the text that is settled by it; empty while a character is
    /// incomplete. Ids outside the vocabulary decode to nothing, as in [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        match &mut self.state {
            State::Bytes(held) => {
                held.extend(token_bytes(self.tokenizer, id, self.skip_special));
                Ok(take_settled(held))
            }
            State::Window { ids, emitted } => {
                ids.push(id);
                let before = self.tokenizer.decode(&ids[..*emitted], self.skip_special)?;
                let text = self.tokenizer.decode(ids, self.skip_special)?;
                if text.len() <= before.len() || text.ends_with(char::REPLACEMENT_CHARACTER) {
                    return Ok(String::new());
                }
                let settled = text.get(before.len()..).unwrap_or_default().to_owned();
                ids.drain(..*emitted);
                *emitted = ids.len();
                Ok(settled)
            }
        }
    }

    /// Ends the stream: returns what was held back, with U+FFFD for an incomplete character.
    pub fn finish(self) -> Result<String, TokenizerError> {
        match self.state {
            State::Bytes(held) => Ok(String::from_utf8_lossy(&held).into_owned()),
            State::Window { ids, emitted } => {
                let before = self.tokenizer.decode(&ids[..emitted], self.skip_special)?;
                let text = self.tokenizer.decode(&ids, self.skip_special)?;
                Ok(text.get(before.len()..).unwrap_or_default().to_owned())
            }
        }
    }
}

/// The bytes of a byte-level token; a token with characters outside the byte alphabet (an added
/// token with a space, say) stands for its own text.
fn token_bytes(tokenizer: &Tokenizer, id: u32, skip_special: bool) -> Vec<u8> {
    let Some(token) = tokenizer.inner.id_to_token(id) else { return Vec::new() };
    if skip_special && tokenizer.inner.get_added_vocabulary().is_special_token(&token) {
        return Vec::new();
    }
    token.chars().map(char_to_byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
}

/// Takes all of `bytes` but an incomplete character at its end; invalid bytes become U+FFFD just as
/// in `String::from_utf8_lossy`.
fn take_settled(bytes: &mut Vec<u8>) -> String {
    let mut settled = String::new();
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        settled.push_str(chunk.valid());
        used += chunk.valid().len();
        let invalid = chunk.invalid();
        let at_end = used + invalid.len() == bytes.len();
        // `error_len` is `None` exactly when more bytes could still complete the character.
        let incomplete = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if invalid.is_empty() || (at_end && incomplete) {
            break;
        }
        settled.push(char::REPLACEMENT_CHARACTER);
        used += invalid.len();
    }
    bytes.drain(..used);
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream_all(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> (Vec<String>, String) {
        let mut stream = tokenizer.stream(skip_special);
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        (pieces, stream.finish().unwrap())
    }

    #[test]
    fn holds_back_an_incomplete_character() {
        let tokenizer = Tokenizer::byte_level();
        let (pieces, rest) = stream_all(&tokenizer, &tokenizer.encode("aé😀", false).unwrap(), true);
        assert_eq!(pieces, ["a", "", "é", "", "", "", "😀"]);
        assert_eq!(rest, "");
        let (pieces, rest) = stream_all(&tokenizer, &[0xf0, 0x9f], true);
        assert_eq!((pieces.concat(), rest), (String::new(), "\u{fffd}".into()));
    }

    #[test]
    fn special_tokens_are_skipped_only_on_request() {
        let tokenizer = Tokenizer::byte_level();
        let ids = [b'a'.into(), 256, b'b'.into(), 9999];
        assert_eq!(stream_all(&tokenizer, &ids, true).0.concat(), "ab");
        assert_eq!(stream_all(&tokenizer, &ids, false).0.concat(), "a<|endoftext|>b");
    }

    /// Metaspace and byte fallback, as in Llama 2 and Mixtral.
    const SENTENCEPIECE: &str = r#"{"version":"1.0","added_tokens":[
        {"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":{"type":"Sequence","decoders":[
            {"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},
            {"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]},
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
            "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":true,
            "vocab":{"<s>":0,"▁the":1,"▁cat":2,"s":3,"<0xC3>":4,"<0xA9>":5,"▁":6},"merges":[]}}"#;

    #[test]
    fn sentencepiece_decoders_keep_inner_spaces_and_hold_back_bytes() {
        let tokenizer = Tokenizer::from_bytes(SENTENCEPIECE.as_bytes()).unwrap();
        let ids = [0, 1, 2, 3, 4, 5, 2];
        let (pieces, rest) = stream_all(&tokenizer, &ids, true);
        assert_eq!(pieces, ["", "the", " cat", "s", "", "é", " cat"]);
        assert_eq!(rest, "");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "the catsé cat");
        assert_eq!(stream_all(&tokenizer, &[1, 4], true), (vec!["the".into(), "".into()], "\u{fffd}".into()));
    }

    proptest! {
        #[test]
        fn pieces_add_up_to_the_whole_for_any_bytes(ids in prop::collection::vec(
            prop_oneof![0u32..258, prop::sample::select(vec![0xf0, 0x9f, 0x98, 0x80, 0xc3, 0xa9, 0xff])], 0..40
        )) {
            let tokenizer = Tokenizer::byte_level();
            let (pieces, rest) = stream_all(&tokenizer, &ids, false);
            prop_assert_eq!(pieces.concat() + &rest, tokenizer.decode(&ids, false).unwrap());
        }
    }
}
