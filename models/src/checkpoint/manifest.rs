//! `manifest.json`: length and SHA-256 of every file of a checkpoint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CONFIG, Damage, MANIFEST, MODEL, OPTIMIZER, STATE, Tuning};

/// Version of the checkpoint's layout.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    files: BTreeMap<String, Entry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    pub fn new(files: BTreeMap<String, Entry>, tuning: Option<Tuning>) -> Manifest {
        Manifest { format: FORMAT, files, tuning }
    }

    /// Compares the files of a checkpoint with its manifest, which it returns.
    pub fn verify(dir: &Path) -> Result<Manifest, VerifyError> {
        let manifest = Manifest::read(dir)?;
        for (name, expected) in &manifest.files {
            let file = || name.clone();
            let path = dir.join(name);
            let found_bytes = match std::fs::metadata(&path) {
                Ok(data) => data.len(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(Damage::Missing { file: file() }.into());
                }
                Err(e) => return Err(VerifyError::Io(name.clone(), e)),
            };
            if found_bytes < expected.bytes {
                let expected = expected.bytes;
                return Err(Damage::Truncated { file: file(), expected, found: found_bytes }.into());
            }
            let found = File::open(&path).and_then(entry_of).map_err(|e| VerifyError::Io(file(), e))?;
            if found != *expected {
                let (expected, found) = (expected.sha256.clone(), found.sha256);
                return Err(Damage::Altered { file: file(), expected, found }.into());
            }
        }
        Ok(manifest)
    }

    fn read(dir: &Path) -> Result<Manifest, VerifyError> {
        let damaged = |reason: String| VerifyError::Damage(Damage::Manifest { reason });
        let text = match std::fs::read(dir.join(MANIFEST)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Damage::Missing { file: MANIFEST.into() }.into());
            }
            Err(e) => return Err(VerifyError::Io(MANIFEST.into(), e)),
        };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if manifest.format != FORMAT {
            let found = manifest.format;
            return Err(damaged(format!("its format is {found}; this version reads format {FORMAT}")));
        }
        for required in [CONFIG, MODEL, OPTIMIZER, STATE] {
            if !manifest.files.contains_key(required) {
                return Err(damaged(format!("it doesn't list {required}")));
            }
        }
        if let Some(name) = manifest.files.keys().find(|name| !is_plain_name(name)) {
            return Err(damaged(format!("\"{name}\" is not a file of the folder")));
        }
        Ok(manifest)
    }
}

/// Why a checkpoint couldn't be verified.
pub(super) enum VerifyError {
    Damage(Damage),
    /// The file couldn't be read.
    Io(String, io::Error),
}

impl From<Damage> for VerifyError {
    fn from(damage: Damage) -> VerifyError {
        VerifyError::Damage(damage)
    }
}

/// Whether it names a file directly in a folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

fn entry_of(mut file: File) -> io::Result<Entry> {
    let mut hashing = Hashing::new(io::sink());
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hashing.finish().1),
            n => hashing.write_all(&chunk[..n])?,
        }
    }
}

/// Passes bytes on and notes their number and hash.
pub(super) struct Hashing<W> {
    inner: W,
    sha256: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    pub fn new(inner: W) -> Hashing<W> {
        Hashing { inner, sha256: Sha256::new(), bytes: 0 }
    }

    pub fn finish(self) -> (W, Entry) {
        let digest = self.sha256.finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        (self.inner, Entry { bytes: self.bytes, sha256 })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_sha256() {
        let mut hashing = Hashing::new(Vec::new());
        hashing.write_all(b"ab").unwrap();
        hashing.write_all(b"c").unwrap();
        let (written, entry) = hashing.finish();
        assert_eq!((written.as_slice(), entry.bytes), (&b"abc"[..], 3));
        // FIPS 180-2, appendix B.1
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(entry.sha256, wanted);
    }

    #[test]
    fn plain_names_stay_in_the_folder() {
        assert!(is_plain_name("config.json"));
        for name in ["", ".", "..", "../x", "a/b", "/x", "a/"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
