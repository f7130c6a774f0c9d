//! Each op alone.

use super::super::{Choices, RopeTables, Routing, Tape, Var};
use super::{Lab, check, check_with, leaves};
use halite_hal::philox::Normals;
use halite_hal::reference::ReferenceDevice;
use halite_hal::{Attention, DType, Device, GroupScore, Op, Router, ScoreFn};
use proptest::prelude::*;

#[test]
fn linear() {
    check(&[&[3, 4], &[5, 4]], &|_, t, v| t.linear(v[0], v[1], None));
    check(&[&[3, 4], &[5, 4], &[5]], &|_, t, v| t.linear(v[0], v[1], Some(v[2])));
}

#[test]
fn embedding_with_repeated_and_unknown_ids() {
    check(&[&[4, 3]], &|lab, t, v| t.embedding(v[0], lab.int(&[5], &[2, 0, 2, 9, -1])));
}

#[test]
fn rms_norm_of_rows_and_of_heads() {
    check(&[&[3, 4], &[4]], &|_, t, v| t.rms_norm(v[0], v[1], 1e-3));
    check(&[&[3, 8], &[4]], &|_, t, v| t.rms_norm(v[0], v[1], 1e-3));
    check(&[&[2, 3, 4], &[4]], &|_, t, v| t.rms_norm(v[0], v[1], 1e-3));
}

fn tables(lab: &Lab, half: usize, positions: &[i32], interleaved: bool) -> RopeTables {
    let angles: Vec<f64> = (0..6 * half).map(|i| 0.3 * i as f64).collect();
    let table = |f: fn(f64) -> f64| lab.float(&[6, half], &angles.iter().map(|&a| f(a)).collect::<Vec<_>>());
    let positions = lab.int(&[positions.len()], positions);
    RopeTables { cos: table(f64::cos), sin: table(f64::sin), positions, interleaved }
}

#[test]
fn rope_whole_and_partial_in_both_orders() {
    for (half, interleaved) in [(3, false), (3, true), (2, false), (1, true)] {
        check(&[&[3, 2, 6]], &|lab, t, v| t.rope(v[0], &tables(lab, half, &[0, 5, 2], interleaved)));
    }
}

fn attention(heads: [usize; 2], kind: Attention, tokens: usize, kv: usize, seqs: &[[i32; 4]]) {
    check(&[&[tokens, heads[0], 2], &[kv, heads[1], 2], &[kv, heads[1], 3]], &|lab, t, v| {
        let seqs = lab.int(&[seqs.len(), 4], &seqs.concat());
        t.attention(kind, [v[0], v[1], v[2]], seqs, None)
    });
}

#[test]
fn attention_with_every_ratio_of_heads() {
    for heads in [[1, 1], [2, 1], [3, 1], [2, 2], [4, 2]] {
        attention(heads, Attention::causal(0.7), 4, 4, &[[0, 4, 0, 4]]);
    }
}

#[test]
fn attention_over_ragged_sequences() {
    let causal = Attention::causal(0.7);
    // Packed documents with an unused row of the table, tokens of no sequence, earlier keys.
    attention([2, 1], causal, 6, 6, &[[0, 1, 0, 1], [1, 3, 1, 3], [4, 2, 4, 2], [0, 0, 0, 0]]);
    attention([2, 1], causal, 5, 5, &[[1, 2, 1, 2]]);
    attention([2, 1], causal, 2, 5, &[[0, 2, 0, 5]]);
    // Two queries that share keys.
    attention([1, 1], causal, 4, 3, &[[0, 2, 0, 3], [2, 2, 0, 2]]);
    attention([2, 2], causal.full(), 3, 4, &[[0, 3, 0, 4]]);
    attention([2, 2], causal.window(Some(2)), 5, 5, &[[0, 5, 0, 5]]);
    attention([2, 1], causal.window(Some(1)), 4, 4, &[[0, 3, 0, 3], [3, 1, 3, 1]]);
}

#[test]
fn attention_with_sinks() {
    for (kind, seqs) in [
        (Attention::causal(0.7), &[[0, 4, 0, 4]][..]),
        (Attention::causal(0.7).window(Some(2)), &[[0, 3, 0, 3], [3, 1, 3, 1]]),
        // The last token is in no sequence.
        (Attention::causal(0.7), &[[0, 3, 0, 3]]),
    ] {
        check(&[&[4, 2, 2], &[4, 1, 2], &[4, 1, 3], &[2]], &|lab, t, v| {
            let seqs = lab.int(&[seqs.len(), 4], &seqs.concat());
            t.attention(kind, [v[0], v[1], v[2]], seqs, Some(v[3]))
        });
    }
}

