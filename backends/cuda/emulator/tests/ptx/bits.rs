//! Logic, shifts, fields and bytes, and what lanes choose by comparisons of integers.

use crate::compare::{EDGES, one, three, two, two_long, two_short};
use crate::harness::{numbers, warp};

#[test]
fn logic_and_shifts() {
    two("and.b32", |a, b| a & b);
    two("or.b32", |a, b| a | b);
    two("xor.b32", |a, b| a ^ b);
    two_long("xor.b64", |a, b| a ^ b);
    two_short("and.b16", |a, b| a & b);
    one("not.b32", "%r1", "%r2", |a| !a);
    one("cnot.b32", "%r1", "%r2", |a| u64::from(a == 0));
    two("shl.b32", |a, b| if b < 32 { a << b } else { 0 });
    two("shr.u32", |a, b| if b < 32 { a >> b } else { 0 });
    two("shr.s32", |a, b| ((a as i32) >> b.min(31)) as u32);
    let join = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
    three("shf.l.wrap.b32", |a, b, n| ((join(a, b) << (n & 31)) >> 32) as u32);
    three("shf.l.clamp.b32", |a, b, n| ((join(a, b) << n.min(32)) >> 32) as u32);
    three("shf.r.wrap.b32", |a, b, n| (join(a, b) >> (n & 31)) as u32);
    three("shf.r.clamp.b32", |a, b, n| (join(a, b) >> n.min(32)) as u32);
}

#[test]
fn shifts_of_every_amount() {
    let (a, n) = (numbers(1, &[]), std::array::from_fn(|l| 2 * l as u64 + 3));
    let inputs = [("%d1", &a), ("%r1", &n), ("%h1", &a)];
    let left = warp("shl.b64 %d2, %d1, %r1;", &inputs, "%d2");
    let right = warp("shr.s64 %d2, %d1, %r1;", &inputs, "%d2");
    let short = warp("shr.u16 %h2, %h1, %r1;", &inputs, "%h2");
    for l in 0..32 {
        let k = n[l] as u32;
        assert_eq!(left[l], a[l].checked_shl(k).unwrap_or(0), "{k}");
        assert_eq!(right[l] as i64, a[l] as i64 >> k.min(63), "{k}");
        assert_eq!(short[l] as u32, u32::from(a[l] as u16).checked_shr(k).unwrap_or(0), "{k}");
    }
}

#[test]
fn any_function_of_three_bits() {
    let (a, b, c) = (numbers(1, &[]), numbers(2, &[]), numbers(3, &[]));
    let inputs = [("%r1", &a), ("%r2", &b), ("%r3", &c)];
    let run = |table: u32| warp(&format!("lop3.b32 %r4, %r1, %r2, %r3, {table};"), &inputs, "%r4");
    // The tables are what the function gives for these (PTX ISA, `lop3`).
    let (ta, tb, tc) = (0xF0_u32, 0xCC_u32, 0xAA_u32);
    type OfThree = fn(u32, u32, u32) -> u32;
    let checks: [(u32, OfThree); 4] = [
        (ta & tb & tc, |a, b, c| a & b & c),
        ((ta ^ tb) | (!tc & 0xFF), |a, b, c| (a ^ b) | !c),
        ((ta & tb) | (!ta & tc & 0xFF), |a, b, c| (a & b) | (!a & c)),
        (tb, |_, b, _| b),
    ];
    for (table, f) in checks {
        let out = run(table);
        for l in 0..32 {
            assert_eq!(out[l] as u32, f(a[l] as u32, b[l] as u32, c[l] as u32), "{table:#x}");
        }
    }
}

#[test]
fn counts() {
    let low = |a: u64| a as u32;
    one("popc.b32", "%r1", "%r2", |a| low(a).count_ones().into());
    one("popc.b64", "%d1", "%r2", |a| a.count_ones().into());
    one("clz.b32", "%r1", "%r2", |a| low(a).leading_zeros().into());
    one("clz.b64", "%d1", "%r2", |a| a.leading_zeros().into());
    one("brev.b32", "%r1", "%r2", |a| low(a).reverse_bits().into());
    one("brev.b64", "%d1", "%d2", u64::reverse_bits);
    one("bfind.u32", "%r1", "%r2", |a| if low(a) == 0 { u64::MAX } else { low(a).ilog2().into() });
    one("bfind.shiftamt.u32", "%r1", "%r2", |a| {
        if low(a) == 0 { u64::MAX } else { low(a).leading_zeros().into() }
    });
    one("bfind.s64", "%d1", "%r2", |a| {
        let a = if (a as i64) < 0 { !a } else { a };
        if a == 0 { u64::MAX } else { a.ilog2().into() }
    });
}

