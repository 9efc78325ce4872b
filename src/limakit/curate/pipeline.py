"""`limakit curate`: the recipe's sources -> data/ (paper, section 2).

Test prompts are chosen first, then dev, then train, so that no prompt is trained on that a model is tested with. Everything is
written to a folder of its own and moved into place at the end, the manifest last: a run that fails or is killed before that leaves the
set that was there. While the files are moved a file `.curating` lies beside them, so that no stage takes parts of two sets for one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..errors import LimakitError, UsageError
from ..progress import say, show_table, track
from ..recipe import Recipe
from ..recipe_sources import AuthoredSource, Source, StackExchangeSource
from ..records import Example, Prompt, Provenance, jsonl_lines, write_jsonl
from ..sources.authored import authored_files
from ..sources.communities import find_sites
from ..workspace import CURATING, PARTIAL, Workspace, atomic_file, is_done, sha256_file, stage_lock, sync_folder, write_manifest, write_text
from .candidates import Candidate, authored_candidates, lima_candidates, name_authors, stackexchange_candidates
from .card import card, outcome_cells
from .select import Known, Selection, select
from .stats import table_cells, table_one

OUTPUTS = ("train.jsonl", "dev.jsonl", "test.jsonl", "provenance.jsonl", "candidates.parquet", "card.md")
MANIFEST = "manifest.json"


def curate(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Build the set; returns what was written, [] where all of it was there already.

    Raises LimakitError for unreadable sources, for a source that cannot fill its `take`, and for a set without a single row.
    """
    if not recipe.sources:
        raise UsageError("the recipe names no sources", where=workspace.recipe_path, remedy="add a [[sources]] table")
    inputs = _inputs(workspace, recipe.sources)
    settings = {
        "limakit": __version__,
        "name": recipe.name,
        "seed": recipe.seed,
        "sources": [s.model_dump(mode="json") for s in recipe.sources],
    }
    manifest = workspace.data / MANIFEST
    with stage_lock(workspace.data, "curate"):
        if is_done(manifest, settings=settings, inputs=inputs):
            (workspace.data / CURATING).unlink(missing_ok=True)  # killed after the last move: what the manifest says is all there
            say(f"{workspace.relative(workspace.data)} is up to date: same sources, same settings; nothing to do")
            return []
        selections = _select_all(workspace, recipe)
        sets, provenance = _records(selections)
        if not any(sets.values()):
            raise LimakitError(
                "the set is empty: no source gave an example or prompt", where=workspace.recipe_path, remedy="look at the sources' rules"
            )
        tables = {split: table_one(rows) for split, rows in sets.items()}
        writers: dict[str, Callable[[Path], object]] = {
            "train.jsonl": lambda path: write_jsonl(path, sets["train"]),
            "dev.jsonl": lambda path: write_jsonl(path, sets["dev"]),
            "test.jsonl": lambda path: write_jsonl(path, sets["test"]),
            "provenance.jsonl": lambda path: write_jsonl(path, provenance),
            "candidates.parquet": lambda path: write_candidates(path, selections),
            "card.md": lambda path: write_text(path, card(recipe.name, tables, selections, provenance)),
        }
        _write_all(workspace.data, writers, settings, inputs)
    for split, table in tables.items():
        if table:
            show_table(f"{split}.jsonl", *table_cells(table))
    show_table("what became of the candidates", *outcome_cells(selections))
    return [workspace.data / name for name in (*OUTPUTS, MANIFEST)]


def _inputs(workspace: Workspace, sources: Sequence[Source]) -> dict[str, str]:
    """Hash of every file that is read, under its path as the recipe writes it."""
    files: dict[str, Path] = {}
    for source in sources:
        path = workspace.path(source.path)
        if isinstance(source, StackExchangeSource):
            for _, posts in find_sites(path, source.group, source.sites):
                found = [posts, posts.with_name("Users.xml")]
                files |= {f"{source.path}/{file.relative_to(path)}": file for file in found if file.is_file()}
        elif isinstance(source, AuthoredSource):
            read, _ = authored_files(path)
            files |= {source.path if file == path else f"{source.path}/{file.relative_to(path)}": file for file in read}
        else:
            next(jsonl_lines(path), None)  # says what is wrong with the path, if anything is
            files[source.path] = path
    return {name: sha256_file(file) for name, file in track(files.items(), "hash the inputs", len(files), "files")}


def _labels(sources: Sequence[Source]) -> list[str]:
    """What to call each source: its name, with its split or number where a name comes twice."""
    names = [s.label if isinstance(s, StackExchangeSource) else s.name for s in sources]
    full = [name if names.count(name) == 1 else f"{name} ({s.split})" for name, s in zip(names, sources, strict=True)]
    return [label if full.count(label) == 1 else f"{label[:-1]}, source {i + 1})" for i, label in enumerate(full)]


