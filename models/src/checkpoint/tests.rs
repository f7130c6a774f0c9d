use std::io;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::super::{Damage, Moment, TrainState, load, model_folder, moment_name, open_model, steps};
use super::*;
use crate::config::{ModelConfig, ParamSpec, parameters};

fn config() -> ModelConfig {
    ModelConfig::from_settings(
        &json!({
            "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 4
        }),
        false,
    )
    .unwrap()
}

/// Saves a checkpoint whose every number tells its step and `version`.
fn save(store: &CheckpointStore, step: u64, version: f32) -> Result<PathBuf, CheckpointError> {
    let config = config();
    let specs = parameters(&config);
    let value = step as f32 + version;
    let data: Vec<Vec<f32>> = specs.iter().map(|s| vec![value; s.shape.iter().product()]).collect();
    let names: Vec<String> = specs.iter().map(|s| moment_name(Moment::First, &s.name)).collect();
    let (mut model, mut optimizer) = (TensorSource::new(), TensorSource::new());
    for ((spec, values), name) in specs.iter().zip(&data).zip(&names) {
        model.push_f32(&spec.name, &spec.shape, values);
        optimizer.push_f32(name, &spec.shape, values);
    }
    let state = TrainState {
        step,
        data: json!({"position": step, "version": version}),
        rng: json!([u64::MAX, 1]),
        run: json!({"lr": 0.1 + 0.2}),
    };
    let files: &[(&str, &[u8])] = &[("tokenizer.json", b"{}")];
    store.save(Snapshot { config: &config, parameters: model, optimizer, state: &state, files, tuning: None })
}

/// Loads a checkpoint and checks that all of it belongs together; returns step and version.
fn load_whole(dir: &Path, step: Option<u64>) -> Result<(u64, f32), CheckpointError> {
    let loaded = load(dir, step)?;
    let step = loaded.state.step;
    let version = loaded.state.data["version"].as_f64().unwrap() as f32;
    assert_eq!(loaded.config, config());
    assert_eq!((&loaded.state.rng, &loaded.state.run), (&json!([u64::MAX, 1]), &json!({"lr": 0.1 + 0.2})));
    for ParamSpec { name, .. } in parameters(&config()) {
        let moments = loaded.optimizer.tensor(&moment_name(Moment::First, &name)).unwrap();
        for values in [loaded.weights.tensor(&name).unwrap(), moments] {
            assert!(values.to_f32().unwrap().iter().all(|x| *x == step as f32 + version), "{name}");
        }
    }
    Ok((step, version))
}

fn store(dir: &Path) -> CheckpointStore {
    CheckpointStore::open(dir, None).unwrap()
}

/// A real disk on which one operation fails, or from which all do.
struct FaultyDisk {
    shared: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    done: usize,
    fail_at: usize,
    /// As after a kill or a full disk that stays full: nothing works any more.
    for_good: bool,
    log: Vec<String>,
}

impl Faults {
    fn next(&mut self, operation: &str, path: &Path) -> io::Result<()> {
        self.done += 1;
        if self.done == self.fail_at || (self.for_good && self.done > self.fail_at) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let name = path.file_name().unwrap().to_string_lossy();
        self.log.push(format!("{operation} {}", name.replace(&format!("-{}", std::process::id()), "")));
        Ok(())
    }
}

