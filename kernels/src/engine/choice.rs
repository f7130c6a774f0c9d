//! Which variant of a kernel an op gets; see [`crate::tuning`].

use super::Engine;
use crate::tuning::{Choices, Key, shipped};
use crate::{Driver, KernelSet, Variant};
use halite_hal::{DeviceInfo, DeviceOptions, OpDesc};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Descriptions whose choices are kept. A run has few; what has more, such as a server of texts of any
/// length, has no use for all of them.
const KEPT: usize = 4096;

/// What decides, and what was decided.
pub(super) struct Chooser {
    forced: Option<String>,
    given: RwLock<HashMap<String, String>>,
    tuned: Option<Choices>,
    shipped: Option<&'static Choices>,
    known: Mutex<HashMap<OpDesc, Chosen>>,
}

/// How an op is done.
#[derive(Clone)]
pub(super) struct Chosen {
    pub set: Arc<dyn KernelSet>,
    pub variant: Variant,
    /// Whether a set of this crate does it.
    pub own: bool,
    /// Whether it could have been another variant.
    choice: bool,
}

impl Chooser {
    /// With the user's file, if the options name a cache folder that has one.
    pub(super) fn new(info: &DeviceInfo, options: &DeviceOptions) -> Self {
        let read = |dir: &std::path::PathBuf| match Choices::read(&Choices::path(dir, info), info) {
            Ok(choices) => choices,
            Err(e) => {
                tracing::warn!("{e}; it is ignored");
                None
            }
        };
        Chooser {
            forced: None,
            given: RwLock::default(),
            tuned: options.cache_dir.as_ref().and_then(read),
            shipped: shipped(info),
            known: Mutex::default(),
        }
    }

    pub(super) fn force(&mut self, name: Option<String>) {
        self.forced = name;
        self.forget();
    }

    pub(super) fn give(&self, choices: &[(String, String)]) {
        *self.given.write().unwrap_or_else(PoisonError::into_inner) = choices.iter().cloned().collect();
        self.forget();
    }

    /// Choices have to be made anew.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether all ops get one variant where they can.
    pub(super) fn is_forced(&self) -> bool {
        self.forced.is_some()
    }

    /// From now on an op gets this variant instead of the one that was chosen.
    pub(super) fn settle(&self, desc: &OpDesc, variant: &Variant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = known.get_mut(desc) {
            chosen.variant = variant.clone();
        }
    }

    /// Puts the variant to be used first. Only what is in `variants` can be chosen.
    fn order(&self, desc: &OpDesc, variants: &mut [Variant]) {
        if variants.len() > 1
            && let Some(first) = self.first(desc, variants)
        {
            variants[..=first].rotate_right(1);
        }
    }

    fn first(&self, desc: &OpDesc, variants: &[Variant]) -> Option<usize> {
        let place = |name: &str| variants.iter().position(|v| v.0 == name);
        if let Some(forced) = self.forced.as_deref().and_then(place) {
            return Some(forced);
        }
        let key = Key::of(desc);
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        if !given.is_empty() {
            let of = |key: &str| given.get(key).and_then(|v| place(v));
            if let Some(chosen) = of(&key.to_string()).or_else(|| of(key.op())) {
                return Some(chosen);
            }
        }
        let bucket = key.bucket();
        let excluded = |v: &str| self.tuned.as_ref().is_some_and(|t| t.why_excluded(&bucket, v).is_some());
        let allowed = |v: &str| place(v).is_some() && !excluded(v);
        let tables = self.tuned.iter().chain(self.shipped);
        let chosen = tables.into_iter().find_map(|t| t.nearest(&bucket, allowed)).and_then(place);
        chosen.or_else(|| variants.iter().position(|v| !excluded(&v.0)))
    }
}

impl<D: Driver> Engine<D> {
    /// The set that does an op, and its variants, the one to be used first.
    pub(super) fn set(&self, desc: &OpDesc) -> Option<(Arc<dyn KernelSet>, Vec<Variant>)> {
        self.placed_set(desc).map(|(_, set, variants)| (set, variants))
    }

    /// [`Engine::set`], and whether it is one of this crate's.
    fn placed_set(&self, desc: &OpDesc) -> Option<(bool, Arc<dyn KernelSet>, Vec<Variant>)> {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        let (i, set, mut variants) = sets.iter().enumerate().find_map(|(i, set)| {
            let variants = set.variants(desc, self.driver.info());
            (!variants.is_empty()).then(|| (i, set.clone(), variants))
        })?;
        self.chooser.order(desc, &mut variants);
        Some((i >= sets.len() - self.own_sets, set, variants))
    }

    /// Whether there is a kernel for an op.
    pub(super) fn has(&self, desc: &OpDesc) -> bool {
        let sets = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        sets.iter().any(|set| !set.variants(desc, self.driver.info()).is_empty())
    }

    /// How an op is done from now on.
    pub(super) fn chosen(&self, desc: &OpDesc) -> Option<Chosen> {
        let known = || self.chooser.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = known().get(desc) {
            return Some(chosen.clone());
        }
        let (own, set, variants) = self.placed_set(desc)?;
        let chosen = Chosen { set, own, choice: variants.len() > 1, variant: variants.into_iter().next()? };
        let mut known = known();
        if known.len() < KEPT {
            known.insert(desc.clone(), chosen.clone());
        }
        Some(chosen)
    }

    /// The choices that were made, by exact key.
    pub(super) fn choices(&self) -> Vec<(String, String)> {
        let known = self.chooser.known.lock().unwrap_or_else(PoisonError::into_inner);
        let made = known.iter().filter(|(_, chosen)| chosen.choice);
        let by_key: BTreeMap<_, _> =
            made.map(|(desc, c)| (Key::of(desc).to_string(), c.variant.to_string())).collect();
        by_key.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
