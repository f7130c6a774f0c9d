//! The in-order queue: what is on it, how far it is, and what went wrong.
//!
//! Every call that enqueues makes an entry with a ticket, the events of its commands, and what has to live
//! until they have run. Entries leave when they are seen to be complete; the first command that failed is
//! remembered, and every wait that reaches its ticket reports it.

use crate::error::{failed, refused};
use crate::handle::{CommandQueue, Event};
use crate::memory::{Account, OpenClMemory};
use crate::prepared::OpenClPrepared;
use crate::quirks::turn;
use halite_hal::{Error, Readback, Result, TransferState};
use halite_kernels::Ticket;
use opencl3::command_queue::{enqueue_read_buffer, enqueue_write_buffer, finish, flush};
use opencl3::error_codes::CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
use opencl3::event::{CL_COMPLETE, CL_EVENT_COMMAND_EXECUTION_STATUS, get_event_info, wait_for_events};
use opencl3::types::{CL_NON_BLOCKING, cl_int};
use std::collections::VecDeque;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) struct Queue {
    device: String,
    queue: CommandQueue,
    account: Arc<Account>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    last: u64,
    waiting: VecDeque<Entry>,
    failed: Option<(u64, Error)>,
    /// Lists of events that have been used, to be filled again.
    spare: Vec<Vec<Event>>,
}

struct Entry {
    ticket: u64,
    /// Never empty.
    events: Vec<Event>,
    work: Work,
}

