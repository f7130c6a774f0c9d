//! Cuts problems into tiles, spreads the tiles over threads, and computes one tile.
//!
//! A tile packs what it needs itself: a block of A that stays in L2, and panels of B just before they are used. That
//! costs a few per cent of repeated packing and in return tiles share nothing. Only m, n and the list of problems are
//! cut, never k, so the cut can follow the number of threads without a change of results.

use std::cell::RefCell;

use super::isa::{Isa, KC, MAX_NR, MAX_TILE, Micro};
use super::pack::Strip;
use super::skinny::{MAX_ROWS, Skinny};
use super::store::store;
use super::{Elem, Problem};
use crate::{par, threads};

/// Rows of a tile at most: with KC values each, a quarter of a 1 MiB L2.
const MC: usize = 266;
/// Columns of a tile at most.
const NC: usize = 1024;
/// Rows and columns that a tile is not cut below for balance: packing would show.
const MIN_MC: usize = 56;
const MIN_NC: usize = 128;
/// Panels of B packed at a time: long enough runs of a row-contiguous B for the hardware to prefetch.
const PANELS: usize = 4;
/// Tiles for each thread, to even out their differences.
const TILES_PER_THREAD: f64 = 4.0;
/// Elements of columns that a skinny kernel reads from end to end, at least: few enough for even shares.
const MIN_RUN: usize = 16 << 10;
/// Parts of a skinny product at most.
const MAX_PARTS: usize = 64;
/// Multiply-adds that are not worth waking another thread for.
const MIN_COST: f64 = 1e6;

/// A part of one problem's C.
struct Tile {
    problem: Problem,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
}

/// Computes `problems` with `isa` on the threads of the current pool.
///
/// # Safety
///
/// As [`super::run_at`].
pub(super) unsafe fn run(isa: &Isa, problems: &[Problem]) {
    let tiles = plan(isa, problems, threads::count());
    let compute = |t: &Tile| {
        SCRATCH.with_borrow_mut(|scratch| {
            // SAFETY: the caller's promise; tiles are disjoint parts of C.
            unsafe { skinny_then_packed(isa, t, scratch) }
        });
    };
    par::for_each(tiles.len(), |i| compute(&tiles[i]));
}

/// The problem with C's rows contiguous if they can be: `C = A·B` is also `Cᵀ = Bᵀ·Aᵀ`.
fn row_contiguous(p: &Problem) -> Problem {
    if p.c.col_stride == 1 || p.c.row_stride != 1 || p.bias.is_some() {
        return *p;
    }
    let (a, b, c) = (p.b.transposed(), p.a.transposed(), p.c.transposed());
    Problem { m: p.n, n: p.m, a, b, c, ..*p }
}

/// Multiply-adds, with rows and columns added for what packing costs.
fn cost(p: &Problem) -> f64 {
    (p.m + 16) as f64 * (p.n + 16) as f64 * (p.k + 1) as f64
}

fn plan(isa: &Isa, problems: &[Problem], threads: usize) -> Vec<Tile> {
    let useful = |p: &&Problem| p.m > 0 && p.n > 0 && (p.k > 0 || p.bias.is_some() || !p.accumulate);
    let total: f64 = problems.iter().filter(useful).map(cost).sum();
    let share = (total / (threads as f64 * TILES_PER_THREAD)).max(MIN_COST);
    let mut tiles = Vec::new();
    for problem in problems.iter().filter(useful).map(row_contiguous) {
        let Problem { m, n, k, b, .. } = problem;
        let skinny = isa.skinny.is_some() && m <= MAX_ROWS && b.row_stride == 1;
        if skinny && threads > 1 && cost(&problem) > MIN_COST {
            // Nothing of B is packed, so parts cost little.
            let width = MIN_RUN.div_ceil(k.max(1)).max(n / MAX_PARTS).next_multiple_of(4 * isa.lanes);
            let part = |left| Tile { problem, rows: 0..m, cols: left..n.min(left + width) };
            tiles.extend((0..n).step_by(width).map(part));
            continue;
        }
        let want = if threads == 1 { 1 } else { (cost(&problem) / share).ceil() as usize };
        let mut down = m.div_ceil(MC);
        let across = want.div_ceil(down).clamp(n.div_ceil(NC), n.div_ceil(MIN_NC));
        down = want.div_ceil(across).clamp(down, m.div_ceil(MIN_MC).max(down));
        let height = m.div_ceil(down).next_multiple_of(isa.mr);
        let width = n.div_ceil(across).next_multiple_of(isa.nr);
        for top in (0..m).step_by(height) {
            for left in (0..n).step_by(width) {
                let (rows, cols) = (top..m.min(top + height), left..n.min(left + width));
                tiles.push(Tile { problem, rows, cols });
            }
        }
    }
    tiles
}

