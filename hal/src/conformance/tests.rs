//! The suite itself: the reference passes, planted defects are caught.

use super::*;
use crate::reference::ReferenceDevice;

fn assert_clean(report: &Report) {
    for op in &report.ops {
        println!(
            "{:24} {:5} cases, {:4} composed, worst {:.3}",
            op.op, op.cases, op.composed, op.worst_tolerance_fraction
        );
    }
    for op in &report.ops {
        if let Some(f) = op.failures.first() {
            panic!("{}: {} of {} failed, first {}: {}", op.op, op.failed, op.cases, f.case, f.message);
        }
        assert!(op.cases > 0 && op.unsupported == 0, "{op:?}");
    }
}

#[test]
fn the_reference_passes() {
    let report = run(&ReferenceDevice::new(), &Options::default());
    assert_clean(&report);
    assert_eq!(report.ops.len(), OpKind::NAMES.len() + runtime::GROUPS.len());
    assert!(report.ops.iter().zip(OpKind::NAMES).all(|(op, name)| op.op == name));
    let worst = report.ops.iter().map(|op| op.worst_tolerance_fraction).fold(0.0, f64::max);
    // Only the rounding of the result is left, and that doesn't count.
    assert!(worst < 0.01, "{worst}");
}
