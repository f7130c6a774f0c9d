//! Floats of every size, and conversions between all types.

use crate::harness::{numbers, warp};
use half::{bf16, f16};

/// f32 that arithmetic stumbles over.
const SINGLES: [u64; 16] = [
    0,
    0x8000_0000,
    1,
    0x8000_0001,
    0x007F_FFFF,
    0x0080_0000,
    0x3F80_0000,
    0xBF80_0000,
    0x3F00_0000,
    0x4020_0000,
    0xC020_0000,
    0x4F00_0000,
    0x7F7F_FFFF,
    0x7F80_0000,
    0xFF80_0000,
    0x7FC0_0000,
];

const DOUBLES: [u64; 8] = [
    0,
    1 << 63,
    1,
    0x3FF0_0000_0000_0000,
    0xC004_0000_0000_0000,
    0x7FEF_FFFF_FFFF_FFFF,
    0x7FF0_0000_0000_0000,
    0x7FF8_0000_0000_0000,
];

const HALVES: [u64; 12] =
    [0, 0x8000, 1, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x3E01, 0x7BFF, 0x7C00, 0xFC00, 0x7E00];

type OfDoubles = fn(f64, f64, f64) -> f64;
type Holds = fn(f32, f32) -> bool;

fn same32(x: f32, y: f32) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

/// Checks an instruction of f32 operands.
fn single(code: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    let (a, b, c) = (numbers(1, &SINGLES), numbers(2, &SINGLES), numbers(3, &SINGLES));
    let inputs = [("%f1", &a), ("%f2", &b), ("%f3", &c)];
    let out = warp(&format!("{code};"), &inputs, "%f4");
    for l in 0..32 {
        let [x, y, z] = [a[l], b[l], c[l]].map(|v| f32::from_bits(v as u32));
        let (found, right) = (f32::from_bits(out[l] as u32), expected(x, y, z));
        assert!(same32(found, right), "{code} of {x:e}, {y:e}, {z:e} is {found:e}, not {right:e}");
    }
}

fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0.0_f32.copysign(x) } else { x }
}

#[test]
fn single_precision() {
    single("add.f32 %f4, %f1, %f2", |a, b, _| a + b);
    single("sub.rn.f32 %f4, %f1, %f2", |a, b, _| a - b);
    single("mul.rn.f32 %f4, %f1, %f2", |a, b, _| a * b);
    single("fma.rn.f32 %f4, %f1, %f2, %f3", f32::mul_add);
    single("div.rn.f32 %f4, %f1, %f2", |a, b, _| a / b);
    single("sqrt.rn.f32 %f4, %f1", |a, _, _| a.sqrt());
    single("rcp.rn.f32 %f4, %f1", |a, _, _| 1.0 / a);
    single("mul.rn.ftz.f32 %f4, %f1, %f2", |a, b, _| flush(flush(a) * flush(b)));
    single("fma.rn.ftz.f32 %f4, %f1, %f2, %f3", |a, b, c| flush(flush(a).mul_add(flush(b), flush(c))));
    single("add.sat.f32 %f4, %f1, %f2", |a, b, _| if a + b > 0.0 { (a + b).min(1.0) } else { 0.0 });
    single("neg.f32 %f4, %f1", |a, _, _| -a);
    single("abs.ftz.f32 %f4, %f1", |a, _, _| flush(a).abs());
    single("copysign.f32 %f4, %f1, %f2", |a, b, _| b.copysign(a));
    single("min.f32 %f4, %f1, %f2", |a, b, _| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b && a.is_sign_negative() => a,
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    });
    single("max.NaN.f32 %f4, %f1, %f2", |a, b, _| match a.is_nan() || b.is_nan() {
        true => f32::NAN,
        _ if a == b && a.is_sign_positive() => a,
        _ => {
            if a > b {
                a
            } else {
                b
            }
        }
    });
    single("ex2.approx.f32 %f4, %f1", |a, _, _| f64::from(a).exp2() as f32);
    single("lg2.approx.ftz.f32 %f4, %f1", |a, _, _| flush(f64::from(flush(a)).log2() as f32));
    single("sin.approx.f32 %f4, %f1", |a, _, _| f64::from(a).sin() as f32);
    single("cos.approx.ftz.f32 %f4, %f1", |a, _, _| flush(f64::from(flush(a)).cos() as f32));
    single("tanh.approx.f32 %f4, %f1", |a, _, _| f64::from(a).tanh() as f32);
    single("div.full.ftz.f32 %f4, %f1, %f2", |a, b, _| flush(flush(a) / flush(b)));
    single("rsqrt.approx.f32 %f4, %f1", |a, _, _| (1.0 / f64::from(a).sqrt()) as f32);
}

