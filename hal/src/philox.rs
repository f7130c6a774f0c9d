//! Philox4x32-10, the counter-based random generator (Salmon et al. 2011, "Parallel random numbers: as
//! easy as 1, 2, 3"). A block is a pure function of key and counter, so any element of a random tensor
//! can be made anywhere.

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// The four words of one counter block.
pub fn block(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut k0, mut k1] = key;
    let mut c = counter;
    for round in 0..10 {
        if round > 0 {
            k0 = k0.wrapping_add(W0);
            k1 = k1.wrapping_add(W1);
        }
        let p0 = u64::from(M0) * u64::from(c[0]);
        let p1 = u64::from(M1) * u64::from(c[2]);
        c = [(p1 >> 32) as u32 ^ c[1] ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k1, p0 as u32];
    }
    c
}

/// The block at a 64-bit position of the stream that `key` names.
pub fn block_at(key: [u32; 2], position: u64) -> [u32; 4] {
    block(key, [position as u32, (position >> 32) as u32, 0, 0])
}

/// A seed as a key: low word first.
pub fn key(seed: u64) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32]
}

/// Uniform on [0, 1) from 53 bits of two words.
pub fn uniform_f64(low: u32, high: u32) -> f64 {
    let bits = u64::from(high) << 32 | u64::from(low);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Uniform on [0, 1) with 24 bits: exact in f32.
pub fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Two standard normals from two words (Box & Muller 1958), in f64.
pub fn normal_pair(a: u32, b: u32) -> (f64, f64) {
    // The half keeps the logarithm finite.
    let u = (f64::from(a) + 0.5) / 4_294_967_296.0;
    let angle = std::f64::consts::TAU * (f64::from(b) / 4_294_967_296.0);
    let radius = (-2.0 * u.ln()).sqrt();
    (radius * angle.cos(), radius * angle.sin())
}

/// Standard normals as an endless stream; element `i` is a pure function of seed, stream and `i`.
#[derive(Clone, Debug)]
pub struct Normals {
    key: [u32; 2],
    position: u64,
    ready: Vec<f64>,
}

impl Normals {
    /// The stream numbered `stream` of `seed`.
    pub fn new(seed: u64, stream: u32) -> Self {
        let low = block(key(seed), [stream, 0, 0, 1]);
        Normals { key: [low[0], low[1]], position: 0, ready: Vec::new() }
    }
}

impl Iterator for Normals {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        if self.ready.is_empty() {
            let w = block_at(self.key, self.position);
            self.position += 1;
            let ((a, b), (c, d)) = (normal_pair(w[0], w[1]), normal_pair(w[2], w[3]));
            self.ready = vec![d, c, b, a];
        }
        self.ready.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn known_answers() {
        assert_eq!(block([0, 0], [0; 4]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(block([u32::MAX; 2], [u32::MAX; 4]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            block([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn normals_have_unit_variance() {
        let x: Vec<f64> = Normals::new(3, 0).take(40_000).collect();
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let var = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        assert!(mean.abs() < 0.02 && (var - 1.0).abs() < 0.03, "{mean} {var}");
        assert_ne!(x[0], Normals::new(3, 1).next().unwrap());
    }
}
