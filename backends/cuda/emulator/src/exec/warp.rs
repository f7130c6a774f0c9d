//! A warp: 32 threads with their registers, and what each instruction does to them.

use super::memory::{Access, Shared, Who};
use super::{Fault, FaultKind, Launch};
use crate::ptx::{
    Address, Instr, LOCAL_BASE, Lanes, Op, Reg, SHARED_BASE, Shuffle, Space, Special, Start, Vote,
};
use std::array;
use std::sync::Mutex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    AtBarrier,
    Done,
}

/// A copy that was asked for, and arrives when it is waited for.
struct Copy {
    lane: usize,
    to: u64,
    from: u64,
    bytes: u32,
    size: u32,
}

pub(super) struct Warp<'a> {
    launch: &'a Launch<'a>,
    block: [u32; 3],
    number: u32,
    regs: Vec<Lanes>,
    local: Vec<u8>,
    pc: [u32; 32],
    alive: u32,
    /// The threads that the warp was made with.
    all: u32,
    /// Threads at an instruction that waits for others.
    waiting: u32,
    state: State,
    epoch: u32,
    started: bool,
    /// The instruction and thread that is being run, to tell of faults.
    line: u32,
    lane: usize,
    copies: Vec<Copy>,
    groups: Vec<Vec<Copy>>,
}

/// Atomic operations of all blocks take turns.
static ATOMIC: Mutex<()> = Mutex::new(());

fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| mask >> i & 1 == 1)
}

