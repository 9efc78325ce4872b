"""`limakit curate`: the recipe's sources -> data/ (paper, section 2).

Each source is first offered whole: a pool, kept under a name made from its settings and the content of its files, so that what was read
once is not read again. Then test prompts are chosen, then dev, then train, so that no prompt is trained on that a model is tested with; what is held out comes last,
from what is left.
Everything is written to a folder of its own and moved into place at the end, the manifest last: a run that fails or is killed before that
leaves the set that was there. While the files are moved a file `.curating` lies beside them, so that no stage takes parts of two sets for one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq

from .. import __version__
from ..errors import LimakitError, UsageError
from ..progress import say, show_table, warn
from ..recipe import Recipe
from ..recipe_sources import ANSWERED, Source
from ..records import Example, Prompt, Provenance, write_jsonl
from ..workspace import (
    CURATING,
    PARTIAL,
    Workspace,
    atomic_file,
    is_done,
    sha256_file,
    sha256_json,
    stage_lock,
    sync_folder,
    write_json,
    write_manifest,
    write_text,
)
from . import from_authored, from_dialogues, from_lima, from_natural_instructions, from_reddit, from_stackexchange, from_wikihow
from .attribution import write_attribution
from .candidate import Candidate
from .card import card, outcome_cells
from .decisions import DECISIONS, read_decisions
from .decontaminate import Guard
from .engine import Work, code_hash
from .hashes import content_hashes
from .pool import Pool, open_pool, write_pool
from .review import ReviewItem, review_item, write_review
from .select import Chosen, Selection, select
from .stats import table_cells, table_one

OUTPUTS = ("train.jsonl", "dev.jsonl", "test.jsonl", "provenance.jsonl", "attribution.md", "review.jsonl", "candidates.parquet", "card.md")
HELD_OUT = "held_out.jsonl"  # written where a source has split = "held_out"
MANIFEST = "manifest.json"
_KINDS: dict[str, ModuleType] = {
    "stackexchange": from_stackexchange,
    "stackexchange_dialogues": from_dialogues,
    "wikihow": from_wikihow,
    "reddit": from_reddit,
    "natural_instructions": from_natural_instructions,
    "authored": from_authored,
    "lima": from_lima,
}
# what of a source's table decides which of its candidates are taken, not what they are
_DRAW_ONLY = {"path", "take", "allow_fewer", "temperature"}


def curate(workspace: Workspace, recipe: Recipe, cluster: str | None = None, *, tables: bool = True) -> list[Path]:
    """Build the set; returns what was written, [] where all of it was there already. `cluster` is a Ray cluster's address; `tables`: print
    Table 1 and what became of the candidates.

    Raises LimakitError for unreadable sources, for a source that cannot fill its `take`, and for a set without a single row.
    """
    if not recipe.sources:
        raise UsageError("the recipe names no sources", where=workspace.recipe_path, remedy="add a [[sources]] table")
    with stage_lock(workspace.data, "curate"):
        files = [_KINDS[source.kind].inputs(source, workspace.path(source.path)) for source in recipe.sources]
        inputs = _inputs(workspace, recipe, files)
        hashes = content_hashes(inputs, workspace.cache / "hashes.json")
        named = {name: hashes[path] for name, path in inputs.items()}
        settings = {"limakit": __version__, "code": code_hash()} | recipe.model_dump(
            mode="json", include={"name", "seed", "sources", "duplicates", "decontaminate"}
        )
        manifest = workspace.data / MANIFEST
        if is_done(manifest, settings=settings, inputs=named):
            (workspace.data / CURATING).unlink(missing_ok=True)  # killed after the last move: what the manifest says is all there
            say(f"{workspace.relative(workspace.data)} is up to date: same sources, same settings; nothing to do")
            return []
        work = Work(recipe.seed, workspace.cache / "curate", cluster, hashes=hashes)
        pools = [_pool(source, workspace.path(source.path), read, work) for source, read in zip(recipe.sources, files, strict=True)]
        selections = _select_all(workspace, recipe, pools)
        sets, provenance = _records(selections)
        waiting = sum(len(s.waiting) for s in selections)
        if not any(sets.values()) and not waiting:
            show_table("what became of the candidates", *outcome_cells(selections))
            raise LimakitError(
                "the set is empty: no source gave an example or prompt", where=workspace.recipe_path, remedy="look at the sources' rules"
            )
        sizes = {split: table_one(rows) for split, rows in sets.items()}
        writers: dict[str, Callable[[Path], object]] = {
            "train.jsonl": lambda path: write_jsonl(path, sets["train"]),
            "dev.jsonl": lambda path: write_jsonl(path, sets["dev"]),
            "test.jsonl": lambda path: write_jsonl(path, sets["test"]),
            "provenance.jsonl": lambda path: write_jsonl(path, provenance),
            "attribution.md": lambda path: write_attribution(path, provenance),
            "review.jsonl": lambda path: write_review(path, _review_items(selections)),
            "candidates.parquet": lambda path: write_candidates(path, selections),
            "card.md": lambda path: write_text(path, card(recipe.name, sizes, selections, provenance)),
        }
        if any(source.split == "held_out" for source in recipe.sources):
            writers[HELD_OUT] = lambda path: write_jsonl(path, sets["held_out"])
        _write_all(workspace.data, writers, settings, named)
        _forget(work)
    if tables:
        for split, table in sizes.items():
            if table:
                show_table(f"{split}.jsonl", *table_cells(table))
        show_table("what became of the candidates", *outcome_cells(selections))
    for selection in selections:
        if selection.missing:
            what = f"{selection.label}: {selection.missing:,} of {len(selection.kept) + selection.missing:,} are missing until somebody has reviewed candidates"
            warn(f"{what}: limakit review, then limakit curate")
    return [workspace.data / name for name in (*writers, MANIFEST)]


def _inputs(workspace: Workspace, recipe: Recipe, files: Sequence[dict[str, Path]]) -> dict[str, Path]:
    """Every file that is read, under its path as the recipe writes it."""
    inputs: dict[str, Path] = {}
    for read in files:
        inputs |= read
    for name in _against(workspace, recipe):
        if not workspace.path(name).is_file():
            raise UsageError(f"decontaminate.against: no such file: {name}", where=workspace.recipe_path, remedy="mend the path")
        inputs[name] = workspace.path(name)
    if (workspace.root / DECISIONS).exists():
        inputs[DECISIONS] = workspace.root / DECISIONS
    return inputs


def _against(workspace: Workspace, recipe: Recipe) -> list[str]:
    """The further files to hold out; the set's own dev and test prompts are held out as they are chosen."""
    own = {(workspace.data / name).resolve() for name in ("dev.jsonl", "test.jsonl", HELD_OUT)}
    return [name for name in recipe.decontaminate.against if workspace.path(name).resolve() not in own]


