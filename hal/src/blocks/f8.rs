//! E4M3 floats with an f32 scale for each 32: `scale · q`.
//!
//! E4M3 (Micikevicius et al. 2022, "FP8 formats for deep learning", table 1) has four bits of exponent with bias 7,
//! three of mantissa, subnormals, no infinity, NaN at `S.1111.111`, and 448 for its largest value.

use super::simple::largest;

const MAX: f32 = 448.0;
/// The distance of subnormals.
const STEP: f32 = 1.0 / 512.0;
const NAN: u8 = 0x7f;

/// The value of an E4M3 float.
fn widen(q: u8) -> f32 {
    let (exponent, mantissa) = (q >> 3 & 15, q & 7);
    let x = match exponent {
        0 => f32::from(mantissa) * STEP,
        _ if q & NAN == NAN => f32::NAN,
        // The bias of f32 is larger by 120.
        _ => f32::from_bits((u32::from(exponent) + 120) << 23 | u32::from(mantissa) << 20),
    };
    if q & 0x80 == 0 { x } else { -x }
}

/// The nearest E4M3 float, ties to even, saturating.
fn narrow(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if x.is_nan() {
        return sign | NAN;
    }
    let x = x.abs().min(MAX);
    // Subnormals have the least exponent.
    let exponent = ((x.to_bits() >> 23) as i32 - 127).max(-6);
    // The distance of neighbours is a power of two, so that the quotient is exact.
    let units = (x / 2f32.powi(exponent - 3)).round_ties_even() as u8;
    // 8 to 16 of them, the last being the next exponent's first; subnormals have less.
    sign | ((exponent + 6) as u8 * 8 + units)
}

pub(super) fn decode(block: &[u8; 36], out: &mut [f32; 32]) {
    let scale = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (y, q) in out.iter_mut().zip(&block[4..]) {
        *y = scale * widen(*q);
    }
}

/// The scale puts the largest magnitude at 448, as the tiles of checkpoints have it; it is 0 for zeros.
pub(super) fn encode(x: &[f32; 32], block: &mut [u8; 36]) {
    let scale = largest(x).abs() / MAX;
    block[..4].copy_from_slice(&scale.to_le_bytes());
    for (q, x) in block[4..].iter_mut().zip(x) {
        *q = if scale == 0.0 { 0 } else { narrow(x / scale) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_survives_and_midpoints_go_to_even() {
        for q in 0..0x7e {
            let (a, b) = (widen(q), widen(q + 1));
            assert!(a < b, "{q:#x}");
            assert_eq!((narrow(a), narrow(-a)), (q, q | 0x80));
            let middle = (a + b) / 2.0;
            assert_eq!(narrow(middle), if q % 2 == 0 { q } else { q + 1 }, "{q:#x}");
            assert_eq!(narrow(middle.next_up()), q + 1, "{q:#x}");
            assert_eq!(narrow(middle.next_down()), q, "{q:#x}");
        }
        // The values of the paper's table.
        assert_eq!(
            [widen(1), widen(7), widen(8), widen(0x38), widen(0x7e)],
            [0.001953125, 0.013671875, 0.015625, 1.0, 448.0]
        );
        assert_eq!((narrow(1e9), narrow(f32::NEG_INFINITY)), (0x7e, 0xfe));
        assert!(widen(0x7f).is_nan() && widen(0xff).is_nan() && narrow(f32::NAN) & 0x7f == 0x7f);
    }
}
