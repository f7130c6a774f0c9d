//! Writes naga's intermediate representation as OpenCL C or CUDA C.

/// The language to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenCL C 1.2 without extensions.
    OpenClC,
    /// CUDA C++ as NVRTC compiles it.
    CudaC,
}
