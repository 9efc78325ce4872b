"""What a run writes, and how it goes on after a kill.

    runs/NAME/run.json        settings and hashes of the inputs, written first: a run that goes on must have the same
              log.jsonl       a row a step, the same for every run of the same settings (on CPU)
              times.jsonl     wall clock, apart from the log because it never repeats
              epochs/NN/      a model folder that plain transformers loads; whole or absent
              resume/NN/      the optimiser's state for the newest epoch, gone when the run is finished
              final/          the last epoch
              manifest.json   written last

resume/NN is written before epochs/NN, and the older state goes only after it, so at every moment some epoch has both. Each of these folders
holds the hashes of its files as they were written (sha256.json): what a disk or a hand has spoilt is neither gone on from nor signed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LimakitError
from ..progress import warn
from ..workspace import atomic_dir, sha256_file, sha256_tree, write_json, write_manifest
from .log import Log

SUMS = "sha256.json"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. `settings` and `inputs` are what its result depends on; on `environment` (versions, threads) its last bits do."""

    path: Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    environment: dict[str, str]
    packages: tuple[str, ...] = ("torch", "transformers", "tokenizers")

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def times(self) -> Path:
        return self.path / "times.jsonl"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    def epoch(self, number: int) -> Path:
        return self.path / "epochs" / f"{number:02}"

    def state(self, number: int) -> Path:
        return self.path / "resume" / f"{number:02}"

    def claim(self) -> None:
        """Write run.json while no epoch is there; later check that the run that is here has the same settings and inputs.

        Raises LimakitError with what differs. Another environment is only told: it changes the last bits of the result at most.
        """
        path = self.path / "run.json"
        now = json.loads(json.dumps({"settings": self.settings, "inputs": self.inputs, "environment": self.environment}))
        if not self._epochs() and not self.manifest.exists():  # nothing has come of it yet: a start that failed binds nobody
            write_json(path, now)
            return
        try:
            before = json.loads(path.read_bytes())
            differences = [line for key in ("settings", "inputs") for line in _differences(before[key], now[key])]
            elsewhere = list(_differences(before["environment"], now["environment"]))
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            raise LimakitError("is gone or not readable", where=path, remedy=self.remedy) from None
        if differences:
            shown = "\n".join(f"  {line}" for line in differences)
            raise LimakitError(
                f"holds a run with other settings or data:\n{shown}",
                where=self.path,
                remedy="give the recipe another name, undo the change, or remove that folder to train anew",
            )
        if elsewhere:
            warn(f"{self.path} may differ in the last bits from a run that was never stopped, for {'; '.join(elsewhere)}")

    def newest_epoch(self, epochs: int) -> int:
        """The newest epoch to go on from; 0 for none. Raises LimakitError where an epoch is gone or there is no state to go on with."""
        here = self._epochs()
        whole = epochs if self.manifest.exists() else max(here, default=0)
        gone = [n for n in range(1, whole + 1) if n not in here]
        if gone:
            raise LimakitError("is gone", where=self.epoch(gone[0]), remedy=self.remedy)
        if here and here[-1] >= epochs:
            return epochs
        both = [n for n in here if self.state(n).is_dir()]
        if here and not both:
            raise LimakitError("has epochs but no optimiser state to go on from (resume/)", where=self.path, remedy=self.remedy)
        return max(both, default=0)

    def save_epoch(self, number: int, *, weights: Callable[[Path], None], state: Callable[[Path], None]) -> None:
        """Write the optimiser's state, then the epoch, each by the function given for it; then drop the states of other epochs."""
        with atomic_dir(self.state(number)) as part:
            state(part)
            write_json(part / SUMS, sha256_tree(part))
        with atomic_dir(self.epoch(number)) as part:
            weights(part)
            write_json(part / SUMS, sha256_tree(part))
        for old in (self.path / "resume").iterdir():
            if old != self.state(number):
                shutil.rmtree(old, ignore_errors=True)

    def verify(self, number: int) -> None:
        """That an epoch and its state are what was written. Raises LimakitError naming the file that is not."""
        self._hashes(self.epoch(number))
        self._hashes(self.state(number))

    def finish(self, epochs: int, steps: int) -> None:
        """final/ and, last of all, the manifest; nothing is needed to resume any more.

        Raises LimakitError for an epoch that is not what was written, and where a manifest that is there says otherwise.
        """
        Log(self.log, keep=steps).close()
        outputs = {"log.jsonl": sha256_file(self.log)}
        for number in range(1, epochs + 1):
            last = self._hashes(self.epoch(number))
            outputs |= {f"epochs/{number:02}/{name}": digest for name, digest in last.items()}
        outputs |= {f"final/{name}": digest for name, digest in last.items()}
        for name, digest in self._manifest_outputs().items():
            if outputs.get(name, digest) != digest:
                raise LimakitError("is not what the finished run wrote (manifest.json)", where=self.path / name, remedy=self.remedy)
        with atomic_dir(self.final) as part:
            for name in last:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                _link(self.epoch(epochs) / name, part / name)
        shutil.rmtree(self.path / "resume", ignore_errors=True)
        write_manifest(
            self.manifest, stage="train", settings=self.settings, inputs=self.inputs, outputs=outputs, packages=self.packages
        )  # fmt: skip

    @property
    def remedy(self) -> str:
        return f"put back an undamaged copy, or remove {self.path} and train again"

    def _epochs(self) -> list[int]:
        return sorted(int(p.name) for p in (self.path / "epochs").glob("*") if p.name.isdigit())

    def _hashes(self, folder: Path) -> dict[str, str]:
        """The files of an epoch or state and their hashes, which have to be those they were written with."""
        try:
            written = dict(json.loads((folder / SUMS).read_bytes()))
        except (OSError, ValueError, TypeError):
            raise LimakitError("is gone or not readable", where=folder / SUMS, remedy=self.remedy) from None
        for name, digest in written.items():
            if not (folder / name).is_file():
                raise LimakitError("is gone", where=folder / name, remedy=self.remedy)
            if sha256_file(folder / name) != digest:
                raise LimakitError("is damaged: its bytes are not those that were written", where=folder / name, remedy=self.remedy)
        return written

    def _manifest_outputs(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.manifest.read_bytes())["outputs"])
        except (OSError, ValueError, KeyError, TypeError):  # none, or none that says anything
            return {}


def _link(source: Path, target: Path) -> None:
    """Hard link where the file system can: checkpoint files are never written in place, and they are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif before != now:
        yield f"{key}: was {json.dumps(before)}, is now {json.dumps(now)}"
