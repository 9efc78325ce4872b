"""Where things lie, how they are written (whole or not at all), and what is already done."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from . import __version__
from .errors import LimakitError, UsageError

RECIPE = "lima.toml"
PARTIAL = ".partial-"  # what a killed run leaves behind starts with this; the next run of the stage sweeps it away
LONGEST_NAME = 200  # bytes, without the ending: file systems take 255, and a partial file's name or a manifest's is up to 31 longer
ASIDE = ".aside-"  # a folder that is being replaced; the sweep puts it back if its successor never came
CURATING = ".curating"  # stands in data/ while curate puts its files there, so that a mixed set is never read


@dataclass(frozen=True)
class Workspace:
    """The folder with lima.toml. Everything a stage writes has one fixed place below it."""

    root: Path
    recipe_path: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def responses(self) -> Path:
        return self.root / "responses"

    @property
    def judgments(self) -> Path:
        return self.root / "judgments"

    @property
    def grades(self) -> Path:
        return self.root / "grades"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def cache(self) -> Path:
        """Results that a stage keeps for itself; removing the folder costs time and nothing else."""
        return self.root / ".cache"

    @property
    def spent(self) -> Path:
        """What endpoints were paid; removing it forgets that, and caps begin anew."""
        return self.root / ".spent.jsonl"

    def path(self, text: str | Path) -> Path:
        """A path as the recipe writes it: relative to the workspace, ~ expanded. Raises UsageError where ~ means nobody."""
        try:
            return self.root / Path(text).expanduser()
        except RuntimeError:
            raise UsageError("there is no such user's home folder", where=text, remedy="write the whole path into the recipe") from None

    def relative(self, path: Path) -> str:
        """A path as messages and manifests name it: relative to the workspace where it lies inside."""
        path = Path(os.path.abspath(path))
        root = Path(os.path.abspath(self.root))
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def find_workspace(recipe: Path | None = None) -> Workspace:
    """The workspace of the current folder, or of `recipe`. Raises UsageError if there is none."""
    path = recipe if recipe is not None else Path(RECIPE)
    if not path.is_file():
        raise UsageError(
            "no such recipe" if recipe else f"no {RECIPE} here",
            where=path if recipe else Path.cwd(),
            remedy="run this in a workspace, name one with --recipe FILE, or make one: limakit init DIR",
        )
    return Workspace(root=path.parent, recipe_path=path)


def name_for_file(name: str) -> str:
    """A model's or judge's name as a file name. Raises UsageError where it could leave its folder."""
    safe = name.replace("/", "--")
    whole = not any("\ud800" <= c <= "\udfff" for c in safe)  # half a surrogate pair is no text: neither rows nor manifests could hold it
    if not whole or not safe or safe.startswith(".") or any(c in safe for c in "\\\0\n\r") or len(safe.encode()) > LONGEST_NAME:
        raise UsageError(f"{name!r} cannot be a file name", remedy="choose a short name that does not start with a dot")
    return safe


def write_error(error: OSError, path: Path) -> LimakitError:
    """What a user is told of a file or folder that could not be written."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space and run the same command again" if full else "check the folder and its permissions"
    if error.errno == errno.ENAMETOOLONG:
        remedy = "choose shorter names"
    return LimakitError(f"cannot write: {reason}; nothing was left half written", where=path, remedy=remedy)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears under `path` whole when the block ends, or not at all. Raises LimakitError if it cannot be written."""
    part = path.parent / f"{PARTIAL}{path.name}-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_error(error, path) from error
        raise


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """A folder that appears under `path` whole when the block ends (replacing one that was there), or not at all."""
    part = path.parent / f"{PARTIAL}{path.name}-{os.getpid()}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                with open(file, "rb") as f:
                    os.fsync(f.fileno())
        _put_folder(part, path)
        sync_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise write_error(error, path) from error
        raise


def _put_folder(part: Path, path: Path) -> None:
    """Rename `part` to `path`. A folder that was there steps aside first; if the second rename fails it comes back, and if a kill falls
    between the two, the next run's sweep brings it back."""
    if not path.exists():
        os.replace(part, path)
        return
    aside = path.parent / f"{ASIDE}{path.name}"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(path, aside)
    try:
        os.replace(part, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on the disk; files are synced as they are written."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def stage_lock(folder: Path, what: str) -> Iterator[None]:
    """One process a stage and folder; on entry the leavings of killed runs are swept. Raises LimakitError if another holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (held for the whole block, then closed)
    except OSError as error:
        raise write_error(error, folder) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LimakitError(f"another limakit {what} is writing here", where=folder, remedy="wait for it, or stop it") from None
        except OSError as error:
            raise LimakitError(f"cannot lock: {error.strerror}", where=folder, remedy="use a file system that can lock files") from None
        _sweep(folder)
        yield


def _sweep(folder: Path) -> None:
    """Remove what killed runs left half written; put back a folder whose successor never came."""
    for aside in list(folder.rglob(f"{ASIDE}*")):
        path = aside.with_name(aside.name.removeprefix(ASIDE))
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(aside, path)
    for leaving in list(folder.rglob(f"{PARTIAL}*")):
        if leaving.is_dir():
            shutil.rmtree(leaving, ignore_errors=True)
        else:
            leaving.unlink(missing_ok=True)


def check_data(workspace: Workspace) -> None:
    """Raise LimakitError if curate was killed while it put its files into data/: train and test may be of two different sets."""
    if (workspace.data / CURATING).exists():
        raise LimakitError(
            "curate was interrupted while it wrote here, so its files may not belong together",
            where=workspace.relative(workspace.data),
            remedy="run limakit curate again",
        )


def sha256_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None


def sha256_tree(path: Path) -> dict[str, str]:
    """Hash of each file below a folder (or of one file), by path relative to it, hidden files left out."""
    if path.is_file():
        return {path.name: sha256_file(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))
    return {str(p.relative_to(path)): sha256_file(p) for p in files}


def sha256_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Versions of limakit and of the packages a result depends on, for its manifest."""
    return {"limakit": __version__} | {name: metadata.version(name) for name in packages}


def write_manifest(
    path: Path, *, stage: str, settings: Any, inputs: dict[str, str], outputs: dict[str, str], packages: tuple[str, ...] = ()
) -> None:
    """Record what made a result: settings, hashes of inputs and outputs, versions. No clock, so equal runs give equal bytes."""
    write_json(path, {"stage": stage, "settings": settings, "inputs": inputs, "versions": versions(*packages), "outputs": outputs})


def is_done(path: Path, *, settings: Any, inputs: dict[str, str]) -> bool:
    """Whether the manifest at `path` was made from the same settings and inputs by the same versions, and its outputs lie beside it unchanged."""
    try:
        manifest = json.loads(path.read_bytes())
        same = manifest["settings"] == json.loads(json.dumps(settings)) and manifest["inputs"] == inputs
        same = same and manifest["versions"] == versions(*(name for name in manifest["versions"] if name != "limakit"))
        return same and all(
            (path.parent / name).is_file() and sha256_file(path.parent / name) == digest for name, digest in manifest["outputs"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, metadata.PackageNotFoundError):
        return False
