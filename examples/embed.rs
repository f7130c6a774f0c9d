//! Halite inside another program: one operation on a device, then a model.
//!
//! `cargo run --release --example embed [MODEL_DIR PROMPT]`

use halite::hal::{DType, Device, DeviceOptions, Op, StreamId, TensorRef};
use halite::models::inference::{GenerateOptions, Generator};
use halite::models::model::Model;
use halite::models::sampling::SamplingOptions;
use halite::models::tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let device = halite::registry().open("auto", &DeviceOptions::default())?;
    println!("{} ({})", device.info().name, device.info().selector);
    println!("[[1, 2], [3, 4]] · [[5, 6], [7, 8]] = {:?}", product(&*device)?);

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [folder, prompt] = &arguments[..] {
        println!("{prompt}{}", continuation(device, Path::new(folder), prompt)?);
    }
    Ok(())
}

/// A matrix product, from upload to download.
fn product(device: &dyn Device) -> Result<Vec<f32>, Error> {
    let stream = StreamId(0);
    let matrix = |values: [f32; 4]| -> Result<_, Error> {
        let buffer = device.allocate(16, 0)?;
        device.upload(stream, &buffer, 0, &values.map(f32::to_le_bytes).concat())?;
        Ok(buffer)
    };
    let buffers = [matrix([1.0, 2.0, 3.0, 4.0])?, matrix([5.0, 6.0, 7.0, 8.0])?, matrix([0.0; 4])?];
    let [a, b, c] = buffers.each_ref().map(|buffer| TensorRef::new(buffer, DType::F32, &[2, 2]));
    device.submit(stream, &[Op::matmul(a, b, c)])?;
    Ok(device.download(stream, &buffers[2], 0, 16)?.wait_as()?)
}

/// The likeliest continuation of a prompt by a model in Hugging Face's layout.
fn continuation(device: Arc<dyn Device>, folder: &Path, prompt: &str) -> Result<String, Error> {
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
    let model = Model::open(device, folder)?;
    let options = GenerateOptions {
        sampling: SamplingOptions { temperature: 0.0, ..Default::default() },
        max_new_tokens: 32,
        stop: Vec::new(),
        logprobs: None,
        cache_type: halite::hal::DType::F32,
    };
    Ok(Generator::new(&model, &tokenizer)?.generate(prompt, &options, |_| true)?.text)
}
