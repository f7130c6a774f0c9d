//! Tells the library which commit it is built from, so that reports can say it.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_string())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Written with each commit and checkout. Without it there is no repository, and nothing to say.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|p| std::path::Path::new(p).exists());
    let Some(log) = log else { return };
    println!("cargo::rerun-if-changed={log}");
    for (variable, arguments) in [
        ("HALITE_COMMIT", ["rev-parse", "--short", "HEAD"]),
        ("HALITE_COMMIT_NUMBER", ["rev-list", "--count", "HEAD"]),
    ] {
        if let Some(value) = git(&arguments) {
            println!("cargo::rustc-env={variable}={value}");
        }
    }
}
