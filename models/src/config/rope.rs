//! Rotary position embedding: its settings, its frequencies and its two spellings in JSON.
//!
//! Older files have `rope_theta` and `rope_scaling` beside the other keys, newer ones a single
//! `rope_parameters`. Frequencies are computed in f64, so that tables of any length stay exact to
//! the rounding of the table's own dtype.

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::fields::Fields;

/// Rotary position embedding.
///
/// Dimensions `i` and `i + rotary_dim / 2` of a head, or `2i` and `2i + 1` when interleaved, turn by
/// `position * inverse_frequencies()[i]`; cosine and sine are multiplied by [`Rope::attention_factor`].
/// Source: arXiv 2104.09864.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Change of the frequencies for longer contexts.
    pub scaling: Option<RopeScaling>,
    /// Dimensions of a head that turn, the leading ones (with latent attention the last); even, at most
    /// `head_dim`.
    pub rotary_dim: usize,
    /// Whether neighbouring dimensions turn together (`deepseek_v2`, `deepseek_v3`).
    pub interleaved: bool,
}

/// How frequencies are changed for contexts longer than the model was first trained on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// All frequencies divided by `factor`. Source: arXiv 2306.15595.
    Linear {
        /// Divisor, greater than 0.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, a ramp between. Source: Llama 3.1.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Turns within the original context below which a frequency is low.
        low_freq_factor: f64,
        /// Turns within the original context above which a frequency is high.
        high_freq_factor: f64,
        /// Context that the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
    },
    /// YaRN: a ramp over dimensions, and a factor on cosine and sine. Source: arXiv 2309.00071.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Context that the model was first trained on, in tokens.
        original_max_position_embeddings: usize,
        /// Turns within the original context above which a dimension is kept.
        beta_fast: f64,
        /// Turns within the original context below which a dimension is divided.
        beta_slow: f64,
        /// Strength of the factor on cosine and sine; only used with `mscale_all_dim`.
        mscale: Option<f64>,
        /// Strength of its divisor.
        mscale_all_dim: Option<f64>,
        /// The factor on cosine and sine, when it is given rather than computed.
        attention_factor: Option<f64>,
        /// Whether the ramp's ends are rounded outwards to whole dimensions.
        truncate: bool,
    },
}

