//! `halite bench compare`: two reports side by side.

use crate::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The keys that say which test a row is of. Not among them is what may have changed between the runs: build,
/// names, drivers and threads.
const TEST_KEYS: [&str; 9] =
    ["device", "profile", "test", "case", "dtype", "skew", "model_type", "model_n_params", "type_k"];

/// The keys that are pointed out when they differ.
const NOTED_KEYS: [&str; 5] = ["cpu_info", "gpu_info", "driver", "n_threads", "tuning"];

/// The rows of a report.
#[derive(Clone, Debug)]
pub struct Report {
    rows: BTreeMap<String, Found>,
    /// For each device, the values of [`NOTED_KEYS`].
    devices: BTreeMap<String, Vec<Value>>,
}

#[derive(Clone, Debug)]
enum Found {
    Median { ns: u64, clock: String },
    Nothing(String),
}

impl Report {
    /// Reads the JSON that `halite bench ops` and `halite bench model` print.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Report> {
        let wrong = |reason: String| Error::Report { reason };
        let lines: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        if lines.is_empty() {
            return Err(wrong("it has no rows".into()));
        }
        let mut report = Report { rows: BTreeMap::new(), devices: BTreeMap::new() };
        for (line, n) in lines.iter().zip(1..) {
            let text = |key: &str| line.get(key).and_then(Value::as_str);
            let need = |key: &str| text(key).ok_or_else(|| wrong(format!("row {n} has no {key:?}")));
            let device = need("device")?;
            need("test")?;
            let found = match (line.get("median_ns"), text("reason")) {
                (Some(ns), _) => match ns.as_u64() {
                    Some(0) => Found::Nothing("too short for the clock".into()),
                    Some(ns) => Found::Median { ns, clock: need("clock")?.into() },
                    None => {
                        return Err(wrong(format!("row {n}: median_ns is {ns}, must be a whole number")));
                    }
                },
                (None, Some(reason)) => Found::Nothing(reason.into()),
                (None, None) => {
                    return Err(wrong(format!("row {n} has neither \"median_ns\" nor \"reason\"")));
                }
            };
            let noted = NOTED_KEYS.map(|key| line.get(key).cloned().unwrap_or_default());
            report.devices.entry(device.into()).or_insert_with(|| noted.to_vec());
            let label = label(line);
            if report.rows.insert(label.clone(), found).is_some() {
                return Err(wrong(format!("two rows are of {label}")));
            }
        }
        Ok(report)
    }
}

fn label(line: &Map<String, Value>) -> String {
    let value = |key: &&str| match line.get(*key) {
        None | Some(Value::Null) => None,
        Some(Value::String(s)) => Some(s.clone()),
        Some(other) => Some(other.to_string()),
    };
    TEST_KEYS.iter().filter_map(value).collect::<Vec<_>>().join(" ")
}

/// A test that both reports have a time of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The test.
    pub test: String,
    /// Median nanoseconds in the first report.
    pub before_ns: u64,
    /// Median nanoseconds in the second.
    pub after_ns: u64,
    /// The second over the first: above 1 is slower.
    pub ratio: f64,
}

/// A test without a time to compare, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The test.
    pub test: String,
    /// Why there is no time.
    pub reason: String,
}

