//! Parameters and the tensors of GGUF files that hold them.
//!
//! Names: `LLM_TENSOR_NAMES` in llama.cpp's `src/llama-arch.cpp`.

use super::architecture::Architecture;
use crate::config::{LayerParam, ParamId, Projection};

/// Where a parameter lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufPlace {
    /// The tensor.
    pub tensor: String,
    /// Which expert of a tensor that stacks them, `[experts, out, in]`.
    pub expert: Option<usize>,
}

impl Architecture {
    /// Where a parameter lies. [`LayerParam::LatentUp`] may also lie in two tensors, see [`latent`](super::latent).
    pub fn place(&self, id: ParamId) -> GgufPlace {
        let (tensor, expert) = match id {
            ParamId::Embedding => ("token_embd.weight".into(), None),
            ParamId::FinalNorm => ("output_norm.weight".into(), None),
            ParamId::Head => ("output.weight".into(), None),
            ParamId::Layer { layer, param } => {
                let (name, expert) = self.layer_name(param);
                (format!("blk.{layer}.{name}"), expert)
            }
        };
        GgufPlace { tensor, expert }
    }

    fn layer_name(&self, param: LayerParam) -> (String, Option<usize>) {
        use LayerParam::*;
        let fixed = match param {
            InputNorm => "attn_norm.weight",
            QueryWeight => "attn_q.weight",
            QueryBias => "attn_q.bias",
            KeyWeight => "attn_k.weight",
            KeyBias => "attn_k.bias",
            ValueWeight => "attn_v.weight",
            ValueBias => "attn_v.bias",
            OutputWeight => "attn_output.weight",
            OutputBias => "attn_output.bias",
            QueryNorm => "attn_q_norm.weight",
            KeyNorm => "attn_k_norm.weight",
            PostAttentionNorm => return (format!("{}.weight", self.post_attention_norm), None),
            Router => "ffn_gate_inp.weight",
            RouterBias => "ffn_gate_inp.bias",
            SelectionBias => "exp_probs_b.bias",
            Sinks => "attn_sinks.weight",
            QueryDown => "attn_q_a.weight",
            QueryDownNorm => "attn_q_a_norm.weight",
            QueryUp => "attn_q_b.weight",
            LatentWeight => "attn_kv_a_mqa.weight",
            LatentNorm => "attn_kv_a_norm.weight",
            LatentUp => "attn_kv_b.weight",
            SharedGate => "ffn_gate_inp_shexp.weight",
            Dense(p) => return (format!("ffn_{}.weight", short(p)), None),
            Shared(p) => return (format!("ffn_{}_shexp.weight", short(p)), None),
            Expert { expert, projection } => {
                return (format!("ffn_{}_exps.weight", short(projection)), Some(expert));
            }
            ExpertBias { expert, projection } => {
                return (format!("ffn_{}_exps.bias", short(projection)), Some(expert));
            }
        };
        (fixed.into(), None)
    }

    /// Whether a parameter's rows stand in another order than Hugging Face's: in the file, row `2j + s` of a
    /// head is row `s * head_dim / 2 + j` of Hugging Face's.
    pub fn moves_rows(&self, id: ParamId) -> bool {
        use LayerParam::*;
        let ParamId::Layer { param, .. } = id else { return false };
        self.interleaved && matches!(param, QueryWeight | QueryBias | KeyWeight | KeyBias)
    }
}

fn short(projection: Projection) -> &'static str {
    match projection {
        Projection::Gate => "gate",
        Projection::Up => "up",
        Projection::Down => "down",
    }
}

/// Rows of `heads` heads in Hugging Face's half-split order, from the interleaved order of files.
pub(super) fn half_split(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    move_rows(bytes, rows, heads, |half, row| 2 * (row % half) + row / half)
}

/// The reverse of [`half_split`].
pub(super) fn interleave(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    move_rows(bytes, rows, heads, |half, row| half * (row % 2) + row / 2)
}

/// The rows of each head in another order: row `r` is row `from(half a head's rows, r)`. Rows may be of any
/// type, quantised too: they are moved as a whole. `heads` divides `rows`, and each has an even number.
fn move_rows(bytes: &[u8], rows: usize, heads: usize, from: impl Fn(usize, usize) -> usize) -> Vec<u8> {
    let head_dim = rows / heads;
    let row_bytes = bytes.len() / rows;
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (first, within) = (row / head_dim * head_dim, row % head_dim);
        let at = (first + from(head_dim / 2, within)) * row_bytes;
        out.extend(&bytes[at..at + row_bytes]);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::super::latent::Part;
    use super::*;
    use crate::config::{AttentionBias, ModelConfig, ModelType, parameters};

    #[test]
    fn rows_move_as_llama_cpp_moves_them_and_back() {
        // `LlamaModel.permute` of numpy's arange(12).reshape(12, 1) with 2 heads, in conversion/llama.py.
        let moved = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11];
        let plain: Vec<u8> = (0..12).collect();
        assert_eq!(interleave(&plain, 12, 2), moved);
        assert_eq!(half_split(&moved, 12, 2), plain);
        // Rows of three bytes.
        let wide: Vec<u8> = (0..36).collect();
        let there = interleave(&wide, 12, 2);
        assert_eq!(there[3..6], [9, 10, 11]);
        assert_eq!(half_split(&there, 12, 2), wide);
    }

    /// Made by fixtures/make.py with llama.cpp's own table of names.
    #[test]
    fn names_are_those_of_llama_cpp() {
        let table: HashMap<(&str, &str), &str> = (include_str!("fixtures/names.txt").lines())
            .map(|line| {
                let mut words = line.split(' ');
                let mut next = || words.next().unwrap();
                ((next(), next()), next())
            })
            .collect();
        let mut checked = 0;
        for folder in ["configs/llama", "configs/qwen3", "configs/qwen3_moe", "configs/olmoe"]
            .map(|name| format!("{name}.json"))
            .into_iter()
            .chain(["qwen2", "qwen2_moe"].map(|name| format!("../../models/src/gguf/fixtures/{name}.json")))
            .chain(
                ["mixtral", "glm4_moe", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "gpt_oss"]
                    .map(|name| format!("{name}/config.json")),
            )
        {
            let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data"));
            let mut config = ModelConfig::from_file(&data.join(folder)).unwrap();
            config.tie_word_embeddings = false;
            let kind = config.model_type.as_str();
            if let ModelType::Llama | ModelType::Qwen3 = config.model_type {
                config.attention_bias = AttentionBias::Qkvo;
            }
            let architecture = Architecture::for_model(config.model_type).unwrap();
            for spec in parameters(&config) {
                let place = architecture.place(spec.id);
                let numbers = |name: &str, before: &str, letter: &str| {
                    let Some((start, rest)) = name.split_once(before) else { return name.to_string() };
                    format!(
                        "{start}{before}{letter}{}",
                        rest.trim_start_matches(|c: char| c.is_ascii_digit())
                    )
                };
                let name = numbers(&numbers(&spec.name, ".layers.", "N"), ".experts.", "E");
                let wanted = table.get(&(kind, name.as_str()));
                assert_eq!(wanted, Some(&numbers(&place.tensor, "blk.", "N").as_str()), "{kind} {name}");
                checked += 1;
            }
        }
        assert!(checked > 100);
        for (name, part) in [("k_b_proj", Part::Keys), ("v_b_proj", Part::Values)] {
            let name = format!("model.layers.N.self_attn.{name}.weight");
            assert_eq!(table[&("deepseek_v3", name.as_str())], part.tensor(7).replace('7', "N"));
        }
    }
}
