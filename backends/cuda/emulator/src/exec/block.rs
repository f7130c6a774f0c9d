//! A block: its warps, which run in turn, and its barriers.

use super::file::Pred;
use super::shared::Shared;
use super::warp::{Stop, Wait, Warp};
use super::{Fault, FaultKind, Launch, Trouble};
use crate::ptx::op::{Meet, Special, Start, Value};

/// Barriers of a block.
const BARRIERS: usize = 16;

/// Who has come to a barrier.
#[derive(Debug, Default, Clone, Copy)]
struct Barrier {
    arrived: u32,
    /// How many threads meet, where not all of the block do.
    count: Option<u32>,
    /// In how many threads the predicate held.
    holds: u32,
}

/// What the warps of a block share.
pub(super) struct Block<'a> {
    pub launch: &'a Launch<'a>,
    pub id: [u32; 3],
    pub threads: u32,
    /// Threads that have ended.
    pub ended: u32,
    pub shared: Shared,
    /// The parameters, aligned.
    pub params: Vec<u128>,
    barriers: [Barrier; BARRIERS],
}

/// What runs blocks, one after the other.
pub(super) struct Machine<'a> {
    block: Block<'a>,
    warps: Vec<Warp>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(launch: &'a Launch<'a>) -> Self {
        let threads: u32 = launch.block.iter().product();
        let bytes = dynamic_offset(launch) + launch.dynamic_shared;
        let mut params = vec![0_u128; launch.kernel.param_bytes.div_ceil(16)];
        let given = &launch.params[..launch.kernel.param_bytes];
        bytemuck::cast_slice_mut(&mut params)[..given.len()].copy_from_slice(given);
        let block = Block {
            launch,
            id: [0; 3],
            threads,
            ended: 0,
            shared: Shared::new(bytes, launch.kernel.granule, launch.checks),
            params,
            barriers: [Barrier::default(); BARRIERS],
        };
        let warps = (0..threads.div_ceil(32)).map(|w| Warp::new(w, threads, launch.kernel)).collect();
        Self { block, warps }
    }

    /// Runs the block of that number in the grid's order.
    pub(super) fn run(&mut self, n: u64) -> Result<(), Fault> {
        let [x, y] = [self.block.launch.grid[0], self.block.launch.grid[1]].map(u64::from);
        self.block.id = [(n % x) as u32, (n / x % y) as u32, (n / x / y) as u32];
        self.block.ended = 0;
        self.block.barriers = [Barrier::default(); BARRIERS];
        self.block.shared.clear();
        for warp in &mut self.warps {
            warp.reset(self.block.launch.kernel);
            self.block.start(warp);
        }
        loop {
            let (mut waits, mut runs) = (None, false);
            for k in 0..self.warps.len() {
                let stop = self.warps[k].run(&mut self.block);
                match stop.map_err(|(line, trouble)| self.block.fault(&self.warps[k], line, trouble))? {
                    Stop::Ended => {}
                    Stop::Waits(line) => waits = waits.or(Some((k, line))),
                    Stop::Goes => runs = true,
                }
                runs |= self.open(k)?;
            }
            match waits {
                _ if runs => {}
                None => return Ok(()),
                Some((k, line)) => {
                    let trouble = Trouble::new(
                        FaultKind::LaunchFailure,
                        None,
                        "barrier divergence: threads wait at a barrier that others of the block never reach",
                    );
                    return Err(self.block.fault(&self.warps[k], line, trouble));
                }
            }
        }
    }

    /// Opens barriers that all have reached, after the warp `k` ran; tells whether there were any.
    fn open(&mut self, k: usize) -> Result<bool, Fault> {
        let mut opened = false;
        for id in 0..BARRIERS {
            let barrier = self.block.barriers[id];
            let wanted = barrier.count.unwrap_or(self.block.threads - self.block.ended);
            if barrier.arrived == 0 || barrier.arrived < wanted {
                continue;
            }
            if barrier.count.is_none() && self.block.ended > 0 && self.block.launch.checks {
                let what = format!(
                    "barrier divergence: {} threads of the block ended before a barrier that the others reach",
                    self.block.ended
                );
                let line = self.warps.iter().find_map(|w| w.waits_at(id)).unwrap_or(0);
                let trouble = Trouble::new(FaultKind::LaunchFailure, None, what);
                return Err(self.block.fault(&self.warps[k], line, trouble));
            }
            for warp in &mut self.warps {
                warp.pass(id, barrier.holds, wanted);
            }
            self.block.barriers[id] = Barrier::default();
            self.block.shared.barrier();
            opened = true;
        }
        Ok(opened)
    }
}

/// Where shared memory begins whose size the launch says.
fn dynamic_offset(launch: &Launch<'_>) -> u32 {
    launch.kernel.static_shared.next_multiple_of(16)
}

