//! How many parts the keys of a row are split in.

/// Keys that a part has at least, unless there are fewer.
const KEYS: usize = 128;

/// Parts for each row. More rows need fewer, which also bounds the scratch memory. The last parts of rows
/// that see few of the keys are empty.
pub(super) fn parts(tokens: usize, kv: usize) -> usize {
    (kv / KEYS).clamp(1, (512 / tokens.max(1)).clamp(1, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_of_many_keys_are_split() {
        assert_eq!([(1, 0), (1, 100), (1, 1000), (1, 1 << 20)].map(|(t, kv)| parts(t, kv)), [1, 1, 7, 32]);
        assert_eq!([(0, 4096), (64, 4096), (1000, 4096)].map(|(t, kv)| parts(t, kv)), [32, 8, 1]);
    }
}
