use super::*;
use crate::Traits;
use crate::sets::tests::{cuda, translates};
use halite_hal::DType;

fn t(slot: u32, dtype: DType, shape: &[usize]) -> TensorRef {
    TensorRef::slot(slot, dtype, shape)
}

/// A view of that shape in each way of lying.
fn layouts(slot: u32, dtype: DType, [a, b, c]: [usize; 3]) -> [TensorRef; 3] {
    let x = t(slot, dtype, &[a, b, c]);
    let padded = t(slot, dtype, &[a, b, c + 3]).slice(2, 0, c).with_offset(1);
    let permuted = t(slot, dtype, &[c, b, a]).transpose(0, 2);
    [x, padded, permuted]
}

#[test]
fn rotary_kernels_translate() {
    let mut ops = Vec::new();
    for (inverse, interleaved) in [(false, false), (true, true)] {
        for (d, half) in [(8, 4), (9, 3), (12, 6), (5, 0)] {
            for dtype in DType::FLOATS {
                for (x, y) in layouts(0, dtype, [5, 3, d]).into_iter().zip(layouts(1, DType::BF16, [5, 3, d]))
                {
                    let tables = [2, 3].map(|slot| t(slot, DType::F32, &[20, half]));
                    let [cos, sin] = tables;
                    let inputs = vec![x.clone(), cos, sin, t(4, DType::I32, &[5])];
                    let kind = OpKind::Rope { inverse, interleaved };
                    ops.push(Op::new(kind.clone(), inputs.clone(), vec![y]));
                    ops.push(Op::new(kind, inputs, vec![x]));
                }
            }
        }
    }
    translates(&Attention, &ops);
}

/// Attention and its gradient over tensors of these sizes.
fn ops(dtypes: [DType; 2], [tokens, kv]: [usize; 2], heads: [usize; 2], [d, dv]: [usize; 2]) -> Vec<Op> {
    let [x, y] = dtypes;
    let mut ops = Vec::new();
    for l in 0..3 {
        let view = |slot, dtype, shape| layouts(slot, dtype, shape)[l].clone();
        let (q, k, v) = (
            view(0, x, [tokens, heads[0], d]),
            view(1, x, [kv, heads[1], d]),
            view(2, x, [kv, heads[1], dv]),
        );
        let (o, grad) = (view(3, y, [tokens, heads[0], dv]), view(4, y, [tokens, heads[0], dv]));
        let (lse, seqs) = (t(5, DType::F32, &[tokens, heads[0]]), t(6, DType::I32, &[3, 4]));
        let a = Attributes::causal(0.5);
        ops.push(Op::attention(a, q.clone(), k.clone(), v.clone(), seqs.clone(), o.clone(), lse.clone()));
        let outputs = [
            view(7, x, [tokens, heads[0], d]),
            view(8, x, [kv, heads[1], d]),
            view(9, x, [kv, heads[1], dv]),
        ];
        ops.push(Op::attention_backward(a.full(), [grad, q, k, v, o, lse, seqs], outputs));
    }
    ops
}

#[test]
fn attention_kernels_translate() {
    let (f, h, b) = (DType::F32, DType::F16, DType::BF16);
    for dtypes in [[f, f], [h, f], [b, b]] {
        for sizes in [[64, 64], [5, 7], [192, 128], [300, 512]] {
            translates(&Attention, &ops(dtypes, [70, 200], [4, 2], sizes));
        }
    }
    translates(&Attention, &ops([f, f], [2, 4000], [4, 2], [128, 128]));
    for (q, shape) in [(f, [64, 64]), (b, [576, 512])] {
        translates(&Attention, &[quantised(q, [2, 400], shape), quantised(q, [70, 200], shape)]);
    }
}

/// Attention over a quantised cache.
fn quantised(q: DType, [tokens, kv]: [usize; 2], [d, dv]: [usize; 2]) -> Op {
    let (keys, values) = (t(1, DType::Q8_0, &[kv, 2, d]), t(2, DType::Q8_0, &[kv, 2, dv]));
    let (o, lse) = (t(3, q, &[tokens, 4, dv]), t(5, DType::F32, &[tokens, 4]));
    let seqs = t(6, DType::I32, &[3, 4]);
    Op::attention(Attributes::causal(0.5), t(0, q, &[tokens, 4, d]), keys, values, seqs, o, lse)
}

/// Names of the variants for tensor cores.
fn native(op: &Op, info: &DeviceInfo) -> Vec<String> {
    let named = Attention.variants(&op.desc(), info).into_iter().map(|v| v.0.to_string());
    named.filter(|name| name.starts_with("flash")).collect()
}

#[test]
fn tensor_cores_are_used_where_they_can_be() {
    let (f, h, b) = (DType::F32, DType::F16, DType::BF16);
    for dtypes in [[h, h], [b, b], [b, f]] {
        for sizes in [[16, 32], [64, 64], [80, 16], [128, 128]] {
            for op in ops(dtypes, [70, 200], [4, 2], sizes).iter().step_by(2) {
                let names = native(op, &cuda());
                assert_eq!(names, ["flash-128x32", "flash-64x64", "flash-split-16x64"]);
                for name in &names {
                    let info = cuda();
                    let mut lowering = Lowering::new(&info);
                    Attention.lower(op, &Variant::named(name.clone()), &mut lowering).unwrap();
                    for launch in lowering.finish().launches {
                        launch.source.render(&Traits::new()).unwrap();
                    }
                }
            }
        }
    }
    let mut without = cuda();
    without.matrix.clear();
    let op = |dtypes, sizes| ops(dtypes, [2, 200], [4, 2], sizes).remove(0);
    assert_eq!(native(&op([b, b], [64, 64]), &cuda())[0], "flash-split-16x64");
    let gradient = |dtypes, sizes| native(&ops(dtypes, [2, 200], [4, 2], sizes)[1], &cuda());
    assert_eq!(gradient([b, b], [128, 128]), ["flash-64x32"]);
    assert_eq!([gradient([h, h], [64, 64]), gradient([b, b], [192, 128])], [[""; 0]; 2]);
    assert_eq!(native(&op([b, b], [192, 128]), &cuda()), ["flash-split-16x64", "flash-64x64"]);
    assert_eq!(native(&op([b, b], [576, 512]), &cuda()), ["flash-split-64x16"]);
    for (dtypes, sizes, info) in [
        ([b, b], [64, 64], without),
        ([f, f], [64, 64], cuda()),
        ([b, b], [64, 24], cuda()),
        ([b, b], [592, 256], cuda()),
    ] {
        assert_eq!(native(&op(dtypes, sizes), &info), [""; 0]);
    }
}
