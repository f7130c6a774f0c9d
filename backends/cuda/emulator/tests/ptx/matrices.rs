//! Products of matrices, against plain ones, with fragments as the PTX ISA draws them.

use crate::harness::{Memory, kernel, launch};
use half::{bf16, f16};

/// Small whole numbers, which all types hold exactly, different for each place.
fn entry(row: usize, column: usize, seed: usize) -> i32 {
    ((row * 7 + column * 13 + seed * 5) % 17) as i32 - 8
}

/// How a type is written, and its registers: elements in 32 bits, and an element's bits.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    each: usize,
    bits: fn(i32) -> u64,
}

const F16: Kind = Kind { name: "f16", each: 2, bits: |v| u64::from(f16::from_f32(v as f32).to_bits()) };
const BF16: Kind = Kind { name: "bf16", each: 2, bits: |v| u64::from(bf16::from_f32(v as f32).to_bits()) };
const TF32: Kind = Kind { name: "tf32", each: 1, bits: |v| u64::from((v as f32).to_bits()) };
const S8: Kind = Kind { name: "s8", each: 4, bits: |v| v as u8 as u64 };
const U8: Kind = Kind { name: "u8", each: 4, bits: |v| (v + 8) as u64 };
const F64: Kind = Kind { name: "f64", each: 1, bits: |v| f64::from(v).to_bits() };

/// The row and column of an element of A in a lane, from the tables of "Matrix Fragments for mma".
fn place_in_a(shape: [usize; 3], each: usize, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    match (shape, each) {
        ([16, 8, 16], 2) => {
            let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
            (row, thread * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
        }
        ([16, 8, 8], 2) => (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1)),
        ([16, 8, 4], 1) => (if i == 0 { group } else { group + 8 }, thread),
        ([16, 8, 8], 1) => {
            (if i == 0 || i == 2 { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 })
        }
        ([16, 8, 32], 4) => {
            let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
            (row, thread * 4 + (i & 3) + if i < 8 { 0 } else { 16 })
        }
        ([16, 8, 16], 4) => (if i < 4 { group } else { group + 8 }, thread * 4 + (i & 3)),
        ([8, 8, 16], 4) => (group, thread * 4 + i),
        ([8, 8, 4], 1) => (group, thread),
        _ => panic!("no table for {shape:?}"),
    }
}

fn place_in_b(shape: [usize; 3], each: usize, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    let row = match (shape, each) {
        ([_, _, 16], 2) => thread * 2 + (i & 1) + if i < 2 { 0 } else { 8 },
        ([_, _, 8], 2) => thread * 2 + i,
        ([_, _, 4], 1) => thread,
        ([_, _, 8], 1) => thread + 4 * i,
        ([_, _, 32], 4) => thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 },
        ([_, _, 16], 4) => thread * 4 + i,
        _ => panic!("no table for {shape:?}"),
    };
    (row, group)
}

fn place_in_c(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane / 4, lane % 4);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

