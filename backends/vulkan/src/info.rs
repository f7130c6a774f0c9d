//! What a Vulkan device says of itself.

use crate::context::Host;
use ash::{ext, khr, vk};
use halite_hal::{DeviceInfo, DeviceKind};
use halite_kernels::{uuid, vendor};
use std::ffi::CStr;

/// Bindings are addressed with 32 bits.
const MAX_BINDING: u64 = (1 << 32) - 4096;

/// Bytes of the largest heap that is the device's own.
pub(crate) fn memory_bytes(memory: &vk::PhysicalDeviceMemoryProperties) -> u64 {
    let own = |h: &&vk::MemoryHeap| h.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heaps = memory.memory_heaps_as_slice();
    let of = |own: Vec<u64>| own.into_iter().max();
    of(heaps.iter().filter(own).map(|h| h.size).collect())
        .or_else(|| of(heaps.iter().map(|h| h.size).collect()))
        .unwrap_or(0)
}

fn has(host: &Host, physical: vk::PhysicalDevice, name: &CStr) -> bool {
    // SAFETY: the physical device is one of the host's.
    let offered = unsafe { host.instance.enumerate_device_extension_properties(physical) };
    offered.unwrap_or_default().iter().any(|p| p.extension_name_as_c_str() == Ok(name))
}

