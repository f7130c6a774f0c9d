//! The pool on a driver that counts its pieces of memory.

use super::super::fake::Fake;
use super::*;

const MIB: u64 = 1 << 20;

fn pool(room: u64, largest: u64) -> Arc<Pool<Fake>> {
    Arc::new(Pool::new(Arc::new(Fake::new(room, largest)), None))
}

/// Block or piece, and place, of a buffer of one part.
fn place(pool: &Arc<Pool<Fake>>, b: &Buffer) -> (usize, u64) {
    let part = &pool.memory(b).unwrap().parts[0];
    (Arc::as_ptr(&part.memory).addr(), part.base)
}

#[test]
fn small_buffers_share_a_block_and_lie_apart() {
    let pool = pool(1 << 40, 1 << 30);
    let buffers: Vec<Buffer> = (0..100).map(|i| pool.allocate(1000 + i, 0).unwrap()).collect();
    assert_eq!(pool.driver.live(), [BLOCK]);
    let mut at: Vec<(u64, u64)> = buffers.iter().map(|b| (place(&pool, b).1, b.bytes())).collect();
    at.sort_unstable();
    assert!(at.iter().all(|(start, _)| start.is_multiple_of(GRANULE)));
    assert!(at.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{at:?}");
    assert_eq!(pool.stats().used, 25 * 1024 + 75 * 1280);
    // A large one has memory of its own, of its size.
    let large = pool.allocate(BLOCK / 4 + 1, 0).unwrap();
    assert_eq!(pool.driver.live(), [BLOCK, BLOCK / 4 + GRANULE]);
    drop(large);
    assert_eq!(pool.driver.live(), [BLOCK]);
}

#[test]
fn what_is_freed_is_used_again() {
    let pool = pool(1 << 40, 1 << 30);
    let first = pool.allocate(5000, 0).unwrap();
    let _second = pool.allocate(5000, 0).unwrap();
    let at = place(&pool, &first);
    drop(first);
    assert_eq!(place(&pool, &pool.allocate(5000, 0).unwrap()), at);
    // A training step again and again takes no more memory than once.
    for _ in 0..1000 {
        let step: Vec<Buffer> = (1..20).map(|i| pool.allocate(i * 10_000, 0).unwrap()).collect();
        drop(step);
    }
    assert_eq!(pool.driver.live(), [BLOCK]);
    assert_eq!(pool.stats().used, 5120);
    assert_eq!(pool.stats().peak, 5120 + (1..20).map(|i| (i * 10_000u64).next_multiple_of(256)).sum::<u64>());
}

#[test]
fn neighbours_that_are_freed_grow_together() {
    let pool = pool(BLOCK, 1 << 30);
    let n = 64;
    let mut buffers: Vec<Option<Buffer>> =
        (0..n).map(|_| Some(pool.allocate(BLOCK / n, 0).unwrap())).collect();
    assert_eq!(pool.driver.live(), [BLOCK], "filled to the last byte");
    // Every second one is free: half of the memory, but no two pieces together.
    buffers.iter_mut().step_by(2).for_each(|b| *b = None);
    let e = pool.allocate(BLOCK / n * 2, 0).unwrap_err();
    assert!(matches!(e, Error::OutOfMemory { available: 0, .. }), "{e}");
    let again = pool.allocate(BLOCK / n, 0).unwrap();
    drop(again);
    buffers.clear();
    pool.allocate(BLOCK / 4, 0).unwrap();
    assert_eq!(pool.stats().used, 0);
}

#[test]
fn empty_blocks_are_freed_but_one() {
    let pool = pool(1 << 40, 1 << 30);
    let buffers: Vec<Buffer> = (0..12).map(|_| pool.allocate(BLOCK / 4, 0).unwrap()).collect();
    assert_eq!(pool.driver.live(), [BLOCK; 3]);
    let one = place(&pool, &buffers[11]);
    drop(buffers);
    assert_eq!(pool.driver.live(), [BLOCK]);
    // Blocks that come later take the places of those that went.
    let more: Vec<Buffer> = (0..12).map(|_| pool.allocate(BLOCK / 4, 0).unwrap()).collect();
    assert!(more.iter().any(|b| place(&pool, b).0 == one.0));
    assert_eq!(pool.driver.live(), [BLOCK; 3]);
    assert_eq!(pool.state().blocks.len(), 3);
}

#[test]
fn buffers_above_the_largest_are_chunks_cut_at_rows() {
    let pool = pool(1 << 40, MIB);
    let row = 3000;
    let b = pool.allocate(1000 * row, row).unwrap();
    assert_eq!(b.bytes(), 3_000_000);
    let starts = b.storage().chunks().to_vec();
    assert_eq!(starts, [0, 349 * row, 698 * row]);
    let memory = pool.memory(&b).unwrap();
    for (i, part) in memory.parts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(b.bytes());
        assert!(part.memory.as_ref().bytes() >= end - part.start);
    }
    assert_eq!(memory.part(349 * row - 1).0.start, 0);
    assert_eq!((memory.part(349 * row).0.start, memory.part(349 * row).1), (349 * row, 698 * row));
    // Without rows they are cut at the granule; a row that fits in no buffer is refused.
    assert_eq!(pool.allocate(2 * MIB + 1, 0).unwrap().storage().chunks(), [0, MIB, 2 * MIB]);
    let e = pool.allocate(4 * MIB, 2 * MIB).unwrap_err();
    assert!(
        matches!(e, Error::Limit { requested, maximum, .. } if (requested, maximum) == (2 * MIB, MIB)),
        "{e}"
    );
    drop(b);
    assert_eq!(pool.stats().used, 0);
    assert!(pool.driver.live().iter().sum::<u64>() <= MIB, "at most a block is left");
}