def _pool(source: Source, path: Path, read: dict[str, Path], work: Work) -> Pool:
    """All candidates of a source, from the cache where they lie there."""
    settings = source.model_dump(mode="json", exclude=_DRAW_ONLY)
    name = sha256_json([code_hash(), settings, work.seed, {name: work.content(file) for name, file in read.items()}])[:40] + ".parquet"
    place, told = work.cache / name, work.cache / f"{name}.json"
    try:
        beside = json.loads(told.read_bytes())
        if beside["sha256"] != sha256_file(place):
            raise ValueError("damaged")
        pool = open_pool(place)
    except (LimakitError, OSError, ValueError, KeyError, TypeError):  # not there, or damaged: made again
        told.unlink(missing_ok=True)
        alone = replace(work, used=set())
        pool = write_pool(place, _KINDS[source.kind].offer(source, path, alone))
        beside = {"sha256": sha256_file(place), "needs": sorted(alone.used)}
        write_json(told, beside)
    work.used.update((place.name, told.name, *beside["needs"]))  # a change of the rules will want again what it was made from
    return pool


def _forget(work: Work) -> None:
    """Remove what no stage of this run asked for: results of settings and files that are no more, and what killed runs left."""
    for file in work.cache.iterdir():
        if file.name not in work.used and file.is_file():
            file.unlink(missing_ok=True)


def _labels(sources: Sequence[Source]) -> list[str]:
    """What to call each source: its name, with its split or number where a name comes twice."""
    names = [s.label for s in sources]
    full = [name if names.count(name) == 1 else f"{name} ({s.split})" for name, s in zip(names, sources, strict=True)]
    return [label if full.count(label) == 1 else f"{label[:-1]}, source {i + 1})" for i, label in enumerate(full)]


