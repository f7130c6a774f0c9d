//! Compiled programs, each compiled once.

use crate::{Driver, Source};
use halite_hal::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The programs of a driver, by what their text depends on.
pub(crate) struct Programs<D: Driver> {
    driver: Arc<D>,
    known: Mutex<HashMap<Source, Arc<D::Program>>>,
}

impl<D: Driver> Programs<D> {
    pub(crate) fn new(driver: Arc<D>) -> Self {
        Programs { driver, known: Mutex::default() }
    }

    pub(crate) fn get(&self, source: &Source) -> Result<Arc<D::Program>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = known.get(source) {
            return Ok(program.clone());
        }
        let kernel = source.render(&self.driver.traits())?;
        tracing::debug!(kernel = kernel.name, device = self.driver.info().selector, "compile");
        let program = Arc::new(self.driver.compile(&kernel)?);
        known.insert(source.clone(), program.clone());
        Ok(program)
    }
}
