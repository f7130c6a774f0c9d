//! Rows by index: embedding and scatter.

use super::views::{items, staged};
use crate::{Access, Lowering, template};
use halite_hal::{DType, Result, TensorRef};

pub(super) fn embedding(
    to: &mut Lowering<'_>,
    table: &TensorRef,
    index: &TensorRef,
    y: &TensorRef,
) -> Result<()> {
    staged(to, y, Access::Pairs, false, |to, y| {
        let most = to.info.max_workgroup_size;
        let l = to.launch(template!("embedding.wgsl")).input("table", table).input("index", index);
        items(l.output("y", y).param("rows", table.shape[0]), most, y.shape[0], y.shape[1])
    })
}

/// An entry of the index writes its row. To accumulate, the entries for one row are linked first; the first of
/// them adds up all, in order.
pub(super) fn scatter(
    to: &mut Lowering<'_>,
    accumulate: bool,
    x: &TensorRef,
    index: &TensorRef,
    y: &TensorRef,
) -> Result<()> {
    let most = to.info.max_workgroup_size;
    let n = x.shape[0];
    if n == 0 {
        return Ok(());
    }
    if y.dtype == DType::Q8_0 {
        return scatter_q8_0(to, x, index, y);
    }
    let links = match accumulate {
        true => {
            let links = to.scratch(DType::I32, &[n])?;
            let size = most.min(64);
            let l = to.launch(template!("scatter_links.wgsl")).input("index", index).output("links", &links);
            l.param("n", n).loops(2 * n + 2).workgroup([size, 1, 1]).linear(n.div_ceil(size as usize))?;
            Some(links)
        }
        false => None,
    };
    staged(to, y, Access::Pairs, true, |to, y| {
        let l = to.launch(template!("scatter.wgsl")).literal("accumulate", accumulate);
        let l = l.input("x", x).input("index", index).output("y", y).param("rows", y.shape[0]);
        // An entry adds up all entries of its row, for each four columns that the invocation has.
        let l = if accumulate { l.loops((n + 2) * (64 / most.min(64) as usize).max(1)) } else { l };
        let l = match &links {
            Some(links) => l.input("links", links),
            None => l,
        };
        items(l, most, n, y.shape[1])
    })
}

/// The same into rows of Q8_0, which are written as words.
fn scatter_q8_0(to: &mut Lowering<'_>, x: &TensorRef, index: &TensorRef, y: &TensorRef) -> Result<()> {
    // Elements and words of two blocks.
    const PAIR: [usize; 2] = [64, 17];
    let (rows, width) = (y.shape[0], y.shape[1]);
    let odd = y.offset % PAIR[0] / DType::Q8_0.block_elems();
    let blocks = width / DType::Q8_0.block_elems();
    let pairs = (odd + blocks).div_ceil(2);
    let in_words = |elements: usize| elements / PAIR[0] * PAIR[1];
    let row = if rows > 1 { in_words(y.strides[0]) } else { pairs * PAIR[1] };
    let mut words =
        y.clone().with_layout(&[rows, pairs * PAIR[1]], &[row, 1]).with_offset(in_words(y.offset));
    words.dtype = DType::U32;
    let size = to.info.max_workgroup_size.min(64);
    let items = x.shape[0] * pairs;
    to.launch(template!("scatter_q8_0.wgsl"))
        .input("x", x)
        .input("index", index)
        .output("words", &words)
        .param("rows", rows)
        .param("blocks", blocks)
        .param("pairs", pairs)
        .param("odd", odd)
        .param("items", items)
        .workgroup([size, 1, 1])
        .linear(items.div_ceil(size as usize))
}