def _select_all(workspace: Workspace, recipe: Recipe) -> list[Selection]:
    """Each source's selection, in the recipe's order."""
    known = Known()
    done: dict[int, Selection] = {}
    owner: dict[str, str] = {}
    labels = _labels(recipe.sources)
    for split in ("test", "dev", "train"):
        for i, source in enumerate(recipe.sources):
            if source.split != split:
                continue
            candidates, sizes = _candidates(source, workspace.path(source.path), recipe.seed)
            where = f"{workspace.recipe_path}, source {i + 1}"
            selection = select(source, labels[i], candidates, sizes, known, seed=recipe.seed, where=where)
            for candidate in selection.kept:
                if candidate.id in owner:  # within a source its reader has seen to it
                    what = f"the id {candidate.id!r} is also in source {owner[candidate.id]!r}"
                    raise LimakitError(what, where=where, remedy="give the sources different names, or the rows different ids")
                owner[candidate.id] = labels[i]
            if isinstance(source, StackExchangeSource):
                kept = name_authors(selection.kept, workspace.path(source.path), source)
                selection = Selection(selection.label, selection.split, selection.candidates, tuple(kept))
            done[i] = selection
    return [done[i] for i in range(len(recipe.sources))]


def _candidates(source: Source, path: Path, seed: int) -> tuple[list[Candidate], dict[str, int]]:
    if isinstance(source, StackExchangeSource):
        return stackexchange_candidates(source, path, seed)
    return (authored_candidates(source, path) if isinstance(source, AuthoredSource) else lima_candidates(source, path)), {}  # type: ignore[arg-type]


def _records(selections: Sequence[Selection]) -> tuple[dict[str, list[Example] | list[Prompt]], list[Provenance]]:
    """The rows of train, dev and test, and the provenance of each in the same order."""
    examples: list[Example] = []
    prompts: dict[str, list[Prompt]] = {"dev": [], "test": []}
    provenance: dict[str, list[Provenance]] = {"train": [], "dev": [], "test": []}
    for selection in selections:
        for c in selection.kept:
            if selection.split == "train":
                examples.append(Example(id=c.id, source=c.source, turns=c.turns, tags=c.tags))
            else:
                prompts[selection.split].append(Prompt(id=c.id, source=c.source, turns=c.turns, tags=c.tags, reference=c.reference))
            assert c.provenance is not None, f"{c.id} is kept without provenance"
            provenance[selection.split].append(c.provenance)
    return {"train": examples, **prompts}, [row for rows in provenance.values() for row in rows]


def write_candidates(path: Path, selections: Sequence[Selection]) -> None:
    """Every candidate with its outcome, one row each, sources in the recipe's order."""
    columns: dict[str, tuple[pa.DataType, list]] = {
        "source": (pa.string(), [s.label for s in selections for _ in s.candidates]),
        "split": (pa.string(), [s.split for s in selections for _ in s.candidates]),
    }
    every = [c for s in selections for c in s.candidates]
    outcome = {None: "kept", "not_drawn": "not_drawn"}
    columns |= {
        "id": (pa.string(), [c.id for c in every]),
        "site": (pa.string(), [c.site or None for c in every]),
        "url": (pa.string(), [c.url for c in every]),
        "score": (pa.int64(), [c.score for c in every]),
        "answer_score": (pa.int64(), [c.answer_score for c in every]),
        "response_chars": (pa.int64(), [c.response_chars for c in every]),
        "status": (pa.string(), [outcome.get(c.reason, "dropped") for c in every]),
        "reason": (pa.string(), [None if c.reason in outcome else c.reason for c in every]),
        "detail": (pa.string(), [c.detail or None for c in every]),
    }
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
    table = pa.table([pa.array(values, kind) for kind, values in columns.values()], schema=schema)
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _write_all(data: Path, writers: dict[str, Callable[[Path], object]], settings: dict, inputs: dict[str, str]) -> None:
    """Write everything aside, then move it into place, the manifest last.

    A kill between two moves leaves files of two sets: CURATING, which is there from before the first move until after the last, says so,
    and the old manifest is gone. Raises LimakitError if something cannot be written or moved.
    """
    aside = data / f"{PARTIAL}curate-{os.getpid()}"
    try:
        for name, write in writers.items():
            write(aside / name)
        outputs = {name: sha256_file(aside / name) for name in writers}
        write_manifest(
            aside / MANIFEST, stage="curate", settings=settings, inputs=inputs, outputs=outputs, packages=("pyarrow", "selectolax")
        )
        for name in (*writers, MANIFEST):
            if (data / name).is_dir():
                raise LimakitError("a folder is in the way; nothing was touched", where=data / name, remedy="move it elsewhere")
        _move(aside, data, (*writers, MANIFEST))
    except LimakitError as error:
        where = data / error.where.name if isinstance(error.where, Path) else error.where
        raise LimakitError(error.what, where=where, remedy=error.remedy) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(aside: Path, data: Path, names: Sequence[str]) -> None:
    """Move the files, the last one last. Every step is on the disk before the next that relies on it."""
    at = data
    try:
        (data / CURATING).touch()
        sync_folder(data)
        (data / names[-1]).unlink(missing_ok=True)
        sync_folder(data)
        for name in names:
            at = data / name
            os.replace(aside / name, at)
        sync_folder(data)
        (data / CURATING).unlink()
        sync_folder(data)
    except OSError as error:
        what = f"cannot write: {error.strerror}; the set here is not whole now"
        raise LimakitError(what, where=at, remedy="mend that (permissions, space), then run limakit curate again") from None
