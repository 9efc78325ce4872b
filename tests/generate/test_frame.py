"""The frame that all ways of getting responses share: dialogues level by level, what is kept when one is stopped, ranks that share the prompts."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from answering import change, files, kept, make, save_chat
from crowd import Crowd
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.generate.frame import Job, fill
from limakit.generate.kept import keep, kept_file, key_of, take_up
from limakit.generate.local import Row, Stream, decode
from limakit.generate.run import generate
from limakit.generate.sampling import Sampling
from limakit.model.chat import EOT, chat_format
from limakit.records import Prompt, Response, Turn, read_jsonl, write_jsonl
from limakit.workspace import Workspace, sha256_json

ENV = os.environ | {"OMP_NUM_THREADS": "1"}


def dialogues(workspace, n=6):
    """Prompts with 0, 1 and 2 follow-ups."""
    prompts = [
        Prompt(id=f"d{i}", source="t", turns=(Turn(role="user", text=f"How do I {i}?"),), follow_ups=("And then? </s>", f"So {EOT} it is?")[: i % 3])
        for i in range(n)
    ]  # fmt: skip
    write_jsonl(workspace.data / "test.jsonl", prompts)
    return prompts


def simple_job(root, prompts, samples=1):
    return Job(Workspace(root, root / "lima.toml"), "m", prompts, samples, settings={"of": "test"}, inputs={})


def say_yes(questions):
    for question in questions:
        yield Response(prompt_id=question.prompt.id, model="m", sample=question.sample, text="yes", finish="eot", tokens=1)


def test_what_other_versions_gave_is_not_taken_up(tmp_path, monkeypatch):
    """A run that was stopped and goes on by another limakit is of one, not of two."""
    job = simple_job(tmp_path, [Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text="x"),)) for i in range(3)])

    def stops(questions):
        yield next(say_yes(questions))
        raise KeyboardInterrupt

    asked = []
    for version in ("0.1", "0.2"):
        monkeypatch.setattr("limakit.workspace.__version__", version)
        with pytest.raises(KeyboardInterrupt):
            fill(job, stops)
    fill(job, lambda questions: (asked.extend(questions), say_yes(questions))[1])
    assert len(asked) == 2
    assert json.loads(job.manifest.read_bytes())["versions"]["limakit"] == "0.2"


def test_somebodys_file_is_not_written_over(tmp_path):
    """It has no manifest. What was killed between the two files is ours, and is made again."""
    job = simple_job(tmp_path, [Prompt(id="p", source="t", turns=(Turn(role="user", text="x"),))])
    job.path.parent.mkdir()
    job.path.write_text("of somebody's weeks")
    with pytest.raises(LimakitError, match=r"(?s)responses/m\.jsonl: .*not made by limakit.*--import"):
        fill(job, say_yes)
    assert job.path.read_text() == "of somebody's weeks"
    job.path.unlink()
    killed = pytest.MonkeyPatch()
    killed.setattr("limakit.generate.frame.write_jsonl", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fill(job, say_yes)
    killed.undo()
    assert not job.path.exists()
    fill(job, say_yes)
    assert [r.text for r in read_jsonl(job.path, Response)] == ["yes"]


def test_a_dialogue_is_what_its_turns_are_alone(tmp_path):
    """Each response is the one to the prompt as it stands then, with the model's own earlier responses, empty and cut ones too."""
    workspace, recipe = make(tmp_path / "w", max_tokens=9)
    prompts = dialogues(workspace)
    [path, _] = generate(workspace, recipe, model=None, name=None)
    responses = read_jsonl(path, Response)
    assert [key_of(r) for r in responses] == [(p.id, s, t) for p in prompts for s in (0, 1) for t in range(1 + len(p.follow_ups))]
    by_key = {key_of(response): response for response in responses}
    folder = workspace.runs / "lima/final"
    chat, model = chat_format(AutoTokenizer.from_pretrained(folder)), AutoModelForCausalLM.from_pretrained(folder)
    for prompt in prompts:
        for sample in (0, 1):
            history = []
            for turn in range(1 + len(prompt.follow_ups)):
                row = Row(prompt.id, sample, chat.encode_prompt(prompt.at(history).turns), 100, turn=turn)
                stops = frozenset({chat.eot_id, chat.tokenizer.eos_token_id})
                [row] = decode(
                    model, [row], stop_ids=stops, max_tokens=9, batch=1, sampling=Sampling(0.7, 0.9, 1.2), stream=Stream(7, "lima")
                )  # fmt: skip
                found = by_key[prompt.id, sample, turn]
                text = chat.decode(row.generated[:-1] if row.generated[-1] in stops else row.generated)
                assert (found.text, found.finish, found.tokens) == (text, row.finish, len(row.generated))
                history.append(found.text)
    assert {"eot", "length"} <= {response.finish for response in responses}
    assert any(a.text != b.text for a in responses for b in responses if a.prompt_id == b.prompt_id and a.sample == b.sample)


