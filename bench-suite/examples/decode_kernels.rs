//! What a decoded token's time goes to, kernel by kernel, on an OpenCL or Vulkan device.
//!
//!     decode_kernels DEVICE PRESET SAMPLES
//!
//! DEVICE is `opencl:0` or `vulkan:0`, PRESET a model such as `tiny`. Prints for each kernel how many launches a
//! token takes and the median of their summed times in microseconds, the longest first, and the whole.

use halite_hal::{Device, DeviceOptions};
use halite_kernels::Engine;
use halite_models::config::ModelConfig;
use halite_models::inference::{Decoder, Want};
use halite_models::model::Model;
use halite_opencl::OpenClDriver;
use halite_vulkan::VulkanDriver;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

type Failure = Box<dyn std::error::Error>;

fn open(device: &str) -> Result<Arc<dyn Device>, Failure> {
    let options = DeviceOptions::default();
    match device.split_once(':') {
        Some(("opencl", n)) => Ok(Arc::new(Engine::new(OpenClDriver::new(n.parse()?, &options)?, &options)?)),
        Some(("vulkan", n)) => Ok(Arc::new(Engine::new(VulkanDriver::new(n.parse()?, &options)?, &options)?)),
        _ => Err(format!("{device} is neither opencl:N nor vulkan:N").into()),
    }
}

fn run(args: &[String]) -> Result<(), Failure> {
    let [device, preset, samples] = args else {
        return Err("usage: decode_kernels DEVICE PRESET SAMPLES".into());
    };
    let device = open(device)?;
    let config = ModelConfig::preset(preset).ok_or("no such preset")?;
    let model = Model::new(device.clone(), config, 0)?;
    let mut decoder = Decoder::new(&model, 64)?;
    for id in 0..32 {
        decoder.feed(&[id], Want::Last)?;
    }
    let recording = decoder.recording().ok_or("no recording of one token")?;
    // For each kernel its launches, and their summed time in each sample.
    let mut kernels: BTreeMap<String, (usize, Vec<f64>)> = BTreeMap::new();
    for sample in 0..samples.parse()? {
        let times = device.time(recording, &[])?.ok_or("the device has no clock")?;
        for (label, seconds) in times {
            let (launches, sums) = kernels.entry(label).or_default();
            sums.resize(sample + 1, 0.0);
            sums[sample] += seconds;
            *launches += usize::from(sample == 0);
        }
    }
    let mut rows: Vec<(f64, usize, String)> = Vec::new();
    for (label, (launches, mut sums)) in kernels {
        sums.sort_by(f64::total_cmp);
        rows.push((1e6 * sums[sums.len() / 2], launches, label));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (time, launches, label) in &rows {
        println!("{time:10.1} {launches:4}  {label}");
    }
    let launches: usize = rows.iter().map(|r| r.1).sum();
    println!("{:10.1} {launches:4}", rows.iter().map(|r| r.0).sum::<f64>());
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
