//! Known failures of Vulkan drivers, as data: the Vulkan backend and the wgpu backend both meet them.

/// What has to be avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Avoid {
    /// Parameters of 32 bits that decide on loops and branches: see
    /// [`Traits::wide_params`](crate::Traits::wide_params).
    NarrowParams,
    /// More iterations of loops, all of a kernel's together, than this in an invocation: see
    /// [`Traits::max_loops`](crate::Traits::max_loops).
    Loops(u64),
}

/// A failure of some drivers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Quirk {
    /// What the driver's description starts with.
    pub driver: &'static str,
    /// What has to be avoided.
    pub avoid: Avoid,
    /// What happens otherwise.
    pub reason: &'static str,
}

const QUIRKS: &[Quirk] = &[
    Quirk {
        driver: "llvmpipe",
        avoid: Avoid::NarrowParams,
        reason: "lavapipe puts the values of 32-bit uniforms that decide on loops and branches into a copy of the kernel, \
                 and compiles that, at every dispatch: 0.1 to 4 ms each (seen with Mesa 22.3.6); it doesn't with 64 bits",
    },
    Quirk {
        driver: "llvmpipe",
        avoid: Avoid::Loops(65_535),
        reason: "lavapipe counts the iterations of all loops of an invocation, together with its neighbours', and from \
                 the 65535th on ends each loop after one, without a word (LP_MAX_TGSI_LOOP_ITERATIONS in Mesa's \
                 sources; seen with Mesa 22.3.6)",
    },
];

/// The quirks of the Vulkan driver of this description.
pub fn vulkan_quirks(driver: &str) -> impl Iterator<Item = &'static Quirk> {
    QUIRKS.iter().filter(move |q| driver.starts_with(q.driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lavapipe_is_known_by_its_driver() {
        let avoided = |driver: &str| vulkan_quirks(driver).map(|q| q.avoid).collect::<Vec<_>>();
        assert_eq!(
            avoided("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"),
            [Avoid::NarrowParams, Avoid::Loops(65_535)]
        );
        assert!(avoided("SwiftShader driver").is_empty());
    }
}
