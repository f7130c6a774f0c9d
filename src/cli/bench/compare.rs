//! `halite bench compare`

use super::duration;
use crate::cli::error::{Error, Result};
use crate::cli::output::{self, say};
use halite_bench::compare::{Comparison, Report};
use std::path::{Path, PathBuf};

/// Set two JSON reports of `halite bench` side by side
#[derive(clap::Args)]
#[command(after_help = "Example:\n  halite bench compare before.json after.json --fail-over 5%")]
pub struct Compare {
    /// The report to compare with
    #[arg(value_name = "A.json")]
    before: PathBuf,
    /// The report in question
    #[arg(value_name = "B.json")]
    after: PathBuf,
    /// Fail when the median of any test is slower by more than this, or has gone
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_over: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|n| n.is_finite() && *n >= 0.0)
        .ok_or_else(|| "a percentage from 0 is needed, such as 5%".into())
}

fn report(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    Report::parse(&text).map_err(|e| Error::Failed(format!("{}: {e}", path.display())))
}

impl Compare {
    pub fn run(self) -> Result<()> {
        let comparison = Comparison::new(&report(&self.before)?, &report(&self.after)?)?;
        if self.json {
            output::json(&comparison)?;
        } else {
            self.print(&comparison)?;
        }
        match self.fail_over {
            Some(limit) => verdict(&comparison, limit),
            None => Ok(()),
        }
    }

    fn print(&self, c: &Comparison) -> Result<()> {
        let mut table = vec![["test", "before", "after", "time ratio"].map(String::from).to_vec()];
        for p in &c.pairs {
            let times = [duration(p.before_ns), duration(p.after_ns), format!("{:.3}", p.ratio)];
            table.push([p.test.clone()].into_iter().chain(times).collect());
        }
        output::table(&table)?;
        for lost in &c.lost {
            say!("no time to compare: {}: {}", lost.test, lost.reason)?;
        }
        for (path, tests) in [(&self.before, &c.only_before), (&self.after, &c.only_after)] {
            for test in tests {
                say!("only in {}: {test}", path.display())?;
            }
        }
        for line in &c.differences {
            say!("not the same: {line}")?;
        }
        Ok(())
    }
}

fn verdict(c: &Comparison, limit: f64) -> Result<()> {
    if let Some(lost) = c.lost.first() {
        let (n, test, reason) = (c.lost.len(), &lost.test, &lost.reason);
        return Err(Error::Failed(format!("{n} tests have no time to compare any more; {test}: {reason}")));
    }
    let slower = c.slower(limit);
    let Some(worst) = slower.first() else { return Ok(()) };
    let more = (worst.ratio - 1.0) * 100.0;
    Err(Error::Failed(format!(
        "{} of {} tests are slower by more than {limit}%, most of all {} by {more:.1}%",
        slower.len(),
        c.pairs.len(),
        worst.test
    )))
}
