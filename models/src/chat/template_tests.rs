use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    template: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Vec<Message>,
    add_generation_prompt: bool,
    /// `None` where transformers raises an exception.
    rendered: Option<String>,
}

fn then() -> jiff::Zoned {
    jiff::civil::date(2025, 8, 5).at(14, 3, 9, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap()
}

fn tokens() -> BTreeMap<String, String> {
    [("bos_token", "<BOS>"), ("eos_token", "<EOS>")].map(|(k, v)| (k.into(), v.into())).into()
}

#[test]
fn prompts_are_those_of_transformers() {
    let all: BTreeMap<String, Fixture> =
        serde_json::from_str(include_str!("../../tests/data/chat/templates.json")).unwrap();
    assert!(all.len() >= 10);
    for (name, Fixture { template, cases }) in all {
        let template = ChatTemplate::new(&template, tokens()).unwrap();
        for case in cases {
            let got = template.render_at(&case.messages, case.add_generation_prompt, then());
            match (got, case.rendered) {
                (Ok(got), Some(want)) => assert_eq!(got, want, "{name}"),
                (Err(TemplateError::Refused(_)), None) => {}
                (got, want) => panic!("{name}: {got:?}, transformers: {want:?}"),
            }
        }
    }
}

fn render(template: &str) -> Result<String, TemplateError> {
    ChatTemplate::new(template, tokens())?.render(&[Message::new("user", "Hi")], true)
}

#[test]
fn errors_are_one_line_and_say_what_is_wrong() {
    for (template, words) in [
        ("{% if %}", &["chat template: ", "syntax error", "chat:1"][..]),
        ("\n{{ messages[0].content.nothing() }}", &["chat template: ", "nothing", "chat:2"]),
        ("{{ messages[7].content }}", &["chat template: ", "undefined"]),
        ("{{ raise_exception('No\nsystem role') }}", &["refuses these messages: No system role"]),
        ("{{ [1] | tojson(indent='x') }}", &["chat template: "]),
        ("{{ 1 | tojson(colour=1) }}", &["colour"]),
        ("{{ messages[7] | tojson }}", &["tojson", "undefined"]),
        ("{{ strftime_now('%!') }}", &["chat template: "]),
        ("{% include 'secret' %}", &["chat template: ", "secret"]),
    ] {
        let error = render(template).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{template}: {error}");
        assert_eq!(error.lines().count(), 1, "{template}: {error}");
    }
}

#[test]
fn what_a_template_costs_is_bounded() {
    let limit = |template: &str| {
        let error = render(template).unwrap_err();
        assert!(matches!(error, TemplateError::Limit), "{template}: {error}");
    };
    limit("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}");
    limit("{{ 'x' * 100000000000 }}");
    limit("{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}");
    limit(&format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "x".repeat(1000)));
    for (template, words) in [
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "recursion"),
        (
            "{% set n = namespace(x=1) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}",
            "nested too deeply",
        ),
        // Wide instead of deep: 2^60 items out of 60.
        (
            "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}",
            "too long",
        ),
        ("{{ [1] | tojson(indent=99999999999) }}", "too long"),
    ] {
        let error = render(template).unwrap_err().to_string();
        assert!(error.contains(words), "{template}: {error}");
    }
    let long = ChatTemplate::new(&" ".repeat(MAX_TEMPLATE + 1), tokens()).unwrap_err();
    assert_eq!(long.to_string(), "the chat template has 1048577 bytes; 1048576 are allowed");
    // A long chat is none of that.
    let messages = vec![Message::new("user", "word ".repeat(100)); 2000];
    let chatml =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}";
    let text = ChatTemplate::new(chatml, tokens()).unwrap().render(&messages, true).unwrap();
    assert_eq!(text.matches("<|im_end|>").count(), 2000);
}

#[test]
fn templates_are_found_where_models_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let open = || ChatTemplate::open_folder(dir.path());
    let hi = || open().unwrap().render(&[Message::new("user", "Hi")], false).unwrap();

    assert!(matches!(open(), Err(TemplateError::Missing { .. })));
    put("tokenizer_config.json", r#"{"chat_template": null, "bos_token": "<s>"}"#);
    let error = open().unwrap_err().to_string();
    assert!(error.contains(dir.path().to_str().unwrap()) && error.contains("no chat template"), "{error}");

    let tokens =
        r#""bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "unk_token": null"#;
    let config = |template: &str| {
        put("tokenizer_config.json", &format!("{{\"chat_template\": {template}, {tokens}}}"))
    };
    config(r#""{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}""#);
    assert_eq!(hi(), "<s>Hi</s>");
    config(r#"[{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]"#);
    assert_eq!(hi(), "D");
    config(r#"[{"name": "tool_use", "template": "T"}, {"name": "rag", "template": "R"}]"#);
    assert!(open().unwrap_err().to_string().contains("tool_use, rag"));
    put("chat_template.jinja", "J{{ eos_token }}");
    assert_eq!(hi(), "J</s>");

    std::fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    config("7");
    assert!(open().unwrap_err().to_string().contains("must be a string or a list"));
    put("tokenizer_config.json", "{");
    assert!(open().unwrap_err().to_string().contains("not valid JSON"));

    let mut vocab = GgufVocab { tokens: vec!["<s>".into(), "</s>".into()], ..GgufVocab::default() };
    assert!(matches!(ChatTemplate::from_gguf(&vocab), Err(TemplateError::Missing { .. })));
    (vocab.chat_template, vocab.bos_id, vocab.eos_id) =
        (Some("{{ bos_token }}|{{ eos_token }}".into()), Some(1), Some(9));
    assert_eq!(ChatTemplate::from_gguf(&vocab).unwrap().render(&[], false).unwrap(), "</s>|");
}

#[test]
fn a_rendered_chat_has_the_ids_that_transformers_gives() {
    let chatml = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let tokenizer = crate::tokenizer::Tokenizer::from_file("tests/data/tokenizer-512.json").unwrap();
    let messages = [
        Message::new("system", "You are helpful."),
        Message::new("user", "  What is 2+2? 😀 "),
        Message::new("assistant", "It's 4."),
        Message::new("user", "And 10/4?\n"),
    ];
    let text = ChatTemplate::new(chatml, tokens()).unwrap().render(&messages, true).unwrap();
    // `apply_chat_template(messages, add_generation_prompt=True)` of transformers, with this tokenizer.
    let ids = [
        510, 82, 88, 274, 68, 76, 198, 56, 443, 266, 265, 220, 272, 75, 79, 69, 355, 13, 511, 198, 510, 84,
        496, 198, 220, 220, 54, 71, 273, 312, 220, 17, 10, 17, 30, 220, 172, 253, 246, 222, 220, 511, 198,
        510, 64, 334, 480, 332, 83, 198, 40, 83, 6, 82, 220, 19, 13, 511, 198, 510, 84, 496, 198, 32, 309,
        220, 16, 15, 14, 19, 30, 198, 511, 198, 510, 64, 334, 480, 332, 83, 198,
    ];
    assert_eq!(tokenizer.encode(&text, false).unwrap(), ids);
}
