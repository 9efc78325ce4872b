"""Super-Natural Instructions (Wang et al. 2022): a folder with one JSON file a task, each with a definition and many instances.

As the files differ over the years: `Definition` is a text or a list of wordings (the first is taken), an instance's `output` a text or a list,
its `id` may be absent; `Categories` are the 76 of version 2 ("Title Generation") or the older paths ("Text Modification -> Paraphrasing");
a file without `Input_language` is one of the older, English ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson

from ..errors import LimakitError, UsageError

# The categories whose answers are written rather than chosen, found or computed: those of version 2, then the older names.
GENERATION = (
    "Code to Text", "Data to Text", "Dialogue Generation", "Explanation", "Paper Review", "Paraphrasing", "Poem Generation", "Question Decomposition",
    "Question Generation", "Question Rewriting", "Sentence Composition", "Sentence Compression", "Sentence Expansion", "Story Composition",
    "Style Transfer", "Summarization", "Text Completion", "Text Simplification", "Title Generation",
    "Code Summarization", "Explanation Generation", "Hallucination", "Long Text Generation", "Paraphrase Generation", "Rhyme Generation",
    "Sentence Generation", "Story Completion", "Story Generation", "Summary Generation",
)  # fmt: skip
_BOM = b"\xef\xbb\xbf"
_NOT = {"incorrect", "classification", "verification"}  # steps of older paths that ask for something wrong, or for a label


@dataclass(frozen=True, slots=True)
class Instance:
    """`key` is the instance's id, or its number in the file where it has none."""

    key: str
    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskFile:
    """One task; `instances` are those that have an input and an output. `languages` are those of input and output ("" if unsaid)."""

    name: str
    definition: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    contributors: tuple[str, ...]
    sources: tuple[str, ...]
    url: str | None
    licence: str
    instances: tuple[Instance, ...]


def task_names(folder: Path) -> list[str]:
    """The names of the folder's task files, sorted, without ".json". Raises UsageError where there are none."""
    try:
        names = sorted(file.stem for file in folder.iterdir() if file.name.startswith("task") and file.suffix == ".json")
    except OSError as error:
        what = "no such folder" if isinstance(error, FileNotFoundError) else f"cannot be read as a folder: {error.strerror}"
        raise UsageError(what, where=folder, remedy="name the folder with the files task*.json") from None
    if not names:
        below = [sub.name for sub in sorted(folder.iterdir()) if sub.is_dir() and any(sub.glob("task*.json"))]
        raise UsageError("no task*.json here", where=folder, remedy=f"name the folder {folder / below[0]}" if below else "mend the path")
    return names


def pinned(names: Sequence[str], wanted: Sequence[str], folder: Path) -> list[str]:
    """The names that a recipe's ids ("task045" or the whole name) stand for, sorted. Raises UsageError for one that is none or several."""
    found: list[str] = []
    for raw in wanted:
        id = raw.removesuffix(".json")
        hits = [name for name in names if name == id or name.startswith(f"{id}_")]
        if len(hits) > 1 and id not in hits:
            raise UsageError(f"tasks: {raw!r} is {len(hits)} tasks: {', '.join(hits[:4])}", where=folder, remedy="write the whole name")
        if not hits:
            near = get_close_matches(id, names, n=3, cutoff=0.5) or get_close_matches(id, [name.split("_")[0] for name in names], n=3)
            remedy = f"did you mean {', '.join(near)}?" if near else f"there are {len(names)} tasks, {names[0]} to {names[-1]}"
            raise UsageError(f"tasks: there is no {raw!r}", where=folder, remedy=remedy)
        found.append(id if id in hits else hits[0])
    return sorted(set(found))


def of_categories(categories: Sequence[str], wanted: Sequence[str] | None) -> bool:
    """Whether one of a task's categories is wanted: its whole name, or one step of its path. None: the text-writing ones (GENERATION)."""
    names = {name.casefold() for name in (GENERATION if wanted is None else wanted)}
    for category in categories:
        steps = [step.strip().casefold() for step in category.split("->")]
        if wanted is None and _NOT & set(steps):
            continue
        if category.casefold() in names or names & set(steps):
            return True
    return False


def read_task(path: Path) -> TaskFile:
    """One file. Raises LimakitError where the file cannot be opened, ValueError saying why it is no task, with line and byte where it is no JSON."""
    try:
        data = path.read_bytes()
        task = orjson.loads(data.removeprefix(_BOM))
    except OSError as error:
        raise LimakitError(f"cannot read: {error.strerror}", where=path, remedy="check the path and its permissions") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(_not_json(data, error)) from None
    if not isinstance(task, dict):
        raise ValueError("is no object")
    definition = next(iter(_texts(task.get("Definition"))), "")
    if not definition:
        raise ValueError("has no Definition")
    instances = task.get("Instances")
    if not isinstance(instances, list):
        raise ValueError("has no list of Instances")
    return TaskFile(
        name=path.stem,
        definition=definition,
        categories=_texts(task.get("Categories")),
        languages=(*_texts(task.get("Input_language")), *_texts(task.get("Output_language"))),
        contributors=_texts(task.get("Contributors")),
        sources=_texts(task.get("Source")),
        url=next((url for url in _texts(task.get("URL")) if url.startswith(("http://", "https://"))), None),
        licence=", ".join(_texts(task.get("Instance License"))),
        instances=tuple(instance for n, entry in enumerate(instances) if (instance := _instance(n, entry))),
    )


def _not_json(data: bytes, error: json.JSONDecodeError) -> str:
    """What is wrong, and where. (orjson counts characters, so the place in bytes is worked out from the text before it.)"""
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as bad:
        return f"is not UTF-8 (byte {bad.start + len(data) - len(data.removeprefix(_BOM))})"
    byte = len(text[: error.pos].encode()) + len(data) - len(data.removeprefix(_BOM))
    return f"is no JSON, or cut short: line {text.count(chr(10), 0, error.pos) + 1}, byte {byte}: {error.msg}"


def _instance(number: int, entry: Any) -> Instance | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("input"), str) or not entry["input"].strip():
        return None
    outputs = _texts(entry.get("output"))
    id = entry.get("id")
    return Instance(id if isinstance(id, str) and id else str(number), entry["input"].strip(), outputs) if outputs else None


def _texts(value: Any) -> tuple[str, ...]:
    """A text or a list of them, stripped; what is empty or no text is left out."""
    values = value if isinstance(value, list) else [value]
    return tuple(text.strip() for text in values if isinstance(text, str) and text.strip())
