"""Selecting from pools: decisions are taken in, repeats and leaks go, draws are spread and stable, every candidate has a fate."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.candidate import Candidate, Text
from limakit.curate.decisions import Decision, decisions_of, digest
from limakit.curate.decontaminate import Guard
from limakit.curate.pool import batch_of, write_pool
from limakit.curate.select import QUEUE, Chosen, select
from limakit.errors import LimakitError
from limakit.recipe_sources import AuthoredSource, NaturalInstructionsSource, RedditSource, StackExchangeSource, WikihowSource
from limakit.records import Provenance, Turn

WORDS = [
    "amber",
    "birch",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "grove",
    "heath",
    "islet",
    "jetty",
    "knoll",
    "larch",
    "marsh",
    "north",
    "ocean",
    "pines",
    "quarry",
    "ridge",
    "shoal",
    "tarn",
]


def prose(n: int, words: int = 120) -> str:
    """A text that no other number has, and none is like."""
    return " ".join(WORDS[(n * 7919 + i * i * (n + 3) + i // 3) % 20] + str((n * 31 + i * 17) % 97) for i in range(words))


def fit(n, stratum="s", prompt=None, response=None, *, score=0, review=None, detail="", reference=None, train=True):
    prompt = prompt if prompt is not None else f"What about {prose(n, 9)}?"
    turns = (Turn(role="user", text=prompt),)
    if train:
        turns += (Turn(role="assistant", text=response if response is not None else prose(n)),)
    text = Text(
        source="x", turns=turns, reference=reference, provenance=Provenance(id=f"x-{n}", source="x", url=None, authors=(), licence="CC0")
    )
    return Candidate(f"x-{n}", stratum, score=score, text=text, review=review, detail=detail)


def chosen(near=0.8, ngram=13):
    return Chosen(near=near, guard=Guard(near=near, ngram=ngram))


def run(folder, source, candidates, decisions=(), state=None):
    pool = write_pool(folder / "pool.parquet", [batch_of(candidates)])
    return select(source, source.label, pool, state or chosen(), decisions_of(decisions), seed=7, where="lima.toml")


def decide(c, action, *, seen=None, **more):
    return Decision(id=c.id, action=action, seen=seen or digest(c.turns, c.text.reference), **more)


def fates(selection):
    """outcome by row, of what the pool let through"""
    return {row: outcome for row, (outcome, _) in selection.fates.items()}


REDDIT = RedditSource(kind="reddit", path="r", subreddit="WritingPrompts", use="pairs", take=2)


def test_nothing_that_needs_a_review_is_taken_unseen_and_decisions_are_taken_in(tmp_path):
    rows = [fit(n, review="required", score=50 - n) for n in range(6)]
    first = run(tmp_path, REDDIT, rows)
    assert first.kept == () and first.missing == 2 and [c.id for c in first.waiting] == [c.id for c in rows]
    assert set(fates(first).values()) == {"unreviewed"} and first.counts == {"kept": 0, "unreviewed": 6}
    new = (Turn(role="user", text="Better?"), rows[2].turns[1])
    decisions = [decide(rows[0], "reject", note="dull"), decide(rows[1], "accept"), decide(rows[2], "edit", turns=new)]
    second = run(tmp_path, REDDIT, rows, decisions)
    assert [c.id for c in second.kept] == ["x-1", "x-2"] and second.missing == 0
    assert second.kept[1].turns == new and second.kept[1].text.provenance.changes == "edited by hand"
    assert second.originals["x-2"].turns == rows[2].turns, "the queue shows what the source offers"
    assert second.fates[0] == ("rejected", "dull") and fates(second)[5] == "unreviewed"
    assert second.counts == {"kept": 2, "unreviewed": 3, "rejected": 1}


def test_a_decision_about_another_text_is_stale_and_asked_again(tmp_path):
    source = StackExchangeSource(kind="stackexchange", path="d", take=1)
    rows = [fit(0), fit(1)]
    selection = run(tmp_path, source, rows, [decide(rows[0], "reject", seen="0" * 32)])
    assert [c.id for c in selection.kept] == ["x-1"] and selection.stale == 1
    assert [(c.id, c.review) for c in selection.waiting] == [("x-0", "changed")]


def test_a_decision_follows_its_text_where_ids_are_numbers_of_rows(tmp_path):
    source = AuthoredSource(kind="authored", path="a")
    rows = [fit(0, ""), fit(1, "")]
    rejected = decide(rows[1], "reject")
    moved = [fit(5, ""), replace(rows[0], id="x-1"), replace(rows[1], id="x-2")]
    selection = run(tmp_path, source, moved, [rejected])
    assert [c.id for c in selection.kept] == ["x-5", "x-1"] and fates(selection) == {2: "rejected"} and selection.stale == 0


def test_what_waits_crowds_out_nothing_that_is_fit(tmp_path):
    """A better-scored copy whose title needs a look gives way to the one that needs none, and waits for nothing then."""
    source = StackExchangeSource(kind="stackexchange", path="d", take=1)
    rows = [fit(0, review="title_unclear", response=prose(9)), fit(1, response=prose(9)), fit(2, review="title_unclear")]
    selection = run(tmp_path, source, rows)
    assert [c.id for c in selection.kept] == ["x-1"] and fates(selection) == {0: "duplicate_response", 2: "unreviewed"}
    assert [c.id for c in selection.waiting] == ["x-2"]


def test_only_what_is_drawn_is_compared_and_a_repeat_gives_its_place_to_the_next(tmp_path):
    source = StackExchangeSource(kind="stackexchange", path="d", take=2)
    rows = [fit(0), fit(1, response=prose(0)), fit(2), fit(3, response=prose(0)), fit(4)]
    selection = run(tmp_path, source, rows)
    assert [c.id for c in selection.kept] == ["x-0", "x-2"]
    assert fates(selection) == {1: "duplicate_response", 3: "not_drawn", 4: "not_drawn"}


def test_an_edit_that_makes_a_copy_is_a_copy(tmp_path):
    source = AuthoredSource(kind="authored", path="a")
    rows = [fit(0, ""), fit(1, "")]
    selection = run(tmp_path, source, rows, [decide(rows[1], "edit", turns=rows[0].turns)])
    assert [c.id for c in selection.kept] == ["x-0"] and fates(selection) == {1: "duplicate"}


def test_titles_to_look_at_do_not_stand_in_for_others_and_do_not_move_the_draw(tmp_path):
    source = StackExchangeSource(kind="stackexchange", path="d", take=3)
    rows = [fit(n, score=9 - n) for n in range(6)]
    flagged = [fit(n, score=9 - n, review="title_unclear" if n == 1 else None, detail="too short") for n in range(6)]
    assert [c.id for c in run(tmp_path, source, rows).kept] == ["x-0", "x-1", "x-2"]
    selection = run(tmp_path, source, flagged)
    assert [c.id for c in selection.kept] == ["x-0", "x-2", "x-3"] and selection.missing == 0
    assert [c.id for c in selection.waiting] == ["x-1"] and selection.fates[1] == ("unreviewed", "title_unclear: too short")
    accepted = run(tmp_path, source, flagged, [decide(flagged[1], "accept")])
    assert [c.id for c in accepted.kept] == ["x-0", "x-1", "x-2"] and accepted.waiting == ()


def test_reviewing_that_cannot_fill_the_quota_is_a_shortfall(tmp_path):
    with pytest.raises(LimakitError, match=r"had 0 fit of 1 candidates \(dropped: 1 unreviewed\), and the recipe asks for 2"):
        run(tmp_path, REDDIT, [fit(0, review="required")])


def test_the_queue_is_three_times_what_is_missing_and_at_least_twenty(tmp_path):
    rows = [fit(n, review="required", score=900 - n) for n in range(100)]
    assert len(run(tmp_path, REDDIT, rows).waiting) == QUEUE
    source = REDDIT.model_copy(update={"take": 30})
    assert [c.id for c in run(tmp_path, source, rows).waiting] == [c.id for c in rows[:90]]


def test_near_duplicates_within_a_pool_and_across_pools(tmp_path):
    state = chosen()
    long = prose(1)
    nearly = " ".join([*long.split()[:-3], "other", "words", "here"])
    source = AuthoredSource(kind="authored", path="a")
    rows = [fit(0, "", response=long), fit(2, "", response=nearly), fit(3, "")]
    selection = run(tmp_path, source, rows, state=state)
    assert fates(selection) == {1: "near_duplicate_response"} and selection.fates[1][1].startswith("x-0, similarity 0.9")
    again = [fit(10, "", response=nearly), fit(11, "", prompt=rows[2].turns[0].text.upper())]
    other = run(tmp_path, source.model_copy(update={"allow_fewer": True}), again, state=state)
    assert fates(other) == {0: "near_duplicate_response", 1: "duplicate"}
    exact = run(tmp_path, source, rows, state=chosen(near=1))
    assert fates(exact) == {}


def test_a_leak_into_training_names_the_prompt(tmp_path):
    state = chosen()
    test = AuthoredSource(kind="authored", path="t", split="test")
    long = prose(5, 30)
    run(tmp_path, test, [fit(0, "", prompt=long, train=False, reference=prose(9))], state=state)
    source = AuthoredSource(kind="authored", path="a", allow_fewer=True)
    rows = [
        fit(1, "", prompt=long.upper()),
        fit(2, "", prompt=long + " really"),
        fit(3, "", response="It is said: " + " ".join(long.split()[4:20])),
        fit(4, "", response=prose(9)),
        fit(50, "", prompt="fine"),
    ]
    selection = run(tmp_path, source, rows, state=state)
    assert fates(selection) == {0: "prompt_in_test", 1: "near_test", 2: "ngram_in_test", 3: "reference_in_test"}
    assert all("x-0" in detail for _, detail in selection.fates.values())


def test_categories_are_even_whatever_their_sizes(tmp_path):
    sizes = {"big": 300, "small": 40, "tiny": 10}
    rows = [
        fit(i * 1000 + n, stratum, prompt=f"{stratum} {n}?", response=f"r {stratum} {n}")
        for i, (stratum, k) in enumerate(sizes.items())
        for n in range(k)
    ]
    source = WikihowSource(kind="wikihow", path="w", take=90)
    selection = run(tmp_path, source, rows)
    counts = Counter(c.stratum for c in selection.kept)
    assert counts["tiny"] == 10 and abs(counts["big"] - counts["small"]) < 25
    assert [c.id for c in selection.kept if c.stratum == "big"] != sorted(c.id for c in selection.kept if c.stratum == "big")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.permutations(range(30)))
def test_quotas_are_exact_and_the_order_of_candidates_without_a_rank_does_not_matter(tmp_path_factory, take, order):
    rows = [fit(n, f"task{n}", prompt=f"Do {n}!", response=f"Done {n}.") for n in range(30)]
    folder = tmp_path_factory.mktemp("p")
    for source in (
        NaturalInstructionsSource(kind="natural_instructions", path="n", take=take),
        WikihowSource(kind="wikihow", path="w", take=take),
    ):
        one = run(folder, source, rows)
        two = run(folder, source, [rows[i] for i in order])
        assert {c.id for c in one.kept} == {c.id for c in two.kept} and len(one.kept) == take
        assert sum(one.counts.values()) == 30 and one.counts == two.counts


def test_a_question_and_the_dialogue_under_it_are_one_post(tmp_path):
    state = chosen()
    test = AuthoredSource(kind="authored", path="t", split="test")
    run(tmp_path, test, [fit(1, train=False)], state=state)
    source = StackExchangeSource(kind="stackexchange", path="d", take=1, allow_fewer=True)
    dialogue = replace(fit(2), id="x-1-dialogue")
    assert run(tmp_path, source, [dialogue], state=state).fates == {0: ("prompt_in_test", "x-1-dialogue")}
