"""The paper's style filters as named pure predicates (section 2.1).

A rule takes a response in Markdown and returns the words that break it, or None. Code and quotations are not the author's voice and are
not looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

_FENCE = re.compile(r"[ \t>*+\-\d.)]*+(`{3,}|~{3,})(.*)")
_FENCE_END = re.compile(r"[ \t>]*+(`{3,}|~{3,})[ \t]*")
_BLANK = re.compile(r"\n[ \t]*\n")
_QUOTE_LINE = re.compile(r"^[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)*>.*$", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)(?P<ticks>`+)(?!`)(?:.+?)(?<!`)(?P=ticks)(?!`)", re.DOTALL)
# $I$ and $$I = U/R$$; not the words between two prices
_MATH = re.compile(r"\$\$.+?\$\$|(?<![\\$\w])\$(?!\s)(?![^$\n]*[a-z]{2} [a-z]{2})[^$\n]{1,300}(?<![\s\\])\$(?![\d$])", re.DOTALL)
_QUOTED = re.compile(r"(?<![\w\"])\"[^\"\n]{1,300}\"(?!\w)|“[^”\n]{1,300}”")

# "I" that is no pronoun: I/O, i.e., a numeral after a capitalised noun (looked at only where an I stands, which is quick)
_BEFORE_NUMERALS = re.findall(
    r"\S+",
    "War Type Part part Phase Class Act Article Volume Chapter letter Table Photosystem Title Stage Level Grade Tier Group Section Appendix Schedule "
    "Category Division Complex complex Elizabeth Charles James Henry Edward George William Richard Francis Frederick Nicholas Napoleon Alexander Leopold "
    "Otto Justinian Darius Ptolemy Ferdinand Philip Wilhelm Franz",
)
# ... or after any capitalised word but those that begin a question or a clause, where no verb of somebody who speaks follows
_OPENERS = re.findall(
    r"\S+",
    "Should Can Could May Might Must Shall Will Would Do Did Does Am Was Were Have Had Has So Then But And If When While As Since Because That What "
    "How Why Where Who Which Or Nor Than Like Yes No Not Only Unlike Before After Neither Though Although Once Until",
)
_OPENED = "".join(rf"(?<!\b{word}\sI)" for word in _OPENERS)
_CAPITALISED = "|".join(rf"(?<=\b[A-Z][a-z]{{{n}}}\sI)" for n in range(2, 15))
_NUMERALS = "".join(rf"(?<!\b{word}\sI)" for word in _BEFORE_NUMERALS)
_NUMERALS += rf"(?!(?=\s?(?:[.;:)\]?!,]|$(?!\n[a-z]))|\s(?:is|of|has)\b)(?:{_CAPITALISED}){_OPENED})"
_FIRST_PERSON = re.compile(
    rf"""\bI(?:(?<![./&]I)(?<![^-]-I){_NUMERALS}(?![\w&]|/(?!we\b)|\.\w|-\w)   # also "I/we" and "--I"
        |(?<=[a-z]{{2}}\.I)(?=['’]|\s[a-z]))                             # "so.I think", with the space forgotten
    |(?<!\w\.)\b[Mm]e(?![\w@-]|\.[a-z])                                # not about.me
    |\b(?:[Mm]y|MY|[Mm]yself)(?![\w-]|\.[a-z])
    |(?<!kind\s)(?<!kinds\s)(?<!type\s)(?<!types\s)(?<!sort\s)(?<!number\s)\bof\smine\b          # a gold mine is nobody's voice
    |\b(?:emphasis|italics)\smine\b
    |(?:^|[.,;:!?(—]\s*|\b(?:and|but|while|though|because|since|that)\s)[Mm]ine\s(?:is|are|was|were|has|had|did)\b
    |(?<![\w.'’/=-])i(?:['’](?:m|ve|d|ll)\b
        |\s(?:also\s|just\s|usually\s|always\s|never\s|really\s)?(?:am|was|have|had|do|did|(?:do|did|would|could|ca)n['’]?t|would|could
            |can(?!\sbe)|will|think|thought|guess|believe|know|like|want|need|prefer|see|saw|use|used|tried|found|got|made)\b)""",
    re.VERBOSE | re.MULTILINE,
)

_CITES = re.compile(
    r"""\b(?:(?<!-)OP(?!-|\s(?:amps?|codes?)\b)\b
        |(?i:as\s(?:\w+\s){0,3}?(?:(?:has|have|had|was|were|is|are|been|already)\s)*
            (?:mentioned|pointed\sout|noted|stated|said|suggested|explained)(?!\s(?:in|by|on)\sthe\b)  # "as stated in the manual"
        |(?:other|another|previous|earlier|accepted|above|existing|top[- ]voted|all\sthe)\s(?:\w+\s)?answer(?:s|er|ers)?(?!\s(?:among|amongst|in\sthe\sliterature)\b)
        |answers?\s(?:above|below|here|already|given|provided|posted)
        |(?:in|to|from|see)\s(?:the|a|your|his|her|their)\scomments?(?!\sin\sthe\s(?:source|code|file))
        |(?<!code\s)comments?\s(?:above|below)
        |(?:other|previous|original)\sposters?)\b)
    |(?<=\w)['’]s?\s(?i:(?:excellent|great|good|nice|fine)\s)?(?i:answer|comment)\b
    |(?:^|\s)@(?!(?:Override|Deprecated|Autowired|Test|property|staticmethod|classmethod|dataclass|media|import|param|return|keyframes)\b)
        \w++(?!\s(?:annotation|decorator|directive|rule|attribute|symbol|sign|tag|parameter|macro)s?\b)""",
    re.VERBOSE | re.MULTILINE,
)

_SITE = re.compile(
    r"""\b(?:(?i:stack\s?(?:exchange|overflow|apps)|ask\s?ubuntu|math\s?overflow)|Server\s?Fault|Super\s?User
        |SE\s(?:sites?|networks?|community|communities)|[Oo]n\s(?:the\s)?SE(?!\s(?:Asia|coast|corner|side))
        |[Mm]eta\.\w+|[Tt]his\s(?:site|forum|community|stack|exchange)|(?i:(?:up|down)-?\s?vot(?:e|es|ed|ing)))\b
    |(?<=\w)\.SE\b|\b[A-Z]\w*\.se\b""",
    re.VERBOSE,
)


def prose(markdown: str) -> str:
    """A text without its code (fenced blocks, spans, formulas) and quotations (block quotes, text between double quotation marks).

    A span ends with its paragraph: a stray backtick hides nothing beyond it.
    """
    text = _without_fences(markdown)
    if ">" in text:
        text = _QUOTE_LINE.sub(" ", text)
    paragraphs = _BLANK.split(text)
    for pattern, one, other in ((_SPAN, "`", "`"), (_MATH, "$", "$"), (_QUOTED, '"', "“")):
        if one in text or other in text:  # a pattern is slow to find nothing
            paragraphs = [pattern.sub(" ", part) if one in part or other in part else part for part in paragraphs]
    return "\n\n".join(paragraphs)


def without_code(markdown: str) -> str:
    """A text without its fenced blocks and spans of code; quotations and formulas stay."""
    if "`" not in markdown and "~~~" not in markdown:
        return markdown
    return "\n\n".join(_SPAN.sub(" ", paragraph) for paragraph in _BLANK.split(_without_fences(markdown)))


def fences(markdown: str) -> Iterator[tuple[int, int | None]]:
    """(line, line) of each fenced block's first and last line, from 0; (line, None) for a fence that is never closed, which is text.

    However many there are of those, the lines are gone through a few times only.
    """
    lines, at = markdown.split("\n"), 0
    hopeless = {"`": len(markdown) + 1, "~": len(markdown) + 1}  # fences of this many marks or more are not closed from here on
    while at < len(lines):
        mark = _FENCE.fullmatch(lines[at])
        if mark and not (mark[1][0] == "`" and "`" in mark[2]):
            end = None
            if len(mark[1]) < hopeless[mark[1][0]]:
                ends = ((n, _FENCE_END.fullmatch(lines[n])) for n in range(at + 1, len(lines)))
                end = next((n for n, found in ends if found and found[1].startswith(mark[1])), None)
                if end is None:
                    hopeless[mark[1][0]] = len(mark[1])
            yield at, end
            at = at if end is None else end
        at += 1


def _without_fences(markdown: str) -> str:
    if "```" not in markdown and "~~~" not in markdown:
        return markdown
    lines = markdown.split("\n")
    kept, at = [], 0
    for first, last in fences(markdown):
        if last is not None:
            kept += [*lines[at:first], " "]
            at = last + 1
    return "\n".join(kept + lines[at:])


# What must be in a text for a rule to find anything. A plain search tells it ten times quicker than the patterns, which are asked where it is met.
_VOICE = re.compile(r"\b(?:[Ii]|[Mm](?:e|y(?:self)?|ine)|MY)\b")
_MOST_BEFORE = len("emphasis ")  # what a pattern takes in before the voice, besides white space
_CITING = ("answer", "comment", "poster", "@", "mentioned", "pointed", "noted", "stated", "said", "suggested", "explained")
_NAMING = ("stack", "ubuntu", "overflow", "exchange", "vot", "site", "forum", "communit", "network", "eta.", ".se")
_CLUES = {"cites_other_answers": (("OP",), _CITING), "names_site": (("SE", "Fault", "User"), _NAMING)}  # as it stands, in any case
_ODD_CASE = ("ı", "İ")  # which "i" in any case also means, and which no folding makes an "i"


def _may_break(name: str, text: str) -> bool:
    cased, folded_words = _CLUES[name]
    if any(word in text for word in (*cased, *_ODD_CASE)):
        return True
    text = text.casefold()
    return any(word in text for word in folded_words)


def _found(name: str, prose_only: str) -> re.Match[str] | None:
    """The first words that break a rule, as its pattern finds them in the whole text."""
    if name == "first_person":
        voice = _VOICE.search(prose_only)
        start = len(prose_only[: voice.start()].rstrip()) - _MOST_BEFORE if voice else 0
        return _FIRST_PERSON.search(prose_only, max(start, 0)) if voice else None
    if _may_break(name, prose_only):
        for paragraph in prose_only.split("\n\n"):  # the other patterns take in no empty line, nor look beyond one
            if _may_break(name, paragraph) and (found := _RULES[name].search(paragraph)):
                return found
    return None


def _words(name: str, prose_only: str) -> str | None:
    found = _found(name, prose_only)
    return " ".join(found[0].split()) if found else None


def first_person(markdown: str) -> str | None:
    """The author speaks of themself: "I", "I'm", "my", "me", "myself", "a friend of mine"."""
    return _words("first_person", prose(markdown))


def cites_other_answers(markdown: str) -> str | None:
    """Refers to other answers, comments or people on the page: "as mentioned", "the other answer", "OP", "@name"."""
    return _words("cites_other_answers", prose(markdown))


def names_site(markdown: str) -> str | None:
    """Names the site or speaks of it as one: "Stack Exchange", "Ask Ubuntu", "this site", "upvoted"."""
    return _words("names_site", prose(markdown))


_RULES: dict[str, re.Pattern[str]] = {"first_person": _FIRST_PERSON, "cites_other_answers": _CITES, "names_site": _SITE}


def response_problem(markdown: str, chars: tuple[int, int], drop: Sequence[str]) -> tuple[str, str] | None:
    """The first rule that a cleaned response breaks, as (reason, what was found), or None. Lengths are in characters, both ends allowed."""
    if not markdown.strip():
        return "empty", ""
    if len(markdown) < chars[0]:
        return "too_short", str(len(markdown))
    if len(markdown) > chars[1]:
        return "too_long", str(len(markdown))
    voice = prose(markdown)
    for name in drop:
        if words := _words(name, voice):
            return name, words
    return None


def broken_rules(markdown: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(rule, the words that break it) of each of these rules that a response breaks."""
    voice = prose(markdown)
    for name in names:
        if words := _words(name, voice):
            yield name, words


# what keyboards and typesetters write for one mark
_MARKS = str.maketrans(dict.fromkeys("‘’‚‛ʼ′", "'") | dict.fromkeys("“”„‟″«»", '"') | dict.fromkeys("‐‑‒–—―−", "-") | {"×": "x"})


def folded(text: str) -> str:
    """What makes two texts the same: without case, kinds of white space, characters that are not seen (category Cf, such as a zero-width
    space), compatibility forms (NFKC: a letter and its accent are the accented letter) and kinds of quotation marks and dashes."""
    if text.isascii():  # none of the rest applies
        return " ".join(text.casefold().split())
    seen = unicodedata.normalize("NFKC", text.translate(_MARKS))
    for c in set(seen):
        if unicodedata.category(c) == "Cf":
            seen = seen.replace(c, "")
    return " ".join(unicodedata.normalize("NFKC", seen.casefold()).translate(_MARKS).split())
