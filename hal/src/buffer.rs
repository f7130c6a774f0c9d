//! Device memory, owned by reference count.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A backend's own memory behind a [`Buffer`].
pub trait Storage: Any + Send + Sync {
    /// The selector of the device that owns the memory.
    fn device(&self) -> &str;
    /// For the backend to find its own type again.
    fn as_any(&self) -> &dyn Any;
    /// Byte offsets at which a new chunk starts. A buffer larger than the device's largest binding is
    /// several chunks, cut at a multiple of the row size given at allocation. One chunk: `&[0]`.
    fn chunks(&self) -> &[u64] {
        &[0]
    }
}

/// A piece of device memory. Cloning shares it; the memory is freed, in stream order, after the last
/// clone is dropped, and submissions keep their own clones.
#[derive(Clone)]
pub struct Buffer {
    storage: Arc<dyn Storage>,
    bytes: u64,
}

impl Buffer {
    /// Wraps a backend's memory of `bytes` bytes.
    pub fn new(storage: Arc<dyn Storage>, bytes: u64) -> Self {
        Self { storage, bytes }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The backend's memory.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The backend's memory as `T`, if it is one.
    pub fn downcast<T: Storage>(&self) -> Option<&T> {
        self.storage.as_any().downcast_ref()
    }

    /// Whether both are the same memory, also if one of them is behind another [`Storage`] that passes
    /// [`as_any`](Storage::as_any) on.
    pub fn same(&self, other: &Buffer) -> bool {
        std::ptr::addr_eq(self.storage.as_any(), other.storage.as_any())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes on {})", self.bytes, self.storage.device())
    }
}
