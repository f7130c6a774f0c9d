//! What was saved before is never lost: not by damage, a full disk, a kill, or a run that goes off.

mod common;

use common::{Place, text, wait_for};
use halite::models::checkpoint;
use std::path::{Path, PathBuf};

const TRAIN: &str = "train --config run.toml";

/// A place with a run of 8 steps, saved at 4 and 8, and what must not change.
fn trained() -> (Place, impl Fn(&Place, &str)) {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --save-every 4 --schedule constant --out run"));
    let before = place.files("run");
    assert!(before.contains_key(Path::new("step-4/model.safetensors")));
    (place, move |place: &Place, case: &str| assert!(place.files("run") == before, "{case} changed the run"))
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let (place, unchanged) = trained();
    // Step 9 is taken with an absurd rate, and step 10 sees what came of it.
    let line = "train --resume --steps 20 --lr 1e30 --save-every 0 --out run";
    let error = place.fails(line, &["step 10", "the loss is", "gradient norm"]);
    assert!(error.contains("NaN") || error.contains("inf"), "{error}");
    assert_eq!(place.metrics("run").len(), 9);
    place.ok("train --resume --steps 8 --out run");
    unchanged(&place, "a run that went off");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_another_used_only_when_asked_for() {
    let (place, unchanged) = trained();
    let (curve, last) = (place.curve("run"), place.files("run/step-8"));
    let files = ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "tokenizer.json"];
    for file in files.into_iter().chain(["manifest.json"]) {
        let name = format!("run/step-8/{file}");
        let whole = place.read(&name);
        let mut flipped = whole.clone();
        let at = whole.len() / 2;
        flipped[at] ^= 1;
        for (damage, content) in
            [("cut", Some(whole[..at].to_vec())), ("flipped", Some(flipped)), ("removed", None)]
        {
            std::fs::remove_file(place.path(&name)).unwrap();
            if let Some(bytes) = &content {
                place.write(&name, bytes);
            }
            // A manifest that says otherwise than the files makes those the damaged ones.
            let named = if (file, damage) == ("manifest.json", "flipped") { "step-8" } else { file };
            let words = ["step-8", named, "--resume-from step-4"];
            place.fails("train --resume --steps 9 --out run", &words);
            // A folder without a manifest is a model folder, which needs none.
            if (file, damage) != ("manifest.json", "removed") {
                place.fails("generate --model run --prompt a -n 1", &words);
            }
            assert_eq!(place.curve("run"), curve, "{file} {damage}");
            place.write(&name, &whole);
            unchanged(&place, file);
        }
    }
    place.write("run/step-8/model.safetensors", "gone");
    place.fails("train --resume-from step-8 --out run", &["step-8", "--resume-from step-4"]);
    place.fails("train --resume-from step-5 --out run", &["step-5", "step-4", "step-8"]);
    place.ok("train --resume-from step-4 --out run");
    // The damaged checkpoint was replaced by the same steps taken again.
    assert!(place.files("run/step-8") == last && place.curve("run") == curve);

    place.write("run/latest", "nonsense");
    place.fails("train --resume --out run", &["step-4", "step-8", "--resume-from"]);
    std::fs::remove_file(place.path("run/latest")).unwrap();
    place.fails("train --resume --out run", &["step-4", "step-8", "--resume-from"]);
    place.fails(&format!("{TRAIN} --out run"), &["holds a run already"]);
    place.ok("train --resume-from step-4 --out run");
    assert!(place.files("run/step-8") == last && place.curve("run") == curve);
    assert_eq!(place.read_text("run/latest"), "step-8\n");
}

#[test]
fn other_text_or_settings_than_a_checkpoint_had_are_refused() {
    let (place, unchanged) = trained();
    place.write("other.txt", text(20_001));
    place.fails("train --resume --steps 12 --data other.txt --out run", &["training data changed"]);
    place.fails("train --resume --steps 12 --seed 1 --out run", &["--seed 7", "1"]);
    place.fails("train --resume --steps 12 --batch-size 3 --out run", &["batch"]);
    place.fails("train --resume --preset tiny --out run", &["another model"]);
    unchanged(&place, "a refused resume");
}

