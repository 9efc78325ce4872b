"""Which form a model is asked in, and that text stays text in each."""

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from limakit.errors import LimakitError, UsageError
from limakit.generate.form import Form, form_of
from limakit.generate.prompting import end_texts, reaches
from limakit.model.chat import EOT, chat_format
from limakit.records import Turn

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start>{{ m['role'] }}\n{{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
)
AWKWARD = ["</s>", EOT, "<s>", "{{ 7 * 7 }}", "{% raw %}", "<b>&amp;", "\u2028", "\r", "\x1b[2J", "\x00", " two ", "\n", "naïve", "<start>"]
TEXTS = st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=6).map("".join).filter(str.strip)


def turns(*texts):
    return tuple(Turn(role="user" if i % 2 == 0 else "assistant", text=text) for i, text in enumerate(texts))


def with_template(template=TEMPLATE):
    tokenizer = tiny.make_tokenizer("byte_bos")
    tokenizer.chat_template = template
    return tokenizer


def test_auto_takes_our_chat_then_a_template_then_the_plain_text():
    ours, theirs, base = tiny.make_tokenizer("byte"), with_template(), tiny.make_tokenizer("byte_bos")
    chat_format(ours, add_eot=True)
    assert [form_of(one, "auto").kind for one in (ours, theirs, base)] == ["chat", "template", "plain"]
    assert [form_of(one, "chat").kind for one in (ours, theirs)] == ["chat", "template"]
    with pytest.raises(UsageError, match='prompting = "plain" or "urial"'):
        form_of(base, "chat")
    assert {form_of(one, "plain").kind for one in (ours, theirs, base)} == {"plain"}
    assert form_of(theirs, "urial").kind == "urial"


def test_a_template_is_followed_to_the_token():
    tokenizer = with_template()
    dialogue = turns(" How do I? ", "So.", "And then?")
    messages = [{"role": turn.role, "content": turn.text} for turn in dialogue]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert form_of(tokenizer, "auto").encode(dialogue) == expected
    assert expected.count(tokenizer.eos_token_id) == 3


@settings(deadline=None, max_examples=40)
@given(TEXTS, TEXTS)
def test_in_a_template_text_stays_text(first, second):
    """Special tokens are the template's alone, and what the ids say is what the template renders."""
    tokenizer = with_template()
    ids = form_of(tokenizer, "auto").encode(turns(first, "So.", second))
    assert ids.count(tokenizer.eos_token_id) == 3 and ids.count(tokenizer.bos_token_id) == 1
    assert (
        tokenizer.decode(ids)
        == f"<s><start>user\n{first.strip()}</s>\n<start>assistant\nSo.</s>\n<start>user\n{second.strip()}</s>\n<start>assistant\n"
    )


@settings(deadline=None, max_examples=40)
@given(TEXTS, st.sampled_from(["plain", "urial"]))
def test_for_a_base_model_text_stays_text(text, kind):
    tokenizer = tiny.make_tokenizer("byte_bos")
    form = Form(kind, tokenizer)
    ids = form.encode(turns(text))
    assert ids[0] == tokenizer.bos_token_id and not set(ids[1:]) & {tokenizer.bos_token_id, tokenizer.eos_token_id}
    assert text in tokenizer.decode(ids[1:])


@pytest.mark.parametrize("strip", [{"rstrip": True}, {"lstrip": True}, {}])
def test_a_special_tokens_string_in_a_text_changes_nothing_around_it(strip):
    """Also where the special tokens take the white space beside them (Phi-3): the frame is that of any other text."""
    tokenizer = with_template(" <|user|>\n{{ messages[0]['content'] }}\n<|end|>\n<|user|> \n")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(one, special=True, **strip) for one in ("<|user|>", "<|end|>")]})
    form = form_of(tokenizer, "auto")
    usual, marked = (form.encode(turns(text)) for text in ("the cat", "the cat </s>"))
    begin = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    at = next(i for i in range(len(usual)) if usual[i : i + len(begin)] == begin)
    assert marked[: at + len(begin)] == usual[: at + len(begin)]
    rest = usual[at + len(begin) :]
    assert marked[-len(rest) :] == rest and tokenizer.eos_token_id not in marked


def test_a_tokenizer_is_taken_apart_once(monkeypatch):
    """It takes half a second where the vocabulary is large."""
    form, encoded = form_of(with_template(), "auto"), []
    for text in ("a</s>", "b<s>"):
        form.encode(turns(text))
        encoded.append(form._marked[0])
    assert encoded[0] is encoded[1]


def test_a_template_that_asks_for_the_day_is_told_the_same_every_day():
    """As Llama's do. transformers takes the computer's clock."""
    template = (
        "\n  {%- if strftime_now is defined %}\n  {% set day = strftime_now('%d %b %Y') %}{% else %}{% set day = 'none' %}{% endif %}\n"
        "{% macro said(text) %}{{ text }}, {{ strftime_now('%-d.%-m.%y %A') }}{% endmacro %}\n {{ day }}: {{ said(messages[0]['content']) }}"
    )
    dated = form_of(with_template(template), "auto")
    assert dated.tokenizer.decode(dated.encode(turns("x"))) == " 26 Jul 2024: x, 26.7.24 Friday"
    assert dated.writes_date and not form_of(with_template(), "auto").writes_date


def test_a_template_that_refuses_or_rewrites_is_told():
    refusing = form_of(with_template("{{ raise_exception('no dialogues here') }}"), "auto")
    with pytest.raises(LimakitError, match="refuses the prompt: no dialogues here"):
        refusing.encode(turns("x"))
    shouting = form_of(with_template("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"), "auto")
    assert shouting.encode(turns("x"))
    with pytest.raises(LimakitError, match="changes texts"):
        shouting.encode(turns("x</s>"))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["a", "\n", "````", "``", "# Query:", "# Que", "ry:", "é", "東京", " ", "</s>"]), max_size=30).map("".join))
@pytest.mark.parametrize("kind", ["byte", "prepend_bos", "metaspace_always"])
def test_end_texts_are_noticed_with_the_token_that_completes_them(kind, text):
    tokenizer = tiny.make_tokenizer(kind)
    form = Form("urial", tokenizer)
    ends = end_texts("urial", turns("x"))
    ended = form.has_ended(ends)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    for n in range(1, len(ids) + 1):
        now = form.decode(ids[:n])
        assert ended(ids[:n]) or not reaches(now, ends, whole=True)
        if ended(ids[:n]):
            assert reaches(now, ends, whole=True)
            assert not reaches(form.text(ids[:n], frozenset(), ends), ends, whole=True)
            return
    assert Form("plain", tokenizer).has_ended(()) is None


def test_what_ends_a_turn_in_a_template_ends_a_response():
    """Also where the model names another token as EOS (ChatML on a base's tokenizer)."""

    class Model:
        generation_config = type("Config", (), {"eos_token_id": 9})()

    def stops(template, prompting="auto"):
        tokenizer = with_template(template)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
        return form_of(tokenizer, prompting).stop_ids(Model()) - {tokenizer.eos_token_id, 9}, tokenizer.convert_tokens_to_ids("<|im_end|>")

    chatml = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    found, end = stops(chatml)
    assert found == {end}
    assert stops(chatml, "plain")[0] == stops("{% for m in messages %}{{ m['content'] }}!{% endfor %}")[0] == set()
    assert stops("{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}{{ messages[0]['content'] }}")[0] == set()