def _draws(sources: Sequence[Source]) -> list[str]:
    """What each source's draw is called: no other source changes it, except one of the same name and split that stands before it."""
    calls: list[str] = []
    for source in sources:
        name = source.label if source.split == "train" else f"{source.label} ({source.split})"
        n = sum(call == name or call.startswith(f"{name}, ") for call in calls)
        calls.append(f"{name}, {n + 1}" if n else name)
    return calls


def _select_all(workspace: Workspace, recipe: Recipe, pools: Sequence[Pool]) -> list[Selection]:
    """Each source's selection, in the recipe's order."""
    decisions = read_decisions(workspace.root / DECISIONS)
    guard = Guard(near=recipe.decontaminate.near, ngram=recipe.decontaminate.ngram)
    for name in _against(workspace, recipe):
        guard.add_file(workspace.path(name))
    chosen = Chosen(near=recipe.duplicates.near, guard=guard)
    done: dict[int, Selection] = {}
    owner: dict[str, str] = {}
    labels, draws = _labels(recipe.sources), _draws(recipe.sources)
    for split in ("test", "dev", "train", "held_out"):
        if split == "held_out" and any(source.split == split for source in recipe.sources):
            for selection in done.values():
                for candidate in selection.kept if selection.split == "train" else ():
                    guard.add("train", candidate.id, candidate.turns)
        for i, source in enumerate(recipe.sources):
            if source.split != split:
                continue
            where = f"{workspace.recipe_path}, source {i + 1}"
            selection = select(source, labels[i], pools[i], chosen, decisions, seed=recipe.seed, where=where, draw=draws[i])
            for candidate in selection.kept:
                if candidate.id in owner:  # within a source its reader has seen to it
                    what = f"the id {candidate.id!r} is also in source {owner[candidate.id]!r}"
                    raise LimakitError(what, where=where, remedy="give the sources different names, or the rows different ids")
                owner[candidate.id] = labels[i]
            done[i] = selection
    stale = sum(s.stale for s in done.values())
    if stale:
        warn(f"texts that have changed since somebody decided about them ({DECISIONS}): {stale:,}; limakit review asks again")
    return [done[i] for i in range(len(recipe.sources))]


def _records(selections: Sequence[Selection]) -> tuple[dict[str, list[Example] | list[Prompt]], list[Provenance]]:
    """The rows of train, dev and test and what is held out, and the provenance of each in the same order."""
    examples: dict[str, list[Example]] = {"train": [], "held_out": []}
    prompts: dict[str, list[Prompt]] = {"dev": [], "test": []}
    provenance: dict[str, list[Provenance]] = {"train": [], "dev": [], "test": [], "held_out": []}
    for selection in selections:
        for c in selection.kept:
            assert c.text is not None, f"{c.id} is kept without its text"
            if selection.split in ANSWERED:
                examples[selection.split].append(Example(id=c.id, source=c.text.source, turns=c.turns, tags=c.text.tags))
            else:
                prompts[selection.split].append(
                    Prompt(id=c.id, source=c.text.source, turns=c.turns, tags=c.text.tags, reference=c.text.reference)
                )
            provenance[selection.split].append(c.text.provenance)
    return {"train": examples["train"], **prompts, "held_out": examples["held_out"]}, [row for rows in provenance.values() for row in rows]


def _review_items(selections: Sequence[Selection]) -> Iterator[ReviewItem]:
    """What a person may look at: first what waits, source by source, then what is kept or was decided; a text that two sources offer once."""
    items = [_review_item(c, selection, c.review or "required") for selection in selections for c in selection.waiting]
    for selection in selections:
        items += [_review_item(c, selection, "") for c in (*(selection.originals[k.id] for k in selection.kept), *selection.decided)]
    seen: set[str] = set()
    for item in items:
        if item.seen not in seen:
            seen.add(item.seen)
            yield item


