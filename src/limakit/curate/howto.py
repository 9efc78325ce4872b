"""A wikiHow article as prompt and response (paper, section 2.1): the title as a question, the body in Markdown.

Of the body's texts HTML, links, images, wiki markup and citation marks go. What speaks of the article as one is rewritten in its opening
alone, where the paper rewrites it; elsewhere it is a reason to drop the article, since "This article" was left in the published data.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection

from ..sources.wikihow import Article, Section
from .html import to_markdown

_TAG = re.compile(r"</?(?:a|abbr|b|big|blockquote|br|center|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|s|small|span|strong|sub|sup|table|td|th|tr|tt|u|ul|script|style|video|iframe)\b[^<>]*>", re.IGNORECASE)  # fmt: skip
_REFERENCE = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>[^<]*+(?:<(?!/?ref\b)[^<]*+)*+</ref>", re.IGNORECASE)
_WIKI = [
    (re.compile(r"\[\[(?:Image|File|Video)\s?:[^\[\]]*\]\]", re.IGNORECASE), ""),
    (re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]"), r"\1"),
    (re.compile(r"\{\{[^{}]*\}\}"), ""),
    (re.compile(r"(?<![\d'])('{2,3})(?!')([^'\n]+)\1(?!')"), r"\2"),  # but 6'' by 8'' are inches
]
# [1]; [1]XResearch source, as crawls have it; [1]XTrustworthy SourceMayo Clinic...Go to source; [citation needed]
_CITED = re.compile(
    r"\s?\[\d{1,3}\](?:\s?X\s?(?:Research source|(?:Trustworthy|Expert) Source.*?(?:Go to source|Expert Interview[^.\n]*\.[^.\n]*\.|$)))?"
    r"|\s?\[(?:citation needed|unreliable source\??|dead link|clarification needed)\]",
    re.MULTILINE,
)


def clean(text: str) -> str:
    """A text of an article as plain lines."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    raw = text
    if "<" in text:
        text = _REFERENCE.sub("", text)
    if "[" in text or "{{" in text or "''" in text:
        text = _CITED.sub("", text)
        for pattern, by in _WIKI:
            text = pattern.sub(by, text)
    if "<" in text and _TAG.search(text):
        text = to_markdown(text.replace("\n", "<br>"))
    else:
        text = html.unescape(text)
        if "://" in text or "www." in text.lower():
            text = to_markdown(html.escape(text).replace("\n", "<br>"))
    if "```" in text:
        return text.strip()
    if text != raw:
        text = _BEFORE_A_STOP.sub("", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


_BEFORE_A_STOP = re.compile(r"(?<![ \t])[ \t]++(?=[.,;:!?](?:\s|$))")  # the gap that a removed word leaves


_ITSELF = r"""(?ix:
    (?:(?:short|brief|quick|simple|easy|step[- ]by[- ]step|instructional|handy|helpful|useful|comprehensive|detailed|beginner['’]s|little)\s)*
    (?:wikiHow(?:\s(?:article|tutorial|guide|page|how-to))? | (?:how[- ]to\s)?(?:article|guide|tutorial|page) | how-to | instructable) )"""
_OPENINGS = re.compile(
    rf"(?P<t>[Tt])(?:(?:his|he\sfollowing)\s(?:{_ITSELF})|he\s(?i:article|tutorial|guide|page)\sbelow)(?=['’]s\b|(?![\w'’-]))", re.VERBOSE
)


def rewrite_opening(text: str) -> tuple[str, bool]:
    """(the opening with the article called "the following answer", whether anything was rewritten).

    "This article teaches you ...", "This wikiHow will show you ...", "In this guide, ...", "This simple how-to article's steps ...", "the
    article below", "the following tutorial". One noun phrase in the singular takes the place of another, so the sentence stays whole.
    """
    text, n = _OPENINGS.subn(lambda found: f"{found['t']}he following answer", text)
    return text, n > 0


_SITE = re.compile(r"\bwiki\s?how\w*", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:this|these)\s(?:[\w-]+\s){0,2}?(?:articles?|how-tos?|tutorials?|instructables?)\b", re.IGNORECASE)
_SELVES = (
    ("names_site", ("wiki",), _SITE),
    ("this_article", ("article", "how-to", "tutorial", "instructable"), _ARTICLE),
)  # signs are quick


def speaks_of_itself(text: str) -> tuple[str, str] | None:
    """("names_site" or "this_article", the words) where a text speaks of wikiHow or of itself as an article, or None."""
    lower = text.lower()
    for reason, signs, pattern in _SELVES:
        if any(sign in lower for sign in signs) and (found := pattern.search(text)):
            return reason, " ".join(found[0].split())
    return None


def response_of(article: Article, drop: Collection[str]) -> tuple[str, list[str]]:
    """(the body in Markdown, what was changed beside its cleaning).

    The opening; methods or parts under headings where there are several, their steps as numbered lists, headline first; tips and the like as
    lists. Sections whose name is in `drop` (case-folded) are left out.
    """
    opening, rewritten = rewrite_opening(clean(article.opening))
    changes = ['opening rewritten to "the following answer"'] if rewritten else []
    dropped = [section.name for section in article.sections if section.name.casefold() in drop]
    if dropped:
        changes.append(f"{len(dropped)} section{'s' if len(dropped) > 1 else ''} left out ({', '.join(dropped)})")
    kept = [section for section in article.sections if section.name.casefold() not in drop]
    several = sum(section.numbered for section in kept) > 1
    blocks = [opening.replace("\n", "\n\n")] if opening else []
    for n, section in enumerate(kept, start=1):
        body = _list(section)
        if body and (several or not section.numbered):
            blocks.append(f"## {clean(section.name) or f'Section {n}'}")
        if body:
            blocks.append(body)
    return "\n\n".join(blocks), changes


def _list(section: Section) -> str:
    items: list[str] = []
    for step in section.steps:
        headline, text = " ".join(clean(step.headline).split()), clean(step.description)
        if not headline and not text:
            continue
        marker = f"{len(items) + 1}. " if section.numbered else "- "
        indent = "\n" + " " * len(marker)
        if headline and text and headline[-1] not in ".!?:":
            headline += "."
        first = f"**{headline}**" if headline and text else headline
        if "```" in text:  # code keeps its lines
            items.append(marker + re.sub(r"\n(?!\n)", indent, (first + "\n\n" + text).strip("\n")))
            continue
        lines = text.split("\n") if text else []
        if lines and not lines[0].startswith("- "):
            first = f"{first} {lines.pop(0)}".strip()
        bullets = [f"- {line.lstrip('-•·*– ')}" for line in lines]
        items.append(marker + indent.join([first, *bullets] if first else bullets))
    return "\n".join(items)


_TAIL = re.compile(r"(?:\(with pictures\)|[-–|:]\s*wikihow)\Z", re.IGNORECASE)
_WAYS = re.compile(r"^(?:\d+\s+|the\s+)?(?:[\w-]+\s+){0,2}ways?\s+to\s+", re.IGNORECASE)  # "3 Easy Ways to", as the site titles its pages
_HOW_TO = re.compile(r"^how\s+to(?:\s+|$)", re.IGNORECASE)
_ASKS = re.compile(r"^(?:how|what|when|where|which|who|why|is|are|does|did|should|would)\b", re.IGNORECASE)  # "Can Tomatoes" asks nothing
_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a about after an and any are as at be before by can do for from if in into is it no not of off on or out over so someone something than that "
        "the their them to up use using when while with without you your yourself",
    )
)


