//! Arithmetic of integers.

use crate::compare::{EDGES, one, three, two, two_long, two_short};
use crate::harness::{numbers, warp};

#[test]
fn sums_and_products() {
    two("add.u32", u32::wrapping_add);
    two("add.s32", u32::wrapping_add);
    two("add.sat.s32", |a, b| (a as i32).saturating_add(b as i32) as u32);
    two("sub.sat.s32", |a, b| (a as i32).saturating_sub(b as i32) as u32);
    two("sub.s32", u32::wrapping_sub);
    two("mul.lo.s32", u32::wrapping_mul);
    two("mul.hi.u32", |a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    two("mul.hi.s32", |a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32);
    two("mul24.lo.u32", |a, b| (a & 0xFF_FFFF).wrapping_mul(b & 0xFF_FFFF));
    two("mul24.hi.s32", |a, b| {
        let low = |v: u32| i64::from(((v << 8) as i32) >> 8);
        ((low(a) * low(b)) >> 16) as u32
    });
    two_long("add.s64", u64::wrapping_add);
    two_long("sub.u64", u64::wrapping_sub);
    two_long("mul.lo.u64", u64::wrapping_mul);
    two_long("mul.hi.u64", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    two_long("mul.hi.s64", |a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64);
    two_short("add.s16", u16::wrapping_add);
    two_short("mul.lo.u16", u16::wrapping_mul);
    two_short("mul.hi.s16", |a, b| ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16);
    three("mad.lo.s32", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    three("mad.hi.u32", |a, b, c| ((u64::from(a) * u64::from(b)) >> 32).wrapping_add(u64::from(c)) as u32);
    three("mad.hi.sat.s32", |a, b, c| {
        (((i64::from(a as i32) * i64::from(b as i32)) >> 32) as i32).saturating_add(c as i32) as u32
    });
    three("sad.u32", |a, b, c| a.abs_diff(b).wrapping_add(c));
    three("sad.s32", |a, b, c| (a as i32).abs_diff(b as i32).wrapping_add(c));
}

#[test]
fn wide_products() {
    let (a, b, c) = (numbers(1, &EDGES), numbers(2, &EDGES), numbers(3, &EDGES));
    let inputs = [("%r1", &a), ("%r2", &b), ("%d1", &c)];
    let unsigned = warp("mad.wide.u32 %d2, %r1, %r2, %d1;", &inputs, "%d2");
    let signed = warp("mul.wide.s32 %d2, %r1, %r2;", &inputs, "%d2");
    let short = warp("mul.wide.s16 %r3, %h1, %h2;", &[("%h1", &a), ("%h2", &b)], "%r3");
    for l in 0..32 {
        let (x, y) = (a[l] as u32, b[l] as u32);
        assert_eq!(unsigned[l], (u64::from(x) * u64::from(y)).wrapping_add(c[l]));
        assert_eq!(signed[l] as i64, i64::from(x as i32) * i64::from(y as i32));
        assert_eq!(short[l] as i32, i32::from(x as i16) * i32::from(y as i16));
    }
}

#[test]
fn quotients_of_anything_but_zero() {
    two("div.u32", |a, b| a.checked_div(b).unwrap_or(u32::MAX));
    two("rem.u32", |a, b| a.checked_rem(b).unwrap_or(a));
    two("div.s32", |a, b| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 });
    two("rem.s32", |a, b| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 });
    two_long("div.u64", |a, b| a.checked_div(b).unwrap_or(u64::MAX));
    two_long("rem.s64", |a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 });
    two_short("div.s16", |a, b| if b == 0 { u16::MAX } else { (a as i16).wrapping_div(b as i16) as u16 });
}

#[test]
fn extremes_and_signs() {
    two("min.u32", u32::min);
    two("max.s32", |a, b| (a as i32).max(b as i32) as u32);
    two("min.s32", |a, b| (a as i32).min(b as i32) as u32);
    two("max.s32.relu", |a, b| (a as i32).max(b as i32).max(0) as u32);
    two_long("min.s64", |a, b| (a as i64).min(b as i64) as u64);
    two_long("max.u64", u64::max);
    two_short("min.s16", |a, b| (a as i16).min(b as i16) as u16);
    two("max.u16x2", |a, b| (a >> 16).max(b >> 16) << 16 | (a & 0xFFFF).max(b & 0xFFFF));
    two("min.s16x2", |a, b| {
        let low = (a as i16).min(b as i16) as u16;
        let high = ((a >> 16) as i16).min((b >> 16) as i16) as u16;
        u32::from(high) << 16 | u32::from(low)
    });
    one("abs.s32", "%r1", "%r2", |a| u64::from((a as i32).wrapping_abs() as u32));
    one("neg.s64", "%d1", "%d2", |a| a.wrapping_neg());
}

#[test]
fn a_carry_goes_through_two_words() {
    let (a, b) = (numbers(11, &EDGES), numbers(12, &EDGES));
    let code = "
        mov.b64 {%r1, %r2}, %d1;
        mov.b64 {%r3, %r4}, %d2;
        add.cc.u32 %r5, %r1, %r3;
        addc.u32 %r6, %r2, %r4;
        mov.b64 %d3, {%r5, %r6};
        sub.cc.u32 %r5, %r1, %r3;
        subc.u32 %r6, %r2, %r4;
        mov.b64 %d4, {%r5, %r6};
        xor.b64 %d3, %d3, %d4;";
    let out = warp(code, &[("%d1", &a), ("%d2", &b)], "%d3");
    let product = "
        mov.b64 {%r1, %r2}, %d1;
        mov.b64 {%r3, %r4}, %d2;
        mul.lo.u32 %r5, %r1, %r3;
        mul.hi.u32 %r6, %r1, %r3;
        mad.lo.cc.u32 %r6, %r1, %r4, %r6;
        madc.hi.u32 %r7, %r1, %r4, 0;
        mad.lo.cc.u32 %r6, %r2, %r3, %r6;
        madc.hi.u32 %r7, %r2, %r3, %r7;
        mov.b64 %d3, {%r5, %r6};";
    let products = warp(product, &[("%d1", &a), ("%d2", &b)], "%d3");
    for l in 0..32 {
        assert_eq!(out[l], a[l].wrapping_add(b[l]) ^ a[l].wrapping_sub(b[l]));
        assert_eq!(products[l], a[l].wrapping_mul(b[l]));
    }
}
