//! The paths of a warp's lanes.
//!
//! Lanes that part at a branch meet again at its post-dominator, where those that come first wait for the others;
//! lanes that end are waited for no longer. If nothing else can go on, or the others take very long, those who are
//! there go on without the rest, so that lanes which wait for each other in other ways aren't stuck.

use super::block::Block;
use super::copies::Copies;
use super::file::{FULL, File};
use super::{FaultKind, Trouble};
use crate::ptx::Kernel;
use crate::ptx::op::{Meet, NOWHERE, Op};

/// Instructions that a path runs before others have their turn.
const TURN: u32 = 1 << 16;

/// What a path waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    Nothing,
    /// Other lanes of the warp, at the instruction that it is at; these lanes take part.
    Lanes(u32),
    /// To be counted at a barrier together with the rest of the warp.
    Warp {
        meet: Meet,
        id: u32,
        count: Option<u32>,
        lanes: u32,
    },
    /// A barrier to open.
    Barrier {
        id: u32,
        meet: Meet,
        lanes: u32,
    },
}

/// Lanes that are at one place.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub at: u32,
    pub lanes: u32,
    /// The join that it leads to.
    join: Option<usize>,
    pub wait: Wait,
    /// Where functions return to.
    pub returns: Vec<u32>,
    /// The line of the last instruction.
    pub line: u32,
}

/// Where paths meet.
#[derive(Debug)]
struct Join {
    at: u32,
    expected: u32,
    arrived: u32,
    outer: Option<usize>,
    returns: Vec<u32>,
}

/// Why a warp stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// All its lanes have ended.
    Ended,
    /// It waits at a barrier, on that line.
    Waits(u32),
    /// It is others' turn.
    Goes,
}

/// What an instruction makes of the path that runs it.
#[derive(Debug)]
pub(super) enum Next {
    /// It goes on behind the instruction.
    On,
    To(u32),
    /// These lanes go to the first place, the others behind the instruction; they meet at the second.
    Part(u32, u32, u32),
    /// These lanes go to a function, and come back behind the instruction, where the others are.
    Call(u32, u32),
    /// Lanes go to several places, and meet at the last.
    Scatter(Vec<(u32, u32)>, u32),
    /// These lanes end.
    End(u32),
    Wait(Wait),
    /// It waits once it is behind the instruction.
    WaitBehind(Wait),
}

/// A warp.
#[derive(Debug)]
pub(super) struct Warp {
    /// Its number in the block.
    pub index: u32,
    pub file: File,
    /// Lanes that haven't ended.
    pub live: u32,
    pub paths: Vec<Path>,
    joins: Vec<Option<Join>>,
    /// Local memory of each lane, one after the other, and its size in units of 16 bytes.
    pub local: Vec<u128>,
    pub local_stride: usize,
    pub copies: Copies,
    /// How often its lanes waited for each other.
    pub epoch: u32,
    /// Instructions so far.
    pub steps: u64,
    first: u32,
}

impl Warp {
    pub(super) fn new(index: u32, threads: u32, kernel: &Kernel) -> Self {
        let lanes = (threads - 32 * index).min(32);
        Self {
            index,
            file: File::default(),
            live: 0,
            paths: Vec::new(),
            joins: Vec::new(),
            local: Vec::new(),
            local_stride: (kernel.local_bytes as usize).div_ceil(16),
            copies: Copies::default(),
            epoch: 0,
            steps: 0,
            first: FULL >> (32 - lanes),
        }
    }

    /// Makes it ready for a block.
    pub(super) fn reset(&mut self, kernel: &Kernel) {
        self.file.clear(kernel.rows, kernel.predicates);
        self.live = self.first;
        self.paths.clear();
        self.joins.clear();
        self.local.clear();
        self.local.resize(self.local_stride * 32, 0);
        self.copies.clear();
        self.epoch = 0;
        self.steps = 0;
        self.put(0, self.live, None, Vec::new(), 0);
    }

