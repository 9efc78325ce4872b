"""`limakit lint`: what is wrong with an example set, ours or the published format, row by row.

Several files are one set: a prompt of train.jsonl that is also in test.jsonl is found. Files are read whole; a set that people curate is
small.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import LimakitError, UsageError
from ..progress import escape_json, say, show_table, track, visible
from ..recipe import read_recipe
from ..records import Example, Provenance, first_problem, jsonl_lines
from ..workspace import RECIPE, find_workspace
from .defects import BOUNDS, row_findings
from .entries import Entry, check_file, is_beside, read_entries, told_beside
from .finding import Finding
from .kin import kin_findings
from .style import lengths_of, style_notes

PROVENANCE = "provenance.jsonl"
MAX_TOKENS = 2048
SHOWN = 5  # findings of a rule that are shown one by one


@dataclass(frozen=True)
class Audit:
    """`findings` by file and row; `rows` of each file, the unreadable ones included; `skipped`: (what was not checked, why)."""

    rows: dict[Path, int]
    findings: list[tuple[Path, int, Finding]]
    skipped: list[tuple[str, str]]

    @property
    def errors(self) -> int:
        return sum(finding.level == "error" for _, _, finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


@dataclass(frozen=True)
class Ends:
    """How to tell whether a response keeps its end: the chat format, the name of its tokenizer, and where training cuts."""

    chat: Any
    name: str
    max_tokens: int


@dataclass
class _Collected:
    entries: list[Entry] = field(default_factory=list)
    findings: list[tuple[Path, int, Finding]] = field(default_factory=list)


def lint(
    files: Sequence[Path],
    *,
    tokenizer: str | None = None,
    max_tokens: int | None = None,
    bounds: tuple[int, int] | None = None,
    as_json: bool = False,
    show_all: bool = False,
    recipe_path: Path | None = None,
) -> int:
    """Audit the files as one set and print what was found; returns the exit code: 1 where there is an error, else 0.

    The ends of responses are counted with the tokenizer of that name, or of the recipe's base where that is here. Raises UsageError for what
    is no JSONL file.
    """
    ends, why = _ends(tokenizer, max_tokens, recipe_path)
    result = audit(files, ends=ends, no_ends=why, bounds=bounds)
    if as_json:
        say(escape_json(json.dumps(_document(result, ends), indent=2, ensure_ascii=False)))
    else:
        _show(result, ends, show_all)
    return 1 if result.errors else 0


def audit(files: Sequence[Path], *, ends: Ends | None = None, no_ends: str = "no tokenizer was named", bounds: tuple[int, int] | None = None) -> Audit:  # fmt: skip
    """Everything that is wrong with a set. `bounds`: of every training response, in characters; by default of those from Stack Exchange."""
    files = list(dict.fromkeys(files))
    for file in files:
        check_file(file)
    rows: dict[Path, int] = {}
    found = _Collected()
    others = [file for file in files if is_beside(file)]
    if len(others) == len(files):
        raise UsageError("not a set", where=files[0], remedy="name sets, e.g. data/train.jsonl data/dev.jsonl data/test.jsonl")
    for n, file in enumerate(files):
        if file in others:
            continue
        rows[file] = 0
        for row, entry in read_entries(file, n, told_beside(file)):
            rows[file] += 1
            if isinstance(entry, Finding):
                found.findings.append((file, row, entry))
            else:
                found.entries.append(entry)

    def name(entry: Entry) -> str:
        return f"row {entry.row}" if len(rows) == 1 else f"{files[entry.file]}, row {entry.row}"

    def note(entry: Entry, finding: Finding) -> None:
        found.findings.append((files[entry.file], entry.row, finding))

    for entry in track(found.entries, "lint: read each row", len(found.entries), "rows"):
        for finding in row_findings(entry.turns, entry.kind, _bounds(entry, bounds)):
            note(entry, finding)
        if ends is not None and (lost := _lost_end(entry, ends)):
            note(entry, lost)
    for entry, finding in _style(found.entries):
        note(entry, finding)
    for entry, finding in kin_findings(found.entries, name):
        note(entry, finding)
    ids: dict[str, Entry] = {}
    for entry in found.entries:
        if entry.id is not None and (other := ids.setdefault(entry.id, entry)) is not entry:
            note(entry, Finding("duplicate_id", "error", "id", f"the id {entry.id!r} is also that of {name(other)}"))
    skipped = [] if ends is not None else [("responses whose end is lost when training cuts them", no_ends)]
    skipped += _provenance(files, found)
    skipped += [(str(file), "not a set") for file in others]
    skipped += [("rows", f"{file} has none") for file, n in rows.items() if n == 0]
    order = {file: n for n, file in enumerate(files)}
    found.findings.sort(key=lambda f: (order.get(f[0], len(files)), str(f[0]), f[1]))
    return Audit(rows, found.findings, skipped)


def _bounds(entry: Entry, asked: tuple[int, int] | None) -> tuple[int, int] | None:
    if entry.split != "train":
        return None
    if asked is not None:
        return asked
    return (entry.bounds or BOUNDS) if entry.kind == "stackexchange" and len(entry.turns) == 2 else None


def _style(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Finding]]:
    """What an author should look at, of rows whose source says that they were written by hand; a person decides, so none is an error."""
    authored = [entry for entry in entries if entry.kind == "authored" and entry.split == "train" and entry.response is not None]
    examples = [Example(id=str(n), source=entry.source, turns=entry.turns, tags=entry.tags) for n, entry in enumerate(authored)]
    lengths = lengths_of(examples)
    for entry, example in zip(authored, examples, strict=True):
        for finding in style_notes(example, lengths):
            if entry.id is None and finding.rule == "refusal_unmarked":
                continue  # the published format has no tags to mark it with
            where = f"{finding.where}: " if finding.where else ""
            yield entry, replace(finding, level="warning", message=where + finding.message)


def _lost_end(entry: Entry, ends: Ends) -> Finding | None:
    """Whether training would cut a row, and with it the EOT that ends its response (train.steps.prepare)."""
    if entry.split != "train" or entry.response is None:
        return None
    short = all(turn.text.isascii() for turn in entry.turns)
    if short and sum(len(turn.text) for turn in entry.turns) + 4 * len(entry.turns) + 8 <= ends.max_tokens:
        return None  # no tokenizer makes more than one token of an ASCII character; the rest is for marks and what begins a text
    try:
        ids = ends.chat.encode(entry.turns).ids
    except LimakitError as error:
        return Finding("not_encodable", "error", "the row", error.what)
    if len(ids) <= ends.max_tokens:
        return None
    spoken = [i for i, token in enumerate(ids) if token == ends.chat.eot_id]
    before = spoken[-2] + 1  # where the last response begins
    what = f"{len(ids):,} tokens; cut at {ends.max_tokens:,}, the last {len(ids) - ends.max_tokens:,} are lost, and the EOT with them"
    if before >= ends.max_tokens:
        what += "; nothing of the last response is left"
    return Finding("eot_lost", "error", "the response", what, entry.turns[-1].text.rstrip()[-60:])


def _ends(tokenizer: str | None, max_tokens: int | None, recipe_path: Path | None) -> tuple[Ends | None, str]:
    """(how to count, or None, and then why not). What is not here is not downloaded, unless it was asked for by name."""
    workspace = find_workspace(recipe_path) if recipe_path is not None or Path(RECIPE).is_file() else None
    recipe = read_recipe(workspace.recipe_path) if workspace else None
    cut = max_tokens if max_tokens is not None else recipe.train.max_tokens if recipe else MAX_TOKENS
    if tokenizer is None and recipe is None:
        return None, "no tokenizer: name one with --tokenizer, or run this in a workspace"
    if tokenizer is None:
        os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from ..model.chat import chat_format
        from ..model.load import load_tokenizer

        if tokenizer is not None:
            loaded, name = load_tokenizer(tokenizer), tokenizer
        else:
            assert recipe is not None and workspace is not None
            model, name = recipe.model, recipe.model.base
            loaded = load_tokenizer(name, root=workspace.root, revision=model.revision, trust_remote_code=model.trust_remote_code)
        return Ends(chat_format(loaded, add_eot=True), name, cut), ""
    except (LimakitError, ModuleNotFoundError) as error:
        if tokenizer is not None:
            raise
        missing = error.name if isinstance(error, ModuleNotFoundError) else f"the tokenizer of {recipe.model.base if recipe else ''}"
        return None, f"{missing} is not here; name a tokenizer with --tokenizer"


def _provenance(files: Sequence[Path], found: _Collected) -> Iterator[tuple[str, str]]:
    """Examples that nobody is credited for, where a provenance.jsonl lies beside the set. Yields the files that have none beside them."""
    for folder in dict.fromkeys(file.parent for file in files):
        mine = [e for e in found.entries if e.id is not None and files[e.file].parent == folder]
        path = folder / PROVENANCE
        if not mine:
            continue
        if not path.is_file():
            yield "provenance", f"no {PROVENANCE} beside {', '.join(sorted({str(files[e.file]) for e in mine}))}"
            continue
        credited: set[str] = set()
        for row, line in jsonl_lines(path):
            try:
                credited.add(Provenance.model_validate_json(line).id)
            except ValidationError as error:
                key, what = first_problem(error)
                found.findings.append((path, row, Finding("unreadable", "error", "", f"{key}: {what}" if key else what)))
        for entry in mine:
            if entry.id not in credited:
                what = f"no row of {PROVENANCE} has the id {entry.id!r}"
                found.findings.append((files[entry.file], entry.row, Finding("no_provenance", "error", "id", what)))


def _counts(result: Audit) -> list[tuple[str, str, int]]:
    """(rule, level, n), errors first, the most frequent first."""
    counts = Counter((finding.rule, finding.level) for _, _, finding in result.findings)
    return sorted(((rule, level, n) for (rule, level), n in counts.items()), key=lambda c: (c[1] != "error", -c[2], c[0]))


def _document(result: Audit, ends: Ends | None) -> Mapping[str, Any]:
    """What --json prints. `row` counts lines of the file from 1."""
    return {
        "files": [{"file": str(file), "rows": n} for file, n in result.rows.items()],
        "errors": result.errors,
        "warnings": result.warnings,
        "counts": [{"rule": rule, "level": level, "n": n} for rule, level, n in _counts(result)],
        "findings": [
            {"file": str(file), "row": row, "rule": f.rule, "level": f.level, "message": f.message, "excerpt": f.excerpt}
            for file, row, f in result.findings
        ],
        "tokenizer": {"name": ends.name, "max_tokens": ends.max_tokens} if ends is not None else None,
        "not_checked": [{"what": what, "why": why} for what, why in result.skipped],
    }


def _show(result: Audit, ends: Ends | None, show_all: bool) -> None:
    several = len(result.rows) > 1
    total = f"{sum(result.rows.values()):,} rows in {', '.join(map(str, result.rows))}"
    if not result.findings:
        say(visible(f"{total}: nothing found"))
    else:
        say(visible(f"{total}: {_many(result.errors, 'error')}, {_many(result.warnings, 'warning')}"))
        places: dict[tuple[str, str], list[tuple[Path, int, Finding]]] = {}
        for where in result.findings:
            places.setdefault((where[2].rule, where[2].level), []).append(where)
        counts = _counts(result)
        cells = [
            [rule, level, f"{n:,}", _rows([(file, row) for file, row, _ in places[rule, level]], several)] for rule, level, n in counts
        ]
        show_table("", ["rule", "level", "n", "rows"], cells)
        for rule, level, n in counts:
            shown = n if show_all else SHOWN
            say(visible(f"{rule} ({level})"))
            for file, row, finding in places[rule, level][:shown]:
                quoted = f": {finding.excerpt}" if finding.excerpt else ""
                say(visible(f"  {f'{file}, ' if several else ''}row {row}: {finding.message}{quoted}"))
            if n > shown:
                say(f"  and {n - shown:,} more (--all shows them)")
    if ends is not None:
        say(visible(f"ends of responses: counted with the tokenizer of {ends.name}, cut at {ends.max_tokens:,} tokens"))
    for what, why in result.skipped:
        say(visible(f"not checked: {what}: {why}"))


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def _rows(places: Sequence[tuple[Path, int]], several: bool) -> str:
    """The first few rows, with their files where there are several."""
    first: dict[Path, list[int]] = {}
    for file, row in places[:6]:
        first.setdefault(file, []).append(row)
    parts = [(f"{file.name}: " if several else "") + ", ".join(map(str, rows)) for file, rows in first.items()]
    return "; ".join(parts) + (" …" if len(places) > 6 else "")
