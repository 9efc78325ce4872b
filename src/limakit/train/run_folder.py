"""What a run writes, and how it goes on after a kill.

    runs/NAME/run.json        settings and hashes of the inputs, written first: a run that goes on must have the same
              log.jsonl       a row a step, the same for every run of the same settings (on CPU)
              times.jsonl     wall clock, apart from the log because it never repeats
              epochs/NN/      a model folder that plain transformers loads; whole or absent
              dropped.json    epochs whose weights went by the recipe's train.keep, and the hashes they had; their rows in log.jsonl and dev/ stay
              resume/NN/      the optimiser's state for the newest epoch, gone when the run is finished
              final/          the last epoch
              manifest.json   written last

resume/NN is written before epochs/NN, and the older state goes only after it, so at every moment some epoch has both. Each of these folders
holds the hashes of its files as they were written (sha256.json): what a disk or a hand has spoilt is neither gone on from nor signed.

An epoch is dropped in this order: dropped.json names it, the manifest (if there is one) lists it no more, its folder goes in one rename. The
newest epoch and the chosen one (choice.json) are never dropped, nor is one that nobody has looked at where epochs are looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..choice import SUMS, choosing, epoch_folder, read_choice
from ..errors import LimakitError
from ..progress import say, warn
from ..workspace import PARTIAL, atomic_dir, sha256_file, sync_folder, write_json, write_manifest
from .log import Log
from .ranks import ALONE, Ranks, hashes_together, shared_dir

Keep = Literal["all", "picked"] | int


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. `settings` and `inputs` are what its result depends on; on `environment` (versions, threads) its last bits do."""

    path: Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    environment: dict[str, str]
    packages: tuple[str, ...] = ("torch", "transformers", "tokenizers")

    @property
    def base(self) -> dict[str, str]:
        """The fingerprint of the base."""
        return {name.removeprefix("base/"): digest for name, digest in self.inputs.items() if name.startswith("base/")}

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
        return epoch_folder(self.path, number)

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
        gone = [n for n in range(1, whole + 1) if n not in here and n not in self.dropped]
        if gone:
            raise LimakitError("is gone", where=self.epoch(gone[0]), remedy=self.remedy)
        if here and here[-1] >= epochs:
            return epochs
        both = [n for n in here if self.state(n).is_dir()]
        if here and not both:
            raise LimakitError("has epochs but no optimiser state to go on from (resume/)", where=self.path, remedy=self.remedy)
        return max(both, default=0)

    def save_epoch(self, number: int, *, weights: Callable[[Path], None], state: Callable[[Path], None], ranks: Ranks = ALONE) -> None:
        """Write the optimiser's state, then the epoch, each by the function given for it; then drop the states of other epochs.

        All ranks call it, and each function on all of them; rank 0's functions are the ones that have to write what is written once.
        """
        for folder, write in ((self.state(number), state), (self.epoch(number), weights)):
            with shared_dir(folder, ranks) as part:
                write(part)
                hashes = hashes_together(part, ranks)
                if ranks.first:
                    write_json(part / SUMS, hashes)
        if not ranks.first:
            return
        for old in (self.path / "resume").iterdir():
            if old != self.state(number):
                shutil.rmtree(old, ignore_errors=True)

    def verify(self, number: int, ranks: Ranks = ALONE) -> None:
        """That an epoch and its state are what was written. All ranks call it. Raises LimakitError naming the file that is not."""
        self._hashes(self.epoch(number), ranks)
        self._hashes(self.state(number), ranks)

    def finish(self, epochs: int, steps: int, ranks: Ranks = ALONE) -> None:
        """final/ and, last of all, the manifest; nothing is needed to resume any more. All ranks call it: they share out the files to look at,
        hundreds of gigabytes for large models.

        Raises LimakitError for an epoch that is not what was written, and where a manifest that is there says otherwise.
        """

        def kept() -> list[int]:
            Log(self.log, keep=steps).close()
            dropped = self.dropped
            return [n for n in range(1, epochs + 1) if n not in dropped or self.epoch(n).is_dir()]

        hashes = {number: self._hashes(self.epoch(number), ranks) for number in ranks.lead(kept)}
        if ranks.first:
            self._sign(epochs, hashes)

    def _sign(self, epochs: int, hashes: dict[int, dict[str, str]]) -> None:
        """final/ and the manifest of epochs whose files have these hashes."""
        last = hashes[epochs]
        outputs = {"log.jsonl": sha256_file(self.log)}
        outputs |= {f"epochs/{number:02}/{name}": digest for number, files in hashes.items() for name, digest in files.items()}
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
    def dropped(self) -> dict[int, dict[str, str]]:
        """Epochs that `drop` has named, each with the hashes of its files. Raises LimakitError where the list is damaged."""
        path = self.path / "dropped.json"
        try:
            return {int(number): dict(files) for number, files in json.loads(path.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            raise LimakitError("is not readable", where=path, remedy=self.remedy) from None

    def drop(self, keep: Keep, seen: Callable[[int], bool] | None = None) -> list[int]:
        """Let go of the weights that the policy does not keep, and say so; returns the epochs. The newest and the chosen one always stay.

        A number keeps that many newest epochs. "picked" keeps the chosen one and the newest, once something is chosen; until then all, for
        what is not there cannot be chosen. An epoch that was not `seen` stays too: its weights are all that can still tell what it says. To be
        called when all that is newer is whole on the disk.
        """
        with choosing(self.path):
            try:
                choice = read_choice(self.path)
            except LimakitError as error:
                warn(f"no epoch is dropped while the choice cannot be read: {error.message}")
                return []
            here = self._epochs()
            newest = len(here) if keep == "all" or (keep == "picked" and choice is None) else 1 if keep == "picked" else keep
            stay = {*here[-newest:], *([choice.epoch] if choice else [])}
            may_go = [n for n in here if n not in stay]
            going = [n for n in may_go if seen is None or seen(n)]
            if (unseen := [n for n in may_go if n not in going]) and self.manifest.exists():  # said once, when the run is finished
                say(f"{_epochs_text(unseen)} not looked at and not dropped: limakit select --answer, then limakit train drops (train.keep)")
            listed = self.dropped
            named = {n: files for n, files in listed.items() if n not in here} | {n: self._written(self.epoch(n)) for n in going}
            if named != listed:
                write_json(self.path / "dropped.json", {f"{n:02}": named[n] for n in sorted(named)})
            if not going:
                return []
            self._list_no_more(going)
            for number in going:
                aside = (
                    self.path / "epochs" / f"{PARTIAL}{number:02}-dropped"
                )  # in one rename, and swept by the next run if this one is killed now
                os.replace(self.epoch(number), aside)
                sync_folder(aside.parent)
                shutil.rmtree(aside, ignore_errors=True)
        say(f"dropped the weights of {_epochs_text(going)} (train.keep = {json.dumps(keep)}); what was logged and answered stays")
        return going

    def _list_no_more(self, numbers: Sequence[int]) -> None:
        """Take epochs out of the manifest's outputs, where there is a manifest."""
        try:
            manifest = json.loads(self.manifest.read_bytes())
            outputs = manifest["outputs"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            raise LimakitError("is not readable", where=self.manifest, remedy=f"{self.remedy}; no epoch was dropped") from None
        gone = tuple(f"epochs/{number:02}/" for number in numbers)
        write_json(self.manifest, manifest | {"outputs": {name: digest for name, digest in outputs.items() if not name.startswith(gone)}})

    @property
    def remedy(self) -> str:
        return f"put back an undamaged copy, or remove {self.path} and train again"

    def _epochs(self) -> list[int]:
        return sorted(int(p.name) for p in (self.path / "epochs").glob("*") if p.name.isdigit())

    def _written(self, folder: Path) -> dict[str, str]:
        """The files of an epoch or state and the hashes they were written with."""
        try:
            return dict(json.loads((folder / SUMS).read_bytes()))
        except (OSError, ValueError, TypeError):
            raise LimakitError("is gone or not readable", where=folder / SUMS, remedy=self.remedy) from None

    def _hashes(self, folder: Path, ranks: Ranks) -> dict[str, str]:
        """As `_written`, each file looked at, by one of the ranks."""
        written = ranks.lead(lambda: self._written(folder))
        found = hashes_together(folder, ranks)
        for name, digest in written.items():
            if name not in found:
                raise LimakitError("is gone", where=folder / name, remedy=self.remedy)
            if found[name] != digest:
                raise LimakitError("is damaged: its bytes are not those that were written", where=folder / name, remedy=self.remedy)
        return written

    def _manifest_outputs(self) -> dict[str, str]:
        try:
            return dict(json.loads(self.manifest.read_bytes())["outputs"])
        except (OSError, ValueError, KeyError, TypeError):  # none, or none that says anything
            return {}


def _epochs_text(numbers: Sequence[int]) -> str:
    return f"epochs {', '.join(map(str, numbers))}" if len(numbers) > 1 else f"epoch {numbers[0]}"


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
