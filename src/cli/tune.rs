//! `halite tune`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::output::{self, note, say};
use halite::hal::conformance::problems;
use halite::hal::{Device, OpKind};
use halite::kernels::tuning::{Limits, Tuned, Tuner};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Measure the variants of a device's kernels, and keep the fastest for later runs
#[derive(clap::Args)]
#[command(
    after_help = "A variant that fails, is wrong, slow or hangs is excluded, and stays so until the file is \
                  removed.\n\nExamples:\n  halite tune\n  halite tune --device vulkan --op matmul\n  \
                  halite tune --quick --json"
)]
pub struct Tune {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only this op
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    /// Few shapes, in f32 only
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct DeviceReport {
    selector: String,
    profile: Option<String>,
    /// Where the choices are kept; none where there was nothing to choose.
    file: Option<PathBuf>,
    found: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    key: String,
    winner: Option<String>,
    /// Seconds of each variant.
    variants: Vec<(String, f64)>,
    excluded: Vec<(String, String)>,
}

impl Tune {
    pub fn run(self) -> Result<()> {
        if let Some(op) = self.op.as_deref().filter(|op| !OpKind::NAMES.contains(op)) {
            return Err(Error::Failed(format!("no op {op:?}; there are: {}", OpKind::NAMES.join(", "))));
        }
        let registry = halite::registry();
        let selector = self.device.device.as_deref().unwrap_or("all");
        let options = self.device.options()?;
        let Some(dir) = options.cache_dir.clone() else {
            return Err(Error::Failed("no folder to keep choices in: set HALITE_CACHE".into()));
        };
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        // Fails only when a handler is there already; then Ctrl-C does what that one says.
        let _ = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed));
        let mut reports = Vec::new();
        for info in registry.find(selector)? {
            let open = || -> halite::hal::Result<Arc<dyn Device>> { registry.open(&info.selector, &options) };
            let stopped = || stop.load(Ordering::Relaxed);
            let mut tuner = Tuner::new(&open, &dir, Limits::default(), &stopped)?;
            let mut found = Vec::new();
            let wanted = |name: &&str| self.op.as_ref().is_none_or(|op| op == name);
            for name in OpKind::NAMES.into_iter().filter(wanted) {
                for problem in problems(name, self.quick) {
                    found.extend(tuner.tune(problem)?.inspect(progress(&info.selector)).map(Found::from));
                }
            }
            let file = (!found.is_empty()).then(|| tuner.path().to_path_buf());
            let (selector, profile) = (info.selector.clone(), tuner.device().info().profile.clone());
            let report = DeviceReport { selector, profile, file, found };
            if !self.json {
                print(&report)?;
            }
            reports.push(report);
        }
        if self.json {
            output::json(&serde_json::json!({ "devices": reports }))?;
        }
        Ok(())
    }
}

fn progress(selector: &str) -> impl Fn(&Tuned) {
    move |t| note!("{selector}: {}: {}", t.key, t.winner().unwrap_or("no variant is right"))
}

impl From<Tuned> for Found {
    fn from(t: Tuned) -> Self {
        let winner = t.winner().map(String::from);
        Found { key: t.key.to_string(), winner, variants: t.times, excluded: t.excluded }
    }
}

fn print(report: &DeviceReport) -> Result<()> {
    let profile = report.profile.as_ref().map(|p| format!(" (profile {p})")).unwrap_or_default();
    let Some(file) = &report.file else {
        return say!("{}{profile}: its kernels have no variants to choose from", report.selector);
    };
    say!("{}{profile}", report.selector)?;
    let mut rows = vec![["op, operands, extents", "variant", "microseconds", ""].map(String::from).to_vec()];
    for f in &report.found {
        for (variant, seconds) in &f.variants {
            let mark = if f.winner.as_ref() == Some(variant) { "fastest" } else { "" };
            rows.push(vec![f.key.clone(), variant.clone(), format!("{:.1}", seconds * 1e6), mark.into()]);
        }
    }
    output::table(&rows)?;
    for f in &report.found {
        for (variant, reason) in &f.excluded {
            say!("excluded for {}: {variant}: {reason}", f.key)?;
        }
    }
    say!("kept in {}\n", file.display())
}
