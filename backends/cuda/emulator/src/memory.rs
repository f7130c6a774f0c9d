//! Device memory, and the host's pinned memory: which addresses are accessible, and what the others were.

use crate::exec::GlobalMemory;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where device addresses begin: far from where a host's are.
const FIRST: u64 = 0x0200_0000_0000;
/// Addresses between two allocations, at least: what runs over one doesn't reach the next.
const GAP: u64 = 64 << 10;
/// What allocations are aligned to.
pub(crate) const ALIGNMENT: u64 = 256;
/// What memory begins as: no sensible number in any type.
const FRESH: u8 = 0xA5;

/// An allocation.
pub(crate) struct Block {
    pub bytes: u64,
    /// The device whose it is; none for pinned memory of the host.
    pub device: Option<usize>,
    host: *mut u8,
    layout: Layout,
}

// SAFETY: a block is the only owner of its memory, and what reads and writes it is ordered by the driver's lock.
unsafe impl Send for Block {}

impl Block {
    fn new(bytes: u64, device: Option<usize>) -> Option<Self> {
        let layout = Layout::from_size_align(usize::try_from(bytes).ok()?.max(1), ALIGNMENT as usize).ok()?;
        // SAFETY: the layout has at least one byte.
        let host = unsafe { alloc(layout) };
        if host.is_null() {
            return None;
        }
        // SAFETY: the memory was just allocated with as many bytes.
        unsafe { host.write_bytes(FRESH, layout.size()) };
        Some(Block { bytes, device, host, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and nobody else frees it.
        unsafe { dealloc(self.host, self.layout) };
    }
}

/// Every allocation, by its address.
#[derive(Default)]
pub(crate) struct Memory {
    live: BTreeMap<u64, Block>,
    /// Addresses of those that were freed, and their bytes.
    freed: BTreeMap<u64, u64>,
    next: u64,
    /// Of the allocations as they are.
    view: Option<Arc<View>>,
}

impl Memory {
    /// An allocation of a device; `None` where the host has no such memory.
    pub(crate) fn allocate(&mut self, bytes: u64, device: usize) -> Option<u64> {
        let block = Block::new(bytes, Some(device))?;
        let address = self.next.max(FIRST);
        self.next = (address + bytes + GAP).next_multiple_of(ALIGNMENT);
        self.insert(address, block);
        Some(address)
    }

    /// Pinned memory of the host: devices find it at the host's address.
    pub(crate) fn pin(&mut self, bytes: u64) -> Option<u64> {
        let block = Block::new(bytes, None)?;
        let address = block.host as u64;
        // The host's allocator gives addresses again.
        self.freed.retain(|start, freed| start + *freed <= address || address + bytes <= *start);
        self.insert(address, block);
        Some(address)
    }

    fn insert(&mut self, address: u64, block: Block) {
        self.live.insert(address, block);
        self.view = None;
    }

    /// Frees what begins at an address; whether there was something of that kind.
    pub(crate) fn free(&mut self, address: u64, pinned: bool) -> bool {
        if self.live.get(&address).is_none_or(|block| block.device.is_none() != pinned) {
            return false;
        }
        let block = self.live.remove(&address);
        self.freed.insert(address, block.map_or(0, |block| block.bytes));
        self.view = None;
        true
    }

    /// Frees everything of a device.
    pub(crate) fn free_all(&mut self, device: usize) {
        let of_device = self.live.iter().filter(|(_, block)| block.device == Some(device));
        for address in of_device.map(|(address, _)| *address).collect::<Vec<_>>() {
            self.free(address, false);
        }
    }

    /// Bytes that a device's allocations have.
    pub(crate) fn used(&self, device: usize) -> u64 {
        self.live.values().filter(|block| block.device == Some(device)).map(|block| block.bytes).sum()
    }

    /// The allocation around an address, and where it begins.
    pub(crate) fn find(&self, address: u64) -> Option<(u64, &Block)> {
        let (start, block) = self.live.range(..=address).next_back()?;
        (address < start + block.bytes.max(1)).then_some((*start, block))
    }

    /// What is accessible now.
    pub(crate) fn view(&mut self) -> Arc<View> {
        let (live, freed) = (&self.live, &self.freed);
        let make = || {
            let live = live.iter().map(|(start, block)| (*start, block.bytes, block.host as usize));
            Arc::new(View { live: live.collect(), freed: freed.iter().map(|(a, b)| (*a, *b)).collect() })
        };
        self.view.get_or_insert_with(make).clone()
    }
}

/// The allocations at one moment, sorted by address. Those who use it see to it that they stay.
pub(crate) struct View {
    /// Address, bytes, and where they are on the host.
    live: Vec<(u64, u64, usize)>,
    freed: Vec<(u64, u64)>,
}

impl View {
    /// Why bytes aren't accessible.
    fn why_not(&self, address: u64, bytes: u64) -> String {
        let index = self.freed.partition_point(|(start, _)| *start <= address);
        if let Some((start, size)) = index.checked_sub(1).map(|i| self.freed[i])
            && address < start + size
        {
            return format!(
                "{bytes} bytes at {address:#x}, in {size} bytes at {start:#x} after they were freed"
            );
        }
        let index = self.live.partition_point(|(start, ..)| *start <= address);
        match index.checked_sub(1).map(|i| self.live[i]) {
            Some((start, size, _)) => format!(
                "{bytes} bytes at {address:#x}, out of bounds: the allocation before has {size} bytes at \
                 {start:#x} and ends {} bytes before",
                i128::from(address) + i128::from(bytes) - i128::from(start + size)
            ),
            None => format!("{bytes} bytes at {address:#x}, out of bounds: no allocation is before"),
        }
    }
}

impl GlobalMemory for View {
    fn resolve(&self, address: u64, bytes: u64, _write: bool) -> Result<*mut u8, String> {
        let index = self.live.partition_point(|(start, ..)| *start <= address);
        if let Some((start, size, host)) = index.checked_sub(1).map(|i| self.live[i])
            && bytes <= size
            && address - start <= size - bytes
        {
            return Ok((host + (address - start) as usize) as *mut u8);
        }
        Err(self.why_not(address, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_aligned_apart_and_filled() {
        let mut memory = Memory::default();
        let a = memory.allocate(5, 0).unwrap();
        let b = memory.allocate(5, 1).unwrap();
        assert!(a % ALIGNMENT == 0 && b % ALIGNMENT == 0 && b >= a + 5 + GAP);
        let host = memory.view().resolve(a, 5, false).unwrap();
        // SAFETY: five bytes are accessible there.
        assert_eq!(unsafe { std::slice::from_raw_parts(host, 5) }, [FRESH; 5]);
        assert_eq!((memory.used(0), memory.used(1)), (5, 5));
        assert_eq!(memory.find(b + 4).map(|(start, block)| (start, block.bytes)), Some((b, 5)));
        assert!(memory.find(b + 5).is_none());
        memory.free_all(1);
        assert_eq!((memory.used(0), memory.used(1)), (5, 0));
    }

    #[test]
    fn what_is_not_accessible_is_told_apart() {
        let mut memory = Memory::default();
        let a = memory.allocate(8, 0).unwrap();
        let b = memory.allocate(8, 0).unwrap();
        assert!(memory.free(b, false));
        assert!(!memory.free(b, false) && !memory.free(a + 1, false) && !memory.free(a, true));
        let view = memory.view();
        let why = |address, bytes| view.resolve(address, bytes, true).unwrap_err();
        assert!(view.resolve(a + 4, 4, true).is_ok());
        assert!(why(a + 4, 8).contains("out of bounds"), "{}", why(a + 4, 8));
        assert!(why(a - 1, 1).contains("no allocation"), "{}", why(a - 1, 1));
        assert!(why(b + 4, 4).contains("after they were freed"), "{}", why(b + 4, 4));
        assert!(why(u64::MAX, 8).contains("out of bounds"));
    }

    #[test]
    fn pinned_memory_is_accessible_at_its_own_address() {
        let mut memory = Memory::default();
        let a = memory.pin(16).unwrap();
        assert_eq!(memory.view().resolve(a, 16, false).unwrap() as u64, a);
        assert!(!memory.free(a, false) && memory.free(a, true));
        assert!(memory.view().resolve(a, 16, false).is_err());
    }
}
