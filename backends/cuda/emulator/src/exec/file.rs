//! The registers of a warp, and functions that go over its lanes.
//!
//! A row has the 32 lanes of a 32-bit register; a 64-bit register has two rows. Narrower values are in the low
//! bits of 32, with anything above. A predicate is a bit for each lane.

use half::{bf16, f16};

/// The row where a register begins.
pub(crate) type Reg = u32;

/// All lanes.
pub(crate) const FULL: u32 = u32::MAX;

/// A predicate that is read, perhaps negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pred {
    pub index: u32,
    pub negated: bool,
}

/// What each lane of a mask does with its registers.
pub(crate) type Alu = fn(&mut File, u32, &[Reg; 5]);
/// In which lanes something holds of two registers.
pub(crate) type Compare = fn(&File, Reg, Reg) -> u32;

/// The registers of a warp.
#[derive(Debug, Default)]
pub(crate) struct File {
    rows: Vec<[u64; 16]>,
    predicates: Vec<u32>,
}

/// 32 or 64 bits, as registers hold them.
pub(crate) trait Word: Copy + Default + bytemuck::Pod {
    /// Rows of a register.
    const ROWS: usize;
}

impl Word for u32 {
    const ROWS: usize = 1;
}

impl Word for u64 {
    const ROWS: usize = 2;
}

/// A type of values in registers.
pub(crate) trait Lane: Copy {
    type Word: Word;
    fn read(word: Self::Word) -> Self;
    fn write(self) -> Self::Word;
}

macro_rules! lane {
    ($($t:ty, $word:ty, $w:ident => $read:expr, $v:ident => $write:expr;)*) => {$(
        impl Lane for $t {
            type Word = $word;
            #[inline(always)]
            fn read($w: $word) -> Self {
                $read
            }
            #[inline(always)]
            fn write(self) -> $word {
                let $v = self;
                $write
            }
        }
    )*};
}

lane! {
    u8, u32, w => w as u8, v => u32::from(v);
    i8, u32, w => w as i8, v => v as i32 as u32;
    u16, u32, w => w as u16, v => u32::from(v);
    i16, u32, w => w as i16, v => v as i32 as u32;
    u32, u32, w => w, v => v;
    i32, u32, w => w as i32, v => v as u32;
    f32, u32, w => f32::from_bits(w), v => v.to_bits();
    f16, u32, w => f16::from_bits(w as u16), v => u32::from(v.to_bits());
    bf16, u32, w => bf16::from_bits(w as u16), v => u32::from(v.to_bits());
    [f16; 2], u32, w => [f16::read(w), f16::read(w >> 16)], v => v[0].write() | v[1].write() << 16;
    [bf16; 2], u32, w => [bf16::read(w), bf16::read(w >> 16)], v => v[0].write() | v[1].write() << 16;
    [u16; 2], u32, w => [w as u16, (w >> 16) as u16], v => v[0].write() | v[1].write() << 16;
    [i16; 2], u32, w => [w as i16, (w >> 16) as i16], v => (v[0] as u16).write() | (v[1] as u16).write() << 16;
    u64, u64, w => w, v => v;
    i64, u64, w => w as i64, v => v as u64;
    f64, u64, w => f64::from_bits(w), v => v.to_bits();
}

impl File {
    /// Makes all registers hold zeros.
    pub(crate) fn clear(&mut self, rows: usize, predicates: usize) {
        self.rows.clear();
        self.rows.resize(rows, [0; 16]);
        self.predicates.clear();
        self.predicates.resize(predicates, 0);
    }

    /// The lanes of a register.
    #[inline(always)]
    pub(crate) fn row<W: Word>(&self, r: Reg) -> &[W; 32] {
        let rows: &[W] = bytemuck::cast_slice(&self.rows[r as usize..r as usize + W::ROWS]);
        rows.try_into().expect("rows have 32 lanes")
    }

    /// The lanes of a register, to write.
    #[inline(always)]
    pub(crate) fn row_mut<W: Word>(&mut self, r: Reg) -> &mut [W; 32] {
        let rows: &mut [W] = bytemuck::cast_slice_mut(&mut self.rows[r as usize..r as usize + W::ROWS]);
        rows.try_into().expect("rows have 32 lanes")
    }

    /// Writes the lanes of a mask.
    #[inline(always)]
    pub(crate) fn set<W: Word>(&mut self, r: Reg, values: &[W; 32], mask: u32) {
        let row = self.row_mut::<W>(r);
        if mask == FULL {
            *row = *values;
        } else {
            for l in lanes(mask) {
                row[l] = values[l];
            }
        }
    }

    /// The low 64 bits of a register that may have 32.
    #[inline(always)]
    pub(crate) fn any(&self, r: Reg, wide: bool, lane: usize) -> u64 {
        if wide { self.row::<u64>(r)[lane] } else { u64::from(self.row::<u32>(r)[lane]) }
    }

    /// In which lanes a predicate holds.
    #[inline(always)]
    pub(crate) fn predicate(&self, p: Pred) -> u32 {
        let bits = self.predicates[p.index as usize];
        if p.negated { !bits } else { bits }
    }

