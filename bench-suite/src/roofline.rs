//! What a device was measured to reach: bytes a second of a large copy, operations a second of the best large
//! product, both by their fastest sample (Williams, Waterman & Patterson 2009).

use crate::cases::{Case, large_copy, square_product};
use crate::measure::{self, Plan};
use crate::{Error, Result};
use halite_hal::{DType, Device};
use serde::Serialize;
use std::collections::BTreeMap;

/// A device's own limits, as measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Roofline {
    /// 10⁹ bytes a second, read and written, of a large copy.
    pub copy_gbps: Option<f64>,
    /// 10⁹ operations a second of the best large product, by dtype.
    pub gflops: BTreeMap<&'static str, f64>,
    /// What couldn't be measured, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<&'static str, String>,
}

/// Samples of each size.
const SAMPLES: usize = 5;
/// Products grow until one takes so long, in seconds.
const LONG: f64 = 0.05;

impl Roofline {
    /// Measures the copy, and products of these dtypes. `quick`: at sizes too small for figures.
    ///
    /// # Errors
    /// When the device is lost. What else goes wrong is noted in `missing`.
    pub fn measure(device: &dyn Device, dtypes: &[DType], quick: bool) -> Result<Roofline> {
        let mut roofline = Roofline::default();
        match copy(device, quick) {
            Ok(rate) => roofline.copy_gbps = Some(rate),
            Err(e) => roofline.note("copy", e)?,
        }
        for &dtype in dtypes {
            match products(device, dtype, quick) {
                Ok(rate) => drop(roofline.gflops.insert(dtype.name(), rate)),
                Err(e) => roofline.note(dtype.name(), e)?,
            }
        }
        Ok(roofline)
    }

    fn note(&mut self, what: &'static str, e: Error) -> Result<()> {
        if matches!(e, Error::Device(halite_hal::Error::DeviceLost { .. })) {
            return Err(e);
        }
        self.missing.insert(what, e.to_string());
        Ok(())
    }

    /// The least seconds that a case can take; `None` where what limits it wasn't measured.
    pub fn floor(&self, case: &Case) -> Option<f64> {
        let moving = case.bytes as f64 / (self.copy_gbps? * 1e9);
        let computing = match case.flops {
            0 => 0.0,
            n => n as f64 / (self.gflops.get(case.dtype.name())? * 1e9),
        };
        Some(moving.max(computing))
    }
}

fn seconds(device: &dyn Device, case: &Case, quick: bool) -> Result<f64> {
    let plan = if quick { Plan::quick(1) } else { Plan::thorough(SAMPLES) };
    let loaded = case.load(device)?;
    let times = measure::recording(&plan, device, &loaded.recording, &loaded.bindings)?;
    // The fastest sample: a limit isn't lower because something else ran. And a clock too coarse for a test
    // doesn't make a device infinitely fast.
    Ok(times.seconds.into_iter().fold(f64::INFINITY, f64::min).max(1e-9))
}

fn copy(device: &dyn Device, quick: bool) -> Result<f64> {
    let info = device.info();
    let memory = if info.memory_bytes == 0 { u64::MAX } else { info.memory_bytes };
    let most = if quick { 1 << 20 } else { 256 << 20 };
    let bytes = most.min(info.max_binding_bytes / 2).min(memory / 16) >> 12 << 12;
    let case = large_copy(bytes);
    Ok(case.bytes as f64 / seconds(device, &case, quick)? / 1e9)
}

fn products(device: &dyn Device, dtype: DType, quick: bool) -> Result<f64> {
    let info = device.info();
    let memory = if info.memory_bytes == 0 { u64::MAX } else { info.memory_bytes };
    let (first, last) = if quick { (64, 64) } else { (256, 8192) };
    let mut best = 0.0f64;
    let mut n = first;
    while n <= last {
        let case = square_product(dtype, n);
        if n > first && (case.bytes / 3 > info.max_binding_bytes / 2 || case.bytes > memory / 8) {
            break;
        }
        let seconds = seconds(device, &case, quick)?;
        best = best.max(case.flops as f64 / seconds / 1e9);
        if seconds > LONG {
            break;
        }
        n *= 2;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_larger_of_moving_and_computing() {
        let case = square_product(DType::F32, 64);
        let (flops, bytes) = (case.flops as f64, case.bytes as f64);
        let mut r = Roofline { copy_gbps: Some(1.0), ..Roofline::default() };
        assert_eq!(r.floor(&case), None);
        r.gflops.insert("f32", 1e-3);
        assert_eq!(r.floor(&case), Some(flops / 1e6));
        r.gflops.insert("f32", 1e6);
        assert_eq!(r.floor(&case), Some(bytes / 1e9));
        // What computes nothing needs no rate of computing.
        assert!(r.floor(&large_copy(1 << 20)).is_some());
    }
}
