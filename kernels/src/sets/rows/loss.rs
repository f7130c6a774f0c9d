//! Cross-entropy.

use super::Team;
use super::views::{items, staged};
use crate::{Access, Lowering, template};
use halite_hal::{Result, TensorRef};

pub(super) fn cross_entropy(
    to: &mut Lowering<'_>,
    i: &[TensorRef],
    o: &[TensorRef],
    team: Team,
) -> Result<()> {
    let (rows, n) = (i[0].shape[0], i[0].shape[1]);
    let most = to.info.max_workgroup_size;
    let l = to.launch(template!("cross_entropy.wgsl")).input("x", &i[0]).input("target", &i[1]);
    let l = l.output("loss", &o[0]).output("lse", &o[1]).param("rows", rows).param("n", n);
    team.launch(l, most, rows, n)
}

pub(super) fn cross_entropy_backward(
    to: &mut Lowering<'_>,
    i: &[TensorRef],
    dlogits: &TensorRef,
) -> Result<()> {
    staged(to, dlogits, Access::Pairs, false, |to, y| {
        let most = to.info.max_workgroup_size;
        let l = to.launch(template!("cross_entropy_backward.wgsl")).input("x", &i[0]).input("target", &i[1]);
        let l = l.input("lse", &i[2]).input("dloss", &i[3]).output("y", y);
        items(l, most, y.shape[0], y.shape[1])
    })
}
