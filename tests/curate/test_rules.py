"""The style filters."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate import rules
from limakit.curate.rules import cites_other_answers, first_person, folded, names_site, prose, response_problem

FORMS = [
    "A friend of mine did.", "(emphasis mine)", "Mine is blue.", "They squeak, but mine has not.", "i'm sure", "So i don't think so.", "i just use soap",
    "Yesterday I was there.", "Hello, Ann. Should I?", "As I, too, know", "If I is", "Today I\nwas away.", "MY WAY", "I/we boil it.", "Boil it--I do.", "It boils.I think.", "Press the ` key. I like it.\n\nThe ` key.", "It costs $5, I paid $6.",
]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["I think so.", "Then I’d go.", "as my brother says", "Tell me.", "Should I?", "By myself", "(I know)", *FORMS]
)
def test_first_person(text):
    assert first_person(text)


@pytest.mark.parametrize(
    "text",
    [
        "You and your dog.", "Disk I/O is slow.", "World War I began.", "Type I error", "Henry mymy", "i.e. x", "the I-beam",
        "Run `my $x = I;` now", "```perl\nmy $x = 'I';\n```\nThat is all.", "> I said so\n\nThey said so.", 'He wrote "I am my own man" then.',
        "- ```\n  I = my\n  ```", "“I do”, they said", "$I$ is the current, $$I = U/R$$ or $I_0$.", "See about.me or me.example.", "a gold mine", "The mine is deep.", "two kinds of mine",
        "In Photosystem I electrons move.", "Under Charles I it was so.", "Group I metals react.", "See Table I.", "Umberto I of Italy", "Zog I is a king", "(see Appendix I)",
        "for i in range", "i.e. have some", "Part I and the letter I",
    ],
)  # fmt: skip
def test_no_first_person(text):
    assert first_person(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "As mentioned, boil it.", "as others have said", "As was already pointed out by Ann", "The other answers are right.",
        "the accepted answer", "Ann's answer is good", "see the comments", "the comment above", "answers below", "The OP asked", "@ann yes",
        "As stated by Ann", "OP's question", "as mentioned in the other answer",
    ],
)  # fmt: skip
def test_cites_other_answers(text):
    assert cites_other_answers(text)


ELSEWHERE = [
    "an OP-amp",
    "OP codes",
    "as stated in the manual",
    "As noted on the label",
    "see the code comments below",
    "in the comments in the source",
    "the @Override annotation",
    "Write @media print.",
    "a @memoize decorator",
    "the accepted answer among physicists",
]


@pytest.mark.parametrize(
    "text", ["The answer is 42.", "Add a comment to the code.", "me@example.org", "The top of the pot", "STOP", *ELSEWHERE]
)
def test_does_not_cite(text):
    assert cites_other_answers(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "on Stack Exchange",
        "StackOverflow",
        "ask this on Cooking.SE",
        "this site",
        "I upvoted",
        "MathOverflow",
        "Ask Ubuntu",
        "other SE sites",
        "Bikes.se",
        "Ask on SE.",
    ],
)
def test_names_site(text):
    assert names_site(text)


@pytest.mark.parametrize(
    "text",
    [
        "a stack of cards",
        "Become the superuser.",
        "Ask someone.",
        "A server fault occurred",
        "the southeast (SE)",
        "per se.",
        "a city on SE coast",
    ],
)
def test_does_not_name_site(text):
    assert names_site(text) is None


def test_prose_keeps_what_stands_between_code():
    assert prose("a\n```\nx\n```\nb\n````\n```\ny\n````\nc `d` e").split() == ["a", "b", "c", "e"]
    assert "kept" in prose("```\nnever closed, so kept")
    assert prose("````\n```\nx\n```\nkept").split() == ["````", "kept"], "the longer fence is never closed, the shorter one is"
    assert prose("a `x\ny` b ` c\n\nd ` e").split() == ["a", "b", "`", "c", "d", "`", "e"], "a span ends with its paragraph"


def test_many_fences_that_are_never_closed_are_gone_through_in_no_time():
    text = "> - ```x\n" * 40_000
    started = time.process_time()
    assert prose(text).strip() == ""
    assert time.process_time() - started < 2


def test_the_first_reason_wins_and_bounds_are_allowed():
    drop = ["first_person", "names_site"]
    assert response_problem(" \n", (0, 9), drop) == ("empty", "")
    assert response_problem("abc", (4, 9), drop) == ("too_short", "3")
    assert response_problem("abcd", (5, 5), drop) == ("too_short", "4")
    assert response_problem("abcd", (4, 4), drop) is None
    assert response_problem("abcd", (1, 3), drop) == ("too_long", "4")
    assert response_problem("I like this site", (1, 99), drop) == ("first_person", "I")
    assert response_problem("I like this site", (1, 99), ["names_site"]) == ("names_site", "this site")
    assert response_problem("I like this site", (1, 99), []) is None


def test_folding():
    assert folded("  How\tIS\n it? ") == folded("how is it?") != folded("how is it")
    assert folded("Ho\u200bw is\u00adit") == folded("how isit")
    assert folded("Cafe\u0301 №\u00a0５") == folded("CAFÉ no 5")


WORDS = ["I", "i'm", "me", "My", "MY", "mine", "of mine", "I/O", "İ", "ı", "ſ", "K", "as", "said", "saıd", "mentıoned", "The answer", "another ANSWER", "comments", "above", "OP",
         "@ann", "previous posters", "Stack", "ſtack exchange", "ask ubuntu", "SE", "site", "this site", "on SE", "x.SE", "Meta.x", "upvoted", "UPVOTE", "Server Fault", "Super User",
         "cooking.se", "MathOverflow", "’", "é", "\n", ".", "'s", "_", "-", "$I$", "`I`", '"I"', "> I", "“my”", "word", "12",
         "Mine is", "emphasis", "because", "and", "mine had", "; mine was", "kinds", "War I", "i", "think", "in the comments", "—", "(", "\u2003", "\n\n"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=12), st.sampled_from([" ", "", "\n", "\n\n"]))
def test_a_rule_that_is_not_asked_would_have_found_nothing(words, space):
    """A pattern is asked only where a text has what it needs; the words found are those of the pattern alone."""
    text = space.join(words)
    for name, rule in (
        ("first_person", rules.first_person),
        ("cites_other_answers", rules.cites_other_answers),
        ("names_site", rules.names_site),
    ):
        found = rules._RULES[name].search(rules.prose(text))
        assert rule(text) == (" ".join(found[0].split()) if found else None)
    assert folded("What’s “e‑mail” – 3 × 4?") == folded('What\'s "e-mail" - 3 x 4?')
