//! GPT-2's mapping between bytes and the printable characters that stand for them in byte-level
//! vocabularies (Radford et al. 2019, `bytes_to_unicode`).
//!
//! Bytes that are printable Latin-1 characters stand for themselves; the 68 others are numbered in
//! ascending order and stand at U+0100 plus that number.

/// The character that stands for `byte` in a byte-level vocabulary.
pub(super) fn byte_to_char(byte: u8) -> char {
    let code = match byte {
        0..=32 => 256 + u32::from(byte),
        127..=160 => 256 + 33 + u32::from(byte - 127),
        173 => 256 + 67,
        _ => u32::from(byte),
    };
    char::from_u32(code).expect("codes below U+0144 are all characters")
}

/// The byte that `c` stands for, or `None` for a character outside the byte alphabet.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    let code = match c as u32 {
        code @ (33..=126 | 161..=172 | 174..=255) => code,
        code @ 256..=288 => code - 256,
        code @ 289..=322 => code - 289 + 127,
        323 => 173,
        _ => return None,
    };
    u8::try_from(code).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn maps_every_byte_to_its_own_character_of_the_alphabet() {
        let alphabet = ByteLevel::alphabet();
        for byte in 0..=255u8 {
            let c = byte_to_char(byte);
            assert!(alphabet.contains(&c), "{byte} maps to {c:?}");
            assert_eq!(char_to_byte(c), Some(byte));
        }
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!((char_to_byte(' '), char_to_byte('\u{ad}'), char_to_byte('ń')), (None, None, None));
    }
}
