//! Command lists, ready to be run any number of times: as a graph, which is one launch.
//!
//! A graph's nodes depend on those before the last barrier, and on nothing else, so that the device may run the
//! commands between two barriers at the same time. On the stream, one command runs after the other, and barriers
//! need nothing.

use crate::context::Context;
use crate::driver::CudaDriver;
use crate::error::check;
use crate::handle::{Graph, GraphExec};
use crate::memory::CudaMemory;
use crate::program::CudaProgram;
use cudarc::driver::sys::{
    self, CUDA_KERNEL_NODE_PARAMS_v2, CUDA_MEMCPY3D_st, CUgraphNode, CUmemorytype, CUresult,
};
use halite_hal::{Error, Result};
use halite_kernels::{Command, Dispatch};
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

/// Bytes that one node of a graph copies at most: widths beyond 2³¹ are refused.
const COPY: u64 = 1 << 30;

/// Commands that can be run many times.
pub struct CudaPrepared {
    /// Without one, the steps are enqueued one by one.
    pub(crate) graph: Option<GraphExec>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    Dispatch {
        program: Arc<CudaProgram>,
        /// The parameter block, padded as the structure in the kernel may be.
        params: Vec<u32>,
        pointers: Vec<u64>,
        groups: [u32; 3],
        /// Whatever is launched doesn't keep it.
        _memory: Vec<Arc<CudaMemory>>,
        label: Arc<str>,
    },
    Copy {
        from: (Arc<CudaMemory>, u64),
        to: (Arc<CudaMemory>, u64),
        bytes: u64,
    },
    Barrier,
}

impl fmt::Debug for CudaPrepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaPrepared({} steps)", self.steps.len())
    }
}

fn dispatch(d: &Dispatch<CudaDriver>) -> Step {
    let mut params = d.params.clone();
    params.resize(params.len().next_multiple_of(4), 0);
    Step::Dispatch {
        program: d.program.clone(),
        params,
        pointers: d.bindings.iter().map(|b| b.memory.raw() + b.offset).collect(),
        groups: d.groups,
        _memory: d.bindings.iter().map(|b| b.memory.clone()).collect(),
        label: d.label.clone(),
    }
}

/// Where a kernel's arguments are.
fn arguments(params: &[u32], pointers: &[u64]) -> Vec<*mut c_void> {
    let block = (!params.is_empty()).then(|| params.as_ptr().cast_mut().cast());
    block.into_iter().chain(pointers.iter().map(|p| ptr::from_ref(p).cast_mut().cast())).collect()
}

impl Step {
    pub(crate) fn label(&self) -> &str {
        match self {
            Step::Dispatch { label, .. } => label,
            Step::Copy { .. } => "copy",
            Step::Barrier => "barrier",
        }
    }

    pub(crate) fn is_barrier(&self) -> bool {
        matches!(self, Step::Barrier)
    }

    /// Puts it on the stream. The context is current.
    pub(crate) fn enqueue(&self, context: &Context) -> Result<(), CUresult> {
        match self {
            Step::Dispatch { program, params, pointers, groups: [x, y, z], .. } => {
                let mut arguments = arguments(params, pointers);
                let [across, down, deep] = program.workgroup;
                // SAFETY: the arguments are those of the kernel, the memory behind them is alive, and the
                // kernel was checked to take workgroups of this size.
                check(unsafe {
                    sys::cuLaunchKernel(
                        program.function(),
                        *x,
                        *y,
                        *z,
                        across,
                        down,
                        deep,
                        program.dynamic_bytes,
                        context.stream(),
                        arguments.as_mut_ptr(),
                        ptr::null_mut(),
                    )
                })
            }
            Step::Copy { from, to, bytes } => {
                let (from, to) = (from.0.raw() + from.1, to.0.raw() + to.1);
                // SAFETY: the ranges are inside their pieces of memory, and don't overlap.
                check(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, *bytes as usize, context.stream()) })
            }
            Step::Barrier => Ok(()),
        }
    }

    /// Makes nodes of it that follow `after`. The context is current.
    fn nodes(
        &self,
        context: &Context,
        graph: &Graph,
        after: &[CUgraphNode],
        nodes: &mut Vec<CUgraphNode>,
    ) -> Result<(), CUresult> {
        let mut node = ptr::null_mut();
        match self {
            Step::Dispatch { program, params, pointers, groups: [x, y, z], .. } => {
                let mut arguments = arguments(params, pointers);
                let [across, down, deep] = program.workgroup;
                let launch = CUDA_KERNEL_NODE_PARAMS_v2 {
                    func: program.function(),
                    gridDimX: *x,
                    gridDimY: *y,
                    gridDimZ: *z,
                    blockDimX: across,
                    blockDimY: down,
                    blockDimZ: deep,
                    sharedMemBytes: program.dynamic_bytes,
                    kernelParams: arguments.as_mut_ptr(),
                    extra: ptr::null_mut(),
                    kern: ptr::null_mut(),
                    ctx: ptr::null_mut(),
                };
                // SAFETY: as for a launch; the call copies the arguments.
                check(unsafe {
                    sys::cuGraphAddKernelNode_v2(&mut node, graph.raw(), after.as_ptr(), after.len(), &launch)
                })?;
                nodes.push(node);
            }
            Step::Copy { from, to, bytes } => {
                for start in (0..*bytes).step_by(COPY as usize) {
                    let width = COPY.min(bytes - start);
                    let copy = copy(from.0.raw() + from.1 + start, to.0.raw() + to.1 + start, width);
                    // SAFETY: the ranges are inside their pieces of memory, and don't overlap.
                    check(unsafe {
                        sys::cuGraphAddMemcpyNode(
                            &mut node,
                            graph.raw(),
                            after.as_ptr(),
                            after.len(),
                            &copy,
                            context.raw(),
                        )
                    })?;
                    nodes.push(node);
                }
            }
            Step::Barrier => {}
        }
        Ok(())
    }
}

