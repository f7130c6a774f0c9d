//! Chat templates: Jinja as transformers runs it (`apply_chat_template`), within limits.
//!
//! A template sees `messages`, `add_generation_prompt`, the names of special tokens (`bos_token`, …),
//! `raise_exception`, `strftime_now` and Python's common methods of strings, lists and dictionaries. `tools` and
//! `documents` are none. Blocks leave no line ends behind, as there.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value as Json;

use super::Message;
use super::json::tojson;
use crate::tokenizer::GgufVocab;

/// The longest template, in bytes; the longest in use are below 20,000.
const MAX_TEMPLATE: usize = 1 << 20;
/// The largest file that a template is taken out of.
const MAX_FILE: u64 = 64 << 20;
/// The longest text that a template may write, in bytes.
const MAX_OUTPUT: usize = 16 << 20;
/// Steps that a template may take; 64 bytes of memory count as one.
const FUEL: u64 = 4_000_000;
/// How deep calls and blocks may go.
const RECURSION: usize = 100;

/// A chat template that can't be found or used, or that fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model has no template.
    #[error(
        "{origin} has no chat template, so it is no model to chat with; `halite generate` continues a text"
    )]
    Missing {
        /// The model.
        origin: String,
    },
    /// There are several templates, and none to begin with.
    #[error("none of the chat templates is named \"default\"; there are: {names}")]
    NoDefault {
        /// The names.
        names: String,
    },
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file isn't what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The template is longer than any real one.
    #[error("the chat template has {bytes} bytes; {MAX_TEMPLATE} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The template takes more steps or memory than a template needs.
    #[error("the chat template doesn't come to an end, or writes more than {MAX_OUTPUT} bytes")]
    Limit,
    /// The template refuses the messages.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    /// The template is malformed, or does what can't be done.
    #[error("chat template: {0}")]
    Failed(String),
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl From<Error> for TemplateError {
    fn from(e: Error) -> Self {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&e);
        while let Some(cause) = source {
            if let Some(Raised(message)) = cause.downcast_ref() {
                return TemplateError::Refused(one_line(message.clone()));
            }
            let kind = cause.downcast_ref::<Error>().map(Error::kind);
            if matches!(kind, Some(ErrorKind::OutOfFuel | ErrorKind::WriteFailure)) {
                return TemplateError::Limit;
            }
            source = cause.source();
        }
        TemplateError::Failed(one_line(e.to_string()))
    }
}

/// A text that may not grow beyond [`MAX_OUTPUT`] bytes.
#[derive(Default)]
pub(super) struct Limited(Vec<u8>);

