//! Rotary embedding.

use crate::par;
use crate::simd::simd;
use crate::view::View;

/// # Safety
/// As for [`super::run`].
pub(super) unsafe fn rope(inverse: bool, interleaved: bool, i: &[View], y: &View) {
    let (x, cos, sin) = (&i[0], &i[1], &i[2]);
    let (heads, d, half, last) = (x.shape[1], x.shape[2], cos.shape[1], cos.shape[0] - 1);
    // SAFETY: by the caller.
    let positions = unsafe { i[3].ints() };
    par::ranges(positions.len(), heads * d, |tokens| {
        par::with_scratch(2 * half + 2 * d, |scratch| {
            let (c, rest) = scratch.split_at_mut(half);
            let (s, rest) = rest.split_at_mut(half);
            let (a, b) = rest.split_at_mut(d);
            for t in tokens {
                let p = (positions[t].max(0) as usize).min(last);
                // SAFETY: by the caller; each row is written once.
                unsafe {
                    cos.row(p).load(c);
                    sin.row(p).load(s);
                    if inverse {
                        s.iter_mut().for_each(|s| *s = -*s);
                    }
                    for h in t * heads..(t + 1) * heads {
                        let xs = if x.ptr == y.ptr { x.row(h).copied(a) } else { x.row(h).read(a) };
                        y.row(h).write(b, |y| {
                            if interleaved {
                                neighbours(xs, c, s, y);
                            } else {
                                halves(xs, c, s, y);
                            }
                        });
                    }
                }
            }
        });
    });
}

simd! {
    /// Pairs `(i, i + r/2)`.
    fn halves(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
        let half = cos.len();
        let (x0, rest) = x.split_at(half);
        let (x1, kept) = rest.split_at(half);
        let (y0, out) = y.split_at_mut(half);
        let (y1, out) = out.split_at_mut(half);
        let angles = cos.iter().zip(sin);
        for ((((y0, y1), x0), x1), (c, s)) in y0.iter_mut().zip(y1).zip(x0).zip(x1).zip(angles) {
            *y0 = x0 * c - x1 * s;
            *y1 = x0 * s + x1 * c;
        }
        out.copy_from_slice(kept);
    }

    /// Pairs `(2i, 2i + 1)`.
    fn neighbours(x: &[f32], cos: &[f32], sin: &[f32], y: &mut [f32]) {
        let (x, kept) = x.split_at(2 * cos.len());
        let (y, out) = y.split_at_mut(2 * cos.len());
        let angles = cos.iter().zip(sin);
        for ((y, x), (c, s)) in y.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0).zip(angles) {
            *y = [x[0] * c - x[1] * s, x[0] * s + x[1] * c];
        }
        out.copy_from_slice(kept);
    }
}
