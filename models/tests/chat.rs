//! Chat sessions on the f64 reference: whatever was said, interrupted or forgotten, an answer is what the model
//! gives to the whole prompt.

mod common;

use common::{lively, tiny};
use halite_hal::DType;
use halite_models::Error;
use halite_models::chat::{ChatTemplate, Message, Session, SessionOptions, Turn};
use halite_models::inference::{CacheOptions, Finish, GenerateOptions, Generator};
use halite_models::model::Model;
use halite_models::sampling::SamplingOptions;
use halite_models::tokenizer::Tokenizer;

/// Turns between end-of-text tokens, all of one kind.
const PLAIN: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}\
                     {% if add_generation_prompt %}assistant: {% endif %}";
/// Forgets what the assistant said, except for its last answer.
const FORGETFUL: &str = "{% for m in messages %}{{ m.role }}: \
                         {{ m.content if m.role != 'assistant' or loop.last else '-' }}<|endoftext|>{% endfor %}\
                         {% if add_generation_prompt %}assistant: {% endif %}";
const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, Default::default()).unwrap()
}

fn model(context: usize) -> Model {
    let mut config = tiny(260);
    (config.num_hidden_layers, config.max_position_embeddings) = (1, context);
    lively(&config, 5).1
}

fn greedy(max_new_tokens: usize) -> SessionOptions {
    let sampling = SamplingOptions { temperature: 0.0, ..Default::default() };
    SessionOptions { sampling, max_new_tokens }
}

/// What a model without a cache from before says to the same messages.
fn afresh(model: &Model, source: &str, messages: &[Message], max_new_tokens: usize) -> String {
    let tokenizer = Tokenizer::byte_level();
    let prompt = template(source).render(messages, true).unwrap();
    let sampling = greedy(0).sampling;
    let options = GenerateOptions {
        sampling,
        max_new_tokens,
        stop: Vec::new(),
        logprobs: None,
        cache_type: DType::F32,
    };
    Generator::new(model, &tokenizer).unwrap().generate(&prompt, &options, |_| true).unwrap().text
}

/// Says `text`, and compares the answer.
fn say(session: &mut Session<'_>, model: &Model, source: &str, text: &str) -> Turn {
    let mut pieces = String::new();
    let turn = session
        .say(text, &greedy(12), |piece| {
            pieces.push_str(piece);
            true
        })
        .unwrap();
    assert_eq!(pieces, turn.text);
    let (answer, asked) = session.messages().split_last().unwrap();
    assert_eq!(
        (answer, asked.last().unwrap()),
        (&Message::new("assistant", &*turn.text), &Message::new("user", text))
    );
    assert_eq!(turn.text, afresh(model, source, asked, 12), "{asked:?}");
    turn
}

#[test]
fn later_turns_feed_only_what_is_new_and_answer_the_same() {
    let (model, tokenizer) = (model(400), Tokenizer::byte_level());
    let mut session =
        Session::new(&model, &tokenizer, template(PLAIN), &CacheOptions::new(vec![400])).unwrap();
    session.push(Message::new("system", "Be brief."));
    let first = say(&mut session, &model, PLAIN, "Hello");
    assert_eq!(first.cached_tokens, 0);
    // One byte, one token; what ends a turn is one, too.
    let prompt = "system: Be brief.#user: Hello#assistant: ".len();
    assert_eq!(first.prefill_tokens, prompt);
    let before = session.statistics();
    assert_eq!((before.prefill_tokens, before.decode_tokens), (prompt, first.decode_tokens));
    assert_eq!(before.context_used, prompt + first.decode_tokens - 1);

    let second = say(&mut session, &model, PLAIN, "And then?");
    // At least the first prompt is there still; the answer as far as its text gives its tokens again.
    assert!(second.cached_tokens >= prompt, "{second:?}");
    let all = template(PLAIN).render(&session.messages()[..4], true).unwrap();
    let ids = tokenizer.encode(&all, false).unwrap().len();
    assert_eq!(second.cached_tokens + second.prefill_tokens, ids);
    let after = session.statistics();
    assert_eq!(after.prefill_tokens, prompt + second.prefill_tokens);
    assert_eq!(after.context_used, ids + second.decode_tokens - 1);
    assert_eq!(after.context_capacity, 400);

    session.reset();
    assert_eq!(session.messages(), [Message::new("system", "Be brief.")]);
    let again = say(&mut session, &model, PLAIN, "Hello");
    // All is known but the last token, whose logits are wanted.
    assert_eq!((again.text, again.prefill_tokens), (first.text, 1));
}

#[test]
fn a_template_may_rewrite_the_history() {
    let (model, tokenizer) = (model(400), Tokenizer::byte_level());
    let mut session =
        Session::new(&model, &tokenizer, template(FORGETFUL), &CacheOptions::new(vec![400])).unwrap();
    for text in ["One", "Two", "Three"] {
        say(&mut session, &model, FORGETFUL, text);
    }
    assert_eq!(session.messages().len(), 6);
}

