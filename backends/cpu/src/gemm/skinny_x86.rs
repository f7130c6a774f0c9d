//! The skinny kernels ([`super::skinny`]) of the x86 levels.

/// Defines `skinny(&Skinny)` from one level's vector operations. A macro, because a function cannot be generic over
/// the instruction set it is compiled for.
macro_rules! define_skinny {
    (
        features: $features:literal, lanes: $lanes:expr, panel: $panel:expr, zero: $zero:ident, set1: $set1:ident,
        fma: $fma:ident, add: $add:ident, load: $load:ident, store: $store:ident
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

        /// B's columns are contiguous: a few vectors of columns at a time, read from end to end, turned in L1.
        ///
        /// # Safety
        ///
        /// As [`Skinny`] describes, with `rows` = R.
        #[target_feature(enable = $features)]
        unsafe fn cols<const R: usize, E: Wide>(t: &Skinny) {
            let mut j = 0;
            // Four vectors at a time, because one is a single chain of dependent additions.
            while j + 4 * $lanes <= t.cols {
                // SAFETY: the caller's promise; the columns from j lie before `cols`.
                unsafe { some_cols::<R, 4, E>(t, j) };
                j += 4 * $lanes;
            }
            while j < t.cols {
                // SAFETY: as above.
                unsafe { some_cols::<R, 1, E>(t, j) };
                j += $lanes;
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
            let step = RUN / size_of::<E>();
            let mut turned = CacheAligned([[[0f32; $lanes]; G]; RUN / 2]);
            let turned = &mut turned.0;
            // SAFETY: `a` has R values for each p; each of the columns has k values; `sums` and `bias` reach past
            // the columns.
            unsafe {
                let b = t.b.ptr.cast::<E>().offset(j as isize * t.b.col_stride);
                let next = b.wrapping_offset((G * $lanes) as isize * t.b.col_stride);
                for block in (0..t.k).step_by(KC) {
                    let mut acc = [[$zero(); R]; G];
                    let end = (block + KC).min(t.k);
                    for p in (block..end).step_by(step) {
                        let depth = (end - p).min(step);
                        // As much of the next columns, as they lie in memory.
                        let ahead = next.cast::<u8>().wrapping_add(p * G * $lanes * size_of::<E>());
                        turn(b.add(p), ahead, t.b.col_stride, &mut turned[..depth]);
                        for (q, turned) in turned[..depth].iter().enumerate() {
                            let a = t.a.add((p + q) / $panel * $panel * R + (p + q) % $panel);
                            for i in 0..R {
                                let x = $set1(*a.add(i * $panel));
                                for g in 0..G {
                                    acc[g][i] = $fma(x, $load(turned[g].as_ptr()), acc[g][i]);
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

        /// Turns G vectors of B's columns, as many elements of each as `out` has rows.
        ///
        /// # Safety
        ///
        /// The columns, `stride` apart, are readable at `src`. Those at `ahead` are fetched and may be anything.
        #[inline(never)]
        #[target_feature(enable = $features)]
        unsafe fn turn<const G: usize, E: Wide>(
            src: *const E,
            ahead: *const u8,
            stride: isize,
            out: &mut [[[f32; $lanes]; G]],
        ) {
            const LINE: usize = 64;
            let turned = out.len() / E::DEPTH * E::DEPTH;
            let bytes = $lanes * size_of::<E>();
            for g in 0..G {
                for p in (0..turned).step_by(E::DEPTH) {
                    let offset = (g * $lanes) as isize * stride + p as isize;
                    let ahead = ahead.wrapping_add((g * turned + p) * bytes);
                    // SAFETY: the caller's promise; `out[..][g]` is one vector. A prefetch may point anywhere.
                    unsafe {
                        for line in (0..E::DEPTH * bytes).step_by(LINE) {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(line).cast());
                        }
                        E::turn(src.offset(offset), stride, |q, r| $store(out[p + q][g].as_mut_ptr(), r));
                    }
                }
                for p in turned..out.len() {
                    for l in 0..$lanes {
                        // SAFETY: the caller's promise.
                        let x = unsafe { *src.offset((g * $lanes + l) as isize * stride).add(p) };
                        out[p][g][l] = x.widen();
                    }
                }
            }
        }
    };
}
pub(super) use define_skinny;

/// Bytes of each column turned at a time: a few cache lines in a row.
pub(super) const RUN: usize = 256;

/// A buffer of which no vector straddles cache lines.
#[repr(align(64))]
pub(super) struct CacheAligned<T>(pub T);