def _review_item(c: Candidate, selection: Selection, why: str) -> ReviewItem:
    assert c.text is not None
    return review_item(
        id=c.id,
        label=selection.label,
        split=selection.split,
        why=why,
        detail=c.detail,
        turns=c.turns,
        reference=c.text.reference,
        url=c.url,
        title=c.text.provenance.title,
        score=c.score,
        answer_score=c.answer_score,
        licence=c.text.provenance.licence,
    )


_STATUS = {"not_drawn", "unreviewed"}  # outcomes that no rule is the reason of


def write_candidates(path: Path, selections: Sequence[Selection]) -> None:
    """Every candidate with its outcome, one row each, sources in the recipe's order, a little at a time."""
    kinds = [("source", pa.string()), ("split", pa.string()), ("id", pa.string()), ("stratum", pa.string()), ("url", pa.string())]
    kinds += [("score", pa.int64()), ("answer_score", pa.int64()), ("response_chars", pa.int64())]
    schema = pa.schema([*kinds, ("status", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for selection in selections:
            at = 0
            for table in selection.pool.account():
                writer.write_table(_outcomes(table, selection, at).select(schema.names).cast(schema))
                at += len(table)


def _outcomes(table: pa.Table, selection: Selection, at: int) -> pa.Table:
    """Rows `at` and on of a pool with what became of each."""
    reasons, details = table["reason"].to_pylist(), table["detail"].to_pylist()
    status = ["dropped"] * len(table)
    for i in [i for i, reason in enumerate(reasons) if reason is None]:
        reason, details[i] = selection.fates.get(at + i, ("kept", None))
        status[i] = reason if reason in {"kept", *_STATUS} else "dropped"
        reasons[i] = reason if status[i] == "dropped" else None
    columns = {"source": selection.label, "split": selection.split}
    for name, value in columns.items():
        table = table.append_column(name, pa.array([value] * len(table), pa.string()))
    table = table.drop_columns(["reason", "detail"])
    return (
        table.append_column("status", pa.array(status, pa.string()))
        .append_column("reason", pa.array(reasons, pa.string()))
        .append_column("detail", pa.array([detail or None for detail in details], pa.string()))
    )


def _write_all(data: Path, writers: dict[str, Callable[[Path], object]], settings: dict, inputs: dict[str, str]) -> None:
    """Write everything aside, then move it into place, the manifest last.

    A kill between two moves leaves files of two sets: CURATING, which is there from before the first move until after the last, says so,
    and the old manifest is gone. Raises LimakitError if something cannot be written or moved.
    """
    aside = data / f"{PARTIAL}curate-{os.getpid()}"
    stale = [name for name in _listed(data / MANIFEST) if name == HELD_OUT and name not in writers]
    try:
        for name, write in writers.items():
            write(aside / name)
        outputs = {name: sha256_file(aside / name) for name in writers}
        write_manifest(
            aside / MANIFEST, stage="curate", settings=settings, inputs=inputs, outputs=outputs, packages=("numpy", "pyarrow", "selectolax")
        )
        for name in (*writers, MANIFEST):
            if (data / name).is_dir():
                raise LimakitError("a folder is in the way; nothing was touched", where=data / name, remedy="move it elsewhere")
        _move(aside, data, (*writers, MANIFEST), stale)
    except LimakitError as error:
        where = data / error.where.name if isinstance(error.where, Path) else error.where
        raise LimakitError(error.what, where=where, remedy=error.remedy) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _listed(manifest: Path) -> list[str]:
    """The outputs that a manifest lists; none where it cannot be read."""
    try:
        return list(json.loads(manifest.read_bytes())["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _move(aside: Path, data: Path, names: Sequence[str], stale: Sequence[str]) -> None:
    """Move the files, the last one last, and remove what the set has no more. Every step is on the disk before the next that relies on it."""
    at = data
    try:
        (data / CURATING).touch()
        sync_folder(data)
        (data / names[-1]).unlink(missing_ok=True)
        sync_folder(data)
        for name in stale:
            (data / name).unlink(missing_ok=True)
        for name in names:
            at = data / name
            os.replace(aside / name, at)
        sync_folder(data)
        (data / CURATING).unlink()
        sync_folder(data)
    except OSError as error:
        what = f"cannot write: {error.strerror}; the set here is not whole now"
        raise LimakitError(what, where=at, remedy="mend that (permissions, space), then run limakit curate again") from None
