//! CUDA C, which has no compiler here: each program is written, and where there is a `g++`, that takes it for C++.

use crate::table;
use halite_kernels::writer::Dialect;
use std::io::Write;
use std::process::{Command, Stdio};

/// As much of CUDA as the programs use, for a C++ compiler.
const STUB: &str = include_str!("cuda_stub.h");

#[test]
fn cuda_c_is_c_plus_plus() {
    let mut sources = Vec::new();
    for program in table::programs().into_iter().chain([table::subgroups()]) {
        let source = program.kernel().parse().and_then(|parsed| parsed.c(Dialect::CudaC));
        let source = source.unwrap_or_else(|e| panic!("{}: {e}", program.title));
        assert!(source.contains("extern \"C\" __global__ void"), "{}:\n{source}", program.title);
        sources.push((program.title, source));
    }
    if Command::new("g++").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no g++ to read the {} sources", sources.len());
        return;
    }
    // One compilation is enough: each source has a namespace, except for its linkage.
    let mut text = String::from(STUB);
    for (index, (title, source)) in sources.iter().enumerate() {
        let source = source.replace("extern \"C\" __global__", "__global__");
        text += &format!("// {title}\nnamespace program_{index} {{\n{source}}}\n");
    }
    let mut compiler = Command::new("g++")
        .args(["-std=c++17", "-fsyntax-only", "-Wall", "-Wno-unused", "-Wno-parentheses", "-x", "c++", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("g++ has just been run");
    compiler.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("g++ reads");
    let output = compiler.wait_with_output().expect("g++ ends");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
}
