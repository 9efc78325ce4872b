"""Rows with their places: none twice, none silently missing."""

import pytest

from limakit.analyze.rows import one_way, read_placed, refuse_repeats
from limakit.errors import LimakitError
from limakit.records import Grade, Judgment, Response, write_jsonl

JUDGMENT = Judgment(prompt_id="p", a="lima", b="base", judge="j", rubric="r", status="ok", verdict="a")
GRADE = Grade(prompt_id="p", model="lima", judge="j", rubric="r", status="ok", value="4")
RESPONSE = Response(prompt_id="p", model="lima", text="x", finish="eot", tokens=1)


@pytest.mark.parametrize(
    ("record", "opinion", "abouts"),
    [
        (
            JUDGMENT,
            {"verdict": "b"},
            {"prompt_id": "q", "a": "x", "b": "x", "sample": 1, "first": "b", "judge": "k", "rubric": "s", "draw": 1},
        ),
        (GRADE, {"value": "1"}, {"prompt_id": "q", "model": "x", "sample": 1, "judge": "k", "rubric": "s", "draw": 1}),
        (RESPONSE, {"text": "y"}, {"prompt_id": "q", "model": "x", "sample": 1}),
    ],
)
def test_a_second_row_about_the_same_is_refused(tmp_path, record, opinion, abouts):
    others = [record.model_copy(update={key: value}) for key, value in abouts.items()]
    refuse_repeats([record, *others])
    paths = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    write_jsonl(paths[0], [others[0], record])
    write_jsonl(paths[1], [*others[1:], record.model_copy(update=opinion)])
    found = [row for path in paths for row in read_placed(path, type(record))]
    with pytest.raises(LimakitError) as error:
        refuse_repeats([row.record for row in found], found)
    assert f"{paths[0]}, row 2" in str(error.value)
    assert f"{paths[1]}, row {len(others)}" in str(error.value)
    with pytest.raises(LimakitError, match="a second"):
        refuse_repeats([record, record])


def test_rows_are_counted_as_they_stand(tmp_path):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [GRADE])
    path.write_bytes(b"\n\n" + path.read_bytes())
    assert [(row.row, row.record) for row in read_placed(path, Grade)] == [(3, GRADE)]


def test_a_file_without_rows(tmp_path):
    (tmp_path / "x.jsonl").write_text("\n")
    with pytest.raises(LimakitError, match="no judgments in it"):
        read_placed(tmp_path / "x.jsonl", Judgment)


def turned(row):
    """The same judgment, its models named the other way round."""
    other = {"a": "b", "b": "a", "tie": "tie", None: None}
    return row.model_copy(update={"a": row.b, "b": row.a, "first": other[row.first], "verdict": other[row.verdict]})


def test_a_pair_is_named_one_way_by_most_rows_or_the_own_model_first():
    rows = [
        JUDGMENT.model_copy(update={"prompt_id": f"p{i}", "verdict": v, "first": f})
        for i, (v, f) in enumerate((("a", "a"), ("tie", "b"), ("b", "b")))
    ]
    assert one_way([*rows[:2], turned(rows[2])]) == rows
    assert one_way([rows[0], turned(rows[1])]) == [turned(row) for row in rows[:2]]  # as often either way: base before lima
    assert one_way([rows[0], turned(rows[1])], own="lima") == rows[:2]
    assert one_way(rows, own="base") == [turned(row) for row in rows]


def test_the_same_question_named_the_other_way_is_refused():
    """Both show lima first, and say the opposite."""
    with pytest.raises(LimakitError, match="a second judgment of the same"):
        refuse_repeats([JUDGMENT, turned(JUDGMENT).model_copy(update={"verdict": "a"})])
    refuse_repeats([JUDGMENT, turned(JUDGMENT).model_copy(update={"first": "a"})])
