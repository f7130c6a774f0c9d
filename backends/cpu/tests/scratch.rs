//! Ops take little memory beside their operands. Alone in its program, for it counts all allocations.

use halite_cpu::CpuDevice;
use halite_hal::{DType, Device, DeviceOptions, Op, StreamId, TensorRef};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(USED.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by the caller.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn quantised_experts_are_decoded_a_part_at_a_time() {
    let s = StreamId(0);
    let d = CpuDevice::new(&DeviceOptions::default().threads(2)).unwrap();
    let (experts, rows, k, n) = (16, 144, 512, 4096);
    let zeros = |dtype: DType, shape: &[usize]| {
        TensorRef::new(&d.allocate(dtype.bytes(shape).unwrap(), 0).unwrap(), dtype, shape)
    };
    let first: Vec<u8> = (0..=experts as i32).flat_map(|e| (9 * e).to_le_bytes()).collect();
    let offsets = d.allocate(first.len() as u64, 0).unwrap();
    d.upload(s, &offsets, 0, &first).unwrap();
    let offsets = TensorRef::new(&offsets, DType::I32, &[experts + 1]);
    // 34 million weights, 128 MiB as f32.
    let weights = zeros(DType::Q4_0, &[experts, n, k]).transpose(1, 2);
    let (a, c) = (zeros(DType::F32, &[rows, k]), zeros(DType::F32, &[rows, n]));
    d.synchronize(s).unwrap();
    let before = USED.load(Relaxed);
    PEAK.store(before, Relaxed);
    d.submit(s, &[Op::grouped_matmul(a, weights, offsets, None, c, false)]).unwrap();
    d.synchronize(s).unwrap();
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak < 80 << 20, "{peak} bytes");
}
