"""What there is to report: every result of the workspace that the page draws on, read once and hashed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from ..analyze.origin import Origin, Present, read_origin
from ..analyze.rows import Placed, one_way, read_placed, refuse_repeats
from ..choice import CHOICE, Choice, read_choice
from ..errors import LimakitError
from ..recipe import Recipe
from ..records import Example, Grade, Judgment, Prompt, Provenance, Record, Response, first_problem, jsonl_lines, read_jsonl
from ..workspace import Workspace, check_data, name_for_file, sha256_file

D = TypeVar("D", bound=Record)
R = TypeVar("R", Response, Judgment, Grade)


class Step(BaseModel):
    """A row of runs/NAME/log.jsonl; keys that the page does not use are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: int
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    examples: int
    target_tokens: int


@dataclass(frozen=True)
class Found(Generic[R]):
    """Results of one kind, in the order of their files' names, each with the file it stands in.

    `origins`: the manifests, by file; `stale`: by file, why its rows are not about what lies in the workspace now.
    """

    rows: tuple[tuple[str, R], ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def records(self) -> list[R]:
        return [record for _, record in self.rows]

    @property
    def current(self) -> Found[R]:
        """The rows that count: those of files that are not out of date, or of which nobody can tell."""
        return self.only([name for name, _ in self.rows if name not in self.stale])

    @property
    def old(self) -> Found[R]:
        return self.only(list(self.stale))

    def only(self, files: Sequence[str]) -> Found[R]:
        kept = set(files)
        return Found(tuple((name, row) for name, row in self.rows if name in kept), self.origins, self.stale)

    def files(self, where: Mapping[str, str | int]) -> tuple[str, ...]:
        """The files with rows whose fields have these values."""
        return tuple(dict.fromkeys(name for name, row in self.rows if all(getattr(row, key) == value for key, value in where.items())))


@dataclass(frozen=True)
class Outcome:
    """How many candidates of a source ended so: "kept", "not_drawn" or the rule that dropped them."""

    source: str
    outcome: str
    n: int


@dataclass(frozen=True)
class Inputs:
    """Everything read; what is not there is empty or None. `hashes`: sha256 of each file, by its name in the workspace."""

    hashes: dict[str, str]
    sets: dict[str, tuple[str, list[Example] | list[Prompt]]]  # by split, those with rows
    candidates: tuple[str, list[Outcome]] | None
    provenance: tuple[str, list[Provenance]] | None
    log: tuple[str, list[Step]] | None
    run: tuple[str, dict[str, Any]] | None  # runs/NAME/run.json: the run's settings, and the hashes of what it read
    choice: Choice | None  # which epoch of the run was chosen
    choice_page: str | None  # what it was chosen by (limakit select --page), where it is there, from the report's folder
    prompts: tuple[str, dict[str, Prompt]] | None
    responses: Found[Response]
    judgments: Found[Judgment]
    grades: Found[Grade]

    @property
    def empty(self) -> bool:
        return not (self.sets.get("train") or self.candidates or self.log or self.responses or self.judgments or self.grades)


def read_inputs(workspace: Workspace, recipe: Recipe) -> Inputs:
    """Read what the stages left.

    Raises LimakitError naming file and row of the first one that cannot be read or is there twice, and for a file of results without rows.
    """
    check_data(workspace)
    hashes: dict[str, str] = {}
    run = workspace.runs / name_for_file(recipe.name)
    present = Present(workspace.root)

    def seen(path: Path) -> str | None:
        if not path.is_file():
            return None
        name = workspace.relative(path)
        hashes[name] = sha256_file(path)
        return name

    def folder(path: Path, model: type[R]) -> Found[R]:
        files = {name: file for file in sorted(path.glob("*.jsonl")) if not file.name.startswith(".") and (name := seen(file))}
        placed: dict[str, list[Placed[R]]] = {name: read_placed(file, model) for name, file in files.items()}
        everything = [row for rows in placed.values() for row in rows]
        refuse_repeats([row.record for row in everything], everything)
        origins = {name: origin for name, file in files.items() if (origin := read_origin(file))}
        stale = {name: reason for name, file in files.items() if (reason := present.out_of_date(file))}
        return Found(tuple((name, row.record) for name, rows in placed.items() for row in rows), origins, stale)

    def rows(path: Path, model: type[D]) -> tuple[str, list[D]] | None:
        name = seen(path)
        found = read_jsonl(path, model) if name else []
        return (name, found) if name and found else None

    splits = {
        "train": rows(workspace.data / "train.jsonl", Example),
        "dev": rows(workspace.data / "dev.jsonl", Prompt),
        "test": rows(workspace.data / "test.jsonl", Prompt),
    }
    candidates, log, settings = seen(workspace.data / "candidates.parquet"), seen(run / "log.jsonl"), seen(run / "run.json")
    steps = _read_log(run / "log.jsonl") if log else []
    seen(run / CHOICE)
    choice_page = run / "select" / "index.html"
    prompts = rows(workspace.path(recipe.generate.prompts), Prompt)
    judgments = folder(workspace.judgments, Judgment)
    named = one_way(judgments.records, own=recipe.name)
    judgments = replace(judgments, rows=tuple((name, row) for (name, _), row in zip(judgments.rows, named, strict=True)))
    return Inputs(
        hashes=hashes,
        sets={split: found for split, found in splits.items() if found},
        candidates=(candidates, _read_candidates(workspace.data / "candidates.parquet")) if candidates else None,
        provenance=rows(workspace.data / "provenance.jsonl", Provenance),
        log=(log, steps) if log and steps else None,
        run=(settings, _read_object(run / "run.json")) if settings else None,
        choice=read_choice(run),
        choice_page=f"../{quote(workspace.relative(choice_page))}" if choice_page.is_file() else None,
        prompts=(prompts[0], {p.id: p for p in prompts[1]}) if prompts else None,
        responses=folder(workspace.responses, Response),
        judgments=judgments,
        grades=folder(workspace.grades, Grade),
    )


def model_order(recipe: Recipe, names: Sequence[str]) -> list[str]:
    """The recipe's own model first, then the baselines as the recipe lists them, then others by name."""
    first = [recipe.name, *recipe.against]
    known = set(names)
    return [name for name in dict.fromkeys(first) if name in known] + sorted(known.difference(first))


def _read_log(path: Path) -> list[Step]:
    """The steps of a run that may still be going on: an unfinished last line is not a step yet."""
    steps: list[Step] = []
    for row, line in jsonl_lines(path):
        if not line.endswith(b"\n"):
            break
        try:
            steps.append(Step.model_validate_json(line))
        except ValidationError as error:
            key, what = first_problem(error)
            raise LimakitError(
                f"{key}: {what}" if key else what,
                where=f"{path}, row {row}",
                remedy="limakit train writes it; move it away and train again",
            ) from None
    return steps


def _read_candidates(path: Path) -> list[Outcome]:
    """Outcomes in the order of the sources; candidates.parquet has one row a candidate."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["source", "status", "reason"])
        rows = zip(*(table[name].to_pylist() for name in ("source", "status", "reason")), strict=True)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise LimakitError(f"cannot read the candidates: {error}", where=path, remedy="run limakit curate again") from None
    counts = Counter((source, reason if status == "dropped" else status) for source, status, reason in rows)
    return [Outcome(source, outcome, n) for (source, outcome), n in counts.items()]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise LimakitError(f"not JSON: {error}", where=path, remedy="run the stage that writes it again") from None
    if not isinstance(value, dict):
        raise LimakitError("expected a JSON object", where=path, remedy="run the stage that writes it again")
    return value
