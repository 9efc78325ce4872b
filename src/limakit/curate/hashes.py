"""Content hashes of the inputs, remembered as long as a file is not touched: 90 GB are hashed once, not on every run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import LimakitError
from ..progress import Progress
from ..workspace import sha256_file, write_json

_SETTLED_S = 2.0  # a file changed later than this before it was hashed may change again within the clock's grain
MB = 1_000_000


def content_hashes(files: Mapping[str, Path], memory: Path) -> dict[Path, str]:
    """SHA-256 of each file. One whose size, inode and times of change (of content and of inode) are those that `memory` (a JSON file)
    holds is not read again. Raises LimakitError for a file that cannot be read."""
    known = _recall(memory)
    hashes: dict[Path, str] = {}
    fresh: dict[str, list] = {}
    sizes = {path: _stamp(path) for path in files.values()}
    with Progress("hash the inputs", max(sum(stamp[0] for stamp in sizes.values()) // MB, 1), "MB") as bar:
        for path, stamp in sizes.items():
            name = str(path.absolute())
            entry = known.get(name)
            if entry is not None and entry[:-1] == stamp:
                hashes[path] = entry[-1]
            else:
                before = time.time()
                hashes[path] = sha256_file(path)
                if stamp == _stamp(path) and before - max(stamp[2], stamp[3]) / 1e9 > _SETTLED_S:
                    fresh[name] = [*stamp, hashes[path]]
            bar.advance(stamp[0] // MB)
    if fresh:
        with suppress(LimakitError):  # it only saves time
            write_json(memory, {name: entry for name, entry in (known | fresh).items() if Path(name).exists()})
    return hashes


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _recall(memory: Path) -> dict[str, list]:
    """What is remembered; a damaged memory is none."""
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 5 and isinstance(entry[4], str)}