#[test]
fn an_interrupted_answer_is_kept_as_far_as_it_came() {
    let (model, tokenizer) = (model(400), Tokenizer::byte_level());
    let mut session =
        Session::new(&model, &tokenizer, template(PLAIN), &CacheOptions::new(vec![400])).unwrap();
    let whole = say(&mut session, &model, PLAIN, "Hello").text;
    session.reset();

    // Before the answer has begun: as if nothing had been asked.
    let turn = session.say("Hello", &greedy(12), |_| false).unwrap();
    assert_eq!((turn.finish, turn.text.as_str(), turn.decode_tokens), (Finish::Cancelled, "", 0));
    assert!(session.messages().is_empty());

    let mut tokens = 0;
    let turn = session.say("Hello", &greedy(12), |_| {
        tokens += 1;
        // One call comes after the prompt.
        tokens <= 5
    });
    let turn = turn.unwrap();
    assert_eq!((turn.finish, turn.decode_tokens), (Finish::Cancelled, 5));
    assert!(whole.starts_with(&turn.text) && !turn.text.is_empty(), "{turn:?}, {whole:?}");
    assert_eq!(session.messages().last(), Some(&Message::new("assistant", &*turn.text)));
    say(&mut session, &model, PLAIN, "Go on");
}

#[test]
fn a_full_context_and_other_errors_leave_the_chat_as_it_was() {
    let (model, tokenizer) = (model(400), Tokenizer::byte_level());
    let mut session =
        Session::new(&model, &tokenizer, template(PLAIN), &CacheOptions::new(vec![60])).unwrap();
    // 21 tokens of prompt: the last place in the cache still predicts one.
    let turn = session.say("Hi", &greedy(100), |_| true).unwrap();
    assert!(matches!(turn.finish, Finish::Context | Finish::EndOfText), "{turn:?}");
    if turn.finish == Finish::Context {
        assert_eq!((turn.prefill_tokens + turn.decode_tokens, session.statistics().context_used), (61, 60));
    }
    let messages = session.messages().to_vec();
    let error = session.say(&"x".repeat(60), &greedy(1), |_| true).unwrap_err();
    assert!(matches!(error, Error::ContextLength { maximum: 60, .. }), "{error}");
    let wrong =
        SessionOptions { sampling: SamplingOptions { top_p: 2.0, ..Default::default() }, max_new_tokens: 1 };
    assert!(matches!(session.say("a", &wrong, |_| true), Err(Error::Sampling(_))));
    assert_eq!(session.messages(), messages);
    session.reset();
    say(&mut session, &model, PLAIN, "Hello");

    let refusing = template("{{ raise_exception('not today') }}");
    let mut session = Session::new(&model, &tokenizer, refusing, &CacheOptions::new(vec![60])).unwrap();
    let error = session.say("Hello", &greedy(1), |_| true).unwrap_err();
    assert_eq!(error.to_string(), "the chat template refuses these messages: not today");
    let mut session = Session::new(&model, &tokenizer, template(""), &CacheOptions::new(vec![60])).unwrap();
    assert!(matches!(session.say("Hello", &greedy(1), |_| true), Err(Error::EmptyPrompt)));
    assert!(matches!(
        Session::new(&model, &tokenizer, template(""), &CacheOptions::new(vec![401])),
        Err(Error::ContextLength { .. })
    ));
}

#[test]
fn answers_end_at_any_token_that_ends_a_turn() {
    let tokenizer = Tokenizer::from_file("tests/data/tokenizer-512.json").unwrap();
    let mut config = tiny(512);
    (config.num_hidden_layers, config.max_position_embeddings) = (1, 200);
    config.eos_token_ids = vec![7];
    let model = lively(&config, 5).1;
    let ends = |source: &str| {
        Session::new(&model, &tokenizer, template(source), &CacheOptions::new(vec![200]))
            .unwrap()
            .ends()
            .to_vec()
    };
    // The model's, the tokenizer's `<|endoftext|>`, and `<|im_end|>` of the template.
    assert_eq!(ends(CHATML), [7, 509, 511]);
    assert_eq!(ends("{{ messages[1].content }}, they said"), [7, 509]);
    assert_eq!(ends("{{ raise_exception('no') }}"), [7, 509]);

    let prompt = template(CHATML).render(&[Message::new("user", "Hello")], true).unwrap();
    let SessionOptions { sampling, max_new_tokens } = greedy(20);
    let options = GenerateOptions {
        sampling,
        max_new_tokens,
        stop: Vec::new(),
        logprobs: None,
        cache_type: DType::F32,
    };
    let free = Generator::new(&model, &tokenizer).unwrap().generate(&prompt, &options, |_| true).unwrap();
    let answer = free.tokens;
    assert_eq!(answer.len(), 20);

    // Any token that came can be the one that ends.
    config.eos_token_ids = vec![answer[2]];
    let ending = Model { config, ..model.clone() };
    let mut session =
        Session::new(&ending, &tokenizer, template(CHATML), &CacheOptions::new(vec![200])).unwrap();
    let turn = session.say("Hello", &greedy(20), |_| true).unwrap();
    let first = answer.iter().position(|&t| t == answer[2]).unwrap();
    assert_eq!((turn.finish, turn.decode_tokens), (Finish::EndOfText, first + 1));
    assert_eq!(turn.text, tokenizer.decode(&answer[..first], true).unwrap());
}

#[test]
fn turns_draw_numbers_of_their_own_and_a_seed_gives_one_chat() {
    let (model, tokenizer) = (model(400), Tokenizer::byte_level());
    let chat = |seed| {
        let sampling = SamplingOptions { temperature: 1.5, seed, ..Default::default() };
        let options = SessionOptions { sampling, max_new_tokens: 10 };
        let mut session =
            Session::new(&model, &tokenizer, template(PLAIN), &CacheOptions::new(vec![400])).unwrap();
        ["Hello", "Hello"].map(|text| {
            session.reset();
            session.say(text, &options, |_| true).unwrap().text
        })
    };
    let [a, b] = chat(1);
    assert_ne!(a, b);
    assert_eq!(chat(1), [a.clone(), b]);
    assert_ne!(chat(2)[0], a);
}
