use super::*;
use halite_hal::conformance::problems;
use halite_hal::reference::ReferenceDevice;
use halite_hal::{Error, Graph, Op, OpDesc, OpKind, Recording, StreamId, Support};
use std::sync::Mutex;
use std::{fmt, fs};

/// The reference, with variants of softmax that go wrong in their own ways.
struct Faulty {
    inner: ReferenceDevice,
    variants: Vec<&'static str>,
    chosen: Mutex<String>,
    /// Gives nothing for as long as the test keeps its other end.
    silence: Arc<Mutex<mpsc::Receiver<()>>>,
    /// What was submitted, by variant.
    log: Arc<Mutex<Vec<String>>>,
    watch: Option<Watch>,
}

/// Called before each run with the variant's name.
type Watch = Box<dyn Fn(&str) + Send + Sync>;

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Device for Faulty {
    halite_hal::forward_to!(inner; info, workspace, allocate, create_stream, upload, download, copy, replay);
    halite_hal::forward_to!(inner; record_event, wait_event, synchronize, memory);

    fn supports(&self, desc: &OpDesc) -> Support {
        self.inner.supports(desc)
    }

    fn record(&self, graph: &Graph) -> Result<Recording> {
        self.inner.record(graph)
    }

    fn variants(&self, desc: &OpDesc) -> Vec<String> {
        match desc.kind {
            OpKind::Softmax => self.variants.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    fn set_tuning(&self, choices: &[(String, String)]) -> Result<()> {
        *self.chosen.lock().unwrap() = choices[0].1.clone();
        Ok(())
    }

    fn submit(&self, stream: StreamId, ops: &[Op]) -> Result<()> {
        let chosen = self.chosen.lock().unwrap().clone();
        self.log.lock().unwrap().push(chosen.clone());
        if let Some(watch) = &self.watch {
            watch(&chosen);
        }
        match &*chosen {
            "fails" => Err(Error::backend("test", "it doesn't compile")),
            "hangs" => {
                let _ = self.silence.lock().unwrap().recv();
                Ok(())
            }
            "panics" => panic!("as the test wants"),
            "wrong" => Ok(()),
            // Right only for the layouts of models.
            "narrow" if !ops[0].inputs[0].layout().is_contiguous() => Ok(()),
            _ => self.inner.submit(stream, ops),
        }
    }

    fn time_ops(&self, ops: &[Op]) -> Result<Vec<f64>> {
        let seconds = match &**self.chosen.lock().unwrap() {
            "fast" => 1e-3,
            "narrow" => 0.5e-3,
            "slow" => 100.0,
            _ => 2e-3,
        };
        Ok(vec![seconds; ops.len()])
    }
}

struct Bench {
    dir: tempfile::TempDir,
    silence: Arc<Mutex<mpsc::Receiver<()>>>,
    /// Ends what hangs when the test ends.
    _end: mpsc::Sender<()>,
    log: Arc<Mutex<Vec<String>>>,
    opened: Mutex<usize>,
}

impl Bench {
    fn new() -> Self {
        let (end, silence) = mpsc::channel();
        Bench {
            dir: tempfile::tempdir().unwrap(),
            silence: Arc::new(Mutex::new(silence)),
            _end: end,
            log: Arc::default(),
            opened: Mutex::new(0),
        }
    }

    fn faulty(&self, variants: &[&'static str]) -> Faulty {
        Faulty {
            inner: ReferenceDevice::new(),
            variants: variants.into(),
            chosen: Mutex::default(),
            silence: self.silence.clone(),
            log: self.log.clone(),
            watch: None,
        }
    }

    fn open(&self, variants: &[&'static str]) -> Result<Arc<dyn Device>> {
        *self.opened.lock().unwrap() += 1;
        Ok(Arc::new(self.faulty(variants)))
    }

    fn tune(&self, variants: &[&'static str], attempt: Duration) -> Tuned {
        let open = || self.open(variants);
        let limits = Limits { attempt, ..Limits::default() };
        let mut tuner = Tuner::new(&open, self.dir.path(), limits, &|| false).unwrap();
        tuner.tune(problem()).unwrap().unwrap()
    }

    fn file(&self) -> PathBuf {
        Choices::path(self.dir.path(), ReferenceDevice::new().info())
    }

    fn read(&self) -> Choices {
        Choices::read(&self.file(), ReferenceDevice::new().info()).unwrap().unwrap()
    }
}

fn problem() -> Problem {
    problems("softmax", true).next().unwrap()
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn the_fastest_of_those_that_are_right_wins() {
    let bench = Bench::new();
    let found = bench.tune(&["good", "fails", "wrong", "narrow", "fast", "slow", "panics"], LONG);
    assert_eq!(found.winner(), Some("fast"));
    assert_eq!(found.times, [("fast".into(), 1e-3), ("good".into(), 2e-3)]);
    let reason = |name: &str| &found.excluded.iter().find(|(v, _)| v == name).unwrap().1;
    for (name, says) in [
        ("fails", "doesn't compile"),
        ("wrong", "wrong: "),
        ("narrow", "fails conformance: "),
        ("slow", "slow: a run takes 100.0 s"),
        ("panics", "panics"),
    ] {
        assert!(reason(name).contains(says), "{name}: {}", reason(name));
        assert_eq!(bench.read().why_excluded(&found.key, name), Some(&**reason(name)));
    }
    assert_eq!(bench.read().iter().collect::<Vec<_>>(), [(&found.key, "fast")]);
    assert_eq!(bench.read().excluded().len(), 5);
    // The first, and one after each that failed.
    assert_eq!(*bench.opened.lock().unwrap(), 6);
}

#[test]
fn a_variant_that_hangs_is_left_behind() {
    let bench = Bench::new();
    // Long enough for the variant that answers, on any machine.
    let found = bench.tune(&["good", "hangs"], Duration::from_secs(10));
    assert_eq!(found.winner(), Some("good"));
    assert!(found.excluded[0].1.starts_with("hangs"), "{:?}", found.excluded);
    assert_eq!(*bench.opened.lock().unwrap(), 2);
}

#[test]
fn what_was_excluded_is_not_tried_again() {
    let bench = Bench::new();
    let first = bench.tune(&["fails", "good"], LONG);
    bench.log.lock().unwrap().clear();
    let again = bench.tune(&["fails", "good"], LONG);
    assert_eq!(again, first);
    assert!(!bench.log.lock().unwrap().iter().any(|v| v == "fails"));
}

#[test]
fn what_is_tried_is_excluded_beforehand() {
    // The file at the moment when a variant runs is what is left if it takes the machine down.
    let bench = Bench::new();
    let file = bench.file();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let open = || {
        let mut device = bench.faulty(&["fails", "good"]);
        let (file, seen) = (file.clone(), seen.clone());
        device.watch = Some(Box::new(move |variant: &str| {
            let choices = Choices::read(&file, ReferenceDevice::new().info()).unwrap().unwrap();
            let key = Key::of(&problem().desc()).bucket();
            let reason = choices.why_excluded(&key, variant).map(str::to_string);
            seen.lock().unwrap().push((variant.to_string(), reason));
        }));
        Ok(Arc::new(device) as Arc<dyn Device>)
    };
    let mut tuner = Tuner::new(&open, bench.dir.path(), Limits::default(), &|| false).unwrap();
    tuner.tune(problem()).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|(v, _)| v == "fails") && seen.iter().any(|(v, _)| v == "good"));
    assert!(seen.iter().all(|(_, reason)| reason.as_deref() == Some(UNFINISHED)), "{seen:?}");
}

#[test]
fn what_was_stopped_can_be_tried_again() {
    let bench = Bench::new();
    let open = || bench.open(&["good", "hangs"]);
    // It waits for nothing else.
    let stop = || bench.log.lock().unwrap().iter().any(|v| v == "hangs");
    let mut tuner = Tuner::new(&open, bench.dir.path(), Limits::default(), &stop).unwrap();
    assert!(matches!(tuner.tune(problem()), Err(TuningError::Stopped)));
    assert_eq!(bench.read().excluded(), []);
}

#[test]
fn damaged_and_foreign_files_are_replaced() {
    let bench = Bench::new();
    fs::write(bench.file(), b"{\"version\": 1, \"choices\"").unwrap();
    let found = bench.tune(&["good", "fast"], LONG);
    assert_eq!(bench.read().iter().collect::<Vec<_>>(), [(&found.key, "fast")]);
    fs::write(bench.file(), b"{\"version\": 999}").unwrap();
    bench.tune(&["good", "fast"], LONG);
    assert_eq!(bench.read().iter().count(), 1);
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_before_anything_is_tried() {
    let bench = Bench::new();
    // A file where the folder should be.
    let file = bench.dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    let open = || bench.open(&["good", "fast"]);
    let below = Tuner::new(&open, &file, Limits::default(), &|| false);
    let error = match below {
        Ok(mut tuner) => tuner.tune(problem()).unwrap_err(),
        Err(e) => e,
    };
    assert!(error.to_string().contains("file"), "{error}");
    assert!(bench.log.lock().unwrap().is_empty());
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn without_a_choice_nothing_is_done() {
    let bench = Bench::new();
    let open = || bench.open(&["good"]);
    let mut tuner = Tuner::new(&open, Path::new("nowhere"), Limits::default(), &|| false).unwrap();
    assert_eq!(tuner.tune(problem()).unwrap(), None);
    let copy = problems("reduce", true).next().unwrap();
    assert_eq!(tuner.tune(copy).unwrap(), None);
    assert!(bench.log.lock().unwrap().is_empty() && !Path::new("nowhere").exists());
}
