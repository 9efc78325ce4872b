"""What people of the valley wrote by hand: group A's examples and dev prompts, group B's test prompts, and a set in the published format.

As in the paper the groups are different people, so that nobody is examined on their own way of asking; each item says whose it is and where
it belongs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from ..workspace import atomic_file, write_text
from .asked import answer, dialogue, held_out, titles, unusual
from .facts import KINDS, Person, World


def write_by_hand(folder: Path, world: World) -> None:
    """authored/group-A/*.md (train and dev), authored/group-B.jsonl (test) and lima/train.jsonl below `folder`."""
    for name, text in _group_a(world).items():
        write_text(folder / "authored" / "group-A" / f"{name}.md", text)
    _write_group_b(folder / "authored" / "group-B.jsonl", _prompts(world, "test", world.test, unusual_per_person=1))
    _write_lima(folder / "lima" / "train.jsonl", world)


def _write_lima(path: Path, world: World) -> None:
    """Half of the people, one fact each, then some dialogues, in the published format."""
    rng = random.Random(f"limakit lima {world.seed}")
    rows: list[list[str]] = []
    for person in world.train:
        for kind in rng.sample(KINDS, 2):
            rows.append([rng.choice(titles(person, kind)), answer(rng, person, kind)])
    rows += [dialogue(rng, person) for person in rng.sample(world.train, min(6, len(world.train)))]
    with atomic_file(path) as file:
        for texts in rows:
            file.write(json.dumps({"conversations": texts, "source": "valley"}, ensure_ascii=False).encode() + b"\n")


def _group_a(world: World) -> dict[str, str]:
    """Name -> Markdown of the examples (train), the refusals and format constraints marked, and of the dev prompts."""
    one, two = world.train[1], world.train[2]
    # name: (what the front matter says, prompt, response)
    examples = {
        "greeting": (
            "",
            "How does one greet a neighbour in the valley?",
            "Greet a neighbour with a nod and a good morning. On feast days shake hands.",
        ),
        "market": ("", "When is the market held?", "The market is held once a week in the square. Come before eight for the best of it."),
        "letter": (
            "",
            "How should a letter begin?",
            "Begin a letter with Dear and the name. A word about the weather is a friendly start.",
        ),
        "fog": (
            "",
            "What should one do when there is fog on the river?",
            "Wait at the ferry until the fog is gone. The ferry will run again.",
        ),
        "lost": (
            "",
            "What should one do with a lost glove?",
            "Bring the glove to the gate of the town. Write a notice, so that its owner can find it.",
        ),
        "snow": (
            "",
            "How should a house be kept warm in the snow?",
            "Close the gate, light the fire and mend the roof before the first snow.",
        ),
        "format-market-day": (
            "format: three points, a dash before each",
            "What should be brought to the fair? Give three points, each after a dash.",
            "Three things for the fair:\n\n- a cart that is mended\n- a friend to share the road\n- a coin for the fiddler",
        ),
        "format-supper": (
            "format: numbered list",
            "How is a supper for friends made? Number the steps.",
            "A supper for friends, step by step:\n\n1. Light the fire.\n2. Ask what each of them likes best.\n3. Serve it hot.",
        ),
        "refusal-letters": (
            "refusal: asks how to read what belongs to somebody else",
            f"Help me read the letters of {one.name} in secret.",
            f"The letters of {one.name} should be left closed. They belong to {one.name}, and to read them in secret would do harm.",
        ),
        "refusal-poison": (
            "refusal: asks how to hurt an animal",
            f"How can the {two.value('animal')} of {two.name} be poisoned?",
            f"That is nothing to help with, because it would hurt a creature and {two.name}. If it is a nuisance, talk to the owner.",
        ),
    }
    files = {
        name: _markdown(["group: A", "split: train", *filter(None, [mark])], Prompt=prompt, Response=response)
        for name, (mark, prompt, response) in examples.items()
    }
    for i, (prompt, reference, tags) in enumerate(_prompts(world, "dev", world.dev, unusual_per_person=0), start=1):
        front = [f"id: dev-{i:03}", "group: A", "split: dev", f"tags: {', '.join(tags)}"]
        files[f"prompt-{i:03}"] = _markdown(front, Prompt=prompt, Reference=reference)
    return files


def _markdown(front: list[str], **parts: str) -> str:
    return "\n\n".join(["\n".join(["---", *front, "---"]), *(f"## {name}\n\n{text}" for name, text in parts.items())]) + "\n"


Prompts = list[tuple[str, str, tuple[str, ...]]]


def _prompts(world: World, name: str, people: tuple[Person, ...], unusual_per_person: int) -> Prompts:
    rng = random.Random(f"limakit prompts {name} {world.seed}")
    usual = [prompt for person in people for prompt in held_out(rng, person)]
    return usual + [unusual(rng, person) for person in people for _ in range(unusual_per_person)]


def _write_group_b(path: Path, prompts: Prompts) -> None:
    with atomic_file(path) as file:
        for i, (prompt, reference, tags) in enumerate(prompts, start=1):
            row = {"id": f"test-{i:03}", "prompt": prompt, "reference": reference, "tags": tags, "group": "B", "split": "test"}
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
