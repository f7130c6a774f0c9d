//! Kernels that are compiled already, with which devices can be used where there is no compiler.
//!
//! A build with the feature `prebuilt-kernels` has those that models of the usual sizes need, `docs/cuda.md` says
//! which; a build without it has none. What isn't among them, such as a program's own kernel, is compiled as ever.

#[cfg(any(test, feature = "prebuilt-kernels"))]
mod archive;
#[cfg(any(test, feature = "prebuilt-kernels"))]
mod list;

/// The archive of PTX, which drivers compile for any device.
pub(crate) const PTX: &str = "ptx";

/// What looks for a kernel by its CUDA C, in the archive of an architecture, such as `sm_90`, or of [`PTX`]: what the
/// driver may be given, nothing where there is no such archive, or why the kernel isn't there.
pub(crate) type Find = fn(&str, &str) -> Result<Option<&'static [u8]>, String>;

/// Looks among the kernels of this build.
#[cfg(feature = "prebuilt-kernels")]
pub(crate) const FIND: Find = archive::find;

/// There are none in this build.
#[cfg(not(feature = "prebuilt-kernels"))]
pub(crate) const FIND: Find =
    |_, _| Err("a build of Halite with its feature `prebuilt-kernels` has those of usual models".into());

/// How many kernels this build has.
pub(crate) fn count() -> usize {
    #[cfg(feature = "prebuilt-kernels")]
    return archive::count();
    #[cfg(not(feature = "prebuilt-kernels"))]
    0
}

#[cfg(test)]
pub(crate) mod tests;
