//! What lanes of a warp do together: exchange values, vote, reduce.
//!
//! Each lane names the lanes that take part, and waits for those of them that haven't ended.

use super::file::lanes;
use super::warp::Warp;
use super::{FaultKind, Trouble};
use crate::ptx::op::{Op, Shuffle, Together, Vote};

/// What a lane gets from one that doesn't take part, which isn't specified.
const NOTHING: u32 = 0xA5A5_A5A5;

impl Warp {
    /// Does it for lanes that are at the instruction, if all that they name are; tells whether they were.
    pub(super) fn together(&mut self, op: &Op, active: u32) -> Result<bool, Trouble> {
        let Op::Together { mask, what } = op else { return Ok(false) };
        let masks = *self.file.row::<u32>(*mask);
        for l in lanes(active) {
            if masks[l] >> l & 1 == 0 {
                let what = format!("a lane that its own mask, {:08x}, leaves out", masks[l]);
                return Err(Trouble::new(FaultKind::IllegalInstruction, l, what));
            }
            let same = lanes(active).filter(|&m| masks[m] == masks[l]).fold(0, |all, m| all | 1 << m);
            if masks[l] & self.live != same & masks[l] {
                return Ok(false);
            }
        }
        // Groups of lanes with the same mask.
        let mut left = active;
        while left != 0 {
            let mask = masks[left.trailing_zeros() as usize];
            let group = lanes(left).filter(|&l| masks[l] == mask).fold(0, |all, l| all | 1 << l);
            left &= !group;
            self.do_together(what, group);
        }
        Ok(true)
    }

    fn do_together(&mut self, what: &Together, group: u32) {
        match *what {
            Together::Barrier => self.epoch += 1,
            Together::Shuffle { mode, to, valid, from, lane, bounds } => {
                let (a, b, c) =
                    (self.file.row::<u32>(from), self.file.row::<u32>(lane), self.file.row::<u32>(bounds));
                let (mut out, mut inside) = ([0; 32], 0);
                for l in lanes(group) {
                    let (source, valid) = source(mode, l as u32, b[l], c[l]);
                    out[l] = if group >> source & 1 == 1 { a[source as usize] } else { NOTHING };
                    inside |= u32::from(valid) << l;
                }
                self.file.set(to, &out, group);
                if let Some(p) = valid {
                    self.file.set_predicate(p, inside, group);
                }
            }
            Together::Vote { kind, of } => {
                let holds = self.file.predicate(of) & group;
                let bits = |yes: bool| if yes { u32::MAX } else { 0 };
                match kind {
                    Vote::All(p) => self.file.set_predicate(p, bits(holds == group), group),
                    Vote::Any(p) => self.file.set_predicate(p, bits(holds != 0), group),
                    Vote::Uniform(p) => self.file.set_predicate(p, bits(holds == group || holds == 0), group),
                    Vote::Ballot(d) => self.file.set(d, &[holds; 32], group),
                }
            }
            Together::Match { to, of, wide, all } => {
                let mut out = [0_u32; 32];
                for l in lanes(group) {
                    let value = self.file.any(of, wide, l);
                    out[l] = lanes(group)
                        .filter(|&m| self.file.any(of, wide, m) == value)
                        .fold(0, |s, m| s | 1 << m);
                }
                if let Some(p) = all {
                    let same = lanes(group).all(|l| out[l] == group);
                    out = [if same { group } else { 0 }; 32];
                    if let Some(p) = p {
                        self.file.set_predicate(p, if same { u32::MAX } else { 0 }, group);
                    }
                }
                self.file.set(to, &out, group);
            }
            Together::Reduce { to, of, f } => {
                let row = self.file.row::<u32>(of);
                let all = lanes(group).map(|l| row[l]).reduce(f).unwrap_or(0);
                self.file.set(to, &[all; 32], group);
            }
            Together::Elect { to, chosen } => {
                let leader = group.trailing_zeros();
                self.file.set_predicate(chosen, 1 << leader, group);
                if let Some(d) = to {
                    self.file.set(d, &[leader; 32], group);
                }
            }
        }
    }
}

/// The lane that a value comes from, and whether it is within bounds (PTX ISA, `shfl.sync`).
fn source(mode: Shuffle, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let last = lane & segment | clamp & !segment;
    let first = lane & segment;
    let (from, valid) = match mode {
        Shuffle::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
        Shuffle::Down => (lane + b, lane + b <= last),
        Shuffle::Butterfly => (lane ^ b, lane ^ b <= last),
        Shuffle::Index => {
            let from = first | b & !segment;
            (from, from <= last)
        }
    };
    if valid { (from, true) } else { (lane, false) }
}
