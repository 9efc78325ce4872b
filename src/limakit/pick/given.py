"""Scores that the user brings: JSONL or Parquet with `id` and a column for each score. What `limakit pick` writes can be read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LimakitError, UsageError
from ..records import jsonl_lines
from .rows import Floats

NO_SCORE = "no_score"


def read_scores(path: Path, ids: Sequence[str], names: Sequence[str]) -> tuple[dict[str, Floats], dict[int, str]]:
    """The scores called `names` of these rows, in their order (float64 [n]), and by place which rows have none (null in the file).

    The file may hold more rows and columns. Raises UsageError where a row or a column is not there, LimakitError naming the row of what is no
    number, or of an id that comes twice.
    """
    place = {row_id: i for i, row_id in enumerate(ids)}
    columns = {name: np.full(len(ids), np.nan) for name in names}
    seen: set[str] = set()
    absent: dict[int, str] = {}
    for where, row in _rows(path, names):
        key = row.get("id")
        if not isinstance(key, str):
            raise LimakitError("id: missing, or no text", where=where, remedy='each row is {"id": ..., ' + f'"{names[0]}": number' + "}")
        if key in seen:
            raise LimakitError(f"id: {key!r} comes twice", where=where, remedy="one row an id")
        seen.add(key)
        if key not in place:
            continue
        for name in names:
            if name not in row:
                raise UsageError(f"{name}: missing", where=where, remedy=f"each row needs {', '.join(['id', *names])}; null is for none")
            value = row[name]
            if value is None:
                absent[place[key]] = NO_SCORE
            elif isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
                raise LimakitError(
                    f"{name}: {_shown(value)} is not a number", where=where, remedy="write a number, or null where there is none"
                )
            else:
                columns[name][place[key]] = value
    if lost := [row_id for row_id in ids if row_id not in seen]:
        what = f"has no row for {len(lost)} of the pool's {len(ids)}, first {lost[0]!r}"
        raise UsageError(what, where=path, remedy="score this pool; ids are the pool's (lima-N for row N of the published format)")
    return columns, absent


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # a whole number of thousands of digits
        return "a number too large"


def _rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".parquet":
        yield from _parquet_rows(path, names)
        return
    if path.suffix != ".jsonl":
        raise UsageError(
            f"scores cannot be read from a file that ends in {path.suffix!r}", where=path, remedy="name a .jsonl or a .parquet"
        )
    for number, line in jsonl_lines(path):
        where = f"{path}, row {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise LimakitError("is not a JSON object", where=where, remedy="scores are JSONL: one {...} a line")
        yield where, row


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(columns=[name for name in ("id", *names) if name in file.schema_arrow.names]):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise LimakitError(f"cannot be read as Parquet: {what}", where=path, remedy="write it again") from None