def bare_title(title: str) -> str:
    """The title without what pages add to it, always as the site's addresses have it: "Cook an Omelette"."""
    title = title.rstrip()
    while tail := _TAIL.search(title):
        title = title[: tail.start()].rstrip()
    title = _WAYS.sub("", title)
    return _HOW_TO.sub("", title).strip()


def prompt_of(title: str, body: str) -> str:
    """The title as a question in sentence case: "How to Cook an Omelette" is "How to cook an omelette?".

    A word with a capital becomes small where the body has it small in the middle of sentences at least as often as with a capital, so that
    "Omelette" does and "Instagram" does not; the verb after "How to" always does.
    """
    bare = bare_title(title).rstrip("?!. ")
    if not bare:
        return ""
    words = bare.split(" ")
    asks = bare == title.rstrip("?!. ") and bool(title.endswith("?") or _ASKS.match(bare))
    for n, word in enumerate(words):
        if n == 0 and asks:
            continue
        found = re.fullmatch(r"(\W*)([A-Z])([a-z’']*)(\W*)", word)
        small = (found[2] + found[3]).lower() if found else ""
        if found and (n == 0 or small in _SMALL or _mostly_small(small, body)):
            words[n] = found[1] + small + found[4]
    return ("" if asks else "How to ") + " ".join(words) + "?"


def _mostly_small(word: str, body: str) -> bool:
    """Whether a word is written small, and inside sentences at least as often small as with a capital."""
    if f" {word}" not in body:
        return False
    capital = word.capitalize()
    counts = Counter(re.findall(rf"(?<=[\w,;)] )(?:{word}|{capital})\b", body)) if f" {capital}" in body else Counter({word: 1})
    return 0 < counts[word] >= counts[capital]
