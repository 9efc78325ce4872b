"""The choice of a checkpoint (paper, section 3): runs/NAME/choice.json, which epoch somebody picked and why, and what the other stages take.

The rule stands here alone: the chosen epoch if there is a choice, else the last one, runs/NAME/final.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from .errors import LimakitError
from .records import Record, first_problem
from .workspace import Workspace, name_for_file, sha256_file, write_text

CHOICE = "choice.json"
SUMS = "sha256.json"  # in an epoch's folder: the hash of each of its files, as they were written


class Choice(Record):
    """What somebody picked. `weights` is the hash of the epoch's sha256.json, `responses` that of the dev responses that were there to read."""

    run: str
    epoch: int = Field(gt=0)
    because: str
    who: str = ""
    date: str  # of the decision, for people
    weights: str
    responses: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a recipe's trained model is: its folder, and the epoch somebody chose, or None for the last."""

    folder: Path
    epoch: int | None

    @property
    def said(self) -> str:
        return (
            "the last epoch; limakit select chooses another" if self.epoch is None else f"epoch {self.epoch}, as chosen by limakit select"
        )

    def check(self, files: Mapping[str, str], where: str) -> None:
        """Raise LimakitError where a file of the chosen epoch, of these hashes now, is not as it was written."""
        if self.epoch is None:
            return
        written = _written(self.folder)
        if changed := sorted(name for name, digest in files.items() if written.get(name) != digest):
            what = f"epoch {self.epoch} was chosen, and {changed[0]} is not what training wrote"
            raise LimakitError(
                what, where=where, remedy="put back an undamaged copy, or choose another epoch with limakit select --epoch N"
            )


def epoch_folder(run: Path, number: int) -> Path:
    return run / "epochs" / f"{number:02}"


def read_choice(run: Path) -> Choice | None:
    """The choice in a run's folder, or None. Raises LimakitError where it cannot be read."""
    path = run / CHOICE
    remedy = "choose again with limakit select --epoch N, or remove the file to take the last epoch"
    try:
        return Choice.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy=remedy) from None
    except ValidationError as error:
        key, what = first_problem(error)
        raise LimakitError(f"{key}: {what}" if key else what, where=path, remedy=remedy) from None


def write_choice(run: Path, choice: Choice) -> Path:
    """Write the choice, whole or not at all. The caller holds `choosing`."""
    write_text(run / CHOICE, choice.model_dump_json(indent=2) + "\n")
    return run / CHOICE


@contextmanager
def choosing(run: Path) -> Iterator[None]:
    """While this is held nobody else chooses in a run, and training drops no epoch there: what is being picked cannot go meanwhile."""
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".choosing", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for a moment: neither side holds it for longer than it takes to rename a folder
        yield


def checkpoint_of(workspace: Workspace, name: str) -> Checkpoint:
    """The checkpoint that the run `name` means: what was chosen, else final.

    Raises LimakitError where nothing is trained yet, and where the chosen epoch is gone or is that of another training.
    """
    run = workspace.runs / name_for_file(name)
    choice = read_choice(run)
    if choice is None:
        if not (run / "final").is_dir():
            remedy = "run limakit train first, or name a checkpoint"
            raise LimakitError("no trained checkpoint", where=workspace.relative(run / "final"), remedy=remedy)
        return Checkpoint(run / "final", None)
    folder = epoch_folder(run, choice.epoch)
    again = f"choose again with limakit select --epoch N, or remove {workspace.relative(run / CHOICE)} to take the last epoch"
    if not folder.is_dir():
        raise LimakitError(f"epoch {choice.epoch} was chosen, and its weights are gone", where=workspace.relative(folder), remedy=again)
    if not (folder / SUMS).is_file() or sha256_file(folder / SUMS) != choice.weights:
        what = f"epoch {choice.epoch} was chosen, and what lies there now is that of another training"
        raise LimakitError(what, where=workspace.relative(folder), remedy=again)
    return Checkpoint(folder, choice.epoch)


def taken_instead(run: Path, within: str, files: Mapping[str, str]) -> str | None:
    """Where responses are by another checkpoint of a run than the one its name means now: by which, and which that is; else None.

    `within` is theirs ("final", "epochs/02"), `files` are the hashes it had. Two names of the same weights are one checkpoint. Raises
    LimakitError for a choice that cannot be read.
    """
    choice = read_choice(run)
    now = "final" if choice is None else epoch_folder(run, choice.epoch).relative_to(run).as_posix()
    if within == now:
        return None
    written = _written(run / now) if choice is not None else _written_last(run)
    if files and all(written.get(name) == digest for name, digest in files.items()):
        return None
    return f"made by {_spoken(within)}, and {_spoken(now)} is {'taken' if choice is None else 'chosen'}"


def _spoken(within: str) -> str:
    number = within.removeprefix("epochs/")
    return f"epoch {int(number)}" if number.isdecimal() else "the last epoch" if within == "final" else within


def _written(folder: Path) -> dict[str, str]:
    """The hashes of an epoch's files as they were written; none where they cannot be told."""
    try:
        return dict(json.loads((folder / SUMS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def _written_last(run: Path) -> dict[str, str]:
    """As `_written`, of final/, by the run's manifest."""
    try:
        outputs = dict(json.loads((run / "manifest.json").read_bytes())["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name.removeprefix("final/"): digest for name, digest in outputs.items() if name.startswith("final/")}