    /// Runs until nothing goes on, or it is others' turn. An error comes with its line.
    pub(super) fn run(&mut self, block: &mut Block<'_>) -> Result<Stop, (u32, Trouble)> {
        let mut turns = 2 * self.paths.len() + 2;
        loop {
            let ready = |p: &Path| matches!(p.wait, Wait::Nothing);
            if let Some(k) = self.paths.iter().rposition(ready) {
                if turns == 0 {
                    return Ok(Stop::Goes);
                }
                let path = self.paths.remove(k);
                if self.follow(path, block)? {
                    turns -= 1;
                    // It may wait for something that lanes at a join are to do.
                    self.leave_a_join();
                }
                continue;
            }
            if self.meet_lanes(block)? || self.meet_at_barrier(block)? {
                continue;
            }
            // Lanes at a join have left the barrier out for which others of their warp wait.
            let at_barrier = |p: &Path| matches!(p.wait, Wait::Warp { .. });
            if block.launch.checks && self.paths.iter().any(at_barrier) {
                return Err(self.stuck());
            }
            if self.leave_a_join() {
                continue;
            }
            if self.paths.is_empty() {
                return Ok(Stop::Ended);
            }
            let at_barrier = self.paths.iter().find(|p| matches!(p.wait, Wait::Barrier { .. }));
            return at_barrier.map(|p| Stop::Waits(p.line)).ok_or_else(|| self.stuck());
        }
    }

    /// Follows a path until it waits, parts, meets others or ends, or has had its turn, which is told.
    fn follow(&mut self, mut path: Path, block: &mut Block<'_>) -> Result<bool, (u32, Trouble)> {
        let code = &block.launch.kernel.code;
        let meets = path.join.and_then(|j| self.joins[j].as_ref()).map_or(NOWHERE, |j| j.at);
        for _ in 0..TURN {
            if path.at == meets {
                self.put(path.at, path.lanes, path.join, path.returns, path.line);
                return Ok(false);
            }
            let instr = &code[path.at as usize];
            self.steps += 1;
            path.line = instr.line;
            let lanes = match instr.guard {
                None => path.lanes,
                Some(p) => path.lanes & self.file.predicate(p),
            };
            if let Op::Alu { run, r } = &instr.op {
                if lanes != 0 {
                    run(&mut self.file, lanes, r);
                }
                path.at += 1;
                continue;
            }
            let next = self.step(&instr.op, &mut path, lanes, block).map_err(|t| (instr.line, t))?;
            match next {
                Next::On => path.at += 1,
                Next::To(at) => path.at = at,
                Next::Part(taken, at, join) => {
                    let join = self.join(&path, join);
                    self.put(path.at + 1, path.lanes & !taken, join, path.returns.clone(), path.line);
                    self.put(at, taken, join, path.returns, path.line);
                    return Ok(false);
                }
                Next::Call(calling, at) if calling == path.lanes => {
                    path.returns.push(path.at);
                    path.at = at;
                }
                Next::Call(calling, at) => {
                    let join = self.join(&path, path.at + 1);
                    self.put(path.at + 1, path.lanes & !calling, join, path.returns.clone(), path.line);
                    path.returns.push(path.at);
                    self.put(at, calling, join, path.returns, path.line);
                    return Ok(false);
                }
                Next::Scatter(to, join) => {
                    let join = self.join(&path, join);
                    for (at, lanes) in to {
                        self.put(at, lanes, join, path.returns.clone(), path.line);
                    }
                    return Ok(false);
                }
                Next::End(ended) => {
                    self.live &= !ended;
                    block.ended += ended.count_ones();
                    path.lanes &= !ended;
                    path.at += 1;
                    let over = path.lanes == 0;
                    if !over {
                        self.put(path.at, path.lanes, path.join, path.returns, path.line);
                    }
                    self.after_an_end();
                    return Ok(false);
                }
                Next::Wait(wait) => {
                    path.wait = wait;
                    self.paths.push(path);
                    return Ok(false);
                }
                Next::WaitBehind(wait) => {
                    path.wait = wait;
                    path.at += 1;
                    self.paths.push(path);
                    return Ok(false);
                }
            }
        }
        // The others first.
        self.paths.insert(0, path);
        Ok(true)
    }

    /// The join of lanes that part here.
    fn join(&mut self, path: &Path, at: u32) -> Option<usize> {
        let here = path.join.and_then(|j| self.joins[j].as_ref()).map(|j| j.at);
        if at == NOWHERE || here == Some(at) {
            return path.join;
        }
        let new =
            Join { at, expected: path.lanes, arrived: 0, outer: path.join, returns: path.returns.clone() };
        let place = self.joins.iter().position(Option::is_none).unwrap_or(self.joins.len());
        if place == self.joins.len() {
            self.joins.push(None);
        }
        self.joins[place] = Some(new);
        Some(place)
    }

