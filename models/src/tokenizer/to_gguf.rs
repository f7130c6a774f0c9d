//! A tokenizer as the metadata of a GGUF file, the other way round than [`super::gguf`].
//!
//! GGUF has no place for all that a `tokenizer.json` can say. What is written is read back first, and taken only if
//! it gives the ids of the original for texts that tell the kinds of tokenizers apart.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::gguf::{BYTE, CONTROL, GgufVocab, NORMAL, UNKNOWN, USER_DEFINED};
use super::pre::{GPT2, Kind};
use super::{Tokenizer, TokenizerError};

const UNUSED: i32 = 5;

/// Texts that tokenizers of different kinds cut differently: contractions, numbers, spaces, scripts, marks, code.
const PROBES: [&str; 12] = [
    "Hello, World! It's we'LL I'M they'd, don't; she'S o'clock",
    "1 12 123 1234 12345 123456 1234567 3.14 1,000,000 ½ ² ①",
    "a\n b\n\n  c\r\n\r\nd \t\te\n\n\n   \n   f  \n",
    "    indented\n\tfn main() { x += 1; /* ok */ }\n\n\n",
    "HelloWorld fooBar snake_case kebab-case CAPSLock iPhone",
    "¡Señor! naïve Ünïcödé crème brûlée Straße Łódź Ελληνικά Привет мир",
    "世界你好。日本語のテキスト、カタカナ 한국어 텍스트 123中文456",
    "สวัสดี नमस्ते مرحبا שלום 🙂🚀 👩‍👩‍👧‍👦 e\u{301}",
    "!!! ??? ... -- == <=> != && || $100 #tag @user http://a.b/c?d=e&f=(g)",
    " leading and trailing ",
    "x/y\\z [1]{2}(3) \"quoted\" `code` a/b/ \n/",
    "",
];

impl GgufVocab {
    /// What a GGUF file says of a tokenizer, with `tokens` tokens as the model has, which may be more than the
    /// tokenizer's. `None` where GGUF can't say what the tokenizer does.
    ///
    /// # Errors
    /// When the tokenizer fails on a text.
    pub fn of(tokenizer: &Tokenizer, tokens: usize) -> Result<Option<GgufVocab>, TokenizerError> {
        let json: Json = serde_json::from_str(&tokenizer.to_json()?)
            .map_err(|e| TokenizerError::Failed(e.to_string().into()))?;
        let Some(mut vocab) = described(tokenizer, &json, tokens) else { return Ok(None) };
        // The kind that cuts words, and whether a text begins with a space.
        let ways: Vec<(Option<&Kind>, Option<bool>)> = match vocab.model.as_str() {
            "gpt2" => {
                let whole_words = json["model"]["ignore_merges"] == true;
                // Without merges it makes no difference.
                let patterns =
                    if vocab.merges.is_empty() { vec![GPT2] } else { patterns(&json["pre_tokenizer"]) };
                let mut kinds: Vec<&Kind> =
                    Kind::all().iter().filter(|kind| kind.ignore_merges == whole_words).collect();
                // Small vocabularies don't tell all kinds apart.
                kinds.sort_by_key(|kind| kind.patterns() != patterns);
                kinds.into_iter().map(|kind| (Some(kind), None)).collect()
            }
            _ => vec![(None, Some(true)), (None, Some(false))],
        };
        for (kind, space) in ways {
            (vocab.pre, vocab.add_space_prefix) = (kind.map(|kind| kind.name().into()), space);
            if let Ok(read) = Tokenizer::from_gguf(vocab.clone())
                && gives_the_same(tokenizer, &read)?
            {
                return Ok(Some(vocab));
            }
        }
        Ok(None)
    }
}

/// The patterns that cut text, as far as they are known.
fn patterns(pre: &Json) -> Vec<&str> {
    match pre["type"].as_str() {
        Some("Sequence") => {
            pre["pretokenizers"].as_array().into_iter().flatten().flat_map(patterns).collect()
        }
        Some("Split") => pre["pattern"]["Regex"].as_str().into_iter().collect(),
        Some("Digits") if pre["individual_digits"] == true => vec![r"\p{N}"],
        Some("ByteLevel") if pre["use_regex"] == true => vec![GPT2],
        _ => Vec::new(),
    }
}

