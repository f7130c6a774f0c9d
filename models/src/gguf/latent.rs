//! The up-projection of latent vectors, [`LatentUp`](crate::config::LayerParam::LatentUp), which files have in
//! one of two forms: whole (`attn_kv_b`) in older ones, and in those of today in two parts, so that llama.cpp
//! can attend in the latent space. `attn_k_b` has the rows for keys, transposed in each head:
//! `[heads, kv_lora_rank, plain]`; `attn_v_b` those for values: `[heads, value, kv_lora_rank]`.
//!
//! Source: `DeepseekV2Model.modify_tensors` in llama.cpp's `conversion/deepseek.py`. `plain` is the part of a
//! head's key that doesn't turn.

use super::{GgmlType, GgufError};
use crate::config::{AttentionKind, ModelConfig};

/// The sizes of both forms.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatentUp {
    heads: usize,
    plain: usize,
    value: usize,
    rank: usize,
}

/// One of the two parts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    Keys,
    Values,
}

impl Part {
    pub const BOTH: [Part; 2] = [Part::Keys, Part::Values];

    /// The name of its tensor.
    pub fn tensor(self, layer: usize) -> String {
        let name = match self {
            Part::Keys => "attn_k_b",
            Part::Values => "attn_v_b",
        };
        format!("blk.{layer}.{name}.weight")
    }
}

impl LatentUp {
    /// Those of a valid configuration; `None` without latent attention.
    pub fn of(config: &ModelConfig) -> Option<LatentUp> {
        let AttentionKind::Latent(latent) = config.attention else { return None };
        Some(LatentUp {
            heads: config.num_attention_heads,
            plain: config.head_dim - config.rope.rotary_dim,
            value: latent.v_head_dim,
            rank: latent.kv_lora_rank,
        })
    }

    /// The shape of a part's tensor.
    pub fn shape(&self, part: Part) -> [usize; 3] {
        match part {
            Part::Keys => [self.heads, self.rank, self.plain],
            Part::Values => [self.heads, self.value, self.rank],
        }
    }

    /// A part of the whole `[heads * (plain + value), kv_lora_rank]`, both with elements of `size` bytes.
    fn part(&self, part: Part, whole: &[u8], size: usize) -> Vec<u8> {
        let row = self.rank * size;
        let mut out = Vec::with_capacity(whole.len());
        for head in whole.chunks_exact((self.plain + self.value) * row) {
            let (keys, values) = head.split_at(self.plain * row);
            match part {
                Part::Keys => transpose(keys, self.rank, size, &mut out),
                Part::Values => out.extend(values),
            }
        }
        out
    }

    /// A part of the whole, whose elements have that type.
    pub fn split(&self, part: Part, whole: &[u8], ggml_type: GgmlType) -> Result<Vec<u8>, GgufError> {
        if ggml_type.block_elems() > 1 {
            return Err(GgufError::Unsupported {
                what: format!("the up-projection of latent vectors in type {ggml_type}"),
                wanted: "a part of it is transposed, so it must be of a plain type, as f16".into(),
            });
        }
        let size = ggml_type.block_bytes();
        let wanted = self.heads * (self.plain + self.value) * self.rank * size;
        if whole.len() != wanted {
            let what = format!("{} bytes for the up-projection of latent vectors", whole.len());
            return Err(GgufError::Unsupported { what, wanted: format!("they must be {wanted}") });
        }
        Ok(self.part(part, whole, size))
    }

    /// The whole of both parts, all with elements of `size` bytes.
    pub fn join(&self, keys: &[u8], values: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(keys.len() + values.len());
        let heads = keys.chunks_exact(self.rank * self.plain * size);
        for (keys, values) in heads.zip(values.chunks_exact(self.value * self.rank * size)) {
            transpose(keys, self.plain, size, &mut out);
            out.extend(values);
        }
        out
    }
}

/// Adds the transpose of a matrix with `columns` columns and elements of `size` bytes.
fn transpose(matrix: &[u8], columns: usize, size: usize, out: &mut Vec<u8>) {
    for column in 0..columns {
        for row in matrix.chunks_exact(columns * size) {
            out.extend(&row[column * size..(column + 1) * size]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_those_of_llama_cpp_s_converter() {
        // Of numpy's arange(20).reshape(10, 2): 2 heads with 2 rows for keys and 3 for values.
        let up = LatentUp { heads: 2, plain: 2, value: 3, rank: 2 };
        let whole: Vec<u8> = (0..20).collect();
        assert_eq!(up.part(Part::Keys, &whole, 1), [0, 2, 1, 3, 10, 12, 11, 13]);
        assert_eq!(up.part(Part::Values, &whole, 1), [4, 5, 6, 7, 8, 9, 14, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn blocks_and_other_sizes_are_not_split() {
        let up = LatentUp { heads: 1, plain: 1, value: 1, rank: 32 };
        let message = up.split(Part::Keys, &[0; 68], GgmlType::Q8_0).unwrap_err().to_string();
        assert!(message.contains("in type q8_0 is not supported"), "{message}");
        let message = up.split(Part::Keys, &[0; 68], GgmlType::F16).unwrap_err().to_string();
        assert!(message.contains("68 bytes") && message.contains("must be 128"), "{message}");
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(heads in 1..4usize, plain in 1..5usize, value in 1..5usize, rank in 1..5usize, size in 1..5usize) {
            let up = LatentUp { heads, plain, value, rank };
            let whole: Vec<u8> = (0..heads * (plain + value) * rank * size).map(|i| i as u8).collect();
            let [keys, values] = Part::BOTH.map(|part| up.part(part, &whole, size));
            for (part, bytes) in Part::BOTH.into_iter().zip([&keys, &values]) {
                prop_assert_eq!(bytes.len(), up.shape(part).iter().product::<usize>() * size);
            }
            prop_assert_eq!(up.join(&keys, &values, size), whole);
        }
    }
}
