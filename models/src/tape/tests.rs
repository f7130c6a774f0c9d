//! Gradients against central finite differences, in f64 on the reference device.
//!
//! Each check runs in every way a tape can be used: gradients that replace, gradients that are added,
//! values from elsewhere, one leaf alone among constants, and a broadcast gradient of the result.

mod compositions;
mod ops;

use super::{Tape, Var};
use halite_hal::philox::Normals;
use halite_hal::reference::ReferenceDevice;
use halite_hal::{DType, Device, Op, Recording, Source, StreamId, TensorRef};

const STREAM: StreamId = StreamId(0);
const STEP: f64 = 1e-5;

/// A device, and tensors on it.
struct Lab {
    device: ReferenceDevice,
}

impl Lab {
    fn tensor(&self, dtype: DType, shape: &[usize]) -> TensorRef {
        let elems: usize = shape.iter().product();
        TensorRef::new(&self.device.allocate(4 * elems as u64, 0).unwrap(), dtype, shape)
    }

    fn float(&self, shape: &[usize], values: &[f64]) -> TensorRef {
        let t = self.tensor(DType::F32, shape);
        self.write(&t, values);
        t
    }

    fn int(&self, shape: &[usize], values: &[i32]) -> TensorRef {
        let t = self.tensor(DType::I32, shape);
        assert_eq!(t.elems(), values.len());
        let Source::Buffer(buffer) = &t.source else { unreachable!("tensors of the lab are buffers") };
        self.device.upload(STREAM, buffer, 0, bytemuck::cast_slice(values)).unwrap();
        t
    }

    fn write(&self, t: &TensorRef, values: &[f64]) {
        assert_eq!(t.elems(), values.len());
        let Source::Buffer(buffer) = &t.source else { unreachable!("tensors of the lab are buffers") };
        self.device.write_f64(buffer, 0, values).unwrap();
    }

    fn read(&self, t: &TensorRef) -> Vec<f64> {
        self.device.read_f64(t).unwrap()
    }

    fn run(&self, recording: &Recording) {
        self.device.replay(STREAM, recording, &[]).unwrap();
    }
}

/// How the leaves stand on the tape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    /// Parameters whose gradient is replaced.
    Replace,
    /// Parameters whose gradient is added to.
    Add,
    /// Values from elsewhere.
    Inputs,
    /// One parameter, the others constants.
    Only(usize),
}

type Build<'a> = &'a dyn Fn(&Lab, &mut Tape, &[Var]) -> Var;

/// Random leaves of these shapes, from a stream of random numbers of their own.
fn leaves(seed: u64, shapes: &[&[usize]]) -> Vec<(Vec<usize>, Vec<f64>)> {
    let fill = |(i, shape): (usize, &&[usize])| {
        let elems = shape.iter().product();
        (shape.to_vec(), Normals::new(seed, i as u32).take(elems).collect())
    };
    shapes.iter().enumerate().map(fill).collect()
}

/// Checks the gradients of `Σ c·y` for leaves of these shapes, with random and with equal `c`.
fn check(shapes: &[&[usize]], build: Build<'_>) {
    check_with(leaves(1, shapes), build, &|_| 0.0);
}