/// The field bit by bit, as the PTX ISA puts it.
fn field(a: u64, at: u64, n: u64, size: u64, signed: bool) -> u64 {
    let bit = |k: u64| if k < size { a >> k & 1 } else { 0 };
    let top = if n == 0 { 0 } else { bit((at + n - 1).min(size - 1)) };
    let fill = if signed && n > 0 { top } else { 0 };
    (0..size).fold(0, |d, k| d | (if k < n && at + k < size { bit(at + k) } else { fill }) << k)
}

#[test]
fn fields() {
    let places: [u64; 10] = [0, 1, 5, 16, 30, 31, 32, 40, 63, 64];
    let (a, b) = (numbers(1, &[]), numbers(4, &[]));
    let (at, n) = (numbers(2, &places).map(|v| v % 65), numbers(3, &places).map(|v| v % 65));
    let inputs = [("%r1", &a), ("%r2", &at), ("%r3", &n), ("%d1", &a), ("%r5", &b), ("%d5", &b)];
    let unsigned = warp("bfe.u32 %r4, %r1, %r2, %r3;", &inputs, "%r4");
    let signed = warp("bfe.s32 %r4, %r1, %r2, %r3;", &inputs, "%r4");
    let long = warp("bfe.s64 %d4, %d1, %r2, %r3;", &inputs, "%d4");
    let inserted = warp("bfi.b32 %r4, %r1, %r5, %r2, %r3;", &inputs, "%r4");
    let inserted_long = warp("bfi.b64 %d4, %d1, %d5, %r2, %r3;", &inputs, "%d4");
    for l in 0..32 {
        let (low, at, n) = (a[l] & 0xFFFF_FFFF, at[l], n[l]);
        assert_eq!(unsigned[l], field(low, at, n, 32, false), "{at} {n}");
        assert_eq!(signed[l], field(low, at, n, 32, true), "{at} {n}");
        assert_eq!(long[l], field(a[l], at, n, 64, true), "{at} {n}");
        let insert = |size| {
            (0..size).fold(0, |d, k| {
                let bit = if k >= at && k < at + n { a[l] >> (k - at) & 1 } else { b[l] >> k & 1 };
                d | bit << k
            })
        };
        assert_eq!(inserted[l], insert(32), "{at} {n}");
        assert_eq!(inserted_long[l], insert(64), "{at} {n}");
    }
}

#[test]
fn bytes_are_permuted() {
    let bytes = |a: u32, b: u32| (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    three("prmt.b32", |a, b, c| {
        u32::from_le_bytes(std::array::from_fn(|k| {
            let select = c >> (4 * k) & 15;
            let byte = bytes(a, b)[(select & 7) as usize];
            match (select & 8 != 0, byte & 0x80 != 0) {
                (false, _) => byte,
                (true, sign) => {
                    if sign {
                        0xFF
                    } else {
                        0
                    }
                }
            }
        }))
    });
    // The tables of the PTX ISA, by selector.
    let tables: [(&str, [[usize; 4]; 4]); 6] = [
        ("f4e", [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]),
        ("b4e", [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]]),
        ("rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        ("ecl", [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3; 4]]),
        ("ecr", [[0; 4], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]]),
        ("rc16", [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]]),
    ];
    for (mode, table) in tables {
        three(&format!("prmt.b32.{mode}"), |a, b, c| {
            u32::from_le_bytes(table[(c & 3) as usize].map(|k| bytes(a, b)[k]))
        });
    }
}

#[test]
fn products_of_bytes() {
    let unsigned = |v: u32| v.to_le_bytes().map(i64::from);
    let signed = |v: u32| v.to_le_bytes().map(|b| i64::from(b as i8));
    let sum = |a: [i64; 4], b: [i64; 4]| (0..4).map(|k| a[k] * b[k]).sum::<i64>() as u32;
    three("dp4a.u32.u32", |a, b, c| sum(unsigned(a), unsigned(b)).wrapping_add(c));
    three("dp4a.s32.s32", |a, b, c| sum(signed(a), signed(b)).wrapping_add(c));
    three("dp4a.u32.s32", |a, b, c| sum(unsigned(a), signed(b)).wrapping_add(c));
    three("dp2a.lo.s32.s32", |a, b, c| {
        let (x, y) = (i64::from(a as i16), i64::from((a >> 16) as i16));
        ((x * signed(b)[0] + y * signed(b)[1]) as u32).wrapping_add(c)
    });
    three("dp2a.hi.u32.u32", |a, b, c| {
        let (x, y) = (i64::from(a & 0xFFFF), i64::from(a >> 16));
        ((x * unsigned(b)[2] + y * unsigned(b)[3]) as u32).wrapping_add(c)
    });
}

