"""What endpoints send: no text is lost, nothing that is no answer is one, no key leaves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.endpoint.reply import LONGEST_WORDS, WEB_PAGE, Garbled, read_reply, scrub, words_of


def reply(finish="stop", **message):
    return json.dumps({"choices": [{"message": {"role": "assistant"} | message, "finish_reason": finish}]}).encode()


CALL = {"id": "1", "type": "function", "function": {"name": "say", "arguments": '{"verdict": "A"}'}}
TEXT = {"type": "text", "text": "Verdict: A"}


@pytest.mark.parametrize(
    ("body", "text", "problem"),
    [
        (reply(content="Verdict: A"), "Verdict: A", None),
        (reply(content=[{"type": "text", "text": "So.\n"}, TEXT]), "So.\nVerdict: A", None),
        (reply(content=["So.\n", TEXT, {"type": "image_url"}, 5, None]), "So.\nVerdict: A", None),
        (reply(content="Verdict: A", reasoning_content="Verdict: B"), "Verdict: A", None),
        (reply(content=None, reasoning_content="Verdict: B"), "Verdict: B", "reasoned without an answer"),
        (reply("length", content="\n", reasoning="Hm"), "Hm", "reasoned without an answer, cut off at max_tokens"),
        (reply(content=None, tool_calls=[CALL]), json.dumps([CALL]), "called a tool instead of answering"),
        (reply(content=[{"type": "image_url"}]), '[{"type": "image_url"}]', "answered with something that is not text"),
        (reply(content=[{"type": "refusal", "refusal": "No."}]), "No.", "refused to answer"),
        (reply(content=None, refusal="No."), "No.", "refused to answer"),
        (reply("length", content="Verdict: A"), "Verdict: A", "cut off at max_tokens"),
        (reply(content=None), "", None),
        (reply(content="smile \ud83d\nVerdict: A"), "smile ?\nVerdict: A", None),
        (reply(content="\U0001f600"), "\U0001f600", None),
        (reply(content="The key is sk-secret."), "The key is ***.", None),
        (reply(content=None, reasoning="sk-secret"), "***", "reasoned without an answer"),
    ],
)
def test_shapes(body, text, problem):
    answer = read_reply(body, "sk-secret")
    assert (answer.text, answer.problem, answer.refusal) == (text, problem, problem == "refused to answer")


@pytest.mark.parametrize(
    ("word", "finish"), [("stop", "stop"), ("EOS", "stop"), ("eos_token", "stop"), ("max_tokens", "length"), (None, None)]
)
def test_how_it_ended(word, finish):
    answer = read_reply(reply(word, content="x"), "")
    assert answer.finish == finish
    assert (answer.problem is None) == (finish != "length")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"choices": []}', "holds no message"),
        (b'{"choices": null}', "holds no message"),
        (b'{"choices": [{"message": null}]}', "holds no message"),
        (b'{"error": {"message": "out of sk-secret memory"}}', r"tells of an error: out of \*\*\* memory"),
        (reply("sk-secret error", content="half"), r"did not end but by '\*\*\* error'"),
        (reply(), "holds no message"),
        (reply(None, content=None), "holds no message"),
        (b"<!DOCTYPE html><p>Welcome", "web page"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_no_completion(body, said):
    with pytest.raises(Garbled, match=said):
        read_reply(body, "sk-secret")


values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda v: st.lists(v, max_size=3) | st.dictionaries(
    st.sampled_from(["choices", "message", "content", "refusal", "type", "text", "reasoning", "tool_calls", "error"]), v, max_size=3), max_leaves=12)  # fmt: skip


@given(values)
def test_any_json(value):
    for body in (value, {"choices": [value]}, {"choices": [{"message": value}]}, {"choices": [{"message": {"content": value}}]}):
        try:
            answer = read_reply(json.dumps(body).encode(), "")
        except Garbled:
            continue
        answer.text.encode()


def test_words():
    assert words_of(b'{"error": {"message": "no\\n credit"}}', "") == "no credit"
    assert words_of(b'{"error": "no credit"}', "") == "no credit"
    assert words_of(b'{"detail": [1]}', "") == '{"detail": [1]}'
    assert words_of(b"busy \x1b[31m", "") == "busy ?[31m"
    assert words_of(b"", "") == "without a word"
    assert words_of(b"\n<html><body>404", "") == WEB_PAGE


@given(
    st.integers(0, 400),
    st.sampled_from(
        [str, lambda text: json.dumps({"error": {"message": text}}), lambda text: "\\u0073".join(json.dumps({"error": text}).split("s"))]
    ),
)
def test_a_key_is_taken_out_before_words_are_cut(before, shape):
    """Wherever it stands: no piece of it is left at the cut."""
    said = words_of(shape("x" * before + "sk-secret-of-mine" + "y" * 50).encode(), "sk-secret-of-mine")
    assert "sk-" not in said
    assert "sec" not in said
    assert len(said) <= LONGEST_WORDS


def test_no_secret():
    assert scrub("an empty key hides nothing", "") == "an empty key hides nothing"
