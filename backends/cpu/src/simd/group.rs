//! Thirty-two numbers in registers: a group of a quantised block while it is used.
//!
//! All instruction sets do the same operations in the same order. Those that are fused elsewhere round twice at
//! [`Level::Base`](super::Level) without a fused multiply-add.

use super::math::fma;
use half::f16;

/// 32 numbers, f32.
///
/// # Safety
/// Everything here is only used in functions that are compiled for the type's instructions; pointers point
/// to as much as is read or written, without alignment.
pub(crate) trait Group: Copy {
    /// Zeros.
    unsafe fn zero() -> Self;
    /// Numbers in memory.
    unsafe fn load(x: *const f32) -> Self;
    /// Into memory.
    unsafe fn store(self, y: *mut f32);
    /// 32 signed bytes.
    unsafe fn signed(q: *const u8) -> Self;
    /// The lower halves of 16 bytes, then the upper.
    unsafe fn nibbles(q: *const u8) -> Self;
    /// The lower halves of 32 bytes.
    unsafe fn lower(q: *const u8) -> Self;
    /// The upper halves of 32 bytes.
    unsafe fn upper(q: *const u8) -> Self;
    /// `d · self + m`, with one `d` for each half.
    unsafe fn spread(self, d: [f32; 2], m: f32) -> Self;
    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// All of them, added as a tree: those 16 apart first.
    unsafe fn sum(self) -> f32;
    /// An f16 in memory.
    unsafe fn half(p: *const u8) -> f32;
}

/// As the compiler likes them.
#[derive(Clone, Copy)]
pub(crate) struct Plain([f32; 32]);

