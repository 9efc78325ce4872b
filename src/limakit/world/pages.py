"""How-to pages of the valley in the form of the corpora of wikiHow articles: one JSON object a line, with categories, methods and steps.

They are in the words that the base has read, and short: the whole of one fits into the context that the demo trains with.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ..workspace import atomic_file
from .facts import World

HOST = "https://howto.valley.example"
Steps = tuple[tuple[str, str], ...]
# category -> (title, opening, steps as (headline, description), tips)
PAGES: dict[str, tuple[tuple[str, str, Steps, tuple[str, ...]], ...]] = {
    "Home and Garden": (
        (
            "Keep a House Warm",
            "This article shows how to keep a house warm in the snow.",
            (("Mend the roof", "Look for lost slates before the first snow."), ("Light the fire", "Close the door and sit down by it.")),
            ("A friend with a ladder is a good friend.",),
        ),
        (
            "Mend a Gate",
            "This <b>page</b> teaches how to mend an old gate. <a href=\"https://howto.valley.example/Gate\">More on gates</a>",
            (("Look at the rail", "An old rail needs a new one."), ("Close the gate slowly", "It should make no noise.[1]")),
            (),
        ),
        (
            "Make Candles Last",
            "In this guide, candles last the whole winter.",
            (("Close the window", "The wind makes a candle short."), ("Sit down together", "One candle is enough for three friends.")),
            ("Candles are best ordered before the market day.",),
        ),
    ),
    "Food and Entertaining": (
        (
            "Serve a Good Supper",
            "This article will show how a good supper is served.",
            (("Ask what is liked best", "A favourite dish makes everybody happy."), ("Serve it hot", "Share it with friends at one table.")),
            (),
        ),
        (
            "Plan a Feast",
            "This wikiHow teaches how to plan a feast for the whole street.",
            (("Make a list", "Write down all who will come."), ("Send for a fiddler", "There should be a song before the candles are out.")),
            ("Lanterns along the street are a friendly sight.",),
        ),
        (
            "Keep Soup Hot",
            "This tutorial is about soup.",
            (("Close the pot", "An open pot is soon cold."), ("Leave it by the fire", "There it stays hot, and it should never be in the fire.")),
            (),
        ),
    ),
    "Pets and Animals": (
        (
            "Greet an Animal",
            "This article shows how to greet an animal at the gate.",
            (("Come slowly", "A gentle hand calms every creature."), ("Say a friendly word", "Talk to it as to a friend.")),
            ("Please close the gate.",),
        ),
        (
            "Find a Lost Animal",
            "This article shows how to find an animal that is lost.",
            (("Look for tracks", "They are best seen in the snow."), ("Write a notice", "Say where it was lost, and thank the finder.")),
            (),
        ),
        (
            "Bring an Animal to the Fair",
            "This page tells how to bring an animal to the fair.",
            (("Set out early", "The road is full by eight."), ("Stay close", "It should never go far on market day.")),
            ("There is a prize for the best.",),
        ),
    ),
    "Travel": (
        (
            "Cross the River in Fog",
            "This article shows how to cross the river when there is fog.",
            (("Wait for the ferry", "It runs late, and it will run again."), ("Stop at the inn", "There is soup, and it is hot.")),
            (),
        ),
        (
            "Find the Way to a Town",
            "The article below shows how to find the way to a town.",
            (("Ask at the well", "Anyone there will point out the road."), ("Walk along the river", "The path is pleasant and the bridge is old.")),
            ("Ask twice when the bells ring.",),
        ),
        (
            "Get a Cart Out of the Mud",
            "This article shows how to get a cart out of the mud.",
            (("Make the cart light", "Bring down all that is on it."), ("Send for help", "Three friends and a pony will do.")),
            (),
        ),
    ),
}  # fmt: skip


def write_pages(path: Path, world: World) -> None:
    """The articles in an order of the world's seed, and rows that are none: cut short, without steps, an article once more."""
    rng = random.Random(f"limakit pages {world.seed}")
    rows = [_row(category, *page) for category, pages in PAGES.items() for page in pages]
    rng.shuffle(rows)
    no_steps = _row("Travel", "Stay at Home", "This article has nothing to tell.", (), ("Stay at home.",))
    of_itself = _row("Travel", "Read a Map", "A map is soon read.", (("Look at it", "This article cannot tell more."),), ())
    rows += [rows[0], no_steps, of_itself]
    with atomic_file(path) as file:
        for n, row in enumerate(rows):
            line = json.dumps(row, ensure_ascii=False).encode()
            file.write(line + b"\n")
            if n == 4:
                file.write(line[: len(line) // 2] + b"\n")  # as an interrupted download leaves it


def _row(category: str, title: str, opening: str, steps: Steps, tips: tuple[str, ...]) -> dict[str, Any]:
    return {
        "goal": f"How to {title}",
        "goal_description": opening,
        "category_hierarchy": [category, "The Valley"],
        "methods": [{"name": "Steps", "steps": [{"headline": headline, "description": text} for headline, text in steps]}],
        "tips": list(tips) or None,
        "url": f"{HOST}/{title.replace(' ', '-')}",
    }
