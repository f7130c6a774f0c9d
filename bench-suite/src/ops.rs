//! `halite bench ops`: single ops.

use crate::cases::{self, Case, Sizes};
use crate::measure::{self, Plan};
use crate::{Conformance, Error, Host, Result, Roofline, Row, Run, Speed, Subject, Timing, run};
use halite_hal::{DType, Device, OpKind, Support};
use std::collections::BTreeMap;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only this op.
    pub op: Option<String>,
    /// Sizes too small for figures, to see that everything runs.
    pub quick: bool,
    /// Samples of each case.
    pub samples: usize,
    /// Whether a part of the conformance suite is run too.
    pub conformance: bool,
}

/// The cases that are to be run.
///
/// # Errors
/// When there is no op of the name asked for.
pub fn selected(options: &Options) -> Result<Vec<Case>> {
    let mut cases = cases::all(if options.quick { &Sizes::QUICK } else { &Sizes::FULL });
    if let Some(op) = &options.op {
        if !OpKind::NAMES.contains(&op.as_str()) {
            return Err(Error::NoOp { name: op.clone() });
        }
        cases.retain(|c| c.name() == op);
    }
    Ok(cases)
}

/// Runs cases on a device; `progress` is called after each. A case that can't be run is a row with the reason.
///
/// # Errors
/// When the device is lost.
pub fn run(
    device: &dyn Device,
    host: &Host,
    cases: &[Case],
    options: &Options,
    mut progress: impl FnMut(),
) -> Result<(Run, Vec<Row>)> {
    let mut dtypes: Vec<DType> = cases.iter().filter(|c| c.flops > 0).map(|c| c.dtype).collect();
    dtypes.retain(|d| d.is_float());
    dtypes.sort_unstable();
    dtypes.dedup();
    let roofline = Roofline::measure(device, &dtypes, options.quick)?;
    let plan = if options.quick { Plan::quick(options.samples) } else { Plan::thorough(options.samples) };
    let mut checked = BTreeMap::new();
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        let mut row = row(device, case, &plan, &roofline)?;
        if options.conformance {
            let check = || Conformance::of_op(device, case.name());
            row.conformance = Some(*checked.entry(case.name()).or_insert_with(check));
        }
        rows.push(row);
        progress();
    }
    Ok((Run::new(device, host, Some(roofline)), rows))
}

fn row(device: &dyn Device, case: &Case, plan: &Plan, roofline: &Roofline) -> Result<Row> {
    let (support, reason) = match device.supports(&case.op().desc()) {
        Support::Native => ("native", None),
        Support::Composed => ("composed", None),
        Support::Unsupported(reason) => ("unsupported", Some(reason)),
        other => ("unsupported", Some(format!("the device answers {other:?}"))),
    };
    let mut row = Row {
        test: case.name().into(),
        subject: Subject::Op {
            case: case.case.clone(),
            dtype: case.dtype.name(),
            skew: case.skew,
            support,
            flops: case.flops,
            bytes: case.bytes,
        },
        test_time: run::now(),
        conformance: None,
        reason,
        timing: None,
        speed: None,
        replay: None,
    };
    if row.reason.is_some() {
        return Ok(row);
    }
    let timed = case.load(device).and_then(|l| measure::recording(plan, device, &l.recording, &l.bindings));
    match timed {
        Ok(times) => {
            row.timing = Timing::new(&times);
            row.speed = row.timing.as_ref().and_then(|t| speed(case, t, roofline));
        }
        Err(e @ Error::Device(halite_hal::Error::DeviceLost { .. })) => return Err(e),
        Err(e) => row.reason = Some(e.to_string()),
    }
    Ok(row)
}

/// Nothing where the clock was too coarse for the case.
fn speed(case: &Case, timing: &Timing, roofline: &Roofline) -> Option<Speed> {
    let ns = timing.median_ns as f64;
    (timing.median_ns > 0).then(|| Speed::Op {
        gflops: case.flops as f64 / ns,
        gbps: case.bytes as f64 / ns,
        roofline_percent: roofline.floor(case).map(|s| s * 1e9 / ns * 100.0),
    })
}

#[cfg(test)]
mod tests;
