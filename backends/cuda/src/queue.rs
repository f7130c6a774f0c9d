//! The in-order stream: what is on it, how far it is, and what went wrong.
//!
//! Every call that enqueues makes an entry with a ticket, an event, and what has to live until the event has
//! happened. Entries leave when they are seen to be complete. A kernel that fails takes its context along: the
//! error is that of the oldest entry that isn't complete, and every wait that reaches its ticket reports it.

use crate::context::Context;
use crate::error::check;
use crate::handle::Event;
use crate::memory::CudaMemory;
use crate::prepared::CudaPrepared;
use crate::staging::{PIECE, Staged, Staging};
use cudarc::driver::sys::{self, CUresult};
use halite_hal::{Error, Readback, Result, TransferState};
use halite_kernels::Ticket;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of uploads that may be on the stream at the same time; their data is in pinned memory.
const UPLOADS: usize = 64 << 20;

pub(crate) struct Queue {
    context: Arc<Context>,
    staging: Arc<Staging>,
    /// Whether every command is waited for.
    validation: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    waiting: VecDeque<Entry>,
    /// Bytes of uploads among them.
    uploads: usize,
    failed: Option<(u64, Error)>,
    /// Events that have been used, to be used again.
    spare: Vec<Event>,
}

struct Entry {
    ticket: u64,
    event: Arc<Event>,
    work: Work,
}

/// What an entry does, and keeps alive.
enum Work {
    Upload(Staged),
    Download(#[expect(dead_code, reason = "kept alive")] Arc<Vec<Staged>>),
    List(Arc<CudaPrepared>),
}

impl Work {
    /// What it does, for messages.
    fn label(&self) -> String {
        match self {
            Work::Upload(_) => "upload".into(),
            Work::Download(_) => "download".into(),
            Work::List(list) => list.label(),
        }
    }

    fn upload_bytes(&self) -> usize {
        if let Work::Upload(staged) = self { staged.len() } else { 0 }
    }
}

impl State {
    /// Lets go of the entries up to `ticket`, which are complete.
    fn retire(&mut self, ticket: u64) {
        while self.waiting.front().is_some_and(|e| e.ticket <= ticket) {
            let Some(entry) = self.waiting.pop_front() else { return };
            self.uploads -= entry.work.upload_bytes();
            // Another thread may be waiting for it.
            if let Ok(event) = Arc::try_unwrap(entry.event) {
                self.spare.push(event);
            }
        }
    }

