"""What shows only between rows: prompts that are trained on and tested with, copies, and dialogues cut into pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..progress import track
from .decontaminate import Guard
from .defects import excerpt
from .duplicates import COPY_CHARS, Near, NearIndex, Sketch, digest_folded, sketch_words, word_hashes, words_folded
from .entries import Entry
from .finding import Finding, Level
from .rules import folded

NEAR, RUN = 0.8, 13  # as the recipe's defaults: Jaccard similarity of five-word runs, words in a row
_SHARES = {
    "prompt": "its prompt is also that of",
    "near": "its prompt is nearly that of",
    "reference": "its response is the reference of",
    "ngram": "it shares a run of words with",
}
Name = Callable[[Entry], str]  # how messages call a row: "test.jsonl, row 3"

# How a prompt begins that goes on with what was said before: nobody begins so ...
_GOES_ON = re.compile(
    r"""(?:thanks|thank\syou|thx|i\ssee|got\sit|sounds\sgood|(?:that|it)\smakes\ssense|makes\ssense)\b(?=\s*[,.!:;—-])
    | (?:thanks|thank\syou)\s(?:for|so|very|a\slot|again|that|this|it)\b
    | as\syou\s(?:just\s|also\s)?(?:said|say|mentioned|wrote|told|suggested|suggest|recommended|recommend)\b
    | you\s(?:just\s|also\s)?(?:said|mentioned|wrote|told|suggested|recommended)\b
    | (?:in|on)\syour\s(?:answer|response|example|last|first|second|previous)\b
    | why\s(?:that|not)\W*$ | (?:please\s)?(?:continue|go\son|keep\sgoing|tell\sme\smore|say\smore|elaborate)\W*$
    | (?:can|could)\syou\s(?:please\s)?(?:elaborate|expand\son\s(?:that|it)|explain\s(?:that|it)|clarify\s(?:that|it)
        |(?:rephrase|rewrite|shorten|summari[sz]e|repeat)\s(?:that|it|your\s(?:answer|response|last))|give\sme\s(?:more|another|an?\sexample))\W*$
    | (?:make|rewrite|rephrase|shorten|translate)\s(?:it|that)\b(?!\s(?:is|are|was))
    | your\s(?:first|second|third|last)\s(?:one|point|step|option|item|example|suggestion)\b""",
    re.VERBOSE | re.IGNORECASE,
)
# ... and so somebody may begin; it takes another sign
_MAY_GO_ON = re.compile(
    r"""(?:great|perfect|awesome|cool|wow|ok(?:ay)?|right|hmm|interesting)\b(?=\s*[,.!:;—-])
    | (?:and|but|so|then)\s(?:what|how|why|which|where|when|who|is|are|can|could|do|does|should|would|if|the\sother|after|before)\b
    | (?:what|how)\sabout\b | (?:what|and)\sif\s(?:that|it|they|this)\b | in\sthat\scase\b
    | (?:why|how)\s(?:is|does|do|did|would|can)\s(?:that|they)\b | which\s(?:one\b(?!\sof)|of\s(?:them|these|those)\b)
    | (?:is|are|does|do|can|will|would)\s(?:they|that)\b | turn\s(?:it|that|them)\b | the\s(?:first|second|third|last)\s(?:one|option)\b
    | (?:can|could)\syou\s(?:please\s)?(?:explain|make|expand\son)\s(?:it|that)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_LEANS = re.compile(r"\b(?:it|that|they|them|those|these|ones?|instead|too|either|then|else|otherwise|before|above)\W*$", re.IGNORECASE)
_PAUSE = re.compile(r"[,.!?:;—]\s")  # before it may stand what "it" is
_SHORT = 80  # characters of a prompt whose last word alone shows that it leans on something
_TOPIC = re.compile(r"[^\W\d_]{5,}")
_NO_TOPIC = frozenset(
    re.findall(
        r"\w+",
        "about after again being below could doing every first going makes might never often other people really second shall should since some something "
        "still their there these thing things think those through under until using where whether which while without would between different difference "
        "explain write example",
    )
)
# line by line, and little before the name: a pattern that may run over line ends takes time that grows with the square of a text
_ROLES = tuple(re.compile(rf"^[^\w\n]{{0,6}}(?:{who})[^\w\n]{{0,4}}:", re.MULTILINE | re.IGNORECASE) for who in ("user|human|question", "assistant|bot|ai"))  # fmt: skip
_LONGEST = 400  # characters of a prompt that goes on; longer ones bring their own context


