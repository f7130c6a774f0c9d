//! Every level against a plain f64 product, and the promises on order: thread counts, neighbours, strides.

use half::{bf16, f16};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Memory for a matrix of any element type and stride, with a gap between elements it must not touch.
#[derive(Clone)]
struct Mat {
    bytes: Vec<u64>,
    elem: Elem,
    row_stride: isize,
    col_stride: isize,
    first: isize,
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Rows,
    Cols,
    /// Rows further apart than they are long.
    Padded,
    /// Neither stride is one.
    Spread,
    /// Rows in reverse order.
    Reversed,
    /// One row for all.
    BroadcastRows,
    /// One element for all.
    BroadcastAll,
}

const WRITABLE: [Layout; 5] = [Layout::Rows, Layout::Cols, Layout::Padded, Layout::Spread, Layout::Reversed];
const READABLE: [Layout; 7] = [
    Layout::Rows,
    Layout::Cols,
    Layout::Padded,
    Layout::Spread,
    Layout::Reversed,
    Layout::BroadcastRows,
    Layout::BroadcastAll,
];
const ELEMS: [Elem; 3] = [Elem::F32, Elem::F16, Elem::Bf16];

/// A value no test writes: gaps hold it before and must after.
const GAP: f64 = 12288.0;

impl Mat {
    fn new(rows: usize, cols: usize, elem: Elem, layout: Layout, mut value: impl FnMut() -> f64) -> Self {
        let (r, c) = (rows as isize, cols as isize);
        let (row_stride, col_stride, first) = match layout {
            Layout::Rows => (c, 1, 0),
            Layout::Cols => (1, r, 0),
            Layout::Padded => (c + 5, 1, 3),
            Layout::Spread => (c * 3 + 1, 3, 1),
            Layout::Reversed => (-c, 1, c * (r - 1).max(0)),
            Layout::BroadcastRows => (0, 1, 0),
            Layout::BroadcastAll => (0, 0, 0),
        };
        let len = (rows + 1) * (cols * 3 + 6) + 8;
        let mut mat = Self { bytes: vec![0; len.div_ceil(2)], elem, row_stride, col_stride, first };
        (0..len).for_each(|i| mat.set_raw(i, GAP));
        for i in 0..rows {
            for j in 0..cols {
                mat.set_raw(mat.index(i, j), value());
            }
        }
        mat
    }

    fn index(&self, i: usize, j: usize) -> usize {
        (self.first + i as isize * self.row_stride + j as isize * self.col_stride) as usize
    }

    fn get(&self, i: usize, j: usize) -> f64 {
        self.get_raw(self.index(i, j))
    }

    fn get_raw(&self, i: usize) -> f64 {
        match self.elem {
            Elem::F32 => f64::from(bytemuck::cast_slice::<_, f32>(&self.bytes)[i]),
            Elem::F16 => bytemuck::cast_slice::<_, f16>(&self.bytes)[i].to_f64(),
            Elem::Bf16 => bytemuck::cast_slice::<_, bf16>(&self.bytes)[i].to_f64(),
        }
    }

    fn set_raw(&mut self, i: usize, v: f64) {
        match self.elem {
            Elem::F32 => bytemuck::cast_slice_mut::<_, f32>(&mut self.bytes)[i] = v as f32,
            Elem::F16 => bytemuck::cast_slice_mut::<_, f16>(&mut self.bytes)[i] = f16::from_f64(v),
            Elem::Bf16 => bytemuck::cast_slice_mut::<_, bf16>(&mut self.bytes)[i] = bf16::from_f64(v),
        }
    }

    fn ptr(&self) -> *const u8 {
        self.bytes.as_ptr().cast::<u8>().wrapping_offset(self.elem.offset(self.first))
    }

    fn read(&self) -> MatRef {
        MatRef { ptr: self.ptr(), elem: self.elem, row_stride: self.row_stride, col_stride: self.col_stride }
    }

    fn row(&self) -> VecRef {
        VecRef { ptr: self.ptr(), elem: self.elem, stride: self.col_stride }
    }

    fn write(&mut self) -> MatMut {
        let ptr = self.bytes.as_mut_ptr().cast::<u8>().wrapping_offset(self.elem.offset(self.first));
        MatMut { ptr, elem: self.elem, row_stride: self.row_stride, col_stride: self.col_stride }
    }
}

/// Deterministic values in [-1, 1).
fn values(seed: u64) -> impl FnMut() -> f64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }
}

/// Everything one product takes, owned.
#[derive(Clone)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    a: Mat,
    b: Mat,
    c: Mat,
    bias: Option<Mat>,
    accumulate: bool,
}

impl Case {
    /// Row-contiguous f32.
    fn plain(m: usize, n: usize, k: usize) -> Self {
        let mat = |r, c, seed| Mat::new(r, c, Elem::F32, Layout::Rows, values(seed));
        let (a, b, c) = (mat(m, k, 1), mat(k, n, 2), mat(m, n, 3));
        Case { m, n, k, a, b, c, bias: None, accumulate: false }
    }

