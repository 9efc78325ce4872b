"""What there is to choose by, read from what a run left."""

from __future__ import annotations

import json

import pytest
from epochs import make_epochs

from limakit.analyze.selection import read_selection
from limakit.errors import LimakitError, UsageError
from limakit.records import Prompt, Turn, write_jsonl
from limakit.select.reading import prompt_lines


def test_every_epoch_with_what_was_measured_of_it(tmp_path):
    selection = read_selection(*make_epochs(tmp_path, kept=(3, 4)))
    assert [e.number for e in selection.epochs] == [1, 2, 3, 4] and [e.kept for e in selection.epochs] == [False, False, True, True]
    first = selection.epochs[0]
    assert first.loss == pytest.approx(2.75) and first.held_out == 6 and len(first.answers) == 5
    assert first.perplexity.low < first.perplexity.value < first.perplexity.high
    assert first.graded.summary.mean.value == pytest.approx((1 + 2 + 1 + 2 + 1) / 5) and first.graded.summary.prompts == 5
    assert 0 < first.stopped.value < 1 and first.tokens.value == pytest.approx(13)
    assert selection.relation.rho == pytest.approx(1) and selection.relation.epochs == 4 and "as in the paper" in selection.relation.said
    assert "runs/tiny/dev/04.jsonl" in selection.files and not selection.notes


def test_prompts_by_number_or_id(tmp_path):
    selection = read_selection(*make_epochs(tmp_path))
    assert selection.prompt("2") is selection.prompt("dev-2") is selection.prompts[1]
    for wrong in ("0", "6", "dev-9", ""):
        with pytest.raises(UsageError, match="there is no dev prompt"):
            selection.prompt(wrong)
    with pytest.raises(UsageError, match="there is no epoch 9"):
        selection.epoch(9)


def test_before_training_it_says_what_to_run(tmp_path):
    workspace, recipe = make_epochs(tmp_path, epochs=0)
    with pytest.raises(UsageError, match="no epoch is trained yet") as caught:
        read_selection(workspace, recipe)
    assert "limakit train" in caught.value.remedy


def test_prompts_that_changed_are_told(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    write_jsonl(workspace.data / "dev.jsonl", [Prompt(id="new", source="dev", turns=(Turn(role="user", text="New?"),))])
    notes = read_selection(workspace, recipe).notes
    assert len(notes) == 1 and "epochs 1 to 4 answered other prompts than data/dev.jsonl now holds" in notes[0]


def test_a_prompt_in_new_words_is_told_once_for_all_epochs(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    selection = read_selection(workspace, recipe)
    assert selection.reworded(selection.prompts[0]) == ""
    new = Prompt(id="dev-1", source="dev", turns=(Turn(role="user", text="Quite another question?"),))
    write_jsonl(workspace.data / "dev.jsonl", [new, *selection.prompts[1:]])
    selection = read_selection(workspace, recipe)
    assert selection.reworded(new) == "epochs 1 to 4 answered an earlier wording of this prompt; limakit select --answer asks again"
    assert selection.reworded(selection.prompts[1]) == ""
    assert sum("earlier wording" in line for line in prompt_lines(selection, new)) == 1
    assert not any("earlier wording" in line for line in prompt_lines(selection, selection.prompts[1]))


def test_grades_of_other_responses_are_left_out_and_told(tmp_path):
    workspace, recipe = make_epochs(tmp_path)
    file = workspace.runs / "tiny/dev/grades/02-by-referee-helpfulness.jsonl"
    settings = {"judge": "referee", "scale": list("123456")}
    manifest = {"stage": "judge", "settings": settings, "inputs": {"runs/tiny/dev/02.jsonl": "0" * 64}, "versions": {}, "outputs": {}}
    file.with_suffix(".manifest.json").write_text(json.dumps(manifest))
    selection = read_selection(workspace, recipe)
    assert selection.epochs[1].graded is None and selection.epochs[2].graded is not None
    assert "is out of date and left out" in selection.notes[0] and selection.relation.epochs == 3


def test_without_grades_or_looks_the_rest_is_there(tmp_path):
    workspace, recipe = make_epochs(tmp_path, grades=False)
    (workspace.runs / "tiny/dev/03.json").unlink()
    selection = read_selection(workspace, recipe)
    assert selection.relation is None and all(e.graded is None for e in selection.epochs)
    third = selection.epoch(3)
    assert third.perplexity is None and third.tokens is None and not third.answers and third.loss is not None


@pytest.mark.parametrize("name", ["dev/02.json", "dev/02.jsonl", "dropped.json", "choice.json"])
def test_a_damaged_file_is_one_message(tmp_path, name):
    workspace, recipe = make_epochs(tmp_path)
    (workspace.runs / "tiny" / name).write_text("{\n")
    with pytest.raises(LimakitError, match=name):
        read_selection(workspace, recipe)
