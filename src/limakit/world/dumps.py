"""The raw sources of the miniature world, in the forms the real ones have, so that the real readers read them.

    stackexchange/NAME/            three communities (Posts.xml; one with Users.xml and Comments.xml)
    wikihow/articles.jsonl         how-to pages with their categories, as the corpora of articles have them
    reddit/RS_*.zst, RC_*.zst      submissions and comments as Pushshift packs them
    natural_instructions/task*.json  tasks with a definition and instances
    authored/group-A/*.md          examples and dev prompts written by hand, two refusals and two format constraints among them
    authored/group-B.jsonl         test prompts with the facts that judges look for
    lima/train.jsonl               the published LIMA format, a few dialogues among it

All have the oddities, traps and bad rows of real ones. Sources to train on speak of the people in `world.train` only.
"""

from __future__ import annotations

from pathlib import Path

from .by_hand import write_by_hand
from .facts import World
from .forum import write_forum
from .pages import write_pages
from .tales import write_tales
from .tasks import write_tasks


def write_dumps(folder: Path, world: World) -> None:
    """Write every raw source below `folder`; equal worlds give equal bytes."""
    write_forum(folder / "stackexchange", world)
    write_pages(folder / "wikihow" / "articles.jsonl", world)
    write_tales(folder / "reddit", world)
    write_tasks(folder / "natural_instructions", world)
    write_by_hand(folder, world)
