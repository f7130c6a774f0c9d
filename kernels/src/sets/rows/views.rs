//! Views of rows, and launches over them.

use crate::sets::elementwise::copy;
use crate::{Access, LaunchBuilder, Lowering};
use halite_hal::{DType, Result, TensorRef};

/// Operands `[.., n]` and `[..]` whose axes `..` are joined as far as memory allows, to 1, 2 or 4.
pub(super) struct Joined {
    /// The operands, as they were given.
    pub full: Vec<TensorRef>,
    pub heads: Vec<TensorRef>,
    /// Extents of the joined axes.
    pub lead: Vec<usize>,
}

impl Joined {
    /// Neighbouring rows are near to each other in the first of `full`.
    pub fn new(full: &[&TensorRef], heads: &[&TensorRef]) -> Self {
        let first = full[0];
        let last = first.rank() - 1;
        let mut axes: Vec<usize> = (0..last).filter(|&a| first.shape[a] != 1).collect();
        axes.sort_by_key(|&a| std::cmp::Reverse(first.strides[a]));
        // Each joined axis: extent, and strides of all operands.
        let mut joined: Vec<(usize, Vec<usize>)> = Vec::new();
        for a in axes {
            let extent = first.shape[a];
            let strides: Vec<usize> = full.iter().chain(heads).map(|t| t.strides[a]).collect();
            match joined.last_mut() {
                Some((n, outer))
                    if outer.iter().zip(&strides).all(|(o, s)| Some(*o) == s.checked_mul(extent)) =>
                {
                    *n *= extent;
                    *outer = strides;
                }
                _ => joined.push((extent, strides)),
            }
        }
        let wanted = if joined.len() <= 2 { joined.len().max(1) } else { 4 };
        while joined.len() < wanted {
            joined.insert(0, (1, vec![0; full.len() + heads.len()]));
        }
        let lead: Vec<usize> = joined.iter().map(|(n, _)| *n).collect();
        let view = |i: usize, t: &TensorRef, column: Option<usize>| {
            let shape: Vec<usize> = lead.iter().copied().chain(column.map(|a| t.shape[a])).collect();
            let strides = joined.iter().map(|(_, s)| s[i]).chain(column.map(|a| t.strides[a]));
            t.clone().with_layout(&shape, &strides.collect::<Vec<_>>())
        };
        Joined {
            full: full.iter().enumerate().map(|(i, t)| view(i, t, Some(last))).collect(),
            heads: heads.iter().enumerate().map(|(i, t)| view(full.len() + i, t, None)).collect(),
            lead,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lead.iter().product()
    }

    /// Tells a kernel of the rows.
    pub fn describe<'l, 'a>(&self, launch: LaunchBuilder<'l, 'a>) -> LaunchBuilder<'l, 'a> {
        let launch = launch.literal("lead", self.lead.len() as u32).param("rows", self.rows());
        let inner = ["d1", "d2", "d3"].into_iter().zip(self.lead.iter().skip(1));
        inner.fold(launch, |launch, (name, n)| launch.param(name, *n))
    }
}

/// Runs `f` with what it writes in place of `y`: `y` itself, or f32 memory that is copied to `y` then, where
/// the device can't write `y`. That memory starts with what `y` holds if `f` reads it.
pub(in crate::sets) fn staged(
    to: &mut Lowering<'_>,
    y: &TensorRef,
    access: Access,
    reads: bool,
    f: impl FnOnce(&mut Lowering<'_>, &TensorRef) -> Result<()>,
) -> Result<()> {
    if to.can_write(y, access) {
        return f(to, y);
    }
    let stage = to.scratch(DType::F32, &y.shape)?;
    if reads {
        copy(to, y, &stage)?;
    }
    f(to, &stage)?;
    copy(to, &stage, y)
}

/// Ends a launch of a kernel that calls `item` (see `chunks.wgsl`) for every four columns of `rows` rows.
pub(in crate::sets) fn items(launch: LaunchBuilder<'_, '_>, most: u32, rows: usize, n: usize) -> Result<()> {
    let chunks = n.div_ceil(4);
    let items = rows * chunks;
    let size = most.min(64);
    // A lone invocation does the work of a group.
    let per = (64 / size as usize).max(1);
    launch
        .workgroup([size, 1, 1])
        .param("per", per)
        .param("items", items)
        .param("n", n)
        .param("chunks", chunks)
        .linear(items.div_ceil(per * size as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(slot: u32, shape: &[usize]) -> TensorRef {
        TensorRef::slot(slot, DType::F32, shape)
    }

    #[test]
    fn leading_axes_join_where_all_operands_are_dense() {
        let (x, y) = (t(0, &[2, 3, 4, 5]), t(1, &[2, 3, 4]));
        let j = Joined::new(&[&x], &[&y]);
        assert_eq!((&*j.lead, j.rows()), (&[24][..], 24));
        assert_eq!((&*j.full[0].shape, &*j.full[0].strides), (&[24, 5][..], &[5, 1][..]));
        assert_eq!((&*j.heads[0].shape, &*j.heads[0].strides), (&[24][..], &[1][..]));
        // Gaps between planes of one operand.
        let gaps = y.clone().with_layout(&[2, 3, 4], &[20, 4, 1]);
        let j = Joined::new(&[&x], &[&gaps]);
        assert_eq!((&*j.lead, &*j.heads[0].strides), (&[2, 12][..], &[20, 1][..]));
        // Three axes that can't be joined are four.
        let gaps = y.with_layout(&[2, 3, 4], &[100, 10, 1]);
        assert_eq!(Joined::new(&[&x], &[&gaps]).lead, [1, 2, 3, 4]);
    }

    #[test]
    fn the_row_axis_is_the_densest_of_the_first_operand() {
        let (x, y) = (t(0, &[4, 2, 3]).transpose(0, 2), t(1, &[3, 2]));
        let j = Joined::new(&[&x], &[&y]);
        assert_eq!((&*j.lead, &*j.full[0].strides), (&[2, 3][..], &[3, 1, 6][..]));
        assert_eq!(&*j.heads[0].strides, &[1, 2]);
        let j = Joined::new(&[&t(0, &[7])], &[&t(1, &[])]);
        assert_eq!((&*j.lead, &*j.full[0].shape, &*j.heads[0].shape), (&[1][..], &[1, 7][..], &[1][..]));
    }
}
