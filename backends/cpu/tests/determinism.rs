//! Results are the same bits for any number of threads.

use halite_cpu::CpuDevice;
use halite_hal::philox::Normals;
use halite_hal::{
    AdamW, Attention, Buffer, DType, Device, DeviceOptions, Op, ReduceFn, Router, ScoreFn, StreamId,
    TensorRef,
};

const S0: StreamId = StreamId(0);

/// Runs ops at sizes where all of them are cut into several tasks; returns all results.
struct Run {
    device: CpuDevice,
    draws: u32,
    outputs: Vec<Buffer>,
}

impl Run {
    fn put(&self, bytes: &[u8]) -> Buffer {
        let b = self.device.allocate(bytes.len() as u64, 0).unwrap();
        self.device.upload(S0, &b, 0, bytes).unwrap();
        b
    }

    fn normal(&mut self, shape: &[usize]) -> TensorRef {
        self.draws += 1;
        let n = shape.iter().product();
        let bytes: Vec<u8> =
            Normals::new(5, self.draws).take(n).flat_map(|x| (x as f32).to_le_bytes()).collect();
        TensorRef::new(&self.put(&bytes), DType::F32, shape)
    }

    fn ints(&self, shape: &[usize], x: &[i32]) -> TensorRef {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorRef::new(&self.put(&bytes), DType::I32, shape)
    }

    fn out(&mut self, dtype: DType, shape: &[usize]) -> TensorRef {
        let b = self.put(&vec![0; dtype.bytes(shape).unwrap() as usize]);
        self.outputs.push(b.clone());
        TensorRef::new(&b, dtype, shape)
    }

    fn f32(&mut self, shape: &[usize]) -> TensorRef {
        self.out(DType::F32, shape)
    }

    fn op(&self, op: Op) {
        self.device.submit(S0, &[op]).unwrap();
    }
}

fn results(threads: usize) -> Vec<Vec<u8>> {
    let device = CpuDevice::new(&DeviceOptions::default().threads(threads)).unwrap();
    let mut r = Run { device, draws: 0, outputs: Vec::new() };
    let (n, h) = (700, 96);
    let x = r.normal(&[n, h]);
    let dy = r.normal(&[n, h]);
    let w = r.normal(&[h]);
    let (y, rstd) = (r.f32(&[n, h]), r.f32(&[n]));
    r.op(Op::rms_norm(x.clone(), w.clone(), y, rstd.clone(), 1e-5));
    let (dx, dw) = (r.f32(&[n, h]), r.f32(&[h]));
    r.op(Op::rms_norm_backward(dy.clone(), x.clone(), w, rstd, dx, dw, false));
    // Sums along rows that are cut, and down columns.
    let long = r.normal(&[3, 100_000]);
    for f in [ReduceFn::Sum, ReduceFn::SumSquares, ReduceFn::ArgMax] {
        let y = r.out(if f == ReduceFn::ArgMax { DType::I32 } else { DType::F32 }, &[3]);
        r.op(Op::reduce(f, long.clone(), y, false));
    }
    let y = r.f32(&[h]);
    r.op(Op::reduce(ReduceFn::Sum, x.clone().transpose(0, 1), y, false));
    // Matrix products, whole and grouped.
    let weight = r.normal(&[4, h, 80]);
    let y = r.f32(&[n, 80]);
    r.op(Op::matmul(x.clone(), weight.clone().slice(0, 1, 1).drop_axis(), y));
    let y = r.f32(&[h, h]);
    r.op(Op::matmul(x.clone().transpose(0, 1), dy.clone(), y));
    let offsets = r.ints(&[5], &[0, 130, 130, 400, 650]);
    let y = r.f32(&[n, 80]);
    r.op(Op::grouped_matmul(x.clone(), weight, offsets.clone(), None, y, false));
    let y = r.f32(&[4, h, h]);
    r.op(Op::grouped_matmul_weight(x.clone(), dy.clone(), offsets, y, false));
    // Rows added to few places.
    let index: Vec<i32> = (0..n as i32).map(|i| i * 7 % 13).collect();
    let (index, y) = (r.ints(&[n], &index), r.f32(&[64, h]));
    r.op(Op::scatter(x.clone(), index, y, true));
    // Attention: long, shared keys, decoding with splits.
    let (q, k, v) = (r.normal(&[n, 4, 24]), r.normal(&[n, 2, 24]), r.normal(&[n, 2, 24]));
    let seqs = r.ints(&[4, 4], &[0, 300, 0, 300, 300, 100, 250, 150, 400, 2, 0, 690, 402, 1, 100, 600]);
    let (o, lse) = (r.f32(&[n, 4, 24]), r.f32(&[n, 4]));
    let a = Attention::causal(0.2);
    r.op(Op::attention(a, q.clone(), k.clone(), v.clone(), seqs.clone(), o.clone(), lse.clone()));
    let grad = r.normal(&[n, 4, 24]);
    let d = [r.f32(&[n, 4, 24]), r.f32(&[n, 2, 24]), r.f32(&[n, 2, 24])];
    r.op(Op::attention_backward(a, [grad, q, k, v, o, lse, seqs], d));
    // Loss, routing and the optimiser.
    let logits = r.normal(&[n, 500]);
    let target: Vec<i32> = (0..n as i32).map(|i| i % 500).collect();
    let target = r.ints(&[n], &target);
    let (loss, lse) = (r.f32(&[n]), r.f32(&[n]));
    r.op(Op::cross_entropy(logits, target, loss, lse));
    let logits = r.normal(&[3000, 8]);
    let (experts, weights) = (r.out(DType::I32, &[3000, 2]), r.f32(&[3000, 2]));
    r.op(Op::router(Router::new(ScoreFn::Softmax, 2), logits, None, experts, weights));
    let (grad, state) = (r.normal(&[100_000]), [(); 3].map(|()| r.f32(&[100_000])));
    let hyper = r.put(&[0.1f32, 0.1, 0.001].map(f32::to_le_bytes).concat());
    let factor = r.put(&1.0f32.to_le_bytes());
    let (hyper, factor) =
        (TensorRef::new(&hyper, DType::F32, &[3]), TensorRef::new(&factor, DType::F32, &[1]));
    r.op(Op::adamw(AdamW::new(0.9, 0.999, 1e-8, 0.1), grad, hyper, factor, state));
    let read = |b: &Buffer| r.device.download(S0, b, 0, b.bytes()).unwrap().wait().unwrap();
    r.outputs.iter().map(read).collect()
}

