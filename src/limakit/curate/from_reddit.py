"""What a subreddit offers: each submission with its best top-level reply, or its title alone (paper, section 2.1: r/WritingPrompts, r/AskReddit).

Popular is not helpful, the paper says of Reddit, and its authors picked by hand: nothing from here is taken before a person has seen it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
import pyarrow as pa

from ..errors import LimakitError, UsageError
from ..progress import warn
from ..recipe_sources import ANSWERED, RedditSource
from ..records import Author, Provenance, Turn
from ..sources.reddit import Of, base36, files, unread
from .candidate import Candidate, Text
from .engine import Work
from .pool import batch_of
from .reddit_rows import UNKNOWN, gather, places_of
from .reddit_text import names_nsfw, plain_title, speaks_to_readers, to_markdown, untagged
from .rules import response_problem
from .titles import title_problem

OFFERED = 10_000  # candidates of a batch
LONGEST_BODY = 100_000  # characters; Reddit allows 40,000
_AUTHOR = re.compile(r"[A-Za-z0-9_-]{1,30}")  # a name that can stand in an address
_QUESTION = re.compile(r"\?[\"'”’)\]]*\Z")
_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)

Problem = tuple[str, str] | None  # a reason, and what was found


def inputs(source: RedditSource, path: Path) -> dict[str, Path]:
    """The dump files that are read. Raises UsageError where there are none of submissions, or for pairs none of comments."""
    found = {name: file for of in _parts(source) for name, file in _files(source, path, of).items()}
    if others := [name for of in _parts(source) for name in unread(path, source.subreddit, of)]:
        warn(f"{path}: not read, since only .zst, .jsonl and .ndjson are: {len(others)} files, such as {', '.join(others[:3])}")
    return found


def _parts(source: RedditSource) -> tuple[Of, ...]:
    return ("submissions", "comments") if source.use == "pairs" else ("submissions",)


def _files(source: RedditSource, path: Path, of: Of) -> dict[str, Path]:
    found = files(path, source.subreddit, of)
    if found and not (path.is_file() and source.use == "pairs"):  # one file has submissions or comments, not both
        return found
    names = f"{'RS' if of == 'submissions' else 'RC'}_YYYY-MM.zst or {source.subreddit}_{of}.zst"
    others = [] if found else unread(path, source.subreddit, of)
    what = f"no dump of r/{source.subreddit}'s {of} here" + (f" in a form that is read, but {others[0]}" if others else "")
    raise UsageError(what, where=path, remedy=f"name the folder that has {names}")


def offer(source: RedditSource, path: Path, work: Work) -> Iterator[pa.RecordBatch]:
    """Every submission of the subreddit, best score first, then by id; rows that could not be read come last.

    Of rows with the same id the last retrieved says what holds, but one that says the thing is gone and not when it was retrieved holds in any case;
    of equally old ones one that says it is gone, then the higher score, then what they hold decides, never their files' order. The best reply is the one
    with the highest score, ties to the earlier and then the lower id, among those that are there and no moderator's; the rules look at that
    one alone. Memory: some 90 bytes a submission. Raises LimakitError for a damaged file, and where no row is the subreddit's.
    """
    work.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=work.cache) as spool:
        posts = gather(_files(source, path, "submissions"), "submissions", source.subreddit, source.min_score, work, spool)
        if not len(posts.rows) and not posts.malformed:
            what = f"no submission of r/{source.subreddit} in {len(posts.files):,} files"
            raise LimakitError(what, where=path, remedy="check the subreddit's name, or get the months that have it")
        order = posts.latest()
        standing = order[_standing(posts.rows, source)[order]]
        malformed = posts.malformed
        chosen = None
        if source.use == "pairs":
            under = np.sort(posts.rows["id"][standing])
            replies = gather(_files(source, path, "comments"), "comments", source.subreddit, source.min_score, work, spool, under)
            best = replies.best()
            replies.fetch(best[replies.rows["score"][best] >= source.min_score], work, spool)
            chosen = replies.rows[best]
            standing = standing[places_of(posts.rows["id"][standing], chosen["submission"]) >= 0]
            malformed = malformed + replies.malformed
        posts.fetch(standing, work, spool)
        order = order[np.lexsort((posts.rows["id"][order], -posts.rows["score"][order].astype(np.int64)))]
        stratum = posts.spelling
        for start in range(0, len(order), OFFERED):
            rows = posts.rows[order[start : start + OFFERED]]
            yield batch_of(_candidates(source, stratum, rows, list(posts.reasons), chosen, spool))
        unread = (Candidate(f"{file}@byte{at}", stratum).drop("malformed", f"{file}, byte {at:,}: {what}") for file, at, what in malformed)
        yield batch_of(unread)


def _standing(rows: np.ndarray, source: RedditSource) -> np.ndarray:
    """Which submissions nothing speaks against that the numbers tell."""
    return (rows["why"] < 0) & (rows["score"] >= source.min_score) & (source.allow_nsfw | ~rows["nsfw"])


def _candidates(
    source: RedditSource, stratum: str, rows: np.ndarray, reasons: list[tuple[str, str]], chosen: np.ndarray | None, spool: BinaryIO
) -> Iterator[Candidate]:
    """Candidates of submissions; `chosen` are the best replies, by submission, ascending."""
    reply_at = places_of(rows["id"], chosen["submission"]) if chosen is not None else np.full(len(rows), -1)
    cells = (rows["id"], rows["score"], rows["why"], rows["nsfw"], rows["place"], reply_at)
    for number, score, why, nsfw, place, reply in zip(*(cell.tolist() for cell in cells), strict=True):
        post = base36(number)
        url = f"https://www.reddit.com/r/{stratum}/comments/{post}/"
        bare = Candidate(f"reddit-{post}", stratum, None if score == UNKNOWN else score, url=url)
        if why >= 0:
            yield bare.drop(*reasons[why])
        elif nsfw and not source.allow_nsfw:
            yield bare.drop("nsfw", "over_18")
        elif score < source.min_score:
            yield bare.drop("score_unknown") if score == UNKNOWN else bare.drop("score_too_low", str(score))
        elif chosen is None:
            yield _of_title(source, bare, _text(spool, place))
        elif reply < 0:
            yield bare.drop("no_reply")
        elif (best := chosen[reply])["score"] < source.min_score:
            yield replace(bare, answer_score=int(best["score"])).drop("reply_score_too_low", str(best["score"]))
        else:
            answered = replace(bare, answer_score=int(best["score"]))
            reply_url = f"{url}_/{base36(int(best['id']))}/"
            yield _of_pair(source, answered, _text(spool, place), _text(spool, int(best["place"])), reply_url)


def _text(spool: BinaryIO, place: int) -> tuple[str, str, str]:
    """Author, title and body."""
    spool.seek(place)
    author, title, body = orjson.loads(spool.readline())
    return author, title, body


def _of_title(source: RedditSource, bare: Candidate, post: tuple[str, str, str]) -> Candidate:
    """A title that asks a question which stands alone; the text below it is neither used nor needed."""
    author, title, _ = post
    prompt, problem = _prompt(source, title, "")
    if problem is None and not _QUESTION.search(prompt):
        problem = "no_question", ""
    if problem is None and (leans := title_problem(prompt)):
        problem = "title_unclear", leans
    if problem:
        return bare.drop(*problem)
    return _fit(source, bare, [prompt], [_author(author, "title")], plain_title(title), [], bare.url)


def _of_pair(source: RedditSource, bare: Candidate, post: tuple[str, str, str], reply: tuple[str, str, str], url: str) -> Candidate:
    (author, title, body), (replier, _, answer) = post, reply
    prompt, problem = _prompt(source, title, body)
    if problem:
        return bare.drop(*problem)
    if len(answer) > LONGEST_BODY:
        return bare.drop("too_long", str(len(answer)))
    response = to_markdown(answer)
    bare = replace(bare, response_chars=len(response))
    problem = response_problem(response, source.response_chars, [])
    if problem is None and (said := speaks_to_readers(response)):
        problem = "speaks_to_readers", said
    if problem:
        return bare.drop(*problem)
    authors = [_author(author, "prompt"), _author(replier, "reply")]
    as_written = response == answer.strip() and prompt.endswith(body.strip())
    changes = [] if as_written else ["links, images and the site's own markup removed, entities decoded"]
    return _fit(source, bare, [prompt, response], authors, plain_title(title), changes, url)


def _prompt(source: RedditSource, title: str, body: str) -> tuple[str, Problem]:
    """What the user says, the title without its tags and the text below it, and what is wrong with it."""
    prompt, tag = untagged(plain_title(title))
    if names_nsfw(title) and not source.allow_nsfw:
        return prompt, ("nsfw", "the title says so")
    if tag:
        return prompt, ("tagged", tag)
    if not any(c.isalnum() for c in prompt):
        return prompt, ("empty_prompt", "")
    if _LINK.search(title) or _LINK.search(body):
        return prompt, ("prompt_has_link", "")
    if len(body) > LONGEST_BODY:
        return prompt, ("prompt_too_long", str(len(body)))
    if below := to_markdown(body):
        prompt = f"{prompt}\n\n{below}"
    least, most = source.prompt_chars
    if not least <= len(prompt) <= most:
        return prompt, ("prompt_too_short" if len(prompt) < least else "prompt_too_long", str(len(prompt)))
    said = speaks_to_readers(prompt)
    return prompt, ("speaks_to_readers", said) if said else None


def _fit(
    source: RedditSource, bare: Candidate, texts: list[str], authors: list[Author], title: str, changes: list[str], url: str | None
) -> Candidate:
    """A candidate for review: `texts` are the prompt and, of pairs, the response, which for dev and test is the judges' reference."""
    if not texts[0].startswith(title):
        changes = ["tags removed from the title", *changes]
    turns = [Turn(role="user", text=texts[0])]
    reference = None
    if source.split in ANSWERED:
        turns.append(Turn(role="assistant", text=texts[1]))
    elif len(texts) > 1:
        reference = texts[1]
    provenance = Provenance(
        id=bare.id,
        source=source.label,
        url=url,
        authors=tuple(authors),
        licence=source.licence,
        changes="; ".join(changes),
        site=f"reddit.com/r/{bare.stratum}",
        title=title,
    )
    return replace(bare, text=Text(source=source.label, turns=tuple(turns), reference=reference, provenance=provenance), review="required")


def _author(name: str, wrote: str) -> Author:
    url = f"https://www.reddit.com/user/{name}/" if _AUTHOR.fullmatch(name) else None
    return Author(name=f"u/{name}", url=url, wrote=wrote)