#[test]
fn a_sink_is_a_key_that_has_no_value() {
    let lab = Lab { device: ReferenceDevice::new() };
    let [q, k, v] = [3, 3, 4].map(|d| Normals::new(7, d as u32).take(d * 4).collect::<Vec<f64>>());
    let sink = 0.4;
    let run = |tape: &mut Tape, y: Var| {
        let y = tape.tensor(y);
        let out = lab.tensor(DType::F32, &y.shape);
        tape.graph.push(Op::copy(y, out.clone()));
        lab.run(&lab.device.record(&tape.graph).unwrap());
        lab.read(&out)
    };
    let constant = |tape: &mut Tape, shape: &[usize], x: &[f64]| {
        let t = lab.float(shape, x);
        tape.constant(t)
    };
    let mut tape = Tape::new();
    let three = [
        constant(&mut tape, &[4, 1, 3], &q),
        constant(&mut tape, &[4, 1, 3], &k),
        constant(&mut tape, &[4, 1, 4], &v),
    ];
    let sinks = constant(&mut tape, &[1], &[sink]);
    let seqs = lab.int(&[1, 4], &[0, 4, 0, 4]);
    let y = tape.attention(Attention::causal(0.7), three, seqs, Some(sinks));
    for (t, row) in run(&mut tape, y).chunks(4).enumerate() {
        let score = |j: usize| f64::from(0.7f32) * (0..3).map(|c| q[3 * t + c] * k[3 * j + c]).sum::<f64>();
        let weights: Vec<f64> = (0..=t).map(|j| score(j).exp()).collect();
        let total = weights.iter().sum::<f64>() + sink.exp();
        for (c, y) in row.iter().enumerate() {
            let want = weights.iter().enumerate().map(|(j, w)| w * v[4 * j + c]).sum::<f64>() / total;
            assert!((y - want).abs() < 1e-12, "token {t}: {y} {want}");
        }
    }
}

#[test]
fn parts_and_parts_together() {
    check(&[&[3, 6]], &|_, t, v| t.slice(v[0], 1, 2, 3));
    check(&[&[3, 2, 4]], &|_, t, v| {
        let (a, b) = (t.slice(v[0], 2, 0, 3), t.slice(v[0], 2, 1, 3));
        t.swiglu(a, b)
    });
    check(&[&[3, 6], &[4]], &|_, t, v| {
        let part = t.slice(v[0], 1, 1, 4);
        t.rms_norm(part, v[1], 1e-3)
    });
    check(&[&[3, 2, 4], &[3, 2, 2]], &|_, t, v| t.concat(v[0], v[1]));
    check(&[&[3, 2, 4], &[3, 1, 2]], &|_, t, v| t.concat(v[0], v[1]));
    check(&[&[3, 2, 4]], &|_, t, v| {
        let (a, b) = (t.slice(v[0], 2, 1, 3), t.slice(v[0], 1, 0, 1));
        t.concat(a, b)
    });
}

#[test]
fn gates() {
    for limit in [0.5, 7.0] {
        check(&[&[3, 4], &[3, 4]], &|_, t, v| t.clamped_swiglu(v[0], v[1], limit));
        check(&[&[3, 4]], &|_, t, v| t.clamped_swiglu(v[0], v[0], limit));
    }
    check(&[&[3, 4], &[3, 1]], &|_, t, v| t.gate_rows(v[0], v[1]));
    check(&[&[3, 4], &[1, 4]], &|_, t, v| {
        let gate = t.linear(v[0], v[1], None);
        t.gate_rows(v[0], gate)
    });
}

#[test]
fn swiglu_add_and_reshape() {
    check(&[&[3, 4], &[3, 4]], &|_, t, v| t.swiglu(v[0], v[1]));
    check(&[&[3, 4]], &|_, t, v| t.swiglu(v[0], v[0]));
    check(&[&[3, 4], &[3, 4]], &|_, t, v| t.add(v[0], v[1]));
    check(&[&[3, 4]], &|_, t, v| t.add(v[0], v[0]));
    check(&[&[3, 4]], &|_, t, v| t.reshape(v[0], &[2, 1, 6]));
}

