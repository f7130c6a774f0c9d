//! What kernels do wrong is found, where it is, and nothing where there is nothing.

use crate::harness::{Memory, kernel, launch, launch_with};
use halite_cuda_emulator::exec::{Fault, FaultKind};
use halite_cuda_emulator::ptx::load;

/// Runs a fixture's kernel `broken`, or `sound`, over 1, 2, 3, … in a buffer of as many words as threads.
fn run(text: &str, broken: bool, threads: u32, dynamic_shared: u32) -> (Result<(), Fault>, Vec<u32>) {
    let integers = text.contains("(int *x)");
    let mut memory = Memory::default();
    let value = |k: u32| if integers { k } else { (k as f32).to_bits() };
    let x = memory.add_words(&(1..=threads).map(value).collect::<Vec<_>>());
    let number = if broken { 0 } else { 1 };
    let done = launch_with(text, number, &mut memory, [1; 3], [threads, 1, 1], &[x], dynamic_shared, 1);
    (done, memory.words(x))
}

/// That the fixture's broken kernel fails so, in a place that is told, and that the sound one doesn't.
#[track_caller]
fn check(text: &str, threads: u32, dynamic_shared: u32, kind: FaultKind, says: &[&str]) {
    let fault = run(text, true, threads, dynamic_shared).0.expect_err("the broken kernel fails");
    assert_eq!(fault.kind, kind, "{fault}");
    let line = fault.message.split("line ").nth(1).and_then(|m| m.split(' ').next()).unwrap();
    let line = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap();
    assert!(fault.message.starts_with("broken, line "), "{fault}");
    for part in says {
        assert!(fault.message.contains(part) || line.contains(part), "{fault} at {line}");
    }
    if let Err(fault) = run(text, false, threads, dynamic_shared).0 {
        panic!("the sound kernel: {fault}");
    }
}

#[test]
fn accesses_out_of_bounds() {
    let text = include_str!("../fixtures/out_of_bounds.ptx");
    let says = ["thread [63, 0, 0]", "a write of 4 bytes", "out of bounds", "st.global.u32"];
    check(text, 64, 0, FaultKind::IllegalAddress, &says);
    let mut memory = Memory::default();
    let x = memory.add_words(&[0; 64]);
    memory.free(x);
    let fault = launch(text, &mut memory, 1, 64, &[x]).unwrap_err();
    assert!(fault.kind == FaultKind::IllegalAddress && fault.message.contains("freed"), "{fault}");
}

#[test]
fn misaligned_accesses() {
    let text = include_str!("../fixtures/misaligned.ptx");
    check(text, 64, 0, FaultKind::MisalignedAddress, &["thread [0, 0, 0]", "8 bytes at", "st.global.v2.f32"]);
}

#[test]
fn shared_memory_out_of_bounds() {
    let text = include_str!("../fixtures/shared_out_of_bounds.ptx");
    let says = ["thread [32, 0, 0]", "4 bytes at 0x100 of 0x100 bytes of shared memory", "st.shared.f32"];
    check(text, 64, 256, FaultKind::IllegalAddress, &says);
}

#[test]
fn local_memory_out_of_bounds() {
    let text = include_str!("../fixtures/local_out_of_bounds.ptx");
    check(text, 32, 0, FaultKind::IllegalAddress, &["thread [7, 0, 0]", "of local memory", "ld.local"]);
}

#[test]
fn reads_of_what_was_never_written() {
    let text = include_str!("../fixtures/uninitialised_shared.ptx");
    let says = ["thread [23, 0, 0]", "at 0xa0 of shared memory that were never written", "ld.shared.f32"];
    check(text, 64, 0, FaultKind::LaunchFailure, &says);
}

#[test]
fn an_exchange_is_a_first_write() {
    let code = |op: &str| kernel(0, &format!(".shared .align 4 .u32 s; atom.shared.{op} %r1, [s], 1;"));
    launch(&code("exch.b32"), &mut Memory::default(), 1, 64, &[]).unwrap();
    let fault = launch(&code("add.u32"), &mut Memory::default(), 1, 64, &[]).unwrap_err();
    assert!(fault.message.contains("never written"), "{fault}");
}

#[test]
fn races_between_warps() {
    let text = include_str!("../fixtures/race.ptx");
    let says = ["thread [32, 0, 0]", "a race", "is read, and was written by thread 31", "ld.shared.f32"];
    check(text, 64, 0, FaultKind::LaunchFailure, &says);
}

#[test]
fn races_within_a_warp() {
    let text = include_str!("../fixtures/race_in_warp.ptx");
    check(text, 32, 0, FaultKind::LaunchFailure, &["a race", "was written by thread 31", "ld.shared.f32"]);
}

#[test]
fn writes_of_several_threads_to_one_place() {
    let text = include_str!("../fixtures/writes_to_one_place.ptx");
    check(text, 64, 0, FaultKind::LaunchFailure, &["a race", "was written by thread 0", "st.shared.f32"]);
}

#[test]
fn barriers_that_not_all_lanes_reach() {
    let text = include_str!("../fixtures/divergent_barrier.ptx");
    let says = ["barrier divergence", "only ffffffe0 are at the barrier", "bar.sync"];
    check(text, 64, 0, FaultKind::LaunchFailure, &says);
}