/// Writes fail as on a full disk, here because files may have at most `blocks` of 512 bytes.
#[cfg(unix)]
fn with_full_disk(place: &Place, blocks: usize, line: &str) -> common::Ran {
    // An ignored SIGXFSZ makes the write fail instead of ending the process.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$HALITE\" {line}");
    place.script(&script).output().unwrap().into()
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let (place, unchanged) = trained();
    let whole = place.read("run/step-8/model.safetensors").len();
    assert!(whole > 64 * 512, "the checkpoint is larger than the limit");
    // Metrics fit, a checkpoint doesn't.
    let error = with_full_disk(&place, 64, "train --resume --steps 12 --save-every 2 --out run");
    let error = error.error("checkpoint on a full disk");
    assert!(error.contains("model.safetensors") && error.contains("step-10"), "{error}");
    assert_eq!(place.metrics("run").len(), 10, "the steps before the failed save");
    assert_eq!(checkpoint::steps(&place.path("run")).unwrap(), [4, 8]);
    assert!(!place.files("run").keys().any(|f| f.to_string_lossy().contains("tmp")), "leftovers");
    place.ok("train --resume --steps 8 --out run");
    unchanged(&place, "a checkpoint on a full disk");

    // Not even metrics fit.
    let error = with_full_disk(&place, 1, "train --resume --steps 12 --out run").error("metrics");
    assert!(error.contains("metrics.jsonl"), "{error}");
    place.ok("train --resume --steps 8 --out run");
    unchanged(&place, "metrics on a full disk");

    // A new run leaves no half of a checkpoint, and the same command works when there is room.
    let line = format!("{TRAIN} --save-every 4 --schedule constant --out new");
    with_full_disk(&place, 64, &line).error("a new run on a full disk");
    assert!(checkpoint::steps(&place.path("new")).unwrap().is_empty());

    // Files that other commands write.
    place.add("mixtral_6x3");
    let commands = [
        "tokenizer train --data text.txt --vocab-size 300 --out out",
        "inspect logits --model mixtral_6x3 --ids-from mixtral_6x3/reference.safetensors --out out",
        "inspect grads --model mixtral_6x3 --ids-from mixtral_6x3/train.safetensors --out out",
    ];
    for line in commands {
        place.write("out", "what was there");
        let error = with_full_disk(&place, 4, line).error(line);
        assert!(error.contains("out"), "{error}");
        assert_eq!(place.read_text("out"), "what was there");
        assert!(!place.path("out.tmp").exists(), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::with_run();
    for line in
        ["devices", "devices --verbose", "devices --json", "verify --op fill", "verify --op fill --json"]
    {
        let mut command = place.command(line);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ran = common::Ran::from(command.stdout(full).output().unwrap());
        let error = ran.error(line);
        assert!(error.contains("output") || error.contains("No space"), "{line}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_panic() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --out run"));
    for line in [
        "devices",
        "devices --verbose",
        "devices --json",
        "verify --op fill",
        "verify --op fill --json",
        "generate --model run --prompt a",
        "generate --model run --prompt a --json",
        "train --resume --steps 9 --out run",
    ] {
        // The reader is gone before anything is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = common::Ran::from(place.command(line).stdout(writer).output().unwrap());
        assert!(!ran.stderr.contains("panicked"), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.contains("error:"), "{line}: {}", ran.stderr);
    }
    // Notices that nobody reads don't stop the run either.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let line = "train --resume --steps 12 --validate-every 1 --out run";
    let ran = common::Ran::from(place.command(line).stderr(writer).output().unwrap());
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("finished after 12 steps"), "{}", ran.stdout);
}

/// The unfinished folders that a killed save leaves.
fn unfinished(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run) else { return Vec::new() };
    let paths = entries.map(|e| e.unwrap().path());
    paths.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(".tmp-step-")).collect()
}

#[test]
fn a_process_killed_while_it_saves_loses_nothing_saved() {
    let place = Place::with_run();
    let run = place.path("run");
    let options = "--schedule constant --save-every 1 --keep 3";
    let mut hits = 0;
    for round in 0..50 {
        let line = match run.join("latest").exists() {
            true => "train --resume --out run".to_string(),
            false => format!("{TRAIN} {options} --steps 1000000 --out run"),
        };
        let done = checkpoint::latest(&run).unwrap_or(0);
        let mut child = place.command(&line).spawn().unwrap();
        // Some saves first, so that the run gets on; then in the middle of one.
        wait_for("a save", || {
            checkpoint::latest(&run).unwrap_or(0) > done + round % 3 && !unfinished(&run).is_empty()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        hits += usize::from(!unfinished(&run).is_empty());

        let latest = checkpoint::latest(&run).unwrap();
        let steps = checkpoint::steps(&run).unwrap();
        assert!(latest > done && steps.contains(&latest), "{latest} of {steps:?}");
        for step in steps {
            checkpoint::verify(&run.join(checkpoint::step_name(step))).unwrap();
        }
        if hits == 5 {
            break;
        }
    }
    assert_eq!(hits, 5, "no kill came in the middle of a save");

    let end = checkpoint::latest(&run).unwrap() + 3;
    place.ok(&format!("train --resume --steps {end} --out run"));
    assert!(unfinished(&run).is_empty());
    place.ok(&format!("{TRAIN} {options} --steps {end} --out whole"));
    assert_eq!(place.curve("run"), place.curve("whole"));
    let last = checkpoint::step_name(end);
    assert!(place.files(&format!("run/{last}")) == place.files(&format!("whole/{last}")));
}
