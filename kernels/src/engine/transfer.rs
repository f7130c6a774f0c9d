//! Uploads, downloads and copies of any bytes, on drivers that only move whole words too.

use super::Engine;
use super::commands::Commands;
use crate::{Command, Driver, Region};
use halite_hal::{Buffer, DType, Op, Readback, Result, TensorRef, TransferState};

/// A download whose first bytes, and what follows its last, weren't asked for.
struct Part {
    inner: Readback,
    skip: usize,
    bytes: usize,
}

impl TransferState for Part {
    fn poll(&mut self) -> Result<bool> {
        self.inner.poll()
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        let mut all = self.inner.wait()?;
        all.truncate(self.skip + self.bytes);
        all.drain(..self.skip);
        Ok(all)
    }
}

/// Downloads that follow each other.
struct Several(Vec<Readback>);

impl TransferState for Several {
    fn poll(&mut self) -> Result<bool> {
        let mut all = true;
        for r in &mut self.0 {
            all &= r.poll()?;
        }
        Ok(all)
    }

    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for r in self.0 {
            bytes.extend(r.wait()?);
        }
        Ok(bytes)
    }
}

fn bytes_of(buffer: &Buffer, offset: u64, bytes: u64) -> TensorRef {
    TensorRef::new(buffer, DType::U8, &[bytes as usize]).with_offset(offset as usize)
}

impl<D: Driver> Engine<D> {
    /// Splits a range of a buffer at the ends of its parts: `(region, first byte from the start)`.
    fn pieces(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<(Region<D>, u64)>> {
        let memory = self.pool.memory(buffer)?;
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < bytes {
            let at = offset + done;
            let (part, end) = memory.part(at);
            let len = (end - at).min(bytes - done);
            let region =
                Region { memory: part.memory.clone(), offset: part.base + at - part.start, bytes: len };
            pieces.push((region, done));
            done += len;
        }
        Ok(pieces)
    }

    pub(crate) fn upload_bytes(&self, to: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let align = self.driver.traits().transfer_alignment;
        for (region, from) in self.pieces(to, offset, data.len() as u64)? {
            let piece = &data[from as usize..(from + region.bytes) as usize];
            // Whole words directly; what is left is copied on the device, beside bytes that stay.
            let direct = if region.offset.is_multiple_of(align) { region.bytes / align * align } else { 0 };
            if direct > 0 {
                self.driver.upload(&region.memory, region.offset, &piece[..direct as usize])?;
            }
            let rest = &piece[direct as usize..];
            if !rest.is_empty() {
                let mut words = rest.to_vec();
                words.resize(rest.len().next_multiple_of(align as usize), 0);
                let staged = self.pool.allocate(words.len() as u64, 0)?;
                self.upload_bytes(&staged, 0, &words)?;
                let n = rest.len() as u64;
                self.run(&[Op::copy(bytes_of(&staged, 0, n), bytes_of(to, offset + from + direct, n))])?;
            }
        }
        Ok(())
    }

    pub(crate) fn download_bytes(&self, from: &Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        let align = self.driver.traits().transfer_alignment;
        let mut parts = Vec::new();
        for (region, _) in self.pieces(from, offset, bytes)? {
            let start = region.offset / align * align;
            let end = (region.offset + region.bytes).next_multiple_of(align);
            let inner = self.driver.download(&region.memory, start, end - start)?;
            let skip = (region.offset - start) as usize;
            parts.push(match skip == 0 && end - start == region.bytes {
                true => inner,
                false => Readback::new(Part { inner, skip, bytes: region.bytes as usize }),
            });
        }
        Ok(match parts.len() {
            0 => Readback::ready(Vec::new()),
            1 => parts.remove(0),
            _ => Readback::new(Several(parts)),
        })
    }

    pub(crate) fn copy_bytes(&self, from: (&Buffer, u64), to: (&Buffer, u64), bytes: u64) -> Result<()> {
        let traits = self.driver.traits();
        let align = traits.transfer_alignment;
        let mut commands = Commands::new(&self.pool);
        for (source, start) in self.pieces(from.0, from.1, bytes)? {
            for (target, more) in self.pieces(to.0, to.1 + start, source.bytes)? {
                let source = Region {
                    memory: source.memory.clone(),
                    offset: source.offset + more,
                    bytes: target.bytes,
                };
                let whole =
                    [source.offset, target.offset, target.bytes].iter().all(|n| n.is_multiple_of(align));
                let apart = traits.shares_memory || !std::sync::Arc::ptr_eq(&source.memory, &target.memory);
                if whole && apart {
                    commands.list.push(Command::Copy { from: source, to: target });
                } else {
                    let at = start + more;
                    let n = target.bytes;
                    self.run(&[Op::copy(bytes_of(from.0, from.1 + at, n), bytes_of(to.0, to.1 + at, n))])?;
                }
            }
        }
        self.submit_commands(commands)
    }
}