impl Rope {
    /// Angle per position, in radians, of each of the `rotary_dim / 2` pairs of dimensions.
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let dim = self.rotary_dim as f64;
        let half = self.rotary_dim / 2;
        let plain = (0..half).map(|i| self.theta.powf(-2.0 * i as f64 / dim));
        match &self.scaling {
            None => plain.collect(),
            Some(RopeScaling::Linear { factor }) => plain.map(|f| f / factor).collect(),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                let context = *original_max_position_embeddings as f64;
                plain
                    .map(|f| {
                        let turns = context * f / std::f64::consts::TAU;
                        let keep = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        let keep = keep.clamp(0.0, 1.0);
                        (1.0 - keep) * f / factor + keep * f
                    })
                    .collect()
            }
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                truncate,
                ..
            }) => {
                let context = *original_max_position_embeddings as f64;
                // The dimension that makes `turns` turns within the original context.
                let dimension = |turns: f64| {
                    dim * (context / (turns * std::f64::consts::TAU)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001; // a ramp needs some width
                }
                plain
                    .enumerate()
                    .map(|(i, f)| {
                        let divide = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        divide * f / factor + (1.0 - divide) * f
                    })
                    .collect()
            }
        }
    }

    /// Factor on cosine and sine: 1 except with YaRN.
    pub fn attention_factor(&self) -> f64 {
        let Some(RopeScaling::Yarn { factor, mscale, mscale_all_dim, attention_factor, .. }) = &self.scaling
        else {
            return 1.0;
        };
        let strength = |m| yarn_strength(*factor, m);
        match (attention_factor, mscale, mscale_all_dim) {
            (Some(given), _, _) => *given,
            (None, Some(m), Some(all)) if *m != 0.0 && *all != 0.0 => strength(*m) / strength(*all),
            _ => strength(1.0),
        }
    }

    /// What latent attention multiplies queries and keys with under YaRN: `0.1 · mscale_all_dim · ln factor + 1`.
    pub(super) fn softmax_stretch(&self) -> f64 {
        match &self.scaling {
            Some(RopeScaling::Yarn { factor, mscale_all_dim: Some(all), .. }) => yarn_strength(*factor, *all),
            _ => 1.0,
        }
    }

    /// Reads either spelling. `partial_default` is the model type's own part of `head_dim`.
    pub(super) fn read(
        config: &Fields<'_>,
        theta_default: f64,
        partial_default: f64,
        head_dim: usize,
        max_position_embeddings: usize,
    ) -> Result<Rope, ConfigError> {
        let nothing = Value::Object(Map::new());
        let key = config.pick(&["rope_parameters", "rope_scaling"]);
        let inner = Fields::new(key, config.get(key).unwrap_or(&nothing))?;
        let theta = match inner.maybe_float("rope_theta")? {
            Some(theta) => theta,
            None => config.float_or("rope_theta", theta_default)?,
        };
        let partial = match inner.maybe_float("partial_rotary_factor")? {
            Some(partial) => partial,
            None => config.float_or("partial_rotary_factor", partial_default)?,
        };
        if !(partial > 0.0 && partial <= 1.0) {
            let wanted = "greater than 0 and at most 1";
            return Err(ConfigError::invalid("partial_rotary_factor", partial, wanted));
        }
        // Truncation is transformers' rule.
        let rotary_dim = (head_dim as f64 * partial) as usize;
        let scaling = read_scaling(key, &inner, max_position_embeddings)?;
        let interleaved = config.flag_or("rope_interleave", false)?;
        Ok(Rope { theta, scaling, rotary_dim, interleaved })
    }

    /// The keys of the older spelling, which every version of transformers reads.
    pub(super) fn write(&self, head_dim: usize, out: &mut Map<String, Value>) {
        out.insert("rope_theta".into(), json!(self.theta));
        out.insert("rope_scaling".into(), self.scaling.as_ref().map_or(Value::Null, write_scaling));
        if self.rotary_dim != head_dim {
            let mut partial = self.rotary_dim as f64 / head_dim as f64;
            if (head_dim as f64 * partial) as usize != self.rotary_dim {
                partial = partial.next_up(); // the quotient was rounded down, and readers truncate
            }
            out.insert("partial_rotary_factor".into(), json!(partial));
        }
        if self.interleaved {
            out.insert("rope_interleave".into(), json!(true));
        }
    }

    pub(super) fn validate(&self, head_dim: usize) -> Result<(), ConfigError> {
        positive("rope_theta", self.theta)?;
        if self.rotary_dim == 0 || !self.rotary_dim.is_multiple_of(2) || self.rotary_dim > head_dim {
            let wanted = format!("an even number from 2 to head_dim ({head_dim}): dimensions turn in pairs");
            return Err(ConfigError::invalid("rotary dimensions", self.rotary_dim, wanted));
        }
        match &self.scaling {
            None => Ok(()),
            Some(RopeScaling::Linear { factor }) => positive("rope_scaling.factor", *factor),
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                positive("rope_scaling.factor", *factor)?;
                positive("rope_scaling.low_freq_factor", *low_freq_factor)?;
                original(*original_max_position_embeddings)?;
                if high_freq_factor.is_finite() && high_freq_factor > low_freq_factor {
                    return Ok(());
                }
                let wanted = format!("greater than low_freq_factor ({low_freq_factor})");
                Err(ConfigError::invalid("rope_scaling.high_freq_factor", high_freq_factor, wanted))
            }
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
                attention_factor,
                ..
            }) => {
                positive("rope_scaling.factor", *factor)?;
                positive("rope_scaling.beta_slow", *beta_slow)?;
                original(*original_max_position_embeddings)?;
                if !(beta_fast.is_finite() && beta_fast >= beta_slow) {
                    let wanted = format!("at least beta_slow ({beta_slow})");
                    return Err(ConfigError::invalid("rope_scaling.beta_fast", beta_fast, wanted));
                }
                if self.theta <= 1.0 {
                    return Err(ConfigError::invalid("rope_theta", self.theta, "greater than 1 with yarn"));
                }
                let strengths = [
                    ("rope_scaling.mscale", mscale),
                    ("rope_scaling.mscale_all_dim", mscale_all_dim),
                    ("rope_scaling.attention_factor", attention_factor),
                ];
                for (key, value) in strengths {
                    if let Some(v) = value.filter(|v| !(v.is_finite() && *v >= 0.0)) {
                        return Err(ConfigError::invalid(key, v, "a finite number, 0 or more"));
                    }
                }
                Ok(())
            }
        }
    }
}

/// YaRN's strength `m` at a stretch of the context by `factor`.
fn yarn_strength(factor: f64, m: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
}

fn positive(key: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ConfigError::invalid(key, value, "a finite number greater than 0"))
}

