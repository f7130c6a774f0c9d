//! The plain f64 meaning of every op, and a device that computes with it.
//!
//! [`eval`] is the definition that every backend is held to: slow, sequential code with one file a group
//! of ops. It is written once for any [`Real`] number, so that the conformance suite can run the same
//! code on numbers that carry a bound of what f32 arithmetic may do to them.

mod array;
mod attention;
mod device;
mod elementwise;
#[cfg(test)]
mod gradients;
mod loss;
mod matmul;
mod moe;
mod norm;
mod optimizer;
mod random;
mod real;
mod rows;

pub use array::{Array, round};
pub(crate) use array::{decode, encode, for_each_offset};
pub use attention::visible;
pub use device::{ReferenceBackend, ReferenceDevice};
pub use moe::{best_first, biased_scores, scores};
pub use real::{Real, Sum};

use crate::OpKind;

/// Computes `outputs` from `inputs` as the op's definition says, without rounding: the caller rounds with
/// [`round`] to the dtype of each output. Outputs arrive with what they held before, which matters where
/// [`OpKind::updates`] says so, and with the shapes that [`crate::OpDesc::check`] wants. Indices are data
/// and never make this panic; shapes do when they were not checked.
pub fn eval<T: Real>(kind: &OpKind, inputs: &[Array<T>], outputs: &mut [Array<T>]) {
    match kind {
        OpKind::Fill { value } => elementwise::fill(*value, &mut outputs[0]),
        OpKind::Iota => elementwise::iota(&mut outputs[0]),
        OpKind::Copy => outputs[0].data.clone_from(&inputs[0].data),
        OpKind::Embedding => rows::embedding(inputs, &mut outputs[0]),
        OpKind::Scatter { accumulate } => rows::scatter(*accumulate, inputs, &mut outputs[0]),
        OpKind::Matmul { accumulate, bias } => matmul::matmul(*accumulate, *bias, inputs, &mut outputs[0]),
        OpKind::GroupedMatmul { accumulate, bias } => {
            matmul::grouped(*accumulate, *bias, inputs, &mut outputs[0]);
        }
        OpKind::GroupedMatmulWeight { accumulate } => {
            matmul::grouped_weight(*accumulate, inputs, &mut outputs[0]);
        }
        OpKind::Unary(f) => elementwise::unary(*f, &inputs[0], &mut outputs[0]),
        OpKind::Binary(f) => elementwise::binary(*f, inputs, &mut outputs[0]),
        OpKind::Reduce { f, accumulate } => {
            elementwise::reduce(*f, *accumulate, &inputs[0], &mut outputs[0]);
        }
        OpKind::Softmax => norm::softmax(&inputs[0], &mut outputs[0]),
        OpKind::SoftmaxBackward => norm::softmax_backward(inputs, &mut outputs[0]),
        OpKind::RmsNorm { eps } => norm::rms_norm(*eps, inputs, outputs),
        OpKind::RmsNormBackward { accumulate } => norm::rms_norm_backward(*accumulate, inputs, outputs),
        OpKind::Rope { inverse, interleaved } => {
            attention::rope(*inverse, *interleaved, inputs, &mut outputs[0]);
        }
        OpKind::Attention(a) => attention::forward(*a, inputs, outputs),
        OpKind::AttentionBackward(a) => attention::backward(*a, inputs, outputs),
        OpKind::SwiGlu => elementwise::swiglu(inputs, &mut outputs[0]),
        OpKind::SwiGluBackward => elementwise::swiglu_backward(inputs, outputs),
        OpKind::CrossEntropy => loss::cross_entropy(inputs, outputs),
        OpKind::CrossEntropyBackward => loss::cross_entropy_backward(inputs, &mut outputs[0]),
        OpKind::Router(r) => moe::router(*r, inputs, outputs),
        OpKind::RouterBackward(r) => moe::router_backward(*r, inputs, &mut outputs[0]),
        OpKind::ExpertPermutation { experts } => moe::permutation(*experts, &inputs[0], outputs),
        OpKind::Combine { weighted, accumulate } => {
            moe::combine(*weighted, *accumulate, inputs, &mut outputs[0]);
        }
        OpKind::CombineBackward => moe::combine_backward(inputs, outputs),
        OpKind::ClipFactor { max_norm } => optimizer::clip_factor(*max_norm, &inputs[0], outputs),
        OpKind::AdamW(a) => optimizer::adamw(*a, inputs, outputs),
        OpKind::Philox(d) => random::philox(*d, &inputs[0], &mut outputs[0]),
        OpKind::Pack => outputs[0].data.clone_from(&inputs[0].data),
        OpKind::Custom(c) => T::custom(&*c.0, inputs, outputs),
    }
}
