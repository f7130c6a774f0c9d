use super::*;
use crate::{Command, Kernel, Lowering, Ticket, template};
use halite_hal::{DType, Device, DeviceKind, Op, OpKind, Profile, Readback, Result, StreamId, TensorRef};
use std::path::Path;

/// A driver that runs nothing, and notes what it would have run.
#[derive(Debug)]
struct Idle {
    info: DeviceInfo,
    ran: Mutex<Vec<String>>,
}

impl Driver for Idle {
    type Memory = u64;
    type Program = ();
    type Prepared = ();

    fn info(&self) -> &DeviceInfo {
        &self.info
    }
    fn allocate(&self, bytes: u64) -> Result<u64> {
        Ok(bytes)
    }
    fn upload(&self, _: &Arc<u64>, _: u64, _: &[u8]) -> Result<Ticket> {
        Ok(Ticket(0))
    }
    fn download(&self, _: &Arc<u64>, _: u64, bytes: u64) -> Result<Readback> {
        Ok(Readback::ready(vec![0; bytes as usize]))
    }
    fn compile(&self, _: &Kernel) -> Result<()> {
        Ok(())
    }
    fn submit(&self, commands: &[Command<Self>]) -> Result<Ticket> {
        let label = |c: &Command<Self>| match c {
            Command::Dispatch(d) => Some(d.label.to_string()),
            _ => None,
        };
        self.ran.lock().unwrap().extend(commands.iter().filter_map(label));
        Ok(Ticket(0))
    }
    fn prepare(&self, _: &[Command<Self>]) -> Result<()> {
        Ok(())
    }
    fn run(&self, _: &Arc<()>) -> Result<Ticket> {
        Ok(Ticket(0))
    }
    fn last(&self) -> Ticket {
        Ticket(0)
    }
    fn wait(&self, _: Ticket, _: bool) -> Result<bool> {
        Ok(true)
    }
}

/// Fills in variants `a`, `b` and `c`; the last not where there are no barriers.
#[derive(Debug)]
struct Fills;

impl KernelSet for Fills {
    fn variants(&self, desc: &OpDesc, info: &DeviceInfo) -> Vec<Variant> {
        let names: &[&str] = if info.barriers { &["a", "b", "c"] } else { &["a", "b"] };
        match desc.kind {
            OpKind::Fill { .. } => names.iter().map(|n| Variant::named(n.to_string())).collect(),
            _ => Vec::new(),
        }
    }

    fn lower(&self, op: &Op, _: &Variant, to: &mut Lowering<'_>) -> Result<()> {
        to.launch(template!("fill.wgsl")).output("y", &op.outputs[0]).linear(1)
    }
}

fn info() -> DeviceInfo {
    DeviceInfo::new("idle", 0, "idle", DeviceKind::DiscreteGpu)
}

fn engine(info: DeviceInfo, dir: Option<&Path>) -> Engine<Idle> {
    let mut options = DeviceOptions::default();
    options.cache_dir = dir.map(Path::to_path_buf);
    let engine = Engine::new(Idle { info, ran: Mutex::default() }, &options).unwrap();
    engine.register(Arc::new(Fills));
    engine
}

fn fill(engine: &Engine<Idle>, n: usize) -> Op {
    Op::fill(1.0, TensorRef::new(&engine.allocate(4 * n as u64, 0).unwrap(), DType::F32, &[n]))
}

fn key(n: usize) -> Key {
    Key::of(&Op::fill(1.0, TensorRef::slot(0, DType::F32, &[n])).desc())
}

