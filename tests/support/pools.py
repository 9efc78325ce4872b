"""Pools to pick from: rows as strategies see them, and files of examples."""

from __future__ import annotations

import json

import numpy as np

from limakit.pick.rows import Rows, drawn_order
from limakit.pick.vectors import unit_vectors
from limakit.records import Example, Turn, write_jsonl

WORDS = [
    "trim", "the", "stems", "and", "stand", "them", "in", "a", "glass", "of", "water", "like", "cut", "flowers", "then", "cover", "the", "leaves",
    "loosely",
]  # fmt: skip


def unit_rows(vectors, seed=0, **columns):
    """Rows with these vectors, in the order of a draw, and that order."""
    ids = [f"row-{i}" for i in range(len(vectors))]
    order = drawn_order(ids, seed)
    units = unit_vectors(np.asarray(vectors, np.float32), ids, "test")[order]
    return Rows(tuple(ids[i] for i in order), {name: np.asarray(column, float)[order] for name, column in columns.items()}, units), order


def examples(n, dialogues=True):
    """Examples of various lengths; every fifth is a dialogue."""
    made = []
    for i in range(n):
        texts = [f"How do I keep basil {i}?", " ".join(WORDS[: 1 + i * 7 % 17]) + f" {i}."]
        if dialogues and i % 5 == 4:
            texts += ["And then?", " ".join(WORDS[: 2 + i % 3])]
        turns = tuple(Turn(role="assistant" if k % 2 else "user", text=text) for k, text in enumerate(texts))
        made.append(Example(id=f"ex-{i}", source="herbs" if i % 3 else "other", turns=turns, tags=("t",) if i == 1 else ()))
    return made


def make_pool(path, n=20, **more):
    rows = examples(n, **more)
    write_jsonl(path, rows)
    return rows


def read_account(out):
    """Rows of FILE.scores.jsonl by id."""
    return {row["id"]: row for row in map(json.loads, out.with_suffix(".scores.jsonl").read_text().splitlines())}
