//! The in-order queue: uploads that wait for the next submission, submissions in flight, and their tickets.
//!
//! wgpu keeps alive what submissions use, and takes uploads into the next one, before its commands.

use crate::context::Context;
use crate::prepared::{Step, WgpuPrepared};
use halite_hal::{Error, Readback, Result, TransferState};
use halite_kernels::Ticket;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wgpu::{BufferAsyncError, BufferUsages, PollType, SubmissionIndex};

/// Uploads gather until there are this many bytes of them.
const GATHER: u64 = 8 << 20;

pub(crate) struct Queue {
    context: Arc<Context>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    submitted: u64,
    reached: u64,
    /// Bytes of uploads that no submission has taken yet.
    gathered: u64,
    in_flight: VecDeque<(u64, SubmissionIndex)>,
}

impl State {
    fn last(&self) -> Ticket {
        Ticket(self.submitted + u64::from(self.gathered > 0))
    }
}

impl Queue {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Queue { context, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> Ticket {
        self.state().last()
    }

    /// Submits what has gathered, and commands after it.
    fn send(&self, state: &mut State, what: &str, commands: Option<wgpu::CommandBuffer>) -> Result<Ticket> {
        let submit = || self.context.queue.submit(commands);
        let index = self.context.checked(what, state.gathered, submit)?;
        state.submitted += 1;
        state.gathered = 0;
        state.in_flight.push_back((state.submitted, index));
        Ok(Ticket(state.submitted))
    }

    pub(crate) fn upload(&self, to: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<Ticket> {
        let bytes = data.len() as u64;
        let mut state = self.state();
        if bytes > 0 {
            let write = || self.context.queue.write_buffer(to, offset, data);
            self.context.checked("upload", bytes, write)?;
            state.gathered += bytes;
            if state.gathered >= GATHER {
                self.send(&mut state, "upload", None)?;
            }
        }
        Ok(state.last())
    }

    pub(crate) fn download(
        self: &Arc<Self>,
        from: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Readback> {
        if bytes == 0 {
            return Ok(Readback::ready(Vec::new()));
        }
        let device = &self.context.device;
        let (sender, mapped) = sync_channel(1);
        let (staging, commands) = self.context.checked("download", bytes, || {
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            let desc = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
            let staging = device.create_buffer(&desc);
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from, offset, &staging, 0, bytes);
            // With the submission, that is under the queue's lock: asked for after it, another thread may have
            // found the submission done before, and then nobody calls back. Nobody is told of a download that
            // was given up.
            encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |r| drop(sender.send(r)));
            (staging, encoder.finish())
        })?;
        let ticket = self.send(&mut self.state(), "download", Some(commands))?;
        Ok(Readback::new(Arrival { queue: self.clone(), ticket, staging, mapped, result: None }))
    }

    pub(crate) fn run(&self, list: &WgpuPrepared) -> Result<Ticket> {
        if list.steps.is_empty() {
            return Ok(self.last());
        }
        let what = list.label();
        let commands = self.context.checked(&what, 0, || list.encode(&self.context.device))?;
        self.send(&mut self.state(), &what, Some(commands))
    }

    /// See [`halite_kernels::Driver::wait`].
    pub(crate) fn wait(&self, ticket: Ticket, block: bool) -> Result<bool> {
        let mut state = self.state();
        if ticket.0 > state.submitted && state.gathered > 0 {
            self.send(&mut state, "upload", None)?;
        }
        let entry = state.in_flight.iter().find(|(t, _)| *t >= ticket.0).cloned();
        let Some((reaches, index)) = entry.filter(|_| ticket.0 > state.reached) else {
            return self.context.check().map(|()| true);
        };
        // Others may submit while this thread waits.
        drop(state);
        let timeout = if block { None } else { Some(Duration::ZERO) };
        let done = self.context.poll(PollType::Wait { submission_index: Some(index), timeout })?;
        if done {
            let mut state = self.state();
            state.reached = state.reached.max(reaches);
            let reached = state.reached;
            state.in_flight.retain(|(t, _)| *t > reached);
        }
        Ok(done)
    }

    /// Seconds that a step took by the device's clock.
    pub(crate) fn time(self: &Arc<Self>, step: &Step) -> Result<f64> {
        let make = || stamped(&self.context.device, step);
        let (stamps, commands) = self.context.checked(step.label(), 0, make)?;
        self.send(&mut self.state(), step.label(), Some(commands))?;
        let stamps = self.download(&stamps, 0, 16)?.wait_as::<u64>()?;
        let ticks = stamps[1].saturating_sub(stamps[0]);
        Ok(ticks as f64 * f64::from(self.context.queue.get_timestamp_period()) * 1e-9)
    }
}

/// A step with a timestamp before and one after it, and the buffer that they arrive in.
fn stamped(device: &wgpu::Device, step: &Step) -> (wgpu::Buffer, wgpu::CommandBuffer) {
    let ty = wgpu::QueryType::Timestamp;
    let queries = device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty, count: 2 });
    let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
    let stamps = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 16,
        usage,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let pass = |encoder: &mut wgpu::CommandEncoder, begin, end| {
        let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: begin,
            end_of_pass_write_index: end,
        });
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        step.dispatch(&mut pass);
    };
    // Only passes take times: a copy stands between two that are empty.
    if let Step::Copy { .. } = step {
        pass(&mut encoder, Some(0), None);
        step.copy(&mut encoder);
        pass(&mut encoder, None, Some(1));
    } else {
        pass(&mut encoder, Some(0), Some(1));
    }
    encoder.resolve_query_set(&queries, 0..2, &stamps, 0);
    (stamps, encoder.finish())
}

/// A download on its way.
struct Arrival {
    queue: Arc<Queue>,
    ticket: Ticket,
    staging: wgpu::Buffer,
    mapped: Receiver<Result<(), BufferAsyncError>>,
    result: Option<Result<(), BufferAsyncError>>,
}

impl Arrival {
    fn error(&self, e: impl std::fmt::Display) -> Error {
        Error::backend(&self.queue.context.selector, format!("reading a download: {e}"))
    }
}

impl TransferState for Arrival {
    fn poll(&mut self) -> Result<bool> {
        if self.result.is_none() && self.queue.wait(self.ticket, false)? {
            match self.mapped.try_recv() {
                Ok(result) => self.result = Some(result),
                Err(TryRecvError::Empty) => {}
                Err(e) => return Err(self.error(e)),
            }
        }
        Ok(self.result.is_some())
    }

    fn wait(mut self: Box<Self>) -> Result<Vec<u8>> {
        self.queue.wait(self.ticket, true)?;
        // Whoever found the submission done calls back, maybe another thread and only now.
        let result = match self.result.take() {
            Some(result) => result,
            None => self.mapped.recv().map_err(|e| self.error(e))?,
        };
        result.map_err(|e| self.error(e))?;
        let bytes = self.staging.get_mapped_range(..).map_err(|e| self.error(e))?;
        Ok(bytes.to_vec())
    }
}
