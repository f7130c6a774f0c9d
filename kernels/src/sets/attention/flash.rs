//! Attention and its gradient on tensor cores, for CUDA's devices: operands of one 16-bit type, columns by 16.

use super::forward::{Ends, Sizes, operands};
use super::sequences;
use crate::lowering::is_aligned;
use crate::sets::has_mma;
use crate::source::cuda_template;
use crate::{LaunchBuilder, Lowering};
use halite_hal::{Attention, DType, DeviceInfo, Layout, Op, OpDesc, Result, TensorRef};

/// How a workgroup divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flash {
    /// Blocks of 16 rows that a warp has.
    blocks: usize,
    /// Warps that have the same rows, and keys of their own.
    across: usize,
    /// Warps that have the same rows, and columns of v of their own.
    beside: usize,
    /// Keys that are staged at a time.
    keys: usize,
    /// The most columns of q and k, and of v, that registers allow for.
    columns: [usize; 2],
}

/// 128 rows: keys and values are read least often.
pub(super) const WIDE: Flash = Flash { blocks: 2, across: 1, beside: 1, keys: 32, columns: [128, 128] };
/// 64 rows, for shorter sequences.
pub(super) const NARROW: Flash = Flash { blocks: 1, across: 1, beside: 1, keys: 64, columns: [192, 128] };
/// Rows of one token, with the keys split among workgroups too.
pub(super) const SPLIT: Flash = Flash { blocks: 1, across: 4, beside: 1, keys: 64, columns: [192, 128] };
/// Heads of more columns: with 8 warps. Many heads share one kv head, where v is a part of k (MLA, absorbed).
pub(super) const LATENT: Flash = Flash { blocks: 1, across: 1, beside: 2, keys: 16, columns: [576, 512] };

/// Warps of a workgroup for each that has columns of v of its own.
const WARPS: usize = 4;
/// 16-bit numbers that a factor of f32 is the sum of, in a product with a 16-bit operand. One alone is off by more
/// than the sums may be; two leave 2⁻¹⁷.
const PIECES: u32 = 2;
/// Bytes of shared memory that kernels declare, at most, beside what a launch gives them.
const DECLARED: usize = 1024;

/// Elements from one staged row to the next, see `cuda/common/tiles.cuh`.
fn pitch(columns: usize) -> usize {
    columns + 8
}

/// Bytes of shared memory for so many rows of both widths.
fn bytes(rows: usize, d: usize, dv: usize) -> usize {
    2 * rows * (pitch(d) + pitch(dv))
}

/// Whether the device has instructions for products of the operands' type, and kernels for so many columns.
fn suits(operands: &[Layout], info: &DeviceInfo, columns: [usize; 2], most: [usize; 2]) -> bool {
    let dtype = operands[0].dtype;
    has_mma(info, dtype)
        && operands.iter().all(|x| x.dtype == dtype)
        && columns.iter().zip(most).all(|(&n, most)| n > 0 && n <= most && n.is_multiple_of(16))
}

impl Flash {
    fn rows(self) -> usize {
        16 * self.blocks * WARPS / self.across
    }

    /// Whether keys are split among workgroups, where there are few rows.
    pub fn splits(self) -> bool {
        self.across > 1 || self.beside > 1
    }

    /// Bytes of shared memory: q, and two stages of keys and values.
    fn bytes(self, s: &Sizes) -> usize {
        2 * self.rows() * pitch(s.d) + bytes(2 * self.keys, s.d, s.dv)
    }

    pub fn fits(self, s: &Sizes, desc: &OpDesc, info: &DeviceInfo) -> bool {
        let more = s.d > SPLIT.columns[0] || s.dv > SPLIT.columns[1];
        suits(&desc.inputs[..3], info, [s.d, s.dv], self.columns)
            && (self.beside == 1 || more && s.dv.is_multiple_of(16 * self.beside))
            && self.bytes(s) + DECLARED <= info.local_memory_bytes as usize
    }

