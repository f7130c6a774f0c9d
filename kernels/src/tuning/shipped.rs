//! Choices for known classes of devices, which come with this crate.

use super::Choices;
use halite_hal::DeviceInfo;
use std::path::Path;
use std::sync::LazyLock;

/// A class of devices.
struct Class {
    name: &'static str,
    text: &'static str,
    matches: fn(&DeviceInfo) -> bool,
}

macro_rules! class {
    ($name:literal, $matches:expr) => {
        Class { name: $name, text: include_str!(concat!("../../tuned/", $name, ".json")), matches: $matches }
    };
}

fn profile(info: &DeviceInfo, name: &str) -> bool {
    info.profile.as_deref() == Some(name)
}

fn moore_threads(info: &DeviceInfo) -> bool {
    info.vendor.contains("Moore Threads") || info.name.starts_with("MTT ")
}

/// The classes; the first that matches counts. A profile goes before the device that it restricts.
const CLASSES: &[Class] = &[
    class!("mlu-class", |i| profile(i, "mlu-class")),
    class!("mtt-s4000", |i| profile(i, "mtt-s4000") || moore_threads(i) && i.name.contains("S4000")),
    class!("mtt-s80", |i| profile(i, "mtt-s80") || moore_threads(i)),
    class!("lavapipe", |i| i.name.contains("llvmpipe")),
    class!("pocl", |i| i.driver.contains("Portable Computing Language")),
];

/// The choices for the class that a device belongs to, if it is known.
pub(crate) fn shipped(info: &DeviceInfo) -> Option<&'static Choices> {
    static ALL: LazyLock<Vec<Option<Choices>>> = LazyLock::new(|| {
        let read = |class: &Class| match Choices::parse(class.text.as_bytes(), Path::new(class.name)) {
            Ok(choices) => Some(choices),
            Err(e) => {
                tracing::error!("{e}");
                None
            }
        };
        CLASSES.iter().map(read).collect()
    });
    ALL[CLASSES.iter().position(|class| (class.matches)(info))?].as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelSet, sets};
    use halite_hal::conformance::problems;
    use halite_hal::{DeviceKind, Profile};
    use std::collections::HashSet;
    use std::sync::Arc;

    /// The variants of an op on a device without limits, over all problems.
    fn names(sets: &[Arc<dyn KernelSet>], op: &str) -> HashSet<String> {
        let info = DeviceInfo::new("test", 0, "test", DeviceKind::DiscreteGpu);
        let descs = problems(op, false).map(|p| p.desc());
        let variants = |d| sets.iter().flat_map(|s| s.variants(&d, &info)).collect::<Vec<_>>();
        descs.flat_map(variants).map(|v| v.to_string()).collect()
    }

    #[test]
    fn shipped_choices_are_whole_and_name_variants_that_exist() {
        let sets = sets::all();
        let mut known = std::collections::HashMap::new();
        for class in CLASSES {
            let choices = Choices::parse(class.text.as_bytes(), Path::new(class.name)).unwrap();
            assert!(choices.iter().count() > 0, "{} chooses nothing", class.name);
            assert!(choices.excluded().is_empty(), "{}: exclusions are a device's own", class.name);
            for (key, variant) in choices.iter() {
                assert_eq!(*key, key.clone().bucket(), "{}", class.name);
                let names = known.entry(key.op().to_string()).or_insert_with(|| names(&sets, key.op()));
                assert!(names.contains(variant), "{}: {key} has no variant {variant}", class.name);
            }
        }
    }

    #[test]
    fn devices_are_of_the_class_that_they_show() {
        let class = |change: &dyn Fn(&mut DeviceInfo)| {
            let mut info = DeviceInfo::new("vulkan", 0, "a device", DeviceKind::DiscreteGpu);
            change(&mut info);
            CLASSES.iter().find(|c| (c.matches)(&info)).map(|c| c.name)
        };
        assert_eq!(class(&|_| {}), None);
        let lavapipe = |i: &mut DeviceInfo| i.name = "llvmpipe (LLVM 15.0.6, 256 bits)".into();
        assert_eq!(class(&lavapipe), Some("lavapipe"));
        assert_eq!(class(&|i| i.driver = "Portable Computing Language 3.1".into()), Some("pocl"));
        assert_eq!(class(&|i| i.vendor = "Moore Threads".into()), Some("mtt-s80"));
        assert_eq!(class(&|i| i.name = "MTT S4000".into()), Some("mtt-s4000"));
        for name in ["mtt-s80", "mtt-s4000", "mlu-class"] {
            let restricted = |i: &mut DeviceInfo| {
                lavapipe(i);
                Profile::named(name).unwrap().apply(i);
            };
            assert_eq!(class(&restricted), Some(name));
        }
    }
}
