//! Spreads work over the threads of the current pool. How work is cut depends on its size alone, never on the
//! number of threads, so that results don't either.

use crate::threads;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements that make up a task: enough to be worth handing to another thread.
pub(crate) const GRAIN: usize = 32 << 10;

/// A counter on cache lines of its own.
#[repr(align(128))]
struct Counter(AtomicUsize);

/// Runs `f(0)`, …, `f(tasks − 1)`, in any order and at the same time.
pub(crate) fn for_each(tasks: usize, f: impl Fn(usize) + Send + Sync) {
    let threads = threads::count().min(tasks);
    if threads <= 1 {
        return (0..tasks).for_each(f);
    }
    // Each thread does a share of neighbours, as memory is read fastest from end to end, and then helps with the
    // shares of others.
    let start = |share: usize| share * tasks / threads;
    let next: Vec<Counter> = (0..threads).map(|share| Counter(AtomicUsize::new(start(share)))).collect();
    threads::share(threads, &|own| {
        for share in (own..threads).chain(0..own) {
            loop {
                let task = next[share].0.fetch_add(1, Ordering::Relaxed);
                if task >= start(share + 1) {
                    break;
                }
                f(task);
            }
        }
    });
}

/// Cuts `0..items` into ranges of about [`GRAIN`] elements, where an item is `cost` elements.
pub(crate) fn ranges(items: usize, cost: usize, f: impl Fn(Range<usize>) + Send + Sync) {
    let step = (GRAIN / cost.max(1)).max(1);
    for_each(items.div_ceil(step), |i| f(i * step..((i + 1) * step).min(items)));
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Lends `len` numbers of undefined value, kept for the next call on this thread.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken out meanwhile, so that a nested call gets memory of its own.
    let mut memory = SCRATCH.take();
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    let result = f(&mut memory[..len]);
    SCRATCH.set(memory);
    result
}

/// A pointer that may be given to other threads.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: whoever writes through it from several threads sees to it that they don't meet.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// To the elements of a slice, which must outlive all uses.
    pub(crate) fn new(x: &mut [T]) -> Self {
        Shared(x.as_mut_ptr())
    }

    /// To elements from `first` on, which must outlive all uses.
    pub(crate) fn new_at(first: *mut T) -> Self {
        Shared(first)
    }

    /// Element `i`.
    ///
    /// # Safety
    /// It lies inside the slice, or just behind it.
    pub(crate) unsafe fn at(&self, i: usize) -> *mut T {
        // SAFETY: by the caller.
        unsafe { self.0.add(i) }
    }

    /// The part `range` of the slice.
    ///
    /// # Safety
    /// It lies inside the slice, and no one else uses it meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        // SAFETY: by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}
