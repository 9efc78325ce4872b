"""What was seen of an epoch as it ended, in runs/NAME/dev/: NN.jsonl, its answers to the dev prompts, and NN.json, written last, the rest.

    {"epoch": 3, "model": "lima@3", "answered": {"file", "sha256", "prompts", "sampling"}, "held_out": {"file", "sha256", "max_tokens", "trimmed", "each"}}

Equal epochs give equal bytes: no clock, and a resumed run that looks at an epoch again writes the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..errors import LimakitError
from ..records import Prompt, Record, Response, first_problem, read_jsonl, write_jsonl
from ..workspace import sha256_file, sha256_json, write_text


class Sampled(Record):
    """How the dev prompts were answered: the keys of [generate], `max_tokens` as [dev] says."""

    temperature: float
    top_p: float
    repetition_penalty: float
    max_tokens: int
    penalise_prompt: bool = False


def prompt_hash(prompt: Prompt) -> str:
    """Of its turns, which are what is answered."""
    return sha256_json([[turn.role, turn.text] for turn in prompt.turns])


class Answered(Record):
    """The file of prompts, the hash of each by its id, and how they were answered. `left_out`: prompts that fill the model's context."""

    file: str
    sha256: str
    prompts: dict[str, str]
    sampling: Sampled
    left_out: tuple[str, ...] = ()


class Measured(Record):
    """One held-out example: the sum of -ln p over its response tokens (nats), and how many they are."""

    id: str
    nll: float
    tokens: int


class HeldOut(Record):
    """The loss on examples that were not trained on; those longer than `max_tokens` are cut there, as in training (`trimmed`)."""

    file: str
    sha256: str
    max_tokens: int
    trimmed: int
    each: tuple[Measured, ...]

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.each)

    @property
    def perplexity(self) -> float:
        """exp of the mean over all response tokens; infinite where a float cannot hold it."""
        mean = math.fsum(one.nll for one in self.each) / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


class Look(Record):
    """What was seen of one epoch; what was not looked at is None."""

    epoch: int
    model: str
    answered: Answered | None
    held_out: HeldOut | None


@dataclass(frozen=True)
class Place:
    """Where an epoch's look lies. `run` is the run's folder, runs/NAME."""

    run: Path
    epoch: int

    @property
    def responses(self) -> Path:
        return self.run / "dev" / f"{self.epoch:02}.jsonl"

    @property
    def look(self) -> Path:
        return self.run / "dev" / f"{self.epoch:02}.json"


def write_look(place: Place, look: Look, responses: Sequence[Response]) -> None:
    """Write both files, the look last; the older look goes first, so that none stands beside responses that are not its own."""
    place.look.unlink(missing_ok=True)
    if look.answered is not None:
        write_jsonl(place.responses, responses)
    else:
        place.responses.unlink(missing_ok=True)
    write_text(place.look, look.model_dump_json() + "\n")


def read_look(place: Place) -> Look | None:
    """The look at an epoch, None where it was not looked at. Raises LimakitError where it cannot be read."""
    remedy = "remove it, and limakit select --answer looks again, where the epoch's weights are kept"
    try:
        return Look.model_validate_json(place.look.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=place.look, remedy=remedy) from None
    except ValidationError as error:
        key, what = first_problem(error)
        raise LimakitError(f"{key}: {what}" if key else what, where=place.look, remedy=remedy) from None


def read_answers(place: Place, look: Look) -> list[Response]:
    """The responses of a look, in the order of the prompts; none where the prompts were not answered. Raises LimakitError for a damaged file."""
    return read_jsonl(place.responses, Response) if look.answered is not None else []


def same_prompts(look: Look | None, path: Path) -> bool:
    """Whether a look answered the prompts that are in a file now."""
    return look is not None and look.answered is not None and path.is_file() and look.answered.sha256 == sha256_file(path)