impl Limited {
    /// The text; templates write nothing but UTF-8.
    pub fn into_text(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_OUTPUT - self.0.len() {
            return Err(io::Error::other("the text is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A compiled chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    /// Special tokens by the name that templates know them by, such as `bos_token`.
    tokens: BTreeMap<String, String>,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles a template. `tokens` are the special tokens that it may name: `bos_token`, `eos_token` and so on.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong { bytes: source.len() });
        }
        let mut env = Environment::new();
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(RECURSION);
        env.set_unknown_method_callback(unknown_method_callback);
        env.add_filter("tojson", tojson);
        // As in Python: none can't be iterated, and strings and dictionaries have indices.
        env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        env.add_test("sequence", |value: &Value| {
            matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
        });
        env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
        });
        env.add_template_owned(NAME, without_generation_marks(source))?;
        Ok(ChatTemplate { env, tokens })
    }

    /// The template of a model folder: `chat_template.jinja`, or what `tokenizer_config.json` has under
    /// `chat_template`; of several the one named "default". The latter also has the special tokens.
    pub fn open_folder(dir: &Path) -> Result<Self, TemplateError> {
        let (source, config) = source_in(dir)?;
        let Some(source) = source else {
            return Err(TemplateError::Missing { origin: dir.display().to_string() });
        };
        let text = |token: &Json| token.as_str().or_else(|| token["content"].as_str()).map(String::from);
        let named = config.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_token"));
        let tokens = named.filter_map(|(key, token)| Some((key.clone(), text(token)?))).collect();
        ChatTemplate::new(&source, tokens)
    }

    /// The template of a GGUF file.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Self, TemplateError> {
        let Some(source) = &vocab.chat_template else {
            return Err(TemplateError::Missing { origin: "the GGUF file".into() });
        };
        ChatTemplate::new(source, vocab.special_tokens().collect())
    }

    /// The prompt for `messages`; with `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// Special tokens are written out in it, so that it is encoded without adding any.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_at(messages, add_generation_prompt, jiff::Zoned::now())
    }

    fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: jiff::Zoned,
    ) -> Result<String, TemplateError> {
        let strftime_now = move |format: String| -> Result<String, Error> {
            let failed = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
            jiff::fmt::strtime::format(format, &now).map_err(failed)
        };
        let message = |m: &Message| context! { role => &*m.role, content => &*m.content };
        let context = context! {
            messages => messages.iter().map(message).collect::<Vec<_>>(),
            add_generation_prompt,
            tools => (),
            documents => (),
            strftime_now => Value::from_function(strftime_now),
            ..Value::from(Serde(&self.tokens))
        };
        let mut out = Limited::default();
        self.env.get_template(NAME)?.render_captured_to(context, &mut out)?;
        Ok(out.into_text())
    }
}

/// A file's text, if there is the file.
fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    let failed = |source| TemplateError::File { path: path.into(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if size > MAX_FILE {
        let reason = format!("{size} bytes; {MAX_FILE} are allowed");
        return Err(TemplateError::Malformed { path: path.into(), reason });
    }
    std::fs::read_to_string(path).map(Some).map_err(failed)
}

/// The text of the template of a model folder, if it has one, and its `tokenizer_config.json`, or null.
pub(crate) fn source_in(dir: &Path) -> Result<(Option<String>, Json), TemplateError> {
    let config_path = dir.join("tokenizer_config.json");
    let config: Json = match read(&config_path)? {
        None => Json::Null,
        Some(text) => serde_json::from_str(&text).map_err(|e| TemplateError::Malformed {
            path: config_path.clone(),
            reason: format!("not valid JSON: {e}"),
        })?,
    };
    let source = match read(&dir.join("chat_template.jinja"))? {
        Some(text) => Some(text),
        None => chosen(&config["chat_template"], &config_path)?,
    };
    Ok((source, config))
}

/// The template of a `tokenizer_config.json`: a string, or a list of names and templates.
fn chosen(template: &Json, path: &Path) -> Result<Option<String>, TemplateError> {
    let list = match template {
        Json::Null => return Ok(None),
        Json::String(text) => return Ok(Some(text.clone())),
        Json::Array(list) => list,
        _ => {
            let reason = "`chat_template` must be a string or a list".to_string();
            return Err(TemplateError::Malformed { path: path.into(), reason });
        }
    };
    let default = list.iter().find(|t| t["name"] == "default").and_then(|t| t["template"].as_str());
    match default {
        Some(text) => Ok(Some(text.into())),
        None => {
            let names: Vec<&str> = list.iter().filter_map(|t| t["name"].as_str()).collect();
            Err(TemplateError::NoDefault { names: names.join(", ") })
        }
    }
}

/// Makes of transformers' `{% generation %}` … `{% endgeneration %}`, which marks what a model says and
/// writes nothing, a block that Jinja knows.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, block) = rest.split_at(at);
        out.push_str(before);
        let end = block.find("%}").map_or(block.len(), |end| end + 2);
        let (block, after) = block.split_at(end);
        let word = block.trim_matches(|c: char| "{%}-+".contains(c) || c.is_whitespace());
        match word {
            "generation" => out.push_str(&block.replace(word, "if true")),
            "endgeneration" => out.push_str(&block.replace(word, "endif")),
            _ => out.push_str(block),
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
