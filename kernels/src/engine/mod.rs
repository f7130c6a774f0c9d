//! Makes a [`Device`](halite_hal::Device) of a [`Driver`]: chooses and compiles kernels, places memory,
//! orders commands, and records.
//!
//! All streams of an engine share the driver's one in-order queue. So an event is a place in the queue, and
//! waiting for an event of the same device is nothing: what was submitted before has run before.

mod choice;
mod commands;
mod device;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fused_tests;
mod host;
mod pool;
mod programs;
mod record;
mod split;
#[cfg(test)]
mod tests;
mod transfer;

use crate::fusion::{Context, Fusion};
use crate::lowering::Lowered;
use crate::{Command, Driver, KernelSet, Lowering, Variant, sets};
use choice::{Chooser, Chosen};
use commands::{Bound, Commands, Ready};
use halite_hal::{
    Buffer, DeviceOptions, Error, Op, OpDesc, Packing, Result, Source, Support, TensorRef, compose,
};
pub use host::HostKernel;
use pool::Pool;
use programs::Programs;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A device made of a driver and kernels.
pub struct Engine<D: Driver> {
    driver: Arc<D>,
    pool: Arc<Pool<D>>,
    /// Those from outside come first.
    sets: RwLock<Vec<Arc<dyn KernelSet>>>,
    /// How many of the sets are this crate's.
    own_sets: usize,
    fusions: Vec<Box<dyn Fusion>>,
    programs: Programs<D>,
    streams: AtomicU32,
    failed: Arc<Failed>,
    chooser: Chooser,
}

/// The first asynchronous error, which every later wait reports.
#[derive(Debug, Default)]
pub(crate) struct Failed(Mutex<Option<Error>>);

impl Failed {
    fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e.clone()),
            None => Ok(()),
        }
    }

    /// Keeps the first error of a wait.
    fn keep<T>(&self, result: Result<T>) -> Result<T> {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (result, &*first) {
            (_, Some(e)) => Err(e.clone()),
            (Err(e), None) => {
                *first = Some(e.clone());
                Err(e)
            }
            (ok, None) => ok,
        }
    }
}

impl<D: Driver> fmt::Debug for Engine<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({:?})", self.driver)
    }
}

impl<D: Driver> Engine<D> {
    /// With the kernels of this crate.
    pub fn new(driver: D, options: &DeviceOptions) -> Result<Self> {
        let driver = Arc::new(driver);
        let chooser = Chooser::new(driver.info(), options);
        let sets = sets::all();
        Ok(Engine {
            pool: Arc::new(Pool::new(driver.clone(), options.memory_limit)),
            own_sets: sets.len(),
            sets: RwLock::new(sets),
            fusions: sets::fusions(),
            programs: Programs::new(driver.clone()),
            driver,
            streams: AtomicU32::new(1),
            failed: Arc::default(),
            chooser,
        })
    }

    /// The driver.
    pub fn driver(&self) -> &Arc<D> {
        &self.driver
    }

    /// Adds kernels; they are asked before those that are there already.
    pub fn register(&self, set: Arc<dyn KernelSet>) {
        self.sets.write().unwrap_or_else(PoisonError::into_inner).insert(0, set);
        self.chooser.forget();
    }

    /// Makes the engine use the variant of this name wherever an op has it: for tests and measurements.
    pub fn force_variant(&mut self, name: Option<String>) {
        self.chooser.force(name);
    }

    /// The variants that can do an op here, the one that would be used first.
    pub fn variants(&self, desc: &OpDesc) -> Vec<Variant> {
        self.set(desc).map(|(_, v)| v).unwrap_or_default()
    }

    fn check(&self, op: &Op) -> Result<()> {
        op.check(|_| None)?;
        self.check_packing(op)
    }

    fn check_packing(&self, op: &Op) -> Result<()> {
        match op.operands().find(|t| t.packing != Packing::Plain) {
            None => Ok(()),
            Some(t) => Err(Error::Unsupported {
                device: self.driver.info().selector.clone(),
                op: op.desc().to_string(),
                reason: format!("{:?} is a layout of another device", t.packing),
            }),
        }
    }

