"""Candidates: what a source offers, each with the first reason against it. One function a kind of source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import LimakitError
from ..progress import Progress
from ..recipe_sources import AuthoredSource, LimaSource, StackExchangeSource
from ..records import Author, Provenance, Turn
from ..sources.authored import read_authored
from ..sources.communities import Site, find_sites
from ..sources.lima import read_lima
from ..sources.stackexchange import Row, author_of, licence_of, number, read_index, read_names, read_pairs, tags_of
from .html import to_markdown
from .rules import response_problem
from .sampling import unit

MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something a source offers. `reason` is why it is not kept (None: nothing speaks against it so far), `detail` what was found.

    Text is held of candidates that no rule has dropped. `site` is the community's slug, or "" for sources without communities.
    """

    id: str
    source: str
    site: str = ""
    score: int | None = None  # of the question
    answer_score: int | None = None
    response_chars: int | None = None  # of the cleaned response
    url: str | None = None
    turns: tuple[Turn, ...] = ()
    reference: str | None = None
    tags: tuple[str, ...] = ()
    provenance: Provenance | None = None
    reason: str | None = None
    detail: str = ""

    def drop(self, reason: str, detail: str = "") -> Candidate:
        return replace(self, reason=reason, detail=detail, turns=(), reference=None, provenance=None)


def stackexchange_candidates(source: StackExchangeSource, root: Path, seed: int) -> tuple[list[Candidate], dict[str, int]]:
    """Every question of the source's communities, best first within each (score, then lower Id), and the questions per community.

    The top answer is chosen first; the filters look at that one alone (paper, section 2.1). Raises LimakitError for unreadable dumps.
    """
    candidates: list[Candidate] = []
    sizes: dict[str, int] = {}
    for site, posts in find_sites(root, source.group, source.sites):
        found = _of_site(source, site, posts, seed)
        sizes[site.slug] = len(found)
        candidates += found
    return candidates, sizes


def _of_site(source: StackExchangeSource, site: Site, posts: Path, seed: int) -> list[Candidate]:
    with _megabytes(f"read {site.slug}", posts, readings=2) as advance:
        index = read_index(posts, advance)
        made: dict[int, Candidate] = {}
        wanted: dict[int, int] = {}
        for question, score in index.questions.items():
            top = index.top.get(question)
            bare = Candidate(f"{site.slug}-{question}", source.label, site.slug, score, url=site.question_url(question))
            if top is None:
                made[question] = bare.drop("no_answer")
            else:
                bare = replace(bare, answer_score=top[0], url=site.question_url(question, top[1]))
                if top[0] < source.min_answer_score:
                    made[question] = bare.drop("score_too_low", str(top[0]))
                else:
                    made[question], wanted[question] = bare, top[1]
        for question in index.planted:
            made[question] = Candidate(f"{site.slug}-{question}", source.label, site.slug).drop("planted")
        for question_row, answer_row in read_pairs(posts, wanted, advance):
            question = number(question_row, "Id", posts)
            made[question] = _judged(made[question], source, site, question_row, answer_row, seed)
    return sorted(made.values(), key=lambda c: (-(c.score or 0), int(c.id.rpartition("-")[2])))


def _judged(bare: Candidate, source: StackExchangeSource, site: Site, question: Row, answer: Row, seed: int) -> Candidate:
    """The filters on the text of a question and its top answer."""
    response = to_markdown(answer.get("Body", ""))
    bare = replace(bare, response_chars=len(response))
    if problem := response_problem(response, source.answer_chars, source.drop):
        return bare.drop(*problem)
    prompt, part = _prompt(source, site, question, seed)
    if not prompt.strip():
        return bare.drop("empty_prompt")
    user = Turn(role="user", text=prompt)
    licences = [licence_of(question), licence_of(answer)]
    provenance = Provenance(
        id=bare.id,
        source=source.label,
        url=bare.url,
        authors=(author_of(question, site, "question"), author_of(answer, site, "answer")),
        licence=licences[0] if licences[0] == licences[1] else f"{licences[0]} (question), {licences[1]} (answer)",
        changes=f"the prompt is the question's {part}; HTML turned into Markdown; links, images and other markup removed",
        site=site.host,
        title=question.get("Title") or None,
    )
    tags = tags_of(question)
    if source.split == "train":
        return replace(bare, turns=(user, Turn(role="assistant", text=response)), tags=tags, provenance=provenance)
    return replace(bare, turns=(user,), reference=response, tags=tags, provenance=provenance)


