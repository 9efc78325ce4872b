"""limakit generate, end to end on checkpoints as folders: names, manifests, resumption, mistakes."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import tiny
import torch
from answering import change, files, kept, make, save_chat
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.generate import here as room
from limakit.generate.run import generate
from limakit.model.chat import EOT, chat_format
from limakit.records import Prompt, Response, Turn, read_jsonl, write_jsonl
from limakit.workspace import CURATING, stage_lock


def test_responses_and_manifest(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w")
    paths = generate(workspace, recipe, model=None, name=None)
    assert [p.name for p in paths] == ["lima.jsonl", "lima.manifest.json"]
    rows = read_jsonl(paths[0], Response)
    assert [(r.prompt_id, r.sample) for r in rows] == [(f"p{i}", s) for i in range(8) for s in range(2)]
    assert {r.model for r in rows} == {"lima"}
    assert {r.finish for r in rows} == {"eot", "length"}
    for row in rows:
        assert row.tokens == 20 if row.finish == "length" else row.tokens <= 20
        assert EOT not in row.text
        assert row.seed == 7
    manifest = json.loads(paths[1].read_bytes())
    assert manifest["settings"]["sampling"] == {
        "top_p": 0.9, "temperature": 0.7, "repetition_penalty": 1.2, "penalise_prompt": False, "max_tokens": 20, "samples": 2,
    }  # fmt: skip
    assert manifest["settings"]["prompting"] == "chat"
    assert {"data/test.jsonl", "runs/lima/final/model.safetensors"} <= set(manifest["inputs"])
    assert str(tmp_path) not in paths[1].read_text()
    capsys.readouterr()
    before = files(workspace)
    generate(workspace, recipe, model=None, name=None)
    assert "nothing it was made from has changed" in capsys.readouterr().out
    # the batch is no part of what a response is made from, nor does it change one
    (workspace.responses / "lima.jsonl").unlink()
    generate(workspace, change(recipe, batch=16), model=None, name=None)
    assert files(workspace) == before
    generate(workspace, change(recipe, temperature=0.0, samples=1), model=None, name=None)
    assert len(read_jsonl(paths[0], Response)) == 8


def test_a_base_model_goes_on_with_the_plain_prompt(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w", chat=False, temperature=0.0, repetition_penalty=1.0, samples=1)
    tiny.save_base(workspace.root / "base", max_position_embeddings=128)
    [path, _] = generate(workspace, recipe, model="base", name=None)
    assert path.name == "base.jsonl"
    assert "taken for a base model" in capsys.readouterr().err
    tokenizer, model = (kind.from_pretrained(workspace.root / "base") for kind in (AutoTokenizer, AutoModelForCausalLM))
    prompts = {p.id: p for p in read_jsonl(workspace.data / "test.jsonl", Prompt)}
    for row in read_jsonl(path, Response):
        text = prompts[row.prompt_id].text + "\n"
        pieces = re.split("(</s>)", text)  # a special token's string in a prompt is text
        ids = tokenizer(text)["input_ids"] if len(pieces) == 1 else tokenizer(text, split_special_tokens=True)["input_ids"]
        assert ids[0] == 1
        assert tokenizer.eos_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False, max_new_tokens=20, pad_token_id=0
        )  # fmt: skip
        new = out[0, len(ids) :].tolist()
        assert row.tokens == len(new)
        assert row.finish == ("eot" if new[-1] == tokenizer.eos_token_id else "length")
        assert row.text == tokenizer.decode(new, skip_special_tokens=True)


def test_names(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=2, max_tokens=2)
    tiny.save_base(tmp_path / "elsewhere" / "some-model", max_position_embeddings=128)
    save_chat(workspace.runs / "other/epochs/03")
    for model, name, expected in [
        (str(tmp_path / "elsewhere" / "some-model"), None, "some-model"),
        ("runs/lima/final", None, "lima"),
        ("runs/other/epochs/03/", None, "other-epochs-03"),
        ("runs/lima/final", "the/one", "the--one"),
    ]:
        [path, _] = generate(workspace, recipe, model=model, name=name)
        assert path.name == f"{expected}.jsonl"
        assert {r.model for r in read_jsonl(path, Response)} == {name or expected}


def test_another_checkpoint_under_the_same_name_is_generated_anew(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=3)
    generate(workspace, recipe, model=None, name=None)
    before = files(workspace)
    save_chat(workspace.runs / "lima/final", seed=1)
    generate(workspace, recipe, model=None, name=None)
    assert files(workspace)["lima.jsonl"] != before["lima.jsonl"]


def test_mistakes(tmp_path):
    workspace, recipe = make(tmp_path / "w", chat=False)

    def fails(said, **more):
        with pytest.raises(LimakitError, match=f"(?s){said}"):
            generate(workspace, recipe, **{"model": None, "name": None} | more)
        assert not workspace.responses.exists() or not [name for name in files(workspace) if not name.startswith(".")]

    fails("runs/lima/final: no trained checkpoint.*limakit train")
    fails("no such folder", model="./nowhere")
    save_chat(workspace.runs / "lima/final")
    fails("cannot be a file name", name="../x\n")
    prompts = read_jsonl(workspace.data / "test.jsonl", Prompt)
    long = Prompt(id="too-long", source="t", turns=(Turn(role="user", text="How do I? " * 60),))
    write_jsonl(workspace.data / "test.jsonl", [*prompts, long, long.model_copy(update={"id": "too-long-2"})])
    fails(r"test\.jsonl: prompt 'too-long' has \d+ tokens, and the model's context holds 128.*and 1 more")
    write_jsonl(workspace.data / "test.jsonl", [*prompts, prompts[0]])
    fails("the first 'p0'")
    (workspace.data / "test.jsonl").write_bytes(b"")
    fails("no prompts in it")
    (workspace.data / "test.jsonl").unlink()
    fails("run limakit curate")
    write_jsonl(workspace.data / "test.jsonl", prompts)
    weights = workspace.runs / "lima/final/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    fails("cannot load the model")


def test_a_full_context_is_said(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=3, max_tokens=500, samples=1)
    save_chat(workspace.runs / "lima/final", likes_eot=0.0)
    [path, _] = generate(workspace, recipe, model=None, name=None)
    ends = {r.finish for r in read_jsonl(path, Response)}
    assert ends <= {"context", "eot"}
    assert "context" in ends


def test_interrupted_goes_on_without_losing_or_repeating(tmp_path, monkeypatch):
    """Stopped after five responses, the last line cut: the next run makes what is missing and the bytes are those of an unbroken run."""
    whole, recipe = make(tmp_path / "whole")
    generate(whole, recipe, model=None, name=None)
    broken, _ = make(tmp_path / "broken")
    decode = room.decode

    def stops(*args, **more):
        for n, row in enumerate(decode(*args, **more)):
            if n == 5:
                raise KeyboardInterrupt
            yield row

    monkeypatch.setattr(room, "decode", stops)
    with pytest.raises(KeyboardInterrupt):
        generate(broken, recipe, model=None, name=None)
    assert set(files(broken)) == set()
    resume = kept(broken)
    resume.write_bytes(resume.read_bytes()[:-20])
    asked = []
    monkeypatch.setattr(room, "decode", lambda model, rows, **more: (asked.extend(rows), decode(model, rows, **more))[1])
    generate(broken, recipe, model=None, name=None)
    assert len(asked) == 16 - 4
    assert files(broken) == files(whole)


def test_kept_responses_of_other_settings_are_not_taken(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=3)
    kept(workspace).parent.mkdir(parents=True)
    row = Response(prompt_id="p0", model="lima", text="old", finish="eot", tokens=2)
    kept(workspace).write_bytes(b'{"settings": {}}\n' + row.model_dump_json().encode() + b"\n")
    [path, _] = generate(workspace, recipe, model=None, name=None)
    assert read_jsonl(path, Response)[0].text != "old"


def test_kill_minus_9(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=16, max_tokens=80, batch=4)
    command = [sys.executable, "-m", "limakit.cli", "generate"]
    process = subprocess.Popen(command, cwd=workspace.root, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    resume = kept(workspace)
    deadline = time.monotonic() + 60
    while not (resume.exists() and resume.read_bytes().count(b"\n") > 3) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert set(files(workspace)) == set()
    there = set(resume.read_bytes().split(b"\n")[1:-1])
    assert 3 <= len(there) < 32
    generate(workspace, recipe, model=None, name=None)
    resumed = files(workspace)
    assert set(resumed) == {"lima.jsonl", "lima.manifest.json"}
    assert there <= set(resumed["lima.jsonl"].split(b"\n"))
    for path in workspace.responses.glob("lima*"):
        path.unlink()
    generate(workspace, recipe, model=None, name=None)
    assert files(workspace) == resumed


def test_full_disk(tmp_path):
    """No file may grow beyond 3 kB: one message, no responses half written; with room again the same command goes on."""
    workspace, recipe = make(tmp_path / "w")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(LimakitError, match="free some space"):
            generate(workspace, recipe, model=None, name=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(files(workspace)) == set()
    generate(workspace, recipe, model=None, name=None)
    assert set(files(workspace)) == {"lima.jsonl", "lima.manifest.json"}


def test_two_names_at_a_time_and_one_name_once(tmp_path):
    """A lock for each name: while one is generated another may be, and neither sweeps what the other is writing."""
    workspace, recipe = make(tmp_path / "w", n=2, max_tokens=3)
    generate(workspace, recipe, model=None, name="first")
    with stage_lock(workspace.responses / ".generate" / "first", "generate of first"):
        writing = workspace.responses / f".partial-first.jsonl-{os.getpid()}"
        writing.write_text("in the middle")
        generate(workspace, recipe, model=None, name="second")
        assert writing.exists()
        with pytest.raises(LimakitError, match="another limakit generate of first is writing here"):
            generate(workspace, recipe, model=None, name="first")
    (workspace.responses / "first.jsonl").unlink()
    generate(workspace, recipe, model=None, name="first")
    assert set(files(workspace)) == {f"{name}.{kind}" for name in ("first", "second") for kind in ("jsonl", "manifest.json")}


def test_longrope_ends_where_its_positions_change(tmp_path, monkeypatch, capsys):
    """Beyond 48 tokens every position of a batch would turn by other factors, so a response would depend on who is beside it."""
    rope = {"rope_type": "longrope", "type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    shape = tiny.FAMILIES["llama"] | {"original_max_position_embeddings": 48, "rope_scaling": rope}
    monkeypatch.setitem(tiny.FAMILIES, "phi3", shape)
    texts = {}
    for batch in (1, 8):
        workspace, recipe = make(tmp_path / f"w{batch}", chat=False, batch=batch, max_tokens=60, samples=1)
        save_chat(workspace.runs / "lima/final", family="phi3", likes_eot=0.0)
        [path, _] = generate(workspace, recipe, model=None, name=None)
        texts[batch] = path.read_bytes()
    assert texts[1] == texts[8]
    assert {row.finish for row in read_jsonl(path, Response)} >= {"context"}
    assert "taken as 48 tokens" in capsys.readouterr().err
    chat = chat_format(AutoTokenizer.from_pretrained(workspace.runs / "lima/final"))
    prompts = {p.id: p for p in read_jsonl(workspace.data / "test.jsonl", Prompt)}
    for row in read_jsonl(path, Response):
        assert len(chat.encode_prompt(prompts[row.prompt_id].turns)) + row.tokens <= 48
    long = Prompt(id="long", source="t", turns=(Turn(role="user", text="How do I? " * 30),))
    write_jsonl(workspace.data / "test.jsonl", [long])
    with pytest.raises(LimakitError, match="the model's context holds 48"):
        generate(workspace, recipe, model=None, name=None)


def test_a_foreign_chat_model_is_asked_in_its_own_template(tmp_path, capsys):
    """It has a token of EOT's name, and roles of its own."""
    workspace, recipe = make(tmp_path / "w", n=2, max_tokens=3, samples=1)
    folder = workspace.runs / "lima/final"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<|eot|>{% endfor %}<assistant>"
    tokenizer.save_pretrained(folder)
    [path, manifest] = generate(workspace, recipe, model=None, name=None)
    assert "chat template of its own" in capsys.readouterr().err
    assert json.loads(manifest.read_bytes())["settings"]["prompting"] == "template"
    before = read_jsonl(path, Response)
    # which is another format than the plain one
    generate(workspace, recipe, model=None, name=None, prompting="plain")
    assert read_jsonl(path, Response) != before


