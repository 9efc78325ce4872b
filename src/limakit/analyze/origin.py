"""What a file of results was made from, by the manifest beside it, and whether that is still what lies there.

responses/NAME.jsonl, judgments/*.jsonl and grades/*.jsonl may each have a NAME.manifest.json. One without comes from elsewhere (people,
another tool) and is taken as it is.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..choice import taken_instead
from ..errors import LimakitError, UsageError
from ..workspace import name_for_file, sha256_file

CHEAP = 64 * 2**20  # bytes: a larger file (weights) is not hashed for this


@dataclass(frozen=True)
class Origin:
    """A manifest: the stage, its settings, and the hash of each input by its path, relative to the workspace where it lies inside."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]


def read_origin(path: Path) -> Origin | None:
    """The manifest beside a file of results; None where there is none. Raises LimakitError for one that cannot be read."""
    manifest = path.with_suffix(".manifest.json")
    try:
        found = json.loads(manifest.read_bytes())
        return Origin(str(found["stage"]), dict(found["settings"]), {str(name): str(digest) for name, digest in found["inputs"].items()})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        remedy = "run the stage that writes it again; without a manifest the rows are taken as they are"
        raise LimakitError("cannot be read as a manifest", where=manifest, remedy=remedy) from None


@dataclass
class Present:
    """The files of a workspace as they are now, each hashed once."""

    root: Path
    _hashes: dict[str, str | None] = field(default_factory=dict)

    def out_of_date(self, path: Path) -> str | None:
        """Why the rows of `path` are not about what lies there now, and what to run; None where they are, or nobody can tell.

        An input that has gone, or is too large to hash and in no manifest of its folder, tells nothing. Responses that have a run's name are
        about the checkpoint which that name means now (choice.py). Raises LimakitError for a manifest or a choice that cannot be read.
        """
        origin = read_origin(path)
        if origin is None:
            return None
        if changed := self._changed(origin):
            return f"{_say(origin, changed)}: run limakit {_again(origin)}"
        if other := self._other_epoch(origin):
            return f"{other}: run limakit generate"
        for name in origin.inputs:
            made = read_origin(self.root / name) if name.endswith(".jsonl") else None
            if made and (changed := self._changed(made)):
                return f"made from {name}, which was {_say(made, changed)}: run limakit {_again(made)}, then limakit {origin.stage}"
            if made and (other := self._other_epoch(made)):
                return f"made from {name}, which was {other}: run limakit generate, then limakit {origin.stage}"
        return None

    def _other_epoch(self, origin: Origin) -> str | None:
        """`choice.taken_instead`, of responses that have the name of the run whose checkpoint gave them."""
        if origin.stage != "generate":
            return None
        model, name = str(origin.settings.get("model", "")), str(origin.settings.get("name", ""))
        try:
            own = f"runs/{name_for_file(name)}/"
        except UsageError:
            return None
        if not model.startswith(own):
            return None
        files = {file.removeprefix(f"{model}/"): digest for file, digest in origin.inputs.items() if file.startswith(f"{model}/")}
        return taken_instead(self.root / own, model.removeprefix(own), files)

    def _changed(self, origin: Origin) -> list[str]:
        return [name for name, digest in origin.inputs.items() if (self._hash(name) or digest) != digest]

    def _hash(self, name: str) -> str | None:
        if name not in self._hashes:
            path = self.root / name
            known = path.is_file()
            self._hashes[name] = None if not known else sha256_file(path) if path.stat().st_size <= CHEAP else self._recorded(path)
        return self._hashes[name]

    def _recorded(self, path: Path) -> str | None:
        """What the run that wrote a checkpoint noted of it in its manifest.json, a folder or more above."""
        for folder in path.parents:
            if folder == self.root:
                break
            try:
                return str(json.loads((folder / "manifest.json").read_bytes())["outputs"][str(path.relative_to(folder))])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None


def _again(origin: Origin) -> str:
    """The command that makes such a file."""
    name = shlex.quote(str(origin.settings.get("name", "")))
    if "imported" in origin.settings:
        return f"generate --import {shlex.quote(str(origin.settings['imported']))} --name {name}"
    return f"generate --baseline {name}" if "base_url" in origin.settings and origin.stage == "generate" else origin.stage


def _say(origin: Origin, changed: list[str]) -> str:
    responses = [name for name in changed if name.startswith("responses/")]
    imported = [name for name in changed if name == origin.settings.get("imported")]
    others = [name for name in changed if name not in responses + imported]
    prompts = [name for name in others if name.endswith(".jsonl")]
    folders = list(dict.fromkeys(str(Path(name).parent) for name in others if name not in prompts))
    parts = [
        f"{what} now in {' and '.join(names)}"
        for what, names in (
            ("other responses than those", responses + imported),
            ("other prompts than those", prompts),
            ("another checkpoint than that", folders),
        )
        if names
    ]
    return f"{'judged' if origin.stage == 'judge' else 'made from'} {', '.join(parts)}"
