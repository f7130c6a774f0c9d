//! Chats: the template that turns messages into a prompt, and a session that keeps history and cache.
//!
//! A [`ChatTemplate`] comes with the model and is a program in a template language. It may say anything, so
//! that what it costs is bounded: its length, its steps and the memory it fills, and the length of what it
//! writes. A [`Session`] feeds a model only the tokens that it hasn't seen yet.

mod json;
mod session;
mod template;

pub use session::{Session, SessionOptions, Statistics, Turn};
pub(crate) use template::source_in;
pub use template::{ChatTemplate, TemplateError};

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// Who says it: "system", "user", "assistant", or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message of that role.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: content.into() }
    }
}
