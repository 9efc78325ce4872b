"""What a strategy goes by: lengths, losses, embeddings, a judge's ratings or the user's scores of every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..model.fingerprint import fingerprint
from ..recipe import JudgeSpec
from ..records import Example
from .options import USES, Options
from .rows import Floats, Rows


@dataclass(frozen=True)
class Basis:
    """`rows` as strategies see them; `note` is what a user should know of them, `unrated` how many lack a rating, `unanswered` those of them to which
    no answer came; `answers` what was said of the others, by place, that could not be scored."""

    rows: Rows
    note: str = ""
    unrated: int = 0
    unanswered: int = 0
    answers: Mapping[int, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """Who rates, by which rubrics (column name -> rubric), and the ledger of what that costs."""

    spec: JudgeSpec
    rubrics: Mapping[str, Any]
    spent: Path


def measure_rows(by: str, examples: Sequence[Example], order: Sequence[int], options: Options, judge: Judge | None, kept: Path) -> Basis:
    """What `by` goes by, of the pool's `examples` in another `order` (places in the pool). `kept` is the folder for what takes long."""
    ids = tuple(examples[i].id for i in order)
    drawn = [examples[i] for i in order]
    if by == "longest":
        note = "" if options.tokenizer else "lengths are in characters; --tokenizer NAME counts tokens, as the paper does"
        return Basis(Rows(ids, {"length": _lengths(drawn, options.tokenizer)}), note)
    if by == "ifd":
        from .small import load_small, response_losses

        assert options.model is not None
        small = load_small(options.model, model_files(options.model), options.device or "auto", kept)  # type: ignore[arg-type]
        columns, absent = response_losses(small, drawn)
        cut = int((columns["tokens_cut"] > 0).sum())
        return Basis(Rows(ids, columns, absent=absent), f"{cut} responses were read as far as the model's context goes" if cut else "")
    vectors = _vectors(examples, order, options, kept) if "embeddings" in USES[by] else None
    if judge is not None:
        from .ratings import rate

        rated = rate(drawn, dict(judge.rubrics), judge.spec, kept, judge.spent)
        return _rated(Rows(ids, rated.columns, vectors, rated.absent), rated.answers)
    if options.scores is not None:
        from .given import read_scores

        columns, absent = read_scores(options.scores, ids, ("complexity", "quality") if by == "deita" else ("score",))
        return Basis(Rows(ids, columns, vectors, absent))
    return Basis(Rows(ids, vectors=vectors))


def model_files(name: str) -> dict[str, str]:
    """The hashes of a model's or tokenizer's files, or a hub id's commit."""
    from ..model.load import find_folder, load_config, locate

    folder = locate(name)
    return fingerprint(folder, None if find_folder(name) else load_config(name))


def _rated(rows: Rows, answers: Mapping[int, Sequence[str]]) -> Basis:
    from .ratings import INVALID, UNANSWERED

    found = Counter(rows.absent.values())
    note = ""
    if rows.absent:
        note = f"{len(rows.absent)} of {len(rows)} rows have no rating and cannot be picked: {found[INVALID]} answers could not be scored"
        note += f", to {found[UNANSWERED]} questions no answer came" if found[UNANSWERED] else ""
        note += "; the same command asks about them again"
    return Basis(rows, note, len(rows.absent), found[UNANSWERED], answers)


def _lengths(examples: Sequence[Example], tokenizer: str | None) -> Floats:
    """Of all the assistant's turns: tokens, or characters without a tokenizer (words mean little in languages that do not space them)."""
    texts = [[turn.text for turn in example.turns if turn.role == "assistant"] for example in examples]
    if tokenizer is None:
        return np.array([float(sum(map(len, turns))) for turns in texts])
    from ..model.load import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    cut = (loaded(turns, add_special_tokens=False, split_special_tokens=True)["input_ids"] for turns in texts)
    return np.array([float(sum(map(len, turns))) for turns in cut])


def _vectors(examples: Sequence[Example], order: Sequence[int], options: Options, kept: Path) -> Floats:
    """Unit embeddings in `order`. [n, d] float32"""
    from .vectors import read_vectors, unit_vectors

    if options.embeddings is not None:
        return read_vectors(options.embeddings, [example.id for example in examples])[list(order)]
    from .small import embeddings, load_small

    assert options.embed_model is not None
    small = load_small(options.embed_model, model_files(options.embed_model), options.device or "auto", kept)  # type: ignore[arg-type]
    drawn = [examples[i] for i in order]
    return unit_vectors(embeddings(small, drawn), [example.id for example in drawn], options.embed_model)