    /// Puts lanes to a place, which may be where they wait for others.
    fn put(&mut self, at: u32, lanes: u32, join: Option<usize>, returns: Vec<u32>, line: u32) {
        if let Some(n) = join
            && let Some(j) = self.joins[n].as_mut()
            && j.at == at
        {
            j.arrived |= lanes;
            self.complete(n);
        } else {
            self.paths.push(Path { at, lanes, join, wait: Wait::Nothing, returns, line });
        }
    }

    /// Lets the lanes at a join go on if all are there.
    fn complete(&mut self, n: usize) {
        let Some(j) = &self.joins[n] else { return };
        if j.expected & self.live & !j.arrived != 0 {
            return;
        }
        if let Some(j) = self.joins[n].take()
            && j.arrived & self.live != 0
        {
            self.put(j.at, j.arrived & self.live, j.outer, j.returns, 0);
        }
    }

    fn after_an_end(&mut self) {
        // Inner joins may complete outer ones: those are looked at again then.
        for n in 0..self.joins.len() {
            self.complete(n);
        }
    }

    /// Lets lanes at a join go on without the rest; tells whether there were any.
    fn leave_a_join(&mut self) -> bool {
        let Some(n) = self.joins.iter().position(|j| j.as_ref().is_some_and(|j| j.arrived & self.live != 0))
        else {
            return false;
        };
        let Some(j) = self.joins[n].as_mut() else { return false };
        let lanes = j.arrived & self.live;
        j.expected &= !j.arrived;
        j.arrived = 0;
        let (at, outer, returns) = (j.at, j.outer, j.returns.clone());
        self.put(at, lanes, outer, returns, 0);
        true
    }

    /// Runs an instruction for several lanes if all that it names wait there, in several paths.
    fn meet_lanes(&mut self, block: &mut Block<'_>) -> Result<bool, (u32, Trouble)> {
        let code = &block.launch.kernel.code;
        for k in 0..self.paths.len() {
            if !matches!(self.paths[k].wait, Wait::Lanes(_)) {
                continue;
            }
            let at = self.paths[k].at;
            let same = |p: &Path| match p.wait {
                Wait::Lanes(lanes) if p.at == at => lanes,
                _ => 0,
            };
            let lanes = self.paths.iter().fold(0, |all, p| all | same(p));
            let (op, line) = (&code[at as usize].op, self.paths[k].line);
            if self.together(op, lanes).map_err(|t| (line, t))? {
                for p in &mut self.paths {
                    if matches!(p.wait, Wait::Lanes(_)) && p.at == at {
                        p.wait = Wait::Nothing;
                        p.at += 1;
                    }
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts the warp at a barrier if all its lanes wait for that, in several paths.
    fn meet_at_barrier(&mut self, block: &mut Block<'_>) -> Result<bool, (u32, Trouble)> {
        let waits = |p: &Path| match p.wait {
            Wait::Warp { lanes, .. } => lanes,
            _ => 0,
        };
        let lanes = self.paths.iter().fold(0, |all, p| all | waits(p));
        let Some(&Path { at, line, wait: Wait::Warp { meet, id, count, .. }, .. }) = self.paths.first()
        else {
            return Ok(false);
        };
        if lanes != self.live || self.paths.iter().any(|p| p.at != at) {
            return Ok(false);
        }
        let (threads, holds) = (self.counted(count, lanes), self.holding(meet, lanes));
        block.arrive(id, threads, count, holds).map_err(|t| (line, t))?;
        for p in &mut self.paths {
            if let Wait::Warp { meet, id, lanes, .. } = p.wait {
                p.wait = if matches!(meet, Meet::Arrive) {
                    Wait::Nothing
                } else {
                    Wait::Barrier { id, meet, lanes }
                };
                p.at += 1;
            }
        }
        Ok(true)
    }

    /// How many threads of a warp count at a barrier: all of a warp where a number is given.
    pub(super) fn counted(&self, count: Option<u32>, lanes: u32) -> u32 {
        if count.is_some() { 32 } else { lanes.count_ones() }
    }

    /// What is wrong where lanes wait for others that never come.
    fn stuck(&self) -> (u32, Trouble) {
        let barrier = self.paths.iter().find(|p| matches!(p.wait, Wait::Warp { .. }));
        let path = barrier.or(self.paths.first());
        let (line, lanes) = path.map_or((0, 0), |p| (p.line, p.lanes));
        let what = match barrier {
            Some(_) => format!(
                "barrier divergence: of the lanes {:08x}, only {lanes:08x} are at the barrier",
                self.live
            ),
            None => format!("the lanes {lanes:08x} wait for lanes of the warp that never come"),
        };
        (line, Trouble::new(FaultKind::LaunchFailure, None, what))
    }
}
