"""Responses of models behind a real server: what is sent, what is a response, and what is told of the sampling."""

import json

import pytest
from endpoint import Endpoint, Reply, refuses

from limakit.endpoint import limits
from limakit.errors import LimakitError, UsageError
from limakit.generate.frame import Question
from limakit.generate.prompting import as_text, end_texts
from limakit.generate.remote import answer
from limakit.recipe import BaselineSpec, GenerateSpec
from limakit.records import Prompt, Turn

NASTY = "{x}\u2028\x00\x1b[31m <script>[red]\r\n```` # Query: " + "\U0001f600" * 30_000


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)


def prompt(n, text=None):
    return Prompt(id=f"p{n}", source="t", turns=(Turn(role="user", text=text or f"Question {n}?"),))


def responses(tmp_path, url, prompts, samples=1, got=None, generate=None, turn=0, began=False, **more):
    """Those that came are in `got`, even where this raises."""
    spec = BaselineSpec(name="other", kind="endpoint", model="j", base_url=url, **{"retries": 1, "timeout_s": 5.0} | more)
    got = [] if got is None else got
    asked = [Question(one, sample, turn) for one in prompts for sample in range(samples)]
    how = {"spent": tmp_path / "spent.jsonl", "work": tmp_path, "began": began}
    for response in answer(asked, spec, generate or GenerateSpec(max_tokens=50), 7, **how):
        got.append(response)
    return sorted(got, key=lambda r: (r.prompt_id, r.sample))


def test_what_is_sent_and_what_comes_back(tmp_path):
    with Endpoint(lambda r: Reply(f"on {r.message}", usage=(9, 4))) as endpoint:
        got = responses(tmp_path, endpoint.url, [prompt(0), prompt(1, NASTY)], samples=3)
        assert [(r.prompt_id, r.sample) for r in got] == [(f"p{n}", s) for n in range(2) for s in range(3)]
        assert {r.text for r in got if r.prompt_id == "p1"} == {f"on {NASTY}"}
        assert {(r.model, r.finish, r.tokens, r.seed, r.not_applied) for r in got} == {("other", "eot", 4, 7, ("repetition_penalty",))}
        sent = [r.body for r in endpoint.requests]
        assert {(b["temperature"], b["top_p"], b["max_tokens"]) for b in sent} == {(0.7, 0.9, 50)}
        seeds = {b["seed"] for b in sent}
        assert len(seeds) == 6
        assert all(0 <= seed < 2**31 for seed in seeds)
        responses(tmp_path, endpoint.url, [prompt(0), prompt(1, NASTY)], samples=3)
        assert {r.body["seed"] for r in endpoint.requests} == seeds  # the same again


@pytest.mark.parametrize(
    ("owner", "fields"),
    [
        ("vllm", {"repetition_penalty": 1.2, "top_k": -1, "min_p": 0.0}),
        ("sglang", {"repetition_penalty": 1.2, "top_k": -1, "min_p": 0.0}),
        ("llamacpp", {"repeat_penalty": 1.2, "top_k": 0, "min_p": 0.0, "repeat_last_n": -1}),
    ],
)
def test_the_penalty_goes_by_the_servers_own_field(tmp_path, owner, fields):
    with Endpoint(lambda r: "yes", owned_by=owner) as endpoint:
        (one,) = responses(tmp_path, endpoint.url, [prompt(0)])
        assert {name: endpoint.requests[0].body.get(name) for name in fields} == fields
        assert one.not_applied == ("penalise_prompt = false",)  # these servers penalise the prompt too
        (one,) = responses(tmp_path, endpoint.url, [prompt(0)], generate=GenerateSpec(penalise_prompt=True))
        assert one.not_applied == ()
        (one,) = responses(tmp_path, endpoint.url, [prompt(0)], generate=GenerateSpec(repetition_penalty=1.0))
        assert one.not_applied == ()
        assert not {"repetition_penalty", "repeat_penalty"} & set(endpoint.requests[-1].body)