def test_a_template_that_writes_the_date(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w", n=1, max_tokens=3, samples=1)
    folder = workspace.runs / "lima/final"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ strftime_now('%Y') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    [_, manifest] = generate(workspace, recipe, model=None, name=None)
    assert "always told 26 July 2024" in capsys.readouterr().err
    assert json.loads(manifest.read_bytes())["settings"]["date"] == "2024-07-26"


def test_prompts_that_are_no_tokens_of_the_model_are_named_before_it_is_asked(tmp_path, monkeypatch):
    """A tokenizer with more tokens than the model, and one that drops what it does not know; in a follow-up too."""
    workspace, recipe = make(tmp_path / "w", n=2, chat=False)
    tiny.save_base(workspace.root / "base", max_position_embeddings=128)
    tokenizer = AutoTokenizer.from_pretrained(workspace.root / "base")
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(workspace.root / "base")
    monkeypatch.setattr(room, "load_causal_lm", None)
    first = Prompt(id="mine", source="t", turns=(Turn(role="user", text="A <new> one?"),))
    for prompt in (first, first.model_copy(update={"turns": (Turn(role="user", text="One?"),), "follow_ups": ("<new>",)})):
        write_jsonl(workspace.data / "test.jsonl", [prompt])
        with pytest.raises(LimakitError, match=r"(?s)test\.jsonl: prompt 'mine' has the token '<new>'.*take it out"):
            generate(workspace, recipe, model="base", name=None, prompting="plain")
    monkeypatch.setattr("limakit.generate.form.Form.encode", lambda self, turns: [])
    with pytest.raises(LimakitError, match=r"(?s)prompt 'mine' has no tokens.*mend it"):
        generate(workspace, recipe, model="base", name=None, prompting="plain")


def test_a_readme_beside_the_model_changes_nothing(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w", n=2, max_tokens=3)
    generate(workspace, recipe, model=None, name=None)
    (workspace.runs / "lima/final/README.md").write_text("About it.")
    generate(workspace, recipe, model=None, name=None)
    assert "nothing it was made from has changed" in capsys.readouterr().out


def test_a_set_that_curate_was_writing_is_not_read(tmp_path):
    workspace, recipe = make(tmp_path / "w", n=2)
    (workspace.data / CURATING).touch()
    with pytest.raises(LimakitError, match="curate was interrupted"):
        generate(workspace, recipe, model=None, name=None)
