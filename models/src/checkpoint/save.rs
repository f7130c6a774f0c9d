//! Saving: everything is written and synced under a temporary name, then renamed into place.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::disk::{Disk, DiskFile, RealDisk};
use super::load::steps;
use super::manifest::{Entry, Hashing, Manifest, is_plain_name};
use super::{
    CONFIG, CheckpointError, LATEST, MANIFEST, MODEL, OPTIMIZER, REPLACED, STATE, Snapshot, TEMPORARY,
    step_name,
};
use crate::weights::{TensorSource, WeightsError, write_tensors};

/// The run directory of a training run, for saving.
pub struct CheckpointStore {
    dir: PathBuf,
    keep_last: Option<NonZeroUsize>,
    disk: Box<dyn Disk>,
}

/// What a file is filled by.
type Fill<'a> = Box<dyn FnOnce(&mut dyn Write) -> Result<(), WeightsError> + 'a>;

impl CheckpointStore {
    /// Opens a run directory, which is created if need be, and clears away what a killed save left.
    /// `keep_last`: after each save, only that many checkpoints up to its step stay; `None`: all.
    pub fn open(dir: &Path, keep_last: Option<NonZeroUsize>) -> Result<CheckpointStore, CheckpointError> {
        std::fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let store = CheckpointStore { dir: dir.into(), keep_last, disk: Box::new(RealDisk) };
        store.clear_leftovers()?;
        Ok(store)
    }

    /// Saves a checkpoint and makes it the latest. Returns its folder. After an error, every
    /// checkpoint saved before is as it was, or, if it was of the same step, replaced as a whole.
    pub fn save(&self, snapshot: Snapshot<'_>) -> Result<PathBuf, CheckpointError> {
        let step = snapshot.state.step;
        let name = step_name(step);
        let (temporary, aside) = (self.temporary(&name), self.dir.join(format!("{REPLACED}{name}")));
        let target = self.dir.join(&name);
        let saved = self.write_folder(&temporary, snapshot).and_then(|()| {
            if target.exists() {
                self.remove_leftover(&aside)?;
                self.rename(&target, &aside)?;
            }
            self.rename(&temporary, &target)?;
            self.sync(&self.dir)
        });
        if let Err(error) = saved {
            // Best effort: what stays is cleared by the next open, and a checkpoint set aside is still found.
            let _ = self.disk.remove_dir_all(&temporary);
            return Err(error);
        }
        self.write_latest(&name)?;
        self.prune(step, &aside);
        Ok(target)
    }

    fn write_folder(&self, folder: &Path, snapshot: Snapshot<'_>) -> Result<(), CheckpointError> {
        self.remove_leftover(folder)?;
        self.disk.create_dir(folder).map_err(failed("create", folder))?;
        let state = serde_json::to_value(snapshot.state).unwrap_or(Value::Null); // plain data: can't fail
        let mut files: Vec<(&str, Fill<'_>)> = vec![
            (CONFIG, json(snapshot.config.to_json())),
            (MODEL, tensors(snapshot.parameters)),
            (OPTIMIZER, tensors(snapshot.optimizer)),
            (STATE, json(state)),
        ];
        for (name, bytes) in snapshot.files {
            let taken = *name == MANIFEST || files.iter().any(|(other, _)| other == name);
            if taken || !is_plain_name(name) {
                return Err(CheckpointError::FileName { name: name.to_string() });
            }
            files.push((name, Box::new(|out| out.write_all(bytes).map_err(WeightsError::Write))));
        }
        let mut entries = BTreeMap::new();
        for (name, fill) in files {
            entries.insert(name.to_string(), self.write_file(&folder.join(name), fill)?);
        }
        // Strings and numbers only: can't fail.
        let manifest = serde_json::to_value(Manifest::new(entries, snapshot.tuning)).unwrap_or(Value::Null);
        self.write_file(&folder.join(MANIFEST), json(manifest))?;
        self.sync(folder)
    }

    fn write_file(&self, path: &Path, fill: Fill<'_>) -> Result<Entry, CheckpointError> {
        let io = |source| CheckpointError::Io { action: "write", path: path.into(), source };
        let file = self.disk.create_file(path).map_err(io)?;
        let mut out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        fill(&mut out).map_err(|e| match e {
            WeightsError::Write(source) => io(source),
            other => CheckpointError::Weights(other),
        })?;
        let (buffer, entry) = out.finish();
        let mut file: Box<dyn DiskFile> = buffer.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync().map_err(io)?;
        Ok(entry)
    }

    fn write_latest(&self, name: &str) -> Result<(), CheckpointError> {
        let temporary = self.temporary(LATEST);
        let text = format!("{name}\n");
        self.write_file(
            &temporary,
            Box::new(|out| out.write_all(text.as_bytes()).map_err(WeightsError::Write)),
        )?;
        self.rename(&temporary, &self.dir.join(LATEST))?;
        self.sync(&self.dir)
    }

    /// Removes the replaced checkpoint and those beyond `keep_last`. Later steps than this one, left
    /// by a run that was resumed from an earlier checkpoint, stay until they are replaced.
    fn prune(&self, step: u64, aside: &Path) {
        // The checkpoint is saved; old ones that can't be removed now are no reason to fail. Each is
        // renamed first, so that no half-removed folder bears a checkpoint's name.
        if aside.exists() {
            let _ = self.disk.remove_dir_all(aside);
        }
        let (Some(keep), Ok(mut old)) = (self.keep_last, steps(&self.dir)) else { return };
        old.retain(|s| *s < step);
        let surplus = old.len().saturating_sub(keep.get() - 1);
        for old in &old[..surplus] {
            let name = step_name(*old);
            let doomed = self.temporary(&name);
            if self.disk.rename(&self.dir.join(&name), &doomed).is_ok() {
                let _ = self.disk.remove_dir_all(&doomed);
            }
        }
    }

    fn clear_leftovers(&self) -> Result<(), CheckpointError> {
        let entries = std::fs::read_dir(&self.dir).map_err(failed("read", &self.dir))?;
        for entry in entries {
            let path = entry.map_err(failed("read", &self.dir))?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            if name.starts_with(TEMPORARY) {
                let removed =
                    if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.map_err(failed("remove", &path))?;
            } else if let Some(original) = name.strip_prefix(REPLACED) {
                let target = self.dir.join(original);
                if target.exists() {
                    std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
                } else {
                    self.rename(&path, &target)?;
                }
            }
        }
        Ok(())
    }

    /// A failed save removes what it left, but that may have failed too.
    fn remove_leftover(&self, folder: &Path) -> Result<(), CheckpointError> {
        if !folder.exists() {
            return Ok(());
        }
        self.disk.remove_dir_all(folder).map_err(failed("remove", folder))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{TEMPORARY}{name}-{}", std::process::id()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), CheckpointError> {
        self.disk.rename(from, to).map_err(failed("rename to", to))
    }

    fn sync(&self, dir: &Path) -> Result<(), CheckpointError> {
        self.disk.sync_dir(dir).map_err(failed("sync", dir))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { action, path: path.into(), source }
}

fn json<'a>(value: Value) -> Fill<'a> {
    Box::new(move |out| writeln!(out, "{value:#}").map_err(WeightsError::Write))
}

fn tensors(source: TensorSource<'_>) -> Fill<'_> {
    Box::new(move |out| write_tensors(out, source))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
