//! Pinned host memory on its way to or from the device.
//!
//! Pinning takes long, so pieces are kept and used again. Transfers are cut into pieces of at most [`PIECE`], so
//! that large ones don't pin as much as they carry.

use crate::context::Context;
use crate::handle::Pinned;
use halite_hal::Result;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of the largest piece.
pub(crate) const PIECE: usize = 16 << 20;
/// Bytes of the smallest piece.
const SMALLEST: usize = 64 << 10;
/// Bytes of pieces that are kept while nothing uses them.
const KEPT: usize = 64 << 20;

/// The pieces that are kept.
pub(crate) struct Staging {
    context: Arc<Context>,
    free: Mutex<Vec<Piece>>,
}

struct Piece {
    memory: Pinned,
    capacity: usize,
}

/// A piece in use; it goes back when dropped.
pub(crate) struct Staged {
    piece: Option<Piece>,
    bytes: usize,
    staging: Arc<Staging>,
}

impl Staging {
    pub(crate) fn new(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Staging { context: context.clone(), free: Mutex::default() })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A piece for `bytes` bytes, at most [`PIECE`]. The context is current.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Staged> {
        let capacity = bytes.next_power_of_two().max(SMALLEST);
        let mut free = self.free();
        let kept = free.iter().position(|piece| piece.capacity == capacity).map(|i| free.swap_remove(i));
        drop(free);
        let piece = match kept {
            Some(piece) => piece,
            None => {
                let memory = Pinned::new(&self.context, capacity).map_err(|code| {
                    self.context.failed(&format!("pinning {capacity} bytes of host memory"), code)
                })?;
                Piece { memory, capacity }
            }
        };
        Ok(Staged { piece: Some(piece), bytes, staging: self.clone() })
    }
}

impl Staged {
    /// Where the bytes are.
    pub(crate) fn address(&self) -> *mut u8 {
        self.piece.as_ref().map_or(std::ptr::null_mut(), |piece| piece.memory.raw().cast())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Fills it.
    ///
    /// # Safety
    /// The device doesn't use it, and `data` has as many bytes.
    pub(crate) unsafe fn write(&self, data: &[u8]) {
        // SAFETY: the piece has at least as many bytes, and is nobody else's.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.address(), self.bytes) };
    }

    /// Its bytes.
    ///
    /// # Safety
    /// The device has written all of them, and doesn't use it any more.
    pub(crate) unsafe fn read(&self) -> &[u8] {
        // SAFETY: the piece has at least as many bytes, all written.
        unsafe { std::slice::from_raw_parts(self.address(), self.bytes) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(piece) = self.piece.take() else { return };
        let mut free = self.staging.free();
        if free.iter().map(|kept| kept.capacity).sum::<usize>() + piece.capacity <= KEPT {
            free.push(piece);
        }
    }
}
