//! Seeded data for cases.

use crate::philox::{Normals, block_at};
use crate::reference::Array;
use crate::{DType, blocks};

/// A stream of random numbers; the same for the same seed and name.
#[derive(Clone)]
pub struct Data {
    normals: Normals,
    key: [u32; 2],
    position: u64,
}

impl Data {
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, so that each op has a stream of its own.
        let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Data { normals: Normals::new(seed, hash), key: [seed as u32, hash], position: 0 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.position += 1;
        block_at(self.key, self.position)[0]
    }

    /// An integer in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// Uniform on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.bits()) / 4_294_967_296.0
    }

    /// One standard normal.
    pub fn one_normal(&mut self) -> f64 {
        self.normals.next().expect("the stream is endless")
    }

    /// Normals times `scale`, rounded to `dtype`.
    pub fn normal(&mut self, dtype: DType, shape: &[usize], scale: f64) -> Array {
        self.map(dtype, shape, |d| d.one_normal() * scale)
    }

    /// Numbers of magnitude `low..low + width` and random sign.
    pub fn away_from_zero(&mut self, dtype: DType, shape: &[usize], low: f64, width: f64) -> Array {
        self.map(dtype, shape, |d| {
            let x = low + width * d.uniform();
            if d.bits() & 1 == 0 { x } else { -x }
        })
    }

    /// Uniform on `low..high`, rounded to `dtype`.
    pub fn between(&mut self, dtype: DType, shape: &[usize], low: f64, high: f64) -> Array {
        self.map(dtype, shape, |d| low + (high - low) * d.uniform())
    }

    /// Indices in `0..n`.
    pub fn indices(&mut self, shape: &[usize], n: usize) -> Array {
        self.map(DType::I32, shape, |d| d.below(n) as f64)
    }

    /// `0..n` in random order.
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// What `f` gives for each element, rounded.
    pub fn map(&mut self, dtype: DType, shape: &[usize], mut f: impl FnMut(&mut Self) -> f64) -> Array {
        let data = (0..shape.iter().product()).map(|_| f(self)).collect();
        Array::new(dtype, shape, data).rounded()
    }

    /// Blocks of random numbers. Some have odd scales: of numbers that are all zero, all above zero, large, or
    /// so small that an f16 scale is subnormal.
    pub fn blocks(&mut self, dtype: DType, bytes: &mut [u8]) {
        let mut x = vec![0.0; dtype.block_elems()];
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            let (scale, shift) = match self.below(12) {
                0 => (0.0, 0.0),
                1 => (0.5, 3.0),
                2 => (50.0, 0.0),
                3 => (1e-4, 0.0),
                _ => (0.2 + self.uniform(), 0.0),
            };
            x.iter_mut().for_each(|x| *x = (shift + scale * self.one_normal()) as f32);
            blocks::encode(dtype, &x, block).expect("one block");
        }
    }
}

/// Integers as an index array.
pub fn ints(shape: &[usize], values: &[i64]) -> Array {
    Array::new(DType::I32, shape, values.iter().map(|&x| x as f64).collect())
}
