"""Defects that show in one row: what cleaning lost or left, and what the style rules should have kept out.

An error is sure. What good text may hold too is a warning, and what a kind of source may hold by its nature (a story says "I") is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..records import Turn
from .finding import Finding, Level
from .rules import broken_rules, fences, folded, prose, without_code

BOUNDS = (1200, 4096)  # characters of a Stack Exchange answer (paper, section 2.1)

_SPAN = re.compile(r"(?<!`)(`+)(?!`)(\s*)(?<!`)\1(?!`)")  # with nothing between
_ANY_SPAN = re.compile(r"(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_TWO_TICKS = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=\())``(?=[\s.,;:!?)]|$)")
_TAG = re.compile(
    r"<(/?)(a|abbr|b|blockquote|br|code|dd|del|div|dl|dt|em|font|h[1-6]|hr|i|img|kbd|li|ol|p|pre|q|s|script|span|strike|strong|style|sub|sup|table"
    r"|tbody|td|th|thead|tr|u|ul)(\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|ndash|mdash|hellip|[lr][sd]quo|copy|times|deg|#\d{2,6}|#[xX][0-9a-fA-F]{2,5});")
_LINK = re.compile(r"https?://[^\s<>\"')\]]+|\bwww\.[\w-]+\.[a-z]{2,}|\]\([^()\s]+\)")
# UTF-8 read as Windows-1252: "donâ€™t", "cafÃ©", "Â "
_LATER = "\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
_MOJIBAKE = re.compile(rf"[\u00c2\u00c3][{_LATER}]|\u00e2[{_LATER}]{{2}}|\u00f0[{_LATER}]{{3}}|\u00ef\u00bb\u00bf")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\ufffe\uffff]")
_UNSEEN = re.compile(r"[\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
_SPECIAL = re.compile(r"<\|[a-z][\w-]{1,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\uff5c[^<>]{1,40}\uff5c>")
_EDIT = re.compile(r"^\W{0,6}(?:EDIT|Edit|UPDATE|Update|PS EDIT)(?:\s?#?\d{1,2})?\W{0,4}:", re.MULTILINE)
_THIS_ARTICLE = re.compile(r"\b[Tt]his\s(?:wikiHow|(?:\w+\s)?article)\b|\b[Ii]n\sthis\sarticle\b|\bthe\sarticle\s(?:above|below)\b")
_WIKIHOW = re.compile(r"\bwikihow\b", re.IGNORECASE)
_SAYS = {"first_person": "the author speaks of themself", "cites_other_answers": "refers to other answers or people on the page", "names_site": "speaks of the site"}  # fmt: skip


def excerpt(text: str, start: int, end: int, around: int = 30) -> str:
    """What is found with a little on both sides, on one line."""
    before, after = text[max(0, start - around) : start], text[end : end + around]
    lead, tail = "…" if start > around else "", "…" if end + around < len(text) else ""
    return lead + " ".join(f"{before}{text[start : min(end, start + 80)]}{after}".split()) + tail


def row_findings(turns: tuple[Turn, ...], kind: str, bounds: tuple[int, int] | None) -> Iterator[Finding]:
    """What speaks against one row, each rule once, at the first place. `kind` is its source's ("" unknown), `bounds` None: not to be checked."""
    seen: set[str] = set()
    for n, turn in enumerate(turns, start=1):
        name = f"turn {n}" if len(turns) > 2 else {"user": "the prompt", "assistant": "the response"}[turn.role]
        for rule, level, what, at, end in _of_text(turn.text, kind, turn.role == "assistant"):
            if rule not in seen:
                seen.add(rule)
                yield Finding(rule, level, name, f"{name}: {what}", excerpt(turn.text, at, end))
    if turns[-1].role == "assistant":
        text = turns[-1].text
        if bounds is not None and not bounds[0] <= len(text) <= bounds[1]:
            what = f"the response has {len(text):,} characters, outside {bounds[0]:,} to {bounds[1]:,}"
            yield Finding("outside_bounds", "error", "the response", what)
        if len(turns) == 2 and folded(text) == folded(turns[0].text):
            yield Finding("echo", "warning", "the response", "the response repeats the prompt", text[:80])


Found = tuple[str, Level, str, int, int]  # rule, level, message, from where to where in the text


def _of_text(text: str, kind: str, answer: bool) -> Iterator[Found]:
    yield from _of_code(text)
    yield from _of_characters(text)
    yield from _of_markup(text, kind, answer)
    if answer:
        yield from _of_voice(text, kind)