/// A cache line of values.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only its size and alignment matter")] [f32; 16]);

/// Buffers a thread keeps between tiles.
#[derive(Default)]
struct Scratch {
    a: Vec<Line>,
    b: Vec<Line>,
    c: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Makes room for `len` values.
fn room(buffer: &mut Vec<Line>, len: usize) -> *mut f32 {
    let lines = len.div_ceil(16);
    if buffer.len() < lines {
        buffer.resize(lines, Line([0.0; 16]));
    }
    buffer.as_mut_ptr().cast()
}

/// Computes the tile by the skinny kernel as far as that reaches, and what is left by packing.
///
/// # Safety
///
/// As [`super::run_at`], for the tile's part of C.
unsafe fn skinny_then_packed(isa: &Isa, t: &Tile, scratch: &mut Scratch) {
    let Tile { problem: p, rows, cols } = t;
    let unit = p.b.row_stride == 1 || p.b.col_stride == 1;
    let split = match isa.skinny {
        Some(kernel) if unit && p.k > 0 && rows.len() <= MAX_ROWS && cols.len() >= isa.lanes => {
            let split = cols.start + cols.len() / isa.lanes * isa.lanes;
            let part = Tile { problem: *p, rows: rows.clone(), cols: cols.start..split };
            // SAFETY: the caller's promise, for fewer columns.
            unsafe { skinny(isa, kernel, &part, scratch) };
            split
        }
        _ => cols.start,
    };
    if split < cols.end {
        // SAFETY: the caller's promise, for fewer columns.
        unsafe { packed(isa, &Tile { problem: *p, rows: rows.clone(), cols: split..cols.end }, scratch) };
    }
}

/// # Safety
///
/// As [`super::run_at`], for the tile's part of C; the tile fits the kernel.
unsafe fn skinny(isa: &Isa, kernel: unsafe fn(&Skinny), t: &Tile, scratch: &mut Scratch) {
    let Tile { problem: p, rows, cols } = t;
    let (m, n, k) = (rows.len(), cols.len(), p.k);
    let c = p.c.at(rows.start, cols.start);
    // An f32 C starts the sum, as it does in `packed`.
    let add = p.accumulate && c.elem == Elem::F32;
    let a = p.a.at(rows.start, 0);
    let packed_a = room(&mut scratch.a, k.next_multiple_of(isa.nr) * m);
    let sums = room(&mut scratch.c, m * n);
    let partial = room(&mut scratch.b, (m + 1) * n.next_multiple_of(isa.nr));
    // SAFETY: operands lie within the problem, and the buffers have room for [k, m], [m, n] and [m + 1, n] values in
    // whole panels.
    unsafe {
        // A's rows become the depth, its columns the lines.
        let strip =
            Strip { ptr: a.ptr, elem: a.elem, len: k, depth: m, stride: a.col_stride, step: a.row_stride };
        (isa.pack_b)(packed_a, &strip);
        let mut bias = std::ptr::null_mut();
        if let Some(v) = p.bias {
            bias = partial.add(m * n);
            let v = v.shifted(cols.start as isize * v.stride);
            (isa.pack_b)(
                bias,
                &Strip { ptr: v.ptr, elem: v.elem, len: n, depth: 1, stride: v.stride, step: 0 },
            );
        }
        if add {
            for i in 0..m {
                for j in 0..n {
                    *sums.add(i * n + j) = *c.at(i, j).ptr.cast();
                }
            }
        }
        let b = p.b.at(0, cols.start);
        kernel(&Skinny { rows: m, cols: n, k, a: packed_a, b, sums, partial, bias, add });
        store(sums, n, m, n, c, p.accumulate && !add);
    }
}

/// # Safety
///
/// As [`super::run_at`], for the tile's part of C.
unsafe fn packed(isa: &Isa, t: &Tile, scratch: &mut Scratch) {
    let Tile { problem: p, rows, cols } = t;
    let (m, n, mr, nr) = (rows.len(), cols.len(), isa.mr, isa.nr);
    let (a, b, c) = (p.a.at(rows.start, 0), p.b.at(0, cols.start), p.c.at(rows.start, cols.start));
    let bias = p.bias.map(|v| v.shifted(cols.start as isize * v.stride));
    let blocks = p.k.div_ceil(KC).max(1);
    let depth = p.k.min(KC);

    // Sums between blocks of k stay in an f32 C, and in `sums` for others.
    let staged = c.elem != Elem::F32 && blocks > 1;
    let in_place = c.elem == Elem::F32 && c.col_stride == 1;
    let sums_stride = n.next_multiple_of(nr);
    let sums = room(&mut scratch.c, if staged { m * sums_stride } else { 0 });
    let packed_a = room(&mut scratch.a, m.next_multiple_of(mr) * depth);
    let packed_b = room(&mut scratch.b, PANELS * nr * depth);
    let mut buffer = [Line([0.0; 16]); MAX_TILE / 16];
    let buffer = buffer.as_mut_ptr().cast::<f32>();
    let mut bias_buffer = [0f32; MAX_NR];

    for block in 0..blocks {
        let k0 = block * KC;
        let k = (p.k - k0).min(KC);
        let (first, last) = (block == 0, block + 1 == blocks);
        let from_a = a.at(0, k0);
        let strip = Strip {
            ptr: from_a.ptr,
            elem: a.elem,
            len: m,
            depth: k,
            stride: a.row_stride,
            step: a.col_stride,
        };
        // SAFETY: rows of A within the problem; `packed_a` has room for whole panels.
        unsafe { (isa.pack_a)(packed_a, &strip) };

        for group in (0..n).step_by(PANELS * nr) {
            let from_b = b.at(k0, group);
            let len = (n - group).min(PANELS * nr);
            let strip = Strip {
                ptr: from_b.ptr,
                elem: b.elem,
                len,
                depth: k,
                stride: b.col_stride,
                step: b.row_stride,
            };
            // SAFETY: columns of B within the problem; `packed_b` has room for PANELS panels.
            unsafe { (isa.pack_b)(packed_b, &strip) };

            for j in (group..group + len).step_by(nr) {
                let cols = (n - j).min(nr);
                let mut bias_ptr = std::ptr::null();
                if let (true, Some(v)) = (first, bias) {
                    let v = v.shifted(j as isize * v.stride);
                    // One line deep, so that this is a copy whatever the panel's width.
                    let strip =
                        Strip { ptr: v.ptr, elem: v.elem, len: cols, depth: 1, stride: v.stride, step: 0 };
                    // SAFETY: `cols` values of the bias go to a buffer of at least nr.
                    unsafe { (isa.pack_b)(bias_buffer.as_mut_ptr(), &strip) };
                    bias_ptr = bias_buffer.as_ptr();
                }
                for i in (0..m).step_by(mr) {
                    let rows = (m - i).min(mr);
                    let part = c.at(i, j);
                    let add = !first || p.accumulate;
                    let (dst, dst_stride, add_dst) = if staged {
                        (sums.wrapping_add(i * sums_stride + j), sums_stride as isize, !first)
                    } else if in_place && cols.is_multiple_of(isa.lanes) {
                        (part.ptr.cast::<f32>(), part.row_stride, add)
                    } else {
                        (buffer, nr as isize, false)
                    };
                    // SAFETY: the panels were packed above; `dst` is the tile's part of C itself, or a buffer with
                    // room for whole vectors; `store` writes the tile's part of C.
                    unsafe {
                        (isa.micro)(&Micro {
                            rows,
                            cols,
                            k,
                            a: packed_a.add(i * k),
                            b: packed_b.add((j - group) * k),
                            dst,
                            dst_stride,
                            bias: bias_ptr,
                            add: add_dst,
                        });
                        if staged && last {
                            store(dst, sums_stride, rows, cols, part, p.accumulate);
                        } else if dst == buffer {
                            store(dst, nr, rows, cols, part, add);
                        }
                    }
                }
            }
        }
    }
}