def test_a_dialogue_that_has_filled_the_context_says_so(tmp_path, capsys):
    workspace, recipe = make(tmp_path / "w", max_tokens=100, samples=1)
    save_chat(workspace.runs / "lima/final", likes_eot=0.0)
    dialogues(workspace, n=3)
    [path, _] = generate(workspace, recipe, model=None, name=None)
    last = [response for response in read_jsonl(path, Response) if response.prompt_id == "d2"]
    assert [r.turn for r in last] == [0, 1, 2]
    assert (last[-1].text, last[-1].tokens, last[-1].finish) == ("", 0, "context")
    assert "filled the model's context" in capsys.readouterr().out


@pytest.mark.parametrize("prompting", ["plain", "urial"])
def test_dialogues_with_a_base_model(tmp_path, prompting):
    """Without a chat format too; the markers end a response and are no text of it, and a resumed run has the same bytes."""
    workspace, recipe = make(tmp_path / "w", max_tokens=6, samples=1)
    save_chat(workspace.runs / "lima/final", likes_eot=0.0)
    folder = workspace.runs / "lima/final"
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    dialogues(workspace, n=2)
    paths = generate(workspace, recipe, model=None, name=None, prompting=prompting)
    responses = read_jsonl(paths[0], Response)
    assert [r.turn for r in responses] == [0, 0, 1]
    made_from = json.loads(paths[1].read_bytes())["settings"]
    assert made_from["prompting"] == prompting and ("examples_sha256" in made_from) == (prompting == "urial")
    before = files(workspace)
    for path in paths:
        path.unlink()
    generate(workspace, change(recipe, batch=1, prompting=prompting), model=None, name=None)
    assert files(workspace) == before


def test_urial_stops_at_the_models_own_next_query(tmp_path, monkeypatch):
    """A model that closes its fence and goes on with a query of its own is stopped there."""
    from limakit.generate import here

    workspace, recipe = make(tmp_path / "w", n=2, max_tokens=60, samples=1)
    tokenizer = AutoTokenizer.from_pretrained(workspace.runs / "lima/final")
    says = tokenizer("Trim the stems.\n````\n\n# Query:\n````\nWhat else?", add_special_tokens=False)["input_ids"]

    def speaks(model, rows, *, ends, max_tokens, **more):
        for row in rows:
            while row.finish is None:
                row.generated.append(says[len(row.generated)])
                row.finish = "eot" if ends(row.generated) else "length" if len(row.generated) == max_tokens else None
            yield row

    monkeypatch.setattr(here, "decode", speaks)
    monkeypatch.setattr(here, "context_length", lambda config: None)
    [path, _] = generate(workspace, recipe, model=None, name=None, prompting="urial")
    for response in read_jsonl(path, Response):
        assert response.text == "Trim the stems." and response.finish == "eot" and response.tokens < len(says)


