"""The published format."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.records import Example, Prompt, Turn
from limakit.sources.lima import read_lima, write_lima

said = st.text(min_size=1).filter(str.strip)


def turns(texts):
    return tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(texts))


@given(st.lists(st.tuples(st.lists(said, min_size=1, max_size=6), st.text(max_size=9)), max_size=4))
def test_what_is_written_is_read_again_to_the_character(tmp_path_factory, rows):
    """Examples and prompts alike, any text, any source's name; dialogues whole."""
    path = tmp_path_factory.mktemp("lima") / "out.jsonl"
    ours = [(Prompt if len(texts) % 2 else Example)(id=str(n), source=source, turns=turns(texts)) for n, (texts, source) in enumerate(rows)]
    assert write_lima(path, ours) == len(rows)
    assert [(row.source, got) for _, row, got in read_lima(path)] == [(row.source, row.turns) for row in ours]
    read = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]  # as its other readers do
    assert read == [{"conversations": texts, "source": source} for texts, source in rows]


def test_dialogues_stay_whole_and_lines_end_at_newlines_alone(tmp_path):
    path = tmp_path / "lima.jsonl"
    path.write_text(
        '{"conversations": ["a\u2028b", "c", "d", "e"], "source": "multi_turn"}\n\n{"conversations": ["only"]}\n', encoding="utf-8"
    )
    (n, row, turns), (m, second, alone) = read_lima(path)
    assert (n, row.source, [(t.role, t.text) for t in turns]) == (
        1, "multi_turn", [("user", "a\u2028b"), ("assistant", "c"), ("user", "d"), ("assistant", "e")],
    )  # fmt: skip
    assert (m, second.source, [t.role for t in alone]) == (3, "", ["user"])


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"conversations": []}', "conversations"),
        ('{"conversations": ["a", 3]}', r"conversations\[1\]"),
        ('{"conversations": ["a", " "]}', r"conversations\[1\] is empty"),
        ('{"conversation": ["a"]}', "missing|unknown key"),
        ("not json", "JSON"),
    ],
)
def test_bad_rows_are_named(tmp_path, line, what):
    path = tmp_path / "lima.jsonl"
    path.write_text('{"conversations": ["a", "b"]}\n' + line + "\n")
    with pytest.raises(LimakitError, match=f"row 2: .*(?:{what})"):
        list(read_lima(path))
