//! `halite verify`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::output::{self, say};
use halite::hal::OpKind;
use halite::hal::conformance::{self, Options, Report, Variants};
use serde::Serialize;
use std::time::Instant;

/// Check every op of a device against the f64 reference
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite verify\n  halite verify --device cpu --op attention\n  \
                        halite verify --profile core-only --json\n  halite verify --device vulkan --slice 3/10")]
pub struct Verify {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only this op
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    /// Seed of the data
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only every Nth of what would run of each op, from the Ith on: N runs cover everything
    #[arg(long, value_name = "I/N", value_parser = slice)]
    slice: Option<(usize, usize)>,
    /// Each case in every variant of the kernels that can do it
    #[arg(long)]
    variants: bool,
    /// Only so many cases, small ones, that each variant runs with each pair of its settings
    #[arg(long, conflicts_with = "variants")]
    pairwise: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `I/N`, I below N.
fn slice(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| i < n).ok_or_else(|| "needs I/N with I below N, such as 0/4".into())
}

#[derive(Serialize)]
struct DeviceReport {
    passed: usize,
    failed: usize,
    unsupported: usize,
    #[serde(flatten)]
    report: Report,
}

impl Verify {
    pub fn run(self) -> Result<()> {
        let mut options = Options::default();
        options.seed = self.seed;
        options.op = self.op.clone();
        options.slice = self.slice;
        options.variants = match (self.variants, self.pairwise) {
            (true, _) => Variants::Each,
            (_, true) => Variants::Pairwise,
            _ => Variants::Chosen,
        };
        let mut devices = Vec::new();
        for device in self.device.open_all()? {
            let mut began = Instant::now();
            let report = conformance::run_with(&*device, &options, |op| {
                let (selector, seconds) = (&device.info().selector, began.elapsed().as_secs_f32());
                tracing::info!("{selector}: {} cases of {} in {seconds:.1} s", op.cases, op.op);
                began = Instant::now();
            });
            if report.ops.is_empty() {
                let op = self.op.unwrap_or_default();
                return Err(Error::Failed(format!("no op {op:?}; there are: {}", OpKind::NAMES.join(", "))));
            }
            let sum = |f: fn(&conformance::OpReport) -> usize| report.ops.iter().map(f).sum();
            devices.push(DeviceReport {
                passed: sum(|o| o.passed),
                failed: sum(|o| o.failed),
                unsupported: sum(|o| o.unsupported),
                report,
            });
        }
        let failed: usize = devices.iter().map(|d| d.failed).sum();
        if self.json {
            output::json(&serde_json::json!({ "devices": devices }))?;
        } else {
            devices.iter().try_for_each(print)?;
        }
        match failed {
            0 => Ok(()),
            n => Err(Error::Failed(format!("{n} cases failed"))),
        }
    }
}

fn print(device: &DeviceReport) -> Result<()> {
    let profile = device.report.profile.as_ref().map(|p| format!(" (profile {p})")).unwrap_or_default();
    say!("{}{profile}", device.report.selector)?;
    let heading = ["op", "cases", "passed", "composed", "unsupported", "failed", "worst error / tolerance"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for o in &device.report.ops {
        let counts = [o.cases, o.passed, o.composed, o.unsupported, o.failed];
        let mut row = vec![o.op.clone()];
        row.extend(counts.iter().map(usize::to_string));
        row.push(format!("{:.3}", o.worst_tolerance_fraction));
        rows.push(row);
    }
    output::table(&rows)?;
    for o in &device.report.ops {
        for f in o.failures.iter().take(5) {
            say!("FAILED {}: {}: {}", o.op, f.case, f.message)?;
        }
        if o.failures.len() > 5 {
            say!("FAILED {}: {} more", o.op, o.failures.len() - 5)?;
        }
        for reason in &o.unsupported_reasons {
            say!("unsupported {}: {reason}", o.op)?;
        }
    }
    say!("{} passed, {} failed, {} unsupported\n", device.passed, device.failed, device.unsupported)?;
    Ok(())
}
