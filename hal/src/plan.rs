//! Places temporaries in arenas so that those alive at the same time don't overlap.
//!
//! Offsets are assigned largest first, each at the lowest gap free over its whole life (Pisarchyk & Lee
//! 2020, "greedy by size"). The result depends on nothing but the graph.

use crate::{Error, Graph, Result, SlotKind, Source};

/// Where a temporary lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which arena.
    pub arena: usize,
    /// Byte offset in it.
    pub offset: u64,
}

/// The plan for a graph's temporaries.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Bytes of each arena.
    pub arenas: Vec<u64>,
    /// For each slot its place; `None` for external slots and temporaries that nothing uses.
    pub places: Vec<Option<Place>>,
}

impl Plan {
    /// Bytes of all arenas.
    pub fn bytes(&self) -> u64 {
        self.arenas.iter().fold(0, |sum: u64, a| sum.saturating_add(*a))
    }
}

struct Life {
    slot: usize,
    bytes: u64,
    alignment: u64,
    first: usize,
    last: usize,
}

/// Plans the temporaries of `graph` with every offset a multiple of `alignment` and no arena above
/// `max_arena` bytes. Fails when one temporary alone is larger than that. `groups` are the sizes of the groups
/// of ops that run at once, in order; what any op of a group uses is alive throughout the group.
pub fn plan(graph: &Graph, groups: &[usize], alignment: u64, max_arena: u64, device: &str) -> Result<Plan> {
    let mut span: Vec<Option<(usize, usize)>> = vec![None; graph.slots.len()];
    // Views count in blocks from the start of the arena, so a place must be a whole number of them.
    let mut alignments = vec![alignment; graph.slots.len()];
    let group = groups.iter().enumerate().flat_map(|(i, &size)| std::iter::repeat_n(i, size));
    for (op, at) in graph.ops.iter().zip(group) {
        for t in op.operands() {
            if let Source::Slot(s) = t.source {
                let life = span[s as usize].get_or_insert((at, at));
                life.1 = at;
                let known = &mut alignments[s as usize];
                *known = least_common_multiple(*known, t.dtype.block_bytes() as u64);
            }
        }
    }
    let mut lives: Vec<Life> = graph
        .slots
        .iter()
        .zip(&span)
        .enumerate()
        .filter(|(_, (s, _))| s.kind == SlotKind::Temporary)
        .filter_map(|(slot, (s, life))| {
            let (first, last) = (*life)?;
            // What overflows is larger than any arena.
            let bytes = s.bytes.max(1).checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
            Some(Life { slot, bytes, alignment: alignments[slot], first, last })
        })
        .collect();
    lives.sort_by_key(|l| (std::cmp::Reverse(l.bytes), l.first, l.slot));

    let mut plan = Plan { arenas: Vec::new(), places: vec![None; graph.slots.len()] };
    // For each arena, the placed lives in ascending order of offset.
    let mut placed: Vec<Vec<(u64, Life)>> = Vec::new();
    for life in lives {
        if life.bytes > max_arena.min(u64::MAX - alignment) {
            return Err(Error::Limit {
                device: device.into(),
                what: "bytes of a temporary tensor".into(),
                requested: life.bytes,
                maximum: max_arena,
            });
        }
        let found = placed
            .iter()
            .enumerate()
            .find_map(|(a, arena)| lowest_gap(arena, &life, max_arena).map(|offset| (a, offset)));
        let (arena, offset) = found.unwrap_or_else(|| {
            placed.push(Vec::new());
            plan.arenas.push(0);
            (placed.len() - 1, 0)
        });
        plan.arenas[arena] = plan.arenas[arena].max(offset + life.bytes);
        plan.places[life.slot] = Some(Place { arena, offset });
        let at = placed[arena].partition_point(|(o, _)| *o <= offset);
        placed[arena].insert(at, (offset, life));
    }
    Ok(plan)
}

