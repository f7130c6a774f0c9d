//! Routing, and moving rows to experts and back.

use super::TRIPLES;
use crate::conformance::bound::Bounded;
use crate::conformance::case::{Cases, Value};
use crate::conformance::data::{Data, ints};
use crate::reference::{Array, best_first, biased_scores};
use crate::{DType, DType::*, GroupScore, OpKind, Router, ScoreFn};

fn routers() -> Vec<(Router, usize)> {
    let mut all = Vec::new();
    for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
        for normalize in [false, true] {
            for bias in [false, true] {
                let r = |k: usize| Router::new(scores, k).normalize(normalize).bias(bias).scale(2.5);
                all.push((r(2), 8));
                all.push((r(1), 5));
                all.push((r(6), 6));
                all.push((r(3).groups(4, 2, GroupScore::Max), 12));
                all.push((r(3).groups(4, 2, GroupScore::SumTop2), 12));
            }
        }
    }
    all
}

/// Whether every choice for this token is clear of f32's errors, or between experts or groups whose scores
/// are made of the same numbers.
fn is_clear(r: Router, logits: &[f64], bias: Option<&[f64]>) -> bool {
    let bounded = |x: &[f64]| x.iter().map(|&x| Bounded::from(x)).collect::<Vec<_>>();
    let (biased, groups, eligible) = biased_scores(r, &bounded(logits), bias.map(bounded).as_deref());
    let size = logits.len() / r.groups;
    let expert_from = |e: usize| vec![(logits[e], bias.map_or(0.0, |b| b[e]))];
    let group_from = |g: usize| {
        let counted = if r.group_score == GroupScore::SumTop2 { 2 } else { 1 };
        let best = best_first(&biased[g * size..(g + 1) * size]);
        best.into_iter().take(counted).flat_map(|e| expert_from(g * size + e)).collect::<Vec<_>>()
    };
    let apart = |a: Bounded, b: Bounded| (a.value - b.value).abs() > a.error + b.error;
    let experts: Vec<usize> = best_first(&biased).into_iter().filter(|&e| eligible[e]).collect();
    let group_order = best_first(&groups);
    experts
        .windows(2)
        .take(r.top_k)
        .all(|w| apart(biased[w[0]], biased[w[1]]) || expert_from(w[0]) == expert_from(w[1]))
        && group_order
            .windows(2)
            .skip(r.top_groups - 1)
            .take(1)
            .all(|w| apart(groups[w[0]], groups[w[1]]) || group_from(w[0]) == group_from(w[1]))
}

/// Logits, each token drawn until its choice is clear; with `ties`, of a few values only.
fn logits(
    data: &mut Data,
    r: Router,
    dtype: DType,
    (tokens, experts): (usize, usize),
    bias: Option<&[f64]>,
    ties: bool,
) -> Array {
    let mut all = Vec::new();
    for _ in 0..tokens {
        let row = (0..1000).find_map(|_| {
            let row = match ties {
                true => data.map(dtype, &[experts], |d| d.below(3) as f64),
                false => data.normal(dtype, &[experts], 2.0),
            };
            is_clear(r, &row.data, bias).then_some(row.data)
        });
        all.extend(row.expect("1000 draws without a clear choice"));
    }
    Array::new(dtype, &[tokens, experts], all)
}

pub fn router(c: &mut Cases) {
    let add = |c: &mut Cases, r: Router, dtype: DType, size: (usize, usize), ties: bool, all: bool| {
        // A bias of a few exact values keeps ties.
        let bias = r.bias.then(|| c.data.map(F32, &[size.1], |d| d.below(3) as f64 / 4.0));
        let x = logits(&mut c.data, r, dtype, size, bias.as_ref().map(|b| &b.data[..]), ties);
        let y = vec![c.out(I32, &[size.0, r.top_k]), c.out(F32, &[size.0, r.top_k])];
        let inputs = [x].into_iter().chain(bias).map(Value::from).collect();
        let name = format!("{r:?}{}", if ties { " ties" } else { "" });
        if all {
            c.all(&name, OpKind::Router(r), inputs, y);
        } else {
            c.add(&name, OpKind::Router(r), inputs, y);
        }
    };
    for (i, (r, experts)) in routers().into_iter().enumerate() {
        add(c, r, DType::FLOATS[i % 3], (7, experts), false, true);
        add(c, r, F32, (33, experts), true, false);
        add(c, r, BF16, (0, experts), false, false);
    }
    for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
        let r = Router::new(scores, 8).normalize(true);
        add(c, r, F32, (5, 128), false, false);
        add(c, r.groups(8, 4, GroupScore::SumTop2).bias(true), F32, (5, 256), false, false);
        add(c, Router::new(scores, 1), F32, (3, 1), false, false);
        // Groups of one expert.
        add(c, Router::new(scores, 2).groups(6, 3, GroupScore::SumTop2), F32, (5, 6), false, false);
        for dtype in DType::FLOATS {
            let y = vec![c.out(I32, &[2, 3]), c.out(F32, &[2, 3])];
            let equal = Array::full(dtype, &[2, 9], -1.5).into();
            c.all("all equal", OpKind::Router(Router::new(scores, 3).normalize(true)), vec![equal], y);
        }
    }
    let y = vec![c.out(I32, &[2, 1]), c.out(F32, &[2, 1])];
    let far = Array::new(F32, &[2, 3], vec![1e4, -1e4, 0.0, -1e4, -1e4, 1e4]).into();
    c.add("far apart", OpKind::Router(Router::new(ScoreFn::Softmax, 1).normalize(true)), vec![far], y);
}

