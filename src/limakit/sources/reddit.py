"""Pushshift's Reddit dumps: submissions (RS_YYYY-MM.zst) and comments (RC_YYYY-MM.zst), one JSON object a line.

Users have the monthly files, the files of one subreddit (NAME_submissions.zst, NAME_comments.zst: Watchful1/PushshiftDumps) and, from 2023-04 on,
Arctic Shift's, whose rows have a `_meta` (ArthurHeitmann/arctic_shift, file_content_explanations.md and schemas/RS.ts, RC.ts). All share the
quirks named here.

A row is recognised before it is parsed: by `"subreddit"`, a colon and the name in any case. Every JSON writer spells a key and a
name of letters, digits and _ so; only one that escaped plain ASCII letters (\\u0057ritingPrompts) would not, and none does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import orjson

from ..errors import UsageError

Of = Literal["submissions", "comments"]
SUBMISSION, COMMENT = "t3_", "t1_"
_MONTHLY = re.compile(r"(RS|RC)_(?:v2_)?\d{4}-\d\d", re.IGNORECASE)
_OF_SUBREDDIT = re.compile(r"(?:r_)?(.+)_(submissions|posts|comments)", re.IGNORECASE)  # r_NAME_posts.jsonl: Arctic Shift's download tool
_SUFFIXES = (".zst", ".jsonl", ".ndjson")
_ENDINGS = (*_SUFFIXES, ".json", ".bz2", ".xz", ".gz", ".zip", ".7z", ".part", ".txt")  # what a dump's name may end in, read or not
_ID = re.compile(r"[0-9a-z]{1,12}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NUMBER = re.compile(r"\s*[+-]?\d{1,15}(?:\.\d*)?\s*")
_LARGEST = 2**53
# what stands for a text, a title or an author that is gone: "[deleted]", "[removed]", "[deleted by user]", "[ Removed by Reddit ]"
_PLACEHOLDER = re.compile(r"\s*\[\s*(deleted|removed)\b[^\]]{0,200}\]\s*", re.IGNORECASE)
_BY_ITS_AUTHOR = (None, "deleted", "author")


def files(path: Path, subreddit: str, of: Of) -> dict[str, Path]:
    """The dump files of submissions or of comments at or below `path` that may hold the subreddit, by their name relative to it ("" for `path`
    itself): the monthly ones and the subreddit's own. Those of other subreddits are passed over. Raises UsageError where `path` is not there.
    """
    if path.is_file():
        return {"": path} if _holds(path, subreddit) in (of, None) and path.suffix.lower() in _SUFFIXES else {}
    if not path.is_dir():
        raise UsageError(
            "no such file or folder", where=path, remedy="name the folder with the RS_*.zst and RC_*.zst files, or one such file"
        )
    found = [file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and _holds(file, subreddit) == of and file.is_file()]
    return {file.relative_to(path).as_posix(): file for file in sorted(found)}


def unread(path: Path, subreddit: str, of: Of) -> list[str]:
    """The files below `path` that by their names hold such rows, but in a form that is not read (.bz2, .xz, half a download), sorted."""
    found = [file for file in path.rglob("*") if file.suffix.lower() not in _SUFFIXES and _holds(file, subreddit) == of and file.is_file()]
    return sorted(file.relative_to(path).as_posix() for file in found)


def is_own(path: Path, subreddit: str) -> bool:
    """Whether a file is named for the subreddit, so that every line in it is the subreddit's."""
    found = _OF_SUBREDDIT.fullmatch(_stem(path))
    return found is not None and not _MONTHLY.match(path.name) and found[1].lower() == subreddit.lower()


def _stem(path: Path) -> str:
    name = path.name
    while (suffix := PurePath(name).suffix).lower() in _ENDINGS:
        name = name.removesuffix(suffix)
    return name


def _holds(path: Path, subreddit: str) -> str | None:
    """What a file holds, by its name: "submissions", "comments", "" (of another subreddit), or None where the name does not say."""
    name = _stem(path)
    if _MONTHLY.match(name):
        return "submissions" if name[:2].upper() == "RS" else "comments"
    if found := _OF_SUBREDDIT.fullmatch(name):
        kind = "comments" if found[2].lower() == "comments" else "submissions"
        return kind if found[1].lower() == subreddit.lower() else ""
    return None


