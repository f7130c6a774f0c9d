//! Kernels for a few rows of A (decoding): they stream B once from where it lies, without packing it, in the same order
//! of additions as the packed kernels.

use super::MatRef;

/// Rows of A at most.
pub(super) const MAX_ROWS: usize = 8;

/// Arguments of a skinny kernel: `sums = A·B (+ bias) (+ sums)`.
pub(super) struct Skinny {
    /// 1..=MAX_ROWS.
    pub rows: usize,
    /// A multiple of the level's lanes.
    pub cols: usize,
    /// More than 0.
    pub k: usize,
    /// A in panels of the level's `nr` values of k, `[k / nr, rows, nr]`.
    pub a: *const f32,
    /// B, one of whose strides is 1.
    pub b: MatRef,
    /// The result, `[rows, cols]`.
    pub sums: *mut f32,
    /// Room for another `[rows, cols]`.
    pub partial: *mut f32,
    /// `cols` values, or null.
    pub bias: *const f32,
    /// Whether `sums` holds values to add to.
    pub add: bool,
}

/// Defines `skinny(&Skinny)` from one level's vector operations. A macro, because a function cannot be generic over
/// the instruction set it is compiled for.
macro_rules! define_skinny {
    (
        features: $features:literal, lanes: $lanes:expr, panel: $panel:expr, zero: $zero:ident, set1: $set1:ident,
        fma: $fma:ident, add: $add:ident, load: $load:ident, store: $store:ident, transpose: $transpose:ident
    ) => {
        /// # Safety
        ///
        /// As [`Skinny`] describes; the machine has this level.
        unsafe fn skinny(t: &Skinny) {
            // SAFETY: the caller's promise, with the element type that B names.
            unsafe {
                match t.b.elem {
                    Elem::F32 => skinny_typed::<f32>(t),
                    Elem::F16 => skinny_typed::<f16>(t),
                    Elem::Bf16 => skinny_typed::<bf16>(t),
                }
            }
        }

        /// # Safety
        ///
        /// As `skinny`, with B's elements of type `E`.
        unsafe fn skinny_typed<E: Wide>(t: &Skinny) {
            type Kernel = unsafe fn(&Skinny);
            let along_rows: [Kernel; MAX_ROWS] = [
                rows::<1, E>,
                rows::<2, E>,
                rows::<3, E>,
                rows::<4, E>,
                rows::<5, E>,
                rows::<6, E>,
                rows::<7, E>,
                rows::<8, E>,
            ];
            let along_cols: [Kernel; MAX_ROWS] = [
                cols::<1, E>,
                cols::<2, E>,
                cols::<3, E>,
                cols::<4, E>,
                cols::<5, E>,
                cols::<6, E>,
                cols::<7, E>,
                cols::<8, E>,
            ];
            let kernels = if t.b.col_stride == 1 { along_rows } else { along_cols };
            // SAFETY: the caller's promise.
            unsafe { kernels[t.rows - 1](t) }
        }

        /// B's rows are contiguous: a few of them at a time, read from end to end.
        ///
        /// # Safety
        ///
        /// As [`Skinny`] describes, with `rows` = R.
        #[target_feature(enable = $features)]
        unsafe fn rows<const R: usize, E: Wide>(t: &Skinny) {
            let mut p = 0;
            while p < t.k {
                // Up to the end of the block of k, where sums are handed over.
                let end = (p / KC * KC + KC).min(t.k);
                // SAFETY: the caller's promise; the rows from p lie before `end`.
                unsafe {
                    if end - p >= 8 {
                        some_rows::<R, 8, E>(t, p, p + 8 == end);
                        p += 8;
                    } else {
                        some_rows::<R, 1, E>(t, p, p + 1 == end);
                        p += 1;
                    }
                }
            }
        }

        /// Rows p..p + U of B; `finish` says that they end a block of k.
        ///
        /// # Safety
        ///
        /// As [`Skinny`] describes, with `rows` = R and p + U at most k.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn some_rows<const R: usize, const U: usize, E: Wide>(t: &Skinny, p: usize, finish: bool) {
            // SAFETY: `a` has R values for each p; B has `cols` columns at each p; `sums`, `partial` and `bias` have
            // as many.
            unsafe {
                let b = t.b.ptr.cast::<E>();
                for j in (0..t.cols).step_by($lanes) {
                    let mut acc = [$zero(); R];
                    if p % KC != 0 {
                        for i in 0..R {
                            acc[i] = $load(t.partial.add(i * t.cols + j));
                        }
                    }
                    for u in p..p + U {
                        let y = E::full(b.offset(u as isize * t.b.row_stride).add(j));
                        let a = t.a.add(u / $panel * $panel * R + u % $panel);
                        for i in 0..R {
                            acc[i] = $fma($set1(*a.add(i * $panel)), y, acc[i]);
                        }
                    }
                    for i in 0..R {
                        if finish {
                            let sum = t.sums.add(i * t.cols + j);
                            let mut v = acc[i];
                            if p < KC && !t.bias.is_null() {
                                v = $add(v, $load(t.bias.add(j)));
                            }
                            if p >= KC || t.add {
                                v = $add(v, $load(sum));
                            }
                            $store(sum, v);
                        } else {
                            $store(t.partial.add(i * t.cols + j), acc[i]);
                        }
                    }
                }
            }
        }

        /// B's columns are contiguous: a few vectors of columns at a time, read from end to end, turned in registers.
        ///
        /// # Safety
        ///
        /// As [`Skinny`] describes, with `rows` = R.
        #[target_feature(enable = $features)]
        unsafe fn cols<const R: usize, E: Wide>(t: &Skinny) {
            let mut j = 0;
            // Two vectors at a time, because one is a single chain of dependent additions.
            while j + 2 * $lanes <= t.cols {
                // SAFETY: the caller's promise; the columns from j lie before `cols`.
                unsafe { some_cols::<R, 2, E>(t, j) };
                j += 2 * $lanes;
            }
            if j < t.cols {
                // SAFETY: as above.
                unsafe { some_cols::<R, 1, E>(t, j) };
            }
        }

        /// Columns j.. of B, G vectors of them.
        ///
        /// # Safety
        ///
        /// As [`Skinny`] describes, with `rows` = R and the columns before `cols`.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn some_cols<const R: usize, const G: usize, E: Wide>(t: &Skinny, j: usize) {
            // SAFETY: `a` has R values for each p; each of the columns has k values; `sums` and `bias` reach past
            // the columns.
            unsafe {
                let b = t.b.ptr.cast::<E>();
                for block in (0..t.k).step_by(KC) {
                    let mut acc = [[$zero(); R]; G];
                    let end = (block + KC).min(t.k);
                    for p in (block..end).step_by($lanes) {
                        let a = t.a.add(p / $panel * $panel * R + p % $panel);
                        for g in 0..G {
                            let src = b.offset((j + g * $lanes) as isize * t.b.col_stride).add(p);
                            if end - p >= $lanes {
                                let mut r = [$zero(); $lanes];
                                for l in 0..$lanes {
                                    let line = src.offset(l as isize * t.b.col_stride);
                                    _mm_prefetch::<_MM_HINT_T0>(line.cast::<i8>().wrapping_add(AHEAD));
                                    r[l] = E::full(line);
                                }
                                let r = $transpose(r);
                                for q in 0..$lanes {
                                    for i in 0..R {
                                        acc[g][i] = $fma($set1(*a.add(i * $panel + q)), r[q], acc[g][i]);
                                    }
                                }
                            } else {
                                for q in 0..end - p {
                                    let mut y = [0f32; $lanes];
                                    for l in 0..$lanes {
                                        y[l] = (*src.offset(l as isize * t.b.col_stride).add(q)).widen();
                                    }
                                    for i in 0..R {
                                        acc[g][i] = $fma($set1(*a.add(i * $panel + q)), $load(y.as_ptr()), acc[g][i]);
                                    }
                                }
                            }
                        }
                    }
                    for g in 0..G {
                        for i in 0..R {
                            let j = j + g * $lanes;
                            let sum = t.sums.add(i * t.cols + j);
                            let mut v = acc[g][i];
                            if block == 0 && !t.bias.is_null() {
                                v = $add(v, $load(t.bias.add(j)));
                            }
                            if block > 0 || t.add {
                                v = $add(v, $load(sum));
                            }
                            $store(sum, v);
                        }
                    }
                }
            }
        }
    };
}
pub(super) use define_skinny;

/// How many bytes ahead columns are fetched: more streams than the hardware follows by itself.
pub(super) const AHEAD: usize = 512;