pub fn router_backward(c: &mut Cases) {
    let add = |c: &mut Cases, r: Router, from: DType, to: DType, size: (usize, usize), all: bool| {
        let x = c.data.normal(from, &[size.0, size.1], 2.0);
        let chosen: Vec<i64> = (0..size.0)
            .flat_map(|_| c.data.shuffled(size.1).into_iter().take(r.top_k).collect::<Vec<_>>())
            .map(|e| e as i64)
            .collect();
        let experts = ints(&[size.0, r.top_k], &chosen);
        let dweights = c.data.normal(F32, &[size.0, r.top_k], 1.0);
        let y = vec![c.out(to, &[size.0, size.1])];
        let inputs = vec![x.into(), experts.into(), dweights.into()];
        let name = format!("{r:?}");
        if all {
            c.all(&name, OpKind::RouterBackward(r), inputs, y);
        } else {
            c.add(&name, OpKind::RouterBackward(r), inputs, y);
        }
    };
    for (i, (r, experts)) in routers().into_iter().filter(|(r, _)| !r.bias).enumerate() {
        let [from, _, to] = TRIPLES[i % TRIPLES.len()];
        add(c, r, from, to, (7, experts), true);
        add(c, r, F32, F32, (33, experts), false);
        add(c, r, F32, F32, (0, experts), false);
    }
    for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
        add(c, Router::new(scores, 8).normalize(true), F32, F32, (5, 256), false);
        add(c, Router::new(scores, 1).normalize(true), F32, F32, (3, 1), false);
    }
}

pub fn permutation(c: &mut Cases) {
    let add = |c: &mut Cases, name: &str, n: usize, experts: Array, all: bool| {
        let y = vec![c.out(I32, &[n + 1]), c.out(I32, &[experts.data.len()]), c.out(I32, &experts.shape)];
        let kind = OpKind::ExpertPermutation { experts: n };
        if all {
            c.all(name, kind, vec![experts.into()], y);
        } else {
            c.add(name, kind, vec![experts.into()], y);
        }
    };
    for (tokens, k, n) in
        [(7, 2, 5), (1, 1, 1), (0, 2, 4), (3, 4, 4), (300, 8, 64), (65, 2, 3), (2000, 6, 160)]
    {
        let experts = c.data.indices(&[tokens, k], n);
        add(c, "", n, experts, true);
        let dropped = c.data.map(I32, &[tokens, k], |d| d.below(n + 3) as f64 - 1.0);
        add(c, "dropped", n, dropped, false);
        add(c, "one expert", n, Array::full(I32, &[tokens, k], (n - 1) as f64), false);
        add(c, "all dropped", n, Array::full(I32, &[tokens, k], n as f64), false);
    }
    add(c, "far out of range", 3, ints(&[2, 2], &[i64::from(i32::MIN), 1, i64::from(i32::MAX), 0]), false);
}

/// Positions of `tokens · k` assignments among `rows` rows, distinct, some dropped.
fn positions(data: &mut Data, tokens: usize, k: usize, rows: usize) -> Array {
    let order = data.shuffled(rows.max(tokens * k));
    let mut next = order.into_iter();
    data.map(I32, &[tokens, k], |d| match (d.below(6), next.next()) {
        (0, _) => [-1.0, rows as f64, f64::from(i32::MAX)][d.below(3)],
        (_, p) => p.map_or(-1.0, |p| p as f64),
    })
}

/// Tokens, k, rows, width.
const SIZES: [(usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1),
    (5, 2, 10, 7),
    (0, 2, 3, 4),
    (3, 2, 0, 4),
    (4, 1, 4, 0),
    (33, 8, 264, 17),
    (2, 6, 12, 4099),
    (129, 2, 300, 3),
];

pub fn combine(c: &mut Cases) {
    let add = |c: &mut Cases, [from, _, to]: [DType; 3], size: (usize, usize, usize, usize), all: bool| {
        let (tokens, k, rows, h) = size;
        for (weighted, accumulate) in [(true, false), (false, false), (true, true), (false, true)] {
            let mut x: Vec<Value> = vec![
                c.data.normal(from, &[rows, h], 1.0).into(),
                positions(&mut c.data, tokens, k, rows).into(),
            ];
            if weighted {
                x.push(c.data.normal(F32, &[tokens, k], 1.0).into());
            }
            let y = vec![c.out(to, &[tokens, h])];
            let kind = OpKind::Combine { weighted, accumulate };
            let name = format!("weighted {weighted} accumulate {accumulate}");
            if all {
                c.all(&name, kind, x, y);
            } else {
                c.add(&name, kind, x, y);
            }
        }
    };
    for dtypes in TRIPLES {
        add(c, dtypes, (5, 3, 11, 9), true);
    }
    for size in SIZES {
        add(c, [F32; 3], size, false);
        add(c, [BF16; 3], size, false);
    }
}

pub fn combine_backward(c: &mut Cases) {
    let add = |c: &mut Cases, [ddy, dx, out]: [DType; 3], size: (usize, usize, usize, usize), all: bool| {
        let (tokens, k, rows, h) = size;
        let x = vec![
            c.data.normal(ddy, &[tokens, h], 1.0).into(),
            c.data.normal(dx, &[rows, h], 1.0).into(),
            positions(&mut c.data, tokens, k, rows).into(),
            c.data.normal(F32, &[tokens, k], 1.0).into(),
        ];
        let y = vec![c.out(out, &[rows, h]), c.out(F32, &[tokens, k])];
        if all {
            c.all("combine_backward", OpKind::CombineBackward, x, y);
        } else {
            c.add("combine_backward", OpKind::CombineBackward, x, y);
        }
    };
    for dtypes in TRIPLES {
        add(c, dtypes, (5, 3, 11, 9), true);
    }
    for size in SIZES {
        add(c, [F32; 3], size, false);
        add(c, [BF16; 3], size, false);
    }
}