struct FaultyFile {
    shared: Arc<Mutex<Faults>>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl Disk for FaultyDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.lock().unwrap().next("create_dir", path)?;
        RealDisk.create_dir(path)
    }

    fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.shared.lock().unwrap().next("create", path)?;
        let file = RealDisk.create_file(path)?;
        Ok(Box::new(FaultyFile { shared: self.shared.clone(), path: path.into(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.lock().unwrap().next("rename to", to)?;
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.lock().unwrap().next("sync_dir", path)?;
        RealDisk.sync_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let permitted = self.shared.lock().unwrap().next("remove", path);
        if permitted.is_err() {
            // Interrupted half-way.
            if let Some(entry) = std::fs::read_dir(path)?.next() {
                std::fs::remove_file(entry?.path())?;
            }
        }
        permitted?;
        RealDisk.remove_dir_all(path)
    }
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let permitted = self.shared.lock().unwrap().next("write", &self.path);
        if permitted.is_err() {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
        }
        permitted?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        self.shared.lock().unwrap().next("sync", &self.path)?;
        self.file.sync()
    }
}

fn faulty(dir: &Path, keep_last: Option<usize>, faults: Faults) -> (CheckpointStore, Arc<Mutex<Faults>>) {
    let shared = Arc::new(Mutex::new(faults));
    let disk = Box::new(FaultyDisk { shared: shared.clone() });
    let keep_last = keep_last.and_then(NonZeroUsize::new);
    (CheckpointStore { dir: dir.into(), keep_last, disk }, shared)
}

/// Fails each operation of a save in turn. Whatever fails, step 10 or what replaces it loads whole,
/// `latest` is valid, and the run goes on once the disk works again.
fn survive_every_fault(next_step: u64, keep_last: Option<usize>, for_good: bool) {
    for fail_at in 1.. {
        let dir = tempfile::tempdir().unwrap();
        save(&store(dir.path()), 5, 0.0).unwrap();
        save(&store(dir.path()), 10, 0.0).unwrap();
        let (failing, shared) =
            faulty(dir.path(), keep_last, Faults { fail_at, for_good, ..Faults::default() });
        let result = save(&failing, next_step, 0.5);
        let context = format!("operation {fail_at}, {:?}", shared.lock().unwrap().log.last());

        let saved = (next_step, 0.5);
        let loaded = load_whole(dir.path(), None).expect(&context);
        match &result {
            Ok(_) => assert_eq!(loaded, saved, "{context}"),
            Err(e) => {
                assert!(matches!(e, CheckpointError::Io { .. }), "{context}: {e}");
                assert!(loaded == (10, 0.0) || loaded == saved, "{context}: {loaded:?}");
                // A failed save takes nothing away.
                assert!(load_whole(dir.path(), Some(5)).is_ok(), "{context}");
                assert!(load_whole(dir.path(), Some(10)).is_ok(), "{context}");
            }
        }
        // Every checkpoint that is listed is whole.
        for step in steps(dir.path()).unwrap() {
            assert!(load_whole(dir.path(), Some(step)).is_ok(), "{context}: step-{step}");
        }

        let again = store(dir.path());
        assert_eq!(load_whole(dir.path(), None).expect(&context), loaded);
        save(&again, next_step, 0.25).expect(&context);
        assert_eq!(load_whole(dir.path(), None).unwrap(), (next_step, 0.25), "{context}");
        let hidden = std::fs::read_dir(dir.path()).unwrap();
        let hidden = hidden.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0, "{context}");

        if shared.lock().unwrap().done < fail_at {
            assert!(fail_at > 20, "the save did only {fail_at} operations");
            return;
        }
    }
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing() {
    survive_every_fault(20, None, false);
}

#[test]
fn a_kill_at_any_operation_loses_nothing() {
    survive_every_fault(20, Some(2), true);
}

#[test]
fn replacing_a_checkpoint_survives_every_fault() {
    survive_every_fault(10, None, false);
    survive_every_fault(10, Some(1), true);
}

#[test]
fn a_failed_save_can_be_tried_again_without_reopening() {
    for fail_at in 1..=30 {
        let dir = tempfile::tempdir().unwrap();
        save(&store(dir.path()), 10, 0.0).unwrap();
        let (failing, shared) =
            faulty(dir.path(), None, Faults { fail_at, for_good: true, ..Faults::default() });
        let _ = save(&failing, 10, 0.5);
        *shared.lock().unwrap() = Faults::default();
        save(&failing, 10, 0.75).unwrap();
        assert_eq!(load_whole(dir.path(), None).unwrap(), (10, 0.75), "operation {fail_at}");
    }
}

#[test]
fn everything_is_synced_before_it_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, shared) = faulty(dir.path(), None, Faults::default());
    save(&store, 3, 0.0).unwrap();
    let run = format!("sync_dir {}", dir.path().file_name().unwrap().to_string_lossy());
    let log = shared.lock().unwrap().log.join("\n");
    let mut wanted = vec!["create_dir .tmp-step-3".to_string()];
    let files = [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
        "manifest.json",
    ];
    for file in files {
        wanted.extend(["create", "write", "sync"].map(|what| format!("{what} {file}")));
    }
    wanted.extend(["sync_dir .tmp-step-3", "rename to step-3", &run].map(String::from));
    wanted.extend(["create .tmp-latest", "write .tmp-latest", "sync .tmp-latest"].map(String::from));
    wanted.extend(["rename to latest", &run].map(String::from));
    assert_eq!(log, wanted.join("\n"));
}

#[test]
fn only_the_last_few_are_kept_and_never_the_new_one_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(dir.path(), NonZeroUsize::new(2)).unwrap();
    for step in [1, 2, 3, 10] {
        save(&store, step, 0.0).unwrap();
    }
    assert_eq!(steps(dir.path()).unwrap(), [3, 10]);
    // Resumed from step 3: step 10 is of another future.
    save(&store, 4, 0.5).unwrap();
    assert_eq!(steps(dir.path()).unwrap(), [3, 4, 10]);
    assert_eq!(load_whole(dir.path(), None).unwrap(), (4, 0.5));
}