    fn problem(&mut self) -> Problem {
        Problem {
            m: self.m,
            n: self.n,
            k: self.k,
            a: self.a.read(),
            b: self.b.read(),
            c: self.c.write(),
            bias: self.bias.as_ref().map(Mat::row),
            accumulate: self.accumulate,
        }
    }

    /// C after the product at `level`.
    fn result(&self, level: Level) -> Mat {
        let mut case = self.clone();
        let problem = case.problem();
        // SAFETY: the case owns its operands, and `level` is available in every caller.
        unsafe { run_at(level, &[problem]) };
        case.c
    }

    /// Checks `got` against this case's product in f64.
    fn check(&self, got: &Mat) {
        let mut untouched = got.clone();
        for i in 0..self.m {
            for j in 0..self.n {
                let (mut sum, mut size) = (0.0, 0.0);
                let mut add = |v: f64| {
                    sum += v;
                    size += v.abs();
                };
                (0..self.k).for_each(|p| add(self.a.get(i, p) * self.b.get(p, j)));
                if let Some(bias) = &self.bias {
                    add(bias.get(0, j));
                }
                if self.accumulate {
                    add(self.c.get(i, j));
                }
                // Each of k + 2 additions rounds a partial sum of at most `size`; C rounds the result once more.
                let narrow = match self.c.elem {
                    Elem::F32 => 0.0,
                    Elem::F16 => sum.abs() * 2f64.powi(-11) + 2f64.powi(-25),
                    Elem::Bf16 => sum.abs() * 2f64.powi(-8),
                };
                let bound = (self.k + 2) as f64 * 2f64.powi(-24) * size * 1.01 + narrow * 1.01;
                let error = (got.get(i, j) - sum).abs();
                assert!(
                    error <= bound,
                    "({i}, {j}) is {}, not {sum}: off by {error}, not {bound}",
                    got.get(i, j)
                );
                let index = untouched.index(i, j);
                untouched.set_raw(index, self.c.get(i, j));
            }
        }
        assert!(untouched.bytes == self.c.bytes, "wrote between C's elements");
    }
}

fn bits(m: &Mat) -> &[u64] {
    &m.bytes
}

/// The result in a pool of `threads`.
fn with_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    crate::ThreadPool::new(threads).unwrap().install(f)
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(1), 2usize..20, 20usize..75]
}

fn depth() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 4usize..40, Just(256), 250usize..300, 500usize..600]
}

fn case() -> impl Strategy<Value = Case> {
    let elem = || prop::sample::select(&ELEMS[..]);
    let read = || prop::sample::select(&READABLE[..]);
    let operands = (elem(), read(), elem(), read(), elem(), prop::sample::select(&WRITABLE[..]));
    let bias = prop::option::of((elem(), read()));
    (size(), size(), depth(), operands, bias, any::<bool>(), any::<u64>()).prop_map(
        |(m, n, k, (ea, la, eb, lb, ec, lc), bias, accumulate, seed)| Case {
            m,
            n,
            k,
            a: Mat::new(m, k, ea, la, values(seed)),
            b: Mat::new(k, n, eb, lb, values(seed ^ 1)),
            c: Mat::new(m, n, ec, lc, values(seed ^ 2)),
            bias: bias.map(|(e, l)| Mat::new(1, n, e, l, values(seed ^ 3))),
            accumulate,
        },
    )
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mat = |m: &Mat| format!("{:?} {} {}", m.elem, m.row_stride, m.col_stride);
        let Self { m, n, k, accumulate, .. } = self;
        write!(f, "{m} {n} {k} a {} b {} c {}", mat(&self.a), mat(&self.b), mat(&self.c))?;
        write!(f, " bias {:?} accumulate {accumulate}", self.bias.as_ref().map(mat))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(300) })]

    #[test]
    fn agrees_with_f64(case in case()) {
        for &level in Level::available() {
            case.check(&case.result(level));
        }
    }

    #[test]
    fn fused_levels_agree(case in case()) {
        let fused: Vec<_> = Level::available().iter().filter(|&&l| l != Level::Portable).collect();
        for pair in fused.windows(2) {
            prop_assert!(bits(&case.result(*pair[0])) == bits(&case.result(*pair[1])));
        }
    }
}

#[test]
fn portable_is_always_there_and_best_is_last() {
    assert_eq!(Level::available()[0], Level::Portable);
    let best = Level::available().iter().position(|level| *level == Level::best());
    match std::env::var_os(crate::simd::LIMIT) {
        None => assert_eq!(best, Some(Level::available().len() - 1)),
        // Tests go through what the processor has; the program keeps to what is allowed.
        Some(_) => assert!(best.is_some()),
    }
}

#[test]
fn every_tile_height_and_width_is_right() {
    for m in 1..=30 {
        for n in [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 129] {
            let case = Case { accumulate: m % 2 == 0, ..Case::plain(m, n, 19) };
            for &level in Level::available() {
                case.check(&case.result(level));
            }
        }
    }
}