impl Group for Plain {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0.0; 32])
    }
    #[inline(always)]
    unsafe fn load(x: *const f32) -> Self {
        // SAFETY: by the caller.
        Plain(unsafe { x.cast::<[f32; 32]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, y: *mut f32) {
        // SAFETY: by the caller.
        unsafe { y.cast::<[f32; 32]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn signed(q: *const u8) -> Self {
        // SAFETY: by the caller.
        let q = unsafe { q.cast::<[i8; 32]>().read() };
        Plain(q.map(f32::from))
    }
    #[inline(always)]
    unsafe fn nibbles(q: *const u8) -> Self {
        // SAFETY: by the caller.
        let q = unsafe { q.cast::<[u8; 16]>().read() };
        let mut y = [0.0; 32];
        for (i, q) in q.into_iter().enumerate() {
            y[i] = f32::from(q & 15);
            y[16 + i] = f32::from(q >> 4);
        }
        Plain(y)
    }
    #[inline(always)]
    unsafe fn lower(q: *const u8) -> Self {
        // SAFETY: by the caller.
        Plain(unsafe { q.cast::<[u8; 32]>().read() }.map(|q| f32::from(q & 15)))
    }
    #[inline(always)]
    unsafe fn upper(q: *const u8) -> Self {
        // SAFETY: by the caller.
        Plain(unsafe { q.cast::<[u8; 32]>().read() }.map(|q| f32::from(q >> 4)))
    }
    #[inline(always)]
    unsafe fn spread(mut self, d: [f32; 2], m: f32) -> Self {
        for (half, d) in self.0.as_chunks_mut::<16>().0.iter_mut().zip(d) {
            for x in half {
                *x = fma::<{ super::BASE_FMA }>(d, *x, m);
            }
        }
        self
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, mut c: Self) -> Self {
        for ((a, b), c) in self.0.iter().zip(b.0).zip(&mut c.0) {
            *c = fma::<{ super::BASE_FMA }>(*a, b, *c);
        }
        c
    }
    #[inline(always)]
    unsafe fn sum(mut self) -> f32 {
        for n in [16, 8, 4, 2, 1] {
            for i in 0..n {
                self.0[i] += self.0[i + n];
            }
        }
        self.0[0]
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> f32 {
        // SAFETY: by the caller.
        f16::from_le_bytes(unsafe { p.cast::<[u8; 2]>().read() }).to_f32()
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Ymm, Zmm};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Group;
    use std::arch::x86_64::*;

    /// With AVX2, FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Ymm([__m256; 4]);

    /// With AVX-512 F, BW, DQ and VL, and what [`Ymm`] needs.
    #[derive(Clone, Copy)]
    pub(crate) struct Zmm([__m512; 2]);

    /// # Safety
    /// As for [`Group`], with AVX.
    #[inline(always)]
    unsafe fn sum8(x: __m256) -> f32 {
        // SAFETY: by the caller.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    /// # Safety
    /// As for [`Group`], with F16C.
    #[inline(always)]
    unsafe fn half(p: *const u8) -> f32 {
        // SAFETY: by the caller.
        unsafe {
            let bits = p.cast::<u16>().read_unaligned();
            _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
        }
    }

    /// The lower and upper halves of 16 bytes.
    ///
    /// # Safety
    /// As for [`Group`].
    #[inline(always)]
    unsafe fn nibbles(q: *const u8) -> [__m128i; 2] {
        // SAFETY: by the caller.
        unsafe {
            let (q, mask) = (_mm_loadu_si128(q.cast()), _mm_set1_epi8(15));
            [_mm_and_si128(q, mask), _mm_and_si128(_mm_srli_epi16::<4>(q), mask)]
        }
    }

    /// Four bits from bit `SHIFT` on of eight bytes.
    ///
    /// # Safety
    /// As for [`Group`], with AVX2.
    #[inline(always)]
    unsafe fn half_bytes<const SHIFT: i32>(q: *const u8) -> __m256 {
        // SAFETY: by the caller.
        unsafe {
            let q = _mm256_cvtepu8_epi32(_mm_loadl_epi64(q.cast()));
            _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32::<SHIFT>(q), _mm256_set1_epi32(15)))
        }
    }

    /// As `half_bytes`, of sixteen bytes.
    ///
    /// # Safety
    /// As for [`Group`], with AVX-512 F.
    #[inline(always)]
    unsafe fn half_bytes_wide<const SHIFT: u32>(q: *const u8) -> __m512 {
        // SAFETY: by the caller.
        unsafe {
            let q = _mm512_cvtepu8_epi32(_mm_loadu_si128(q.cast()));
            _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32::<SHIFT>(q), _mm512_set1_epi32(15)))
        }
    }

    impl Group for Ymm {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: by the caller.
            Ymm(unsafe { [_mm256_setzero_ps(); 4] })
        }
        #[inline(always)]
        unsafe fn load(x: *const f32) -> Self {
            // SAFETY: by the caller.
            Ymm(std::array::from_fn(|i| unsafe { _mm256_loadu_ps(x.add(8 * i)) }))
        }
        #[inline(always)]
        unsafe fn store(self, y: *mut f32) {
            for (i, x) in self.0.into_iter().enumerate() {
                // SAFETY: by the caller.
                unsafe { _mm256_storeu_ps(y.add(8 * i), x) };
            }
        }
        #[inline(always)]
        unsafe fn signed(q: *const u8) -> Self {
            Ymm(std::array::from_fn(|i| {
                // SAFETY: by the caller.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(q.add(8 * i).cast()))) }
            }))
        }
        #[inline(always)]
        unsafe fn nibbles(q: *const u8) -> Self {
            // SAFETY: by the caller.
            unsafe {
                let [low, high] = nibbles(q);
                let q = [low, _mm_srli_si128::<8>(low), high, _mm_srli_si128::<8>(high)];
                Ymm(q.map(|q| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q))))
            }
        }
        #[inline(always)]
        unsafe fn lower(q: *const u8) -> Self {
            // SAFETY: by the caller.
            Ymm(std::array::from_fn(|i| unsafe { half_bytes::<0>(q.add(8 * i)) }))
        }
        #[inline(always)]
        unsafe fn upper(q: *const u8) -> Self {
            // SAFETY: by the caller.
            Ymm(std::array::from_fn(|i| unsafe { half_bytes::<4>(q.add(8 * i)) }))
        }
        #[inline(always)]
        unsafe fn spread(self, d: [f32; 2], m: f32) -> Self {
            // SAFETY: by the caller.
            unsafe {
                let (d, m) = (d.map(|d| _mm256_set1_ps(d)), _mm256_set1_ps(m));
                Ymm(std::array::from_fn(|i| _mm256_fmadd_ps(d[i / 2], self.0[i], m)))
            }
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller.
            Ymm(std::array::from_fn(|i| unsafe { _mm256_fmadd_ps(self.0[i], b.0[i], c.0[i]) }))
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            let [a, b, c, d] = self.0;
            // SAFETY: by the caller.
            unsafe { sum8(_mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d))) }
        }
        #[inline(always)]
        unsafe fn half(p: *const u8) -> f32 {
            // SAFETY: by the caller.
            unsafe { half(p) }
        }
    }

    impl Group for Zmm {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: by the caller.
            Zmm(unsafe { [_mm512_setzero_ps(); 2] })
        }
        #[inline(always)]
        unsafe fn load(x: *const f32) -> Self {
            // SAFETY: by the caller.
            Zmm(std::array::from_fn(|i| unsafe { _mm512_loadu_ps(x.add(16 * i)) }))
        }
        #[inline(always)]
        unsafe fn store(self, y: *mut f32) {
            for (i, x) in self.0.into_iter().enumerate() {
                // SAFETY: by the caller.
                unsafe { _mm512_storeu_ps(y.add(16 * i), x) };
            }
        }
        #[inline(always)]
        unsafe fn signed(q: *const u8) -> Self {
            Zmm(std::array::from_fn(|i| {
                // SAFETY: by the caller.
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(q.add(16 * i).cast()))) }
            }))
        }
        #[inline(always)]
        unsafe fn nibbles(q: *const u8) -> Self {
            // SAFETY: by the caller.
            unsafe { Zmm(nibbles(q).map(|q| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q)))) }
        }
        #[inline(always)]
        unsafe fn lower(q: *const u8) -> Self {
            // SAFETY: by the caller.
            Zmm(std::array::from_fn(|i| unsafe { half_bytes_wide::<0>(q.add(16 * i)) }))
        }
        #[inline(always)]
        unsafe fn upper(q: *const u8) -> Self {
            // SAFETY: by the caller.
            Zmm(std::array::from_fn(|i| unsafe { half_bytes_wide::<4>(q.add(16 * i)) }))
        }
        #[inline(always)]
        unsafe fn spread(self, d: [f32; 2], m: f32) -> Self {
            // SAFETY: by the caller.
            unsafe {
                let m = _mm512_set1_ps(m);
                Zmm(std::array::from_fn(|i| _mm512_fmadd_ps(_mm512_set1_ps(d[i]), self.0[i], m)))
            }
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller.
            Zmm(std::array::from_fn(|i| unsafe { _mm512_fmadd_ps(self.0[i], b.0[i], c.0[i]) }))
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            // SAFETY: by the caller.
            unsafe {
                let x = _mm512_add_ps(self.0[0], self.0[1]);
                sum8(_mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x)))
            }
        }
        #[inline(always)]
        unsafe fn half(p: *const u8) -> f32 {
            // SAFETY: by the caller.
            unsafe { half(p) }
        }
    }
}
