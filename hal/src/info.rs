//! What a device says of itself, how it is opened, and profiles that restrict it.

use crate::{DType, Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The sort of hardware behind a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeviceKind {
    /// A GPU driver that runs on the CPU (lavapipe, SwiftShader, PoCL), or an emulator.
    Software,
    /// The host's processor through native code.
    Cpu,
    /// A GPU that shares the host's memory.
    IntegratedGpu,
    /// An accelerator that isn't a GPU.
    Accelerator,
    /// A GPU with memory of its own.
    DiscreteGpu,
}

/// A matrix-multiply shape that the hardware has an instruction for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MatrixShape {
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// Length of the sum.
    pub k: u32,
    /// Type of the factors.
    pub input: DType,
    /// Type of the sum.
    pub accumulator: DType,
}

/// What matters of a device for portability. Limits that a device doesn't have are `u64::MAX` or
/// `u32::MAX`; features it doesn't have are `false`, `None` or empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// How to select it: `kind:index`.
    pub selector: String,
    /// The backend: `cpu`, `vulkan`, `opencl`, `cuda`, `wgpu` or another.
    pub backend: String,
    /// The product's name.
    pub name: String,
    /// The maker's name.
    pub vendor: String,
    /// Driver name and version.
    pub driver: String,
    /// The sort of hardware.
    pub kind: DeviceKind,
    /// UUID or PCI address, so that one GPU seen through several APIs is recognised.
    pub uuid: Option<String>,
    /// Bytes of memory in all.
    pub memory_bytes: u64,
    /// Bytes free when the device was found, where that is known.
    pub memory_free_bytes: Option<u64>,
    /// Whether host and device share memory.
    pub unified_memory: bool,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest part of a buffer that a kernel can be given, in bytes.
    pub max_binding_bytes: u64,
    /// Alignment of a binding's start, in bytes.
    pub offset_alignment: u64,
    /// Largest number of buffers that a kernel can be given.
    pub max_bindings: u32,
    /// Largest number of invocations of a workgroup.
    pub max_workgroup_size: u32,
    /// Largest number of workgroups along one axis.
    pub max_workgroups: u32,
    /// Bytes of memory that a workgroup shares.
    pub local_memory_bytes: u32,
    /// Smallest and largest subgroup (warp, wave), where there are any.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// Whether a kernel may ask for a subgroup size.
    pub subgroup_size_control: bool,
    /// Whether invocations of a workgroup can wait for each other.
    pub barriers: bool,
    /// Whether 32-bit integer atomics work.
    pub atomics: bool,
    /// Arithmetic in f16.
    pub f16: bool,
    /// Arithmetic in bf16.
    pub bf16: bool,
    /// 8-bit integer dot products.
    pub int8_dot: bool,
    /// Matrix instructions.
    pub matrix: Vec<MatrixShape>,
    /// Device timestamps.
    pub timestamps: bool,
    /// Vector instruction sets or other extensions worth knowing, by name.
    pub extensions: Vec<String>,
    /// The profile that restricts it, if any.
    pub profile: Option<String>,
}

impl DeviceInfo {
    /// A device without limits or features, to be filled in.
    pub fn new(backend: &str, index: usize, name: &str, kind: DeviceKind) -> Self {
        DeviceInfo {
            selector: format!("{backend}:{index}"),
            backend: backend.into(),
            name: name.into(),
            vendor: String::new(),
            driver: String::new(),
            kind,
            uuid: None,
            memory_bytes: 0,
            memory_free_bytes: None,
            unified_memory: false,
            max_buffer_bytes: u64::MAX,
            max_binding_bytes: u64::MAX,
            offset_alignment: 4,
            max_bindings: u32::MAX,
            max_workgroup_size: u32::MAX,
            max_workgroups: u32::MAX,
            local_memory_bytes: u32::MAX,
            subgroup_sizes: None,
            subgroup_size_control: false,
            barriers: true,
            atomics: true,
            f16: false,
            bf16: false,
            int8_dot: false,
            matrix: Vec::new(),
            timestamps: false,
            extensions: Vec::new(),
            profile: None,
        }
    }
}

/// How a device is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Where a backend may cache the programs that it compiles, and where tuned choices of kernels are found;
    /// nothing is written or read without it.
    pub cache_dir: Option<PathBuf>,
    /// Host threads; the number of processors without it.
    pub threads: Option<usize>,
    /// Bytes of device memory that may be used.
    pub memory_limit: Option<u64>,
    /// Whether a driver that has validation switches it on.
    pub validation: bool,
    /// Restricts what the device reports and uses.
    pub profile: Option<Profile>,
}

