"""A set in the published format as candidates, dialogues whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from ..errors import LimakitError, UsageError
from ..progress import warn
from ..recipe_sources import ANSWERED, LimaSource
from ..records import Author, Provenance, Turn, jsonl_lines
from ..sources.lima import LimaRow, parse_lima
from .candidate import Candidate, Text
from .engine import Work
from .pool import batch_of

BATCH = 1_000


def inputs(source: LimaSource, path: Path) -> dict[str, Path]:
    """The file. Raises UsageError where it is missing or no file."""
    try:
        next(jsonl_lines(path), None)
    except LimakitError as error:
        raise UsageError(error.what, where=error.where, remedy=error.remedy) from None
    return {source.path: path}


def offer(source: LimaSource, path: Path, work: Work) -> Iterator[pa.RecordBatch]:
    """Every row, in their order; one that cannot be read is "malformed", and a note tells of them.

    For training or held out a row must end with a response. As dev or test prompts a last response becomes the reference, which only judges see.
    Raises LimakitError where not a single row can be read: then it is another format.
    """
    faults: list[LimakitError] = []
    held: list[Candidate] = []
    rows = 0
    for number, line in jsonl_lines(path):
        rows += 1
        try:
            held.append(_candidate(source, number, *parse_lima(line, path, number)))
        except LimakitError as error:
            faults.append(error)
            held.append(Candidate(f"{source.name}@row{number}").drop("malformed", f"{path.name}, row {number}: {error.what}"))
        if len(held) == BATCH:
            yield batch_of(held)
            held = []
    if faults and len(faults) == rows:
        raise faults[0]
    if faults:
        warn(f"left out, since they cannot be read: {len(faults)} of {rows} rows; the first: {faults[0].where}: {faults[0].what}")
    yield batch_of(held)


def _candidate(source: LimaSource, number: int, row: LimaRow, turns: tuple[Turn, ...]) -> Candidate:
    id = f"{source.name}-{number}" if source.split == "train" else f"{source.name}-{source.split}-{number}"
    name = row.source or source.name  # so that what is written in the published format again is what it was
    response = turns[-1].text if turns[-1].role == "assistant" else None
    bare = Candidate(id, url=source.url, response_chars=None if response is None else len(response))
    if source.split in ANSWERED and response is None:
        return bare.drop("no_answer")
    reference = None
    if source.split not in ANSWERED and response is not None:
        turns, reference = turns[:-1], response
    provenance = Provenance(id=id, source=name, url=source.url, authors=(Author(name=source.author),), licence=source.licence)
    return replace(bare, text=Text(source=name, turns=turns, reference=reference, provenance=provenance))
