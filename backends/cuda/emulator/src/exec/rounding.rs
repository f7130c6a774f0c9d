//! Arithmetic of floats, rounded as asked: to nearest even, towards zero, down or up.

use half::{bf16, f16};

/// To the nearest; ties to even.
pub(crate) const NEAREST: u8 = 0;
/// Towards zero.
pub(crate) const ZERO: u8 = 1;
/// Down.
pub(crate) const DOWN: u8 = 2;
/// Up.
pub(crate) const UP: u8 = 3;
/// To the nearest; ties away from zero.
pub(crate) const AWAY: u8 = 4;

/// The NaN that f32 arithmetic gives.
pub(crate) const NAN: f32 = f32::from_bits(0x7FFF_FFFF);

/// Zero for numbers too small to be normal, if `FLUSH`.
#[inline(always)]
pub(crate) fn flush<const FLUSH: bool>(x: f32) -> f32 {
    if FLUSH && x.abs() < f32::MIN_POSITIVE { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// What f32 arithmetic gives: one NaN, flushed, and clamped to [0, 1] if `CLAMP`.
#[inline(always)]
pub(crate) fn finish<const FLUSH: bool, const CLAMP: bool>(x: f32) -> f32 {
    if CLAMP {
        return if x > 0.0 { x.min(1.0) } else { 0.0 };
    }
    if x.is_nan() { NAN } else { flush::<FLUSH>(x) }
}

/// What was lost by rounding `a + b` to `sum` (Knuth's TwoSum).
fn lost(a: f64, b: f64, sum: f64) -> f64 {
    let other = sum - a;
    (a - (sum - other)) + (b - other)
}

/// `sum + error`, rounded so that rounding once more, to at most 50 bits, gives what rounding once would: to the
/// neighbour whose last bit is set (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
pub(crate) fn odd(sum: f64, error: f64) -> f64 {
    if error == 0.0 || error.is_nan() || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        sum
    } else if error > 0.0 {
        sum.next_up()
    } else {
        sum.next_down()
    }
}

/// `value`, the nearest to an exact result that is greater by something of `error`'s sign, rounded as asked.
pub(crate) fn direct(value: f64, error: f64, mode: u8) -> f64 {
    let down = mode == DOWN || mode == ZERO && value > 0.0;
    let up = mode == UP || mode == ZERO && value < 0.0;
    if error < 0.0 && down {
        value.next_down()
    } else if error > 0.0 && up {
        value.next_up()
    } else {
        value
    }
}

/// An f64 as f32.
pub(crate) fn f32_of(x: f64, mode: u8) -> f32 {
    let near = x as f32;
    let (exact, value) = (x, f64::from(near));
    match mode {
        NEAREST => near,
        DOWN if value > exact => near.next_down(),
        UP if value < exact => near.next_up(),
        ZERO if value.abs() > exact.abs() => {
            if near > 0.0 {
                near.next_down()
            } else {
                near.next_up()
            }
        }
        _ => near,
    }
}

/// Zero with the sign that a sum of opposite numbers has.
fn sum_of_opposites(a: f64, b: f64, mode: u8) -> f64 {
    if a == 0.0 && b == 0.0 && a.is_sign_negative() == b.is_sign_negative() {
        a
    } else if mode == DOWN {
        -0.0
    } else {
        0.0
    }
}

/// `a + b` of f64 with all that rounding an f32 needs.
fn sum_f32(a: f64, b: f64, mode: u8) -> f32 {
    let sum = a + b;
    if sum == 0.0 {
        return sum_of_opposites(a, b, mode) as f32;
    }
    f32_of(odd(sum, lost(a, b, sum)), mode)
}

pub(crate) fn add_f32(a: f32, b: f32, mode: u8) -> f32 {
    sum_f32(f64::from(a), f64::from(b), mode)
}

pub(crate) fn mul_f32(a: f32, b: f32, mode: u8) -> f32 {
    f32_of(f64::from(a) * f64::from(b), mode)
}

pub(crate) fn fma_f32(a: f32, b: f32, c: f32, mode: u8) -> f32 {
    sum_f32(f64::from(a) * f64::from(b), f64::from(c), mode)
}

pub(crate) fn div_f32(a: f32, b: f32, mode: u8) -> f32 {
    let (a, b) = (f64::from(a), f64::from(b));
    let q = a / b;
    let left = (-q).mul_add(b, a);
    f32_of(odd(q, if b < 0.0 { -left } else { left }), mode)
}

pub(crate) fn sqrt_f32(a: f32, mode: u8) -> f32 {
    let a = f64::from(a);
    let root = a.sqrt();
    f32_of(odd(root, (-root).mul_add(root, a)), mode)
}

pub(crate) fn add_f64(a: f64, b: f64, mode: u8) -> f64 {
    let sum = a + b;
    if sum == 0.0 { sum_of_opposites(a, b, mode) } else { direct(sum, lost(a, b, sum), mode) }
}

pub(crate) fn mul_f64(a: f64, b: f64, mode: u8) -> f64 {
    let product = a * b;
    direct(product, a.mul_add(b, -product), mode)
}

pub(crate) fn fma_f64(a: f64, b: f64, c: f64, mode: u8) -> f64 {
    let value = a.mul_add(b, c);
    if mode == NEAREST || !value.is_finite() {
        return value;
    }
    let product = a * b;
    if value == 0.0 {
        return sum_of_opposites(product, c, mode);
    }
    // The exact result is product + low + c (Boldo and Muller, "Some functions computable with a fused-mac", 2005).
    let low = a.mul_add(b, -product);
    let u = c + low;
    let u_low = lost(c, low, u);
    let v = product + u;
    let v_low = lost(product, u, v);
    let gamma = (v - value) + v_low;
    direct(value, gamma + u_low, mode)
}

pub(crate) fn div_f64(a: f64, b: f64, mode: u8) -> f64 {
    let q = a / b;
    let left = (-q).mul_add(b, a);
    direct(q, if b < 0.0 { -left } else { left }, mode)
}

pub(crate) fn sqrt_f64(a: f64, mode: u8) -> f64 {
    let root = a.sqrt();
    direct(root, (-root).mul_add(root, a), mode)
}

/// A float as one of `digits` bits of significand (one of them implied) and exponents down to `least`, the largest
/// of which is `most`. Values beyond it are infinite or, towards zero, `most`.
fn narrow(x: f64, digits: i32, least: i32, most: f64, mode: u8) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let exponent = ((x.to_bits() >> 52 & 0x7FF) as i32 - 1023).max(least);
    let ulp = exponent - (digits - 1);
    // Powers of two, the second in two steps, since it may be beyond what f64 holds.
    let scaled = x * 2_f64.powi(-ulp / 2) * 2_f64.powi(-ulp - -ulp / 2);
    let whole = match mode {
        NEAREST => scaled.round_ties_even(),
        ZERO => scaled.trunc(),
        DOWN => scaled.floor(),
        UP => scaled.ceil(),
        _ => scaled.round(),
    };
    let value = whole * 2_f64.powi(ulp);
    if value.abs() <= most {
        return value.copysign(x);
    }
    let stays = mode == ZERO || mode == DOWN && x > 0.0 || mode == UP && x < 0.0;
    if stays { most.copysign(x) } else { f64::INFINITY.copysign(x) }
}

