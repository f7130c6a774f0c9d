//! The list of kernels that are compiled already: `prebuilt/kernels.txt`.
//!
//! Its lines say, beside comments, which archives there are, `archive NAME BYTES DIGEST`, their content's length and
//! digest; and of each kernel the digest of what it was compiled from, the version of its PTX, its bytes in each
//! archive, and its name. Kernels are in the archives in the order of the list.

use super::PTX;
use crate::nvrtc::OPTIONS;
use halite_kernels::digest;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ops::Range;

/// The archives: PTX, and machine code.
pub(super) const ARCHIVES: [&str; 4] = [PTX, "sm_80", "sm_89", "sm_90"];

/// A digest as text.
pub(super) fn hex(digest: [u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of all that a kernel is compiled from.
pub(super) fn digest_of(source: &str) -> String {
    let parts = [&b"cuda"[..]].into_iter().chain(OPTIONS.map(CStr::to_bytes)).chain([source.as_bytes()]);
    hex(digest(&parts.collect::<Vec<_>>()))
}

/// See the module.
#[derive(Debug)]
pub(super) struct List {
    /// Length and digest of each archive's content.
    pub archives: [(usize, String); ARCHIVES.len()],
    /// Where kernels are in each archive, by the digest of what they were compiled from.
    pub kernels: HashMap<String, [Range<usize>; ARCHIVES.len()]>,
}

impl List {
    /// Reads a list whose kernels fill its archives.
    pub fn read(text: &str) -> Result<List, String> {
        let mut archives = <[(usize, String); ARCHIVES.len()]>::default();
        let mut kernels = HashMap::new();
        let mut ends = [0usize; ARCHIVES.len()];
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let wrong = || format!("line {} of the list of compiled kernels can't be read: {line}", i + 1);
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["archive", name, bytes, digest] => {
                    let place = ARCHIVES.iter().position(|archive| *archive == name).ok_or_else(wrong)?;
                    archives[place] = (bytes.parse().map_err(|_| wrong())?, digest.into());
                }
                [digest, _version, ptx, sm_80, sm_89, sm_90, _name] => {
                    let mut ranges = <[Range<usize>; ARCHIVES.len()]>::default();
                    for ((range, end), bytes) in
                        ranges.iter_mut().zip(&mut ends).zip([ptx, sm_80, sm_89, sm_90])
                    {
                        let bytes: usize = bytes.parse().map_err(|_| wrong())?;
                        let after = end.checked_add(bytes).ok_or_else(wrong)?;
                        *range = *end..after;
                        *end = after;
                    }
                    kernels.insert(digest.to_string(), ranges);
                }
                _ => return Err(wrong()),
            }
        }
        for ((name, (bytes, _)), end) in ARCHIVES.iter().zip(&archives).zip(ends) {
            if *bytes != end {
                return Err(format!(
                    "the kernels listed for {name} have {end} bytes, and its archive {bytes}"
                ));
            }
        }
        Ok(List { archives, kernels })
    }
}
