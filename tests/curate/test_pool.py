"""Pools: what goes in comes out, whatever the batches; equal candidates give equal bytes."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.candidate import Candidate, Text
from limakit.curate.pool import ROWS, SCHEMA, batch_of, open_pool, write_pool
from limakit.errors import LimakitError
from limakit.records import Author, Provenance, Turn


def fit(n: int, words: str = "Because\u2028so.") -> Candidate:
    text = Text(
        source="s",
        turns=(Turn(role="user", text=f"Why {n}?"), Turn(role="assistant", text=words)),
        tags=("a",),
        provenance=Provenance(id=f"c-{n}", source="s", url=None, authors=(Author(name="A"),), licence="CC0"),
    )
    return Candidate(
        f"c-{n}", "beer" if n % 2 else "tea", n, 2 * n, 7, f"https://x.example/{n}", text, review="required" if n % 3 == 0 else None
    )


def candidates(n: int) -> list[Candidate]:
    return [fit(i) if i % 2 else Candidate(f"c-{i}", "tea", i).drop("too_short", str(i)) for i in range(n)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.lists(st.integers(1, 20), max_size=8))
def test_however_they_come_in_batches(tmp_path_factory, n, cuts):
    folder = tmp_path_factory.mktemp("pool")
    rows = candidates(n)
    batches, at = [], 0
    for cut in cuts:
        batches.append(batch_of(rows[at : at + cut]))
        at += cut
    batches.append(pa.Table.from_batches([batch_of(rows[at:])]))
    pool = write_pool(folder / "a.parquet", batches)
    whole = write_pool(folder / "b.parquet", [batch_of(rows)])
    assert hashlib.sha256(pool.path.read_bytes()).digest() == hashlib.sha256(whole.path.read_bytes()).digest()
    assert pool.rows == n and dict(pool.sizes) == {s: k for s in ("beer", "tea") if (k := sum(c.stratum == s for c in rows))}
    assert [(row, c) for row, c in pool.fit()] == [(i, c) for i, c in enumerate(rows) if c.reason is None]
    wanted = [i for i in range(n) if i % 3 == 0]
    assert pool.take(wanted) == {i: rows[i] for i in wanted}


def test_more_rows_than_a_row_group(tmp_path):
    n = 2 * ROWS + 5
    pool = write_pool(tmp_path / "p.parquet", (batch_of([Candidate(f"c-{i}", "s", i).drop("no_answer")]) for i in range(7)))
    assert pool.rows == 7
    big = pa.table({f.name: pa.array([None] * n, f.type) for f in SCHEMA}, schema=SCHEMA).set_column(
        0, "id", pa.array([f"c-{i}" for i in range(n)])
    )
    big = big.set_column(1, "stratum", pa.array(["s"] * n))
    pool = write_pool(tmp_path / "big.parquet", [big])
    assert [len(t) for t in pool.account()] == [ROWS, ROWS, 5]
    assert pool.take([ROWS - 1, ROWS, n - 1]).keys() == {ROWS - 1, ROWS, n - 1}
    assert pool.take([ROWS])[ROWS].id == f"c-{ROWS}" and sum(1 for _ in pool.fit()) == n


def test_a_damaged_pool_is_named(tmp_path):
    path = tmp_path / "p.parquet"
    write_pool(path, [batch_of(candidates(4))])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LimakitError, match="no pool of candidates") as error:
        open_pool(path)
    assert error.value.where == path and "run curate again" in error.value.remedy
