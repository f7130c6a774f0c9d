//! Rows coming back from experts.

use super::each;
use crate::sets::rows::{Team, items, staged};
use crate::{Access, Lowering, template};
use halite_hal::{DType, Result, TensorRef};

pub(super) fn forward(to: &mut Lowering<'_>, accumulate: bool, i: &[TensorRef], y: &TensorRef) -> Result<()> {
    staged(to, y, Access::Pairs, accumulate, |to, y| {
        let most = to.info.max_workgroup_size;
        let l = to.launch(template!("combine.wgsl")).literal("accumulate", accumulate).input("x", &i[0]);
        let l = l.input("positions", &i[1]).literal("weighted", i.len() > 2);
        let l = if i.len() > 2 { l.input("weights", &i[2]) } else { l };
        let l = l.output("y", y).param("rows", i[0].shape[0]).param("k", i[1].shape[1]);
        let l = l.loops(64 * (i[1].shape[1] + 2));
        items(l, most, y.shape[0], y.shape[1])
    })
}

/// Rows are marked first that an assignment names; all others are cleared.
pub(super) fn backward(to: &mut Lowering<'_>, i: &[TensorRef], o: &[TensorRef], team: Team) -> Result<()> {
    let [dy, x, positions, weights] = i else { unreachable!("four inputs were checked") };
    let (rows, k, all) = (x.shape[0], positions.shape[1], positions.elems());
    let most = to.info.max_workgroup_size;
    let marks = to.scratch(DType::I32, &[rows])?;
    for clear in [true, false] {
        let l = to.launch(template!("combine_marks.wgsl")).literal("clear", clear);
        let l = if clear { l } else { l.input("positions", positions).param("k", k).param("all", all) };
        each(l.output("marks", &marks).param("rows", rows), most, if clear { rows } else { all })?;
    }
    staged(to, &o[0], Access::Pairs, false, |to, dx| {
        let l = to.launch(template!("combine_backward.wgsl")).input("dy", dy).input("x", x);
        let l = l.input("positions", positions).input("weights", weights).input("marks", &marks);
        let l = l.output("dx", dx).output("dweights", &o[1]).param("all", all).param("k", k);
        let l = l.param("rows", all + rows).param("x_rows", rows).param("n", x.shape[1]);
        team.launch(l, most, all + rows, x.shape[1])
    })
}
