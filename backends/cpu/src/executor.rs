//! The thread that does a device's work, one job after the other in the order in which they came.
//!
//! All streams share the one queue. That is more order than streams ask for, so events and waits between
//! streams need nothing more than their place in the queue, and no two ops ever run at once. A stream
//! whose work failed does nothing more: its waits report the first error.

use crate::program::Program;
use crate::threads::ThreadPool;
use halite_hal::{Buffer, Error, EventState, Result, TransferState};
use std::any::Any;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A result that one thread leaves for others.
pub(crate) struct Promise<T> {
    value: Mutex<Option<Result<T>>>,
    set: Condvar,
}

impl<T> Promise<T> {
    fn new() -> Arc<Self> {
        Arc::new(Promise { value: Mutex::new(None), set: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<T>>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fulfil(&self, value: Result<T>) {
        *self.lock() = Some(value);
        self.set.notify_all();
    }

    /// Waits, and makes something of the value.
    fn wait<R>(&self, take: impl FnOnce(&mut Option<Result<T>>) -> R) -> R {
        let mut value = self.lock();
        while value.is_none() {
            value = self.set.wait(value).unwrap_or_else(PoisonError::into_inner);
        }
        take(&mut value)
    }

    fn poll_done(&self) -> Result<bool> {
        match &*self.lock() {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(e)) => Err(e.clone()),
        }
    }
}

/// A point in the queue.
pub(crate) struct Mark {
    done: Arc<Promise<()>>,
    /// The queue that it is a point of.
    queue: Arc<()>,
}

impl EventState for Mark {
    fn poll(&self) -> Result<bool> {
        self.done.poll_done()
    }
    fn wait(&self) -> Result<()> {
        self.done.wait(|v| v.clone().unwrap_or(Ok(())))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A download's other end.
pub(crate) struct Arrival(Arc<Promise<Vec<u8>>>);

impl TransferState for Arrival {
    fn poll(&mut self) -> Result<bool> {
        self.0.poll_done()
    }
    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        self.0.wait(|v| v.take().unwrap_or(Ok(Vec::new())))
    }
}

/// Memory of a buffer that the job keeps alive.
pub(crate) struct Place {
    pub(crate) _buffer: Buffer,
    pub(crate) address: *mut u8,
}

// SAFETY: the buffer is alive as long as the place, and only the executor reads or writes buffers.
unsafe impl Send for Place {}

/// The addresses behind a program's slots, and the buffers that they lie in.
pub(crate) struct Bound {
    pub(crate) bases: Vec<*mut u8>,
    pub(crate) _buffers: Vec<Option<Buffer>>,
}

// SAFETY: as for `Place`.
unsafe impl Send for Bound {}
// SAFETY: as for `Place`.
unsafe impl Sync for Bound {}

impl Bound {
    fn bases(&self) -> &[*mut u8] {
        &self.bases
    }
}

/// What the executor is asked to do. Addresses and sizes have been checked.
pub(crate) enum Work {
    Run(Arc<Program>, Bound),
    Upload(Place, Vec<u8>),
    Copy(Place, Place, usize),
    Download(Place, usize, Arc<Promise<Vec<u8>>>),
    Mark(Arc<Promise<()>>),
    Wait(Arc<Promise<()>>),
}

struct Job {
    stream: usize,
    work: Work,
}

/// The thread, and the way to it.
pub(crate) struct Executor {
    /// `None` once the executor is being dropped.
    queue: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    identity: Arc<()>,
    device: String,
}

impl Executor {
    /// Starts the thread and a pool of `threads` threads, of which it is one.
    pub(crate) fn new(device: &str, threads: usize) -> Result<Self> {
        let (queue, jobs) = channel::<Job>();
        let (ready, started) = channel();
        let name = device.to_string();
        let failed = |e: &dyn std::fmt::Display| Error::backend(device, format!("can't start threads: {e}"));
        let thread = std::thread::Builder::new()
            .name(format!("halite {device}"))
            .spawn(move || match ThreadPool::new(threads) {
                Ok(mut pool) => {
                    ready.send(Ok(())).ok();
                    serve(&jobs, &name, &mut pool);
                }
                Err(e) => drop(ready.send(Err(e.to_string()))),
            })
            .map_err(|e| failed(&e))?;
        match started.recv() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(failed(&e)),
            Err(e) => return Err(failed(&e)),
        }
        Ok(Executor {
            queue: Some(queue),
            thread: Some(thread),
            identity: Arc::new(()),
            device: device.into(),
        })
    }

    /// Puts work at the end of the queue.
    pub(crate) fn push(&self, stream: usize, work: Work) -> Result<()> {
        let sent = self.queue.as_ref().map(|q| q.send(Job { stream, work }).is_ok());
        match sent {
            Some(true) => Ok(()),
            _ => Err(Error::backend(&self.device, "the executor thread has ended")),
        }
    }

    /// Marks the present end of the queue.
    pub(crate) fn mark(&self, stream: usize) -> Result<Mark> {
        let done = Promise::new();
        self.push(stream, Work::Mark(done.clone()))?;
        Ok(Mark { done, queue: self.identity.clone() })
    }

    /// Lets a stream take over the error, if there is one, of what came before a mark.
    pub(crate) fn wait_mark(&self, stream: usize, mark: &Mark) -> Result<()> {
        if !Arc::ptr_eq(&mark.queue, &self.identity) {
            return Err(Error::backend(&self.device, "the event belongs to another instance of the device"));
        }
        self.push(stream, Work::Wait(mark.done.clone()))
    }

    /// Reads `bytes` bytes when the queue has come so far.
    pub(crate) fn download(&self, stream: usize, from: Place, bytes: usize) -> Result<Arrival> {
        let arrival = Promise::new();
        self.push(stream, Work::Download(from, bytes, arrival.clone()))?;
        Ok(Arrival(arrival))
    }
}

impl Drop for Executor {
    /// Waits until everything in the queue has been done.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(jobs: &Receiver<Job>, device: &str, pool: &mut ThreadPool) {
    // The first error of each stream.
    let mut errors: Vec<Option<Error>> = Vec::new();
    for Job { stream, work } in jobs {
        if errors.len() <= stream {
            errors.resize(stream + 1, None);
        }
        let failed = errors[stream].clone();
        let status = failed.clone().map_or(Ok(()), Err);
        match work {
            Work::Mark(done) => done.fulfil(status),
            Work::Download(from, bytes, arrival) => arrival.fulfil(status.map(|()| {
                // SAFETY: the place has that many bytes, and nothing writes to it while this thread reads.
                unsafe { std::slice::from_raw_parts(from.address, bytes) }.to_vec()
            })),
            Work::Wait(mark) if failed.is_none() => {
                // The mark lies earlier in this queue, so it has been reached.
                errors[stream] = mark.poll_done().err();
            }
            Work::Run(program, bound) if failed.is_none() => {
                // SAFETY: the device has checked the ops and bindings; only this thread and the pool,
                // which works for it alone, touch buffers.
                let result = pool.install(|| unsafe { program.run(bound.bases(), device) });
                errors[stream] = result.err();
            }
            Work::Upload(to, data) if failed.is_none() => {
                // SAFETY: the place has as many bytes as there are data, and only this thread uses it.
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), to.address, data.len()) }
            }
            Work::Copy(from, to, bytes) if failed.is_none() => {
                // SAFETY: both places have that many bytes and don't overlap.
                unsafe { std::ptr::copy_nonoverlapping(from.address, to.address, bytes) }
            }
            Work::Wait(_) | Work::Run(..) | Work::Upload(..) | Work::Copy(..) => {}
        }
    }
}
