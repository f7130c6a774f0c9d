//! The logical parameters of a model, in a fixed order, with their Hugging Face names.
//!
//! Matrices are `[out, in]`. Experts are listed one by one, as checkpoints on the Hub store them,
//! however a model lays them out in memory.

use super::{AttentionKind, FeedForward, Latent, ModelConfig, ModelType, QkNorm};

/// Which parameter of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParamId {
    /// Token embedding `[vocab, hidden]`; also the head if they are tied.
    Embedding,
    /// A parameter of layer `layer` (0-based).
    Layer {
        /// The layer.
        layer: usize,
        /// Its parameter.
        param: LayerParam,
    },
    /// Weight of the norm before the head `[hidden]`.
    FinalNorm,
    /// Untied head `[vocab, hidden]`.
    Head,
}

/// Which of the three matrices of a SwiGLU: `down(silu(gate(x)) * up(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// `[width, hidden]`, passed through SiLU.
    Gate,
    /// `[width, hidden]`.
    Up,
    /// `[hidden, width]`.
    Down,
}

/// Which parameter of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerParam {
    /// Weight of the norm before attention `[hidden]`.
    InputNorm,
    /// Query projection `[heads * head_dim, hidden]`.
    QueryWeight,
    /// Its bias.
    QueryBias,
    /// Key projection `[kv_heads * head_dim, hidden]`.
    KeyWeight,
    /// Its bias.
    KeyBias,
    /// Value projection `[kv_heads * head_dim, hidden]`.
    ValueWeight,
    /// Its bias.
    ValueBias,
    /// Output projection `[hidden, heads * value_dim]`.
    OutputWeight,
    /// Its bias.
    OutputBias,
    /// Weight of the query norm: `[head_dim]` or `[heads * head_dim]`.
    QueryNorm,
    /// Weight of the key norm: `[head_dim]` or `[kv_heads * head_dim]`.
    KeyNorm,
    /// A score a head `[heads]`, whose value is zero.
    Sinks,
    /// Latent attention: what compresses queries `[q_lora_rank, hidden]`.
    QueryDown,
    /// Weight of the norm of compressed queries `[q_lora_rank]`.
    QueryDownNorm,
    /// Queries from compressed ones `[heads * head_dim, q_lora_rank]`.
    QueryUp,
    /// The latent vector, then the keys' common rotary part: `[kv_lora_rank + rotary_dim, hidden]`.
    LatentWeight,
    /// Weight of the norm of the latent vector `[kv_lora_rank]`.
    LatentNorm,
    /// For each head keys without rotary part, then values, from the latent vector:
    /// `[heads * (head_dim - rotary_dim + value_dim), kv_lora_rank]`.
    LatentUp,
    /// Weight of the norm before the feed-forward part `[hidden]`.
    PostAttentionNorm,
    /// Dense feed-forward.
    Dense(Projection),
    /// Router `[experts, hidden]`.
    Router,
    /// Bias of the router's logits `[experts]`.
    RouterBias,
    /// The router's selection bias `[experts]`; balanced by rule, not by gradient.
    SelectionBias,
    /// A routed expert.
    Expert {
        /// Which expert (0-based).
        expert: usize,
        /// Which of its matrices.
        projection: Projection,
    },
    /// Bias of a routed expert: `[width]` for gate and up, `[hidden]` for down.
    ExpertBias {
        /// Which expert (0-based).
        expert: usize,
        /// Of which of its matrices.
        projection: Projection,
    },
    /// The shared experts, fused.
    Shared(Projection),
    /// What the shared experts' result is weighted by, through a sigmoid: `[1, hidden]`.
    SharedGate,
}

/// How a parameter starts in a model trained from scratch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Independent normals of mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
}

/// One logical parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// Which one it is.
    pub id: ParamId,
    /// Its tensor name in checkpoints of the configuration's model type.
    pub name: String,
    /// Its shape; matrices are `[out, in]`.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether gradients change it.
    pub trainable: bool,
    /// Whether weight decay applies by default: to matrices, not to norms and biases.
    pub decay: bool,
}

/// Every parameter of a valid configuration: embedding, layers in order, final norm, head.
pub fn parameters(config: &ModelConfig) -> Vec<ParamSpec> {
    let mut list = Listing { config, specs: Vec::new() };
    let hidden = config.hidden_size;
    list.matrix(ParamId::Embedding, config.vocab_size, hidden);
    for layer in 0..config.num_hidden_layers {
        list.layer(layer);
    }
    list.vector(ParamId::FinalNorm, hidden, Init::Ones);
    if !config.tie_word_embeddings {
        list.matrix(ParamId::Head, config.vocab_size, hidden);
    }
    list.specs
}

struct Listing<'a> {
    config: &'a ModelConfig,
    specs: Vec<ParamSpec>,
}