#[test]
fn directed_rounding_encloses_what_is_exact() {
    // The f64 result of f32 operands is within half a unit of f64 of the exact one.
    let checks: [(&str, OfDoubles); 6] = [
        ("add", |a, b, _| a + b),
        ("sub", |a, b, _| a - b),
        ("mul", |a, b, _| a * b),
        ("div", |a, b, _| a / b),
        ("fma", |a, b, c| a.mul_add(b, c)),
        ("sqrt", |a, _, _| a.sqrt()),
    ];
    let narrow = |v: u64| (0x3000_0000 + v % 0x1800_0000) | ((v >> 40 & 1) << 31);
    let (a, b, c) = (numbers(1, &[]).map(narrow), numbers(2, &[]).map(narrow), numbers(3, &[]).map(narrow));
    let a_positive = a.map(|v| v & 0x7FFF_FFFF);
    for (name, exact) in checks {
        let operands = match name {
            "sqrt" => "%f1",
            "fma" => "%f1, %f2, %f3",
            _ => "%f1, %f2",
        };
        let a = if name == "sqrt" { &a_positive } else { &a };
        let inputs = [("%f1", a), ("%f2", &b), ("%f3", &c)];
        let run = |mode: &str| warp(&format!("{name}.{mode}.f32 %f4, {operands};"), &inputs, "%f4");
        let [down, up, zero] = ["rm", "rp", "rz"].map(|m| run(m).map(|v| f32::from_bits(v as u32)));
        for l in 0..32 {
            let [x, y, z] = [a[l], b[l], c[l]].map(|v| f64::from(f32::from_bits(v as u32)));
            let right = exact(x, y, z);
            assert!(
                f64::from(down[l]) <= right && right <= f64::from(up[l]),
                "{name} of {x:e}, {y:e}, {z:e}"
            );
            assert!(up[l] == down[l] || up[l] == down[l].next_up(), "{name} of {x:e}, {y:e}, {z:e}");
            assert_eq!(zero[l], if right > 0.0 { down[l] } else { up[l] });
        }
    }
}

#[test]
fn double_precision() {
    let (a, b, c) = (numbers(1, &DOUBLES), numbers(2, &DOUBLES), numbers(3, &DOUBLES));
    let checks: [(&str, OfDoubles); 8] = [
        ("add.rn.f64 %e4, %e1, %e2", |a, b, _| a + b),
        ("sub.f64 %e4, %e1, %e2", |a, b, _| a - b),
        ("mul.rn.f64 %e4, %e1, %e2", |a, b, _| a * b),
        ("fma.rn.f64 %e4, %e1, %e2, %e3", f64::mul_add),
        ("div.rn.f64 %e4, %e1, %e2", |a, b, _| a / b),
        ("sqrt.rn.f64 %e4, %e1", |a, _, _| a.sqrt()),
        ("neg.f64 %e4, %e1", |a, _, _| -a),
        ("abs.f64 %e4, %e1", |a, _, _| a.abs()),
    ];
    for (code, expected) in checks {
        let inputs = [("%e1", &a), ("%e2", &b), ("%e3", &c)];
        let out = warp(&format!("{code};"), &inputs, "%e4");
        for l in 0..32 {
            let [x, y, z] = [a[l], b[l], c[l]].map(f64::from_bits);
            let (found, right) = (f64::from_bits(out[l]), expected(x, y, z));
            let same = found.to_bits() == right.to_bits() || found.is_nan() && right.is_nan();
            assert!(same, "{code} of {x:e}, {y:e}, {z:e} is {found:e}, not {right:e}");
        }
    }
}

