"""Stack Exchange as candidates: every question of the communities, with its top answer (paper, section 2.1).

Two readings. The first (sources/posts.py) keeps numbers, and most questions meet their fate there: no answer, or one with too low a score. The
second reads the rows of the others alone, by their place: the answer first, and the question only where the answer is fit. Users.xml gives the
names of those who are to be credited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..recipe_sources import ANSWERED, StackExchangeSource
from ..records import Author, Provenance, Turn
from ..sources.communities import Dump, Site, find_sites
from ..sources.dump import Table, check_ranges, ranges, rows_at
from ..sources.packed import pack, unpack
from ..sources.posts import Posts, index_posts, number, top_answers
from ..sources.scan import Row, RowError, parse_row
from ..sources.stackexchange import author_of, licence_of, tags_of
from ..sources.users import index_users
from .candidate import Candidate, Text
from .engine import Task, Work
from .html import to_markdown
from .pool import SCHEMA, batch_of
from .rules import response_problem
from .sampling import unit
from .shortness import most_characters
from .titles import title_problem

AT_ONCE = 4_000  # finalists of one task
BATCH = 2_000  # fates held as objects at a time
ROWS = 50_000  # of the account, built at a time
_FOUND = pa.schema(
    [
        ("response_chars", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("review", pa.string()),
        ("text", pa.string()),
        ("asker", pa.int64()),
        ("answerer", pa.int64()),
    ]
)


def inputs(source: StackExchangeSource, path: Path) -> dict[str, Path]:
    """Posts.xml and Users.xml of each community that the source takes, or the archives that hold them. Raises UsageError as find_sites does."""
    files = [table.path for dump in find_sites(path, source.group, source.sites) for table in (dump.posts, dump.users) if table is not None]
    return {f"{source.path.rstrip('/')}/{file.relative_to(path).as_posix()}": file for file in files}


def offer(source: StackExchangeSource, path: Path, work: Work) -> Iterator[pa.RecordBatch | pa.Table]:
    """Every question of the source's communities, by slug and best first (score, then lower id); then planted questions and damaged rows.

    Raises LimakitError for a dump that cannot be read on.
    """
    dumps = find_sites(path, source.group, source.sites)
    indexed = index_all(dumps, work)
    tasks: list[list[Task]] = [_judging(source, dump, top_answers(tables), work) for dump, tables in zip(dumps, indexed, strict=True)]
    results = work.run(judged, [task for some in tasks for task in some], f"judge {source.label}")
    found = [[next(results) for _ in some] for some in tasks]
    next(results, None)
    names = names_of(dumps, found, work)
    for dump, tables, judgments, known in zip(dumps, indexed, found, names, strict=True):
        yield from _account(source, dump, top_answers(tables), judgments, known)


# --- the first reading ----------------------------------------------------------------------------------------------------------------


def index_all(dumps: Sequence[Dump], work: Work) -> list[list[pa.Table]]:
    """The tables of `index_posts` for each community, in the order of its file, as they lie in the cache."""
    return scanned(index_posts, [dump.posts for dump in dumps], "posts", [{}] * len(dumps), work, "read Posts.xml")


def scanned(
    function: Callable[..., pa.Table], tables: Sequence[Table], root: str, arguments: Sequence[dict], work: Work, label: str
) -> list[list[pa.Table]]:
    """The results of function(path, member, start, stop, **arguments) over the ranges of each table; what ranges cannot read is read as one.

    Raises LimakitError for a table that is truncated or goes on after its end.
    """
    parts = [[_task(t, part, work, more) for part in ranges(t, root)] for t, more in zip(tables, arguments, strict=True)]
    results = work.run(function, [task for some in parts for task in some], label)
    found = [[next(results) for _ in some] for some in parts]
    next(results, None)
    for i, (table, more) in enumerate(zip(tables, arguments, strict=True)):
        if not check_ranges(found[i], table.where, root):
            found[i] = list(work.run(function, [_task(table, (0, None), work, more)], f"{label} as one"))
            check_ranges(found[i], table.where, root)
    return found


def _task(table: Table, part: tuple[int, int | None], work: Work, arguments: dict) -> Task:
    start, stop = part
    weight = (table.path.stat().st_size if stop is None else stop) - start
    return Task(table.path, work.content(table.path), weight, {"member": table.member, "start": start, "stop": stop} | arguments)


# --- the second reading ---------------------------------------------------------------------------------------------------------------


def _judging(source: StackExchangeSource, dump: Dump, posts: Posts, work: Work) -> list[Task]:
    """The tasks that judge a community's finalists: their rows in the order in which they stand in the file."""
    finalists = _finalists(posts, source)
    if not len(finalists):
        return []
    places = posts.places(finalists)
    keys = source.model_dump(mode="json", exclude={"path", "take", "allow_fewer", "temperature", "sites"})
    arguments = {"member": dump.posts.member, "source": keys, "slug": dump.site.slug, "host": dump.site.host, "seed": work.seed}
    step = AT_ONCE if dump.posts.member is None else len(finalists)  # an archive is read once
    tasks = []
    for at in range(0, len(finalists), step):
        some = [column[at : at + step] for column in places]
        content = work.content(dump.posts.path)
        tasks.append(Task(dump.posts.path, content, int(some[1].sum() + some[3].sum()), arguments | {"pairs": pack(some)}))
    return tasks


