use super::*;
use proptest::prelude::Strategy as _;
use serde::Deserialize;

#[derive(Deserialize)]
struct Sample {
    text: String,
    ids: Vec<u32>,
}

fn fixture(json: &str) -> (GgufVocab, Vec<Sample>) {
    let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
    let samples = serde_json::from_value(json["samples"].take()).unwrap();
    let v = &mut json["vocab"];
    let mut take = |key: &str| v[key].take();
    fn of<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }
    let vocab = GgufVocab {
        model: of(take("model")),
        pre: of(take("pre")),
        tokens: of(take("tokens")),
        token_types: of(take("token_types")),
        merges: of(take("merges")),
        scores: of(take("scores")),
        bos_id: of(take("bos_id")),
        eos_id: of(take("eos_id")),
        eot_id: of(take("eot_id")),
        unk_id: of(take("unk_id")),
        pad_id: of(take("pad_id")),
        add_bos: of(take("add_bos")),
        add_eos: of(take("add_eos")),
        add_space_prefix: of(take("add_space_prefix")),
        chat_template: None,
    };
    (vocab, samples)
}

/// Vocabularies and the ids that the models' own tokenizers give; see `make.py` beside them.
const FIXTURES: [&str; 5] = [
    include_str!("../../tests/data/gguf/gpt-2.json"),
    include_str!("../../tests/data/gguf/qwen2.json"),
    include_str!("../../tests/data/gguf/falcon.json"),
    include_str!("../../tests/data/gguf/smollm.json"),
    include_str!("../../tests/data/gguf/phi-3.json"),
];

/// Vocabularies, and texts with their ids.
pub(in crate::tokenizer) fn fixtures() -> impl Iterator<Item = (GgufVocab, Vec<(String, Vec<u32>)>)> {
    FIXTURES.into_iter().map(|json| {
        let (vocab, samples) = fixture(json);
        (vocab, samples.into_iter().map(|s| (s.text, s.ids)).collect())
    })
}

#[test]
fn ids_are_those_of_the_models_tokenizers_and_survive_saving() {
    for json in FIXTURES {
        let (vocab, samples) = fixture(json);
        let name = format!("{} {:?}", vocab.model, vocab.pre);
        let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
        let saved = Tokenizer::from_bytes(tokenizer.to_json().unwrap().as_bytes()).unwrap();
        assert!(samples.len() > 40);
        for Sample { text, ids } in samples {
            assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(saved.encode(&text, false).unwrap(), ids, "{name}, saved: {text:?}");
            // SentencePiece's decoder takes away the space that encoding put there.
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text, "{name}");
            let mut stream = tokenizer.stream(false);
            let streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
            assert_eq!(streamed + &stream.finish().unwrap(), text, "{name}");
        }
    }
}

/// `llama` with the given tokens after `<unk>`, `<s>`, `</s>` and all bytes; the first are merged first.
fn spm(tokens: &[&str]) -> GgufVocab {
    let mut all: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    all.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    let mut token_types = vec![UNKNOWN, CONTROL, CONTROL];
    token_types.resize(all.len(), BYTE);
    all.extend(tokens.iter().map(|t| t.to_string()));
    token_types.resize(all.len(), 1);
    GgufVocab {
        model: "llama".into(),
        scores: (0..all.len()).map(|i| -(i as f32)).collect(),
        tokens: all,
        token_types,
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        ..GgufVocab::default()
    }
}

#[test]
fn sentencepiece_knows_spaces_bytes_and_special_tokens() {
    let mut vocab = spm(&["▁a", "▁", "a", "b"]);
    let tokenizer = Tokenizer::from_gguf(vocab.clone()).unwrap();
    let (space_a, a, b) = (259, 261, 262);
    assert_eq!(tokenizer.encode("a b", true).unwrap(), [1, space_a, 260, b]);
    // Each text between special tokens begins with a space; there is none around an empty one.
    assert_eq!(tokenizer.encode("<s>a</s>ba", false).unwrap(), [1, space_a, 2, 260, b, a]);
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
    assert_eq!(tokenizer.encode("é", false).unwrap(), [260, 3 + 0xc3, 3 + 0xa9]);
    assert_eq!(tokenizer.decode(&[1, space_a, 3 + 0xc3, 3 + 0xa9, 2], true).unwrap(), "aé");
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.vocab_size()), (Some(1), Some(2), 263));

    (vocab.add_space_prefix, vocab.add_bos, vocab.add_eos) = (Some(false), Some(false), Some(true));
    // A user-defined token is found first, and isn't special.
    vocab.token_types[262] = USER_DEFINED;
    vocab.eot_id = Some(0);
    let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
    assert_eq!(tokenizer.encode("a ab", true).unwrap(), [a, space_a, b, 2]);
    assert_eq!(tokenizer.decode(&[space_a, b, 2], true).unwrap(), " ab");
}

