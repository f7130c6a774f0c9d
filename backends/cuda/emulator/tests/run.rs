//! Kernels run, and what they do wrong is found.

use halite_cuda_emulator::exec::{Fault, FaultKind, GlobalMemory, Launch, run};
use halite_cuda_emulator::ptx::load;

/// One allocation, at an address of its own.
struct Memory(Vec<u32>);

const BASE: u64 = 0x7000_0000;

impl GlobalMemory for Memory {
    fn resolve(&self, address: u64, bytes: u64, _: bool) -> Result<*mut u8, String> {
        let end = BASE + 4 * self.0.len() as u64;
        match address >= BASE && address + bytes <= end {
            true => Ok(self.0.as_ptr().cast_mut().cast::<u8>().wrapping_add((address - BASE) as usize)),
            false => Err(format!("{address:#x}: out of bounds")),
        }
    }
}

/// Runs `body`, in which %rd1 is the address of `words` and %r1 the thread, with `threads` threads in a block.
fn kernel(declared: &str, body: &str, threads: u32, words: &mut Vec<u32>) -> Result<(), Fault> {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry test(.param .u64 p)\n{{\n\
         .reg .pred %p<4>;\n.reg .b32 %r<9>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<5>;\n{declared}\n\
         ld.param.u64 %rd1, [p];\ncvta.to.global.u64 %rd1, %rd1;\nmov.u32 %r1, %tid.x;\n\
         mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd2, %rd1, %rd2;\n{body}\nret;\n}}\n"
    );
    let module = load(&text).expect("PTX");
    let memory = Memory(std::mem::take(words));
    let result = run(&Launch {
        kernel: &module.kernels[0],
        grid: [1; 3],
        block: [threads, 1, 1],
        dynamic_shared: 0,
        params: &BASE.to_le_bytes(),
        memory: &memory,
        globals: &[],
        checks: true,
        threads: 1,
    });
    *words = memory.0;
    result
}

/// The fault of a kernel that must have one.
fn fault(declared: &str, body: &str) -> Fault {
    kernel(declared, body, 64, &mut vec![0; 64]).expect_err("a fault")
}

const SHARED: &str = ".shared .align 4 .b8 s[256];";
/// %r2 is the place of the thread's word in shared memory, %r3 that of its neighbour's.
const PLACES: &str = "mov.u32 %r4, s;\nshl.b32 %r2, %r1, 2;\nxor.b32 %r3, %r2, 128;\n\
                      add.s32 %r2, %r2, %r4;\nadd.s32 %r3, %r3, %r4;\n";

#[test]
fn threads_part_and_meet() {
    let mut words = vec![0; 64];
    let body = "and.b32 %r2, %r1, 1;\nsetp.eq.s32 %p1, %r2, 1;\n@%p1 bra ODD;\nmov.u32 %r3, 10;\nbra.uni END;\n\
                ODD:\nmov.u32 %r3, 20;\nEND:\nshfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1;\nst.global.u32 [%rd2], %r4;";
    kernel("", body, 64, &mut words).expect("no fault");
    assert!(words.iter().enumerate().all(|(i, &w)| w == if i % 2 == 1 { 10 } else { 20 }), "{words:?}");
}

#[test]
fn exchanges_through_shared_memory_need_a_barrier() {
    let mut words = vec![0; 64];
    let body = format!(
        "{PLACES}st.shared.u32 [%r2], %r1;\nbar.sync 0;\nld.shared.u32 %r5, [%r3];\nst.global.u32 [%rd2], %r5;"
    );
    kernel(SHARED, &body, 64, &mut words).expect("no fault");
    assert!(words.iter().enumerate().all(|(i, &w)| w as usize == i ^ 32), "{words:?}");
    let found = fault(SHARED, &body.replace("bar.sync 0;\n", "").replace("128", "4"));
    assert!(found.message.contains("a race"), "{found}");
    assert_eq!(found.kind, FaultKind::LaunchFailure);
}

#[test]
fn what_was_never_written_is_not_read() {
    let found = fault(SHARED, &format!("{PLACES}ld.shared.u32 %r5, [%r2];"));
    assert!(found.message.contains("before anything was written"), "{found}");
}

#[test]
fn addresses_are_checked() {
    let found = fault("", "st.global.u32 [%rd2+4], %r1;");
    assert_eq!(found.kind, FaultKind::IllegalAddress);
    assert!(found.message.contains("thread 63"), "{found}");
    let found = fault("", "st.global.u32 [%rd2+2], %r1;");
    assert_eq!(found.kind, FaultKind::MisalignedAddress);
    let found = fault(SHARED, &format!("{PLACES}st.shared.u32 [%r2+4], %r1;"));
    assert_eq!(found.kind, FaultKind::IllegalAddress);
}

#[test]
fn all_threads_reach_a_barrier() {
    let found = fault("", "setp.gt.u32 %p1, %r1, 40;\n@%p1 bra END;\nbar.sync 0;\nEND:");
    assert!(found.message.contains("barrier divergence"), "{found}");
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let copy = format!("{PLACES}cp.async.ca.shared.global [%r2], [%rd2], 4;\ncp.async.commit_group;\n");
    let read = "ld.shared.u32 %r5, [%r2];\nadd.s32 %r5, %r5, 1;\nst.global.u32 [%rd2], %r5;";
    let mut words: Vec<u32> = (0..64).collect();
    kernel(SHARED, &format!("{copy}cp.async.wait_group 0;\n{read}"), 64, &mut words).expect("no fault");
    assert_eq!(words, (1..65).collect::<Vec<_>>());
    assert!(fault(SHARED, &format!("{copy}{read}")).message.contains("before anything was written"));
}

