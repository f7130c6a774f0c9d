//! Makes names from the source into names that C compilers accept, each of them once.

use std::collections::HashSet;

/// The name of the kernel that is written for the entry point `entry_point`.
pub fn kernel_name(entry_point: &str) -> String {
    safe(entry_point, "kernel_main")
}

/// Names in use.
#[derive(Clone, Default)]
pub(super) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// A name of the writer's own, which begins with `wgsl_`, and so is no one else's.
    pub fn internal(&mut self, wanted: String) -> String {
        self.count(wanted)
    }

    /// A name like `wanted` that no one has yet; `default` stands in for a name that is missing.
    pub fn unique(&mut self, wanted: Option<&str>, default: &str) -> String {
        self.count(safe(wanted.unwrap_or(default), default))
    }

    fn count(&mut self, base: String) -> String {
        let mut name = base.clone();
        let mut count = 1;
        while !self.used.insert(name.clone()) {
            name = format!("{base}_{count}");
            count += 1;
        }
        name
    }
}

/// `name` as an identifier that is no keyword, builtin or name of the writer's own.
fn safe(name: &str, default: &str) -> String {
    let plain: String = name
        .trim_start_matches('_')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let plain = if plain.is_empty() { default.to_string() } else { plain };
    if plain.starts_with(|c: char| c.is_ascii_digit()) {
        format!("n{plain}")
    } else if is_reserved(&plain) {
        format!("{plain}_")
    } else {
        plain
    }
}