def test_what_a_server_refuses_is_recorded_as_not_applied(tmp_path):
    def respond(r):
        there = [name for name in ("repetition_penalty", "temperature") if name in r.body]
        return refuses(there[0]) if there else "yes"

    with Endpoint(respond, owned_by="vllm") as endpoint:
        got = responses(tmp_path, endpoint.url, [prompt(n) for n in range(4)])
        assert {r.not_applied for r in got} == {("temperature", "repetition_penalty")}


def test_what_is_a_response(tmp_path):
    """A refusal, a cut answer and an empty one are; errors, thoughts and calls of tools are not, and are named."""
    call = b'{"choices": [{"message": {"content": null, "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"}]}'
    thought = b'{"choices": [{"message": {"content": "", "reasoning_content": "Hm"}, "finish_reason": "length"}]}'
    replies = [
        Reply("whole"), Reply("cut", finish="length"), Reply("filt", finish="content_filter"), Reply(""), Reply(None, refusal="No."),
        Reply("odd", finish=None), Reply(status=400), Reply(status=500), Reply(body=call), Reply(body=thought),
    ]  # fmt: skip
    got: list = []
    with Endpoint(lambda r: replies[int(r.message.split()[1][0])]) as endpoint:
        with pytest.raises(LimakitError, match=r"4 of 10 requests brought no response") as error:
            responses(tmp_path, endpoint.url, [prompt(n) for n in range(10)], got=got)
        assert "the same command goes on" in str(error.value)
        assert "sample 0: " in str(error.value)
        found = {r.prompt_id: (r.text, r.finish) for r in got}
        assert found == {
            "p0": ("whole", "eot"), "p1": ("cut", "length"), "p2": ("filt", "filtered"), "p3": ("", "eot"), "p4": ("No.", "eot"),
            "p5": ("odd", "unknown"),
        }  # fmt: skip


BROKEN = {
    "error": {"message": {"content": "half an answ"}, "finish_reason": "error", "error": {"code": 502, "message": "provider died"}},
    "error without a word": {"message": {"content": "half an answ"}, "finish_reason": "error"},
    "abort": {"message": {"content": "half an answ"}, "finish_reason": "abort"},
    "nobody knows": {"message": {"content": "half an answ"}, "finish_reason": "because"},
    "empty message": {"message": {}, "finish_reason": "stop"},
    "nothing and no end": {"message": {"content": ""}, "finish_reason": None},
    "a tool": {"message": {"content": "I look it up.", "tool_calls": [{"id": "1"}]}, "finish_reason": "tool_calls"},
}


@pytest.mark.parametrize("how", BROKEN)
def test_half_an_answer_is_no_response(tmp_path, how):
    """Of one that always ends so there is none; where the next attempt is whole, that is the response."""
    broken = Reply(body=json.dumps({"choices": [BROKEN[how]]}).encode())
    got: list = []
    with Endpoint(lambda r: broken if "0" in r.message or ("1" in r.message and not r.times) else "whole") as endpoint:
        with pytest.raises(LimakitError, match="of 3 requests brought no response"):
            responses(tmp_path, endpoint.url, [prompt(n) for n in range(3)], got=got)
        assert {r.text for r in got} == {"whole"}
        assert {r.prompt_id for r in got} == ({"p2"} if how == "a tool" else {"p1", "p2"})


def said(code, status=400, **error):
    return Reply(status=status, body=json.dumps({"error": {"message": "No.", "code": code} | error}).encode())


@pytest.mark.parametrize("reply", [
    said("content_filter"), said("content_policy_violation"), said("x", innererror={"code": "ResponsibleAIPolicyViolation"}),
    said(403, status=403, metadata={"flagged_input": "..."}), said("invalid_request_error", message="Content Exists Risk"),
])  # fmt: skip
def test_what_a_servers_filter_refuses_is_an_empty_response(tmp_path, reply):
    """As Azure, OpenAI, OpenRouter and DeepSeek say it. However many they are, they say nothing of the others."""
    with Endpoint(lambda r: reply) as endpoint:
        got = responses(tmp_path, endpoint.url, [prompt(n) for n in range(40)], concurrency=2)
        assert {(r.text, r.finish, r.tokens) for r in got} == {("", "filtered", 0)} and len(endpoint.requests) == 40