#[test]
fn comparisons_and_choices() {
    let (a, b) = (numbers(1, &EDGES), numbers(2, &EDGES));
    let (x, y) = (a.map(|v| v as u32), b.map(|v| v as u32));
    let inputs = [("%r1", &a), ("%r2", &b), ("%d1", &a), ("%d2", &b)];
    type Check = fn(u32, u32) -> bool;
    let checks: [(&str, Check); 9] = [
        ("eq.s32", |a, b| a == b),
        ("ne.b32", |a, b| a != b),
        ("lt.u32", |a, b| a < b),
        ("le.s32", |a, b| a as i32 <= b as i32),
        ("gt.s32", |a, b| a as i32 > b as i32),
        ("ge.u32", |a, b| a >= b),
        ("lo.u32", |a, b| a < b),
        ("hs.u32", |a, b| a >= b),
        ("lt.s16", |a, b| (a as i16) < b as i16),
    ];
    for (name, holds) in checks {
        let short = name.ends_with("16");
        let (p, q) = if short { ("%h1", "%h2") } else { ("%r1", "%r2") };
        let code =
            format!("setp.{name} %p1|%p2, {p}, {q}; selp.b32 %r3, 1, 2, %p1; @%p2 add.u32 %r3, %r3, 4;");
        let inputs = [(p, &a), (q, &b)];
        let out = warp(&code, &inputs, "%r3");
        for l in 0..32 {
            assert_eq!(out[l], if holds(x[l], y[l]) { 1 } else { 6 }, "{name} of {} and {}", x[l], y[l]);
        }
    }
    let code = "
        setp.lt.u32 %p1, %r1, 100;
        setp.gt.and.u32 %p2|%p3, %r1, %r2, %p1;
        setp.eq.or.s64 %p4, %d1, %d2, !%p1;
        and.pred %p5, %p4, %p2;
        xor.pred %p6, %p4, %p3;
        not.pred %p7, %p6;
        mov.u32 %r3, 0;
        @%p2 or.b32 %r3, %r3, 1;
        @%p3 or.b32 %r3, %r3, 2;
        @%p4 or.b32 %r3, %r3, 4;
        @%p5 or.b32 %r3, %r3, 8;
        @!%p7 or.b32 %r3, %r3, 16;
        set.lt.u32.u32 %r4, %r1, %r2;
        and.b32 %r4, %r4, 32;
        or.b32 %r3, %r3, %r4;
        slct.b32.s32 %r5, 64, 128, %r1;
        or.b32 %r3, %r3, %r5;";
    let out = warp(code, &inputs, "%r3");
    for l in 0..32 {
        let p1 = x[l] < 100;
        let (p2, p3) = (x[l] > y[l] && p1, x[l] <= y[l] && p1);
        let p4 = a[l] == b[l] || !p1;
        let bits = [p2, p3, p4, p4 && p2, p4 != p3, x[l] < y[l], x[l] as i32 >= 0, (x[l] as i32) < 0];
        let expected = bits.iter().enumerate().map(|(k, &bit)| u64::from(bit) << k).sum::<u64>();
        assert_eq!(out[l], expected, "{:#x} and {:#x}", x[l], y[l]);
    }
}

#[test]
fn registers_are_put_together_and_taken_apart() {
    let a = numbers(1, &[]);
    let code = "
        mov.b64 {%r1, %r2}, %d1;
        mov.b32 {%h1, %h2}, %r1;
        mov.b32 {%h3, %h4}, %r2;
        mov.b64 %d2, {%h4, %h3, %h2, %h1};
        mov.b32 {_, %h5}, %r1;
        cvt.u64.u16 %d3, %h5;
        add.u64 %d2, %d2, %d3;";
    let out = warp(code, &[("%d1", &a)], "%d2");
    for l in 0..32 {
        let halves: [u64; 4] = std::array::from_fn(|k| a[l] >> (16 * k) & 0xFFFF);
        let turned = halves.iter().fold(0, |v, h| v << 16 | h);
        assert_eq!(out[l], turned.wrapping_add(halves[1]));
    }
}
