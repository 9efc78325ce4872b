"""The options of strategies, and which of them each looks at."""

from __future__ import annotations

import difflib
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError

# which options a strategy looks at; another one given is an error, never ignored
USES: dict[str, tuple[str, ...]] = {
    "random": (),
    "longest": ("tokenizer",),
    "ifd": ("model", "device", "keep_above_1"),
    "k_center": ("embeddings", "embed_model", "device"),
    "facility_location": ("embeddings", "embed_model", "device"),
    "rating": ("rubric", "at_least"),
    "deita": ("scores", "embeddings", "embed_model", "device", "max_similarity"),
    "score": ("scores", "at_least"),
}


@dataclass(frozen=True)
class Options:
    """What a strategy needs besides pool, number and seed; None or False where it is not given.

    `model`: a small causal LM for ifd. `embed_model`: one whose mean last hidden states are the embeddings; `embeddings`: a file of them instead.
    `scores`: a file of scores. `rubric`: ours or a path, for rating. `at_least`: the lowest score that is picked. `max_similarity`: deita's
    threshold. `keep_above_1`: pick also rows with an IFD of 1 and more.
    """

    model: str | None = None
    embed_model: str | None = None
    embeddings: Path | None = None
    scores: Path | None = None
    tokenizer: str | None = None
    rubric: str | None = None
    at_least: float | None = None
    max_similarity: float | None = None
    keep_above_1: bool = False
    device: str | None = None

    @property
    def runs(self) -> str | None:
        """The model that is run, if one is."""
        return self.model or self.embed_model

    @property
    def similarity(self) -> float:
        return 0.9 if self.max_similarity is None else self.max_similarity  # the paper's


def check_options(by: str, take: int, options: Options) -> None:
    """Raise UsageError for a strategy that is none, an option it lacks or does not look at, and a value out of range."""
    if by not in USES:
        near = difflib.get_close_matches(by, USES, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(USES)}"
        raise UsageError(f"no strategy is called {by!r}", where="--by", remedy=remedy)
    if take < 1:
        raise UsageError(f"{take} rows cannot be picked", where="--take", remedy="take at least 1")
    given = {name for name, value in asdict(options).items() if value is not None and value is not False}
    for name in sorted(given - set(USES[by])):
        users = ", ".join(strategy for strategy, uses in USES.items() if name in uses)
        raise UsageError(f"--by {by} does not look at it", where=_flag(name), remedy=f"leave it out; it is for {users}")
    if "embeddings" in USES[by] and len(given & {"embeddings", "embed_model"}) != 1:
        both = "embeddings" in given
        remedy = "give one of them" if both else "--embeddings FILE, or --embed-model DIR to make them with a small model"
        raise UsageError(f"--by {by} needs {'one' if both else 'embeddings'}", where="--embeddings, --embed-model", remedy=remedy)
    for strategy, name, what in (
        ("ifd", "model", "a small causal LM, a folder or a hub id"),
        ("score", "scores", "a file with id and score"),
    ):
        if by == strategy and name not in given:
            raise UsageError(f"--by {by} needs it", where=_flag(name), remedy=f"name {what}")
    if options.device is not None:
        if options.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"{options.device!r} is no device", where="--device", remedy="choose auto, cpu or cuda")
        if not given & {"model", "embed_model"}:
            raise UsageError("no model is run", where="--device", remedy="leave it out; it goes with --embed-model")
    for name, low, high in (("at_least", -math.inf, math.inf), ("max_similarity", -1.0, 1.0)):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise UsageError(f"{value} is out of range", where=_flag(name), remedy="give a number" + (" from -1 to 1" if high == 1 else ""))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
