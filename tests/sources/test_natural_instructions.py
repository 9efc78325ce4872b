"""Task files of Super-Natural Instructions, of every age."""

import json

import pytest

from limakit.errors import UsageError
from limakit.sources.natural_instructions import of_categories, pinned, read_task, task_names

TASK = {
    "Contributors": ["Ada"],
    "Source": ["corpus"],
    "URL": ["https://example.org/corpus"],
    "Categories": ["Title Generation"],
    "Definition": ["Write a title.", "Another wording."],
    "Input_language": ["English"],
    "Output_language": ["English"],
    "Instances": [{"id": "t-1", "input": "A story.", "output": ["One", "Two"]}],
    "Instance License": ["CC BY 4.0"],
}


def write(folder, name, **changed):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({k: v for k, v in (TASK | changed).items() if v is not None}, indent=1), encoding="utf-8")
    return path


def test_a_task_of_today(tmp_path):
    task = read_task(write(tmp_path, "task001_a"))
    assert (task.name, task.definition, task.categories, task.licence) == (
        "task001_a",
        "Write a title.",
        ("Title Generation",),
        "CC BY 4.0",
    )
    assert (task.contributors, task.sources, task.url) == (("Ada",), ("corpus",), "https://example.org/corpus")
    assert [(i.key, i.input, i.outputs) for i in task.instances] == [("t-1", "A story.", ("One", "Two"))]


def test_older_forms_and_instances_without_text(tmp_path):
    instances = [
        {"input": "x", "output": "single"}, {"input": "", "output": "y"}, {"input": "z", "output": []}, {"output": ["w"]}, "v",
        {"input": "u", "output": [3, " ", "t"]},
    ]  # fmt: skip
    path = write(tmp_path, "task2", Definition=" text ", Input_language=None, Output_language=None, Instances=instances, **{"URL": None})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    task = read_task(path)
    assert (task.definition, task.languages, task.url) == ("text", (), None)
    assert [(i.key, i.outputs) for i in task.instances] == [("0", ("single",)), ("5", ("t",))]


@pytest.mark.parametrize(
    ("changed", "what"), [({"Definition": [" "]}, "has no Definition"), ({"Instances": {}}, "has no list of Instances")]
)
def test_json_that_is_no_task(tmp_path, changed, what):
    with pytest.raises(ValueError, match=what):
        read_task(write(tmp_path, "task1", **changed))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b'{"Definition": "\xc3\xa9",\n "Instances": [', r"line 2, byte \d\d: "),
        (b"\xef\xbb\xbf{\n\n nothing", r"line 3, byte 7: "),
        (b'{"Definition": "\xff"}', r"is not UTF-8 \(byte 16\)"),
    ],
)
def test_a_damaged_file_is_named_with_line_and_byte(tmp_path, data, where):
    (tmp_path / "task1.json").write_bytes(data)
    with pytest.raises(ValueError, match=where):
        read_task(tmp_path / "task1.json")


def test_pinned_ids(tmp_path):
    for name in ("task045_paraphrase", "task0451_other", "task059_story", "task059_story_two"):
        write(tmp_path, name)
    names = task_names(tmp_path)
    assert pinned(names, ["task045", "task059_story.json", "task045_paraphrase"], tmp_path) == ["task045_paraphrase", "task059_story"]
    with pytest.raises(UsageError, match=r"(?s)there is no 'task045_paraphrases'.*did you mean task045_paraphrase"):
        pinned(names, ["task045_paraphrases"], tmp_path)
    with pytest.raises(UsageError, match="'task059' is 2 tasks: task059_story, task059_story_two"):
        pinned(names, ["task059"], tmp_path)
    with pytest.raises(UsageError, match=r"(?s)there is no 'x'.*there are 4 tasks"):
        pinned(names, ["x"], tmp_path)


def test_no_folder_no_tasks_and_tasks_one_folder_below(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        task_names(tmp_path / "none")
    with pytest.raises(UsageError, match="no task"):
        task_names(tmp_path)
    write(tmp_path / "tasks", "task1")
    with pytest.raises(UsageError, match=r"(?s)no task\*\.json here.*name the folder .*tasks"):
        task_names(tmp_path)
    with pytest.raises(UsageError, match="cannot be read as a folder"):
        task_names(tmp_path / "tasks" / "task1.json")


@pytest.mark.parametrize(
    ("category", "wanted", "taken"),
    [
        ("Title Generation", None, True),
        ("Text Modification -> Paraphrasing", None, True),
        ("Text Generation -> Sentence Generation -> Contextual Text Generation -> Incorrect", None, False),
        ("Classification -> Verification -> Paraphrase Verification", None, False),
        ("Question Answering", None, False),
        ("Question Answering", ["question answering"], True),
        ("Question Answering -> Open Question Answering", ["Open Question Answering"], True),
        ("Question Answering -> Open Question Answering", ["Question Answering -> Open Question Answering"], True),
        ("Question Answering", ["Answering"], False),
    ],
)
def test_categories_old_and_new(category, wanted, taken):
    assert of_categories([category], wanted) is taken
