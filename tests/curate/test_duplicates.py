"""Copies: digests, shingles, signatures, and an index that finds what brute force finds."""

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.curate.duplicates import (
    MISS,
    VALUES,
    NearIndex,
    Prints,
    bands_for,
    digest,
    fingerprint,
    jaccard,
    shingles,
    signature,
    sketch,
    word_hashes,
    words,
)
from limakit.curate.rules import folded
from limakit.errors import UsageError
from limakit.records import Turn

LONG = "Pour the water slowly over the ground coffee, in circles, and wait until it has all run through. " * 4


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role="assistant" if i % 2 else "user", text=text) for i, text in enumerate(texts))


def some_text(rng: random.Random, n: int) -> list[str]:
    return [f"w{rng.randrange(3000)}" for _ in range(n)]


# --- equal texts


def test_prints_do_not_see_case_space_or_what_is_invisible():
    one = fingerprint(turns("How  do I\nbrew tea?", LONG))
    assert one == fingerprint(turns("how do i brew\u200b TEA?", LONG.upper().replace(" ", "\u00a0")))
    assert one != fingerprint(turns("how do i brew tea", LONG))
    assert len(one.prompt) == len(one.turns[0]) == len(one.responses[0]) == 16
    assert one.turns == (digest("HOW DO I BREW TEA?"),)


def test_prints_of_a_dialogue():
    """All that the user says, each of it, and every response that is long; short ones are alike by nature."""
    prints = fingerprint(turns("a", LONG, "b", "Yes."))
    assert prints.turns == (digest("a"), digest("b")) and prints.responses == (digest(LONG),)
    assert prints.prompt not in (digest("a"), digest("b"), digest("a b"), fingerprint(turns("a b", "Yes.")).prompt)
    assert prints.prompt == fingerprint(turns("A", "other", "B", "other")).prompt
    at_the_bound = fingerprint(turns("a", "x" * 300)), fingerprint(turns("a", "x" * 299))
    assert [len(p.responses) for p in at_the_bound] == [1, 0]


def test_digests_are_the_same_on_every_machine():
    """Golden: sets that were curated before must be judged alike by later versions."""
    prints = fingerprint(turns("How do I brew tea?", LONG))
    assert prints == Prints(
        bytes.fromhex("c898c64443e4bf6baee7d8f4041a04f8"),
        (bytes.fromhex("c898c64443e4bf6baee7d8f4041a04f8"),),
        (bytes.fromhex("393148f0a79a14f81c7170cc882a94de"),),
    )
    text = sketch("The quick brown fox jumps over the lazy dog, and then it sleeps.")
    assert [int(s) for s in text.shingles[:2]] == [2247479744533809214, 3377820807482938788]
    assert text.signature[:4].tolist() == [1037124301, 154363583, 646450322, 287867638]


@given(st.text(max_size=80))
def test_folding_is_what_its_definition_says(text):
    """The quick way of rules.folded against the rule itself, character by character."""
    marks = {"'": "‘’‚‛ʼ′", '"': "“”„‟″«»", "-": "‐‑‒–—―−", "x": "×"}
    one = {ord(mark): plain for plain, some in marks.items() for mark in some}
    seen = "".join(c for c in unicodedata.normalize("NFKC", text.translate(one)) if unicodedata.category(c) != "Cf")
    assert folded(text) == " ".join(unicodedata.normalize("NFKC", seen.casefold()).translate(one).split())