#[test]
fn half_precision() {
    let (a, b, c) = (numbers(1, &HALVES), numbers(2, &HALVES), numbers(3, &HALVES));
    let checks: [(&str, OfDoubles); 5] = [
        ("add", |a, b, _| a + b),
        ("sub", |a, b, _| a - b),
        ("mul", |a, b, _| a * b),
        ("fma.rn", f64::mul_add),
        ("fma.rn.relu", |a, b, c| {
            let x = a.mul_add(b, c);
            if x <= 0.0 { 0.0 } else { x }
        }),
    ];
    for (name, exact) in checks {
        let (h, operands) = match name.starts_with("fma") {
            true => ("%h1, %h2, %h3", "%r1, %r2, %r3"),
            false => ("%h1, %h2", "%r1, %r2"),
        };
        let inputs = [("%h1", &a), ("%h2", &b), ("%h3", &c)];
        let out = warp(&format!("{name}.f16 %h4, {h};"), &inputs, "%h4");
        // One and the other in both halves.
        let pair = |low: &[u64; 32], high: &[u64; 32]| {
            std::array::from_fn(|l| low[l] & 0xFFFF | (high[l] & 0xFFFF) << 16)
        };
        let pairs = [pair(&a, &b), pair(&b, &c), pair(&c, &a)];
        let inputs = [("%r1", &pairs[0]), ("%r2", &pairs[1]), ("%r3", &pairs[2])];
        let both = warp(&format!("{name}.bf16x2 %r4, {operands};"), &inputs, "%r4");
        for l in 0..32 {
            let f = |v: u64| f64::from(f16::from_bits(v as u16));
            let right = f16::from_f64(exact(f(a[l]), f(b[l]), f(c[l])));
            let found = f16::from_bits(out[l] as u16);
            assert!(found == right || found.is_nan() && right.is_nan(), "{name} {found} {right}");
            for (shift, [x, y, z]) in [(0, [a[l], b[l], c[l]]), (16, [b[l], c[l], a[l]])] {
                let f = |v: u64| f64::from(bf16::from_bits(v as u16));
                let right = bf16::from_f64(exact(f(x), f(y), f(z)));
                let found = bf16::from_bits((both[l] >> shift) as u16);
                assert!(found == right || found.is_nan() && right.is_nan(), "{name} {found} {right}");
            }
        }
    }
}

#[test]
fn comparisons_know_nan() {
    let (a, b) = (numbers(1, &SINGLES), numbers(4, &SINGLES));
    let checks: [(&str, Holds); 10] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b && !a.is_nan() && !b.is_nan()),
        ("equ", |a, b| a == b || a.is_nan() || b.is_nan()),
        ("lt", |a, b| a < b),
        ("ge", |a, b| a >= b),
        ("neu", |a, b| a != b),
        ("ltu", |a, b| a < b || a.is_nan() || b.is_nan()),
        ("geu", |a, b| a >= b || a.is_nan() || b.is_nan()),
        ("num", |a, b| !a.is_nan() && !b.is_nan()),
        ("nan", |a, b| a.is_nan() || b.is_nan()),
    ];
    for (name, holds) in checks {
        let code = format!("setp.{name}.f32 %p1, %f1, %f2; selp.f32 %f4, 0f3F800000, 0f00000000, %p1;");
        let out = warp(&code, &[("%f1", &a), ("%f2", &b)], "%f4");
        for l in 0..32 {
            let (x, y) = (f32::from_bits(a[l] as u32), f32::from_bits(b[l] as u32));
            assert_eq!(out[l] != 0, holds(x, y), "{name} of {x} and {y}");
        }
    }
    let out = warp("testp.subnormal.f32 %p1, %f1; selp.u32 %r1, 1, 0, %p1;", &[("%f1", &a)], "%r1");
    for l in 0..32 {
        assert_eq!(out[l] == 1, f32::from_bits(a[l] as u32).is_subnormal());
    }
}

