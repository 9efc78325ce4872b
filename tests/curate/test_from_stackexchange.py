"""Stack Exchange as candidates: every question with its fate, in whatever form the dump lies there."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from dumps import LONG, answer, question, row, write_site
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.engine import Work
from limakit.curate.from_stackexchange import inputs, offer
from limakit.curate.html import to_markdown
from limakit.curate.rules import response_problem
from limakit.errors import LimakitError
from limakit.recipe_sources import StackExchangeSource

SEVEN = shutil.which("7zz") or shutil.which("7z") or shutil.which("7za")
needs_7zip = pytest.mark.skipif(SEVEN is None, reason="7-Zip (7zz) is not installed; limakit needs it for .7z archives only")


def source(**keys):
    return StackExchangeSource(**{"kind": "stackexchange", "path": "dumps", "take": 1, "titles": "keep"} | keys)


def offered(root, cache=None, **keys):
    """The rows of the pool."""
    work = Work(7, cache if cache is not None else root.parent / "cache")
    return [row for part in offer(source(**keys), root, work) for row in part.to_pylist()]


def fates(rows):
    return {r["id"]: r["reason"] for r in rows}


def text(row):
    return json.loads(row["text"])


@pytest.fixture
def root(tmp_path):
    return tmp_path / "dumps"


def good(n, first=1):
    return [r for i in range(first, first + n) for r in (question(2 * i, score=i), answer(2 * i + 1, 2 * i))]


def test_best_first_then_planted_then_damaged(root):
    rows = [
        question(9, score=3), answer(10, 9), question(2, score=3), answer(3, 2, score=9), question(5, score=7), question(1000000010),
        question(20, score="x"), "  <row Id='21' PostTypeId='1' Score='1' Title='&bad;'/>", answer(30, 9, score="1.5"), question(4, score=-1), answer(31, 4),
    ]  # fmt: skip
    path = write_site(root, "coffee", rows)
    write_site(root, "academia", [question(1)])
    found = offered(root)
    assert [r["id"] for r in found][:6] == ["academia-1", "coffee-5", "coffee-2", "coffee-9", "coffee-4", "coffee-1000000010"]
    assert [r["reason"] for r in found][:6] == ["no_answer", "no_answer", "score_too_low", None, None, "planted"]
    assert (
        found[2]["detail"] == "9" and found[2]["answer_score"] == 9 and found[2]["url"] == "https://coffee.stackexchange.com/questions/2#3"
    )
    data = path.read_bytes()
    damaged = found[6:]
    assert [r["id"] for r in damaged] == [f"coffee@byte{data.index(mark)}" for mark in (b'<row Id="20"', b"<row Id='21'", b'<row Id="30"')]
    assert {r["reason"] for r in damaged} == {"malformed"}
    at = damaged[0]["id"].removeprefix("coffee@byte")
    assert damaged[0]["detail"] == f"Posts.xml, byte {at}: Score is 'x', expected a whole number"
    assert "undefined entity" in damaged[1]["detail"] and "Score is '1.5'" in damaged[2]["detail"]


@pytest.mark.parametrize("which", ["question", "answer"])
def test_a_finalist_whose_text_is_damaged_is_malformed_and_nothing_else_is(root, which):
    path = write_site(root, "coffee", good(3))
    mark = b'<row Id="4" ' if which == "question" else b'<row Id="5" '
    data = path.read_bytes()
    at = data.index(b'Body="', data.index(mark)) + 6
    path.write_bytes(data[:at] + b"\xff" + data[at:])
    found = offered(root)
    assert fates(found) == {"coffee-6": None, "coffee-4": "malformed", "coffee-2": None}
    assert found[1]["detail"] == f"Posts.xml, byte {data.index(mark)}: not well-formed (invalid token)" and found[1]["text"] is None


def test_answers_that_are_surely_short_are_not_cleaned_and_those_that_may_be_empty_are(root):
    bodies = ["<p>Just do it.</p>", "<p>Just do it.</p><p>" + "x" * 1300 + "</p>", "<p><img src='x'></p>", "<ul><li>short</li></ul>"]
    write_site(
        root, "coffee", [r for i, b in enumerate(bodies) for r in (question(10 * i + 1, score=9 - i), answer(10 * i + 2, 10 * i + 1, b))]
    )
    found = offered(root)
    assert [(r["reason"], r["response_chars"]) for r in found] == [("too_short", None), (None, 1313), ("empty", 0), ("too_short", 7)]
    assert found[0]["detail"] == "at most 24" and found[3]["detail"] == "7"


BODIES = st.sampled_from(
    [
        LONG,
        LONG + "<p>I do.</p>",
        "<p>Short one.</p>",
        "",
        LONG * 3,
        LONG + "<p>As said, no.</p>",
        "<p>" + "long " * 239 + "</p>",
        LONG + "<ul><li>`</li></ul>",
    ]
)
ANSWERS = st.lists(st.tuples(st.integers(1, 8), st.integers(5, 15), BODIES), max_size=14)


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.sets(st.integers(1, 8)), st.randoms(use_true_random=False))
def test_fates_are_those_of_a_plain_reading_in_any_order_of_rows(tmp_path_factory, answers, asked, random):
    rows = [question(i, score=i % 3) for i in asked] + [
        answer(100 + i, parent, body, score=score) for i, (parent, score, body) in enumerate(answers)
    ]
    random.shuffle(rows)
    folder = tmp_path_factory.mktemp("any")
    path = write_site(folder / "dumps", "coffee", rows)
    posts = [r.attrib for r in ET.fromstring(path.read_bytes())]
    expected = []
    for q in sorted(asked, key=lambda i: (-(i % 3), i)):
        mine = [p for p in posts if p.get("ParentId") == str(q)]
        top = min(mine, key=lambda p: (-int(p["Score"]), int(p["Id"])), default=None)
        if top is None:
            expected.append(("no_answer", None))
        elif int(top["Score"]) < 10:
            expected.append(("score_too_low", None))
        else:
            response = to_markdown(top["Body"])
            problem = response_problem(response, (1200, 4096), ["first_person", "cites_other_answers", "names_site"])
            expected.append((problem[0], None) if problem else (None, response))
    found = offered(folder / "dumps", drop=["first_person", "cites_other_answers", "names_site"])
    assert [(r["reason"], text(r)["turns"][1]["text"] if r["text"] else None) for r in found] == expected


def test_ranges_give_what_one_reading_gives(root, tmp_path, monkeypatch):
    path = write_site(root, "coffee", good(60))
    write_site(root, "coffee", [row(Id=300 + i, DisplayName=f"Name {i}") for i in range(40)], tag="users")
    once = offered(root, tmp_path / "one")
    monkeypatch.setattr("limakit.sources.dump.RANGE", 10_000)
    monkeypatch.setattr("limakit.curate.from_stackexchange.AT_ONCE", 7)
    monkeypatch.setattr("limakit.curate.from_stackexchange.ROWS", 11)
    assert offered(root, tmp_path / "many") == once and path.stat().st_size > 100_000
    text = path.read_text(encoding="utf-8-sig").replace('<row Id="42"', "<!-- <row Id='9999' PostTypeId='1' Score='9'/> --><row Id=\"42\"")
    path.write_text(text, encoding="utf-8")  # a comment: the ranges are not trusted
    assert offered(root, tmp_path / "comment") == once


def test_processes_give_what_one_gives(root, tmp_path, monkeypatch):
    pytest.importorskip("daft")
    write_site(root, "coffee", good(30))
    write_site(root, "travel", good(20))
    once = offered(root, tmp_path / "one")
    monkeypatch.setattr("limakit.curate.engine.SMALL", 0)
    assert offered(root, tmp_path / "two") == once


def test_names_are_those_of_users_xml(root):
    rows = [
        question(1, OwnerUserId=5),
        answer(2, 1, OwnerUserId=-1),
        question(3, OwnerUserId=None, OwnerDisplayName="old"),
        answer(4, 3, OwnerUserId=6),
        question(5),
    ]
    write_site(root, "stackoverflow.com", rows)
    users = [row(Id=6, DisplayName=" Zoë "), row(Id=105, DisplayName="Nobody asked"), row(Id=5, DisplayName="Ann <b>"), row(Id=7)]
    write_site(root, "stackoverflow.com", users, tag="users")
    found = {r["id"]: [(a["name"], a["url"]) for a in text(r)["provenance"]["authors"]] for r in offered(root) if r["text"]}
    base = "https://stackoverflow.com/users/"
    assert found == {
        "stackoverflow-1": [("Ann <b>", f"{base}5"), ("Community", f"{base}-1")],
        "stackoverflow-3": [("old", None), ("Zoë", f"{base}6")],
    }


@pytest.mark.parametrize(
    ("titles", "reason", "review", "detail"),
    [("review", None, "title_unclear", True), ("drop", "title_unclear", None, True), ("keep", None, None, False)],
)
def test_a_title_that_does_not_stand_alone(root, titles, reason, review, detail):
    write_site(
        root,
        "coffee",
        [question(1, "What is this?", score=9), answer(2, 1), question(3, "How hot should water for green tea be?"), answer(4, 3)],
    )
    unclear, clear = offered(root, prompt="title", titles=titles)
    assert (unclear["reason"], unclear["review"], bool(unclear["detail"])) == (reason, review, detail)
    assert (clear["reason"], clear["review"], clear["detail"]) == (None, None, None)
    assert all(
        r["review"] is None and r["reason"] is None for r in offered(root, prompt="body", titles=titles)
    )  # the title is not looked at


def test_prompts_are_drawn_by_the_seed_and_the_post_alone(root, tmp_path):
    write_site(root, "coffee", good(60))
    drawn = {r["id"]: text(r)["turns"][0]["text"] for r in offered(root)}
    bodies = sum(prompt == "Why is that?" for prompt in drawn.values())
    assert 15 < bodies < 45
    write_site(tmp_path / "other", "coffee", good(40, first=21)[::-1])
    assert {r["id"]: text(r)["turns"][0]["text"] for r in offered(tmp_path / "other")}.items() <= drawn.items()


def test_an_invented_community(root):
    write_site(root, "valley-almanac.example", good(1))
    write_site(root, "coffee", [question(1)])
    found = offered(root)
    assert [r["id"] for r in found] == ["coffee-1", "valley-almanac.example-2"]
    assert (
        text(found[1])["provenance"]["site"] == "valley-almanac.example"
        and found[1]["url"] == "https://valley-almanac.example/questions/2#3"
    )


@needs_7zip
@pytest.mark.parametrize("form", ["one", "parts"])
def test_an_archive_gives_what_its_folder_gives(root, tmp_path, monkeypatch, form):
    users = [row(Id=102, DisplayName="Ann")]
    damaged = [answer(91, 90, "<p>\0</p>"), question(90), question(92, score="x")]  # in its text and in its head
    folder = write_site(root, "stackoverflow.com", [*good(30), *damaged]).parent
    write_site(root, "stackoverflow.com", users, tag="users")
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, files in (
        (("stackoverflow.com", ["Posts.xml", "Users.xml"]),)
        if form == "one"
        else (("stackoverflow.com-Posts", ["Posts.xml"]), ("stackoverflow.com-Users", ["Users.xml"]))
    ):
        subprocess.run(
            [SEVEN, "a", "-bd", str(packed / f"{name}.7z"), *(str(folder / f) for f in files)], check=True, stdout=subprocess.DEVNULL
        )
    expected = offered(root)
    assert sum(r["reason"] == "malformed" for r in expected) == 2 and ".7z" not in str(expected)
    monkeypatch.setattr("limakit.curate.from_stackexchange.BATCH", 10)  # texts come in pieces
    monkeypatch.setattr("limakit.curate.crew.WHOLE", 0)
    monkeypatch.setattr("limakit.sources.dump.RANGE", 10_000)
    assert offered(packed, tmp_path / "cache of the archive") == expected
    names = set(inputs(source(), packed))
    assert names == (
        {"dumps/stackoverflow.com.7z"} if form == "one" else {"dumps/stackoverflow.com-Posts.7z", "dumps/stackoverflow.com-Users.7z"}
    )
    assert set(inputs(source(), root)) == {"dumps/stackoverflow.com/Posts.xml", "dumps/stackoverflow.com/Users.xml"}
    for file in packed.iterdir():
        shutil.copy(file, root)
    with pytest.raises(LimakitError, match=r"stackoverflow\.com and stackoverflow\.com.*\.7z are the same community"):
        offered(root)


def test_what_was_read_once_is_not_read_again(root, tmp_path):
    write_site(root, "coffee", good(5))
    once = offered(root, tmp_path / "cache")
    made = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()}
    assert offered(root, tmp_path / "cache") == once and {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()} == made
    offered(root, tmp_path / "cache", drop=[])  # the first reading serves any recipe
    assert len(list((tmp_path / "cache").iterdir())) == len(made) + 1


def test_a_truncated_dump_stops_the_run(root):
    path = write_site(root, "coffee", good(5))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(LimakitError, match=r"coffee/Posts\.xml: is truncated \(it ends at byte \d+"):
        offered(root)
