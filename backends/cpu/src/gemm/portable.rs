//! Kernels in plain Rust, for the compiler to vectorise.

use super::isa::{Isa, Micro};
use super::pack::pack_any;

const MR: usize = 4;
// Sixteen vector registers of four lanes without AVX, thirty-two on aarch64.
const NR: usize = if cfg!(target_arch = "aarch64") { 16 } else { 8 };

pub(super) const ISA: Isa =
    Isa { mr: MR, nr: NR, lanes: NR, micro, pack_a: pack_any::<MR>, pack_b: pack_any::<NR>, skinny: None };

/// # Safety
///
/// As [`Micro`] describes.
unsafe fn micro(t: &Micro) {
    // SAFETY: the caller's promise; `rows` is 1..=MR.
    unsafe {
        match t.rows {
            1 => tile::<1>(t),
            2 => tile::<2>(t),
            3 => tile::<3>(t),
            _ => tile::<MR>(t),
        }
    }
}

/// `c + a * b`, fused where the target does that in hardware.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// # Safety
///
/// As [`Micro`] describes, with `rows` = R.
unsafe fn tile<const R: usize>(t: &Micro) {
    let mut acc = [[0f32; NR]; R];
    for p in 0..t.k {
        // SAFETY: the panels have k rows of MR and NR values.
        let (a, b) = unsafe { (&*t.a.add(p * MR).cast::<[f32; R]>(), &*t.b.add(p * NR).cast::<[f32; NR]>()) };
        for i in 0..R {
            for j in 0..NR {
                acc[i][j] = mul_add(a[i], b[j], acc[i][j]);
            }
        }
    }
    for (i, row) in acc.iter_mut().enumerate() {
        // SAFETY: `dst` has R rows of NR values, and `bias` NR if it is not null.
        unsafe {
            let dst = &mut *t.dst.offset(i as isize * t.dst_stride).cast::<[f32; NR]>();
            if let Some(bias) = t.bias.cast::<[f32; NR]>().as_ref() {
                for j in 0..NR {
                    row[j] += bias[j];
                }
            }
            if t.add {
                for j in 0..NR {
                    row[j] += dst[j];
                }
            }
            *dst = *row;
        }
    }
}
