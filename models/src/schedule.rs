//! The learning rate as a pure function of the step, so that a resumed run follows the same curve.

use serde::{Deserialize, Serialize};

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// Stays at the peak.
    Constant,
    /// Half a cosine from the peak to `min_ratio` of it, which is reached at the last step's end.
    /// Source: arXiv 1608.03983.
    Cosine {
        /// Final rate as a part of the peak, from 0 to 1.
        min_ratio: f64,
    },
    /// Warmup-stable-decay: the peak, then a straight line to `min_ratio` of it over the last
    /// `decay_steps` steps. Source: arXiv 2404.06395.
    Wsd {
        /// Steps of the decline.
        decay_steps: u64,
        /// Final rate as a part of the peak, from 0 to 1.
        min_ratio: f64,
    },
}

/// A warm-up in a straight line, then a [`Decay`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Steps until the peak is reached; step `warmup_steps - 1` is the first at the peak.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// What follows the warm-up.
    pub decay: Decay,
}

/// A schedule that can't be followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("learning rate schedule: {key} is {value}; it must be {wanted}")]
pub struct ScheduleError {
    /// The setting.
    pub key: &'static str,
    /// What was given.
    pub value: String,
    /// What would be right.
    pub wanted: String,
}

impl Schedule {
    /// Checks ranges, and that warm-up and decay fit into the run.
    pub fn validate(&self) -> Result<(), ScheduleError> {
        let wrong = |key, value: String, wanted: String| Err(ScheduleError { key, value, wanted });
        if !(self.peak.is_finite() && self.peak >= 0.0) {
            return wrong("the peak", self.peak.to_string(), "a finite number, 0 or more".into());
        }
        if self.decay != Decay::Constant && self.warmup_steps > self.total_steps {
            let wanted = format!("at most the run's {} steps", self.total_steps);
            return wrong("warmup_steps", self.warmup_steps.to_string(), wanted);
        }
        let min_ratio = match self.decay {
            Decay::Constant => return Ok(()),
            Decay::Cosine { min_ratio } => min_ratio,
            Decay::Wsd { decay_steps, min_ratio } => {
                let rest = self.total_steps - self.warmup_steps;
                if decay_steps > rest {
                    let wanted = format!("at most the {rest} steps after the warm-up");
                    return wrong("decay_steps", decay_steps.to_string(), wanted);
                }
                min_ratio
            }
        };
        if !(0.0..=1.0).contains(&min_ratio) {
            return wrong("min_ratio", min_ratio.to_string(), "from 0 to 1".into());
        }
        Ok(())
    }

    /// The learning rate of step `step` (0-based). Beyond the last step the curve stays at its end.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * ((step + 1) as f64 / self.warmup_steps as f64);
        }
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Cosine { min_ratio } => {
                let done = part(step, self.warmup_steps, self.total_steps);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
                self.peak * (min_ratio + (1.0 - min_ratio) * cosine)
            }
            Decay::Wsd { decay_steps, min_ratio } => {
                let start = self.total_steps.saturating_sub(decay_steps);
                let done = part(step, start, self.total_steps);
                self.peak * (1.0 - (1.0 - min_ratio) * done)
            }
        }
    }
}

/// How much of `start..end` lies before `step`, from 0 to 1.
fn part(step: u64, start: u64, end: u64) -> f64 {
    if step >= end {
        return 1.0;
    }
    if step <= start {
        return 0.0; // also when the stretch is empty
    }
    (step - start) as f64 / (end - start) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(warmup_steps: u64, decay: Decay) -> Schedule {
        Schedule { peak: 2.0, warmup_steps, total_steps: 20, decay }
    }

    #[test]
    fn constant_needs_no_length() {
        let s = Schedule { total_steps: 0, ..schedule(0, Decay::Constant) };
        s.validate().unwrap();
        assert_eq!((s.at(0), s.at(u64::MAX)), (2.0, 2.0));
    }

    #[test]
    fn warmup_starts_above_zero_and_ends_at_the_peak() {
        let s = schedule(4, Decay::Constant);
        assert_eq!([s.at(0), s.at(1), s.at(2), s.at(3), s.at(4)], [0.5, 1.0, 1.5, 2.0, 2.0]);
    }

    #[test]
    fn cosine_passes_its_middle_and_ends_at_the_minimum() {
        let s = schedule(4, Decay::Cosine { min_ratio: 0.1 });
        assert_eq!(s.at(4), 2.0);
        assert!((s.at(12) - 1.1).abs() < 1e-12);
        assert!((s.at(20) - 0.2).abs() < 1e-12);
        assert_eq!(s.at(20), s.at(1000));
    }

    #[test]
    fn wsd_holds_then_falls_in_a_line() {
        let s = schedule(4, Decay::Wsd { decay_steps: 8, min_ratio: 0.0 });
        assert_eq!([s.at(4), s.at(12), s.at(16), s.at(20), s.at(99)], [2.0, 2.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn wsd_without_a_decline_stays_at_the_peak() {
        let s = schedule(4, Decay::Wsd { decay_steps: 0, min_ratio: 0.0 });
        assert_eq!([s.at(4), s.at(19)], [2.0, 2.0]);
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for bad in [
            Schedule { peak: f64::NAN, ..schedule(0, Decay::Constant) },
            Schedule { peak: -1.0, ..schedule(0, Decay::Constant) },
            schedule(21, Decay::Cosine { min_ratio: 0.0 }),
            schedule(0, Decay::Cosine { min_ratio: 1.5 }),
            schedule(0, Decay::Cosine { min_ratio: f64::NAN }),
            schedule(10, Decay::Wsd { decay_steps: 11, min_ratio: 0.0 }),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn settings_round_trip_exactly() {
        let s = schedule(4, Decay::Wsd { decay_steps: 8, min_ratio: 1.0 / 3.0 });
        let text = serde_json::to_string(&s).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), s);
        assert!(serde_json::from_str::<Decay>(r#"{"kind":"cosine","min_ratio":0,"mni":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn valid_schedules_stay_within_their_range(
            warmup in 0u64..50, rest in 0u64..50, tail in 0u64..50, min_ratio in 0.0..=1.0f64,
            step in 0u64..200, wsd: bool,
        ) {
            let decay = match wsd {
                true => Decay::Wsd { decay_steps: tail.min(rest), min_ratio },
                false => Decay::Cosine { min_ratio },
            };
            let s = Schedule { peak: 3.0, warmup_steps: warmup, total_steps: warmup + rest, decay };
            s.validate().unwrap();
            let lr = s.at(step);
            prop_assert!((0.0..=3.0 + 1e-12).contains(&lr));
            if step >= warmup {
                prop_assert!(lr >= 3.0 * min_ratio - 1e-12);
                prop_assert!(s.at(step + 1) <= lr + 1e-12);
            }
        }
    }
}