def _finalists(posts: Posts, source: StackExchangeSource) -> np.ndarray:
    """Which questions' top answers have the score, in the order in which the questions stand in the file."""
    which = np.flatnonzero(posts.answered & (posts.answer_scores >= source.min_answer_score))
    return which[np.argsort(posts.places(which)[0], kind="stable")]


def judged(path: Path, member: str | None, pairs: str, source: dict, slug: str, host: str, seed: int) -> pa.Table:
    """The fate of each finalist (a task of the engine): rows of _FOUND in the order of `pairs`, which packs byte and size of the question's row and
    of the answer's. Authors are named as their posts name them."""
    made, site, table = StackExchangeSource.model_validate(source | {"path": "-", "take": 1}), Site(slug, host), Table(path, member)
    columns: dict[str, list] = {name: [] for name in _FOUND.names}
    batches: list[pa.RecordBatch] = []  # of an archive one task judges all: texts are not held as objects for long
    places = unpack(pairs, 4)
    with rows_at(table, "posts", np.concatenate(places[::2]), np.concatenate(places[1::2])) as read:
        for question_at, question_size, answer_at, answer_size in places.T.tolist():
            at = answer_at
            asker = answerer = None
            try:
                answer = parse_row(read(answer_at, answer_size))
                chars, problem, response = _response(answer, source=made)
                if problem is None:
                    at = question_at
                    question = parse_row(read(question_at, question_size))
                    found = _candidate(made, site, question, answer, response, seed)
                    asker, answerer = _owner(question), _owner(answer)
                else:
                    found = Candidate("", reason=problem[0], detail=problem[1])
            except RowError as error:
                chars, found = None, Candidate("", reason="malformed", detail=f"{table.name}, byte {at}: {error}")
            columns["response_chars"].append(chars)
            columns["reason"].append(found.reason)
            columns["detail"].append(found.detail or None)
            columns["review"].append(found.review)
            columns["text"].append(found.text.model_dump_json() if found.text is not None else None)
            columns["asker"].append(asker if found.text is not None else None)
            columns["answerer"].append(answerer if found.text is not None else None)
            if len(columns["reason"]) == BATCH:
                batches.append(pa.record_batch([pa.array(columns[f.name], f.type) for f in _FOUND], schema=_FOUND))
                columns = {name: [] for name in _FOUND.names}
    batches.append(pa.record_batch([pa.array(columns[f.name], f.type) for f in _FOUND], schema=_FOUND))
    return pa.Table.from_batches(batches)


def _response(answer: Row, source: StackExchangeSource) -> tuple[int | None, tuple[str, str] | None, str]:
    """(characters, what speaks against it, the cleaned response); where it is surely too short neither characters nor text."""
    html = answer.get("Body", "")
    if len(html) < 2 * source.answer_chars[0]:
        most = most_characters(html)
        if most is not None and most < source.answer_chars[0]:
            return None, ("too_short", f"at most {most}"), ""
    response = to_markdown(html)
    return len(response), response_problem(response, source.answer_chars, source.drop), response


