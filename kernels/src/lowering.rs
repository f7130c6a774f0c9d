//! From an op to kernel launches: what kernel sets build.

use crate::source::{OperandSpec, Store};
use crate::{Access, Language, Literal, Source, Template};
use halite_hal::{DType, DeviceInfo, Error, OpDesc, Result, TensorRef};
use std::collections::BTreeMap;

/// Slots from here on are scratch memory of the op that is being lowered.
const SCRATCH: u32 = 1 << 31;

/// The number of a piece of scratch memory.
pub(crate) fn scratch_of(slot: u32) -> Option<usize> {
    slot.checked_sub(SCRATCH).map(|n| n as usize)
}

/// A kernel with its operands and grid.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub source: Source,
    /// The operands, in the order of the source's.
    pub(crate) operands: Vec<TensorRef>,
    /// Values of the parameters that the lowering gives.
    pub(crate) values: Vec<u32>,
    /// Workgroups along each axis.
    pub(crate) groups: [u32; 3],
    /// See [`LaunchBuilder::loops`].
    pub(crate) loops: u64,
}

/// Collects the launches of an op.
#[derive(Debug)]
pub struct Lowering<'a> {
    /// The device, restricted by its profile.
    pub info: &'a DeviceInfo,
    launches: Vec<Launch>,
    scratch: Vec<u64>,
}

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Lowered {
    pub launches: Vec<Launch>,
    /// Bytes of each piece of scratch memory.
    pub scratch: Vec<u64>,
}

impl Lowered {
    /// The launch whose invocations may go through most iterations of loops, where those are more than `most`.
    pub fn beyond(&self, most: u64) -> Option<&Launch> {
        self.launches.iter().filter(|l| l.loops > most).max_by_key(|l| l.loops)
    }
}

impl<'a> Lowering<'a> {
    /// For a device.
    pub(crate) fn new(info: &'a DeviceInfo) -> Self {
        Lowering { info, launches: Vec::new(), scratch: Vec::new() }
    }

    pub(crate) fn finish(self) -> Lowered {
        Lowered { launches: self.launches, scratch: self.scratch }
    }

    /// Contiguous memory that lives from one launch of this op to the next ones; its content is undefined.
    ///
    /// # Errors
    /// When its size overflows.
    pub fn scratch(&mut self, dtype: DType, shape: &[usize]) -> Result<TensorRef> {
        let slot = SCRATCH + self.scratch.len() as u32;
        let bytes =
            dtype.bytes(shape).ok_or_else(|| self.limit("bytes of scratch memory", u64::MAX, u64::MAX))?;
        self.scratch.push(bytes.next_multiple_of(4).max(4));
        Ok(TensorRef::slot(slot, dtype, shape))
    }

    /// Whether elements of `t` can be written as [`Access::Pairs`] or [`Access::Single`] says. Otherwise
    /// (narrow elements that share words, on a device without atomics) write to scratch memory and copy.
    pub fn can_write(&self, t: &TensorRef, access: Access) -> bool {
        self.info.atomics || store_of(t, access) != Store::Atomic
    }

    /// Starts a launch.
    pub fn launch(&mut self, template: Template) -> LaunchBuilder<'_, 'a> {
        LaunchBuilder {
            lowering: self,
            template,
            literals: BTreeMap::new(),
            operands: Vec::new(),
            params: Vec::new(),
            values: Vec::new(),
            workgroup: [1; 3],
            subgroup: None,
            dynamic_bytes: 0,
            loops: 0,
        }
    }

    fn limit(&self, what: &str, requested: u64, maximum: u64) -> Error {
        Error::Limit { device: self.info.selector.clone(), what: what.into(), requested, maximum }
    }

    /// An error for an op that a set can't lower after all.
    pub fn unsupported(&self, desc: &OpDesc, reason: impl Into<String>) -> Error {
        let device = self.info.selector.clone();
        Error::Unsupported { device, op: desc.to_string(), reason: reason.into() }
    }
}

/// A launch under construction. Operands are bound in the order in which they are named.
#[derive(Debug)]
pub struct LaunchBuilder<'l, 'a> {
    lowering: &'l mut Lowering<'a>,
    template: Template,
    literals: BTreeMap<&'static str, Literal>,
    operands: Vec<(OperandSpec, TensorRef)>,
    params: Vec<(&'static str, &'static str)>,
    values: Vec<u32>,
    workgroup: [u32; 3],
    subgroup: Option<u32>,
    dynamic_bytes: u32,
    loops: u64,
}

impl LaunchBuilder<'_, '_> {
    /// Names an operand that is read.
    pub fn input(self, name: &'static str, t: &TensorRef) -> Self {
        self.operand(name, t, Access::Read)
    }

    /// Names an operand that is written in pairs, see [`Access::Pairs`].
    pub fn output(self, name: &'static str, t: &TensorRef) -> Self {
        self.operand(name, t, Access::Pairs)
    }

    /// Names an operand.
    pub fn operand(mut self, name: &'static str, t: &TensorRef, access: Access) -> Self {
        let store = match (self.template.language, access) {
            (Language::Wgsl, _) | (_, Access::Read) => store_of(t, access),
            // It writes elements of any size.
            (Language::CudaC, _) => Store::Word,
        };
        let spec = OperandSpec {
            name,
            dtype: t.dtype,
            rank: t.rank(),
            store,
            contiguous: t.rank() > 0 && steps(t, t.rank() - 1) == 1,
            wide: t.dtype.is_float() && store != Store::Atomic && is_aligned(t, 4),
            binding: 0,
        };
        self.operands.push((spec, t.clone()));
        self
    }

