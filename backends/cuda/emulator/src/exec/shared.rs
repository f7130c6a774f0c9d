//! Shared memory of a block, and what is wrong with how threads use it.
//!
//! A race is an access that overlaps another thread's, one of the two a write, with no barrier between: neither of
//! the block, nor, for threads of one warp, `bar.warp.sync`. Atomic operations and volatile accesses don't race
//! with each other, and neither do writes of what is there already.

use super::{FaultKind, Trouble};

/// Who accessed a granule last, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// Barriers of the block before, plus one; 0 for none.
    epoch: u32,
    /// Barriers of the warp before.
    warp_epoch: u32,
    thread: u16,
    atomic: bool,
    /// Whether other lanes of the warp, or other warps, read too.
    lanes: bool,
    warps: bool,
}

/// What is known of some bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    write: Mark,
    read: Mark,
}

/// A thread at an access.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub warp: u32,
    pub lane: usize,
    pub warp_epoch: u32,
    pub atomic: bool,
}

impl Who {
    fn thread(&self) -> u16 {
        (32 * self.warp) as u16 + self.lane as u16
    }
}

#[derive(Debug)]
struct Shadow {
    /// A granule's bytes, as a power of two.
    shift: u32,
    epoch: u32,
    written: Vec<bool>,
    cells: Vec<Cell>,
}

/// The memory.
#[derive(Debug)]
pub(super) struct Shared {
    data: Vec<u128>,
    bytes: u32,
    shadow: Option<Shadow>,
}

impl Shared {
    pub(super) fn new(bytes: u32, granule: u32, checks: bool) -> Self {
        let shift = granule.trailing_zeros();
        let shadow = checks.then(|| Shadow {
            shift,
            epoch: 0,
            written: vec![false; bytes as usize],
            cells: vec![Cell::default(); (bytes as usize >> shift) + 1],
        });
        Self { data: vec![0; (bytes as usize).div_ceil(16)], bytes, shadow }
    }

    /// Makes it ready for a block: what was there isn't kept.
    pub(super) fn clear(&mut self) {
        // Not zeros, so that a read before the first write shows in results too.
        self.data.fill(u128::from_le_bytes([0xA5; 16]));
        if let Some(s) = &mut self.shadow {
            s.written.fill(false);
            s.epoch += 1;
        }
    }

    /// All threads of the block have met.
    pub(super) fn barrier(&mut self) {
        if let Some(s) = &mut self.shadow {
            s.epoch += 1;
        }
    }

    pub(super) fn checks(&self) -> bool {
        self.shadow.is_some()
    }

    /// The host's address of bytes.
    pub(super) fn resolve(&mut self, offset: u64, bytes: u64) -> Result<*mut u8, String> {
        if offset.checked_add(bytes).is_none_or(|end| end > u64::from(self.bytes)) {
            return Err(format!("{bytes} bytes at {offset:#x} of {:#x} bytes of shared memory", self.bytes));
        }
        let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.data);
        Ok(data[offset as usize..].as_mut_ptr())
    }

    /// Writes bytes that are there.
    pub(super) fn put(&mut self, offset: u64, value: &[u8]) {
        let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.data);
        data[offset as usize..][..value.len()].copy_from_slice(value);
    }

    /// Notes a read of bytes that are there.
    pub(super) fn read(&mut self, offset: u64, bytes: u64, who: Who) -> Result<(), Trouble> {
        let Some(s) = &mut self.shadow else { return Ok(()) };
        let (first, end) = (offset as usize, (offset + bytes) as usize);
        if s.written[first..end].contains(&false) {
            let what =
                format!("a read of {bytes} bytes at {offset:#x} of shared memory that were never written");
            return Err(Trouble::new(FaultKind::LaunchFailure, who.lane, what));
        }
        for k in first >> s.shift..=(end - 1) >> s.shift {
            let cell = s.cells[k];
            if !ordered(&cell.write, s.epoch, who) {
                return Err(race(&cell.write, "read", "written", k << s.shift, who));
            }
            s.cells[k].read = reader(&cell.read, s.epoch, who);
        }
        Ok(())
    }

    /// Notes a write of these bytes, which isn't done yet.
    pub(super) fn write(&mut self, offset: u64, value: &[u8], who: Who) -> Result<(), Trouble> {
        let Some(s) = &mut self.shadow else { return Ok(()) };
        let (first, end) = (offset as usize, offset as usize + value.len());
        let data: &[u8] = bytemuck::cast_slice(&self.data);
        for k in first >> s.shift..=(end - 1) >> s.shift {
            let cell = s.cells[k];
            let (from, to) = ((k << s.shift).max(first), ((k + 1) << s.shift).min(end));
            let same =
                s.written[from..to].iter().all(|&w| w) && data[from..to] == value[from - first..to - first];
            if !ordered(&cell.write, s.epoch, who) && !same {
                return Err(race(&cell.write, "written", "written", k << s.shift, who));
            }
            if !ordered(&cell.read, s.epoch, who) {
                return Err(race(&cell.read, "written", "read", k << s.shift, who));
            }
            s.cells[k].write = Mark {
                epoch: s.epoch,
                warp_epoch: who.warp_epoch,
                thread: who.thread(),
                atomic: who.atomic,
                lanes: false,
                warps: false,
            };
        }
        s.written[first..end].fill(true);
        Ok(())
    }
}

/// Whether an access can't be at the same time as the one that is marked.
fn ordered(mark: &Mark, epoch: u32, who: Who) -> bool {
    if mark.epoch != epoch || mark.atomic && who.atomic {
        return true;
    }
    if mark.warps || u32::from(mark.thread) / 32 != who.warp {
        return false;
    }
    mark.warp_epoch < who.warp_epoch || mark.thread == who.thread() && !mark.lanes
}

/// The mark of one more reader.
fn reader(mark: &Mark, epoch: u32, who: Who) -> Mark {
    let mut new = Mark {
        epoch,
        warp_epoch: who.warp_epoch,
        thread: who.thread(),
        atomic: who.atomic,
        lanes: false,
        warps: false,
    };
    if mark.epoch == epoch {
        let same_warp = u32::from(mark.thread) / 32 == who.warp;
        new.warps = mark.warps || !same_warp;
        new.lanes =
            same_warp && mark.warp_epoch == who.warp_epoch && (mark.lanes || mark.thread != new.thread);
        new.atomic &= mark.atomic;
    }
    new
}

fn race(mark: &Mark, now: &str, before: &str, at: usize, who: Who) -> Trouble {
    let what = format!(
        "a race in shared memory: {at:#x} is {now}, and was {before} by thread {} of the block, with no barrier between",
        mark.thread
    );
    Trouble::new(FaultKind::LaunchFailure, who.lane, what)
}
