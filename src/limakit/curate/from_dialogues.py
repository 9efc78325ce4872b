"""Dialogues from Stack Exchange: a question, its top answer and what the two say to each other in the comments under it (paper, section 6).

user: the question's title and body; assistant: the answer; user: the asker's comment; assistant: the answerer's; and so on. The paper's authors
edited 20 of these to the assistant's style, so each waits for a review. Every question with its fate is a candidate, best first within its
community (score, then lower id).

Two readings, as in from_stackexchange. The first keeps numbers only, of posts and of comments; where nobody or one person commented on the top
answer, a question meets its fate there. The second reads the rows of the others, by their place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UsageError
from ..recipe_sources import StackExchangeDialogueSource
from ..sources.comments import Comment, comment_of, index_comments
from ..sources.communities import Dump, Site, find_sites
from ..sources.dump import Table, rows_at
from ..sources.packed import pack, unpack
from ..sources.posts import Posts, top_answers
from ..sources.scan import Row, RowError, parse_row
from ..workspace import sha256_json
from .candidate import Candidate
from .dialogue import dialogue, owner_of
from .engine import Task, Work
from .from_stackexchange import BATCH, credited, index_all, names_of, scanned
from .pool import SCHEMA, batch_of

AT_ONCE = 4_000  # questions whose rows one task reads
ROWS = 50_000  # of the account, built at a time
_LARGEST = 2**63 - 1


def inputs(source: StackExchangeDialogueSource, path: Path) -> dict[str, Path]:
    """The files or archives with the posts and comments of each community. Raises UsageError where none has comments, and as find_sites does."""
    dumps = find_sites(path, source.group, source.sites)
    if not any(dump.comments for dump in dumps):
        remedy = "put Comments.xml beside Posts.xml; a community's archive holds both (of Stack Overflow: stackoverflow.com-Comments.7z)"
        raise UsageError("no Comments.xml of any community that is taken", where=path, remedy=remedy)
    files = {table.path for dump in dumps for table in dump.tables.values()}
    return {f"{source.path.rstrip('/')}/{file.relative_to(path).as_posix()}": file for file in sorted(files)}


def offer(source: StackExchangeDialogueSource, path: Path, work: Work) -> Iterator[pa.RecordBatch | pa.Table]:
    """Every question of the source's communities, by slug and best first; then planted questions and damaged rows.

    Raises LimakitError for a dump that cannot be read on.
    """
    dumps = find_sites(path, source.group, source.sites)
    indexed = index_all(dumps, work)
    comments = _comments(source, dumps, indexed, work)
    plans = [_planned(source, dump, top_answers(tables), said) for dump, tables, said in zip(dumps, indexed, comments, strict=True)]
    tasks = [_judging(source, dump, plan, work) for dump, plan in zip(dumps, plans, strict=True)]
    results = work.run(judged, [task for some in tasks for task in some], f"judge {source.label}")
    found = [[next(results) for _ in some] for some in tasks]
    next(results, None)
    names = names_of(dumps, found, work)
    for dump, tables, plan, judgments, known in zip(dumps, indexed, plans, found, names, strict=True):
        yield from _account(dump, top_answers(tables), plan, judgments, known)


# --- the first reading ----------------------------------------------------------------------------------------------------------------


def _comments(
    source: StackExchangeDialogueSource, dumps: Sequence[Dump], indexed: Sequence[list[pa.Table]], work: Work
) -> list[list[pa.Table]]:
    """What `index_comments` says of each community. Of a file all comments, so that another recipe need not read it again; of an archive, which
    one process reads, those on the answers in play, so that they fit into its memory."""
    having = [i for i, dump in enumerate(dumps) if dump.comments is not None]
    arguments: list[dict] = []
    for i in having:
        if dumps[i].comments.member is None:  # type: ignore[union-attr]
            arguments.append({})
        else:
            posts = top_answers(indexed[i])
            arguments.append({"wanted": pack([np.sort(posts.answers[_in_play(source, posts)])])})
    tables = [dumps[i].comments for i in having]
    read = iter(scanned(index_comments, tables, "comments", arguments, work, "read Comments.xml"))  # type: ignore[arg-type]
    return [next(read) if dump.comments is not None else [] for dump in dumps]


def _in_play(source: StackExchangeDialogueSource, posts: Posts) -> np.ndarray:
    return posts.answered & (posts.answer_scores >= source.min_answer_score)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What the numbers say of a community's n questions: the fate of each, and of those that are to be judged where all rows stand."""

    fates: np.ndarray  # int8[n]
    which: np.ndarray  # int64[k], the questions to be judged, in the order of their rows
    pairs: np.ndarray  # int64[9, k]: ids and scores of question and answer, their rows' bytes and sizes, how many comments
    comments: np.ndarray  # int64[2, m]: bytes and sizes of the first's comments, the second's, ...; those of one in any order
    damaged: list[tuple[int, str]]  # rows of comments


