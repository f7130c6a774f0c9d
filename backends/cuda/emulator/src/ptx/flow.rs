//! Where paths that parted meet again: the immediate post-dominators of a function's code.

use super::op::{Instr, NOWHERE, Op};

/// Where an instruction may go next; none where threads end.
fn successors(code: &[Instr], at: usize) -> Vec<usize> {
    let i = &code[at];
    let mut next = match &i.op {
        Op::Branch { target, .. } => vec![*target as usize],
        Op::Switch { targets, .. } => targets.iter().map(|&t| t as usize).collect(),
        Op::Exit | Op::Return | Op::Trap => Vec::new(),
        _ => vec![at + 1],
    };
    if i.guard.is_some() && !next.contains(&(at + 1)) {
        next.push(at + 1);
    }
    next
}

/// Sets where the branches among `code[first..]` meet again, and marks where they do not.
///
/// The algorithm is Cooper, Harvey and Kennedy's ("A Simple, Fast Dominance Algorithm", 2001) on the reversed
/// graph, over blocks of instructions.
pub(super) fn join_paths(code: &mut [Instr], first: usize) {
    let n = code.len() - first;
    let mut leader = vec![false; n + 1];
    leader[0] = true;
    for at in first..code.len() {
        let next = successors(code, at);
        if next != [at + 1] {
            leader[at + 1 - first] = true;
            next.iter().for_each(|&t| leader[t - first] = true);
        }
    }
    let begins: Vec<usize> = (0..n).filter(|&k| leader[k]).collect();
    let blocks = begins.len();
    let end = |b: usize| begins.get(b + 1).copied().unwrap_or(n) - 1;
    let block_of = |at: usize| begins.partition_point(|&k| k <= at - first) - 1;
    let after: Vec<Vec<usize>> = (0..blocks)
        .map(|b| {
            let next = successors(code, first + end(b));
            next.into_iter().filter(|&t| t < code.len()).map(block_of).collect()
        })
        .collect();
    let mut reached = vec![false; blocks];
    let mut stack = vec![0];
    while let Some(b) = stack.pop() {
        if !std::mem::replace(&mut reached[b], true) {
            stack.extend(&after[b]);
        }
    }
    let ends: Vec<usize> = (0..blocks).filter(|&b| reached[b] && after[b].is_empty()).collect();
    // Threads that end early are not waited for: only the last end counts, except on paths that never get there.
    // A trap ends all of them.
    let traps = |b: usize| matches!(code[first + end(b)].op, Op::Trap);
    let last = ends.iter().copied().rfind(|&b| !traps(b));
    let meets = post_dominators(&after, last.into_iter());
    let rest = post_dominators(&after, ends.iter().copied());
    for b in 0..blocks {
        let to = if meets[b] == NONE { rest[b] } else { meets[b] };
        let place = if to >= blocks { NOWHERE } else { (first + begins[to]) as u32 };
        if let Op::Branch { join, .. } | Op::Switch { join, .. } = &mut code[first + end(b)].op {
            *join = place;
        }
    }
}

/// No block.
const NONE: usize = usize::MAX;

/// The immediate post-dominator of each block from which one of `ends` is reached; the number of blocks stands for
/// what comes after the ends.
fn post_dominators(after: &[Vec<usize>], ends: impl Iterator<Item = usize>) -> Vec<usize> {
    let exit = after.len();
    let mut after = after.to_vec();
    ends.for_each(|b| after[b].push(exit));
    after.push(Vec::new());
    let mut before = vec![Vec::new(); exit + 1];
    for (b, next) in after.iter().enumerate() {
        next.iter().for_each(|&t| before[t].push(b));
    }
    // Blocks from the end on, each after one that it may go to.
    let (mut order, mut seen) = (Vec::new(), vec![false; exit + 1]);
    let mut stack = vec![(exit, 0)];
    seen[exit] = true;
    while let Some((b, k)) = stack.pop() {
        if let Some(&p) = before[b].get(k) {
            stack.push((b, k + 1));
            if !seen[p] {
                seen[p] = true;
                stack.push((p, 0));
            }
        } else {
            order.push(b);
        }
    }
    order.reverse();
    let mut rank = vec![NONE; exit + 1];
    order.iter().enumerate().for_each(|(k, &b)| rank[b] = k);
    let mut meets = vec![NONE; exit + 1];
    meets[exit] = exit;
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &order[1..] {
            let known = after[b].iter().copied().filter(|&s| meets[s] != NONE);
            let new = known.reduce(|a, b| meet(&meets, &rank, a, b)).unwrap_or(NONE);
            changed |= meets[b] != new;
            meets[b] = new;
        }
    }
    meets
}

/// The nearest block that post-dominates both.
fn meet(meets: &[usize], rank: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        while rank[a] > rank[b] {
            a = meets[a];
        }
        while rank[b] > rank[a] {
            b = meets[b];
        }
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::file::Pred;

    fn branch(target: u32, guarded: bool) -> Instr {
        let guard = guarded.then_some(Pred { index: 0, negated: false });
        Instr { line: 1, guard, op: Op::Branch { target, join: 0 } }
    }

    fn plain(op: Op) -> Instr {
        Instr { line: 1, guard: None, op }
    }

    fn joins(mut code: Vec<Instr>) -> Vec<u32> {
        join_paths(&mut code, 0);
        let join = |i: &Instr| if let Op::Branch { join, .. } = i.op { Some(join) } else { None };
        code.iter().filter_map(join).collect()
    }

    #[test]
    fn both_arms_of_a_condition_meet_after_it() {
        let code = vec![branch(3, true), plain(Op::Nop), branch(4, false), plain(Op::Nop), plain(Op::Exit)];
        assert_eq!(joins(code), [4, 4]);
    }

    #[test]
    fn a_loop_meets_behind_its_last_branch() {
        let code = vec![plain(Op::Nop), branch(4, true), plain(Op::Nop), branch(0, true), plain(Op::Exit)];
        assert_eq!(joins(code), [4, 4]);
    }

    #[test]
    fn an_arm_that_ends_leaves_the_other_alone() {
        let code = vec![branch(2, true), plain(Op::Exit), plain(Op::Exit)];
        assert_eq!(joins(code), [2]);
    }

    #[test]
    fn threads_that_end_early_are_not_waited_for() {
        let code = vec![branch(4, true), branch(3, true), plain(Op::Exit), plain(Op::Nop), plain(Op::Exit)];
        assert_eq!(joins(code), [4, 3]);
    }

    #[test]
    fn a_trap_behind_everything_is_no_place_to_meet() {
        let arm = || plain(Op::Nop);
        let code = vec![branch(5, true), branch(3, true), arm(), arm(), plain(Op::Exit), plain(Op::Trap)];
        assert_eq!(joins(code), [1, 3]);
    }

    #[test]
    fn an_end_that_is_never_reached_does_not_count() {
        let code = vec![branch(3, true), branch(3, true), plain(Op::Exit), plain(Op::Exit), plain(Op::Exit)];
        assert_eq!(joins(code), [3, 3]);
    }

    #[test]
    fn a_loop_without_end_is_no_trouble() {
        let code = vec![branch(2, true), branch(1, false), plain(Op::Exit)];
        assert_eq!(joins(code), [2, NOWHERE]);
    }
}
