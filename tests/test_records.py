"""JSONL in and out: nothing is lost, nothing is added, and a bad row is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from limakit.errors import LimakitError
from limakit.records import Example, Grade, Judgment, Prompt, Response, Turn, read_jsonl, write_jsonl

text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
examples = st.builds(
    lambda id, pairs, tags: Example(
        id=id,
        source="s",
        turns=tuple(Turn(role=r, text=t) for pair in pairs for r, t in zip(("user", "assistant"), pair, strict=True)),
        tags=tags,
    ),
    text,
    st.lists(st.tuples(text, text), min_size=1, max_size=3),
    st.lists(text, max_size=2).map(tuple),
)


@given(rows=st.lists(examples, max_size=5))
def test_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "x.jsonl"
    assert write_jsonl(path, rows) == len(rows)
    assert read_jsonl(path, Example) == rows
    again = path.with_name("y.jsonl")
    write_jsonl(again, read_jsonl(path, Example))
    assert again.read_bytes() == path.read_bytes()


def test_lines_end_at_newline_alone(tmp_path):
    """U+2028, U+0085 and form feeds stand inside real texts; str.splitlines would cut the row there."""
    path = tmp_path / "x.jsonl"
    hostile = "one\u2028two\u0085three\x0cfour\rfive"
    row = {"id": "1", "source": "s", "turns": [{"role": "user", "text": hostile}]}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row, ensure_ascii=False).encode() + b"\r\n\n" + json.dumps(row | {"id": "2"}).encode())
    assert [p.text for p in read_jsonl(path, Prompt)] == [hostile, hostile]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"id": "1", "source": "s", "turns": []}', "no turns"),
        ('{"id": "1", "source": "s", "turns": [{"role": "assistant", "text": "x"}]}', "turn 1 is by the assistant"),
        ('{"id": "1", "source": "s", "turns": [{"role": "user", "text": " "}]}', "turn 1 (the user's) is empty"),
        ('{"id": "1", "source": "s", "turns": [{"role": "user", "txt": "x"}]}', "turns[0].text: missing"),
        ('{"id": "1", "source": "s", "turns": [{"role": "user", "text": "x"}], "more": 1}', "more: unknown key"),
        ('{"id": 1, "source": "s", "turns": [{"role": "user", "text": "x"}]}', "id: "),
        ('{"id": "1", "source"', "Invalid JSON"),
        ("\udcff{}", "Invalid JSON"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, says):
    path = tmp_path / "x.jsonl"
    good = '{"id": "1", "source": "s", "turns": [{"role": "user", "text": "x"}]}'
    path.write_bytes(f"{good}\n{row}\n".encode(errors="surrogateescape"))
    with pytest.raises(LimakitError) as caught:
        read_jsonl(path, Prompt)
    assert "x.jsonl, row 2" in caught.value.message
    assert says in caught.value.message


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(LimakitError, match="no such file"):
        read_jsonl(tmp_path / "none.jsonl", Prompt)
    with pytest.raises(LimakitError, match="is a folder"):
        read_jsonl(tmp_path, Prompt)


def test_a_failure_is_never_a_value():
    base = {"prompt_id": "1", "judge": "j", "rubric": "r"}
    with pytest.raises(ValidationError):
        Judgment(**base, a="x", b="y", status="invalid", verdict="tie")
    with pytest.raises(ValidationError):
        Judgment(**base, a="x", b="y", status="ok", verdict=None)
    with pytest.raises(ValidationError):
        Grade(**base, model="x", status="invalid", value="3")


def test_nothing_is_compared_with_itself_and_turns_are_counted_from_0():
    base = {"prompt_id": "1", "judge": "j", "rubric": "r", "status": "ok"}
    with pytest.raises(ValidationError, match="'x' is compared with itself"):
        Judgment(**base, a="x", b="x", verdict="a")
    for key in ("sample", "turn", "draw"):
        with pytest.raises(ValidationError, match=key):
            Judgment(**base, a="x", b="y", verdict="a", **{key: -1})
        with pytest.raises(ValidationError, match=key):
            Grade(**base, model="x", value="3", **{key: -1})


def test_records_are_frozen():
    response = Response(prompt_id="1", model="m", text="t", finish="eot", tokens=2)
    with pytest.raises(ValidationError):
        response.text = "other"
