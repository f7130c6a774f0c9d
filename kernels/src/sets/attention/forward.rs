//! Attention itself: which variants there are, and which come first.

use super::flash::{self, Flash};
use super::{Target, WIDTH, apart, each, fours, on_processor, sequences, split};
use crate::{Access, LaunchBuilder, Lowering, Variant, template};
use halite_hal::{Attention, DType, DeviceInfo, Op, OpDesc, Result, TensorRef};

/// A way of doing it. Each reads keys and values as often as it has parts of a row, or tiles.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// An invocation has so many rows.
    Rows(usize),
    /// The same, a row each, with the keys split.
    SplitRows,
    /// A workgroup has so many rows.
    Blocked(usize),
    /// A workgroup has a token's heads that share a kv head, with the keys split.
    Split,
    /// On tensor cores.
    Flash(Flash),
}

const WAYS: [(&str, Way); 10] = [
    ("rows", Way::Rows(1)),
    ("rows-4", Way::Rows(4)),
    ("split-kv-rows", Way::SplitRows),
    ("blocked-32x32", Way::Blocked(32)),
    ("blocked-16x32", Way::Blocked(16)),
    ("split-kv-64x4", Way::Split),
    ("flash-128x32", Way::Flash(flash::WIDE)),
    ("flash-64x64", Way::Flash(flash::NARROW)),
    ("flash-split-16x64", Way::Flash(flash::SPLIT)),
    ("flash-split-64x16", Way::Flash(flash::LATENT)),
];

/// Sizes of q, k, v.
pub(super) struct Sizes {
    pub tokens: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub kv: usize,
    pub d: usize,
    pub dv: usize,
}

impl Sizes {
    fn new(q: &[usize], v: &[usize]) -> Self {
        Sizes { tokens: q[0], heads: q[1], d: q[2], kv: v[0], kv_heads: v[1], dv: v[2] }
    }

    /// Heads that share a kv head.
    pub fn share(&self) -> usize {
        self.heads / self.kv_heads
    }
}

impl Way {
    fn fits(self, s: &Sizes, desc: &OpDesc, info: &DeviceInfo) -> bool {
        let together = |invocations: u32, vectors: usize| {
            info.barriers
                && info.max_workgroup_size >= invocations
                && info.local_memory_bytes as usize >= 16 * vectors + 512
                && s.d > 0
                && s.dv > 0
        };
        match self {
            Way::Rows(_) => true,
            Way::SplitRows => split::parts(s.tokens, s.kv) > 1,
            Way::Blocked(rows) => {
                let q = rows * (8 * s.d.div_ceil(32) + 1);
                together(2 * rows as u32, q + 32 * 9 + 8 * rows)
            }
            Way::Split => together(64, 4 * s.d.div_ceil(4) + 64 + 5 * 64),
            Way::Flash(flash) => flash.fits(s, desc, info),
        }
    }
}

pub(super) fn variants(desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
    let s = Sizes::new(&desc.inputs[0].shape, &desc.inputs[2].shape);
    // How long sequences are is not known here: with few rows for each, they are continued one by one.
    let decoding = s.tokens <= 4 * desc.inputs[3].shape[0].max(1);
    let order = if on_processor(info) {
        ["rows-4", "rows", "blocked-32x32", "blocked-16x32", "split-kv-64x4", "split-kv-rows"]
    } else if decoding {
        ["split-kv-64x4", "split-kv-rows", "blocked-16x32", "blocked-32x32", "rows", "rows-4"]
    } else {
        ["blocked-32x32", "blocked-16x32", "split-kv-64x4", "rows-4", "rows", "split-kv-rows"]
    };
    let native = match decoding {
        true => ["flash-split-16x64", "flash-64x64", "flash-128x32", "flash-split-64x16"],
        false => ["flash-128x32", "flash-64x64", "flash-split-16x64", "flash-split-64x16"],
    };
    let fits = |name: &&str| way(name).is_some_and(|w| w.fits(&s, desc, info));
    native.into_iter().chain(order).filter(fits).map(Variant::named).collect()
}

fn way(name: &str) -> Option<Way> {
    WAYS.iter().find(|(n, _)| *n == name).map(|(_, way)| *way)
}

pub(super) fn lower(op: &Op, a: Attention, variant: &Variant, to: &mut Lowering<'_>) -> Result<()> {
    let s = Sizes::new(&op.inputs[0].shape, &op.inputs[2].shape);
    let Some(way) = way(&variant.0) else {
        return Err(to.unsupported(&op.desc(), format!("no variant {variant}")));
    };
    let o = Target::new(&op.outputs[0], Access::Pairs, to)?;
    let splits = match way {
        Way::SplitRows | Way::Split => split::parts(s.tokens, s.kv),
        Way::Flash(flash) if flash.splits() => split::parts(s.tokens, s.kv),
        _ => 1,
    };
    let ends = match splits {
        1 => Ends::Whole { o: &o.written, lse: &op.outputs[1] },
        _ => Ends::Parts {
            o: to.scratch(DType::F32, &[s.tokens, s.heads, splits, s.dv])?,
            stats: to.scratch(DType::F32, &[s.tokens, s.heads, splits, 2])?,
            splits,
        },
    };
    match way {
        Way::Rows(rows) => by_rows(op, a, &s, rows, &ends, to)?,
        Way::SplitRows => by_rows(op, a, &s, 1, &ends, to)?,
        Way::Blocked(rows) => blocked(op, a, &s, rows, &ends, to)?,
        Way::Split => by_tokens(op, a, &s, &ends, to)?,
        Way::Flash(flash) => flash.lower(op, a, &s, &ends, to)?,
    }
    if let Ends::Parts { o: part, stats, splits } = &ends {
        let chunks = s.dv.div_ceil(4).max(1);
        let group = apart(to.info);
        let launch = to
            .launch(template!("attention_combine.wgsl"))
            .input("part", part)
            .input("stats", stats)
            .output("o", &o.written)
            .output("lse", &op.outputs[1])
            .param("splits", *splits)
            .param("heads", s.heads)
            .param("chunks", chunks)
            .param("dv", s.dv)
            .loops(2 * splits + 2);
        each(launch, s.tokens * s.heads * chunks, group)?;
    }
    o.finish(to)
}

