//! Sixteen numbers in registers, one of each column of a panel.
//!
//! All instruction sets do the same operations in the same order. Those that are fused elsewhere round twice at
//! [`Level::Base`](super::Level) without a fused multiply-add.

use super::math::fma;
use half::f16;

/// 16 numbers, f32.
///
/// # Safety
/// Everything here is only used in functions that are compiled for the type's instructions; pointers point
/// to as much as is read or written, without alignment.
pub(crate) trait Wide: Copy {
    /// 16 words of 32 bits.
    type Words: Copy;
    /// One number in all places.
    unsafe fn splat(x: f32) -> Self;
    /// Into memory.
    unsafe fn store(self, y: *mut f32);
    /// 16 f16 in memory.
    unsafe fn halves(h: *const u8) -> Self;
    /// Words in memory.
    unsafe fn words(w: *const u8) -> Self::Words;
    /// Four bits of each word, from bit `4t` on, `t < 8`: their value times `2^(4t)`, but for `t = 7` the value.
    unsafe fn nibble(w: Self::Words, t: usize) -> Self;
    /// 16 signed bytes in memory.
    unsafe fn signed(q: *const u8) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
}

/// As the compiler likes them.
#[derive(Clone, Copy)]
pub(crate) struct Plain16([f32; 16]);

impl Wide for Plain16 {
    type Words = [u32; 16];
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Plain16([x; 16])
    }
    #[inline(always)]
    unsafe fn store(self, y: *mut f32) {
        // SAFETY: by the caller.
        unsafe { y.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn halves(h: *const u8) -> Self {
        // SAFETY: by the caller.
        let h = unsafe { h.cast::<[[u8; 2]; 16]>().read() };
        Plain16(h.map(|h| f16::from_le_bytes(h).to_f32()))
    }
    #[inline(always)]
    unsafe fn words(w: *const u8) -> [u32; 16] {
        // SAFETY: by the caller.
        unsafe { w.cast::<[[u8; 4]; 16]>().read() }.map(u32::from_le_bytes)
    }
    #[inline(always)]
    unsafe fn nibble(w: [u32; 16], t: usize) -> Self {
        Plain16(w.map(|w| if t < 7 { (w & 15 << (4 * t)) as f32 } else { (w >> 28) as f32 }))
    }
    #[inline(always)]
    unsafe fn signed(q: *const u8) -> Self {
        // SAFETY: by the caller.
        Plain16(unsafe { q.cast::<[i8; 16]>().read() }.map(f32::from))
    }
    #[inline(always)]
    unsafe fn add(mut self, b: Self) -> Self {
        self.0.iter_mut().zip(b.0).for_each(|(a, b)| *a += b);
        self
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, mut c: Self) -> Self {
        for ((a, b), c) in self.0.iter().zip(b.0).zip(&mut c.0) {
            *c = fma::<{ super::BASE_FMA }>(*a, b, *c);
        }
        c
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Ymm16, Zmm16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Wide;
    use std::arch::x86_64::*;
    use std::array::from_fn;

    /// With AVX2, FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Ymm16([__m256; 2]);

    /// With AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Zmm16(__m512);

    impl Wide for Ymm16 {
        type Words = [__m256i; 2];
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the caller.
            Ymm16(unsafe { [_mm256_set1_ps(x); 2] })
        }
        #[inline(always)]
        unsafe fn store(self, y: *mut f32) {
            for (i, x) in self.0.into_iter().enumerate() {
                // SAFETY: by the caller.
                unsafe { _mm256_storeu_ps(y.add(8 * i), x) };
            }
        }
        #[inline(always)]
        unsafe fn halves(h: *const u8) -> Self {
            // SAFETY: by the caller.
            Ymm16(from_fn(|i| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(h.add(16 * i).cast())) }))
        }
        #[inline(always)]
        unsafe fn words(w: *const u8) -> Self::Words {
            // SAFETY: by the caller.
            from_fn(|i| unsafe { _mm256_loadu_si256(w.add(32 * i).cast()) })
        }
        #[inline(always)]
        unsafe fn nibble(w: Self::Words, t: usize) -> Self {
            // SAFETY: by the caller.
            Ymm16(w.map(|w| unsafe {
                _mm256_cvtepi32_ps(match t {
                    0..7 => _mm256_and_si256(w, _mm256_set1_epi32(15 << (4 * t))),
                    _ => _mm256_srli_epi32::<28>(w),
                })
            }))
        }
        #[inline(always)]
        unsafe fn signed(q: *const u8) -> Self {
            Ymm16(from_fn(|i| {
                // SAFETY: by the caller.
                unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(q.add(8 * i).cast()))) }
            }))
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the caller.
            Ymm16(from_fn(|i| unsafe { _mm256_add_ps(self.0[i], b.0[i]) }))
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller.
            Ymm16(from_fn(|i| unsafe { _mm256_fmadd_ps(self.0[i], b.0[i], c.0[i]) }))
        }
    }

    impl Wide for Zmm16 {
        type Words = __m512i;
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn store(self, y: *mut f32) {
            // SAFETY: by the caller.
            unsafe { _mm512_storeu_ps(y, self.0) }
        }
        #[inline(always)]
        unsafe fn halves(h: *const u8) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(h.cast())) })
        }
        #[inline(always)]
        unsafe fn words(w: *const u8) -> Self::Words {
            // SAFETY: by the caller.
            unsafe { _mm512_loadu_si512(w.cast()) }
        }
        #[inline(always)]
        unsafe fn nibble(w: Self::Words, t: usize) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe {
                _mm512_cvtepi32_ps(match t {
                    0..7 => _mm512_and_si512(w, _mm512_set1_epi32(15 << (4 * t))),
                    _ => _mm512_srli_epi32::<28>(w),
                })
            })
        }
        #[inline(always)]
        unsafe fn signed(q: *const u8) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(q.cast()))) })
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe { _mm512_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: by the caller.
            Zmm16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
    }
}
