"""Embeddings in every form they come in, matched to the pool's rows; what does not fit is one message."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from limakit.errors import LimakitError, UsageError
from limakit.pick.vectors import read_vectors

IDS = ["a", "b", "ü"]
FOUND = np.array([[3, 4], [0, 2], [-5, 0]], np.float32)
UNIT = np.array([[0.6, 0.8], [0, 1], [-1, 0]], np.float32)
MIXED = [2, 0, 1]


def write(path, found, ids=None):
    names = None if ids is None else [ids[i] for i in MIXED] + ["another"]
    table = found if names is None else np.concatenate([found[MIXED], found[:1]])
    if path.suffix == ".npy":
        np.save(path, table)
    elif path.suffix == ".npz":
        np.savez(path, ids=np.array(names), embeddings=table)
    elif path.suffix == ".safetensors":
        save_file({"embeddings": table}, path)
    else:
        pq.write_table(pa.table({"id": names, "embedding": table.astype(np.float32).tolist()}), path)
    return path


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int8])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".parquet"])
def test_every_form(tmp_path, suffix, kind):
    path = write(tmp_path / f"e{suffix}", FOUND.astype(kind), IDS if suffix in (".npz", ".parquet") else None)
    found = read_vectors(path, IDS)
    assert found.dtype == np.float32
    assert np.allclose(found, UNIT, atol=1e-6)


def test_fixed_size_lists_and_extreme_numbers(tmp_path):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(FOUND.ravel() * np.float32(1e30)), 2)
    pq.write_table(pa.table({"id": IDS, "embedding": lists}), tmp_path / "e.parquet")
    assert np.allclose(read_vectors(tmp_path / "e.parquet", IDS), UNIT, atol=1e-6)
    np.save(tmp_path / "e.npy", FOUND * np.float32(1e-30))
    assert np.allclose(read_vectors(tmp_path / "e.npy", IDS), UNIT, atol=1e-6)


def changed(place, value):
    found = FOUND.copy()
    found[place] = value
    return found


@pytest.mark.parametrize(
    ("found", "kind", "said"),
    [
        (changed(1, 0), LimakitError, "row 'b' holds only zeros"),
        (changed((1, 1), np.nan), LimakitError, "row 'b' holds NaN"),
        (changed((2, 1), np.inf), LimakitError, "row 'ü' holds NaN or infinity"),
        (FOUND[:2], UsageError, "2 vectors, and the pool 3 rows"),
        (FOUND[0], UsageError, r"shape \[2\]"),
        (FOUND[:, :0], UsageError, r"shape \[3, 0\]"),
        (np.array([["x", "y"]] * 3), UsageError, "expected numbers"),
        (np.array([{}, {}, {}], object), LimakitError, "cannot be read"),  # a pickle is not opened
    ],
)
def test_wrong_arrays(tmp_path, found, kind, said):
    np.save(tmp_path / "e.npy", found, allow_pickle=True)
    with pytest.raises(kind, match=said):
        read_vectors(tmp_path / "e.npy", IDS)


def test_wrong_files(tmp_path):
    def refused(path, kind, said, ids=IDS):
        with pytest.raises(kind, match=said) as caught:
            read_vectors(path, ids)
        assert str(path) in caught.value.message

    refused(tmp_path / "absent.npy", UsageError, "no such file")
    (tmp_path / "e.txt").write_text("1 2")
    refused(tmp_path / "e.txt", UsageError, "ends in '.txt'")
    for suffix in (".npy", ".npz", ".safetensors", ".parquet"):
        whole = write(tmp_path / f"whole{suffix}", FOUND, IDS if suffix in (".npz", ".parquet") else None).read_bytes()
        for n, content in enumerate((b"", b"no embeddings", whole[: len(whole) // 2])):
            path = tmp_path / f"broken{n}{suffix}"
            path.write_bytes(content)
            refused(path, LimakitError, f"cannot be read as {suffix}")
    write(tmp_path / "e.npz", FOUND, IDS)
    refused(tmp_path / "e.npz", UsageError, "no vector for 1 of the pool's 4 rows, first 'z'", [*IDS, "z"])
    np.savez(tmp_path / "twice.npz", ids=np.array(["a", "a", "b"]), embeddings=FOUND)
    refused(tmp_path / "twice.npz", UsageError, "1 ids come twice")
    np.savez(tmp_path / "short.npz", ids=np.array(["a", "b"]), embeddings=FOUND)
    refused(tmp_path / "short.npz", UsageError, "2 ids and 3 vectors")
    np.savez(tmp_path / "names.npz", id=np.array(IDS), embeddings=FOUND)
    refused(tmp_path / "names.npz", UsageError, "lacks the array 'ids'")
    save_file({"a": FOUND, "b": FOUND}, tmp_path / "two.safetensors")
    refused(tmp_path / "two.safetensors", UsageError, "2 tensors")
    for said, column in (
        ("row 'b' is absent or has another length", [[1.0, 2], [1.0], [1.0, 2]]),
        ("row 'b' is absent", [[1.0, 2], None, [1.0, 2]]),
        ("1 empty numbers", [[1.0, 2], [None, 1.0], [1.0, 2]]),
        ("expected lists", [1.0, 2.0, 3.0]),
    ):
        pq.write_table(pa.table({"id": IDS, "embedding": column}), tmp_path / "odd.parquet")
        refused(tmp_path / "odd.parquet", UsageError, said)
    pq.write_table(pa.table({"id": IDS}), tmp_path / "no.parquet")
    refused(tmp_path / "no.parquet", UsageError, "lacks the column 'embedding'")
    for names in (pa.array([[i] for i in IDS]), pa.array([{"x": i} for i in IDS]), pa.array([1, 2, 3], pa.timestamp("ns"))):
        pq.write_table(pa.table({"id": names, "embedding": [[1.0, 2]] * 3}), tmp_path / "ids.parquet")
        refused(tmp_path / "ids.parquet", UsageError, "the column id holds .*, expected texts")
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "embedding": pa.array([], pa.list_(pa.float32()))}), tmp_path / "0.parquet")
    refused(tmp_path / "0.parquet", UsageError, "has no rows")
    (tmp_path / "archive.npy").write_bytes((tmp_path / "e.npz").read_bytes())
    refused(tmp_path / "archive.npy", LimakitError, "call it .npz")
    (tmp_path / "array.npz").write_bytes((tmp_path / "whole.npy").read_bytes())
    refused(tmp_path / "array.npz", LimakitError, "call it .npy")


@pytest.mark.filterwarnings("error")
def test_numbers_out_of_the_range_of_float32_are_numbers(tmp_path):
    np.save(tmp_path / "e.npy", np.array([[3e300, 4e300], [3e-300, -4e-300], [1e308, 0]]))
    assert np.allclose(read_vectors(tmp_path / "e.npy", IDS), [[0.6, 0.8], [0.6, -0.8], [1, 0]])
    np.save(tmp_path / "e.npy", np.array([[1, 2], [np.inf, 1], [0, 0]]))
    with pytest.raises(LimakitError, match="row 'b' holds NaN or infinity"):
        read_vectors(tmp_path / "e.npy", IDS)


def test_bfloat16_is_told(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    save_torch({"e": torch.ones(3, 2, dtype=torch.bfloat16)}, tmp_path / "e.safetensors")
    with pytest.raises(UsageError, match="bfloat16"):
        read_vectors(tmp_path / "e.safetensors", IDS)


def test_a_file_is_no_pickle_whatever_it_says(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, ids=np.array(IDS, object), embeddings=FOUND)
    (tmp_path / "e.npz").write_bytes(buffer.getvalue())
    with pytest.raises(LimakitError, match="cannot be read"):
        read_vectors(tmp_path / "e.npz", IDS)