#[test]
fn beyond_the_limit_the_request_and_the_rest_are_told() {
    let driver = Arc::new(Fake::new(1 << 40, 1 << 30));
    let pool = Arc::new(Pool::new(driver, Some(10 * MIB)));
    let _some = pool.allocate(3 * MIB, 0).unwrap();
    let told = |bytes| match pool.allocate(bytes, 0) {
        Err(Error::OutOfMemory { device, requested, available, limit }) => {
            assert_eq!(device, "fake:0");
            (requested, available, limit)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told(7 * MIB + 1), (7 * MIB + 1, 7 * MIB, 10 * MIB));
    assert_eq!(told(u64::MAX), (u64::MAX, 7 * MIB, 10 * MIB));
    let small = pool.allocate(1, 0).unwrap();
    assert!(pool.driver.live().iter().sum::<u64>() <= 13 * MIB, "blocks keep to the limit");
    drop(small);
    pool.allocate(7 * MIB, 0).unwrap();
}

#[test]
fn when_the_driver_has_no_more_the_whole_request_is_told() {
    let pool = pool(1 << 40, 16 * MIB);
    let _some = pool.allocate(10 * MIB, 0).unwrap();
    // Someone else takes the rest.
    pool.driver.set_room(30 * MIB);
    let e = pool.allocate(40 * MIB, 0).unwrap_err();
    let Error::OutOfMemory { requested, available, limit, .. } = e else { panic!("{e}") };
    assert_eq!((requested, available, limit), (40 * MIB, 4 * MIB, 30 * MIB));
    // What the attempt took is given back, and what there is can be had.
    assert_eq!(pool.driver.live(), [10 * MIB]);
    assert_eq!(pool.stats().used, 10 * MIB);
    pool.allocate(20 * MIB, 0).unwrap();
}

#[test]
fn idle_blocks_and_work_in_flight_give_way() {
    let pool = pool(1 << 40, 1 << 30);
    drop(pool.allocate(1, 0).unwrap());
    let used = pool.allocate(MIB * 9, 0).unwrap();
    let memory = pool.memory(&used).unwrap().parts[0].memory.clone();
    pool.driver.upload(&memory, 0, &[1]).unwrap();
    drop((memory, used));
    assert_eq!(pool.driver.live(), [BLOCK, 9 * MIB], "one is idle, the other in flight");
    pool.driver.set_room(BLOCK + 9 * MIB);
    let all = pool.allocate(BLOCK + 9 * MIB, 0).unwrap();
    drop(all);
    // No room for a block, but for the buffer.
    pool.driver.set_room(MIB);
    let _small = pool.allocate(1000, 0).unwrap();
    assert_eq!(pool.driver.live(), [1024]);
}

#[test]
fn memory_of_others_is_told_apart() {
    let (a, b) = (pool(1 << 40, 1 << 30), pool(1 << 40, 1 << 30));
    let theirs = b.allocate(16, 0).unwrap();
    assert!(matches!(a.memory(&theirs), Err(Error::WrongDevice { .. })));
    assert!(b.memory(&theirs).is_ok());
}

#[test]
fn threads_share_a_pool() {
    let pool = pool(1 << 40, 1 << 30);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut kept = Vec::new();
                for i in 0..500u64 {
                    kept.push(pool.allocate((i * 7919 + t * 31) % 50_000, 0).unwrap());
                    if i % 3 == 0 {
                        kept.swap_remove((i as usize * 13) % kept.len());
                    }
                }
                let mut at: Vec<_> = kept.iter().map(|b| place(pool, b)).collect();
                at.sort_unstable();
                at.dedup();
                assert_eq!(at.len(), kept.len());
            });
        }
    });
    assert_eq!(pool.stats().used, 0);
    assert_eq!(pool.driver.live(), [BLOCK]);
}
