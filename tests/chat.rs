//! `halite chat` as a script uses it: a line in, an answer out.

mod common;

use common::{Place, Ran, wait_for};
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const TEMPLATE: &str = r#"{"eos_token": "<|endoftext|>", "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"}"#;

/// A place with `run`, a model that has learned next to nothing, and its chat template.
fn place() -> Place {
    let place = Place::with_run();
    let settings = place.read_text("run.toml");
    place.write(
        "run.toml",
        settings.replace("max_position_embeddings = 64", "max_position_embeddings = 4096"),
    );
    place.ok("train --config run.toml --device cpu --steps 2 --out run");
    place.write("run/step-2/tokenizer_config.json", TEMPLATE);
    place
}

/// What a chat answers to these lines.
fn chat(place: &Place, options: &str, lines: &str) -> Ran {
    let mut command = place.command(&format!("chat --model run --device cpu {options}"));
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A program that fails at once reads nothing.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap().into()
}

#[test]
fn lines_are_answered_and_commands_obeyed() {
    let place = place();
    let one = chat(&place, "-n 6", "Hi\n");
    assert_eq!((one.code, one.stdout.len() > 1), (Some(0), true), "{}{}", one.stdout, one.stderr);
    assert!(one.stderr.contains("(ended after 6 tokens"), "{}", one.stderr);
    // No line end after the last line, and one that only looks empty.
    assert_eq!(chat(&place, "-n 6", "  \nHi").stdout, one.stdout);

    let many = chat(&place, "-n 6", "Hi\n/stats\n/reset\n/nonsense\n/help\nHi\n/stats\n/exit\nHi\n");
    assert_eq!((many.code, &many.stdout), (Some(0), &(one.stdout.clone() + &one.stdout)), "{}", many.stderr);
    let prompt = "user: Hi#assistant: ".len();
    for words in [
        "/nonsense isn't a command",
        "/reset",
        "tokens/s",
        "on the device",
        &format!("prompts  {prompt} tokens"),
        // The second time, all but the last token were known.
        &format!("prompts  {} tokens", prompt + 1),
        "answers  6 tokens",
        "answers  12 tokens",
        &format!("context  {} of 4096 tokens", prompt + 5),
    ] {
        assert!(many.stderr.contains(words), "{words} in {}", many.stderr);
    }
    let system = chat(&place, "-n 6 --system Brief", "/stats\nHi\n/reset\nHi\n/stats\n");
    let (first, second) = system.stdout.split_at(system.stdout.len() / 2);
    assert_eq!(first, second);
    let prompt = "system: Brief#user: Hi#assistant: ".len();
    assert!(system.stderr.contains(&format!("context  {} of", prompt + 5)), "{}", system.stderr);
}

#[test]
fn what_a_model_says_about_generation_is_heeded() {
    let place = place();
    let greedy = chat(&place, "-n 8", "Hi\n").stdout;
    place.write("run/step-2/generation_config.json", r#"{"do_sample": true, "temperature": 2.0}"#);
    let drawn = chat(&place, "-n 8", "Hi\n").stdout;
    assert_ne!(drawn, greedy);
    assert_eq!(chat(&place, "-n 8 --temperature 0", "Hi\n").stdout, greedy);
    assert_ne!(chat(&place, "-n 8 --seed 1", "Hi\n").stdout, drawn);
    let generate = "generate --model run --device cpu --prompt Hi -n 8";
    assert_ne!(place.ok(generate).stdout, place.ok(&format!("{generate} --temperature 0")).stdout);

    let ids: Vec<String> = (0..260).map(|id| id.to_string()).collect();
    place.write("run/step-2/generation_config.json", format!("{{\"eos_token_id\": [{}]}}", ids.join(",")));
    assert_eq!(chat(&place, "-n 8", "Hi\n").stdout, "\n");
    assert_eq!(place.ok(generate).stdout, "Hi\n");
    place.write("run/step-2/generation_config.json", "{\"eos_token_id\": \"x\"}");
    place.fails(generate, &["eos_token_id", "\"x\""]);
}

#[test]
fn what_cannot_be_chatted_with_is_refused() {
    let place = place();
    for (options, lines, words) in [
        ("--context 10", "Hi\n", &["21 tokens of context", "10"][..]),
        ("--context 5000", "Hi\n", &["5000", "4096"]),
        ("--top-p 2", "Hi\n", &["top_p", "2"]),
    ] {
        let error = chat(&place, options, lines).error(options);
        assert!(words.iter().all(|w| error.contains(w)), "{words:?} in {error}");
    }
    let mut child = place.command("chat --model run --device cpu").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff\n").unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert!(ran.error("not text").contains("not UTF-8"));

    for (config, words) in [
        ("{}", &["step-2 has no chat template", "halite generate"][..]),
        (r#"{"chat_template": "{% if %}"}"#, &["chat template: ", "syntax error"]),
        (r#"{"chat_template": "{{ raise_exception('No') }}"}"#, &["refuses these messages: No"]),
    ] {
        place.write("run/step-2/tokenizer_config.json", config);
        let error = chat(&place, "", "Hi\n").error(config);
        assert!(words.iter().all(|w| error.contains(w)), "{words:?} in {error}");
    }
    place.fails("chat --model missing", &["missing"]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_answer_and_then_the_program() {
    let place = place();
    let mut command = place.command("chat --model run --device cpu -n 100000 --context 4096");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let interrupt = |id: u32| {
        assert!(Command::new("kill").args(["-INT", &id.to_string()]).status().unwrap().success());
    };
    let mut output = child.stdout.take().unwrap();
    let mut byte = [0];
    input.write_all(b"Hi\n").unwrap();
    // The answer has begun.
    output.read_exact(&mut byte).unwrap();
    interrupt(child.id());
    input.write_all(b"/stats\n/exit\n").unwrap();
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("(interrupted)\n") && ran.stderr.contains("answers  "), "{}", ran.stderr);
    assert!(rest.len() < 4096 && rest.ends_with(b"\n"));

    // Between answers, it ends the program.
    let mut child = place.command("chat --model run --device cpu").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"/nonsense\n").unwrap();
    let mut notice = child.stderr.take().unwrap();
    notice.read_exact(&mut byte).unwrap();
    interrupt(child.id());
    let mut code = None;
    wait_for("the end", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(130));
    drop(input);
}
