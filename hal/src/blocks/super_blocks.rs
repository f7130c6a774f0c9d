//! Blocks of 256 that have a scale for each 16 or 32 elements, themselves quantised (GGML's K types).

use super::search::{NOTHING, nearest, scale_alone, scale_and_min};
use super::{half, put_half};

/// Scales and minima of 6 bits for 8 groups of 32: bytes 0 to 3 and 4 to 7 hold those of the first four groups in
/// their lower six bits; bytes 8 to 11 the lower four bits of scale and minimum of the last four, whose upper two
/// are the upper two of bytes 0 to 3 and 4 to 7.
fn scale_min(packed: &[u8], group: usize) -> (u8, u8) {
    let j = group % 4;
    match group / 4 {
        0 => (packed[j] & 63, packed[j + 4] & 63),
        _ => (packed[j + 8] & 15 | packed[j] >> 6 << 4, packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4),
    }
}

fn put_scale_min(packed: &mut [u8], group: usize, scale: u8, min: u8) {
    let j = group % 4;
    if group < 4 {
        (packed[j], packed[j + 4]) = (scale, min);
    } else {
        packed[j + 8] = scale & 15 | min << 4;
        packed[j] |= scale >> 4 << 6;
        packed[j + 4] |= min >> 4 << 6;
    }
}

/// `d · scale · q - dmin · min`. Of each 64 elements, 32 bytes hold the first 32 below and the others above; byte
/// `i` of the fifth bits, if there are any, those of the elements `i` of the groups.
fn decode_with_min(head: &[u8], fifth: Option<&[u8; 32]>, nibbles: &[u8], out: &mut [f32; 256]) {
    let (d, dmin) = (half(head, 0), half(head, 2));
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(&head[4..], group);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        let bytes = &nibbles[group / 2 * 32..][..32];
        for (i, (y, byte)) in out.iter_mut().zip(bytes).enumerate() {
            let above = fifth.map_or(0, |f| (f[i] >> group & 1) << 4);
            *y = d * f32::from(byte >> (group % 2 * 4) & 15 | above) - m;
        }
    }
}

pub(super) fn decode_q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    decode_with_min(&block[..16], None, &block[16..], out);
}

pub(super) fn decode_q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let fifth = block[16..].first_chunk().expect("160 bytes are left");
    decode_with_min(&block[..16], Some(fifth), &block[48..], out);
}

pub(super) fn encode_q4_k(x: &[f32; 256], block: &mut [u8; 144]) {
    let levels = with_min(x, &mut block[..16], 15, -1.0, 20);
    put_nibbles(&levels, &mut block[16..]);
}

pub(super) fn encode_q5_k(x: &[f32; 256], block: &mut [u8; 176]) {
    let levels = with_min(x, &mut block[..16], 31, -0.5, 15);
    block[16..48].fill(0);
    for (group, levels) in levels.iter().enumerate() {
        for (fifth, l) in block[16..48].iter_mut().zip(levels) {
            *fifth |= (l >> 4) << group;
        }
    }
    put_nibbles(&levels, &mut block[48..]);
}

fn put_nibbles(levels: &[[u8; 32]; 8], bytes: &mut [u8]) {
    for (pair, bytes) in levels.as_chunks::<2>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = pair[0][i] & 15 | pair[1][i] << 4;
        }
    }
}

/// Writes scales and minima to `head`, and gives the levels, at most `most`, that suit them.
fn with_min(x: &[f32; 256], head: &mut [u8], most: u8, first: f32, steps: u8) -> [[u8; 32]; 8] {
    let x = x.as_chunks::<32>().0;
    let mut levels = [[0; 32]; 8];
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    for group in 0..8 {
        let sum: f32 = x[group].iter().fold(0.0, |sum, x| sum + x * x);
        let mean = (sum / 32.0).sqrt();
        let weights = x[group].map(|x| mean + x.abs());
        (scales[group], mins[group]) =
            scale_and_min(&x[group], &weights, most, first, steps, &mut levels[group]);
    }
    let greatest = |all: &[f32; 8]| all.iter().fold(0.0, |max, &x| if x > max { x } else { max });
    let (max_scale, max_min) = (greatest(&scales), greatest(&mins));
    let inverse = |max: f32| if max > 0.0 { 63.0 / max } else { 0.0 };
    // A negative scale wraps, as in GGML.
    let level = |inverse: f32, x: f32| (nearest(inverse * x) as u8).min(63);
    let (by_scale, by_min) = (inverse(max_scale), inverse(max_min));
    for group in 0..8 {
        let (scale, min) = (level(by_scale, scales[group]), level(by_min, mins[group]));
        put_scale_min(&mut head[4..], group, scale, min);
    }
    put_half(head, 0, max_scale / 63.0);
    put_half(head, 2, max_min / 63.0);
    let (d, dmin) = (half(head, 0), half(head, 2));
    for (group, levels) in levels.iter_mut().enumerate() {
        let (scale, min) = scale_min(&head[4..], group);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        if d != 0.0 {
            *levels = x[group].map(|x| nearest((x + m) / d).clamp(0, i32::from(most)) as u8);
        }
    }
    levels
}

/// `d · scale · (q - 32)`. Of each 128 elements, 64 bytes hold the first 64 below and the others above; byte `i` of
/// 32 bytes the upper bits of the elements `i`, `i + 32`, `i + 64` and `i + 96`, lowest first.
pub(super) fn decode_q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(block, 208);
    for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = d * f32::from(block[192 + group] as i8);
        let (side, at) = (group / 8, group % 8 * 16);
        for (i, y) in out.iter_mut().enumerate() {
            let at = at + i;
            let low = block[side * 64 + at % 64] >> (at / 64 * 4) & 15;
            let high = block[128 + side * 32 + at % 32] >> (at / 32 * 2) & 3;
            *y = d * (f32::from(high << 4 | low) - 32.0);
        }
    }
}

pub(super) fn encode_q6_k(x: &[f32; 256], block: &mut [u8; 210]) {
    block.fill(0);
    let x = x.as_chunks::<16>().0;
    let mut levels = [[0; 16]; 16];
    let mut scales = [0.0; 16];
    for group in 0..16 {
        scales[group] = scale_alone(&x[group], 32, &mut levels[group]);
    }
    let max_scale = super::simple::largest(&scales);
    if max_scale.abs() < NOTHING {
        return;
    }
    let inverse = -128.0 / max_scale;
    put_half(block, 208, 1.0 / inverse);
    let d = half(block, 208);
    for group in 0..16 {
        let scale = nearest(inverse * scales[group]).min(127) as i8;
        block[192 + group] = scale as u8;
        let d = d * f32::from(scale);
        if d != 0.0 {
            levels[group] = x[group].map(|x| (nearest(x / d).clamp(-32, 31) + 32) as u8);
        }
    }
    for (i, l) in levels.as_flattened().iter().enumerate() {
        let (side, at) = (i / 128, i % 128);
        block[side * 64 + at % 64] |= (l & 15) << (at / 64 * 4);
        block[128 + side * 32 + at % 32] |= l >> 4 << (at / 32 * 2);
    }
}
