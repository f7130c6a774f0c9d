//! Loads, stores, atomic operations, address spaces, and copies that are waited for.

use crate::harness::{Memory, kernel, launch, launch_with, numbers, warp};

#[test]
fn narrow_values_are_extended_and_cut() {
    let a = numbers(1, &[]);
    let mut memory = Memory::default();
    let x = memory.add_words(&a.map(|v| v as u32));
    let y = memory.add_words(&[0; 96]);
    let code = "
        ld.param.u64 %d1, [p0];
        ld.param.u64 %d2, [p1];
        mov.u32 %r1, %tid.x;
        mad.wide.u32 %d3, %r1, 4, %d1;
        mad.wide.u32 %d4, %r1, 12, %d2;
        ld.global.s8 %r2, [%d3+1];
        ld.global.u16 %r3, [%d3+2];
        ld.global.nc.L1::no_allocate.L2::128B.s16 %d5, [%d3];
        st.global.u32 [%d4], %r2;
        st.global.u16 [%d4+4], %r3;
        st.global.u8 [%d4+6], %d5;
        shr.s64 %d5, %d5, 4;
        st.global.u32 [%d4+8], %d5;";
    launch(&kernel(2, code), &mut memory, 1, 32, &[x, y]).unwrap();
    for (l, out) in memory.words(y).chunks_exact(3).enumerate() {
        let v = a[l] as u32;
        assert_eq!(out[0] as i32, i32::from((v >> 8) as i8));
        assert_eq!(out[1], v >> 16 | (v & 0xFF) << 16);
        assert_eq!(out[2] as i32, i32::from(v as i16) >> 4);
    }
}

#[test]
fn vectors_and_kernel_parameters() {
    let text = "
        .version 8.0
        .target sm_80
        .address_size 64
        .entry k(.param .align 16 .b8 s[32], .param .u64 .ptr .global .align 16 out, .param .u16 h)
        {
            .reg .b16 %h<5>;
            .reg .b32 %r<9>;
            .reg .b64 %d<9>;
            ld.param.u64 %d1, [out];
            ld.param.v4.u32 {%r1, %r2, %r3, %r4}, [s];
            ld.param.v2.u64 {%d2, _}, [s+16];
            ld.param.u16 %h1, [h];
            cvt.u32.u16 %r5, %h1;
            st.global.v4.u32 [%d1], {%r4, %r3, %r2, %r1};
            st.global.v2.u64 [%d1+16], {%d2, %d2};
            st.global.v2.u32 [%d1+32], {%r5, 9};
            mov.b64 %d4, s;
            ld.param.u32 %r6, [%d4+4];
            cvta.param.u64 %d5, %d4;
            ld.u32 %r7, [%d5+8];
            st.global.v2.b32 [%d1+40], {%r6, %r7};
            ret;
        }";
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 12]);
    let params = [2 << 32 | 1, 4 << 32 | 3, 6 << 32 | 5, 0, out, 77];
    launch(text, &mut memory, 1, 1, &params).unwrap();
    assert_eq!(memory.words(out), [4, 3, 2, 1, 5, 6, 5, 6, 77, 9, 2, 3]);
    let module = halite_cuda_emulator::ptx::load(text).unwrap();
    let k = &module.kernels[0];
    let places: Vec<_> = k.params.iter().map(|p| (p.offset, p.bytes)).collect();
    assert_eq!((places, k.param_bytes), (vec![(0, 32), (32, 8), (40, 2)], 42));
}

#[test]
fn registers_are_those_that_are_alive() {
    // Sums of as many values as there are loads before the first sum.
    let kernel_of = |n: usize, before: &str| {
        let mut code = String::from("mov.u32 %r0, 0;\n");
        (1..=n).for_each(|k| code += &format!("ld.volatile.shared.u32 %r{k}, [%r0];\n"));
        (1..=n).for_each(|k| code += &format!("add.u32 %r0, %r0, %r{k};\n"));
        let text = kernel(0, &code).replace("k()", &format!("k() {before}"));
        halite_cuda_emulator::ptx::load(&text).unwrap().kernels[0].registers
    };
    let few = kernel_of(4, "");
    assert!((5..20).contains(&few), "{few}");
    assert_eq!(kernel_of(40, ""), few + 36);
    assert_eq!(kernel_of(40, ".maxntid 1024, 1, 1"), few + 36);
    assert_eq!(kernel_of(59, ".maxntid 32, 32"), 64);
}