    fn support(&self, desc: &OpDesc) -> Support
    where
        Self: halite_hal::Device,
    {
        if let Err(e) = desc.check() {
            return Support::Unsupported(e.to_string());
        }
        if desc.inputs.iter().chain(&desc.outputs).any(|l| l.packing != Packing::Plain) {
            return Support::Unsupported("only the plain packing is known".into());
        }
        if self.has(desc) { Support::Native } else { compose::support(self, desc) }
    }

    /// The launches of native ops, compiled, and the bytes of scratch memory that they share.
    fn ready(&self, ops: &[Op]) -> Result<(Vec<Ready<D>>, u64)> {
        let mut ready = Vec::with_capacity(ops.len());
        let mut scratch_bytes = 0;
        let fits = |t: &TensorRef| self.fits(t);
        let mut rest = ops;
        while let Some(op) = rest.first() {
            if let Some((lowered, size)) = self.lower_fused(rest)? {
                let (now, later) = rest.split_at(size);
                rest = later;
                let names: Vec<_> = now.iter().map(|op| op.kind.name()).collect();
                self.finish(lowered, (&names.join("+"), ""), &mut ready, &mut scratch_bytes)?;
                continue;
            }
            rest = &rest[1..];
            // What can't be cut fails where its operands are bound, with the size and the limit.
            let parts = split::split(op, &fits).unwrap_or_else(|| vec![op.clone()]);
            for op in parts.iter().filter(|op| op.outputs.iter().any(|t| t.elems() > 0)) {
                let (lowered, variant) = self.lower(op)?;
                let label = (op.kind.name(), &*variant.0);
                self.finish(lowered, label, &mut ready, &mut scratch_bytes)?;
            }
        }
        Ok((ready, scratch_bytes))
    }

    /// An op in its variant; or, where a kernel of that may loop for longer than the device lets it, in the next
    /// one that doesn't.
    fn lower(&self, op: &Op) -> Result<(Lowered, Variant)> {
        let desc = op.desc();
        let device = || self.driver.info().selector.clone();
        let Some(Chosen { set, variant, .. }) = self.chosen(&desc) else {
            return Err(Error::Unsupported {
                device: device(),
                op: desc.to_string(),
                reason: "no kernel".into(),
            });
        };
        let lower = |variant: &Variant| {
            let mut lowering = Lowering::new(self.driver.info());
            set.lower(op, variant, &mut lowering).map(|()| lowering.finish())
        };
        let most = self.driver.traits().max_loops;
        let lowered = lower(&variant)?;
        let Some(launch) = lowered.beyond(most) else { return Ok((lowered, variant)) };
        let others = if self.chooser.is_forced() { Vec::new() } else { self.variants(&desc) };
        for other in others.into_iter().filter(|other| *other != variant) {
            let lowered = lower(&other)?;
            if lowered.beyond(most).is_none() {
                self.chooser.settle(&desc, &other);
                return Ok((lowered, other));
            }
        }
        let what = format!("iterations of loops in an invocation of {} ({desc})", launch.source.name());
        Err(Error::Limit { device: device(), what, requested: launch.loops, maximum: most })
    }

    /// The leading ops at once, and how many those are, if they can be done so.
    fn lower_fused(&self, ops: &[Op]) -> Result<Option<(Lowered, usize)>> {
        let Some((fusion, size)) = self.fused(ops) else { return Ok(None) };
        let mut lowering = Lowering::new(self.driver.info());
        fusion.lower(&ops[..size], &self.context(&|op| self.own_variant(op)), &mut lowering)?;
        let lowered = lowering.finish();
        let fits = lowered.beyond(self.driver.traits().max_loops).is_none();
        Ok(fits.then_some((lowered, size)))
    }

