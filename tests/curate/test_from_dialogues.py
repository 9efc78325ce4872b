"""Dialogues as candidates: the account of every question, what a reviewer gets to see, and dumps in every form."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from dumps import answer, question, row, rows_of, write_site
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate import crew, from_dialogues
from limakit.curate.engine import Work
from limakit.curate.from_dialogues import inputs, offer
from limakit.curate.pool import SCHEMA
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import StackExchangeDialogueSource
from limakit.sources import dump
from limakit.sources.comments import NOBODY, index_comments


def comment(id: int, post: int, user: int | None, text: str, **more: object) -> str:
    base = {"Id": id, "PostId": post, "Score": 0, "Text": text, "CreationDate": f"2016-01-01T{id // 60 % 24:02}:{id % 60:02}:00.000"}
    return row(**base | {"UserDisplayName": None if user else f"user{id}", "UserId": user, "ContentLicense": "CC BY-SA 3.0"} | more)


def source(**keys: object) -> StackExchangeDialogueSource:
    return StackExchangeDialogueSource.model_validate({"kind": "stackexchange_dialogues", "path": "posts", "take": 5} | keys)


def rows(made: StackExchangeDialogueSource, root: Path, cache: Path) -> list[dict]:
    cache.mkdir(exist_ok=True)
    tables = [pa.Table.from_batches([b]) if isinstance(b, pa.RecordBatch) else b for b in offer(made, root, Work(7, cache))]
    assert all(table.schema == SCHEMA for table in tables)
    return pa.concat_tables(tables).to_pylist()


# Question n is by user 100 + n, its answer 10 n by user 200 + 10 n.
POSTS = [
    question(1, title="How hot?", body="<p>For <b>tea</b>.</p>", score=3, ContentLicense="CC BY-SA 4.0", Tags="<tea><heat>"),
    answer(10, 1, body="<p>Very &amp; more.</p>", score=7, ContentLicense="CC BY-SA 3.0"),
    question(2, score=9),
    answer(20, 2, score=2),
    question(3, score=8),
    question(4, score=4),
    answer(40, 4),
    question(5, score=4),
    answer(50, 5),
    question(6, OwnerUserId=None, OwnerDisplayName="gone", score=2),
    answer(60, 6),
    question(7, score=2),
    answer(70, 7, OwnerUserId=-1),
    question(16, OwnerUserId="9" * 20, score=2),
    answer(160, 16),
    question(8, score=2),
    answer(80, 8, OwnerUserId=108),
    question(9, title="", body="<p></p>", score=1),
    answer(90, 9),
    question(11, score=1),
    answer(110, 11),
    question(12, score=1),
    answer(120, 12),
    question(1000000001),
    answer(130, 1000000001),
    question(14, score=0),
    answer(140, 14, body="<p>Not the best.</p>", score=3),
    answer(141, 14, body="<p>The best.</p>", score=4),
]
COMMENTS = [
    comment(1, 10, 101, "Is `90 < 95` hot, or [this](https://example.org/x)?"),
    comment(2, 1, 210, "on the question"),
    comment(3, 10, 999, "I like it hot."),
    comment(4, 10, 210, "@Annabel: it is; see https://example.org/y."),
    comment(5, 10, 101, "And \u201cgreen\u201d tea & <b>?"),
    comment(6, 10, 210, "Less."),
    comment(7, 10, 210, "Much less.", ContentLicense="CC BY-SA 4.0"),
    comment(8, 10, 101, "Thanks!"),
    comment(10, 50, 105, "So?"),
    comment(11, 50, 105, "Hello?"),
    *(
        comment(20 + n, post, user, "x")
        for n, (post, user) in enumerate([(60, 9), (60, 260), (70, 107), (70, -1), (80, 108), (80, 9), (160, 8), (160, 9)])
    ),
    *(comment(30 + n, 90, user, "x") for n, user in enumerate([109, 290])),
    comment(40, 110, 111, "https://example.org/only-an-address"),
    comment(41, 110, 310, "Yes."),
    comment(42, 120, 112, "y" * 5000),
    comment(43, 120, 320, "Yes."),
    comment(50, 141, 114, "Why?"),
    comment(51, 141, 9, "Because."),
    comment(52, 141, 341, "@Nine no"),
    comment(60, 20, 102, "a"),
    comment(61, 20, 220, "b"),
]
FATES = {
    "tea.example-3-dialogue": ("no_answer", None),
    "tea.example-2-dialogue": ("score_too_low", "2"),
    "tea.example-4-dialogue": ("no_comments", None),
    "tea.example-5-dialogue": ("too_few_turns", "2"),
    "tea.example-1-dialogue": (None, "4 turns; 2 comments by or to others left out"),
    "tea.example-6-dialogue": ("no_account", "of the question"),
    "tea.example-7-dialogue": ("no_account", "of the answer"),
    "tea.example-8-dialogue": ("self_answered", None),
    "tea.example-16-dialogue": ("no_account", "of the question"),
    "tea.example-9-dialogue": ("empty_prompt", None),
    "tea.example-11-dialogue": ("too_short", "turn 3: 0"),
    "tea.example-12-dialogue": ("too_long", "turn 3: 5000"),
    "tea.example-14-dialogue": ("too_few_turns", "2; the answerer may speak to somebody else"),
    "tea.example-1000000001-dialogue": ("planted", None),
}
SPOKEN = [*COMMENTS[:2], *COMMENTS[3:]]  # without the third who spoke


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "posts"
    write_site(root, "tea.example", POSTS)
    write_site(root, "tea.example", COMMENTS, tag="comments")
    return root


def test_every_question_has_a_fate(site, tmp_path):
    found = rows(source(min_answer_score=3), site, tmp_path / "cache")
    fates = {r["id"]: (r["reason"], r["detail"]) for r in found}
    assert len(found) == len(fates)
    # the answerer of question 1 spoke after a third had, so the dialogue would end before it began
    assert fates == FATES | {"tea.example-1-dialogue": ("too_few_turns", "2; the answerer may speak to somebody else")}
    scores = [r["score"] for r in found if r["reason"] != "planted"]
    assert scores == sorted(scores, reverse=True)
    assert all(r["stratum"] == "tea.example" and (r["text"] is None) == (r["reason"] is not None) for r in found)
    assert next(r for r in found if r["id"] == "tea.example-3-dialogue")["url"] == "https://tea.example/questions/3"
    assert next(r for r in found if r["id"] == "tea.example-2-dialogue")["url"] == "https://tea.example/questions/2#20"


def test_what_a_reviewer_sees_and_who_is_credited(site, tmp_path):
    write_site(site, "tea.example", SPOKEN, tag="comments")
    write_site(site, "tea.example", [row(Id=101, DisplayName="Annabel Lee"), row(Id=3, DisplayName="Nobody")], tag="users")
    found = next(r for r in rows(source(), site, tmp_path / "cache") if r["id"] == "tea.example-1-dialogue")
    text = json.loads(found["text"])
    assert [(t["role"], t["text"]) for t in text["turns"]] == [
        ("user", "How hot?\n\nFor tea."),
        ("assistant", "Very & more."),
        ("user", "Is `90 < 95` hot, or this?"),
        ("assistant", "it is; see."),
        ("user", "And \u201cgreen\u201d tea & <b>?"),
        ("assistant", "Less.\n\nMuch less."),
    ]
    assert (found["review"], found["detail"], found["score"], found["answer_score"]) == ("required", "6 turns", 3, 7)
    assert text["tags"] == ["tea", "heat"] and found["response_chars"] == len("Less.\n\nMuch less.")
    credit = text["provenance"]
    assert credit["url"] == found["url"] == "https://tea.example/questions/1#10" and credit["title"] == "How hot?"
    answerer = {"name": "user 210", "url": "https://tea.example/users/210"}
    asker = {"name": "Annabel Lee", "url": "https://tea.example/users/101"}
    expected = [
        asker | {"wrote": "question"},
        answerer | {"wrote": "answer"},
        asker | {"wrote": "comments"},
        answerer | {"wrote": "comments"},
    ]
    assert credit["authors"] == expected
    assert credit["licence"] == "CC BY-SA 4.0 (question and comments), CC BY-SA 3.0 (answer and comments)"
    assert "comments of both authors" in credit["changes"] and "left out" not in credit["changes"]


def test_as_prompts_the_last_response_is_the_reference(site, tmp_path):
    write_site(site, "tea.example", SPOKEN, tag="comments")
    found = next(r for r in rows(source(split="test", min_answer_score=3), site, tmp_path / "cache") if r["reason"] is None)
    text = json.loads(found["text"])
    assert text["turns"][-1]["role"] == "user" and text["reference"] == "Less.\n\nMuch less."


def test_bounds_of_the_recipe(site, tmp_path):
    write_site(site, "tea.example", SPOKEN, tag="comments")
    fate = {r["id"]: (r["reason"], r["detail"]) for r in rows(source(min_turns=8, min_answer_score=0), site, tmp_path / "cache")}
    assert fate["tea.example-1-dialogue"] == ("too_few_turns", "6")
    assert fate["tea.example-2-dialogue"] == ("too_few_turns", "4")


@pytest.mark.parametrize("form", ["ranges", "archive", "two archives", "shuffled", "odd"])
def test_the_same_in_every_form(site, tmp_path, monkeypatch, form):
    write_site(site, "tea.example", SPOKEN, tag="comments")
    expected = rows(source(), site, tmp_path / "cache")
    folder = site / "tea.example"
    if form == "ranges":
        monkeypatch.setattr(dump, "RANGE", 700)
        monkeypatch.setattr(from_dialogues, "AT_ONCE", 2)
        monkeypatch.setattr(from_dialogues, "ROWS", 3)
        monkeypatch.setattr(from_dialogues, "BATCH", 1)
        monkeypatch.setattr(crew, "WHOLE", 0)
    elif form == "shuffled":
        write_site(site, "tea.example", SPOKEN[::-1], tag="comments", newline="\n", head="")
        write_site(site, "tea.example", POSTS[::-1])
    elif form == "odd":
        turned = [re.sub(r'Id="(\d+)" PostId="(\d+)"', r"PostId='\2' Id='\1'", line, count=1) for line in SPOKEN]
        write_site(site, "tea.example", ["<!-- <row Id='1' PostId='10' /> -->", *turned], tag="comments")
    else:
        program = shutil.which("7zz") or shutil.which("7z")
        if program is None:
            pytest.skip("7-Zip is not installed")
        packs = [["Posts.xml", "Comments.xml"]] if form == "archive" else [["Posts.xml"], ["Comments.xml"]]
        for names in packs:
            name = "tea.example.7z" if form == "archive" else f"tea.example-{names[0].removesuffix('.xml')}.7z"
            subprocess.run([program, "a", "-bd", str(site / name), *(str(folder / n) for n in names)], check=True, capture_output=True)
        shutil.rmtree(folder)
    assert rows(source(), site, tmp_path / "other") == expected
    assert any(r["reason"] is None for r in expected)


def test_a_second_run_reads_nothing_again_and_another_recipe_only_judges(site, tmp_path):
    first = rows(source(), site, tmp_path / "cache")
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert rows(source(), site, tmp_path / "cache") == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()} == made
    rows(source(min_turns=6), site, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == len(made) + 1


def test_damaged_rows_cost_nothing_else(site, tmp_path):
    write_site(site, "tea.example", SPOKEN, tag="comments")
    expected = {r["id"]: r for r in rows(source(min_answer_score=1), site, tmp_path / "cache")}
    broken = [comment(70, 10, 9, "x").replace('PostId="10"', 'PostId="ten"'), *SPOKEN]
    path = write_site(site, "tea.example", broken, tag="comments")
    data = path.read_bytes()
    data = data.replace(b'PostId="20" Score="0" Text="a"', b'PostId="20" Score="0" Text="\xff"')  # only the second reading sees it
    path.write_bytes(data)
    found = {r["id"]: r for r in rows(source(min_answer_score=1), site, tmp_path / "cache")}
    at = data.index(b'<row Id="70"')
    new = found.pop(f"tea.example-comments@byte{at}")
    assert (new["reason"], new["detail"]) == ("malformed", f"Comments.xml, byte {at}: PostId is 'ten', expected a whole number")
    assert expected["tea.example-2-dialogue"]["reason"] is None
    lost = found.pop("tea.example-2-dialogue")
    byte = data.index(b'<row Id="60"')
    assert lost["reason"] == "malformed" and lost["detail"].startswith(f"Comments.xml, byte {byte}: ") and lost["text"] is None
    assert found == {id: r for id, r in expected.items() if id != "tea.example-2-dialogue"}


def test_a_comment_damaged_in_its_head_takes_its_dialogue_along(site, tmp_path):
    """What it said may have mattered. Where its PostId cannot be read either, nobody knows whose it was."""
    write_site(site, "tea.example", SPOKEN, tag="comments")
    expected = {r["id"]: r for r in rows(source(min_answer_score=1), site, tmp_path / "cache")}
    bad = {  # on the answer to a question: nobody else's, one person's, a talk of two
        40: comment(70, 40, 9, "x").replace('UserId="9"', 'UserId="nine"'),
        50: comment(71, 50, 105, "a <b>bold</b> one").replace("&lt;", "<").replace("&gt;", ">"),
        20: comment(72, 20, 102, "x").replace('Id="72"', 'Id="7" Id="2"', 1),
    }
    broken = [*SPOKEN, *bad.values(), comment(73, 10, 210, "x").replace('Id="73" PostId="10"', 'Id="" PostId="10x"')]
    path = write_site(site, "tea.example", broken, tag="comments")
    data = path.read_bytes()
    found = {r["id"]: r for r in rows(source(min_answer_score=1), site, tmp_path / "cache")}
    for answer_id, line in bad.items():
        at = data.index(line.strip().split(" <b>")[0].encode())
        lost = found[f"tea.example-{answer_id // 10}-dialogue"]
        row_itself = found.pop(f"tea.example-comments@byte{at}")
        assert lost["reason"] == row_itself["reason"] == "malformed" and lost["detail"] == row_itself["detail"]
        assert lost["detail"].startswith(f"Comments.xml, byte {at}: ")
        expected.pop(f"tea.example-{answer_id // 10}-dialogue")
        found.pop(f"tea.example-{answer_id // 10}-dialogue")
    assert [r["reason"] for id, r in found.items() if "@" in id] == ["malformed"]
    assert {id: r for id, r in found.items() if "@" not in id} == expected and expected["tea.example-1-dialogue"]["reason"] is None


def test_comments_of_one_id_under_an_answer_drop_the_dialogue(site, tmp_path):
    """What was said once must not stand twice, and which of two was meant nobody knows."""
    write_site(site, "tea.example", [*SPOKEN, SPOKEN[4]], tag="comments")
    found = {r["id"]: r for r in rows(source(min_answer_score=1), site, tmp_path / "cache")}
    lost = found["tea.example-1-dialogue"]
    at = (site / "tea.example" / "Comments.xml").read_bytes().rindex(b"<row")
    assert (lost["reason"], lost["detail"]) == ("malformed", f"Comments.xml, byte {at}: Id 6 occurs a second time")


def test_comments_that_break_off_stop_the_run(site, tmp_path):
    path = site / "tea.example" / "Comments.xml"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(LimakitError, match=r"is truncated .*byte \d+") as error:
        rows(source(), site, tmp_path / "cache")
    assert "Comments.xml" in str(error.value.where)


def test_communities_without_comments(site, tmp_path):
    write_site(site, "rice.example", [question(1), answer(2, 1)])
    assert set(inputs(source(), site)) == {"posts/rice.example/Posts.xml", "posts/tea.example/Comments.xml", "posts/tea.example/Posts.xml"}
    found = rows(source(), site, tmp_path / "cache")
    assert (found[0]["id"], found[0]["reason"], found[0]["detail"]) == ("rice.example-1-dialogue", "no_comments", "no Comments.xml")
    (site / "tea.example" / "Comments.xml").unlink()
    with pytest.raises(UsageError, match=r"no Comments\.xml of any community"):
        inputs(source(), site)


_VALUES = {
    "Id": st.integers(1, 99), "PostId": st.integers(-9, 10**17), "Score": st.integers(-9, 9), "Text": st.text("ab<>&\"' é\n", max_size=9),
    "CreationDate": st.just("2020-01-01T00:00:00.000"), "UserDisplayName": st.none() | st.just("a > b"), "UserId": st.none() | st.integers(-1, 99),
    "ContentLicense": st.none() | st.just("CC BY-SA 4.0"),
}  # fmt: skip


@given(st.lists(st.tuples(st.fixed_dictionaries(_VALUES), st.booleans()), max_size=6), st.randoms(use_true_random=False))
def test_the_numbers_are_what_expat_reads(tmp_path_factory, given_rows, random):
    lines = []
    for values, mixed in given_rows:
        names = random.sample(list(values), len(values)) if mixed else list(values)
        lines.append(row(**{name: values[name] for name in names}))
    path = write_site(tmp_path_factory.mktemp("site"), "x", lines, tag="comments")
    found = index_comments(path, None, 0, None)
    expected = [(int(r["PostId"]), int(r["UserId"]) if "UserId" in r else NOBODY) for r in rows_of(path)]
    assert list(zip(found["post"].to_pylist(), found["user"].to_pylist(), strict=True)) == expected
    assert found["problem"].null_count == len(expected)
    data = path.read_bytes()
    assert all(data[at : at + 5] == b"<row " for at in found["at"].to_pylist())


def test_the_real_dumps(shared, tmp_path):
    root = shared / "stackexchange"
    found = rows(source(), root, tmp_path / "cache")
    assert len(found) == 1395
    assert Counter(r["stratum"] for r in found if r["reason"] is None) == {"bicycles-meta": 50, "conlang-meta": 3}
    for r in found:
        if r["reason"] is None:
            text = json.loads(r["text"])
            turns = text["turns"]
            assert len(turns) >= 4 and len(turns) % 2 == 0
            assert [t["role"] for t in turns] == ["user", "assistant"] * (len(turns) // 2)
            assert not any(re.match(r"@\w+[ :,]*$", t["text"]) or re.search(r"://\w", re.sub("`[^`]*`", "", t["text"])) for t in turns)
            assert len({a["url"] for a in text["provenance"]["authors"]}) == 2 and text["provenance"]["licence"].startswith("CC BY-SA ")
    scores = [r["score"] for r in found if r["stratum"] == "bicycles-meta"]
    assert scores == sorted(scores, reverse=True) and len(scores) == 453
    assert np.unique([r["id"] for r in found]).size == 1395
