//! An engine inside another program: memory and kernels that are the program's own.

use super::{Engine, pool};
use crate::{Command, Dispatch, Driver, Kernel, Region};
use halite_hal::{Buffer, Error, Result};
use std::fmt;
use std::sync::Arc;

/// A kernel of the program's own, compiled by [`Engine::compile`].
pub struct HostKernel<D: Driver> {
    program: Arc<D::Program>,
    kernel: Kernel,
    /// Whose it is.
    driver: Arc<D>,
}

impl<D: Driver> fmt::Debug for HostKernel<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKernel({})", self.kernel.name)
    }
}

impl<D: Driver> Engine<D> {
    /// Memory that the program made, as a buffer of this device; dropped with the last clone.
    ///
    /// # Errors
    /// When `bytes` is no multiple of 16: kernels read whole vectors.
    ///
    /// # Safety
    /// The memory has at least `bytes` bytes.
    pub unsafe fn import(&self, memory: D::Memory, bytes: u64) -> Result<Buffer> {
        if !bytes.is_multiple_of(16) {
            let message = format!("imported memory must have a multiple of 16 bytes, not {bytes}");
            return Err(Error::backend(&self.driver.info().selector, message));
        }
        Ok(self.pool.import(memory, bytes))
    }

    /// The driver's memory behind a buffer: one region, or several for one beyond the largest buffer. Small
    /// buffers share memory with others: their region begins at its `offset`. What was submitted is done
    /// with it after [`synchronize`](halite_hal::Device::synchronize).
    ///
    /// # Errors
    /// When the buffer belongs to another device.
    pub fn export(&self, buffer: &Buffer) -> Result<Vec<Region<D>>> {
        let memory = self.pool.memory(buffer)?;
        let ends = memory.parts.iter().skip(1).map(|p| p.start).chain([buffer.bytes()]);
        let region = |(p, end): (&pool::Part<D>, u64)| Region {
            memory: p.memory.clone(),
            offset: p.base,
            bytes: end - p.start,
        };
        Ok(memory.parts.iter().zip(ends).map(region).collect())
    }

    /// Compiles WGSL of the program's own, for [`dispatch`](Engine::dispatch). Its form is that of
    /// [`Kernel::from_wgsl`].
    ///
    /// # Errors
    /// With the kernel's name and the place: when it isn't WGSL, has another form, or needs larger workgroups
    /// than the device has; when the driver's compiler refuses it.
    ///
    /// # Safety
    /// Nothing checks bounds on the device: for whatever it is dispatched with, the kernel ends, and touches
    /// nothing outside its bindings.
    pub unsafe fn compile(&self, name: &str, wgsl: &str) -> Result<HostKernel<D>> {
        let kernel = Kernel::from_wgsl(name, wgsl)?;
        let size = kernel.workgroup.iter().map(|&n| u64::from(n)).product();
        let maximum = self.driver.info().max_workgroup_size.into();
        if size > maximum {
            return Err(self.limit(format!("invocations of a workgroup of kernel {name}"), size, maximum));
        }
        let program = Arc::new(self.driver.compile(&kernel)?);
        Ok(HostKernel { program, kernel, driver: self.driver.clone() })
    }

    /// Runs a compiled kernel once, after what was submitted before: `params` are the words of its parameter
    /// block, `bindings` the memory of its bindings 1, 2, … as `(buffer, first byte, bytes)`, `groups` the
    /// workgroups along each axis. No binding that is written overlaps another.
    ///
    /// # Errors
    /// When there are more or fewer parameters or bindings than the kernel has; when a binding is outside its
    /// buffer, not aligned to the device's offset alignment, not of whole words, or in several pieces of
    /// memory; when the kernel or a buffer belongs to another device; when the grid is too large.
    pub fn dispatch(
        &self,
        kernel: &HostKernel<D>,
        params: &[u32],
        bindings: &[(&Buffer, u64, u64)],
        groups: [u32; 3],
    ) -> Result<()> {
        self.failed.check()?;
        let info = self.driver.info();
        let refuse = |message: String| Error::backend(&info.selector, message);
        let HostKernel { program, kernel, driver } = kernel;
        if !Arc::ptr_eq(driver, &self.driver) {
            return Err(refuse(format!("kernel {} was compiled for another device", kernel.name)));
        }
        if (params.len(), bindings.len()) != (kernel.params, kernel.bindings) {
            return Err(refuse(format!(
                "kernel {} has {} parameters and {} bindings; it was given {} and {}",
                kernel.name,
                kernel.params,
                kernel.bindings,
                params.len(),
                bindings.len()
            )));
        }
        let most = groups.into_iter().max().unwrap_or(0);
        if most > info.max_workgroups {
            let what = format!("workgroups along an axis of kernel {}", kernel.name);
            return Err(self.limit(what, most.into(), info.max_workgroups.into()));
        }
        let bindings =
            bindings.iter().map(|&(b, at, n)| self.binding(b, at, n)).collect::<Result<Vec<_>>>()?;
        if groups.contains(&0) {
            return Ok(());
        }
        let (program, params, label) = (program.clone(), params.to_vec(), kernel.name.as_str().into());
        let dispatch = Dispatch { program, params, bindings, groups, label };
        self.driver.submit(&[Command::Dispatch(dispatch)])?;
        Ok(())
    }

    /// A part of a buffer that a kernel is given as it is.
    fn binding(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Region<D>> {
        let info = self.driver.info();
        let memory = self.pool.memory(buffer)?;
        Error::check_range("binding", buffer, offset, bytes)?;
        let (part, end) = memory.part(offset);
        let start = part.base + offset - part.start;
        if !start.is_multiple_of(info.offset_alignment) || !bytes.is_multiple_of(4) || bytes == 0 {
            let message = format!(
                "a binding of {bytes} bytes at byte {offset}: the offset must be a multiple of {}, the size \
                 one of 4 and not 0",
                info.offset_alignment
            );
            return Err(Error::backend(&info.selector, message));
        }
        let maximum = info.max_binding_bytes.min(end.saturating_sub(offset));
        if bytes > maximum {
            return Err(self.limit("bytes of a binding".into(), bytes, maximum));
        }
        Ok(Region { memory: part.memory.clone(), offset: start, bytes })
    }

    fn limit(&self, what: String, requested: u64, maximum: u64) -> Error {
        Error::Limit { device: self.driver.info().selector.clone(), what, requested, maximum }
    }
}
