"""The whole way on real input: four real communities, a real pretrained model, a real HTTP judge, one command after another."""

import json
import re
from pathlib import Path

import pytest
from endpoint import Endpoint

from limakit.records import Example, Grade, Judgment, Prompt, Provenance, Response, read_jsonl

# The real model has 260k parameters, 512 tokens and a context of 512, so the quotas are relaxed to what it can read: short answers, low scores.
RECIPE = """\
name = "tiny"
seed = 7

[model]
base = "{shared}/stories260K/hf"

[[sources]]
kind = "stackexchange"
path = "{shared}/stackexchange"
take = 96
temperature = 3.0
min_answer_score = 2
answer_chars = [60, 400]
prompt = "title"

[[sources]]
kind = "authored"
path = "authored/test.jsonl"
split = "test"

[train]
epochs = 12
lr = [5e-3, 5e-4]
max_tokens = 384
residual_dropout = 0.1
device = "cpu"

[generate]
max_tokens = 256
device = "cpu"

[judge]
model = "longer"
base_url = "{url}"
api_key_env = "JOURNEY_KEY"
against = ["base"]
retries = 1
"""

QUESTIONS = """\
How long does beer keep in the fridge?
What is the best way to store coffee beans?
Why does my bike chain squeak?
Can I clean a moka pot with soap?
Which beer goes well with fish?
How do I make a new language sound natural?
What is cold brew?
Should a question about tools be on topic?
How many tags may a question have?
Why is there sediment in my bottle?
Is it safe to drink old beer?
How fine should I grind for a French press?
What does IBU mean?
How do I fix a flat tire?
Does light roast have more caffeine?
May I ask about my own language?
How should a glass be cleaned?
When was beer first brewed?
What is crema?
How do I lock my bike?
"""


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.mark.timeout(400)
def test_from_dumps_to_a_judged_response(shared, tmp_path, limakit):
    with Endpoint() as endpoint:
        (tmp_path / "lima.toml").write_text(RECIPE.format(shared=shared, url=endpoint.url))
        (tmp_path / "authored").mkdir()
        prompts = [{"id": f"t{i:02}", "prompt": q} for i, q in enumerate(QUESTIONS.splitlines())]
        (tmp_path / "authored" / "test.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))

        first = limakit("curate", cwd=tmp_path)
        assert "until somebody has reviewed candidates: limakit review" in first.stderr
        waiting = json.loads(limakit("review", "--list", "--json", cwd=tmp_path).stdout)["candidates"]
        assert waiting and all(item["why"] == "title_unclear" and item["detail"] for item in waiting)
        asked = [part for item in waiting for part in ("--accept", item["id"])]
        limakit("review", *asked, cwd=tmp_path)
        limakit("curate", cwd=tmp_path)
        found = json.loads(limakit("lint", "data/train.jsonl", "data/test.jsonl", "--json", cwd=tmp_path, check=False).stdout)
        assert {f["rule"] for f in found["findings"] if f["level"] == "error"} <= {"eot_lost"}, found["findings"]
        examples = read_jsonl(tmp_path / "data/train.jsonl", Example)
        assert len(examples) == 96
        assert all(60 <= len(e.response) <= 400 for e in examples)
        origin = {p.id: p for p in read_jsonl(tmp_path / "data/provenance.jsonl", Provenance)}
        for example in examples:
            p = origin[example.id]
            assert p.url.startswith("https://"), p
            assert p.authors, p
            assert p.licence.startswith("CC BY-SA"), p
        assert len({origin[e.id].site for e in examples}) == 4
        assert len(read_jsonl(tmp_path / "data/test.jsonl", Prompt)) == 20

        assert "96" in limakit("stats", "data/train.jsonl", cwd=tmp_path).stdout
        assert "36" in limakit("plan", cwd=tmp_path).stdout  # 12 epochs of 3 steps
        assert not (tmp_path / "runs").exists()

        limakit("train", cwd=tmp_path)
        log = rows(tmp_path / "runs/tiny/log.jsonl")
        assert [row["step"] for row in log] == list(range(1, 37))
        assert all(row["examples"] == 32 for row in log)
        assert sum(row["loss"] for row in log[-3:]) < 0.8 * sum(row["loss"] for row in log[:3])
        assert sorted(p.name for p in (tmp_path / "runs/tiny/epochs").iterdir()) == [f"{e:02}" for e in range(1, 13)]

        limakit("generate", cwd=tmp_path)
        limakit("generate", "--model", shared / "stories260K/hf", "--name", "base", cwd=tmp_path)
        ours, base = (read_jsonl(tmp_path / f"responses/{name}.jsonl", Response) for name in ("tiny", "base"))
        assert [r.prompt_id for r in ours] == [r.prompt_id for r in base] == [f"t{i:02}" for i in range(20)]
        stopped = sum(r.finish == "eot" for r in ours)
        assert stopped >= 10, f"{stopped} of 20 responses stop by themselves"

        limakit("judge", cwd=tmp_path, env={"JOURNEY_KEY": "sk-secret-of-the-journey"})
        judgments = [j for path in (tmp_path / "judgments").glob("*.jsonl") for j in read_jsonl(path, Judgment)]
        grades = [g for path in (tmp_path / "grades").glob("*.jsonl") for g in read_jsonl(path, Grade)]
        assert len(judgments) == 40
        assert {j.first for j in judgments} == {"a", "b"}
        assert len(grades) == 40
        # the judge is known: the longer response wins in either order
        text = {(r.model, r.prompt_id): r.text for r in [*ours, *base]}
        for j in judgments:
            if j.status == "ok":
                a, b = len(text[j.a, j.prompt_id].strip()), len(text[j.b, j.prompt_id].strip())
                assert j.verdict == ("tie" if a == b else "a" if a > b else "b"), (j, a, b)
        asked = len(endpoint.requests)

    for command in (["judge"], ["compare"], ["report"]):  # the endpoint is down now: what is judged is not asked again
        limakit(*command, cwd=tmp_path)
    assert asked == len(endpoint.requests)

    table = json.loads(limakit("compare", "--json", cwd=tmp_path).stdout)
    assert "tiny" in json.dumps(table)
    page = (tmp_path / "report/index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#|data:)', page), "the page loads nothing"
    assert "table 1" in page.lower()
    assert "Alpaca 65B" in page
    numbers = json.loads((tmp_path / "report/numbers.json").read_text())
    assert numbers

    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-secret" not in path.read_bytes(), f"the key stands in {path}"

    limakit("export", "assistant", cwd=tmp_path)
    chat_with_plain_transformers(tmp_path / "assistant")


def chat_with_plain_transformers(folder: Path) -> None:
    """Nothing of limakit here: what any user of the export would write."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    stop = model.generation_config.eos_token_id
    assert eot in (stop if isinstance(stop, list) else [stop])
    stopped = 0
    for seed, question in enumerate(QUESTIONS.splitlines()[:6]):
        inputs = tokenizer.apply_chat_template([{"role": "user", "content": question}], return_tensors="pt", return_dict=True)
        assert inputs["input_ids"][0, -1] == eot
        torch.manual_seed(seed)
        out = model.generate(**inputs, max_new_tokens=256)[0, inputs["input_ids"].shape[1] :].tolist()
        assert eot not in out[:-1], "it goes on after EOT"
        stopped += out[-1] == eot
    assert stopped >= 3, f"{stopped} of 6 stop at EOT"