/// Multiplies, and compares each element.
fn check(shape: [usize; 3], kind: Kind, b_kind: Kind, sums: Kind) {
    let [m, n, k] = shape;
    let wide = kind.name == "f64";
    let words = |kind: Kind, bits: &[u64]| -> Vec<u64> {
        let size = 32 / kind.each as u32;
        bits.chunks(kind.each)
            .map(|c| c.iter().rev().fold(0_u64, |w, v| w.checked_shl(size).unwrap_or(0) | v))
            .collect()
    };
    // What each lane has: A, B, C.
    let (mut lanes, mut counts) = (Vec::new(), [0; 3]);
    for lane in 0..32 {
        let a: Vec<u64> = (0..m * k / 32)
            .map(|i| {
                let (r, c) = place_in_a(shape, kind.each, lane, i);
                (kind.bits)(entry(r, c, 1))
            })
            .collect();
        let b: Vec<u64> = (0..k * n / 32)
            .map(|i| {
                let (r, c) = place_in_b(shape, kind.each, lane, i);
                (b_kind.bits)(entry(r, c, 2))
            })
            .collect();
        let c: Vec<u64> = (0..m * n / 32)
            .map(|i| {
                let (r, c) = place_in_c(lane, i);
                (sums.bits)(entry(r, c, 3))
            })
            .collect();
        let all = [words(kind, &a), words(b_kind, &b), words(sums, &c)];
        counts = [all[0].len(), all[1].len(), all[2].len()];
        lanes.extend(all.concat());
    }
    let (bytes, letter, ty) = if wide { (8, "d", "b64") } else { (4, "r", "b32") };
    let mut memory = Memory::default();
    let content: Vec<u8> = lanes.iter().flat_map(|w| w.to_le_bytes()[..bytes].to_vec()).collect();
    let input = memory.add(&content);
    let output = memory.add(&vec![0; 32 * counts[2] * bytes]);
    let total: usize = counts.iter().sum();
    let mut code = format!(
        "ld.param.u64 %d38, [p0]; ld.param.u64 %d39, [p1]; mov.u32 %r59, %tid.x;
        mad.wide.u32 %d38, %r59, {}, %d38; mad.wide.u32 %d39, %r59, {}, %d39;\n",
        total * bytes,
        counts[2] * bytes
    );
    for r in 0..total {
        code += &format!("ld.global.{ty} %{letter}{r}, [%d38+{}];\n", r * bytes);
    }
    let list = |first: usize, n: usize| {
        (first..first + n).map(|r| format!("%{letter}{r}")).collect::<Vec<_>>().join(", ")
    };
    let sum_name = match sums.name {
        "s8" | "u8" => "s32",
        "tf32" => "f32",
        name => name,
    };
    code += &format!(
        "mma.sync.aligned.m{m}n{n}k{k}.row.col.{sum_name}.{}.{}.{sum_name} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n",
        kind.name,
        b_kind.name,
        list(total, counts[2]),
        list(0, counts[0]),
        list(counts[0], counts[1]),
        list(counts[0] + counts[1], counts[2])
    );
    for r in 0..counts[2] {
        code += &format!("st.global.{ty} [%d39+{}], %{letter}{};\n", r * bytes, total + r);
    }
    // Sums of f32 are in registers of f32 in what compilers write.
    if sum_name == "f32" {
        for r in counts[0] + counts[1]..total + counts[2] {
            code = code
                .replace(&format!("%r{r},"), &format!("%f{r},"))
                .replace(&format!("%r{r}}}"), &format!("%f{r}}}"));
            code = code.replace(&format!("%r{r};"), &format!("%f{r};"));
        }
    }
    launch(&kernel(2, &code), &mut memory, 1, 32, &[input, output]).unwrap_or_else(|f| panic!("{f}\n{code}"));
    let found = memory.bytes(output);
    let offset = |kind: Kind| if kind.name == "u8" { 8 } else { 0 };
    for lane in 0..32 {
        let expected: Vec<u64> = (0..m * n / 32)
            .map(|i| {
                let (r, c) = place_in_c(lane, i);
                let product: i32 =
                    (0..k).map(|x| (entry(r, x, 1) + offset(kind)) * (entry(x, c, 2) + offset(b_kind))).sum();
                (sums.bits)(product + entry(r, c, 3))
            })
            .collect();
        let expected: Vec<u8> =
            words(sums, &expected).iter().flat_map(|w| w.to_le_bytes()[..bytes].to_vec()).collect();
        let size = expected.len();
        assert_eq!(found[lane * size..(lane + 1) * size], expected, "{shape:?} {} lane {lane}", kind.name);
    }
}

/// Sums of integers.
const S32: Kind = Kind { name: "s8", each: 1, bits: |v| u64::from(v as u32) };

#[test]
fn products_of_halves() {
    check([16, 8, 16], F16, F16, TF32);
    check([16, 8, 8], F16, F16, TF32);
    check([16, 8, 16], BF16, BF16, TF32);
    check([16, 8, 8], BF16, BF16, TF32);
    check([16, 8, 16], F16, F16, F16);
    check([16, 8, 8], F16, F16, F16);
}

