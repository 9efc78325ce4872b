"""What one reading of a Reddit dump file keeps: a few numbers of every submission or top-level reply, and the texts of those that may be wanted.

The rows are packed, compressed by the ten thousand, so that the result of a file is small: some 15 bytes a row, and texts only of rows whose score
reaches the floor, up to BUDGET bytes a file. Beyond that a row has its place in the file instead, and `fetch_rows` reads what was chosen.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..sources.ndjson import LONGEST, lines_at, lines_with
from ..sources.reddit import Comment, Of, Submission, comment_of, is_own, parse, row_pattern, submission_of
from .engine import Task, Work

BUDGET = 48_000_000
PACK_ROWS, PACK_TEXT = 20_000, 8_000_000  # rows, or bytes of text, that are packed together
UNKNOWN = -(2**31)  # a score that is not known; less than any

# `at`: byte offset of the line in the decompressed file; `submission` and `created` of replies alone; `text`: JSON [author, title, body]. `reason` and
# `detail` are what speaks against the row whatever it is wanted for; `crc` of the line tells versions of a row apart. A row without an id could not be read.
ROWS = pa.schema(
    [
        ("at", pa.int64()),
        ("id", pa.int64()),
        ("score", pa.int32()),
        ("retrieved", pa.int64()),
        ("nsfw", pa.bool_()),
        ("submission", pa.int64()),
        ("created", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("text", pa.binary()),
        ("crc", pa.uint32()),
    ]
)
_PACKS = pa.schema([("pack", pa.large_binary())])
_TEXTS = pa.schema([("at", pa.int64()), ("text", pa.binary())])
_SOMETHING = re.compile(rb"\S")
_SPELLINGS = b"limakit.spellings"


def read_rows(path: Path, *, of: Of, subreddit: str, floor: int, budget: int = BUDGET, own: bool = False) -> pa.Table:
    """The subreddit's submissions or top-level replies in a file, in its order, packed (see `unpacked`). Texts are of those that stand with a score
    of at least `floor`. `own`: the file is the subreddit's, so a line that does not say whose it is could not be read. Raises LimakitError where the file cannot be read to its end."""
    packs: list[bytes] = []
    columns: dict[str, list] = {name: [] for name in ROWS.names}
    spellings: Counter[str] = Counter()
    held = packed = 0
    for at, line in lines_with(path, _SOMETHING if own else row_pattern(subreddit)):
        try:
            found = _read(line, of, subreddit, own)
        except ValueError as error:
            _add(columns, at=at, reason="malformed", detail=str(error)[:200])
            continue
        if found is None:
            continue
        row, name = found
        spellings[name] += 1
        if isinstance(row, Comment) and not row.top_level:
            continue
        text = None
        if row.against is None and row.score is not None and row.score >= floor and packed < budget:
            text = _text(row)
            held += len(text)
        reason, detail = row.against or (None, None)
        _add(
            columns,
            at=at,
            id=row.id,
            score=_bounded(row.score),
            retrieved=row.retrieved,
            reason=reason,
            detail=detail,
            text=text,
            crc=crc32(line or b""),
        )
        if isinstance(row, Submission):
            columns["nsfw"][-1] = row.nsfw
        else:
            columns["submission"][-1], columns["created"][-1] = row.submission, row.created
        if len(columns["at"]) >= PACK_ROWS or held >= PACK_TEXT:
            packs.append(_pack(columns))
            packed += len(packs[-1])
            held, columns = 0, {name: [] for name in ROWS.names}
    packs.append(_pack(columns))
    metadata = {_SPELLINGS: json.dumps(dict(sorted(spellings.items())))}
    return pa.table([pa.array(packs, pa.large_binary())], schema=_PACKS.with_metadata(metadata))


