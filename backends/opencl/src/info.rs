//! Finds devices and reads what they are.

use crate::quirks;
use halite_hal::{DeviceInfo, DeviceKind};
use opencl3::command_queue::CL_QUEUE_PROFILING_ENABLE;
use opencl3::device::{
    CL_DEVICE_ADDRESS_BITS, CL_DEVICE_AVAILABLE, CL_DEVICE_COMPILER_AVAILABLE, CL_DEVICE_EXTENSIONS,
    CL_DEVICE_GLOBAL_MEM_SIZE, CL_DEVICE_HOST_UNIFIED_MEMORY, CL_DEVICE_LOCAL_MEM_SIZE,
    CL_DEVICE_MAX_MEM_ALLOC_SIZE, CL_DEVICE_MAX_WORK_GROUP_SIZE, CL_DEVICE_MAX_WORK_ITEM_SIZES,
    CL_DEVICE_NAME, CL_DEVICE_QUEUE_ON_HOST_PROPERTIES, CL_DEVICE_TYPE, CL_DEVICE_TYPE_ALL,
    CL_DEVICE_TYPE_CPU, CL_DEVICE_TYPE_CUSTOM, CL_DEVICE_TYPE_GPU, CL_DEVICE_UUID_KHR, CL_DEVICE_VENDOR,
    CL_DEVICE_VERSION, CL_DRIVER_VERSION, get_device_data, get_device_ids,
};
use opencl3::error_codes::{DLOPEN_RUNTIME_LOAD_FAILED, error_text};
use opencl3::platform::platform::{
    CL_PLATFORM_NAME, CL_PLATFORM_VERSION, get_platform_data, get_platform_ids,
};
use opencl3::types::{cl_device_id, cl_device_info};
use std::sync::{Mutex, PoisonError};

/// Bindings are indexed by 32 bits, with some room for offsets.
const MAX_BINDING_BYTES: u64 = (4 << 30) - 4096;

/// What the loader is called, as opencl3 looks for it.
const LOADER: &str = if cfg!(windows) {
    "OpenCL.dll"
} else if cfg!(target_os = "macos") {
    "OpenCL.framework"
} else {
    "libOpenCL.so.1"
};

/// A device that can be used.
pub(crate) struct Found {
    pub device: cl_device_id,
    pub info: DeviceInfo,
    /// Names and versions of platform, device and driver: programs in binary form are good for these only.
    pub identity: String,
    /// Whether buffers may share memory.
    pub pools: bool,
}

/// Every usable device of every platform, and why there aren't more.
pub(crate) fn scan() -> (Vec<Found>, Vec<String>) {
    let _turn = quirks::turn();
    // PoCL 3.1 crashes when its first calls come from several threads at once.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = Vec::new();
    let mut notes = Vec::new();
    let platforms = match get_platform_ids() {
        Ok(platforms) => platforms,
        Err(DLOPEN_RUNTIME_LOAD_FAILED) => {
            notes.push(format!(
                "{LOADER}, the loader of OpenCL drivers, was not found; graphics drivers bring it, and Debian \
                 and Ubuntu have it as ocl-icd-libopencl1 (with pocl-opencl-icd it offers the processor)"
            ));
            return (found, notes);
        }
        Err(code) => {
            tracing::debug!(code, "no OpenCL platforms: {}", error_text(code));
            Vec::new()
        }
    };
    for platform in platforms {
        let of_platform = |what| text(get_platform_data(platform, what).unwrap_or_default());
        let name = of_platform(CL_PLATFORM_NAME);
        let devices = match get_device_ids(platform, CL_DEVICE_TYPE_ALL) {
            Ok(devices) => devices,
            Err(code) => {
                notes.push(format!("{} offers no device: {}", name, error_text(code)));
                continue;
            }
        };
        for device in devices {
            match unusable(device) {
                Some(why) => {
                    notes.push(format!("{} is left out: {why}", device_text(device, CL_DEVICE_NAME)))
                }
                None => {
                    let info = read(device, found.len(), &name);
                    let mut pools = true;
                    for quirk in quirks::of(&name, &device_text(device, CL_DRIVER_VERSION)) {
                        pools &= quirk.avoid != quirks::Avoid::Pooling;
                        tracing::debug!("{}: {:?} is avoided: {}", info.driver, quirk.avoid, quirk.reason);
                        quirks::apply(quirk);
                    }
                    let identity = [name.clone(), of_platform(CL_PLATFORM_VERSION)].into_iter().chain(
                        [CL_DEVICE_NAME, CL_DEVICE_VERSION, CL_DRIVER_VERSION]
                            .map(|w| device_text(device, w)),
                    );
                    let identity = identity.collect::<Vec<_>>().join("\n");
                    found.push(Found { device, info, identity, pools });
                }
            }
        }
    }
    if found.is_empty() {
        notes.push(format!(
            "{LOADER} offers no device that can be used; drivers are found through the .icd files in \
             /etc/OpenCL/vendors, or the folder that OCL_ICD_VENDORS names; graphics drivers bring them, and \
             Debian's and Ubuntu's pocl-opencl-icd offers the processor"
        ));
    }
    (found, notes)
}

