//! Attention whose values are the first columns of its keys, as absorbed MLA has them.

use halite_cuda::CudaBackend;
use halite_hal::{Attention, Backend, Buffer, DType, Device, DeviceOptions, Op, StreamId, TensorRef};

const STREAM: StreamId = StreamId(0);
const TOKENS: usize = 2;
const HEADS: usize = 20;
const KEYS: usize = 300;
const D: usize = 576;
const DV: usize = 512;

/// The bits of the `i`th of some bf16 numbers between -2 and 2.
fn number(i: usize) -> u16 {
    let x = (i.wrapping_mul(2_654_435_761) >> 7) % 1024;
    ((x as f32 / 256.0 - 2.0).to_bits() >> 16) as u16
}

fn upload(device: &dyn Device, bytes: &[u8]) -> Buffer {
    let buffer = device.allocate(bytes.len() as u64, 0).unwrap();
    device.upload(STREAM, &buffer, 0, bytes).unwrap();
    buffer
}

fn floats(device: &dyn Device, buffer: &Buffer) -> Vec<f32> {
    let bytes = device.download(STREAM, buffer, 0, buffer.bytes()).unwrap().wait().unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn values_within_keys_are_as_good_as_their_own() {
    let backend = CudaBackend;
    for index in 0..backend.devices().len() {
        let device = &*backend.open(index, &DeviceOptions::default()).unwrap();
        let bits = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
            numbers.flat_map(|i| number(i).to_le_bytes()).collect()
        };
        let q = upload(device, &bits(&mut (7..7 + TOKENS * HEADS * D)));
        let k = upload(device, &bits(&mut (0..KEYS * D)));
        let v = upload(device, &bits(&mut (0..KEYS * D).filter(|i| i % D < DV)));
        let seqs: Vec<u8> = [0, 1, 0, 40, 1, 1, 40, 260i32].iter().flat_map(|x| x.to_le_bytes()).collect();
        let seqs = TensorRef::new(&upload(device, &seqs), DType::I32, &[2, 4]);
        let q = TensorRef::new(&q, DType::BF16, &[TOKENS, HEADS, D]);
        let k = TensorRef::new(&k, DType::BF16, &[KEYS, 1, D]);
        let v = TensorRef::new(&v, DType::BF16, &[KEYS, 1, DV]);
        let mut results = Vec::new();
        for (variant, v) in [
            ("flash-split-64x16", v.clone()),
            ("flash-split-64x16", k.clone().slice(2, 0, DV)),
            ("split-kv-64x4", v),
        ] {
            let [o, lse] =
                [TOKENS * HEADS * DV, TOKENS * HEADS].map(|n| device.allocate(4 * n as u64, 0).unwrap());
            let outputs = [
                TensorRef::new(&o, DType::F32, &[TOKENS, HEADS, DV]),
                TensorRef::new(&lse, DType::F32, &[TOKENS, HEADS]),
            ];
            let [to, ends] = outputs;
            let op = Op::attention(Attention::causal(0.02), q.clone(), k.clone(), v, seqs.clone(), to, ends);
            assert!(device.variants(&op.desc()).contains(&variant.to_string()));
            device.set_tuning(&[("attention".into(), variant.into())]).unwrap();
            device.submit(STREAM, &[op]).unwrap();
            results.push([floats(device, &o), floats(device, &lse)].concat());
        }
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0.0, |m: f32, (a, b)| m.max((a - b).abs()));
        let off = [apart(&results[0], &results[2]), apart(&results[1], &results[2])];
        println!("largest difference from the portable kernel: {off:?}");
        assert!(off.iter().all(|&x| x < 1e-4), "{off:?}");
    }
}
