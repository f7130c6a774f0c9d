//! Memory, and ways to run PTX that is written in a test.

use halite_cuda_emulator::exec::{Fault, GlobalMemory, Launch, run};
use halite_cuda_emulator::ptx::{Module, load};
use std::cell::UnsafeCell;

/// Where the first buffer is; each lies this far behind the one before.
const BASE: u64 = 0x10_0000_0000;

/// Buffers of device memory.
#[derive(Default)]
pub struct Memory {
    buffers: Vec<Buffer>,
}

struct Buffer {
    data: UnsafeCell<Vec<u128>>,
    bytes: u64,
    freed: bool,
}

// SAFETY: kernels access what is within through atomic operations, and tests only while none runs.
unsafe impl Sync for Memory {}

impl GlobalMemory for Memory {
    fn resolve(&self, address: u64, bytes: u64, _: bool) -> Result<*mut u8, String> {
        let number = (address / BASE).wrapping_sub(1);
        let Some(buffer) = self.buffers.get(number as usize) else { return Err("no memory".into()) };
        let offset = address % BASE;
        if buffer.freed {
            return Err("it was freed".into());
        }
        if offset.checked_add(bytes).is_none_or(|end| end > buffer.bytes) {
            return Err(format!("out of bounds of a buffer of {} bytes", buffer.bytes));
        }
        // SAFETY: only the address is taken.
        let data = unsafe { (*buffer.data.get()).as_mut_ptr() };
        Ok(data.cast::<u8>().wrapping_add(offset as usize))
    }
}

impl Memory {
    /// A buffer of these bytes, and its address.
    pub fn add(&mut self, content: &[u8]) -> u64 {
        let mut data = vec![0_u128; content.len().div_ceil(16)];
        for (to, from) in data.iter_mut().zip(content.chunks(16)) {
            let mut bytes = [0; 16];
            bytes[..from.len()].copy_from_slice(from);
            *to = u128::from_le_bytes(bytes);
        }
        let bytes = content.len() as u64;
        self.buffers.push(Buffer { data: UnsafeCell::new(data), bytes, freed: false });
        BASE * self.buffers.len() as u64
    }

    /// A buffer of 32-bit words.
    pub fn add_words(&mut self, words: &[u32]) -> u64 {
        self.add(&words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>())
    }

    pub fn free(&mut self, address: u64) {
        self.buffers[(address / BASE - 1) as usize].freed = true;
    }

    /// What a buffer holds.
    pub fn bytes(&self, address: u64) -> Vec<u8> {
        let buffer = &self.buffers[(address / BASE - 1) as usize];
        // SAFETY: no kernel runs.
        let data = unsafe { &*buffer.data.get() };
        let mut all: Vec<u8> = data.iter().flat_map(|w| w.to_le_bytes()).collect();
        all.truncate(buffer.bytes as usize);
        all
    }

    pub fn words(&self, address: u64) -> Vec<u32> {
        let bytes = self.bytes(address);
        bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
    }
}

/// Runs a module's first kernel, whose parameters are addresses.
pub fn launch(text: &str, memory: &mut Memory, grid: u32, block: u32, params: &[u64]) -> Result<(), Fault> {
    launch_with(text, 0, memory, [grid, 1, 1], [block, 1, 1], params, 0, 1)
}

/// The same with all that a launch has, of the kernel of that number.
#[allow(clippy::too_many_arguments)]
pub fn launch_with(
    text: &str,
    number: usize,
    memory: &mut Memory,
    grid: [u32; 3],
    block: [u32; 3],
    params: &[u64],
    dynamic_shared: u32,
    threads: usize,
) -> Result<(), Fault> {
    let module: Module = load(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let globals: Vec<u64> = module
        .globals
        .iter()
        .map(|g| {
            let mut content = g.init.clone();
            content.resize(g.bytes as usize, 0);
            memory.add(&content)
        })
        .collect();
    let params: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
    run(&Launch {
        kernel: &module.kernels[number],
        grid,
        block,
        dynamic_shared,
        params: &params,
        memory,
        globals: &globals,
        checks: true,
        threads,
    })
}

/// A kernel `k` of that code, with parameters `p0`, `p1`, … of 64 bits, and some registers of each kind: `%p`,
/// `%h` (16 bits), `%r` and `%f` (32), `%d` and `%e` (64; floats).
pub fn kernel(params: usize, code: &str) -> String {
    let list: Vec<String> = (0..params).map(|n| format!(".param .u64 p{n}")).collect();
    format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k({})\n{{\n.reg .pred %p<20>;\n\
         .reg .b16 %h<40>;\n.reg .b32 %r<60>;\n.reg .f32 %f<40>;\n.reg .b64 %d<40>;\n.reg .f64 %e<20>;\n{code}\nret;\n}}\n",
        list.join(", ")
    )
}

/// The size of a register by its first letter.
fn width(register: &str) -> usize {
    match &register[..2] {
        "%h" => 2,
        "%d" | "%e" => 8,
        _ => 4,
    }
}

/// Runs code in a warp, with a register of inputs for each lane each, and gives what another holds then. Inputs
/// are in the registers named, the low bits of each value.
pub fn warp(code: &str, inputs: &[(&str, &[u64; 32])], output: &str) -> [u64; 32] {
    let mut memory = Memory::default();
    let mut text = String::from("mov.u32 %r59, %tid.x;\n");
    let mut params = Vec::new();
    for (n, (register, values)) in inputs.iter().enumerate() {
        let bytes = width(register);
        let content: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()[..bytes].to_vec()).collect();
        params.push(memory.add(&content));
        text += &format!(
            "ld.param.u64 %d39, [p{n}];\nmad.wide.u32 %d38, %r59, {bytes}, %d39;\nld.global.b{} {register}, [%d38];\n",
            8 * bytes
        );
    }
    let bytes = width(output);
    params.push(memory.add(&vec![0; 32 * bytes]));
    let n = params.len() - 1;
    text += &format!(
        "{code}\nld.param.u64 %d39, [p{n}];\nmad.wide.u32 %d38, %r59, {bytes}, %d39;\nst.global.b{} [%d38], {output};",
        8 * bytes
    );
    let text = kernel(params.len(), &text);
    launch(&text, &mut memory, 1, 32, &params).unwrap_or_else(|f| panic!("{f}\n{text}"));
    let result = memory.bytes(params[n]);
    std::array::from_fn(|l| {
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&result[l * bytes..(l + 1) * bytes]);
        u64::from_le_bytes(word)
    })
}

/// Numbers that arithmetic likes to stumble over, then arbitrary ones, as bits; the same for the same seed.
pub fn numbers(seed: u64, special: &[u64]) -> [u64; 32] {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::array::from_fn(|l| {
        let arbitrary = next();
        if l < 16 && !special.is_empty() {
            special[(arbitrary % special.len() as u64) as usize]
        } else {
            arbitrary
        }
    })
}