/// Bytes free in the largest heap of the device's own, where the driver tells.
pub(crate) fn free_bytes(host: &Host, physical: vk::PhysicalDevice) -> Option<u64> {
    if !has(host, physical, ext::memory_budget::NAME) {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut query = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the structure is that of an extension that the device has.
    unsafe { host.instance.get_physical_device_memory_properties2(physical, &mut query) };
    let heaps = query.memory_properties;
    let free = |i: usize| budget.heap_budget[i].saturating_sub(budget.heap_usage[i]);
    let own = |&i: &usize| heaps.memory_heaps[i].flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    (0..heaps.memory_heap_count as usize).filter(own).map(free).max()
}

/// Describes a device as number `index`.
pub(crate) fn describe(host: &Host, physical: vk::PhysicalDevice, index: usize) -> DeviceInfo {
    // SAFETY: the physical device is one of the host's.
    let version = unsafe { host.instance.get_physical_device_properties(physical) }.api_version;
    let (v12, v13) = (version >= vk::API_VERSION_1_2, version >= vk::API_VERSION_1_3);
    let mut id = vk::PhysicalDeviceIDProperties::default();
    let mut subgroup = vk::PhysicalDeviceSubgroupProperties::default();
    let mut maintenance3 = vk::PhysicalDeviceMaintenance3Properties::default();
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut control = vk::PhysicalDeviceSubgroupSizeControlProperties::default();
    let mut maintenance4 = vk::PhysicalDeviceMaintenance4Properties::default();
    let has_driver = v12 || has(host, physical, khr::driver_properties::NAME);
    let has_control = v13 || has(host, physical, ext::subgroup_size_control::NAME);
    let has_maintenance4 = v13 || has(host, physical, khr::maintenance4::NAME);
    let mut query = vk::PhysicalDeviceProperties2::default()
        .push_next(&mut id)
        .push_next(&mut subgroup)
        .push_next(&mut maintenance3);
    if has_driver {
        query = query.push_next(&mut driver);
    }
    if has_control {
        query = query.push_next(&mut control);
    }
    if has_maintenance4 {
        query = query.push_next(&mut maintenance4);
    }
    // SAFETY: the structures are those of versions and extensions that the device has.
    unsafe { host.instance.get_physical_device_properties2(physical, &mut query) };
    let properties = query.properties;
    let limits = properties.limits;

    let mut float = vk::PhysicalDeviceShaderFloat16Int8Features::default();
    let mut sizes = vk::PhysicalDeviceSubgroupSizeControlFeatures::default();
    let mut dot = vk::PhysicalDeviceShaderIntegerDotProductFeatures::default();
    let mut query = vk::PhysicalDeviceFeatures2::default();
    if v12 || has(host, physical, khr::shader_float16_int8::NAME) {
        query = query.push_next(&mut float);
    }
    if has_control {
        query = query.push_next(&mut sizes);
    }
    if v13 || has(host, physical, khr::shader_integer_dot_product::NAME) {
        query = query.push_next(&mut dot);
    }
    // SAFETY: as above.
    unsafe { host.instance.get_physical_device_features2(physical, &mut query) };
    // SAFETY: the physical device is one of the host's.
    let memory = unsafe { host.instance.get_physical_device_memory_properties(physical) };

    let kind = match properties.device_type {
        vk::PhysicalDeviceType::DISCRETE_GPU => DeviceKind::DiscreteGpu,
        vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceKind::IntegratedGpu,
        vk::PhysicalDeviceType::CPU => DeviceKind::Software,
        _ => DeviceKind::Accelerator,
    };
    let text = |s: &[std::ffi::c_char]| {
        let bytes: Vec<u8> = s.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mut info = DeviceInfo::new("vulkan", index, &text(&properties.device_name), kind);
    info.vendor = vendor(properties.vendor_id);
    let v = properties.driver_version;
    info.driver = match has_driver {
        true => format!("{} {}", text(&driver.driver_name), text(&driver.driver_info)).trim().into(),
        false => {
            format!("{}.{}.{}", vk::api_version_major(v), vk::api_version_minor(v), vk::api_version_patch(v))
        }
    };
    info.uuid = uuid(&id.device_uuid);
    info.memory_bytes = memory_bytes(&memory);
    info.memory_free_bytes = free_bytes(host, physical);
    info.unified_memory = matches!(kind, DeviceKind::Software | DeviceKind::IntegratedGpu);
    let maintained = if has_maintenance4 { maintenance4.max_buffer_size } else { u64::MAX };
    info.max_buffer_bytes = maintenance3.max_memory_allocation_size.min(maintained).max(1 << 20);
    info.max_binding_bytes = u64::from(limits.max_storage_buffer_range).min(MAX_BINDING) & !15;
    info.offset_alignment = limits.min_storage_buffer_offset_alignment.max(16);
    info.max_bindings = limits.max_per_stage_descriptor_storage_buffers;
    info.max_workgroup_size = limits.max_compute_work_group_invocations;
    info.max_workgroups = limits.max_compute_work_group_count.into_iter().min().unwrap_or(1);
    info.local_memory_bytes = limits.max_compute_shared_memory_size;
    let operations = vk::SubgroupFeatureFlags::BASIC
        | vk::SubgroupFeatureFlags::ARITHMETIC
        | vk::SubgroupFeatureFlags::SHUFFLE;
    let usable = subgroup.supported_stages.contains(vk::ShaderStageFlags::COMPUTE)
        && subgroup.supported_operations.contains(operations);
    info.subgroup_size_control = has_control
        && controls_subgroups(&sizes)
        && control.required_subgroup_size_stages.contains(vk::ShaderStageFlags::COMPUTE);
    info.subgroup_sizes = usable.then_some(match info.subgroup_size_control {
        true => (control.min_subgroup_size, control.max_subgroup_size),
        false => (subgroup.subgroup_size, subgroup.subgroup_size),
    });
    info.f16 = float.shader_float16 == vk::TRUE;
    info.int8_dot = dot.shader_integer_dot_product == vk::TRUE;
    let family = host.family(physical).unwrap_or(0);
    // SAFETY: the physical device is one of the host's.
    let families = unsafe { host.instance.get_physical_device_queue_family_properties(physical) };
    info.timestamps = families.get(family as usize).is_some_and(|f| f.timestamp_valid_bits >= 32);
    info
}

/// Whether a kernel may ask for a subgroup size, and that its subgroups are full.
pub(crate) fn controls_subgroups(features: &vk::PhysicalDeviceSubgroupSizeControlFeatures<'_>) -> bool {
    features.subgroup_size_control == vk::TRUE && features.compute_full_subgroups == vk::TRUE
}
