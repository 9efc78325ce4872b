"""wikiHow articles as candidates: a category first, then an article in it (paper, section 2.1); the stratum is the top category."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UsageError
from ..progress import Progress, warn
from ..recipe_sources import ANSWERED, WikihowSource
from ..records import Author, Provenance, Turn
from ..sources.wikihow import Article, Fault, article_files, check_lines, read_files, read_lines
from ..sources.wikihow_csv import read_csv
from ..workspace import PARTIAL
from .batches import folder_tasks
from .candidate import Candidate, Text
from .engine import MB, Task, Work
from .howto import bare_title, prompt_of, response_of, speaks_of_itself
from .pool import SCHEMA, batch_of
from .rules import response_problem

RANGE = 32 * MB  # of a JSONL file: what one task reads
UNCATEGORISED = "uncategorised"
HOST = "www.wikihow.com"  # of articles that do not say where they are


def inputs(source: WikihowSource, path: Path) -> dict[str, Path]:
    """The JSONL or CSV file, or each article of the folder. Raises UsageError where the path is missing, empty or in another form."""
    names = article_files(path)
    if names is not None:
        return {f"{source.path.rstrip('/')}/{name}": path / name for name in names}
    if path.suffix.lower() != ".csv":
        check_lines(path)
    return {source.path: path}


def offer(source: WikihowSource, path: Path, work: Work) -> Iterator[pa.RecordBatch | pa.Table]:
    """A candidate an article and a damaged row, in the file's order or by name; of a CSV in one that its content decides.

    Of articles with one title the others are "duplicate_title": one that is fit stands before one that is not, then what they hold decides, not
    their order. Raises UsageError for a category of the recipe's that no article has, and
    LimakitError where a file's rest cannot be read.
    """
    best: dict[str, bytes] = {}
    categories: set[str] = set()
    work.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=work.cache) as aside:
        with pa.ipc.new_stream(aside, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            for table in _tables(source, path, work):
                categories.update(table["stratum"].unique().to_pylist())
                for id, rank in zip(table["id"].to_pylist(), _ranks(table), strict=True):
                    best[id] = min(best.get(id, rank), rank)
                writer.write_table(table)
        _check_categories(source, path, categories)
        aside.seek(0)
        seen: Counter[str] = Counter()
        with pa.ipc.open_stream(aside) as stream:
            for batch in stream:
                yield _once(pa.Table.from_batches([batch]), best, seen)


def _check_categories(source: WikihowSource, path: Path, categories: set[str]) -> None:
    names = {name.casefold(): name for name in categories}
    for wanted in source.categories or ():
        if wanted.casefold() not in names:
            near = get_close_matches(wanted.casefold(), names, n=1)
            remedy = f"did you mean {names[near[0]]!r}?" if near else f"it has: {', '.join(sorted(categories))[:600]}"
            raise UsageError(f"categories: no article is in {wanted!r}", where=path, remedy=remedy)


def _tables(source: WikihowSource, path: Path, work: Work) -> Iterator[pa.Table]:
    settings = source.model_dump(mode="json", exclude={"path", "take", "allow_fewer"})
    names = article_files(path)
    if names is not None:
        tasks = folder_tasks(path, names, work, {"source": settings})
        yield from work.run(judged_files, tasks, f"read {source.label}")
    elif path.suffix.lower() == ".csv":
        warn(f"{path}: has no categories, so every article is {UNCATEGORISED!r}; the articles as JSON have them")
        work.cache.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=PARTIAL, dir=work.cache) as aside,
            Progress(f"read {source.label}", max(path.stat().st_size // MB, 1), "MB") as bar,
        ):
            read = 0

            def advance(n: int) -> None:
                nonlocal read
                whole = (read + n) // MB - read // MB
                read += n
                if whole:
                    bar.advance(whole)

            for articles in read_csv(path, Path(aside), advance):
                yield _table(source, articles)
    else:
        size, content = path.stat().st_size, work.content(path)
        tasks = [
            Task(path, content, min(RANGE, size - at), {"source": settings, "name": path.name, "start": at, "stop": min(at + RANGE, size)})
            for at in range(0, size, RANGE)
        ]
        yield from work.run(judged_lines, tasks, f"read {source.label}")


def judged_lines(path: Path, source: dict[str, Any], name: str, start: int, stop: int) -> pa.Table:
    """The candidates of the lines that begin in a range of a JSONL file (a task of the engine)."""
    return _table(_source(source), read_lines(path, name, start, stop))


def judged_files(folder: Path, names: list[str], source: dict[str, Any]) -> pa.Table:
    """The candidates of some of a folder's files (a task of the engine)."""
    return _table(_source(source), read_files(folder, names))


