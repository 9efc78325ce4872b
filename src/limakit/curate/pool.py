"""A pool: all candidates of one source as a Parquet file, so that only what is looked at is in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import LimakitError
from ..workspace import atomic_file
from .candidate import Candidate, Text

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("stratum", pa.string()),
        ("url", pa.string()),
        ("score", pa.int64()),
        ("answer_score", pa.int64()),
        ("response_chars", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("review", pa.string()),
        ("text", pa.string()),  # JSON of a Text; null for what is dropped
    ]
)
_PLAIN = [name for name in SCHEMA.names if name != "text"]
_SIZES = "limakit.sizes"
_NO_POST = ["malformed", "planted"]  # rows that count for nothing
ROWS = 10_000  # of one row group: what is in memory at a time, texts included


def batch_of(candidates: Iterable[Candidate]) -> pa.RecordBatch:
    """Candidates as rows of a pool."""
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for c in candidates:
        columns["id"].append(c.id)
        columns["stratum"].append(c.stratum)
        columns["url"].append(c.url)
        columns["score"].append(c.score)
        columns["answer_score"].append(c.answer_score)
        columns["response_chars"].append(c.response_chars)
        columns["reason"].append(c.reason)
        columns["detail"].append(c.detail or None)
        columns["review"].append(c.review)
        columns["text"].append(c.text.model_dump_json() if c.text is not None else None)
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)


def write_pool(path: Path, batches: Iterable[pa.RecordBatch | pa.Table]) -> Pool:
    """Write a pool; equal candidates give equal bytes, however they were cut into batches. Raises LimakitError if it cannot be written."""
    sizes: Counter[str] = Counter()
    with atomic_file(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for table in _even(batches):
            whole = table.filter(pc.invert(pc.is_in(table["reason"], pa.array(_NO_POST))))
            for pair in pc.value_counts(whole["stratum"]).to_pylist():
                sizes[pair["values"]] += pair["counts"]
            writer.write_table(table, row_group_size=ROWS)
        writer.add_key_value_metadata({_SIZES: json.dumps(dict(sorted(sizes.items())))})
    return open_pool(path)


def _even(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROWS, the last one smaller."""
    held: list[pa.Table] = []
    rows = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        at = 0
        while at < len(table):
            held.append(table.slice(at, ROWS - rows))
            at, rows = at + len(held[-1]), rows + len(held[-1])
            if rows == ROWS:
                yield pa.concat_tables(held).combine_chunks()
                held, rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def open_pool(path: Path) -> Pool:
    """Raises LimakitError where the file is none or damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return Pool(path, file.metadata.num_rows, json.loads(file.metadata.metadata[_SIZES.encode()]))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise LimakitError(f"is no pool of candidates: {error}", where=path, remedy="remove it and run curate again") from None


@dataclass(frozen=True)
class Pool:
    """`rows` candidates; `sizes` counts those of each stratum, whatever became of them, but for damaged and planted rows (n in the
    paper's n^(1/tau))."""

    path: Path
    rows: int
    sizes: Mapping[str, int]

    def account(self) -> Iterator[pa.Table]:
        """Every candidate without its text, ROWS at a time."""
        with self._open() as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=_PLAIN)

    def fit(self) -> Iterator[tuple[int, Candidate]]:
        """(row, candidate) of each without a reason against it, in order, read a little at a time."""
        row = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=2_000):
                places = pc.indices_nonzero(pc.is_null(batch["reason"])).to_pylist()
                for place, cells in zip(places, batch.take(pa.array(places, pa.int64())).to_pylist(), strict=True):
                    yield row + place, _candidate(cells)
                row += len(batch)

    def take(self, rows: Collection[int]) -> dict[int, Candidate]:
        """The candidates of these rows."""
        found: dict[int, Candidate] = {}
        with self._open() as file:
            for group, places in groupby(sorted(rows), lambda row: row // ROWS):
                wanted = list(places)
                table = file.read_row_group(group).take(pa.array([row - group * ROWS for row in wanted], pa.int64()))
                found |= {row: _candidate(cells) for row, cells in zip(wanted, table.to_pylist(), strict=True)}
        return found

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        """The file; one that turns out to be damaged is removed, so that the next run makes it again."""
        try:
            with pq.ParquetFile(self.path) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            self.path.unlink(missing_ok=True)
            what = f"a result that was kept here is damaged, and has been removed ({str(error).splitlines()[0][:100]})"
            raise LimakitError(what, where=self.path, remedy="run the same command again; if it comes back, look at the disk") from None


def _candidate(cells: dict) -> Candidate:
    text = cells["text"]
    return Candidate(**cells | {"detail": cells["detail"] or "", "text": None if text is None else Text.model_validate_json(text)})