def _prompt(source: StackExchangeSource, site: Site, question: Row, seed: int) -> tuple[str, str]:
    """(prompt, "title" or "body"): for "title_or_body" either, evenly, or the one that is there."""
    title = " ".join(question.get("Title", "").split())
    body = to_markdown(question.get("Body", "")) if source.prompt != "title" else ""
    if source.prompt == "title" or not body.strip():
        return (title, "title") if source.prompt != "body" else ("", "body")
    if source.prompt == "body" or not title:
        return body, "body"
    heads = unit(seed, "prompt", site.slug, question["Id"]) < 0.5
    return (title, "title") if heads else (body, "body")


def name_authors(kept: Iterable[Candidate], root: Path, source: StackExchangeSource) -> list[Candidate]:
    """The same with the authors' names, where the dump has them (Users.xml beside Posts.xml)."""
    kept = list(kept)
    names: dict[str, str] = {}
    for site, posts in find_sites(root, source.group, source.sites):
        users = posts.with_name("Users.xml")
        base = site.user_url(0).removesuffix("0")
        urls = [a.url for c in kept if c.site == site.slug and c.provenance for a in c.provenance.authors if a.url]
        if urls and users.is_file():
            found = read_names(users, {int(url.removeprefix(base)) for url in urls})
            names |= {site.user_url(user): name for user, name in found.items()}
    return [replace(c, provenance=c.provenance.model_copy(update={"authors": tuple(_named(a, names) for a in c.provenance.authors)})) if c.provenance else c for c in kept]  # fmt: skip


def _named(author: Author, names: dict[str, str]) -> Author:
    return author.model_copy(update={"name": names[author.url]}) if author.url in names else author


def authored_candidates(source: AuthoredSource, path: Path) -> list[Candidate]:
    """Every row or file of an authored source. Raises LimakitError naming the first that is wrong."""
    prefix = source.name if source.split == "train" else f"{source.name}-{source.split}"
    found = []
    taken: dict[str, str] = {}
    for item in read_authored(path, train=source.split == "train"):
        id = item.id if item.id is not None else f"{prefix}-{item.part}"
        if id in taken:
            raise LimakitError(f"the id {id!r} is taken by {taken[id]}", where=item.where, remedy="give each its own id, or none")
        taken[id] = item.where
        found.append(_by_hand(source, id, source.name, item.turns, item.reference, item.tags))
    return found


def lima_candidates(source: LimaSource, path: Path) -> list[Candidate]:
    """Every row of a file in the published format.

    For training a row must end with a response. As dev or test prompts a last response becomes the reference, which only judges see.
    """
    prefix = source.name if source.split == "train" else f"{source.name}-{source.split}"
    found = []
    for n, row, turns in read_lima(path):
        name = f"{source.name}/{row.source}" if row.source else source.name
        answered = turns[-1].role == "assistant"
        if source.split == "train":
            item = _by_hand(source, f"{prefix}-{n}", name, turns, None, ())
            found.append(item if answered else item.drop("no_answer"))
        else:
            prompt, reference = (turns[:-1], turns[-1].text) if answered else (turns, None)
            found.append(_by_hand(source, f"{prefix}-{n}", name, prompt, reference, ()))
    return found


def _by_hand(
    source: AuthoredSource | LimaSource, id: str, name: str, turns: tuple[Turn, ...], reference: str | None, tags: tuple[str, ...]
) -> Candidate:
    provenance = Provenance(id=id, source=name, url=source.url, authors=(Author(name=source.author),), licence=source.licence)
    chars = len(turns[-1].text) if turns[-1].role == "assistant" else None
    return Candidate(id, name, response_chars=chars, url=source.url, turns=turns, reference=reference, tags=tags, provenance=provenance)


@contextmanager
def _megabytes(label: str, file: Path, *, readings: int) -> Iterator:
    """Progress in megabytes of a file that is read `readings` times; the bar advances by whole ones."""
    with Progress(label, max(file.stat().st_size // MB, 1), "MB") as bar:
        read = 0

        def advance(n: int) -> None:
            nonlocal read
            whole = (read + n) // (readings * MB) - read // (readings * MB)
            read += n
            if whole:
                bar.advance(whole)

        yield advance