def _candidate(source: StackExchangeSource, site: Site, question: Row, answer: Row, response: str, seed: int) -> Candidate:
    """A question whose top answer is fit."""
    bare = Candidate(f"{site.slug}-{question['Id']}", site.slug)
    prompt, part = _prompt(source, site, question, seed)
    if not prompt.strip():
        return bare.drop("empty_prompt")
    tags = tags_of(question)
    review = detail = None
    if part == "title" and source.titles != "keep" and (detail := title_problem(prompt, tags)) is not None:
        if source.titles == "drop":
            return bare.drop("title_unclear", detail)
        review = "title_unclear"
    licences = [licence_of(question), licence_of(answer)]
    id = f"{site.slug}-{number(question, 'Id')}"
    provenance = Provenance(
        id=id,
        source=source.label,
        url=site.question_url(number(question, "Id"), number(answer, "Id")),
        authors=(author_of(question, site, "question"), author_of(answer, site, "answer")),
        licence=licences[0] if licences[0] == licences[1] else f"{licences[0]} (question), {licences[1]} (answer)",
        changes=f"the prompt is the question's {part}; HTML turned into Markdown; links, images and other markup removed",
        site=site.host,
        title=question.get("Title") or None,
    )
    user, train = Turn(role="user", text=prompt), source.split in ANSWERED
    turns = (user, Turn(role="assistant", text=response)) if train else (user,)
    text = Text(source=source.label, turns=turns, reference=None if train else response, tags=tags, provenance=provenance)
    return Candidate(id, site.slug, text=text, review=review, detail=detail or "")


def _prompt(source: StackExchangeSource, site: Site, question: Row, seed: int) -> tuple[str, str]:
    """(prompt, "title" or "body"): for "title_or_body" either, evenly, or the one that is there."""
    title = " ".join(question.get("Title", "").split())
    if source.prompt == "title_or_body" and title and unit(seed, "prompt", site.slug, question["Id"]) < 0.5:
        return title, "title"  # whatever the body is
    body = to_markdown(question.get("Body", "")) if source.prompt != "title" else ""
    if source.prompt == "title" or not body.strip():
        return (title, "title") if source.prompt != "body" else ("", "body")
    return body, "body"


def _owner(row: Row) -> int | None:
    try:
        return number(row, "OwnerUserId")
    except RowError:
        return None


# --- the account ----------------------------------------------------------------------------------------------------------------------


def names_of(dumps: Sequence[Dump], found: Sequence[Sequence[pa.Table]], work: Work) -> list[dict[int, str]]:
    """The names of the users to credit, of each community that has a Users.xml."""
    asked: list[tuple[int, Table, np.ndarray]] = []
    for i, (dump, tables) in enumerate(zip(dumps, found, strict=True)):
        users = [pc.unique(table[name].drop_null()).to_numpy() for table in tables for name in ("asker", "answerer")]
        wanted = np.unique(np.concatenate([np.empty(0, np.int64), *users]))
        if dump.users is not None and len(wanted):
            asked.append((i, dump.users, wanted))
    names: list[dict[int, str]] = [{} for _ in dumps]
    arguments = [{"wanted": pack([wanted])} for _, _, wanted in asked]
    results = scanned(index_users, [table for _, table, _ in asked], "users", arguments, work, "read Users.xml")
    for (i, _, _), tables in zip(asked, results, strict=True):
        for table in tables:
            names[i] |= zip(table["id"].to_pylist(), table["name"].to_pylist(), strict=True)
    return names