/// Two reports side by side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// Tests with a time in both.
    pub pairs: Vec<Pair>,
    /// Tests with a time in the first, and a reason for none, or a time by another clock, in the second.
    pub lost: Vec<Lost>,
    /// Tests with a time in the first that the second doesn't have.
    pub only_before: Vec<String>,
    /// Tests with a time in the second that the first has none of.
    pub only_after: Vec<String>,
    /// What else is different between the runs, a line each.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Sets two reports side by side.
    ///
    /// # Errors
    /// When they have no test in common.
    pub fn new(before: &Report, after: &Report) -> Result<Comparison> {
        let mut c = Comparison::default();
        for (test, found) in &before.rows {
            let Found::Median { ns: before_ns, clock } = found else { continue };
            let test = test.clone();
            match after.rows.get(&test) {
                Some(Found::Median { ns, clock: other }) if clock == other => {
                    let ratio = *ns as f64 / *before_ns as f64;
                    c.pairs.push(Pair { test, before_ns: *before_ns, after_ns: *ns, ratio });
                }
                Some(Found::Median { clock: other, .. }) => {
                    let reason = format!("timed by the {clock}'s clock before, by the {other}'s after");
                    c.lost.push(Lost { test, reason });
                }
                Some(Found::Nothing(reason)) => c.lost.push(Lost { test, reason: reason.clone() }),
                None => c.only_before.push(test),
            }
        }
        if c.pairs.is_empty() && c.lost.is_empty() {
            return Err(Error::NothingInCommon);
        }
        for (test, found) in &after.rows {
            let measured = |f: &Found| matches!(f, Found::Median { .. });
            if measured(found) && !before.rows.get(test).is_some_and(measured) {
                c.only_after.push(test.clone());
            }
        }
        for (device, values) in &before.devices {
            let Some(others) = after.devices.get(device) else { continue };
            for (key, (a, b)) in NOTED_KEYS.iter().zip(values.iter().zip(others)) {
                if a != b {
                    c.differences.push(format!("{device}: {key} was {a}, is {b}"));
                }
            }
        }
        Ok(c)
    }

    /// The tests that are slower by more than `percent`, the worst first.
    pub fn slower(&self, percent: f64) -> Vec<&Pair> {
        let limit = 1.0 + percent / 100.0;
        let mut slower: Vec<&Pair> = self.pairs.iter().filter(|p| p.ratio > limit).collect();
        slower.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        slower
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(test: &str, ns: u64) -> Value {
        json!({"device": "cpu:0", "test": test, "case": "4x4", "skew": null, "median_ns": ns, "clock": "host"})
    }

    fn report(rows: &[Value]) -> Report {
        Report::parse(&Value::from(rows).to_string()).unwrap()
    }

    fn compare(before: &[Value], after: &[Value]) -> Comparison {
        Comparison::new(&report(before), &report(after)).unwrap()
    }

    #[test]
    fn the_limit_is_on_the_ratio_of_medians() {
        let before = [row("a", 1000), row("b", 1000), row("c", 1000), row("d", 1000)];
        let c = compare(&before, &[row("d", 1051), row("c", 1050), row("b", 2000), row("a", 500)]);
        assert_eq!(c.pairs.iter().map(|p| p.ratio).collect::<Vec<_>>(), [0.5, 2.0, 1.05, 1.051]);
        let names = |percent| c.slower(percent).iter().map(|p| p.test.as_str()).collect::<Vec<_>>();
        assert_eq!(names(5.0), ["cpu:0 b 4x4", "cpu:0 d 4x4"]);
        assert!(names(100.0).is_empty());
        assert!(c.lost.is_empty() && c.only_before.is_empty() && c.differences.is_empty());
    }

    #[test]
    fn rows_of_one_report_are_listed() {
        let no = |test: &str| json!({"device": "cpu:0", "test": test, "case": "4x4", "reason": "no kernel"});
        let mut device_clock = row("e", 5);
        device_clock["clock"] = "device".into();
        let c = compare(
            &[row("a", 1), row("b", 1), row("c", 1), no("d"), row("e", 5), no("g")],
            &[row("a", 1), no("c"), row("d", 1), device_clock, row("f", 1), no("g")],
        );
        assert_eq!(c.pairs.len(), 1);
        assert_eq!(c.only_before, ["cpu:0 b 4x4"]);
        assert_eq!(c.only_after, ["cpu:0 d 4x4", "cpu:0 f 4x4"]);
        assert_eq!(c.lost[0], Lost { test: "cpu:0 c 4x4".into(), reason: "no kernel".into() });
        assert!(c.lost[1].test.contains(" e ") && c.lost[1].reason.contains("clock"), "{:?}", c.lost);
    }

    #[test]
    fn a_row_is_known_by_its_test_and_not_by_its_build() {
        let mut after = row("a", 1);
        after["build_commit"] = "beef".into();
        after["driver"] = "2.0".into();
        let c = compare(&[row("a", 1)], &[after]);
        assert_eq!(
            (c.pairs.len(), &c.differences[..]),
            (1, &["cpu:0: driver was null, is \"2.0\"".into()][..])
        );
        for (key, value) in [("skew", "zipf"), ("dtype", "f16"), ("device", "cpu:1"), ("profile", "minimal")]
        {
            let mut other = row("a", 1);
            other[key] = value.into();
            let e = Comparison::new(&report(&[row("a", 1)]), &report(&[other])).unwrap_err();
            assert!(matches!(e, Error::NothingInCommon), "{key}: {e}");
        }
    }

    #[test]
    fn what_is_no_report_is_said_to_be_none() {
        let bad = |text: &str| Report::parse(text).unwrap_err().to_string();
        assert!(bad("[{]").contains("line 1"));
        assert!(bad("{}").contains("not the JSON of `halite bench`"));
        assert!(bad("[]").contains("no rows"));
        assert!(bad("[{\"test\": \"a\"}]").contains("row 1 has no \"device\""));
        assert!(bad(&json!([row("a", 1), {"device": "cpu:0", "test": "b"}]).to_string()).contains("row 2"));
        assert!(bad(&json!([row("a", 1), row("a", 2)]).to_string()).contains("two rows are of cpu:0 a 4x4"));
        let mut negative = row("a", 1);
        negative["median_ns"] = (-1).into();
        assert!(bad(&json!([negative]).to_string()).contains("-1"));
    }
}
