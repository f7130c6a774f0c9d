//! A kernel's source, and its translation into what drivers take.

use crate::writer::{self, Dialect};
use naga::back::spv;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// The name of every kernel's entry point.
pub const ENTRY: &str = "main";

/// A compute kernel in WGSL. Binding 0 of group 0 is the parameter block, a uniform struct of 32-bit
/// scalars; bindings 1, 2, … are storage buffers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// For messages and caches.
    pub name: String,
    /// The source; its entry point is [`ENTRY`].
    pub wgsl: String,
    /// Number of storage bindings.
    pub bindings: usize,
    /// 32-bit words in the parameter block; 0 if there is none.
    pub params: usize,
    /// Invocations of a workgroup along each axis.
    pub workgroup: [u32; 3],
    /// The subgroup size that it needs, if it needs one.
    pub subgroup: Option<u32>,
}

/// Why a kernel can't be translated.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranslateError {
    /// It isn't WGSL.
    #[error("kernel {kernel}: {message}")]
    Parse {
        /// The kernel's name.
        kernel: String,
        /// Where and why.
        message: String,
    },
    /// It breaks a rule of the language.
    #[error("kernel {kernel} is not valid: {message}")]
    Invalid {
        /// The kernel's name.
        kernel: String,
        /// Where and why.
        message: String,
    },
    /// The target can't express it.
    #[error("kernel {kernel} can't be written as {target}: {message}")]
    Target {
        /// The kernel's name.
        kernel: String,
        /// The language.
        target: &'static str,
        /// The construct.
        message: String,
    },
}

/// A parsed and validated kernel.
#[derive(Debug)]
pub struct Parsed {
    name: String,
    module: naga::Module,
    info: ModuleInfo,
}

impl Kernel {
    /// Parses and validates.
    pub fn parse(&self) -> Result<Parsed, TranslateError> {
        let name = self.name.clone();
        let module = naga::front::wgsl::parse_str(&self.wgsl).map_err(|e| TranslateError::Parse {
            kernel: name.clone(),
            message: e.emit_to_string(&self.wgsl),
        })?;
        let capabilities = Capabilities::SUBGROUP
            | Capabilities::SUBGROUP_BARRIER
            | Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        let info = validator.validate(&module).map_err(|e| TranslateError::Invalid {
            kernel: name.clone(),
            message: e.emit_to_string(&self.wgsl),
        })?;
        Ok(Parsed { name, module, info })
    }
}

impl Parsed {
    /// Whether a storage binding is declared to be read only.
    pub fn reads_only(&self, binding: u32) -> bool {
        let read = naga::StorageAccess::LOAD;
        let here = |g: &naga::GlobalVariable| g.binding.is_some_and(|b| (b.group, b.binding) == (0, binding));
        let space = self.module.global_variables.iter().find(|(_, g)| here(g)).map(|(_, g)| g.space);
        space == Some(naga::AddressSpace::Storage { access: read })
    }

    /// SPIR-V 1.3, as Vulkan 1.1 takes it. Without bounds checks, loop bounding and zero-initialised
    /// workgroup memory: the kernels are proven not to need them, and they cost much.
    pub fn spirv(&self) -> Result<Vec<u32>, TranslateError> {
        let unchecked = naga::proc::BoundsCheckPolicy::Unchecked;
        let options = spv::Options {
            lang_version: (1, 3),
            flags: spv::WriterFlags::empty(),
            bounds_check_policies: naga::proc::BoundsCheckPolicies {
                index: unchecked,
                buffer: unchecked,
                image_load: unchecked,
                binding_array: unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: false,
            use_storage_input_output_16: false,
            ..Default::default()
        };
        let pipeline =
            spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: ENTRY.into() };
        spv::write_vec(&self.module, &self.info, &options, Some(&pipeline)).map_err(|e| {
            TranslateError::Target { kernel: self.name.clone(), target: "SPIR-V", message: e.to_string() }
        })
    }

    /// OpenCL C or CUDA C; the kernel's name and arguments are as [`writer::write`] says.
    pub fn c(&self, dialect: Dialect) -> Result<String, TranslateError> {
        let target = match dialect {
            Dialect::OpenClC => "OpenCL C",
            Dialect::CudaC => "CUDA C",
        };
        writer::write(&self.module, &self.info, ENTRY, dialect).map_err(|e| TranslateError::Target {
            kernel: self.name.clone(),
            target,
            message: e.to_string(),
        })
    }
}

impl From<TranslateError> for halite_hal::Error {
    fn from(e: TranslateError) -> Self {
        halite_hal::Error::Backend { device: "kernels".into(), message: e.to_string(), source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(wgsl: &str) -> Kernel {
        Kernel {
            name: "k".into(),
            wgsl: wgsl.into(),
            bindings: 1,
            params: 0,
            workgroup: [1; 3],
            subgroup: None,
        }
    }

    #[test]
    fn errors_name_the_kernel_and_the_place() {
        let e = kernel("fn main( {").parse().unwrap_err().to_string();
        assert!(e.contains("kernel k") && e.contains("1:"), "{e}");
        let e = kernel("@compute @workgroup_size(0) fn main() {}").parse().unwrap_err().to_string();
        assert!(e.contains("kernel k"), "{e}");
    }

    #[test]
    fn what_is_only_read_is_known() {
        let wgsl = "@group(0) @binding(1) var<storage, read> x: array<f32>;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn main() { y[0] = x[0]; }";
        let parsed = kernel(wgsl).parse().unwrap();
        assert_eq!([1, 2, 3].map(|b| parsed.reads_only(b)), [true, false, false]);
    }

    #[test]
    fn spirv_has_its_magic_number() {
        let wgsl = "@group(0) @binding(1) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn main() { y[0] = 1.0; }";
        let words = kernel(wgsl).parse().unwrap().spirv().unwrap();
        assert_eq!((words[0], words[1]), (0x0723_0203, 0x0001_0300));
    }
}
