//! Files that are replaced as a whole: what was there stays until all of the new content is on the disk.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes beside `path` what `fill` writes, syncs it and renames it into place. After an error `path` is
/// as it was. What is there and is no file (a device, a folder) is never replaced.
pub(crate) fn replace_file<E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return Err(
            io::Error::new(io::ErrorKind::InvalidInput, "there is something that is not a file").into()
        );
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let written = (|| {
        let mut out = BufWriter::new(File::create(&temporary)?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(std::fs::rename(&temporary, path)?)
    })();
    if written.is_err() {
        // The first error is the one that matters; the file may not even exist.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace_file(&path, |out| out.write_all(b"old")).unwrap();
        let failed = replace_file(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("device lost"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "device lost");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        replace_file(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn only_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("d");
        std::fs::create_dir(&folder).unwrap();
        let failed = replace_file(&folder, |out| out.write_all(b"new"));
        assert!(failed.unwrap_err().to_string().contains("not a file"));
        assert!(folder.is_dir());
    }
}
