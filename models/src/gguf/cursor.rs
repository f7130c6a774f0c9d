//! Reading little-endian numbers and strings, never beyond the end.

use super::GgufError;

/// The longest string that is a key or a name: 2¹⁶ − 1 bytes, the format's limit for keys.
const MAX_NAME: u64 = u16::MAX as u64;

/// A place in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes from the begin.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => Err(GgufError::Truncated { what, at: self.at, needed: n, left: rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("`take` gives as many bytes as were asked for"))
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length (u64), then its bytes.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        let at = self.at;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 { what, at })
    }

    /// A string that errors repeat: a key, or a tensor's name.
    pub fn name(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let at = self.at;
        let name = self.string(what)?;
        if name.len() as u64 > MAX_NAME {
            return Err(GgufError::LongName { what, at, length: name.len() });
        }
        Ok(name)
    }
}
