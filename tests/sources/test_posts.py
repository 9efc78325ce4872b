"""Posts.xml in numbers: in any order of rows, in any writing of their heads, damage accounted for."""

import tracemalloc
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from dumps import answer, question, row, write_site
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.sources.dump import Table, check_ranges, scan_of
from limakit.sources.post_heads import ANSWER, ODD, OTHER, QUESTION, read_heads
from limakit.sources.posts import Posts, among, index_posts, top_answers
from limakit.sources.scan import parse_row


def read(path, *cuts) -> Posts:
    """The posts of a file, scanned in ranges."""
    cuts = [0, *cuts]
    tables = [index_posts(path, None, start, stop) for start, stop in zip(cuts, [*cuts[1:], None], strict=True)]
    assert check_ranges(tables, path, "posts")
    return top_answers(tables)


def questions(posts: Posts) -> dict[int, int]:
    return dict(zip(posts.ids.tolist(), posts.scores.tolist(), strict=True))


def tops(posts: Posts) -> dict[int, tuple[int, int]]:
    found = zip(posts.ids.tolist(), posts.answered.tolist(), posts.answer_scores.tolist(), posts.answers.tolist(), strict=True)
    return {id: (score, top) for id, answered, score, top in found if answered}


NUMBERS = st.integers(-12, 12) | st.sampled_from([10**7, 99_999_999, 10**8, 10**18 - 1, -(10**9), 2**62])
POSTS = st.lists(st.tuples(st.integers(1, 30), st.sampled_from("12"), st.integers(1, 30), NUMBERS, st.booleans()), max_size=25)


@settings(max_examples=300, deadline=None)
@given(POSTS, st.lists(st.integers(60, 3000), max_size=3))
def test_top_answers_are_those_of_a_plain_reading(tmp_path_factory, posts, cuts):
    """The highest score, ties to the lower id, as numbers; however the file is cut, and whether or not a head is in the usual layout.

    Of top answers of one Id the first counts (of rows alike in all but their text, either).
    """
    rows, known, best = [], {}, {}
    for n, (id, kind, parent, score, usual) in enumerate(posts):
        if kind == "1":
            rows.append(question(id, score=score) if usual else row(Score=score, PostTypeId=1, Id=id))
            known.setdefault(id, score)
        else:
            id += 1000
            rows.append(answer(id, parent, "", score=score) if usual else row(Id=id, PostTypeId=2, Score=score, ParentId=parent))
            if parent not in best or (-score, id) < (-best[parent][0], best[parent][1]):
                best[parent] = (score, id, n)
    path = write_site(tmp_path_factory.mktemp("dump"), "s", rows)
    found = read(path, *sorted(c for c in set(cuts) if c < path.stat().st_size))
    assert questions(found) == known and found.ids.tolist() == sorted(known)
    first = {}
    for parent, (_, id, n) in best.items():
        if parent in known:
            first[id] = min(first.get(id, n), n)
    top = {parent: (score, id) for parent, (score, id, n) in best.items() if parent in known and first[id] == n}
    assert tops(found) == top
    again = sum(parent in known for parent in best) - len(top)
    assert len(found.damaged) == sum(kind == "1" for _, kind, *_ in posts) - len(known) + again
    data = path.read_bytes()
    question_at, question_size, answer_at, answer_size = (part.tolist() for part in found.places(np.arange(len(found.ids))))
    for i, id in enumerate(found.ids.tolist()):
        assert parse_row(data[question_at[i] : question_at[i] + question_size[i]])["Id"] == str(id)
        if found.answered[i]:
            assert parse_row(data[answer_at[i] : answer_at[i] + answer_size[i]])["Id"] == str(found.answers[i])


def test_other_kinds_and_planted_posts_are_neither_questions_nor_answers(tmp_path):
    others = [row(Id=40 + k, PostTypeId=k, ParentId=1, Score=99, Body="", Title="A title on no question") for k in (3, 4, 5, 6, 7, 8, 17)]
    planted = [answer(1000000001, 1, score=999), question(1000000010)]
    posts = read(write_site(tmp_path, "s", [*planted, *others, question(1), answer(2, 1), answer(20, 99)]))
    assert (questions(posts), tops(posts), posts.planted, posts.damaged) == ({1: 5}, {1: (12, 2)}, [1000000010], [])


def test_what_is_no_number_is_a_damaged_row_and_nothing_else_is_lost(tmp_path):
    bad = [
        question(3, score="many"),
        row(Id=4, PostTypeId=2, Score=1),
        answer(5, 1, score=10**20),
        question(6, score=""),
        row(Id="7a", PostTypeId=1, Score=1),
        "  <row Id=8 PostTypeId=1/>",
        row(Id=90, Score=3),
        row(Id=91, PostTypeId="one", Score=3),
        row(Id=92, PostTypeId=" 1", Score=3),
    ]
    path = write_site(tmp_path, "s", [question(1), *(line for b in bad for line in (b, answer(2, 1)))])
    posts = read(path)
    assert questions(posts) == {1: 5} and tops(posts) == {1: (12, 2)}
    data = path.read_bytes()
    assert [data[at:].startswith(b.strip().encode()) for (at, _), b in zip(posts.damaged, bad, strict=True)] == [True] * 9
    said = [what for _, what in posts.damaged]
    assert said[:3] == [
        "Score is 'many', expected a whole number",
        "ParentId is missing",
        "Score is '100000000000000000000', expected a whole number",
    ]
    assert said[3:5] == ["Score is '', expected a whole number", "Id is '7a', expected a whole number"] and said[5]
    assert said[6:] == ["PostTypeId is missing", *(f"PostTypeId is {type!r}, expected a whole number" for type in ("one", " 1"))]


