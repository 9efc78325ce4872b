"""Does a response have the structure that its prompt demands? (paper, appendix E: examples with structural constraints)

A constraint is what `format:` says in an authored file, in a few words: "numbered list", "5 bullets", "at most 80 words", "table", "json",
"2 paragraphs, at least 3 sentences". Clauses are parted by commas, semicolons or "and"; one that is not understood is for people to check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .rules import without_code

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NUMBERS = {word: n for n, word in enumerate(_WORDS, start=1)}
_CLAUSE = re.compile(
    rf"""(?:(?:in|as|with|of|a|an|the|form|exactly)\s+)*
    (?:(?P<bound>at\s+most|no\s+more\s+than|up\s+to|at\s+least|no\s+fewer\s+than)\s+)?
    (?:(?P<n>\d+|{"|".join(_NUMBERS)})[\s-]+)?(?:short\s+|brief\s+|markdown\s+)?
    (?P<what>bullet(?:ed|s)?(?:[\s-]+(?:list|points?))?|numbered(?:[\s-]+(?:list|steps|items))?|steps?|items?|points?|list|tables?|json(?:\s+object)?|code(?:\s+block)?
        |headings?|sections?|paragraphs?|sentences?|words?|lines?)""",
    re.VERBOSE,
)


def format_problem(constraint: str, response: str) -> str | None:
    """What is missing of a constraint, in a few words, or None: it is kept, as far as it can be checked."""
    for clause in _clauses(constraint):
        if clause is not None and (problem := _missing(clause, response)):
            return problem
    return None


def _clauses(constraint: str) -> list[re.Match[str] | None]:
    parts = (part.strip().casefold() for part in re.split(r"[,;]|\band\b", constraint))
    return [_CLAUSE.fullmatch(part) for part in parts if part]


def _missing(clause: re.Match[str], response: str) -> str | None:
    what = clause["what"]
    if what.startswith("json"):
        return None if _is_json(response) else "it is no JSON"
    found = next(count(response) for start, count in _COUNTS if what.startswith(start))
    if clause["n"] is None:
        return None if found else f"it has no {what}"
    wanted = _NUMBERS.get(clause["n"]) or int(clause["n"])
    bound = re.sub(r"\s+", " ", clause["bound"] or "")
    if bound in ("at most", "no more than", "up to"):
        kept = found <= wanted
    elif bound:
        kept = found >= wanted
    elif what.startswith("word"):
        kept = abs(found - wanted) <= wanted / 10  # "100 words" is meant roughly
    elif what.startswith("paragraph"):
        kept = found in (wanted, wanted + 1)  # the acknowledgment may stand for itself
    else:
        kept = found == wanted
    return None if kept else f"it has {found:,} {what if what.endswith(('s', 'list')) else what + 's'}, not {clause[0]}"


def _is_json(response: str) -> bool:
    """The response, or the one code block in it, is a JSON object or array."""
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", response)
    text = blocks[0] if len(blocks) == 1 else response
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


def _items(pattern: str) -> Callable[[str], int]:
    marker = re.compile(rf"^([ \t]*)(?:{pattern})[ \t]+\S", re.MULTILINE)

    def count(response: str) -> int:
        """Items of the outermost level."""
        depths = [len(found[1].expandtabs(4)) for found in marker.finditer(without_code(response))]
        outer = min(depths, default=0)
        return sum(depth < outer + 2 for depth in depths)

    return count


def _tables(response: str) -> int:
    return len(re.findall(r"(?m)^[^|\n]*\|.*\n[ \t]*\|?[ \t]*:?-{2,}:?[ \t]*\|[-:| \t]*$", response))


def _paragraphs(response: str) -> int:
    blocks = re.split(r"\n[ \t]*\n", without_code(response).strip())
    return sum(bool(block.strip()) and not re.match(r"\s*(?:#|[-*+•][ \t]|\d+[.)][ \t]|\|)", block) for block in blocks)


def _sentences(response: str) -> int:
    text = re.sub(r"\b(?:e\.g|i\.e|etc|Mr|Mrs|Ms|Dr|vs|St)\.", "x", without_code(response)).rstrip()
    ends = [found.end() for found in _END.finditer(text)]
    return len(ends) + (len(text) > (ends[-1] if ends else 0))  # the last may have no stop


_END = re.compile(r"(?<![.!?])[.!?]++[\"”’')\]*_]*(?:\s|$)")


def _headings(response: str) -> int:
    """Markdown headings, and lines that are bold as a whole."""
    return len(re.findall(r"(?m)^(?:#{1,6}[ \t]+\S.*|\*\*[^*\n]+\*\*:?|\S[^\n]*\n[=-]{3,})[ \t]*$", without_code(response)))


_BULLETS, _NUMBERED = _items(r"[-*+•]"), _items(r"\d+[.)]")


def _list_items(response: str) -> int:
    return _NUMBERED(response) or _BULLETS(response)


_COUNTS: tuple[tuple[str, Callable[[str], int]], ...] = (
    ("bullet", _BULLETS),
    ("numbered", _NUMBERED),
    ("step", _list_items),
    ("item", _list_items),
    ("point", _list_items),
    ("list", _list_items),
    ("table", _tables),
    ("code", lambda response: len(re.findall(r"(?m)^[ \t]*(?:```|~~~)", response)) // 2),
    ("heading", _headings),
    ("section", _headings),
    ("paragraph", _paragraphs),
    ("sentence", _sentences),
    ("word", lambda response: len(response.split())),
    ("line", lambda response: sum(bool(line.strip()) for line in response.split("\n"))),
)
