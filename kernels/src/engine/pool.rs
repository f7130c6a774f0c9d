//! Memory of an engine: many buffers in few pieces of driver memory.
//!
//! Small buffers are parts of blocks (a two-level segregated fit, crate `offset-allocator`); large ones are
//! pieces of their own, and those above the driver's largest buffer are several, cut at a multiple of the
//! row size. Freed ranges are reused at once: the driver's queue is in order, so whatever used them before
//! runs before what uses them next. When the driver has no more, the pool waits for what is in flight, gives
//! back a block that nothing uses, and asks again.

use crate::Driver;
use halite_hal::{Buffer, Error, MemoryStats, Result, Storage};
use offset_allocator::{Allocation, Allocator};
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a block. Buffers of more than a quarter have memory of their own.
const BLOCK: u64 = 32 << 20;

/// Where a buffer begins is a multiple of this, and of the device's offset alignment.
const GRANULE: u64 = 256;

/// Allocates buffers, and knows how many bytes are in use.
#[derive(Debug)]
pub(crate) struct Pool<D: Driver> {
    pub driver: Arc<D>,
    granule: u64,
    limit: u64,
    /// Bytes of a block.
    block: u64,
    state: Mutex<State<D>>,
}

#[derive(Debug)]
struct State<D: Driver> {
    blocks: Vec<Option<Block<D>>>,
    used: u64,
    peak: u64,
}

struct Block<D: Driver> {
    memory: Arc<D::Memory>,
    allocator: Allocator,
    live: u32,
}

impl<D: Driver> std::fmt::Debug for Block<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} live)", self.live)
    }
}

/// Contiguous memory of a buffer.
pub(crate) struct Part<D: Driver> {
    pub memory: Arc<D::Memory>,
    /// First byte in the memory.
    pub base: u64,
    /// First byte of the buffer that lies here.
    pub start: u64,
    block: Option<(usize, Allocation)>,
}

/// The memory behind a [`Buffer`].
pub(crate) struct Memory<D: Driver> {
    pool: Arc<Pool<D>>,
    pub parts: Vec<Part<D>>,
    starts: Vec<u64>,
    reserved: u64,
}

impl<D: Driver> Storage for Memory<D> {
    fn device(&self) -> &str {
        &self.pool.driver.info().selector
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn chunks(&self) -> &[u64] {
        &self.starts
    }
}

impl<D: Driver> Drop for Memory<D> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.used -= self.reserved;
        for part in &self.parts {
            let Some((b, allocation)) = part.block else { continue };
            let Some(block) = &mut state.blocks[b] else { continue };
            block.allocator.free(allocation);
            block.live -= 1;
            // One block stays for what comes next.
            if block.live == 0 && state.blocks.iter().flatten().count() > 1 {
                state.blocks[b] = None;
            }
        }
    }
}