def _source(settings: dict[str, Any]) -> WikihowSource:
    return WikihowSource.model_validate(settings | {"path": "-", "take": 1})


def _table(source: WikihowSource, articles: Iterable[Article | Fault]) -> pa.Table:
    """In batches, so that no more than some candidates are objects at a time."""
    drop = frozenset(name.casefold() for name in source.drop_sections)
    only = None if source.categories is None else frozenset(name.casefold() for name in source.categories)
    batches: list[pa.RecordBatch] = []
    held: list[Candidate] = []
    for article in articles:
        if isinstance(article, Fault):
            held.append(Candidate(article.place, UNCATEGORISED).drop("malformed", f"{article.place}: {article.what}"))
        else:
            held.append(_judged(source, article, drop, only))
        if len(held) == 1000:
            batches.append(batch_of(held))
            held = []
    return pa.Table.from_batches([*batches, batch_of(held)], schema=SCHEMA)


def _judged(source: WikihowSource, article: Article, drop: frozenset[str], only: frozenset[str] | None) -> Candidate:
    page = bare_title(article.title).replace(" ", "-")
    url = article.url or f"https://{HOST}/{quote(page, safe='-.,()!*~@:$')}"
    bare = Candidate(f"wikihow-{page or article.place}", article.category or UNCATEGORISED, url=url)
    if only is not None and bare.stratum.casefold() not in only:
        return bare.drop("other_category")
    if article.problem:
        return bare.drop("steps_unpaired", article.problem)
    response, changes = response_of(article, drop)
    if not any(section.numbered and section.name.casefold() not in drop for section in article.sections):
        return bare.drop("no_steps")
    bare = Candidate(bare.id, bare.stratum, url=url, response_chars=len(response))
    if problem := response_problem(response, source.response_chars, []) or speaks_of_itself(response) or speaks_of_itself(article.title):
        return bare.drop(*problem)
    prompt = prompt_of(article.title, response)
    if not prompt:
        return bare.drop("empty_prompt")
    user, assistant = Turn(role="user", text=prompt), Turn(role="assistant", text=response)
    training = source.split in ANSWERED
    changes = ["the prompt is the title as a question", "steps as Markdown lists; links, images, HTML and citation marks removed", *changes]
    host = url.split("/")[2].lower() or HOST
    provenance = Provenance(
        id=bare.id,
        source=source.label,
        url=url,
        authors=(Author(name=_contributors(host), url=url),),
        licence=source.licence,
        changes="; ".join(changes),
        site=host,
        title=article.title,
    )
    turns = (user, assistant) if training else (user,)
    tags = (article.category,) if article.category else ()
    text = Text(source=source.label, turns=turns, reference=None if training else response, tags=tags, provenance=provenance)
    return Candidate(bare.id, bare.stratum, url=url, response_chars=len(response), text=text)


def _contributors(host: str) -> str:
    """Whom to credit: pages of another site in the same form were not written by those of wikiHow."""
    return "wikiHow contributors" if host == "wikihow.com" or host.endswith(".wikihow.com") else f"contributors of {host}"


def _ranks(table: pa.Table) -> list[bytes]:
    """By which the copies of an article are ordered: the fit ones first, then by a hash of what they hold."""
    cells = [table[name].to_pylist() for name in ("reason", "detail", "stratum", "url", "text")]
    return [
        (b"1" if row[0] else b"0") + blake2b(repr(row).encode(errors="replace"), digest_size=12).digest()
        for row in zip(*cells, strict=True)
    ]


def _once(table: pa.Table, best: dict[str, bytes], seen: Counter[str]) -> pa.Table:
    """The table with all copies of an article but the best dropped as "duplicate_title", each under an id of its own. `seen` counts those."""
    ids = table["id"].to_pylist()
    again: list[str | None] = []
    for id, rank in zip(ids, _ranks(table), strict=True):
        if best.get(id) == rank:
            again.append(None)
            best[id] = b""  # an equal copy after it is one too many
        else:
            seen[id] += 1
            again.append(f"{id}@{seen[id] + 1}")
    if not any(again):
        return table
    mask = pa.array([id is not None for id in again])
    nothing = pa.scalar(None, pa.string())
    changed = {
        "id": pa.array(again, pa.string()),
        "reason": pa.scalar("duplicate_title"),
        "detail": pa.array(ids, pa.string()),
        "text": nothing,
    }
    for name, value in changed.items():
        column = pc.if_else(mask, value, table[name].combine_chunks())
        table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), column)
    return table
