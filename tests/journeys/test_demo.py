"""`limakit demo` as a user runs it: about two minutes, so behind make test-slow."""

import json
import re
import time

import pytest

from limakit.records import Response, read_jsonl


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_demo(limakit, tmp_path):
    done = limakit("demo", "--out", "d", cwd=tmp_path, timeout=900)
    assert done.stdout.rstrip().endswith("d/report/index.html")
    page = (tmp_path / "d/report/index.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)

    # a person may go on where the simulated reviewer stopped; the set has no defects, none cut by the training either
    assert "simulated reviewer" in done.stdout
    assert limakit("review", "--list", cwd=tmp_path / "d").stdout.startswith("0 of ")
    linted = json.loads(limakit("lint", "data/train.jsonl", "data/test.jsonl", "--json", cwd=tmp_path / "d").stdout)
    assert linted["findings"] == [] and linted["not_checked"] == []

    # what is claimed of it: held-out facts are answered after tuning and not before
    right = {}
    prompts = [json.loads(row) for row in (tmp_path / "d/data/test.jsonl").read_bytes().split(b"\n") if row]
    inside = {p["id"]: p["reference"] for p in prompts if "in_distribution" in p["tags"]}
    assert len(inside) >= 50
    for name in ("base", "tuned"):
        responses = [r for r in read_jsonl(tmp_path / f"d/responses/{name}.jsonl", Response) if r.prompt_id in inside]
        right[name] = sum(all(part in r.text for part in inside[r.prompt_id].split("; ")) for r in responses) / len(inside)
    assert right["tuned"] > 0.7, right
    assert right["base"] < 0.3, right

    started = time.monotonic()
    again = limakit("demo", "--out", "d", cwd=tmp_path)
    assert time.monotonic() - started < 60, "a finished demo is quick"
    assert again.stdout.rstrip().endswith("d/report/index.html")
    assert (tmp_path / "d/report/index.html").read_text() == page
