//! `generation_config.json`: how a model wants to be sampled, and where its texts end.

use std::path::Path;

use serde_json::Value;

use super::ConfigError;
use super::fields::Fields;
use crate::sampling::SamplingOptions;

/// What a model folder says about generation. Everything is optional; unknown keys are ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// `eos_token_id`, one or several: tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// `do_sample`: whether tokens are drawn; if false the likeliest is taken.
    pub do_sample: Option<bool>,
    /// `temperature`.
    pub temperature: Option<f32>,
    /// `top_k`.
    pub top_k: Option<usize>,
    /// `top_p`.
    pub top_p: Option<f32>,
    /// `min_p`.
    pub min_p: Option<f32>,
    /// `repetition_penalty`.
    pub repetition_penalty: Option<f32>,
}

impl GenerationConfig {
    /// Reads the file of a model folder; without one, nothing is said.
    pub fn open_folder(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join("generation_config.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Io { path, source }),
        };
        let json = serde_json::from_slice(&text).map_err(|source| ConfigError::Json { path, source })?;
        Self::from_json(&json)
    }

    /// Reads the file's content.
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let fields = Fields::new("generation_config.json", json)?;
        let float = |key: &str| Ok(fields.maybe_float(key)?.map(|x| x as f32));
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let eos = match fields.get("eos_token_id") {
            None => Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(one) => id(one).map(|id| vec![id]),
        };
        let wanted = "a token id or a list of them";
        let eos_token_ids =
            eos.ok_or_else(|| ConfigError::invalid("eos_token_id", &json["eos_token_id"], wanted))?;
        let do_sample = fields.get("do_sample").map(|_| fields.flag_or("do_sample", false)).transpose()?;
        Ok(GenerationConfig {
            eos_token_ids,
            do_sample,
            temperature: float("temperature")?,
            top_k: fields.maybe_size("top_k")?,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            repetition_penalty: float("repetition_penalty")?,
        })
    }

    /// The sampling that the file asks for; `None` where it leaves that open. As in transformers, the other
    /// options count only where tokens are drawn.
    pub fn sampling(&self) -> Option<SamplingOptions> {
        let plain = SamplingOptions {
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            ..SamplingOptions::default()
        };
        match self.do_sample? {
            false => Some(SamplingOptions { temperature: 0.0, ..plain }),
            true => Some(SamplingOptions {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(0),
                top_p: self.top_p.unwrap_or(1.0),
                min_p: self.min_p.unwrap_or(0.0),
                ..plain
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_of_models_are_read() {
        let read = |json: Value| GenerationConfig::from_json(&json).unwrap();
        // Of Qwen 3 and of Llama 3.
        let qwen = read(json!({
            "bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "pad_token_id": 151643,
            "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0",
        }));
        assert_eq!(qwen.eos_token_ids, [151645, 151643]);
        let drawn = SamplingOptions { temperature: 0.6, top_k: 20, top_p: 0.95, ..Default::default() };
        assert_eq!(qwen.sampling(), Some(drawn));
        let plain = read(json!({"eos_token_id": 2, "temperature": 0.6, "min_p": null}));
        assert_eq!((plain.eos_token_ids.as_slice(), plain.sampling()), (&[2][..], None));
        let greedy = read(json!({"do_sample": false, "top_p": 0.5, "repetition_penalty": 1.25}));
        let options = SamplingOptions { temperature: 0.0, repetition_penalty: 1.25, ..Default::default() };
        assert_eq!(greedy.sampling(), Some(options));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(GenerationConfig::open_folder(folder.path()).unwrap(), GenerationConfig::default());
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for (json, words) in [
            (json!({"eos_token_id": -1}), ["eos_token_id", "-1"]),
            (json!({"eos_token_id": [1, "x"]}), ["eos_token_id", "\"x\""]),
            (json!({"top_k": 1.5}), ["top_k", "1.5"]),
            (json!({"do_sample": "yes"}), ["do_sample", "true or false"]),
            (json!([1]), ["generation_config.json", "a JSON object"]),
        ] {
            let error = GenerationConfig::from_json(&json).unwrap_err().to_string();
            assert!(words.iter().all(|w| error.contains(w)), "{words:?} in {error}");
        }
    }
}
