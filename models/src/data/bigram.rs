//! The baseline that a language model must beat: bigram counts of bytes.

use super::DataError;

/// Symbols: the 256 bytes and the bounds of a document.
const SYMBOLS: usize = 257;
const BOUND: usize = 256;

/// Bits per byte of the `validation` documents under a byte bigram model fitted on `train`.
///
/// With counts c(a, b) of byte b after byte a, c(a) = Σ_b c(a, b) and n(b) = Σ_a c(a, b) of the N
/// pairs in the training documents:
///
/// p(b | a) = (c(a, b) + α·p(b)) / (c(a) + α), with p(b) = (n(b) + 1) / (N + 257)
///
/// (a Dirichlet prior around the unigrams, MacKay and Peto 1995). α is the power of two from 2^-4 to
/// 2^12 that gives the training pairs the highest leave-one-out likelihood; validation text plays no
/// part in the fit. As for a language model, a document begins after a bound and its end is
/// predicted, too, while only its bytes divide: bits = -Σ log2 p / bytes.
///
/// An error if the validation documents have no bytes.
pub fn bigram_bits_per_byte<T, V>(train: &[T], validation: &[V]) -> Result<f64, DataError>
where
    T: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let model = Bigram::fit(train);
    let bytes: usize = validation.iter().map(|document| document.as_ref().len()).sum();
    if bytes == 0 {
        return Err(DataError::Empty { origin: "the validation documents".into() });
    }
    let mut bits = 0.0;
    for_each_pair(validation, |a, b| bits -= model.probability(a, b).log2());
    Ok(bits / bytes as f64)
}

struct Bigram {
    pairs: Vec<u64>,
    contexts: Vec<u64>,
    unigram: Vec<f64>,
    alpha: f64,
}

impl Bigram {
    fn fit<T: AsRef<[u8]>>(train: &[T]) -> Self {
        let mut pairs = vec![0u64; SYMBOLS * SYMBOLS];
        for_each_pair(train, |a, b| pairs[a * SYMBOLS + b] += 1);
        let contexts: Vec<u64> = pairs.chunks_exact(SYMBOLS).map(|row| row.iter().sum()).collect();
        let total: u64 = contexts.iter().sum();
        let unigram = (0..SYMBOLS).map(|b| {
            let count: u64 = (0..SYMBOLS).map(|a| pairs[a * SYMBOLS + b]).sum();
            (count + 1) as f64 / (total + SYMBOLS as u64) as f64
        });
        let mut model = Self { unigram: unigram.collect(), pairs, contexts, alpha: 1.0 };
        model.alpha = (-4..=12)
            .map(|exponent| 2f64.powi(exponent))
            .max_by(|&x, &y| model.leave_one_out(x).total_cmp(&model.leave_one_out(y)))
            .expect("the range is not empty");
        model
    }

    fn probability(&self, a: usize, b: usize) -> f64 {
        let pair = self.pairs[a * SYMBOLS + b] as f64;
        (pair + self.alpha * self.unigram[b]) / (self.contexts[a] as f64 + self.alpha)
    }

    /// Log-likelihood of each training pair under the counts without that pair. The unigrams stay:
    /// one count hardly moves them.
    fn leave_one_out(&self, alpha: f64) -> f64 {
        let term = |(at, &count): (usize, &u64)| {
            let (a, b) = (at / SYMBOLS, at % SYMBOLS);
            let others = self.contexts[a] as f64 - 1.0;
            count as f64 * ((count as f64 - 1.0 + alpha * self.unigram[b]) / (others + alpha)).ln()
        };
        self.pairs.iter().enumerate().filter(|(_, count)| **count > 0).map(term).sum()
    }
}

fn for_each_pair<T: AsRef<[u8]>>(documents: &[T], mut visit: impl FnMut(usize, usize)) {
    for document in documents.iter().map(AsRef::as_ref).filter(|document| !document.is_empty()) {
        let mut before = BOUND;
        for byte in document.iter().map(|&byte| usize::from(byte)).chain([BOUND]) {
            visit(before, byte);
            before = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_training_text_every_symbol_is_equally_likely() {
        let bits = bigram_bits_per_byte::<&[u8], _>(&[], &["abcd"]).unwrap();
        assert!((bits - 5.0 * 257f64.log2() / 4.0).abs() < 1e-12, "{bits}");
    }

    #[test]
    fn the_formula_holds_on_a_worked_example() {
        // Pairs of "aab": (|,a) (a,a) (a,b) (b,|).
        let model = Bigram { alpha: 0.5, ..Bigram::fit(&["aab"]) };
        let (a, b) = (usize::from(b'a'), usize::from(b'b'));
        let unigram = |count: f64| (count + 1.0) / 261.0;
        assert!((model.probability(a, b) - (1.0 + 0.5 * unigram(1.0)) / 2.5).abs() < 1e-15);
        assert!((model.probability(a, a) - (1.0 + 0.5 * unigram(2.0)) / 2.5).abs() < 1e-15);
        assert!((model.probability(b, BOUND) - (1.0 + 0.5 * unigram(1.0)) / 1.5).abs() < 1e-15);
        // Left out, the pairs after | and b leave no counts; those after a leave the other.
        let left_out = unigram(2.0) * (0.5 * unigram(2.0) / 1.5) * (0.5 * unigram(1.0) / 1.5) * unigram(1.0);
        assert!((model.leave_one_out(0.5) - left_out.ln()).abs() < 1e-12);
    }

    #[test]
    fn probabilities_sum_to_one() {
        let model = Bigram::fit(&["the quick brown fox", "jumps over the lazy dog"]);
        for a in [usize::from(b'e'), usize::from(b'Z'), BOUND] {
            let sum: f64 = (0..SYMBOLS).map(|b| model.probability(a, b)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        }
    }

    #[test]
    fn structure_is_found_and_its_absence_too() {
        let periodic = "ab".repeat(5000);
        let bits = bigram_bits_per_byte(&[&periodic], &[&periodic[..1000]]).unwrap();
        assert!(bits < 0.05, "{bits}");
        // A linear congruential generator's high bytes: no bigram structure, so no fewer than 8 bits.
        let noise: Vec<u8> = (0..40_000u32)
            .scan(1u32, |state, _| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some((*state >> 24) as u8)
            })
            .collect();
        let bits = bigram_bits_per_byte(&[&noise[..30_000]], &[&noise[30_000..]]).unwrap();
        assert!((7.95..8.3).contains(&bits), "{bits}");
        assert!(Bigram::fit(&[&noise[..30_000]]).alpha > Bigram::fit(&[&periodic]).alpha);
    }

    #[test]
    fn no_validation_text_is_an_error() {
        assert!(matches!(bigram_bits_per_byte(&["a"], &[""]), Err(DataError::Empty { .. })));
    }
}
