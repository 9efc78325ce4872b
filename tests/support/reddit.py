"""Rows and files of Reddit dumps, in the forms that users have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
import zstandard

STORY = (
    "The lighthouse had been dark for nine years when the keeper's daughter came back with a jar of oil under her coat.\n\n"
    "She climbed without counting the steps, because counting had been his way. At the top the glass was whole. She wiped it with her "
    "sleeve until the harbour stood in it, small and upside down, and then she lit the wick.\n\n"
    "Far out a ship that nobody had waited for turned its bow, slowly, the way a sleeper turns towards a voice, and came in."
)


def submission(id: object, title: str, score: object = 50, **other: object) -> dict:
    """A submission's row with the keys that matter and some that do not."""
    row = {
        "author": "asker",
        "created_utc": 1400000000,
        "distinguished": None,
        "domain": "self.WritingPrompts",
        "id": id,
        "is_self": True,
        "over_18": False,
        "retrieved_on": 1400009999,
        "score": score,
        "selftext": "",
        "stickied": False,
        "subreddit": "WritingPrompts",
        "subreddit_id": "t5_2s3nb",
        "title": title,
    }
    return row | other


def comment(id: str, under: str, body: str = STORY, score: object = 30, **other: object) -> dict:
    row = {
        "author": "writer",
        "body": body,
        "created_utc": "1400000500",
        "distinguished": None,
        "id": id,
        "link_id": f"t3_{under}",
        "parent_id": f"t3_{under}",
        "retrieved_on": 1400009999,
        "score": score,
        "stickied": False,
        "subreddit": "WritingPrompts",
    }
    return row | other


def write_zst(path: Path, rows: Iterable[dict | bytes], frames: int = 1) -> Path:
    """Rows as lines (bytes as they are) in a .zst of so many frames."""
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    text = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    step = -(-len(text) // frames) or 1
    pieces = [text[i : i + step] for i in range(0, max(len(text), 1), step)]
    path.write_bytes(b"".join(zstandard.ZstdCompressor(level=3).compress(piece) for piece in pieces))
    return path
