//! Attention's gradient, without atomics: one kernel goes by query rows for `dq`, one by key rows for `dk` and
//! `dv`.

use super::flash;
use super::{Target, WIDTH, apart, each, fours, on_processor, sequences};
use crate::{Access, LaunchBuilder, Lowering, Template, Variant, template};
use halite_hal::{Attention, DType, DeviceInfo, Op, OpDesc, Result};

/// Tiles of 64 rows of one side and 32 of the other, on tensor cores.
const FLASH: &str = "flash-64x32";
/// Tiles of 32 query rows and 32 key rows in a workgroup's shared memory.
const BLOCKED: &str = "blocked-32x32";

pub(super) fn variants(desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
    let native = flash::fits_backward(desc, info).then(|| Variant::named(FLASH));
    let blocked = info.barriers && info.max_workgroup_size >= 64 && info.local_memory_bytes >= 14 << 10;
    let portable = match (blocked, on_processor(info)) {
        (false, _) => vec!["rows"],
        (true, true) => vec!["rows", BLOCKED],
        (true, false) => vec![BLOCKED, "rows"],
    };
    native.into_iter().chain(portable.into_iter().map(Variant::named)).collect()
}

pub(super) fn lower(op: &Op, a: Attention, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
    let blocked = variant.0 == BLOCKED;
    let [grad, q, k, v, o, lse, seqs] = [0, 1, 2, 3, 4, 5, 6].map(|i| &op.inputs[i]);
    let [tokens, heads, d] = [0, 1, 2].map(|axis| q.shape[axis]);
    let [kv, kv_heads, dv] = [0, 1, 2].map(|axis| v.shape[axis]);
    let [dq, dk, dv_grad] = [
        Target::new(&op.outputs[0], Access::Pairs, to)?,
        Target::new(&op.outputs[1], Access::Pairs, to)?,
        Target::new(&op.outputs[2], Access::Pairs, to)?,
    ];
    let group = apart(to.info);
    let row = to.scratch(DType::F32, &[tokens, heads, 2])?;
    let launch = to
        .launch(template!("attention_delta.wgsl"))
        .input("grad", grad)
        .input("o", o)
        .input("lse", lse)
        .output("row", &row)
        .param("heads", heads)
        .param("dv", dv)
        .loops(fours(dv));
    each(launch, tokens * heads, group)?;
    if variant.0 == FLASH {
        let gradients = [&dq.written, &dk.written, &dv_grad.written];
        flash::backward(op, a, &row, gradients, to)?;
        dq.finish(to)?;
        dk.finish(to)?;
        return dv_grad.finish(to);
    }

    let share = heads / kv_heads;
    let rows: [Template; 2] = [template!("attention_dq_rows.wgsl"), template!("attention_dkv_rows.wgsl")];
    let tiles: [Template; 2] =
        [template!("attention_dq_blocked.wgsl"), template!("attention_dkv_blocked.wgsl")];
    let [by_queries, by_keys] = if blocked { tiles } else { rows };

    let launch = to
        .launch(by_queries)
        .input("q", q)
        .input("k", k)
        .input("v", v)
        .input("grad", grad)
        .input("row", &row);
    let sequence_count = seqs.shape[0];
    let launch = sequences(launch, a, [q, k, seqs])
        .output("dq", &dq.written)
        .param("share", share)
        .param("d", d)
        .param("dv", dv);
    if blocked {
        let columns = d.min(128).div_ceil(32);
        let steps = kv.div_ceil(32) + 32;
        let launch = launch.loops(sequence_count + 40 + steps * (34 + tile_loops(d, dv) + columns * 38));
        tiled(launch.param("kv_heads", kv_heads), (tokens * share).div_ceil(32), kv_heads, d, columns)?;
    } else {
        let parts = d.div_ceil(WIDTH);
        let columns = WIDTH.min(d).div_ceil(4) + 1;
        let loops = sequence_count + 2 * columns + fours(kv) * (1 + fours(d) + fours(dv) + columns);
        let launch = launch.literal("width", WIDTH as u32).param("parts", parts).param("heads", heads);
        let launch = launch.loops(loops);
        each(launch, tokens * heads * parts, group)?;
    }

    let launch =
        to.launch(by_keys).input("q", q).input("k", k).input("v", v).input("grad", grad).input("row", &row);
    let launch = sequences(launch, a, [q, k, seqs])
        .output("dk", &dk.written)
        .output("dv", &dv_grad.written)
        .param("kv_heads", kv_heads)
        .param("share", share)
        .param("d", d)
        .param("dv", dv);
    if blocked {
        let width = d.max(dv);
        let columns = width.min(64).div_ceil(32);
        let steps = (tokens * share).div_ceil(32) + sequence_count;
        let launch = launch.loops(sequence_count + 20 + steps * (1 + tile_loops(d, dv) + 2 * columns * 38));
        tiled(launch, kv.div_ceil(32), kv_heads, width, columns)?;
    } else {
        let parts = d.max(dv).div_ceil(WIDTH);
        let columns = WIDTH.min(d.max(dv)).div_ceil(4) + 1;
        let steps = share * (tokens.div_ceil(4) + 2 * sequence_count);
        let loops = sequence_count + 3 * columns + steps * (1 + fours(d) + fours(dv) + 2 * columns);
        let launch = launch.loops(loops);
        each(launch.literal("width", WIDTH as u32).param("parts", parts), kv * kv_heads * parts, group)?;
    }

    dq.finish(to)?;
    dk.finish(to)?;
    dv_grad.finish(to)
}

/// Iterations of the loops that multiply a tile of rows with one of the other side, in `attention_tiles.wgsl`.
fn tile_loops(d: usize, dv: usize) -> usize {
    // Two sides are staged, and products added, by 32 columns.
    (d.div_ceil(32) + dv.div_ceil(32)) * (1 + 2 * 5 + 9) + 2
}

/// A launch with a workgroup for each tile, kv head and part of `width` columns, 32 times `columns` each.
fn tiled(
    launch: LaunchBuilder<'_, '_>,
    tiles: usize,
    kv_heads: usize,
    width: usize,
    columns: usize,
) -> Result<()> {
    let columns = columns.max(1);
    let parts = width.div_ceil(32 * columns);
    let groups = tiles * kv_heads * parts;
    launch
        .literal("columns", columns as u32)
        .param("parts", parts)
        .param("tiles", tiles)
        .param("groups", groups)
        .workgroup([64, 1, 1])
        .linear(groups)
}