impl<D: Driver> Pool<D> {
    pub(crate) fn new(driver: Arc<D>, memory_limit: Option<u64>) -> Self {
        let info = driver.info();
        let known = if info.memory_bytes == 0 { u64::MAX } else { info.memory_bytes };
        let granule = GRANULE.max(info.offset_alignment);
        let limit = memory_limit.unwrap_or(known);
        Pool {
            granule,
            limit,
            block: BLOCK.min(info.max_buffer_bytes).min(limit) / granule * granule,
            driver,
            state: Mutex::new(State { blocks: Vec::new(), used: 0, peak: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> MemoryStats {
        let state = self.state();
        MemoryStats::new(state.used, state.peak, self.limit)
    }

    /// The distance that the beginnings of buffers are multiples of.
    pub(crate) fn granule(&self) -> u64 {
        self.granule
    }

    pub(crate) fn allocate(self: &Arc<Self>, bytes: u64, row_bytes: u64) -> Result<Buffer> {
        let info = self.driver.info();
        let reserved = bytes.max(1).checked_next_multiple_of(self.granule).unwrap_or(u64::MAX);
        let mut state = self.state();
        let free = self.limit.saturating_sub(state.used);
        if reserved > free {
            return Err(Error::OutOfMemory {
                device: info.selector.clone(),
                requested: bytes,
                available: free,
                limit: self.limit,
            });
        }
        let largest = info.max_buffer_bytes / self.granule * self.granule;
        let step = if row_bytes == 0 { self.granule } else { row_bytes };
        let chunk = if reserved <= largest { reserved } else { largest / step * step };
        if chunk == 0 {
            return Err(Error::Limit {
                device: info.selector.clone(),
                what: "bytes of a row of a buffer".into(),
                requested: step,
                maximum: largest,
            });
        }
        let mut parts = Vec::new();
        let mut start = 0;
        while start < reserved {
            let size = chunk.min(reserved - start).next_multiple_of(self.granule).min(largest);
            parts.push(self.part(&mut state, start, size).map_err(|e| self.out_of_memory(e, bytes, free))?);
            start += chunk;
        }
        state.used += reserved;
        state.peak = state.peak.max(state.used);
        drop(state);
        let starts = parts.iter().map(|p| p.start).collect();
        let memory = Memory { pool: self.clone(), parts, starts, reserved };
        Ok(Buffer::new(Arc::new(memory), bytes))
    }

    /// The driver knows of a part; the caller asked for the whole.
    fn out_of_memory(&self, e: Error, requested: u64, free: u64) -> Error {
        match e {
            Error::OutOfMemory { device, available, limit, .. } => Error::OutOfMemory {
                device,
                requested,
                available: available.min(free),
                limit: limit.min(self.limit),
            },
            other => other,
        }
    }

    fn part(&self, state: &mut State<D>, start: u64, bytes: u64) -> Result<Part<D>> {
        if !self.driver.traits().shares_memory || bytes > self.block / 4 {
            let memory = self.piece(state, bytes)?;
            return Ok(Part { memory, base: 0, start, block: None });
        }
        let units = (bytes / self.granule) as u32;
        for (b, block) in state.blocks.iter_mut().enumerate() {
            let Some(block) = block else { continue };
            if let Some(allocation) = block.allocator.allocate(units) {
                block.live += 1;
                return Ok(self.in_block(block, b, allocation, start));
            }
        }
        let memory = match self.piece(state, self.block) {
            // There may still be room for the buffer alone.
            Err(Error::OutOfMemory { .. }) => {
                let memory = self.piece(state, bytes)?;
                return Ok(Part { memory, base: 0, start, block: None });
            }
            memory => memory?,
        };
        let mut block =
            Block { memory, allocator: Allocator::new((self.block / self.granule) as u32), live: 1 };
        let allocation = block.allocator.allocate(units).expect("a quarter of an empty block");
        let b = state.blocks.iter().position(Option::is_none).unwrap_or(state.blocks.len());
        let part = self.in_block(&block, b, allocation, start);
        if b == state.blocks.len() {
            state.blocks.push(None);
        }
        state.blocks[b] = Some(block);
        Ok(part)
    }

    /// Memory of the driver's.
    fn piece(&self, state: &mut State<D>, bytes: u64) -> Result<Arc<D::Memory>> {
        let first = self.driver.allocate(bytes);
        let Err(Error::OutOfMemory { .. }) = first else { return first.map(Arc::new) };
        // Work in flight keeps memory that is free as soon as it has run.
        self.driver.wait(self.driver.last(), true)?;
        for block in &mut state.blocks {
            if block.as_ref().is_some_and(|b| b.live == 0) {
                *block = None;
            }
        }
        self.driver.allocate(bytes).map(Arc::new)
    }

    fn in_block(&self, block: &Block<D>, b: usize, allocation: Allocation, start: u64) -> Part<D> {
        let base = u64::from(allocation.offset) * self.granule;
        Part { memory: block.memory.clone(), base, start, block: Some((b, allocation)) }
    }

    /// Memory that the host made, as a buffer. It counts as used, and is dropped with the buffer.
    pub(crate) fn import(self: &Arc<Self>, memory: D::Memory, bytes: u64) -> Buffer {
        let part = Part { memory: Arc::new(memory), base: 0, start: 0, block: None };
        let mut state = self.state();
        state.used += bytes;
        state.peak = state.peak.max(state.used);
        drop(state);
        let memory = Memory { pool: self.clone(), parts: vec![part], starts: vec![0], reserved: bytes };
        Buffer::new(Arc::new(memory), bytes)
    }

    /// The memory of one of this pool's buffers.
    pub(crate) fn memory<'b>(self: &Arc<Self>, buffer: &'b Buffer) -> Result<&'b Memory<D>> {
        let mine = buffer.downcast::<Memory<D>>().filter(|m| Arc::ptr_eq(&m.pool, self));
        mine.ok_or_else(|| Error::WrongDevice {
            device: self.driver.info().selector.clone(),
            found: buffer.storage().device().into(),
        })
    }
}

impl<D: Driver> Memory<D> {
    /// The part that holds byte `at` of the buffer, and the first byte of the buffer after it.
    pub(crate) fn part(&self, at: u64) -> (&Part<D>, u64) {
        let i = self.parts.partition_point(|p| p.start <= at).max(1) - 1;
        (&self.parts[i], self.parts.get(i + 1).map_or(u64::MAX, |p| p.start))
    }
}

#[cfg(test)]
mod tests;