def kin_findings(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    """Each row that has to do with another: at most one finding about held-out prompts, one about copies and one about cut dialogues.

    A row that surely leaks has to go, so that it is a copy of another is not told.
    """
    leaking: set[tuple[int, int]] = set()
    for entry, finding in _leaks(entries, name):
        if finding.level == "error":
            leaking.add((entry.file, entry.row))
        yield entry, finding
    for entry, finding in _copies(entries, name):
        if finding.rule == "flattened_dialogue" or (entry.file, entry.row) not in leaking:
            yield entry, finding


def _copies(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    yield from _within_train([e for e in entries if e.split == "train"], name)
    for split in ("dev", "test"):
        yield from _copies_of_prompts([e for e in entries if e.split == split], name)


def _leaks(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    """Rows of train that hold something of dev or test, and of dev something of test, as `decontaminate.Guard` sees it."""
    guard = Guard(near=NEAR, ngram=RUN)
    held = [entry for entry in entries if entry.split != "train"]
    for entry in held:
        guard.add("test" if entry.split == "test" else "dev", name(entry), entry.turns, entry.reference)
    asked = [entry for entry in entries if entry.split != "test"] if held else []
    for entry in track(asked, "lint: compare with held-out prompts", len(asked), "rows"):
        if problem := guard.problem(entry.turns, entry.split):
            rule, detail = problem
            level: Level = "warning" if rule.startswith("ngram") else "error"
            yield (
                entry,
                Finding(
                    rule, level, "the row", f"{_SHARES[rule.rpartition('_')[0].removesuffix('_in')]} {detail}", entry.turns[0].text[:80]
                ),
            )


@dataclass
class _Seen:
    """What earlier rows hold: digest -> the first row that has it."""

    rows: dict[bytes, Entry] = field(default_factory=dict)
    prompts: dict[bytes, Entry] = field(default_factory=dict)
    responses: dict[bytes, Entry] = field(default_factory=dict)
    near_prompts: NearIndex = field(default_factory=lambda: NearIndex(NEAR))
    near_responses: NearIndex = field(default_factory=lambda: NearIndex(NEAR))


Folded = tuple[str, ...]  # the turns of an entry as `rules.folded` makes them


def _within_train(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    turns: list[Folded] = [tuple(folded(turn.text) for turn in entry.turns) for entry in entries]
    parts = {key: (e, n) for e, said in zip(entries, turns, strict=True) if len(said) > 2 for key, n in _parts(said)}
    cut: set[int] = set()
    for i, entry in enumerate(entries):
        of, n = parts.get(_whole(turns[i]), (entry, 0))
        if n:
            cut.add(i)
            what = f"is exchange {n} of the dialogue in {name(of)}" if n > 0 else f"is the beginning of the dialogue in {name(of)}"
            yield entry, Finding("flattened_dialogue", "error", "the row", f"{what}: one dialogue, several rows", entry.turns[0].text[:80])
    for i in range(1, len(entries)):
        one, two = entries[i - 1], entries[i]
        if one.file == two.file and one.source == two.source and i not in cut and (problem := _goes_on(two, turns[i - 1], turns[i])):
            cut.add(i)
            level, what, quoted = problem
            yield two, Finding("flattened_dialogue", level, "the prompt", what.format(row=name(one)), quoted)
    seen = _Seen()
    for i, entry in enumerate(track(entries, "lint: look for copies", len(entries), "rows")):
        finding = _copy(entry, turns[i], seen, name)
        if finding and i not in cut:
            yield entry, finding


def _whole(turns: Folded) -> bytes:
    return digest_folded("\x1e".join(turns))


def _parts(turns: Folded) -> Iterator[tuple[bytes, int]]:
    """(digest, n) of what a dialogue could be cut into: its exchanges, numbered, and its beginnings (-1)."""
    for end in range(2, len(turns), 2):
        yield _whole(turns[:end]), -1
    for start in range(2, len(turns) - 1, 2):
        yield _whole(turns[start : start + 2]), start // 2 + 1


def _goes_on(entry: Entry, before: Folded, turns: Folded) -> tuple[Level, str, str] | None:
    """Whether a row's prompt goes on with the row before it: (level, message with {row} in it, excerpt)."""
    prompt = entry.turns[0].text
    # a response that its own prompt holds (a text to correct) says nothing about the next row
    if len(before[-1]) >= 60 and before[-1] in turns[0] and before[-1] not in before[0]:
        return "error", "its prompt holds the whole response of {row}: one dialogue, several rows", prompt[:80]
    if all(role.search(prompt) for role in _ROLES):
        return "warning", "its prompt holds a dialogue written out, with who speaks", prompt[:80]
    if len(prompt) > _LONGEST:
        return None
    begins = prompt.lstrip(" \n\"'*")
    found = _GOES_ON.match(begins)
    if not found and (found := _MAY_GO_ON.match(begins)):
        rest = begins[found.end() :].strip(" ,.!?:;—-\n")
        leans = len(prompt) <= _SHORT and not _PAUSE.search(rest) and _LEANS.search(f"{found[0]} {rest}")
        if not leans and not _topics(prompt) & _topics(before[0]):
            return None
    if found:
        return "warning", f"its prompt begins with {found[0]!r}, as if it went on with {{row}}", excerpt(prompt, 0, 40)
    return None


def _topics(text: str) -> set[str]:
    """The first six letters of the longer words."""
    return {word[:6] for word in _TOPIC.findall(text.casefold()) if word not in _NO_TOPIC}


def _copy(entry: Entry, turns: Folded, seen: _Seen, name: Name) -> Finding | None:
    """What an earlier row has too; the row is noted in `seen`."""
    asked, answer = turns[::2], turns[-1]
    row, prompt, response = _whole(turns), digest_folded("\n".join(asked)), digest_folded(answer)
    begins, answered = entry.turns[0].text[:80], entry.turns[-1].text[:80]
    if other := seen.rows.get(row):
        return Finding("duplicate_row", "error", "the row", f"the same as {name(other)}", begins)
    seen.rows[row] = entry
    long = len(answer) >= COPY_CHARS
    asks, answers = _sketch(" ".join(asked)), _sketch(answer) if long else None
    near_prompt, near_response = seen.near_prompts.near(asks), seen.near_responses.near(answers) if answers is not None else None
    finding = None
    if other := seen.prompts.get(prompt):
        finding = Finding("duplicate_prompt", "error", "the prompt", f"its prompt is also that of {name(other)}", begins)
    elif long and (other := seen.responses.get(response)):
        finding = Finding("duplicate_response", "error", "the response", f"its response is also that of {name(other)}", answered)
    elif near_prompt:
        finding = Finding("near_duplicate", "warning", "the prompt", _nearly("prompt", near_prompt), begins)
    elif near_response:
        finding = Finding("near_duplicate", "warning", "the response", _nearly("response", near_response), answered)
    seen.prompts.setdefault(prompt, entry)
    if not near_prompt:  # what is nearly a copy is found by what it copies; thousands of them would each be compared with all the others
        seen.near_prompts.add(name(entry), asks)
    if answers is not None:
        seen.responses.setdefault(response, entry)
        if not near_response:
            seen.near_responses.add(name(entry), answers)
    return finding


def _sketch(text: str) -> Sketch:
    return sketch_words(word_hashes(words_folded(text)))


def _nearly(part: str, near: Near) -> str:
    return f"its {part} is nearly that of {near.id} ({near.jaccard:.0%} of their runs of five words are shared)"


def _copies_of_prompts(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    """Held-out prompts that are there twice: they would count twice."""
    seen: dict[bytes, Entry] = {}
    near = NearIndex(NEAR)
    for entry in entries:
        asked = [folded(turn.text) for turn in entry.turns if turn.role == "user"]
        key, sketched, begins = digest_folded("\n".join(asked)), _sketch(" ".join(asked)), entry.turns[0].text[:80]
        if other := seen.get(key):
            yield entry, Finding("duplicate_prompt", "error", "the prompt", f"its prompt is also that of {name(other)}", begins)
            continue
        if close := near.near(sketched):
            yield entry, Finding("near_duplicate", "warning", "the prompt", _nearly("prompt", close), begins)
        else:
            near.add(name(entry), sketched)
        seen[key] = entry