/// The f32 that `instruction`, to %f3, makes of %f1 and %f2.
fn of_two(instruction: &str, a: f32, b: f32) -> f32 {
    let mut words = vec![a.to_bits(), b.to_bits()];
    let body = format!(
        "ld.global.f32 %f1, [%rd1];\nld.global.f32 %f2, [%rd1+4];\n{instruction}\nst.global.f32 [%rd1], %f3;"
    );
    kernel("", &body, 1, &mut words).expect("no fault");
    f32::from_bits(words[0])
}

#[test]
fn floats_are_rounded_as_asked() {
    let tiny = f32::EPSILON / 8.0;
    assert_eq!(of_two("add.rn.f32 %f3, %f1, %f2;", 1.0, tiny), 1.0);
    assert_eq!(of_two("add.rp.f32 %f3, %f1, %f2;", 1.0, tiny), 1.0f32.next_up());
    assert_eq!(of_two("add.rz.f32 %f3, %f1, %f2;", 1.0, -tiny), 1.0f32.next_down());
    assert_eq!(of_two("add.rp.f32 %f3, %f1, %f2;", 1.0, 1e-30), 1.0f32.next_up());
    for (a, b) in [(1.1, 3.3), (-7.7, 1e-3), (1e20, 3e-20)] {
        assert_eq!(of_two("fma.rn.f32 %f3, %f1, %f2, %f1;", a, b), a.mul_add(b, a));
        assert_eq!(of_two("div.rn.f32 %f3, %f1, %f2;", a, b), a / b);
    }
    assert_eq!(of_two("add.ftz.f32 %f3, %f1, %f2;", 1e-40, 0.0), 0.0);
}

/// The word that `instruction`, to %r5, makes of %r3 and %r4.
fn of_words(instruction: &str, a: u32, b: u32) -> u32 {
    let mut words = vec![a, b];
    let body = format!(
        "ld.global.u32 %r3, [%rd1];\nld.global.u32 %r4, [%rd1+4];\n{instruction}\nst.global.u32 [%rd1], %r5;"
    );
    kernel("", &body, 1, &mut words).expect("no fault");
    words[0]
}

#[test]
fn integers_follow_rust() {
    for (a, b) in [(7, 3), (0xffff_fff9, 3), (0x8000_0000, 5), (12345, 0xffff_fffe)] {
        let (sa, sb) = (a as i32, b as i32);
        assert_eq!(of_words("div.s32 %r5, %r3, %r4;", a, b), (sa / sb) as u32);
        assert_eq!(of_words("rem.u32 %r5, %r3, %r4;", a, b), a % b);
        assert_eq!(of_words("max.s32 %r5, %r3, %r4;", a, b), sa.max(sb) as u32);
        assert_eq!(
            of_words("mul.hi.s32 %r5, %r3, %r4;", a, b),
            ((i64::from(sa) * i64::from(sb)) >> 32) as u32
        );
        assert_eq!(of_words("shr.s32 %r5, %r3, 4;", a, b), (sa >> 4) as u32);
        assert_eq!(of_words("bfi.b32 %r5, %r3, %r4, 4, 8;", a, b), (b & !0xff0) | (a & 0xff) << 4);
        assert_eq!(
            of_words("prmt.b32 %r5, %r3, %r4, 0x7610;", a, b),
            (a & 0xffff) | (b & 0xffff_0000) >> 8 << 8 & 0xffff_0000
        );
        assert_eq!(of_words("cvt.s32.s8 %r5, %r3;", a, b), i32::from(a as i8) as u32);
        assert_eq!(of_words("shf.l.wrap.b32 %r5, %r3, %r4, 8;", a, b), b << 8 | a >> 24);
    }
}

#[test]
fn unknown_instructions_are_named() {
    let text = ".visible .entry k()\n{\n.reg .b32 %r<2>;\nwhat.b32 %r1, %r1;\nret;\n}\n";
    let error = load(text).expect_err("an unknown instruction");
    assert_eq!(error.line, 4);
    assert!(error.message.contains("what.b32"), "{error}");
}

#[test]
fn what_nvrtc_writes_is_run() {
    let text = include_str!("fixtures/reverse.ptx");
    let result = |text: &str| {
        let module = load(text).expect("PTX");
        let memory = Memory((0..64).collect());
        let launch = Launch {
            kernel: &module.kernels[0],
            grid: [1; 3],
            block: [64, 1, 1],
            dynamic_shared: 0,
            params: &BASE.to_le_bytes(),
            memory: &memory,
            globals: &[],
            checks: true,
            threads: 1,
        };
        run(&launch).map(|()| memory.0)
    };
    assert_eq!(result(text).expect("no fault"), (0..64).map(|i| (63 - i) * 3 + 1).collect::<Vec<u32>>());
    let found = result(&text.replace("bar.sync", "// bar.sync")).expect_err("no barrier");
    assert!(found.message.contains("of shared memory"), "{found}");
}

#[test]
fn threads_have_local_memory() {
    let mut words = vec![0; 64];
    let body = "mov.u64 %rd3, l;\ncvta.local.u64 %rd4, %rd3;\nst.u32 [%rd4+4], %r1;\n\
                ld.local.u32 %r2, [%rd3+4];\nst.global.u32 [%rd2], %r2;";
    kernel(".local .align 4 .b8 l[8];", body, 64, &mut words).expect("no fault");
    assert_eq!(words, (0..64).collect::<Vec<_>>());
}

#[test]
fn the_largest_block_is_read() {
    let text = ".visible .entry k()\n.maxntid 8, 4, 2\n{\nret;\n}\n";
    let module = load(text).expect("PTX");
    assert_eq!((module.kernels[0].name.as_str(), module.kernels[0].max_threads), ("k", Some(64)));
}
