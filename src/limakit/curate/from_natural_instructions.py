"""Super-Natural Instructions as candidates: one random instance of each task, lightly edited (paper, section 2.1).

The edit, which `changes` names: the prompt is the task's definition, a blank line and the instance's input; the definition loses its
"In this task, " and headings with nothing under them; text that was cut into tokens ("do n't go .") is put together again; a response that
is a sentence begins with a capital letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import LimakitError
from ..recipe_sources import ANSWERED, NaturalInstructionsSource
from ..records import Author, Provenance, Turn
from ..sources.natural_instructions import Instance, TaskFile, of_categories, pinned, read_task, task_names
from .batches import folder_tasks
from .candidate import Candidate, Text
from .engine import Work
from .pool import batch_of
from .sampling import unit


def inputs(source: NaturalInstructionsSource, path: Path) -> dict[str, Path]:
    """The task files, or of pinned tasks theirs alone. Raises UsageError where there are none, or not those that are pinned."""
    names = task_names(path)
    if source.tasks is not None:
        names = pinned(names, source.tasks, path)
    return {f"{source.path.rstrip('/')}/{name}.json": path / f"{name}.json" for name in names}


def offer(source: NaturalInstructionsSource, path: Path, work: Work) -> Iterator[pa.RecordBatch | pa.Table]:
    """A candidate a task file, by name. Those that are not pinned are not read; a damaged one is "malformed". Raises LimakitError where none can be read."""
    names = task_names(path)
    wanted = names if source.tasks is None else pinned(names, source.tasks, path)
    others = set(names) - set(wanted)
    if others:
        yield batch_of(Candidate(name, name).drop("not_pinned") for name in sorted(others))
    arguments = {"source": source.model_dump(mode="json", exclude={"path", "take", "allow_fewer"}), "seed": work.seed}
    tasks = folder_tasks(path, [f"{name}.json" for name in wanted], work, arguments)
    read, damage = 0, ""
    for table in work.run(judged, tasks, f"read {source.label}"):
        damaged = table.filter(pc.equal(table["reason"], "malformed"))
        read += len(table) - len(damaged)
        damage = damage or (damaged["detail"][0].as_py() if len(damaged) else "")
        yield table
    if not read:
        what = f"none of the {len(wanted)} task files can be read; {damage}"
        raise LimakitError(what, where=path, remedy="fetch them again; they are JSON as in the published repository")


def judged(folder: Path, names: list[str], source: dict[str, Any], seed: int) -> pa.Table:
    """The candidates of some task files (a task of the engine)."""
    made = NaturalInstructionsSource.model_validate(source | {"path": "-", "take": 1})
    return pa.Table.from_batches([batch_of(_judged(made, folder / name, seed) for name in names)])


def _judged(source: NaturalInstructionsSource, path: Path, seed: int) -> Candidate:
    bare = Candidate(path.stem, path.stem, url=f"{source.url.rstrip('/')}/{path.stem}.json")
    try:
        task = read_task(path)
    except ValueError as error:
        return bare.drop("malformed", f"{path.name}: {error}")
    if source.tasks is None:  # a pinned task is somebody's own choice
        if not of_categories(task.categories, source.categories):
            return bare.drop("not_generation" if source.categories is None else "other_category", "; ".join(task.categories))
        foreign = [language for language in task.languages if language.casefold() != "english"]
        if foreign:
            return bare.drop("not_english", ", ".join(dict.fromkeys(foreign)))
    return _drawn(source, bare, task, seed)


def _drawn(source: NaturalInstructionsSource, bare: Candidate, task: TaskFile, seed: int) -> Candidate:
    """The first instance that fits, in an order of the seed's."""
    misfit: tuple[str, str] | None = None
    for instance in sorted(task.instances, key=lambda i: (unit(seed, "instance", task.name, i.key), i.key, i.input, i.outputs)):
        output = _output(instance, task, seed)
        code = any(_OF_CODE.search(category) for category in task.categories)
        prompt, response = prompt_of(task.definition, instance.input, code=code), response_of(output, code=code)
        problem = _problem("prompt_", prompt, source.prompt_chars) or _problem("", response, source.response_chars)
        if problem is None:
            edited = (prompt, response) != (f"{task.definition}\n\n{instance.input}", output)
            changes = f"the definition and the input of instance {instance.key} make the prompt"
            if len(instance.outputs) > 1:
                changes += f", one of its {len(instance.outputs)} outputs the response"
            changes += "; lightly edited: openings shortened, words cut apart put together, first letters made capitals" if edited else ""
            return _taken(source, bare, task, prompt, response, changes)
        misfit = misfit or problem
    if misfit is None:
        return bare.drop("no_instances")
    return bare.drop(misfit[0], f"{misfit[1]}; none of {len(task.instances)} instances fits")