fn lowest_gap(arena: &[(u64, Life)], life: &Life, max_arena: u64) -> Option<u64> {
    let mut offset: u64 = 0;
    for (start, other) in arena {
        if other.last < life.first || life.last < other.first {
            continue;
        }
        if offset.checked_add(life.bytes)? <= *start {
            break;
        }
        offset = offset.max(start + other.bytes).checked_next_multiple_of(life.alignment)?;
    }
    (offset.checked_add(life.bytes)? <= max_arena).then_some(offset)
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Op, TensorRef, UnaryFn};

    /// A chain where only two neighbours are alive at a time.
    fn chain(n: usize, elems: usize) -> Graph {
        let mut g = Graph::new();
        let mut x = g.temporary(DType::F32, &[elems]);
        g.push(Op::fill(1.0, x.clone()));
        for _ in 0..n {
            let y = g.temporary(DType::F32, &[elems]);
            g.push(Op::unary(UnaryFn::Neg, x, y.clone()));
            x = y;
        }
        g
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let p = plan(&chain(10, 100), &[1; 10 + 1], 64, u64::MAX, "x").unwrap();
        assert_eq!(p.bytes(), 2 * 448);
    }

    #[test]
    fn what_a_group_uses_lives_together() {
        // One op, then three at once: what they read and write, and nothing of it twice.
        let p = plan(&chain(3, 100), &[1, 3], 64, u64::MAX, "x").unwrap();
        assert_eq!(p.bytes(), 4 * 448);
        let p = plan(&chain(3, 100), &[2, 2], 64, u64::MAX, "x").unwrap();
        assert_eq!(p.bytes(), 3 * 448);
    }

    #[test]
    fn arenas_split_at_the_limit() {
        let p = plan(&chain(10, 100), &[1; 10 + 1], 64, 500, "x").unwrap();
        assert_eq!(p.arenas, [448, 448]);
        assert!(matches!(
            plan(&chain(1, 1000), &[1; 1 + 1], 64, 500, "x"),
            Err(Error::Limit { requested: 4032, .. })
        ));
    }

    #[test]
    fn sizes_near_the_end_of_the_numbers_are_errors_or_kept_apart() {
        let mut g = Graph::new();
        let slots = [1 << 63, 1 << 63, 100].map(|n| g.slot(SlotKind::Temporary, n));
        for s in slots {
            g.push(Op::fill(0.0, TensorRef::slot(s, DType::F32, &[1])));
        }
        for s in slots {
            let x = TensorRef::slot(s, DType::F32, &[1]);
            g.push(Op::unary(UnaryFn::Neg, x.clone(), x));
        }
        let p = plan(&g, &vec![1; g.ops.len()], 64, u64::MAX, "x").unwrap();
        assert_eq!(p.arenas, [(1 << 63) + 128, 1 << 63]);
        assert_eq!(p.bytes(), u64::MAX);
        g.slots[0].bytes = u64::MAX;
        assert!(matches!(
            plan(&g, &vec![1; g.ops.len()], 64, u64::MAX, "x"),
            Err(Error::Limit { requested: u64::MAX, .. })
        ));
    }

    #[test]
    fn temporaries_that_are_read_as_blocks_start_at_a_block() {
        let mut g = Graph::new();
        let (raw, table) = (g.slot(SlotKind::External, 68), g.slot(SlotKind::Temporary, 68));
        let index = g.external(DType::I32, &[2]);
        let (sum, y) = (g.temporary(DType::F32, &[2, 32]), g.external(DType::F32, &[2, 32]));
        g.push(Op::fill(0.0, sum.clone()));
        g.push(Op::copy(TensorRef::slot(raw, DType::U8, &[68]), TensorRef::slot(table, DType::U8, &[68])));
        g.push(Op::embedding(TensorRef::slot(table, DType::Q8_0, &[2, 32]), index, y.clone()));
        g.push(Op::binary(crate::BinaryFn::Add, sum.clone(), y, sum));
        let p = plan(&g, &vec![1; g.ops.len()], 64, u64::MAX, "x").unwrap();
        let place = p.places[table as usize].unwrap();
        assert_eq!((place.arena, place.offset % 34, place.offset % 64), (0, 0, 0));
        assert!(place.offset >= 256 && p.arenas[0] == place.offset + 128);
    }

    #[test]
    fn lives_at_the_same_time_never_overlap() {
        let mut g = Graph::new();
        let sizes = [7usize, 300, 20, 1, 0, 64, 129];
        let t: Vec<_> = sizes.iter().map(|&n| g.temporary(DType::F32, &[n])).collect();
        for x in &t {
            g.push(Op::fill(0.0, x.clone()));
        }
        for i in [3, 1, 6] {
            g.push(Op::unary(UnaryFn::Neg, t[i].clone(), t[i].clone()));
        }
        let p = plan(&g, &vec![1; g.ops.len()], 16, u64::MAX, "x").unwrap();
        let range = |i: usize| {
            let o = p.places[i].unwrap().offset;
            (o, o + sizes[i] as u64 * 4)
        };
        for (i, j) in [(1, 3), (1, 6), (3, 6), (1, 5), (1, 2)] {
            let ((a0, a1), (b0, b1)) = (range(i), range(j));
            assert!(a1 <= b0 || b1 <= a0, "{i} and {j}");
        }
    }
}