def fetch_rows(path: Path, *, of: Of, subreddit: str, at: list[int]) -> pa.Table:
    """(at, text) of the rows that begin at these offsets, ascending; `read_rows` has told them."""
    places, texts = [], []
    for place, line in lines_at(path, at):
        found = _read(line, of, subreddit)
        if found is not None:
            places.append(place)
            texts.append(_text(found[0]))
    return pa.table([pa.array(places, pa.int64()), pa.array(texts, pa.binary())], schema=_TEXTS)


def unpacked(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of a file (schema ROWS), some thousands at a time."""
    for pack in table["pack"]:
        with pa.ipc.open_stream(pack.as_buffer()) as stream:
            yield stream.read_all()


def spellings_of(table: pa.Table) -> Counter[str]:
    """How often each spelling of the subreddit's name occurs in a file's rows."""
    return Counter(json.loads(table.schema.metadata[_SPELLINGS]))


def _read(line: bytes | None, of: Of, subreddit: str, own: bool = False) -> tuple[Submission | Comment, str] | None:
    """The row of a line and its subreddit as it is spelt; None for another subreddit's. Raises ValueError for one that cannot be read."""
    if line is None:
        raise ValueError(f"a line of more than {LONGEST >> 20} MB")
    row = parse(line, subreddit, own)
    if row is None:
        return None
    return submission_of(row) if of == "submissions" else comment_of(row, subreddit), row["subreddit"]


def _text(row: Submission | Comment) -> bytes:
    return orjson.dumps([row.author, row.title if isinstance(row, Submission) else "", row.body])


def _bounded(score: int | None) -> int:
    return UNKNOWN if score is None else min(max(score, UNKNOWN + 1), 2**31 - 1)


def _add(columns: dict[str, list], **cells: object) -> None:
    for name, column in columns.items():
        column.append(cells.get(name))


def _pack(columns: dict[str, list]) -> bytes:
    batch = pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in ROWS], schema=ROWS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


# `place` is where the text lies in the spool, or -1 - at where it does not; `why` a number in Rows.reasons or -1
_ROW = np.dtype(
    [("id", "i8"), ("retrieved", "i8"), ("place", "i8"), ("score", "i4"), ("why", "i4"), ("file", "i4"), ("crc", "u4"), ("nsfw", "?")]
)
_REPLY = np.dtype([*((name, _ROW[name]) for name in _ROW.names or ()), ("submission", "i8"), ("created", "i8")])


@dataclass
class Rows:
    """The submissions or the top-level replies of several files. `rows`: dtype _ROW or _REPLY, one each, versions of one id apart."""

    of: Of
    subreddit: str
    files: list[tuple[str, Path]]
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, _ROW))
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    malformed: list[tuple[str, int, str]] = field(default_factory=list)  # (file, byte, what is wrong), in order
    spellings: Counter[str] = field(default_factory=Counter)

    @property
    def spelling(self) -> str:
        """The subreddit's name as most rows have it."""
        return max(sorted(self.spellings), key=lambda name: self.spellings[name], default=self.subreddit)

    def latest(self) -> np.ndarray:
        """The places in `rows` of the version that holds of each id."""
        rows = self.rows
        gone = np.isin(rows["why"], [number for (reason, _), number in self.reasons.items() if reason in ("deleted", "removed")])
        retrieved = np.where(gone & (rows["retrieved"] == 0), np.iinfo(np.int64).max, rows["retrieved"])
        order = np.lexsort((rows["crc"], rows["score"], rows["why"] >= 0, retrieved, rows["id"]))
        ids = rows["id"][order]
        return order[np.append(ids[1:] != ids[:-1], True)] if len(ids) else order

    def best(self) -> np.ndarray:
        """The places in `rows` of the best reply to each submission, by submission, ascending."""
        order = self.latest()
        rows = self.rows[order]
        fit = (rows["why"] < 0) & (rows["score"] > UNKNOWN)
        order, rows = order[fit], rows[fit]
        by_rank = np.lexsort((rows["id"], rows["created"], -rows["score"].astype(np.int64), rows["submission"]))
        under = rows["submission"][by_rank]
        return order[by_rank[np.append(True, under[1:] != under[:-1])]] if len(under) else order

    def fetch(self, wanted: np.ndarray, work: Work, spool: BinaryIO) -> None:
        """Read the texts of these rows that did not go along."""
        missing = wanted[self.rows["place"][wanted] < 0]
        tasks, of_file = [], []
        for number in np.unique(self.rows["file"][missing]).tolist():
            here = missing[self.rows["file"][missing] == number]
            here = here[np.argsort(-self.rows["place"][here])]  # by `at`, ascending
            at = (-1 - self.rows["place"][here]).tolist()
            file = self.files[number][1]
            tasks.append(Task(file, work.content(file), file.stat().st_size, {"of": self.of, "subreddit": self.subreddit, "at": at}))
            of_file.append(here)
        for here, table in zip(of_file, work.run(fetch_rows, tasks, f"read chosen {self.of}") if tasks else (), strict=True):
            self.rows["place"][here] = _put(spool, table["text"].to_pylist())