#[test]
fn pairs_of_halves_are_compared() {
    let (a, b) = (numbers(1, &[]), numbers(2, &[]));
    let code = "
        mov.u32 %r4, %tid.x;
        setp.lt.u32 %p1, %r4, 16;
        mov.pred %p2, %p1;
        @%p1 setp.lt.f16x2 %p1|%p2, %r1, %r2;
        selp.u32 %r3, 1, 0, %p1;
        @%p2 add.u32 %r3, %r3, 2;
        setp.ge.bf16x2 %p3|_, %r1, %r2;
        @%p3 add.u32 %r3, %r3, 4;";
    let out = warp(code, &[("%r1", &a), ("%r2", &b)], "%r3");
    for l in 0..32 {
        let f = |v: u64| f16::from_bits(v as u16);
        let low = l < 16 && f(a[l]) < f(b[l]);
        let high = l < 16 && f(a[l] >> 16) < f(b[l] >> 16);
        let brain = bf16::from_bits(a[l] as u16) >= bf16::from_bits(b[l] as u16);
        assert_eq!(out[l], u64::from(low) + 2 * u64::from(high) + 4 * u64::from(brain), "lane {l}");
    }
}

#[test]
fn floats_become_integers() {
    let mut a = numbers(5, &SINGLES);
    // Of the arbitrary ones, some within the range.
    (16..32).for_each(|l| a[l] = a[l] & 0x8FFF_FFFF | 0x4000_0000);
    let x = a.map(|v| f32::from_bits(v as u32));
    let run = |code: &str, to: &str| warp(&format!("{code} {to}, %f1;"), &[("%f1", &a)], to);
    let (near, down) = (run("cvt.rni.s32.f32", "%r1"), run("cvt.rmi.u32.f32", "%r1"));
    let (up, zero) = (run("cvt.rpi.s64.f32", "%d1"), run("cvt.rzi.u64.f32", "%d1"));
    let (byte, short) = (run("cvt.rzi.s8.f32", "%r1"), run("cvt.rzi.u16.f32", "%h1"));
    let whole = run("cvt.rmi.f32.f32", "%f2");
    for l in 0..32 {
        let x = x[l];
        assert_eq!(near[l] as u32 as i32, x.round_ties_even() as i32, "{x}");
        assert_eq!(down[l] as u32, x.floor() as u32, "{x}");
        // NaN is the topmost bit where one of the types has 64.
        assert_eq!(up[l] as i64, if x.is_nan() { i64::MIN } else { x.ceil() as i64 }, "{x}");
        assert_eq!(zero[l], if x.is_nan() { 1 << 63 } else { x as u64 }, "{x}");
        assert_eq!(byte[l] as u32 as i32, i32::from(x as i8), "{x}");
        assert_eq!(short[l] as u16, x as u16, "{x}");
        assert!(same32(f32::from_bits(whole[l] as u32), x.floor()));
    }
}

#[test]
fn integers_become_floats_and_other_integers() {
    let a = numbers(6, &[0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x8000_0000, 0xFF, 0x80, 0x0100_0001]);
    let run = |code: &str, from: &str, to: &str| warp(&format!("{code} {to}, {from};"), &[(from, &a)], to);
    let rn = run("cvt.rn.f32.s32", "%r1", "%f1");
    let up = run("cvt.rp.f32.u64", "%d1", "%f1");
    let down = run("cvt.rm.f32.u64", "%d1", "%f1");
    let double = run("cvt.rn.f64.s64", "%d1", "%e1");
    let half = run("cvt.rn.f16.u32", "%r1", "%h1");
    let byte = run("cvt.s32.s8", "%r1", "%r2");
    let unsigned = run("cvt.u64.u8", "%r1", "%d1");
    let clamped = run("cvt.sat.u8.s32", "%r1", "%r2");
    let narrow = run("cvt.s8.s64", "%d1", "%r2");
    for l in 0..32 {
        let (v, w) = (a[l], a[l] as u32 as i32);
        assert_eq!(rn[l] as u32, (w as f32).to_bits());
        let (low, high) = (f32::from_bits(down[l] as u32), f32::from_bits(up[l] as u32));
        assert!(low as u128 <= u128::from(v) && u128::from(v) <= high as u128, "{v}");
        assert!(low == high || low.next_up() == high);
        assert_eq!(double[l], (v as i64 as f64).to_bits());
        assert_eq!(half[l] as u16, f16::from_f64(f64::from(v as u32)).to_bits());
        assert_eq!(byte[l] as u32 as i32, i32::from(v as i8));
        assert_eq!(unsigned[l], v & 0xFF);
        assert_eq!(clamped[l] as i32, w.clamp(0, 255));
        assert_eq!(narrow[l] as u32 as i32, i32::from(v as i8));
    }
    let packed = warp("cvt.pack.sat.s8.s32.b32 %r3, %r1, %r2, %r4;", &[("%r1", &a), ("%r4", &a)], "%r3");
    for l in 0..32 {
        let high = (a[l] as i32).clamp(-128, 127) as u32 & 0xFF;
        assert_eq!(packed[l] as u32, (a[l] as u32) << 16 | high << 8);
    }
}