#[test]
fn cross_entropy_with_ignored_targets() {
    check(&[&[4, 5]], &|lab, t, v| t.cross_entropy(v[0], lab.int(&[4], &[3, -100, 0, 4])));
}

fn routers() -> Vec<Router> {
    let mut all = Vec::new();
    for scores in [ScoreFn::Softmax, ScoreFn::Sigmoid] {
        for (k, normalize) in [(1, false), (1, true), (3, false), (3, true), (6, true)] {
            all.push(Router::new(scores, k).normalize(normalize));
        }
        all.push(Router::new(scores, 2).normalize(true).scale(2.5));
        all.push(Router::new(scores, 2).scale(0.5).bias(true));
        all.push(Router::new(scores, 2).groups(3, 2, GroupScore::Max).normalize(true));
        all.push(Router::new(scores, 3).groups(2, 1, GroupScore::SumTop2).normalize(true).bias(true));
    }
    all
}

/// A selection bias far from zero, so that choices by score and by biased score differ.
fn route(lab: &Lab, tape: &mut Tape, kind: Router, logits: Var) -> Routing {
    let experts = tape.tensor(logits).shape[1];
    let bias: Vec<f64> = (0..experts).map(|e| if e % 2 == 0 { 1.0 } else { -1.0 }).collect();
    tape.route(kind, logits, kind.bias.then(|| lab.float(&[experts], &bias)))
}

#[test]
fn router_weights() {
    for kind in routers() {
        check(&[&[4, 6]], &|lab, t, v| route(lab, t, kind, v[0]).weights);
        check(&[&[4, 6]], &|lab, t, v| {
            let experts: Vec<i32> =
                (0..4).flat_map(|t| (0..kind.top_k as i32).map(move |j| (t + j) % 6)).collect();
            t.route_to(kind, v[0], &choices(lab, &experts)).weights
        });
    }
}

/// Choices of four tokens among six experts.
fn choices(lab: &Lab, experts: &[i32]) -> Choices {
    let k = experts.len() / 4;
    let places: Vec<i32> = Choices::places(experts, k, 6).collect();
    Choices { experts: lab.int(&[4, k], experts), places: lab.int(&[4 * k], &places) }
}

#[test]
fn weights_of_the_routers_own_choices_are_the_routers() {
    let lab = Lab { device: ReferenceDevice::new() };
    for kind in routers() {
        let logits = lab.float(&[4, 6], &Normals::new(6, 0).take(24).collect::<Vec<_>>());
        let run = |mut tape: Tape, routing: Routing| {
            let parts = [tape.tensor(routing.weights), routing.experts, routing.positions];
            let kept = parts.map(|t| {
                let kept = lab.tensor(t.dtype, &t.shape);
                tape.graph.push(Op::copy(t, kept.clone()));
                kept
            });
            lab.run(&lab.device.record(&tape.graph).unwrap());
            kept.map(|t| lab.read(&t))
        };
        let mut tape = Tape::new();
        let v = tape.constant(logits.clone());
        let routing = route(&lab, &mut tape, kind, v);
        let want = run(tape, routing);
        let experts: Vec<i32> = want[1].iter().map(|&e| e as i32).collect();
        let mut tape = Tape::new();
        let v = tape.constant(logits);
        let routing = tape.route_to(kind, v, &choices(&lab, &experts));
        let got = run(tape, routing);
        assert_eq!(got[1..], want[1..], "{kind:?}");
        let near = got[0].iter().zip(&want[0]).all(|(a, b)| (a - b).abs() <= 1e-14);
        assert!(near, "{kind:?}: {:?}, wanted {:?}", got[0], want[0]);
    }
}

/// The counts of a softmax router's choices, and `coefficient · E · Σ_e f_e P_e`.
fn balance_loss(logits: &[f64], experts: usize, top_k: usize, coefficient: f64) -> f64 {
    let tokens = logits.len() / experts;
    let mut f = vec![0.0; experts];
    let mut p = vec![0.0; experts];
    for row in logits.chunks(experts) {
        let mut order: Vec<usize> = (0..experts).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        order[..top_k].iter().for_each(|&e| f[e] += 1.0 / tokens as f64);
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        p.iter_mut().zip(row).for_each(|(p, x)| *p += x.exp() / sum / tokens as f64);
    }
    coefficient * experts as f64 * f.iter().zip(&p).map(|(f, p)| f * p).sum::<f64>()
}

