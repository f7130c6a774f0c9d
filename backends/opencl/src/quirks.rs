//! Known failures of drivers, as data, and what is done about them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What has to be avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Avoid {
    /// Calls of several threads at the same time.
    ConcurrentCalls,
    /// Buffers that share a piece of memory.
    Pooling,
}

/// A failure of some versions of a driver.
#[derive(Debug)]
pub(crate) struct Quirk {
    /// The platform's name.
    platform: &'static str,
    /// The first and the last version that have it; without a last one, none is known to be well.
    versions: (&'static [u32], Option<&'static [u32]>),
    pub avoid: Avoid,
    pub reason: &'static str,
}

const QUIRKS: &[Quirk] = &[
    Quirk {
        platform: "Oclgrind",
        versions: (&[0], None),
        avoid: Avoid::ConcurrentCalls,
        reason: "its runtime keeps events and memory in tables without locks: results are wrong, or it crashes \
                 (seen with 21.10)",
    },
    Quirk {
        platform: "Oclgrind",
        versions: (&[0], None),
        avoid: Avoid::Pooling,
        reason: "it reports accesses outside of pieces of memory, so each buffer has to be one",
    },
];

/// The quirks of a driver.
pub(crate) fn of(platform: &str, driver_version: &str) -> impl Iterator<Item = &'static Quirk> {
    let version = numbers(driver_version);
    QUIRKS.iter().filter(move |q| {
        let (first, last) = q.versions;
        q.platform == platform && first <= &version[..] && last.is_none_or(|last| &version[..] <= last)
    })
}

/// The first number with dots in a text: `[21, 10]` of "Oclgrind 21.10".
fn numbers(text: &str) -> Vec<u32> {
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let end = text[start..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(text.len(), |n| start + n);
    text[start..end].split('.').map_while(|n| n.parse().ok()).collect()
}

static TAKE_TURNS: AtomicBool = AtomicBool::new(false);
static TURNS: Mutex<()> = Mutex::new(());
thread_local! {
    static MINE: Cell<bool> = const { Cell::new(false) };
}

/// Does what the driver needs from now on, for the whole process.
pub(crate) fn apply(quirk: &Quirk) {
    match quirk.avoid {
        Avoid::ConcurrentCalls => TAKE_TURNS.store(true, Ordering::Relaxed),
        // Of one device: its driver's traits say so.
        Avoid::Pooling => {}
    }
}

/// A thread's turn to call OpenCL: held during calls, where a driver can't bear several at once. It is taken
/// before any other lock; a thread may take it again while it has it.
pub(crate) struct Turn(Option<MutexGuard<'static, ()>>);

pub(crate) fn turn() -> Turn {
    if !TAKE_TURNS.load(Ordering::Relaxed) || MINE.get() {
        return Turn(None);
    }
    let guard = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    MINE.set(true);
    Turn(Some(guard))
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.0.is_some() {
            MINE.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("Oclgrind 21.10"), [21, 10]);
        assert_eq!(numbers("3.1+debian"), [3, 1]);
        assert_eq!(numbers("535.129.03"), [535, 129, 3]);
        assert!(numbers("unknown").is_empty());
        assert_eq!(of("Oclgrind", "Oclgrind 21.10").count(), 2);
        assert_eq!(of("Portable Computing Language", "3.1+debian").count(), 0);
    }
}
