//! Decoding and encoding against what GGML and ml_dtypes make of the same numbers (`fixtures/make.py`).

use super::*;

const TYPES: [DType; 9] = [
    DType::Q8_0,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::Mxfp4,
];

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn encodes_and_decodes_as_ggml_does() {
    let (x, mut rest) = include_bytes!("fixtures/ggml.bin").split_at(4 * 1024);
    let x = floats(x);
    for dtype in TYPES {
        let size = dtype.bytes(&[1024]).unwrap() as usize;
        let (encoded, others) = rest.split_at(size);
        let (decoded, others) = others.split_at(4 * 512);
        rest = others;

        let mut got = vec![0xaa; size];
        encode(dtype, &x, &mut got).unwrap();
        for (i, (got, want)) in
            got.chunks(dtype.block_bytes()).zip(encoded.chunks(dtype.block_bytes())).enumerate()
        {
            assert_eq!(got, want, "block {i} of {dtype}");
        }
        let mut got = vec![0.0; 512];
        decode(dtype, &encoded[..size / 2], &mut got).unwrap();
        // Zeros of either sign are one value.
        let wanted = floats(decoded).iter().map(|x| x + 0.0).collect::<Vec<_>>();
        let got = got.iter().map(|x| x + 0.0).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&wanted), "{dtype}");
    }
    assert!(rest.is_empty());
}

#[test]
fn e4m3_is_that_of_ml_dtypes() {
    let (values, pairs) = include_bytes!("fixtures/e4m3.bin").split_at(4 * 256);
    let mut block = [0; 36];
    block[..4].copy_from_slice(&1f32.to_le_bytes());
    let mut got = [0.0; 32];
    for (eighth, want) in floats(values).chunks(32).enumerate() {
        (0..32).for_each(|i| block[4 + i] = (32 * eighth + i) as u8);
        decode(DType::F8E4M3, &block, &mut got).unwrap();
        for (got, want) in got.iter().zip(want) {
            assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{got} {want}");
        }
    }
    for pair in pairs.as_chunks::<8>().0 {
        let mut x = [0.0; 32];
        x[0] = 448.0;
        x[1] = floats(pair)[0];
        encode(DType::F8E4M3, &x, &mut block).unwrap();
        assert_eq!(floats(&block[..4]), [1.0]);
        assert_eq!(block[5], pair[4], "{}", x[1]);
    }
}

#[test]
fn errors_say_what_would_be_right() {
    let fails = |r: Result<(), Error>| r.unwrap_err().to_string();
    assert!(fails(decode(DType::F16, &[0; 4], &mut [0.0; 2])).contains("f16 is no block type"));
    assert!(
        fails(encode(DType::Q4K, &[0.0; 32], &mut [0; 18]))
            .contains("32 elements of q4_k, must be a multiple of 256")
    );
    assert!(
        fails(encode(DType::Q4_0, &[0.0; 64], &mut [0; 18]))
            .contains("18 bytes for 64 elements of q4_0, must be 36")
    );
    assert!(fails(decode(DType::Mxfp4, &[0; 18], &mut [0.0; 32])).contains("must be 17"));
    decode(DType::Q6K, &[], &mut []).unwrap();
}

/// Any bytes decode, any floats encode: nothing panics.
#[test]
fn nothing_panics_on_odd_numbers() {
    let odd = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -0.0,
        1e-30,
    ];
    for dtype in DType::BLOCKS {
        let mut out = vec![0; dtype.block_bytes() * (256 / dtype.block_elems())];
        for (i, first) in odd.into_iter().enumerate() {
            let x: Vec<f32> = (0..256).map(|j| if j % 3 == 0 { odd[(i * j) % 9] } else { first }).collect();
            encode(dtype, &x, &mut out).unwrap();
            encode(dtype, &[first; 256], &mut out).unwrap();
        }
        for seed in 0..64u32 {
            out.iter_mut().enumerate().for_each(|(i, b)| {
                *b = ((i as u32 + 1).wrapping_mul(2_654_435_761 + seed) >> 13) as u8;
            });
            decode(dtype, &out, &mut [0.0; 256]).unwrap();
        }
    }
}