/// What an entry does, and keeps alive.
enum Work {
    Upload(#[expect(dead_code, reason = "kept alive")] Vec<u8>),
    Download(#[expect(dead_code, reason = "kept alive")] Arc<Landing>),
    List(Arc<OpenClPrepared>),
}

impl Work {
    /// What command `i` does, for messages.
    fn label(&self, i: usize) -> &str {
        match self {
            Work::Upload(_) => "upload",
            Work::Download(_) => "download",
            Work::List(list) => list.label(i),
        }
    }
}

/// Host memory that a download arrives in; taken when it has.
struct Landing(Mutex<Vec<u8>>);

fn status(event: &Event) -> Result<cl_int, cl_int> {
    get_event_info(event.raw(), CL_EVENT_COMMAND_EXECUTION_STATUS).map(cl_int::from)
}

impl State {
    /// Lets go of the entries up to `ticket`, which are complete.
    fn retire(&mut self, device: &str, ticket: u64) {
        while self.waiting.front().is_some_and(|e| e.ticket <= ticket) {
            let Some(mut entry) = self.waiting.pop_front() else { return };
            if self.failed.is_none() {
                let code = |event| status(event).unwrap_or_else(|code| code);
                if let Some((i, code)) = entry.events.iter().map(code).enumerate().find(|(_, code)| *code < 0)
                {
                    self.failed = Some((entry.ticket, failed(device, entry.work.label(i), code)));
                }
            }
            entry.events.clear();
            self.spare.push(entry.events);
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
    pub(crate) fn new(device: String, queue: CommandQueue, account: Arc<Account>) -> Self {
        Queue { device, queue, account, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn refused(&self, what: &str, bytes: u64, code: cl_int) -> Error {
        refused(&self.device, &self.account, what, bytes, code)
    }

    pub(crate) fn last(&self) -> Ticket {
        Ticket(self.state().last)
    }

    /// Adds an entry for commands that were enqueued, and hands them to the device.
    fn push(&self, state: &mut State, events: Vec<Event>, work: Work) -> Result<Ticket> {
        // Entries that nobody waits for have to leave some time.
        while let Some(front) = state.waiting.front()
            && front.events.last().is_some_and(|e| status(e).is_ok_and(|s| s <= CL_COMPLETE))
        {
            let ticket = front.ticket;
            state.retire(&self.device, ticket);
        }
        if !events.is_empty() {
            state.last += 1;
            state.waiting.push_back(Entry { ticket: state.last, events, work });
        }
        flush(self.queue.raw()).map_err(|code| failed(&self.device, "flushing the queue", code))?;
        Ok(Ticket(state.last))
    }

    pub(crate) fn upload(&self, to: &OpenClMemory, offset: u64, data: &[u8]) -> Result<Ticket> {
        let _turn = turn();
        let mut state = self.state();
        if data.is_empty() {
            return Ok(Ticket(state.last));
        }
        let data = data.to_vec();
        // SAFETY: the range is inside the buffer, and `data` lives in the entry until the write is complete.
        let event = unsafe {
            enqueue_write_buffer(
                self.queue.raw(),
                to.raw(),
                CL_NON_BLOCKING,
                offset as usize,
                data.len(),
                data.as_ptr().cast(),
                0,
                ptr::null(),
            )
        };
        let event = event.map_err(|code| self.refused("upload", to.bytes, code))?;
        // SAFETY: the event was made for this call.
        let event = unsafe { Event::owned(event) };
        self.push(&mut state, vec![event], Work::Upload(data))
    }

    pub(crate) fn download(
        self: &Arc<Self>,
        from: &OpenClMemory,
        offset: u64,
        bytes: u64,
    ) -> Result<Readback> {
        if bytes == 0 {
            return Ok(Readback::ready(Vec::new()));
        }
        let mut data = vec![0; bytes as usize];
        let to = data.as_mut_ptr();
        let landing = Arc::new(Landing(Mutex::new(data)));
        let _turn = turn();
        let mut state = self.state();
        // SAFETY: the range is inside the buffer; the landing lives in the entry until the read is complete,
        // and nobody looks into it before.
        let event = unsafe {
            enqueue_read_buffer(
                self.queue.raw(),
                from.raw(),
                CL_NON_BLOCKING,
                offset as usize,
                bytes as usize,
                to.cast(),
                0,
                ptr::null(),
            )
        };
        let event = event.map_err(|code| self.refused("download", from.bytes, code))?;
        // SAFETY: the event was made for this call.
        let event = unsafe { Event::owned(event) };
        let ticket = self.push(&mut state, vec![event], Work::Download(landing.clone()))?;
        Ok(Readback::new(Arrival { queue: self.clone(), ticket, landing }))
    }

    pub(crate) fn run(&self, list: &Arc<OpenClPrepared>) -> Result<Ticket> {
        let _turn = turn();
        let mut state = self.state();
        let mut events = state.spare.pop().unwrap_or_default();
        let ran = list.enqueue(&self.queue, &mut events);
        let ran = ran.map_err(|(step, code)| self.refused(step.label(), step.bytes(), code));
        let ticket = self.push(&mut state, events, Work::List(list.clone()));
        ran.and(ticket)
    }

    /// Whether everything up to `ticket` has run; with `block`, waits until it has.
    pub(crate) fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        let _turn = turn();
        let state = self.state();
        let after = state.waiting.partition_point(|e| e.ticket <= ticket.0);
        let Some(event) = state.waiting.range(..after).next_back().and_then(|e| e.events.last()) else {
            return state.outcome(ticket.0);
        };
        // SAFETY: the entry has a reference.
        let event = unsafe { Event::retained(event.raw()) };
        let event = event.map_err(|code| failed(&self.device, "retaining an event", code))?;
        // Others may enqueue while this thread waits.
        drop(state);
        if block {
            match wait_for_events(&[event.raw()]) {
                // That a command failed is told by its own event.
                Ok(()) | Err(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) => {}
                Err(code) => return Err(failed(&self.device, "waiting for the queue", code)),
            }
        } else if status(&event).map_err(|code| failed(&self.device, "asking for an event", code))?
            > CL_COMPLETE
        {
            return Ok(false);
        }
        let mut state = self.state();
        state.retire(&self.device, ticket.0);
        state.outcome(ticket.0)
    }

    /// Waits until the queue is empty, and keeps it so while `then` runs.
    pub(crate) fn idle<T>(&self, then: impl FnOnce() -> Result<T>) -> Result<T> {
        let _turn = turn();
        let mut state = self.state();
        finish(self.queue.raw()).map_err(|code| failed(&self.device, "waiting for the queue", code))?;
        let last = state.last;
        state.retire(&self.device, last);
        state.outcome(last)?;
        then()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _turn = turn();
        // The device may still write to landings.
        if let Err(code) = finish(self.queue.raw()) {
            tracing::debug!(code, "finishing the queue of {} failed", self.device);
        }
    }
}

/// A download on its way.
struct Arrival {
    queue: Arc<Queue>,
    ticket: Ticket,
    landing: Arc<Landing>,
}

impl TransferState for Arrival {
    fn poll(&mut self) -> Result<bool> {
        self.queue.wait(self.ticket, false)
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        self.queue.wait(self.ticket, true)?;
        Ok(std::mem::take(&mut *self.landing.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Context;
    use crate::info::scan;
    use opencl3::command_queue::create_command_queue;
    use opencl3::context::context::create_context;
    use opencl3::error_codes::{CL_DEVICE_NOT_AVAILABLE, CL_OUT_OF_RESOURCES};
    use opencl3::event::{create_user_event, set_user_event_status};

    /// An event that the test completes or lets fail, in place of a command's.
    fn event(context: &Context) -> Event {
        let event = create_user_event(context.raw()).unwrap();
        // SAFETY: the event was made for this call.
        unsafe { Event::owned(event) }
    }

    fn set(event: &Event, status: cl_int) {
        set_user_event_status(event.raw(), status).unwrap();
    }

    #[test]
    fn a_command_that_fails_is_named_by_every_wait_from_then_on() {
        fails(CL_OUT_OF_RESOURCES, |e| {
            assert_eq!(e.to_string(), "opencl:7: upload: CL_OUT_OF_RESOURCES (-5)");
        });
    }

    #[test]
    fn a_device_that_is_lost_is_lost_for_every_wait_from_then_on() {
        fails(CL_DEVICE_NOT_AVAILABLE, |e| {
            assert!(matches!(e, Error::DeviceLost { .. }), "{e:?}");
            assert_eq!(e.to_string(), "opencl:7 is lost: upload: CL_DEVICE_NOT_AVAILABLE (-2)");
        });
    }

    /// Lets the second of three commands fail with `code`; `told` sees what the waits report.
    fn fails(code: cl_int, told: impl Fn(Error)) {
        for found in scan().0 {
            let context = create_context(&[found.device], ptr::null(), None, ptr::null_mut()).unwrap();
            // SAFETY: the context was made for this call.
            let context = unsafe { Context::owned(context) };
            // SAFETY: the device is the context's, and the queue was made for this call.
            let raw =
                unsafe { CommandQueue::owned(create_command_queue(context.raw(), found.device, 0).unwrap()) };
            let queue = Queue::new("opencl:7".into(), raw, Account::new(0));
            let landing = || Work::Download(Arc::new(Landing(Mutex::default())));
            let events: Vec<Event> = (0..4).map(|_| event(&context)).collect();
            let again = |i: usize| {
                // SAFETY: the event is alive.
                vec![unsafe { Event::retained(events[i].raw()) }.unwrap()]
            };
            let push = |events, work| queue.push(&mut queue.state(), events, work).unwrap();
            let first = push(again(0), Work::Upload(vec![]));
            let second = push(again(1), Work::Upload(vec![]));
            let third = push([again(2), again(3)].into_iter().flatten().collect(), landing());
            assert!(!queue.wait(first, false).unwrap());
            set(&events[0], CL_COMPLETE);
            assert!(queue.wait(first, true).unwrap());
            set(&events[1], code);
            set(&events[2], -14);
            set(&events[3], -14);
            for ticket in [third, second, third] {
                told(queue.wait(ticket, true).unwrap_err());
            }
            assert!(queue.wait(first, true).unwrap(), "what ran before is well");
        }
    }
}
