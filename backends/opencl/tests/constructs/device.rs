//! A device to run the programs on.

use crate::table::Program;
use halite_hal::{Buffer, Device, DeviceOptions, Result, StreamId};
use halite_kernels::{Command, Dispatch, Driver, Engine};
use std::sync::Arc;

/// The first device that `open` opens, or `None` and a line that says why there is none. SwiftShader is passed over:
/// it crashes on the 8-bit integers that naga makes of some functions that pack.
pub fn open<D: Driver>(open: fn(usize, &DeviceOptions) -> Result<D>, kind: &str) -> Option<Engine<D>> {
    let options = DeviceOptions::default();
    for index in 0.. {
        match open(index, &options).and_then(|driver| Engine::new(driver, &options)) {
            Ok(engine) if engine.info().name.contains("SwiftShader") => {}
            Ok(engine) => {
                println!("{} is {:?}", engine.info().selector, engine.info().name);
                return Some(engine);
            }
            Err(e) => {
                println!("skipped: {kind}:{index} can't be opened: {e}");
                break;
            }
        }
    }
    None
}

/// What the program leaves in its output.
pub fn run<D: Driver>(engine: &Engine<D>, program: &Program) -> Result<Vec<u32>> {
    let stream = StreamId::default();
    let upload = |words: &[u32]| -> Result<Buffer> {
        let buffer = engine.allocate(4 * words.len() as u64, 0)?;
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        engine.upload(stream, &buffer, 0, &data)?;
        Ok(buffer)
    };
    let x = upload(&program.input)?;
    let y = upload(&program.output)?;
    // Straight through the driver: programs may have parameters of any type.
    let kernel = program.kernel();
    let binding = |buffer: &Buffer| engine.export(buffer).map(|mut regions| regions.remove(0));
    let dispatch = Dispatch {
        program: Arc::new(engine.driver().compile(&kernel)?),
        params: program.params().to_vec(),
        bindings: vec![binding(&x)?, binding(&y)?],
        groups: [program.workgroups, 1, 1],
        label: kernel.name.as_str().into(),
    };
    engine.driver().submit(&[Command::Dispatch(dispatch)])?;
    engine.download(stream, &y, 0, y.bytes())?.wait_as()
}