impl Listing<'_> {
    fn layer(&mut self, layer: usize) {
        use LayerParam::*;
        let c = self.config;
        let at = |param| ParamId::Layer { layer, param };
        let hidden = c.hidden_size;
        self.vector(at(InputNorm), hidden, Init::Ones);
        match c.attention {
            AttentionKind::GroupedQuery => self.grouped_query(layer),
            AttentionKind::Latent(latent) => self.latent(layer, latent),
        }
        self.vector(at(PostAttentionNorm), hidden, Init::Ones);

        match c.feed_forward(layer) {
            FeedForward::Dense { intermediate_size } => self.swiglu(intermediate_size, |p| at(Dense(p))),
            FeedForward::Moe(moe) => {
                self.matrix(at(Router), moe.num_experts, hidden);
                if moe.bias {
                    self.vector(at(RouterBias), moe.num_experts, Init::Zeros);
                }
                if moe.selection_bias {
                    self.vector(at(SelectionBias), moe.num_experts, Init::Zeros);
                }
                for expert in 0..moe.num_experts {
                    self.swiglu(moe.moe_intermediate_size, |projection| at(Expert { expert, projection }));
                }
                for expert in (0..moe.num_experts).filter(|_| moe.bias) {
                    for projection in [Projection::Gate, Projection::Up, Projection::Down] {
                        let out = match projection {
                            Projection::Down => hidden,
                            _ => moe.moe_intermediate_size,
                        };
                        self.vector(at(ExpertBias { expert, projection }), out, Init::Zeros);
                    }
                }
                if moe.n_shared_experts > 0 {
                    self.swiglu(moe.shared_intermediate_size, |p| at(Shared(p)));
                }
                if moe.shared_gate {
                    self.matrix(at(SharedGate), 1, hidden);
                }
            }
        }
    }

    fn grouped_query(&mut self, layer: usize) {
        use LayerParam::*;
        let c = self.config;
        let at = |param| ParamId::Layer { layer, param };
        let (hidden, head) = (c.hidden_size, c.head_dim);
        let (q, kv) = (c.num_attention_heads * head, c.num_key_value_heads * head);
        let qkv = [(QueryWeight, QueryBias, q), (KeyWeight, KeyBias, kv), (ValueWeight, ValueBias, kv)];
        for (weight, bias, out) in qkv {
            self.matrix(at(weight), out, hidden);
            if c.attention_bias.on_qkv() {
                self.vector(at(bias), out, Init::Zeros);
            }
        }
        self.matrix(at(OutputWeight), hidden, q);
        if c.attention_bias.on_output() {
            self.vector(at(OutputBias), hidden, Init::Zeros);
        }
        let norms = match c.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some((head, head)),
            QkNorm::Projection => Some((q, kv)),
        };
        if let Some((of_query, of_key)) = norms {
            self.vector(at(QueryNorm), of_query, Init::Ones);
            self.vector(at(KeyNorm), of_key, Init::Ones);
        }
        if c.attention_sinks {
            self.vector(at(Sinks), c.num_attention_heads, Init::Zeros);
        }
    }

    fn latent(&mut self, layer: usize, latent: Latent) {
        use LayerParam::*;
        let c = self.config;
        let at = |param| ParamId::Layer { layer, param };
        let (hidden, heads, turned) = (c.hidden_size, c.num_attention_heads, c.rope.rotary_dim);
        match latent.q_lora_rank {
            None => self.matrix(at(QueryWeight), heads * c.head_dim, hidden),
            Some(rank) => {
                self.matrix(at(QueryDown), rank, hidden);
                self.vector(at(QueryDownNorm), rank, Init::Ones);
                self.matrix(at(QueryUp), heads * c.head_dim, rank);
            }
        }
        self.matrix(at(LatentWeight), latent.kv_lora_rank + turned, hidden);
        self.vector(at(LatentNorm), latent.kv_lora_rank, Init::Ones);
        let up = heads * (c.head_dim - turned + latent.v_head_dim);
        self.matrix(at(LatentUp), up, latent.kv_lora_rank);
        self.matrix(at(OutputWeight), hidden, heads * latent.v_head_dim);
    }

    fn swiglu(&mut self, width: usize, id: impl Fn(Projection) -> ParamId) {
        let hidden = self.config.hidden_size;
        self.matrix(id(Projection::Gate), width, hidden);
        self.matrix(id(Projection::Up), width, hidden);
        self.matrix(id(Projection::Down), hidden, width);
    }

    fn matrix(&mut self, id: ParamId, out: usize, input: usize) {
        let init = Init::Normal { std: self.config.initializer_range };
        self.push(id, vec![out, input], init);
    }

    fn vector(&mut self, id: ParamId, len: usize, init: Init) {
        self.push(id, vec![len], init);
    }

    fn push(&mut self, id: ParamId, shape: Vec<usize>, init: Init) {
        let selection_bias = matches!(id, ParamId::Layer { param: LayerParam::SelectionBias, .. });
        self.specs.push(ParamSpec {
            id,
            name: id.name(self.config.model_type),
            decay: shape.len() > 1,
            trainable: !selection_bias,
            shape,
            init,
        });
    }
}