    pub fn lower(
        self,
        op: &Op,
        a: Attention,
        s: &Sizes,
        ends: &Ends<'_>,
        to: &mut Lowering<'_>,
    ) -> Result<()> {
        let splits = if let Ends::Parts { splits, .. } = ends { *splits } else { 1 };
        // Rows of a token's heads; where keys are split, a workgroup has those of one token.
        let per_token =
            if self.across > 1 || splits > 1 { s.share().next_multiple_of(self.rows()) } else { s.share() };
        let tiles = (s.tokens * per_token).div_ceil(self.rows());
        // Memory for two stages of k and of v is enough for twice as many keys where they are one.
        let latent =
            self.beside > 1 && s.dv <= s.d && op.inputs[1].clone().slice(2, 0, s.dv).same_view(&op.inputs[2]);
        let keys = if latent { 2 * self.keys } else { self.keys };
        let bytes = if latent { 2 * (self.rows() + 2 * keys) * pitch(s.d) } else { self.bytes(s) };
        let launch = operands(to.launch(cuda_template!("attention_flash.cu")), op, a, s, ends)
            .literal("d", s.d as u32)
            .literal("dv", s.dv as u32)
            .literal("blocks", self.blocks as u32)
            .literal("across", self.across as u32)
            .literal("beside", self.beside as u32)
            .literal("latent", latent)
            .literal("resident", if self.beside > 1 { 1u32 } else { 2 })
            .literal("keys", keys as u32)
            .param("pitch", per_token)
            .param("tiles", tiles);
        let aligned =
            [("q_aligned", &op.inputs[0]), ("k_aligned", &op.inputs[1]), ("v_aligned", &op.inputs[2])];
        launch_all(launch, &aligned, [s.kv_heads, tiles * s.kv_heads * splits], self.beside, bytes)
    }
}

/// Rows of the side that a workgroup of the gradient's kernels has, and of the other that it stages at a time.
const SIDES: [usize; 2] = [16 * WARPS, 32];

/// Bytes of shared memory of the gradient's kernels: their own rows, and two stages of the other side's.
fn bytes_backward(d: usize, dv: usize) -> usize {
    bytes(SIDES[0] + 2 * SIDES[1], d, dv)
}

/// Whether [`backward`] can do it.
pub(super) fn fits_backward(desc: &OpDesc, info: &DeviceInfo) -> bool {
    let [q, v] = [1, 3].map(|i| &desc.inputs[i].shape);
    // Wider ones don't fit registers. What multiplies queries and keys here may be much smaller than 1, where two numbers
    // of f16 aren't enough, as they have no smaller exponents.
    desc.inputs[0].dtype == DType::BF16
        && suits(&desc.inputs[..4], info, [q[2], v[2]], WIDE.columns)
        && bytes_backward(q[2], v[2]) + DECLARED <= info.local_memory_bytes as usize
}

/// The gradients of q, k and v; `row` has each query row's lse and the product of its output with its gradient.
pub(super) fn backward(
    op: &Op,
    a: Attention,
    row: &TensorRef,
    gradients: [&TensorRef; 3],
    to: &mut Lowering<'_>,
) -> Result<()> {
    let [grad, q, k, v, seqs] = [0, 1, 2, 3, 6].map(|i| &op.inputs[i]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| q.shape[axis]);
    let [kv, kv_heads, dv] = [0, 1, 2].map(|axis| v.shape[axis]);
    let share = heads / kv_heads;
    let by_queries = cuda_template!("attention_flash_dq.cu");
    let by_keys = cuda_template!("attention_flash_dkv.cu");
    for (template, rows) in [(by_queries, tokens * share), (by_keys, kv)] {
        let launch = to.launch(template).input("q", q).input("k", k).input("v", v).input("grad", grad);
        let launch = sequences(launch.input("row", row), a, [q, k, seqs]);
        let launch = match template == by_queries {
            true => launch.output("dq", gradients[0]),
            false => launch.output("dk", gradients[1]).output("dv", gradients[2]),
        };
        let tiles = rows.div_ceil(SIDES[0]);
        let launch = launch
            .literal("d", d as u32)
            .literal("dv_columns", dv as u32)
            .literal("staged", SIDES[1] as u32)
            .param("share", share)
            .param("pitch", share)
            .param("tiles", tiles);
        let aligned = [("q_aligned", q), ("k_aligned", k), ("v_aligned", v), ("grad_aligned", grad)];
        launch_all(launch, &aligned, [kv_heads, tiles * kv_heads], 1, bytes_backward(d, dv))?;
    }
    Ok(())
}

/// Ends a launch, with whether rows of operands can be copied by 16 bytes.
fn launch_all<'l, 'a>(
    mut launch: LaunchBuilder<'l, 'a>,
    aligned: &[(&'static str, &TensorRef)],
    [kv_heads, groups]: [usize; 2],
    beside: usize,
    bytes: usize,
) -> Result<()> {
    for &(name, operand) in aligned {
        launch = launch.literal(name, is_aligned(operand, 8));
    }
    launch
        .literal("pieces", PIECES)
        .param("kv_heads", kv_heads)
        .param("groups", groups)
        .workgroup([(32 * WARPS * beside) as u32, 1, 1])
        .dynamic_bytes(bytes as u32)
        .linear(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_rows_of_a_tile_lie_in_different_banks() {
        for columns in (16..=192).step_by(16) {
            let mut groups: Vec<usize> = (0..8).map(|row| row * (pitch(columns) / 8) % 8).collect();
            groups.sort_unstable();
            assert_eq!(groups, [0, 1, 2, 3, 4, 5, 6, 7], "{columns}");
        }
    }
}
