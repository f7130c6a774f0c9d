//! How a time is taken: warm-up, then samples.

use crate::{Clock, Result};
use halite_hal::{Binding, Device, Recording, StreamId};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Samples of each test, at least 1.
    pub samples: usize,
    /// How long a test runs before its first sample; it runs at least once.
    pub warm_up: Duration,
    /// A sample repeats what is shorter than this, and takes the mean.
    pub sample_time: Duration,
}

impl Plan {
    /// For figures: `samples` samples of 10 ms or more, after 100 ms.
    pub fn thorough(samples: usize) -> Plan {
        let [warm_up, sample_time] = [100, 10].map(Duration::from_millis);
        Plan { samples, warm_up, sample_time }
    }

    /// To see that everything runs: each test once, then once for each sample.
    pub fn quick(samples: usize) -> Plan {
        Plan { samples, warm_up: Duration::ZERO, sample_time: Duration::ZERO }
    }
}

/// The most that a sample repeats something.
const MOST_REPEATS: u32 = 1000;

/// Seconds by the host's clock of each sample of `run`, which does its work the given number of times and
/// returns when it is done.
pub fn wall(plan: &Plan, mut run: impl FnMut(u32) -> Result<()>) -> Result<Vec<f64>> {
    let mut time = |n: u32| {
        let start = Instant::now();
        run(n)?;
        Ok(start.elapsed().as_secs_f64() / f64::from(n))
    };
    let start = Instant::now();
    // The first run compiles and allocates, so it says nothing of the others.
    let mut fastest = time(1)?;
    if plan.warm_up > Duration::ZERO {
        fastest = time(1)?;
    }
    while start.elapsed() < plan.warm_up {
        fastest = fastest.min(time(1)?);
    }
    let repeats = (plan.sample_time.as_secs_f64() / fastest.max(1e-9)).ceil();
    let repeats = (repeats as u32).clamp(1, MOST_REPEATS);
    (0..plan.samples.max(1)).map(|_| time(repeats)).collect()
}

/// Times of a recording.
#[derive(Clone, Debug)]
pub struct Times {
    /// Whose clock `seconds` are by: the device's where it has one.
    pub clock: Clock,
    /// Seconds of each sample; by the device's clock the sum over its kernels, each alone.
    pub seconds: Vec<f64>,
    /// Seconds of each sample by the host's clock, from submission to the end of waiting.
    pub wall: Vec<f64>,
}

/// Times a recording by the host's clock and, where there is one, by the device's.
pub fn recording(
    plan: &Plan,
    device: &dyn Device,
    recording: &Recording,
    bindings: &[Binding],
) -> Result<Times> {
    let wall = wall(plan, |n| {
        for _ in 0..n {
            device.replay(StreamId(0), recording, bindings)?;
        }
        Ok(device.synchronize(StreamId(0))?)
    })?;
    Ok(match kernels(plan, device, recording, bindings)? {
        Some(samples) => {
            let seconds = samples.iter().map(|s| s.iter().sum()).collect();
            Times { clock: Clock::Device, seconds, wall }
        }
        None => Times { clock: Clock::Host, seconds: wall.clone(), wall },
    })
}

/// Seconds of each kernel of a recording by the device's clock, for each sample; `None` without such a clock.
pub fn kernels(
    plan: &Plan,
    device: &dyn Device,
    recording: &Recording,
    bindings: &[Binding],
) -> Result<Option<Vec<Vec<f64>>>> {
    let one = |_| Ok(device.time(recording, bindings)?.map(|t| t.into_iter().map(|(_, s)| s).collect()));
    (0..plan.samples.max(1)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_warmed_up_and_then_sampled() {
        let mut runs = Vec::new();
        let mut note = |n: u32| {
            runs.push(n);
            Ok(())
        };
        assert_eq!(wall(&Plan::quick(3), &mut note).unwrap().len(), 3);
        assert_eq!(runs, [1; 4]);
        let mut runs = Vec::new();
        let plan =
            Plan { samples: 2, warm_up: Duration::from_nanos(1), sample_time: Duration::from_secs(3600) };
        wall(&plan, |n| {
            runs.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!(runs[runs.len() - 2..], [MOST_REPEATS; 2]);
    }

    #[test]
    fn an_error_ends_it() {
        let fail = |_: u32| Err(crate::Error::NothingInCommon);
        assert!(wall(&Plan::quick(3), fail).is_err());
    }
}