@pytest.mark.parametrize("reply", [
    said("context_length_exceeded"), said(400, type="exceed_context_size_error"), said(400, message="This model's maximum context length is 9 tokens."),
])  # fmt: skip
def test_a_dialogue_that_has_filled_the_context_has_an_empty_response_and_a_prompt_that_does_has_none(tmp_path, reply):
    with Endpoint(lambda r: reply) as endpoint:
        [one] = responses(tmp_path, endpoint.url, [prompt(0)], turn=1, began=True)
        assert (one.text, one.finish, one.tokens) == ("", "context", 0)
        with pytest.raises(LimakitError, match=r"(?s)prompt 'p0', sample 0: .*mended or taken out"):
            responses(tmp_path, endpoint.url, [prompt(0)], began=True)
        asked = len(endpoint.requests)
        with pytest.raises(LimakitError, match="refuses every request"):  # max_tokens that no prompt leaves room for
            responses(tmp_path, endpoint.url, [prompt(n) for n in range(60)], concurrency=2)
        assert len(endpoint.requests) < asked + 20


def test_which_server_it_is_is_asked_once_and_a_hiccup_changes_nothing(tmp_path):
    """All of a file's responses are sampled alike, whatever the list of models says in between."""
    with Endpoint(lambda r: "yes", owned_by="vllm", hiccups=2) as endpoint:
        responses(tmp_path, endpoint.url, [prompt(0)])
        endpoint.owned_by = None
        responses(tmp_path, endpoint.url, [prompt(1)], began=True)
        assert [r.body.get("repetition_penalty") for r in endpoint.requests] == [1.2, 1.2]
        [one] = responses(tmp_path, endpoint.url, [prompt(2)])
        assert "repetition_penalty" in one.not_applied


def test_a_dialogue_is_sent_as_messages(tmp_path):
    first = prompt(0).model_copy(update={"follow_ups": ("And then?",)})
    with Endpoint(lambda r: "yes") as endpoint:
        responses(tmp_path, endpoint.url, [first.at(["Once."])])
        assert endpoint.requests[0].body["messages"] == [
            {"role": "user", "content": "Question 0?"},
            {"role": "assistant", "content": "Once."},
            {"role": "user", "content": "And then?"},
        ]


@pytest.mark.parametrize("kind", ["plain", "urial"])
def test_a_base_model_goes_on_from_a_text(tmp_path, kind):
    one = prompt(0)
    ends = end_texts(kind, one.turns)
    said = f"An answer.{ends[0]}\n\n# Query:\nmore" if ends else "An answer."
    with Endpoint(lambda r: Reply(said, finish="length" if ends else "stop")) as endpoint:
        (got,) = responses(tmp_path, endpoint.url, [one], prompting=kind)
        assert (got.text, got.finish) == ("An answer.", "eot")  # cut here, where the server left the end texts in
        assert endpoint.requests[0].path == "/v1/completions"
        assert endpoint.requests[0].body["prompt"] == as_text(kind, one.turns)
        assert endpoint.requests[0].body.get("stop", []) == list(ends)


def test_the_cap_and_mistakes(tmp_path):
    with Endpoint(lambda r: "yes") as endpoint:
        prices = {"price_in": 1.0, "price_out": 1.0, "max_cost": 0.00001}
        with pytest.raises(UsageError, match=r"baselines\.other\.max_cost: could cost up to"):
            responses(tmp_path, endpoint.url, [prompt(0)], **prices)
        assert not endpoint.requests
    with pytest.raises(UsageError, match=r"baselines\.other\.base_url"):
        responses(tmp_path, "ftp://x", [prompt(0)])
    with pytest.raises(LimakitError, match=r"the endpoint of baselines\.other did not answer"):
        responses(tmp_path, "http://127.0.0.1:9/v1", [prompt(0)])
