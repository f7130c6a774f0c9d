//! The command line: one module a command.
//!
//! Results go to standard output, progress and notices to standard error. A failure is one line on
//! standard error and exit code 1; a wrong command line is exit code 2.

mod bench;
mod chat;
mod convert;
mod demo;
mod devices;
mod error;
mod generate;
mod inspect;
mod model;
mod output;
mod perplexity;
mod sampling;
mod tokenizer;
mod train;
mod tune;
mod verify;

use clap::{Args, Parser, Subcommand};
use error::{Error, Result};
use halite::hal::{Device, DeviceOptions, Profile};
use output::note;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// One Mixture-of-Experts stack, trained and served on any vendor's hardware.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Examples:\n  halite demo\n  halite train --preset tiny --data docs src --out runs/tiny\n  \
                  halite generate --model runs/tiny --prompt 'The '"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Devices(devices::Devices),
    Verify(verify::Verify),
    Tune(tune::Tune),
    Tokenizer(tokenizer::TokenizerArgs),
    Train(Box<train::Train>),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Perplexity(perplexity::Perplexity),
    Convert(convert::Convert),
    Inspect(inspect::Inspect),
    Demo(demo::Demo),
    Bench(bench::Bench),
}

/// Which device to use, and how.
#[derive(Args, Clone, Debug)]
struct DeviceArgs {
    /// Device: auto, all, a kind such as cpu, or kind:number; see `halite devices`
    #[arg(long, short, value_name = "SELECTOR")]
    device: Option<String>,
    /// Restrict the device to a profile, such as core-only or minimal
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Host threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Device memory that may be used, in MiB
    #[arg(long, value_name = "MIB")]
    memory_limit: Option<u64>,
}

impl DeviceArgs {
    fn options(&self) -> Result<DeviceOptions> {
        let mut options = DeviceOptions::default();
        if let Some(dir) = cache_dir(|name| std::env::var_os(name)) {
            options = options.cache_dir(dir);
        }
        if let Some(n) = self.threads {
            options = options.threads(n.into());
        }
        if let Some(mib) = self.memory_limit {
            options = options.memory_limit(mib.saturating_mul(1 << 20));
        }
        if let Some(name) = &self.profile {
            options = options.profile(Profile::named(name)?);
        }
        Ok(options)
    }

    /// The one device asked for, by default the fastest.
    fn open(&self) -> Result<Arc<dyn Device>> {
        let selector = self.device.as_deref().unwrap_or("auto");
        Ok(halite::registry().open(selector, &self.options()?)?)
    }

    /// The devices asked for, by default all.
    fn open_all(&self) -> Result<Vec<Arc<dyn Device>>> {
        let selector = self.device.as_deref().unwrap_or("all");
        Ok(halite::registry().open_all(selector, &self.options()?)?)
    }
}

/// Where compiled programs and tuned choices are kept, if the environment has a place for them.
fn cache_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The XDG specification: what is empty or not absolute counts as not set.
    let folder = |name| variable(name).map(PathBuf::from).filter(|p| p.is_absolute());
    if let Some(own) = variable("HALITE_CACHE").filter(|v| !v.is_empty()) {
        return Some(own.into());
    }
    let user = match cfg!(windows) {
        true => folder("LOCALAPPDATA"),
        false => folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache"))),
    };
    Some(user?.join("halite"))
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HALITE_LOG").unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Devices(c) => c.run(),
        Command::Verify(c) => c.run(),
        Command::Tune(c) => c.run(),
        Command::Tokenizer(c) => c.run(),
        Command::Train(c) => c.run(),
        Command::Generate(c) => c.run(),
        Command::Chat(c) => c.run(),
        Command::Perplexity(c) => c.run(),
        Command::Convert(c) => c.run(),
        Command::Inspect(c) => c.run(),
        Command::Demo(c) => c.run(),
        Command::Bench(c) => c.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has gone away (`halite … | head`) is no failure of ours to report.
        Err(e) if e.is_broken_pipe() => ExitCode::FAILURE,
        Err(Error::Usage(message)) => {
            note!("error: {message}");
            ExitCode::from(2)
        }
        Err(e) => {
            note!("error: {}", e.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(not(windows))]
    fn caches_are_where_the_environment_says() {
        let dir = |set: &[(&str, &str)]| {
            let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
            cache_dir(value).map(|p| p.display().to_string()).unwrap_or_default()
        };
        assert_eq!(dir(&[]), "");
        assert_eq!(dir(&[("HOME", "/own/a")]), "/own/a/.cache/halite");
        assert_eq!(dir(&[("HOME", "/own/a"), ("XDG_CACHE_HOME", "/tmp/c")]), "/tmp/c/halite");
        assert_eq!(dir(&[("HOME", "/own/a"), ("XDG_CACHE_HOME", "c")]), "/own/a/.cache/halite");
        assert_eq!(dir(&[("HOME", "/own/a"), ("HALITE_CACHE", "here")]), "here");
        assert_eq!(dir(&[("HALITE_CACHE", ""), ("XDG_CACHE_HOME", "/tmp/c")]), "/tmp/c/halite");
    }
}