#[test]
fn threads_that_end_before_a_barrier() {
    let text = include_str!("../fixtures/early_return.ptx");
    let says = ["barrier divergence", "32 threads of the block ended", "bar.sync"];
    check(text, 64, 0, FaultKind::LaunchFailure, &says);
}

#[test]
fn traps() {
    let text = include_str!("../fixtures/trap.ptx");
    check(text, 64, 0, FaultKind::LaunchFailure, &["a trap", "thread [32, 0, 0]", "trap;"]);
}

#[test]
fn copies_that_are_not_waited_for() {
    let text = include_str!("../fixtures/copy_not_waited_for.ptx");
    check(text, 64, 0, FaultKind::LaunchFailure, &["never written", "ld.shared.f32"]);
    let doubled: Vec<u32> = (1..=64).map(|k| (2.0 * k as f32).to_bits()).collect();
    assert_eq!(run(text, false, 64, 0).1, doubled);
}

#[test]
fn warps_that_others_wait_for_in_vain() {
    let code = "
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 32;
        @%p1 bra DONE;
        bar.sync 1, 64;
        DONE:";
    let fault = launch(&kernel(0, code), &mut Memory::default(), 1, 64, &[]).unwrap_err();
    assert!(fault.message.contains("others of the block never reach"), "{fault}");
    let code = "
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 7;
        @%p1 bra OTHER;
        shfl.sync.idx.b32 %r2, %r1, 0, 31, -1;
        bra DONE;
        OTHER:
        shfl.sync.idx.b32 %r2, %r1, 1, 31, -1;
        DONE:";
    let fault = launch(&kernel(0, code), &mut Memory::default(), 1, 32, &[]).unwrap_err();
    assert!(fault.message.contains("that never come"), "{fault}");
}

#[test]
fn parameters_are_not_written() {
    let code = "mov.b64 %d1, p0; cvta.param.u64 %d1, %d1; st.u32 [%d1], 1;";
    let fault = launch(&kernel(1, code), &mut Memory::default(), 1, 32, &[0]).unwrap_err();
    assert!(fault.message.contains("a store to the kernel's parameters"), "{fault}");
}

#[test]
fn the_first_block_that_fails_is_told() {
    let code = "
        ld.param.u64 %d1, [p0];
        mov.u32 %r1, %ctaid.x;
        setp.lt.u32 %p1, %r1, 5;
        @%p1 ret;
        st.global.u32 [%d1+4], %r1;";
    let mut memory = Memory::default();
    let x = memory.add_words(&[0]);
    let text = kernel(1, code);
    let fault = launch_with(&text, 0, &mut memory, [64, 1, 1], [256, 1, 1], &[x], 0, 4).unwrap_err();
    assert!(fault.message.contains("block [5, 0, 0]"), "{fault}");
}

#[test]
fn launches_that_no_device_takes() {
    let text = kernel(1, "");
    let mut memory = Memory::default();
    assert!(launch(&text, &mut memory, 1, 1025, &[0]).is_err());
    assert!(launch(&text, &mut memory, 0, 32, &[0]).is_err());
    assert!(launch(&text, &mut memory, 1, 32, &[]).unwrap_err().message.contains("8"));
}

#[test]
fn what_is_not_known_is_refused_with_its_line() {
    let first = kernel(0, "").lines().position(|l| l.is_empty()).unwrap() + 1;
    let cases = [
        ("frobnicate.u32 %r1, %r2;", "`frobnicate.u32` isn't known"),
        ("add.frob.u32 %r1, %r2, %r3;", "`.frob`"),
        ("add.u32 %r1, %r2;", "has 2 operands where it takes 3"),
        ("add.u32 %r1, %r2, %d1;", "a register of 64 bits where one of 32 is read"),
        ("add.u32 %d1, %r2, %r3;", "a register of 64 bits where one of 32 is written"),
        ("add.u32 %r1, %r2, %nothing;", "`%nothing` isn't declared"),
        ("add.u32 %r1, %r2, %r60;", "`%r60` isn't declared"),
        ("bra NOWHERE;", "there is no label `NOWHERE`"),
        ("call.uni vprintf;", "the function `vprintf`"),
        ("shfl.idx.b32 %r1, %r2, 0, 31;", "without `.sync`"),
        ("st.param.u32 [%d1], %r1;", "a store to a kernel's parameters"),
        ("cp.async.ca.shared.global [%r1], [%d1], 12;", "of 12 bytes isn't known"),
        ("add.u32 %r1, %r2, %r3", "expected"),
        ("mov.u32 %r1, 0xZ;", "not a number"),
        (".frob;", "`.frob` isn't known within a function"),
    ];
    for (code, says) in cases {
        let e = load(&kernel(0, code)).map(drop).expect_err(code);
        assert!(e.message.contains(says), "{code}: {e}");
        assert!((first..=first + 1).contains(&e.line), "{code}: {e}");
    }
    for text in ["frob", ".version 8.0\n.entry", ".entry k() {", ".global .u32 x = {1, 2};", ".func f() {} }"]
    {
        assert!(load(text).is_err(), "{text}");
    }
    let recursion = ".func f() { call f; ret; } .entry k() { call f; ret; }";
    assert!(load(recursion).unwrap_err().message.contains("calls itself"));
}