/// What a kernel writes: results, or those of parts of the keys; see `wgsl/common/attention_ends.wgsl`.
#[expect(clippy::large_enum_variant, reason = "there is one of them, for the time of a call")]
pub(super) enum Ends<'a> {
    Whole { o: &'a TensorRef, lse: &'a TensorRef },
    Parts { o: TensorRef, stats: TensorRef, splits: usize },
}

impl Ends<'_> {
    /// Parts of the keys of a row.
    fn splits(&self) -> usize {
        match self {
            Ends::Whole { .. } => 1,
            Ends::Parts { splits, .. } => *splits,
        }
    }
}

/// What every kernel takes.
pub(super) fn operands<'l, 'a>(
    launch: LaunchBuilder<'l, 'a>,
    op: &Op,
    a: Attention,
    s: &Sizes,
    ends: &Ends<'_>,
) -> LaunchBuilder<'l, 'a> {
    let [q, k, v, seqs] = [0, 1, 2, 3].map(|i| &op.inputs[i]);
    let launch = sequences(launch.input("q", q).input("k", k).input("v", v), a, [q, k, seqs])
        .param("share", s.share())
        .param("d", s.d)
        .param("dv", s.dv);
    match ends {
        Ends::Whole { o, lse } => launch.output("o", o).output("lse", lse).literal("split", false),
        Ends::Parts { o, stats, splits } => launch
            .output("o", o)
            .output("stats", stats)
            .literal("split", true)
            .param("splits", *splits)
            .param("length", s.kv.div_ceil(*splits)),
    }
}

fn by_rows(
    op: &Op,
    a: Attention,
    s: &Sizes,
    rows: usize,
    ends: &Ends<'_>,
    to: &mut Lowering<'_>,
) -> Result<()> {
    let group = apart(to.info);
    let parts = s.dv.div_ceil(WIDTH).max(1);
    let tiles = (s.tokens * s.share()).div_ceil(rows);
    let splits = ends.splits();
    let columns = WIDTH.min(s.dv).div_ceil(4) + 1;
    let found = rows * (op.inputs[3].shape[0] + 2 * columns);
    // Where rows are of different sequences, the steps begin anew.
    let steps = fours(s.kv.div_ceil(splits)) + rows;
    let launch = operands(to.launch(template!("attention_rows.wgsl")), op, a, s, ends)
        .loops(found + steps * (1 + fours(s.d) + columns))
        .literal("width", WIDTH as u32)
        .literal("rows", rows as u32)
        .param("parts", parts)
        .param("tiles", tiles);
    each(launch, s.kv_heads * splits * tiles * parts, group)
}

fn blocked(
    op: &Op,
    a: Attention,
    s: &Sizes,
    rows: usize,
    ends: &Ends<'_>,
    to: &mut Lowering<'_>,
) -> Result<()> {
    let columns = s.dv.min(128).div_ceil(32);
    let parts = s.dv.div_ceil(32 * columns);
    let tiles = (s.tokens * s.share()).div_ceil(rows);
    let groups = tiles * s.kv_heads * parts;
    let (staged, chunks) = (256 / (2 * rows) + 1, s.d.div_ceil(32));
    let step = chunks * (staged + 10) + 33 + columns * (staged + 33) + rows / 4 + 2;
    let around = chunks * 5 + op.inputs[3].shape[0] + columns * 6 + 16;
    operands(to.launch(template!("attention_blocked.wgsl")), op, a, s, ends)
        .loops(around + (s.kv.div_ceil(32) + rows) * step)
        .literal("rows", rows as u32)
        .literal("chunks", chunks as u32)
        .literal("columns", columns as u32)
        .param("parts", parts)
        .param("tiles", tiles)
        .param("kv_heads", s.kv_heads)
        .param("groups", groups)
        .workgroup([2 * rows as u32, 1, 1])
        .linear(groups)
}

fn by_tokens(op: &Op, a: Attention, s: &Sizes, ends: &Ends<'_>, to: &mut Lowering<'_>) -> Result<()> {
    let lanes = s.dv.min(128).div_ceil(4).next_power_of_two();
    let parts = s.dv.div_ceil(4 * lanes);
    let quads = s.share().div_ceil(4);
    let splits = ends.splits();
    let groups = s.tokens * splits * s.kv_heads * quads * parts;
    let step = 1 + s.d.div_ceil(4) + 1 + 65 + lanes + 1;
    operands(to.launch(template!("attention_split.wgsl")), op, a, s, ends)
        .loops(
            s.d.div_ceil(16) + op.inputs[3].shape[0] + 400 + (s.kv.div_ceil(splits).div_ceil(64) + 1) * step,
        )
        .literal("lanes", lanes as u32)
        .literal("fours_d", s.d.div_ceil(4) as u32)
        .param("parts", parts)
        .param("quads", quads)
        .param("kv_heads", s.kv_heads)
        .param("groups", groups)
        .workgroup([64, 1, 1])
        .linear(groups)
}
