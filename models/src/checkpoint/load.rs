//! Loading: nothing is used before its checksum has been compared.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, VerifyError};
use super::{
    CONFIG, Checkpoint, CheckpointError, Damage, LATEST, MANIFEST, Model, OPTIMIZER, REPLACED, STATE,
    parse_step_name, step_dir,
};
use crate::config::{ModelConfig, parameters};
use crate::weights::Weights;

/// The steps of a run directory's checkpoints, in ascending order.
pub fn steps(run_dir: &Path) -> Result<Vec<u64>, CheckpointError> {
    let failed = |source| CheckpointError::Io { action: "read", path: run_dir.into(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(run_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_str().unwrap_or("");
        found.extend(parse_step_name(name.strip_prefix(REPLACED).unwrap_or(name)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The step that `latest` names.
pub fn latest(run_dir: &Path) -> Result<u64, CheckpointError> {
    let path = run_dir.join(LATEST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(CheckpointError::Io { action: "read", path, source }),
    };
    match parse_step_name(text.trim_end()) {
        Some(step) => Ok(step),
        None => Err(CheckpointError::NoCheckpoint { dir: run_dir.into(), available: steps(run_dir)? }),
    }
}

/// Loads a checkpoint: the latest, or that of `step`. The manifest is verified first; a damaged
/// checkpoint is an error that names an intact one, which is never taken unasked.
pub fn load(run_dir: &Path, step: Option<u64>) -> Result<Checkpoint, CheckpointError> {
    let step = match step {
        Some(step) => step,
        None => latest(run_dir)?,
    };
    let dir = step_dir(run_dir, step);
    if !dir.is_dir() {
        let available = steps(run_dir)?;
        return Err(CheckpointError::NoSuchStep { dir: run_dir.into(), step, available });
    }
    let tuning = verified(&dir)?.tuning;
    let damaged =
        |damage| CheckpointError::Damaged { dir: dir.clone(), damage, intact: intact_sibling(&dir) };
    let state_path = dir.join(STATE);
    let state = std::fs::read(&state_path).map_err(|source| CheckpointError::Io {
        action: "read",
        path: state_path,
        source,
    })?;
    let state =
        serde_json::from_slice(&state).map_err(|e| damaged(Damage::State { reason: e.to_string() }))?;
    let optimizer = Weights::open_file(&dir.join(OPTIMIZER))?;
    let (config, weights, _) = open(&dir)?;
    Ok(Checkpoint { dir, config, weights, optimizer, state, tuning })
}

/// The model folder that `path` means: itself, or if it is a run directory its latest checkpoint.
pub fn model_folder(path: &Path) -> Result<PathBuf, CheckpointError> {
    if path.join(CONFIG).exists() || !path.join(LATEST).exists() {
        return Ok(path.into());
    }
    Ok(step_dir(path, latest(path)?))
}

/// Opens a model to run it: a Hugging Face model folder, a checkpoint or a run directory. A folder
/// with a manifest is verified.
pub fn open_model(path: &Path) -> Result<Model, CheckpointError> {
    let dir = model_folder(path)?;
    if dir.join(MANIFEST).exists() {
        verify(&dir)?;
    }
    let (config, weights, unexpected) = open(&dir)?;
    if !unexpected.is_empty() {
        tracing::warn!("{} has tensors that the model has no use for: {unexpected:?}", path.display());
    }
    Ok(Model { dir, config, weights, unexpected })
}

fn open(dir: &Path) -> Result<(ModelConfig, Weights, Vec<String>), CheckpointError> {
    let config = ModelConfig::from_file(&dir.join(CONFIG))?;
    let weights = Weights::open_folder(dir)?;
    let unexpected = weights.check(&parameters(&config))?;
    Ok((config, weights, unexpected))
}

/// Compares every file of a checkpoint's folder with its manifest.
pub fn verify(dir: &Path) -> Result<(), CheckpointError> {
    verified(dir).map(drop)
}

fn verified(dir: &Path) -> Result<Manifest, CheckpointError> {
    match Manifest::verify(dir) {
        Ok(manifest) => Ok(manifest),
        Err(VerifyError::Io(file, source)) => {
            Err(CheckpointError::Io { action: "read", path: dir.join(file), source })
        }
        Err(VerifyError::Damage(damage)) => {
            Err(CheckpointError::Damaged { dir: dir.into(), damage, intact: intact_sibling(dir) })
        }
    }
}

/// The newest intact checkpoint beside `dir` among the earlier ones, else among the later ones.
fn intact_sibling(dir: &Path) -> Option<u64> {
    let run_dir = dir.parent()?;
    let damaged = parse_step_name(dir.file_name()?.to_str()?);
    let mut others = steps(run_dir).ok()?;
    others.retain(|s| Some(*s) != damaged);
    others.sort_by_key(|s| std::cmp::Reverse((damaged.is_some_and(|d| *s < d), *s)));
    others.into_iter().find(|s| Manifest::verify(&step_dir(run_dir, *s)).is_ok())
}