#[test]
fn thread_count_does_not_change_bits() {
    let mut plain = Case::plain(300, 400, 700);
    plain.bias = Some(Mat::new(1, 400, Elem::F32, Layout::Rows, values(9)));
    let half = Case {
        c: Mat::new(300, 400, Elem::Bf16, Layout::Rows, values(4)),
        accumulate: true,
        ..plain.clone()
    };
    for case in [plain, half] {
        for &level in Level::available() {
            let one = with_threads(1, || case.result(level));
            case.check(&one);
            for threads in [2, 3, 5] {
                let other = with_threads(threads, || case.result(level));
                assert!(bits(&one) == bits(&other), "{level:?} with {threads} threads");
            }
        }
    }
}

#[test]
fn a_row_alone_is_that_row_among_many() {
    let bias = Some(Mat::new(1, 150, Elem::F32, Layout::Rows, values(4)));
    let all = Case { bias, accumulate: true, ..Case::plain(40, 150, 520) };
    for (layout, c) in [(Layout::Rows, Elem::F32), (Layout::Cols, Elem::F32), (Layout::Rows, Elem::Bf16)] {
        let b = Mat::new(520, 150, Elem::F32, layout, values(2));
        let c = Mat::new(40, 150, c, Layout::Rows, values(3));
        let all = Case { b, c, ..all.clone() };
        for &level in Level::available() {
            let want = all.result(level);
            for i in [0, 13, 39] {
                let mut alone = Case { m: 1, ..all.clone() };
                alone.a.first = all.a.index(i, 0) as isize;
                alone.c.first = all.c.index(i, 0) as isize;
                let got = alone.result(level);
                (0..150).for_each(|j| assert_eq!(got.get(0, j), want.get(i, j), "{level:?} ({i}, {j})"));
            }
        }
    }
}

#[test]
fn a_few_rows_are_right_for_every_element_type_and_layout() {
    for (m, layout) in (1..=9).flat_map(|m| [(m, Layout::Rows), (m, Layout::Cols)]) {
        for (elem, k) in ELEMS.into_iter().flat_map(|e| [(e, 1), (e, 40), (e, 531)]) {
            let case = Case {
                b: Mat::new(k, 85, elem, layout, values(5)),
                c: Mat::new(m, 85, elem, Layout::Rows, values(6)),
                bias: Some(Mat::new(1, 85, elem, Layout::Rows, values(7))),
                accumulate: m % 2 == 0,
                ..Case::plain(m, 85, k)
            };
            for &level in Level::available() {
                case.check(&case.result(level));
            }
        }
    }
}

#[test]
fn layouts_do_not_change_bits() {
    let base = Case::plain(33, 70, 300);
    for &level in Level::available() {
        let want = base.result(level);
        for layout in WRITABLE {
            let a = Mat::new(33, 300, Elem::F32, layout, values(1));
            let b = Mat::new(300, 70, Elem::F32, layout, values(2));
            let c = Mat::new(33, 70, Elem::F32, layout, values(3));
            let got = Case { a, b, c, ..base.clone() }.result(level);
            for i in 0..33 {
                (0..70).for_each(|j| {
                    assert_eq!(got.get(i, j), want.get(i, j), "{level:?} {layout:?} ({i}, {j})")
                });
            }
        }
    }
}

#[test]
fn nothing_to_add_leaves_the_sign_of_zero() {
    let mut case = Case { accumulate: true, ..Case::plain(3, 5, 0) };
    (0..15).for_each(|i| case.c.set_raw(i, -0.0));
    for &level in Level::available() {
        assert!(bits(&case.result(level)) == bits(&case.c));
    }
}

#[test]
fn batches_step_through_their_operands() {
    let (m, n, k, count) = (5, 18, 20, 3);
    let mut all = Case::plain(m * count, n, k);
    let b = Mat::new(k * count, n, Elem::F32, Layout::Rows, values(7));
    let bias = Mat::new(count, n, Elem::F32, Layout::Rows, values(8));
    let first = Problem { m, b: b.read(), bias: Some(bias.row()), ..all.problem() };
    let strides = [m * k, k * n, m * n, n].map(|s| s as isize);
    let problems: Vec<Problem> = (0..count as isize)
        .map(|e| Problem {
            a: first.a.shifted(e * strides[0]),
            b: first.b.shifted(e * strides[1]),
            c: first.c.shifted(e * strides[2]),
            bias: first.bias.map(|v| v.shifted(e * strides[3])),
            ..first
        })
        .collect();
    // SAFETY: the operands are owned above and hold `count` matrices each.
    unsafe { run(&problems) };
    for e in 0..count {
        let part = |mat: &Mat, rows: usize| Mat { first: mat.index(e * rows, 0) as isize, ..mat.clone() };
        let one = Case {
            m,
            n,
            k,
            a: part(&all.a, m),
            b: part(&b, k),
            c: part(&Case::plain(m * count, n, k).c, m),
            bias: Some(part(&bias, 1)),
            accumulate: false,
        };
        let want = one.result(Level::best());
        for i in 0..m {
            (0..n).for_each(|j| assert_eq!(all.c.get(e * m + i, j), want.get(i, j)));
        }
    }
}
