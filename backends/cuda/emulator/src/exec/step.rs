//! What an instruction does with the lanes that take part.

use super::block::Block;
use super::file::lanes;
use super::warp::{Next, Path, Wait, Warp};
use super::{FaultKind, Trouble};
use crate::ptx::op::{Barrier, LOCAL_BASE, Meet, Op, Outcome, PARAM_BASE, Piece, SHARED_BASE, Space, WINDOW};

impl Warp {
    /// Does what isn't a matter of single lanes' registers, in these lanes of a path.
    pub(super) fn step(
        &mut self,
        op: &Op,
        path: &mut Path,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<Next, Trouble> {
        // What takes no lane does nothing, and goes on.
        if active == 0 {
            return Ok(Next::On);
        }
        match op {
            Op::Alu { run, r } => run(&mut self.file, active, r),
            Op::Compare { run, a, b, with, to } => {
                let mut holds = run(&self.file, *a, *b);
                let mut opposite = !holds;
                if let Some((combine, p)) = with {
                    let p = self.file.predicate(*p);
                    (holds, opposite) = (combine(holds, p), combine(opposite, p));
                }
                match *to {
                    Outcome::Predicates(p, q) => {
                        for (index, bits) in [(p, holds), (q, opposite)] {
                            if let Some(index) = index {
                                self.file.set_predicate(index, bits, active);
                            }
                        }
                    }
                    Outcome::Word(d, value) => {
                        let row = self.file.row_mut::<u32>(d);
                        lanes(active).for_each(|l| row[l] = if holds >> l & 1 == 1 { value } else { 0 });
                    }
                }
            }
            Op::Logic { f, d, a, b } => {
                let bits = f(self.file.predicate(*a), self.file.predicate(*b));
                self.file.set_predicate(*d, bits, active);
            }
            Op::Convert(conversion) => conversion.run(&mut self.file, active),
            &Op::Select { wide, d, a, b, p } => {
                let holds = self.file.predicate(p);
                if wide {
                    let mut out = *self.file.row::<u64>(b);
                    let a = self.file.row::<u64>(a);
                    (0..32).for_each(|l| out[l] = if holds >> l & 1 == 1 { a[l] } else { out[l] });
                    self.file.set(d, &out, active);
                } else {
                    let mut out = *self.file.row::<u32>(b);
                    let a = self.file.row::<u32>(a);
                    (0..32).for_each(|l| out[l] = if holds >> l & 1 == 1 { a[l] } else { out[l] });
                    self.file.set(d, &out, active);
                }
            }
            Op::Pack { d, wide, bits, from } => self.pack(*d, *wide, *bits, from, active),
            Op::Unpack { to, bits, a, wide } => self.unpack(to, *bits, *a, *wide, active),
            Op::Load(access) => self.load(access, active, block)?,
            Op::Store(access) => self.store(access, active, block)?,
            Op::Atomic(atomic) => self.atomic(atomic, active, block)?,
            &Op::InSpace { p, space, address } => {
                let base = match space {
                    Space::Shared => Some(SHARED_BASE),
                    Space::Local => Some(LOCAL_BASE),
                    Space::Param => Some(PARAM_BASE),
                    Space::Global | Space::Generic => None,
                };
                let within = |a: u64, base: u64| a.wrapping_sub(base) < WINDOW;
                let row = self.file.row::<u64>(address);
                let bits = (0..32).fold(0, |bits, l| {
                    let inside = match base {
                        Some(base) => within(row[l], base),
                        None => ![SHARED_BASE, LOCAL_BASE, PARAM_BASE].iter().any(|&b| within(row[l], b)),
                    };
                    bits | u32::from(inside) << l
                });
                self.file.set_predicate(p, bits, active);
            }
            &Op::Branch { target, join } => {
                return Ok(if active == path.lanes {
                    Next::To(target)
                } else {
                    Next::Part(active, target, join)
                });
            }
            Op::Switch { index, targets, join } => return self.switch(*index, targets, *join, path, active),
            Op::Call { target, before, .. } => {
                self.copy_pieces(before, active);
                return Ok(Next::Call(active, *target));
            }
            Op::Return => return Ok(self.return_to(path, active, block)),
            Op::Exit => return Ok(Next::End(active)),
            Op::Trap => {
                return Err(Trouble::new(
                    FaultKind::LaunchFailure,
                    active.trailing_zeros() as usize,
                    "a trap",
                ));
            }
            Op::Barrier(barrier) => return self.barrier(barrier, active, block),
            Op::Together { .. } => {
                if !self.together(op, active)? {
                    return Ok(Next::Wait(Wait::Lanes(active)));
                }
            }
            &Op::ActiveMask { d } => self.file.set(d, &[active; 32], active),
            &Op::Clock { d, wide } => {
                if wide {
                    self.file.set(d, &[self.steps; 32], active);
                } else {
                    self.file.set(d, &[self.steps as u32; 32], active);
                }
            }
            Op::Copy(copy) => self.begin_copy(copy, active, block)?,
            Op::Commit => self.copies.commit(active),
            Op::Wait(groups) => self.wait_for_copies(*groups, active, block)?,
            Op::Matrices(matrices) => self.matrices(matrices, active, block)?,
            Op::Product(product) => self.product(product, active)?,
            Op::Nop => {}
        }
        Ok(Next::On)
    }

    fn pack(&mut self, d: u32, wide: bool, bits: u32, from: &[u32], active: u32) {
        let mask = (1 << bits) - 1;
        for l in lanes(active) {
            let value = from.iter().rev().fold(0_u64, |v, &r| v << bits | self.file.any(r, false, l) & mask);
            if wide {
                self.file.row_mut::<u64>(d)[l] = value;
            } else {
                self.file.row_mut::<u32>(d)[l] = value as u32;
            }
        }
    }

    fn unpack(&mut self, to: &[Option<u32>], bits: u32, a: u32, wide: bool, active: u32) {
        for l in lanes(active) {
            let value = self.file.any(a, wide, l);
            for (k, d) in to.iter().enumerate() {
                if let Some(d) = *d {
                    let part = value >> (bits * k as u32) & ((1 << bits) - 1);
                    self.file.row_mut::<u32>(d)[l] = part as u32;
                }
            }
        }
    }

    fn switch(
        &mut self,
        index: u32,
        targets: &[u32],
        join: u32,
        path: &Path,
        active: u32,
    ) -> Result<Next, Trouble> {
        let row = self.file.row::<u32>(index);
        let mut to: Vec<(u32, u32)> = Vec::new();
        let mut add = |at: u32, lanes: u32| match to.iter_mut().find(|(t, _)| *t == at) {
            Some((_, all)) => *all |= lanes,
            None => to.push((at, lanes)),
        };
        for l in lanes(active) {
            let Some(&at) = targets.get(row[l] as usize) else {
                let what = format!("a branch to number {} of {} labels", row[l], targets.len());
                return Err(Trouble::new(FaultKind::IllegalInstruction, l, what));
            };
            add(at, 1 << l);
        }
        if active != path.lanes {
            add(path.at + 1, path.lanes & !active);
        }
        Ok(if let [(at, _)] = to[..] { Next::To(at) } else { Next::Scatter(to, join) })
    }

    /// Copies parameters or results of a call in local memory.
    fn copy_pieces(&mut self, pieces: &[Piece], active: u32) {
        let stride = self.local_stride * 16;
        let local: &mut [u8] = bytemuck::cast_slice_mut(&mut self.local);
        for l in lanes(active) {
            for p in pieces {
                let from = l * stride + p.from as usize;
                local.copy_within(from..from + p.bytes as usize, l * stride + p.to as usize);
            }
        }
    }

    fn return_to(&mut self, path: &mut Path, active: u32, block: &Block<'_>) -> Next {
        let Some(call) = path.returns.pop() else { return Next::End(active) };
        if let Op::Call { after, .. } = &block.launch.kernel.code[call as usize].op {
            self.copy_pieces(after, active);
        }
        Next::To(call + 1)
    }

    fn barrier(&mut self, barrier: &Barrier, active: u32, block: &mut Block<'_>) -> Result<Next, Trouble> {
        let &Barrier { meet, aligned, id, count } = barrier;
        let first = active.trailing_zeros() as usize;
        let id = self.file.row::<u32>(id)[first];
        let count = count.map(|c| self.file.row::<u32>(c)[first]);
        if aligned && active != self.live {
            return Ok(Next::Wait(Wait::Warp { meet, id, count, lanes: active }));
        }
        let threads = if aligned { self.counted(count, active) } else { active.count_ones() };
        block.arrive(id, threads, count, self.holding(meet, active))?;
        Ok(match meet {
            Meet::Arrive => Next::On,
            _ => Next::WaitBehind(Wait::Barrier { id, meet, lanes: active }),
        })
    }
}
