"""The recipe: typed, checked, and every fault named by file, line and key."""

from importlib import resources
from pathlib import Path

import pytest

from limakit.errors import UsageError
from limakit.recipe import init_workspace, read_recipe
from limakit.recipe_sources import StackExchangeSource

GOOD = """\
name = "x"
[model]
base = "base"
[[sources]]
kind = "authored"
path = "a"
[[sources]]
kind = "stackexchange"
path = "d"
take = 5
[train]
epochs = 3
"""


def fault(tmp_path, old, new):
    path = tmp_path / "lima.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError) as caught:
        read_recipe(path)
    assert caught.value.exit_code == 2
    return caught.value.message


def test_defaults_are_the_papers(tmp_path):
    path = tmp_path / "lima.toml"
    path.write_text(GOOD)
    recipe = read_recipe(path)
    t, g = recipe.train, recipe.generate
    assert (t.batch_examples, t.max_tokens, t.lr, t.betas, t.weight_decay, t.residual_dropout) == (
        32,
        2048,
        (1e-5, 1e-6),
        (0.9, 0.95),
        0.1,
        0.3,
    )
    assert (g.top_p, g.temperature, g.repetition_penalty, g.max_tokens) == (0.9, 0.7, 1.2, 2048)
    source = recipe.sources[1]
    assert isinstance(source, StackExchangeSource)
    assert (source.temperature, source.min_answer_score, source.answer_chars) == (3.0, 10, (1200, 4096))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 3", "epoch = 3", ["line 12", "train.epoch", "did you mean 'epochs'"]),
        ("epochs = 3", "epochs = '3'", ["line 12", "train.epochs"]),
        ("epochs = 3", "epochs = 0", ["line 12", "train.epochs", "greater than 0"]),
        ("take = 5", "take = 5\nanswer_chars = [9, 3]", ["line 7", "answer_chars: the first number must not exceed"]),
        ("take = 5", "", ["line 7", "sources[1].take: missing"]),
        ("take = 5", "take = 5\ndrop = ['rude']", ["line 11", "sources[1].drop[0]", "first_person"]),
        ('kind = "authored"', 'kind = "wiki"', ["line 4", "sources[0]", "'stackexchange'"]),
        ('path = "a"', 'pathh = "a"', ["line 6", "sources[0].pathh", "did you mean 'path'"]),
        ('base = "base"', "", ["model.base: missing", "line 2"]),
        ('name = "x"', 'name = "../x"', ["name"]),
        ("[train]", "[trian]", ["line 11", "trian: unknown key (did you mean 'train'?)"]),
        ("epochs = 3", "lr = [nan, 1e-6]", ["line 12", "train.lr[0]", "finite"]),
        ("epochs = 3", "lr = [1e-5, -1e-6]", ["line 12", "train.lr[1]", "greater than or equal to 0"]),
        ("epochs = 3", "betas = [0.9, 1.0]", ["line 12", "train.betas[1]", "less than 1"]),
        ("epochs = 3", "epochs = 3\n[generate]\ntemperature = inf", ["generate.temperature", "finite"]),
        ("[train]", "[lima]", ["lima: unknown key"]),
        ("[model]", "[[model]]", ["model: expected a table"]),
        ("epochs = 3", "epochs = ", ["is not TOML", "line 12"]),
        ("epochs = 3", "epochs = 3\n[judge]\nmodel = ''", ["name the judge's model"]),
        ("epochs = 3", "epochs = 3\n[judge]\nmodel = 'm'\nmax_cost = 1.0", ["max_cost needs price_in"]),
    ],
)
def test_faults_are_named(tmp_path, old, new, says):
    message = fault(tmp_path, old, new)
    assert str(tmp_path / "lima.toml") in message
    for part in says:
        assert part in message, message


def test_all_faults_at_once(tmp_path):
    message = fault(tmp_path, "epochs = 3", "epochs = 0\nlr = 3")
    assert "train.epochs" in message
    assert "train.lr" in message


def test_not_text(tmp_path):
    path = tmp_path / "lima.toml"
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_recipe(path)
    with pytest.raises(UsageError, match="folder"):
        read_recipe(tmp_path)


def test_bom_and_crlf_are_fine(tmp_path):
    path = tmp_path / "lima.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_recipe(path).train.epochs == 3


@pytest.mark.parametrize("shipped", [p.name for p in (resources.files("limakit") / "recipes").iterdir()])
def test_shipped_recipes_are_valid(shipped):
    read_recipe(Path(str(resources.files("limakit") / "recipes" / shipped)))


def test_init(tmp_path, limakit):
    done = limakit("init", "w", cwd=tmp_path)
    assert "w/lima.toml" in done.stdout
    assert read_recipe(tmp_path / "w" / "lima.toml").name == "lima-7b"
    again = limakit("init", "w", cwd=tmp_path, check=False)
    assert again.returncode == 2
    assert "nothing was touched" in again.stderr
    unknown = limakit("init", "v", "--recipe", "lima-8b", cwd=tmp_path, check=False)
    assert unknown.returncode == 2
    assert "lima-65b" in unknown.stderr
    assert not (tmp_path / "v").exists()


def test_init_keeps_what_is_there(tmp_path):
    mine = tmp_path / "w" / "authored" / "train" / "example.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    init_workspace(tmp_path / "w", "lima-65b")
    assert mine.read_text() == "mine"


def test_the_examples_of_init_are_read_as_they_stand_and_keep_their_own_rules(tmp_path):
    """What a user starts from: a refusal with its reason, a format constraint, each group in its own splits, no note on the style."""
    from limakit.curate.style import response_notes
    from limakit.sources.authored import marked, read_authored

    init_workspace(tmp_path, "lima-65b")
    plain, demand, refusal = read_authored(tmp_path / "authored" / "train", split="train")
    assert plain.tags == () and marked(demand.tags, "format") == "4 bullets"
    assert marked(refusal.tags, "refusal") == "asks how to get into somebody else's account"
    for item in (plain, demand, refusal):
        assert item.group == "A" and response_notes(item.turns[0].text, item.turns[1].text, item.tags) == []
    assert [read_authored(tmp_path / "authored" / split, split=split)[0].group for split in ("dev", "test")] == ["A", "B"]
