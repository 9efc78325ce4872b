"""One random instance of each task, edited to the authored style."""

import json

import pytest

from limakit.curate.engine import Work
from limakit.curate.from_natural_instructions import inputs, offer, prompt_of, response_of, together
from limakit.curate.pool import write_pool
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import NaturalInstructionsSource

BASE = {"Categories": ["Title Generation"], "Definition": ["In this task, you are given a story. Write a title."]}


def source(**keys):
    return NaturalInstructionsSource.model_validate({"kind": "natural_instructions", "path": "ni", "take": 1} | keys)


def task(folder, name, instances=6, **changed):
    folder.mkdir(exist_ok=True)
    made = [{"id": f"{name}-{n}", "input": f"Story {n}.", "output": [f"Title {n}{c}" for c in "ab"]} for n in range(instances)]
    (folder / f"{name}.json").write_text(json.dumps(BASE | {"Instances": made} | changed))


def pool(tmp_path, made, folder, seed=7):
    return write_pool(tmp_path / f"pool-{seed}", offer(made, folder, Work(seed, tmp_path / "cache")))


def account(found):
    return {row["id"]: (row["reason"], row["detail"]) for table in found.account() for row in table.to_pylist()}


def test_every_task_has_its_fate(tmp_path):
    folder = tmp_path / "ni"
    task(folder, "task1_good")
    task(folder, "task2_answers", Categories=["Question Answering"])
    task(folder, "task3_french", Input_language=["French"], Output_language=["English"])
    task(folder, "task4_empty", Instances=[{"input": "x", "output": []}])
    task(folder, "task5_long", Instances=[{"input": "x" * 9000, "output": "y"}])
    task(folder, "task6_none", Definition=[])
    found = pool(tmp_path, source(response_chars=[3, 50]), folder)
    assert account(found) == {
        "task1_good": (None, None),
        "task2_answers": ("not_generation", "Question Answering"),
        "task3_french": ("not_english", "French"),
        "task4_empty": ("no_instances", None),
        "task5_long": ("prompt_too_long", "9039; none of 1 instances fits"),
        "task6_none": ("malformed", "task6_none.json: has no Definition"),
    }
    assert set(found.sizes) == set(account(found)) - {"task6_none"}  # damaged rows count for nothing


def test_the_instance_is_drawn_by_the_seed_and_by_nothing_else(tmp_path):
    folder, moved = tmp_path / "ni", tmp_path / "moved"
    for n in range(40):
        task(folder, f"task{n}_a")
    made = [{"id": f"task0_a-{n}", "input": f"Story {n}.", "output": [f"Title {n}{c}" for c in "ab"]} for n in (4, 2, 0, 5, 1, 3)]
    task(moved, "task0_a", Instances=made)
    drawn = {c.id: c.turns for _, c in pool(tmp_path, source(), folder).fit()}
    assert dict(drawn) == {c.id: c.turns for _, c in pool(tmp_path, source(), folder).fit()}
    ((_, one),) = pool(tmp_path, source(), moved).fit()
    assert one.turns == drawn["task0_a"]  # whatever the order in the file
    other = {c.id: c.turns for _, c in pool(tmp_path, source(), folder, seed=8).fit()}
    same = sum(drawn[id] == other[id] for id in drawn)
    assert same < 15  # one in twelve, of 40
    assert {turns[0].text[-2] for turns in drawn.values()} == set("012345") and {turns[1].text[-1] for turns in drawn.values()} == set("ab")


def test_the_first_instance_that_fits_is_taken(tmp_path):
    made = [{"id": str(n), "input": "x" * (10 if n == 3 else 500), "output": "y"} for n in range(9)]
    task(tmp_path / "ni", "task1", Instances=made)
    ((_, one),) = pool(tmp_path, source(prompt_chars=[1, 200]), tmp_path / "ni").fit()
    assert one.turns[0].text.endswith("\n\n" + "x" * 10)


