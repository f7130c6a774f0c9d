//! Compiled programs on disk, found by what they were made from.
//!
//! An entry's file name is the digest of its key; the entry carries a checksum over key and content. A file
//! that is torn, foreign or of another version is a miss, and is replaced. Entries appear whole, by rename,
//! so several processes and threads may share a folder. A cache that can't be written only costs time: it
//! is logged, and otherwise harmless.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What every entry starts with; the digits are the version of the format.
const MAGIC: [u8; 8] = *b"halite01";
const DIGEST_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + DIGEST_BYTES;

/// A folder of compiled programs, or none.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// A cache in `dir`, which is made when the first entry is written. Without a folder nothing is written
    /// and nothing is found.
    pub fn new(dir: Option<&Path>) -> Self {
        Cache { dir: dir.map(Path::to_path_buf) }
    }

    /// The content stored for `key`: everything that it depends on, such as source, options, driver and
    /// version.
    pub fn get(&self, key: &[&[u8]]) -> Option<Vec<u8>> {
        let key = digest(key);
        let mut entry = fs::read(self.path(&key)?).ok()?;
        let (magic, rest) = entry.split_at_checked(MAGIC.len())?;
        let (checksum, content) = rest.split_at_checked(DIGEST_BYTES)?;
        if magic != MAGIC || checksum != digest(&[&key, content]) {
            return None;
        }
        entry.drain(..HEADER_BYTES);
        Some(entry)
    }

    /// Stores `content` for `key`, in place of what was there.
    pub fn put(&self, key: &[&[u8]], content: &[u8]) {
        let key = digest(key);
        let Some(path) = self.path(&key) else { return };
        match write(&path, &key, content) {
            Ok(()) => tracing::debug!("stored {}", path.display()),
            Err(e) => tracing::warn!(
                "{} can't be written, so this program will be compiled again: {e}",
                path.display()
            ),
        }
    }

    fn path(&self, key: &[u8; DIGEST_BYTES]) -> Option<PathBuf> {
        let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(self.dir.as_ref()?.join(name))
    }
}

fn write(path: &Path, key: &[u8; DIGEST_BYTES], content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(&MAGIC)?;
    file.write_all(&digest(&[key, content]))?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// The digest of the parts, each preceded by its length so that no two lists of parts look alike.
pub fn digest(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect()
    }

    #[test]
    fn finds_what_was_put_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(&dir.path().join("new/folder")));
        assert_eq!(cache.get(&[b"source", b"driver"]), None);
        cache.put(&[b"source", b"driver"], b"binary");
        cache.put(&[b"empty"], b"");
        assert_eq!(cache.get(&[b"source", b"driver"]).unwrap(), b"binary");
        assert_eq!(cache.get(&[b"empty"]).unwrap(), b"");
        for other in [&[&b"sourced"[..], b"river"][..], &[b"sourcedriver"], &[b"driver", b"source"], &[]] {
            assert_eq!(cache.get(other), None);
        }
        cache.put(&[b"source", b"driver"], b"newer");
        assert_eq!(Cache::new(cache.dir.as_deref()).get(&[b"source", b"driver"]).unwrap(), b"newer");
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let cache = Cache::new(None);
        cache.put(&[b"k"], b"v");
        assert_eq!(cache.get(&[b"k"]), None);
    }

    #[test]
    fn damaged_or_foreign_entries_are_misses_and_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(dir.path()));
        cache.put(&[b"k"], b"content");
        let [path] = &files(dir.path())[..] else { panic!("one entry") };
        let whole = fs::read(path).unwrap();

        let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|n| whole[..n].to_vec()).collect();
        damaged.extend((0..whole.len()).map(|n| {
            let mut flipped = whole.clone();
            flipped[n] ^= 1;
            flipped
        }));
        damaged.push([&whole[..], b"more"].concat());
        damaged.push(b"something else altogether, and longer than a header would be".to_vec());
        for bytes in damaged {
            fs::write(path, &bytes).unwrap();
            assert_eq!(cache.get(&[b"k"]), None, "{bytes:?}");
        }
        cache.put(&[b"k"], b"content");
        assert_eq!(cache.get(&[b"k"]).unwrap(), b"content");

        // A whole entry under another key's name.
        cache.put(&[b"other"], b"other content");
        let other = files(dir.path()).into_iter().find(|f| f != path).unwrap();
        fs::copy(other, path).unwrap();
        assert_eq!(cache.get(&[b"k"]), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_harmless() {
        let dir = tempfile::tempdir().unwrap();
        // A file where the folder should be: this fails for every user, unlike a mode of read-only.
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        for folder in [file.clone(), file.join("below")] {
            let cache = Cache::new(Some(&folder));
            cache.put(&[b"k"], b"v");
            assert_eq!(cache.get(&[b"k"]), None);
        }
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn readers_never_see_half_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let contents: Vec<Vec<u8>> = (0..4u8).map(|w| vec![w; 100_000 + w as usize]).collect();
        Cache::new(Some(dir.path())).put(&[b"k"], &contents[0]);
        std::thread::scope(|scope| {
            for content in &contents {
                // Each has a cache of its own, as processes would.
                let cache = Cache::new(Some(dir.path()));
                scope.spawn(move || (0..25).for_each(|_| cache.put(&[b"k"], content)));
                let cache = Cache::new(Some(dir.path()));
                let contents = &contents;
                scope.spawn(move || {
                    for _ in 0..50 {
                        let found = cache.get(&[b"k"]).expect("there is an entry at any time");
                        assert!(contents.contains(&found));
                    }
                });
            }
        });
        assert_eq!(files(dir.path()).len(), 1, "no temporary file is left");
    }
}
