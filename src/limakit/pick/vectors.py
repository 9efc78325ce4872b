"""Embeddings that the user brings: a file of one vector a row, checked against the pool, as unit vectors.

.npy holds [n, d] alone and .safetensors one such tensor: their rows are the pool's, in its order. .npz (arrays `ids` and `embeddings`) and
.parquet (columns `id` and `embedding`, a list of numbers) name their rows, in any order, and may hold more of them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import LimakitError, UsageError
from .rows import Floats

_ROWS = 4096  # that are looked at in float64 at a time
FORMS = "a .npy or .safetensors of [rows, dimensions], or an .npz or .parquet that names its rows"


def read_vectors(path: Path, ids: Sequence[str]) -> Floats:
    """The embeddings of these rows, in their order, each of length 1: float32 [n, d].

    Raises UsageError for a file that is none or does not fit the pool, LimakitError for one that is damaged or holds a vector that is not numbers
    or has no direction, naming the row.
    """
    if not path.is_file():
        raise UsageError("no such file of embeddings", where=path, remedy=f"name {FORMS}")
    readers = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UsageError(f"embeddings cannot be read from a file that ends in {path.suffix!r}", where=path, remedy=f"name {FORMS}")
    try:
        names, found = readers[path.suffix](path)
    except LimakitError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise LimakitError(f"cannot be read as {path.suffix}: {what}", where=path, remedy="write it again") from None
    if found.ndim != 2 or 0 in found.shape or found.dtype.kind not in "fiu":
        what = f"holds {found.dtype} of shape {list(found.shape)}, expected numbers of shape [rows, dimensions]"
        raise UsageError(what, where=path, remedy="one vector a row")
    if names is None and len(found) != len(ids):
        what = f"has {len(found)} vectors, and the pool {len(ids)} rows"
        raise UsageError(
            what, where=path, remedy="embed this pool, its rows in order, or write a file that names its rows (.npz, .parquet)"
        )
    return unit_vectors(found if names is None else found[_places(names, ids, path)], ids, path)


def unit_vectors(found: Floats, ids: Sequence[str], where: object) -> Floats:
    """The vectors divided by their lengths, float32. Raises LimakitError naming the first row that is not finite or has no direction."""
    vectors = np.empty(found.shape, np.float32)
    largest = np.empty((len(found), 1))
    with np.errstate(all="ignore"):  # what is not finite is told below
        for start in range(
            0, len(found), _ROWS
        ):  # in float64, divided by the largest: no number is out of float32's range, no square overflows
            some = np.asarray(found[start : start + _ROWS], np.float64)
            largest[start : start + _ROWS] = np.abs(some).max(axis=1, keepdims=True)
            vectors[start : start + _ROWS] = some / largest[start : start + _ROWS]
    wrong = np.flatnonzero(~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0))
    if len(wrong):
        what = "holds only zeros" if largest[wrong[0], 0] == 0 else "holds NaN or infinity"
        more = f" ({len(wrong)} vectors are so)" if len(wrong) > 1 else ""
        raise LimakitError(f"the vector of row {ids[wrong[0]]!r} {what}{more}", where=where, remedy="embed again, or leave these rows out")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _places(names: Sequence[object], ids: Sequence[str], path: Path) -> list[int]:
    place = {name: i for i, name in enumerate(names)}
    if len(place) < len(names):
        raise UsageError(f"{len(names) - len(place)} ids come twice", where=path, remedy="one vector an id")
    if absent := [i for i in ids if i not in place]:
        what = f"has no vector for {len(absent)} of the pool's {len(ids)} rows, first {absent[0]!r}"
        raise UsageError(what, where=path, remedy="embed this pool; ids are the pool's (lima-N for row N of the published format)")
    return [place[i] for i in ids]


def _npy(path: Path) -> tuple[None, np.ndarray]:
    found = np.load(path, allow_pickle=False, mmap_mode="r")
    if not isinstance(found, np.ndarray):
        raise ValueError("it is an archive of arrays; call it .npz")
    return None, found


def _npz(path: Path) -> tuple[list[object], np.ndarray]:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        raise ValueError("it is one array; call it .npy")
    with loaded as arrays:
        for name in ("ids", "embeddings"):
            if name not in arrays:
                raise UsageError(
                    f"lacks the array {name!r} (it has {', '.join(arrays.files)})", where=path, remedy="write ids and embeddings"
                )
        names, found = arrays["ids"], arrays["embeddings"]
    if len(names) != len(found):
        raise UsageError(f"has {len(names)} ids and {len(found)} vectors", where=path, remedy="one id a vector")
    return [str(name) for name in names.tolist()], found


def _safetensors(path: Path) -> tuple[None, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            names = list(tensors.keys())
            if len(names) != 1:
                raise UsageError(f"holds {len(names)} tensors, expected one", where=path, remedy="write the embeddings alone")
            return None, tensors.get_tensor(names[0])
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    except TypeError:
        raise UsageError("its numbers have a type that NumPy lacks (bfloat16?)", where=path, remedy="write float32 or float16") from None


def _parquet(path: Path) -> tuple[list[object], np.ndarray]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            table = file.read(columns=[name for name in ("id", "embedding") if name in columns])
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None
    for name in ("id", "embedding"):
        if name not in table.column_names:
            raise UsageError(f"lacks the column {name!r} (it has {', '.join(columns)})", where=path, remedy="write id and embedding")
    if not len(table):
        raise UsageError("has no rows", where=path, remedy="write a row with id and embedding for each of the pool's")
    if not (pa.types.is_string(table["id"].type) or pa.types.is_large_string(table["id"].type)):
        raise UsageError(f"the column id holds {table['id'].type}, expected texts", where=path, remedy="write the pool's ids")
    names, lists = table["id"].to_pylist(), table["embedding"]
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise UsageError(f"the column embedding holds {kind}, expected lists of numbers", where=path, remedy="one list of numbers a row")
    lengths = pc.list_value_length(lists)
    sizes = set(lengths.unique().to_pylist())
    if len(sizes) != 1 or None in sizes:
        first = next(i for i, n in enumerate(lengths.to_pylist()) if n is None or n != lengths[0].as_py())
        raise UsageError(f"the vector of row {names[first]!r} is absent or has another length", where=path, remedy="embed again")
    flat = pc.list_flatten(lists)
    if flat.null_count:
        raise UsageError(f"holds {flat.null_count} empty numbers", where=path, remedy="embed again")
    return names, flat.to_numpy().reshape(len(names), -1)
