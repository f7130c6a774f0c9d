//! Compute pipelines.

use crate::context::Context;
use halite_hal::{DeviceInfo, Error, Result};
use halite_kernels::{Cache, ENTRY, Kernel};
use wgpu::{BufferBindingType, Features, ShaderRuntimeChecks};

/// A binding that kernels read and write.
pub(crate) const STORAGE: BufferBindingType = BufferBindingType::Storage { read_only: false };

/// A compute pipeline and the layout of its bindings.
pub struct WgpuProgram {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
    /// Whether each word of the parameter block is followed by one of 0.
    pub(crate) wide_params: bool,
}

/// A layout of numbered buffer bindings.
pub(crate) fn layout(device: &wgpu::Device, bindings: &[(u32, BufferBindingType)]) -> wgpu::BindGroupLayout {
    let entry = |&(binding, ty): &(u32, BufferBindingType)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let entries: Vec<_> = bindings.iter().map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

impl WgpuProgram {
    pub(crate) fn new(context: &Context, info: &DeviceInfo, cache: &Cache, kernel: &Kernel) -> Result<Self> {
        check(context, info, kernel)?;
        let parsed = kernel.parse()?;
        let mut bindings = Vec::new();
        if kernel.params > 0 {
            bindings.push((0, BufferBindingType::Uniform));
        }
        for binding in 1..=kernel.bindings as u32 {
            bindings.push((binding, BufferBindingType::Storage { read_only: parsed.reads_only(binding) }));
        }
        let device = &context.device;
        // Drivers other than Vulkan's keep what they compile by themselves.
        let key: [&[u8]; 5] = [
            b"wgpu",
            info.driver.as_bytes(),
            info.name.as_bytes(),
            info.uuid.as_deref().unwrap_or_default().as_bytes(),
            kernel.text.as_bytes(),
        ];
        let known = cache.get(&key);
        let make = || {
            let kept = device.features().contains(Features::PIPELINE_CACHE).then(|| {
                let desc =
                    wgpu::PipelineCacheDescriptor { label: None, data: known.as_deref(), fallback: true };
                // SAFETY: the data was written below by the same driver; the cache has checked that it is
                // whole.
                unsafe { device.create_pipeline_cache(&desc) }
            });
            // The checks are left out that the kernels are proven not to need; division by zero they may rely
            // on.
            let mut checks = ShaderRuntimeChecks::unchecked();
            checks.int_div_checks = true;
            let source = wgpu::ShaderModuleDescriptor {
                label: Some(&kernel.name),
                source: wgpu::ShaderSource::Wgsl(kernel.text.as_str().into()),
            };
            // SAFETY: kernels stay inside their bindings, and their loops end.
            let module = unsafe { device.create_shader_module_trusted(source, checks) };
            let layout = layout(device, &bindings);
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&kernel.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(ENTRY),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: false,
                },
                cache: kept.as_ref(),
            });
            (WgpuProgram { pipeline, layout, wide_params: kernel.wide_params }, kept)
        };
        let (program, kept) = context.checked(&format!("kernel {}", kernel.name), 0, make)?;
        if known.is_none()
            && let Some(data) = kept.and_then(|kept| kept.get_data())
        {
            cache.put(&key, &data);
        }
        Ok(program)
    }
}

/// Whether the device, as its profile restricts it, can run the kernel.
fn check(context: &Context, info: &DeviceInfo, kernel: &Kernel) -> Result<()> {
    let limits = context.device.limits();
    let [x, y, z] = kernel.workgroup;
    let invocations = kernel.workgroup.iter().map(|&n| u64::from(n)).product();
    let bounds = [
        ("storage bindings", kernel.bindings as u64, limits.max_storage_buffers_per_shader_stage),
        ("invocations of a workgroup", invocations, info.max_workgroup_size),
        ("invocations of a workgroup along x", x.into(), limits.max_compute_workgroup_size_x),
        ("invocations of a workgroup along y", y.into(), limits.max_compute_workgroup_size_y),
        ("invocations of a workgroup along z", z.into(), limits.max_compute_workgroup_size_z),
    ];
    for (what, requested, maximum) in bounds {
        if requested > maximum.into() {
            let device = info.selector.clone();
            let what = format!("kernel {}: {what}", kernel.name);
            return Err(Error::Limit { device, what, requested, maximum: maximum.into() });
        }
    }
    match kernel.subgroup {
        Some(wanted) if info.subgroup_sizes != Some((wanted, wanted)) => {
            let message = format!(
                "kernel {} needs subgroups of {wanted}, the device has {:?} and wgpu no choice",
                kernel.name, info.subgroup_sizes
            );
            Err(Error::backend(&info.selector, message))
        }
        _ => Ok(()),
    }
}
