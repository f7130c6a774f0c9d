//! Code that is compiled for several instruction sets, the best of which is chosen at run time.
//!
//! Loops are plain Rust that vectorises; [`simd!`] makes a copy of a function for each instruction set.

pub(crate) mod blocks;
pub(crate) mod convert;
mod group;
pub(crate) mod math;
pub(crate) mod panels;
pub(crate) mod tile;
mod wide;

use std::sync::OnceLock;

/// How far ahead of its use a stream of weights is fetched, in bytes.
const AHEAD: usize = 1536;

/// Fetches the line of an address, which may be any.
#[inline(always)]
pub(crate) fn prefetch(_p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and the address may be any.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(_p.cast());
    }
}

/// Fetches what lies [`AHEAD`] of an address in a stream of weights, or beyond its end.
#[inline(always)]
fn prefetch_ahead(p: *const u8) {
    prefetch(p.wrapping_add(AHEAD));
}

/// The instruction sets that there are copies for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What every processor of the architecture has.
    Base,
}

/// The environment variable that keeps to lesser instruction sets: to find a fault, or to test what other
/// processors run.
pub(crate) const LIMIT: &str = "HALITE_CPU_ISA";
/// Its values.
pub(crate) const LIMITS: [&str; 3] = ["portable", "avx2", "avx512"];

/// The best that this processor has and [`LIMIT`] allows.
#[inline]
pub(crate) fn level() -> Level {
    static BEST: OnceLock<Level> = OnceLock::new();
    *BEST.get_or_init(|| match std::env::var(LIMIT).as_deref() {
        Ok("portable") => Level::Base,
        #[cfg(target_arch = "x86_64")]
        Ok("avx2") if detect() == Level::Avx512 => Level::Avx2,
        _ => detect(),
    })
}

fn detect() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let v4 = v3
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if v4 {
            return Level::Avx512;
        }
        if v3 {
            return Level::Avx2;
        }
    }
    Level::Base
}

/// Whether the base level has a fused multiply-add instruction.
pub(crate) const BASE_FMA: bool = cfg!(target_arch = "aarch64");

/// Compiles functions for each [`Level`]. Inside, `FMA` says whether there is a fused multiply-add; all
/// that is called must be inlined to profit.
macro_rules! simd {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body::<true>($($arg),*)
            }

            match $crate::simd::level() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has these instructions.
                $crate::simd::Level::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the processor has these instructions.
                $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                $crate::simd::Level::Base => body::<{ $crate::simd::BASE_FMA }>($($arg),*),
            }
        }
    )*};
}
pub(crate) use simd;
