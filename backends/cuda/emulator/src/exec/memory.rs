//! Loads, stores and atomic operations of a warp.

use super::block::Block;
use super::file::lanes;
use super::shared::Who;
use super::warp::Warp;
use super::{FaultKind, Trouble};
use crate::ptx::op::{Access, Address, Atomic, LOCAL_BASE, Order, PARAM_BASE, SHARED_BASE, Space, WINDOW};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// Where the lanes' accesses are on the host, and those in shared memory, with their offsets.
pub(super) struct Places {
    pub host: [*mut u8; 32],
    pub shared: u32,
    pub offsets: [u64; 32],
}

/// Reads a value of 1, 2, 4 or 8 bytes.
///
/// # Safety
///
/// The address is that of as many bytes, a multiple of them.
#[inline(always)]
unsafe fn read(from: *mut u8, width: u32) -> u64 {
    // SAFETY: as the caller promises. Other threads of the host may write there, so that accesses are atomic.
    unsafe {
        match width {
            1 => u64::from(AtomicU8::from_ptr(from).load(Relaxed)),
            2 => u64::from(AtomicU16::from_ptr(from.cast()).load(Relaxed)),
            4 => u64::from(AtomicU32::from_ptr(from.cast()).load(Relaxed)),
            _ => AtomicU64::from_ptr(from.cast()).load(Relaxed),
        }
    }
}

/// Writes a value of 1, 2, 4 or 8 bytes.
///
/// # Safety
///
/// The address is that of as many bytes, a multiple of them.
#[inline(always)]
unsafe fn write(to: *mut u8, width: u32, value: u64) {
    // SAFETY: as in `read`.
    unsafe {
        match width {
            1 => AtomicU8::from_ptr(to).store(value as u8, Relaxed),
            2 => AtomicU16::from_ptr(to.cast()).store(value as u16, Relaxed),
            4 => AtomicU32::from_ptr(to.cast()).store(value as u32, Relaxed),
            _ => AtomicU64::from_ptr(to.cast()).store(value, Relaxed),
        }
    }
}

impl Warp {
    /// The lanes' addresses, in their space.
    fn addresses(&self, at: &Address) -> [u64; 32] {
        if at.wide {
            self.file.row::<u64>(at.base).map(|a| a.wrapping_add_signed(at.offset))
        } else {
            self.file.row::<u32>(at.base).map(|a| u64::from(a.wrapping_add(at.offset as u32)))
        }
    }

    /// Where the accesses of these lanes are, if all are to memory that is there.
    pub(super) fn places(
        &mut self,
        at: &Address,
        bytes: u64,
        active: u32,
        write: bool,
        block: &mut Block<'_>,
    ) -> Result<Places, Trouble> {
        let addresses = self.addresses(at);
        let mut places = Places { host: [std::ptr::null_mut(); 32], shared: 0, offsets: [0; 32] };
        for l in lanes(active) {
            if !addresses[l].is_multiple_of(bytes) {
                let what = format!("{bytes} bytes at {:#x}, which isn't a multiple of it", addresses[l]);
                return Err(Trouble::new(FaultKind::MisalignedAddress, l, what));
            }
        }
        if at.space == Space::Global {
            self.global(&addresses, bytes, active, write, block, &mut places)?;
            return Ok(places);
        }
        let mut global = 0;
        for l in lanes(active) {
            let a = addresses[l];
            let (space, offset) = match at.space {
                Space::Generic if a.wrapping_sub(SHARED_BASE) < WINDOW => (Space::Shared, a - SHARED_BASE),
                Space::Generic if a.wrapping_sub(LOCAL_BASE) < WINDOW => (Space::Local, a - LOCAL_BASE),
                Space::Generic if a.wrapping_sub(PARAM_BASE) < WINDOW => (Space::Param, a - PARAM_BASE),
                space => (space, a),
            };
            let found = match space {
                Space::Global | Space::Generic => {
                    global |= 1 << l;
                    continue;
                }
                Space::Shared => {
                    places.shared |= 1 << l;
                    places.offsets[l] = offset;
                    block.shared.resolve(offset, bytes)
                }
                Space::Local => self.local_at(l, offset, bytes, block),
                Space::Param if write => Err("a store to the kernel's parameters".into()),
                Space::Param => parameter_at(offset, bytes, block),
            };
            places.host[l] = found.map_err(|what| Trouble::new(FaultKind::IllegalAddress, l, what))?;
        }
        if global != 0 {
            self.global(&addresses, bytes, global, write, block, &mut places)?;
        }
        Ok(places)
    }

