//! How many registers a thread needs: a guess from where registers are first and last named.

use super::op::{Instr, Op};
use super::operand::Named;

/// What a device keeps beside the values of a program.
const BESIDE: u32 = 8;
/// The most registers that a thread has.
const MOST: u32 = 255;
/// Registers of a multiprocessor, which a thread gets by so many.
const ALL: u32 = 64 << 10;
const BY: u32 = 8;

/// The most rows that are alive at one place. What is named before a loop and in it lives through all of it.
/// A kernel that says how many threads a block may have gets no more than leaves room for them.
pub(super) fn registers<'a>(
    code: &[Instr],
    named: impl Iterator<Item = &'a Named>,
    max_threads: Option<u32>,
) -> u32 {
    let back = |(at, i): (usize, &Instr)| match i.op {
        Op::Branch { target, .. } if (target as usize) <= at => Some((target as usize, at)),
        _ => None,
    };
    let loops: Vec<(usize, usize)> = code.iter().enumerate().filter_map(back).collect();
    let mut change = vec![0_i64; code.len() + 2];
    for n in named {
        let mut last = n.last;
        for &(first, end) in &loops {
            if n.first < first && (first..end).contains(&last) {
                last = end;
            }
        }
        change[n.first] += i64::from(n.rows);
        change[last + 1] -= i64::from(n.rows);
    }
    let alive = change.iter().scan(0, |sum, c| {
        *sum += c;
        Some(*sum)
    });
    let room = max_threads.map_or(MOST, |n| ALL / n.clamp(1, 1024).next_multiple_of(32) / BY * BY);
    (alive.max().unwrap_or(0) as u32 + BESIDE).min(MOST).min(room)
}
