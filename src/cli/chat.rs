//! `halite chat`

use super::DeviceArgs;
use super::error::{Error, Result};
use super::generate::rate;
use super::model::{CacheArgs, ModelArgs, load};
use super::output::{self, note};
use super::sampling::SamplingArgs;
use halite::hal::Device;
use halite::models::chat::{Message, Session, SessionOptions, Statistics};
use halite::models::inference::{CacheOptions, Finish};
use halite::models::model::WeightTypes;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 16 << 20;

const HELP: &str = "\
/reset   forget what was said, except by --system
/stats   speed and memory so far
/help    this
/exit    end the chat, as the end of the input does
All else is said to the model. Ctrl-C ends an answer, or the chat between answers.";

/// Chat with a model
///
/// Reads a line, answers it, and goes on to the next. The model must have a chat template.
#[derive(clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:\n  halite chat --model models/SmolLM2-135M-Instruct\n  \
                        echo 'What is a monad?' | halite chat --model models/SmolLM2-135M-Instruct --system 'Be brief.'"
)]
pub struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is told at the beginning
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Tokens of an answer at most
    #[arg(long, short = 'n', default_value_t = 1024)]
    max_new_tokens: usize,
    /// Tokens of the whole chat at most [default: what the model can, but not above 8192]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Chat {
    pub fn run(self) -> Result<()> {
        // Before the weights are read: this is what is missing most often.
        let files = self.model.find()?;
        let template = files.chat_template()?;
        let device = self.device.open()?;
        let mut model = load(&files, device.clone(), WeightTypes::Stored)?;
        let tokenizer = files.tokenizer()?;
        let sampling = self.sampling.options(&mut model, &files)?;
        let options = SessionOptions { sampling, max_new_tokens: self.max_new_tokens };
        let context = self.context.unwrap_or(model.config.max_position_embeddings.min(8192));
        let cache = CacheOptions::new(vec![context]).dtype(self.cache.cache_type);
        let mut session = Session::new(&model, &tokenizer, template, &cache)?;
        if let Some(text) = self.system {
            session.push(Message::new("system", text));
        }
        let interrupt = Interrupt::new();
        let terminal = std::io::stdin().is_terminal();
        if terminal {
            note!("{}: /help for help, /exit or Ctrl-D to end", self.model.path.display());
        }
        let mut input = std::io::stdin().lock();
        while let Some(line) = read_line(&mut input, terminal)? {
            match line.trim() {
                "" => {}
                "/exit" => break,
                "/reset" => session.reset(),
                "/stats" => note!("{}", statistics(&session.statistics(), device.as_ref())),
                "/help" => note!("{HELP}"),
                word if word.starts_with('/') => note!("{word} isn't a command; /help lists them"),
                text => answer(&mut session, text, &options, &interrupt, terminal)?,
            }
        }
        Ok(())
    }
}

/// The next line, without its end; `None` at the end of the input.
fn read_line(input: &mut impl BufRead, terminal: bool) -> Result<Option<String>> {
    if terminal {
        let mut out = std::io::stderr();
        // That the prompt isn't seen is no reason to stop.
        let _ = write!(out, "> ").and_then(|()| out.flush());
    }
    let failed = |reason: String| Error::Failed(format!("standard input: {reason}"));
    let mut line = Vec::new();
    let bytes = input.take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| failed(e.to_string()))?;
    if bytes as u64 == MAX_LINE {
        return Err(failed(format!("a line of more than {MAX_LINE} bytes")));
    }
    let line = String::from_utf8(line).map_err(|_| failed("not UTF-8 text".into()))?;
    Ok((bytes > 0).then_some(line))
}

/// Answers on standard output as the text comes, with a line end. On a terminal, what can't be answered doesn't
/// end the chat.
fn answer(
    session: &mut Session<'_>,
    text: &str,
    options: &SessionOptions,
    interrupt: &Interrupt,
    terminal: bool,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    interrupt.set(ANSWERING);
    let turn = session.say(text, options, |piece| {
        failed = write!(out, "{piece}").and_then(|()| out.flush()).err();
        failed.is_none() && interrupt.get() == ANSWERING
    });
    interrupt.set(IDLE);
    if let Some(e) = failed {
        return Err(Error::Output(e));
    }
    match turn {
        Ok(turn) => {
            writeln!(out)?;
            match turn.finish {
                Finish::Length => note!("(ended after {} tokens, --max-new-tokens)", turn.decode_tokens),
                Finish::Context => note!("(the context is full; /reset makes room)"),
                Finish::Cancelled => note!("(interrupted)"),
                _ => {}
            }
            Ok(())
        }
        Err(e @ (halite::models::Error::ContextLength { .. } | halite::models::Error::Template(_)))
            if terminal =>
        {
            note!("error: {e}");
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// Lines for `/stats`.
fn statistics(s: &Statistics, device: &dyn Device) -> String {
    let memory = device.memory();
    let mut text = format!(
        "prompts  {} tokens, {:.1} tokens/s\nanswers  {} tokens, {:.1} tokens/s\n\
         context  {} of {} tokens\nmemory   {} on the device, {} at most",
        s.prefill_tokens,
        rate(s.prefill_tokens, s.prefill_seconds),
        s.decode_tokens,
        rate(s.decode_tokens, s.decode_seconds),
        s.context_used,
        s.context_capacity,
        output::size(memory.used),
        output::size(memory.peak),
    );
    if let Some(bytes) = output::peak_resident() {
        text += &format!("; {} of the host's at most", output::size(bytes));
    }
    text
}

const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const STOPPING: u8 = 2;

/// What Ctrl-C does: it ends an answer; between answers, or when the answer doesn't end, the program.
struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    fn new() -> Self {
        let state = Arc::new(AtomicU8::new(IDLE));
        let asked = state.clone();
        // Fails only when a handler is there already; then Ctrl-C does what that one says.
        let _ = ctrlc::set_handler(move || {
            let stop = asked.compare_exchange(ANSWERING, STOPPING, Ordering::Relaxed, Ordering::Relaxed);
            if stop.is_err() {
                std::process::exit(130);
            }
        });
        Interrupt(state)
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}
