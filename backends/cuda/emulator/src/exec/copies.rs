//! Copies that threads wait for. What they bring is in shared memory once it is waited for, and not before: a
//! wait that is missing gives wrong results.

use super::Trouble;
use super::block::Block;
use super::file::lanes;
use super::warp::Warp;
use crate::ptx::op::Copy;
use std::collections::VecDeque;

/// Bytes on their way.
#[derive(Debug, Clone, Copy)]
struct Item {
    offset: u64,
    data: [u8; 16],
    bytes: u32,
}

/// The copies of a thread: what isn't in a group yet, and groups.
#[derive(Debug, Clone, Default)]
struct Thread {
    open: Vec<Item>,
    groups: VecDeque<Vec<Item>>,
}

/// The copies of a warp's threads; none until there is one.
#[derive(Debug, Default)]
pub(super) struct Copies {
    threads: Vec<Thread>,
}

impl Copies {
    pub(super) fn clear(&mut self) {
        self.threads.clear();
    }

    fn threads(&mut self) -> &mut Vec<Thread> {
        if self.threads.is_empty() {
            self.threads.resize(32, Thread::default());
        }
        &mut self.threads
    }

    /// Makes a group of what isn't in one.
    pub(super) fn commit(&mut self, active: u32) {
        for l in lanes(active) {
            let thread = &mut self.threads()[l];
            let group = std::mem::take(&mut thread.open);
            thread.groups.push_back(group);
        }
    }
}

impl Warp {
    pub(super) fn begin_copy(
        &mut self,
        copy: &Copy,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        let bytes = copy.bytes;
        let to = self.places(&copy.to, u64::from(bytes), active, true, block)?;
        let ignored = copy.ignore.map_or(0, |p| self.file.predicate(p));
        for l in lanes(active) {
            let wanted = copy.source.map_or(bytes, |s| self.file.row::<u32>(s)[l].min(bytes));
            let wanted = if ignored >> l & 1 == 1 { 0 } else { wanted };
            let mut data = [0; 16];
            if wanted > 0 {
                let place = self.global_at(&copy.from, u64::from(bytes), u64::from(wanted), l, block)?;
                // SAFETY: as many bytes were found there.
                let read = |k: usize| unsafe { place.wrapping_add(k).read() };
                (0..wanted as usize).for_each(|k| data[k] = read(k));
            }
            self.copies.threads()[l].open.push(Item { offset: to.offsets[l], data, bytes });
        }
        Ok(())
    }

    /// Lets what was copied arrive: all but the last groups, or all.
    pub(super) fn wait_for_copies(
        &mut self,
        but: Option<u32>,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        for l in lanes(active) {
            let thread = &mut self.copies.threads()[l];
            let n = thread.groups.len().saturating_sub(but.unwrap_or(0) as usize);
            let mut items: Vec<Item> = thread.groups.drain(..n).flatten().collect();
            if but.is_none() {
                items.append(&mut thread.open);
            }
            for item in items {
                let value = &item.data[..item.bytes as usize];
                block.shared.write(item.offset, value, self.who(l, false))?;
                block.shared.put(item.offset, value);
            }
        }
        Ok(())
    }
}