#[test]
fn kinds_of_bpe_add_begin_of_text_where_their_models_want_it() {
    let vocab = |pre: &str, add_bos| GgufVocab {
        model: "gpt2".into(),
        pre: Some(pre.into()),
        tokens: ["<s>", "a", "b", "c", "ab", "bc", "abc"].map(String::from).into(),
        token_types: vec![CONTROL, 1, 1, 1, 1, 1, 1],
        merges: vec!["b c".into(), "a b".into(), "a bc".into()],
        bos_id: Some(0),
        add_bos,
        ..GgufVocab::default()
    };
    let ids = |pre, add_bos| Tokenizer::from_gguf(vocab(pre, add_bos)).unwrap().encode("abc", true).unwrap();
    assert_eq!(ids("gpt-2", None), [6]);
    assert_eq!(ids("gpt-2", Some(true)), [0, 6]);
    assert_eq!(ids("llama-bpe", None), [0, 6]);
    assert_eq!(ids("tekken", Some(false)), [6]);
    // Empty tokens are no two of the same.
    let mut padded = vocab("gpt-2", None);
    padded.tokens.extend([String::new(), String::new()]);
    padded.token_types.extend([CONTROL, 1]);
    let padded = Tokenizer::from_gguf(padded).unwrap();
    assert_eq!((padded.vocab_size(), padded.encode("abc", true).unwrap()), (9, vec![6]));
    // A word that is a token needs no merges in some kinds.
    let mut unmerged = vocab("llama-bpe", Some(false));
    unmerged.merges.pop();
    assert_eq!(Tokenizer::from_gguf(unmerged.clone()).unwrap().encode("abc", false).unwrap(), [6]);
    unmerged.pre = Some("gpt-2".into());
    assert_eq!(Tokenizer::from_gguf(unmerged).unwrap().encode("abc", false).unwrap(), [1, 5]);
}

#[test]
fn metadata_that_make_no_tokenizer_are_refused() {
    let bpe = || GgufVocab {
        model: "gpt2".into(),
        tokens: ["a", "b", "ab"].map(String::from).into(),
        merges: vec!["a b".into()],
        ..GgufVocab::default()
    };
    let error = |change: &dyn Fn(&mut GgufVocab)| {
        let mut vocab = bpe();
        change(&mut vocab);
        Tokenizer::from_gguf(vocab).unwrap_err().to_string()
    };
    assert!(Tokenizer::from_gguf(bpe()).is_ok());
    for (words, change) in [
        (
            &["\"bert\"", "gpt2"][..],
            &(|v: &mut GgufVocab| v.model = "bert".into()) as &dyn Fn(&mut GgufVocab),
        ),
        (&["\"own\"", "qwen2"], &|v| v.pre = Some("own".into())),
        (&["tokens is empty"], &|v| v.tokens.clear()),
        (&["merges is empty"], &|v| v.merges.clear()),
        (&["token_type has 2 entries for 3"], &|v| v.token_types = vec![1, 1]),
        (&["scores has 0 entries for 3"], &|v| v.model = "llama".into()),
        (&["tokens 0 and 2", "\"a\""], &|v| v.tokens[2] = "a".into()),
        (&["eos_token_id is 3", "3 tokens"], &|v| v.eos_id = Some(3)),
        (&["eot_token_id is 9"], &|v| v.eot_id = Some(9)),
        (&["add_bos_token", "bos_token_id is missing"], &|v| v.add_bos = Some(true)),
        (&["merge 0 is \"ab\""], &|v| v.merges[0] = "ab".into()),
        (&["merge 1 is \"b a\""], &|v| v.merges.push("b a".into())),
        (&["merge 0 is \"\""], &|v| v.merges[0].clear()),
    ] {
        let error = error(change);
        assert!(words.iter().all(|w| error.contains(w)), "{words:?} in {error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn tokens_that_can_be_merged_in_absurdly_many_ways_are_refused() {
    let runs: Vec<String> = (1..1000).map(|n| "a".repeat(n)).collect();
    let error = Tokenizer::from_gguf(spm(&runs.iter().map(String::as_str).collect::<Vec<_>>())).unwrap_err();
    assert!(error.to_string().contains("too many ways"), "{error}");
}

/// SentencePiece's own rule: again and again the pair of the highest score, of those the leftmost.
fn by_scores(vocab: &GgufVocab, text: &str) -> Vec<u32> {
    let id = |token: &str| vocab.tokens.iter().position(|t| t == token);
    let mut parts: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let pairs = parts.windows(2).enumerate().filter_map(|(at, p)| Some((at, id(&p.concat())?)));
        // The tokens of `spm` are in the order of their scores.
        let Some((at, _)) = pairs.min_by_key(|&(at, id)| (id, at)) else { break };
        let right = parts.remove(at + 1);
        parts[at] += &right;
    }
    parts.iter().map(|p| id(p).unwrap() as u32).collect()
}

proptest::proptest! {
    #[test]
    fn merges_follow_the_scores(
        text in "[ab▁]{1,24}", order in proptest::prelude::Just(vec![
            "▁▁", "ab", "▁a", "aa", "▁▁▁▁", "aaaa", "aba", "▁ab", "bb", "abab", "▁▁▁", "aaa",
        ]).prop_shuffle()
    ) {
        let order: Vec<&str> = order.into_iter().chain(["▁", "a", "b"]).collect();
        let vocab = GgufVocab { add_space_prefix: Some(false), ..spm(&order) };
        let want = by_scores(&vocab, &text);
        let tokenizer = Tokenizer::from_gguf(vocab).unwrap();
        proptest::prop_assert_eq!(tokenizer.encode(&text, false).unwrap(), want);
    }
}