_JUDGED, _NO_ANSWER, _SCORE, _NO_COMMENTS, _SILENT = range(5)
_REASONS = pa.array([None, "no_answer", "score_too_low", "no_comments", "too_few_turns"])


def _planned(source: StackExchangeDialogueSource, dump: Dump, posts: Posts, tables: Sequence[pa.Table]) -> _Plan:
    """Questions are judged on whose top answer two people or more commented, or a comment is damaged. Some 16 bytes a comment on answers in play."""
    asked = np.flatnonzero(_in_play(source, posts))
    asked = asked[np.argsort(posts.answers[asked])]
    answers = posts.answers[asked]
    counts, least, most = np.zeros(len(asked), np.int64), np.full(len(asked), _LARGEST), np.full(len(asked), -_LARGEST)
    parts = [(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int32))]
    damaged: list[tuple[int, str]] = []
    for table in tables:
        post, user, at, size = (table[name].to_numpy() for name in ("post", "user", "at", "size"))
        bad = table.filter(pc.is_valid(table["problem"]))
        damaged += zip(bad["at"].to_pylist(), bad["problem"].to_pylist(), strict=True)
        to = np.searchsorted(answers, post).clip(max=max(len(answers) - 1, 0))
        hit = np.flatnonzero(answers[to] == post) if len(answers) else to[:0]
        to = to[hit].astype(np.int32)
        np.add.at(counts, to, 1)
        broken = ~pc.is_null(table["problem"]).to_numpy(zero_copy_only=False)[hit]
        np.minimum.at(least, to, np.where(broken, -_LARGEST, user[hit]))  # so that its dialogue is judged, and found malformed
        np.maximum.at(most, to, np.where(broken, _LARGEST, user[hit]))
        parts.append((to, at[hit], size[hit]))
    to, at, size = (np.concatenate([part[i] for part in parts]) for i in range(3))
    chosen = np.flatnonzero(least < most)
    chosen = chosen[np.argsort(posts.places(asked[chosen])[0])]
    rank = np.full(len(asked), len(chosen), np.int64)
    rank[chosen] = np.arange(len(chosen))
    order = np.argsort(rank[to], kind="stable")[: counts[chosen].sum()]
    which = asked[chosen]
    numbers = [column[which] for column in (posts.ids, posts.scores, posts.answers, posts.answer_scores)]
    fates = np.full(len(posts.ids), _SILENT, np.int8)
    fates[~posts.answered] = _NO_ANSWER
    fates[posts.answered & (posts.answer_scores < source.min_answer_score)] = _SCORE
    fates[asked[counts == 0]] = _NO_COMMENTS
    fates[which] = _JUDGED
    pairs = np.stack([*numbers, *posts.places(which), counts[chosen]])
    return _Plan(fates, which, pairs, np.stack([at[order], size[order].astype(np.int64)]), damaged)


# --- the second reading ---------------------------------------------------------------------------------------------------------------


