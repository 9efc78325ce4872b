"""Tasks over a folder of many small files: some megabytes of files are one task, so that a hundred thousand files are no such many results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..workspace import sha256_json
from .engine import MB, Task, Work

SIZE = 32 * MB


def folder_tasks(folder: Path, names: Sequence[str], work: Work, arguments: dict[str, Any], size: int = SIZE) -> list[Task]:
    """Tasks `function(folder, names=[...], **arguments)` that together go through `names` (relative to the folder) in their order."""
    tasks: list[Task] = []
    held: list[str] = []
    weight = 0
    for name in names:
        held.append(name)
        weight += (folder / name).stat().st_size
        if weight >= size or name == names[-1]:
            content = sha256_json([work.content(folder / name) for name in held])
            tasks.append(Task(folder, content, weight, {"names": held} | arguments))
            held, weight = [], 0
    return tasks