def test_killed_at_a_random_moment_of_a_dialogue(tmp_path):
    workspace, recipe = make(tmp_path / "w", max_tokens=40, batch=4)
    wanted = sum(2 * (1 + len(prompt.follow_ups)) for prompt in dialogues(workspace, n=12))
    command = [sys.executable, "-m", "limakit.cli", "generate"]
    moment = random.Random(os.getpid()).randint(2, wanted - 2)  # every level has its turn, over time
    process = subprocess.Popen(command, cwd=workspace.root, env=ENV, stdout=subprocess.DEVNULL)
    resume, deadline = kept(workspace), time.monotonic() + 60
    while not (resume.exists() and resume.read_bytes().count(b"\n") > moment) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = set(resume.read_bytes().split(b"\n")[1:-1]) if resume.exists() else set()
    generate(workspace, recipe, model=None, name=None)
    resumed = files(workspace)
    assert set(resumed) == {"lima.jsonl", "lima.manifest.json"} and not list(resume.parent.glob("*.jsonl"))
    assert there <= set(resumed["lima.jsonl"].split(b"\n"))
    for path in workspace.responses.glob("lima*"):
        path.unlink()
    generate(workspace, recipe, model=None, name=None)
    assert files(workspace) == resumed


def test_two_ranks_share_the_prompts_and_write_the_bytes_of_one(tmp_path):
    workspace, recipe = make(tmp_path / "w", max_tokens=12)
    dialogues(workspace)
    paths = generate(workspace, recipe, model=None, name=None)
    alone = files(workspace)
    for path in paths:
        path.unlink()
    # what was kept by one process and by another rank is taken up by two
    rows = read_lines(alone["lima.jsonl"])
    header = {key: json.loads(alone["lima.manifest.json"])[key] for key in ("settings", "inputs", "versions")}
    start = json.dumps(header, sort_keys=True).encode() + b"\n"
    for rank, row in enumerate(rows[:2]):
        kept_file(kept(workspace).parent, rank).write_bytes(start + row + b"\n" + rows[3][:40])
    crowd = Crowd(tmp_path / "ranks", 2, "generate_responses", str(workspace.recipe_path))
    assert crowd.answers() == [["lima.jsonl", "lima.manifest.json"], []]
    assert files(workspace) == alone
    assert not list(kept(workspace).parent.glob("*.jsonl"))
    assert "24 responses" in crowd.said(0) and "responses" not in crowd.said(1)


def test_a_rank_that_fails_ends_all_with_its_error_and_what_was_made_is_kept(tmp_path):
    workspace, recipe = make(tmp_path / "w", max_tokens=12)
    crowd = Crowd(tmp_path / "ranks", 2, "generate_responses", str(workspace.recipe_path), 1)
    assert crowd.wait(60) == [1, 1]
    assert "rank 1 of 2" in crowd.said(1) and "the GPU's memory" in crowd.said(1) and "Traceback" not in crowd.said(0) + crowd.said(1)
    assert not files(workspace)
    assert all(kept_file(kept(workspace).parent, rank).read_bytes().count(b"\n") > 1 for rank in (0, 1))
    paths = generate(workspace, recipe, model=None, name=None)  # takes up what both kept
    resumed = files(workspace)
    for path in paths:
        path.unlink()
    generate(workspace, recipe, model=None, name=None)
    assert files(workspace) == resumed


def read_lines(data):
    return data.split(b"\n")[:-1]


def test_whoever_answers_what_it_gave_before_it_failed_is_kept(tmp_path):
    """As an endpoint does that has no answer to some: the others stay, and the same command asks those alone."""
    prompts = [Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text="x"),), follow_ups=("y",)) for i in range(4)]
    job = simple_job(tmp_path, prompts, samples=2)
    asked = []

    def answer(questions, lost=()):
        asked.append([(q.prompt.id, q.sample, q.turn) for q in questions])
        for question in reversed(questions):
            if question.prompt.id not in lost:
                text = "|".join(turn.text for turn in question.prompt.turns)
                yield Response(prompt_id=question.prompt.id, model="m", sample=question.sample, text=text, finish="eot", tokens=None)
        if lost:
            raise LimakitError("no answer to some", where="m")

    with pytest.raises(LimakitError, match="no answer to some"):
        fill(job, lambda questions: answer(questions, lost=("p1", "p2")))
    assert not job.path.exists()
    [path, _] = fill(job, answer)
    assert asked[1] == [("p1", 0, 0), ("p1", 1, 0), ("p2", 0, 0), ("p2", 1, 0)]
    assert [(r.turn, r.text) for r in read_jsonl(path, Response)] == [(0, "x"), (1, "x|x|y")] * 8
    fill(job, answer)
    assert len(asked) == 3


