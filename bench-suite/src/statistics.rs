//! What is said of several samples of one quantity.

/// Median and spread of some samples, all in the samples' unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle sample, or the mean of the two in the middle.
    pub median: f64,
    /// A quarter of the samples are below it.
    pub lower_quartile: f64,
    /// A quarter of the samples are above it.
    pub upper_quartile: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Standard deviation of the sample (n − 1); 0 for a single one.
    pub deviation: f64,
}

impl Summary {
    /// Of one or more samples; `None` of nothing.
    pub fn of(samples: &[f64]) -> Option<Summary> {
        if samples.is_empty() {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
        Some(Summary {
            median: quantile(&sorted, 0.5),
            lower_quartile: quantile(&sorted, 0.25),
            upper_quartile: quantile(&sorted, 0.75),
            mean,
            deviation: (squares / (n - 1.0).max(1.0)).sqrt(),
        })
    }
}

/// Between the neighbouring samples in proportion (Hyndman & Fan 1996, type 7).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + part * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_known_samples() {
        // By hand, and as numpy.percentile and statistics.stdev give it.
        let s = Summary::of(&[4.0, 1.0, 3.0, 2.0, 10.0]).unwrap();
        assert_eq!((s.median, s.lower_quartile, s.upper_quartile, s.mean), (3.0, 2.0, 4.0, 4.0));
        assert!((s.deviation - 12.5f64.sqrt()).abs() < 1e-12);
        let s = Summary::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((s.median, s.lower_quartile, s.upper_quartile), (2.5, 1.75, 3.25));
    }

    #[test]
    fn of_one_sample_and_of_none() {
        let s = Summary::of(&[7.0]).unwrap();
        assert_eq!((s.median, s.upper_quartile, s.deviation), (7.0, 7.0, 0.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
