//! Everything but the matrix products, at the sizes of a small training run: 2048 tokens in sequences of
//! 256, hidden 256, 4 heads of 64, vocabulary 4096, 8 experts of width 512, 2 for each token. Figures
//! include the way to the executor and back.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halite_cpu::CpuDevice;
use halite_hal::philox::Normals;
use halite_hal::{
    AdamW, Attention, BinaryFn, DType, Device, DeviceOptions, Distribution, Op, ReduceFn, Router, ScoreFn,
    StreamId, TensorRef, UnaryFn,
};

const S0: StreamId = StreamId(0);
const TOKENS: usize = 2048;
const HIDDEN: usize = 256;
const VOCAB: usize = 4096;
const EXPERTS: usize = 8;
const WIDTH: usize = 512;
const ROWS: usize = 2 * TOKENS;

struct Bench<'a> {
    c: &'a mut Criterion,
    device: CpuDevice,
}

impl Bench<'_> {
    fn put(&self, bytes: &[u8], dtype: DType, shape: &[usize]) -> TensorRef {
        let b = self.device.allocate(bytes.len() as u64, 0).unwrap();
        self.device.upload(S0, &b, 0, bytes).unwrap();
        TensorRef::new(&b, dtype, shape)
    }

    fn f32(&self, shape: &[usize]) -> TensorRef {
        let some: Vec<f32> = Normals::new(1, 0).take(4096).map(|x| x as f32).collect();
        let n = shape.iter().product();
        let bytes: Vec<u8> = some.iter().cycle().take(n).flat_map(|x| x.to_le_bytes()).collect();
        self.put(&bytes, DType::F32, shape)
    }

    fn bf16(&self, shape: &[usize]) -> TensorRef {
        let y = self.put(&vec![0; 2 * shape.iter().product::<usize>()], DType::BF16, shape);
        self.device.submit(S0, &[Op::copy(self.f32(shape), y.clone())]).unwrap();
        y
    }

    fn ints(&self, shape: &[usize], f: impl Fn(usize) -> i32) -> TensorRef {
        let bytes: Vec<u8> = (0..shape.iter().product()).flat_map(|i| f(i).to_le_bytes()).collect();
        self.put(&bytes, DType::I32, shape)
    }

    /// Times an op; `bytes` are what it must read and write at least.
    fn op(&mut self, name: &str, bytes: usize, op: Op) {
        let mut group = self.c.benchmark_group("ops");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                self.device.submit(S0, std::slice::from_ref(&op)).unwrap();
                self.device.synchronize(S0).unwrap();
            });
        });
        group.finish();
    }
}

