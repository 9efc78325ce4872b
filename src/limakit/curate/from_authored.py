"""What people wrote by hand as candidates (paper, section 2.2).

The paper's group A writes training and dev prompts and group B writes test prompts, so that nobody is examined on their own way of asking.
An item whose group and split go against that stops the run, unless the recipe's source names that group itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from ..errors import LimakitError, UsageError
from ..recipe_sources import AuthoredSource
from ..records import Author, Provenance
from ..sources.authored import Authored, authored_files, read_authored
from .candidate import Candidate, Text
from .engine import Work
from .pool import batch_of


def inputs(source: AuthoredSource, path: Path) -> dict[str, Path]:
    """The JSONL file, or the Markdown files of the folder, by name as manifests write it. Raises UsageError where there is none."""
    files, _ = authored_files(path)
    if files == [path]:
        return {source.path: path}
    if not files:
        remedy = "write one *.md an example (## Prompt, ## Response), or name a JSONL file"
        raise UsageError("no Markdown files here", where=path, remedy=remedy)
    return {f"{source.path.rstrip('/')}/{file.relative_to(path).as_posix()}": file for file in files}


def offer(source: AuthoredSource, path: Path, work: Work) -> Iterator[pa.RecordBatch]:
    """Every row or file, in their order. An item marked for another split or group is dropped ("other_split", "other_group").

    Raises LimakitError naming the first item that is wrong, whose id is taken, or whose group must not get into this split.
    """
    prefix = source.name if source.split == "train" else f"{source.name}-{source.split}"
    taken: dict[str, str] = {}
    found: list[Candidate] = []
    for item in read_authored(path, split=source.split):
        id = item.id if item.id is not None else f"{prefix}-{item.part}"
        if id in taken:
            raise LimakitError(f"the id {id!r} is taken by {taken[id]}", where=item.where, remedy="give each its own id, or none")
        taken[id] = item.where
        found.append(_candidate(source, id, item))
    yield batch_of(found)


def _candidate(source: AuthoredSource, id: str, item: Authored) -> Candidate:
    response = item.turns[-1].text if item.turns[-1].role == "assistant" else None
    bare = Candidate(id, url=source.url, response_chars=None if response is None else len(response))
    if item.split not in (None, source.split):
        return bare.drop("other_split", str(item.split))
    if source.group is not None and item.group not in (None, source.group):
        return bare.drop("other_group", str(item.group))
    if source.group is None and item.group is not None and (item.group == "B") != (source.split == "test"):
        raise LimakitError(
            f"is by group {item.group} and would get into {source.split}: group A writes train and dev, group B writes test",
            where=item.where,
            remedy=f'mend its group, mark its split, or say group = "{item.group}" in the source if that is meant',
        )
    provenance = Provenance(id=id, source=source.name, url=source.url, authors=(Author(name=source.author),), licence=source.licence)
    text = Text(source=source.name, turns=item.turns, reference=item.reference, tags=item.tags, provenance=provenance)
    return replace(bare, text=text)