fn is_reserved(name: &str) -> bool {
    let vector = name.trim_end_matches(|c: char| c.is_ascii_digit());
    WORDS.contains(&name)
        || (vector != name && NUMERIC.contains(&vector))
        || NUMERIC.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Scalar types, which take a vector's size as a suffix.
const NUMERIC: &[&str] = &[
    "bool",
    "char",
    "uchar",
    "short",
    "ushort",
    "int",
    "uint",
    "long",
    "ulong",
    "longlong",
    "ulonglong",
    "half",
    "float",
    "double",
    "quad",
];

/// Families of names that belong to a compiler or to the writer.
const PREFIXES: &[&str] = &[
    "wgsl_",
    "as_",
    "convert_",
    "get_",
    "atomic_",
    "atom_",
    "native_",
    "half_",
    "vload",
    "vstore",
    "make_",
    "async_work_group_",
    "work_group_",
    "sub_group_",
    "read_image",
    "write_image",
    "image1d_",
    "image2d_",
    "image3d_",
    "intel_",
    "cl_",
    "CLK_",
    "CL_",
    "FP_",
    "M_",
    "FLT_",
    "DBL_",
    "INT_",
    "UINT_",
    "LONG_",
    "ULONG_",
    "CHAR_",
    "UCHAR_",
    "SHRT_",
    "USHRT_",
    "SCHAR_",
    "HALF_",
    "CUDART_",
    "CUDA_",
    "cuda",
];

/// Keywords of C99, C++17, OpenCL C and CUDA C, and the functions and macros that the writer, or a
/// compiler's own headers, use by name.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    // C and C++
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "break", "case", "catch",
    "class", "compl", "concept", "const", "const_cast", "consteval", "constexpr", "constinit", "continue",
    "co_await", "co_return", "co_yield", "decltype", "default", "defined", "delete", "do", "dynamic_cast",
    "else", "enum", "explicit", "export", "extern", "false", "final", "for", "friend", "goto", "if",
    "import", "inline", "main", "module", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
    "operator", "or", "or_eq", "override", "private", "protected", "public", "register",
    "reinterpret_cast", "requires", "restrict", "return", "signed", "sizeof", "static", "static_assert",
    "static_cast", "std", "struct", "switch", "template", "this", "thread_local", "throw", "true", "try",
    "typedef", "typeid", "typename", "typeof", "union", "unsigned", "using", "virtual", "void", "volatile",
    "wchar_t", "while", "xor", "xor_eq", "linux", "unix", "size_t", "ptrdiff_t", "intptr_t", "uintptr_t",
    "char8_t", "char16_t", "char32_t", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t",
    "int64_t", "uint64_t", "NULL", "NAN", "INFINITY", "HUGE_VAL", "HUGE_VALF", "MAXFLOAT", "assert",
    "errno", "signbit", "isnan", "isinf", "isfinite", "isnormal", "printf",
    // OpenCL C
    "kernel", "global", "local", "constant", "generic", "uniform", "pipe", "read_only", "write_only",
    "read_write", "event_t", "sampler_t", "queue_t", "ndrange_t", "clk_event_t", "reserve_id_t",
    "complex", "imaginary", "vec_step", "barrier", "mem_fence", "read_mem_fence", "write_mem_fence",
    "prefetch", "wait_group_events", "shuffle", "shuffle2", "select", "bitselect", "upsample", "ctz",
    "mul_hi", "mad_hi", "mad_sat", "mul24", "mad24", "hadd", "rhadd", "add_sat", "sub_sat", "abs_diff",
    "rotate", "popcount", "clz", "any", "all", "enable", "disable", 
    // functions of both
    "abs", "fabs", "fabsf", "min", "max", "fmin", "fmax", "fminf", "fmaxf", "clamp", "mix", "step",
    "smoothstep", "sign", "dot", "cross", "length", "distance", "normalize", "fast_length",
    "fast_distance", "fast_normalize", "cos", "cosh", "cospi", "sin", "sinh", "sinpi", "sincos", "tan",
    "tanh", "tanpi", "acos", "acosh", "acospi", "asin", "asinh", "asinpi", "atan", "atan2", "atanh",
    "atanpi", "atan2pi", "cosf", "coshf", "sinf", "sinhf", "tanf", "tanhf", "acosf", "acoshf", "asinf",
    "asinhf", "atanf", "atan2f", "atanhf", "ceil", "ceilf", "floor", "floorf", "trunc", "truncf", "rint",
    "rintf", "round", "roundf", "fract", "modf", "modff", "frexp", "frexpf", "ldexp", "ldexpf", "logb",
    "ilogb", "nextafter", "exp", "expf", "exp2", "exp2f", "exp10", "expm1", "log", "logf", "log2", "log2f",
    "log10", "log1p", "pow", "powf", "pown", "powr", "rootn", "sqrt", "sqrtf", "rsqrt", "rsqrtf", "cbrt",
    "hypot", "erf", "erfc", "tgamma", "lgamma", "lgamma_r", "fma", "fmaf", "mad", "fdim", "fmod", "fmodf",
    "remainder", "remquo", "copysign", "copysignf", "maxmag", "minmag", "nan", "radians", "degrees",
    "j0", "j1", "jn", "y0", "y1", "yn", "isequal", "isnotequal", "isgreater", "isless", "isordered",
    "isunordered", "islessequal", "isgreaterequal", "islessgreater",
    // CUDA C
    "threadIdx", "blockIdx", "blockDim", "gridDim", "warpSize", "dim3", "clock", "clock64", "memcpy", "memset", "malloc",
    "free", "atomicAdd", "atomicSub", "atomicAnd", "atomicOr", "atomicXor", "atomicMin", "atomicMax",
    "atomicExch", "atomicCAS", "texture", "surface", "trap", "brkpt",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_gets_a_name_that_compilers_accept() {
        assert_eq!(kernel_name("gemm_f32"), "gemm_f32");
        assert_eq!(kernel_name("main"), "main_");
        assert_eq!(kernel_name("__x"), "x");
        assert_eq!(kernel_name("größe"), "gr__e");
        assert_eq!(kernel_name("_"), "kernel_main");
    }

    #[test]
    fn names_are_given_once() {
        let mut names = Names::default();
        assert_eq!(names.unique(Some("x"), "v"), "x");
        assert_eq!(names.unique(Some("x"), "v"), "x_1");
        assert_eq!(names.unique(Some("float4"), "v"), "float4_");
        assert_eq!(names.unique(Some("wgsl_div"), "v"), "wgsl_div_");
        assert_eq!(names.unique(None, "v"), "v");
    }
}
