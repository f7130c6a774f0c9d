//! What a run writes down of each step.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// A step's line in `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Optimizer steps done after this one.
    pub step: u64,
    /// Mean cross-entropy in nats a token, before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens trained on in a second of this step.
    pub tokens_per_second: f64,
    /// For each layer with experts the share of assignments that each expert got.
    pub expert_load: Vec<Vec<f64>>,
    /// Mean cross-entropy in nats a token on the validation text after the step, when it was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_loss: Option<f64>,
    /// The same in bits for each byte of text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_bits_per_byte: Option<f64>,
}

/// `metrics.jsonl` under way; each line is handed to the system as a whole when it is written.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens `dir/metrics.jsonl`, keeping the lines of the first `step` steps: those after a checkpoint
    /// that a run goes on from are computed again.
    pub fn open(dir: &Path, step: u64) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let failed = |source| Error::File { action: "write", path: path.clone(), source };
        let kept = match File::open(&path) {
            Ok(file) if step > 0 => lines_up_to(file, step).map_err(failed)?,
            Ok(_) => Vec::new(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(failed(e)),
        };
        // Rewritten beside the old file and renamed, so that no line is lost on the way.
        let fresh = dir.join(".tmp-metrics.jsonl");
        let mut file = File::create(&fresh).map_err(failed)?;
        file.write_all(&kept).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&fresh, &path).map_err(failed)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        Ok(MetricsFile { path, file })
    }

    /// Appends a line.
    pub fn write(&mut self, metrics: &Metrics) -> Result<()> {
        let mut line = serde_json::to_vec(metrics).map_err(|_| Error::State { what: "metrics" })?;
        line.push(b'\n');
        let path = &self.path;
        self.file.write_all(&line).map_err(|source| Error::File {
            action: "write",
            path: path.clone(),
            source,
        })
    }
}

/// The whole lines of steps up to `step`; a torn last line is dropped.
fn lines_up_to(file: File, step: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let Ok(metrics) = serde_json::from_slice::<Metrics>(&line) else { continue };
        if metrics.step <= step {
            kept.extend_from_slice(&line);
            kept.push(b'\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> Metrics {
        Metrics {
            step,
            loss: 0.1 + step as f64,
            lr: 1e-3,
            grad_norm: 1.0,
            tokens_per_second: 10.0,
            expert_load: vec![],
            validation_loss: None,
            validation_bits_per_byte: None,
        }
    }

    #[test]
    fn resuming_keeps_earlier_lines_and_drops_torn_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::open(dir.path(), 0).unwrap();
        (1..=5).for_each(|s| file.write(&line(s)).unwrap());
        file.file.write_all(b"{\"step\": 6, \"lo\xff\n\xff\x00\n{\"step\": 6").unwrap();
        let mut file = MetricsFile::open(dir.path(), 3).unwrap();
        file.write(&line(4)).unwrap();
        let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
        let steps: Vec<u64> =
            text.lines().map(|l| serde_json::from_str::<Metrics>(l).unwrap().step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }
}
