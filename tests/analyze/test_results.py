"""Files of judgments and grades: told apart by their keys, read whole, and faults named."""

import pytest

from limakit.analyze.results import read_results
from limakit.errors import LimakitError
from limakit.records import Grade, Judgment, write_jsonl
from limakit.workspace import write_json

ONE = Judgment(prompt_id="p1", a="x", b="y", judge="j", rubric="pairwise", status="ok", verdict="a")
GRADE = Grade(prompt_id="p1", model="x", judge="j", rubric="helpfulness", status="ok", value="4")


def graded(path, scale):
    write_jsonl(path, [GRADE.model_copy(update={"judge": path.stem})])
    write_json(path.with_suffix(".manifest.json"), {"stage": "judge", "settings": {"scale": list(scale)}, "inputs": {}})


def test_files_are_told_apart_by_their_keys_and_one_named_twice_counts_once(tmp_path):
    write_jsonl(tmp_path / "one.jsonl", [ONE])
    write_jsonl(tmp_path / "two.jsonl", [GRADE])
    found = read_results([tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "two.jsonl"], None)
    assert [row.record for row in found.judgments] == [ONE]
    assert [(row.record, row.row) for row in found.grades] == [(GRADE, 1)]


def test_a_workspace_has_judgments_and_grades(tmp_path, monkeypatch):
    (tmp_path / "lima.toml").write_text('name = "x"\n[model]\nbase = "y"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimakitError, match=r"no judgments or grades yet\n.*limakit judge"):
        read_results(None, None)
    write_jsonl(tmp_path / "judgments" / "a.jsonl", [ONE])
    graded(tmp_path / "grades" / "b.jsonl", "123456")
    found = read_results(None, None)
    assert (len(found.judgments), len(found.grades), found.scales) == (1, 1, {"helpfulness": tuple("123456")})


def test_faults_name_file_and_row(tmp_path):
    path = tmp_path / "x.jsonl"
    for text in ('{"id": "p1"}\n', "[]\n", "{\n", "3\n"):
        path.write_text(text)
        with pytest.raises(LimakitError, match=r"x\.jsonl, row 1: neither a judgment nor a grade"):
            read_results([path], None)
    path.write_text("\n")
    with pytest.raises(LimakitError, match="no judgments or grades in it"):
        read_results([path], None)
    path.write_text(ONE.model_dump_json() + "\n" + GRADE.model_dump_json() + "\n")
    with pytest.raises(LimakitError, match=r"x\.jsonl, row 2"):
        read_results([path], None)
    write_jsonl(path, [ONE])
    write_jsonl(tmp_path / "y.jsonl", [ONE])
    with pytest.raises(LimakitError, match=r"y\.jsonl, row 1: a second judgment(.|\n)*x\.jsonl, row 1"):
        read_results([path, tmp_path / "y.jsonl"], None)


def test_two_scales_of_one_rubric_are_refused(tmp_path):
    graded(tmp_path / "a.jsonl", "123456")
    graded(tmp_path / "b.jsonl", "12345")
    assert read_results([tmp_path / "a.jsonl"], None).scales == {"helpfulness": tuple("123456")}
    with pytest.raises(LimakitError, match=r"b\.jsonl: rubric 'helpfulness' has the grades 1, 2, 3, 4, 5 here"):
        read_results([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], None)
