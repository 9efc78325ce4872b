"""Whether results are about what lies there now: by the manifests that the stages really write."""

import json

import pytest

from limakit.analyze import origin
from limakit.analyze.origin import Present, read_origin
from limakit.choice import Choice, write_choice
from limakit.errors import LimakitError
from limakit.workspace import sha256_file, write_json, write_manifest


@pytest.fixture
def root(tmp_path):
    """A workspace after train, generate and judge."""
    for name in (
        "data/test.jsonl",
        "runs/mine/final/model.safetensors",
        "runs/mine/final/config.json",
        "responses/mine.jsonl",
        "judgments/x.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"the first {name}\n")

    def hashes(*names):
        return {name: sha256_file(tmp_path / name) for name in names}

    weights = ("runs/mine/final/config.json", "runs/mine/final/model.safetensors")
    outputs = {name.removeprefix("runs/mine/"): digest for name, digest in hashes(*weights).items()}
    write_manifest(tmp_path / "runs/mine/manifest.json", stage="train", settings={}, inputs={}, outputs=outputs)
    write_manifest(tmp_path / "responses/mine.manifest.json", stage="generate", settings={}, inputs=hashes("data/test.jsonl", *weights), outputs={})  # fmt: skip
    write_manifest(tmp_path / "judgments/x.manifest.json", stage="judge", settings={"scale": ["1"]}, inputs=hashes("data/test.jsonl", "responses/mine.jsonl"), outputs={})  # fmt: skip
    return tmp_path


def why(root, name="judgments/x.jsonl"):
    return Present(root).out_of_date(root / name)


def test_up_to_date(root):
    assert why(root) is None
    assert why(root, "responses/mine.jsonl") is None


def test_other_responses(root):
    (root / "responses/mine.jsonl").write_text("others\n")
    assert why(root) == "judged other responses than those now in responses/mine.jsonl: run limakit judge"


def test_other_prompts(root):
    (root / "data/test.jsonl").write_text("others\n")
    assert why(root) == "judged other prompts than those now in data/test.jsonl: run limakit judge"
    assert why(root, "responses/mine.jsonl") == "made from other prompts than those now in data/test.jsonl: run limakit generate"


def test_another_checkpoint_reaches_the_judgments(root):
    (root / "runs/mine/final/config.json").write_text("another\n")
    assert why(root, "responses/mine.jsonl") == "made from another checkpoint than that now in runs/mine/final: run limakit generate"
    assert "responses/mine.jsonl" in why(root) and "run limakit generate, then limakit judge" in why(root)


def test_large_weights_are_not_hashed_but_looked_up(root, monkeypatch):
    monkeypatch.setattr(origin, "CHEAP", 3)
    monkeypatch.setattr(origin, "sha256_file", lambda path: pytest.fail(f"hashed {path}"))
    assert why(root, "responses/mine.jsonl") is None
    manifest = json.loads((root / "runs/mine/manifest.json").read_bytes())
    manifest["outputs"]["final/model.safetensors"] = "0" * 64
    write_json(root / "runs/mine/manifest.json", manifest)
    assert "another checkpoint" in why(root, "responses/mine.jsonl")


def test_what_has_gone_or_comes_from_elsewhere_tells_nothing(root):
    (root / "responses/mine.jsonl").unlink()
    assert why(root) is None
    (root / "data/test.jsonl").write_text("others\n")
    (root / "judgments/x.manifest.json").unlink()
    assert why(root) is None and read_origin(root / "judgments/x.jsonl") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": "judge"}', '{"stage": "judge", "settings": {}, "inputs": []}'])
def test_a_manifest_that_cannot_be_read(root, text):
    (root / "judgments/x.manifest.json").write_text(text)
    with pytest.raises(LimakitError, match=r"x\.manifest\.json"):
        why(root)


@pytest.fixture
def chosen(root):
    """Responses that have the run's name, by its last epoch; then epoch 2 is chosen."""
    weights = {name: sha256_file(root / "runs/mine/final" / name) for name in ("config.json", "model.safetensors")}
    manifest = json.loads((root / "responses/mine.manifest.json").read_bytes())
    write_json(root / "responses/mine.manifest.json", manifest | {"settings": {"model": "runs/mine/final", "name": "mine"}})
    for number, sums in ((2, dict.fromkeys(weights, "0" * 64)), (3, weights)):
        write_json(root / f"runs/mine/epochs/{number:02}/sha256.json", sums)
    return root


def choose(root, epoch):
    write_choice(root / "runs/mine", Choice(run="mine", epoch=epoch, because="b", date="2026-11-20", weights="0" * 64))


def test_another_epoch_than_the_chosen_one_is_told(chosen):
    assert why(chosen) is None
    choose(chosen, 2)
    assert why(chosen, "responses/mine.jsonl") == "made by the last epoch, and epoch 2 is chosen: run limakit generate"
    assert why(chosen) == (
        "made from responses/mine.jsonl, which was made by the last epoch, and epoch 2 is chosen: run limakit generate, then limakit judge"
    )
    choose(chosen, 3)  # which is the last: the same weights
    assert why(chosen) is None


def test_a_choice_taken_back_is_told_too_and_other_names_are_left_alone(chosen):
    manifest = json.loads((chosen / "responses/mine.manifest.json").read_bytes())
    inputs = {"runs/mine/epochs/02/config.json": "0" * 64, "runs/mine/epochs/02/model.safetensors": "0" * 64}
    for name, says in (("mine", "made by epoch 2, and the last epoch is taken: run limakit generate"), ("early", None)):
        settings = {"model": "runs/mine/epochs/02", "name": name}
        write_json(chosen / "responses/mine.manifest.json", manifest | {"settings": settings, "inputs": inputs})
        assert why(chosen, "responses/mine.jsonl") == says


def test_an_imported_file_that_changed_is_named_with_the_command_that_takes_it_again(root):
    (root / "their file.jsonl").write_text("{}\n")
    inputs = {name: sha256_file(root / name) for name in ("data/test.jsonl", "their file.jsonl")}
    (root / "responses/theirs.jsonl").write_text("rows\n")
    write_manifest(
        root / "responses/theirs.manifest.json", stage="generate", settings={"imported": "their file.jsonl", "name": "theirs"},
        inputs=inputs, outputs={},
    )  # fmt: skip
    assert why(root, "responses/theirs.jsonl") is None
    (root / "their file.jsonl").write_text("other\n")
    expected = (
        "made from other responses than those now in their file.jsonl: run limakit generate --import 'their file.jsonl' --name theirs"
    )
    assert why(root, "responses/theirs.jsonl") == expected
