//! Threads that share short jobs. An op of a decoded token takes a few microseconds, and a token has hundreds of
//! them, so handing one over may take no more than a look at memory: threads wait for the next job awake for a while
//! before they sleep, and none has to take part in a job that the others end without it.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Looks that a waiting thread takes before it lets others have its processor between them: some 20 µs.
const SPINS: usize = 1000;

/// How long a thread without work stays awake, so that it is there when the next token begins.
const AWAKE: Duration = Duration::from_micros(300);

// The parts of a pool's state, from its lowest bit: helpers at work, helpers asked for, and the job's number.
const HELPER: u64 = 1;
const ACTIVE: u64 = 0xfff;
const ASKED_SHIFT: u32 = 12;
/// Helpers may still join the job.
const OPEN: u64 = 1 << 24;
/// The pool ends.
const STOP: u64 = 1 << 25;
const JOB: u64 = 1 << 26;

/// The most threads of a pool.
const MOST: usize = ACTIVE as usize;

/// A thread's share of a job, by the thread's number.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Some threads, of which the one that asks for work to be done is the first.
pub struct ThreadPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: AtomicU64,
    /// Written by the caller while no helper is at work, read by helpers at work.
    job: UnsafeCell<Option<*const Work<'static>>>,
    helpers: Vec<Helper>,
    /// The first panic of a helper.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is guarded by `state` as it says there.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[derive(Default)]
struct Helper {
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
}

thread_local! {
    /// The pool that this thread's work is shared with; null on helpers, and in a share of a job.
    static CURRENT: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
}

/// Sets [`CURRENT`] while it lives.
struct Enter(*const Shared);