    /// Places in global memory: in one allocation, if they are.
    fn global(
        &self,
        addresses: &[u64; 32],
        bytes: u64,
        active: u32,
        write: bool,
        block: &Block<'_>,
        places: &mut Places,
    ) -> Result<(), Trouble> {
        let (mut least, mut most) = (u64::MAX, 0);
        for l in lanes(active) {
            least = least.min(addresses[l]);
            most = most.max(addresses[l]);
        }
        let memory = block.launch.memory;
        let size = (most - least).saturating_add(bytes);
        // Parts of what is accessed are as well aligned on the host as on the device.
        let aligned = |host: *mut u8, address: u64| (host as u64 ^ address) & (bytes - 1) & 7 == 0;
        if let Ok(host) = memory.resolve(least, size, write)
            && aligned(host, least)
        {
            for l in lanes(active) {
                places.host[l] = host.wrapping_add((addresses[l] - least) as usize);
            }
            return Ok(());
        }
        for l in lanes(active) {
            let found = memory.resolve(addresses[l], bytes, write);
            let kind = if write { "a write of" } else { "a read of" };
            places.host[l] = found.map_err(|what| {
                let what = format!("{kind} {bytes} bytes at {:#x}: {what}", addresses[l]);
                Trouble::new(FaultKind::IllegalAddress, l, what)
            })?;
            if !aligned(places.host[l], addresses[l]) {
                let what = format!(
                    "{:#x} is at {:?} on the host, which is aligned less",
                    addresses[l], places.host[l]
                );
                return Err(Trouble::new(FaultKind::IllegalAddress, l, what));
            }
        }
        Ok(())
    }

    /// The first `bytes` bytes in global memory of what a lane accesses, which is a multiple of `align`.
    pub(super) fn global_at(
        &self,
        at: &Address,
        align: u64,
        bytes: u64,
        lane: usize,
        block: &Block<'_>,
    ) -> Result<*mut u8, Trouble> {
        let address = self.addresses(at)[lane];
        if !address.is_multiple_of(align) {
            let what = format!("{align} bytes at {address:#x}, which isn't a multiple of it");
            return Err(Trouble::new(FaultKind::MisalignedAddress, lane, what));
        }
        block.launch.memory.resolve(address, bytes, false).map_err(|what| {
            let what = format!("a read of {bytes} bytes at {address:#x}: {what}");
            Trouble::new(FaultKind::IllegalAddress, lane, what)
        })
    }

