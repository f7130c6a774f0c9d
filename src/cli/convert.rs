//! `halite convert`

use super::error::{Error, Result};
use super::model::ModelArgs;
use super::output::{self, note};
use halite::hal::DType;
use halite::models::convert::{TYPES, to_folder, to_gguf};
use std::cell::Cell;
use std::path::PathBuf;

/// Write a model in another format, or with weights of another type
///
/// Norms, biases and routers stay f32. Rows that a type's blocks don't divide get what llama.cpp gives them.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  halite convert --model DIR --out model.gguf --type q8_0\n  \
                        halite convert --model model.gguf --out DIR --type bf16")]
pub struct Convert {
    #[command(flatten)]
    model: ModelArgs,
    /// A file that ends in .gguf, or the folder for a Hugging Face model
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Type of the matrices: f32, f16, bf16, q8_0, q4_0 or q4_k
    #[arg(long = "type", value_name = "TYPE", default_value = "f32", value_parser = dtype)]
    dtype: DType,
}

fn dtype(name: &str) -> std::result::Result<DType, String> {
    let names = TYPES.map(DType::name).join(", ");
    let found = TYPES.into_iter().find(|t| t.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("the types are {names}"))
}

impl Convert {
    pub fn run(self) -> Result<()> {
        let files = self.model.find()?;
        let to_file = self.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if to_file && self.out.is_dir() {
            return Err(Error::Usage(format!("{} is a folder; a GGUF file is one file", self.out.display())));
        }
        let bar = output::progress(0, "tensors");
        let written = Cell::new(0);
        let done = |all: usize| {
            written.set(written.get() + 1);
            bar.set_length(all as u64);
            bar.set_position(written.get());
        };
        let tokenizer = match to_file {
            true => to_gguf(&files, self.dtype, &self.out, &done),
            false => to_folder(&files, self.dtype, &self.out, &done),
        };
        bar.finish_and_clear();
        if !tokenizer? {
            note!("{} has no tokenizer: none could be taken along", self.out.display());
        }
        Ok(())
    }
}
