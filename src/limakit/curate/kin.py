"""What shows only between rows: prompts that are trained on and tested with, copies, and dialogues cut into pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..progress import track
from ..records import Turn
from .decontaminate import Guard
from .defects import excerpt
from .duplicates import COPY_CHARS, NearIndex, digest, sketch
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

# How a prompt begins that goes on with what was said before
_GOES_ON = re.compile(
    r"""(?:thanks|thank\syou|thx|great|perfect|awesome|cool|wow|ok(?:ay)?|i\ssee|got\sit|right|hmm|interesting|sounds\sgood|(?:that|it)\smakes\ssense|makes\ssense)\b(?=\s*[,.!:;—-])
    | (?:thanks|thank\syou)\b
    | (?:and|but|so|then)\s(?:what|how|why|which|where|when|who|is|are|can|could|do|does|should|would|if|the\sother|after|before)\b
    | (?:what|how)\sabout\b | (?:what|and)\sif\s(?:that|it|they|this)\b
    | (?:you|as\syou)\s(?:just\s|also\s)?(?:said|say|mentioned|mention|wrote|told|suggested|suggest|recommended|recommend)\b
    | (?:in|on)\syour\s(?:answer|response|example|list|last|first|second|previous|\w+\spoint)\b
    | in\sthat\scase\b | (?:why|how)\s(?:is|does|do|did|would|can)\s(?:that|they)\b | why\s(?:that|not)\b
    | which\s(?:one\b|of\s(?:them|these|those)\b) | (?:is|are|does|do|can|will|would)\s(?:they|that\b(?!\s\w+\s(?:is|are)))
    | (?:please\s)?(?:continue|go\son|keep\sgoing|tell\sme\smore|say\smore|elaborate)\b
    | (?:can|could)\syou\s(?:please\s)?(?:elaborate|expand\son\s(?:that|it|this|the)|explain\s(?:that|it)\b|clarify\s(?:that|it)\b|(?:rephrase|rewrite|shorten|summari[sz]e|repeat)\s(?:that|it|your)\b|make\s(?:it|that)\b|give\sme\s(?:more|another|an?\sexample\W*$))
    | (?:make|rewrite|rephrase|shorten|translate|turn)\s(?:it|that|them)\b
    | (?:the|your)\s(?:first|second|third|last)\s(?:one|point|step|option|item|example)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_ROLES = (re.compile(r"^\W*(?:user|human|question)\W*:", re.MULTILINE | re.IGNORECASE), re.compile(r"^\W*(?:assistant|bot|ai)\W*:", re.MULTILINE | re.IGNORECASE))  # fmt: skip
_LONGEST = 400  # characters of a prompt that goes on; longer ones bring their own context


