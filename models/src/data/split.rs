//! Holding out validation text: whole documents, and parts of long ones.

use super::DataError;
use super::order::{Permutation, Purpose};

/// Smallest part in bytes that a document is cut into.
const MIN_PART: usize = 64;

/// Text for training and for validation. No byte is in both, and all bytes are in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// Documents, and what is left of cut ones, to train on.
    pub train: Vec<&'a str>,
    /// Held-out documents and parts of documents.
    pub validation: Vec<&'a str>,
}

/// Holds out about `fraction` of all bytes for validation, as a function of texts and seed.
///
/// Documents stay whole, unless one is longer than a quarter of the held-out share: such a document
/// is cut at line ends into parts of about that size, so that even one file can be split. Parts side
/// by side on the same side of the split are joined again. Identical documents are not looked for
/// and may end up on both sides.
///
/// An error if `fraction` is not in [0, 1) or there is too little text; a fraction of 0 holds out
/// nothing.
pub fn split<S: AsRef<str>>(texts: &[S], fraction: f64, seed: u64) -> Result<Split<'_>, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Fraction(fraction));
    }
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).filter(|text| !text.is_empty()).collect();
    let total: usize = texts.iter().map(|text| text.len()).sum();
    if fraction == 0.0 {
        return Ok(Split { train: texts, validation: Vec::new() });
    }
    let wanted = fraction * total as f64;
    let max_part = ((wanted / 4.0) as usize).max(MIN_PART);
    let parts: Vec<(usize, usize, usize)> = texts
        .iter()
        .enumerate()
        .flat_map(|(index, text)| cut(text, max_part).map(move |(start, end)| (index, start, end)))
        .collect();
    if parts.len() < 2 {
        return Err(DataError::TooSmall { bytes: total });
    }

    let mut held_out = vec![false; parts.len()];
    let order = Permutation::with_purpose(parts.len() as u64, seed, 0, Purpose::Split);
    let mut bytes = 0;
    for place in 0..parts.len() - 1 {
        if bytes as f64 >= wanted {
            break;
        }
        let chosen = order.at(place as u64) as usize;
        held_out[chosen] = true;
        bytes += parts[chosen].2 - parts[chosen].1;
    }

    let mut split = Split { train: Vec::new(), validation: Vec::new() };
    let tagged: Vec<_> = parts.into_iter().zip(held_out).collect();
    for run in tagged.chunk_by(|(a, a_held), (b, b_held)| a.0 == b.0 && a_held == b_held) {
        // A run is never empty: it holds the parts of one text, side by side.
        let (((text, start, _), held), ((_, _, end), _)) = (run[0], run[run.len() - 1]);
        let side = if held { &mut split.validation } else { &mut split.train };
        side.push(&texts[text][start..end]);
    }
    Ok(split)
}

/// Cuts a text into about equal ranges of about `max` bytes, at line ends where there are some.
fn cut(text: &str, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = text.len().div_ceil(max);
    let mut start = 0;
    (1..=count).filter_map(move |part| {
        let mut limit = (text.len() as u128 * part as u128 / count as u128) as usize;
        while !text.is_char_boundary(limit) {
            limit -= 1;
        }
        let line_end = || text.as_bytes()[start..limit].iter().rposition(|&b| b == b'\n');
        let end = if part == count { limit } else { line_end().map_or(limit, |at| start + at + 1) };
        let range = (start, end);
        start = end;
        (range.0 < range.1).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(texts: &[&str]) -> usize {
        texts.iter().map(|text| text.len()).sum()
    }

    #[test]
    fn many_documents_stay_whole() {
        let texts: Vec<String> = (0..1000).map(|i| format!("document {i:04}")).collect();
        let split = split(&texts, 0.05, 1).unwrap();
        assert_eq!((split.train.len(), split.validation.len()), (950, 50));
        assert!(split.train.iter().chain(&split.validation).all(|text| text.len() == 13));
        assert_ne!(split, super::split(&texts, 0.05, 2).unwrap());
        assert_eq!(split, super::split(&texts, 0.05, 1).unwrap());
    }

    #[test]
    fn one_file_is_cut_at_line_ends() {
        let text: [String; 1] = [(0..2000).map(|i| format!("line {i}\n")).collect()];
        let split = split(&text, 0.05, 0).unwrap();
        let share = bytes(&split.validation) as f64 / text[0].len() as f64;
        assert!((0.04..0.07).contains(&share), "{share}");
        assert!(split.validation.len() > 1, "held out in several places");
        assert!(split.train.iter().chain(&split.validation).all(|part| part.ends_with('\n')));
    }

    #[test]
    fn one_long_document_among_short_ones_does_not_fill_the_validation_set() {
        let long = "x".repeat(100_000);
        let mut texts = vec!["short"; 100];
        texts.push(&long);
        for seed in 0..20 {
            let held = bytes(&split(&texts, 0.05, seed).unwrap().validation);
            assert!((5_000..7_000).contains(&held), "{held}");
        }
    }

    #[test]
    fn impossible_splits_are_errors() {
        assert!(matches!(split(&["short"], 0.1, 0), Err(DataError::TooSmall { bytes: 5 })));
        assert!(matches!(split::<&str>(&[], 0.1, 0), Err(DataError::TooSmall { bytes: 0 })));
        for fraction in [-0.1, 1.0, f64::NAN] {
            assert!(matches!(split(&["a", "b"], fraction, 0), Err(DataError::Fraction(_))));
        }
        assert_eq!(split(&["short"], 0.0, 0).unwrap().train, ["short"]);
        let two = split(&["a", "b"], 0.99, 0).unwrap();
        assert_eq!((two.train.len(), two.validation.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn both_sides_are_disjoint_and_cover_all(
            texts in prop::collection::vec("[aé\n]{0,900}", 1..8), fraction in 0.01f64..0.9, seed in any::<u64>()
        ) {
            // Too little text to split is tested above.
            prop_assume!(texts.iter().filter(|text| !text.is_empty()).count() > 1);
            let split = split(&texts, fraction, seed).unwrap();
            prop_assert!(!split.train.is_empty() && !split.validation.is_empty());
            // Slices point into the texts: sorted by address they must be the texts, end to end.
            let mut ranges: Vec<_> =
                split.train.iter().chain(&split.validation).map(|s| s.as_bytes().as_ptr_range()).collect();
            ranges.sort_by_key(|range| range.start);
            let mut covered = 0;
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            for range in &ranges {
                let inside = |text: &&String| {
                    let whole = text.as_bytes().as_ptr_range();
                    whole.start <= range.start && range.end <= whole.end
                };
                prop_assert!(texts.iter().any(|text| inside(&text)));
                covered += range.end as usize - range.start as usize;
            }
            prop_assert_eq!(covered, texts.iter().map(String::len).sum::<usize>());
        }
    }
}
