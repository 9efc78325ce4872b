"""limakit generate --baselines: a model here, an endpoint and a file end in the same place, and one that fails does not stop the others."""

import json
from collections import Counter

import pytest
import tiny
from answering import files, kept, make
from endpoint import Endpoint, Reply
from typer.testing import CliRunner

from limakit.cli import app
from limakit.errors import LimakitError, UsageError
from limakit.generate.baselines import generate_baselines
from limakit.generate.run import generate
from limakit.recipe import BaselineSpec, Recipe
from limakit.records import Prompt, Response, Turn, read_jsonl, write_jsonl
from limakit.workspace import find_workspace


def spec(name, kind, **more):
    return BaselineSpec(name=name, kind=kind, **more)


def with_baselines(recipe, *baselines):
    return recipe.model_copy(update={"baselines": list(baselines)})


def hosted(endpoint, name="hosted", **more):
    return spec(name, "endpoint", model="their-model", base_url=endpoint.url, retries=1, timeout_s=20.0, **more)


def history(request):
    """What the server was shown, as its answer."""
    return "|".join(f"{message['role'][0]}:{message['content']}" for message in request.body["messages"])


def rows(workspace, name):
    return read_jsonl(workspace.responses / f"{name}.jsonl", Response)


def two_turns(workspace, n=3):
    prompts = [Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text=f"q{i}\u2028\r"),), follow_ups=("more",)) for i in range(n)]
    write_jsonl(workspace.data / "test.jsonl", prompts)


def test_three_ways_one_place(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    workspace, recipe = make(tmp_path / "w", chat=False, max_tokens=4, samples=2)
    tiny.save_base(workspace.root / "base", max_position_embeddings=128)
    two_turns(workspace)
    theirs = [{"prompt_id": f"p{i}", "turn": turn, "output": f"t{i}{turn}"} for i in range(3) for turn in (0, 1)]
    (workspace.root / "theirs.json").write_text(json.dumps(theirs))
    with Endpoint(history) as endpoint:
        recipe = with_baselines(
            recipe, spec("base", "local", model="base", prompting="plain"), hosted(endpoint), spec("theirs", "file", path="theirs.json")
        )
        wrote = generate_baselines(workspace, recipe, ["base", "hosted", "theirs", "base"])
        assert [path.name for path in wrote] == [
            f"{name}.{kind}" for name in ("base", "hosted", "theirs") for kind in ("jsonl", "manifest.json")
        ]
        asked = len(endpoint.requests)
        before = files(workspace)
        generate_baselines(workspace, recipe, ["base", "hosted", "theirs"])
        assert len(endpoint.requests) == asked == 12 and files(workspace) == before
    keys = [(f"p{i}", sample, turn) for i in range(3) for sample in (0, 1) for turn in (0, 1)]
    assert [(r.prompt_id, r.sample, r.turn) for r in rows(workspace, "base")] == keys
    assert [(r.prompt_id, r.sample, r.turn) for r in rows(workspace, "hosted")] == keys
    for response in rows(workspace, "hosted"):
        first = f"u:q{response.prompt_id[1]}\u2028\r"
        assert response.text == (f"{first}|a:{first}|u:more" if response.turn else first)
    assert [r.text for r in rows(workspace, "theirs")] == [row["output"] for row in theirs]
    # a baseline here is what the command line makes of the same model
    generate(workspace, recipe, model="base", name="base", prompting="plain")
    assert files(workspace) == before
    assert json.loads(before["hosted.manifest.json"])["settings"]["prompting"] == "chat"


def test_one_that_fails_is_told_and_the_others_go_on(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w", n=2, chat=False, max_tokens=3, samples=1)
    tiny.save_base(workspace.root / "base", max_position_embeddings=128)
    recipe = with_baselines(
        recipe, spec("gone", "local", model="./nowhere"), spec("none", "file", path="none.csv"), spec("base", "local", model="base")
    )
    with pytest.raises(LimakitError, match="2 of 3 failed: gone, none") as failure:
        generate_baselines(workspace, recipe, ["gone", "none", "base"])
    assert failure.value.exit_code == 1
    out, err = capsys.readouterr()
    assert "gone failed, and the others go on: ./nowhere: no such folder" in err and "none failed" in err
    assert "wrote" in out and set(files(workspace)) == {"base.jsonl", "base.manifest.json"}


def test_an_endpoint_that_answers_some_goes_on_where_it_was(tmp_path, monkeypatch):
    """A failed request is no response; the next run asks those alone, and the dialogue's next turn only then."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    workspace, recipe = make(tmp_path / "w", chat=False, samples=1)
    two_turns(workspace, n=6)
    broken = {"q1\u2028\r", "q4\u2028\r"}
    with Endpoint(lambda request: Reply(status=500) if request.message in broken else history(request)) as endpoint:
        recipe = with_baselines(recipe, hosted(endpoint))
        with pytest.raises(LimakitError, match="p1"):
            generate_baselines(workspace, recipe, ["hosted"])
        assert not files(workspace) and kept(workspace, "hosted").read_bytes().count(b"\n") == 9
        broken.clear()
        endpoint.requests.clear()
        generate_baselines(workspace, recipe, ["hosted"])
        assert Counter(request.message for request in endpoint.requests) == {"q1\u2028\r": 1, "q4\u2028\r": 1, "more": 2}
    assert len(rows(workspace, "hosted")) == 12


def test_one_prompt_that_is_refused_each_time_blocks_no_other(tmp_path, monkeypatch):
    """The others' dialogues go to their end, a second run asks that one alone and says what it is, and once it is answered the file is written."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    workspace, recipe = make(tmp_path / "w", chat=False, samples=1)
    two_turns(workspace, n=6)
    broken = {"q1\u2028\r"}
    with Endpoint(lambda request: Reply(status=400) if request.message in broken else history(request)) as endpoint:
        recipe = with_baselines(recipe, hosted(endpoint))
        for asked in (11, 1):
            endpoint.requests.clear()
            with pytest.raises(LimakitError, match=r"(?s)prompt 'p1'.*the same command goes on"):
                generate_baselines(workspace, recipe, ["hosted"])
            assert len(endpoint.requests) == asked and not files(workspace)
        assert kept(workspace, "hosted").read_bytes().count(b"\n") == 11
        broken.clear()
        generate_baselines(workspace, recipe, ["hosted"])
    assert len(rows(workspace, "hosted")) == 12 and not (kept(workspace, "hosted").parent / "server.json").exists()


def test_names(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=1, chat=False)
    with pytest.raises(UsageError, match="the recipe has no baselines"):
        generate_baselines(workspace, recipe, [])
    recipe = with_baselines(recipe, spec("a", "file", path="x"))
    with pytest.raises(UsageError, match=r"(?s)no baseline called 'b'.*the recipe has: a"):
        generate_baselines(workspace, recipe, ["b"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"kind": "file", "path": "x", "model": "m"}, 'model: means nothing with kind = "file"'),
        ({"kind": "file"}, "needs the file of responses"),
        ({"kind": "local", "model": "m", "max_cost": 1.0, "price_in": 1.0}, 'max_cost: means nothing with kind = "local"'),
        ({"kind": "endpoint", "model": "m", "path": "x"}, 'path: means nothing with kind = "endpoint"'),
        ({"kind": "endpoint"}, "the model's name at the endpoint"),
    ],
)
def test_a_key_that_means_nothing_is_refused(more, said):
    with pytest.raises(ValueError, match=said):
        BaselineSpec(name="b", **more)


