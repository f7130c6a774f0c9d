//! What scripts rely on: help, the shapes of JSON, exit codes of success.

mod common;

use common::{Place, text};
use serde_json::Value;

#[test]
fn every_command_has_help() {
    let place = Place::new();
    let all = place.ok("--help").stdout;
    assert!(all.contains("Examples:"), "{all}");
    let commands = [
        "devices",
        "verify",
        "tune",
        "tokenizer",
        "tokenizer train",
        "train",
        "generate",
        "chat",
        "inspect",
        "inspect logits",
        "inspect grads",
        "demo",
        "bench",
        "bench ops",
        "bench model",
        "bench compare",
    ];
    for command in commands {
        assert!(all.contains(command.split(' ').next().unwrap()), "{command} in {all}");
        for help in [format!("{command} --help"), format!("{command} -h")] {
            let ran = place.ok(&help);
            assert!(ran.stdout.contains("Usage: ") && ran.stderr.is_empty(), "{help}: {}", ran.stdout);
            let example = ran.stdout.split("Example").nth(1).unwrap_or_default();
            assert!(example.contains(&format!("halite {command}")), "{help}: {}", ran.stdout);
        }
    }
    assert_eq!(place.ok("--version").stdout, format!("halite {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn devices_as_json_and_as_a_table() {
    let place = Place::new();
    let devices = place.ok("devices --json").json();
    let devices = devices.as_array().unwrap();
    assert!(!devices.is_empty());
    for d in devices {
        for key in ["selector", "name", "driver", "kind"] {
            assert!(d[key].as_str().is_some_and(|s| !s.is_empty()), "{key} in {d}");
        }
        assert!(d["memory_bytes"].as_u64().is_some_and(|n| n > 0), "{d}");
    }
    assert!(devices.iter().any(|d| d["selector"] == "cpu:0" && d["kind"] == "cpu"), "{devices:?}");
    let table = place.ok("devices").stdout;
    assert_eq!(table.lines().count(), 1 + devices.len(), "{table}");
    let verbose = place.ok("devices --verbose").stdout;
    for d in devices {
        let (selector, name) = (d["selector"].as_str().unwrap(), d["name"].as_str().unwrap());
        assert!(table.contains(selector) && table.contains(name), "{table}");
        assert!(verbose.contains(&format!("\n{selector}:\n")), "{verbose}");
    }
}

/// A machine without drivers, or without the libraries that look for them, as far as the program can tell.
#[cfg(all(target_os = "linux", feature = "cuda", feature = "opencl", feature = "vulkan"))]
#[test]
fn without_drivers_the_program_starts_and_says_what_it_looked_for() {
    let place = Place::new();
    // Files that are no libraries hide the system's.
    for loader in ["libvulkan.so", "libvulkan.so.1", "libOpenCL.so", "libOpenCL.so.1"] {
        place.write(loader, "");
    }
    // CUDA has no loader that could be told to find no driver.
    std::fs::create_dir(place.path("cuda")).unwrap();
    for library in ["libcuda.so", "libcuda.so.1", "cuda/libcuda.so", "cuda/libcuda.so.1"] {
        place.write(library, "");
    }
    let ran = |line: &str, hide: &[&str], path: &str| -> common::Ran {
        let mut command = place.command(line);
        command.env("LD_LIBRARY_PATH", place.path("cuda"));
        for name in hide {
            command.env(name, place.path(path));
        }
        command.output().unwrap().into()
    };
    let no_libraries =
        ["libvulkan.so.1, the loader of Vulkan drivers", "libOpenCL.so.1, the loader of OpenCL"];
    let cases = [
        (&["LD_LIBRARY_PATH"][..], "", no_libraries),
        (&["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "OCL_ICD_VENDORS"], "none", ["vulkan: ", "opencl: "]),
    ];
    for (hide, path, words) in cases {
        let table = ran("devices", hide, path);
        assert!(table.code == Some(0) && table.stdout.contains("cpu:0"), "{}", table.stderr);
        assert_eq!(table.stdout.lines().count(), 2, "{}", table.stdout);
        let verbose = ran("devices --verbose", hide, path).stdout;
        let cuda = "cuda: libcuda.so.1, the library of NVIDIA's driver, was not found";
        for word in words.iter().chain(&["mesa-vulkan-drivers", "pocl-opencl-icd", "Debian", "Ubuntu", cuda])
        {
            assert!(verbose.contains(word), "{word:?} in {verbose}");
        }
        let packages =
            [("vulkan", "mesa-vulkan-drivers"), ("opencl:0", "pocl-opencl-icd"), ("cuda", "NVIDIA's driver")];
        for (device, package) in packages {
            let e = ran(&format!("verify --device {device}"), hide, path).error(device);
            assert!(e.contains(device) && e.contains(package) && e.contains("cpu:0"), "{e}");
        }
    }
}

/// Checks a report of `verify --json`, and gives the names of its ops.
fn check_report(report: &Value, profile: Option<&str>) -> Vec<String> {
    let devices = report["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1);
    let device = &devices[0];
    assert_eq!(device["selector"], "cpu:0");
    assert!(device.as_object().unwrap().contains_key("profile"));
    assert_eq!(device["profile"].as_str(), profile);
    let ops = device["ops"].as_array().unwrap();
    let count = |v: &Value, key: &str| v[key].as_u64().unwrap_or_else(|| panic!("{key} in {v}"));
    for op in ops {
        let counts = count(op, "passed") + count(op, "failed") + count(op, "unsupported");
        assert_eq!(count(op, "cases"), counts, "{op}");
        assert!(count(op, "cases") > 0, "{op}");
        let worst = op["worst_tolerance_fraction"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&worst), "{op}");
    }
    for key in ["passed", "failed", "unsupported"] {
        assert_eq!(count(device, key), ops.iter().map(|op| count(op, key)).sum::<u64>(), "{key}");
    }
    assert_eq!(count(device, "failed"), 0);
    ops.iter().map(|op| op["op"].as_str().unwrap().to_string()).collect()
}

#[test]
fn verify_reports_every_op() {
    let place = Place::new();
    let all = check_report(&place.ok("verify --device cpu --json").json(), None);
    for op in ["matmul", "grouped_matmul", "attention", "router", "rms_norm", "adamw", "cross_entropy"] {
        assert!(all.iter().any(|name| name == op), "{op} in {all:?}");
    }
    let one = place.ok("verify --device cpu --op matmul --json").json();
    assert_eq!(check_report(&one, None), ["matmul"]);
    let core = place.ok("verify --device cpu --op swiglu --profile core-only --json").json();
    assert_eq!(check_report(&core, Some("core-only")), ["swiglu"]);

    let table = place.ok("verify --device cpu --op matmul").stdout;
    let row: Vec<&str> =
        table.lines().find(|l| l.starts_with("matmul")).unwrap().split_whitespace().collect();
    assert_eq!(row[1], one["devices"][0]["ops"][0]["cases"].to_string(), "{table}");
    assert!(table.contains(" passed, 0 failed, "), "{table}");
}

#[test]
fn a_tokenizer_is_trained_and_used() {
    let place = Place::with_run();
    std::fs::create_dir(place.path("texts")).unwrap();
    place.write("texts/a.md", text(3000));
    place.write("texts/b.jsonl", "{\"body\": \"jumps over\"}\n".repeat(50));
    let ran =
        place.ok("tokenizer train --data texts text.txt --text-field body --vocab-size 290 --out t.json");
    assert!(ran.stdout.starts_with("t.json: ") && ran.stdout.contains("52 documents"), "{}", ran.stdout);
    let file: Value = serde_json::from_slice(&place.read("t.json")).unwrap();
    let size = file["model"]["vocab"].as_object().unwrap().len();
    assert!((258..=290).contains(&size), "{size}");
    // The same text gives the same file.
    place.ok("tokenizer train --data text.txt texts --text-field body --vocab-size 290 --out again.json");
    assert!(place.read("t.json") == place.read("again.json"));

    place.write("run.toml", place.read_text("run.toml").replace("vocab_size = 260", "vocab_size = 290"));
    place.ok("train --config run.toml --tokenizer t.json --steps 2 --out run");
    assert!(place.read("run/step-2/tokenizer.json") == place.read("t.json"));
}

#[test]
fn the_demo_trains_and_compares_devices() {
    let place = Place::with_run();
    let demo = "demo --steps 2 --data text.txt --out demo";
    let report = place.ok(&format!("{demo} --json")).json();
    assert_eq!(report["steps"], 2);
    for key in ["seconds", "validation_bits_per_byte", "bigram_bits_per_byte"] {
        assert!(report[key].as_f64().is_some_and(|x| x > 0.0), "{key} in {report}");
    }
    let rows = report["devices"].as_array().unwrap();
    let cpu = rows.iter().find(|r| r["device"] == "cpu:0").unwrap();
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(cpu[key].as_f64().is_some_and(|x| x > 0.0), "{key} in {cpu}");
    }
    // The CPU is what all are compared with.
    assert_eq!(cpu["max_logit_difference"], 0.0);
    assert_eq!(cpu["mean_kl"], 0.0);
    assert_eq!((&cpu["same_tokens"], &cpu["router_agreement"]), (&true.into(), &1.0.into()));
    assert!(cpu["first_near_tie"].is_null() && cpu.get("fault").is_none(), "{cpu}");
    for r in rows {
        // The tight bound of parity; in standard deviations.
        assert!(r["max_logit_difference_replayed"].as_f64().is_some_and(|x| x <= 2e-4), "{r}");
    }
    place.ok("generate --model demo --prompt the -n 4");

    // Another demo takes its place, but nothing else that is there.
    place.write("demo/notes.txt", "mine");
    // Few devices are enough for a table.
    let none = place.path("none");
    let ran = place.command(demo).env("VK_DRIVER_FILES", &none).env("VK_ICD_FILENAMES", &none).output();
    let common::Ran { code, stdout: table, stderr } = ran.unwrap().into();
    assert_eq!(code, Some(0), "{stderr}");
    for word in ["bits a byte", "cpu:0", "first near-tie", "diff replayed"] {
        assert!(table.contains(word), "{word:?} in {table}");
    }
    assert_eq!(place.read_text("demo/notes.txt"), "mine");
    assert_eq!(place.metrics("demo").len(), 2);

    // A run that is no demo's is none to replace.
    place.ok("train --config run.toml --steps 1 --out run");
    let before = place.files("run");
    place.fails("demo --steps 1 --data text.txt --out run", &["run", "--out"]);
    assert!(place.files("run") == before);
}

#[test]
fn a_device_without_variants_has_nothing_to_tune() {
    let place = Place::new();
    let ran = place.ok("tune --device cpu --quick --op matmul");
    assert!(ran.stdout.starts_with("cpu:0: ") && ran.stdout.contains("no variants"), "{}", ran.stdout);
    let json = place.ok("tune --device cpu --quick --op matmul --json").json();
    let device = &json["devices"][0];
    assert_eq!((device["selector"].as_str(), device["file"].as_str()), (Some("cpu:0"), None));
    assert_eq!(device["found"].as_array().map(Vec::len), Some(0));
}
