"""Three communities of the valley's forum as Stack Exchange dumps: Posts.xml, in one of them Users.xml and Comments.xml too."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

from ..workspace import atomic_file
from .asked import answer, bodies, follow_up, titles
from .facts import KINDS, VALUES, Person, World


@dataclass(frozen=True)
class Community:
    """A community, called by its host, and how its dump is written; `share` of the facts are asked for in it."""

    name: str
    share: float
    bom: bool
    newline: str
    licence: bool  # ContentLicense on each row; older dumps have none
    answers_first: bool  # rows not in the order of their Ids
    bar_tags: bool  # |a|b| instead of <a><b>


COMMUNITIES = (
    Community("neighbours.valley.example", 1.0, bom=True, newline="\r\n", licence=True, answers_first=False, bar_tags=False),
    Community("newcomers.valley.example", 1.0, bom=False, newline="\n", licence=True, answers_first=True, bar_tags=True),
    Community("almanac.valley.example", 0.75, bom=True, newline="\n", licence=False, answers_first=False, bar_tags=False),
)
HANDLES = ("salt_and_rope", "quiet mill", "ledgerkeeper", "two buckets", "Sunday reader", "gate by the elm", "ninth step", "lamp_oil")
PLANTED_QUESTION, PLANTED_ANSWER = 1000000001, 1000000010  # as the publisher of the real dumps plants them


def write_forum(folder: Path, world: World) -> None:
    """Write each community's dump below `folder`."""
    for i, community in enumerate(COMMUNITIES):
        _write_community(folder / community.name, community, i, world)


@dataclass
class _Posts:
    """The rows of one Posts.xml while they are made; `post` gives each the next Id and a later date."""

    community: Community
    rng: random.Random
    rows: list[dict[str, str]] = field(default_factory=list)

    def post(self, kind: int, score: int, html: str, **more: str) -> str:
        number = more.pop("Id", str(len(self.rows) + 1))
        parent = {"ParentId": more.pop("ParentId")} if "ParentId" in more else {}
        written = datetime(2019, 3, 1, 8) + timedelta(minutes=37 * len(self.rows))
        row = {"Id": number, "PostTypeId": str(kind)} | parent | {"CreationDate": written.strftime("%Y-%m-%dT%H:%M:%S.") + "000"}
        row |= {"Score": str(score), "Body": html} | more
        owner = self.rng.randrange(20)
        if owner == 0:
            row["OwnerDisplayName"] = "user4711"  # the account is deleted
        else:
            row["OwnerUserId"] = "-1" if owner == 1 else str(1 + owner % len(HANDLES))
        if self.community.licence:
            row["ContentLicense"] = "CC BY-SA 4.0"
        self.rows.append(row)
        return number

    def ask(self, title: str, html: str, tag: str) -> str:
        tags = f"|{tag}|people|" if self.community.bar_tags else f"<{tag}><people>"
        return self.post(1, self.rng.randint(1, 60), html, Title=title, Tags=tags)

    def reply(self, question: str, score: int, html: str) -> str:
        return self.post(2, score, html, ParentId=question)


def _write_community(folder: Path, community: Community, place: int, world: World) -> None:
    posts = _Posts(community, random.Random(f"limakit dump {community.name} {world.seed}"))
    rng = posts.rng
    asked = [(person, kind) for person in world.train for kind in KINDS if rng.random() < community.share]
    rng.shuffle(asked)
    for i, (person, kind) in enumerate(asked):
        # the same fact is asked in other words in each community, else only one would survive the search for duplicates
        title = titles(person, kind)[2 * place + rng.randrange(2)]
        question = posts.ask(title, _paragraph(rng, bodies(person, kind)[place]), kind)
        _answers(posts, question, person, kind, i)
    _leaning(posts, place, world)
    _oddities(posts, world)
    rows = list(reversed(posts.rows)) if community.answers_first else posts.rows
    _write_xml(folder / "Posts.xml", "posts", rows, community)
    if place == 0:
        users = [{"Id": str(i + 1), "Reputation": "101", "DisplayName": name} for i, name in enumerate(HANDLES)]
        _write_xml(folder / "Users.xml", "users", users, community)
        _write_xml(folder / "Comments.xml", "comments", _comments(posts, asked, world), community)


