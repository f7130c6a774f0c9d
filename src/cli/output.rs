//! Tables, JSON, sizes, and progress.

use super::error::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::Write;

/// Prints a line of results; unlike `println!` it returns an error where standard output is closed or full.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}
pub(super) use say;

/// Prints a notice on standard error; that nobody hears it is no reason to stop.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(super) use note;

/// Writes a line to standard output.
pub fn line(text: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Writes a value as JSON, and a line end.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}

/// Writes rows in columns; the first row is the heading. Columns of numbers are aligned right.
pub fn table(rows: &[Vec<String>]) -> Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, c: usize| row.get(c).cloned().unwrap_or_default();
    let width = |c: usize| rows.iter().map(|r| cell(r, c).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |c: usize| {
        let body = rows.get(1..).unwrap_or_default();
        body.iter().all(|r| cell(r, c).starts_with(|x: char| x.is_ascii_digit() || x == '-'))
    };
    let right: Vec<bool> = (0..columns).map(numeric).collect();
    let mut out = std::io::stdout().lock();
    for row in rows {
        let mut line = String::new();
        for c in 0..columns {
            let (text, width) = (cell(row, c), widths[c]);
            line += &if right[c] { format!("{text:>width$}  ") } else { format!("{text:<width$}  ") };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A size in bytes for people.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// The most memory that this process has held, in bytes, where the system tells.
pub fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A progress bar on standard error; silent when that isn't a terminal.
pub fn progress(length: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} {{elapsed}}<{{eta}} {{msg}}");
    // The template is fixed, so that it can't be malformed; if it were, the plain bar does as well.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