def test_two_of_one_file_are_refused():
    one, other = {"name": "a/b", "model": "m"}, {"name": "a--b", "model": "m"}
    with pytest.raises(ValueError, match="'a--b' would share its file of responses with the baseline 'a/b'"):
        Recipe.model_validate({"name": "x", "model": {"base": "b"}, "baselines": [one, other]})
    with pytest.raises(ValueError, match="'x' would share its file of responses with the recipe's own model"):
        Recipe.model_validate({"name": "x", "model": {"base": "b"}, "baselines": [{"name": "x", "model": "m"}]})


def test_several_processes_share_one_local_baseline_at_a_time(tmp_path, monkeypatch):
    workspace, recipe = make(tmp_path / "w", n=1, chat=False)
    recipe = with_baselines(recipe, spec("a", "local", model="base"), spec("b", "file", path="x"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for names in (["a", "b"], ["b"]):
        with pytest.raises(UsageError, match="one local baseline at a time"):
            generate_baselines(workspace, recipe, names)


def test_on_the_command_line(tmp_path, limakit, monkeypatch):
    """Exit codes, messages without a traceback, and an import that needs no torch."""
    workspace, _ = make(tmp_path / "w", n=2, chat=False)
    with open(workspace.recipe_path, "a") as file:
        file.write(
            '[[baselines]]\nname = "theirs"\nkind = "file"\npath = "theirs.csv"\n[[baselines]]\nname = "gone"\nkind = "file"\npath = "gone.csv"\n'
        )
    prompts = read_jsonl(workspace.data / "test.jsonl", Prompt)
    lines = ["prompt_id,response", *(f'{prompt.id},"[bold]{i}\x1b[31m"' for i, prompt in enumerate(prompts))]
    (workspace.root / "theirs.csv").write_text("\n".join(lines) + "\n")
    assert find_workspace(workspace.recipe_path).root == workspace.root
    done = limakit("generate", "--baselines", cwd=workspace.root, check=False)
    assert done.returncode == 1 and "1 of 2 failed: gone" in done.stderr and "theirs.jsonl" in done.stdout
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("torch", "transformers", "openai"):
        (blocked / f"{name}.py").write_text("raise ImportError('not here')")
    done = limakit("generate", "--import", "theirs.csv", "--name", "also", cwd=workspace.root, env={"PYTHONPATH": str(blocked)})
    assert "also: 2 responses" in done.stdout
    done = limakit("generate", "--import", "theirs.csv", "--name", "red\x1b[31m", cwd=workspace.root)
    assert "wrote" in done.stdout and "\x1b" not in done.stdout + done.stderr
    assert [r.text for r in rows(workspace, "also")] == ["[bold]0\x1b[31m", "[bold]1\x1b[31m"]
    for arguments, said in [
        (("--import", "theirs.csv"), "--import needs --name"),
        (("--baseline", "nobody"), "no baseline called 'nobody'"),
        (("--baselines", "--prompting", "chat"), "has its name and prompting in the recipe"),
        (("--prompting", "loud"), "--prompting 'loud' is none"),
    ]:
        monkeypatch.chdir(workspace.root)
        result = CliRunner().invoke(app, ["generate", *arguments])
        assert isinstance(result.exception, UsageError) and said in str(result.exception)
