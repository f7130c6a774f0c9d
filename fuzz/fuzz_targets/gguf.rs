//! GGUF files: reading, every value and tensor, the model in it, and writing it again.
//!
//! Whatever bytes come, nothing panics, no single allocation is far larger than the file, and what was
//! written again reads back the same.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use halite_models::config::parameters;
use halite_models::gguf::{Gguf, GgufError, GgufModel, GgufWriter, Value};
use libfuzzer_sys::fuzz_target;

/// Aborts at an allocation beyond the limit.
struct Guard;

static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: it does what the system's allocator does, or ends the process.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > LIMIT.load(Ordering::Relaxed) {
            LIMIT.store(usize::MAX, Ordering::Relaxed); // what reports it allocates too
            eprintln!("an allocation of {} bytes at\n{}", layout.size(), std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; every block came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Guard = Guard;

fuzz_target!(|data: &[u8]| {
    // Lists have a few words for each thing that has a few bytes in the file.
    LIMIT.store(64 * data.len() + (2 << 20), Ordering::Relaxed);
    if let Ok(gguf) = Gguf::from_bytes(data.to_vec()) {
        read(&gguf);
        write_again(&gguf);
        if let Ok(model) = GgufModel::new(gguf) {
            // An expert may have a byte in the file; in a list it has three parameters with their names.
            LIMIT.store(2048 * data.len() + (2 << 20), Ordering::Relaxed);
            parts(&model);
        }
    }
    LIMIT.store(usize::MAX, Ordering::Relaxed);
});

fn read(gguf: &Gguf) {
    for (key, value) in gguf.metadata() {
        assert_eq!(gguf.value(key).map(|v| v.kind()), Some(value.kind()));
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
            let _ = (array.to_vec::<&str>(), array.to_vec::<u32>());
        }
    }
    for tensor in gguf.tensors() {
        assert_eq!(tensor.ggml_type.bytes(tensor.shape), Some(tensor.bytes.len()));
        assert!(gguf.tensor(tensor.name).is_ok());
        let _ = tensor.to_f32();
    }
}

fn write_again(gguf: &Gguf) {
    let written = || -> Result<Vec<u8>, GgufError> {
        let mut writer = GgufWriter::new();
        for (key, value) in gguf.metadata() {
            writer.metadata(key, value)?;
        }
        for tensor in gguf.tensors() {
            writer.tensor(tensor.name, tensor.ggml_type, tensor.shape, move || Ok(tensor.bytes.into()))?;
        }
        let mut out = Vec::new();
        writer.write(&mut out)?;
        Ok(out)
    };
    // Not all that can be read may be written: an alignment of another kind, a long name.
    let Ok(bytes) = written() else { return };
    let again = Gguf::from_bytes(bytes).expect("what was written can be read");
    assert_eq!(gguf.tensors().len(), again.tensors().len());
    for (a, b) in gguf.tensors().zip(again.tensors()) {
        assert_eq!((a.name, a.ggml_type, a.shape, a.bytes), (b.name, b.ggml_type, b.shape, b.bytes));
    }
    for ((a, _), (b, _)) in gguf.metadata().zip(again.metadata()) {
        assert_eq!(a, b);
    }
}

fn parts(model: &GgufModel) {
    let specs = parameters(model.config());
    if model.check(&specs).is_ok() {
        for spec in &specs {
            let parameter = model.parameter(spec).expect("checked");
            assert_eq!(parameter.ggml_type.bytes(&parameter.shape), Some(parameter.bytes.len()));
        }
    }
}
