//! What the host's processor and memory are.

use halite_hal::{DeviceInfo, DeviceKind};

/// The host as a device, without a profile.
pub(crate) fn describe() -> DeviceInfo {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = field(&cpu, "model name").unwrap_or(std::env::consts::ARCH);
    let mut info = DeviceInfo::new("cpu", 0, name, DeviceKind::Cpu);
    info.vendor = field(&cpu, "vendor_id").unwrap_or_default().into();
    info.driver = concat!("halite-cpu ", env!("CARGO_PKG_VERSION")).into();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    info.memory_bytes = kibibytes(&memory, "MemTotal").unwrap_or(0);
    info.memory_free_bytes = kibibytes(&memory, "MemAvailable");
    info.unified_memory = true;
    info.offset_alignment = 64;
    info.f16 = true;
    info.bf16 = true;
    info.extensions = extensions();
    info
}

/// The value of the first `key : value` line.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|l| {
        let (k, v) = l.split_once(':')?;
        (k.trim() == key).then(|| v.trim())
    })
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    Some(field(text, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<String> {
    macro_rules! present {
        ($($name:tt),*) => { [$(($name, is_x86_feature_detected!($name))),*] };
    }
    let all = present![
        "sse4.2",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "avx512bf16",
        "avx512fp16"
    ];
    all.iter().filter(|(_, there)| *there).map(|(name, _)| name.to_string()).collect()
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<String> {
    vec!["neon".into()]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_whatever_the_spacing() {
        let text = "processor\t: 0\nmodel name\t: A: b\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), Some("A: b"));
        assert_eq!(kibibytes(text, "MemTotal"), Some(2 << 20));
        assert_eq!(kibibytes(text, "MemFree"), None);
    }
}