def kin_findings(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    """Each row that has to do with another: at most one finding about held-out prompts, one about copies and one about cut dialogues."""
    yield from _leaks(entries, name)
    yield from _within_train([e for e in entries if e.split == "train"], name)
    for split in ("dev", "test"):
        yield from _copies_of_prompts([e for e in entries if e.split == split], name)


def said(turns: Sequence[Turn]) -> str:
    """All that the user says."""
    return "\n".join(turn.text for turn in turns if turn.role == "user")


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


def _within_train(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    parts = {key: (e, n) for e in entries if len(e.turns) > 2 for key, n in _parts(e.turns)}
    cut: set[int] = set()
    for i, entry in enumerate(entries):
        of, n = parts.get(_whole(entry.turns), (entry, 0))
        if n:
            cut.add(i)
            what = f"is exchange {n} of the dialogue in {name(of)}" if n > 0 else f"is the beginning of the dialogue in {name(of)}"
            yield entry, Finding("flattened_dialogue", "error", "the row", f"{what}: one dialogue, several rows", entry.turns[0].text[:80])
    for i, (one, two) in enumerate(pairwise(entries), start=1):
        if one.file == two.file and one.source == two.source and i not in cut and (finding := _goes_on(one, two, name)):
            cut.add(i)
            yield two, finding
    seen = _Seen()
    for i, entry in enumerate(track(entries, "lint: look for copies", len(entries), "rows")):
        finding = _copy(entry, seen, name)
        if finding and i not in cut:
            yield entry, finding


def _whole(turns: Sequence[Turn]) -> bytes:
    return digest("\x1e".join(folded(turn.text) for turn in turns))


def _parts(turns: Sequence[Turn]) -> Iterator[tuple[bytes, int]]:
    """(digest, n) of what a dialogue could be cut into: its exchanges, numbered, and its beginnings (-1)."""
    for end in range(2, len(turns), 2):
        yield _whole(turns[:end]), -1
    for start in range(2, len(turns) - 1, 2):
        yield _whole(turns[start : start + 2]), start // 2 + 1


def _goes_on(one: Entry, two: Entry, name: Name) -> Finding | None:
    """Whether a row's prompt goes on with the row before it."""
    prompt, answer = two.turns[0].text, one.turns[-1].text
    if len(answer) >= 60 and folded(answer) in folded(prompt):
        what = f"its prompt holds the whole response of {name(one)}: one dialogue, several rows"
        return Finding("flattened_dialogue", "error", "the prompt", what, prompt[:80])
    if all(role.search(prompt) for role in _ROLES):
        return Finding(
            "flattened_dialogue", "warning", "the prompt", "its prompt holds a dialogue written out, with who speaks", prompt[:80]
        )
    found = _GOES_ON.match(prompt.lstrip(" \n\"'*"))
    if found and len(prompt) <= _LONGEST:
        what = f"its prompt begins with {found[0]!r}, as if it went on with {name(one)}"
        return Finding("flattened_dialogue", "warning", "the prompt", what, excerpt(prompt, 0, 40))
    return None


def _copy(entry: Entry, seen: _Seen, name: Name) -> Finding | None:
    """What an earlier row has too; the row is noted in `seen`."""
    answer = entry.turns[-1].text
    row, prompt, response = _whole(entry.turns), digest(said(entry.turns)), digest(answer)
    long = len(folded(answer)) >= COPY_CHARS
    asks, answers = sketch(said(entry.turns)), sketch(answer) if long else None
    finding = None
    if other := seen.rows.get(row):
        finding = Finding("duplicate_row", "error", "the row", f"the same as {name(other)}", entry.turns[0].text[:80])
    elif other := seen.prompts.get(prompt):
        finding = Finding("duplicate_prompt", "error", "the prompt", f"its prompt is also that of {name(other)}", entry.turns[0].text[:80])
    elif long and (other := seen.responses.get(response)):
        finding = Finding("duplicate_response", "error", "the response", f"its response is also that of {name(other)}", answer[:80])
    else:
        for part, index, text in (("prompt", seen.near_prompts, asks), ("response", seen.near_responses, answers)):
            if text is not None and (near := index.near(text)):
                what = f"its {part} is nearly that of {near.id} ({near.jaccard:.0%} of their runs of five words are shared)"
                finding = Finding(
                    "near_duplicate", "warning", f"the {part}", what, (entry.turns[0].text if part == "prompt" else answer)[:80]
                )
                break
    if row not in seen.rows:
        seen.rows[row] = entry
        seen.prompts.setdefault(prompt, entry)
        seen.near_prompts.add(name(entry), asks)
        if long and answers is not None:
            seen.responses.setdefault(response, entry)
            seen.near_responses.add(name(entry), answers)
    return finding


def _copies_of_prompts(entries: Sequence[Entry], name: Name) -> Iterator[tuple[Entry, Finding]]:
    """Held-out prompts that are there twice: they would count twice."""
    seen: dict[bytes, Entry] = {}
    near = NearIndex(NEAR)
    for entry in entries:
        text = said(entry.turns)
        key, sketched = digest(text), sketch(text)
        if other := seen.get(key):
            yield entry, Finding("duplicate_prompt", "error", "the prompt", f"its prompt is also that of {name(other)}", text[:80])
            continue
        if close := near.near(sketched):
            what = f"its prompt is nearly that of {close.id} ({close.jaccard:.0%} of their runs of five words are shared)"
            yield entry, Finding("near_duplicate", "warning", "the prompt", what, text[:80])
        seen[key] = entry
        near.add(name(entry), sketched)
