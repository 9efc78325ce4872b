"""A finding: something in a text or a set that a person should look at, found by a named rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`rule` in short snake_case; `where` the place ("" if whoever looked did not know it); `excerpt` the words around it.

    An error is sure: the set teaches or tests something else than it says. A warning is for a person to decide.
    """

    rule: str
    level: Level
    where: str
    message: str
    excerpt: str = ""