def gather(
    files: Mapping[str, Path], of: Of, subreddit: str, floor: int, work: Work, spool: BinaryIO, under: np.ndarray | None = None
) -> Rows:
    """The rows of all files, numbers in memory, texts of those that stand with a score of `floor` or more appended to the spool, a line of JSON each.

    `under`: the submissions (ids, ascending) whose replies are wanted; default all.
    """
    found = Rows(of, subreddit.lower(), list(files.items()))
    arguments = {"of": of, "subreddit": found.subreddit, "floor": floor, "budget": BUDGET}
    tasks = [Task(file, work.content(file), file.stat().st_size, arguments | {"own": is_own(file, subreddit)}) for file in files.values()]
    with tempfile.TemporaryFile(dir=work.cache) as numbers:  # so that all of them are in memory once, not twice
        for number, table in enumerate(work.run(read_rows, tasks, f"read r/{subreddit}'s {of}")):
            name, path = found.files[number]
            found.spellings += spellings_of(table)
            for rows in unpacked(table):
                read = pc.is_valid(rows["id"])
                bad = rows.filter(pc.invert(read)).select(["at", "detail"]).to_pylist()
                found.malformed += [(name or path.name, row["at"], row["detail"]) for row in bad]
                rows = rows.filter(read)
                if under is not None:
                    submissions = rows["submission"].to_numpy()
                    rows = rows.filter(pa.array((places_of(submissions, under) >= 0) | (submissions < 0)))
                numbers.write(_numbers(rows, of, number, found.reasons, spool).tobytes())
        numbers.seek(0)
        found.rows = np.fromfile(numbers, _ROW if of == "submissions" else _REPLY)
    return found


def _numbers(rows: pa.Table, of: Of, file: int, reasons: dict[tuple[str, str], int], spool: BinaryIO) -> np.ndarray:
    made = np.zeros(len(rows), _ROW if of == "submissions" else _REPLY)
    for name in ("id", "retrieved", "score", "crc", *(("nsfw",) if of == "submissions" else ("submission", "created"))):
        made[name] = rows[name].to_numpy()
    made["file"] = file
    pairs = zip(rows["reason"].to_pylist(), rows["detail"].to_pylist(), strict=True)
    made["why"] = [-1 if reason is None else reasons.setdefault((reason, detail), len(reasons)) for reason, detail in pairs]
    made["place"] = -1 - rows["at"].to_numpy()
    made["place"][pc.is_valid(rows["text"]).to_numpy()] = _put(spool, rows["text"].drop_null().to_pylist())
    return made


def places_of(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Where each value stands in `ascending`, -1 where it does not."""
    if not len(ascending):
        return np.full(len(values), -1)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[places] == values, places, -1)


def _put(spool: BinaryIO, texts: list[bytes]) -> np.ndarray:
    """Append texts, a line each; where each begins."""
    start = spool.seek(0, 2)
    spool.write(b"".join(text + b"\n" for text in texts))
    return start + np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
