//! Paths that part and meet, functions, barriers, and loops.

use crate::harness::{Memory, kernel, launch, launch_with, warp};

const LANES: [u64; 32] = {
    let mut all = [0; 32];
    let mut l = 0;
    while l < 32 {
        all[l] = l as u64;
        l += 1;
    }
    all
};

#[test]
fn arms_meet_before_lanes_vote() {
    let code = "
        mov.u32 %r1, %tid.x;
        and.b32 %r2, %r1, 1;
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra EVEN;
        mul.lo.u32 %r3, %r1, 3;
        bra.uni MET;
        EVEN:
        add.u32 %r3, %r1, 100;
        MET:
        activemask.b32 %r4;
        add.u32 %r3, %r3, %r4;";
    let out = warp(code, &[], "%r3");
    for l in 0..32_u32 {
        let own = if l % 2 == 0 { l + 100 } else { 3 * l };
        assert_eq!(out[l as usize] as u32, own.wrapping_sub(1), "lane {l}");
    }
}

#[test]
fn lanes_leave_a_loop_one_by_one() {
    let code = "
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, 0;
        mov.u32 %r3, 0;
        LOOP:
        add.u32 %r3, %r3, %r2;
        add.u32 %r2, %r2, 1;
        setp.le.u32 %p1, %r2, %r1;
        @%p1 bra LOOP;
        activemask.b32 %r4;
        not.b32 %r4, %r4;
        or.b32 %r3, %r3, %r4;";
    let out = warp(code, &[], "%r3");
    for l in 0..32_u64 {
        assert_eq!(out[l as usize], l * (l + 1) / 2, "lane {l}");
    }
}

#[test]
fn lanes_that_end_early_are_not_waited_for() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 32]);
    let code = "
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        setp.gt.u32 %p1, %r1, 9;
        @%p1 bra MORE;
        setp.lt.u32 %p2, %r1, 3;
        @%p2 ret;
        setp.eq.u32 %p3, %r1, 5;
        @!%p3 bra MORE;
        exit;
        MORE:
        activemask.b32 %r2;
        mad.wide.u32 %d2, %r1, 4, %d1;
        st.global.u32 [%d2], %r2;";
    launch(&kernel(1, code), &mut memory, 1, 32, &[out]).unwrap();
    let gone = 0b10_0111;
    for (l, w) in memory.words(out).into_iter().enumerate() {
        assert_eq!(w, if gone >> l & 1 == 1 { 0 } else { !gone }, "lane {l}");
    }
}

#[test]
fn a_lock_within_a_warp_is_no_deadlock() {
    let mut memory = Memory::default();
    let data = memory.add_words(&[0, 0]);
    let code = "
        ld.param.u64 %d1, [p0];
        TRY:
        atom.global.cas.b32 %r1, [%d1], 0, 1;
        setp.ne.u32 %p1, %r1, 0;
        @%p1 bra TRY;
        ld.volatile.global.u32 %r2, [%d1+4];
        add.u32 %r2, %r2, 1;
        st.volatile.global.u32 [%d1+4], %r2;
        atom.global.exch.b32 %r3, [%d1], 0;";
    launch(&kernel(1, code), &mut memory, 1, 32, &[data]).unwrap();
    assert_eq!(memory.words(data), [0, 32]);
}

#[test]
fn a_table_of_labels() {
    let code = "
        rem.u32 %r2, %r1, 3;
        ts: .branchtargets A, B, C;
        brx.idx %r2, ts;
        A: mov.u32 %r3, 10; bra MET;
        B: mov.u32 %r3, 20; bra MET;
        C: mov.u32 %r3, 30;
        MET:
        activemask.b32 %r4;
        not.b32 %r4, %r4;
        or.b32 %r3, %r3, %r4;";
    let out = warp(code, &[("%r1", &LANES)], "%r3");
    for l in 0..32 {
        assert_eq!(out[l], [10, 20, 30][l % 3], "lane {l}");
    }
}

#[test]
fn what_cannot_be_noticed_is_known() {
    let code = "
        .pragma \"nounroll\";
        .loc 1 2 3
        mov.u32 %r1, %clock;
        mov.u64 %d1, %globaltimer;
        prefetch.global.L2 [%d1];
        membar.gl;
        fence.acq_rel.gpu;
        fence.proxy.async.shared::cta;
        nanosleep.u32 20;
        brkpt;
        mov.u64 %d2, %clock64;
        cvt.u32.u64 %r2, %d2;
        setp.gt.u32 %p1, %r2, %r1;
        selp.u32 %r3, 1, 0, %p1;";
    assert_eq!(warp(code, &[], "%r3"), [1; 32]);
}

