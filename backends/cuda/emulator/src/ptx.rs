//! PTX: its modules, kernels and variables.

use std::sync::Arc;

/// Why PTX isn't taken.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PtxError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// A module.
#[derive(Debug)]
pub struct Module {
    /// Its kernels.
    pub kernels: Vec<Arc<Kernel>>,
    /// Its variables.
    pub globals: Vec<Global>,
}

/// A variable of a module.
#[derive(Debug)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What its address is a multiple of.
    pub align: u64,
    /// Its first bytes; zeros follow.
    pub init: Vec<u8>,
}

/// A kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Bytes of all parameters.
    pub param_bytes: usize,
    /// Bytes of shared memory that it declares.
    pub static_shared: u32,
    /// Bytes of local memory of a thread.
    pub local_bytes: u32,
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Threads of a block, if it says so.
    pub max_threads: Option<u32>,
}

/// A parameter of a kernel.
#[derive(Debug)]
pub struct Param {
    /// Where it is among the bytes of all parameters.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
}

/// Reads PTX.
///
/// # Errors
/// Where it isn't understood, with the line. So far that is everything in the bodies of kernels but `ret;`.
pub fn load(text: &str) -> Result<Module, PtxError> {
    let mut module = Module { kernels: Vec::new(), globals: Vec::new() };
    // The name and the parameters of the kernel that is being read.
    let mut reading: Option<(String, Vec<Param>)> = None;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let wrong = |message: String| PtxError { line: line_number, message };
        let line = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "(),;".contains(c)).collect();
        match words.as_slice() {
            [".version" | ".target" | ".address_size", ..] => {}
            [".visible", ".entry", name, ..] => reading = Some((name.to_string(), Vec::new())),
            [".param", kind, ..] => {
                let bytes = kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<usize>();
                let bytes = bytes.map_err(|_| wrong(format!("{kind} isn't the type of a parameter")))? / 8;
                let (_, params) = reading.as_mut().ok_or_else(|| wrong("a parameter of no kernel".into()))?;
                let offset = params.last().map_or(0, |p: &Param| p.offset + p.bytes).next_multiple_of(bytes);
                params.push(Param { offset, bytes });
            }
            ["}"] => {
                let (name, params) = reading.take().ok_or_else(|| wrong("an end of no kernel".into()))?;
                let param_bytes = params.last().map_or(0, |p| p.offset + p.bytes);
                module.kernels.push(Arc::new(Kernel {
                    name,
                    params,
                    param_bytes,
                    static_shared: 0,
                    local_bytes: 0,
                    registers: 8,
                    max_threads: None,
                }));
            }
            ["" | "{" | "ret", ..] => {}
            [word, ..] => return Err(wrong(format!("{word} isn't known"))),
            [] => {}
        }
    }
    Ok(module)
}
