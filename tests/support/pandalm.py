"""PandaLM's verdicts (../shared/data/pandalm) as rows of ours: three people, and two models, on 999 pairs of responses to 170 prompts."""

from __future__ import annotations

import json
from pathlib import Path

from limakit.records import Asked, Judgment

_SAID = {1: "a", 2: "b", 0: "tie", "1": "a", "2": "b", "0": "tie", "Tie": "tie"}


def judgments(folder: Path) -> dict[str, list[Judgment]]:
    """By file name. What is no verdict ("garbage") is invalid and keeps its words."""
    asked = json.loads((folder / "testset-v1.json").read_text())
    prompts: dict[tuple[str, str], str] = {}
    place = {}
    for row in asked:
        prompt = prompts.setdefault((row["instruction"], row["input"]), f"p{len(prompts):03}")
        a, b = row["cmp_key"].split("_")
        place[row["idx"]] = {"prompt_id": prompt, "a": a, "b": b, "rubric": "pairwise"}
    files = {
        "people": [_row(place[row["idx"]], f"people/annotator{n}", row[f"annotator{n}"], "person") for row in asked for n in (1, 2, 3)]
    }
    for judge, file, key in (("gpt-3.5-turbo", "gpt-3.5-turbo", "gpt_result"), ("pandalm/7b", "pandalm-7b", "pandalm_result")):
        rows = json.loads((folder / f"{file}-testset-v1.json").read_text())
        files[file] = [_row(place[row["idx"]], judge, row[key], "endpoint") for row in rows]
    return files


def _row(about, judge, said, kind) -> Judgment:
    verdict = _SAID.get(said)
    status, problem = ("ok", None) if verdict else ("invalid", "not a verdict")
    who = Asked(kind=kind, model=judge)
    return Judgment(**about, judge=judge, status=status, verdict=verdict, problem=problem, raw="" if verdict else str(said), asked=who)