/// The same for given leaves, with a function of the leaves that the tape only knows the gradient of.
fn check_with(leaves: Vec<(Vec<usize>, Vec<f64>)>, build: Build<'_>, hidden: &dyn Fn(&[Vec<f64>]) -> f64) {
    let lab = Lab { device: ReferenceDevice::new() };
    let tensors: Vec<TensorRef> = leaves.iter().map(|(shape, values)| lab.float(shape, values)).collect();
    let mut values: Vec<Vec<f64>> = leaves.into_iter().map(|(_, values)| values).collect();

    let mut tape = Tape::new();
    let vars: Vec<Var> = tensors.iter().map(|t| tape.constant(t.clone())).collect();
    let y = build(&lab, &mut tape, &vars);
    let y = tape.tensor(y);
    let out = lab.tensor(DType::F32, &y.shape);
    tape.graph.push(Op::copy(y, out.clone()));
    let forward = lab.device.record(&tape.graph).unwrap();

    let random: Vec<f64> = Normals::new(2, 0).take(out.elems()).collect();
    let same = vec![0.75; out.elems()];
    let dot = |c: &[f64], y: &[f64]| c.iter().zip(y).map(|(c, y)| c * y).sum::<f64>();
    let mut difference: [Vec<Vec<f64>>; 2] = [Vec::new(), Vec::new()];
    for leaf in 0..values.len() {
        difference.iter_mut().for_each(|d| d.push(Vec::new()));
        for i in 0..values[leaf].len() {
            let x = values[leaf][i];
            let mut at = |x: f64| {
                values[leaf][i] = x;
                lab.write(&tensors[leaf], &values[leaf]);
                lab.run(&forward);
                let y = lab.read(&out);
                let extra = hidden(&values);
                [dot(&random, &y) + extra, dot(&same, &y) + extra]
            };
            let (above, below) = (at(x + STEP), at(x - STEP));
            at(x);
            for (d, (a, b)) in difference.iter_mut().zip(above.into_iter().zip(below)) {
                d[leaf].push((a - b) / (2.0 * STEP));
            }
        }
    }

    let dense = lab.float(&out.shape, &random);
    let broadcast = lab.float(&[1], &[0.75]).broadcast(&out.shape);
    let only = (0..tensors.len()).map(Leaves::Only);
    let ways = [Leaves::Replace, Leaves::Add, Leaves::Inputs].into_iter().chain(only);
    for way in ways.flat_map(|w| [(w, &dense, &difference[0]), (w, &broadcast, &difference[1])]) {
        let (way, dy, want) = way;
        let got = gradients(&lab, &tensors, build, way, dy.clone());
        for (leaf, got) in got.into_iter().enumerate() {
            let Some(got) = got else { continue };
            for (i, (got, want)) in got.iter().zip(&want[leaf]).enumerate() {
                let near = (got - want).abs() <= 1e-7 * (1.0 + want.abs());
                assert!(near, "{way:?}, element {i} of leaf {leaf}: {got} but {want} by differences");
            }
        }
        for (t, values) in tensors.iter().zip(&values) {
            assert_eq!(&lab.read(t), values, "{way:?}: leaves stay as they are");
        }
    }
}

/// The gradients of the leaves by the tape, `None` for constants.
fn gradients(
    lab: &Lab,
    tensors: &[TensorRef],
    build: Build<'_>,
    way: Leaves,
    dy: TensorRef,
) -> Vec<Option<Vec<f64>>> {
    let before: f64 = if way == Leaves::Add { 3.0 } else { f64::NAN };
    let grads: Vec<TensorRef> =
        tensors.iter().map(|t| lab.float(&t.shape, &vec![before; t.elems()])).collect();
    let mut tape = Tape::new();
    let mut vars = Vec::new();
    for (i, (t, g)) in tensors.iter().zip(&grads).enumerate() {
        vars.push(match way {
            Leaves::Inputs => tape.input(t.clone()),
            Leaves::Only(j) if i != j => tape.constant(t.clone()),
            _ => tape.parameter(t.clone(), g.clone(), way == Leaves::Add),
        });
    }
    let y = build(lab, &mut tape, &vars);
    tape.backward(y, dy);
    if way == Leaves::Inputs {
        for (v, g) in vars.iter().zip(&grads) {
            let found = tape.gradient(*v).expect("a gradient has flowed");
            tape.graph.push(Op::copy(found, g.clone()));
        }
    }
    lab.run(&lab.device.record(&tape.graph).unwrap());
    let wanted = |i: usize| !matches!(way, Leaves::Only(j) if i != j);
    let before = if way == Leaves::Add { before } else { 0.0 };
    let read = |g: &TensorRef| lab.read(g).into_iter().map(|x| x - before).collect();
    grads.iter().enumerate().map(|(i, g)| wanted(i).then(|| read(g))).collect()
}
