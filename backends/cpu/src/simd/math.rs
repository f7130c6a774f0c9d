//! Numeric pieces that vectorise: exp, sigmoid, and reductions in a fixed order.

/// Partial sums of a reduction: the order in which elements are added doesn't depend on the instruction
/// set's width.
pub(crate) const LANES: usize = 32;

/// a · b + c.
#[inline(always)]
pub(crate) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// eˣ to within 2 ulp, subnormal results included; no branches.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; eʳ is a polynomial (minimax of degree 6), 2ⁿ is made of bits in
/// two steps, so that neither under- nor overflows early.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Written so that a NaN passes.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    // Adding 1.5·2²³ rounds to an integer, which then stands in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let k = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    // ln 2 in two parts, the first with trailing zeros.
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.381_443_3e-3;
    p = fma::<FMA>(p, r, 8.368_797e-3);
    p = fma::<FMA>(p, r, 4.166_839_6e-2);
    p = fma::<FMA>(p, r, 1.666_652e-1);
    p = fma::<FMA>(p, r, 0.499_999_93);
    let e = fma::<FMA>(p * r, r, r) + 1.0;
    let half = k >> 1;
    let pow2 = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    e * pow2(half) * pow2(k.wrapping_sub(half))
}

/// 1/(1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// x · sigmoid(x).
#[inline(always)]
pub(crate) fn silu<const FMA: bool>(x: f32) -> f32 {
    x * sigmoid::<FMA>(x)
}

/// y = f(x), element by element. Long functions must be `#[inline(always)]` items: closures may be left
/// as calls, and then nothing vectorises.
#[inline(always)]
pub(crate) fn map(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x);
    }
}

/// y = f(a, b), element by element.
#[inline(always)]
pub(crate) fn map2(a: &[f32], b: &[f32], y: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = f(*a, *b);
    }
}

/// Folds `f` over the elements in [`LANES`] interleaved parts, and joins those as a binary tree.
#[inline(always)]
pub(crate) fn fold(
    x: &[f32],
    first: f32,
    f: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [first; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for c in chunks {
        for (l, x) in lanes.iter_mut().zip(c) {
            *l = f(*l, *x);
        }
    }
    for (l, x) in lanes.iter_mut().zip(rest) {
        *l = f(*l, *x);
    }
    tree(&mut lanes, join)
}

/// As [`fold`], over pairs.
#[inline(always)]
pub(crate) fn fold2(a: &[f32], b: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((l, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *l = f(*l, *a, *b);
        }
    }
    for ((l, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *l = f(*l, *a, *b);
    }
    tree(&mut lanes, |a, b| a + b)
}

#[inline(always)]
fn tree(lanes: &mut [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] = join(lanes[i], lanes[i + n]);
        }
        n /= 2;
    }
    lanes[0]
}

/// Σ x.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(x, 0.0, |a, x| a + x, |a, b| a + b)
}

/// Σ x².
#[inline(always)]
pub(crate) fn sum_squares<const FMA: bool>(x: &[f32]) -> f32 {
    fold(x, 0.0, |a, x| fma::<FMA>(x, x, a), |a, b| a + b)
}

/// Σ a·b.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    fold2(a, b, |s, a, b| fma::<FMA>(a, b, s))
}

/// max x; −∞ of nothing.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    fold(x, f32::NEG_INFINITY, larger, larger)
}

/// y = exp(x − shift); returns Σ y.
#[inline(always)]
pub(crate) fn exp_shifted<const FMA: bool>(x: &[f32], shift: f32, y: &mut [f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks_mut::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for ((l, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *y = exp::<FMA>(x - shift);
            *l += *y;
        }
    }
    for ((l, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *y = exp::<FMA>(x - shift);
        *l += *y;
    }
    tree(&mut lanes, |a, b| a + b)
}

/// Σ exp(x − shift).
#[inline(always)]
pub(crate) fn exp_sum<const FMA: bool>(x: &[f32], shift: f32) -> f32 {
    fold(x, 0.0, |a, x| a + exp::<FMA>(x - shift), |a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::simd;

    simd! {
        fn exps(x: &[f32], y: &mut [f32]) {
            map(x, y, exp::<FMA>);
        }
    }

    fn ulps(got: f32, exact: f64) -> f64 {
        let ulp = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
        (f64::from(got) - exact).abs() / ulp
    }

    #[test]
    fn exp_is_within_two_ulps() {
        let x: Vec<f32> = (0..2_000_000).map(|i| -104.0 + i as f32 * (192.7 / 2_000_000.0)).collect();
        let mut y = vec![0.0; x.len()];
        exps(&x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let exact = f64::from(*x).exp();
            assert!(ulps(*y, exact) <= 2.0, "exp({x}) = {y}, not {exact}");
            assert!(ulps(exp::<false>(*x), exact) <= 2.0, "exp({x})");
        }
    }

    #[test]
    fn exp_of_the_extremes() {
        let cases = [
            (0.0, 1.0),
            (-0.0, 1.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::NEG_INFINITY, 0.0),
            (88.8, f32::INFINITY),
            (-104.5, 0.0),
            (f32::MIN, 0.0),
        ];
        for (x, y) in cases {
            assert_eq!(exp::<false>(x), y, "{x}");
            assert_eq!(exp::<true>(x), y, "{x}");
        }
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_take_every_element_once() {
        for n in [0usize, 1, 31, 32, 33, 64, 100] {
            let x: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let total = (n * (n + 1) / 2) as f32;
            assert_eq!((sum(&x), dot::<false>(&x, &vec![1.0; n])), (total, total));
            assert_eq!(max(&x), if n == 0 { f32::NEG_INFINITY } else { n as f32 });
        }
    }
}
