//! Typed access to the keys of a JSON object; null counts as absent, as in Hugging Face's files.

use serde_json::{Map, Value};

use super::ConfigError;

/// One JSON object of a configuration.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
}

const SIZE: &str = "a whole number, 0 or more";

impl<'a> Fields<'a> {
    /// `name` is what the object is called in errors.
    pub fn new(name: &str, value: &'a Value) -> Result<Fields<'a>, ConfigError> {
        match value.as_object() {
            Some(map) => Ok(Fields { map }),
            None => Err(ConfigError::invalid(name, shorten(value), "a JSON object")),
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        self.map.keys()
    }

    /// Whether the key is there at all, even as null.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The first of `keys` that is present; the first of all if none is.
    pub fn pick<'k>(&self, keys: &[&'k str]) -> &'k str {
        keys.iter().find(|k| self.get(k).is_some()).unwrap_or(&keys[0])
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match read(v) {
                Some(t) => Ok(Some(t)),
                None => Err(ConfigError::invalid(key, shorten(v), wanted)),
            },
        }
    }

    pub fn maybe_size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        self.typed(key, SIZE, |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.maybe_size(key)?.ok_or_else(|| ConfigError::Missing { key: key.into(), wanted: SIZE.into() })
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        Ok(self.maybe_size(key)?.unwrap_or(default))
    }

    pub fn maybe_float(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub fn float(&self, key: &str) -> Result<f64, ConfigError> {
        self.maybe_float(key)?
            .ok_or_else(|| ConfigError::Missing { key: key.into(), wanted: "a number".into() })
    }

    pub fn float_or(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.maybe_float(key)?.unwrap_or(default))
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    pub fn maybe_text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.typed(key, "a string", Value::as_str)
    }

    pub fn maybe_list(&self, key: &str) -> Result<Option<&'a Vec<Value>>, ConfigError> {
        self.typed(key, "a list", Value::as_array)
    }

    /// One of the named choices.
    pub fn choice_or<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let Some(text) = self.maybe_text(key)? else { return Ok(default) };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, t)) => Ok(*t),
            None => {
                let names: Vec<String> = choices.iter().map(|(n, _)| format!("\"{n}\"")).collect();
                Err(ConfigError::invalid(key, format!("\"{text}\""), names.join(" or ")))
            }
        }
    }
}

/// A value as it appears in an error, cut if it is long.
pub(super) fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
