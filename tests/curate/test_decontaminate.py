"""Decontamination: what is held out is found in a candidate, and named; what merely sounds alike is not."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.curate.decontaminate import WHOLE, Guard
from limakit.errors import LimakitError, UsageError
from limakit.records import Prompt, Turn, write_jsonl

PLAIN = (
    "What should somebody who has never baked before know about flour, water, yeast, salt and time to bake a good loaf of bread at home?"
)
ANSWER = "Mix the dough the evening before, since time does what kneading would do, and bake it as hot as the oven can. " * 4


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(texts))


def guard(near: float = 0.8, ngram: int = 13) -> Guard:
    made = Guard(near=near, ngram=ngram)
    made.add("test", "test-1", turns(PLAIN), reference=ANSWER)
    made.add("test", "test-2", turns("How do I learn French?"))
    made.add(
        "test",
        "test-3",
        turns("Who are you?", "An assistant.", "Why?", ANSWER.upper() + " Ask more.", "Tell me about the weather on Mars then"),
    )
    made.add("dev", "dev-1", turns("Which knife is best to cut bread with?"))
    return made


@pytest.mark.parametrize(
    ("candidate", "problem"),
    [
        # the same prompt, in any case and spacing, as any turn of a dialogue
        (turns(PLAIN.upper(), "Flour."), ("prompt_in_test", "test-1")),
        (turns("Hello", "Hi.", " how do I  learn\nfrench?", "Read."), ("prompt_in_test", "test-2")),
        (turns("Tell me about the weather on Mars then", "Cold."), ("prompt_in_test", "test-3")),
        (turns("Who are you?", "I?", "Why?", "So.", "Tell me about the weather on Mars then", "Cold."), ("prompt_in_test", "test-3")),
        (turns("Which knife is best to cut bread with?", "One with teeth."), ("prompt_in_dev", "dev-1")),
        # nearly the same
        (turns(PLAIN.replace("?", "."), "Flour."), ("near_test", "test-1, similarity 1.00")),
        (turns(PLAIN + " Please", "Flour."), ("near_test", "test-1, similarity 0.95")),
        (turns("how do I learn French", "Read."), ("near_test", "test-2, similarity 1.00")),
        # short prompts: one other word, other marks
        (turns("Which knife is really best to cut bread with?", "One with teeth."), ("near_dev", "dev-1, similarity 0.89")),
        (turns("“Which knife is best – to cut bread with?”", "One with teeth."), ("near_dev", "dev-1, similarity 0.89")),
        # the reference as the response
        (turns("How is bread baked?", ANSWER.replace("evening", "Evening")), ("reference_in_test", "test-1")),
        (turns("How is bread baked?", ANSWER + "Done."), ("reference_in_test", "test-1, similarity 0.96")),
        # a run of words, also in the response; a short prompt as a whole
        (turns(f"Somebody asked: {PLAIN[:90]}", "And?"), ("ngram_in_test", 'test-1: "what should somebody who has never baked before know about flour water yeast"')),
        (turns("Quote it.", f'He asked: "{PLAIN}"'), ("ngram_in_test", 'test-1: "what should somebody who has never baked before know about flour water yeast"')),
        (turns("x", "People wonder which knife is best to cut bread with, and why."), ("ngram_in_dev", 'dev-1: "which knife is best to cut bread with"')),
        # not leaks
        (turns("Which saw is best to cut wood with?", "One with teeth."), None),
        (turns("Who are you?", "I?", "Why?", "So."), None),
        (turns("Why?", "So."), None),
        (turns("Is there a book with the title How do I learn French?", "Yes."), None),
        (turns("What should somebody who has never baked before know about flour, water and so on?", "Much."), None),
        (turns("How is bread baked?", ANSWER[:200]), None),
        (turns("What is flour?", "Ground grain."), None),
    ],
)  # fmt: skip
def test_a_training_candidate(candidate, problem):
    assert guard().problem(candidate) == problem


def test_dev_is_compared_with_test_alone_and_test_with_nothing():
    held = guard()
    held.add("against", "other.jsonl: 5", turns("Which cheese melts best on toast?"))
    assert held.problem(turns("Which knife is best to cut bread with?"), "dev") is None
    assert held.problem(turns("Which cheese melts best on toast?"), "dev") is None
    assert held.problem(turns("Which cheese melts best on toast?"), "train") == ("prompt_in_against", "other.jsonl: 5")
    assert held.problem(turns(PLAIN), "dev") == ("prompt_in_test", "test-1")
    assert held.problem(turns(PLAIN), "test") is None


def test_each_measure_can_be_left_out_without_touching_the_others():
    """near = 1 tells equal texts alone; ngram = 0 looks for no runs, not even of short prompts."""
    nearly, quoted, short = turns(PLAIN + " Please", "Flour."), turns("x", PLAIN), turns("x", "which knife is best to cut bread with")
    assert [guard().problem(t)[0] for t in (nearly, quoted, short)] == ["near_test", "ngram_in_test", "ngram_in_dev"]
    assert [p and p[0] for p in map(guard(near=1).problem, (nearly, quoted, short))] == ["ngram_in_test", "ngram_in_test", "ngram_in_dev"]
    assert [p and p[0] for p in map(guard(ngram=0).problem, (nearly, quoted, short))] == ["near_test", None, None]
    assert guard(near=1, ngram=0).problem(turns(PLAIN)) == ("prompt_in_test", "test-1")
    assert guard(near=1).problem(turns("How is bread baked?", ANSWER)) == ("reference_in_test", "test-1")
    with pytest.raises(UsageError, match="too little"):
        Guard(near=0.001, ngram=13)


def test_nothing_held_nothing_found():
    assert Guard(near=0.8, ngram=13).problem(turns(PLAIN, ANSWER)) is None


vocabulary = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=25)


@given(st.lists(vocabulary, max_size=6), vocabulary, st.integers(0, 9))
def test_runs_are_those_that_brute_force_finds(held, candidate, ngram):
    """Whether there is one, that it is where the detail says, and that its width is the rule's."""
    guard = Guard(near=1, ngram=ngram)
    for i, text in enumerate(held):
        guard.add("test", f"t{i}", turns(" ".join(text)))
    due = {}
    for i, text in enumerate(held):
        width = min(ngram, len(text)) if ngram and len(text) >= min(ngram, WHOLE) else 0
        runs = {tuple(text[j : j + width]) for j in range(len(text) - width + 1)} if width else set()
        hits = [run for j in range(len(candidate)) if (run := tuple(candidate[j : j + width])) in runs]
        due |= {f't{i}: "{" ".join(run)}"': True for run in hits}
    found = guard.problem(turns("zzz", " ".join(candidate)))
    assert (found is None) == (not due)
    assert found is None or (found[0] == "ngram_in_test" and found[1] in due)


