//! Which cases, in which variants, try all that the programs of a device are made of, in pairs: instead of each case in
//! each variant, which devices that interpret programs take a day for. (Pairwise testing: most faults show with one
//! setting of a program, or two together.)

use super::case::{Case, Value};
use crate::{Device, Op, OpKind, TensorRef};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// The [`work`] up to which one case costs as much as another.
const SMALL: usize = 4096;

/// What a case costs a device that interprets it: the elements of its operands, and the products it adds up, in attention
/// as if every row of a sequence saw every key of it.
fn work(case: &Case, op: &Op) -> usize {
    let elements: usize = op.operands().map(TensorRef::elems).sum();
    // Rows of q times rows of k: sequences are [first row, rows, first key, keys].
    let pairs = |seqs: &Value| match seqs {
        Value::Dense(seqs) => seqs.data.chunks(4).map(|s| (s[1] * s[3]) as usize).sum(),
        _ => 0,
    };
    let width = |q: &TensorRef| q.shape[1] * q.shape[2];
    let products = match op.kind {
        OpKind::Matmul { .. } | OpKind::GroupedMatmul { .. } | OpKind::GroupedMatmulWeight { .. } => {
            op.inputs[0].elems() * op.outputs[0].shape.last().map_or(0, |&n| n)
        }
        OpKind::Attention(_) => pairs(&case.inputs[3]) * width(&op.inputs[0]),
        OpKind::AttentionBackward(_) => 2 * pairs(&case.inputs[6]) * width(&op.inputs[1]),
        _ => 0,
    };
    elements + products
}

/// Finds cases for the programs of one op after another.
#[derive(Default)]
pub struct Pairs {
    /// Pairs of traits by number.
    numbers: HashMap<(u64, u64), usize>,
    /// Which of them were tried.
    seen: Vec<bool>,
}

/// A case in a variant, and the pairs of traits that its programs have.
struct Candidate {
    case: usize,
    variant: String,
    work: usize,
    pairs: Vec<usize>,
}

impl Candidate {
    /// How much of what wasn't seen it tries, for what it costs.
    fn worth(&self, seen: &[bool]) -> usize {
        let new = self.pairs.iter().filter(|&&pair| !seen[pair]).count();
        (new << 32) / self.work.max(SMALL)
    }
}

impl Pairs {
    /// Cases by number, and the variant of each, in which together every trait of a program occurs with every other
    /// that it has in any of the cases in any of its variants, unless it did so in an op before. What tries most for its
    /// work comes first; of equals the largest, for it does most with a program. What has no program to
    /// tell, because the device composes it, can't do it or has nothing to do, is there in each of its variants.
    pub fn choose(&mut self, device: &dyn Device, cases: &[Case]) -> Vec<(usize, String)> {
        let (told, untold): (Vec<_>, Vec<_>) =
            self.candidates(device, cases).into_iter().partition(|candidate| !candidate.pairs.is_empty());
        self.seen.resize(self.numbers.len(), false);
        let mut chosen: Vec<_> = untold.into_iter().map(|c| (c.case, c.variant)).collect();
        // What a candidate is worth only becomes less, so one that is still worth most need not be compared.
        let entry = |i: usize, seen: &[bool]| (told[i].worth(seen), told[i].work, Reverse(i));
        let mut heap: BinaryHeap<_> = (0..told.len()).map(|i| entry(i, &self.seen)).collect();
        while let Some((before, _, Reverse(i))) = heap.pop() {
            let now = entry(i, &self.seen);
            if now.0 == before && before > 0 {
                told[i].pairs.iter().for_each(|&pair| self.seen[pair] = true);
                chosen.push((told[i].case, told[i].variant.clone()));
            } else if now.0 > 0 {
                heap.push(now);
            }
        }
        chosen
    }

    /// Each case in each variant that the device has for it.
    fn candidates(&mut self, device: &dyn Device, cases: &[Case]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (case, description) in cases.iter().enumerate() {
            let op = description.op();
            let work = work(description, &op);
            for variant in super::variants(device, &op.desc()) {
                let programs = device
                    .set_tuning(&[(op.kind.name().into(), variant.clone())])
                    .and_then(|()| device.programs(&op))
                    .unwrap_or_default();
                let mut pairs = Vec::new();
                for traits in programs {
                    for (i, &x) in traits.iter().enumerate() {
                        for &y in &traits[i..] {
                            let next = self.numbers.len();
                            pairs.push(*self.numbers.entry((x, y)).or_insert(next));
                        }
                    }
                }
                candidates.push(Candidate { case, variant, work, pairs });
            }
        }
        // What this fails for, the next case fails for.
        let _ = device.set_tuning(&[]);
        candidates
    }
}
