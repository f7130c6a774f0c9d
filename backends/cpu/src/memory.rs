//! Host memory as device memory: aligned blocks, a limit, and reuse of large blocks.
//!
//! Fresh pages are costly (the kernel clears and maps each one), so large blocks are kept when they are
//! freed and given out again. All memory is initialised: fresh blocks are zero, reused ones hold what
//! they held.

use halite_hal::{Buffer, Error, MemoryStats, Result, Storage};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Alignment of every buffer; pages for large ones.
const ALIGN: usize = 64;
const PAGE: usize = 4096;
/// Blocks from this size on are kept for reuse.
const LARGE: usize = 256 << 10;
/// The most that is kept.
const CACHE: u64 = 1 << 30;

/// The memory of one device.
pub(crate) struct Pool {
    selector: String,
    limit: u64,
    max_binding: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    peak: u64,
    cached: u64,
    /// Free blocks by capacity.
    free: BTreeMap<usize, Vec<Block>>,
}

impl State {
    fn take(&mut self, capacity: usize) -> Option<Block> {
        // A block up to a quarter larger will do.
        let (&found, blocks) = self.free.range_mut(capacity..=capacity + capacity / 4).next()?;
        let block = blocks.pop();
        if blocks.is_empty() {
            self.free.remove(&found);
        }
        self.cached -= found as u64;
        block
    }

    fn clear(&mut self) {
        self.free.clear();
        self.cached = 0;
    }
}

/// An allocation of the host. The start is aligned by hand because the system hands out zero pages
/// lazily only at its own alignment.
struct Block {
    raw: NonNull<u8>,
    layout: Layout,
    start: *mut u8,
    capacity: usize,
}

// SAFETY: a block is plain memory with one owner.
unsafe impl Send for Block {}
// SAFETY: a block gives out nothing but an address.
unsafe impl Sync for Block {}

impl Block {
    fn new(capacity: usize) -> Option<Block> {
        let align = if capacity >= LARGE { PAGE } else { ALIGN };
        let layout = Layout::from_size_align(capacity.checked_add(align)?, 16).ok()?;
        // SAFETY: the size is not zero, since the alignment is part of it.
        let raw = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let gap = raw.as_ptr().align_offset(align);
        // SAFETY: the gap is less than the alignment, which was added to the size.
        let start = unsafe { raw.as_ptr().add(gap) };
        Some(Block { raw, layout, start, capacity })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed only here.
        unsafe { dealloc(self.raw.as_ptr(), self.layout) }
    }
}

impl Pool {
    /// A pool of at most `limit` bytes. Buffers report chunks of at most `max_binding` bytes.
    pub(crate) fn new(selector: &str, limit: u64, max_binding: u64) -> Self {
        Pool { selector: selector.into(), limit, max_binding, state: Mutex::default() }
    }

    pub(crate) fn selector(&self) -> &str {
        &self.selector
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`halite_hal::Device::allocate`].
    pub(crate) fn allocate(self: &Arc<Self>, bytes: u64, row_bytes: u64) -> Result<Buffer> {
        let chunks = self.chunks(bytes, row_bytes)?;
        let mut state = self.state();
        let out_of_memory = |used: u64| Error::OutOfMemory {
            device: self.selector.clone(),
            requested: bytes,
            available: self.limit.saturating_sub(used),
            limit: self.limit,
        };
        if bytes > self.limit.saturating_sub(state.used) {
            return Err(out_of_memory(state.used));
        }
        let size = usize::try_from(bytes).map_err(|_| out_of_memory(state.used))?.max(1);
        let step = if size >= LARGE { 64 << 10 } else { ALIGN };
        let capacity = size.checked_next_multiple_of(step).ok_or_else(|| out_of_memory(state.used))?;
        let mut block = if capacity >= LARGE { state.take(capacity) } else { None };
        if block.is_none() {
            if state.used.saturating_add(state.cached).saturating_add(bytes) > self.limit {
                state.clear();
            }
            block = Block::new(capacity).or_else(|| {
                state.clear();
                Block::new(capacity)
            });
        }
        let block = block.ok_or_else(|| out_of_memory(state.used))?;
        state.used += bytes;
        state.peak = state.peak.max(state.used);
        drop(state);
        let memory = Memory { block: Some(block), bytes, chunks, pool: self.clone() };
        Ok(Buffer::new(Arc::new(memory), bytes))
    }

