//! Runs the `halite` program in a folder of its own, with small models, text and settings for it.
#![allow(dead_code)] // each test file uses a part

pub mod parity;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder that goes away in the end; programs run in it.
pub struct Place(tempfile::TempDir);

/// How a program ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(o: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: o.status.code(), stdout: text(o.stdout), stderr: text(o.stderr) }
    }
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// The one line that tells of the failure; panics unless the program failed as it should.
    pub fn error(self, case: &str) -> String {
        let Ran { code, stderr, stdout } = &self;
        assert_eq!(*code, Some(1), "{case}: {stdout}{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        let errors = lines.iter().filter(|l| l.starts_with("error: ")).count();
        assert!(errors == 1 && lines.last().is_some_and(|l| l.starts_with("error: ")), "{case}: {stderr}");
        for word in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!stderr.contains(word), "{case}: {stderr}");
        }
        lines.last().unwrap().to_string()
    }
}

/// The program to test: that of `HALITE_BIN`, or the one built with the tests.
pub fn program() -> PathBuf {
    let path = std::env::var_os("HALITE_BIN").map_or(env!("CARGO_BIN_EXE_halite").into(), PathBuf::from);
    std::path::absolute(path).unwrap()
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// A place with `text.txt` and with `run.toml`, [`SETTINGS`].
    pub fn with_run() -> Place {
        let place = Place::new();
        place.write("text.txt", text(20_000));
        place.write("run.toml", SETTINGS);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Copies a folder of `tests/data` here, under its own name.
    pub fn add(&self, folder: &str) {
        copy(&data(folder), &self.path(folder));
    }

    /// Copies a folder of this place.
    pub fn copy(&self, from: &str, to: &str) {
        copy(&self.path(from), &self.path(to));
    }

    /// `halite`, to be started here with the words of `line`.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command.args(line.split_whitespace());
        self.prepare(command)
    }

    /// A script for `sh`, to be started here; `"$HALITE"` is the program.
    pub fn script(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("HALITE", program());
        self.prepare(command)
    }

    fn prepare(&self, mut command: Command) -> Command {
        // What the tests check doesn't hang on what the one who runs them has set.
        command.env_remove("HALITE_LOG").env_remove("RUST_BACKTRACE");
        // Compiled programs are shared by all tests, and found again by the next run.
        command.env("HALITE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        command.current_dir(self.0.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        self.command(line).output().unwrap().into()
    }

    /// Runs what must succeed.
    pub fn ok(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "halite {line}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    /// The selectors of all devices; of those of one kind, if `HALITE_TEST_DEVICES` says so.
    pub fn devices(&self) -> Vec<String> {
        let devices = self.ok("devices --json").json();
        let all = devices.as_array().unwrap().iter().map(|d| d["selector"].as_str().unwrap().to_string());
        match std::env::var("HALITE_TEST_DEVICES") {
            Ok(kind) => all.filter(|selector| selector.split(':').next() == Some(&kind)).collect(),
            Err(_) => all.collect(),
        }
    }

    /// Runs what must fail, with one line that holds all of `words`.
    pub fn fails(&self, line: &str, words: &[&str]) -> String {
        let error = self.run(line).error(line);
        for word in words {
            assert!(error.contains(word), "halite {line}: no {word:?} in: {error}");
        }
        error
    }

    /// Every file below a folder.
    pub fn files(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        list(&self.path(folder), Path::new(""), &mut files);
        files
    }

    /// The lines of a run's `metrics.jsonl`.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = self.read_text(&format!("{run}/metrics.jsonl"));
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// Steps with the bits of loss, gradient norm, learning rate and validation loss.
    pub fn curve(&self, run: &str) -> Vec<(u64, Vec<Option<u64>>)> {
        let keys = ["loss", "grad_norm", "lr", "validation_loss"];
        let bits = |m: &Value| keys.iter().map(|k| m[*k].as_f64().map(f64::to_bits)).collect();
        self.metrics(run).iter().map(|m| (m["step"].as_u64().unwrap(), bits(m))).collect()
    }

    /// The number of whole lines in a run's `metrics.jsonl`, which may be being written.
    pub fn lines(&self, run: &str) -> usize {
        std::fs::read(self.path(run).join("metrics.jsonl"))
            .map_or(0, |text| text.iter().filter(|&&b| b == b'\n').count())
    }
}

/// Settings of a small model on `text.txt`.
pub const SETTINGS: &str = r#"
seed = 7

[model]
model_type = "mixtral"
vocab_size = 260
hidden_size = 32
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
num_local_experts = 4
num_experts_per_tok = 2
max_position_embeddings = 64
rms_norm_eps = 1e-5
rope_theta = 10000.0

[data]
paths = ["text.txt"]
seq_len = 32
batch_size = 2

[training]
steps = 8
lr = 1e-2
warmup_steps = 2
validate_every = 4
save_every = 0
keep = 0
"#;

/// Lines of words in no order that matters; `bytes` long or a little more.
pub fn text(bytes: usize) -> String {
    let words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "naïve", "42"];
    let mut state = 1u32;
    let mut text = String::new();
    while text.len() < bytes {
        // The generator of Numerical Recipes; its high bits are random enough.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += words[(state >> 16) as usize % words.len()];
        text.push(if state >> 28 == 0 { '\n' } else { ' ' });
    }
    text
}

/// What to try, of `all`, on the `nth` device: on each another one, and others for another `i` of `HALITE_SLICE=i/n` in the
/// environment, since drivers take long to compile what each needs; everything for `0/1`.
pub fn turn<T>(all: &[T], nth: usize) -> &[T] {
    let slice = std::env::var("HALITE_SLICE").unwrap_or_else(|_| "0/20".into());
    let (i, n) = slice.split_once('/').expect("HALITE_SLICE is i/n");
    let i = (i.parse::<usize>().expect("HALITE_SLICE is i/n") + nth) % all.len();
    if n == "1" { all } else { &all[i..=i] }
}

/// Asks until `done`; panics after a minute. What is waited for comes in milliseconds.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn list(folder: &Path, name: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let entry = entry.unwrap();
        let name = name.join(entry.file_name());
        if entry.path().is_dir() {
            list(&entry.path(), &name, files);
        } else {
            files.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
}