#[test]
fn floats_become_other_floats() {
    let a = numbers(7, &SINGLES).map(|v| v & 0xFFFF_FFFF);
    let b = numbers(8, &SINGLES).map(|v| v & 0xFFFF_FFFF);
    let inputs = [("%f1", &a), ("%f2", &b)];
    let half = warp("cvt.rn.f16.f32 %h1, %f1;", &inputs, "%h1");
    let zero = warp("cvt.rz.f16.f32 %h1, %f1;", &inputs, "%h1");
    let pair = warp("cvt.rn.bf16x2.f32 %r1, %f1, %f2;", &inputs, "%r1");
    let relu = warp("cvt.rn.relu.f16x2.f32 %r1, %f1, %f2;", &inputs, "%r1");
    let back = warp("cvt.rn.bf16.f32 %h1, %f1; cvt.f32.bf16 %f3, %h1;", &inputs, "%f3");
    let double = warp("cvt.f64.f32 %e1, %f1;", &inputs, "%e1");
    let clamped = warp("cvt.sat.f32.f32 %f3, %f1;", &inputs, "%f3");
    let flushed_double = warp("cvt.ftz.f64.f32 %e1, %f1;", &inputs, "%e1");
    let flushed = warp("cvt.ftz.f32.f32 %f3, %f1;", &inputs, "%f3");
    for l in 0..32 {
        let (x, y) = (f32::from_bits(a[l] as u32), f32::from_bits(b[l] as u32));
        let f = |bits: u64| f16::from_bits(bits as u16);
        let nan = |v: f16, of: f32| v.is_nan() && of.is_nan();
        assert!(f(half[l]) == f16::from_f32(x) || nan(f(half[l]), x), "{x:e}");
        let magnitude = f(zero[l]).to_f32().abs();
        assert!(
            magnitude <= x.abs() && f32::from(f16::from_bits(zero[l] as u16 + 1)).abs() > x.abs()
                || !x.is_finite()
                || magnitude == 65504.0,
            "{x:e}"
        );
        let both = [bf16::from_bits((pair[l] >> 16) as u16), bf16::from_bits(pair[l] as u16)];
        assert!(both[0] == bf16::from_f32(x) || x.is_nan() && both[0].is_nan());
        assert!(both[1] == bf16::from_f32(y) || y.is_nan() && both[1].is_nan());
        let low = f(relu[l]);
        assert!(low == f16::from_f32(if y <= 0.0 { 0.0 } else { y }) || nan(low, y));
        assert!(same32(f32::from_bits(back[l] as u32), bf16::from_f32(x).to_f32()));
        assert!(f64::from_bits(double[l]) == f64::from(x) || x.is_nan());
        assert!(f64::from_bits(flushed_double[l]) == f64::from(flush(x)) || x.is_nan());
        assert_eq!(f32::from_bits(clamped[l] as u32), if x > 0.0 { x.min(1.0) } else { 0.0 });
        assert!(same32(f32::from_bits(flushed[l] as u32), flush(x)), "{x:e}");
    }
}
