//! Device memory.

use crate::handle::Memory;
use opencl3::types::cl_mem;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A buffer of device memory.
pub struct OpenClMemory {
    pub(crate) memory: Memory,
    pub(crate) bytes: u64,
    pub(crate) _share: Option<Share>,
}

impl OpenClMemory {
    /// The buffer as OpenCL knows it, for the host's own calls. It lives as long as this value, unless the
    /// host retains it. It is whole: offsets are those of the region that it was found in.
    pub fn raw(&self) -> cl_mem {
        self.memory.raw()
    }
}

impl fmt::Debug for OpenClMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenClMemory({:?})", self.memory.raw())
    }
}

/// How much of a device's memory is taken. Most drivers make buffers beyond what there is, and fail when
/// they are used.
#[derive(Debug)]
pub(crate) struct Account {
    used: AtomicU64,
    limit: u64,
}

impl Account {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Account { used: AtomicU64::new(0), limit })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn available(&self) -> u64 {
        self.limit.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Takes `bytes` until the share is dropped, or says that there are fewer.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Share { account: self.clone(), bytes })
    }
}

/// A part of an account.
pub(crate) struct Share {
    account: Arc<Account>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_gives_what_it_has_and_takes_it_back() {
        let account = Account::new(100);
        let share = account.take(60).unwrap();
        assert_eq!(account.available(), 40);
        assert!(account.take(41).is_none() && account.take(u64::MAX).is_none());
        let rest = account.take(40).unwrap();
        drop(share);
        assert_eq!(account.available(), 60);
        drop(rest);
        assert_eq!(account.available(), 100);
    }
}