def row_pattern(subreddit: str) -> re.Pattern[bytes]:
    """What every row of the subreddit has in it; rows that merely quote or crosspost one have it too."""
    return re.compile(rb'"subreddit"[ \t\r]*:[ \t\r]*"(?i:%s)"' % re.escape(subreddit).encode())


def parse(line: bytes, subreddit: str, own: bool = False) -> dict[str, Any] | None:
    """The row of a line, or None if it is another subreddit's or, unless the file is the subreddit's `own`, does not say. Raises ValueError, with
    what is wrong, if it is no JSON object in UTF-8."""
    try:
        row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"no JSON object but {line[:40]!r}")
    name = row.get("subreddit")
    if own and not isinstance(name, str):
        raise ValueError(f"subreddit is {_shown(name)}, expected text")
    return row if isinstance(name, str) and name.lower() == subreddit.lower() else None


@dataclass(frozen=True, slots=True)
class Submission:
    """`id` is the number that Reddit writes in base 36; `retrieved` (Unix seconds, 0 if unknown) when the row was last looked at; `score` None where
    it is unknown. `against` is what is wrong with it whatever it is wanted for, as (reason, what was found)."""

    id: int
    retrieved: int
    score: int | None
    nsfw: bool
    author: str
    title: str
    body: str
    against: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Comment:
    """`submission` is what it was written under (-1 where one that is gone does not say), `top_level` whether directly; `created` in Unix seconds."""

    id: int
    submission: int
    top_level: bool
    created: int
    retrieved: int
    score: int | None
    author: str
    body: str
    against: tuple[str, str] | None


def submission_of(row: dict[str, Any]) -> Submission:
    """Raises ValueError naming the key whose value cannot be read.

    Against it, the first of: deleted, removed, moderator (their announcements and stickied posts), crosspost, link_post, poll.
    """
    gone = _gone(row, ("title", "selftext"))
    title, body = _text(row, "title", required=gone is None), _text(row, "selftext")
    against: tuple[str, str] | None = gone or _moderators(row)
    if against is None and row.get("crosspost_parent"):
        against = "crosspost", ""
    if against is None and _is_link(row, body):
        against = "link_post", str(row.get("domain") or "")[:60]
    if against is None and row.get("poll_data"):
        against = "poll", ""
    return Submission(
        id=_id(row, "id" if row.get("id") is not None else "name", SUBMISSION),
        retrieved=_retrieved(row),
        score=_score(row, "hide_score"),
        nsfw=row.get("over_18") is True,
        author=_text(row, "author"),
        title=title,
        body=body,
        against=against,
    )


def comment_of(row: dict[str, Any], subreddit: str) -> Comment:
    """Raises ValueError naming the key whose value cannot be read. Against it, the first of: deleted, removed, moderator (their words, stickied
    comments, AutoModerator's and those of the subreddit's own bot)."""
    gone = _gone(row, ("body",))
    body = _text(row, "body", required=gone is None)
    author = _text(row, "author")
    against = gone or _moderators(row)
    if against is None and author.lower() in ("automoderator", f"{subreddit}bot".lower(), f"{subreddit}-modteam".lower()):
        against = "moderator", author
    link = -1 if gone and row.get("link_id") is None else _id(row, "link_id", SUBMISSION)
    return Comment(
        id=_id(row, "id" if row.get("id") is not None else "name", COMMENT),
        submission=link,
        top_level=link < 0 or _answers_submission(row, link),
        created=_whole(row, "created_utc") or 0,
        retrieved=_retrieved(row),
        score=_score(row, "score_hidden"),
        author=author,
        body=body,
        against=against,
    )