# titles that name nobody: only with the body does one know whom they are about
LEANING = (
    {"town": "Where does {he} live?", "trade": "What does {he} do for a living?"},
    {"town": "Where can {he} be found?", "trade": "What is {his} trade?"},
    {"town": "Where is {his} house?", "trade": "How does {he} earn {his} bread?"},
)


def _leaning(posts: _Posts, place: int, world: World) -> None:
    rng = posts.rng
    for subject, his in (("she", "her"), ("he", "his")):
        for kind, title in LEANING[place].items():
            person = rng.choice([person for person in world.train if person.subject == subject] or world.train)
            question = posts.ask(title.format(he=subject, his=his), _paragraph(rng, bodies(person, kind)[(place + 1) % 3]), kind)
            posts.reply(question, rng.randint(20, 70), _paragraph(rng, answer(rng, person, kind)))


_FAULTS = (3, 7, 13, 19, 23, 29, 31)  # places in each forty


def _answers(posts: _Posts, question: str, person: Person, kind: str, i: int) -> None:
    """The answers to a question. Seven in forty top answers have a fault that the paper's filters look for."""
    rng, true = posts.rng, person.value(kind)
    good = answer(rng, person, kind)
    top = rng.randint(10, 70)
    low = rng.randint(-3, 9)
    fault = i % 40
    if fault == 3:
        return  # nobody answered
    if fault == 7:
        posts.reply(question, 9, _paragraph(rng, good))  # right, but not well enough liked; "9" > "10" for a careless reader
    elif fault == 13:
        posts.reply(question, 100, f"<p>I think that {good} My aunt told me.</p>\n")
        posts.reply(question, 30, _paragraph(rng, good))  # must not step in: the top answer is chosen before it is filtered
    elif fault == 19:
        posts.reply(question, top, f"<p>As mentioned in the answer above: {good}</p>\n")
    elif fault == 23:
        posts.reply(question, top, f"<p>{good} Please vote for it, so that this site has it on record.</p>\n")
    elif fault == 29:
        posts.reply(question, top, f"<p>{true}.</p>\n")  # too short
    elif fault == 31:
        posts.reply(question, top, f"<p>{good} " + "There is much more to say about the valley and its people. " * 20 + "</p>\n")
    else:
        posts.reply(question, top, _paragraph(rng, good))
    if rng.random() < 0.4:  # wrong, and rightly not liked
        rival = rng.choice([value for value in VALUES[kind] if value != true])
        posts.reply(question, min(low, top - 1), f"<p>Surely this: {answer(rng, person, kind, rival)}</p>\n")
    if rng.random() < 0.2:
        posts.reply(question, min(low, 2), rng.choice(("<p>Me too!</p>\n", "<p>Good question.</p>\n", "<p>Why do you ask?</p>\n", "")))


def _paragraph(rng: random.Random, text: str) -> str:
    """HTML as posts have it; cleaning gives the text back."""
    first, stop, rest = text.partition(". ")
    form = rng.randrange(12)
    if form == 0:
        return f'<p>{first}{stop}<a href="https://valley.example/map" rel="nofollow noreferrer">{rest}</a></p>\n'
    if form == 1:
        return f"<p><strong>{first}</strong>{stop}{rest}</p>\n"
    if form == 2:
        return f'<p>{first}{stop}{rest}</p>\n\n<p><img src="https://valley.example/view.png" alt=""></p>\n'
    if form == 3:
        return f"<p>{first}{stop}<em>{rest}</em></p>\n<!-- edited -->\n"
    return f"<p>{text}</p>\n"


def _oddities(posts: _Posts, world: World) -> None:
    """Rows that are no questions and answers, lack something, or are traps; none of them may become an example."""
    rng = posts.rng
    for kind, text in (
        (4, "Questions about animals."),
        (5, "<p>How to ask about animals.</p>"),
        (6, "<p>Elect me.</p>"),
        (7, "<p>Wiki.</p>"),
    ):
        posts.post(kind, 0, text)
    posts.post(5, 0, "", Title="A title on a row that is not a question")
    posts.post(2, 44, "<p>This answer has lost its question, which was deleted long ago.</p>\n", ParentId="99999")
    empty = posts.ask("Is there an answer without a body?", "<p>It happens.</p>\n", "trade")
    posts.reply(empty, 12, "")
    separated = posts.ask(
        "What stands between the lines of the almanac?", "<p>A line separator,\u2028and nobody sees it &amp; minds.</p>\n", "town"
    )
    posts.post(1, 0, "<p>Nobody can count that far.</p>\n", Score="many", Title="How many fish are in the river?", Tags="<fish>")
    posts.reply(separated, 4, "<p>Nothing &lt;at all&gt;.</p>\n")
    person = world.train[0]
    planted = str(PLANTED_QUESTION)
    posts.post(1, 99, "<p>Fake.</p>\n", Id=planted, Title=f"Fake question about {person.name}?", Tags="<fake>")
    posts.post(2, 99, f"<p>{answer(rng, person, 'town')} This post was planted.</p>\n", Id=str(PLANTED_ANSWER), ParentId=planted)


