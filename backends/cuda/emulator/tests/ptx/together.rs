//! What lanes of a warp do together.

use crate::harness::{numbers, warp};

#[test]
fn shuffles_by_the_definition() {
    let (a, b) = (numbers(1, &[]), numbers(2, &[]).map(|v| v % 34));
    for (mode, segments) in [("up", 0), ("down", 31), ("bfly", 31), ("idx", 31)] {
        for width in [32_u32, 8] {
            let c = (32 - width) << 8 | segments;
            let code = format!(
                "shfl.sync.{mode}.b32 %r3|%p1, %r1, %r2, {c}, -1; selp.u32 %r4, 1, 0, %p1; mov.b64 %d1, {{%r3, %r4}};"
            );
            let out = warp(&code, &[("%r1", &a), ("%r2", &b)], "%d1");
            for l in 0..32_u32 {
                let n = b[l as usize] as u32 & 31;
                let first = l / width * width;
                let last = first + width - 1;
                let from = match mode {
                    "up" => l.checked_sub(n).filter(|&k| k >= first),
                    "down" => Some(l + n).filter(|&k| k <= last),
                    "bfly" => Some(l ^ n).filter(|&k| k <= last),
                    _ => Some(first + n % width),
                };
                let value = a[from.unwrap_or(l) as usize] & 0xFFFF_FFFF;
                let expected = u64::from(from.is_some()) << 32 | value;
                assert_eq!(out[l as usize], expected, "{mode} {width} lane {l} by {n}");
            }
        }
    }
}

#[test]
fn votes_within_a_mask() {
    let a = numbers(3, &[]);
    let code = "
        mov.u32 %r1, %tid.x;
        setp.lt.u32 %p1, %r1, 16;
        and.b32 %r2, %r9, 1;
        setp.eq.u32 %p2, %r2, 1;
        selp.b32 %r3, 0xFFFF, 0xFFFF0000, %p1;
        vote.sync.ballot.b32 %r4, %p2, %r3;
        or.pred %p3, %p1, %p2;
        vote.sync.all.pred %p4, %p3, %r3;
        vote.sync.any.pred %p5, !%p3, %r3;
        vote.sync.uni.pred %p6, %p1, -1;
        @%p4 xor.b32 %r4, %r4, 0x100000;
        @%p5 xor.b32 %r4, %r4, 0x200000;
        @%p6 xor.b32 %r4, %r4, 0x400000;";
    let out = warp(code, &[("%r9", &a)], "%r4");
    let odd = (0..32).fold(0_u32, |m, l| m | (a[l] as u32 & 1) << l);
    for (l, &found) in out.iter().enumerate() {
        let all = l < 16 || odd >> 16 == 0xFFFF;
        let flip = if all { 0x10_0000 } else { 0x20_0000 };
        let mask = if l < 16 { 0xFFFF } else { 0xFFFF_0000 };
        assert_eq!(found as u32, odd & mask ^ flip, "lane {l}");
    }
}

#[test]
fn equal_values_find_each_other() {
    let a = numbers(4, &[]).map(|v| v % 5);
    let any = warp("match.any.sync.b32 %r2, %r1, -1;", &[("%r1", &a)], "%r2");
    let all = "match.all.sync.b64 %r2|%p1, %d1, -1; @!%p1 add.u32 %r2, %r2, 7;";
    let different = warp(all, &[("%d1", &a)], "%r2");
    let same = warp(all, &[("%d1", &[9 << 40; 32])], "%r2");
    for l in 0..32 {
        let mask = (0..32).filter(|&m| a[m] == a[l]).fold(0, |s, m| s | 1 << m);
        assert_eq!(any[l], mask);
        assert_eq!((different[l], same[l]), (7, 0xFFFF_FFFF));
    }
}

#[test]
fn reductions() {
    let a = numbers(5, &[]).map(|v| v & 0xFFFF_FFFF);
    let run = |code: &str| warp(&format!("redux.sync.{code} %r2, %r1, -1;"), &[("%r1", &a)], "%r2");
    let words = a.map(|v| v as u32);
    assert_eq!(run("add.s32")[3] as u32, words.iter().fold(0_u32, |s, &v| s.wrapping_add(v)));
    assert_eq!(run("min.s32")[0] as i32, words.iter().map(|&v| v as i32).min().unwrap());
    assert_eq!(run("max.u32")[31] as u32, *words.iter().max().unwrap());
    assert_eq!(run("xor.b32")[7] as u32, words.iter().fold(0, |s, v| s ^ v));
    assert_eq!(run("and.b32")[7] as u32, words.iter().fold(u32::MAX, |s, v| s & v));
}

#[test]
fn one_lane_is_elected() {
    let code = "
        mov.u32 %r1, %tid.x;
        mov.u32 %r3, 0;
        setp.ge.u32 %p1, %r1, 5;
        @!%p1 bra DONE;
        elect.sync %r2|%p2, 0xFFFFFFE0;
        selp.u32 %r3, 100, 50, %p2;
        add.u32 %r3, %r3, %r2;
        DONE:";
    let out = warp(code, &[], "%r3");
    for l in 0..32 {
        assert_eq!(out[l], [0, 105, 55][usize::from(l >= 5) + usize::from(l > 5)]);
    }
}

#[test]
fn lanes_on_different_paths_meet_at_one_instruction() {
    // The second of two paths jumps to the first one's shuffle.
    let code = "
        mov.u32 %r1, %tid.x;
        and.b32 %r2, %r1, 1;
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra EVEN;
        add.u32 %r1, %r1, 100;
        bra.uni SHUFFLE;
        EVEN:
        add.u32 %r1, %r1, 200;
        SHUFFLE:
        shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;";
    let out = warp(code, &[], "%r3");
    for l in 0..32_u64 {
        let other = l ^ 1;
        assert_eq!(out[l as usize], other + if other % 2 == 0 { 200 } else { 100 });
    }
}
