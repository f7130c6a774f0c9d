//! The searches for a scale that GGML's K types make: of candidates around the obvious one, that with the least
//! weighted error. Operations and their order are GGML's, so that the bits are.

/// Below this magnitude a group is zero.
pub(super) const NOTHING: f32 = 1e-15;

/// To nearest, ties to even, for magnitudes below 2²²; others give some integer.
pub(super) fn nearest(x: f32) -> i32 {
    // In the sum, units are the lowest bits.
    ((x + 12_582_912.0).to_bits() & 0x7f_ffff) as i32 - 0x40_0000
}

/// A scale and a minimum that is 0 or less, for `x[i] ≈ scale · levels[i] + min`, `levels[i]` in `0..=most`.
/// Candidates are `(first + 0.1 · i + most) / (max - min)` for `i` to `steps`, by the squared error times
/// `weights` (GGML's `make_qkx2_quants`). Returns scale and `-min`.
pub(super) fn scale_and_min(
    x: &[f32; 32],
    weights: &[f32; 32],
    most: u8,
    first: f32,
    steps: u8,
    levels: &mut [u8; 32],
) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
    for (&x, &w) in x.iter().zip(weights).skip(1) {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        sum_w += w;
        sum_x += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        levels.fill(0);
        return (0.0, -min);
    }
    let level = |x: f32, min: f32, inverse: f32| nearest(inverse * (x - min)).clamp(0, i32::from(most)) as u8;
    let error = |levels: &[u8; 32], scale: f32, min: f32| {
        let mut sum = 0.0;
        for ((&x, &w), &l) in x.iter().zip(weights).zip(levels) {
            let diff = scale * f32::from(l) + min - x;
            sum += w * (diff * diff);
        }
        sum
    };
    let inverse = f32::from(most) / (max - min);
    let mut scale = 1.0 / inverse;
    for (l, &x) in levels.iter_mut().zip(x) {
        *l = level(x, min, inverse);
    }
    let mut best = error(levels, scale, min);
    let mut tried = [0; 32];
    for step in 0..=steps {
        // From the best minimum so far, not the first one.
        let inverse = (first + 0.1 * f32::from(step) + f32::from(most)) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((t, &x), &w) in tried.iter_mut().zip(x).zip(weights) {
            *t = level(x, min, inverse);
            let l = f32::from(*t);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let det = sum_w * sum_l2 - sum_l * sum_l;
        if det > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let now = error(&tried, this_scale, this_min);
            if now < best {
                *levels = tried;
                (best, scale, min) = (now, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}

/// A scale for `x[i] ≈ scale · (levels[i] - most)`, `levels[i]` in `0..2 · most`, by the squared error times `x²`
/// (GGML's `make_qx_quants`).
pub(super) fn scale_alone(x: &[f32; 16], most: i8, levels: &mut [u8; 16]) -> f32 {
    let largest = super::simple::largest(x);
    if largest.abs() < NOTHING {
        levels.fill(0);
        return 0.0;
    }
    let most = i32::from(most);
    let level = |x: f32, inverse: f32| nearest(inverse * x).clamp(-most, most - 1);
    let sums = |inverse: f32| {
        let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
        for &x in x {
            let l = level(x, inverse) as f32;
            let w = x * x;
            sum_lx += w * x * l;
            sum_l2 += w * l * l;
        }
        (sum_lx, sum_l2)
    };
    let mut put = |inverse: f32| {
        levels.iter_mut().zip(x).for_each(|(l, &x)| *l = (level(x, inverse) + most) as u8);
    };
    let inverse = -most as f32 / largest;
    put(inverse);
    let (sum_lx, sum_l2) = sums(inverse);
    let mut scale = if sum_l2 == 0.0 { 0.0 } else { sum_lx / sum_l2 };
    let mut best = scale * sum_lx;
    for step in (-9i8..=9).filter(|&step| step != 0) {
        let inverse = -(most as f32 + 0.1 * f32::from(step)) / largest;
        let (sum_lx, sum_l2) = sums(inverse);
        if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
            put(inverse);
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    scale
}