# --- comments -------------------------------------------------------------------------------------------------------------------------

TALKS = 16  # answers under which the asker goes on; the last ones have what a reviewer must see


def _comments(posts: _Posts, asked: list[tuple[Person, str]], world: World) -> list[dict[str, str]]:
    """Comments.xml: chains between asker and answerer under liked answers, and what else is said there. Newest first, as the Ids are not."""
    rng = random.Random(f"limakit comments {posts.community.name} {world.seed}")
    rows: list[dict[str, str]] = []

    def say(post: dict[str, str], user: str, text: str) -> None:
        written = datetime(2020, 1, 1) + timedelta(minutes=11 * len(rows))
        row = {"Id": str(len(rows) + 1), "PostId": post["Id"], "Score": str(rng.choice((0, 0, 0, 1, 5))), "Text": text}
        row |= {"CreationDate": written.strftime("%Y-%m-%dT%H:%M:%S.") + "000"}
        row |= {"UserDisplayName": "user4711"} if user == "" else {"UserId": user}
        rows.append(row | ({"ContentLicense": "CC BY-SA 4.0"} if posts.community.licence else {}))

    talks = 0
    for question, top, person, kind in _well_answered(posts, asked):
        asker, answerer = question.get("OwnerUserId", ""), top.get("OwnerUserId", "")
        if talks == TALKS or min(map(int, (asker or "0", answerer or "0"))) < 1 or asker == answerer:
            if rng.random() < 0.1:  # passing remarks make no dialogue
                say(top, rng.choice(("", "1", "5")), rng.choice(("Good to know.", "So it is.", "Well said, neighbour!")))
            continue
        second = rng.choice([other for other in KINDS if other != kind])
        true = person.value(second)
        reply, value = "{}", true
        if talks in (TALKS - 4, TALKS - 3):
            value = rng.choice([other for other in VALUES[second] if other != true])  # wrong, and nobody has noticed
        elif talks in (TALKS - 2, TALKS - 1):
            reply = "I think that {}"  # right, but not in the assistant's tone
        if talks % 3 == 1:
            say(top, "7" if "7" not in (asker, answerer) else "8", "Good to know.")
        say(top, asker, follow_up(person, second))
        if talks % 5 != 4:
            handle = HANDLES[int(asker) - 1].replace(" ", "")
            to = f"@{handle} " if talks % 3 == 2 else ""
            say(top, answerer, to + reply.format(answer(rng, person, second, value)))
            if talks % 4 == 2:
                say(top, asker, rng.choice(("Thank you!", "Thanks. That is all there is to ask.")))
        talks += 1
    return list(reversed(rows))


def _well_answered(posts: _Posts, asked: list[tuple[Person, str]]) -> list[tuple[dict[str, str], dict[str, str], Person, str]]:
    """(question, its top answer, whom and what it asks about) of the questions about facts whose top answer has no fault."""
    questions = [row for row in posts.rows if row["PostTypeId"] == "1"][: len(asked)]
    found = []
    for i, (question, (person, kind)) in enumerate(zip(questions, asked, strict=True)):
        answers = [row for row in posts.rows if row.get("ParentId") == question["Id"]]
        if i % 40 not in _FAULTS and answers:
            found.append((question, max(answers, key=lambda row: int(row["Score"])), person, kind))
    return found


def _write_xml(path: Path, root: str, rows: list[dict[str, str]], community: Community) -> None:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{root}>"]
    for row in rows:
        attributes = (f'{key}="{escape(value, {chr(34): "&quot;", chr(10): "&#xA;"})}"' for key, value in row.items())
        lines.append(f"  <row {' '.join(attributes)} />")
    text = community.newline.join([*lines, f"</{root}>", ""])
    with atomic_file(path) as file:
        file.write((b"\xef\xbb\xbf" if community.bom else b"") + text.encode())
