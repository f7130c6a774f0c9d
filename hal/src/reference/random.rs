//! Random numbers by counter.

use super::{Array, Real};
use crate::{Distribution, philox};
use std::f64::consts::TAU;

pub(super) fn philox<T: Real>(d: Distribution, state: &Array<T>, y: &mut Array<T>) {
    let state: Vec<u32> = state.data.iter().map(|x| x.value() as u32).collect();
    let position = u64::from(state[3]) << 32 | u64::from(state[2]);
    for (i, y) in y.data.iter_mut().enumerate() {
        let words = philox::block_at([state[0], state[1]], position.wrapping_add(i as u64 / 4));
        let word = words[i % 4];
        *y = match d {
            Distribution::Bits => f64::from(word).into(),
            Distribution::Uniform => f64::from(philox::uniform(word)).into(),
            Distribution::Normal => {
                let pair = i % 4 / 2 * 2;
                normal(words[pair], words[pair + 1], i % 2 == 1)
            }
        };
    }
}

/// The first or second normal of [`philox::normal_pair`].
fn normal<T: Real>(a: u32, b: u32, second: bool) -> T {
    let unit = T::from(2f64.powi(-32));
    let u = T::from(f64::from(a) + 0.5) * unit;
    let angle = T::from(f64::from(b)) * unit * T::from(TAU);
    let radius = (T::from(-2.0) * u.ln()).sqrt();
    radius * if second { angle.sin() } else { angle.cos() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn normals_are_those_of_the_philox_module() {
        let state = Array::new(DType::U32, &[4], vec![7.0, 9.0, f64::from(u32::MAX), 1.0]);
        let mut y = Array::full(DType::F32, &[9], 0.0);
        philox(Distribution::Normal, &state, &mut y);
        let position = (1u64 << 32) | u64::from(u32::MAX);
        let w = [0, 1].map(|i| philox::block_at([7, 9], position + i));
        assert!((y.data[1] - philox::normal_pair(w[0][0], w[0][1]).1).abs() < 1e-12);
        assert!((y.data[6] - philox::normal_pair(w[1][2], w[1][3]).0).abs() < 1e-12);
    }
}
