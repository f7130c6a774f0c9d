//! The ops of the catalogue, one file a group. Every one takes all float types and any strides.

mod attention;
mod attention_backward;
mod copy;
mod elementwise;
mod gather;
mod loss;
mod matmul;
mod moe;
mod norm;
mod optimizer;
mod quantised;
mod random;
mod reduce;
mod rope;

use crate::view::View;
use halite_hal::OpKind;

/// Runs an op on the current thread and its pool. The error says what was wrong with the operands'
/// values.
///
/// # Safety
/// The operands have passed [`halite_hal::Op::check`], no output overlaps itself, and no other thread
/// uses their memory.
pub(crate) unsafe fn run(kind: &OpKind, i: &[View], o: &[View]) -> Result<(), String> {
    // SAFETY: passed on to every op.
    unsafe {
        match kind {
            OpKind::Fill { value } => copy::fill(value.0, &o[0]),
            OpKind::Iota => copy::iota(&o[0]),
            OpKind::Copy => copy::copy(&i[0], &o[0]),
            OpKind::Embedding => gather::embedding(&i[0], &i[1], &o[0]),
            OpKind::Scatter { accumulate } => gather::scatter(&i[0], &i[1], &o[0], *accumulate),
            OpKind::Matmul { accumulate, .. } => {
                matmul::matmul(&i[0], &i[1], i.get(2), &o[0], *accumulate);
            }
            OpKind::GroupedMatmul { accumulate, .. } => {
                return matmul::grouped(&i[0], &i[1], &i[2], i.get(3), &o[0], *accumulate);
            }
            OpKind::GroupedMatmulWeight { accumulate } => {
                return matmul::grouped_weight(&i[0], &i[1], &i[2], &o[0], *accumulate);
            }
            OpKind::Unary(f) => elementwise::unary(*f, &i[0], &o[0]),
            OpKind::Binary(f) => elementwise::binary(*f, &i[0], &i[1], &o[0]),
            OpKind::Reduce { f, accumulate } => reduce::reduce(*f, *accumulate, &i[0], &o[0]),
            OpKind::Softmax => norm::softmax(&i[0], &o[0]),
            OpKind::SoftmaxBackward => norm::softmax_backward(&i[0], &i[1], &o[0]),
            OpKind::RmsNorm { eps } => norm::rms_norm(eps.0, &i[0], &i[1], &o[0], &o[1]),
            OpKind::RmsNormBackward { accumulate } => norm::rms_norm_backward(*accumulate, i, &o[0], &o[1]),
            OpKind::Rope { inverse, interleaved } => rope::rope(*inverse, *interleaved, i, &o[0]),
            OpKind::Attention(a) => return attention::attention(*a, i, &o[0], &o[1]),
            OpKind::AttentionBackward(a) => return attention_backward::attention_backward(*a, i, o),
            OpKind::SwiGlu => elementwise::swiglu(&i[0], &i[1], &o[0]),
            OpKind::SwiGluBackward => elementwise::swiglu_backward(i, &o[0], &o[1]),
            OpKind::CrossEntropy => loss::cross_entropy(&i[0], &i[1], &o[0], &o[1]),
            OpKind::CrossEntropyBackward => loss::cross_entropy_backward(i, &o[0]),
            OpKind::Router(r) => moe::router(*r, &i[0], i.get(1), &o[0], &o[1]),
            OpKind::RouterBackward(r) => moe::router_backward(*r, i, &o[0]),
            OpKind::ExpertPermutation { experts } => moe::permutation(*experts, &i[0], o),
            OpKind::Combine { accumulate, .. } => moe::combine(*accumulate, i, &o[0]),
            OpKind::CombineBackward => moe::combine_backward(i, &o[0], &o[1]),
            OpKind::ClipFactor { max_norm } => optimizer::clip_factor(max_norm.0, &i[0], &o[0], &o[1]),
            OpKind::AdamW(a) => optimizer::adamw(*a, i, o),
            OpKind::Philox(d) => random::philox(*d, &i[0], &o[0]),
            OpKind::Pack => quantised::pack(&i[0], &o[0]),
            other => return Err(format!("{} is no op of this backend", other.name())),
        }
    }
    Ok(())
}
