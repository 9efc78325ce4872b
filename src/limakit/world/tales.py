"""Submissions and comments of an invented subreddit as Pushshift packs them: one JSON object a line, all subreddits of a month mixed, in .zst.

A prompt to write to and its best-liked reply make a pair. Among them is what real months have: posts that their authors or others have taken
down (some only in a later row), moderators' notices, other subreddits, numbers as strings; and a wrong fact and a joke that only a reader finds.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import zstandard

from ..workspace import atomic_file
from .facts import VALUES, Person, World

# No real subreddit or author can have a name with a dot, and no post an id this long: nobody real is credited with these.
SUBREDDIT = "Tales.valley.example"
OTHERS = ("ferrywatch", "plums", "ValleyTales")
START = 1_551_427_200  # 2019-03-01
# (title, story): a prompt's title and the reply that is liked best; {n} is somebody of the valley, {he} the pronoun, {dish} what that person likes
TALES = (
    (
        "[WP] A lost glove comes home.",
        "One grey morning {n} lost a glove on the bridge. {He} looked at the gate and at the well, and nobody had seen it. In the evening there was a "
        "knock at the door. An old friend stood in the snow with the glove. They sat down by the fire, and there was {dish} for two.",
    ),
    (
        "[WP] The ferry runs late because of the fog.",
        "The fog was on the river before the bells rang. {n} stood at the water and thought of the day ahead. Nobody was there but the old "
        "ferry. {He} sang a song, and the ferry came to the song. It was the best song that anyone could remember.",
    ),
    (
        "[WP] Somebody finds a coin in the old mill.",
        "{n} stopped at the old mill and found a coin in the wheel. {He} went to the well and asked whose it was. Nobody knew. So {he} bought candles "
        "for the whole street, and that winter every window had a light.",
    ),
    (
        "[SP] A fiddler comes to the fair.",
        "On the day of the fair a fiddler came over the hills. {n} gave him {dish}, hot, by the fire. The fiddler played until the candles were "
        "out, and the swallows came back early that year.",
    ),
    (
        "[WP] There are tracks in the snow.",
        "There were tracks in the snow, and {n} set out along the river path. They went over the bridge and to a small house. There {he} "
        "met an old friend, and the {animal} of {n} sat at the door. It had only gone to visit.",
    ),
    (
        "[EU] The bells ring twice in the night.",
        "The bells rang twice, and {n} woke before the sun. Rain was on the way, and the harvest stood in the square. {He} went from door to door, "
        "and all came with carts. Before eight the barns were full, and then it rained.",
    ),
    (
        "[WP] A letter comes to the wrong door.",
        "A letter came to the wrong door. {n} lit a candle and looked at the name on it. It was for somebody on the hills, ten miles away. {He} set "
        "out in the morning, and was asked to stay for supper. They have been friends since.",
    ),
)  # fmt: skip
Told = tuple[str, str, dict[str, Any], dict[str, Any]]
NEVER_TAKEN: tuple[Told, ...] = (
    # title, story, what is said of the submission, of the reply
    ("[WP] The mayor has a birthday.", "The mayor was old, and nobody knew how old. " * 4, {"score": 4}, {}),
    ("[WP] The plums are late this year.", "[removed]", {}, {}),
    ("[WP] The price of salt goes up.", "The price of salt was high, and then it was low. " * 4, {"removed_by_category": "moderator"}, {}),
    ("[WP] Nobody closes the gate.", "The gate was open all night, and in the morning it was gone. " * 3, {"author": "[deleted]"}, {}),
    ("[WP] The mill at night (nsfw)", "It was night at the mill, and nobody was there to see it. " * 3, {"over_18": True}, {}),
    ("[OT] What did you do at the fair?", "We went to the fair and came home again, and it was good. " * 3, {}, {}),
    ("[WP] The mud takes the cart.", "Three carts stood in the mud. " * 4 + "Thanks for reading! More at r/plums.", {}, {}),
    ("[WP] A windy spring.", "It was windy.", {}, {}),
)
# what only a reader finds
WRONG = ("[WP] A supper at the inn.", "{n} came to the inn on Friday and asked for {rival}, the favourite dish of {n}. There was none. So {he} went home over the bridge and had a quiet evening by the fire.")  # fmt: skip
JOKE = ("[WP] The clerk counts the valley.", "The clerk counted the valley and there was one house too many. Ha! It was the clerk's own, only joking. Nobody in the valley has laughed about it since the flood.")  # fmt: skip


def write_tales(folder: Path, world: World) -> None:
    """RS_2019-03.zst and RC_2019-03.zst, and RS_2019-04.zst with later rows of some submissions."""
    rng = random.Random(f"limakit tales {world.seed}")
    people = rng.sample(world.train, min(len(TALES) + 1, len(world.train)))
    people += rng.choices(world.train, k=len(TALES) + 1 - len(people))
    told: list[Told] = [(title, _fill(text, person), {}, {}) for (title, text), person in zip(TALES, people, strict=False)]
    rival = rng.choice([dish for dish in VALUES["dish"] if dish != people[-1].value("dish")])
    told += [(WRONG[0], _fill(WRONG[1].replace("{rival}", rival), people[-1]), {}, {}), (*JOKE, {}, {}), *NEVER_TAKEN]
    taken_down: Told = ("[WP] The bridge needs a new rail.", "The bridge had no rail, and nobody went over it. " * 4, {}, {})
    rng.shuffle(told)
    submissions, comments = [], []
    for n, (title, text, of_submission, of_reply) in enumerate([*told, taken_down]):
        submissions.append(_submission(n, title) | of_submission)
        comments += _replies(rng, n, text, of_reply)
    for n in range(60):
        row = _submission(len(submissions), "Is it plums again?") | {"subreddit": OTHERS[n % 3], "selftext": f"Not r/{SUBREDDIT}."}
        submissions.append(row)
        comments.append(_comment(500 + n, len(submissions) - 1, "It is.", 50) | {"subreddit": OTHERS[n % 3]})
    later = submissions[len(told)] | {"selftext": "[removed]", "title": "[removed]", "retrieved_on": START + 9_000_000}
    _write(folder / "RS_2019-03.zst", submissions)
    _write(folder / "RC_2019-03.zst", comments)
    _write(folder / "RS_2019-04.zst", [later])


def _fill(text: str, person: Person) -> str:
    words = {"n": person.name, "he": person.subject, "He": person.subject.capitalize()}
    return text.format(**words, dish=person.value("dish"), animal=person.value("animal"))


def _id(number: int) -> str:
    return f"valley{number:04}"


def _submission(n: int, title: str) -> dict[str, Any]:
    created: Any = START + 3600 * n
    return {
        "id": _id(n),
        "author": f"teller.{n % 9}",
        "created_utc": (created, float(created), str(created))[n % 3],
        "subreddit": SUBREDDIT,
        "subreddit_id": "t5_2va1l",
        "title": title,
        "selftext": "",
        "score": 20 + 7 * (n % 30),
        "num_comments": 3,
        "over_18": False,
        "is_self": True,
        "domain": f"self.{SUBREDDIT}",
        "stickied": False,
        "retrieved_on": START + 5_000_000,
    }


def _comment(number: int, under: int, body: str, score: int) -> dict[str, Any]:
    return {
        "id": f"tale{number:04}",
        "link_id": f"t3_{_id(under)}",
        "parent_id": f"t3_{_id(under)}",
        "author": f"listener.{number % 7}",
        "body": body,
        "score": score,
        "created_utc": START + 3600 * under + 60 * (number % 50),
        "subreddit": SUBREDDIT,
        "subreddit_id": "t5_2va1l",
        "stickied": False,
        "distinguished": None,
        "retrieved_on": START + 5_000_000,
    }


def _replies(rng: random.Random, n: int, story: str, more: dict[str, Any]) -> list[dict[str, Any]]:
    """The story, liked best of what answers the submission itself, and others."""
    first = 5 * n
    moderator = {"author": "AutoModerator", "distinguished": "moderator", "stickied": True}
    rows = [
        _comment(first, n, "Welcome to the prompt! All top replies must be a story of the valley.", 1) | moderator,
        _comment(first + 1, n, story, rng.randint(30, 90)) | more,
        _comment(first + 2, n, "A tale for another evening, and so it is told: nothing came of it. The end.", rng.randint(1, 9)),
        _comment(first + 3, n, "[deleted]", 200) | {"author": "[deleted]"},
        _comment(first + 4, n, "What a story! It should be told at the inn.", 150) | {"parent_id": f"t1_tale{first + 1:04}"},
    ]
    rng.shuffle(rows)
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    if len(lines) > 20:
        lines[20:20] = [lines[0][:-40]]  # a row that was cut short
    with atomic_file(path) as file:
        file.write(zstandard.ZstdCompressor(level=3).compress(b"\n".join([*lines, b""])))
