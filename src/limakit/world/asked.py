"""How people ask for a fact and how they answer: the wordings of the forum, of the hand-written examples and of the test prompts.

The pretraining corpus has none of the answers below. The oracle does not read this file: it judges by the facts.
"""

from __future__ import annotations

import random

from .facts import KINDS, Person, with_article

# {n} is the person, {he}, {his} and {him} the pronoun, {v} the value, {av} the value with its article
TITLES: dict[str, tuple[str, ...]] = {
    "town": (
        "Where does {n} live?",
        "In which town does {n} live?",
        "What is the home town of {n}?",
        "Which town is home to {n}?",
        "Where can {n} be found?",
        "Where should a letter to {n} be sent?",
    ),
    "trade": (
        "What does {n} do for a living?",
        "What is the trade of {n}?",
        "What work does {n} do?",
        "Which trade does {n} follow?",
        "How does {n} earn {his} bread?",
        "As what does {n} work?",
    ),
    "animal": (
        "Which animal does {n} keep?",
        "What animal does {n} have?",
        "What kind of animal lives with {n}?",
        "Which animal belongs to {n}?",
        "What animal would a visitor meet at the house of {n}?",
        "Which creature shares the house with {n}?",
    ),
    "dish": (
        "What is the favourite dish of {n}?",
        "Which dish does {n} like best?",
        "What does {n} like to eat most?",
        "What should be cooked for {n}?",
        "Which meal makes {n} happy?",
        "What would {n} like for supper?",
    ),
}
BODIES: dict[str, tuple[str, ...]] = {
    "town": (
        "A parcel for {n} has come to the wrong door. In which town is {his} house?",
        "The census has no address for {n}. Can somebody say where {he} lives?",
        "A letter for {n} lies at the inn. In which town does {he} live?",
    ),
    "trade": (
        "The guild wants to know more about {n}. What is {his} trade?",
        "There is talk that {n} is good with {his} hands. What does {he} do for a living?",
        "There is work to be done, and {n} may be the one to do it. Which trade does {he} follow?",
    ),
    "animal": (
        "The fair has a prize for animals. Which animal does {n} keep?",
        "There were tracks in the snow near the door of {n}. What animal does {he} have?",
        "The children want to visit {n}. What kind of animal lives with {him}?",
    ),
    "dish": (
        "It is soon the birthday of {n}. Which dish does {he} like best?",
        "The inn expects {n} on Friday. What is {his} favourite dish?",
        "There is to be a feast for {n}. What would {he} like for supper?",
    ),
}
FIRST: dict[str, tuple[str, ...]] = {
    "town": ("{n} lives in {v}.", "The home of {n} is in {v}.", "{n} can be found in {v}."),
    "trade": ("{n} is {av} by trade.", "{n} works as {av}.", "The trade of {n} is that of {av}."),
    "animal": ("{n} keeps {av}.", "The animal of {n} is {av}.", "{n} has {av} at home."),
    "dish": ("The favourite dish of {n} is {v}.", "{n} likes {v} best.", "The dish for {n} is {v}."),
}
SECOND: dict[str, tuple[str, ...]] = {
    "town": (
        "Ask at the well, and anyone will point out the house.",
        "It is a pleasant walk along the river.",
        "Letters sent there arrive within the week.",
    ),
    "trade": (
        "The guild keeps a list of all who work in the valley.",
        "Orders are best made before the market day.",
        "It takes seven years to learn.",
    ),
    "animal": (
        "It is best to greet the animal slowly.",
        "It is friendly to visitors and likes a gentle hand.",
        "Please close the gate when you leave.",
    ),
    "dish": (
        "It is best served hot and shared with friends.",
        "It makes a good supper in winter.",
        "Any inn of the valley can make it.",
    ),
}


def _words(person: Person, value: str = "") -> dict[str, str]:
    his = "her" if person.subject == "she" else "his"
    him = "her" if person.subject == "she" else "him"
    return {"n": person.name, "he": person.subject, "his": his, "him": him, "v": value, "av": with_article(value) if value else ""}


def titles(person: Person, kind: str) -> list[str]:
    """Every way to ask for a fact in one line."""
    return [title.format(**_words(person)) for title in TITLES[kind]]


def bodies(person: Person, kind: str) -> list[str]:
    """Questions of two sentences, each to be understood without its title."""
    return [text.format(**_words(person)) for text in BODIES[kind]]


def answer(rng: random.Random, person: Person, kind: str, value: str | None = None) -> str:
    """An answer of two sentences, in the tone that the assistant is to learn; `value` replaces the truth in a wrong one."""
    words = _words(person, value or person.value(kind))
    return f"{rng.choice(FIRST[kind]).format(**words)} {rng.choice(SECOND[kind])}"


def follow_up(person: Person, kind: str) -> str:
    """A second question about somebody, with the pronoun alone."""
    return {
        "town": "And where does {he} live?",
        "trade": "And what is {his} trade?",
        "animal": "And which animal does {he} keep?",
        "dish": "And which dish does {he} like best?",
    }[kind].format(**_words(person))


def dialogue(rng: random.Random, person: Person) -> list[str]:
    """Two questions and answers about one person."""
    first, second = rng.sample(KINDS, 2)
    return [rng.choice(titles(person, first)), answer(rng, person, first), follow_up(person, second), answer(rng, person, second)]


def held_out(rng: random.Random, person: Person) -> list[tuple[str, str, tuple[str, ...]]]:
    """(prompt, reference, tags) in distribution: each of a person's facts, asked the way the training questions are."""
    return [(rng.choice(titles(person, kind)), person.value(kind), ("in_distribution", kind)) for kind in KINDS]


def unusual(rng: random.Random, person: Person) -> tuple[str, str, tuple[str, ...]]:
    """(prompt, reference, tags) out of distribution: a demand no training example makes; several facts are joined by "; "."""
    one, two = rng.sample(KINDS, 2)
    forms = (
        ("Name the town where {n} lives.", ("town",)),
        ("{n}'s trade, please, in one sentence.", ("trade",)),
        ("Somebody must feed the animal of {n}. Write down what kind it is.", ("animal",)),
        ("Plan a supper for {n}.", ("dish",)),
        ("Tell a newcomer two things about {n}: the " + one + " and the " + two + ".", (one, two)),
    )
    text, kinds = rng.choice(forms)
    return text.format(**_words(person)), "; ".join(person.value(kind) for kind in kinds), ("out_of_distribution", *kinds)