    /// Compiles what was lowered, and places its scratch memory. A label is of the op, and its variant.
    fn finish(
        &self,
        lowered: Lowered,
        (op, variant): (&str, &str),
        ready: &mut Vec<Ready<D>>,
        scratch_bytes: &mut u64,
    ) -> Result<()> {
        let granule = self.pool.granule();
        let mut end = 0;
        let place = |bytes: &u64| {
            let at = end;
            end += bytes.next_multiple_of(granule);
            at
        };
        let scratch: Arc<[u64]> = lowered.scratch.iter().map(place).collect();
        *scratch_bytes = (*scratch_bytes).max(end);
        for launch in lowered.launches {
            let label = format!("{op}/{} {variant}", launch.source.name());
            let program = self.programs.get(&launch.source)?;
            ready.push(Ready { launch, program, label: label.trim_end().into(), scratch: scratch.clone() });
        }
        Ok(())
    }

    /// How the leading ops are done at once, and how many, if they are.
    fn fused(&self, ops: &[Op]) -> Option<(&dyn Fusion, usize)> {
        if ops.len() < 2 {
            return None;
        }
        let variant = |op: &Op| self.own_variant(op);
        let context = self.context(&variant);
        self.fusions.iter().find_map(|fusion| {
            let size = fusion.matches(ops, &context)?;
            let mut operands = ops[..size].iter().flat_map(Op::operands);
            operands.all(|t| t.elems() > 0 && self.fits(t)).then_some((&**fusion, size))
        })
    }

    fn context<'a>(&'a self, variant: &'a dyn Fn(&Op) -> Option<Variant>) -> Context<'a> {
        Context { info: self.driver.info(), variant }
    }

    /// The variant that an op gets, if a kernel of this crate does it.
    fn own_variant(&self, op: &Op) -> Option<Variant> {
        self.chosen(&op.desc()).filter(|chosen| chosen.own).map(|chosen| chosen.variant)
    }

    /// Whether a view can be bound as a whole, wherever its memory begins.
    fn fits(&self, t: &TensorRef) -> bool {
        let info = self.driver.info();
        let Some((start, end)) = t.byte_range() else { return false };
        let in_one = match &t.source {
            Source::Buffer(b) => {
                self.pool.memory(b).map_or(true, |m| t.elems() == 0 || end <= m.part(start).1)
            }
            _ => end <= info.max_buffer_bytes,
        };
        in_one && end - start + info.offset_alignment + 16 <= info.max_binding_bytes.min(1 << 32)
    }

    fn scratch(&self, bytes: u64) -> Result<Option<Buffer>> {
        if bytes == 0 { Ok(None) } else { self.pool.allocate(bytes, 0).map(Some) }
    }

    /// The time that each op takes on its own, in seconds: the sum of its kernels' times.
    fn time_each(&self, ops: &[Op]) -> Result<Vec<f64>>
    where
        Self: halite_hal::Device,
    {
        self.failed.check()?;
        let time_one = |op: &Op| {
            self.check(op)?;
            let one = std::slice::from_ref(op);
            let lowered = compose::lower_ops(self, one)?;
            let (mut commands, _scratch) = self.commands(lowered.as_deref().unwrap_or(one))?;
            // Each runs alone.
            commands.list.retain(|c| !matches!(c, Command::Barrier));
            Ok(self.failed.keep(self.driver.time(&commands.list))?.iter().sum())
        };
        ops.iter().map(time_one).collect()
    }

    /// The commands of native ops on buffers, and their scratch memory: it must live until they are submitted,
    /// since others are given what is freed.
    fn commands(&self, ops: &[Op]) -> Result<(Commands<'_, D>, Option<Buffer>)> {
        let (ready, bytes) = self.ready(ops)?;
        let scratch = self.scratch(bytes)?;
        let mut commands = Commands::new(&self.pool);
        for r in &ready {
            commands.push(r, &Bound { slots: &[], scratch: scratch.as_ref() })?;
        }
        Ok((commands, scratch))
    }

    /// Runs native ops on buffers.
    fn run(&self, ops: &[Op]) -> Result<()> {
        let (commands, _scratch) = self.commands(ops)?;
        self.submit_commands(commands)
    }

    fn submit_commands(&self, commands: Commands<'_, D>) -> Result<()> {
        if !commands.list.is_empty() {
            self.driver.submit(&commands.list)?;
        }
        Ok(())
    }
}
