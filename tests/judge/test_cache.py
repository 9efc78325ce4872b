"""The cache: successes stay with who gave them and when, a cut line is no answer, a full disk is one message."""

import json
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.judge.cache import Cache, Kept, cache_key, read_kept
from limakit.records import Asked

ASKED = Asked(kind="endpoint", model="m", answered_as="m-2026", temperature=0.5, max_tokens=9, structured=True, date="2026-11-20T10:00:00Z")


def kept(text):
    return Kept(text, ASKED, tokens_in=5, tokens_out=None, seconds=0.25)


def test_every_part_of_the_question_is_part_of_the_key():
    base = {"where": "http://x/v1", "model": "m", "temperature": 0.0, "max_tokens": 9, "message": "q", "draw": 0}
    others = {"where": "http://y/v1", "model": "n", "temperature": 1.0, "max_tokens": 8, "message": "r", "draw": 1}
    keys = {cache_key(**base | {name: other}) for name, other in others.items()} | {cache_key(**base)}
    assert len(keys) == 7
    assert cache_key(**base | {"where": "http://x/v1/"}) == cache_key(**base)


@given(st.text(), st.none() | st.text())
def test_what_was_kept_comes_back(tmp_path_factory, text, who):
    path = tmp_path_factory.mktemp("cache") / "m.jsonl"
    one = Kept(text, ASKED.model_copy(update={"answered_as": who}), 1, 2, 3.5)
    with Cache(path) as cache:
        cache.put("k", one)
    assert read_kept(path) == {"k": one}


@given(st.integers(0, 400))
def test_cut_anywhere(tmp_path_factory, cut):
    """Killed while a line was written: what was whole before it stays, and what comes after it is kept apart."""
    path = tmp_path_factory.mktemp("cache") / "m.jsonl"
    with Cache(path) as cache:
        cache.put("one", kept("a\u2028\n{}"))
        cache.put("two", kept("b" * 50))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    with Cache(path) as cache:
        cache.put("three", kept("c"))
    found = read_kept(path)
    assert found["three"] == kept("c")
    assert found.get("one") in (kept("a\u2028\n{}"), None)
    assert found.get("two") == (kept("b" * 50) if cut <= 1 else None)  # a lost newline alone loses nothing


def test_rubbish_is_skipped(tmp_path):
    path = tmp_path / "m.jsonl"
    with Cache(path) as cache:
        cache.put("k", kept("yes"))
    good = path.read_bytes()
    row = json.loads(good)
    wrong = [{"key": ["k"]}, {"key": {}}, {"key": 5}, {"tokens_out": "x"}, {"tokens_in": 1.5}, {"seconds": "1"}, {"answer": ["yes"]}]
    damaged = b"".join(json.dumps(row | {"key": "l"} | change).encode() + b"\n" for change in wrong)
    path.write_bytes(damaged + b'\xff\n[]\n{"key": 1}\n{"key": "k", "answer": "no"}\n{"key": "k", "answer": 5, "asked": {}}\n' + good)
    assert read_kept(path) == {"k": kept("yes")}
    assert read_kept(tmp_path / "nothing.jsonl") == {}
    with pytest.raises(LimakitError, match="cannot keep"):
        read_kept(tmp_path)


def test_full_disk(tmp_path):
    """The system lets no file grow beyond 300 bytes: one message, and the cut line is no answer afterwards."""
    path = tmp_path / "m.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Cache(path) as cache:
        cache.put("k", kept("v"))
        assert path.stat().st_size < 300
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
        try:
            with pytest.raises(LimakitError, match="cannot keep the judge's answers"):
                cache.put("long", kept("v" * 200))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_kept(path) == {"k": kept("v")}
    with Cache(path) as cache:
        cache.put("long", kept("v" * 200))
    assert read_kept(path)["long"] == kept("v" * 200)