def _of_code(text: str) -> Iterator[Found]:
    if "```" in text or "~~~" in text:
        lines = text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        for first, last in fences(text):
            if last is not None and not "".join(lines[first + 1 : last]).strip(" \t\r>"):
                yield "emptied_code", "error", "a code block with nothing in it", starts[first], starts[last + 1] - 1
            elif last is None and set(mark := lines[first].strip(" \t>*+-")) in ({"`"}, {"~"}) and len(mark) >= 6:
                yield "emptied_code", "error", "a code block with nothing in it", starts[first], starts[first + 1] - 1
            elif last is None:
                yield "unclosed_fence", "error", "a code fence that is never closed", starts[first], starts[first + 1] - 1
    if "``" in text or "` " in text:
        yield from _emptied_spans(text)


def _emptied_spans(text: str) -> Iterator[Found]:
    """Spans of code with nothing in them. Spans that hold something go first, so that what stands between two of them is not taken for one."""
    rest = _ANY_SPAN.sub(lambda span: span[0] if not span[0].strip("` \n") else "x" * len(span[0]), text)
    for span in _SPAN.finditer(rest):
        if "\n" not in span[2]:
            level: Level = "error" if len(span[1]) > 2 else "warning"
            yield "emptied_code", level, "code with nothing in it", span.start(), span.end()
    for ticks in _TWO_TICKS.finditer(rest):
        yield "emptied_code", "warning", "two backticks with nothing between", ticks.start(), ticks.end()


def _of_characters(text: str) -> Iterator[Found]:
    if (at := text.find("\ufffd")) >= 0:
        yield "replacement_character", "error", "a character that was lost (U+FFFD)", at, at + 1
    if found := _CONTROL.search(text):
        mark = ord(found[0])
        if mark == 0x0D:
            yield (
                "carriage_return",
                "warning",
                "lines end with a carriage return; the model would learn to write it",
                found.start(),
                found.end(),
            )
        else:
            yield "control_character", "error", f"a control character (U+{mark:04X})", found.start(), found.end()
    if not text.isascii():
        if found := next((m for m in _MOJIBAKE.finditer(text) if _was_utf8(m[0])), None):
            what = f"UTF-8 that was read as another encoding: {found[0]!r} was {_was_utf8(found[0])!r}"
            yield "mojibake", "error", what, found.start(), found.end()
        if found := _UNSEEN.search(text):
            yield "unseen_character", "warning", f"a character that nobody sees (U+{ord(found[0]):04X})", found.start(), found.end()


def _was_utf8(text: str) -> str | None:
    try:
        raw = b"".join(c.encode("cp1252") if ord(c) not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([ord(c)]) for c in text)
        return raw.decode()
    except UnicodeError:
        return None


def _of_markup(text: str, kind: str, answer: bool) -> Iterator[Found]:
    for found in _SPECIAL.finditer(text):
        sure = found[0] not in ("<s>", "</s>", "[INST]", "[/INST]")
        yield "special_token", "error" if sure else "warning", f"the string of a special token, {found[0]}", found.start(), found.end()
    if not ("<" in text or "&" in text or "://" in text or "www." in text or "](" in text):
        return
    plain = without_code(text)
    opened: set[str] = set()
    for tag in _TAG.finditer(plain):
        name = tag[2].lower()
        if (tag[3] and "=" in tag[3]) or (tag[1] and name in opened):
            yield "html_left", "error", f"a tag of HTML, {tag[0][:40]}", *_place(text, tag[0])
            break
        opened.add(name)
    else:
        if first := _TAG.search(plain):
            yield "html_left", "warning", f"what may be a tag of HTML, {first[0]}", *_place(text, first[0])
    if entity := _ENTITY.search(plain):
        yield "entity_left", "error", f"an entity of HTML, {entity[0]}", *_place(text, entity[0])
    cleaned = kind in ("stackexchange", "wikihow")  # whose links curate removes
    if (cleaned or answer) and (link := _LINK.search(plain)):
        yield "link_left", "error" if cleaned else "warning", "an address", *_place(text, link[0])


def _place(text: str, found: str) -> tuple[int, int]:
    """Where in the text stands what was found in a part of it; code that holds the same may come first, and then an excerpt shows that."""
    at = max(text.find(found), 0)
    return at, at + len(found)


def _of_voice(text: str, kind: str) -> Iterator[Found]:
    if kind in ("", "stackexchange"):
        for rule, words in broken_rules(text, list(_SAYS)):
            yield rule, "error" if kind else "warning", f"{_SAYS[rule]}: {words!r}", *_place(text, words)
    if kind in ("", "wikihow") and (found := _THIS_ARTICLE.search(prose(text))):
        yield "this_article", "error" if kind else "warning", f"speaks of the page it comes from: {found[0]!r}", *_place(text, found[0])
    if found := _WIKIHOW.search(text):
        yield "names_wikihow", "error" if kind == "wikihow" else "warning", "names wikiHow", found.start(), found.end()
    if found := _EDIT.search(text):
        yield "edit_note", "warning", "a note about a later edit", found.start(), found.end()
    if text.rstrip().endswith(":"):
        at = len(text.rstrip())
        yield "announces_nothing", "warning", "ends with a colon: what it announces is not there", at - 1, at