def test_pinned_tasks_are_taken_whatever_they_are_and_the_others_are_not_read(tmp_path):
    folder = tmp_path / "ni"
    task(folder, "task1_a", Categories=["Question Answering"], Input_language="French", **{"Instance License": ["CC BY 4.0"]})
    folder.joinpath("task2_b.json").write_text("{")
    made = source(tasks=["task1"], split="test")
    assert list(inputs(made, folder)) == ["ni/task1_a.json"]
    found = pool(tmp_path, made, folder)
    assert account(found) == {"task2_b": ("not_pinned", None), "task1_a": (None, None)}
    ((_, one),) = found.fit()
    assert len(one.turns) == 1 and one.text.reference.startswith("Title") and one.text.tags == ("Question Answering",)
    assert one.text.provenance.licence == "Apache-2.0 (definition), CC BY 4.0 (instance)"
    with pytest.raises(UsageError, match="there is no 'task3'"):
        inputs(source(tasks=["task3"]), folder)
    with pytest.raises(ValueError, match="name the tasks or their categories"):
        source(tasks=["task1"], categories=["Summarization"])


def test_a_damaged_file_is_a_row_that_is_and_a_folder_of_them_an_error(tmp_path):
    folder = tmp_path / "ni"
    task(folder, "task1_a")
    folder.joinpath("task2_b.json").write_text("{")
    folder.joinpath("task3_c.json").write_bytes(b'{"Definition": "\xff"}')
    assert account(pool(tmp_path, source(), folder)) == {
        "task1_a": (None, None),
        "task2_b": ("malformed", "task2_b.json: is no JSON, or cut short: line 1, byte 1: unexpected end of data"),
        "task3_c": ("malformed", "task3_c.json: is not UTF-8 (byte 16)"),
    }
    folder.joinpath("task1_a.json").unlink()
    with pytest.raises(LimakitError, match=r"none of the 2 task files can be read; task2_b\.json: is no JSON.* line 1, byte 1"):
        pool(tmp_path, source(), folder)


def test_two_instances_of_one_id_are_told_apart_by_what_they_hold(tmp_path):
    made = [{"id": "same", "input": f"Story {n}.", "output": f"Title {n}"} for n in range(5)]
    task(tmp_path / "a", "task1", Instances=made)
    task(tmp_path / "b", "task1", Instances=made[::-1])
    assert [c.turns for _, c in pool(tmp_path, source(), tmp_path / "a").fit()] == [
        c.turns for _, c in pool(tmp_path, source(), tmp_path / "b").fit()
    ]


@pytest.mark.parametrize(
    "text",
    [
        "if ( a . b ) { return x . }",
        "x = y . z ;",
        "a . b == c . d",
        "$ \\frac a b .",
        "SELECT name FROM t . u",
        "y = f ( x ) .",
        "get_it ( a ) .",
    ],
)
def test_code_and_formulas_stay_as_they_are(tmp_path, text):
    assert together(text) == text
    task(
        tmp_path / "ni", "task1", Categories=["Code to Text"], Instances=[{"id": "1", "input": "print ( a . b )", "output": "say a . b ."}]
    )
    ((_, one),) = pool(tmp_path, source(), tmp_path / "ni").fit()
    assert one.turns[0].text.endswith("print ( a . b )") and one.turns[1].text == "say a . b ."


def test_the_edit(tmp_path):
    definition = "In this task, you're given a review .\nThings to avoid: -\nKeep it short."
    assert prompt_of(definition, "i do n't like it .") == "You're given a review .\nKeep it short.\n\ni don't like it."
    assert prompt_of("In this task force, write.", "3.5 x") == "In this task force, write.\n\n3.5 x"
    assert response_of("the place 's `` free '' dessert ( really ) was great !") == 'The place\'s "free" dessert (really) was great!'
    assert response_of("running shoes") == "running shoes"
    assert together("f(x) = 3 ; echo .. and $ 5 , 3") == "f(x) = 3 ; echo .. and $ 5 , 3"  # nothing says that this was cut apart


def test_real_tasks(tmp_path, shared):
    found = pool(tmp_path, source(), shared / "natural_instructions")
    assert len(account(found)) == 4 and {reason for reason, _ in account(found).values()} == {None}
    for _, one in found.fit():
        prompt, response = (turn.text for turn in one.turns)
        assert "\n\n" in prompt and response and not prompt.startswith("In this task")
        assert one.text.provenance.url.endswith(f"/tasks/{one.id}.json") and one.text.provenance.authors
