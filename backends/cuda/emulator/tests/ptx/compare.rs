//! Checks of instructions against functions of the host.

use crate::harness::{numbers, warp};

/// Values near the ends of types, and small ones.
pub const EDGES: [u64; 12] = [
    0,
    1,
    2,
    31,
    0x7F,
    0x80,
    0x7FFF,
    0xFFFF_8000,
    0x7FFF_FFFF,
    0x8000_0000_8000_0000,
    0x7FFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// Checks an instruction of two 32-bit operands.
pub fn two(code: &str, expected: impl Fn(u32, u32) -> u32) {
    let (a, b) = (numbers(1, &EDGES), numbers(2, &EDGES));
    let out = warp(&format!("{code} %r3, %r1, %r2;"), &[("%r1", &a), ("%r2", &b)], "%r3");
    for l in 0..32 {
        let (x, y) = (a[l] as u32, b[l] as u32);
        assert_eq!(out[l] as u32, expected(x, y), "{code} of {x:#x} and {y:#x}");
    }
}

/// The same of two 64-bit operands.
pub fn two_long(code: &str, expected: impl Fn(u64, u64) -> u64) {
    let (a, b) = (numbers(3, &EDGES), numbers(4, &EDGES));
    let out = warp(&format!("{code} %d3, %d1, %d2;"), &[("%d1", &a), ("%d2", &b)], "%d3");
    for l in 0..32 {
        assert_eq!(out[l], expected(a[l], b[l]), "{code} of {:#x} and {:#x}", a[l], b[l]);
    }
}

/// The same of two 16-bit operands.
pub fn two_short(code: &str, expected: impl Fn(u16, u16) -> u16) {
    let (a, b) = (numbers(5, &EDGES), numbers(6, &EDGES));
    let out = warp(&format!("{code} %h3, %h1, %h2;"), &[("%h1", &a), ("%h2", &b)], "%h3");
    for l in 0..32 {
        let (x, y) = (a[l] as u16, b[l] as u16);
        assert_eq!(out[l] as u16, expected(x, y), "{code} of {x:#x} and {y:#x}");
    }
}

/// Checks an instruction of three 32-bit operands.
pub fn three(code: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    let (a, b, c) = (numbers(7, &EDGES), numbers(8, &EDGES), numbers(9, &EDGES));
    let inputs = [("%r1", &a), ("%r2", &b), ("%r3", &c)];
    let out = warp(&format!("{code} %r4, %r1, %r2, %r3;"), &inputs, "%r4");
    for l in 0..32 {
        let (x, y, z) = (a[l] as u32, b[l] as u32, c[l] as u32);
        assert_eq!(out[l] as u32, expected(x, y, z), "{code} of {x:#x}, {y:#x} and {z:#x}");
    }
}

/// Checks an instruction of one operand, in registers that are named.
pub fn one(code: &str, from: &str, to: &str, expected: impl Fn(u64) -> u64) {
    let a = numbers(10, &EDGES);
    let out = warp(&format!("{code} {to}, {from};"), &[(from, &a)], to);
    for l in 0..32 {
        let x = if from.starts_with("%d") { a[l] } else { a[l] & 0xFFFF_FFFF };
        let mask = if to.starts_with("%d") { u64::MAX } else { 0xFFFF_FFFF };
        assert_eq!(out[l], expected(x) & mask, "{code} of {x:#x}");
    }
}
