//! Chat templates: compiling, and rendering a conversation. Whatever text comes, nothing panics, and it ends within
//! its limits.

#![no_main]

use halite_models::chat::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, token)| (name.into(), token.into()));
    let Ok(template) = ChatTemplate::new(source, tokens.into()) else { return };
    let messages =
        ["system", "user", "assistant", "user"].map(|role| Message::new(role, format!("{role} says\n \"Grüße\"  ")));
    for (count, generate) in [(4, true), (3, false), (0, true)] {
        let _ = template.render(&messages[..count], generate);
    }
});
