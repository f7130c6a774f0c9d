//! The stable sort of assignments by expert.

use super::each;
use crate::{Lowering, Variant, template};
use halite_hal::{DType, Layout, Result, TensorRef};

/// Every invocation goes through all assignments.
const DIRECT: &str = "direct";
/// Blocks of assignments are counted, the counts added up, and assignments placed.
const BLOCKS: &str = "blocks";

pub(super) fn variants(x: &Layout) -> Vec<Variant> {
    let names = if x.shape.elems() <= 1024 { [DIRECT, BLOCKS] } else { [BLOCKS, DIRECT] };
    names.map(Variant::named).to_vec()
}

/// Whether a variant goes through all assignments.
pub(super) fn is_direct(variant: &Variant) -> bool {
    variant.0 == DIRECT
}

pub(super) fn lower(
    to: &mut Lowering<'_>,
    experts: usize,
    x: &TensorRef,
    o: &[TensorRef],
    variant: &Variant,
) -> Result<()> {
    let [offsets, rows, positions] = o else { unreachable!("three outputs were checked") };
    let (tokens, k) = (x.shape[0], x.shape[1]);
    let all = tokens * k;
    let most = to.info.max_workgroup_size;
    if is_direct(variant) || all == 0 || experts == 0 {
        let l = to.launch(template!("permutation_direct.wgsl")).input("x", x).output("offsets", offsets);
        let l = l.output("rows", rows).output("positions", positions);
        let l = l.param("tokens", tokens).param("k", k).param("experts", experts);
        let l = l.loops(tokens * (k + 2) + 1);
        return each(l, most, all.max(experts + 1));
    }
    let per = all.div_ceil(128).max(64);
    let blocks = all.div_ceil(per);
    let counts = to.scratch(DType::I32, &[blocks, experts])?;
    let before = to.scratch(DType::I32, &[blocks + 1, experts])?;
    let l = to.launch(template!("permutation_count.wgsl")).input("x", x).output("counts", &counts);
    let l = l.param("all", all).param("k", k).param("experts", experts);
    each(l.param("per", per).param("blocks", blocks).loops(per + 1), most, blocks * experts)?;
    let l = to.launch(template!("permutation_scan.wgsl")).input("counts", &counts).output("before", &before);
    each(l.param("experts", experts).param("blocks", blocks).loops(blocks + 1), most, experts)?;
    let l = to.launch(template!("permutation_offsets.wgsl")).input("before", &before);
    let l = l.output("offsets", offsets).param("experts", experts).param("blocks", blocks).loops(experts + 1);
    each(l, most, experts + 1)?;
    let l = to.launch(template!("permutation_place.wgsl")).input("x", x).input("before", &before);
    let l = l.input("offsets", offsets).output("rows", rows).output("positions", positions);
    let l = l.param("all", all).param("k", k).param("experts", experts).param("per", per);
    each(l.loops(per + 1), most, all)
}