def base36(number: int) -> str:
    """A number as Reddit writes ids."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def _gone(row: dict[str, Any], texts: tuple[str, ...]) -> tuple[str, str] | None:
    """Whether and how a row says that its thing is gone, as ("deleted" by its author or "removed" by others, by what key).

    A `removal_type` or `removed_by_category` without `was_deleted_later` may tell of a post that was held back at first and is there now
    (`was_initially_deleted`, arctic_shift/file_content_explanations.md), so the former is not looked at alone and the latter not then.
    """
    meta = row.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    if meta.get("was_deleted_later") is True:
        kind = meta.get("removal_type")
        return "deleted" if kind in _BY_ITS_AUTHOR else "removed", f"was_deleted_later: {str(kind or '')[:40]}".rstrip(": ")
    for key in texts:
        text = row.get(key)
        if isinstance(text, str) and (found := _PLACEHOLDER.fullmatch(text)):
            return found[1].lower(), key
    author = row.get("author")
    if not isinstance(author, str) or not author.strip() or _PLACEHOLDER.fullmatch(author):
        return "deleted", "author"
    if meta.get("was_initially_deleted") is True:
        return None
    if by := row.get("removed_by_category"):
        return "deleted" if by in _BY_ITS_AUTHOR else "removed", f"removed_by_category: {str(by)[:40]}"
    if row.get("collapsed_reason_code") == "DELETED":
        return "deleted", "collapsed_reason_code"
    keys = [key for key in ("banned_by", "removed_by", "removal_reason", "removed", "spam") if row.get(key)]
    return ("removed", keys[0]) if keys else None


def _moderators(row: dict[str, Any]) -> tuple[str, str] | None:
    """The words of moderators and admins in that role, and what they have stuck to the top of a page."""
    if row.get("distinguished"):
        return "moderator", f"distinguished: {str(row['distinguished'])[:20]}"
    return ("moderator", "stickied") if row.get("stickied") is True else None


def _is_link(row: dict[str, Any], body: str) -> bool:
    """Whether a submission is a link, picture or video. The oldest rows do not say; their own texts have a domain "self.NAME"."""
    if isinstance(row.get("is_self"), bool):
        return not row["is_self"]
    domain = row.get("domain")
    return not body and isinstance(domain, str) and domain != "" and not domain.startswith("self.")


def _answers_submission(row: dict[str, Any], link: int) -> bool:
    """Whether a comment stands directly under the submission.

    `parent_id` is t3_ID or t1_ID. Rows taken from Pushshift's later API have null for the former and the comment's number for the latter
    (voussoir/timesearch issue 19); one without its prefix is taken for the submission only if it is its id.
    """
    parent = row.get("parent_id")
    if parent is None or parent == "":
        return True
    if isinstance(parent, str) and parent.startswith((COMMENT, SUBMISSION)):
        return parent.startswith(SUBMISSION)
    return _id(row, "parent_id", SUBMISSION) == link


def _id(row: dict[str, Any], key: str, prefix: str) -> int:
    """An id with or without its prefix, or already a number."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
        return value
    text = value.lower().removeprefix(prefix) if isinstance(value, str) else ""
    if not _ID.fullmatch(text):
        raise ValueError(f"{key} is {_shown(value)}, expected an id such as {prefix}x1a2b")
    return int(text, 36)


def _whole(row: dict[str, Any], key: str) -> int | None:
    """A number, written as an integer, as a float or in quotation marks, without its fraction; None where it is missing or null."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        raise ValueError(f"{key} is {_shown(row[key])}, expected a number")
    return int(value)


def _score(row: dict[str, Any], hidden: str) -> int | None:
    """A hidden score is given as 1: that says nothing."""
    score = _whole(row, "score")
    return None if row.get(hidden) is True and score == 1 else score


def _retrieved(row: dict[str, Any]) -> int:
    """When a row was last looked at: `retrieved_on`, or later `updated_on` (PushshiftDumps, personal/combine/merge.py) or `_meta.retrieved_2nd_on`."""
    meta = row.get("_meta")
    times = [_whole(row, key) for key in ("retrieved_on", "retrieved_utc", "updated_on", "updated_utc")]
    times.append(_whole(meta, "retrieved_2nd_on") if isinstance(meta, dict) else None)
    return max(time or 0 for time in times)


def _text(row: dict[str, Any], key: str, *, required: bool = False) -> str:
    value = row.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_shown(value)}, expected text" if key in row else f"{key} is missing")
    return value


def _shown(value: object) -> str:
    return repr(value)[:60]
