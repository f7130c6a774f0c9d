//! Shared memory of a block, watched for races and for reads before the first write.

use super::{Fault, FaultKind};

const NOBODY: u32 = u32::MAX;
const SEVERAL: u32 = u32::MAX - 1;

/// Who touched a byte last.
#[derive(Clone, Copy)]
struct Touch {
    writer: u32,
    /// Between which of the block's barriers, and of the warp's.
    written: (u32, u32),
    atomic: bool,
    reader: u32,
    read: (u32, u32),
    known: bool,
}

pub(super) struct Shared {
    bytes: Vec<u8>,
    touched: Vec<Touch>,
    /// Barriers that the block has passed.
    epoch: u32,
    pub dynamic: u64,
}

/// Who touches memory: the thread, and how many barriers its warp has passed.
#[derive(Clone, Copy)]
pub(super) struct Who {
    pub thread: u32,
    pub epoch: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Access {
    Read,
    Write,
    Atomic,
}

impl Shared {
    pub fn new(fixed: u32, dynamic: u32, checks: bool) -> Self {
        let at = if dynamic > 0 { fixed.next_multiple_of(16) } else { fixed };
        let len = (at + dynamic) as usize;
        let touch = Touch {
            writer: NOBODY,
            written: (0, 0),
            atomic: false,
            reader: NOBODY,
            read: (0, 0),
            known: false,
        };
        Self {
            bytes: vec![0xa5; len],
            touched: if checks { vec![touch; len] } else { Vec::new() },
            epoch: 0,
            dynamic: at.into(),
        }
    }

    pub fn barrier(&mut self) {
        self.epoch += 1;
    }

    /// The bytes, once it is certain that they may be touched.
    pub fn touch(&mut self, at: u64, bytes: u32, access: Access, who: Who) -> Result<&mut [u8], Fault> {
        let len = self.bytes.len();
        let end = at.checked_add(bytes.into()).filter(|&end| end <= len as u64);
        let Some(end) = end else {
            let what = format!("{bytes} bytes at {at} of {len} bytes of shared memory: out of bounds");
            return Err(Fault::new(FaultKind::IllegalAddress, what));
        };
        let range = at as usize..end as usize;
        if !self.touched.is_empty() {
            let epoch = self.epoch;
            for (i, touch) in self.touched[range.clone()].iter_mut().enumerate() {
                touch.check(access, who, epoch).map_err(|what| {
                    Fault::new(
                        FaultKind::LaunchFailure,
                        format!("byte {} of shared memory: {what}", at + i as u64),
                    )
                })?;
            }
        }
        Ok(&mut self.bytes[range])
    }
}

impl Touch {
    fn check(&mut self, access: Access, who: Who, epoch: u32) -> Result<(), String> {
        // Whether another thread touched it with no barrier since.
        let open = |other: u32, when: (u32, u32)| {
            let same_warp = other != SEVERAL && other / 32 == who.thread / 32;
            other != NOBODY && other != who.thread && when.0 == epoch && !(same_warp && when.1 < who.epoch)
        };
        let now = (epoch, who.epoch);
        if access != Access::Write && !self.known {
            return Err("read before anything was written there".into());
        }
        if open(self.writer, self.written) && !(access == Access::Atomic && self.atomic) {
            let what = if access == Access::Read { "reads" } else { "writes" };
            return Err(format!(
                "a race: it {what} what thread {} wrote with no barrier between",
                self.writer
            ));
        }
        if access == Access::Read {
            let several = self.read.0 == epoch && self.reader != NOBODY && self.reader != who.thread;
            self.reader = if several { SEVERAL } else { who.thread };
            self.read = now;
        } else {
            if open(self.reader, self.read) {
                return Err("a race: it writes what another thread read with no barrier between".into());
            }
            (self.writer, self.written, self.atomic) = (who.thread, now, access == Access::Atomic);
            self.known = true;
        }
        Ok(())
    }
}
