//! The choices of kernel variants that a run was made with.
//!
//! Variants add in different orders, so a run that goes on on the same device goes on with the same choices,
//! whatever was tuned in the meantime. On another device they mean nothing.

use halite_hal::{Device, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    backend: String,
    device: String,
    profile: Option<String>,
    /// Variants by what they were chosen for.
    choices: BTreeMap<String, String>,
}

impl Tuning {
    /// The choices in force on a device; `None` where there are none.
    pub fn of(device: &dyn Device) -> Option<Tuning> {
        let choices: BTreeMap<String, String> = device.tuning().into_iter().collect();
        let info = device.info();
        (!choices.is_empty()).then(|| Tuning {
            backend: info.backend.clone(),
            device: info.name.clone(),
            profile: info.profile.clone(),
            choices,
        })
    }

    /// Sets the choices on a device, if it is the one that they were made on.
    pub fn apply(&self, device: &dyn Device) -> Result<()> {
        let info = device.info();
        if (&info.backend, &info.name, &info.profile) != (&self.backend, &self.device, &self.profile) {
            return Ok(());
        }
        let choices: Vec<_> = self.choices.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        device.set_tuning(&choices)
    }
}
