//! What a wgpu device says of itself, and what Vulkan says of it where that is beneath.

use halite_hal::{DeviceInfo, DeviceKind};
use halite_kernels::vendor;
use wgpu::{DeviceType, Features};

/// Bindings are addressed with 32 bits.
const MAX_BINDING: u64 = (1 << 32) - 4096;

/// What is asked for where it is offered.
pub(crate) const FEATURES: Features = Features::SHADER_F16
    .union(Features::SUBGROUP)
    .union(Features::SUBGROUP_BARRIER)
    .union(Features::TIMESTAMP_QUERY)
    .union(Features::SHADER_INT64)
    .union(Features::PIPELINE_CACHE);

/// What wgpu itself doesn't tell.
#[derive(Default)]
struct Beneath {
    uuid: Option<String>,
    memory_bytes: u64,
}

/// Describes an adapter as number `index`.
pub(crate) fn of_adapter(adapter: &wgpu::Adapter, index: usize) -> DeviceInfo {
    describe(&adapter.get_info(), &adapter.limits(), adapter.features(), beneath_adapter(adapter), index)
}

/// Describes a device of the host's.
pub(crate) fn of_device(device: &wgpu::Device) -> DeviceInfo {
    describe(&device.adapter_info(), &device.limits(), device.features(), beneath_device(device), 0)
}

/// Bytes of the memory that a device has; 0 where that isn't known.
pub(crate) fn memory_of_device(device: &wgpu::Device) -> u64 {
    beneath_device(device).memory_bytes
}

fn describe(
    adapter: &wgpu::AdapterInfo,
    limits: &wgpu::Limits,
    features: Features,
    beneath: Beneath,
    index: usize,
) -> DeviceInfo {
    let kind = match adapter.device_type {
        DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu,
        DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu,
        DeviceType::Cpu => DeviceKind::Software,
        _ => DeviceKind::Accelerator,
    };
    let mut info = DeviceInfo::new("wgpu", index, &adapter.name, kind);
    info.vendor = vendor(adapter.vendor);
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    info.driver = format!("{} ({})", driver.trim(), adapter.backend).trim().into();
    let pci = &adapter.device_pci_bus_id;
    info.uuid = beneath.uuid.or_else(|| (!pci.is_empty()).then(|| pci.clone()));
    info.memory_bytes = beneath.memory_bytes;
    info.unified_memory = matches!(kind, DeviceKind::Software | DeviceKind::IntegratedGpu);
    info.max_buffer_bytes = limits.max_buffer_size;
    info.max_binding_bytes = limits.max_storage_buffer_binding_size.min(MAX_BINDING) & !15;
    info.offset_alignment = u64::from(limits.min_storage_buffer_offset_alignment).max(16);
    info.max_bindings = limits.max_storage_buffers_per_shader_stage;
    info.max_workgroup_size = limits.max_compute_invocations_per_workgroup;
    info.max_workgroups = limits.max_compute_workgroups_per_dimension;
    info.local_memory_bytes = limits.max_compute_workgroup_storage_size;
    let subgroups = features.contains(Features::SUBGROUP | Features::SUBGROUP_BARRIER);
    info.subgroup_sizes = subgroups.then_some((adapter.subgroup_min_size, adapter.subgroup_max_size));
    info.f16 = features.contains(Features::SHADER_F16);
    info.timestamps = features.contains(Features::TIMESTAMP_QUERY);
    info
}

#[cfg(not(target_vendor = "apple"))]
fn beneath_adapter(adapter: &wgpu::Adapter) -> Beneath {
    // SAFETY: nothing is destroyed, and the handles are used while the adapter is there.
    match unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() } {
        Some(a) => vulkan(a.shared_instance().raw_instance(), a.raw_physical_device()),
        None => Beneath::default(),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn beneath_device(device: &wgpu::Device) -> Beneath {
    // SAFETY: nothing is destroyed, and the handles are used while the device is there.
    match unsafe { device.as_hal::<wgpu::hal::api::Vulkan>() } {
        Some(d) => vulkan(d.shared_instance().raw_instance(), d.raw_physical_device()),
        None => Beneath::default(),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn vulkan(instance: &ash::Instance, physical: ash::vk::PhysicalDevice) -> Beneath {
    use ash::vk;
    // SAFETY: the physical device is one of the instance's.
    let properties = unsafe { instance.get_physical_device_properties(physical) };
    let mut id = vk::PhysicalDeviceIDProperties::default();
    if properties.api_version >= vk::API_VERSION_1_1 {
        let mut query = vk::PhysicalDeviceProperties2::default().push_next(&mut id);
        // SAFETY: wgpu's instance and this device have Vulkan 1.1.
        unsafe { instance.get_physical_device_properties2(physical, &mut query) };
    }
    // SAFETY: the physical device is one of the instance's.
    let memory = unsafe { instance.get_physical_device_memory_properties(physical) };
    let own = |h: &&vk::MemoryHeap| h.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heaps = memory.memory_heaps_as_slice();
    let bytes = heaps.iter().filter(own).map(|h| h.size).max();
    Beneath { uuid: halite_kernels::uuid(&id.device_uuid), memory_bytes: bytes.unwrap_or(0) }
}

#[cfg(target_vendor = "apple")]
fn beneath_adapter(_: &wgpu::Adapter) -> Beneath {
    Beneath::default()
}

#[cfg(target_vendor = "apple")]
fn beneath_device(_: &wgpu::Device) -> Beneath {
    Beneath::default()
}