def test_a_top_answer_whose_id_another_post_has_is_a_damaged_row(tmp_path):
    """Two candidates would else stand on one post."""
    rows = [
        question(1),
        question(2),
        question(3),
        answer(10, 3),
        answer(10, 1),
        answer(11, 1, score=3),
        answer(3, 2),
        answer(11, 1, score=2),
    ]
    path = write_site(tmp_path, "s", rows)
    data = path.read_bytes()
    for cuts in ((), (data.index(rows[4].strip().encode()),)):
        posts = read(path, *cuts)
        assert questions(posts) == {1: 5, 2: 5, 3: 5} and tops(posts) == {3: (12, 10)}
        expected = [(data.index(rows[i].strip().encode()), f"Id {id} occurs a second time") for i, id in ((4, 10), (6, 3))]
        assert posts.damaged == expected


def test_a_question_that_comes_twice_is_one(tmp_path):
    path = write_site(tmp_path, "s", [question(1, score=3), answer(2, 1), question(1, score=9)])
    posts = read(path)
    assert questions(posts) == {1: 3}
    assert posts.damaged == [(path.read_bytes().rindex(b"<row"), "Id 1 occurs a second time")]


@pytest.mark.parametrize("cut", [60, 200, -3])
def test_truncated_names_file_and_byte(tmp_path, cut):
    path = write_site(tmp_path, "s", [question(1), answer(2, 1)])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(LimakitError, match=rf"Posts\.xml: is truncated \(it ends at byte {path.stat().st_size} without </posts>\)"):
        read(path)


def test_a_file_that_goes_on_after_its_end_in_a_later_range(tmp_path):
    path = write_site(tmp_path, "s", [question(1), answer(2, 1)])
    end = path.stat().st_size
    data = path.read_bytes()
    path.write_bytes(data + data[data.index(b"<posts>") :])
    for cuts in ((), (end,), (end + 100,)):
        with pytest.raises(LimakitError, match=r"goes on .*after its end </posts> at byte"):
            read(path, *cuts)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda id, kind, more, date, score, rest: f'<row Id="{id}" PostTypeId="{kind}"{more} CreationDate="{date}" Score="{score}"{rest}/>',
            st.integers(0, 10**9) | st.sampled_from(["", "x", "1x", "00000007", "12345678", "123456789", "-3", "&#49;"]),
            st.sampled_from(["1", "2", "1", "2", "5", "11", "0", ":", ""]),
            st.sampled_from(["", ' ParentId="12"', ' AcceptedAnswerId="123"', ' ParentId=""', ' ParentId="123456789"', ' OwnerId="1"', " ParentId='4'", '  ParentId="3"']),
            st.sampled_from(["2014-01-21T20:31:18.540", "2014-01-21T20:31:18.540", "2014-01-21", '" Score="3', "2014-01-21T20:31:18.540Z", "é014-01-21T20:31:18.54"]),
            st.integers(-(10**8), 10**8) | st.sampled_from(["-0", "--1", "+1", "1 ", "-", "12345678"]),
            st.sampled_from(["", ' Body="&lt;p&gt;"', ' Score="9"', ' Title=""']),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_heads_are_what_expat_reads_or_odd(rows):
    from limakit.sources.scan import Scan

    data = ("<posts>" + "\n".join(rows) + "</posts>").encode()
    for block in Scan([data[7:]], "", "posts", 7):
        kinds, ids, parents, scores = read_heads(block)
        for i, kind in enumerate(kinds.tolist()):
            try:
                attributes = ET.fromstring(rows[i]).attrib
            except ET.ParseError:
                continue  # of a row that is never wanted in full nothing but the head is read
            if kind in (QUESTION, ANSWER):
                assert attributes["PostTypeId"] == str(kind)
                assert (int(attributes["Id"]), int(attributes["Score"])) == (ids[i], scores[i])
                assert kind == QUESTION or int(attributes["ParentId"]) == parents[i]
            elif kind == OTHER:
                assert attributes["PostTypeId"] in set("3456789")


def test_the_usual_layout_is_read_without_expat(tmp_path):
    rows = [
        question(1),
        question(2, AcceptedAnswerId=4),
        answer(3, 1, score=-7),
        row(Id=8, PostTypeId=5, CreationDate="x", Score=0),
        answer(99_999_999, 12_345_678),
    ]
    rows[1] = rows[1].replace(' AcceptedAnswerId="4"', "").replace('PostTypeId="1"', 'PostTypeId="1" AcceptedAnswerId="4"')
    (block,) = scan_of(Table(write_site(tmp_path, "s", rows)), "posts")
    kinds, ids, parents, scores = read_heads(block)
    assert kinds.tolist() == [QUESTION, QUESTION, ANSWER, OTHER, ANSWER] and ODD not in kinds
    assert (ids[[0, 1, 2, 4]].tolist(), scores[[0, 1, 2, 4]].tolist()) == ([1, 2, 3, 99_999_999], [5, 5, -7, 12])
    assert parents[[2, 4]].tolist() == [1, 12_345_678]


@given(st.lists(st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)), st.sets(st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)))
def test_among_is_membership(numbers, wanted):
    assert among(np.array(numbers, np.int64), np.array(sorted(wanted), np.int64)).tolist() == [n in wanted for n in numbers]


def test_memory_holds_numbers_and_not_text(tmp_path):
    """A dump of 120 MB is indexed in a small part of its size: a few blocks of 4 MB."""
    body = "<p>" + "x" * 30_000 + "</p>"
    path = write_site(tmp_path, "s", [r for i in range(1, 2001) for r in (question(2 * i, body=body), answer(2 * i + 1, 2 * i, body))])
    assert path.stat().st_size > 120e6
    tracemalloc.start()
    assert len(read(path).ids) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6, peak
