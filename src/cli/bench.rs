//! `halite bench`: how fast a device is, and whether it became slower.

mod compare;
mod model;
mod ops;

use super::DeviceArgs;
use super::error::{Error, Result};
use super::output::{self, say};
use clap::Subcommand;
use halite::hal::{Device, DeviceKind};
use halite_bench::{Clock, Host, Line, Row, Run, Subject, Timing};
use std::sync::Arc;

/// Measure single ops or a model on any device, and compare two measurements
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  halite bench ops --op matmul\n  halite bench model --preset small --json\n  \
                        halite bench compare before.json after.json --fail-over 5%"
)]
pub struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ops(ops::Ops),
    Model(model::ModelArgs),
    Compare(compare::Compare),
}

impl Bench {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Ops(c) => c.run(),
            Command::Model(c) => c.run(),
            Command::Compare(c) => c.run(),
        }
    }
}

/// How to measure, and where.
#[derive(clap::Args)]
struct Measuring {
    #[command(flatten)]
    device: DeviceArgs,
    /// Samples of each test
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// Tiny sizes, to see that everything runs; the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Don't check a part of the conformance suite
    #[arg(long)]
    no_conformance: bool,
    /// Print JSON: an array with an object for each test, with the keys of llama-bench
    #[arg(long)]
    json: bool,
}

impl Measuring {
    /// The devices asked for, by default the fastest.
    fn open(&self) -> Result<Vec<Arc<dyn Device>>> {
        let mut wanted = self.device.clone();
        wanted.device.get_or_insert_with(|| "auto".into());
        wanted.open_all()
    }

    fn host(&self) -> Host {
        let processor = halite::registry().devices().into_iter().find(|d| d.kind == DeviceKind::Cpu);
        let all = std::thread::available_parallelism().map_or(1, |n| n.get());
        Host {
            cpu: processor.map_or_else(|| std::env::consts::ARCH.into(), |d| d.name),
            threads: self.device.threads.map_or(all, usize::from),
        }
    }

    /// Prints the reports of all devices, or tells what failed.
    fn finish(&self, reports: &[(Run, Vec<Row>)], print: fn(&[Row]) -> Result<()>) -> Result<()> {
        if self.json {
            let mut lines = Vec::new();
            for (run, rows) in reports {
                lines.extend(rows.iter().map(|row| Line { run, row }));
            }
            output::json(&lines)?;
        } else {
            for (run, rows) in reports {
                heading(run)?;
                print(rows)?;
                notes(rows)?;
            }
        }
        let rows = || reports.iter().flat_map(|(_, rows)| rows);
        let failed: Vec<&Row> = rows().filter(|r| r.failed()).collect();
        match failed.first() {
            None => Ok(()),
            Some(row) => Err(Error::Failed(format!(
                "{} of {} tests failed; {}: {}",
                failed.len(),
                rows().count(),
                row.test,
                row.reason.as_deref().unwrap_or_default()
            ))),
        }
    }
}

/// A line or two on the device.
fn heading(run: &Run) -> Result<()> {
    let name = if run.gpu_info.is_empty() { &run.cpu_info } else { &run.gpu_info };
    let software = if run.software { ", a software driver: not the speed of any GPU" } else { "" };
    let profile = run.profile.as_ref().map(|p| format!(", profile {p}")).unwrap_or_default();
    say!("{}: {name} ({}{software}{profile})", run.device, run.driver)?;
    if let Some(roofline) = &run.roofline {
        let copy = roofline.copy_gbps.map(|n| format!("copy {n:.1} GB/s"));
        let products = roofline.gflops.iter().map(|(dtype, n)| format!("{dtype} {n:.1} GFLOP/s"));
        let missing = roofline.missing.iter().map(|(what, why)| format!("{what} not measured: {why}"));
        let all: Vec<String> = copy.into_iter().chain(products).chain(missing).collect();
        say!("roofline, as measured: {}", all.join(", "))?;
    }
    Ok(())
}

/// Below a table: why rows are empty, and whether the device computes the right thing.
fn notes(rows: &[Row]) -> Result<()> {
    let mut lines: Vec<String> = Vec::new();
    for row in rows {
        if let Some(reason) = &row.reason {
            let what = if row.failed() { "failed" } else { "unsupported" };
            lines.push(format!("{what}: {}: {reason}", row.test));
        }
    }
    for row in rows {
        let Some(c) = row.conformance else { continue };
        let unsupported =
            if c.unsupported > 0 { format!(", {} unsupported", c.unsupported) } else { String::new() };
        let what = match row.subject {
            Subject::Op { .. } => row.test.as_str(),
            Subject::Model { .. } => "the device",
        };
        let (passed, cases, failed, part) = (c.passed, c.cases, c.failed, c.part.name());
        lines.push(format!(
            "conformance of {what}: {passed} of {cases} cases passed, {failed} failed{unsupported} ({part})"
        ));
    }
    lines.dedup();
    for line in &lines {
        say!("{line}")?;
    }
    say!("")
}

/// Time for people.
fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// Median, spread and clock of a row.
fn times(timing: Option<&Timing>) -> [String; 3] {
    match timing {
        Some(t) => [
            duration(t.median_ns),
            format!("{:.1}%", t.spread_percent()),
            if t.clock == Clock::Device { "device" } else { "host" }.into(),
        ],
        None => ["-", "-", "-"].map(String::from),
    }
}