fn original(context: usize) -> Result<(), ConfigError> {
    if context > 0 {
        return Ok(());
    }
    Err(ConfigError::invalid("rope_scaling.original_max_position_embeddings", context, "1 or more"))
}

fn read_scaling(
    key: &str,
    inner: &Fields<'_>,
    max_position_embeddings: usize,
) -> Result<Option<RopeScaling>, ConfigError> {
    let kind = inner.maybe_text(inner.pick(&["rope_type", "type"]))?.unwrap_or("default");
    let context = || inner.size_or("original_max_position_embeddings", max_position_embeddings);
    Ok(Some(match kind {
        "default" => return Ok(None),
        "linear" => RopeScaling::Linear { factor: inner.float("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: inner.float("factor")?,
            low_freq_factor: inner.float("low_freq_factor")?,
            high_freq_factor: inner.float("high_freq_factor")?,
            original_max_position_embeddings: context()?,
        },
        "yarn" => {
            let original_max_position_embeddings = context()?;
            let stretch = max_position_embeddings as f64 / original_max_position_embeddings as f64;
            RopeScaling::Yarn {
                factor: inner.float_or("factor", stretch)?,
                original_max_position_embeddings,
                beta_fast: inner.float_or("beta_fast", 32.0)?,
                beta_slow: inner.float_or("beta_slow", 1.0)?,
                mscale: inner.maybe_float("mscale")?,
                mscale_all_dim: inner.maybe_float("mscale_all_dim")?,
                attention_factor: inner.maybe_float("attention_factor")?,
                truncate: inner.flag_or("truncate", true)?,
            }
        }
        other => return Err(ConfigError::unsupported(format!("`{key}` of type \"{other}\""))),
    }))
}

fn write_scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
        RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
            attention_factor,
            truncate,
        } => {
            let mut out = json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_max_position_embeddings,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "truncate": truncate,
            });
            let optional = [
                ("mscale", mscale),
                ("mscale_all_dim", mscale_all_dim),
                ("attention_factor", attention_factor),
            ];
            for (key, value) in optional {
                if let Some(v) = value {
                    out[key] = json!(v);
                }
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA3: [f64; 8] = [
        1.0,
        0.0794030092,
        0.00470075387,
        0.000911583092,
        0.000176776695,
        3.4281022e-05,
        6.64786987e-06,
        1.28917317e-06,
    ];
    const YARN: [f64; 8] =
        [1.0, 0.213453742, 0.035, 0.000790569415, 0.00025, 7.90569415e-05, 2.5e-05, 7.90569415e-06];
    const YARN_FACTOR: f64 = 1.0857263992561355;

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() <= 1e-6 * w.abs(), "{found:?} is not {wanted:?}");
        }
    }

    #[test]
    fn plain_frequencies() {
        let rope = Rope { theta: 10000.0, scaling: None, rotary_dim: 8, interleaved: false };
        close(&rope.inverse_frequencies(), &[1.0, 0.1, 0.01, 0.001]);
        assert_eq!(rope.attention_factor(), 1.0);
    }

    // Wanted values: the formulas of transformers' modeling_rope_utils, evaluated apart from this code.
    #[test]
    fn scaled_frequencies_are_those_of_transformers() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64,
        };
        let rope = Rope { theta: 500000.0, scaling: Some(llama3), rotary_dim: 16, interleaved: false };
        close(&rope.inverse_frequencies(), &LLAMA3);
        let yarn = RopeScaling::Yarn {
            factor: 40.0,
            original_max_position_embeddings: 64,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale: Some(1.0),
            mscale_all_dim: Some(0.707),
            attention_factor: None,
            truncate: true,
        };
        let rope = Rope { theta: 10000.0, scaling: Some(yarn), rotary_dim: 16, interleaved: false };
        close(&rope.inverse_frequencies(), &YARN);
        close(&[rope.attention_factor()], &[YARN_FACTOR]);
    }

    #[test]
    fn written_partial_factor_reads_back_for_every_width() {
        for head_dim in (2..=256).step_by(2) {
            for rotary_dim in (2..=head_dim).step_by(2) {
                let rope = Rope { theta: 1e4, scaling: None, rotary_dim, interleaved: rotary_dim % 4 == 0 };
                let mut out = Map::new();
                rope.write(head_dim, &mut out);
                let value = Value::Object(out);
                let fields = Fields::new("config", &value).unwrap();
                assert_eq!(Rope::read(&fields, 1.0, 1.0, head_dim, 64).unwrap(), rope);
            }
        }
    }
}
