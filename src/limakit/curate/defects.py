"""Defects that show in one row: what cleaning lost or left, and what the style rules should have kept out.

An error is sure. What good text may hold too is a warning, and what a kind of source may hold by its nature (a story says "I") is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..records import Turn
from .finding import Finding, Level
from .rules import broken_rules, fences, first_person, folded, prose, without_code

BOUNDS = (1200, 4096)  # characters of a Stack Exchange answer (paper, section 2.1)

_SPAN = re.compile(r"(?<!`)(`+)(?!`)(\s*)(?<!`)\1(?!`)")  # with nothing between
_ANY_SPAN = re.compile(r"(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_TWO_TICKS = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=\())``(?=[\s.,;:!?)]|$)")
_BETWEEN_TWO = re.compile(r"(?:(?<=\s)|(?<=^)|(?<=\())``\s[^`\n]*+(?<=\s)``(?=[\s.,;:!?)]|$)")  # "`` to list and `` to go on": two, not one
_FOUR_TICKS = re.compile(r"^[ \t>]{0,8}````[ \t]*$", re.MULTILINE)
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
_THIS_ARTICLE = re.compile(r"(?<![^\W_])this[*_]{0,3}\s[*_]{0,3}(?:wikihow|(?:\w+\s)?article(?!\sof))(?![^\W_])|\bthe\sarticle\s(?:above|below)\b", re.IGNORECASE)  # fmt: skip
# who speaks of markup, of tokens or of a character writes it
_MARKUP = re.compile(r"\b(?:x?html|xml|svg|jsx|entit(?:y|ies)|tags?|elements?|escap\w+|ampersands?|encod\w+|markup|browsers?|less[- ]than|greater[- ]than|non-breaking)\b", re.IGNORECASE)  # fmt: skip
_TOKENS = re.compile(r"\btoken\w*|\b(?:special|marker|delimiter|sentinel|language models?|LLMs?|vocabulary)\b", re.IGNORECASE)
_LOST_IS_MEANT = re.compile(r"U\+FFFD|\breplacement character\b|[\"'“‘(`]\ufffd{1,3}[\"'”’)`]", re.IGNORECASE)
# a capitalised word and "I", which may be a numeral; not one that begins a sentence in which somebody speaks
_MAY_BE_ONE = re.compile(r"\b(?!(?:Should|Can|Could|May|Might|Must|Shall|Will|Would|Do|Did|Does|Am|Was|Were|Have|Had|Has|So|Then|But|And|If|When|While|As|Since|Because|That|What|How|Why|Where|Who|Which|Or|Nor|Than|Like|Yes|No|Not|Only|After|Before|Although|Though|Once|Until|Here|There|Now|Today|Yesterday|Usually|Personally|Sometimes|Also|However|Well|Sorry|Hi|Hello|Yeah|Maybe|Perhaps|Everything|All)\b)[A-Z][a-z]+\sI\b(?!['’])")  # fmt: skip
_MAY_BE_MEANT = re.compile(r"@|(?i:accepted|another|other|earlier|all\sthe)\b")  # of what cites: "@Override", "another answer is 3"
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
            elif last is None and _FOUR_TICKS.fullmatch(lines[first]):
                yield "emptied_code", "warning", "four backticks with nothing between", starts[first], starts[first + 1] - 1
            elif last is None:
                yield "unclosed_fence", "error", "a code fence that is never closed", starts[first], starts[first + 1] - 1
    if "``" in text or "` " in text:
        yield from _emptied_spans(text)


def _emptied_spans(text: str) -> Iterator[Found]:
    """Spans of code with nothing in them. Spans that hold something go first, so that what stands between two of them is not taken for one."""
    for pair in _BETWEEN_TWO.finditer(text):
        yield "emptied_code", "warning", "two backticks with nothing between, and again", pair.start(), pair.end()
    rest = _ANY_SPAN.sub(lambda span: span[0] if not span[0].strip("` \n") else "x" * len(span[0]), text)
    for span in _SPAN.finditer(rest):
        if "\n" not in span[2]:
            level: Level = "error" if len(span[1]) > 2 else "warning"
            yield "emptied_code", level, "code with nothing in it", span.start(), span.end()
    for ticks in _TWO_TICKS.finditer(rest):
        yield "emptied_code", "warning", "two backticks with nothing between", ticks.start(), ticks.end()


def _of_characters(text: str) -> Iterator[Found]:
    if (at := text.find("\ufffd")) >= 0:
        meant: Level = "warning" if _LOST_IS_MEANT.search(text) else "error"
        yield "replacement_character", meant, "a character that was lost (U+FFFD)", at, at + 1
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
        sure = found[0] not in ("<s>", "</s>", "[INST]", "[/INST]") and not _TOKENS.search(text) and found[0] in without_code(text)
        yield "special_token", "error" if sure else "warning", f"the string of a special token, {found[0]}", found.start(), found.end()
    if not ("<" in text or "&" in text or "://" in text or "www." in text or "](" in text):
        return
    plain = without_code(text)
    meant = _MARKUP.search(_TAG.sub(" ", plain)) is not None
    opened: dict[str, int] = {}  # where what it encloses begins
    for tag in _TAG.finditer(plain):
        name = tag[2].lower()
        if not meant and ((tag[3] and "=" in tag[3]) or (tag[1] and name in opened and _encloses(plain, opened[name], tag.start()))):
            yield "html_left", "error", f"a tag of HTML, {tag[0][:40]}", *_place(text, tag[0])
            break
        opened[name] = tag.end()
    else:
        if first := _TAG.search(plain):
            yield "html_left", "warning", f"what may be a tag of HTML, {first[0][:40]}", *_place(text, first[0])
    if entity := _ENTITY.search(plain):
        yield "entity_left", "warning" if meant else "error", f"an entity of HTML, {entity[0]}", *_place(text, entity[0])
    cleaned = kind in ("stackexchange", "wikihow")  # whose links curate removes
    if (cleaned or answer) and (link := _LINK.search(_TAG.sub(" ", plain))):
        yield "link_left", "error" if cleaned else "warning", "an address", *_place(text, link[0])


def _encloses(text: str, start: int, end: int) -> bool:
    """Whether two tags enclose what is between them, <b>it</b>, and are not two that are spoken of, as "between <b> and </b>" is."""
    return start < end and (end - start > 60 or not (text[start].isspace() or text[end - 1].isspace()))


def _place(text: str, found: str) -> tuple[int, int]:
    """Where in the text stands what was found in a part of it; code that holds the same may come first, and then an excerpt shows that."""
    words = re.search(rf"(?<!\w){re.escape(found)}(?!\w)", text)  # an "I" is no part of "It"
    at = words.start() if words else max(text.find(found), 0)
    return at, at + len(found)


def _of_voice(text: str, kind: str) -> Iterator[Found]:
    if kind in ("", "stackexchange"):
        for rule, words in broken_rules(text, list(_SAYS)):
            yield rule, "error" if kind and _surely(rule, words, text) else "warning", f"{_SAYS[rule]}: {words!r}", *_place(text, words)
    if kind in ("", "wikihow") and (found := _THIS_ARTICLE.search(voice := prose(text))):
        sure = kind == "wikihow"
        if sure or not voice[: found.start()].rstrip("*_").casefold().endswith("in "):  # which an article on articles says, and an essay
            yield "this_article", "error" if sure else "warning", f"speaks of the page it comes from: {found[0]!r}", *_place(text, found[0])
    if found := _WIKIHOW.search(text):
        yield "names_wikihow", "error" if kind == "wikihow" else "warning", "names wikiHow", found.start(), found.end()
    if found := _EDIT.search(text):
        yield "edit_note", "warning", "a note about a later edit", found.start(), found.end()
    if text.rstrip().endswith(":"):
        at = len(text.rstrip())
        yield "announces_nothing", "warning", "ends with a colon: what it announces is not there", at - 1, at


def _surely(rule: str, words: str, text: str) -> bool:
    """Whether the words that break a rule can mean nothing else."""
    if rule == "first_person":
        return first_person(_MAY_BE_ONE.sub(" ", text)) is not None
    return rule != "cites_other_answers" or not _MAY_BE_MEANT.match(words) or bool(re.match(r"(?i)other answers", words))
