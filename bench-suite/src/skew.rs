//! How evenly tokens fall on experts: an axis of every benchmark of routed ops.

use serde::Serialize;

/// A distribution of assignments over experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skew {
    /// Every expert has the same share.
    Uniform,
    /// Expert `e`'s share is proportional to 1/(e + 1).
    Zipf,
    /// Every token chooses expert 0, the most that a top-k router can load one; the other choices are even.
    OneHot,
}

impl Skew {
    /// Every distribution.
    pub const ALL: [Skew; 3] = [Skew::Uniform, Skew::Zipf, Skew::OneHot];

    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Skew::Uniform => "uniform",
            Skew::Zipf => "zipf",
            Skew::OneHot => "one hot",
        }
    }

    /// Assignments of each of `experts` experts, `tokens · top_k` in all, none above `tokens`.
    ///
    /// # Panics
    /// When there are fewer experts than a token chooses.
    pub fn counts(self, tokens: usize, top_k: usize, experts: usize) -> Vec<usize> {
        assert!(top_k <= experts, "{top_k} of {experts} experts");
        let weight = |e: usize| match self {
            Skew::Uniform => 1.0,
            Skew::Zipf => 1.0 / (e + 1) as f64,
            Skew::OneHot => [f64::from(u32::MAX), 1.0][e.min(1)],
        };
        let mut left = tokens * top_k;
        let share = |e: usize| {
            let ahead: f64 = (e..experts).map(weight).sum();
            let wanted = (left as f64 * weight(e) / ahead).round() as usize;
            // The experts after this one can't take more than `tokens` each either.
            let least = left.saturating_sub((experts - e - 1) * tokens);
            let count = wanted.clamp(least, tokens);
            left -= count;
            count
        };
        (0..experts).map(share).collect()
    }
}

/// Assignments of tokens to experts, and what [`ExpertPermutation`](halite_hal::OpKind::ExpertPermutation)
/// makes of them.
#[derive(Clone, Debug)]
pub struct Routing {
    /// `[tokens, top_k]`; the experts of a token are different ones.
    pub experts: Vec<i32>,
    /// `[experts + 1]`.
    pub offsets: Vec<i32>,
    /// `[tokens, top_k]`: the sorted row of each assignment.
    pub positions: Vec<i32>,
}

impl Routing {
    /// With a given skew; see [`Skew::counts`].
    pub fn new(skew: Skew, tokens: usize, top_k: usize, experts: usize) -> Routing {
        let counts = skew.counts(tokens, top_k, experts);
        let sorted: Vec<i32> =
            counts.iter().enumerate().flat_map(|(e, &n)| std::iter::repeat_n(e as i32, n)).collect();
        // Choice j of token t: equal experts are at most `tokens` apart, so no token has one twice.
        let chosen = (0..tokens).flat_map(|t| (0..top_k).map(move |j| t + j * tokens)).map(|at| sorted[at]);
        let experts: Vec<i32> = chosen.collect();
        let mut offsets = vec![0];
        for n in &counts {
            offsets.push(offsets[offsets.len() - 1] + *n as i32);
        }
        let mut next = offsets.clone();
        let place = |&e: &i32| {
            next[e as usize] += 1;
            next[e as usize] - 1
        };
        let positions = experts.iter().map(place).collect();
        Routing { experts, offsets, positions }
    }

    /// Experts that have any assignment.
    pub fn used(&self) -> usize {
        self.offsets.windows(2).filter(|w| w[1] > w[0]).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_assignment_is_counted_and_no_expert_has_too_many() {
        for skew in Skew::ALL {
            for (tokens, top_k, experts) in
                [(512, 2, 8), (16, 2, 4), (7, 3, 5), (5, 1, 3), (1, 4, 4), (9, 8, 8)]
            {
                let counts = skew.counts(tokens, top_k, experts);
                assert_eq!(counts.iter().sum::<usize>(), tokens * top_k, "{skew:?} {counts:?}");
                assert!(counts.iter().all(|&n| n <= tokens), "{skew:?} {counts:?}");
            }
        }
    }

    #[test]
    fn shares_are_what_their_names_say() {
        assert_eq!(Skew::Uniform.counts(512, 2, 8), [128; 8]);
        assert_eq!(Skew::OneHot.counts(512, 1, 4), [512, 0, 0, 0]);
        assert_eq!(Skew::OneHot.counts(300, 2, 4), [300, 100, 100, 100]);
        // 1 : 1/2 : 1/3 : 1/4 of 1200.
        assert_eq!(Skew::Zipf.counts(600, 2, 4), [576, 288, 192, 144]);
    }

    #[test]
    fn a_routing_agrees_with_itself() {
        for skew in Skew::ALL {
            let (tokens, top_k) = (16, 2);
            let r = Routing::new(skew, tokens, top_k, 4);
            assert!(r.experts.chunks(top_k).all(|t| t[0] != t[1]), "{r:?}");
            let mut rows = r.positions.clone();
            rows.sort_unstable();
            assert_eq!(rows, (0..32).collect::<Vec<_>>());
            for (&e, &row) in r.experts.iter().zip(&r.positions) {
                assert!((r.offsets[e as usize]..r.offsets[e as usize + 1]).contains(&row), "{r:?}");
            }
        }
        assert_eq!(Routing::new(Skew::OneHot, 4, 1, 4).used(), 1);
    }
}
