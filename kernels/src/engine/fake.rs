//! A driver for tests of the engine: memory of the host's, kernels that do nothing, and failures on demand.

use crate::{Command, Driver, Kernel, Ticket};
use halite_hal::{DeviceInfo, DeviceKind, Error, Readback, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// See the module.
#[derive(Debug)]
pub(crate) struct Fake {
    pub info: DeviceInfo,
    /// Bytes of each piece of memory that is alive, in the order in which they were made.
    live: Arc<Mutex<Vec<u64>>>,
    /// Bytes that there are.
    room: AtomicU64,
    last: AtomicU64,
    /// What every wait reports.
    pub fault: Mutex<Option<Error>>,
    /// Memory that commands in flight keep until they are waited for.
    in_flight: Mutex<Vec<Arc<Piece>>>,
    /// Kernels that were compiled, by name.
    pub compiled: Mutex<Vec<String>>,
    /// The kernel that the compiler refuses.
    pub refused: Mutex<Option<&'static str>>,
    /// The labels and parameters of what was dispatched.
    pub dispatched: Mutex<Vec<(String, Vec<u32>)>>,
}

/// A piece of memory.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: u64,
    live: Arc<Mutex<Vec<u64>>>,
}

impl Piece {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut live = self.live.lock().unwrap();
        let i = live.iter().position(|&b| b == self.bytes).unwrap();
        live.remove(i);
    }
}

impl Fake {
    pub(crate) fn new(room: u64, max_buffer_bytes: u64) -> Self {
        let mut info = DeviceInfo::new("fake", 0, "fake", DeviceKind::Software);
        info.memory_bytes = room;
        info.max_buffer_bytes = max_buffer_bytes;
        info.max_workgroup_size = 64;
        info.max_workgroups = 1000;
        Fake {
            info,
            live: Arc::default(),
            room: room.into(),
            last: AtomicU64::new(0),
            fault: Mutex::default(),
            in_flight: Mutex::default(),
            compiled: Mutex::default(),
            refused: Mutex::default(),
            dispatched: Mutex::default(),
        }
    }

    /// The pieces of memory that are alive.
    pub(crate) fn live(&self) -> Vec<u64> {
        self.lock().clone()
    }

    /// Someone else takes or gives back memory of the device.
    pub(crate) fn set_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.live.lock().unwrap()
    }

    fn next(&self) -> Ticket {
        Ticket(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Driver for Fake {
    type Memory = Piece;
    type Program = ();
    type Prepared = ();

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: u64) -> Result<Piece> {
        assert!(bytes > 0 && bytes <= self.info.max_buffer_bytes, "{bytes} bytes");
        let mut live = self.lock();
        let room = self.room.load(Ordering::Relaxed);
        let available = room.saturating_sub(live.iter().sum());
        if bytes > available {
            let device = self.info.selector.clone();
            return Err(Error::OutOfMemory { device, requested: bytes, available, limit: room });
        }
        live.push(bytes);
        Ok(Piece { bytes, live: self.live.clone() })
    }

    fn upload(&self, to: &Arc<Piece>, offset: u64, data: &[u8]) -> Result<Ticket> {
        assert!(offset + data.len() as u64 <= to.bytes);
        self.in_flight.lock().unwrap().push(to.clone());
        Ok(self.next())
    }

    fn download(&self, from: &Arc<Piece>, offset: u64, bytes: u64) -> Result<Readback> {
        assert!(offset + bytes <= from.bytes);
        self.wait(self.next(), true)?;
        Ok(Readback::ready(vec![0; bytes as usize]))
    }

    fn compile(&self, kernel: &Kernel) -> Result<()> {
        if self.refused.lock().unwrap().is_some_and(|name| name == kernel.name) {
            return Err(Error::backend(&self.info.selector, format!("kernel {}: refused", kernel.name)));
        }
        self.compiled.lock().unwrap().push(kernel.name.clone());
        Ok(())
    }

    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        for command in commands {
            if let Command::Dispatch(d) = command {
                self.dispatched.lock().unwrap().push((d.label.to_string(), d.params.clone()));
                self.in_flight.lock().unwrap().extend(d.bindings.iter().map(|r| r.memory.clone()));
            }
        }
        Ok(self.next())
    }

    fn prepare(&self, _: &[Command<Self>]) -> Result<()> {
        Ok(())
    }

    fn run(&self, _: &Arc<()>) -> Result<Ticket> {
        Ok(self.next())
    }

    fn last(&self) -> Ticket {
        Ticket(self.last.load(Ordering::Relaxed))
    }

    fn wait(&self, _: Ticket, _: bool) -> Result<bool> {
        match &*self.fault.lock().unwrap() {
            Some(e) => Err(e.clone()),
            None => {
                self.in_flight.lock().unwrap().clear();
                Ok(true)
            }
        }
    }
}
