//! What all rows of a run share: build, host and device.

use crate::Roofline;
use halite_hal::{Device, DeviceKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// What the program knows of the host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The processor's name.
    pub cpu: String,
    /// Threads that a device may use on the host.
    pub threads: usize,
}

/// Build, host and device of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The commit that was built, shortened; `unknown` outside of a repository.
    pub build_commit: &'static str,
    /// How many commits led to it; 0 outside of a repository.
    pub build_number: u64,
    /// The processor.
    pub cpu_info: String,
    /// The device, unless it is the processor.
    pub gpu_info: String,
    /// The backend.
    pub backends: String,
    /// Threads that the device may use on the host.
    pub n_threads: usize,
    /// The device's selector.
    pub device: String,
    /// The sort of hardware.
    pub kind: DeviceKind,
    /// UUID or PCI address, where it is known.
    pub uuid: Option<String>,
    /// Driver name and version.
    pub driver: String,
    /// Whether the driver runs on the processor: then figures say nothing of any GPU.
    pub software: bool,
    /// The profile that restricts the device.
    pub profile: Option<String>,
    /// Choices of kernel variants in force.
    pub tuning: BTreeMap<String, String>,
    /// What the device was measured to reach; of model runs nothing.
    pub roofline: Option<Roofline>,
}

impl Run {
    /// Of a device, after the tests: tuning may have chosen while they ran.
    pub fn new(device: &dyn Device, host: &Host, roofline: Option<Roofline>) -> Run {
        let info = device.info();
        Run {
            build_commit: option_env!("HALITE_COMMIT").unwrap_or("unknown"),
            build_number: option_env!("HALITE_COMMIT_NUMBER").and_then(|n| n.parse().ok()).unwrap_or(0),
            cpu_info: host.cpu.clone(),
            gpu_info: if info.kind == DeviceKind::Cpu { String::new() } else { info.name.clone() },
            backends: info.backend.clone(),
            n_threads: host.threads,
            device: info.selector.clone(),
            kind: info.kind,
            uuid: info.uuid.clone(),
            driver: info.driver.clone(),
            software: info.kind == DeviceKind::Software,
            profile: info.profile.clone(),
            tuning: device.tuning().into_iter().collect(),
            roofline,
        }
    }
}

/// The time now, in UTC (ISO 8601).
pub(crate) fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    utc(since.map_or(0, |d| d.as_secs()))
}

/// Seconds since 1970 as a date and time; the Gregorian calendar as in Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last; eras are 400 years.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // As `date --utc --date @N` says.
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_709_251_199), "2024-02-29T23:59:59Z");
        assert_eq!(utc(1_709_251_200), "2024-03-01T00:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
