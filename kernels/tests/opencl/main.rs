//! What the writer writes, run on whatever OpenCL there is.

mod device;

use device::{OpenCl, Storage};

#[test]
fn a_tiled_matrix_product_is_right() {
    let Some(device) = OpenCl::open() else { return };
    let (m, n, k) = (32usize, 48usize, 20usize);
    let mut a: Vec<u32> = (0..m * k).map(|i| ((i % 7) as f32 - 3.0).to_bits()).collect();
    let mut b: Vec<u32> = (0..k * n).map(|i| ((i % 5) as f32 - 2.0).to_bits()).collect();
    // The result starts 64 words into its buffer.
    let mut c = vec![0xdead_beef; 64 + m * n];
    let params = [m as u32, n as u32, k as u32, 0.5f32.to_bits()];
    device.run(
        include_str!("gemm.wgsl"),
        Some(&params),
        &mut [
            Storage { words: &mut a, offset: 0 },
            Storage { words: &mut b, offset: 0 },
            Storage { words: &mut c, offset: 256 },
        ],
        [n / 16, m / 16, 1],
    );
    assert!(c[..64].iter().all(|word| *word == 0xdead_beef));
    for row in 0..m {
        for column in 0..n {
            let sum: f32 =
                (0..k).map(|i| f32::from_bits(a[row * k + i]) * f32::from_bits(b[i * n + column])).sum();
            assert_eq!(f32::from_bits(c[64 + row * n + column]), 0.5 * sum, "row {row}, column {column}");
        }
    }
}