#[test]
fn variables_of_the_module() {
    let text = "
        .version 8.0
        .target sm_80
        .address_size 64
        .const .align 4 .f32 c[3] = {0f3F800000, 0f40000000, 4.5};
        .visible .global .align 8 .b8 g[16] = {1, 2, 3, 0xFF};
        .global .u32 n;
        .extern .shared .align 16 .b8 dynamic[];
        .shared .align 4 .b8 own[8];
        .entry k(.param .u64 out)
        {
            .reg .b32 %r<9>;
            .reg .b64 %d<9>;
            ld.param.u64 %d1, [out];
            ld.const.u32 %r1, [c+8];
            ld.global.u32 %r2, [g];
            mov.u64 %d2, g;
            ld.u32 %r3, [%d2+4];
            st.global.u32 [n], 5;
            atom.global.add.u32 %r4, [n], 6;
            ld.global.u32 %r5, [n];
            st.global.v4.u32 [%d1], {%r1, %r2, %r3, %r5};
            mov.u32 %r6, dynamic;
            st.shared.u32 [own+4], 8;
            st.shared.u32 [%r6+60], 9;
            mov.u32 %r7, dynamic+52;
            ld.shared.u32 %r7, [%r7+8];
            mov.u32 %r8, %dynamic_smem_size;
            st.global.v2.u32 [%d1+16], {%r6, %r7};
            st.global.u32 [%d1+24], %r8;
            ret;
        }";
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 7]);
    launch_with(text, 0, &mut memory, [1; 3], [1; 3], &[out], 64, 1).unwrap();
    assert_eq!(memory.words(out), [4.5_f32.to_bits(), 0xFF03_0201, 0, 11, 16, 9, 64]);
    let module = halite_cuda_emulator::ptx::load(text).unwrap();
    assert_eq!(
        module.globals.iter().map(|g| (g.name.as_str(), g.bytes, g.align)).collect::<Vec<_>>(),
        [("c", 12, 4), ("g", 16, 8), ("n", 4, 4)]
    );
    assert_eq!(module.kernels[0].static_shared, 8);
}

#[test]
fn spaces_have_generic_addresses() {
    let code = "
        .shared .align 8 .b8 s[512];
        .local .align 8 .b8 l[16];
        mov.u32 %r1, %tid.x;
        mov.u64 %d1, s;
        cvta.shared.u64 %d1, %d1;
        mad.wide.u32 %d1, %r1, 8, %d1;
        mov.u64 %d2, l;
        cvta.local.u64 %d3, %d2;
        mul.lo.u32 %r2, %r1, 7;
        st.u32 [%d1], %r2;
        st.u32 [%d3+8], %r1;
        cvta.to.shared.u64 %d4, %d1;
        cvt.u32.u64 %r3, %d4;
        ld.shared.u32 %r4, [%r3];
        ld.local.u32 %r5, [l+8];
        isspacep.shared %p1, %d1;
        isspacep.local %p2, %d1;
        isspacep.local %p3, %d3;
        isspacep.global %p4, %d3;
        isspacep.global %p5, %d39;
        mad.lo.u32 %r6, %r4, 1000, %r5;
        @%p1 add.u32 %r6, %r6, 100000;
        @%p2 add.u32 %r6, %r6, 200000;
        @%p3 add.u32 %r6, %r6, 400000;
        @%p4 add.u32 %r6, %r6, 800000;
        @%p5 add.u32 %r6, %r6, 1600000;";
    let out = warp(code, &[("%d5", &[0; 32])], "%r6");
    for l in 0..32_u64 {
        assert_eq!(out[l as usize], 7 * l * 1000 + l + 2_100_000);
    }
}

/// Runs an atomic operation in 64 threads on one word, and gives the word and what each thread got.
fn atomic(code: &str, start: u32) -> (u32, Vec<u32>) {
    let mut memory = Memory::default();
    let (word, got) = (memory.add_words(&[start]), memory.add_words(&[0; 64]));
    let code = format!(
        "ld.param.u64 %d1, [p0];
        ld.param.u64 %d2, [p1];
        mov.u32 %r1, %tid.x;
        mad.wide.u32 %d2, %r1, 4, %d2;
        {code}
        st.global.u32 [%d2], %r2;"
    );
    launch(&kernel(2, &code), &mut memory, 1, 64, &[word, got]).unwrap();
    (memory.words(word)[0], memory.words(got))
}