fn ops(c: &mut Criterion) {
    let device = CpuDevice::new(&DeviceOptions::default()).unwrap();
    let mut b = Bench { c, device };
    let (x, y, w) = (b.f32(&[TOKENS, HIDDEN]), b.f32(&[TOKENS, HIDDEN]), b.f32(&[HIDDEN]));
    let (dy, rstd, dw) = (b.f32(&[TOKENS, HIDDEN]), b.f32(&[TOKENS]), b.f32(&[HIDDEN]));
    let size = 4 * TOKENS * HIDDEN;
    b.op("add", 3 * size, Op::binary(BinaryFn::Add, x.clone(), dy.clone(), y.clone()));
    b.op("add in place", 3 * size, Op::binary(BinaryFn::Add, x.clone(), dy.clone(), x.clone()));
    b.op("silu", 2 * size, Op::unary(UnaryFn::Silu, x.clone(), y.clone()));
    let half = b.bf16(&[TOKENS, HIDDEN]);
    b.op(
        "add bf16",
        3 * size / 2,
        Op::binary(BinaryFn::Add, half.clone(), half.clone(), b.bf16(&[TOKENS, HIDDEN])),
    );
    b.op("copy to bf16", 3 * size / 2, Op::copy(x.clone(), half));
    b.op("copy transposed", 2 * size, Op::copy(x.clone().transpose(0, 1), b.f32(&[HIDDEN, TOKENS])));
    b.op("rms_norm", 2 * size, Op::rms_norm(x.clone(), w.clone(), y.clone(), rstd.clone(), 1e-5));
    let back = Op::rms_norm_backward(dy.clone(), x.clone(), w, rstd, y.clone(), dw.clone(), true);
    b.op("rms_norm_backward", 3 * size, back);
    b.op("column sums", size, Op::reduce(ReduceFn::Sum, x.clone().transpose(0, 1), dw, false));

    let (q, o) = (b.f32(&[TOKENS, 4, 64]), b.f32(&[TOKENS, 4, 64]));
    let angles = b.f32(&[256, 32]);
    let positions = b.ints(&[TOKENS], |i| (i % 256) as i32);
    b.op("rope", 2 * size, Op::rope(q.clone(), angles.clone(), angles, positions, o.clone()));
    let seqs = b.ints(&[8, 4], |i| if i % 2 == 0 { (i / 4 * 256) as i32 } else { 256 });
    let lse = b.f32(&[TOKENS, 4]);
    let a = Attention::causal(0.125);
    let forward = Op::attention(a, q.clone(), q.clone(), q.clone(), seqs.clone(), o.clone(), lse.clone());
    b.op("attention", 4 * size, forward);
    let d = [(); 3].map(|()| b.f32(&[TOKENS, 4, 64]));
    let back = Op::attention_backward(
        a,
        [dy.clone().reshape(&[TOKENS, 4, 64]), q.clone(), q.clone(), q, o, lse, seqs],
        d,
    );
    b.op("attention_backward", 8 * size, back);
    let (q, o, lse) = (b.f32(&[1, 4, 64]), b.f32(&[1, 4, 64]), b.f32(&[1, 4]));
    let cache = b.f32(&[4096, 4, 64]);
    let seqs = b.ints(&[1, 4], |i| [0, 1, 0, 4096][i]);
    let decode = Op::attention(a, q, cache.clone(), cache, seqs, o, lse);
    b.op("attention decode", 8 * 4096 * 256, decode);

    let logits = b.f32(&[TOKENS, VOCAB]);
    let target = b.ints(&[TOKENS], |i| i as i32);
    let (loss, lse) = (b.f32(&[TOKENS]), b.f32(&[TOKENS]));
    let size = 4 * TOKENS * VOCAB;
    b.op("cross_entropy", size, Op::cross_entropy(logits.clone(), target.clone(), loss.clone(), lse.clone()));
    let back = Op::cross_entropy_backward(logits.clone(), target.clone(), lse, loss, logits.clone());
    b.op("cross_entropy_backward in place", 2 * size, back);
    b.op("softmax", 2 * size, Op::softmax(logits.clone(), b.f32(&[TOKENS, VOCAB])));
    let table = b.f32(&[VOCAB, HIDDEN]);
    let size = 4 * TOKENS * HIDDEN;
    b.op("embedding", 2 * size, Op::embedding(table.clone(), target.clone(), y.clone()));
    b.op("scatter add", 3 * size, Op::scatter(dy.clone(), target, table, true));

    let routed = b.f32(&[TOKENS, EXPERTS]);
    let (experts, weights) = (b.ints(&[TOKENS, 2], |_| 0), b.f32(&[TOKENS, 2]));
    let router = Router::new(ScoreFn::Softmax, 2).normalize(true);
    b.op("router", 48 * TOKENS, Op::router(router, routed.clone(), None, experts.clone(), weights.clone()));
    let droutes = b.f32(&[TOKENS, EXPERTS]);
    let back = Op::router_backward(router, routed, experts.clone(), weights.clone(), droutes);
    b.op("router_backward", 80 * TOKENS, back);
    let offsets = b.ints(&[EXPERTS + 1], |_| 0);
    let (rows, places) = (b.ints(&[ROWS], |_| 0), b.ints(&[TOKENS, 2], |_| 0));
    b.op("expert_permutation", 24 * TOKENS, Op::expert_permutation(experts, offsets, rows, places.clone()));
    let (gate, up) = (b.f32(&[ROWS, WIDTH]), b.f32(&[ROWS, WIDTH]));
    let [act, dgate, dup] = [(); 3].map(|()| b.f32(&[ROWS, WIDTH]));
    let size = 4 * ROWS * WIDTH;
    b.op("swiglu", 3 * size, Op::swiglu(gate.clone(), up.clone(), act.clone()));
    b.op("swiglu_backward", 5 * size, Op::swiglu_backward(act, gate, up, dgate, dup));
    let out = b.f32(&[ROWS, HIDDEN]);
    let size = 4 * TOKENS * HIDDEN;
    b.op("combine", 3 * size, Op::combine(out.clone(), places.clone(), Some(weights.clone()), y, false));
    let (dx, dweights) = (b.f32(&[ROWS, HIDDEN]), b.f32(&[TOKENS, 2]));
    b.op("combine_backward", 7 * size, Op::combine_backward(dy, out, places, weights, dx, dweights));

    let n = 1 << 22;
    let (grad, state) = (b.f32(&[n]), [(); 3].map(|()| b.f32(&[n])));
    let sum = b.f32(&[1]);
    b.op(
        "sum of squares",
        4 * n,
        Op::reduce(ReduceFn::SumSquares, grad.clone().reshape(&[1, n]), sum.clone(), false),
    );
    let hyper = b.f32(&[3]);
    b.op("adamw", 28 * n, Op::adamw(AdamW::new(0.9, 0.999, 1e-8, 0.1), grad, hyper, sum, state));
    let philox = b.put(&[0; 16], DType::U32, &[4]);
    b.op("normals", 4 * n / 4, Op::philox(Distribution::Normal, philox, b.f32(&[n / 4])));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_millis(600)).warm_up_time(std::time::Duration::from_millis(200));
    targets = ops
}
criterion_main!(benches);
