//! Finds devices and reads what they are.

use crate::error::check;
use crate::nvrtc;
use crate::prebuilt;
use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute as Attribute, CUresult, CUuuid};
use halite_hal::{DType, DeviceInfo, DeviceKind, MatrixShape};
use halite_kernels::uuid;
use std::ffi::{CStr, c_char, c_int};

/// Bindings are indexed by 32 bits, with some room for offsets.
const MAX_BINDING_BYTES: u64 = (4 << 30) - 4096;

/// The oldest version of CUDA that a driver has to know: 12.0.
const DRIVER: c_int = 12000;

/// The lowest compute capability. What older devices lack: bf16, asynchronous copies to shared memory.
const CAPABILITY: (c_int, c_int) = (8, 0);

/// What the driver's library is called.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// A device that can be used.
pub(crate) struct Found {
    pub device: CUdevice,
    pub info: DeviceInfo,
    /// What machine code for it is named by, such as `sm_90`.
    pub architecture: String,
    /// The most invocations of a workgroup along each axis.
    pub workgroup_sizes: [u64; 3],
    /// Whether it has pools of memory.
    pub pools: bool,
}

/// Every usable device, and why there aren't more.
pub(crate) fn scan() -> (Vec<Found>, Vec<String>) {
    let mut notes = Vec::new();
    let found: Vec<Found> = match driver() {
        Ok((count, version)) => (0..count).filter_map(|ordinal| read(ordinal, version, &mut notes)).collect(),
        Err(why) => {
            notes.push(why);
            return (Vec::new(), notes);
        }
    };
    if found.is_empty() {
        return (found, notes);
    }
    let compiler = nvrtc::get().map(|nvrtc| format!("{} of {}", nvrtc.version(), nvrtc.path()));
    let (usable, note) = kernels(prebuilt::count(), compiler);
    if usable {
        notes.push(note);
        return (number(found), notes);
    }
    let names: Vec<&str> = found.iter().map(|f| &*f.info.name).collect();
    notes.push(format!("{} is left out: {note}", names.join(", ")));
    (Vec::new(), notes)
}

/// Whether there are kernels to run where so many are compiled already, and where they come from.
fn kernels(prebuilt: usize, nvrtc: Result<String, &str>) -> (bool, String) {
    match (prebuilt, nvrtc) {
        (0, Ok(nvrtc)) => (true, format!("kernels are compiled by NVRTC {nvrtc}")),
        (0, Err(why)) => (
            false,
            format!("{why}; a build with the feature `prebuilt-kernels` does without NVRTC for usual models"),
        ),
        (n, Ok(nvrtc)) => {
            (true, format!("{n} kernels come with this program; others are compiled by NVRTC {nvrtc}"))
        }
        (n, Err(why)) => {
            (true, format!("{n} kernels come with this program; others can't be compiled: {why}"))
        }
    }
}

/// Selectors count the devices that can be used.
fn number(mut found: Vec<Found>) -> Vec<Found> {
    for (index, f) in found.iter_mut().enumerate() {
        f.info.selector = format!("cuda:{index}");
    }
    found
}

/// The number of devices and the driver's version, or why there is none.
fn driver() -> Result<(c_int, c_int), String> {
    // cudarc panics where the library is missing, so this is asked first.
    // SAFETY: opening the driver's library runs no code but its own.
    if !unsafe { sys::is_culib_present() } {
        return Err(format!(
            "{LIBRARY}, the library of NVIDIA's driver, was not found; the driver for an NVIDIA GPU brings it \
             (in containers: the NVIDIA Container Toolkit)"
        ));
    }
    let refused = |what: &'static str| {
        move |code| format!("{LIBRARY} was found, but {what} failed: {code:?} ({})", code as u32)
    };
    let mut version = 0;
    // SAFETY: it may be called at any time.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }).map_err(refused("asking for its version"))?;
    if version < DRIVER {
        return Err(format!(
            "{LIBRARY} is of a driver for CUDA {}; CUDA {} or newer is needed: install a driver of series 525 or newer",
            dotted(version),
            dotted(DRIVER)
        ));
    }
    // SAFETY: it may be called at any time, and again.
    match check(unsafe { sys::cuInit(0) }) {
        Ok(()) => {}
        Err(CUresult::CUDA_ERROR_NO_DEVICE) => return Err(no_device()),
        Err(code) => return Err(refused("its start")(code)),
    }
    let mut count = 0;
    // SAFETY: the library is initialised.
    check(unsafe { sys::cuDeviceGetCount(&mut count) }).map_err(refused("counting devices"))?;
    if count == 0 { Err(no_device()) } else { Ok((count, version)) }
}

