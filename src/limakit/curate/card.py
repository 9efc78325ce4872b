"""The data card: what a set holds, what was dropped and why, and under which licences it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..records import Provenance
from .attribution import as_text
from .select import Selection
from .stats import TableRow, table_cells


def outcome_cells(selections: Iterable[Selection]) -> tuple[list[str], list[list[str]]]:
    """(columns, cells): one line for each source and outcome; a source's lines add up to its candidates."""
    cells = []
    for selection in selections:
        cells.append([selection.label, "candidates", f"{selection.pool.rows:,}"])
        cells += [["", outcome, f"{n:,}"] for outcome, n in selection.counts.items()]
    return ["source", "outcome", "n"], cells


def card(name: str, sets: Mapping[str, Sequence[TableRow]], selections: Sequence[Selection], provenance: Sequence[Provenance]) -> str:
    """The card in Markdown. `sets` are the Table 1 rows of train, dev and test."""
    parts = [f"# Data card: {_cell(name)}", "Made by `limakit curate`; settings and hashes of the inputs are in manifest.json."]
    for split, rows in sets.items():
        if rows:
            parts += [f"## {split}.jsonl", _table(*table_cells(rows))]
    parts += [
        "## What became of each candidate",
        "Every candidate is in candidates.parquet with its outcome: kept, not_drawn (nothing against it), unreviewed (a person must look at it "
        "first), or the first rule it broke.",
        _table(*outcome_cells(selections), words=2),
        "## Licences",
        "attribution.md (for people) and provenance.jsonl (for programs) name for each kept example and prompt its URL, authors, licence and what "
        "was changed. Whoever passes the set on passes them on with it.",
        _table(["source", "licence", "n"], _licences(provenance), words=2),
    ]
    return "\n\n".join(parts) + "\n"


def _licences(provenance: Iterable[Provenance]) -> list[list[str]]:
    counts = Counter((p.source, p.licence) for p in provenance)
    return [[source, licence, f"{n:,}"] for (source, licence), n in sorted(counts.items())]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A Markdown table; the first `words` columns to the left, numbers to the right."""
    rule = ["---"] * words + ["---:"] * (len(columns) - words)
    return "\n".join("| " + " | ".join(_cell(c) for c in row) + " |" for row in [columns, rule, *rows])


def _cell(text: str) -> str:
    """Names come from recipes and data: in a table they are text, not Markdown and not HTML."""
    return as_text(text)
