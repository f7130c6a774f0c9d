//! Known failures of drivers, as data, and what is done about them.

/// What has to be avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Avoid {
    /// Parameters of 32 bits that decide on loops and branches.
    NarrowParams,
}

/// A failure of some drivers.
#[derive(Debug)]
pub(crate) struct Quirk {
    /// What the driver's description starts with.
    driver: &'static str,
    pub avoid: Avoid,
    #[cfg_attr(not(test), expect(dead_code, reason = "for who reads this table"))]
    pub reason: &'static str,
}

const QUIRKS: &[Quirk] = &[Quirk {
    driver: "llvmpipe",
    avoid: Avoid::NarrowParams,
    reason: "lavapipe puts the values of 32-bit uniforms that decide on loops and branches into a copy of the kernel, \
             and compiles that, at every dispatch: 0.1 to 4 ms each (seen with Mesa 22.3.6); it doesn't with 64 bits",
}];

/// The quirks of a driver.
pub(crate) fn of(driver: &str) -> impl Iterator<Item = &'static Quirk> {
    QUIRKS.iter().filter(move |q| driver.starts_with(q.driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lavapipe_is_known_by_its_driver() {
        let avoided = |driver: &str| of(driver).map(|q| q.avoid).collect::<Vec<_>>();
        assert_eq!(avoided("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"), [Avoid::NarrowParams]);
        assert!(avoided("SwiftShader driver").is_empty());
        assert!(QUIRKS.iter().all(|q| !q.reason.is_empty()));
    }
}
