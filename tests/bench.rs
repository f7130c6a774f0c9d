//! `halite bench`: what it measures, the JSON it prints, and when a comparison fails. Times are not judged.

mod common;

use common::Place;
use serde_json::{Value, json};

fn rows(report: &Value) -> &[Value] {
    report.as_array().unwrap()
}

#[test]
fn ops_are_timed_and_reported() {
    let place = Place::new();
    let report = place.ok("bench ops --quick --samples 3 --device cpu --op matmul --json").json();
    let mut dtypes: Vec<&str> = Vec::new();
    for row in rows(&report) {
        assert_eq!((&row["test"], &row["device"]), (&"matmul".into(), &"cpu:0".into()));
        assert_eq!(
            (&row["kind"], &row["software"], &row["support"]),
            (&"cpu".into(), &false.into(), &"native".into())
        );
        for key in ["build_commit", "cpu_info", "backends", "driver", "test_time", "case"] {
            assert!(row[key].is_string(), "{key} in {row}");
        }
        for key in
            ["avg_ns", "stddev_ns", "median_ns", "wall_ns", "gflops", "gbps", "roofline_percent", "flops"]
        {
            assert!(row[key].as_f64().is_some_and(|x| x >= 0.0), "{key} in {row}");
        }
        assert_eq!(row["samples_ns"].as_array().unwrap().len(), 3);
        assert!(row.as_object().unwrap().contains_key("uuid") && row["tuning"].is_object());
        assert!(row["roofline"]["copy_gbps"].as_f64().is_some_and(|x| x > 0.0), "{row}");
        let checked = &row["conformance"];
        assert!(checked["cases"].as_u64().is_some_and(|n| n > 0) && checked["failed"] == 0, "{checked}");
        dtypes.push(row["dtype"].as_str().unwrap());
    }
    for dtype in ["f32", "f16", "bf16"] {
        assert!(dtypes.contains(&dtype), "{dtypes:?}");
    }
    let table = place.ok("bench ops --quick --device cpu --op grouped_matmul --no-conformance").stdout;
    for word in ["cpu:0: ", "roofline", "uniform", "zipf", "one hot", "GFLOP/s"] {
        assert!(table.contains(word), "{word} in {table}");
    }
    assert!(!table.contains("conformance"), "{table}");
}

#[test]
fn composed_ops_are_labelled() {
    let place = Place::new();
    let line = "bench ops --quick --device cpu --profile core-only --op swiglu --no-conformance --json";
    for row in rows(&place.ok(line).json()) {
        assert_eq!((&row["support"], &row["profile"]), (&"composed".into(), &"core-only".into()));
        assert!(row["median_ns"].is_u64() && row["conformance"].is_null(), "{row}");
    }
}

#[test]
fn models_are_timed_and_reported() {
    let place = Place::new();
    let report = place.ok("bench model --quick --samples 2 --device cpu --json").json();
    let tests: Vec<_> = rows(&report).iter().map(|r| r["test"].as_str().unwrap()).collect();
    assert_eq!(tests, ["pp8", "tg4", "train2x8"]);
    for row in rows(&report) {
        assert_eq!((&row["model_filename"], &row["model_type"]), (&"tiny".into(), &"mixtral".into()));
        for key in ["model_size", "model_n_params", "n_batch", "n_threads", "avg_ns", "median_ns"] {
            assert!(row[key].as_u64().is_some_and(|n| n > 0), "{key} in {row}");
        }
        for key in ["avg_ts", "median_ts"] {
            assert!(row[key].as_f64().is_some_and(|x| x > 0.0), "{key} in {row}");
        }
        assert_eq!(row["samples_ts"].as_array().unwrap().len(), 2);
        assert_eq!(row["conformance"]["failed"], 0, "{row}");
    }
    assert!(rows(&report)[1]["replay"]["wall_ns"].as_u64().is_some_and(|n| n > 0));

    place.add("mixtral");
    let line = "bench model --quick --device cpu --model mixtral --batch-size 0 --no-conformance";
    let table = place.ok(line).stdout;
    assert!(
        table.contains("pp8") && table.contains("a replayed step") && !table.contains("train"),
        "{table}"
    );
}

