//! `halite bench ops`

use super::{Measuring, times};
use crate::cli::error::Result;
use crate::cli::output;
use halite_bench::{Row, Speed, Subject, ops};

/// Time single ops: seconds, operations and bytes a second, percent of what the device was measured to reach
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite bench ops --op grouped_matmul\n  \
                        halite bench ops --device all --json > ops.json\n\n\
                        The spread is half the distance between the quartiles. Operands that fit a cache can \
                        exceed 100% of the roofline, which is that of memory.")]
pub struct Ops {
    /// Only this op
    #[arg(long, value_name = "NAME")]
    op: Option<String>,
    #[command(flatten)]
    measuring: Measuring,
}

impl Ops {
    pub fn run(self) -> Result<()> {
        let m = &self.measuring;
        let options = ops::Options {
            op: self.op,
            quick: m.quick,
            samples: m.samples.into(),
            conformance: !m.no_conformance,
        };
        let cases = ops::selected(&options)?;
        let devices = m.open()?;
        let bar = output::progress((cases.len() * devices.len()) as u64, "cases");
        let mut reports = Vec::new();
        for device in devices {
            bar.set_message(device.info().selector.clone());
            reports.push(ops::run(&*device, &m.host(), &cases, &options, || bar.inc(1))?);
        }
        bar.finish_and_clear();
        m.finish(&reports, print)
    }
}

fn print(rows: &[Row]) -> Result<()> {
    let heading = [
        "op", "case", "dtype", "skew", "support", "median", "spread", "clock", "GFLOP/s", "GB/s", "roofline",
    ];
    let mut table = vec![heading.map(String::from).to_vec()];
    for row in rows {
        let Subject::Op { case, dtype, skew, support, flops, .. } = &row.subject else { continue };
        let [median, spread, clock] = times(row.timing.as_ref());
        let [gflops, gbps, roofline] = match &row.speed {
            Some(Speed::Op { gflops, gbps, roofline_percent }) => [
                if *flops > 0 { format!("{gflops:.1}") } else { "-".into() },
                format!("{gbps:.1}"),
                roofline_percent.map_or("-".into(), |p| format!("{p:.0}%")),
            ],
            _ => ["-", "-", "-"].map(String::from),
        };
        let support = if row.failed() { "failed" } else { support };
        let skew = skew.map_or("", |s| s.name()).to_string();
        let subject = [row.test.clone(), case.clone(), dtype.to_string(), skew, support.into()];
        table.push(subject.into_iter().chain([median, spread, clock, gflops, gbps, roofline]).collect());
    }
    output::table(&table)
}
