//! tokenizer.json files: loading, encoding, decoding, saving. Whatever bytes come, nothing panics.

#![no_main]

use halite_models::tokenizer::Tokenizer;
use libfuzzer_sys::fuzz_target;

const TEXT: &str = "The 3 Grüße,\n\n  don't 日本語 <s>";

/// The library makes errors of what the `tokenizers` crate panics at; other panics end the run.
fn let_the_crate_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if !panic.location().is_some_and(|at| at.file().contains("/tokenizers-")) {
            eprintln!("{panic}");
            std::process::abort();
        }
    }));
}

fuzz_target!(init: let_the_crate_panic(), |data: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_bytes(data) else { return };
    if let Ok(ids) = tokenizer.encode(TEXT, true) {
        let _ = tokenizer.decode(&ids, false);
    }
    let _ = tokenizer.to_json();
});