#[test]
fn threads_know_where_they_are() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 2 * 96 * 20]);
    let registers = [
        "tid.x",
        "tid.y",
        "tid.z",
        "ntid.x",
        "ntid.y",
        "ntid.z",
        "ctaid.x",
        "ctaid.y",
        "ctaid.z",
        "nctaid.x",
        "nctaid.y",
        "nctaid.z",
        "laneid",
        "warpid",
        "nwarpid",
        "lanemask_eq",
        "lanemask_lt",
        "lanemask_le",
        "lanemask_gt",
        "lanemask_ge",
    ];
    let mut code = String::from(
        "ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z; mov.u32 %r4, %ctaid.y;
        mad.lo.u32 %r2, %r3, 4, %r2; mad.lo.u32 %r1, %r2, 12, %r1; mad.lo.u32 %r1, %r4, 96, %r1;
        mad.wide.u32 %d1, %r1, 80, %d1;",
    );
    for (k, register) in registers.iter().enumerate() {
        code += &format!("mov.u32 %r5, %{register}; st.global.u32 [%d1+{}], %r5;", 4 * k);
    }
    launch_with(&kernel(1, &code), 0, &mut memory, [1, 2, 1], [12, 4, 2], &[out], 0, 1).unwrap();
    for (n, found) in memory.words(out).chunks_exact(20).enumerate() {
        let (block, n) = (n as u32 / 96, n as u32 % 96);
        let lane = n % 32;
        let (below, at) = ((1_u32 << lane) - 1, 1 << lane);
        let place = [n % 12, n / 12 % 4, n / 48, 12, 4, 2, 0, block, 0, 1, 2, 1, lane, n / 32, 3];
        assert_eq!(found[..15], place);
        assert_eq!(found[15..], [at, below, below | at, !(below | at), !below]);
    }
}

/// Functions with a loop and an early return, one of which calls the other.
const CALLS: &str = "
.version 8.0
.target sm_80
.address_size 64
.func (.param .b32 sum) triangle(.param .b32 n)
{
    .reg .pred %p<3>;
    .reg .b32 %r<5>;
    ld.param.u32 %r1, [n];
    setp.eq.u32 %p1, %r1, 0;
    mov.u32 %r2, 0;
    @%p1 bra DONE;
    LOOP:
    add.u32 %r2, %r2, %r1;
    sub.u32 %r1, %r1, 1;
    setp.ne.u32 %p2, %r1, 0;
    @%p2 bra LOOP;
    DONE:
    st.param.b32 [sum], %r2;
    ret;
}
.func (.param .b32 twice) double(.param .b32 n, .param .align 8 .b8 more[16])
{
    .reg .pred %p<3>;
    .reg .b32 %r<5>;
    .reg .b64 %rd<5>;
    ld.param.u32 %r1, [n];
    setp.gt.u32 %p1, %r1, 20;
    mov.u32 %r2, 7;
    st.param.b32 [twice], %r2;
    @%p1 ret;
    {
        .param .b32 param0;
        .param .b32 retval0;
        st.param.b32 [param0], %r1;
        call.uni (retval0), triangle, (param0);
        ld.param.b32 %r2, [retval0];
    }
    mov.b64 %rd1, more;
    ld.param.u32 %r3, [%rd1+12];
    mad.lo.u32 %r2, %r2, 2, %r3;
    st.param.b32 [twice], %r2;
    ret;
}
.visible .entry k(.param .u64 out)
{
    .reg .b32 %r<5>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    {
        .param .b32 param0;
        .param .align 8 .b8 param1[16];
        .param .b32 retval0;
        st.param.b32 [param0], %r1;
        st.param.v2.b32 [param1+8], {%r1, %r1};
        call.uni (retval0), double, (param0, param1);
        ld.param.b32 %r2, [retval0];
    }
    activemask.b32 %r3;
    not.b32 %r3, %r3;
    or.b32 %r2, %r2, %r3;
    mad.wide.u32 %rd2, %r1, 4, %rd1;
    st.global.u32 [%rd2], %r2;
    ret;
}
";

#[test]
fn functions_take_parameters_and_return() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 32]);
    launch(CALLS, &mut memory, 1, 32, &[out]).unwrap();
    for (l, w) in memory.words(out).into_iter().enumerate() {
        let l = l as u32;
        assert_eq!(w, if l > 20 { 7 } else { l * (l + 1) + l }, "lane {l}");
    }
}

#[test]
fn barriers_order_warps() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 128]);
    let code = "
        .shared .align 4 .b8 s[512];
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, s;
        shl.b32 %r3, %r1, 2;
        add.u32 %r4, %r2, %r3;
        st.shared.u32 [%r4], %r1;
        bar.sync 0;
        sub.u32 %r5, 508, %r3;
        add.u32 %r5, %r2, %r5;
        ld.shared.u32 %r6, [%r5];
        mad.wide.u32 %d2, %r1, 4, %d1;
        st.global.u32 [%d2], %r6;";
    launch(&kernel(1, code), &mut memory, 1, 128, &[out]).unwrap();
    assert_eq!(memory.words(out), (0..128).rev().collect::<Vec<_>>());
}