impl DeviceOptions {
    /// Sets the folder for compiled programs and tuned choices.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Sets the number of host threads.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the memory limit in bytes.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets the profile.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }
}

/// A restriction of a device to what a rarer one can do, so that the paths that one takes run here.
/// A profile is an emulation of limits, never a claim that the named hardware was used.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it stands for, and where its figures come from.
    pub about: &'static str,
    /// Whether only core ops are native; the rest is composed.
    pub core_only: bool,
    restrict: fn(&mut DeviceInfo),
}

fn no_subgroups(i: &mut DeviceInfo) {
    i.subgroup_sizes = None;
    i.subgroup_size_control = false;
}

fn no_low_precision(i: &mut DeviceInfo) {
    i.bf16 = false;
    i.int8_dot = false;
    i.matrix.clear();
}

fn minimal(i: &mut DeviceInfo) {
    no_subgroups(i);
    no_low_precision(i);
    i.f16 = false;
    i.local_memory_bytes = i.local_memory_bytes.min(16 << 10);
    i.max_workgroup_size = i.max_workgroup_size.min(128);
    i.max_binding_bytes = i.max_binding_bytes.min(128 << 20);
    // What WebGPU guarantees. A kernel of the catalogue may need more; none that does several ops takes more.
    i.max_bindings = i.max_bindings.min(8);
}

fn mtt_s80(i: &mut DeviceInfo) {
    no_low_precision(i);
    i.local_memory_bytes = i.local_memory_bytes.min(16 << 10);
    // The device has subgroups of 128. Where the driver at hand can't be made to use them, none are used.
    match i.subgroup_sizes {
        Some((low, high)) if i.subgroup_size_control && low <= 128 && 128 <= high => {
            i.subgroup_sizes = Some((128, 128));
        }
        _ => no_subgroups(i),
    }
}

fn mlu_class(i: &mut DeviceInfo) {
    minimal(i);
    i.max_workgroup_size = 1;
    i.barriers = false;
    i.atomics = false;
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 6] = [
        Profile {
            name: "core-only",
            about: "only core ops are native, every other op is composed: what a new backend starts with",
            core_only: true,
            restrict: |_| {},
        },
        Profile {
            name: "no-subgroups",
            about: "no subgroup operations",
            core_only: false,
            restrict: no_subgroups,
        },
        Profile {
            name: "minimal",
            about: "no subgroups, no f16, 16 KiB local memory, workgroups of at most 128, bindings of at most \
                    128 MiB: the least that Vulkan 1.1 and OpenCL 1.2 drivers commonly offer",
            core_only: false,
            restrict: minimal,
        },
        Profile {
            name: "mtt-s80",
            about: "Moore Threads MTT S80: subgroups of 128, 16 KiB local memory, f16 but no bf16, integer dot \
                    or matrix instructions (as public llama.cpp reports show for its Vulkan driver)",
            core_only: false,
            restrict: mtt_s80,
        },
        Profile {
            name: "mtt-s4000",
            about: "Moore Threads MTT S4000: limits as mtt-s80, for want of public reports of its own",
            core_only: false,
            restrict: mtt_s80,
        },
        Profile {
            name: "mlu-class",
            about: "a task model as Cambricon's: one invocation a workgroup, no barriers, atomics or subgroups, \
                    little local memory, only core ops native",
            core_only: true,
            restrict: mlu_class,
        },
    ];

    /// The profile of that name.
    pub fn named(name: &str) -> Result<Profile> {
        Self::ALL.into_iter().find(|p| p.name == name).ok_or_else(|| Error::NoProfile {
            name: name.into(),
            available: Self::ALL.iter().map(|p| p.name.into()).collect(),
        })
    }

    /// Restricts `info` and notes the profile's name in it.
    pub fn apply(&self, info: &mut DeviceInfo) {
        (self.restrict)(info);
        info.profile = Some(self.name.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_only_take_away() {
        let mut full = DeviceInfo::new("x", 0, "x", DeviceKind::DiscreteGpu);
        full.subgroup_sizes = Some((32, 32));
        full.f16 = true;
        full.bf16 = true;
        for p in Profile::ALL {
            let mut i = full.clone();
            Profile::named(p.name).unwrap().apply(&mut i);
            assert_eq!(i.profile.as_deref(), Some(p.name));
            assert!(i.local_memory_bytes <= full.local_memory_bytes);
            assert!(i.max_workgroup_size <= full.max_workgroup_size);
        }
        let mut i = full.clone();
        Profile::named("mtt-s80").unwrap().apply(&mut i);
        assert!(i.subgroup_sizes.is_none() && i.f16 && !i.bf16);
        assert!(Profile::named("s81").unwrap_err().to_string().contains("mtt-s80"));
    }
}