    fn local_at(
        &mut self,
        lane: usize,
        offset: u64,
        bytes: u64,
        block: &Block<'_>,
    ) -> Result<*mut u8, String> {
        let size = u64::from(block.launch.kernel.local_bytes);
        if offset.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(format!("{bytes} bytes at {offset:#x} of {size:#x} bytes of local memory"));
        }
        let stride = self.local_stride * 16;
        let data: &mut [u8] = bytemuck::cast_slice_mut(&mut self.local);
        Ok(data[lane * stride + offset as usize..].as_mut_ptr())
    }

    /// A lane, as shared memory wants to know it.
    pub(super) fn who(&self, lane: usize, atomic: bool) -> Who {
        Who { warp: self.index, lane, warp_epoch: self.epoch, atomic }
    }

    pub(super) fn load(
        &mut self,
        access: &Access,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        let width = access.width;
        let bytes = u64::from(width) * access.elements.len() as u64;
        let places = self.places(&access.at, bytes, active, false, block)?;
        if places.shared != 0 && block.shared.checks() {
            for l in lanes(places.shared) {
                block.shared.read(places.offsets[l], bytes, self.who(l, access.order != Order::Weak))?;
            }
        }
        for (k, element) in access.elements.iter().enumerate() {
            let &Some((reg, wide)) = element else { continue };
            let at = k * width as usize;
            // SAFETY: `places` found as many bytes for each active lane, at a multiple of all of them.
            let value = |l: usize| unsafe { read(places.host[l].wrapping_add(at), width) };
            let shift = 64 - 8 * width;
            if wide {
                let row = self.file.row_mut::<u64>(reg);
                for l in lanes(active) {
                    let v = value(l);
                    row[l] = if access.signed { ((v << shift) as i64 >> shift) as u64 } else { v };
                }
            } else if width == 4 {
                let row = self.file.row_mut::<u32>(reg);
                lanes(active).for_each(|l| row[l] = value(l) as u32);
            } else {
                let row = self.file.row_mut::<u32>(reg);
                for l in lanes(active) {
                    let v = value(l);
                    row[l] = if access.signed { ((v << shift) as i64 >> shift) as u32 } else { v as u32 };
                }
            }
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        access: &Access,
        active: u32,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        let width = access.width;
        let bytes = u64::from(width) * access.elements.len() as u64;
        let places = self.places(&access.at, bytes, active, true, block)?;
        if places.shared != 0 && block.shared.checks() {
            return self.checked_store(access, active, &places, block);
        }
        for (k, element) in access.elements.iter().enumerate() {
            let &Some((reg, wide)) = element else { continue };
            let at = k * width as usize;
            for l in lanes(active) {
                // SAFETY: `places` found as many bytes for each active lane, at a multiple of all of them.
                unsafe { write(places.host[l].wrapping_add(at), width, self.file.any(reg, wide, l)) };
            }
        }
        Ok(())
    }

    /// Stores lane by lane, so that lanes which write to one place are seen.
    fn checked_store(
        &mut self,
        access: &Access,
        active: u32,
        places: &Places,
        block: &mut Block<'_>,
    ) -> Result<(), Trouble> {
        let width = access.width;
        for l in lanes(active) {
            for (k, element) in access.elements.iter().enumerate() {
                let &Some((reg, wide)) = element else { continue };
                let at = k * width as usize;
                let value = self.file.any(reg, wide, l);
                if places.shared >> l & 1 == 1 {
                    let bytes = value.to_le_bytes();
                    let who = self.who(l, access.order != Order::Weak);
                    block.shared.write(places.offsets[l] + at as u64, &bytes[..width as usize], who)?;
                }
                // SAFETY: `places` found as many bytes for each active lane, at a multiple of all of them.
                unsafe { write(places.host[l].wrapping_add(at), width, value) };
            }
        }
        Ok(())
    }

    pub(super) fn atomic(&mut self, op: &Atomic, active: u32, block: &mut Block<'_>) -> Result<(), Trouble> {
        let width = op.width;
        let places = self.places(&op.at, u64::from(width), active, true, block)?;
        let wide = width == 8;
        for l in lanes(active) {
            let (b, c) = (self.operand(op.b, width, l), self.operand(op.c, width, l));
            let who = self.who(l, true);
            if op.reads && places.shared >> l & 1 == 1 {
                block.shared.read(places.offsets[l], u64::from(width), who)?;
            }
            let f = |old: u64| Some((op.update)(old, b, c));
            let old = places.host[l];
            // SAFETY: `places` found as many bytes for each active lane, at a multiple of them.
            let old = unsafe {
                match width {
                    2 => AtomicU16::from_ptr(old.cast())
                        .fetch_update(SeqCst, SeqCst, |v| f(u64::from(v)).map(|v| v as u16))
                        .map_or_else(u64::from, u64::from),
                    4 => AtomicU32::from_ptr(old.cast())
                        .fetch_update(SeqCst, SeqCst, |v| f(u64::from(v)).map(|v| v as u32))
                        .map_or_else(u64::from, u64::from),
                    _ => {
                        AtomicU64::from_ptr(old.cast()).fetch_update(SeqCst, SeqCst, f).unwrap_or_else(|v| v)
                    }
                }
            };
            if places.shared >> l & 1 == 1 {
                // What was written is there already, and doesn't race with other atomic operations.
                let new = (op.update)(old, b, c).to_le_bytes();
                block.shared.write(places.offsets[l], &new[..width as usize], who)?;
            }
            match op.to {
                Some(d) if wide => self.file.row_mut::<u64>(d)[l] = old,
                Some(d) => self.file.row_mut::<u32>(d)[l] = old as u32,
                None => {}
            }
        }
        Ok(())
    }

    fn operand(&self, reg: u32, width: u32, lane: usize) -> u64 {
        let value = self.file.any(reg, width == 8, lane);
        if width == 2 { value & 0xFFFF } else { value }
    }
}

/// A parameter of the kernel, to read.
fn parameter_at(offset: u64, bytes: u64, block: &Block<'_>) -> Result<*mut u8, String> {
    let size = block.launch.kernel.param_bytes as u64;
    if offset.checked_add(bytes).is_none_or(|end| end > size) {
        return Err(format!("{bytes} bytes at {offset:#x} of {size:#x} bytes of parameters"));
    }
    let params: &[u8] = bytemuck::cast_slice(&block.params);
    Ok(params[offset as usize..].as_ptr().cast_mut())
}