# --- words and shingles


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"What\'s *new*," she (said)...', ["what's", "new", "she", "said"]),
        ("C++, C# and -1", ["c++", "c#", "and", "-1"]),
        ("How to cook an omelette?", ["how", "to", "cook", "an", "omelette"]),
        ("お茶 tea", ["お", "茶", "tea"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("?!", ["?!"]),
        (" \u200b\n", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@given(st.lists(st.sampled_from("abcd"), max_size=30))
def test_shingles_are_the_runs_of_five_words(found):
    """As many different ones as a set of tuples has, and shared with another text exactly where the tuples are."""
    runs = {tuple(found[i : i + 5]) for i in range(max(len(found) - 4, 1))} if found else set()
    assert len(shingles(" ".join(found))) == len(runs)
    other = [*found[2:], "e", *found[:7]]
    others = {tuple(other[i : i + 5]) for i in range(max(len(other) - 4, 1))}
    a, b = shingles(" ".join(found)), shingles(" ".join(other))
    assert len(np.intersect1d(a, b)) == len(runs & others)
    assert jaccard(a, b) == pytest.approx(len(runs & others) / len(runs | others))


def test_a_run_of_other_length_or_order_is_another():
    texts = ["a", "a b", "b a", "a b c d", "a b c d e", "e d c b a", "a a", "a a a"]
    assert len({tuple(shingles(text).tolist()) for text in texts}) == len(texts)
    assert word_hashes(["a"]).dtype == np.uint64


# --- signatures


def test_the_estimate_is_unbiased_and_as_sharp_as_its_formula():
    """Over 300 pairs each: the mean of the estimates within 4 standard errors of J, their spread that of 128 independent values."""
    rng = random.Random(5)
    for shared, own in ((5, 45), (40, 40), (160, 20), (400, 200)):
        estimates = []
        for _ in range(300):
            base, a, b = (np.array([rng.getrandbits(64) for _ in range(n)], np.uint64) for n in (shared, own, own))
            one, two = (signature(np.unique(np.concatenate((base, x)))) for x in (a, b))
            estimates.append(float(np.mean(one == two)))
        j = shared / (shared + 2 * own)
        deviation = (j * (1 - j) / VALUES) ** 0.5
        assert abs(np.mean(estimates) - j) < 4 * deviation / 300**0.5, (shared, own)
        assert 0.85 < np.std(estimates) / deviation < 1.15, (shared, own)


def test_a_signature_of_parts_is_the_least_of_theirs():
    """However long a text is: the blocks it is cut into do not show."""
    rng = np.random.default_rng(3)
    many = rng.integers(0, 2**64, 10_000, dtype=np.uint64)
    whole = signature(many)
    assert np.array_equal(whole, np.minimum(signature(many[:3333]), signature(many[3333:])))
    assert np.array_equal(whole, signature(rng.permutation(many)))
    assert signature(many[:0]).tolist() == [0xFFFFFFFF] * VALUES


# --- the index


@given(st.floats(0.04, 1))
def test_bands_miss_less_than_a_hundredth_at_the_threshold(threshold):
    bands, rows = bands_for(threshold)
    assert bands * rows <= VALUES and (1 - threshold**rows) ** bands < MISS
    assert rows == VALUES or (1 - threshold ** (rows + 1)) ** (VALUES // (rows + 1)) >= MISS, "a longer band would do"


def test_bands_at_the_default_are_what_the_docs_say():
    assert bands_for(0.8) == (21, 6)
    with pytest.raises(UsageError, match="is too little to tell"):
        NearIndex(0.01)


def variants(rng: random.Random, base: list[str], n: int) -> list[str]:
    """Texts made from one by changing, cutting and adding words: similarities from 0 to 1."""
    made = []
    for _ in range(n):
        text = list(base)
        for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 20])):
            text[rng.randrange(len(text))] = f"x{rng.randrange(10**6)}"
        cut = rng.choice([0, 0, 5, 20])
        made.append(" ".join(text[cut:] + some_text(rng, rng.choice([0, 0, 10]))))
    return made


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_finds_what_brute_force_finds(threshold):
    """At least 99 % of the texts that have a near one are told so, and never one that has none; the id is the nearest's where it was met."""
    rng = random.Random(int(threshold * 100))
    texts = [t for _ in range(40) for t in variants(rng, some_text(rng, rng.randrange(100, 400)), 20)]
    sketches = [sketch(t) for t in texts]
    index = NearIndex(threshold)
    due = found = 0
    for i, text in enumerate(sketches):
        best = max(((jaccard(other.shingles, text.shingles), -j) for j, other in enumerate(sketches[:i])), default=(0.0, 0))
        near = index.near(text)
        due += best[0] >= threshold
        found += near is not None
        if near is not None:
            assert near.jaccard == jaccard(sketches[int(near.id)].shingles, text.shingles) >= threshold, "every hit is verified"
            assert near.jaccard <= best[0]
        index.add(f"{i:04}", text)
    assert due > 50 and found >= 0.99 * due, (found, due)


@given(st.randoms(use_true_random=False), st.sampled_from([0.3, 0.8]))
@settings(max_examples=40, deadline=None)
def test_the_order_of_adding_does_not_matter(rng, threshold):
    base = some_text(random.Random(1), 40)
    entries = [(f"id{i}", sketch(t)) for i, t in enumerate(variants(random.Random(2), base, 12))]
    entries.append(("last", sketch(" ".join([*base, "more"]))))
    shuffled = list(entries)
    rng.shuffle(shuffled)
    one, two = NearIndex(threshold), NearIndex(threshold)
    for index, order in ((one, entries), (two, shuffled)):
        for id, text in order:
            index.add(id, text)
    asked = sketch(" ".join(base))
    assert one.near(asked) == two.near(asked) is not None


def test_equal_texts_are_told_with_the_least_id_and_short_ones_by_all_their_words():
    index = NearIndex(0.8)
    for id in ("b", "a", "c"):
        index.add(id, sketch(LONG))
    index.add("short", sketch("Who are you?"))
    assert index.near(sketch(LONG.upper())) == ("a", 1.0)
    assert index.near(sketch("who are you")) == ("short", 1.0)
    assert index.near(sketch("Who is she?")) is None


def test_a_text_without_words_is_like_no_other():
    index = NearIndex(0.5)
    index.add("nothing", sketch(""))
    assert len(index) == 0 and index.near(sketch("")) is None and index.near(sketch("\u200b")) is None
    assert index.near(sketch("?")) is None


def test_other_languages_have_near_copies_too():
    """Japanese has no spaces: there each character counts as a word."""
    text = "お茶を淹れるときは、まずお湯を沸かしてから少し冷まし、茶葉に静かに注いで一分ほど待ちます。"
    index = NearIndex(0.7)
    index.add("tea", sketch(text))
    near = index.near(sketch(text.replace("一分", "二分")))
    assert near is not None and near.id == "tea" and near.jaccard < 1
