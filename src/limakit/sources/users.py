"""Users.xml of a Stack Exchange dump: the names of those who are to be credited."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from .dump import Table, scan_of
from .packed import unpack
from .posts import among, number
from .scan import RowError, attributes, heads, parse_row

_HEAD = re.compile(attributes("Id") + rb'"(-?\d{1,18})"')
_SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])


def index_users(path: Path, member: str | None, start: int, stop: int | None, wanted: str) -> pa.Table:
    """Ids and display names, of the users that `wanted` packs (one column, ascending), whose rows begin at bytes [start, stop) of a file.

    A damaged row names nobody. The metadata say how the scan went. Raises LimakitError where the file cannot be read on.
    """
    ids = unpack(wanted, 1)[0]
    scan = scan_of(Table(path, member), "users", start, stop)
    found: list[dict[str, object]] = []
    for block in scan:
        texts, odd = heads(block, _HEAD)
        here = np.fromiter((int(text or 0) for (text,) in texts), np.int64, len(texts))
        known = among(here, ids)
        known[odd] = True
        for i in np.flatnonzero(known).tolist():
            try:
                row = parse_row(block.row(i))
                user, name = number(row, "Id"), row.get("DisplayName", "").strip()
            except RowError:
                continue
            if name and among(np.array([user]), ids)[0]:
                found.append({"id": user, "name": name})
    return pa.Table.from_pylist(found, schema=_SCHEMA).replace_schema_metadata(scan.notes())
