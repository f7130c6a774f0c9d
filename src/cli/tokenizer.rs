//! `halite tokenizer`

use super::error::{Error, Result};
use super::output::{self, say};
use halite::models::data::read_documents;
use halite::models::tokenizer::Tokenizer;
use std::path::PathBuf;

/// Make tokenizers
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  halite tokenizer train --data docs src --vocab-size 4096 --out tokenizer.json"
)]
pub struct TokenizerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Train byte-level BPE on text and write a tokenizer.json
    #[command(
        after_help = "Example:\n  halite tokenizer train --data docs src --vocab-size 4096 --out tokenizer.json"
    )]
    Train {
        /// Files, folders, globs or .jsonl files
        #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
        data: Vec<PathBuf>,
        /// The field of a JSONL line that is its text
        #[arg(long, default_value = "text")]
        text_field: String,
        /// Tokens at most; at least 257
        #[arg(long, default_value_t = 4096)]
        vocab_size: usize,
        /// The file to write
        #[arg(long, default_value = "tokenizer.json")]
        out: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

impl TokenizerArgs {
    pub fn run(self) -> Result<()> {
        let Command::Train { data, text_field, vocab_size, out, json } = self.command;
        let documents = read_documents(&data, &text_field)?;
        let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
        if bytes == 0 {
            return Err(Error::Failed("the data has no text".into()));
        }
        let tokenizer = Tokenizer::train_bpe(documents.iter().map(|d| d.text.as_str()), vocab_size)?;
        tokenizer.save(&out)?;
        if json {
            return output::json(&serde_json::json!({
                "out": out,
                "vocab_size": tokenizer.vocab_size(),
                "documents": documents.len(),
                "bytes": bytes,
            }));
        }
        say!(
            "{}: {} tokens, trained on {} documents of {bytes} bytes",
            out.display(),
            tokenizer.vocab_size(),
            documents.len()
        )?;
        Ok(())
    }
}
