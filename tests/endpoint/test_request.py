"""What is sent, and which field a server's refusal is about: never one that only stands in a text it quotes."""

import json

import pytest
from endpoint import Endpoint, Reply, refuses
from hypothesis import given
from hypothesis import strategies as st
from questions import ask, request

from limakit.endpoint import limits
from limakit.endpoint.request import Request, fields_of, most_tokens, refused_field

SCHEMA = {"type": "object", "properties": {"verdict": {"enum": ["A", "B", "tie"]}}, "required": ["verdict"]}
SENT = {"model": "m", "messages": [], "max_tokens": 5, "temperature": 0.0, "top_p": 0.9, "seed": 1, "response_format": {}, "top_k": -1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        ({"error": {"message": "Unsupported value: 'temperature' does not support 0.0, only the default (1).", "param": "temperature"}}, "temperature"),
        ({"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "param": "max_tokens"}}, "max_tokens"),
        ({"error": {"message": "bad", "param": "response_format.json_schema"}}, "response_format"),
        ({"error": {"message": "no such thing", "param": "messages[0].content"}}, None),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": -1}]}, "top_k"),
        ({"detail": "Unexpected fields in the request: {'seed'}"}, "seed"),
        ({"object": "error", "message": "guided decoding (response_format) is not supported by this engine"}, "response_format"),
        ("json: unknown field \"top_k\"", "top_k"),
        ({"error": {"message": "maximum context length is 4096 tokens, reduce max_tokens or the messages"}}, None),
        ({"error": {"message": "max_tokens is too large: this model supports at most 400 completion tokens", "param": "max_tokens"}}, None),
        ({"error": {"message": "Unrecognized request argument supplied: max_tokens", "param": "max_tokens"}}, "max_tokens"),
        ({"detail": [{"type": "less_than", "loc": ["body", "max_tokens"], "msg": "Input should be less than 400", "input": 500}]}, None),
        ({"error": {"message": "the prompt says: what is temperature?"}}, None),
        ({"error": "content flagged"}, None),
        ([1], None),
    ],
)  # fmt: skip
def test_the_field_that_is_refused(reply, name):
    assert refused_field(json.dumps(reply).encode() if not isinstance(reply, str) else reply.encode(), SENT) == name


@given(st.binary(max_size=200))
def test_any_reply(body):
    assert refused_field(body, SENT) in {None, *SENT}


@pytest.mark.parametrize("how", ["param", "loc", "words"])
def test_a_refused_field_is_left_out_from_then_on(how, capsys):
    refused = ("response_format", "repetition_penalty", "seed")

    def respond(r):
        there = [name for name in refused if name in r.body]
        return refuses(there[0], status=422 if how == "loc" else 400, how=how) if there else "yes"

    with Endpoint(respond) as endpoint:
        sampling = {"schema": SCHEMA, "extra": {"repetition_penalty": 1.2}, "seed": 3, "top_p": 0.5}
        got = ask(endpoint.url, [f"m{i}" for i in range(12)], sampling=sampling, concurrency=2, retries=0)
        assert {(a.text, a.structured, a.not_applied) for a in got.values()} == {("yes", False, ("seed", "repetition_penalty"))}
        assert len(endpoint.requests) <= 12 + 2 * 3
        assert all(r.body["top_p"] == 0.5 for r in endpoint.requests)
    assert "refuses repetition_penalty, response_format, seed" in capsys.readouterr().err


def test_a_refusal_of_one_question_that_names_a_field_changes_nothing_for_the_others():
    """It is refused without the field too: so the field was not what was wrong."""
    with Endpoint(lambda r: refuses("temperature") if r.message == "poison" else "yes") as endpoint:
        got = ask(endpoint.url, ["a", "poison", "b", "c"], concurrency=1, sampling={"temperature": 0.5})
        assert [got[i].missing for i in range(4)] == [False, True, False, False]
        assert ["temperature" in r.body for r in endpoint.requests] == [True, True, False, True, True]
        assert not any(a.not_applied for a in got.values())


def test_what_is_said_of_an_answer():
    said = Reply("yes", model="j-2026-11", usage=(7, 3), finish="length")
    with Endpoint(lambda r: said if r.message == "a" else Reply("no", usage=None, finish=None)) as endpoint:
        got = ask(endpoint.url, ["a", "b"], sampling={"schema": SCHEMA})
        assert (got[0].finish, got[0].answered_as, got[0].tokens_in, got[0].tokens_out) == ("length", "j-2026-11", 7, 3)
        assert got[0].structured
        assert got[0].date.endswith("Z")
        assert 0 <= got[0].seconds < 5
        assert (got[1].finish, got[1].tokens_in, got[1].problem) == (None, None, None)
        held_to = endpoint.requests[0].body["response_format"]
        assert held_to == {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}


def test_a_text_to_go_on_from():
    with Endpoint(lambda r: r.message.upper()) as endpoint:
        got = ask(endpoint.url, [Request((), 9, 0.5, text="once upon", stop=("\n#",))])
        assert got[0].text == "ONCE UPON"
        assert endpoint.requests[0].path == "/v1/completions"
        assert endpoint.requests[0].body == {"model": "j", "prompt": "once upon", "max_tokens": 9, "temperature": 0.5, "stop": ["\n#"]}


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=40)), min_size=1, max_size=4))
def test_a_bound_on_tokens(messages):
    """No tokenizer makes more tokens of a text than it has bytes."""
    tokens_in, tokens_out = most_tokens(Request(tuple(messages), 5, 0.0))
    assert tokens_in >= sum(len(text.encode(errors="replace")) for _, text in messages)
    assert tokens_out == 5


def test_texts_of_all_kinds_arrive_as_they_are():
    nasty = ["{x} {{y}} %s", "a\u2028b\u2029c", "\x00\x01\x1b[31m\r\n\r", "<script>[red]&amp;", "\U0001f600" * 50_000, "x" * 100_000]
    with Endpoint(lambda r: r.message) as endpoint:
        got = ask(endpoint.url, nasty)
        assert [got[i].text for i in range(len(nasty))] == nasty
    assert fields_of(request("a"), "m", frozenset())["messages"] == [{"role": "user", "content": "a"}]