impl Block<'_> {
    /// Counts threads that come to a barrier.
    pub(super) fn arrive(
        &mut self,
        id: u32,
        threads: u32,
        count: Option<u32>,
        holds: u32,
    ) -> Result<(), Trouble> {
        let fail = |what| Err(Trouble::new(FaultKind::IllegalInstruction, None, what));
        let Some(barrier) = self.barriers.get_mut(id as usize) else {
            return fail(format!("barrier {id}; there are {BARRIERS}"));
        };
        if count.is_some_and(|n| n == 0 || n % 32 != 0) {
            return fail(format!(
                "a barrier for {} threads, which isn't a number of warps",
                count.unwrap_or(0)
            ));
        }
        if barrier.arrived > 0 && barrier.count != count {
            return fail(format!("barrier {id} for {:?} and for {count:?} threads at once", barrier.count));
        }
        barrier.arrived += threads;
        barrier.count = count;
        barrier.holds += holds;
        Ok(())
    }

    /// Gives the registers of a warp their values from the start.
    fn start(&self, warp: &mut Warp) {
        let launch = self.launch;
        for &Start { reg, wide, value } in &launch.kernel.start {
            let of = |lane: u32| match value {
                Value::Constant(v) => v,
                Value::Global(n, offset) => {
                    launch.globals.get(n).copied().unwrap_or(0).wrapping_add_signed(offset)
                }
                Value::DynamicShared(offset) => u64::from(dynamic_offset(launch)).wrapping_add_signed(offset),
                Value::Special(special) => u64::from(self.special(special, warp.index, lane)),
            };
            if wide {
                let row = warp.file.row_mut::<u64>(reg);
                (0..32).for_each(|l| row[l as usize] = of(l));
            } else {
                let row = warp.file.row_mut::<u32>(reg);
                (0..32).for_each(|l| row[l as usize] = of(l) as u32);
            }
        }
    }

    fn special(&self, special: Special, warp: u32, lane: u32) -> u32 {
        let launch = self.launch;
        match special {
            Special::Tid(axis) => self.thread(32 * warp + lane)[axis],
            Special::Ntid(axis) => launch.block[axis],
            Special::Ctaid(axis) => self.id[axis],
            Special::Nctaid(axis) => launch.grid[axis],
            Special::Lane => lane,
            Special::Warp => warp,
            Special::Warps => self.threads.div_ceil(32),
            Special::MaskEqual => 1 << lane,
            Special::MaskBelow => (1 << lane) - 1,
            Special::MaskUpTo => u32::MAX >> (31 - lane),
            Special::MaskAbove => !(u32::MAX >> (31 - lane)),
            Special::MaskFrom => u32::MAX << lane,
            Special::DynamicShared => launch.dynamic_shared,
            Special::TotalShared => dynamic_offset(launch) + launch.dynamic_shared,
            Special::Zero => 0,
            Special::One => 1,
        }
    }

    /// Where in the block a thread is.
    fn thread(&self, n: u32) -> [u32; 3] {
        let [x, y, _] = self.launch.block;
        [n % x, n / x % y, n / x / y]
    }

    /// Says where something went wrong.
    fn fault(&self, warp: &Warp, line: u32, trouble: Trouble) -> Fault {
        let kernel = &self.launch.kernel.name;
        let place = match trouble.lane {
            Some(lane) => format!("thread {:?}", self.thread(32 * warp.index + lane as u32)),
            None => format!("warp {}", warp.index),
        };
        let message =
            format!("{kernel}, line {line} of its PTX, block {:?}, {place}: {}", self.id, trouble.what);
        Fault { kind: trouble.kind, message }
    }
}

impl Warp {
    /// The line at which it waits at that barrier.
    fn waits_at(&self, id: usize) -> Option<u32> {
        let waits = |w: &Wait| matches!(w, Wait::Barrier { id: i, .. } if *i as usize == id);
        self.paths.iter().find(|p| waits(&p.wait)).map(|p| p.line)
    }

    /// Lets what waits at a barrier go on, and tells it in how many threads the predicate held.
    fn pass(&mut self, id: usize, holds: u32, threads: u32) {
        for path in &mut self.paths {
            let Wait::Barrier { id: i, meet, lanes } = path.wait else { continue };
            if i as usize != id {
                continue;
            }
            path.wait = Wait::Nothing;
            let bits = |yes: bool| if yes { u32::MAX } else { 0 };
            match meet {
                Meet::Count(d, _) => self.file.set(d, &[holds; 32], lanes),
                Meet::All(d, _) => self.file.set_predicate(d, bits(holds >= threads), lanes),
                Meet::Any(d, _) => self.file.set_predicate(d, bits(holds > 0), lanes),
                Meet::Sync | Meet::Arrive => {}
            }
        }
    }

    /// In how many of these lanes the predicate of a barrier holds.
    pub(super) fn holding(&self, meet: Meet, lanes: u32) -> u32 {
        match meet {
            Meet::Count(_, p) | Meet::All(_, p) | Meet::Any(_, p) => (self.predicate(p) & lanes).count_ones(),
            Meet::Sync | Meet::Arrive => 0,
        }
    }

    fn predicate(&self, p: Pred) -> u32 {
        self.file.predicate(p)
    }
}
