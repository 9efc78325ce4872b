"""Posts.xml in numbers: where each question and answer stands and what decides its fate, and the top answer of each question.

One reading of a file keeps some tens of bytes a post and no text; rows that are wanted are read again by their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from .dump import Table, scan_of
from .post_heads import ANSWER, ODD, QUESTION, read_heads
from .scan import Block, Row, RowError, parse_row

PLANTED = frozenset({1000000001, 1000000010})  # fake posts that the publisher plants in its dumps to recognise copies
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_IS_QUESTION, _IS_ANSWER, _IS_PLANTED, _IS_BAD = range(4)
SCHEMA = pa.schema(
    [
        ("kind", pa.int8()),
        ("id", pa.int64()),
        ("parent", pa.int64()),
        ("score", pa.int64()),
        ("at", pa.int64()),  # the byte at which the row begins
        ("size", pa.int32()),  # its bytes, up to the next row
        ("problem", pa.string()),
    ]
)


def number(row: Row, key: str) -> int:
    """A whole number of a row, of 64 bits. Raises RowError."""
    text = row.get(key, "")
    if _NUMBER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    raise RowError(f"{key} is {text[:40]!r}, expected a whole number" if key in row else f"{key} is missing")


def among(numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of some numbers (int64[n]) are among `wanted` (int64[m], ascending), in time n log m."""
    if not len(wanted):
        return np.zeros(len(numbers), bool)
    return wanted[np.searchsorted(wanted, numbers).clip(max=len(wanted) - 1)] == numbers


# --- one reading ----------------------------------------------------------------------------------------------------------------------


def index_posts(path: Path, member: str | None = None, start: int = 0, stop: int | None = None) -> pa.Table:
    """The posts whose rows begin at bytes [start, stop) of a file (all: start 0, stop None), as rows of SCHEMA: questions in the order of the
    file, the best answer to each question that is answered here, planted questions, and rows that are damaged, with what is wrong.

    The table's metadata say how the scan went (dump.check_ranges reads them). Raises LimakitError where the file cannot be read on.
    """
    scan = scan_of(Table(path, member), "posts", start, stop)
    parts = [_posts(block) for block in scan]
    empty = {f.name: np.empty(0, f.type.to_pandas_dtype()) for f in SCHEMA if f.name != "problem"}
    columns = {name: np.concatenate([empty[name], *(part[0][name] for part in parts)]) for name in empty}
    bad = [item for part in parts for item in part[1]]
    order = _best_answers(columns)
    rows = {name: pa.array(values[order]) for name, values in columns.items()}
    good = pa.table([*rows.values(), pa.nulls(len(order), pa.string())], schema=SCHEMA)
    rest = pa.Table.from_pylist(
        [{"kind": _IS_BAD, "id": 0, "parent": 0, "score": 0, "at": at, "size": size, "problem": what} for at, size, what in bad],
        schema=SCHEMA,
    )
    return pa.concat_tables([good, rest]).combine_chunks().replace_schema_metadata(scan.notes())


def _posts(block: Block) -> tuple[dict[str, np.ndarray], list[tuple[int, int, str]]]:
    """Questions, answers and planted questions of a block in columns, and its damaged rows: (byte, size, what is wrong)."""
    kind, id, parent, score = read_heads(block)
    columns = {
        "id": id,
        "parent": parent,
        "score": score,
        "at": block.starts + block.base,
        "size": (block.ends - block.starts).astype(np.int32),
    }
    columns["kind"] = np.where(kind == ANSWER, _IS_ANSWER, _IS_QUESTION).astype(np.int8)
    keep = (kind == ANSWER) | (kind == QUESTION)
    odd = np.flatnonzero(kind == ODD).tolist()
    bad = []
    for i in odd:
        try:
            row = parse_row(block.row(i))
            type = number(row, "PostTypeId")  # a row without one may have been a question
            if type in (1, 2):  # 3 to 8 are wiki pages, tag texts, nominations and the like
                answers = type == 2
                columns["id"][i], columns["score"][i] = number(row, "Id"), number(row, "Score")
                columns["parent"][i] = number(row, "ParentId") if answers else 0
                columns["kind"][i] = _IS_ANSWER if answers else _IS_QUESTION
                keep[i] = True
        except RowError as error:
            bad.append((int(columns["at"][i]), int(columns["size"][i]), str(error)))
    planted = np.isin(columns["id"], list(PLANTED)) & keep
    keep &= ~(planted & (columns["kind"] == _IS_ANSWER))
    columns["kind"][planted] = _IS_PLANTED
    return {name: values[keep] for name, values in columns.items()}, bad


def _best_answers(columns: dict[str, np.ndarray]) -> np.ndarray:
    """The rows to keep: all that are no answers, in their order, then of the answers to a question the best: highest score, then lower id."""
    rest = np.flatnonzero(columns["kind"] != _IS_ANSWER)
    answers = np.flatnonzero(columns["kind"] == _IS_ANSWER)
    id, score, parent = (columns[name][answers] for name in ("id", "score", "parent"))
    answers = answers[np.lexsort((id, ~score, parent))]
    parent = columns["parent"][answers]
    first = np.ones(len(answers), bool)
    first[1:] = parent[1:] != parent[:-1]
    return np.concatenate([rest, answers[first]])