/// Drops a leading axis of extent 1.
trait DropAxis {
    fn drop_axis(self) -> Self;
}

impl DropAxis for TensorRef {
    fn drop_axis(self) -> Self {
        let (shape, strides) = (self.shape[1..].to_vec(), self.strides[1..].to_vec());
        self.with_layout(&shape, &strides)
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let one = results(1);
    assert!(one.iter().all(|b| b.iter().any(|&x| x != 0)));
    for threads in [2, 3, 5] {
        for (i, (a, b)) in one.iter().zip(results(threads)).enumerate() {
            assert!(*a == b, "output {i} differs with {threads} threads");
        }
    }
}

/// Large quantised matrices are decoded and multiplied in parts, which must not show.
#[test]
fn a_wide_quantised_product_equals_its_parts() {
    let d = CpuDevice::new(&DeviceOptions::default().threads(2)).unwrap();
    // 19 million weights.
    let (m, k, n) = (9, 32, 600_064);
    let bytes: Vec<u8> = (0..n * k / 32)
        .flat_map(|b| {
            let weights = (0..32).map(move |i| (b * 31 + i * 7) as u8);
            // An f16 scale near 1.
            [(b * 5) as u8, 0x3c].into_iter().chain(weights)
        })
        .collect();
    let weights = d.allocate(bytes.len() as u64, 0).unwrap();
    d.upload(S0, &weights, 0, &bytes).unwrap();
    let floats = |n: usize| -> Buffer {
        let b = d.allocate(4 * n as u64, 0).unwrap();
        let x: Vec<u8> = (0..n).flat_map(|i| ((i * 37 % 101) as f32 - 50.0).to_le_bytes()).collect();
        d.upload(S0, &b, 0, &x).unwrap();
        b
    };
    let f32s = |b: &Buffer, shape: &[usize]| TensorRef::new(b, DType::F32, shape);
    let (a, bias) = (f32s(&floats(m * k), &[m, k]), f32s(&floats(n), &[n]));
    let (whole, parts) = (floats(m * n), floats(m * n));
    for b in [
        TensorRef::new(&weights, DType::Q8_0, &[n, k]).transpose(0, 1),
        TensorRef::new(&weights, DType::Q8_0, &[k, n]),
    ] {
        let product = |c: &Buffer, first: usize, len: usize| {
            let (b, bias) = (b.clone().slice(1, first, len), bias.clone().slice(0, first, len));
            Op::matmul_with(a.clone(), b, Some(bias), f32s(c, &[m, n]).slice(1, first, len), false)
        };
        d.submit(S0, &[product(&whole, 0, n)]).unwrap();
        let cut = 299_968;
        d.submit(S0, &[product(&parts, 0, cut), product(&parts, cut, n - cut)]).unwrap();
        let [x, y] = [&whole, &parts].map(|c| d.download(S0, c, 0, c.bytes()).unwrap().wait().unwrap());
        assert!(x == y);
    }
}
