//! Recordings: launches made ready once, and command lists prepared for the memory that they were last
//! bound to.

use super::commands::{Bound, Commands, Ready};
use super::{Engine, Failed};
use crate::{Command, Driver};
use halite_hal::{Buffer, Error, Op, Recording, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Prepared lists that a recording keeps: one, and another for callers that alternate.
const KEPT: usize = 2;

/// What an engine keeps with a recording.
pub(crate) struct Recorded<D: Driver> {
    launches: Vec<Ready<D>>,
    scratch: Option<Buffer>,
    /// Most recent last.
    prepared: Mutex<Vec<(Key, Arc<D::Prepared>)>>,
    /// The engine that made it.
    owner: Arc<Failed>,
}

/// Where each bound slot begins: number of the memory, and byte.
type Key = Vec<Option<(usize, u64)>>;

impl<D: Driver> Engine<D> {
    pub(crate) fn recorded(&self, ops: &[Op]) -> Result<Recorded<D>> {
        for op in ops {
            self.check_packing(op)?;
        }
        let (launches, bytes) = self.ready(ops)?;
        let scratch = self.scratch(bytes)?;
        Ok(Recorded { launches, scratch, prepared: Mutex::default(), owner: self.failed.clone() })
    }

    /// Runs the recording with its slots bound, or says that it must be submitted op by op: it was made by
    /// another device, or memory is bound twice, so that what was checked of its slots says nothing.
    pub(crate) fn replay_recorded(&self, recording: &Recording, bound: &[Option<Buffer>]) -> Result<bool> {
        let Some(recorded) = self.usable(recording, bound) else { return Ok(false) };
        let locate = |b: &Option<Buffer>| {
            let Some(b) = b else { return Ok(None) };
            let part = &self.pool.memory(b)?.parts[0];
            Ok(Some((Arc::as_ptr(&part.memory).addr(), part.base)))
        };
        let key = bound.iter().map(locate).collect::<Result<Key>>()?;
        let mut prepared = recorded.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let list = match prepared.iter().position(|(k, _)| *k == key) {
            Some(i) => {
                prepared[i..].rotate_left(1);
                prepared[prepared.len() - 1].1.clone()
            }
            None => {
                let commands = self.commands_of(&recorded, bound)?;
                let list = Arc::new(self.driver.prepare(&commands.list)?);
                if prepared.len() == KEPT {
                    prepared.remove(0);
                }
                prepared.push((key, list.clone()));
                list
            }
        };
        self.driver.run(&list)?;
        Ok(true)
    }

    /// What was kept with the recording, if it can be run with this memory.
    fn usable(&self, recording: &Recording, bound: &[Option<Buffer>]) -> Option<Arc<Recorded<D>>> {
        let recorded = recording.backend.clone()?.downcast::<Recorded<D>>().ok()?;
        (Arc::ptr_eq(&recorded.owner, &self.failed) && recording.binds_apart(bound)).then_some(recorded)
    }

    fn commands_of(&self, recorded: &Recorded<D>, bound: &[Option<Buffer>]) -> Result<Commands<'_, D>> {
        let mut commands = Commands::new(&self.pool);
        for r in &recorded.launches {
            commands.push(r, &Bound { slots: bound, scratch: recorded.scratch.as_ref() })?;
        }
        Ok(commands)
    }

    /// Runs the recording's commands one by one: label and seconds of each.
    pub(crate) fn time_recorded(
        &self,
        recording: &Recording,
        bound: &[Option<Buffer>],
    ) -> Result<Vec<(String, f64)>> {
        let recorded = self.usable(recording, bound).ok_or_else(|| {
            let message = "only a recording of this device whose slots share no memory can be timed";
            Error::backend(&self.driver.info().selector, message)
        })?;
        let mut list = self.commands_of(&recorded, bound)?.list;
        // Each command is waited for anyway.
        list.retain(|c| !matches!(c, Command::Barrier));
        let label = |c: &Command<D>| match c {
            Command::Dispatch(d) => d.label.to_string(),
            _ => "copy".into(),
        };
        let seconds = self.failed.keep(self.driver.time(&list))?;
        Ok(list.iter().map(label).zip(seconds).collect())
    }
}