impl ParamId {
    /// The tensor name in checkpoints of `model_type`.
    pub fn name(self, model_type: ModelType) -> String {
        match self {
            ParamId::Embedding => "model.embed_tokens.weight".into(),
            ParamId::FinalNorm => "model.norm.weight".into(),
            ParamId::Head => "lm_head.weight".into(),
            ParamId::Layer { layer, param } => format!("model.layers.{layer}.{}", param.name(model_type)),
        }
    }
}

impl LayerParam {
    fn name(self, model_type: ModelType) -> String {
        use LayerParam::*;
        let fixed = match self {
            InputNorm => "input_layernorm.weight",
            QueryWeight => "self_attn.q_proj.weight",
            QueryBias => "self_attn.q_proj.bias",
            KeyWeight => "self_attn.k_proj.weight",
            KeyBias => "self_attn.k_proj.bias",
            ValueWeight => "self_attn.v_proj.weight",
            ValueBias => "self_attn.v_proj.bias",
            OutputWeight => "self_attn.o_proj.weight",
            OutputBias => "self_attn.o_proj.bias",
            QueryNorm => "self_attn.q_norm.weight",
            KeyNorm => "self_attn.k_norm.weight",
            PostAttentionNorm => "post_attention_layernorm.weight",
            Dense(p) => return format!("mlp.{}.weight", p.name()),
            Sinks => "self_attn.sinks",
            QueryDown => "self_attn.q_a_proj.weight",
            QueryDownNorm => "self_attn.q_a_layernorm.weight",
            QueryUp => "self_attn.q_b_proj.weight",
            LatentWeight => "self_attn.kv_a_proj_with_mqa.weight",
            LatentNorm => "self_attn.kv_a_layernorm.weight",
            LatentUp => "self_attn.kv_b_proj.weight",
            Shared(p) if model_type == ModelType::Qwen2Moe => {
                return format!("mlp.shared_expert.{}.weight", p.name());
            }
            Shared(p) => return format!("mlp.shared_experts.{}.weight", p.name()),
            SharedGate => "mlp.shared_expert_gate.weight",
            Router if model_type == ModelType::Mixtral => "block_sparse_moe.gate.weight",
            Router if model_type == ModelType::GptOss => "mlp.router.weight",
            RouterBias if model_type == ModelType::GptOss => "mlp.router.bias",
            RouterBias => "mlp.gate.bias",
            Router => "mlp.gate.weight",
            SelectionBias => "mlp.gate.e_score_correction_bias",
            Expert { expert, projection } if model_type == ModelType::Mixtral => {
                let matrix = match projection {
                    Projection::Gate => "w1",
                    Projection::Up => "w3",
                    Projection::Down => "w2",
                };
                return format!("block_sparse_moe.experts.{expert}.{matrix}.weight");
            }
            Expert { expert, projection } => {
                return format!("mlp.experts.{expert}.{}.weight", projection.name());
            }
            ExpertBias { expert, projection } => {
                return format!("mlp.experts.{expert}.{}.bias", projection.name());
            }
        };
        fixed.into()
    }
}

impl Projection {
    fn name(self) -> &'static str {
        match self {
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::{AttentionBias, GroupScore, RouterScores};
    use super::*;

    #[test]
    fn everything_at_once_is_listed_once() {
        let mut config = ModelConfig::tiny();
        config.model_type = ModelType::Glm4Moe;
        config.attention_bias = AttentionBias::Qkv;
        config.qk_norm = QkNorm::PerHead;
        config.first_k_dense_replace = 1;
        config.intermediate_size = 100;
        config.tie_word_embeddings = true;
        let moe = config.moe.as_mut().unwrap();
        moe.num_experts = 6;
        moe.scores = RouterScores::Sigmoid;
        moe.selection_bias = true;
        moe.group_score = GroupScore::SumTop2;
        moe.n_shared_experts = 2;
        moe.shared_intermediate_size = 2 * moe.moe_intermediate_size;
        config.validate().unwrap();

        let specs = parameters(&config);
        let names: HashSet<&str> = specs.iter().map(|s| s.name.as_str()).collect();
        let ids: HashSet<ParamId> = specs.iter().map(|s| s.id).collect();
        assert_eq!((names.len(), ids.len()), (specs.len(), specs.len()));
        // Layer: 2 norms, 4 matrices, 3 biases, 2 q/k norms = 11; dense 3; experts 2 + 18 + 3.
        assert_eq!(specs.len(), 2 + 4 * 11 + 3 + 3 * 23);
        let find = |name: &str| specs.iter().find(|s| s.name == name).unwrap();
        assert_eq!(find("model.layers.0.mlp.down_proj.weight").shape, [128, 100]);
        assert_eq!(find("model.layers.1.mlp.shared_experts.up_proj.weight").shape, [384, 128]);
        assert_eq!(find("model.layers.3.mlp.experts.5.gate_proj.weight").shape, [192, 128]);
        let bias = find("model.layers.1.mlp.gate.e_score_correction_bias");
        assert!(!bias.trainable && !bias.decay && bias.shape == [6]);
        assert!(find("model.layers.0.self_attn.k_proj.bias").shape == [64]);
        assert!(!names.contains("model.layers.0.self_attn.o_proj.bias"));
        assert!(!names.contains("lm_head.weight"));
    }
}