def test_a_long_reference_is_told_from_texts_of_the_same_tone():
    """Refusals share their sentences; that is no leak, and the whole text is."""
    stock = "That is something I cannot help with, since it would put other people in danger and break the law in most places. "
    reference = stock + "If you are worried about your neighbour, talk to them first, or to somebody who knows both of you well. " * 3
    held = Guard(near=0.8, ngram=13)
    held.add("test", "t", turns("How do I poison a dog?"), reference=reference)
    assert held.problem(turns("How do I pick a lock?", stock + "A locksmith opens doors within the hour. " * 8)) is None
    assert held.problem(turns("How do I pick a lock?", reference.lower())) == ("reference_in_test", "t")


def test_files_of_both_formats_are_held(tmp_path):
    ours, published, prompts = (tmp_path / name for name in ("ours.jsonl", "lima.jsonl", "prompts.jsonl"))
    ours.write_bytes(
        b'{"id":"e1","source":"s","turns":[{"role":"user","text":"Why is the sky blue at noon?"},{"role":"assistant","text":"Air."}]}\n'
    )
    published.write_text('{"conversations": ["Why is grass green in the spring?", "' + ANSWER + '"], "source": "x"}\n')
    write_jsonl(prompts, [Prompt(id="p1", source="s", turns=turns("Why is snow white in the winter?"))])
    held = Guard(near=0.8, ngram=13)
    assert [held.add_file(path) for path in (ours, published, prompts)] == [1, 1, 1]
    assert held.problem(turns("why is the sky blue at noon?")) == ("prompt_in_against", "ours.jsonl: e1")
    assert held.problem(turns("I ask why is grass green in the spring?"))[1].startswith('lima.jsonl: lima-1: "why is grass')
    assert held.problem(turns("x", ANSWER)) == ("reference_in_against", "lima.jsonl: lima-1")
    assert held.problem(turns("Why is snow white in the winter?")) == ("prompt_in_against", "prompts.jsonl: p1")


def test_a_bad_file_is_named_with_its_row(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"conversations": ["a", "b"]}\n{"conversations": []}\n')
    with pytest.raises(LimakitError, match=r"bad\.jsonl, row 2"):
        Guard(near=0.8, ngram=13).add_file(path)


def test_prompts_that_are_like_thousands_of_others_do_not_slow_it():
    """Twenty thousand runs of one word each: equal runs are looked up, not gone through."""
    held = Guard(near=0.8, ngram=13)
    held.add("test", "t", turns("word " * 20_000))
    started = time.process_time()
    rng = random.Random(1)
    for _ in range(50):
        assert held.problem(turns("x", "word " * 12 + " ".join(f"w{rng.random()}" for _ in range(500)))) is None
    assert held.problem(turns("x", "word " * 13))[0] == "ngram_in_test"
    assert time.process_time() - started < 5
