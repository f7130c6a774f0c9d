//! Log-probabilities of tokens: the log-softmax of a model's logits, before temperature, penalties and filters.

/// How likely a model held a token to be.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LogProb {
    /// The token's id.
    pub token: u32,
    /// Its text by itself; of a part of a character, U+FFFD.
    pub text: String,
    /// The natural log of its probability.
    pub logprob: f32,
}

/// The log-probability of a token that was chosen, and those of the likeliest ones.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TokenLogProbs {
    /// The token that was chosen.
    #[serde(flatten)]
    pub chosen: LogProb,
    /// The likeliest tokens, the likeliest first, of equals the lowest id.
    pub top: Vec<LogProb>,
}

/// `ln softmax` of logits, summed in f64.
#[derive(Clone, Copy, Debug)]
pub struct LogSoftmax<'a> {
    logits: &'a [f32],
    /// `ln Σ exp(logits)`.
    lse: f64,
}

impl<'a> LogSoftmax<'a> {
    /// Of `logits [vocab_size]`, finite numbers.
    pub fn new(logits: &'a [f32]) -> Self {
        let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
        LogSoftmax { logits, lse: largest + sum.ln() }
    }

    /// The natural log of a token's probability.
    ///
    /// # Panics
    /// The token isn't one of the vocabulary.
    pub fn of(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.lse
    }

    /// The `count` likeliest tokens, or all if there are fewer: the likeliest first, of equals the lowest id.
    pub fn top(&self, count: usize) -> Vec<u32> {
        let order = |a: &u32, b: &u32| {
            let [x, y] = [a, b].map(|&id| self.logits[id as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        let mut ids: Vec<u32> = (0..self.logits.len() as u32).collect();
        if count < ids.len() && count > 0 {
            ids.select_nth_unstable_by(count - 1, order);
        }
        ids.truncate(count);
        ids.sort_unstable_by(order);
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_definition() {
        // Large ones, whose exponentials overflow, and small ones, whose exponentials vanish.
        for scale in [1.0, 40.0, 3000.0] {
            let logits: Vec<f32> =
                (0..200).map(|i| ((i * i * 37 % 101) as f32 / 50.0 - 1.0) * scale).collect();
            let found = LogSoftmax::new(&logits);
            let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
            let top = wide.iter().copied().fold(f64::MIN, f64::max);
            for (id, x) in wide.iter().enumerate() {
                // −ln Σ exp(logits − x), from the largest term.
                let sum: f64 = wide.iter().map(|y| (y - top).exp()).sum();
                let want = -((top - x) + sum.ln());
                assert!((found.of(id as u32) - want).abs() <= 1e-12 * (1.0 + want.abs()), "{scale} {id}");
            }
            let mass: f64 = (0..200).map(|id| found.of(id).exp()).sum();
            assert!((mass - 1.0).abs() < 1e-12, "{scale}: {mass}");
        }
    }

    #[test]
    fn the_likeliest_come_first_and_the_lowest_of_equals() {
        let logits = [1.0, 3.0, -2.0, 3.0, 0.5, 3.0];
        let found = LogSoftmax::new(&logits);
        assert_eq!(found.top(2), [1, 3]);
        assert_eq!(found.top(4), [1, 3, 5, 0]);
        assert_eq!(found.top(9), [1, 3, 5, 0, 4, 2]);
        assert!(found.top(0).is_empty());
    }
}
