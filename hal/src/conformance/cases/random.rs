//! Random numbers.

use crate::conformance::case::Cases;
use crate::reference::Array;
use crate::{DType::*, Distribution, OpKind};

pub fn philox(c: &mut Cases) {
    let most = f64::from(u32::MAX);
    let states = [
        [0.0, 0.0, 0.0, 0.0],
        [12345.0, 67890.0, 5.0, 0.0],
        // The counter's low word runs over.
        [1.0, most, most - 1.0, 3.0],
        [most, 7.0, most, most],
    ];
    for d in [Distribution::Bits, Distribution::Uniform, Distribution::Normal] {
        let dtype = if d == Distribution::Bits { U32 } else { F32 };
        for state in states {
            let state = Array::new(U32, &[4], state.to_vec());
            for shape in [&[][..], &[1], &[0], &[3], &[4], &[5], &[2, 3, 7], &[4099]] {
                let y = c.out(dtype, shape);
                c.add(&format!("{d:?}"), OpKind::Philox(d), vec![state.clone().into()], vec![y]);
            }
            let y = c.out(dtype, &[5, 9]);
            c.all(&format!("{d:?}"), OpKind::Philox(d), vec![state.into()], vec![y]);
        }
    }
}