/// A copy of bytes in a row, as CUDA describes copies of any shape.
fn copy(from: u64, to: u64, bytes: u64) -> CUDA_MEMCPY3D_st {
    CUDA_MEMCPY3D_st {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcHost: ptr::null(),
        srcDevice: from,
        srcArray: ptr::null_mut(),
        reserved0: ptr::null_mut(),
        srcPitch: bytes as usize,
        srcHeight: 1,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: ptr::null_mut(),
        dstDevice: to,
        dstArray: ptr::null_mut(),
        reserved1: ptr::null_mut(),
        dstPitch: bytes as usize,
        dstHeight: 1,
        WidthInBytes: bytes as usize,
        Height: 1,
        Depth: 1,
    }
}

impl CudaPrepared {
    /// The commands as steps.
    pub(crate) fn steps(device: &str, commands: &[Command<CudaDriver>]) -> Result<Self> {
        let mut steps = Vec::with_capacity(commands.len());
        for command in commands {
            steps.push(match command {
                Command::Dispatch(d) => dispatch(d),
                Command::Copy { from, to } => Step::Copy {
                    from: (from.memory.clone(), from.offset),
                    to: (to.memory.clone(), to.offset),
                    bytes: from.bytes,
                },
                Command::Barrier => Step::Barrier,
                _ => return Err(Error::backend(device, "a command that this driver doesn't know")),
            });
        }
        Ok(CudaPrepared { graph: None, steps })
    }

    /// The commands as a graph.
    pub(crate) fn graph(context: &Arc<Context>, commands: &[Command<CudaDriver>]) -> Result<Self> {
        let mut prepared = Self::steps(&context.selector, commands)?;
        if !prepared.is_empty() {
            let _entered = context.enter()?;
            let graph = build(context, &prepared.steps).map_err(|(what, code)| context.failed(what, code))?;
            prepared.graph = Some(graph);
        }
        Ok(prepared)
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.iter().all(Step::is_barrier)
    }

    /// What it does, for messages.
    pub(crate) fn label(&self) -> String {
        let mut labels = self.steps.iter().filter(|s| !s.is_barrier()).map(Step::label);
        match (labels.next(), labels.count()) {
            (Some(first), 0) => first.into(),
            (Some(first), more) => format!("{first} or one of the {more} commands after it"),
            (None, _) => "nothing".into(),
        }
    }
}

/// The steps as a graph that can be launched. The context is current.
fn build(context: &Arc<Context>, steps: &[Step]) -> Result<GraphExec, (&'static str, CUresult)> {
    let mut raw = ptr::null_mut();
    // SAFETY: a new graph has no flags.
    check(unsafe { sys::cuGraphCreate(&mut raw, 0) }).map_err(|code| ("making a graph", code))?;
    // SAFETY: it was made for this call.
    let graph = unsafe { Graph::owned(context, raw) };
    // What is between the last two barriers, and what has been added since.
    let (mut before, mut now): (Vec<CUgraphNode>, Vec<CUgraphNode>) = Default::default();
    for step in steps {
        if !step.is_barrier() {
            step.nodes(context, &graph, &before, &mut now).map_err(|code| ("adding to a graph", code))?;
        } else if !now.is_empty() {
            before = std::mem::take(&mut now);
            // Many after many would be as many edges as their product.
            if before.len() > 1 {
                before = vec![join(&graph, &before).map_err(|code| ("adding a barrier to a graph", code))?];
            }
        }
    }
    let mut raw = ptr::null_mut();
    // SAFETY: the graph is alive.
    check(unsafe { sys::cuGraphInstantiateWithFlags(&mut raw, graph.raw(), 0) })
        .map_err(|code| ("making a graph ready", code))?;
    // SAFETY: it was made for this call.
    Ok(unsafe { GraphExec::owned(context, raw) })
}

/// A node that does nothing, after all of `nodes`.
fn join(graph: &Graph, nodes: &[CUgraphNode]) -> Result<CUgraphNode, CUresult> {
    let mut node = ptr::null_mut();
    // SAFETY: the graph is alive, and the nodes are its own.
    check(unsafe { sys::cuGraphAddEmptyNode(&mut node, graph.raw(), nodes.as_ptr(), nodes.len()) })?;
    Ok(node)
}
