"""A user's scores: read by id, and each mistake names its row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limakit.errors import LimakitError, UsageError
from limakit.pick.given import NO_SCORE, read_scores


def test_jsonl_and_parquet_say_the_same(tmp_path):
    (tmp_path / "s.jsonl").write_text(
        '\ufeff{"id": "b", "score": 2, "more": []}\n\n{"id": "x", "score": 9}\n{"id": "a", "score": 0.5}\n{"id": "c", "score": null}\n'
    )
    pq.write_table(pa.table({"id": ["b", "x", "a", "c"], "score": [2, 9, 0.5, None]}), tmp_path / "s.parquet")
    for name in ("s.jsonl", "s.parquet"):
        columns, absent = read_scores(tmp_path / name, ["a", "b", "c"], ["score"])
        assert np.array_equal(columns["score"], [0.5, 2, np.nan], equal_nan=True)
        assert absent == {2: NO_SCORE}


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ('{"id": "a", "score": 1}\n', UsageError, "no row for 1 of the pool's 2, first 'b'"),
        ('{"id": "a"}\n{"id": "b", "score": 1}\n', UsageError, "row 1: score: missing"),
        ('{"id": "a", "score": 1}\n{"id": "b", "score": "1"}\n', LimakitError, "row 2: score: '1' is not a number"),
        ('{"id": "a", "score": NaN}\n', LimakitError, "row 1: score: nan is not a number"),
        ('{"id": "a", "score": true}\n', LimakitError, "row 1: score: True is not"),
        ('{"id": "a", "score": 1}\n{"id": "a", "score": 1}\n', LimakitError, "row 2: id: 'a' comes twice"),
        ('{"score": 1}\n', LimakitError, "row 1: id: missing"),
        ('{"id": "a", "score": 1' + "0" * 400 + "}\n", LimakitError, "row 1: score: 10+ is not a number"),
        ('{"id": ["a"], "score": 1}\n', LimakitError, "row 1: id: missing, or no text"),
        ('["a", 1]\n', LimakitError, "row 1: is not a JSON object"),
        ('{"id": "a", "score": 1}\n{"id"\n', LimakitError, "row 2: is not a JSON object"),
    ],
)  # fmt: skip
def test_mistakes_name_their_row(tmp_path, text, kind, said):
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(kind, match=said):
        read_scores(tmp_path / "s.jsonl", ["a", "b"], ["score"])


def test_wrong_files(tmp_path):
    (tmp_path / "s.parquet").write_bytes(b"PAR1")
    with pytest.raises(LimakitError, match="cannot be read as Parquet"):
        read_scores(tmp_path / "s.parquet", ["a"], ["score"])
    times = pa.array([1, 2], pa.timestamp("ns"))
    pq.write_table(pa.table({"id": ["a", "b"], "score": [1, 2], "at": times}), tmp_path / "s.parquet")
    assert read_scores(tmp_path / "s.parquet", ["a", "b"], ["score"])[0]["score"].tolist() == [1, 2]  # other columns are not looked at
    pq.write_table(pa.table({"id": ["a", "b"], "score": times}), tmp_path / "s.parquet")
    with pytest.raises(LimakitError, match=r"s\.parquet"):
        read_scores(tmp_path / "s.parquet", ["a", "b"], ["score"])
    pq.write_table(pa.table({"id": [{"x": 1}], "score": [1]}), tmp_path / "s.parquet")
    with pytest.raises(LimakitError, match="row 1: id: missing, or no text"):
        read_scores(tmp_path / "s.parquet", ["a"], ["score"])
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "score": pa.array([], pa.float64())}), tmp_path / "s.parquet")
    with pytest.raises(UsageError, match="no row for 1"):
        read_scores(tmp_path / "s.parquet", ["a"], ["score"])
    with pytest.raises(UsageError, match=r"ends in '\.csv'"):
        read_scores(tmp_path / "s.csv", ["a"], ["score"])
    with pytest.raises(LimakitError, match="no such file"):
        read_scores(tmp_path / "s.jsonl", ["a"], ["score"])
