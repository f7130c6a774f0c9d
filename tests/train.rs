//! `halite train` on text, from settings to checkpoints, and `halite generate` on what comes of it.

mod common;

use common::{Place, text, wait_for};
use serde_json::{Value, json};

const TRAIN: &str = "train --config run.toml";

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn a_run_writes_metrics_and_a_model_that_generates() {
    let place = Place::with_run();
    let ran = place.ok(&format!("{TRAIN} --steps 40 --validate-every 10 --out run"));
    assert!(
        ran.stdout.contains("finished after 40 steps") && ran.stdout.contains("peak memory"),
        "{}",
        ran.stdout
    );
    let metrics = place.metrics("run");
    assert_eq!(metrics.len(), 40);
    for (i, m) in metrics.iter().enumerate() {
        assert_eq!(m["step"], i + 1);
        for key in ["loss", "lr", "grad_norm", "tokens_per_second"] {
            assert!(m[key].as_f64().is_some_and(|x| x > 0.0), "{key} in {m}");
        }
        let load = m["expert_load"].as_array().unwrap();
        assert_eq!(load.len(), 2, "one list a layer");
        for layer in load.iter().map(numbers) {
            assert_eq!(layer.len(), 4, "one share an expert");
            assert!((layer.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{layer:?}");
        }
        let validated = m["validation_loss"].is_f64() && m["validation_bits_per_byte"].is_f64();
        assert_eq!(validated, (i + 1) % 10 == 0, "{m}");
    }
    // Warm-up to the peak, then down.
    let lr: Vec<f64> = metrics.iter().map(|m| m["lr"].as_f64().unwrap()).collect();
    assert_eq!((lr[0], lr[1]), (5e-3, 1e-2));
    assert!(lr[1..].windows(2).all(|w| w[1] <= w[0]) && lr[39] < 2e-3, "{lr:?}");
    // A dozen words are soon known: far from a guess among 256 bytes.
    let last = metrics[39]["validation_bits_per_byte"].as_f64().unwrap();
    assert!(last < 5.0, "{last} bits a byte");

    let greedy = |options: &str| place.ok(&format!("generate --model run --prompt the {options}"));
    let first = greedy("-n 24");
    assert!(first.stdout.starts_with("the") && first.stdout.len() > 20, "{:?}", first.stdout);
    assert_eq!(first.stdout, greedy("-n 24").stdout);
    assert_eq!(first.stdout, greedy("-n 24 --threads 3").stdout);
    assert_eq!(first.stdout, place.ok("generate --model run/step-40 --prompt the -n 24").stdout);

    let all = greedy("-n 24 --json").json();
    assert_eq!(format!("the{}\n", all["text"].as_str().unwrap()), first.stdout);
    assert_eq!((&all["prompt_tokens"], &all["finish"]), (&json!(3), &json!("length")));
    assert_eq!(numbers(&all["tokens"]).len(), 24);
    assert!(all["prefill_seconds"].is_f64() && all["decode_seconds"].is_f64(), "{all}");

    let text = all["text"].as_str().unwrap();
    let stop: String = text.chars().skip(4).take_while(|c| !c.is_whitespace()).collect();
    assert!(!stop.is_empty(), "{text:?}");
    let stopped = greedy(&format!("-n 24 --json --stop {stop}")).json();
    assert_eq!(stopped["finish"], "stop");
    assert_eq!(stopped["text"], text[..text.find(&stop).unwrap()]);

    let sample = |seed: u64| greedy(&format!("-n 24 --temperature 1 --top-k 50 --seed {seed}")).stdout;
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_as_if_nothing_had_been() {
    let place = Place::with_run();
    let options = "--schedule constant --save-every 3";
    let child = place.command(&format!("{TRAIN} {options} --steps 1000000 --out stopped")).spawn().unwrap();
    wait_for("four steps", || place.lines("stopped") >= 4);
    assert!(place.script(&format!("kill -INT {}", child.id())).status().unwrap().success());
    let ran = common::Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let done = place.metrics("stopped").len();
    assert!(ran.stdout.contains(&format!("stopped after {done} steps")), "{}", ran.stdout);
    assert_eq!(place.read_text("stopped/latest"), format!("step-{done}\n"));

    let end = done + 5;
    place.ok(&format!("train --resume --steps {end} --out stopped"));
    place.ok(&format!("{TRAIN} {options} --steps {end} --out whole"));
    assert_eq!(place.curve("stopped").len(), end);
    assert_eq!(place.curve("stopped"), place.curve("whole"));
    // Weights, moments, place in the data, settings: all the same, bit by bit.
    assert!(place.files(&format!("stopped/step-{end}")) == place.files(&format!("whole/step-{end}")));
}

#[test]
fn every_checkpoint_leads_to_the_same_end() {
    for options in [
        "--steps 12 --save-every 5",
        "--steps 12 --save-every 5 --schedule wsd --accumulation 3",
        "--steps 12 --save-every 5 --packing rows --batch-size 3 --validate-every 1",
    ] {
        let place = Place::with_run();
        place.ok(&format!("{TRAIN} {options} --out run"));
        let (curve, end) = (place.curve("run"), place.files("run/step-12"));
        assert_eq!(curve.len(), 12);
        for step in [10, 5] {
            place.ok(&format!("train --resume-from step-{step} --out run"));
            assert_eq!(place.curve("run"), curve, "{options}: from step {step}");
            assert!(place.files("run/step-12") == end, "{options}: from step {step}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let place = Place::with_run();
    let [one, two, three] = [1, 2, 3].map(|n| {
        let run = format!("run-{n}");
        place.ok(&format!("{TRAIN} --threads {n} --out {run}"));
        (place.curve(&run), place.files(&format!("{run}/step-8")))
    });
    assert_eq!(one.0.len(), 8);
    assert!(one == two && one == three);
    place.ok(&format!("{TRAIN} --seed 8 --out other"));
    assert_ne!(place.curve("other"), one.0, "another seed is another run");
}

#[test]
fn accumulation_is_one_larger_batch() {
    let place = Place::with_run();
    // Rows of one size, no balance loss, which is a product of means over a microbatch.
    let settings = place.read_text("run.toml").replace("[data]", "router_aux_loss_coef = 0.0\n\n[data]");
    place.write("run.toml", settings);
    place.ok(&format!("{TRAIN} --packing rows --batch-size 2 --accumulation 3 --out parts"));
    place.ok(&format!("{TRAIN} --packing rows --batch-size 6 --out whole"));
    for (parts, whole) in place.metrics("parts").iter().zip(place.metrics("whole")) {
        for key in ["loss", "grad_norm"] {
            let (a, b) = (parts[key].as_f64().unwrap(), whole[key].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * b, "{key}: {parts} {whole}");
        }
    }
}

#[test]
fn schedules_are_followed() {
    let lr = |options: &str| {
        let place = Place::with_run();
        place.ok(&format!("{TRAIN} --steps 10 --warmup 2 --lr 0.01 {options} --out run"));
        place.metrics("run").iter().map(|m| m["lr"].as_f64().unwrap()).collect::<Vec<f64>>()
    };
    assert_eq!(lr("--schedule constant"), [0.005, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]);
    // A fifth of the run declines in a straight line.
    let wsd = lr("--schedule wsd");
    assert!(wsd[1..9].iter().all(|&x| x == 0.01), "{wsd:?}");
    assert!((wsd[9] - 0.0055).abs() < 1e-12, "{wsd:?}");
    let cosine = lr("--schedule cosine");
    assert!(cosine[2..].windows(2).all(|w| w[1] < w[0]), "{cosine:?}");
}

#[test]
fn a_finished_run_can_be_extended() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --schedule constant --out run"));
    let earlier = place.curve("run");
    place.ok("train --resume --steps 12 --out run");
    let later = place.curve("run");
    assert_eq!(later.len(), 12);
    // The validation after what was the last step belongs to it in either case.
    assert_eq!(later[..8], earlier[..]);
    assert_eq!(place.read_text("run/latest"), "step-12\n");
    // Resuming what is finished takes no step.
    let files = place.files("run");
    place.ok("train --resume --steps 12 --out run");
    assert!(place.files("run") == files);
}

#[test]
fn what_a_run_began_with_stays() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --steps 4 --out run"));
    let files = place.files("run");
    for (options, words) in [
        ("--resume --seed 9", ["--seed", "9"]),
        ("--resume --batch-size 1", ["--batch-size", "1"]),
        ("--resume --seq-len 16", ["--seq-len", "16"]),
        ("--resume --accumulation 2", ["--accumulation", "2"]),
        ("--resume --config run.toml --packing rows", ["--packing", "rows"]),
        ("--resume --preset tiny", ["another model", "step-4"]),
    ] {
        place.fails(&format!("train {options} --steps 8 --out run"), &words);
        assert!(place.files("run") == files, "{options}");
    }
    // The same settings from the file, and more steps: the run goes on.
    place.ok(&format!("{TRAIN} --resume --steps 6 --out run"));
    assert_eq!(place.curve("run").len(), 6);
    // A model of its own and one to start from contradict each other.
    assert_eq!(place.run(&format!("{TRAIN} --from run --out other")).code, Some(2));
}

#[test]
fn training_goes_on_from_a_model_with_other_text() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --out run"));
    place.write("more.txt", "other words entirely\n".repeat(200));
    let before = place.files("run");
    place.ok("train --from run --data more.txt --seq-len 32 --batch-size 2 --steps 5 --warmup 0 --lr 1e-3 --out tuned");
    assert_eq!(place.metrics("tuned").len(), 5);
    assert!(place.files("run") == before);
    assert_eq!(place.read("tuned/step-5/tokenizer.json"), place.read("run/step-8/tokenizer.json"));
    // It starts with what was learned: a new model's loss is ln 260 = 5.56.
    let first = place.metrics("tuned")[0]["loss"].as_f64().unwrap();
    let fresh = place.metrics("run")[0]["loss"].as_f64().unwrap();
    assert!((fresh - 260f64.ln()).abs() < 0.3 && first < fresh - 0.2, "{first} {fresh}");
}

#[test]
fn jsonl_and_a_trained_tokenizer() {
    let place = Place::with_run();
    let lines: Vec<String> = text(8000).lines().map(|l| json!({ "body": l, "id": 1 }).to_string()).collect();
    assert!(lines.len() > 4);
    place.write("text.jsonl", lines.join("\n"));
    let settings = place.read_text("run.toml").replace("vocab_size = 260", "vocab_size = 300");
    let settings =
        settings.replace("[\"text.txt\"]", "[\"*.jsonl\"]\ntext_field = \"body\"\ntokenizer = \"bpe\"");
    place.write("run.toml", settings);
    place.ok(&format!("{TRAIN} --out run"));
    assert_eq!(place.metrics("run").len(), 8);
    // Words of the text are tokens, so that there are fewer tokens than bytes.
    let prompt = "thequickbrownfox";
    let generation = place.ok(&format!("generate --model run --prompt {prompt} -n 4 --json")).json();
    let tokens = generation["prompt_tokens"].as_u64().unwrap() as usize;
    assert!(tokens < prompt.len(), "{tokens}");
}

#[test]
fn a_run_is_never_written_over() {
    let place = Place::with_run();
    place.ok(&format!("{TRAIN} --out run"));
    let before = place.files("run");
    place.fails(&format!("{TRAIN} --out run"), &["holds a run already", "--resume", "--out"]);
    place.fails("train --preset tiny --data text.txt --steps 1 --out run", &["holds a run already"]);
    place.fails("train --from run --data text.txt --steps 1 --out run", &["holds a run already"]);
    assert!(place.files("run") == before);
}

#[test]
fn a_run_on_one_batch_resumes_exactly() {
    let place = Place::new();
    place.add("mixtral_6x3");
    let from = "train --from mixtral_6x3 --ids-from mixtral_6x3/train.safetensors --steps 8 --save-every 3";
    place.ok(&format!("{from} --out run"));
    let (curve, end) = (place.curve("run"), place.files("run/step-8"));
    place.ok("train --resume-from step-3 --ids-from mixtral_6x3/train.safetensors --out run");
    assert_eq!(place.curve("run"), curve);
    assert!(place.files("run/step-8") == end);
}