fn no_device() -> String {
    format!(
        "{LIBRARY} offers no device; `nvidia-smi` lists those that the driver sees, and CUDA_VISIBLE_DEVICES \
         may hide them"
    )
}

/// 12.4 of 12040.
fn dotted(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn attribute(device: CUdevice, which: Attribute) -> c_int {
    let mut value = 0;
    // SAFETY: the device is one of the driver's.
    match unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) } {
        CUresult::CUDA_SUCCESS => value,
        code => {
            tracing::debug!("{which:?} can't be asked for: {code:?}");
            0
        }
    }
}

/// What a device says of itself, unless it can't be used.
fn read(ordinal: c_int, version: c_int, notes: &mut Vec<String>) -> Option<Found> {
    let mut device = 0;
    // SAFETY: the library is initialised.
    if let Err(code) = check(unsafe { sys::cuDeviceGet(&mut device, ordinal) }) {
        notes.push(format!("device {ordinal} is left out: {code:?} ({})", code as u32));
        return None;
    }
    let get = |which| attribute(device, which);
    let at_least_0 = |which| u64::try_from(get(which)).unwrap_or(0);
    let small = |which| u32::try_from(get(which)).unwrap_or(0);
    let name = text(|buffer, bytes| {
        // SAFETY: the buffer has as many bytes.
        unsafe { sys::cuDeviceGetName(buffer, bytes, device) }
    });
    let capability = (
        get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
        get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
    );
    if let Some(why) = too_old(capability) {
        notes.push(format!("{name} is left out: {why}"));
        return None;
    }
    let integrated = get(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED) != 0;
    let mut info = DeviceInfo::new("cuda", ordinal as usize, &name, kind(&name, integrated));
    info.vendor = "NVIDIA".into();
    info.driver = format!("CUDA {}", dotted(version));
    let bus = text(|buffer, bytes| {
        // SAFETY: the buffer has as many bytes.
        unsafe { sys::cuDeviceGetPCIBusId(buffer, bytes, device) }
    });
    let mut id = CUuuid { bytes: [0; 16] };
    // SAFETY: the device is one of the driver's.
    let asked = check(unsafe { sys::cuDeviceGetUuid_v2(&mut id, device) });
    let id = asked.ok().and_then(|()| uuid(&id.bytes.map(|byte| byte as u8)));
    info.uuid = id.or((!bus.is_empty()).then(|| bus.clone()));
    let mut memory = 0;
    // SAFETY: the device is one of the driver's.
    if check(unsafe { sys::cuDeviceTotalMem_v2(&mut memory, device) }).is_ok() {
        info.memory_bytes = memory as u64;
    }
    info.unified_memory = integrated;
    info.max_buffer_bytes = info.memory_bytes;
    info.max_binding_bytes = info.max_buffer_bytes.min(MAX_BINDING_BYTES) & !15;
    info.offset_alignment = 16;
    // A kernel's arguments are at most 4096 bytes, parameters included.
    info.max_bindings = 256;
    info.max_workgroup_size = small(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    let grid = [
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
    ];
    info.max_workgroups = grid.map(small).into_iter().min().unwrap_or(0);
    info.local_memory_bytes = small(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    let warp = small(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    info.subgroup_sizes = Some((warp, warp));
    (info.f16, info.bf16, info.int8_dot, info.timestamps) = (true, true, true, true);
    info.matrix = matrix_shapes();
    let architecture = format!("sm_{}{}", capability.0, capability.1);
    info.extensions = vec![architecture.clone()];
    if !bus.is_empty() {
        info.extensions.push(format!("pci {bus}"));
    }
    let sizes = [
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
        Attribute::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
    ];
    Some(Found {
        device,
        info,
        architecture,
        workgroup_sizes: sizes.map(at_least_0),
        pools: get(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED) != 0,
    })
}

/// Why a device of this compute capability can't be used.
fn too_old((major, minor): (c_int, c_int)) -> Option<String> {
    let (least, of_least) = CAPABILITY;
    ((major, minor) < CAPABILITY).then(|| {
        format!(
            "its compute capability is {major}.{minor}, and {least}.{of_least} or higher is needed (Ampere and \
             newer); its Vulkan driver serves it"
        )
    })
}

/// An emulator says so in its name.
fn kind(name: &str, integrated: bool) -> DeviceKind {
    if name.to_lowercase().contains("emulator") {
        DeviceKind::Software
    } else if integrated {
        DeviceKind::IntegratedGpu
    } else {
        DeviceKind::DiscreteGpu
    }
}

/// The shapes of `mma.sync` that every device from 8.0 on has (PTX ISA, "Matrix multiply-accumulate").
pub(crate) fn matrix_shapes() -> Vec<MatrixShape> {
    let shape = |k, input, accumulator| MatrixShape { m: 16, n: 8, k, input, accumulator };
    vec![
        shape(16, DType::F16, DType::F32),
        shape(16, DType::BF16, DType::F32),
        shape(32, DType::I8, DType::I32),
    ]
}

/// A text that CUDA writes into a buffer.
fn text(ask: impl FnOnce(*mut c_char, c_int) -> CUresult) -> String {
    let mut bytes = [0u8; 256];
    if ask(bytes.as_mut_ptr().cast(), bytes.len() as c_int) != CUresult::CUDA_SUCCESS {
        return String::new();
    }
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_devices_are_refused_with_their_capability() {
        assert_eq!(too_old((8, 0)), None);
        assert_eq!(too_old((12, 0)), None);
        let why = too_old((7, 5)).unwrap();
        assert!(why.contains("7.5") && why.contains("8.0 or higher"), "{why}");
    }

    #[test]
    fn emulators_are_named_as_software() {
        assert_eq!(kind("Halite CUDA Emulator (sm_90)", false), DeviceKind::Software);
        assert_eq!(kind("NVIDIA H100", false), DeviceKind::DiscreteGpu);
        assert_eq!(kind("Orin", true), DeviceKind::IntegratedGpu);
    }

    #[test]
    fn versions_and_texts_are_read_as_cuda_gives_them() {
        assert_eq!((dotted(12040), dotted(13000)), ("12.4".into(), "13.0".into()));
        let given = text(|buffer, bytes| {
            assert_eq!(bytes, 256);
            // SAFETY: the buffer has 256 bytes.
            unsafe { std::ptr::copy_nonoverlapping(c"a name".as_ptr(), buffer, 7) };
            CUresult::CUDA_SUCCESS
        });
        assert_eq!(given, "a name");
        assert_eq!(text(|_, _| CUresult::CUDA_ERROR_INVALID_DEVICE), "");
    }

    #[test]
    fn devices_need_a_compiler_or_kernels_that_are_compiled() {
        let nvrtc = || Ok("12.9 of a folder".to_string());
        let tried = [kernels(0, nvrtc()), kernels(300, nvrtc()), kernels(300, Err("NVRTC was not found"))];
        for ((usable, note), said) in tried.into_iter().zip([
            "kernels are compiled by NVRTC 12.9 of a folder",
            "300 kernels come with this program; others are compiled by NVRTC 12.9 of a folder",
            "300 kernels come with this program; others can't be compiled: NVRTC was not found",
        ]) {
            assert_eq!((usable, &*note), (true, said));
        }
        let (usable, note) = kernels(0, Err("NVRTC was not found"));
        assert!(
            !usable && note.starts_with("NVRTC was not found; ") && note.contains("prebuilt-kernels"),
            "{note}"
        );
    }

    #[test]
    fn absence_is_explained() {
        let (found, notes) = scan();
        assert!(!notes.is_empty());
        if found.is_empty() {
            let helps = ["driver", "nvidia-smi", "nvidia-cuda-nvrtc-cu12", "compute capability"];
            assert!(notes.iter().any(|note| helps.iter().any(|word| note.contains(word))), "{notes:?}");
        }
    }
}
