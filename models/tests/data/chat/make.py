"""Makes `templates.json`: chat templates with what transformers makes of some messages.

    pip install transformers jinja2
    python make.py LLAMA_CPP/models/templates SMOLLM2.gguf

`render` is the function behind `apply_chat_template`. The date is fixed, as some templates write it.
"""

import datetime
import json
import sys
from pathlib import Path

from transformers.utils import chat_template_utils as hf

TEMPLATES = {
    "deepseek-v3.1": "deepseek-ai-DeepSeek-V3.1",
    "gemma-2": "google-gemma-2-2b-it",
    "gpt-oss": "openai-gpt-oss-120b",
    "llama-3.2": "meta-llama-Llama-3.2-3B-Instruct",
    "mistral-nemo": "mistralai-Mistral-Nemo-Instruct-2407",
    "qwen3": "Qwen-Qwen3-0.6B",
    "smollm3": "HuggingFaceTB-SmolLM3-3B",
}
# Of our own, for what the others don't use.
OWN = {
    "json": "{{ messages | tojson }}\n{{ messages | tojson(indent=2) }}\n"
    "{{ messages | tojson(ensure_ascii=true, sort_keys=true) }}\n"
    "{{ messages | tojson(separators=(',', ':')) }}\n"
    "{{ [] | tojson(indent=4) }} {{ {'b': [1, 2.5, none, true], 'a': {}, 'c': {'d': []}} | tojson(indent=1) }}",
    "tests": "{% for x in [none, 'a', [], {}, 1] %}\n    {{- 'i' if x is iterable else '-' }}\n"
    "    {{- 's' if x is sequence else '-' }}\n    {%- if x is mapping %} m{% endif %}\n{% endfor %}\n"
    "  {% generation %}\n{{ messages[::-1][0].content.strip().split(' ')[-1] }}\n  {%- endgeneration -%}\n\n"
    "{{ strftime_now('%d %B %Y %H:%M:%S') }} {{ bos_token }}{{ pad_token }}{{ documents is none }}",
}
TOKENS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}


class Then(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 8, 5, 14, 3, 9)


hf.datetime = Then


def message(role, content):
    return {"role": role, "content": content}


CHATS = [
    [message("user", "Hi")],
    [message("system", "Be brief.\n"), message("user", "  What is 2+2? 😀 ")],
    [message("user", "a"), message("assistant", "<think>\nhm\n</think>\n\nb <|im_end|>"), message("user", "\"c\" & {{ d }}\n")],
    [message("system", "s"), message("user", "1"), message("assistant", "2"), message("user", "3"), message("assistant", " 4 ")],
    [message("user", "a"), message("user", "b")],
    [message("assistant", "a")],
]


def render(template, messages, prompt):
    """What transformers gives, or null where it raises an exception."""
    try:
        [text], _ = hf.render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt, **TOKENS)
        return text
    except Exception:
        return None


def cases(template):
    return [
        {"messages": chat, "add_generation_prompt": prompt, "rendered": render(template, chat, prompt)}
        for chat in CHATS
        for prompt in (True, False)
    ]


def all_of(folder):
    for path in sorted(Path(folder).glob("*.jinja")):
        yield path.stem, path.read_text(encoding="utf-8")


if __name__ == "__main__":
    from gguf import GGUFReader

    sources = {name: Path(sys.argv[1], f"{file}.jinja").read_text(encoding="utf-8") for name, file in TEMPLATES.items()}
    sources["smollm2"] = GGUFReader(sys.argv[2]).fields["tokenizer.chat_template"].contents()
    sources.update(OWN)
    data = {name: {"template": sources[name], "cases": cases(sources[name])} for name in sorted(sources)}
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    Path(__file__).with_name("templates.json").write_text(text, encoding="utf-8")
