"""What asker and answerer say to each other in the comments under an answer (paper, section 6: dialogues from comment chains).

Who speaks to whom follows the site's own rules for replies (https://meta.stackexchange.com/q/43019): a comment goes to the author of the post
unless it opens with "@name", and the site removes the "@name" of the post's own author.

- Comments are read by time, then Id. Several in a row by one person are one turn, each a paragraph; the answerer's own before anybody
  else's belong to the answer.
- Others' comments are left out. Once another has spoken, the asker's comments with an "@name" that is not known to be the answerer's are replies
  to others and left out too; the answerer's are taken only if they open with a name that is known to be the asker's, or follow straight
  upon the asker's. At the first that may answer somebody else the dialogue ends: what comes after may hang on it.
- It also ends where the two move to chat.
- It ends with the answerer: what the asker says last, mostly thanks, has no response to learn from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..sources.comments import Comment, mention

_TO_CHAT = re.compile(
    r"\b(?:continue|move|take|bring)\w*\s(?:(?:this|it|the)\s)?(?:(?:discussion|conversation)\s)?(?:\w+\s)?\[?(?:in|to)\s\[?(?:\w+\s)?chat\b"
    r"|/rooms/\d+/discussion-between-",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Talk:
    """`turns` are the comments of each turn: the answerer's under their own answer (often none), then the asker's and the answerer's by turns,
    the answerer's last. `others` counts comments by and to others that were passed over on the way, `ended` says why it ended early."""

    turns: tuple[tuple[Comment, ...], ...]
    others: int = 0
    ended: str = ""


def talk(asker: int, answerer: int, comments: Sequence[Comment]) -> Talk:
    """The dialogue of the two under an answer. `comments` are all of the answer's, in any order."""
    turns: list[list[Comment]] = [[]]  # even: the answerer
    known: tuple[set[str], set[str]] = (set(), set())  # names that the answerer goes by, and the asker
    strangers = False  # somebody else has spoken
    straight = True  # the last comment was by one of the two to the other
    others, ended = 0, ""
    for comment in sorted(comments, key=lambda c: (c.created, c.id)):
        if _TO_CHAT.search(comment.text):
            ended = "moved to chat"
            break
        if comment.user not in (asker, answerer):
            strangers, straight, others = True, False, others + 1
            continue
        name, _ = mention(comment.text)
        speaker = 1 if comment.user == asker else 0
        to_other = _is(name, known[1 - speaker]) if strangers and name else True
        if speaker == 1 and not to_other:
            straight, others = False, others + 1
            continue
        if speaker == 0 and (not to_other or not (name or straight)):
            ended = "the answerer may speak to somebody else"
            break
        if name and not strangers:
            known[1 - speaker].add(name)
        if (len(turns) - 1) % 2 != speaker:
            turns.append([])
        turns[-1].append(comment)
        straight = True
    if len(turns) % 2 == 0:
        turns.pop()
    return Talk(tuple(map(tuple, turns)), others, ended)


def _is(name: str, known: set[str]) -> bool:
    """Whether a mention means somebody known by these names: the site takes the first three letters or more of a name."""
    return any((len(name) >= 3 and one.startswith(name)) or (len(one) >= 3 and name.startswith(one)) for one in known)