#[test]
fn balance_is_the_gradient_of_the_load_balancing_loss() {
    for (scores, top_k) in [(ScoreFn::Softmax, 1), (ScoreFn::Softmax, 2), (ScoreFn::Sigmoid, 3)] {
        let hidden = |x: &[Vec<f64>]| balance_loss(&x[0], 6, top_k, 0.5);
        check_with(
            leaves(5, &[&[8, 6]]),
            &|_, t, v| {
                let routing = t.route(Router::new(scores, top_k).normalize(true), v[0], None);
                t.balance(&routing, 0.5);
                routing.weights
            },
            &hidden,
        );
    }
}

/// A routing with given choices: weights are a leaf.
fn given(lab: &Lab, tape: &mut Tape, experts: usize, chosen: [&[i32]; 2], weights: Var) -> Routing {
    let tokens = chosen[0].len();
    let ids: Vec<i32> = (0..tokens).flat_map(|t| [chosen[0][t], chosen[1][t]]).collect();
    let ids = lab.int(&[tokens, 2], &ids);
    let offsets = tape.temporary(DType::I32, &[experts + 1]);
    let rows = tape.temporary(DType::I32, &[2 * tokens]);
    let positions = tape.temporary(DType::I32, &[tokens, 2]);
    let op = Op::expert_permutation(ids.clone(), offsets.clone(), rows.clone(), positions.clone());
    tape.graph.push(op);
    Routing { experts: ids, weights, logits: weights, offsets, rows, positions }
}

/// Expert 1 has no tokens, expert 2 all but one, and two assignments go nowhere.
const CHOSEN: [&[i32]; 2] = [&[2, 0, 2, 2], &[-1, 2, 3, 7]];

#[test]
fn permute_grouped_linear_and_combine() {
    check(&[&[4, 3], &[4, 2]], &|lab, t, v| {
        let routing = given(lab, t, 4, CHOSEN, v[1]);
        let x = t.permute(v[0], &routing);
        t.combine(x, &routing)
    });
    check(&[&[8, 3], &[4, 2]], &|lab, t, v| {
        let routing = given(lab, t, 4, CHOSEN, v[1]);
        t.combine(v[0], &routing)
    });
    check_with(
        leaves(3, &[&[4, 3], &[4, 2, 3]]),
        &|lab, t, v| {
            let routing = given(lab, t, 4, CHOSEN, v[1]);
            let rows = t.permute(v[0], &routing);
            t.grouped_linear(rows, v[1], None, &routing)
        },
        &|_| 0.0,
    );
    check_with(
        leaves(3, &[&[4, 3], &[4, 2, 3], &[4, 2]]),
        &|lab, t, v| {
            let routing = given(lab, t, 4, CHOSEN, v[2]);
            let rows = t.permute(v[0], &routing);
            let y = t.grouped_linear(rows, v[1], Some(v[2]), &routing);
            t.combine(y, &routing)
        },
        &|_| 0.0,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear_attention_and_experts_of_any_shape(
        tokens in 1usize..5, inner in 1usize..4, outer in 1usize..4,
        kv_heads in 1usize..3, ratio in 1usize..4, cut in 0usize..5,
        experts in 1usize..6, k in 1usize..3,
    ) {
        check(&[&[tokens, inner], &[outer, inner], &[outer]], &|_, t, v| t.linear(v[0], v[1], Some(v[2])));
        let cut = cut.min(tokens) as i32;
        let rest = tokens as i32 - cut;
        let seqs = [[0, cut, 0, cut], [cut, rest, cut, rest]];
        attention([kv_heads * ratio, kv_heads], Attention::causal(0.5), tokens, tokens, &seqs);
        let k = k.min(experts);
        check(&[&[tokens, inner], &[experts, inner], &[experts, outer, inner]], &|_, t, v| {
            let logits = t.linear(v[0], v[1], None);
            let routing = t.route(Router::new(ScoreFn::Softmax, k), logits, None);
            let rows = t.permute(v[0], &routing);
            let y = t.grouped_linear(rows, v[2], None, &routing);
            t.combine(y, &routing)
        });
    }
}
