//! PTX as tokens, each with its line; comments are left out.

use super::PtxError;

/// What a text is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind<'a> {
    /// A name, an opcode with its modifiers, a directive or a register.
    Word(&'a str),
    /// An integer.
    Int(u64),
    /// `0f…`: the bits of an f32.
    Single(u32),
    /// `0d…`, or a number with a point: an f64.
    Double(f64),
    /// What stands between quotes.
    Text(&'a str),
    /// Anything else, a character each.
    Mark(char),
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub line: usize,
    pub kind: Kind<'a>,
}

fn starts_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || matches!(c, b'_' | b'$' | b'%' | b'.')
}

fn in_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'_' | b'$' | b'.')
}

/// The length of the word that `rest` starts with; `::` within belongs to it.
fn word(rest: &[u8]) -> usize {
    let mut n = 1;
    while n < rest.len() {
        if in_word(rest[n]) {
            n += 1;
        } else if rest[n..].starts_with(b"::") && rest.get(n + 2).is_some_and(|&c| in_word(c)) {
            n += 2;
        } else {
            break;
        }
    }
    n
}

/// A number: decimal, hexadecimal, octal or binary, or the bits of a float.
fn number(text: &str) -> Option<Kind<'_>> {
    let bare = text.trim_end_matches('U');
    let after = |prefixes: [&str; 2]| prefixes.iter().find_map(|p| bare.strip_prefix(p));
    if let Some(bits) = after(["0f", "0F"]) {
        return (bits.len() == 8).then(|| u32::from_str_radix(bits, 16).ok().map(Kind::Single))?;
    }
    if let Some(bits) = after(["0d", "0D"]) {
        let bits = (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok())??;
        return Some(Kind::Double(f64::from_bits(bits)));
    }
    if bare.contains('.') {
        return bare.parse().ok().map(Kind::Double);
    }
    let (digits, radix) = if let Some(digits) = after(["0x", "0X"]) {
        (digits, 16)
    } else if let Some(digits) = after(["0b", "0B"]) {
        (digits, 2)
    } else if bare.len() > 1 && bare.starts_with('0') {
        (&bare[1..], 8)
    } else {
        (bare, 10)
    };
    u64::from_str_radix(digits, radix).ok().map(Kind::Int)
}

/// Splits a text into tokens.
///
/// # Errors
///
/// A number, a comment or a quoted text that isn't one.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, PtxError> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    let wrong = |line, what: &str, shown: &str| PtxError { line, message: format!("{what}: {shown}") };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let c = rest[0];
        let (kind, length) = if c == b'\n' {
            line += 1;
            at += 1;
            continue;
        } else if c.is_ascii_whitespace() || c == 0 {
            at += 1;
            continue;
        } else if rest.starts_with(b"//") {
            at += rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len());
            continue;
        } else if rest.starts_with(b"/*") {
            let Some(end) = text[at + 2..].find("*/") else {
                return Err(wrong(line, "a comment without an end", "/*"));
            };
            line += text[at..at + 2 + end].matches('\n').count();
            at += end + 4;
            continue;
        } else if c == b'"' {
            let Some(end) = text[at + 1..].find('"') else {
                return Err(wrong(line, "a text without an end", "\""));
            };
            (Kind::Text(&text[at + 1..at + 1 + end]), end + 2)
        } else if starts_word(c) {
            let n = word(rest);
            (Kind::Word(&text[at..at + n]), n)
        } else if c.is_ascii_digit() {
            let n =
                rest.iter().position(|&c| !(c.is_ascii_alphanumeric() || c == b'.')).unwrap_or(rest.len());
            let shown = &text[at..at + n];
            (number(shown).ok_or_else(|| wrong(line, "not a number", shown))?, n)
        } else {
            let c = text[at..].chars().next().unwrap_or_default();
            (Kind::Mark(c), c.len_utf8())
        };
        found.push(Token { line, kind });
        at += length;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_marks() {
        let text = "ld.shared::cta.u32 %r1, [%rd2+4]; // a\n/* b\n */ 0x1F 010 0b11 7U 0f3F800000 1.5 \"t\"";
        let found = tokens(text).unwrap();
        let kinds: Vec<Kind<'_>> = found.iter().map(|t| t.kind).collect();
        let expected = [
            Kind::Word("ld.shared::cta.u32"),
            Kind::Word("%r1"),
            Kind::Mark(','),
            Kind::Mark('['),
            Kind::Word("%rd2"),
            Kind::Mark('+'),
            Kind::Int(4),
            Kind::Mark(']'),
            Kind::Mark(';'),
            Kind::Int(31),
            Kind::Int(8),
            Kind::Int(3),
            Kind::Int(7),
            Kind::Single(0x3F80_0000),
            Kind::Double(1.5),
            Kind::Text("t"),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(found[8].line, 1);
        assert_eq!(found[9].line, 3);
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for text in ["0xG", "0f12", "12a", "08", "/* a", "\"a"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