def _judging(source: StackExchangeDialogueSource, dump: Dump, plan: _Plan, work: Work) -> list[Task]:
    """The tasks that judge a community's questions."""
    if dump.comments is None or not len(plan.which):
        return []
    folder = Path(os.path.commonpath([dump.posts.path.parent, dump.comments.path.parent]))
    arguments = {
        "files": [[table.path.relative_to(folder).as_posix(), table.member] for table in (dump.posts, dump.comments)],
        "source": source.model_dump(mode="json", exclude={"path", "take", "allow_fewer", "temperature", "sites"}),
        "slug": dump.site.slug,
        "host": dump.site.host,
    }
    content = sha256_json([work.content(dump.posts.path), work.content(dump.comments.path)])
    step = AT_ONCE if dump.posts.member is None and dump.comments.member is None else len(plan.which)  # an archive is read once
    begins = np.cumsum([0, *plan.pairs[8]])
    tasks = []
    for at in range(0, len(plan.which), step):
        pairs, end = plan.pairs[:, at : at + step], min(at + step, len(plan.which))
        comments = plan.comments[:, begins[at] : begins[end]]
        weight = int(pairs[5].sum() + pairs[7].sum() + comments[1].sum())
        tasks.append(Task(folder, content, weight, arguments | {"pairs": pack(list(pairs)), "comments": pack(list(comments))}))
    return tasks


def judged(folder: Path, files: list[list[str | None]], pairs: str, comments: str, source: dict, slug: str, host: str) -> pa.Table:
    """The fate of some questions of a plan (a task of the engine): rows of a pool in the order of `pairs`, and whom to credit, by their numbers."""
    made, site = StackExchangeDialogueSource.model_validate(source | {"path": "-", "take": 1}), Site(slug, host)
    posts, said = (Table(folder / str(name), member) for name, member in files)
    rows, places = unpack(pairs, 9), unpack(comments, 2)
    found: list[Candidate] = []
    people: list[tuple[int | None, int | None]] = []
    parts: list[pa.Table] = []  # of an archive one task judges all: texts are not held as objects for long
    end = 0
    with (
        rows_at(posts, "posts", np.concatenate(rows[[4, 6]]), np.concatenate(rows[[5, 7]])) as read_post,
        rows_at(said, "comments", *places) as read_comment,
    ):
        for question, score, answer, answer_score, *at, n in rows.T.tolist():
            begin, end = end, end + n
            bare = Candidate(f"{slug}-{question}-dialogue", slug, score, answer_score, url=site.question_url(question, answer))
            try:
                asked, answered = _row(posts, read_post, at[0], at[1]), _row(posts, read_post, at[2], at[3])
                chain = _chain(said, read_comment, places[:, begin:end])
                found.append(dialogue(made, site, bare, asked, answered, chain))
            except RowError as error:
                found.append(bare.drop("malformed", str(error)))
            people.append((owner_of(asked), owner_of(answered)) if found[-1].reason is None else (None, None))
            if len(found) == BATCH:
                parts.append(_credited_later(found, people))
                found, people = [], []
    return pa.concat_tables([*parts, _credited_later(found, people)])


def _credited_later(found: list[Candidate], people: list[tuple[int | None, int | None]]) -> pa.Table:
    """Rows of a pool, with the asker's and the answerer's number."""
    table = pa.Table.from_batches([batch_of(found)])
    for i, name in enumerate(("asker", "answerer")):
        table = table.append_column(name, pa.array([pair[i] for pair in people], pa.int64()))
    return table


def _chain(table: Table, read: Callable[[int, int], bytes], places: np.ndarray) -> list[Comment]:
    """The comments whose rows begin at some places, int64[2, n]. Raises RowError where one is damaged, or has the Id of another: which of the two was
    meant nobody knows, and what was said once must not stand twice."""
    found: dict[int, Comment] = {}
    for at, size in sorted(places.T.tolist()):
        try:
            comment = comment_of(parse_row(read(at, size)))
            if comment.id in found:
                raise RowError(f"Id {comment.id} occurs a second time")
        except RowError as error:
            raise RowError(f"{table.name}, byte {at}: {error}") from None
        found[comment.id] = comment
    return list(found.values())


