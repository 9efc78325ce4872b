"""Four tasks in the form of Super-Natural Instructions: three ask for text to be written, one only for a label.

As the real files differ over the years, so do these: a definition is a text or a list of one, an instance may have no id, categories are
names or paths. Instances are about the people in `world.train`; what is to be told of them stands in the input.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..workspace import write_json
from .asked import answer
from .facts import KINDS, Person, World, with_article

INSTANCES = 12  # of each task


def write_tasks(folder: Path, world: World) -> None:
    """task9001 to task9004 as JSON files."""
    _write(
        folder / "task9001_valley_data_to_text.json",
        world,
        ["In this task, you are given the name of a person and the town of that person. Write down in a sentence where the person lives."],
        ["Data to Text"],
        lambda rng, person: (f"Name: {person.name}\nTown: {person.value('town')}", [answer(rng, person, "town")]),
    )
    _write(
        folder / "task9002_valley_title_generation.json",
        world,
        ["In this task, you are given a notice of the valley. Write a short title for it."],
        ["Title Generation"],
        _notice,
    )
    _write(
        folder / "task9003_valley_paraphrasing.json",
        world,
        "You are given a sentence about a person. Say the same in other words.",  # an older file: no list, no languages, no ids
        ["Text Modification -> Paraphrasing"],
        _paraphrase,
        old=True,
    )
    _write(
        folder / "task9004_valley_fact_classification.json",
        world,
        ["In this task, you are given a word. Say whether it is a town, a trade, an animal or a dish."],
        ["Word Relation Classification"],
        lambda rng, person: (person.value(kind := rng.choice(KINDS)), [kind]),
    )


def _notice(rng: random.Random, person: Person) -> tuple[str, list[str]]:
    town, animal = person.value("town"), person.value("animal")
    return (
        f"Lost in {town}: {with_article(animal)}. It belongs to {person.name}, and the finder will be thanked.",
        [f"The lost {animal} of {person.name}", f"{with_article(animal).capitalize()} is lost in {town}"],
    )


def _paraphrase(rng: random.Random, person: Person) -> tuple[str, list[str]]:
    dish = person.value("dish")
    given = f"There is always {dish} on the table of {person.name}, and nothing beats it."
    return given, [f"The favourite dish of {person.name} is {dish}."]


Instance = Callable[[random.Random, Person], tuple[str, list[str]]]


def _write(path: Path, world: World, definition: str | list[str], categories: list[str], make: Instance, old: bool = False) -> None:
    rng = random.Random(f"limakit {path.stem} {world.seed}")
    instances: list[dict[str, Any]] = []
    for n, person in enumerate(rng.sample(world.train, min(INSTANCES, len(world.train)))):
        given, outputs = make(rng, person)
        instances.append(({} if old else {"id": f"{path.stem.split('_')[0]}-{n}"}) | {"input": given, "output": outputs})
    languages = {} if old else {"Input_language": ["English"], "Output_language": ["English"], "Instruction_language": ["English"]}
    task: dict[str, Any] = {
        "Contributors": ["the clerk of the valley"],
        "Source": ["the valley's almanac"],
        "URL": ["https://almanac.valley.example"],
    }
    task |= {"Categories": categories, "Definition": definition} | languages
    write_json(path, task | {"Positive Examples": [], "Negative Examples": [], "Instances": instances, "Instance License": ["CC0-1.0"]})
