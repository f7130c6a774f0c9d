//! safetensors files: opening, and every tensor as numbers. Whatever bytes come, nothing panics.

#![no_main]

use halite_models::weights::Weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Weights are mapped, so they must be a file; one a process.
    let path = std::env::temp_dir().join(format!("halite-fuzz-{}.safetensors", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written");
    if let Ok(weights) = Weights::open_file(&path) {
        for name in weights.names() {
            let view = weights.tensor(name).expect("it was listed");
            let _ = (view.to_f32(), view.to_i64());
        }
    }
    let _ = std::fs::remove_file(&path);
});
