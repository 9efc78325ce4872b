"""What is kept of a run of responses that has not ended: responses/.generate/NAME/, a line for each response, as soon as it is there.

The first line says what the responses are made of; those of other settings or inputs are not taken. Several ranks keep a file each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import LimakitError
from ..records import Response, dump_row
from ..workspace import atomic_file

SERVER = "server.json"  # of which kind the server is that gives the responses (remote.py)
Key = tuple[str, int, int]  # prompt, sample, turn


def key_of(response: Response) -> Key:
    return response.prompt_id, response.sample, response.turn


def kept_file(folder: Path, rank: int = 0) -> Path:
    return folder / ("responses.jsonl" if rank == 0 else f"responses-{rank}.jsonl")


def take_up(folder: Path, header: dict[str, Any]) -> list[Response]:
    """What the killed run kept, of however many ranks, gathered into the first one's file. Its last lines may be cut."""
    start = _start(header)
    found: dict[Key, Response] = {}
    others = sorted(folder.glob("responses-*.jsonl"))
    for path in (kept_file(folder), *others):
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        for line in lines[1:] if lines and lines[0] + b"\n" == start else ():
            try:
                response = Response.model_validate_json(line)
            except ValueError:  # cut by a full disk, and written after
                continue
            found[key_of(response)] = response
    with atomic_file(kept_file(folder)) as file:
        file.write(start)
        for response in found.values():
            file.write(dump_row(response))
    for path in others:
        path.unlink(missing_ok=True)
    return list(found.values())


def begin(folder: Path, rank: int, header: dict[str, Any]) -> Path:
    """The file that a rank keeps its responses in from now on."""
    path = kept_file(folder, rank)
    if rank:
        with atomic_file(path) as file:
            file.write(_start(header))
    return path


def keep(path: Path, response: Response) -> None:
    try:
        with open(path, "ab") as file:
            file.write(dump_row(response))
    except OSError as error:
        raise LimakitError(f"cannot write: {error.strerror}", where=path, remedy="free some space; the same command goes on") from error


def drop(folder: Path) -> None:
    """Forget what was kept: the responses stand in their file."""
    for path in (*folder.glob("responses*.jsonl"), folder / SERVER):
        path.unlink(missing_ok=True)


def _start(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True).encode() + b"\n"
