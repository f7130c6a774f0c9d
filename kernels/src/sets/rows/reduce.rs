//! Reductions. Long rows that are few are cut into parts: their results go to scratch memory, and a second
//! launch reduces those.

use super::Team;
use super::views::{Joined, staged};
use crate::{Access, Lowering, Variant, template};
use halite_hal::{DType, DeviceInfo, Layout, ReduceFn, Result, TensorRef};

/// How rows are reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    /// Who does a row, or a part of it.
    pub team: Team,
    /// Whether rows are cut into parts.
    pub split: bool,
}

const SPLIT: &str = "split-";

impl How {
    pub fn variant(self) -> Variant {
        match self.split {
            true => Variant::named(format!("{SPLIT}{}", self.team.variant())),
            false => self.team.variant(),
        }
    }

    pub fn of(variant: &Variant) -> How {
        How { team: Team::of(variant), split: variant.0.starts_with(SPLIT) }
    }
}

/// Workgroups that occupy a device.
const MANY: usize = 256;

pub(super) fn variants(x: &Layout, info: &DeviceInfo) -> Vec<Variant> {
    let rank = x.shape.len();
    let n = x.shape[rank - 1];
    let rows: usize = x.shape[..rank - 1].iter().product();
    // Neighbouring rows lie nearer to each other than neighbouring columns.
    let across = x.strides[rank - 1] > 1 && rows > 1;
    let mut teams = Team::for_rows(info, rows, n);
    if across {
        teams.sort_by_key(|t| *t != Team::Single);
    }
    let per_unit = if teams[0] == Team::Single { 64 } else { 1 };
    let few = rows < MANY * per_unit && n >= 4096 / per_unit;
    let mut all: Vec<How> = Vec::new();
    for team in teams {
        let shorts = n < 256;
        all.push(How { team, split: few && !shorts });
        if !shorts {
            all.push(How { team, split: !few });
        }
    }
    all.into_iter().map(How::variant).collect()
}

/// Columns of a part, a multiple of 4.
fn part(how: How, rows: usize, n: usize) -> usize {
    // Rows of a team at a time, and the columns that one invocation should have at least.
    let (units, least) = match how.team {
        Team::Group(size) | Team::Subgroup(size) => (MANY, 16 * size as usize),
        Team::Single => (MANY * 64, 64),
    };
    let parts = (units / rows.max(1)).clamp(1, 4096);
    n.div_ceil(parts).max(least).next_multiple_of(4)
}

fn name(f: ReduceFn) -> &'static str {
    match f {
        ReduceFn::Sum | ReduceFn::Mean => "sum",
        ReduceFn::SumSquares => "squares",
        ReduceFn::Max => "max",
        ReduceFn::ArgMax => "argmax",
        other => unreachable!("{other:?} is in the catalogue and has no kernel"),
    }
}

pub(super) fn lower(
    to: &mut Lowering<'_>,
    f: ReduceFn,
    accumulate: bool,
    x: &TensorRef,
    y: &TensorRef,
    how: How,
) -> Result<()> {
    staged(to, y, Access::Single, accumulate, |to, y| {
        let views = Joined::new(&[x], &[y]);
        let n = x.shape[x.rank() - 1];
        let per = if how.split { part(how, views.rows(), n) } else { n.next_multiple_of(4) };
        let parts = n.div_ceil(per.max(1)).max(1);
        if parts == 1 {
            return launch(to, Reduce { f: name(f), how, views: &views, per: n, parts, of: None }, |l| {
                finish(l, f, accumulate, n, &views.heads[0])
            });
        }
        let first: Vec<usize> = [parts].into_iter().chain(views.lead.iter().copied()).collect();
        let values = parts_last(&to.scratch(DType::F32, &first)?);
        let indices = match f {
            ReduceFn::ArgMax => Some(parts_last(&to.scratch(DType::I32, &first)?)),
            _ => None,
        };
        launch(to, Reduce { f: name(f), how, views: &views, per, parts, of: None }, |l| {
            let l = l.literal("partial", true).literal("mean", false).literal("accumulate", false);
            let l = l.output("y", &values);
            match &indices {
                Some(i) => l.output("of", i),
                None => l,
            }
        })?;
        // Sums of squares are plain sums now.
        let again = if f == ReduceFn::SumSquares { "sum" } else { name(f) };
        let team = if parts > 64 { how.team } else { Team::Single };
        let views = Joined { full: vec![values], heads: views.heads, lead: views.lead };
        let how = How { team, split: false };
        let second = Reduce { f: again, how, views: &views, per: parts, parts: 1, of: indices.as_ref() };
        launch(to, second, |l| finish(l, f, accumulate, n, &views.heads[0]))
    })
}

/// `[parts, ..]` as `[.., parts]`.
fn parts_last(t: &TensorRef) -> TensorRef {
    let rotate = |x: &[usize]| x[1..].iter().chain(&x[..1]).copied().collect::<Vec<_>>();
    t.clone().with_layout(&rotate(&t.shape), &rotate(&t.strides))
}

/// What both launches have in common.
struct Reduce<'v> {
    f: &'static str,
    how: How,
    views: &'v Joined,
    per: usize,
    parts: usize,
    /// The index of each element, where it isn't its place.
    of: Option<&'v TensorRef>,
}

type Builder<'l, 'a> = crate::LaunchBuilder<'l, 'a>;

fn launch(
    to: &mut Lowering<'_>,
    r: Reduce<'_>,
    more: impl for<'l, 'a> FnOnce(Builder<'l, 'a>) -> Builder<'l, 'a>,
) -> Result<()> {
    let x = &r.views.full[0];
    let most = to.info.max_workgroup_size;
    let units = r.views.rows() * r.parts;
    let mut l = to.launch(template!("reduce_rows.wgsl")).literal("f", r.f).input("x", x);
    if let Some(of) = r.of {
        l = l.input("of", of);
    }
    l = l.literal("joined", r.of.is_some());
    l = r.views.describe(more(l)).param("n", x.shape[x.rank() - 1]).param("units", units).param("per", r.per);
    r.how.team.launch(l, most, units, r.per)
}

/// What the launch adds that writes the result.
fn finish<'l, 'a>(
    l: Builder<'l, 'a>,
    f: ReduceFn,
    accumulate: bool,
    n: usize,
    y: &TensorRef,
) -> Builder<'l, 'a> {
    let mean = f == ReduceFn::Mean;
    let mut l = l.literal("partial", false).literal("mean", mean).literal("accumulate", accumulate);
    if mean {
        l = l.param_f32("divisor", n.max(1) as f32);
    }
    if accumulate {
        l = l.input("old", y);
    }
    l.operand("y", y, Access::Single)
}