#[test]
fn barriers_count_and_vote() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 64]);
    let code = "
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 40;
        bar.red.popc.u32 %r2, 0, %p1;
        bar.red.and.pred %p2, 0, %p1;
        bar.red.or.pred %p3, 0, !%p1;
        selp.u32 %r3, 1000, 0, %p2;
        selp.u32 %r4, 2000, 0, %p3;
        add.u32 %r2, %r2, %r3;
        add.u32 %r2, %r2, %r4;
        mad.wide.u32 %d2, %r1, 4, %d1;
        st.global.u32 [%d2], %r2;";
    launch(&kernel(1, code), &mut memory, 1, 64, &[out]).unwrap();
    assert_eq!(memory.words(out), [2040; 64]);
}

#[test]
fn a_producer_arrives_and_a_consumer_waits() {
    let mut memory = Memory::default();
    let out = memory.add_words(&[0; 32]);
    let code = "
        .shared .align 4 .b8 s[128];
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        and.b32 %r2, %r1, 31;
        mov.u32 %r3, s;
        mad.lo.u32 %r4, %r2, 4, %r3;
        setp.lt.u32 %p1, %r1, 32;
        @%p1 bra CONSUME;
        add.u32 %r5, %r2, 7;
        st.shared.u32 [%r4], %r5;
        bar.arrive 1, 64;
        ret;
        CONSUME:
        bar.sync 1, 64;
        ld.shared.u32 %r6, [%r4];
        mad.wide.u32 %d2, %r2, 4, %d1;
        st.global.u32 [%d2], %r6;";
    launch(&kernel(1, code), &mut memory, 1, 64, &[out]).unwrap();
    assert_eq!(memory.words(out), (7..39).collect::<Vec<_>>());
}

#[test]
fn results_are_the_same_on_any_number_of_threads() {
    let code = "
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %tid.x;
        mov.u32 %r2, %ctaid.x;
        mov.u32 %r3, %ctaid.y;
        mov.u32 %r4, %nctaid.x;
        mov.u32 %r5, %ntid.x;
        mad.lo.u32 %r6, %r3, %r4, %r2;
        mad.lo.u32 %r7, %r6, %r5, %r1;
        mad.wide.u32 %d2, %r7, 4, %d1;
        st.global.u32 [%d2], %r7;
        cvt.rn.f32.u32 %f1, %r7;
        rcp.rn.f32 %f1, %f1;
        atom.global.add.f32 %f2, [%d1], %f1;";
    let run = |threads| {
        let mut memory = Memory::default();
        let out = memory.add_words(&[0; 16384]);
        launch_with(&kernel(1, code), 0, &mut memory, [16, 4, 1], [256, 1, 1], &[out], 0, threads).unwrap();
        memory.words(out)
    };
    let one = run(1);
    assert!((1..16384).all(|k| one[k] == k as u32));
    for _ in 0..3 {
        assert_eq!(run(4), one);
    }
}

#[test]
fn the_functions_of_cuda_c() {
    let mut memory = Memory::default();
    let values: Vec<f32> = (0..64).map(|k| 0.05 + 0.07 * k as f32).collect();
    let x = memory.add_words(&values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    let y = memory.add_words(&[0; 128]);
    launch(include_str!("../fixtures/functions.ptx"), &mut memory, 1, 64, &[x, y]).unwrap();
    let found: Vec<f64> = memory.words(y).into_iter().map(|w| f64::from(f32::from_bits(w))).collect();
    for (i, &v) in values.iter().enumerate() {
        let x = f64::from(v);
        let right = match i % 10 {
            0 => x.sin(),
            1 => x.exp(),
            2 => x.ln(),
            3 => x.powf(f64::from(1.7_f32)),
            4 => x.tan(),
            5 => x.tanh(),
            6 => f64::from(v * 1e6).cos(),
            7 => x.atan2(2.0),
            8 => f64::from(v * 100.0) % 7.0,
            _ => (0..5).map(|i| (-x * f64::from(i)).exp() / (1.0 + x.sqrt())).sum(),
        };
        assert!((found[i] - right).abs() <= 1e-6 * right.abs().max(1e-2), "{i}: {} is not {right}", found[i]);
        let scaled = (x + (i % 5) as f64) * found[i];
        assert!(
            (found[64 + i] - scaled).abs() <= 1e-6 * scaled.abs(),
            "{i}: {} is not {scaled}",
            found[64 + i]
        );
    }
}
