//! A kernel's source, and its translation into what drivers take.

use crate::writer::{self, Dialect};
use naga::back::spv;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Handle, TypeInner};

/// The name of every kernel's entry point.
pub const ENTRY: &str = "main";

/// What a kernel is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    /// WGSL, which is translated into what a driver takes: the portable kernels. Binding 0 of group 0 is the
    /// parameter block, a uniform struct of 32-bit scalars; bindings 1, 2, … are storage buffers.
    Wgsl,
    /// CUDA C, for the devices of the CUDA backend alone. The kernel's name and arguments are those that
    /// [`writer::write`] would give it.
    CudaC,
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Language::Wgsl => "WGSL",
            Language::CudaC => "CUDA C",
        })
    }
}

/// A compute kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// For messages and caches.
    pub name: String,
    /// The source; its entry point is [`ENTRY`].
    pub text: String,
    /// What the source is written in.
    pub language: Language,
    /// Bytes of workgroup memory that a launch gives a kernel in CUDA C. WGSL declares all of its own.
    pub dynamic_bytes: u32,
    /// Number of storage bindings.
    pub bindings: usize,
    /// 32-bit words in the parameter block; 0 if there is none.
    pub params: usize,
    /// Whether each word of the parameter block is followed by one that is 0.
    pub wide_params: bool,
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
    /// It is written for other devices.
    #[error("kernel {kernel} is written in {language}, which can't be translated")]
    Native {
        /// The kernel's name.
        kernel: String,
        /// The language.
        language: Language,
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
    /// The bytes of a parameter block of these words, for a kernel that has [`wide_params`](Self::wide_params)
    /// or not.
    pub fn param_bytes(words: &[u32], wide_params: bool) -> Vec<u8> {
        match wide_params {
            true => words.iter().flat_map(|&w| u64::from(w).to_ne_bytes()).collect(),
            false => words.iter().flat_map(|w| w.to_ne_bytes()).collect(),
        }
    }

    /// A kernel whose bindings, parameters and workgroup are read from its source: the entry point is
    /// [`ENTRY`]; all variables are in group 0, binding 0 a uniform struct of `u32`, `i32` and `f32` if there
    /// are parameters, and bindings 1, 2, … storage buffers, without a gap.
    ///
    /// # Errors
    /// When the source isn't WGSL or has another form.
    pub fn from_wgsl(name: impl Into<String>, wgsl: impl Into<String>) -> Result<Kernel, TranslateError> {
        let mut kernel = Kernel {
            name: name.into(),
            text: wgsl.into(),
            language: Language::Wgsl,
            dynamic_bytes: 0,
            bindings: 0,
            params: 0,
            wide_params: false,
            workgroup: [1; 3],
            subgroup: None,
        };
        let parsed = kernel.parse()?;
        let invalid = |message: String| TranslateError::Invalid { kernel: parsed.name.clone(), message };
        let entry = parsed.module.entry_points.iter().find(|e| e.name == ENTRY);
        let entry = entry.ok_or_else(|| invalid(format!("there is no entry point {ENTRY}")))?;
        kernel.workgroup = entry.workgroup_size;
        let mut storage = Vec::new();
        for (_, variable) in parsed.module.global_variables.iter() {
            let Some(at) = variable.binding else { continue };
            match (variable.space, at.group, at.binding) {
                (AddressSpace::Uniform, 0, 0) => {
                    let words = parsed.words(variable.ty);
                    kernel.params = words.ok_or_else(|| {
                        invalid("the parameter block must be a struct of u32, i32 and f32".into())
                    })?;
                }
                (AddressSpace::Storage { .. }, 0, 1..) => storage.push(at.binding as usize),
                (_, group, binding) => {
                    return Err(invalid(format!(
                        "group {group}, binding {binding}: parameters are a uniform struct at binding 0 of \
                         group 0, all else storage buffers from binding 1 on"
                    )));
                }
            }
        }
        storage.sort_unstable();
        if storage.iter().enumerate().any(|(i, &b)| b != i + 1) {
            return Err(invalid(format!("its bindings {storage:?} are not 1, 2, … without a gap")));
        }
        kernel.bindings = storage.len();
        Ok(kernel)
    }

    /// The kernel in CUDA C: itself, if that is what it is written in.
    ///
    /// # Errors
    /// When it isn't valid, or has what CUDA C can't express.
    pub fn to_cuda_c(&self) -> Result<Kernel, TranslateError> {
        if self.language == Language::CudaC {
            return Ok(self.clone());
        }
        let parsed = self.parse()?;
        let dynamic_bytes = writer::dynamic_bytes(&parsed.module, Dialect::CudaC);
        let text = parsed.c(Dialect::CudaC)?;
        Ok(Kernel { text, language: Language::CudaC, dynamic_bytes, ..self.clone() })
    }

    /// Parses and validates.
    pub fn parse(&self) -> Result<Parsed, TranslateError> {
        let name = self.name.clone();
        if self.language != Language::Wgsl {
            return Err(TranslateError::Native { kernel: name, language: self.language });
        }
        let module = naga::front::wgsl::parse_str(&self.text).map_err(|e| TranslateError::Parse {
            kernel: name.clone(),
            message: e.emit_to_string(&self.text),
        })?;
        let capabilities = Capabilities::SHADER_INT64
            | Capabilities::SUBGROUP
            | Capabilities::SUBGROUP_BARRIER
            | Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        let info = validator.validate(&module).map_err(|e| TranslateError::Invalid {
            kernel: name.clone(),
            message: e.emit_to_string(&self.text),
        })?;
        Ok(Parsed { name, module, info })
    }
}