#[test]
fn atomic_operations() {
    let (sum, got) = atomic("atom.global.add.u32 %r2, [%d1], %r1;", 5);
    assert_eq!(sum, 5 + 63 * 64 / 2);
    assert!((0..64).all(|k| got[k as usize] == 5 + k * (k.max(1) - 1) / 2));
    assert_eq!(atomic("atom.global.min.s32 %r2, [%d1], %r1;", -3_i32 as u32).0, -3_i32 as u32);
    assert_eq!(atomic("atom.global.min.u32 %r2, [%d1], %r1;", -3_i32 as u32).0, 0);
    assert_eq!(atomic("atom.relaxed.gpu.global.max.s32 %r2, [%d1], %r1;", -3_i32 as u32).0, 63);
    assert_eq!(atomic("atom.global.or.b32 %r2, [%d1], %r1;", 64).0, 127);
    assert_eq!(atomic("atom.global.xor.b32 %r2, [%d1], 1;", 6).0, 6);
    assert_eq!(atomic("atom.global.inc.u32 %r2, [%d1], 9;", 0).0, 4);
    assert_eq!(atomic("atom.global.dec.u32 %r2, [%d1], 9;", 0).0, 6);
    assert_eq!(atomic("atom.global.exch.b32 %r2, [%d1], %r1;", 1).0, 63);
    let cas = atomic("add.u32 %r3, %r1, 1; atom.global.cas.b32 %r2, [%d1], %r1, %r3;", 0);
    assert_eq!(cas, (64, (0..64).collect()));
    let float = atomic("red.global.add.f32 [%d1], 0f3F000000; mov.u32 %r2, 0;", 0);
    assert_eq!(float.0, 32.0_f32.to_bits());
    let halves = atomic("atom.global.add.noftz.f16x2 %r2, [%d1], %r3; mov.u32 %r2, 0;", 0x3C00_3C00);
    assert_eq!(halves.0, 0x3C00_3C00);
    let shared = "
        .shared .align 8 .u64 s;
        setp.eq.u32 %p1, %r1, 0;
        @%p1 st.shared.u64 [s], 0;
        bar.sync 0;
        cvt.u64.u32 %d3, %r1;
        atom.shared.add.u64 %d4, [s], %d3;
        bar.sync 0;
        ld.shared.u32 %r2, [s];";
    assert_eq!(atomic(shared, 0).1, [63 * 32; 64]);
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let mut memory = Memory::default();
    let from = memory.add_words(&(100..228).collect::<Vec<_>>());
    let out = memory.add_words(&[0; 32 * 4]);
    let code = "
        .shared .align 16 .b8 s[1536];
        ld.param.u64 %d1, [p0];
        ld.param.u64 %d2, [p1];
        mov.u32 %r1, %tid.x;
        mad.wide.u32 %d3, %r1, 16, %d1;
        mad.wide.u32 %d4, %r1, 16, %d2;
        mov.u32 %r2, s;
        mad.lo.u32 %r3, %r1, 16, %r2;
        mov.u32 %r4, 1;
        st.shared.v4.u32 [%r3], {%r4, %r4, %r4, %r4};
        st.shared.v4.u32 [%r3+512], {%r4, %r4, %r4, %r4};
        st.shared.v4.u32 [%r3+1024], {%r4, %r4, %r4, %r4};
        cp.async.cg.shared.global [%r3], [%d3], 16;
        cp.async.commit_group;
        cp.async.ca.shared.global.L2::128B [%r3+512], [%d3], 8, 4;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r3+1024], [%d3], 4;
        cp.async.wait_group 1;
        ld.shared.u32 %r5, [%r3+12];
        ld.shared.u32 %r6, [%r3+512];
        cp.async.wait_group 0;
        ld.shared.v2.u32 {%r7, %r8}, [%r3+512];
        add.u32 %r6, %r6, %r7;
        ld.shared.u32 %r9, [%r3+1024];
        cp.async.wait_all;
        ld.shared.u32 %r10, [%r3+1024];
        sub.u32 %r9, %r10, %r9;
        st.global.v4.u32 [%d4], {%r5, %r6, %r8, %r9};";
    launch(&kernel(2, code), &mut memory, 1, 32, &[from, out]).unwrap();
    for (l, words) in memory.words(out).chunks_exact(4).enumerate() {
        let first = 100 + 4 * l as u32;
        assert_eq!(words, [first + 3, first + 1, 0, first - 1], "lane {l}");
    }
}

#[test]
fn a_copy_of_nothing_reads_nothing() {
    let mut memory = Memory::default();
    let from = memory.add_words(&[1; 4]);
    let out = memory.add_words(&[5; 4]);
    let code = "
        .shared .align 16 .b8 s[16];
        ld.param.u64 %d1, [p0];
        ld.param.u64 %d2, [p1];
        mov.u32 %r1, 0;
        cp.async.cg.shared.global [s], [%d1+4096], 16, %r1;
        cp.async.wait_all;
        ld.shared.v4.u32 {%r2, %r3, %r4, %r5}, [s];
        st.global.v4.u32 [%d2], {%r2, %r3, %r4, %r5};";
    launch(&kernel(2, code), &mut memory, 1, 1, &[from, out]).unwrap();
    assert_eq!(memory.words(out), [0; 4]);
}
