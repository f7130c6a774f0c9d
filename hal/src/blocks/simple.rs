//! Blocks of 32 with one scale `d`, and for some a minimum `m`: `d · q`, or `d · q + m`.
//!
//! Nibbles: byte `i` holds element `i` below and element `i + 16` above. Fifth bits: bit `i` of a word.

use super::{half, inverse, put_half};

pub(super) fn decode_q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(block, 0);
    for (y, q) in out.iter_mut().zip(&block[2..]) {
        *y = d * f32::from(*q as i8);
    }
}

pub(super) fn encode_q8_0(x: &[f32; 32], block: &mut [u8; 34]) {
    let d = largest(x).abs() / 127.0;
    let id = inverse(d);
    put_half(block, 0, d);
    for (q, x) in block[2..].iter_mut().zip(x) {
        *q = (x * id).round() as i8 as u8;
    }
}

pub(super) fn decode_q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(block, 0);
    nibbles(&block[2..], 0, |i, q| out[i] = d * (f32::from(q) - 8.0));
}

pub(super) fn encode_q4_0(x: &[f32; 32], block: &mut [u8; 18]) {
    let d = largest(x) / -8.0;
    let id = inverse(d);
    put_half(block, 0, d);
    put_nibbles(&mut block[2..], |i| ((x[i] * id + 8.5) as i8).min(15) as u8);
}

pub(super) fn decode_q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    nibbles(&block[4..], 0, |i, q| out[i] = d * f32::from(q) + m);
}

pub(super) fn encode_q4_1(x: &[f32; 32], block: &mut [u8; 20]) {
    let (min, max) = ends(x);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    put_half(block, 0, d);
    put_half(block, 2, min);
    put_nibbles(&mut block[4..], |i| (((x[i] - min) * id + 0.5) as i8).min(15) as u8);
}

pub(super) fn decode_q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(block, 0);
    nibbles(&block[6..], fifth_bits(block, 2), |i, q| out[i] = d * (f32::from(q) - 16.0));
}

pub(super) fn encode_q5_0(x: &[f32; 32], block: &mut [u8; 22]) {
    let d = largest(x) / -16.0;
    let id = inverse(d);
    put_half(block, 0, d);
    let fifth = put_nibbles(&mut block[6..], |i| ((x[i] * id + 16.5) as i8).min(31) as u8);
    block[2..6].copy_from_slice(&fifth.to_le_bytes());
}

pub(super) fn decode_q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    nibbles(&block[8..], fifth_bits(block, 4), |i, q| out[i] = d * f32::from(q) + m);
}

pub(super) fn encode_q5_1(x: &[f32; 32], block: &mut [u8; 24]) {
    let (min, max) = ends(x);
    let d = (max - min) / 31.0;
    let id = inverse(d);
    put_half(block, 0, d);
    put_half(block, 2, min);
    let fifth = put_nibbles(&mut block[8..], |i| ((x[i] - min) * id + 0.5) as u8);
    block[4..8].copy_from_slice(&fifth.to_le_bytes());
}

/// The first of the values of largest magnitude.
pub(super) fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max: f32, &x| if max.abs() < x.abs() { x } else { max })
}

fn ends(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(min, max), &x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}

fn fifth_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Calls `f` with each of 32 elements, of four bits below and one of `fifth` above.
pub(super) fn nibbles(bytes: &[u8], fifth: u32, mut f: impl FnMut(usize, u8)) {
    let above = |i: usize| (fifth >> i & 1) as u8 * 16;
    for (i, byte) in bytes.iter().enumerate() {
        f(i, (byte & 15) | above(i));
        f(i + 16, (byte >> 4) | above(i + 16));
    }
}

/// Writes the lower four bits of the 32 elements that `f` gives, and returns their fifth bits.
pub(super) fn put_nibbles(bytes: &mut [u8], f: impl Fn(usize) -> u8) -> u32 {
    let mut fifth = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        let (low, high) = (f(i), f(i + 16));
        *byte = (low & 15) | (high & 15) << 4;
        fifth |= u32::from(low >> 4 & 1) << i | u32::from(high >> 4 & 1) << (i + 16);
    }
    fifth
}