impl Parsed {
    /// The members of a struct of 32-bit scalars; `None` for other types.
    fn words(&self, ty: Handle<naga::Type>) -> Option<usize> {
        let TypeInner::Struct { members, .. } = &self.module.types[ty].inner else { return None };
        let is_word = |m: &naga::StructMember| matches!(self.module.types[m.ty].inner, TypeInner::Scalar(s) if s.width == 4);
        members.iter().all(is_word).then_some(members.len())
    }

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
            text: wgsl.into(),
            language: Language::Wgsl,
            dynamic_bytes: 0,
            bindings: 1,
            params: 0,
            wide_params: false,
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
    fn the_form_of_a_kernel_is_read_from_its_source() {
        let wgsl = "struct P { n: u32, scale: f32, shift: i32 }
            @group(0) @binding(0) var<uniform> p: P;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            @group(0) @binding(1) var<storage> x: array<f32>;
            var<workgroup> shared_: array<f32, 8>;
            @compute @workgroup_size(8, 2) fn main() { shared_[0] = x[p.n] * p.scale + f32(p.shift); y[0] = shared_[0]; }";
        let kernel = Kernel::from_wgsl("k", wgsl).unwrap();
        assert_eq!((kernel.params, kernel.bindings, kernel.workgroup), (3, 2, [8, 2, 1]));
        for (from, to, why) in [
            ("main", "start", "no entry point main"),
            ("binding(2)", "binding(3)", "[1, 3]"),
            ("group(0) @binding(2)", "group(1) @binding(2)", "group 1, binding 2"),
            ("scale: f32,", "scale: f32, more: vec2<f32>,", "a struct of u32"),
        ] {
            let e = Kernel::from_wgsl("k", wgsl.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(e.contains("kernel k") && e.contains(why), "{e}");
        }
    }

    #[test]
    fn kernels_for_one_vendor_are_not_translated() {
        let kernel = Kernel { language: Language::CudaC, ..kernel("__global__ void main_() {}") };
        let e = kernel.parse().unwrap_err().to_string();
        assert_eq!(e, "kernel k is written in CUDA C, which can't be translated");
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