/// A float as f16. NaN becomes 0x7FFF.
pub(crate) fn f16_of(x: f64, mode: u8) -> f16 {
    if x.is_nan() {
        return f16::from_bits(0x7FFF);
    }
    // Exact: it was rounded.
    f16::from_f64(narrow(x, 11, -14, 65504.0, mode))
}

/// A float as bf16. NaN becomes 0x7FFF.
pub(crate) fn bf16_of(x: f64, mode: u8) -> bf16 {
    if x.is_nan() {
        return bf16::from_bits(0x7FFF);
    }
    bf16::from_f64(narrow(x, 8, -126, f64::from(bf16::MAX), mode))
}

/// An f32 with the significand of tf32, in the upper bits.
pub(crate) fn tf32_of(x: f32, mode: u8) -> f32 {
    if x.is_nan() { NAN } else { narrow(f64::from(x), 11, -126, f64::from(f32::MAX), mode) as f32 }
}

/// `a * b + c` in f16, rounded once.
pub(crate) fn fma_f16(a: f16, b: f16, c: f16) -> f16 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    f16_of(if sum == 0.0 { sum } else { odd(sum, lost(product, c, sum)) }, NEAREST)
}

/// `a * b + c` in bf16, rounded once.
pub(crate) fn fma_bf16(a: bf16, b: bf16, c: bf16) -> bf16 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    bf16_of(if sum == 0.0 { sum } else { odd(sum, lost(product, c, sum)) }, NEAREST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_sums_enclose_the_exact_one() {
        let tiny = f32::from_bits(1);
        assert_eq!(add_f32(1.0, tiny, DOWN), 1.0);
        assert_eq!(add_f32(1.0, tiny, UP), 1.0_f32.next_up());
        assert_eq!(add_f32(-1.0, -tiny, ZERO), -1.0);
        assert_eq!(add_f32(-1.0, -tiny, DOWN), (-1.0_f32).next_down());
        assert_eq!(add_f32(f32::MAX, f32::MAX, ZERO), f32::MAX);
        assert_eq!(add_f32(1.0, -1.0, DOWN).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(add_f64(1.0, 1e-300, UP), 1.0_f64.next_up());
        assert_eq!(mul_f64(1.0 + f64::EPSILON, 1.0 + f64::EPSILON, DOWN), 1.0 + 2.0 * f64::EPSILON);
        assert_eq!(fma_f64(1.0, 1.0, 1e-300, UP), 1.0_f64.next_up());
        assert_eq!(fma_f64(1.0, 1.0, -1e-300, ZERO), 1.0_f64.next_down());
    }

    #[test]
    fn rounding_to_nearest_is_what_the_host_does() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            f32::from_bits((state >> 32) as u32)
        };
        for _ in 0..20_000 {
            let (a, b, c) = (next(), next(), next());
            let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
            assert!(same(add_f32(a, b, NEAREST), a + b), "{a} + {b}");
            assert!(same(mul_f32(a, b, NEAREST), a * b), "{a} * {b}");
            assert!(same(fma_f32(a, b, c, NEAREST), a.mul_add(b, c)), "{a} * {b} + {c}");
            assert!(same(div_f32(a, b, NEAREST), a / b), "{a} / {b}");
            assert!(same(sqrt_f32(a, NEAREST), a.sqrt()), "{a}");
            let half = f16_of(f64::from(a), NEAREST);
            assert!(a.is_nan() || half.to_bits() == f16::from_f32(a).to_bits(), "{a} is {half}");
            let half = bf16_of(f64::from(a), NEAREST);
            assert!(a.is_nan() || half.to_bits() == bf16::from_f32(a).to_bits(), "{a} is {half}");
        }
    }

    #[test]
    fn narrowing_goes_where_it_is_told() {
        let x = 1.0 + 1.0 / 2048.0;
        assert_eq!(f16_of(x, NEAREST).to_bits(), 0x3C00);
        assert_eq!(f16_of(x, UP).to_bits(), 0x3C01);
        assert_eq!(f16_of(x, AWAY).to_bits(), 0x3C01);
        assert_eq!(f16_of(-x, ZERO).to_bits(), 0xBC00);
        assert_eq!(f16_of(1e9, NEAREST).to_bits(), 0x7C00);
        assert_eq!(f16_of(1e9, ZERO).to_bits(), 0x7BFF);
        assert_eq!(f16_of(1e-9, UP).to_bits(), 1);
        assert_eq!(bf16_of(1.0 + 1.0 / 512.0, UP).to_bits(), 0x3F81);
        assert_eq!(tf32_of(1.0 + 1.0 / 2048.0, AWAY).to_bits(), 0x3F80_2000);
        assert_eq!(f32_of(1.0 + 1e-12, UP), 1.0_f32.next_up());
    }
}
