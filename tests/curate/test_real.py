"""The four real communities: the known values, and an account of each difference."""

import html
import re

import pyarrow.parquet as pq
import pytest
from dumps import recipe, rows_of, stackexchange

from limakit.curate.html import to_markdown
from limakit.curate.pipeline import curate
from limakit.recipe import read_recipe
from limakit.records import Example, Provenance, read_jsonl
from limakit.sources.posts import index_posts, top_answers
from limakit.workspace import find_workspace

ANSWERED = {"beer": 644, "coffee": 212, "bicycles-meta": 413, "conlang-meta": 49}
SCORE_10 = {"beer": 98, "coffee": 35, "bicycles-meta": 27, "conlang-meta": 15}
IN_BOUNDS = {"beer": 29, "coffee": 7, "bicycles-meta": 3, "conlang-meta": 5}  # tags stripped, entities decoded
# Where our cleaner moves an answer over a bound: question -> (characters of the stripped text, of ours), and why.
MOVED = {
    # two ordered lists of 34 items in all: their numbers, which are in no tag's text, are kept as "11. " and so on
    ("coffee", 183): (1102, 1224),
    # ends with an address as the text of its own link: the address goes; so does white space round images and at ends of lines
    ("coffee", 96): (4108, 3989),
    # a list of links whose texts are their addresses: the addresses go
    ("bicycles-meta", 276): (4482, 3650),
}


def stripped(body: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", body))


def read(shared, site):
    """(question -> (score, id) of its top answer, by our reading; every row by its Id, by a plain one)."""
    path = shared / "stackexchange" / site / "Posts.xml"
    posts = top_answers([index_posts(path)])
    found = zip(posts.ids.tolist(), posts.answered.tolist(), posts.answer_scores.tolist(), posts.answers.tolist(), strict=True)
    rows = {int(row["Id"]): row for row in rows_of(path)}
    assert posts.ids.tolist() == sorted(id for id, row in rows.items() if row["PostTypeId"] == "1") and not posts.damaged
    return {id: (score, answer) for id, answered, score, answer in found if answered}, rows


def test_known_values_and_each_difference_accounted_for(shared):
    moved = {}
    for site in ANSWERED:
        top, rows = read(shared, site)
        assert len(top) == ANSWERED[site]
        wanted = {q: post for q, (score, post) in top.items() if score >= 10}
        assert len(wanted) == SCORE_10[site]
        plain = ours = 0
        for question, answer in wanted.items():
            body = rows[answer]["Body"]
            before, after = len(stripped(body)), len(to_markdown(body))
            was, now = 1200 <= before <= 4096, 1200 <= after <= 4096
            plain, ours = plain + was, ours + now
            if was != now:
                moved[site, question] = (before, after)
        assert plain == IN_BOUNDS[site]
        assert ours == plain + sum(1 if 1200 <= m[1] <= 4096 else -1 for key, m in moved.items() if key[0] == site)
    assert moved == MOVED


def test_why_they_moved(shared):
    """The reasons given above are the reasons."""
    bodies = {}
    for site, question in MOVED:
        top, rows = read(shared, site)
        bodies[site, question] = rows[top[question][1]]["Body"]
    lists = to_markdown(bodies["coffee", 183])
    unnumbered = re.sub(r"(?m)^\d+\. ", "", lists)
    assert lists.count("\n34. ") == 1 and len(unnumbered) < 1200
    for key in (("coffee", 96), ("bicycles-meta", 276)):
        without = re.sub(r"<a [^>]*>\s*https?://[^<]*</a>", "", bodies[key])
        assert len(" ".join(stripped(without).split())) <= 4096 < len(stripped(bodies[key]))
        assert "://" in stripped(bodies[key]) and "://" not in to_markdown(bodies[key])


@pytest.mark.parametrize("drop", [[], ["first_person", "cites_other_answers", "names_site"]])
def test_curate_accounts_for_every_question_and_credits_every_example(shared, tmp_path, drop):
    dumps = str(shared / "stackexchange")
    path = recipe(tmp_path, stackexchange(path=dumps, take=47 if not drop else 200, allow_fewer=bool(drop), drop=drop, titles="keep"))
    curate(find_workspace(path), read_recipe(path))
    rows = pq.read_table(tmp_path / "data" / "candidates.parquet").to_pylist()
    assert len(rows) == sum(row["PostTypeId"] == "1" for s in ANSWERED for row in read(shared, s)[1].values())
    assert sum(r["reason"] != "no_answer" for r in rows) == sum(ANSWERED.values())
    assert sum(r["reason"] not in ("no_answer", "score_too_low") for r in rows) == sum(SCORE_10.values())
    examples = read_jsonl(tmp_path / "data" / "train.jsonl", Example)
    assert len(examples) == (47 if not drop else 15)
    sources = {p.id: p for p in read_jsonl(tmp_path / "data" / "provenance.jsonl", Provenance)}
    assert set(sources) == {e.id for e in examples}
    for example in examples:
        origin = sources[example.id]
        site, _, question = example.id.rpartition("-")
        host = site.removesuffix("-meta") + (".meta" if site.endswith("-meta") else "") + ".stackexchange.com"
        assert re.fullmatch(rf"https://{re.escape(host)}/questions/{question}#\d+", origin.url)
        assert origin.licence.startswith("CC BY-SA ") and origin.changes
        assert [a.wrote for a in origin.authors] == ["question", "answer"] and all(a.name for a in origin.authors)
        assert all(a.url is None or a.url.startswith(f"https://{host}/users/") for a in origin.authors)
        assert 1200 <= len(example.response) <= 4096
        assert "://" not in re.sub(r"(?s)```.*?```|`.*?`", "", example.response)


def test_a_title_on_a_row_that_is_no_question(shared):
    top, rows = read(shared, "bicycles-meta")
    assert rows[1399]["Title"] and rows[1399]["PostTypeId"] != "1" and 1399 not in top
