//! Experts that a checkpoint stores stacked, as gpt-oss does: where one expert's matrix or bias lies, and the way
//! back.
//!
//! `gate_up_proj [experts, hidden, 2·width]` has gate and up in turns, input by output; `down_proj [experts, width,
//! hidden]` too. Their quantised form is output by input: `…_blocks [experts, out, in/32, 16]` of two e2m1 numbers
//! a byte, the first in the low bits, and `…_scales [experts, out, in/32]`, exponents with a bias of 127 (OCP
//! Microscaling Formats 1.0, section 6.3).

use halite_hal::DType;
use safetensors::Dtype;

use super::{BoxError, TensorMeta, TensorSource, TensorView, Values, Weights, WeightsError};
use crate::config::{LayerParam, ModelType, ParamId, ParamSpec, Projection};

/// Elements that share a scale.
const BLOCK: usize = 32;

/// A part of a stack.
struct Part {
    /// The stack's tensor, without the suffix of its quantised form.
    name: String,
    expert: usize,
    bias: bool,
    /// Output `o` of the expert is output `first + step · o` of the stack.
    first: usize,
    step: usize,
}

impl Part {
    fn of(spec: &ParamSpec) -> Option<Part> {
        let ParamId::Layer { layer, param } = spec.id else { return None };
        let (expert, projection, bias) = match param {
            LayerParam::Expert { expert, projection } => (expert, projection, false),
            LayerParam::ExpertBias { expert, projection } => (expert, projection, true),
            _ => return None,
        };
        let (matrix, first, step) = match projection {
            Projection::Gate => ("gate_up_proj", 0, 2),
            Projection::Up => ("gate_up_proj", 1, 2),
            Projection::Down => ("down_proj", 0, 1),
        };
        let suffix = if bias { "_bias" } else { "" };
        Some(Part {
            name: format!("model.layers.{layer}.mlp.experts.{matrix}{suffix}"),
            expert,
            bias,
            first,
            step,
        })
    }

    fn blocks(&self) -> [String; 2] {
        ["blocks", "scales"].map(|what| format!("{}_{what}", self.name))
    }
}

/// A tensor of a folder: one parameter, or a stack of them.
struct Stored {
    meta: TensorMeta,
    /// The parameters, and the part of the stack that each is.
    members: Vec<(ParamSpec, Option<Part>)>,
}

/// Adds the tensors of a model to be written as its model type has them in folders, in one element type. `read`
/// gives a parameter's elements in that type, in the parameter's own shape.
pub fn push_parameters<'a>(
    to: &mut TensorSource<'a>,
    model_type: ModelType,
    specs: impl IntoIterator<Item = (ParamSpec, Dtype)>,
    read: impl Fn(&ParamSpec) -> Result<Vec<u8>, BoxError> + Clone + 'a,
) {
    let mut tensors: Vec<Stored> = Vec::new();
    for (spec, dtype) in specs {
        let part = Part::of(&spec).filter(|_| model_type == ModelType::GptOss);
        let stack = part.as_ref().and_then(|p| tensors.iter().position(|t| t.meta.name == p.name));
        if let Some(at) = stack {
            tensors[at].meta.shape[0] = part.as_ref().map_or(1, |p| p.expert + 1);
            tensors[at].members.push((spec, part));
            continue;
        }
        let (name, shape) = match &part {
            None => (spec.name.clone(), spec.shape.clone()),
            Some(p) => {
                let wide = p.step * spec.shape[0];
                (p.name.clone(), [&[1], &spec.shape[1..], &[wide]].concat())
            }
        };
        tensors.push(Stored { meta: TensorMeta { name, dtype, shape }, members: vec![(spec, part)] });
    }
    for Stored { meta, members } in tensors {
        let read = read.clone();
        let (size, elems) = (meta.dtype.bitsize() / 8, meta.shape.iter().product::<usize>());
        let per_expert = elems / meta.shape.first().copied().unwrap_or(1).max(1);
        let wide = meta.shape.last().copied().unwrap_or(1);
        to.push(meta, move || {
            let [(spec, None)] = &members[..] else {
                let mut bytes = vec![0; elems * size];
                for (spec, part) in members.iter().filter_map(|(s, p)| Some((s, p.as_ref()?))) {
                    let values = read(spec)?;
                    let input = spec.shape.get(1).copied().unwrap_or(1);
                    for (i, value) in values.chunks_exact(size).enumerate() {
                        let (o, k) = (i / input, i % input);
                        let at = part.expert * per_expert + k * wide + part.first + part.step * o;
                        bytes[at * size..][..size].copy_from_slice(value);
                    }
                }
                return Ok(bytes.into());
            };
            Ok(read(spec)?.into())
        });
    }
}

