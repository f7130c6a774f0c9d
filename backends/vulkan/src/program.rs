//! Compute pipelines.

use crate::context::Context;
use ash::vk;
use halite_hal::{DeviceInfo, Error, Result};
use halite_kernels::{Cache, Kernel};
use std::sync::Arc;

/// A compute pipeline and the layout of its bindings.
pub struct VulkanProgram {
    context: Arc<Context>,
    pub(crate) pipeline: vk::Pipeline,
    pub(crate) layout: vk::PipelineLayout,
    pub(crate) set_layout: vk::DescriptorSetLayout,
    /// Words of the parameter block.
    pub(crate) params: usize,
    /// Whether each is followed by a word of 0.
    pub(crate) wide_params: bool,
}

/// A pipeline cache for the time of one compilation, filled from disk and written back.
struct Compiled<'c> {
    context: &'c Context,
    handle: vk::PipelineCache,
}

impl Drop for Compiled<'_> {
    fn drop(&mut self) {
        // SAFETY: compilation is over.
        unsafe { self.context.device.destroy_pipeline_cache(self.handle, None) };
    }
}

impl VulkanProgram {
    pub(crate) fn new(
        context: &Arc<Context>,
        info: &DeviceInfo,
        cache: &Cache,
        kernel: &Kernel,
    ) -> Result<Self> {
        let failed = |what: &str, e: vk::Result| context.error(&format!("kernel {}: {what}", kernel.name), e);
        let device = &context.device;
        let words = kernel.parse()?.spirv()?;
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let binding = |i: usize, ty| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(i as u32)
                .descriptor_type(ty)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let mut bindings: Vec<_> =
            (1..=kernel.bindings).map(|i| binding(i, vk::DescriptorType::STORAGE_BUFFER)).collect();
        if kernel.params > 0 {
            bindings.push(binding(0, vk::DescriptorType::UNIFORM_BUFFER));
        }
        let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: a valid description. What is made is owned by the program from here on.
        let set_layout = unsafe { device.create_descriptor_set_layout(&create, None) }
            .map_err(|e| failed("vkCreateDescriptorSetLayout", e))?;
        let mut program = VulkanProgram {
            context: context.clone(),
            pipeline: vk::Pipeline::null(),
            layout: vk::PipelineLayout::null(),
            set_layout,
            params: kernel.params,
            wide_params: kernel.wide_params,
        };
        let layouts = [set_layout];
        let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
        // SAFETY: as above.
        program.layout = unsafe { device.create_pipeline_layout(&create, None) }
            .map_err(|e| failed("vkCreatePipelineLayout", e))?;

        let uuid = info.uuid.clone().unwrap_or_default();
        let key: [&[u8]; 4] = [b"vulkan", info.driver.as_bytes(), uuid.as_bytes(), &bytes];
        let known = cache.get(&key);
        let mut create = vk::PipelineCacheCreateInfo::default();
        if let Some(known) = &known {
            create = create.initial_data(known);
        }
        // SAFETY: the driver checks the data's own header.
        let handle = unsafe { device.create_pipeline_cache(&create, None) }
            .map_err(|e| failed("vkCreatePipelineCache", e))?;
        let compiled = Compiled { context, handle };

        let create = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: naga wrote valid SPIR-V.
        let module = unsafe { device.create_shader_module(&create, None) }
            .map_err(|e| failed("vkCreateShaderModule", e))?;
        let mut size = vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default();
        let mut stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(c"main");
        if let Some(wanted) = kernel.subgroup {
            let known = info.subgroup_sizes.unwrap_or_default();
            if context.subgroup_size_control
                && (known.0..=known.1).contains(&wanted)
                && wanted.is_power_of_two()
            {
                size = size.required_subgroup_size(wanted);
                let full = vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS;
                stage = stage.flags(full).push_next(&mut size);
            } else if info.subgroup_sizes != Some((wanted, wanted)) {
                // SAFETY: nothing uses the module.
                unsafe { device.destroy_shader_module(module, None) };
                let sizes = match info.subgroup_sizes {
                    Some((low, high)) if context.subgroup_size_control => format!("from {low} to {high}"),
                    Some((_, high)) => format!("of {high} and no choice"),
                    None => "none".into(),
                };
                let message =
                    format!("kernel {} needs subgroups of {wanted}, the device has {sizes}", kernel.name);
                return Err(Error::backend(&context.selector, message));
            }
        }
        let create = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(program.layout)];
        // SAFETY: all handles are alive; the module isn't needed afterwards.
        let pipelines = unsafe {
            let made = device.create_compute_pipelines(compiled.handle, &create, None);
            device.destroy_shader_module(module, None);
            made
        };
        program.pipeline = pipelines
            .map_err(|(_, e)| failed("vkCreateComputePipelines", e))?
            .into_iter()
            .next()
            .unwrap_or_default();
        if known.is_none() {
            // SAFETY: the cache is alive.
            if let Ok(data) = unsafe { device.get_pipeline_cache_data(compiled.handle) } {
                cache.put(&key, &data);
            }
        }
        Ok(program)
    }
}

impl Drop for VulkanProgram {
    fn drop(&mut self) {
        let device = &self.context.device;
        // SAFETY: work that uses the program keeps it alive, so none is left; null handles are allowed.
        unsafe {
            device.destroy_pipeline(self.pipeline, None);
            device.destroy_pipeline_layout(self.layout, None);
            device.destroy_descriptor_set_layout(self.set_layout, None);
        }
    }
}
