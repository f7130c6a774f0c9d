//! Where batches come from.

use crate::data::{Batch, DataState, TrainBatches};
use crate::{Error, Result};
use serde_json::Value;

/// Batches by number; a pure function of the number, so that a run resumes exactly.
pub trait BatchSource {
    /// Batch `index`.
    fn batch(&self, index: u64) -> Batch;
    /// What to save so that the run goes on with batch `index`.
    fn state(&self, index: u64) -> Value;
    /// The number of the batch that a saved state stands before.
    fn resume(&self, state: &Value) -> Result<u64>;
}

impl BatchSource for TrainBatches {
    fn batch(&self, index: u64) -> Batch {
        TrainBatches::batch(self, index)
    }

    fn state(&self, index: u64) -> Value {
        // Plain numbers and strings always have a JSON form.
        serde_json::to_value(TrainBatches::state(self, index)).unwrap_or_default()
    }

    fn resume(&self, state: &Value) -> Result<u64> {
        let state: DataState =
            serde_json::from_value(state.clone()).map_err(|_| Error::State { what: "data" })?;
        Ok(TrainBatches::resume(self, &state)?)
    }
}

/// The same batch every time.
#[derive(Clone, Debug)]
pub struct FixedBatch(pub Batch);

impl BatchSource for FixedBatch {
    fn batch(&self, _: u64) -> Batch {
        self.0.clone()
    }

    fn state(&self, index: u64) -> Value {
        index.into()
    }

    fn resume(&self, state: &Value) -> Result<u64> {
        state.as_u64().ok_or(Error::State { what: "data" })
    }
}