fn message(result: Result<(u64, f32), CheckpointError>) -> String {
    let text = result.unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn damage_is_named_and_never_worked_around() {
    let dir = tempfile::tempdir().unwrap();
    for step in [10, 20, 30] {
        save(&store(dir.path()), step, 0.0).unwrap();
    }
    let model = dir.path().join("step-30/model.safetensors");
    let good = std::fs::read(&model).unwrap();

    std::fs::write(&model, &good[..good.len() - 1]).unwrap();
    let text = message(load_whole(dir.path(), None));
    let wanted = format!("model.safetensors is truncated: {} of {} bytes", good.len() - 1, good.len());
    assert!(text.contains(&wanted), "{text}");
    assert!(text.contains("--resume-from step-20"), "{text}");
    assert!(open_model(dir.path()).is_err());

    let mut altered = good.clone();
    *altered.last_mut().unwrap() ^= 1;
    std::fs::write(&model, &altered).unwrap();
    assert!(message(load_whole(dir.path(), None)).contains("model.safetensors was altered"));
    std::fs::write(&model, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(message(load_whole(dir.path(), None)).contains("model.safetensors was altered"));

    // The advice passes over other damaged checkpoints.
    std::fs::remove_file(dir.path().join("step-20/state.json")).unwrap();
    assert!(message(load_whole(dir.path(), None)).contains("--resume-from step-10"));
    assert_eq!(load_whole(dir.path(), Some(10)).unwrap(), (10, 0.0));
    match load(dir.path(), Some(20)) {
        Err(CheckpointError::Damaged { damage, intact, .. }) => {
            assert_eq!(damage, Damage::Missing { file: "state.json".into() });
            assert_eq!(intact, Some(10));
        }
        other => panic!("{:?}", other.map(|c| c.dir)),
    }
}

#[test]
fn a_bad_manifest_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    save(&store(dir.path()), 1, 0.0).unwrap();
    let path = dir.path().join("step-1/manifest.json");
    let good: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut newer = good.clone();
    newer["format"] = json!(2);
    let mut shorter = good.clone();
    shorter["files"].as_object_mut().unwrap().remove("optimizer.safetensors");
    let mut outside = good.clone();
    outside["files"]["../latest"] = json!({"bytes": 0, "sha256": ""});
    for (content, wanted) in [
        (newer.to_string(), "its format is 2"),
        (shorter.to_string(), "doesn't list optimizer.safetensors"),
        (outside.to_string(), "\"../latest\" is not a file of the folder"),
        (good.to_string()[..40].to_string(), "manifest.json: "),
        (String::new(), "manifest.json: "),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = message(load_whole(dir.path(), None));
        assert!(text.contains(wanted) && text.contains("no other checkpoint"), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(message(load_whole(dir.path(), None)).contains("manifest.json is missing"));
}

#[test]
fn absent_checkpoints_say_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    assert!(message(load_whole(dir.path(), None)).starts_with("no checkpoint in"));
    assert!(load_whole(&dir.path().join("nowhere"), None).is_err());
    save(&store(dir.path()), 7, 0.0).unwrap();
    assert!(message(load_whole(dir.path(), Some(8))).contains("no checkpoint step-8"));
    for latest in ["", "step-", "step-07", "../step-7", "step-99999999999999999999"] {
        std::fs::write(dir.path().join("latest"), latest).unwrap();
        assert!(message(load_whole(dir.path(), None)).contains("there are step-7"), "{latest}");
    }
    std::fs::write(dir.path().join("latest"), "step-9\n").unwrap();
    assert!(message(load_whole(dir.path(), None)).contains("no checkpoint step-9"));
}

#[test]
fn a_run_directory_a_checkpoint_and_a_plain_folder_are_models() {
    let dir = tempfile::tempdir().unwrap();
    let saved = save(&store(dir.path()), 7, 0.0).unwrap();
    assert_eq!(model_folder(dir.path()).unwrap(), saved);
    assert_eq!(open_model(&saved).unwrap().config, config());
    assert_eq!(std::fs::read(saved.join("tokenizer.json")).unwrap(), b"{}");
    let reference = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/mixtral"));
    let model = open_model(reference).unwrap();
    assert_eq!((model.config.vocab_size, model.unexpected.len()), (256, 0));
    assert!(open_model(&dir.path().join("nowhere")).is_err());
}

#[test]
fn files_of_a_snapshot_need_names_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let state = TrainState { step: 1, data: json!(0), rng: json!(0), run: json!(0) };
    for name in ["config.json", "manifest.json", "../x", "a/b", ""] {
        let files: &[(&str, &[u8])] = &[(name, b"")];
        let (parameters, optimizer) = (TensorSource::new(), TensorSource::new());
        let snapshot =
            Snapshot { config: &config(), parameters, optimizer, state: &state, files, tuning: None };
        assert!(matches!(store(dir.path()).save(snapshot), Err(CheckpointError::FileName { .. })), "{name}");
    }
    assert!(steps(dir.path()).unwrap().is_empty());
}
