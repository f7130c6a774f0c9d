//! Block types that are expanded when a model is loaded: to f32, bit for bit as llama.cpp does.
//!
//! These are `Q2_K`, `Q3_K`, `IQ4_NL` and `IQ4_XS`, for which devices have no kernels. Layouts and
//! formulas: `block_q2_K` and its like in ggml's `ggml-common.h`, and `dequantize_row_*` in
//! `ggml-quants.c`.

use half::f16;

use super::GgmlType;

/// The levels of `IQ4_NL` and `IQ4_XS`.
const IQ4_LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Whether [`expand`] has the type.
pub fn expands(ggml_type: GgmlType) -> bool {
    expander(ggml_type).is_some()
}

/// The elements of blocks of `Q2_K`, `Q3_K`, `IQ4_NL` or `IQ4_XS`; `None` for other types, or if
/// `bytes` aren't whole blocks.
pub fn expand(ggml_type: GgmlType, bytes: &[u8]) -> Option<Vec<f32>> {
    let block = expander(ggml_type)?;
    let (elems, size) = (ggml_type.block_elems(), ggml_type.block_bytes());
    if !bytes.len().is_multiple_of(size) {
        return None;
    }
    let mut out = vec![0.0; bytes.len() / size * elems];
    for (from, to) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(elems)) {
        block(from, to);
    }
    Some(out)
}

/// What expands one block.
type Expander = fn(&[u8], &mut [f32]);

fn expander(ggml_type: GgmlType) -> Option<Expander> {
    match ggml_type {
        GgmlType::Q2_K => Some(q2_k),
        GgmlType::Q3_K => Some(q3_k),
        GgmlType::IQ4_NL => Some(iq4_nl),
        GgmlType::IQ4_XS => Some(iq4_xs),
        _ => None,
    }
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Where elements `32 * part..` of a super-block have their two bits: bytes from the first, and the shift.
/// A byte has those of four elements that are 32 apart.
fn two_bits(part: usize) -> (usize, usize) {
    (32 * (part / 4), 2 * (part % 4))
}

/// 16 scales and minima of 4 bits, 64 bytes of 2 bits, scale and scale of the minima.
fn q2_k(from: &[u8], to: &mut [f32]) {
    let (scales, bits) = (&from[..16], &from[16..80]);
    let (d, d_min) = (half(&from[80..]), half(&from[82..]));
    for (part, values) in to.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[part] & 15);
        let min = d_min * f32::from(scales[part] >> 4);
        let (first, shift) = two_bits(part / 2);
        let bits = &bits[first + 16 * (part % 2)..];
        for (value, byte) in values.iter_mut().zip(bits) {
            *value = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

/// 32 bytes of third bits, 64 bytes of 2 bits, 16 scales of 6 bits in 12 bytes, scale.
fn q3_k(from: &[u8], to: &mut [f32]) {
    let (high, bits, scales) = (&from[..32], &from[32..96], &from[96..108]);
    let d = half(&from[108..]);
    for (part, values) in to.chunks_exact_mut(16).enumerate() {
        // Low four bits in the first 8 bytes, high two in the last 4.
        let low = scales[part % 8] >> (4 * (part / 8)) & 15;
        let top = scales[8 + part % 4] >> (2 * (part / 4)) & 3;
        let scale = d * (i16::from(low | top << 4) - 32) as f32;
        let (first, shift) = two_bits(part / 2);
        let half_part = 16 * (part % 2);
        let (bits, high) = (&bits[first + half_part..], &high[half_part..]);
        for ((value, byte), top) in values.iter_mut().zip(bits).zip(high) {
            // A third bit that isn't set subtracts 4.
            let lowered = if top >> (part / 2) & 1 == 1 { 0 } else { 4 };
            *value = scale * (i16::from(byte >> shift & 3) - lowered) as f32;
        }
    }
}

/// Scale, then 16 bytes of levels, low nibbles first.
fn iq4_nl(from: &[u8], to: &mut [f32]) {
    levels(half(from), &from[2..], to);
}

/// Scale, 8 scales of 6 bits (high bits in 2 bytes, low ones in 4), then levels as in `IQ4_NL`.
fn iq4_xs(from: &[u8], to: &mut [f32]) {
    let d = half(from);
    let top = u16::from_le_bytes([from[2], from[3]]);
    let (low, bits) = (&from[4..8], &from[8..]);
    for (part, values) in to.chunks_exact_mut(32).enumerate() {
        let low = u16::from(low[part / 2] >> (4 * (part % 2)) & 15);
        let scale = (low | (top >> (2 * part) & 3) << 4) as i16 - 32;
        levels(d * f32::from(scale), &bits[16 * part..], values);
    }
}

/// 32 levels from 16 bytes, low nibbles first.
fn levels(scale: f32, bits: &[u8], to: &mut [f32]) {
    for (j, byte) in bits[..16].iter().enumerate() {
        to[j] = scale * f32::from(IQ4_LEVELS[usize::from(byte & 15)]);
        to[j + 16] = scale * f32::from(IQ4_LEVELS[usize::from(byte >> 4)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by fixtures/make.py with llama.cpp's own package.
    #[test]
    fn blocks_expand_as_in_llama_cpp() {
        macro_rules! fixture {
            ($type:ident, $name:literal) => {
                (
                    GgmlType::$type,
                    &include_bytes!(concat!("fixtures/", $name, ".blocks"))[..],
                    &include_bytes!(concat!("fixtures/", $name, ".f32"))[..],
                )
            };
        }
        for (ggml_type, blocks, wanted) in [
            fixture!(Q2_K, "q2_k"),
            fixture!(Q3_K, "q3_k"),
            fixture!(IQ4_NL, "iq4_nl"),
            fixture!(IQ4_XS, "iq4_xs"),
        ] {
            let found = expand(ggml_type, blocks).unwrap();
            assert_eq!(found.len(), 512);
            let (wanted, _) = wanted.as_chunks::<4>();
            for (i, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                assert_eq!(found.to_le_bytes(), *wanted, "element {i} of {ggml_type}");
            }
        }
    }

    #[test]
    fn other_types_and_parts_of_blocks_are_not_expanded() {
        assert_eq!(expand(GgmlType::Q2_K, &[]), Some(Vec::new()));
        assert_eq!(expand(GgmlType::Q2_K, &[0; 83]), None);
        assert_eq!(expand(GgmlType::Q4_0, &[0; 18]), None);
        assert!(expands(GgmlType::IQ4_XS) && !expands(GgmlType::F32));
    }
}