/// Whether two tokenizers give the same ids, with special tokens around texts, in front of them, and without.
fn gives_the_same(a: &Tokenizer, b: &Tokenizer) -> Result<bool, TokenizerError> {
    let special = a.eos_id().or(a.bos_id()).and_then(|id| a.id_to_token(id)).unwrap_or_default();
    for probe in PROBES {
        let after = format!("{special}{probe}");
        for (text, add_special) in [(probe, true), (probe, false), (&after, false)] {
            if a.encode(text, add_special)? != b.encode(text, add_special)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// All but how text is cut: tokens, their types, merges or scores, and what is put around a text.
fn described(tokenizer: &Tokenizer, json: &Json, tokens: usize) -> Option<GgufVocab> {
    let model = &json["model"];
    // Old files don't name the type of the model.
    if model["type"].as_str().is_some_and(|kind| kind != "BPE") {
        return None;
    }
    let mut vocab = GgufVocab {
        tokens: (0..tokens.max(tokenizer.vocab_size())).map(|id| format!("[PAD{id}]")).collect(),
        bos_id: tokenizer.bos_id(),
        eos_id: tokenizer.eos_id(),
        eot_id: tokenizer.eot_id(),
        ..GgufVocab::default()
    };
    vocab.token_types = vec![UNUSED; vocab.tokens.len()];
    let mut put = |token: &str, id: u64, kind: i32| {
        let at = usize::try_from(id).ok().filter(|&id| id < vocab.tokens.len())?;
        vocab.tokens[at] = token.into();
        vocab.token_types[at] = kind;
        Some(())
    };
    let falls_back = model["byte_fallback"] == true;
    let is_byte = |token: &str| token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
    let ids: HashMap<&str, u64> =
        model["vocab"].as_object()?.iter().filter_map(|(t, id)| Some((t.as_str(), id.as_u64()?))).collect();
    for (&token, &id) in &ids {
        put(token, id, if falls_back && is_byte(token) { BYTE } else { NORMAL })?;
    }
    let unknown = model["unk_token"].as_str();
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let content = added["content"].as_str()?;
        let kind = match added["special"] == true {
            true if falls_back && Some(content) == unknown => UNKNOWN,
            true => CONTROL,
            false => USER_DEFINED,
        };
        put(content, added["id"].as_u64()?, kind)?;
    }
    let merges = merges(model)?;
    let around = |text: &str| tokenizer.encode(text, true).ok().zip(tokenizer.encode(text, false).ok());
    let (with, without) = around("a")?;
    vocab.add_bos = Some(with.first() != without.first() && with.first().copied() == vocab.bos_id);
    vocab.add_eos = Some(with.last() != without.last() && with.last().copied() == vocab.eos_id);
    if falls_back {
        vocab.model = "llama".into();
        vocab.unk_id = unknown.and_then(|token| ids.get(token)).and_then(|&id| u32::try_from(id).ok());
        vocab.scores = scores(&vocab.tokens, &merges);
    } else {
        vocab.model = "gpt2".into();
        vocab.merges = merges.into_iter().map(|(a, b)| format!("{a} {b}")).collect();
    }
    Some(vocab)
}

/// The pairs that are merged, the most important first; files have them as texts or as lists.
fn merges(model: &Json) -> Option<Vec<(String, String)>> {
    let pair = |merge: &Json| -> Option<(String, String)> {
        match merge {
            Json::String(text) => text.split_once(' ').map(|(a, b)| (a.into(), b.into())),
            both => Some((both.get(0)?.as_str()?.into(), both.get(1)?.as_str()?.into())),
        }
    };
    model["merges"].as_array()?.iter().map(pair).collect()
}

/// Scores such that what is merged first has the highest: of each token that of the first merge that makes it.
fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut first: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, (a, b)) in merges.iter().enumerate() {
        first.entry(format!("{a}{b}")).or_insert(rank);
    }
    tokens.iter().map(|token| first.get(token).map_or(-1e9, |&rank| -(rank as f32))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(tokenizer: &Tokenizer) -> GgufVocab {
        GgufVocab::of(tokenizer, 0).unwrap().expect("GGUF can say it")
    }

    #[test]
    fn vocabularies_of_files_come_back() {
        for (vocab, samples) in super::super::gguf::tests::fixtures() {
            let tokenizer = Tokenizer::from_gguf(vocab.clone()).unwrap();
            // As a folder has it.
            let mut saved = Tokenizer::from_bytes(tokenizer.to_json().unwrap().as_bytes()).unwrap();
            (saved.bos, saved.eos, saved.eot) = (tokenizer.bos, tokenizer.eos, tokenizer.eot);
            let found = again(&saved);
            let name = format!("{} {:?}", vocab.model, vocab.pre);
            assert_eq!((&found.model, &found.tokens), (&vocab.model, &vocab.tokens), "{name}");
            let read = Tokenizer::from_gguf(found).unwrap();
            for (text, ids) in samples {
                assert_eq!(read.encode(&text, false).unwrap(), ids, "{name}: {text:?}");
            }
        }
    }

    #[test]
    fn trained_tokenizers_come_back_with_room_for_what_the_model_has_besides() {
        let text = "the cat and the dog and the bird sat on the mat, and then the cat sat on the dog";
        let tokenizer = Tokenizer::train_bpe([text].into_iter(), 280).unwrap();
        let n = tokenizer.vocab_size();
        let found = GgufVocab::of(&tokenizer, n + 3).unwrap().unwrap();
        assert_eq!((found.pre.as_deref(), found.tokens.len()), (Some("gpt-2"), n + 3));
        assert_eq!(found.token_types[n..], [UNUSED; 3]);
        assert_eq!((found.add_bos, found.eos_id), (Some(false), tokenizer.eos_id()));
        let read = Tokenizer::from_gguf(found).unwrap();
        assert_eq!(read.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap());
    }

    #[test]
    fn bytes_come_back() {
        let tokenizer = Tokenizer::byte_level();
        let found = GgufVocab::of(&tokenizer, 260).unwrap().unwrap();
        assert_eq!((found.pre.as_deref(), found.tokens.len(), found.merges.len()), (Some("gpt-2"), 260, 0));
        let read = Tokenizer::from_gguf(found).unwrap();
        let text = "naïve  text\n, 世界\u{0}";
        assert_eq!(read.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap());
        assert_eq!(read.decode(&read.encode(text, false).unwrap(), false).unwrap(), text);
    }

    #[test]
    fn what_gguf_cannot_say_is_not_written() {
        // A normal form that GGUF has no word for.
        let tokenizer = Tokenizer::train_bpe(["the cat the cat THE CAT"].into_iter(), 260).unwrap();
        let mut json: Json = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
        json["normalizer"] = serde_json::json!({ "type": "Lowercase" });
        let lower = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        assert_eq!(GgufVocab::of(&lower, 0).unwrap(), None);
    }
}