impl Weights {
    /// The tensors that hold a parameter which has none of its own, if they are there.
    pub(super) fn stacks(&self, spec: &ParamSpec) -> Vec<String> {
        let Some(part) = Part::of(spec) else { return Vec::new() };
        let names = if part.bias || self.has(&part.name) { vec![part.name] } else { part.blocks().into() };
        if names.iter().all(|name| self.has(name)) { names } else { Vec::new() }
    }

    /// A part of a stack, in the order of the parameter's own shape.
    pub(super) fn unstacked(&self, spec: &ParamSpec) -> Result<Option<Values<'static>>, WeightsError> {
        let Some(part) = Part::of(spec).filter(|_| !self.stacks(spec).is_empty()) else { return Ok(None) };
        // `[out, in]`, or `[out]` of a bias.
        let (out, input) = (spec.shape[0], spec.shape.get(1).copied().unwrap_or(1));
        if !part.bias && !self.has(&part.name) {
            return self.blocks_of(&part, out, input).map(Some);
        }
        let stack = self.tensor(&part.name)?;
        let wide = part.step * out;
        let fits = match *stack.shape {
            [experts, n] => part.bias && n == wide && part.expert < experts,
            [experts, k, n] => !part.bias && k == input && n == wide && part.expert < experts,
            _ => false,
        };
        if !fits {
            let mut wanted = vec![part.expert + 1, input, wide];
            if part.bias {
                wanted.remove(1);
            }
            return Err(self.wrong_shape(&stack, wanted));
        }
        let rows = stack.rows_f32(part.expert * input, input, wide)?;
        let element = |o: usize, i: usize| rows[i * wide + part.first + part.step * o];
        let places = (0..out).flat_map(|o| (0..input).map(move |i| (o, i)));
        Ok(Some(Values::of_f32(&places.map(|(o, i)| element(o, i)).collect::<Vec<f32>>())))
    }

    /// Quantised experts in the order that devices know: the second half of a block in the high bits.
    fn blocks_of(&self, part: &Part, out: usize, input: usize) -> Result<Values<'static>, WeightsError> {
        let [blocks, scales] = part.blocks();
        let (blocks, scales) = (self.tensor(&blocks)?, self.tensor(&scales)?);
        let wide = part.step * out;
        let groups = input.div_ceil(BLOCK);
        let fits = |view: &TensorView<'_>, inner: &[usize]| {
            view.shape.split_first().is_some_and(|(experts, rest)| part.expert < *experts && rest == inner)
        };
        for (view, inner) in [(&blocks, &[wide, groups, BLOCK / 2][..]), (&scales, &[wide, groups])] {
            if view.dtype != Dtype::U8 {
                return Err(view.wrong_dtype("U8"));
            }
            if !fits(view, inner) || !input.is_multiple_of(BLOCK) {
                return Err(self.wrong_shape(view, [&[part.expert + 1], inner].concat()));
            }
        }
        let mut bytes = Vec::with_capacity(out * groups * DType::Mxfp4.block_bytes());
        for o in 0..out {
            let row = (part.expert * wide + part.first + part.step * o) * groups;
            for group in row..row + groups {
                let pairs = &blocks.bytes[group * (BLOCK / 2)..][..BLOCK / 2];
                let code = |i: usize| (pairs[i / 2] >> (4 * (i % 2))) & 15;
                bytes.push(scales.bytes[group]);
                bytes.extend((0..BLOCK / 2).map(|i| code(i) | code(i + BLOCK / 2) << 4));
            }
        }
        Ok(Values { dtype: DType::Mxfp4, bytes: bytes.into() })
    }
}
