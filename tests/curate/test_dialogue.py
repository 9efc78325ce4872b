"""Who speaks to whom under an answer. A is the asker, R the answerer; X and Y are others."""

import random

from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.dialogue import talk
from limakit.sources.comments import Comment

USERS = {"A": 1, "R": 2, "X": 3, "Y": 4, "?": None}


def chain(*lines: str) -> list[Comment]:
    """ "A text" is a comment by the asker, one a minute."""
    return [Comment(10 + n, 5, USERS[line[0]], f"2020-01-01T00:{n:02}:00.000", line[2:], "CC BY-SA 4.0") for n, line in enumerate(lines)]


def said(*lines: str) -> tuple[list[list[str]], int, str]:
    found = talk(1, 2, chain(*lines))
    return [[c.text for c in turn] for turn in found.turns], found.others, found.ended


def test_in_turn():
    assert said("A why", "R so", "A and", "R thus") == ([[], ["why"], ["so"], ["and"], ["thus"]], 0, "")


def test_several_in_a_row_are_one_turn():
    assert said("A why", "A oh", "R so", "R and so")[0] == [[], ["why", "oh"], ["so", "and so"]]


def test_the_answerers_own_come_to_the_answer():
    assert said("R also", "A why", "R so")[0] == [["also"], ["why"], ["so"]]


def test_what_the_asker_says_last_goes():
    assert said("A why", "R so", "A thanks", "A bye")[0] == [[], ["why"], ["so"]]
    assert said("A thanks") == ([[]], 0, "")
    assert said() == ([[]], 0, "")


def test_others_are_left_out():
    assert said("A why", "X me too", "A @X go away", "A but why", "Y hm", "A hm?", "R so") == (
        [[], ["why", "but why", "hm?"], ["so"]],
        3,
        "",
    )
    assert said("A why", "? I think", "A well", "R so")[0] == [[], ["why", "well"], ["so"]]


def test_it_ends_where_the_answerer_may_speak_to_somebody_else():
    ended = "the answerer may speak to somebody else"
    assert said("A why", "R so", "X no", "R it is", "A and", "R thus") == ([[], ["why"], ["so"]], 1, ended)
    assert said("A why", "R so", "X no", "A and", "R @Xenia it is", "R thus") == ([[], ["why"], ["so"]], 1, ended)


def test_a_name_known_from_before_is_the_askers():
    assert said("A why", "R @Annabel so", "X no", "R @annabel: indeed", "R @Ann also")[0] == [
        [],
        ["why"],
        ["@Annabel so", "@annabel: indeed", "@Ann also"],
    ]
    assert said("A why", "R @An so", "X no", "R @An so")[0] == [[], ["why"], ["@An so"]]  # two letters name nobody


def test_it_ends_in_chat():
    for line in (
        "R let us [continue this discussion in chat](http://chat.stackexchange.com/rooms/3/discussion-between-a-and-b)",
        "X Comments have been [moved to chat](https://chat.stackexchange.com/rooms/1)",
        "A Continued [in chat](http://chat.stackexchange.com/transcript/message/2)",
    ):
        assert said("A why", "R so", line, "A and", "R thus") == ([[], ["why"], ["so"]], 0, "moved to chat")
    assert said("A the chat room was loud", "R so")[2] == ""


def test_by_time_then_id_in_whatever_order_they_are_read():
    comments = chain("A why", "R so", "A and", "R thus")
    expected = talk(1, 2, comments)
    for seed in range(5):
        shuffled = random.Random(seed).sample(comments, 4)
        assert talk(1, 2, shuffled) == expected
    same = [Comment(id, 5, user, "2020-01-01", "x", "") for id, user in ((9, 2), (100, 1), (101, 2))]
    assert [[c.id for c in turn] for turn in talk(1, 2, same[::-1]).turns] == [[9], [100], [101]]


@given(st.lists(st.sampled_from(["A a", "R r", "X x", "A @Xe a", "R @Xe r", "R @Ann r", "A @Rob a", "? u"]), max_size=12))
def test_turns_alternate_and_end_with_the_answerer(lines):
    turns = talk(1, 2, chain(*lines)).turns
    assert len(turns) % 2 == 1
    for n, turn in enumerate(turns):
        assert all(c.user == (1 if n % 2 else 2) for c in turn) and (turn or n == 0)
    spoken = [c.id for turn in turns for c in turn]
    assert spoken == sorted(set(spoken))