/// The variant that a fill of `n` elements runs in.
fn used(engine: &Engine<Idle>, n: usize) -> String {
    let op = fill(engine, n);
    assert_eq!(engine.chooser.known.lock().unwrap().get(&op.desc()).map(|c| c.choice), None);
    engine.time_ops(std::slice::from_ref(&op)).unwrap();
    let label = engine.driver().ran.lock().unwrap().pop().unwrap();
    let variant = label.rsplit_once(' ').unwrap().1.to_string();
    assert_eq!(Engine::variants(engine, &op.desc())[0].0, variant);
    variant
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn each_source_goes_before_the_next() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(used(&engine(info(), Some(dir.path())), 64), "a");

    let mut tuned = Choices::new(&info());
    tuned.choose(key(64), "b");
    tuned.choose(key(4096), "gone");
    tuned.write(&Choices::path(dir.path(), &info())).unwrap();
    assert_eq!(used(&engine(info(), None), 64), "a");
    let mut e = engine(info(), Some(dir.path()));
    assert_eq!(used(&e, 60), "b");
    // The nearest that there is.
    assert_eq!(used(&e, 4000), "b");

    let exact = key(60).to_string();
    e.set_tuning(&pairs(&[("fill", "c"), (&exact, "a"), (&key(62).to_string(), "gone")])).unwrap();
    assert_eq!([60, 61, 62].map(|n| used(&e, n)), ["a", "c", "c"]);
    e.set_tuning(&[]).unwrap();
    assert_eq!(used(&e, 60), "b");
    e.force_variant(Some("c".into()));
    e.set_tuning(&pairs(&[("fill", "a")])).unwrap();
    assert_eq!(used(&e, 60), "c");
    e.force_variant(Some("no such variant".into()));
    assert_eq!(used(&e, 60), "a");
}

#[test]
fn what_a_device_cannot_do_or_was_excluded_is_not_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let mut minimal = info();
    Profile::named("mlu-class").unwrap().apply(&mut minimal);
    let mut tuned = Choices::new(&minimal);
    tuned.choose(key(64), "c");
    tuned.exclude(key(64), "a", "wrong");
    tuned.write(&Choices::path(dir.path(), &minimal)).unwrap();
    let e = engine(minimal, Some(dir.path()));
    assert_eq!(used(&e, 64), "b");
    assert_eq!(used(&e, 8), "a");
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = Choices::path(dir.path(), &info());
    let mut other = info();
    other.driver = "another".into();
    let mut foreign = Choices::new(&other);
    foreign.choose(key(64), "b");
    foreign.write(&path).unwrap();
    assert_eq!(used(&engine(info(), Some(dir.path())), 64), "a");
    for text in ["", "{\"version\": 2}", "[]"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(used(&engine(info(), Some(dir.path())), 64), "a");
    }
}

#[test]
fn the_choices_in_force_are_those_that_were_used_and_can_be_set_again() {
    let e = engine(info(), None);
    assert_eq!(e.tuning(), []);
    e.set_tuning(&pairs(&[(&key(10).to_string(), "b")])).unwrap();
    assert_eq!(e.tuning(), []);
    let ops = [5, 10].map(|n| fill(&e, n));
    e.submit(StreamId(0), &ops).unwrap();
    e.submit(StreamId(0), &ops).unwrap();
    let inforce = e.tuning();
    assert_eq!(inforce, pairs(&[(&key(10).to_string(), "b"), (&key(5).to_string(), "a")]));
    // Ops without a choice are not among them.
    let x = TensorRef::new(&e.allocate(64, 0).unwrap(), DType::F32, &[16]);
    e.submit(StreamId(0), &[Op::copy(x.clone().slice(0, 0, 8), x.slice(0, 8, 8))]).unwrap();
    assert_eq!(e.tuning(), inforce);

    let resumed = engine(info(), None);
    resumed.set_tuning(&inforce).unwrap();
    assert_eq!([5, 10].map(|n| used(&resumed, n)), ["a", "b"]);
    assert_eq!(resumed.tuning(), inforce);
}

#[test]
fn traits_of_programs_tell_what_differs() {
    let engine = engine(info(), None);
    let traits = |dtype, n: usize, variant: &str| {
        engine.set_tuning(&pairs(&[("fill", variant)])).unwrap();
        let programs = engine.programs(&Op::fill(1.0, TensorRef::slot(0, dtype, &[n]))).unwrap();
        assert_eq!(programs.len(), usize::from(n > 0));
        programs.concat()
    };
    let base = traits(DType::F32, 7, "a");
    let differ = |other: Vec<u64>| {
        assert_eq!(base.len(), other.len());
        base.iter().zip(&other).filter(|(x, y)| x != y).count()
    };
    assert_eq!(differ(traits(DType::F32, 9, "a")), 0);
    assert_eq!(differ(traits(DType::F32, 7, "b")), 1);
    assert_eq!(differ(traits(DType::BF16, 7, "a")), 1);
    assert!(traits(DType::F32, 0, "a").is_empty());
}