def _row(table: Table, read: Callable[[int, int], bytes], at: int, size: int) -> Row:
    try:
        return parse_row(read(at, size))
    except RowError as error:
        raise RowError(f"{table.name}, byte {at}: {error}") from None


# --- the account ----------------------------------------------------------------------------------------------------------------------


def _account(
    dump: Dump, posts: Posts, plan: _Plan, found: Sequence[pa.Table], names: dict[int, str]
) -> Iterator[pa.RecordBatch | pa.Table]:
    """A community's rows of the pool, in order."""
    slug = dump.site.slug
    place = np.zeros(len(posts.ids), np.int64)
    place[plan.which] = np.arange(len(plan.which))
    order = np.lexsort((posts.ids, ~posts.scores))
    for at in range(0, len(order), ROWS):
        part = order[at : at + ROWS]
        is_judged = plan.fates[part] == _JUDGED
        others = part[~is_judged]
        rows = [_plain(dump, posts, others, plan.fates[others]), _gathered(found, place[part[is_judged]], names, dump.site)]
        back = np.argsort(np.concatenate([np.flatnonzero(~is_judged), np.flatnonzero(is_judged)]))
        yield pa.concat_tables(rows).take(pa.array(back))
    rest = [Candidate(f"{slug}-{post}-dialogue", slug).drop("planted") for post in posts.planted]
    for after, table, damaged in (("", dump.posts, posts.damaged), ("-comments", dump.comments, plan.damaged)):
        for byte, what in damaged:
            rest.append(Candidate(f"{slug}{after}@byte{byte}", slug).drop("malformed", f"{table.name}, byte {byte}: {what}"))  # type: ignore[union-attr]
    if rest:
        yield batch_of(rest)


def _gathered(tables: Sequence[pa.Table], rows: np.ndarray, names: dict[int, str], site: Site) -> pa.Table:
    """Some rows of all the tables' rows in a row, in the order asked for, with the authors' names."""
    if not len(rows):
        return SCHEMA.empty_table()
    begins = np.cumsum([0, *(len(t) for t in tables)])
    tables_of = np.searchsorted(begins, rows, side="right") - 1
    which = np.unique(tables_of)
    places = np.concatenate([np.flatnonzero(tables_of == i) for i in which])
    parts = [tables[i].take(pa.array(rows[tables_of == i] - begins[i])) for i in which]
    table = pa.concat_tables(parts).take(pa.array(np.argsort(places))).combine_chunks()
    if names:
        columns = {name: table[name].chunk(0) for name in ("text", "asker", "answerer")}
        text = pa.array(credited(columns, names, site), pa.string())
        table = table.set_column(table.schema.get_field_index("text"), SCHEMA.field("text"), text)
    return table.select(SCHEMA.names)


def _plain(dump: Dump, posts: Posts, which: np.ndarray, fates: np.ndarray) -> pa.Table:
    """The rows of questions whose numbers are enough."""
    site = dump.site
    ids = pa.array(posts.ids[which]).cast(pa.string())
    answered = pa.array(posts.answered[which])
    anchors = pc.if_else(answered, pc.binary_join_element_wise("#", pa.array(posts.answers[which]).cast(pa.string()), ""), "")
    scores = pa.array(posts.answer_scores[which])
    details = pa.array([None, None, None, None if dump.comments else "no Comments.xml", "2"], pa.string()).take(pa.array(fates))
    columns = {
        "id": pc.binary_join_element_wise(f"{site.slug}-", ids, "-dialogue", ""),
        "stratum": pa.array([site.slug] * len(which), pa.string()),
        "url": pc.binary_join_element_wise(site.question_url(0).removesuffix("0"), ids, anchors, ""),
        "score": pa.array(posts.scores[which]),
        "answer_score": pc.if_else(answered, scores, pa.scalar(None, pa.int64())),
        "reason": _REASONS.take(pa.array(fates)),
        "detail": pc.if_else(pa.array(fates == _SCORE), scores.cast(pa.string()), details),
    }
    return pa.table([columns.get(f.name, pa.nulls(len(which), f.type)) for f in SCHEMA], schema=SCHEMA)
