//! Small matrix products of f32 in cache: the inner kernel of attention.
//!
//! `c (+)= a·b` where `b` and `c` have dense rows and `a` any strides. Each element of `c` is summed over
//! `k` in ascending order.

use super::{Level, level};

/// A vector of f32.
trait Vector: Copy {
    const LEN: usize;
    fn zero() -> Self;
    fn splat(x: f32) -> Self;
    /// # Safety
    /// `LEN` elements are there.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// `LEN` elements are there.
    unsafe fn store(self, p: *mut f32);
    /// self · b + c
    fn mul_add(self, b: Self, c: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($name:ident, $inner:ty, $len:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name($inner);

            // Used only in functions compiled for these instructions, see `product`.
            impl Vector for $name {
                const LEN: usize = $len;
                #[inline(always)]
                fn zero() -> Self {
                    // SAFETY: only used where the processor has the instruction.
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $splat(x) })
                }
                #[inline(always)]
                unsafe fn load(p: *const f32) -> Self {
                    // SAFETY: as above, and by the caller.
                    Self(unsafe { $load(p) })
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut f32) {
                    // SAFETY: as above, and by the caller.
                    unsafe { $store(p, self.0) }
                }
                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }
            }
        };
    }

    vector!(
        V16,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps
    );
    vector!(
        V8,
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps
    );
}

/// Four elements as the compiler likes them.
#[derive(Clone, Copy)]
struct V4([f32; 4]);

impl Vector for V4 {
    const LEN: usize = 4;
    #[inline(always)]
    fn zero() -> Self {
        V4([0.0; 4])
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        V4([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: by the caller.
        V4(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: by the caller.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        V4(std::array::from_fn(|i| super::math::fma::<{ super::BASE_FMA }>(self.0[i], b.0[i], c.0[i])))
    }
}

/// The operands of a product: `m × n`, summed over `k`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Element `(i, p)` lies at `i · a_row + p · a_col`.
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    pub(crate) a_col: usize,
    /// Element `(p, j)` lies at `p · b_row + j`.
    pub(crate) b: *const f32,
    pub(crate) b_row: usize,
    /// Element `(i, j)` lies at `i · c_row + j`.
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    /// Whether to add to what `c` holds.
    pub(crate) accumulate: bool,
}

/// Computes the product.
///
/// # Safety
/// The operands are there, and `c` overlaps neither of the others and is used by no one else.
pub(crate) unsafe fn product(x: &Product) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn avx512(x: &Product) {
        // SAFETY: by the caller.
        unsafe { blocks::<x86::V16, 8>(x) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(x: &Product) {
        // SAFETY: by the caller.
        unsafe { blocks::<x86::V8, 4>(x) }
    }
    // SAFETY: the processor has the instructions; the rest by the caller.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(x),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(x),
            Level::Base => blocks::<V4, 4>(x),
        }
    }
}

/// Walks over `c` in tiles of `M` rows and two vectors, then smaller ones for what is left.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn blocks<V: Vector, const M: usize>(x: &Product) {
    let mut j = 0;
    // SAFETY: all tiles lie inside `c`.
    unsafe {
        while j + 2 * V::LEN <= x.n {
            column::<V, M, 2>(x, j);
            j += 2 * V::LEN;
        }
        while j + V::LEN <= x.n {
            column::<V, M, 1>(x, j);
            j += V::LEN;
        }
        for j in j..x.n {
            for i in 0..x.m {
                let c = x.c.add(i * x.c_row + j);
                let mut sum = if x.accumulate { *c } else { 0.0 };
                for p in 0..x.k {
                    sum += *x.a.add(i * x.a_row + p * x.a_col) * *x.b.add(p * x.b_row + j);
                }
                *c = sum;
            }
        }
    }
}

/// # Safety
/// As for [`product`]; `N` vectors from column `j` on lie inside `c`.
#[inline(always)]
unsafe fn column<V: Vector, const M: usize, const N: usize>(x: &Product, j: usize) {
    let mut i = 0;
    // SAFETY: by the caller.
    unsafe {
        while i + M <= x.m {
            tile::<V, M, N>(x, i, j);
            i += M;
        }
        while i < x.m {
            tile::<V, 1, N>(x, i, j);
            i += 1;
        }
    }
}

/// # Safety
/// As for [`product`]; `M` rows and `N` vectors from `(i, j)` on lie inside `c`.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize>(x: &Product, i: usize, j: usize) {
    // SAFETY: by the caller.
    unsafe {
        let mut sums = [[V::zero(); N]; M];
        let a = x.a.add(i * x.a_row);
        let b = x.b.add(j);
        for p in 0..x.k {
            let mut row = [V::zero(); N];
            for (v, r) in row.iter_mut().enumerate() {
                *r = V::load(b.add(p * x.b_row + v * V::LEN));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let s = V::splat(*a.add(r * x.a_row + p * x.a_col));
                for (sum, b) in sums.iter_mut().zip(row) {
                    *sum = s.mul_add(b, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let c = x.c.add((i + r) * x.c_row + j + v * V::LEN);
                let sum = if x.accumulate { V::splat(1.0).mul_add(V::load(c), sum) } else { sum };
                sum.store(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, so that sums are exact.
    fn numbers(n: usize, step: usize) -> Vec<f32> {
        (0..n).map(|i| (i * step % 7) as f32 - 3.0).collect()
    }

    #[test]
    fn products_of_all_edge_sizes() {
        for (m, n, k) in [(1, 1, 1), (8, 32, 5), (9, 33, 3), (3, 71, 64), (64, 16, 2), (5, 7, 0), (4, 8, 9)] {
            for (transposed, accumulate) in [(false, false), (true, true)] {
                let (a, b) = (numbers(m * k, 3), numbers(k * n, 5));
                let mut c = numbers(m * n, 2);
                let before = c.clone();
                let (a_row, a_col) = if transposed { (1, m) } else { (k, 1) };
                let x = Product {
                    m,
                    n,
                    k,
                    a: a.as_ptr(),
                    a_row,
                    a_col,
                    b: b.as_ptr(),
                    b_row: n,
                    c: c.as_mut_ptr(),
                    c_row: n,
                    accumulate,
                };
                // SAFETY: the slices have the sizes that the strides ask for.
                unsafe { product(&x) };
                for i in 0..m {
                    for j in 0..n {
                        let s: f32 = (0..k).map(|p| a[i * a_row + p * a_col] * b[p * n + j]).sum();
                        let old = if accumulate { before[i * n + j] } else { 0.0 };
                        assert_eq!(c[i * n + j], old + s, "{m} {n} {k} at {i}, {j}");
                    }
                }
            }
        }
    }
}