# --- all readings together --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Posts:
    """The n questions of a community by ascending id, each with its top answer, chosen before anything is filtered: the highest score, ties to
    the lower id. About 40 bytes a question; where the rows stand is looked up in the tables, which lie on the disk.

    Of questions of one Id the first counts, the others are damaged rows. A top answer that has the Id of a question, or of a top answer before it in
    the file, is a damaged row too, and its question has no answer. Among answers that are nobody's top answer the Ids are not compared.
    """

    ids: np.ndarray  # int64[n]
    scores: np.ndarray  # int64[n]
    answered: np.ndarray  # bool[n]
    answers: np.ndarray  # int64[n], the top answer's id
    answer_scores: np.ndarray  # int64[n]
    planted: list[int]
    damaged: list[tuple[int, str]]  # (byte, what is wrong)
    _rows: np.ndarray  # uint32[n], of all tables' rows in a row
    _answer_rows: np.ndarray
    _tables: list[pa.Table]

    def places(self, which: np.ndarray) -> tuple[np.ndarray, ...]:
        """(byte and size of the question's row, byte and size of the top answer's) of some questions, int64 each."""
        begins = np.cumsum([0, *(len(t) for t in self._tables)])
        found = []
        for rows in (self._rows[which], self._answer_rows[which]):
            tables = np.searchsorted(begins, rows, side="right") - 1
            at, size = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
            for i in np.unique(tables):
                mine = tables == i
                local = rows[mine] - begins[i]
                at[mine], size[mine] = _column(self._tables[i], "at")[local], _column(self._tables[i], "size")[local]
            found += [at, size]
        return tuple(found)


def top_answers(tables: Sequence[pa.Table]) -> Posts:
    """The questions of a community and their top answers from its `index_posts`, in the order of the file."""
    tables = list(tables)
    begins = np.cumsum([0, *(len(t) for t in tables)])
    ids, scores, rows, damaged = _questions(tables, begins)
    answered = np.zeros(len(ids), bool)
    answers, answer_scores, answer_rows = (np.zeros(len(ids), kind) for kind in (np.int64, np.int64, np.uint32))
    planted: set[int] = set()
    for table, begin in zip(tables, begins, strict=False):
        kind, id, parent, score = (_column(table, name) for name in ("kind", "id", "parent", "score"))
        mine = np.flatnonzero(kind == _IS_ANSWER)
        if len(ids) and len(mine):  # each parent occurs once in a table
            to = np.searchsorted(ids, parent[mine]).clip(max=len(ids) - 1)
            known = ids[to] == parent[mine]
            to, mine = to[known], mine[known]
            better = ~answered[to] | (score[mine] > answer_scores[to]) | ((score[mine] == answer_scores[to]) & (id[mine] < answers[to]))
            to, mine = to[better], mine[better]
            answered[to], answers[to], answer_scores[to], answer_rows[to] = True, id[mine], score[mine], mine + begin
        planted |= set(id[kind == _IS_PLANTED].tolist())
        bad = table.filter(pa.array(kind == _IS_BAD))
        damaged += zip(bad["at"].to_pylist(), bad["problem"].to_pylist(), strict=True)

    def at(question: int) -> int:
        return _at(tables, begins, int(answer_rows[question]))

    if again := _not_unique(ids, answered, answers, at):
        damaged += [(at(i), f"Id {answers[i]} occurs a second time") for i in again]
        for column in (answered, answers, answer_scores, answer_rows):
            column[again] = 0
    return Posts(ids, scores, answered, answers, answer_scores, sorted(planted), sorted(damaged), rows, answer_rows, tables)


def _questions(tables: Sequence[pa.Table], begins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """ids in order, their scores and rows; a question that comes twice is one, the first, and the others are damaged rows."""
    parts = [np.flatnonzero(_column(table, "kind") == _IS_QUESTION) for table in tables]
    ids = np.concatenate([np.empty(0, np.int64), *(_column(t, "id")[p] for t, p in zip(tables, parts, strict=True))])
    rows = np.concatenate([np.empty(0, np.uint32), *((p + b).astype(np.uint32) for p, b in zip(parts, begins, strict=False))])
    scores = np.concatenate([np.empty(0, np.int64), *(_column(t, "score")[p] for t, p in zip(tables, parts, strict=True))])
    order = np.argsort(ids, kind="stable")
    ids, scores, rows = ids[order], scores[order], rows[order]
    first = np.ones(len(ids), bool)
    first[1:] = ids[1:] != ids[:-1]
    again = []
    if not first.all():
        for id, row in zip(ids[~first].tolist(), rows[~first].tolist(), strict=True):
            again.append((_at(tables, begins, row), f"Id {id} occurs a second time"))
        ids, scores, rows = ids[first], scores[first], rows[first]
    return ids, scores, rows, again


def _not_unique(ids: np.ndarray, answered: np.ndarray, answers: np.ndarray, at: Callable[[int], int]) -> list[int]:
    """The questions whose top answer has the Id of a question, or of another's top answer in a row before; `at` is the byte of a question's."""
    tops = np.sort(answers[answered])
    of_questions, shared = tops[among(tops, ids)], tops[1:][tops[1:] == tops[:-1]]
    if not len(of_questions) and not len(shared):
        return []
    found = set(np.flatnonzero(answered & among(answers, of_questions)).tolist())
    first: dict[int, int] = {}
    for i in sorted(np.flatnonzero(answered & among(answers, shared)).tolist(), key=at):
        if first.setdefault(int(answers[i]), i) != i:
            found.add(i)
    return sorted(found)


def _at(tables: Sequence[pa.Table], begins: np.ndarray, row: int) -> int:
    """The byte at which a row begins, of all tables' rows in a row."""
    table = int(np.searchsorted(begins, row, side="right")) - 1
    return int(_column(tables[table], "at")[row - begins[table]])


def _column(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers as it lies in the file, without a copy."""
    column = table[name]
    return column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()
