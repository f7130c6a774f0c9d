//! Command lists, ready to be encoded any number of times.
//!
//! wgpu's command buffers run once. Here everything that they refer to is made beforehand: a bind group for
//! each dispatch, and one uniform buffer with the parameters of all. Barriers need nothing, since wgpu puts
//! its own between dispatches that meet.

use crate::context::Context;
use crate::driver::WgpuDriver;
use halite_hal::{Error, Result};
use halite_kernels::{Command, Dispatch, Kernel};
use std::fmt;
use std::sync::Arc;
use wgpu::util::DeviceExt;

/// Commands that can be run many times.
pub struct WgpuPrepared {
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    Dispatch { pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup, grid: [u32; 3], label: Arc<str> },
    Copy { from: (wgpu::Buffer, u64), to: (wgpu::Buffer, u64), bytes: u64 },
}

impl fmt::Debug for WgpuPrepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WgpuPrepared({} steps)", self.steps.len())
    }
}

impl Step {
    pub(crate) fn label(&self) -> &str {
        match self {
            Step::Dispatch { label, .. } => label,
            Step::Copy { .. } => "copy",
        }
    }

    fn is_dispatch(&self) -> bool {
        matches!(self, Step::Dispatch { .. })
    }

    /// Puts a dispatch into a pass.
    pub(crate) fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        if let Step::Dispatch { pipeline, group, grid: [x, y, z], .. } = self {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
    }

    /// Puts a copy between passes.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Step::Copy { from, to, bytes } = self {
            encoder.copy_buffer_to_buffer(&from.0, from.1, &to.0, to.1, *bytes);
        }
    }
}

/// The parameters of all dispatches, and where in it each one's begin.
fn parameters(
    context: &Context,
    commands: &[Command<WgpuDriver>],
) -> Result<(Option<wgpu::Buffer>, Vec<u64>)> {
    let alignment = context.device.limits().min_uniform_buffer_offset_alignment as usize;
    let (mut data, mut offsets) = (Vec::new(), Vec::new());
    for command in commands {
        let Command::Dispatch(d) = command else { continue };
        data.resize(data.len().next_multiple_of(alignment), 0u8);
        offsets.push(data.len() as u64);
        data.extend(Kernel::param_bytes(&d.params, d.program.wide_params));
        // Some interfaces read uniforms in vectors of four words.
        data.resize(data.len().next_multiple_of(16), 0);
    }
    if data.is_empty() {
        return Ok((None, offsets));
    }
    let desc = wgpu::util::BufferInitDescriptor {
        label: Some("parameters"),
        contents: &data,
        usage: wgpu::BufferUsages::UNIFORM,
    };
    let make = || context.device.create_buffer_init(&desc);
    Ok((Some(context.checked("parameters", data.len() as u64, make)?), offsets))
}

/// The memory of a dispatch.
fn group(
    device: &wgpu::Device,
    d: &Dispatch<WgpuDriver>,
    params: Option<(&wgpu::Buffer, u64)>,
) -> wgpu::BindGroup {
    let entry = |binding, buffer, offset, bytes| wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset,
            size: wgpu::BufferSize::new(bytes),
        }),
    };
    let mut entries = Vec::with_capacity(d.bindings.len() + 1);
    if let Some((buffer, offset)) = params
        && !d.params.is_empty()
    {
        let word = if d.program.wide_params { 8 } else { 4 };
        entries.push(entry(0, buffer, offset, (word * d.params.len() as u64).next_multiple_of(16)));
    }
    for (binding, r) in (1..).zip(&d.bindings) {
        entries.push(entry(binding, &r.memory.buffer, r.offset, r.bytes));
    }
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&d.label),
        layout: &d.program.layout,
        entries: &entries,
    })
}

impl WgpuPrepared {
    pub(crate) fn new(context: &Context, commands: &[Command<WgpuDriver>]) -> Result<Self> {
        let (params, offsets) = parameters(context, commands)?;
        let mut offsets = offsets.into_iter();
        let make = || {
            let mut steps = Vec::with_capacity(commands.len());
            for command in commands {
                match command {
                    Command::Dispatch(d) => steps.push(Step::Dispatch {
                        pipeline: d.program.pipeline.clone(),
                        group: group(&context.device, d, params.as_ref().zip(offsets.next())),
                        grid: d.groups,
                        label: d.label.clone(),
                    }),
                    Command::Copy { from, to } => steps.push(Step::Copy {
                        from: (from.memory.buffer.clone(), from.offset),
                        to: (to.memory.buffer.clone(), to.offset),
                        bytes: from.bytes,
                    }),
                    Command::Barrier => {}
                    _ => {
                        let message = "a command that this driver doesn't know";
                        return Err(Error::backend(&context.selector, message));
                    }
                }
            }
            Ok(WgpuPrepared { steps })
        };
        context.checked("preparing commands", 0, make)?
    }

    /// What it does, for messages.
    pub(crate) fn label(&self) -> String {
        match &self.steps[..] {
            [] => "no command".into(),
            [step] => step.label().into(),
            [first, .., last] => format!("{} to {}", first.label(), last.label()),
        }
    }

    /// A command buffer of the steps; dispatches that follow each other share a pass.
    pub(crate) fn encode(&self, device: &wgpu::Device) -> wgpu::CommandBuffer {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for run in self.steps.chunk_by(|a, b| a.is_dispatch() && b.is_dispatch()) {
            if run[0].is_dispatch() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                run.iter().for_each(|step| step.dispatch(&mut pass));
            } else {
                run.iter().for_each(|step| step.copy(&mut encoder));
            }
        }
        encoder.finish()
    }
}
