"""A dialogue: a question, its top answer, and what asker and answerer say to each other in the comments under it (paper, section 6).

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
from dataclasses import dataclass, replace

from ..recipe_sources import ANSWERED, StackExchangeDialogueSource
from ..records import Provenance, Turn
from ..sources.comments import Comment, comment_html, mention
from ..sources.communities import Site
from ..sources.posts import number
from ..sources.scan import Row, RowError
from ..sources.stackexchange import author_of, licence_of, tags_of
from .candidate import Candidate, Text
from .html import to_markdown

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


# --- as a candidate ---------------------------------------------------------------------------------------------------------------------


def dialogue(
    source: StackExchangeDialogueSource, site: Site, bare: Candidate, question: Row, answer: Row, comments: Sequence[Comment]
) -> Candidate:
    """The dialogue of a question, its top answer and all comments under that, or why there is none.

    In this order: "no_account" (the asker's or the answerer's is deleted, so nobody knows which comments are theirs), "self_answered",
    "too_few_turns", "empty_prompt", "too_short" and "too_long" (a turn, in characters).
    """
    asker, answerer = owner_of(question), owner_of(answer)
    if asker is None or answerer is None:
        return bare.drop("no_account", "of the question" if asker is None else "of the answer")
    if asker == answerer:
        return bare.drop("self_answered")
    found = talk(asker, answerer, comments)
    if 1 + len(found.turns) < source.min_turns:
        return bare.drop("too_few_turns", "; ".join(filter(None, (str(1 + len(found.turns)), found.ended))))
    title = " ".join(question.get("Title", "").split())
    prompt = "\n\n".join(filter(None, (title, to_markdown(question.get("Body", "")))))
    if not prompt.strip():
        return bare.drop("empty_prompt")
    texts = [prompt, _said(found.turns[0], to_markdown(answer.get("Body", ""))), *(_said(turn) for turn in found.turns[1:])]
    for n, text in enumerate(texts, start=1):
        if len(text) < max(source.turn_chars[0], 1):
            return bare.drop("too_short", f"turn {n}: {len(text)}")
        if len(text) > source.turn_chars[1]:
            return bare.drop("too_long", f"turn {n}: {len(text)}")
    turns = tuple(Turn(role="assistant" if n % 2 else "user", text=text) for n, text in enumerate(texts))
    provenance = Provenance(
        id=bare.id,
        source=source.label,
        url=bare.url,
        authors=(
            author_of(question, site, "question"),
            author_of(answer, site, "answer"),
            author_of(question, site, "comments"),
            author_of(answer, site, "comments"),
        ),
        licence=_licence(question, answer, found),
        changes="a question's title and body, its top answer and the comments of both authors under it, as a dialogue; "
        + (f"comments by or to others left out: {found.others}; " if found.others else "")
        + "HTML turned into Markdown; links, images, opening @names and other markup removed",
        site=site.host,
        title=title or None,
    )
    train = source.split in ANSWERED
    said = Text(
        source=source.label,
        turns=turns if train else turns[:-1],
        reference=None if train else turns[-1].text,
        tags=tags_of(question),
        provenance=provenance,
    )
    detail = [f"{len(turns)} turns", f"comments by or to others left out: {found.others}" if found.others else "", found.ended]
    return replace(bare, response_chars=len(texts[-1]), text=said, detail="; ".join(filter(None, detail)), review="required")


def owner_of(row: Row) -> int | None:
    """The account that a post belongs to; -1, the Community's, is nobody's."""
    try:
        return number(row, "OwnerUserId") if not row.get("OwnerUserId", "-").startswith("-") else None
    except RowError:
        return None


def _said(comments: Sequence[Comment], before: str = "") -> str:
    """The text of a turn: each comment a paragraph."""
    return "\n\n".join(filter(None, (before, *(to_markdown(comment_html(mention(c.text)[1])) for c in comments))))


def _licence(question: Row, answer: Row, found: Talk) -> str:
    """The licence of all parts, or each with its parts."""
    parts: dict[str, list[str]] = {}
    for licence, part in [(licence_of(question), "question"), (licence_of(answer), "answer")]:
        parts.setdefault(licence, []).append(part)
    for licence in dict.fromkeys(c.licence for turn in found.turns for c in turn):
        parts.setdefault(licence, []).append("comments")
    return next(iter(parts)) if len(parts) == 1 else ", ".join(f"{licence} ({' and '.join(of)})" for licence, of in parts.items())