impl Enter {
    fn new(pool: *const Shared) -> Self {
        Enter(CURRENT.replace(pool))
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl ThreadPool {
    /// Starts threads: `count` with the caller's.
    ///
    /// # Errors
    /// When the system can't start them.
    pub fn new(count: usize) -> std::io::Result<Self> {
        let helpers = (1..count.min(MOST)).map(|_| Helper::default()).collect();
        let (state, job, panic) = (AtomicU64::new(0), UnsafeCell::new(None), Mutex::new(None));
        let shared = Arc::new(Shared { state, job, helpers, panic });
        let mut pool = ThreadPool { shared, threads: Vec::new() };
        for own in 1..=pool.shared.helpers.len() {
            let shared = pool.shared.clone();
            let builder = std::thread::Builder::new().name(format!("halite worker {own}"));
            pool.threads.push(builder.spawn(move || shared.help(own))?);
        }
        Ok(pool)
    }

    /// Runs `f` on this thread, with the others' help for what it does in parallel.
    pub fn install<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let _entered = Enter::new(&*self.shared);
        f()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.state.fetch_or(STOP, Ordering::SeqCst);
        self.shared.wake(self.shared.helpers.len());
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Threads that work together here.
pub(crate) fn count() -> usize {
    // SAFETY: the pool outlives the call of `install` that this is in.
    unsafe { CURRENT.get().as_ref() }.map_or(1, |pool| pool.helpers.len() + 1)
}

/// Runs `work(0)` on this thread, and `work(i)` on some others, `i < threads`: as many as come before this one is
/// done. Returns when all have.
pub(crate) fn share(threads: usize, work: &Work<'_>) {
    // What a share does in parallel it does alone.
    let entered = Enter::new(std::ptr::null());
    // SAFETY: as in `count`.
    match unsafe { entered.0.as_ref() } {
        Some(pool) if threads > 1 => pool.run((threads - 1).min(pool.helpers.len()), work),
        _ => work(0),
    }
}

impl Shared {
    fn run(&self, asked: usize, work: &Work<'_>) {
        // SAFETY: only the lifetime changes; no helper uses it after this call.
        let job = unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: the job before is closed, and no helper at work.
        unsafe { *self.job.get() = Some(job) };
        let number = (self.state.load(Ordering::Relaxed) & !(JOB - 1)).wrapping_add(JOB);
        self.state.store(number | OPEN | (asked as u64) << ASKED_SHIFT, Ordering::SeqCst);
        self.wake(asked);
        let result = catch_unwind(AssertUnwindSafe(|| work(0)));
        let mut state = self.state.fetch_and(!OPEN, Ordering::Acquire);
        let mut looks = 0;
        while state & ACTIVE > 0 {
            wait(&mut looks);
            state = self.state.load(Ordering::Acquire);
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = result.err().or(panic) {
            resume_unwind(panic);
        }
    }

    /// Wakes those of the first `asked` helpers that sleep.
    fn wake(&self, asked: usize) {
        for helper in &self.helpers[..asked] {
            if helper.asleep.load(Ordering::SeqCst)
                && let Some(thread) = helper.thread.get()
            {
                helper.asleep.store(false, Ordering::SeqCst);
                thread.unpark();
            }
        }
    }

    /// What helper `own`, counted from 1, does until the pool ends.
    fn help(&self, own: usize) {
        self.helpers[own - 1].thread.get_or_init(std::thread::current);
        let mut last = 0;
        while let Some(number) = self.join(own, last) {
            last = number;
            // SAFETY: this helper is counted as one at work, so the job is there until it says that it is done.
            let work = unsafe { (*self.job.get()).map(|job| &*job) };
            let work = work.expect("an open job is there");
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(own))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
            self.state.fetch_sub(HELPER, Ordering::Release);
        }
    }

    /// Waits for a job after the one of number `last`, and joins it; returns its number. `None` at the pool's end.
    fn join(&self, own: usize, last: u64) -> Option<u64> {
        let helper = &self.helpers[own - 1];
        let mut looks = 0;
        let mut started = None;
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if state & STOP != 0 {
                return None;
            }
            let number = state & !(JOB - 1);
            let asked = (state >> ASKED_SHIFT & ACTIVE) as usize;
            if state & OPEN != 0 && number != last && own <= asked {
                let joined = state + HELPER;
                if self.state.compare_exchange(state, joined, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Some(number);
                }
                continue;
            }
            wait(&mut looks);
            if looks < SPINS || started.get_or_insert_with(Instant::now).elapsed() < AWAKE {
                continue;
            }
            // Whoever opens a job after this sees it; what was opened before is seen here.
            helper.asleep.store(true, Ordering::SeqCst);
            if self.state.load(Ordering::SeqCst) == state {
                std::thread::park();
            }
            helper.asleep.store(false, Ordering::SeqCst);
            (looks, started) = (0, None);
        }
    }
}

/// Passes some time until the next look.
fn wait(looks: &mut usize) {
    if *looks < SPINS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Jobs one after another, with pauses until helpers are asleep.
    #[test]
    fn every_job_is_done_once_by_each_thread_at_most() {
        for threads in [1, 2, 5] {
            let mut pool = ThreadPool::new(threads).unwrap();
            let shared = pool.shared.clone();
            let all_asleep = || shared.helpers.iter().all(|helper| helper.asleep.load(Ordering::SeqCst));
            pool.install(|| {
                assert_eq!(count(), threads);
                for job in 0..300 {
                    while job % 100 == 99 && !all_asleep() {
                        std::thread::yield_now();
                    }
                    let calls: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                    share(threads, &|own| {
                        assert_eq!(count(), 1, "shares share nothing");
                        calls[own].fetch_add(1, Ordering::Relaxed);
                    });
                    let calls: Vec<usize> = calls.into_iter().map(AtomicUsize::into_inner).collect();
                    assert!(calls[0] == 1 && calls.iter().all(|&n| n <= 1), "{calls:?}");
                }
            });
            assert_eq!(count(), 1);
        }
    }

    /// A job waits for a helper that has joined it, and passes its panic on; the pool works on.
    #[test]
    fn panics_of_helpers_arrive() {
        let mut pool = ThreadPool::new(2).unwrap();
        pool.install(|| {
            let joined = AtomicBool::new(false);
            let job = |own: usize| {
                if own > 0 {
                    joined.store(true, Ordering::SeqCst);
                    panic!("of a helper");
                }
                while !joined.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            };
            let panic = catch_unwind(AssertUnwindSafe(|| share(2, &job))).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"of a helper"));
            let done = AtomicUsize::new(0);
            share(2, &|_| _ = done.fetch_add(1, Ordering::SeqCst));
            assert!(done.into_inner() > 0);
        });
    }
}