def test_stopped_after_any_number_of_responses_it_ends_with_the_same_bytes(tmp_path):
    """At every place of every level: what comes next is asked with the history as it was, and nothing twice."""
    prompts = [
        Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text=f"q{i}"),), follow_ups=("more", "again")[: 2 - i]) for i in range(3)
    ]  # fmt: skip

    def answer(questions, most=99):
        for question in questions:
            if most == 0:
                raise KeyboardInterrupt
            most -= 1
            said = [turn.text for turn in question.prompt.turns]
            text = "" if question.sample else sha256_json([said, question.turn])[:8]  # an empty one stands in the history too
            yield Response(prompt_id=question.prompt.id, model="m", sample=question.sample, text=text, finish="eot", tokens=1)

    whole = simple_job(tmp_path / "whole", prompts, samples=2)
    fill(whole, answer)
    for most in range(6):
        job, runs = simple_job(tmp_path / f"{most}", prompts, samples=2), 0
        while not job.manifest.exists():
            runs += 1
            with suppress(KeyboardInterrupt):
                fill(job, lambda questions, most=most, runs=runs: answer(questions, most + (runs > 1)))
        assert job.path.read_bytes() == whole.path.read_bytes() and runs > 1


ANY = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(["\u2028\r\n\x00", "{}", "x" * 10_000])


@settings(deadline=None, max_examples=30)
@given(st.lists(ANY, min_size=1, max_size=5), st.integers(0, 400))
def test_a_torn_file_gives_back_whole_rows_alone(tmp_path_factory, texts, cut):
    folder = tmp_path_factory.mktemp("kept")
    assert take_up(folder, {"a": 1}) == []
    rows = [Response(prompt_id=f"p{i}", model="m", text=text, finish="eot", tokens=1) for i, text in enumerate(texts)]
    for row in rows:
        keep(kept_file(folder), row)
    whole = kept_file(folder).read_bytes()
    kept_file(folder).write_bytes(whole[: max(0, len(whole) - cut)])
    found = take_up(folder, {"a": 1})
    assert found == rows[: len(found)]
    assert take_up(folder, {"a": 1}) == found and take_up(folder, {"a": 2}) == []


def test_awkward_prompts_and_responses_pass_through(tmp_path):
    """Braces, markup, U+2028, a lone carriage return, control characters, 100,000 characters: in the prompts file, the history and the responses."""
    awkward = [
        "{a} {{ b }} {% c %}",
        "<b>&lt; [red]",
        "\u2028\u2029\x85",
        "a\rb",
        "\x00\x1b[31m\x07",
        f"{EOT}</s>",
        "y" * 100_000,
        "\ufeff",
        " ",
    ]
    prompts = [
        Prompt(id=f"p{i}", source="t", turns=(Turn(role="user", text=t + "x"),), follow_ups=(t + "z",)) for i, t in enumerate(awkward)
    ]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)
    job = simple_job(tmp_path, read_jsonl(tmp_path / "prompts.jsonl", Prompt))

    def echo(questions):
        for question in questions:
            text = question.prompt.text[:-1]
            yield Response(prompt_id=question.prompt.id, model="m", sample=0, text=text, finish="eot", tokens=None)
            assert question.turn == 0 or question.prompt.turns[1].text == text

    [path, _] = fill(job, echo)
    assert [r.text for r in read_jsonl(path, Response)] == [text for text in awkward for _ in range(2)]
