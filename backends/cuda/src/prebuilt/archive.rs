//! The kernels that are compiled already, as the program has them: a list, and archives that are unpacked when one of
//! their kernels is asked for first.

use super::list::{ARCHIVES, List, digest_of, hex};
use halite_kernels::digest;
use lzma_rust2::LzmaReader;
use std::io::Read;
use std::sync::{LazyLock, OnceLock};

/// The most memory that unpacking may take, in KiB.
const MEMORY: u32 = 256 << 10;

macro_rules! embedded {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/prebuilt/", $name))
    };
}

/// What was packed, of [`ARCHIVES`].
pub(super) const PACKED: [&[u8]; ARCHIVES.len()] =
    [embedded!("ptx.lzma"), embedded!("sm_80.lzma"), embedded!("sm_89.lzma"), embedded!("sm_90.lzma")];

static EMBEDDED: LazyLock<Result<Prebuilt, String>> = LazyLock::new(|| {
    let list = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/prebuilt/kernels.txt"));
    Prebuilt::new(list, PACKED)
});

/// [`Find`](super::Find) among the kernels that are embedded.
pub(crate) fn find(source: &str, archive: &str) -> Result<Option<&'static [u8]>, String> {
    EMBEDDED.as_ref().map_err(String::clone)?.find(&digest_of(source), archive)
}

/// How many kernels are embedded.
#[cfg(feature = "prebuilt-kernels")]
pub(super) fn count() -> usize {
    EMBEDDED.as_ref().map_or(0, |prebuilt| prebuilt.list.kernels.len())
}

/// A list and its archives.
#[derive(Debug)]
pub(super) struct Prebuilt {
    list: List,
    packed: [&'static [u8]; ARCHIVES.len()],
    unpacked: [OnceLock<Result<Vec<u8>, String>>; ARCHIVES.len()],
}

impl Prebuilt {
    pub fn new(list: &str, packed: [&'static [u8]; ARCHIVES.len()]) -> Result<Prebuilt, String> {
        Ok(Prebuilt { list: List::read(list)?, packed, unpacked: Default::default() })
    }

    /// A kernel by the digest of its source, in the archive of this name.
    pub fn find(&self, digest: &str, archive: &str) -> Result<Option<&[u8]>, String> {
        let Some(places) = self.list.kernels.get(digest) else {
            return Err("it is not among the compiled kernels that come with Halite".into());
        };
        let Some(archive) = ARCHIVES.iter().position(|name| *name == archive) else { return Ok(None) };
        Ok(Some(&self.content(archive)?[places[archive].clone()]))
    }

    /// What is in an archive; as long as the list says, and the same.
    fn content(&self, archive: usize) -> Result<&[u8], String> {
        let content = self.unpacked[archive].get_or_init(|| {
            let (bytes, wanted) = &self.list.archives[archive];
            let damaged =
                |why: &str| format!("the compiled kernels for {} are damaged: {why}", ARCHIVES[archive]);
            let content = unpack(self.packed[archive], *bytes).map_err(|e| damaged(&e.to_string()))?;
            if content.len() != *bytes || hex(digest(&[&content])) != *wanted {
                return Err(damaged("they are not those that are listed"));
            }
            Ok(content)
        });
        content.as_deref().map_err(String::clone)
    }
}

/// The content of an archive, if it has no more than so many bytes.
fn unpack(packed: &[u8], bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    LzmaReader::new_mem_limit(packed, MEMORY, None)?.take(bytes as u64).read_to_end(&mut content)?;
    Ok(content)
}
