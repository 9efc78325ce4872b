"""The tone of authored responses. The good and the bad ones are this project's own."""

import time

import pytest

from limakit.curate.style import lengths_of, response_notes, style_notes
from limakit.records import Example, Turn

GOOD = [
    ("How do I keep basil fresh for a week?", "Basil keeps best when it is treated like cut flowers. Trim the stems and stand them in a glass of water."),
    ("What should I see in Lisbon in one day?", "One day in Lisbon is short, but it is enough for the old town.\n\n1. Begin in Alfama.\n2. Take the tram."),
    ("Write a short poem about rain.", "Rain on the roof,\nrain in the lane,\nmy friends at the window\nwatch it again."),
    ("Can cats eat onions?", "No, onions are poisonous to cats, raw or cooked. Even a little can damage their blood; call a vet if one was eaten."),
    ("Explain recursion to a child.", "Imagine a doll that holds a smaller doll. Recursion is the same: a thing that holds a smaller copy of itself."),
    ("My roommate never cleans. What can I do?", "Living with somebody who leaves the cleaning to you is tiring. Talk about it calmly, and agree on who does what."),
    ("What is 17 * 23?", "17 * 23 is 391: 17 * 20 is 340, and 17 * 3 is 51."),
    ("How does one make a good cup of coffee?", "Good coffee needs fresh beans and water just off the boil. I would begin with 60 grams a litre. It may taste sour; then grind finer."),
    ("Why is the sky blue?", "The sky is blue because air scatters short waves more than long ones. At sunset the light has a longer way to go."),
    ("Write a letter to my landlord about the heating.", "Dear Mr Osei,\n\nthe heating in my flat has been off since Monday. I have tried the switch. Please send somebody.\n\nKind regards"),
    ("Should I rent or buy?", "That depends on how long you mean to stay. Renting is flexible; buying pays off after some years."),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "response"), GOOD)
def test_good_answers_pass_without_a_note(prompt, response):
    assert response_notes(prompt, response) == []


@pytest.mark.parametrize(
    ("prompt", "response", "tags", "rules"),
    [
        ("How do I keep basil fresh?", "- water\n- light", (), ["no_acknowledgment"]),
        ("How do I keep basil fresh?", "# Herbs\n\nTrim the basil.", (), ["no_acknowledgment"]),
        ("How do I keep basil fresh?", "Trim every stem, then wait.", (), ["no_acknowledgment"]),
        ("How do I keep basil fresh?", "Basil " + "is green and " * 25 + "fresh.", (), ["no_acknowledgment"]),
        ("How do I keep basil fresh?", "- basil\n- water", ("format", "format=bulleted list"), []),
        ("How do I keep basil fresh?", "Hello! Basil needs water.", (), ["greets"]),
        ("How do I keep basil fresh?", "Basil needs water. I hope this helps!", (), ["signs_off"]),
        ("How do I keep basil fresh?", "Basil needs water. Let me know if you have more questions.", (), ["signs_off"]),
        ("How do I keep basil fresh?", "Basil needs water! Lots! Every day!", (), ["exclaims"]),
        ("How do I keep basil fresh?", "Basil needs water 🌿 and light.", (), ["emoji"]),
        ("How do I keep basil fresh?", "You're gonna love fresh basil in water.", (), ["slang"]),
        ("How do I keep basil fresh?", "In my experience basil needs water.", (), ["tells_of_a_life"]),
        ("How do I keep basil fresh?", "Basil is fresh for long when my wife waters it.", (), ["tells_of_a_life"]),
        ("How do I keep basil fresh?", "I think basil probably needs water, maybe daily.", (), ["hedges"]),
        ("How do I keep basil fresh?", "Basil: `I think maybe probably` is code, and \"in my opinion\" is quoted.", (), []),
        ("How is basil poisoned?", "I can't help with poisoning basil.", (), ["refusal_unmarked"]),
        ("How is basil poisoned?", "I can't help with basil.", ("refusal", "refusal=asks how to hurt"), ["refusal_without_reason"]),
        ("How is basil poisoned?", "I can't help with that, since poisoned basil could harm somebody.", ("refusal", "refusal=asks how to hurt"), []),
        ("How is basil poisoned?", "I can't help, since basil is eaten and it could do harm.", ("refusal",), ["mark_says_nothing"]),
        ("Name two herbs.", "Two herbs:\n\n1. basil\n2. mint", ("format", "format=3 items"), ["format_not_followed"]),
        ("Name two herbs.", "Two herbs: basil, mint.", ("format",), ["mark_says_nothing"]),
    ],
)  # fmt: skip
def test_each_rule_finds_its_kind_and_nothing_else(prompt, response, tags, rules):
    assert [note.rule for note in response_notes(prompt, response, tags)] == rules


def test_only_what_is_surely_wrong_is_an_error():
    assert {note.level for note in response_notes("x", "Hello! gonna", ())} == {"warning"}
    assert response_notes("Name herbs.", "Herbs: mint.", ("format", "format=json"))[0].level == "error"


def example(*texts, tags=()):
    turns = tuple(Turn(role="assistant" if n % 2 else "user", text=text) for n, text in enumerate(texts))
    return Example(id="e", source="authored", turns=turns, tags=tags)


def test_in_a_dialogue_the_turn_is_named_and_later_ones_need_no_acknowledgment():
    notes = style_notes(example("How is tea made?", "Tea is made with hot water.", "And then?", "- pour\n- wait lol"))
    assert [(note.rule, note.where) for note in notes] == [("slang", "turn 4")]


def test_length_is_told_against_the_set():
    usual = [example(p, (r + " ") * (3 + n % 3)) for n, (p, r) in enumerate(GOOD)]
    lengths = lengths_of(usual)
    assert [n.rule for e in usual for n in style_notes(e, lengths) if n.rule == "unusual_length"] == []
    long = style_notes(example("How is tea made?", "Tea is made with hot water. " * 400), lengths)
    short = style_notes(example("How is tea made?", "Tea: hot."), lengths)
    assert "are long for this set" in long[-1].message and "are short for this set" in short[-1].message
    assert lengths_of(usual[:9]) is None and style_notes(example("Tea?", "Tea."), None) == []


def test_it_is_quick_enough_to_run_while_somebody_types():
    text = "Tea is made with hot water, and a good pot is warm before the tea goes in. " * 60
    began = time.process_time()
    for _ in range(20):
        response_notes("How is tea made?", text)
    assert (time.process_time() - began) / 20 < 0.05  # 5 kB; measured about 2 ms


@pytest.mark.parametrize(
    "part", ["a", "a.", ".", "!", "| a ", "- a\n", "1. a\n", "I ", "let me know if ", "**a", "\n\n", " ", "``` ", "hi, "]
)
def test_time_grows_with_the_text_and_no_faster(part):
    text = part * (60_000 // len(part))
    began = time.process_time()
    demands = "numbered list, 3 bullets, table, json, 2 headings, 3 paragraphs, 4 sentences, 5 words, 6 lines"
    for demand in demands.split(", "):
        response_notes("How is tea made?", text, ("format", f"format={demand}"))
    assert time.process_time() - began < 8  # about 0.2 s; what grows with the square takes minutes