def _account(
    source: StackExchangeSource, dump: Dump, posts: Posts, found: Sequence[pa.Table], names: dict[int, str]
) -> Iterator[pa.RecordBatch | pa.Table]:
    """A community's rows of the pool, in order."""
    place = np.full(len(posts.ids), -1, np.int64)  # of a finalist in `found`
    finalists = _finalists(posts, source)
    place[finalists] = np.arange(len(finalists))
    order = np.lexsort((posts.ids, ~posts.scores))
    for at in range(0, len(order), ROWS):
        which = order[at : at + ROWS]
        yield _rows(dump.site, posts, which, place[which], found, names)
    rest = [Candidate(f"{dump.site.slug}-{id}", dump.site.slug).drop("planted") for id in posts.planted]
    for byte, what in posts.damaged:
        bare = Candidate(f"{dump.site.slug}@byte{byte}", dump.site.slug)
        rest.append(bare.drop("malformed", f"{dump.posts.name}, byte {byte}: {what}"))
    if rest:
        yield batch_of(rest)


def _rows(site: Site, posts: Posts, which: np.ndarray, place: np.ndarray, found: Sequence[pa.Table], names: dict[int, str]) -> pa.Table:
    """The rows of some questions; `place` is where `found` has them, or -1. Made as columns: most have no object of their own."""
    n = len(which)
    answered = pa.array(posts.answered[which])
    final = pa.array(place >= 0)
    questions = pa.array(posts.ids[which]).cast(pa.string())
    answers = pa.array(posts.answers[which]).cast(pa.string())
    answer_scores = pc.if_else(answered, pa.array(posts.answer_scores[which]), pa.scalar(None, pa.int64()))
    pages = pc.binary_join_element_wise(site.question_url(0).removesuffix("0"), questions, "")
    nothing = pa.nulls(n, pa.string())
    judged = _taken(found, place[place >= 0], names, site)
    columns = {
        "id": pc.binary_join_element_wise(site.slug, questions, "-"),
        "stratum": pa.repeat(site.slug, n),
        "url": pc.if_else(answered, pc.binary_join_element_wise(pages, answers, "#"), pages),
        "score": pa.array(posts.scores[which]),
        "answer_score": answer_scores,
        "response_chars": pc.replace_with_mask(pa.nulls(n, pa.int64()), final, judged["response_chars"]),
        "reason": pc.replace_with_mask(pc.if_else(answered, "score_too_low", "no_answer"), final, judged["reason"]),
        "detail": pc.replace_with_mask(pc.if_else(answered, answer_scores.cast(pa.string()), nothing), final, judged["detail"]),
        "review": pc.replace_with_mask(nothing, final, judged["review"]),
        "text": pc.replace_with_mask(nothing, final, judged["text"]),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _taken(found: Sequence[pa.Table], rows: np.ndarray, names: dict[int, str], site: Site) -> dict[str, pa.Array]:
    """Some rows of all tables in a row, in the order asked for, with the authors' names."""
    begins = np.cumsum([0, *(len(table) for table in found)])
    order = np.argsort(rows, kind="stable")
    tables = np.searchsorted(begins, rows[order], side="right") - 1
    parts = [found[i].take(pa.array(rows[order][tables == i] - begins[i])) for i in np.unique(tables)]
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    table = pa.concat_tables([_FOUND.empty_table(), *parts]).combine_chunks().take(pa.array(back)).combine_chunks()
    columns = {name: table[name].chunk(0) if table[name].num_chunks else pa.nulls(0, table[name].type) for name in _FOUND.names}
    if names:
        columns["text"] = pa.array(credited(columns, names, site), pa.string())
    return columns


def credited(columns: dict[str, pa.Array], names: dict[int, str], site: Site) -> Iterator[str | None]:
    """The texts with the names of their authors, where Users.xml has them."""
    for text, asker, answerer in zip(*(columns[name].to_pylist() for name in ("text", "asker", "answerer")), strict=True):
        if text is None or not (asker in names or answerer in names):
            yield text
            continue
        said = Text.model_validate_json(text)
        authors = tuple(_named(a, names, site) for a in said.provenance.authors)
        yield said.model_copy(update={"provenance": said.provenance.model_copy(update={"authors": authors})}).model_dump_json()


def _named(author: Author, names: dict[int, str], site: Site) -> Author:
    user = None if author.url is None else int(author.url.removeprefix(site.user_url(0).removesuffix("0")))
    return author if user is None or user not in names else author.model_copy(update={"name": names[user]})