#[test]
fn what_fails_is_a_row_and_an_exit_code() {
    let place = Place::new();
    let line = "bench model --quick --device cpu --no-conformance --prompt 5000 --json";
    let ran = place.run(line);
    let report = ran.json();
    assert!(rows(&report)[0]["reason"].as_str().is_some_and(|r| r.contains("5000")), "{report}");
    assert!(rows(&report)[1]["median_ns"].is_u64(), "{report}");
    let error = ran.error(line);
    assert!(error.contains("1 of 3 tests failed") && error.contains("pp5000"), "{error}");
    place.fails("bench ops --device cpu --op matmull", &["matmull", "grouped_matmul"]);
    place.fails("bench model --device cpu --preset huge", &["huge", "tiny"]);
}

fn row(test: &str, ns: u64) -> Value {
    json!({"device": "cpu:0", "test": test, "dtype": "f32", "clock": "host", "median_ns": ns})
}

#[test]
fn a_slower_test_fails_a_comparison() {
    let place = Place::new();
    place.write("a.json", json!([row("matmul", 1000), row("copy", 1000), row("rope", 1000)]).to_string());
    place.write("b.json", json!([row("matmul", 1200), row("copy", 1040), row("fill", 1000)]).to_string());
    let line = "bench compare a.json b.json";
    let table = place.ok(line).stdout;
    for part in ["1.200", "1.040", "only in a.json: cpu:0 rope f32", "only in b.json: cpu:0 fill f32"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    place.ok(&format!("{line} --fail-over 20%"));
    let error = place.fails(&format!("{line} --fail-over 5%"), &["1 of 2 tests", "matmul", "20.0%"]);
    assert!(!error.contains("copy"), "{error}");
    place.fails(&format!("{line} --fail-over 3.5"), &["2 of 2 tests"]);
    let ran = place.run(&format!("{line} --fail-over 5% --json"));
    assert_eq!((ran.code, ran.json()["pairs"].as_array().unwrap().len()), (Some(1), 2));
    // Faster is no failure.
    place.ok("bench compare b.json a.json --fail-over 0%");
    for bad in ["five", "-1%", "nan"] {
        assert_eq!(place.run(&format!("{line} --fail-over={bad}")).code, Some(2), "{bad}");
    }

    let gone = json!([row("matmul", 1000), {"device": "cpu:0", "test": "copy", "dtype": "f32", "reason": "no kernel"}]);
    place.write("c.json", gone.to_string());
    assert!(place.ok("bench compare a.json c.json").stdout.contains("no kernel"));
    place.fails("bench compare a.json c.json --fail-over 5%", &["copy", "no kernel"]);
}

#[test]
fn reports_that_cannot_be_compared_are_errors() {
    let place = Place::new();
    place.write("a.json", json!([row("matmul", 1000)]).to_string());
    place.write("other.json", json!([row("copy", 1000)]).to_string());
    place.write("not.json", "{");
    place.write("twice.json", json!([row("copy", 1), row("copy", 2)]).to_string());
    place.fails("bench compare a.json nowhere.json", &["nowhere.json", "read"]);
    place.fails("bench compare a.json not.json", &["not.json", "halite bench"]);
    place.fails("bench compare twice.json a.json", &["twice.json", "copy"]);
    place.fails("bench compare a.json other.json", &["no test"]);
}

#[test]
fn a_report_compares_with_itself() {
    let place = Place::new();
    let report = place.ok("bench ops --quick --samples 1 --device cpu --op rms_norm --no-conformance --json");
    place.write("a.json", report.stdout);
    let comparison = place.ok("bench compare a.json a.json --fail-over 0 --json").json();
    let pairs = comparison["pairs"].as_array().unwrap();
    assert!(!pairs.is_empty() && pairs.iter().all(|p| p["ratio"] == 1.0), "{comparison}");
}