def _output(instance: Instance, task: TaskFile, seed: int) -> str:
    return min(enumerate(instance.outputs), key=lambda pair: unit(seed, "output", task.name, instance.key, pair[0]))[1]


def _problem(part: str, text: str, chars: tuple[int, int]) -> tuple[str, str] | None:
    if chars[0] <= len(text) <= chars[1]:
        return None
    return f"{part}too_{'short' if len(text) < chars[0] else 'long'}", str(len(text))


def _taken(source: NaturalInstructionsSource, bare: Candidate, task: TaskFile, prompt: str, response: str, changes: str) -> Candidate:
    user, assistant = Turn(role="user", text=prompt), Turn(role="assistant", text=response)
    training = source.split in ANSWERED
    provenance = Provenance(
        id=bare.id,
        source=source.label,
        url=bare.url,
        authors=(
            *(Author(name=name, wrote="definition") for name in task.contributors),
            *(Author(name=name, url=task.url, wrote="instance") for name in task.sources[:1]),
        )
        or (Author(name="Super-Natural Instructions contributors"),),
        licence=f"{source.licence} (definition), {task.licence or 'unstated'} (instance)",
        changes=changes,
        title=task.name,
    )
    text = Text(
        source=source.label,
        turns=(user, assistant) if training else (user,),
        reference=None if training else response,
        tags=tuple(dict.fromkeys(category.split("->")[-1].strip() for category in task.categories)),
        provenance=provenance,
    )
    return Candidate(bare.id, bare.stratum, url=bare.url, response_chars=len(response), text=text)


_OPENING = re.compile(r"^In this task,?\s+(?=(?:you|we|your)\b)", re.IGNORECASE)
_NOTHING_UNDER = re.compile(r"(?m)^[ \t]*(?:Things to avoid|Emphasis\s?&\s?Caution|Emphasis|Caution)[ \t]*:[ \t]*-?[ \t]*(?:\n|\Z)")


def prompt_of(definition: str, given: str, *, code: bool = False) -> str:
    """A task's definition, a blank line, an instance's input, which stays as it is where the task is about `code`."""
    definition = _NOTHING_UNDER.sub("", _OPENING.sub("", definition)).strip()
    return f"{definition[:1].upper()}{definition[1:]}\n\n{given if code else together(given)}"


def response_of(output: str, *, code: bool = False) -> str:
    """One output as a response."""
    if code:
        return output
    text = together(output)
    return text[:1].upper() + text[1:] if text[-1:] in ".!?" and text[:1].islower() and text[:1].isascii() else text


_OF_CODE = re.compile(r"\b(?:code|programs?|programming|sql)\b", re.IGNORECASE)
# what stands in code, markup and formulas and hardly in sentences that were cut into tokens; where it is found nothing is put together
_LIKE_CODE = re.compile(
    r"[{}\\]|[=!<>]=|[-=]>|;\s*(?:\n|\Z)|\w[(\[]|\w_\w|</|/>|::|&&|\|\||\s[=+*<>|^]\s|\b(?:def|return|import|SELECT|WHERE)\s\w"
)
_APART = re.compile(r"\w [.!?](?:\s|$)")
_JOINS = [
    (re.compile(r"`` ?([^`]{0,500}?) ?''"), r'"\1"'),
    (re.compile(r" (?=n['’]t\b|['’](?:s|re|ve|ll|d|m)\b)"), ""),
    (re.compile(r"(?<=\w) (?=[.,;:!?](?:\s|$))"), ""),
    (re.compile(r"(?<=[(\[]) | (?=[)\]])"), ""),
]


def together(text: str) -> str:
    """Text that was cut into tokens, put together again; other text, which has no lone full stops or looks like code, as it is."""
    if not _APART.search(text) or _LIKE_CODE.search(text):
        return text
    for pattern, by in _JOINS:
        text = pattern.sub(by, text)
    return text