#[test]
fn products_of_other_types() {
    check([16, 8, 4], TF32, TF32, TF32);
    check([16, 8, 8], TF32, TF32, TF32);
    check([8, 8, 4], F64, F64, F64);
    check([16, 8, 32], S8, S8, S32);
    check([16, 8, 16], S8, U8, S32);
    check([8, 8, 16], U8, S8, S32);
}

/// Loads matrices whose elements are their numbers, and gives the registers of each lane.
fn load(count: usize, transposed: bool) -> Vec<Vec<u32>> {
    let mut memory = Memory::default();
    let input = memory.add(&(0..256_u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    let output = memory.add_words(&vec![0; 32 * count]);
    let regs = (0..count).map(|r| format!("%r{}", 10 + r)).collect::<Vec<_>>().join(", ");
    let trans = if transposed { ".trans" } else { "" };
    // Rows lie in the reverse order in shared memory.
    let mut code = format!(
        ".shared .align 16 .b8 s[512];
        ld.param.u64 %d1, [p0];
        ld.param.u64 %d2, [p1];
        mov.u32 %r1, %tid.x;
        mad.wide.u32 %d3, %r1, 16, %d1;
        ld.global.v4.u32 {{%r2, %r3, %r4, %r5}}, [%d3];
        mov.u32 %r6, s;
        mul.lo.u32 %r7, %r1, 16;
        sub.u32 %r7, 496, %r7;
        add.u32 %r7, %r7, %r6;
        st.shared.v4.u32 [%r7], {{%r2, %r3, %r4, %r5}};
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{regs}}}, [%r7];
        mad.wide.u32 %d2, %r1, {}, %d2;\n",
        4 * count
    );
    for r in 0..count {
        code += &format!("st.global.u32 [%d2+{}], %r{};\n", 4 * r, 10 + r);
    }
    launch(&kernel(2, &code), &mut memory, 1, 32, &[input, output]).unwrap();
    memory.words(output).chunks(count).map(<[u32]>::to_vec).collect()
}

#[test]
fn matrices_from_shared_memory() {
    for count in [1, 2, 4] {
        for transposed in [false, true] {
            for (lane, regs) in load(count, transposed).iter().enumerate() {
                for (n, &reg) in regs.iter().enumerate() {
                    let at = |k: usize| {
                        let (r, c) = (lane / 4, 2 * (lane % 4) + k);
                        let (row, column) = if transposed { (c, r) } else { (r, c) };
                        (64 * n + 8 * row + column) as u32
                    };
                    assert_eq!(reg, at(0) | at(1) << 16, "x{count} {transposed} lane {lane} matrix {n}");
                }
            }
        }
    }
}

#[test]
fn matrices_to_shared_memory_and_back() {
    let mut memory = Memory::default();
    let output = memory.add_words(&[0; 64]);
    let code = "
        .shared .align 16 .b8 s[256];
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        mov.u32 %r6, s;
        and.b32 %r7, %r1, 15;
        mad.lo.u32 %r7, %r7, 16, %r6;
        mul.lo.u32 %r2, %r1, 3;
        stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%r7], {%r1, %r2};
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r3, %r4}, [%r7];
        mad.wide.u32 %d2, %r1, 8, %d1;
        st.global.v2.u32 [%d2], {%r3, %r4};";
    launch(&kernel(1, code), &mut memory, 1, 32, &[output]).unwrap();
    let expected: Vec<u32> = (0..32).flat_map(|l| [l, 3 * l]).collect();
    assert_eq!(memory.words(output), expected);
}

#[test]
fn a_part_of_a_warp_cannot_multiply() {
    let code = "
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 16;
        @%p1 bra DONE;
        mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r3}, {%f1, %f2, %f3, %f4};
        DONE:";
    let fault = launch(&kernel(0, code), &mut Memory::default(), 1, 32, &[]).unwrap_err();
    assert!(fault.message.contains("all lanes of a warp"), "{fault}");
}