fn unusable(device: cl_device_id) -> Option<&'static str> {
    let is_no = |what| number(device, what) == Some(0);
    if number(device, CL_DEVICE_TYPE)? & CL_DEVICE_TYPE_CUSTOM != 0 {
        Some("it runs built-in kernels only")
    } else if is_no(CL_DEVICE_AVAILABLE) {
        Some("its driver says that it isn't available")
    } else if is_no(CL_DEVICE_COMPILER_AVAILABLE) {
        Some("its driver has no compiler")
    } else {
        None
    }
}

/// What the device says of itself.
fn read(device: cl_device_id, index: usize, platform: &str) -> DeviceInfo {
    let get = |what| number(device, what).unwrap_or(0);
    let name = device_text(device, CL_DEVICE_NAME);
    let bits = get(CL_DEVICE_TYPE);
    let unified = get(CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    // Emulators say that they are of every kind.
    let kind = if bits & CL_DEVICE_TYPE_CPU != 0 {
        DeviceKind::Software
    } else if bits & CL_DEVICE_TYPE_GPU == 0 {
        DeviceKind::Accelerator
    } else if unified {
        DeviceKind::IntegratedGpu
    } else {
        DeviceKind::DiscreteGpu
    };
    let mut info = DeviceInfo::new("opencl", index, &name, kind);
    info.vendor = device_text(device, CL_DEVICE_VENDOR);
    info.driver = format!("{platform} {}", device_text(device, CL_DRIVER_VERSION));
    info.extensions =
        device_text(device, CL_DEVICE_EXTENSIONS).split_whitespace().map(str::to_string).collect();
    if info.extensions.iter().any(|e| e == "cl_khr_device_uuid") {
        info.uuid = get_device_data(device, CL_DEVICE_UUID_KHR).ok().and_then(|bytes| uuid(&bytes));
    }
    info.memory_bytes = get(CL_DEVICE_GLOBAL_MEM_SIZE);
    info.unified_memory = unified;
    info.max_buffer_bytes = get(CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    info.max_binding_bytes = info.max_buffer_bytes.min(MAX_BINDING_BYTES) & !15;
    info.offset_alignment = 16;
    info.max_workgroup_size = clamp(get(CL_DEVICE_MAX_WORK_GROUP_SIZE).min(workgroup_sizes(device)[0]));
    // The number of invocations along an axis has as many bits as the device's addresses, and as the host's.
    if get(CL_DEVICE_ADDRESS_BITS).min(usize::BITS.into()) <= 32 {
        info.max_workgroups = u32::MAX / info.max_workgroup_size.max(1);
    }
    info.local_memory_bytes = clamp(get(CL_DEVICE_LOCAL_MEM_SIZE));
    info.timestamps = get(CL_DEVICE_QUEUE_ON_HOST_PROPERTIES) & CL_QUEUE_PROFILING_ENABLE != 0;
    info
}

/// The most invocations of a workgroup along each axis.
pub(crate) fn workgroup_sizes(device: cl_device_id) -> [u64; 3] {
    let bytes = get_device_data(device, CL_DEVICE_MAX_WORK_ITEM_SIZES).unwrap_or_default();
    let mut sizes = bytes.chunks_exact(size_of::<usize>()).filter_map(integer);
    std::array::from_fn(|_| sizes.next().unwrap_or(1))
}

fn clamp(n: u64) -> u32 {
    n.try_into().unwrap_or(u32::MAX)
}

/// A value of 4 or 8 bytes, whichever the driver gives.
fn number(device: cl_device_id, what: cl_device_info) -> Option<u64> {
    integer(&get_device_data(device, what).ok()?)
}

fn integer(bytes: &[u8]) -> Option<u64> {
    if let Ok(eight) = bytes.try_into() {
        return Some(u64::from_ne_bytes(eight));
    }
    Some(u32::from_ne_bytes(bytes.try_into().ok()?).into())
}

fn device_text(device: cl_device_id, what: cl_device_info) -> String {
    text(get_device_data(device, what).unwrap_or_default())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_string()
}

/// The usual form: groups of 8, 4, 4, 4 and 12 digits. None for zeros, which drivers give that have none.
fn uuid(bytes: &[u8]) -> Option<String> {
    let n = u128::from_be_bytes(bytes.try_into().ok()?);
    if n == 0 {
        return None;
    }
    let d = format!("{n:032x}");
    Some([&d[..8], &d[8..12], &d[12..16], &d[16..20], &d[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_the_forms_that_drivers_give_them() {
        assert_eq!(integer(&7u32.to_ne_bytes()), Some(7));
        assert_eq!(integer(&(7u64 << 40).to_ne_bytes()), Some(7 << 40));
        assert_eq!(integer(&[1, 2]), None);
        assert_eq!(text(b"  a name\0\0".to_vec()), "a name");
        let bytes: Vec<u8> = (1..=16).collect();
        assert_eq!(uuid(&bytes).unwrap(), "01020304-0506-0708-090a-0b0c0d0e0f10");
        assert_eq!((uuid(&bytes[1..]), uuid(&[0; 16])), (None, None));
    }
}