    /// Sets a predicate in the lanes of a mask.
    #[inline(always)]
    pub(crate) fn set_predicate(&mut self, index: u32, bits: u32, mask: u32) {
        let p = &mut self.predicates[index as usize];
        *p = *p & !mask | bits & mask;
    }
}

/// The lanes of a mask.
#[inline(always)]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let l = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            l
        })
    })
}

/// `d = f(a)`.
#[inline(always)]
pub(crate) fn map1<A: Lane, R: Lane>(file: &mut File, mask: u32, r: &[Reg; 5], f: impl Fn(A) -> R) {
    let mut out = [R::Word::default(); 32];
    let a = file.row::<A::Word>(r[1]);
    for l in 0..32 {
        out[l] = f(A::read(a[l])).write();
    }
    file.set(r[0], &out, mask);
}

/// `d = f(a, b)`.
#[inline(always)]
pub(crate) fn map2<A: Lane, B: Lane, R: Lane>(
    file: &mut File,
    mask: u32,
    r: &[Reg; 5],
    f: impl Fn(A, B) -> R,
) {
    let mut out = [R::Word::default(); 32];
    let (a, b) = (file.row::<A::Word>(r[1]), file.row::<B::Word>(r[2]));
    for l in 0..32 {
        out[l] = f(A::read(a[l]), B::read(b[l])).write();
    }
    file.set(r[0], &out, mask);
}

/// `d = f(a, b, c)`.
#[inline(always)]
pub(crate) fn map3<A: Lane, B: Lane, C: Lane, R: Lane>(
    file: &mut File,
    mask: u32,
    r: &[Reg; 5],
    f: impl Fn(A, B, C) -> R,
) {
    let mut out = [R::Word::default(); 32];
    let (a, b, c) = (file.row::<A::Word>(r[1]), file.row::<B::Word>(r[2]), file.row::<C::Word>(r[3]));
    for l in 0..32 {
        out[l] = f(A::read(a[l]), B::read(b[l]), C::read(c[l])).write();
    }
    file.set(r[0], &out, mask);
}

/// `d = f(a, b, c, e)`.
#[inline(always)]
pub(crate) fn map4<A: Lane, B: Lane, C: Lane, E: Lane, R: Lane>(
    file: &mut File,
    mask: u32,
    r: &[Reg; 5],
    f: impl Fn(A, B, C, E) -> R,
) {
    let mut out = [R::Word::default(); 32];
    let (a, b) = (file.row::<A::Word>(r[1]), file.row::<B::Word>(r[2]));
    let (c, e) = (file.row::<C::Word>(r[3]), file.row::<E::Word>(r[4]));
    for l in 0..32 {
        out[l] = f(A::read(a[l]), B::read(b[l]), C::read(c[l]), E::read(e[l])).write();
    }
    file.set(r[0], &out, mask);
}

/// The lanes in which `f(a, b)` holds.
#[inline(always)]
pub(crate) fn holds<A: Lane>(file: &File, a: Reg, b: Reg, f: impl Fn(A, A) -> bool) -> u32 {
    let (a, b) = (file.row::<A::Word>(a), file.row::<A::Word>(b));
    (0..32).fold(0, |bits, l| bits | u32::from(f(A::read(a[l]), A::read(b[l]))) << l)
}

/// A function over lanes as an [`Alu`]: `alu!((u32, u32) -> u32, |a, b| a + b)`.
macro_rules! alu {
    (($a:ty) -> $r:ty, $f:expr) => {{
        fn run(file: &mut $crate::exec::file::File, mask: u32, r: &[$crate::exec::file::Reg; 5]) {
            $crate::exec::file::map1::<$a, $r>(file, mask, r, $f);
        }
        run as $crate::exec::file::Alu
    }};
    (($a:ty, $b:ty) -> $r:ty, $f:expr) => {{
        fn run(file: &mut $crate::exec::file::File, mask: u32, r: &[$crate::exec::file::Reg; 5]) {
            $crate::exec::file::map2::<$a, $b, $r>(file, mask, r, $f);
        }
        run as $crate::exec::file::Alu
    }};
    (($a:ty, $b:ty, $c:ty) -> $r:ty, $f:expr) => {{
        fn run(file: &mut $crate::exec::file::File, mask: u32, r: &[$crate::exec::file::Reg; 5]) {
            $crate::exec::file::map3::<$a, $b, $c, $r>(file, mask, r, $f);
        }
        run as $crate::exec::file::Alu
    }};
    (($a:ty, $b:ty, $c:ty, $e:ty) -> $r:ty, $f:expr) => {{
        fn run(file: &mut $crate::exec::file::File, mask: u32, r: &[$crate::exec::file::Reg; 5]) {
            $crate::exec::file::map4::<$a, $b, $c, $e, $r>(file, mask, r, $f);
        }
        run as $crate::exec::file::Alu
    }};
}

/// A comparison of lanes as a [`Compare`]: `compare!(u32, |a, b| a < b)`.
macro_rules! compare {
    ($a:ty, $f:expr) => {{
        fn run(
            file: &$crate::exec::file::File,
            a: $crate::exec::file::Reg,
            b: $crate::exec::file::Reg,
        ) -> u32 {
            $crate::exec::file::holds::<$a>(file, a, b, $f)
        }
        run as $crate::exec::file::Compare
    }};
}

pub(crate) use {alu, compare};
