//! MXFP4: E2M1 floats with a power of two for each 32 (OCP Microscaling Formats 1.0, section 5.2), in the order of
//! nibbles that GGML has. Exponent 255, NaN in the standard, is 2¹²⁸ as in GGML.

use super::simple::{largest, nibbles, put_nibbles};

/// Twice the value of each nibble.
const DOUBLES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half the power of two with the biased exponent `e`, which may be subnormal.
fn half_power(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

pub(super) fn decode(block: &[u8; 17], out: &mut [f32; 32]) {
    let d = half_power(block[0]);
    nibbles(&block[1..], 0, |i, q| out[i] = f32::from(DOUBLES[usize::from(q)]) * d);
}

pub(super) fn encode(x: &[f32; 32], block: &mut [u8; 17]) {
    let amax = largest(x).abs();
    // The logarithm is rounded to f32, as in GGML: just below a power of two it is that of the power.
    let exponent = (f64::from(amax).log2() as f32).floor();
    let e = if amax > 0.0 { (exponent - 2.0 + 127.0) as u8 } else { 0 };
    let d = half_power(e);
    block[0] = e;
    put_nibbles(&mut block[1..], |i| nearest(x[i], d));
}

/// The nibble whose value is nearest to `x`, the first of several.
fn nearest(x: f32, d: f32) -> u8 {
    let error = |q: u8| (f32::from(DOUBLES[usize::from(q)]) * d - x).abs();
    (1..16).fold(0, |best, q| if error(q) < error(best) { q } else { best })
}