    /// A parameter `params.name: u32`.
    pub fn param(mut self, name: &'static str, value: usize) -> Self {
        self.params.push((name, "u32"));
        // What is larger lies beyond every binding, and is refused with the operand that has it.
        self.values.push(value.min(u32::MAX as usize) as u32);
        self
    }

    /// A parameter `params.name: i32`.
    pub fn param_i32(mut self, name: &'static str, value: i32) -> Self {
        self.params.push((name, "i32"));
        self.values.push(value as u32);
        self
    }

    /// A parameter `params.name: f32`.
    pub fn param_f32(mut self, name: &'static str, value: f32) -> Self {
        self.params.push((name, "f32"));
        self.values.push(value.to_bits());
        self
    }

    /// A value for the template.
    pub fn literal(mut self, name: &'static str, value: impl Into<Literal>) -> Self {
        self.literals.insert(name, value.into());
        self
    }

    /// Invocations of a workgroup along each axis; `{{ workgroup }}` is the attribute,
    /// `{{ workgroup_size }}` their product.
    pub fn workgroup(mut self, size: [u32; 3]) -> Self {
        self.workgroup = size;
        self
    }

    /// The subgroup size that the kernel needs.
    pub fn subgroup(mut self, size: u32) -> Self {
        self.subgroup = Some(size);
        self
    }

    /// Bytes of workgroup memory that the launch gives a kernel in CUDA C, beside what it declares.
    pub fn dynamic_bytes(mut self, bytes: u32) -> Self {
        self.dynamic_bytes = bytes;
        self
    }

    /// The most iterations of loops, all of them together, that an invocation goes through, where that grows
    /// with the operands: some drivers have a limit, see [`Traits::max_loops`](crate::Traits::max_loops). Where
    /// a loop ends counts as one more, as does one that is reached and not entered.
    pub fn loops(mut self, most: usize) -> Self {
        self.loops = most as u64;
        self
    }

    /// Ends the launch with a grid of `groups` workgroups in a row. A row may be longer than an axis of the
    /// device's grid: it is folded, and the kernel counts
    /// `group = workgroup_id.x + workgroup_id.y * num_workgroups.x`, which may be beyond the last.
    ///
    /// # Errors
    /// When the grid is too large for the device.
    pub fn linear(self, groups: usize) -> Result<()> {
        let max = u64::from(self.lowering.info.max_workgroups).min(65_535);
        let groups = groups as u64;
        let x = groups.min(max);
        let y = if x == 0 { 0 } else { groups.div_ceil(x) };
        // Even rows waste least.
        let x = if y > 1 { groups.div_ceil(y) } else { x };
        self.groups([x, y.max(1), 1])
    }

    /// Ends the launch with a grid; an empty one is no launch.
    ///
    /// # Errors
    /// When the grid or the workgroup is too large for the device.
    pub fn groups(self, groups: [u64; 3]) -> Result<()> {
        if groups.contains(&0) {
            return Ok(());
        }
        let l = self.lowering;
        for n in groups {
            if n > u64::from(l.info.max_workgroups) {
                return Err(l.limit("workgroups along an axis", n, l.info.max_workgroups.into()));
            }
        }
        let size: u64 = self.workgroup.iter().map(|&n| u64::from(n)).product();
        if size > u64::from(l.info.max_workgroup_size) {
            return Err(l.limit("invocations of a workgroup", size, l.info.max_workgroup_size.into()));
        }
        let (mut specs, operands): (Vec<_>, Vec<_>) = self.operands.into_iter().unzip();
        bind(&mut specs, &operands);
        if !l.info.atomics && specs.iter().any(|s| s.store == Store::Atomic) {
            let message = format!("{} needs atomics, which the device doesn't have", self.template.name);
            return Err(Error::backend(&l.info.selector, message));
        }
        l.launches.push(Launch {
            source: Source {
                template: self.template,
                literals: self.literals,
                operands: specs,
                params: self.params,
                workgroup: self.workgroup,
                subgroup: self.subgroup,
                dynamic_bytes: self.dynamic_bytes,
            },
            operands,
            values: self.values,
            groups: groups.map(|n| n as u32),
            loops: self.loops,
        });
        Ok(())
    }
}

/// Gives operands that are the same view as a written one its binding, and all others one of their own.
fn bind(specs: &mut [OperandSpec], operands: &[TensorRef]) {
    let mut next = 1;
    for i in 0..specs.len() {
        let same = |j: &usize| {
            (specs[*j].store != Store::None || specs[i].store != Store::None)
                && operands[*j].same_view(&operands[i])
        };
        let shared = (0..i).find(same);
        let binding = shared.map_or(next, |j| specs[j].binding);
        next = next.max(binding + 1);
        specs[i].binding = binding;
    }
}

/// Elements between neighbours on an axis; 0 where there is at most one.
pub(crate) fn steps(t: &TensorRef, axis: usize) -> usize {
    if t.shape[axis] > 1 {
        t.strides[axis]
    } else if axis + 1 == t.rank() {
        1
    } else {
        0
    }
}

/// Whether the last axis is contiguous and every row starts at a multiple of `n` elements.
pub(crate) fn is_aligned(t: &TensorRef, n: usize) -> bool {
    let rank = t.rank();
    rank > 0
        && steps(t, rank - 1) == 1
        && t.offset.is_multiple_of(n)
        && (0..rank - 1).all(|axis| steps(t, axis).is_multiple_of(n))
}

fn store_of(t: &TensorRef, access: Access) -> Store {
    match access {
        Access::Read => Store::None,
        _ if t.dtype.block_bytes() == 4 => Store::Word,
        Access::Pairs if t.dtype.block_bytes() == 2 && (is_aligned(t, 2) || t.elems() == 1) => Store::Word,
        Access::Serial => Store::Serial,
        _ if t.elems() == 1 => Store::Word,
        _ => Store::Atomic,
    }
}
