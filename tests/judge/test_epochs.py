"""The recipe's judge grades what each epoch said to the dev prompts."""

from __future__ import annotations

import pytest
from epochs import make_epochs

from limakit.analyze.selection import read_selection
from limakit.errors import LimakitError, UsageError
from limakit.judge.run import judge_epochs
from limakit.records import Grade, Prompt, Turn, read_jsonl, write_jsonl


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The oracle judges, so that nothing has to be asked; it is of one opinion, for these prompts are not of its world."""
    monkeypatch.setattr("limakit.world.oracle.grade_response", lambda prompt, response: "4")
    workspace, recipe = make_epochs(tmp_path, grades=False)
    judge = recipe.judge.model_copy(update={"kind": "oracle"})
    return workspace, recipe.model_copy(update={"judge": judge})


def test_each_epoch_has_a_sheet_of_its_own_apart_from_other_grades(here, capsys):
    workspace, recipe = here
    wrote = judge_epochs(workspace, recipe)
    assert [p.name for p in wrote] == [f"{e:02}-by-oracle-helpfulness.jsonl" for e in (1, 2, 3, 4)]
    assert {g.model for g in read_jsonl(wrote[2], Grade)} == {"tiny@3"} and not list(workspace.grades.glob("*.jsonl"))
    assert all(epoch.graded.summary.prompts == 5 for epoch in read_selection(workspace, recipe).epochs)
    capsys.readouterr()
    judge_epochs(workspace, recipe)
    assert "already judged" in capsys.readouterr().out


def test_what_cannot_be_graded(here, tmp_path):
    workspace, recipe = here
    none = recipe.judge.model_copy(update={"grade": ""})
    with pytest.raises(UsageError, match="no rubric for grades"):
        judge_epochs(workspace, recipe.model_copy(update={"judge": none}))
    write_jsonl(workspace.data / "dev.jsonl", [Prompt(id="new", source="dev", turns=(Turn(role="user", text="New?"),))])
    with pytest.raises(LimakitError, match=r"answers other prompts than data/dev\.jsonl now holds"):
        judge_epochs(workspace, recipe)
    for file in (workspace.runs / "tiny/dev").glob("*.json"):
        file.unlink()
    with pytest.raises(UsageError, match="no epoch has answered the dev prompts") as caught:
        judge_epochs(workspace, recipe)
    assert "limakit select --answer" in caught.value.remedy