impl<'a> Warp<'a> {
    pub fn new(launch: &'a Launch<'a>, block: [u32; 3], number: u32, threads: u32) -> Self {
        let count = (threads - number * 32).min(32);
        let all = (u64::from(u32::MAX) >> (32 - count)) as u32;
        Self {
            launch,
            block,
            number,
            regs: Vec::new(),
            local: vec![0xa5; 32 * launch.kernel.local_bytes as usize],
            pc: [0; 32],
            alive: all,
            all,
            waiting: 0,
            state: State::Ready,
            epoch: 0,
            started: false,
            line: 0,
            lane: 0,
            copies: Vec::new(),
            groups: Vec::new(),
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn ended_early(&self) -> bool {
        self.alive != self.all
    }

    pub fn pass_barrier(&mut self) {
        if self.state == State::AtBarrier {
            self.state = State::Ready;
        }
    }

    /// Adds to a fault where it happened.
    pub fn place(&self, fault: Fault) -> Fault {
        let thread = self.number * 32 + self.lane as u32;
        let message = format!(
            "kernel {}, line {} of its PTX, block {:?}, thread {thread}: {}",
            self.launch.kernel.name, self.line, self.block, fault.message
        );
        Fault { message, ..fault }
    }

    fn start(&mut self, dynamic: u64) {
        let (l, block, number) = (self.launch, self.block, self.number);
        let of = |lane: usize, start: &Start| {
            let thread = number * 32 + lane as u32;
            let tid =
                [thread % l.block[0], thread / l.block[0] % l.block[1], thread / l.block[0] / l.block[1]];
            let below = (1u32 << lane) - 1;
            let at = 1u32 << lane;
            match *start {
                Start::Value(v) => v,
                Start::Global(i) => l.globals[i],
                Start::DynamicShared => dynamic,
                Start::Special(special) => u64::from(match special {
                    Special::Tid(i) => tid[i],
                    Special::Ntid(i) => l.block[i],
                    Special::Ctaid(i) => block[i],
                    Special::Nctaid(i) => l.grid[i],
                    Special::Lane => lane as u32,
                    Special::Warp => number,
                    Special::Warps => l.block.iter().product::<u32>().div_ceil(32),
                    Special::DynamicShared => l.dynamic_shared,
                    Special::MaskBelow => below,
                    Special::MaskUpTo => below | at,
                    Special::MaskAt => at,
                    Special::MaskFrom => !below,
                    Special::MaskAbove => !(below | at),
                }),
            }
        };
        self.regs = l.kernel.start.iter().map(|s| array::from_fn(|lane| of(lane, s))).collect();
        self.started = true;
    }

    /// Runs until all threads wait at a barrier or have ended.
    pub fn run(&mut self, shared: &mut Shared) -> Result<(), Fault> {
        if !self.started {
            self.start(shared.dynamic);
        }
        let launch = self.launch;
        while self.state == State::Ready {
            let ready = self.alive & !self.waiting;
            if self.alive == 0 {
                self.state = State::Done;
                return Ok(());
            }
            let Some(pc) = lanes(ready).map(|i| self.pc[i]).min() else {
                return Err(Fault::new(
                    FaultKind::LaunchFailure,
                    "divergence: threads of a warp wait for each other at different instructions",
                ));
            };
            let here = lanes(self.alive).filter(|&i| self.pc[i] == pc).fold(0, |m, i| m | 1 << i);
            self.waiting &= !here;
            let limit =
                lanes(self.alive & !here).map(|i| self.pc[i]).filter(|&p| p > pc).min().unwrap_or(u32::MAX);
            self.go(pc, here, limit, &launch.kernel.code, shared)?;
        }
        Ok(())
    }

    /// Runs the threads `here` from `pc` on until they part, wait, end or may meet others at `limit`.
    fn go(
        &mut self,
        mut pc: u32,
        here: u32,
        limit: u32,
        code: &[Instr],
        shared: &mut Shared,
    ) -> Result<(), Fault> {
        let set = |pcs: &mut [u32; 32], mask: u32, pc: u32| lanes(mask).for_each(|i| pcs[i] = pc);
        loop {
            let Some(instr) = code.get(pc as usize) else {
                self.alive &= !here;
                return Ok(());
            };
            self.line = instr.line;
            self.lane = here.trailing_zeros() as usize;
            let mask = match instr.guard {
                None => here,
                Some((p, negated)) => {
                    let p = &self.regs[p as usize];
                    lanes(here).filter(|&i| (p[i] != 0) != negated).fold(0, |m, i| m | 1 << i)
                }
            };
            match &instr.op {
                Op::Branch { target } => {
                    set(&mut self.pc, mask, *target);
                    set(&mut self.pc, here & !mask, pc + 1);
                    return Ok(());
                }
                Op::Exit => {
                    self.alive &= !mask;
                    if mask != 0 {
                        // Who waits for others may wait no longer.
                        self.waiting = 0;
                    }
                    set(&mut self.pc, here & !mask, pc + 1);
                    return Ok(());
                }
                Op::Barrier if mask != 0 => {
                    if mask != self.alive {
                        // Others may be on their way.
                        set(&mut self.pc, here, pc);
                        self.waiting |= here;
                        if self.alive & !self.waiting == 0 {
                            return Err(Fault::new(
                                FaultKind::LaunchFailure,
                                "barrier divergence: threads of a warp wait at different barriers",
                            ));
                        }
                        return Ok(());
                    }
                    self.epoch += 1;
                    set(&mut self.pc, here, pc + 1);
                    self.state = State::AtBarrier;
                    return Ok(());
                }
                op if mask != 0 => {
                    if self.named(op, mask).is_some_and(|named| named & self.alive & !here != 0) {
                        set(&mut self.pc, here, pc);
                        self.waiting |= here;
                        return Ok(());
                    }
                    self.step(op, mask, shared)?;
                }
                _ => {}
            }
            pc += 1;
            if pc >= limit {
                set(&mut self.pc, here, pc);
                return Ok(());
            }
        }
    }

    /// The threads that an instruction of the whole warp names.
    fn named(&self, op: &Op, mask: u32) -> Option<u32> {
        match op {
            Op::WarpBarrier { mask: m } | Op::Shuffle { mask: m, .. } | Op::Vote { mask: m, .. } => {
                Some(self.regs[*m as usize][mask.trailing_zeros() as usize] as u32)
            }
            _ => None,
        }
    }

    fn put(&mut self, d: Reg, mask: u32, values: &Lanes) {
        let d = &mut self.regs[d as usize];
        if mask == u32::MAX {
            *d = *values;
        } else {
            lanes(mask).for_each(|i| d[i] = values[i]);
        }
    }

    fn step(&mut self, op: &Op, mask: u32, shared: &mut Shared) -> Result<(), Fault> {
        match op {
            Op::Alu { f, d, s } => {
                let [a, b, c] = s.map(|r| &self.regs[r as usize]);
                let values = f(a, b, c);
                self.put(*d, mask, &values);
            }
            Op::Load { to, at, bytes, signed } => {
                for lane in lanes(mask) {
                    let mut data = [0; 16];
                    self.read(*at, lane, &mut data[..to.len() * *bytes as usize], shared)?;
                    for (r, value) in to.iter().zip(data.chunks(*bytes as usize)) {
                        let mut v = word(value);
                        if *signed && *bytes < 4 {
                            let up = 32 - 8 * bytes;
                            v = u64::from((((v as u32) << up) as i32 >> up) as u32);
                        }
                        self.regs[*r as usize][lane] = v;
                    }
                }
            }
            Op::Store { from, at, bytes } => {
                for lane in lanes(mask) {
                    let mut data = [0; 16];
                    for (r, value) in from.iter().zip(data.chunks_mut(*bytes as usize)) {
                        value.copy_from_slice(&self.regs[*r as usize][lane].to_le_bytes()[..*bytes as usize]);
                    }
                    self.write(*at, lane, &data[..from.len() * *bytes as usize], shared)?;
                }
            }
            Op::Atomic { d, at, bytes, f, b, c } => {
                let _turn = ATOMIC.lock().unwrap_or_else(|e| e.into_inner());
                for lane in lanes(mask) {
                    let place = self.place_of(*at, lane, *bytes, Access::Atomic, shared)?;
                    let mut old = [0; 8];
                    place.read(&mut old[..*bytes as usize]);
                    let old = u64::from_le_bytes(old);
                    let new = f(old, self.regs[*b as usize][lane], self.regs[*c as usize][lane]);
                    place.write(&new.to_le_bytes()[..*bytes as usize]);
                    if let Some(d) = d {
                        self.regs[*d as usize][lane] = old;
                    }
                }
            }
            Op::Pack { d, s, bits } => {
                let values: Lanes = array::from_fn(|i| {
                    let part = |r: Reg| self.regs[r as usize][i] & (u64::MAX >> (64 - bits));
                    s.iter().enumerate().fold(0, |v, (n, &r)| v | part(r) << (bits * n as u32))
                });
                self.put(*d, mask, &values);
            }
            Op::Unpack { d, s, bits } => {
                let whole = self.regs[*s as usize];
                for (n, &d) in d.iter().enumerate() {
                    let values = whole.map(|v| v >> (bits * n as u32) & (u64::MAX >> (64 - bits)));
                    self.put(d, mask, &values);
                }
            }
            Op::WarpBarrier { .. } => self.epoch += 1,
            Op::ActiveMask { d } => self.put(*d, mask, &[mask.into(); 32]),
            Op::Vote { kind, d, s, negated, .. } => {
                let s = &self.regs[*s as usize];
                let yes = lanes(mask).filter(|&i| (s[i] != 0) != *negated).fold(0u32, |m, i| m | 1 << i);
                let v = match kind {
                    Vote::All => u64::from(yes == mask),
                    Vote::Any => u64::from(yes != 0),
                    Vote::Uniform => u64::from(yes == mask || yes == 0),
                    Vote::Ballot => yes.into(),
                };
                self.put(*d, mask, &[v; 32]);
            }
            Op::Shuffle { kind, d, p, s, .. } => self.shuffle(*kind, *d, *p, *s, mask),
            Op::CopyAsync { to, from, bytes, size } => {
                for lane in lanes(mask) {
                    let [to, from] =
                        [to, from].map(|a| self.regs[a.base as usize][lane].wrapping_add(a.offset as u64));
                    let size = size.map_or(*bytes, |r| self.regs[r as usize][lane] as u32).min(*bytes);
                    self.copies.push(Copy { lane, to, from, bytes: *bytes, size });
                }
            }
            Op::Commit => self.groups.push(std::mem::take(&mut self.copies)),
            Op::WaitGroups { left } => self.arrive(*left as usize, shared)?,
            Op::Trap => return Err(Fault::new(FaultKind::IllegalInstruction, "trap")),
            Op::Fence | Op::Branch { .. } | Op::Exit | Op::Barrier => {}
        }
        Ok(())
    }

    /// The PTX ISA's definition of shfl.sync.
    fn shuffle(&mut self, kind: Shuffle, d: Reg, p: Option<Reg>, s: [Reg; 3], mask: u32) {
        let [a, b, c] = s.map(|r| self.regs[r as usize]);
        let mut valid = [0; 32];
        let values: Lanes = array::from_fn(|lane| {
            let (i, by) = (lane as i64, (b[lane] & 31) as i64);
            let (clamp, segment) = ((c[lane] & 31) as i64, (c[lane] >> 8 & 31) as i64);
            let top = (i & segment) | (clamp & !segment);
            let (from, ok) = match kind {
                Shuffle::Up => (i - by, i - by >= top),
                Shuffle::Down => (i + by, i + by <= top),
                Shuffle::Xor => (i ^ by, i ^ by <= top),
                Shuffle::Index => {
                    let from = (i & segment) | (by & !segment);
                    (from, from <= top)
                }
            };
            valid[lane] = ok.into();
            a[if ok { from as usize } else { lane }]
        });
        self.put(d, mask, &values);
        if let Some(p) = p {
            self.put(p, mask, &valid);
        }
    }

    /// Copies arrive, until `left` groups are on their way.
    fn arrive(&mut self, left: usize, shared: &mut Shared) -> Result<(), Fault> {
        if left == 0 {
            self.groups.push(std::mem::take(&mut self.copies));
        }
        let done = self.groups.len().saturating_sub(left);
        let groups: Vec<_> = self.groups.drain(..done).collect();
        for copy in groups.into_iter().flatten() {
            let mut data = [0; 16];
            self.lane = copy.lane;
            if copy.size > 0 {
                self.global(copy.from, copy.size, false)?.read(&mut data[..copy.size as usize]);
            }
            let who = Who { thread: self.number * 32 + copy.lane as u32, epoch: self.epoch };
            shared
                .touch(copy.to, copy.bytes, Access::Write, who)?
                .copy_from_slice(&data[..copy.bytes as usize]);
        }
        Ok(())
    }

    fn read(&mut self, at: Address, lane: usize, to: &mut [u8], shared: &mut Shared) -> Result<(), Fault> {
        let place = self.place_of(at, lane, to.len() as u32, Access::Read, shared)?;
        place.read(to);
        Ok(())
    }

    fn write(&mut self, at: Address, lane: usize, from: &[u8], shared: &mut Shared) -> Result<(), Fault> {
        let place = self.place_of(at, lane, from.len() as u32, Access::Write, shared)?;
        place.write(from);
        Ok(())
    }

    /// Where an address lies on the host, once it is certain that it may be touched.
    fn place_of(
        &mut self,
        at: Address,
        lane: usize,
        bytes: u32,
        access: Access,
        shared: &mut Shared,
    ) -> Result<Place, Fault> {
        self.lane = lane;
        let mut address = self.regs[at.base as usize][lane].wrapping_add(at.offset as u64);
        let mut space = at.space;
        if space == Space::Generic {
            (space, address) = match address {
                a if a >= LOCAL_BASE => (Space::Local, a - LOCAL_BASE),
                a if a >= SHARED_BASE => (Space::Shared, a - SHARED_BASE),
                a => (Space::Global, a),
            };
        }
        if !address.is_multiple_of(bytes.into()) {
            let what = format!("{bytes} bytes at the address {address:#x}: misaligned");
            return Err(Fault::new(FaultKind::MisalignedAddress, what));
        }
        match space {
            Space::Global | Space::Generic => self.global(address, bytes, access != Access::Read),
            Space::Shared => {
                let who = Who { thread: self.number * 32 + lane as u32, epoch: self.epoch };
                let place = shared.touch(address, bytes, access, who)?;
                Ok(Place(place.as_mut_ptr()))
            }
            Space::Local => {
                let each = u64::from(self.launch.kernel.local_bytes);
                inside(address, bytes, each, "local memory")?;
                Ok(Place(&mut self.local[lane * each as usize + address as usize]))
            }
            Space::Param => {
                inside(address, bytes, self.launch.params.len() as u64, "parameters")?;
                // Parameters are only read: the decoder knows no store to them.
                Ok(Place(self.launch.params[address as usize..].as_ptr().cast_mut()))
            }
        }
    }

    fn global(&mut self, address: u64, bytes: u32, write: bool) -> Result<Place, Fault> {
        let memory = self.launch.memory;
        let place = memory.resolve(address, bytes.into(), write);
        place.map(Place).map_err(|what| Fault::new(FaultKind::IllegalAddress, what))
    }
}

fn inside(at: u64, bytes: u32, len: u64, what: &str) -> Result<(), Fault> {
    if at.checked_add(bytes.into()).is_some_and(|end| end <= len) {
        return Ok(());
    }
    let what = format!("{bytes} bytes at {at} of {len} bytes of {what}: out of bounds");
    Err(Fault::new(FaultKind::IllegalAddress, what))
}

fn word(bytes: &[u8]) -> u64 {
    let mut v = [0; 8];
    v[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(v)
}

/// Memory of the host that may be touched.
#[derive(Clone, Copy)]
struct Place(*mut u8);

impl Place {
    fn read(self, to: &mut [u8]) {
        // SAFETY: `place_of` or `global` checked that so many bytes are there.
        unsafe { std::ptr::copy_nonoverlapping(self.0, to.as_mut_ptr(), to.len()) }
    }

    fn write(self, from: &[u8]) {
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.0, from.len()) }
    }
}