    fn outcome(&self, ticket: u64) -> Result<bool> {
        match &self.failed {
            Some((at, e)) if *at <= ticket => Err(e.clone()),
            _ => Ok(true),
        }
    }
}

impl Queue {
    pub(crate) fn new(context: &Arc<Context>, validation: bool) -> Self {
        let staging = Staging::new(context);
        Queue { context: context.clone(), staging, validation, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> Ticket {
        Ticket(self.state().last)
    }

    /// A call for `what` failed. If the context is lost, the cause is on the stream.
    fn refused(&self, state: &mut State, what: &str, code: CUresult) -> Error {
        let e = self.context.failed(what, code);
        if matches!(e, Error::DeviceLost { .. }) && !state.waiting.is_empty() {
            self.fail(state, code);
        }
        match &state.failed {
            Some((_, first)) => first.clone(),
            None => e,
        }
    }

    /// The stream has failed with `code`: nothing on it will run.
    fn fail(&self, state: &mut State, code: CUresult) {
        let Some(oldest) = state.waiting.front() else { return };
        if state.failed.is_none() {
            let what = format!(
                "{}{}",
                oldest.work.label(),
                if state.waiting.len() > 1 { ", or later work" } else { "" }
            );
            state.failed = Some((oldest.ticket, self.context.failed(&what, code)));
        }
        state.retire(state.last);
    }

    /// Adds an entry for what was enqueued. The context is current.
    fn push(&self, state: &mut State, work: Work) -> Result<Ticket> {
        // Entries that nobody waits for have to leave some time.
        while let Some(front) = state.waiting.front()
            && front.event.query().is_ok_and(|done| done)
        {
            let ticket = front.ticket;
            state.retire(ticket);
        }
        let event = match state.spare.pop() {
            Some(event) => Ok(event),
            None => Event::new(&self.context, false),
        };
        let recorded = event.and_then(|event| event.record(self.context.stream()).map(|()| event));
        match recorded {
            Ok(event) => {
                state.last += 1;
                state.uploads += work.upload_bytes();
                state.waiting.push_back(Entry { ticket: state.last, event: Arc::new(event), work });
                Ok(Ticket(state.last))
            }
            Err(code) => {
                // What the work uses can't be let go before it has run.
                let _ = self.context.synchronize();
                Err(self.refused(state, &work.label(), code))
            }
        }
    }

    pub(crate) fn upload(&self, to: &CudaMemory, offset: u64, data: &[u8]) -> Result<Ticket> {
        let _entered = self.context.enter()?;
        let mut ticket = self.last();
        for (i, part) in data.chunks(PIECE).enumerate() {
            self.await_uploads()?;
            let staged = self.staging.take(part.len())?;
            // SAFETY: the piece is new, and as long.
            unsafe { staged.write(part) };
            let address = to.raw() + offset + (i * PIECE) as u64;
            let mut state = self.state();
            let stream = self.context.stream();
            // SAFETY: the range is inside the memory, and the piece lives in the entry until it is read.
            check(unsafe {
                sys::cuMemcpyHtoDAsync_v2(address, staged.address().cast(), staged.len(), stream)
            })
            .map_err(|code| self.refused(&mut state, "upload", code))?;
            ticket = self.push(&mut state, Work::Upload(staged))?;
        }
        Ok(ticket)
    }

    /// Waits while uploads hold too much memory.
    fn await_uploads(&self) -> Result<()> {
        loop {
            let state = self.state();
            let oldest = state.waiting.iter().find(|e| matches!(e.work, Work::Upload(_)));
            let Some(ticket) = oldest.map(|e| e.ticket).filter(|_| state.uploads > UPLOADS) else {
                return Ok(());
            };
            drop(state);
            self.wait(Ticket(ticket), true)?;
        }
    }

    pub(crate) fn download(self: &Arc<Self>, from: &CudaMemory, offset: u64, bytes: u64) -> Result<Readback> {
        if bytes == 0 {
            return Ok(Readback::ready(Vec::new()));
        }
        let _entered = self.context.enter()?;
        let sizes = (0..bytes as usize).step_by(PIECE).map(|start| PIECE.min(bytes as usize - start));
        let landing = Arc::new(sizes.map(|size| self.staging.take(size)).collect::<Result<Vec<_>>>()?);
        let mut state = self.state();
        for (i, piece) in landing.iter().enumerate() {
            let address = from.raw() + offset + (i * PIECE) as u64;
            let stream = self.context.stream();
            // SAFETY: the range is inside the memory; the landing lives in the entry until it is written, and
            // nobody looks into it before.
            let code =
                unsafe { sys::cuMemcpyDtoHAsync_v2(piece.address().cast(), address, piece.len(), stream) };
            if let Err(code) = check(code) {
                // Earlier pieces may still be written.
                let _ = self.context.synchronize();
                return Err(self.refused(&mut state, "download", code));
            }
        }
        let ticket = self.push(&mut state, Work::Download(landing.clone()))?;
        Ok(Readback::new(Arrival { queue: self.clone(), ticket, landing }))
    }

    pub(crate) fn run(&self, list: &Arc<CudaPrepared>) -> Result<Ticket> {
        let _entered = self.context.enter()?;
        let mut state = self.state();
        if list.is_empty() {
            return Ok(Ticket(state.last));
        }
        let ran = match &list.graph {
            Some(graph) => {
                // SAFETY: the graph is alive, nobody else launches it now, and what it uses is in the entry.
                let code = unsafe { sys::cuGraphLaunch(graph.raw(), self.context.stream()) };
                check(code).map_err(|code| self.refused(&mut state, &list.label(), code))
            }
            None => self.enqueue(&mut state, list),
        };
        // Those before one that was refused are there.
        let ticket = self.push(&mut state, Work::List(list.clone()));
        ran.and(ticket)
    }

    /// Enqueues the steps one by one; under validation, each is waited for.
    fn enqueue(&self, state: &mut State, list: &CudaPrepared) -> Result<()> {
        for step in &list.steps {
            step.enqueue(&self.context).map_err(|code| self.refused(state, step.label(), code))?;
            if !self.validation {
                continue;
            }
            match self.context.synchronize() {
                // So that what fails next isn't taken for theirs.
                Ok(()) => state.retire(state.last),
                Err(code) => {
                    // It will have no entry, but it fails what is waited for from here on.
                    state.last += 1;
                    let e = self.context.failed(step.label(), code);
                    return Err(state.failed.get_or_insert((state.last, e)).1.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether everything up to `ticket` has run; with `block`, waits until it has.
    pub(crate) fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        let state = self.state();
        let after = state.waiting.partition_point(|e| e.ticket <= ticket.0);
        let Some(event) = state.waiting.range(..after).next_back().map(|e| e.event.clone()) else {
            return state.outcome(ticket.0);
        };
        // Others may enqueue while this thread waits.
        drop(state);
        let _entered = self.context.enter()?;
        let done = if block { event.synchronize().map(|()| true) } else { event.query() };
        drop(event);
        let mut state = self.state();
        match done {
            Ok(false) => return Ok(false),
            Ok(true) => state.retire(ticket.0),
            Err(code) => {
                self.fail(&mut state, code);
                if state.failed.is_none() {
                    return Err(self.context.failed("waiting for the stream", code));
                }
            }
        }
        state.outcome(ticket.0)
    }

    /// Waits until the stream is empty, and keeps it so while `then` runs.
    pub(crate) fn idle<T>(&self, then: impl FnOnce() -> Result<T>) -> Result<T> {
        let _entered = self.context.enter()?;
        let mut state = self.state();
        match self.context.synchronize() {
            Ok(()) => {
                let last = state.last;
                state.retire(last);
                state.outcome(last)?;
                then()
            }
            Err(code) => Err(self.refused(&mut state, "waiting for the stream", code)),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // The device may still write to landings.
        let done = self.context.enter().map(|_entered| self.context.synchronize());
        if !matches!(done, Ok(Ok(()))) {
            tracing::debug!("finishing the stream of {} failed", self.context.selector);
        }
    }
}

/// A download on its way.
struct Arrival {
    queue: Arc<Queue>,
    ticket: Ticket,
    landing: Arc<Vec<Staged>>,
}

impl TransferState for Arrival {
    fn poll(&mut self) -> Result<bool> {
        self.queue.wait(self.ticket, false)
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        self.queue.wait(self.ticket, true)?;
        let mut bytes = Vec::with_capacity(self.landing.iter().map(Staged::len).sum());
        for piece in &*self.landing {
            // SAFETY: the download is complete.
            bytes.extend_from_slice(unsafe { piece.read() });
        }
        Ok(bytes)
    }
}
