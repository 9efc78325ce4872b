"""limakit generate --import: somebody else's responses, in the forms they come in, matched, counted, or refused by row."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.errors import LimakitError, UsageError
from limakit.generate.foreign import read_foreign
from limakit.generate.imported import import_responses
from limakit.recipe import ModelSpec, Recipe
from limakit.records import Prompt, Response, Turn, read_jsonl, write_jsonl
from limakit.workspace import Workspace

AWKWARD = [
    "{braces} {{ 7 * 7 }} {% x %}", "<script>alert(1)</script> [bold]", "line\u2028sep\u2029\x85", "lone\rreturn\r\nand\n", "\x00\x1b[2J\x07\x7f\x9b",
    "quote \" ' , ; \t", "日本 é 🙂 \u202e", "x" * 100_000, "\ufeffmark", "",
]  # fmt: skip
RECIPE = Recipe(name="lima", model=ModelSpec(base="base"))


def make(root, texts=("One?", "Two?", "Three?"), follow_ups=()):
    prompts = [
        Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text=text),), follow_ups=follow_ups)
        for i, text in enumerate(texts, start=1)
    ]
    write_jsonl(root / "data/test.jsonl", prompts)
    return Workspace(root, root / "lima.toml")


def take(workspace, rows, file="theirs.jsonl"):
    path = workspace.root / file
    if isinstance(rows, str | bytes):
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [path, _] = import_responses(workspace, RECIPE, path, "theirs")
    return {(r.prompt_id, r.sample, r.turn): r for r in read_jsonl(path, Response)}


def texts(found):
    return {key[0]: response.text for key, response in found.items()}


def as_csv(rows):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        ("a.jsonl", '{"prompt_id": "p1", "response": "A"}\n\n{"id": "p3", "text": "C", "score": 1.5}\n{"prompt": "Two?", "output": "B"}\n'),
        ("a.json", '\ufeff [{"instruction": "One?", "output": "A", "generator": "g", "dataset": "d"},\n {"instruction": "Two?", "input": "", "output": "B"},'
                   ' {"instruction": "Three?", "input": null, "output": "C"}]'),
        ("a.csv", "\ufeffprompt_id,prompt,response\r\np1,,A\r\n,Two?,B\r\n,  Three?  ,C\r\n\r\n"),
        ("a.CSV", 'instruction,output\n"One?","A"\n"Two?","B"\n"Three?","C"\n'),
    ],
)  # fmt: skip
def test_the_forms_they_come_in(tmp_path, file, rows):
    workspace = make(tmp_path)
    found = take(workspace, rows, file)
    assert texts(found) == {"p1": "A", "p2": "B", "p3": "C"}
    assert {(r.model, r.finish, r.tokens, r.sample) for r in found.values()} == {("theirs", "unknown", None, 0)}
    manifest = json.loads((workspace.responses / "theirs.manifest.json").read_bytes())
    assert set(manifest["inputs"]) == {"data/test.jsonl", file} and manifest["settings"] == {"imported": file, "name": "theirs"}


def test_our_own_records_keep_what_they_say(tmp_path):
    workspace = make(tmp_path, follow_ups=("And then?",))
    rows = [
        Response(prompt_id=f"p{i}", model="m", sample=s, turn=t, text=f"{i}{s}{t}", finish="length", tokens=9, seed=3, not_applied=("top_p",))
        for i in (3, 1, 2) for t in (1, 0) for s in (1, 0)
    ]  # fmt: skip
    found = take(workspace, "".join(row.model_dump_json() + "\n" for row in rows))
    assert list(found) == [(f"p{i}", s, t) for i in (1, 2, 3) for s in (0, 1) for t in (0, 1)]
    for (prompt_id, sample, turn), response in found.items():
        assert response.text == f"{prompt_id[1]}{sample}{turn}" and response.model == "theirs"
        assert (response.finish, response.tokens, response.seed, response.not_applied) == ("length", 9, 3, ("top_p",))


def test_samples_turns_and_alpacas_input(tmp_path):
    workspace = make(tmp_path, texts=("Sum up.\n\nA long text.", "Sum up."), follow_ups=("Shorter.",))
    found = take(workspace, [
        {"instruction": "Sum up.", "input": "A long text.", "output": "a"},
        {"instruction": "Sum up.", "output": "b"},
        {"prompt_id": "p1", "turn": 1, "output": "c"},
        {"prompt_id": "p2", "prompt": "Shorter.", "turn": 1, "sample": 0, "output": "d"},
    ])  # fmt: skip
    assert {key: response.text for key, response in found.items()} == {
        ("p1", 0, 0): "a",
        ("p1", 0, 1): "c",
        ("p2", 0, 0): "b",
        ("p2", 0, 1): "d",
    }


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    workspace = make(tmp_path)
    found = take(workspace, [
        {"prompt": "One?", "output": "A"}, {"prompt": "Else?", "output": "X"}, {"prompt": " One? ", "output": "A"}, {"prompt_id": "p9", "output": "Y"},
    ])  # fmt: skip
    said = capsys.readouterr().err
    assert texts(found) == {"p1": "A"}
    assert "1 rows have their prompt's text but for white space, and are taken: row 3" in said
    assert "1 rows say what an earlier one says, and are left out: row 3" in said
    assert "2 rows answer none of the prompts, and are left out: row 2, row 4" in said
    assert "2 of 3 responses are not in the file: p2, p3" in said


def test_a_response_of_several_samples_and_turns_is_named_as_one(tmp_path, capsys):
    workspace = make(tmp_path, texts=("One?",), follow_ups=("More?",))
    rows = [{"prompt_id": "p1", "output": " "}, {"prompt_id": "p1", "sample": 1, "turn": 1, "output": ""}, {"id": "x", "output": "X"}]
    take(workspace, rows)
    said = capsys.readouterr().err
    assert "2 responses are empty: p1, p1 (sample 1, turn 1)" in said
    assert "2 of 4 responses are not in the file: p1 (turn 1), p1 (sample 1)" in said


def test_somebodys_file_of_the_name_is_not_written_over(tmp_path):
    workspace = make(tmp_path)
    workspace.responses.mkdir()
    (workspace.responses / "theirs.jsonl").write_text("mine")
    with pytest.raises(LimakitError, match="not made by limakit"):
        take(workspace, [{"prompt_id": "p1", "output": "A"}])
    assert (workspace.responses / "theirs.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "rows", "said"),
    [
        ("a.jsonl", '{"prompt_id": "p1", "output": "A"}\n{"prompt_id": "p1", "output": "B"}\n', "row 2: a second, different response.*of row 1.*sample"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "A"}\n{"prompt_id": "p1"}\n', "row 2: lacks the response"),
        ("a.jsonl", '{"output": "A"}\n', "row 1: lacks the prompt"),
        ("a.jsonl", '{"prompt_id": "p1", "output": true}\n', "row 1: output: expected a text, is true"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "A", "sample": -1}\n', "row 1: sample: expected a number from 0"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "A", "sample": 1000000000}\n', "row 1: sample 1000000000, in a file of 1 rows"),
        ("a.jsonl", '{"prompt_id": "p1", "response": "", "output": "real"}\n', "row 1: has two different responses, 'output' one of them"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "\\ud800"}\n', "row 1: output: has half of a surrogate pair"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "A"}\n{"prompt', "row 2: is not JSON"),
        ("a.jsonl", b'{"prompt_id": "p1", "output": "\xff"}\n', "row 1: is not UTF-8"),
        ("a.jsonl", "[" * 100_000, "nested too deeply"),
        ("a.json", '[{"prompt_id": "p1", "output": "A"}, "B"]', "entry 2: is no JSON object"),
        ("a.json", '[{"prompt_id": "p1", "output": "A"}', "is not JSON"),
        ("a.jsonl", '{"prompt_id": "p1", "prompt": "Two?", "output": "A"}\n', "row 1: its prompt is another text than that of prompt 'p1'"),
        ("a.jsonl", '{"prompt_id": "p1", "turn": 1, "output": "A"}\n', "row 1: turn 1 of prompt 'p1', which has 0 follow-ups"),
        ("a.jsonl", '{"prompt": "Two ?", "output": "A"}\n', "none of its 1 rows answers one of the 3 prompts"),
        ("a.jsonl", '{"prompt_id": "p1", "output": "A", "model": "m"}\n{"prompt_id": "p2", "output": "B", "generator": "n"}\n', "responses by 2 models"),
        ("a.jsonl", "", "no responses in it"),
        ("a.csv", "prompt_id,output\np1,A,B\n", "row 2: has 3 columns, the header 2"),
        ("a.csv", 'prompt_id,output\np1,"A\n', "is not CSV"),
        ("a.csv", "", "no responses in it"),
        ("a.csv", "prompt_id,output,output\np1,A,B\n", "row 1: two columns of one name"),
    ],
)  # fmt: skip
def test_mistakes_name_the_row_and_write_nothing(tmp_path, file, rows, said):
    workspace = make(tmp_path)
    with pytest.raises(LimakitError, match=f"(?s){said}"):
        take(workspace, rows, file)
    assert not [path for path in workspace.responses.iterdir() if path.is_file()]


def test_two_prompts_of_one_text_need_an_id(tmp_path):
    workspace = make(tmp_path, texts=("Same?", "Same?"))
    with pytest.raises(LimakitError, match=r"2 prompts have its text \(p1, p2\)"):
        take(workspace, [{"prompt": "Same?", "output": "A"}])
    assert texts(take(workspace, [{"prompt_id": "p2", "prompt": "Same?", "output": "A"}])) == {"p2": "A"}


def test_done_is_done_until_the_file_changes(tmp_path, capsys):
    workspace = make(tmp_path)
    take(workspace, [{"prompt_id": "p1", "output": "A"}])
    before = (workspace.responses / "theirs.jsonl").stat().st_mtime_ns
    take(workspace, [{"prompt_id": "p1", "output": "A"}])
    assert (workspace.responses / "theirs.jsonl").stat().st_mtime_ns == before
    assert "nothing it was made from has changed" in capsys.readouterr().out
    assert texts(take(workspace, [{"prompt_id": "p1", "output": "B"}])) == {"p1": "B"}
    # and a wrong file leaves what was there
    with pytest.raises(LimakitError):
        take(workspace, [{"prompt_id": "p1"}])
    assert read_jsonl(workspace.responses / "theirs.jsonl", Response)[0].text == "B"
    with pytest.raises(LimakitError, match="no such file"):
        import_responses(workspace, RECIPE, tmp_path / "none.jsonl", "theirs")
    # nor is what a model said here written over
    (workspace.responses / "theirs.manifest.json").write_text('{"settings": {"model": "runs/x/final"}}')
    with pytest.raises(LimakitError, match=r"responses/theirs.jsonl: holds responses that theirs gave here"):
        take(workspace, [{"prompt_id": "p1", "output": "C"}])
    with pytest.raises(UsageError, match="would be written over"):
        import_responses(workspace, RECIPE, workspace.responses / "theirs.jsonl", "theirs")
    with pytest.raises(UsageError, match="cannot be a file name"):
        import_responses(workspace, RECIPE, tmp_path / "theirs.jsonl", "../x\n")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.sampled_from(AWKWARD) | st.text(max_size=5), max_size=3).map("".join), min_size=2, max_size=4, unique_by=lambda t: t.strip()),
       st.sampled_from(["jsonl", "json", "csv", "ours"]))  # fmt: skip
def test_any_text_comes_through_unharmed(tmp_path_factory, said, form):
    """Prompts and responses, by id and by text: what is written is what was given, byte for byte."""
    said = [text.encode(errors="replace").decode() for text in said]
    asked = [text if text.strip() else f"{text}?" for text in said]
    workspace = make(tmp_path_factory.mktemp("w"), texts=asked)
    rows = [{"prompt": prompt, "response": text} for prompt, text in zip(asked, said, strict=True)]
    rows[0] = {"prompt": asked[0], "response": said[0], "prompt_id": "p1"}
    rows[1:] = [row | {"prompt_id": ""} if form == "csv" else row for row in rows[1:]]
    content = {
        "jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "json": json.dumps(rows),
        "csv": as_csv(rows),
        "ours": "".join(
            Response(prompt_id=f"p{i}", model="m", text=text, finish="eot", tokens=1).model_dump_json() + "\n"
            for i, text in enumerate(said, start=1)
        ),
    }[form]
    found = take(workspace, content, f"a.{'jsonl' if form == 'ours' else form}")
    assert texts(found) == {f"p{i}": text for i, text in enumerate(said, start=1)}
    assert [prompt.text for prompt in read_jsonl(workspace.data / "test.jsonl", Prompt)] == asked


def test_the_annotators_real_file_is_refused_by_row_for_its_one_response_that_is_no_text(tmp_path, shared):
    """PandaLM's test set: 999 rows with instruction and input; some of its responses are JSON true."""
    pairs = json.loads((shared / "pandalm/testset-v1.json").read_bytes())
    rows = [{"instruction": one["instruction"], "input": one["input"], "output": one["response1"]} for one in pairs]
    path = tmp_path / "pandalm.json"
    path.write_text(json.dumps(rows))
    strange = [i for i, row in enumerate(rows, start=1) if not isinstance(row["output"], str)]
    if strange:
        with pytest.raises(LimakitError, match=f"entry {strange[0]}: output: expected a text, is true"):
            read_foreign(path)
        path.write_text(json.dumps([row for row in rows if isinstance(row["output"], str)]))
    assert len(read_foreign(path)) == len(rows) - len(strange)