    /// Where the chunks of a buffer start.
    fn chunks(&self, bytes: u64, row_bytes: u64) -> Result<Vec<u64>> {
        if bytes <= self.max_binding {
            return Ok(vec![0]);
        }
        let unit = if row_bytes == 0 { ALIGN as u64 } else { row_bytes };
        let step = self.max_binding / unit * unit;
        if step == 0 {
            return Err(Error::Limit {
                device: self.selector.clone(),
                what: "bytes of a row".into(),
                requested: row_bytes,
                maximum: self.max_binding,
            });
        }
        Ok((0..bytes.div_ceil(step)).map(|i| i * step).collect())
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let state = self.state();
        MemoryStats::new(state.used, state.peak, self.limit)
    }

    /// The start of a buffer's memory; an error if the buffer isn't of this pool, or says that it is larger
    /// than the memory behind it.
    pub(crate) fn address(self: &Arc<Self>, buffer: &Buffer) -> Result<*mut u8> {
        match buffer.downcast::<Memory>() {
            Some(m) if Arc::ptr_eq(&m.pool, self) => {
                if buffer.bytes() > m.bytes {
                    let message = format!("a buffer of {} bytes has memory of {}", buffer.bytes(), m.bytes);
                    return Err(Error::backend(&self.selector, message));
                }
                Ok(m.start())
            }
            found => {
                let name = buffer.storage().device();
                let found = if found.is_some() { format!("another instance of {name}") } else { name.into() };
                Err(Error::WrongDevice { device: self.selector.clone(), found })
            }
        }
    }
}

/// The memory behind a buffer.
struct Memory {
    /// Present until it is dropped.
    block: Option<Block>,
    bytes: u64,
    chunks: Vec<u64>,
    pool: Arc<Pool>,
}

impl Memory {
    fn start(&self) -> *mut u8 {
        self.block.as_ref().expect("present until it is dropped").start
    }
}

impl Storage for Memory {
    fn device(&self) -> &str {
        &self.pool.selector
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn chunks(&self) -> &[u64] {
        &self.chunks
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.used -= self.bytes;
        let Some(block) = self.block.take() else { return };
        let capacity = block.capacity as u64;
        let room = CACHE.min(self.pool.limit.saturating_sub(state.used));
        if block.capacity >= LARGE && state.cached + capacity <= room {
            state.cached += capacity;
            state.free.entry(block.capacity).or_default().push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_aligned_and_used_again() {
        let pool = Arc::new(Pool::new("cpu:0", 8 << 20, u64::MAX));
        let a = pool.allocate(1 << 20, 0).unwrap();
        let first = pool.address(&a).unwrap();
        assert_eq!(first as usize % PAGE, 0);
        drop(a);
        let b = pool.allocate((1 << 20) - 5, 0).unwrap();
        assert_eq!(pool.address(&b).unwrap(), first);
        // What is kept gives way to what is needed.
        drop(b);
        let _c = pool.allocate(8 << 20, 0).unwrap();
        assert_eq!(pool.state().cached, 0);
    }

    #[test]
    fn the_limit_holds_and_is_reported() {
        let pool = Arc::new(Pool::new("cpu:0", 1000, u64::MAX));
        let a = pool.allocate(600, 0).unwrap();
        match pool.allocate(500, 0) {
            Err(Error::OutOfMemory { requested: 500, available: 400, limit: 1000, .. }) => {}
            other => panic!("{other:?}"),
        }
        drop(a);
        assert!(pool.allocate(1000, 0).is_ok());
        assert_eq!(pool.stats(), MemoryStats::new(0, 1000, 1000));
        let unlimited = Arc::new(Pool::new("cpu:0", u64::MAX, u64::MAX));
        assert!(matches!(unlimited.allocate(u64::MAX / 4, 0), Err(Error::OutOfMemory { .. })));
    }

    #[test]
    fn chunks_end_at_rows() {
        let pool = Arc::new(Pool::new("cpu:0", u64::MAX, 1000));
        let chunks = |bytes, row| Ok::<_, Error>(pool.allocate(bytes, row)?.storage().chunks().to_vec());
        assert_eq!(chunks(1000, 300).unwrap(), [0]);
        assert_eq!(chunks(2000, 300).unwrap(), [0, 900, 1800]);
        assert_eq!(chunks(2000, 0).unwrap(), [0, 960, 1920]);
        assert!(matches!(chunks(2002, 1001), Err(Error::Limit { .. })));
    }

    #[test]
    fn buffers_of_others_are_named() {
        let [a, b] = [(); 2].map(|()| Arc::new(Pool::new("cpu:0", u64::MAX, u64::MAX)));
        let e = a.address(&b.allocate(4, 0).unwrap()).unwrap_err().to_string();
        assert!(e.contains("another instance of cpu:0"), "{e}");
    }
}
