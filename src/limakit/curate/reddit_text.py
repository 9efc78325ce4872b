"""Reddit's titles and Markdown -> text that stands alone, and what in it speaks to the site's readers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# Tags of r/WritingPrompts (its wiki) that say "a prompt to write to", and [Serious] of r/AskReddit; they go.
_PROMPT_TAGS = {
    "wp", "writing prompt", "sp", "simple prompt", "eu", "established universe", "rf", "reality fiction", "cw", "constrained writing",
    "constrained", "tt", "theme thursday", "ff", "flash fiction", "serious", "serious replies", "serious replies only", "serious replies please",
}  # fmt: skip
_TAG = re.compile(r"\s*(?:\[\s*([^\[\]]{1,40}?)\s*[\]})]|[({]\s*([^(){}\[\]]{1,40}?)\s*[)}\]]|((?:writing|simple|daily) prompt|serious|WP|SP|EU)\s*[:\-–—])\s*[/|&,:\-–—]*\s*", re.IGNORECASE)  # fmt: skip
_TAG_AT_END = re.compile(r"[\[({] ?([^\[\](){}]{1,40}?) ?[\])}]\Z")
_NSFW = re.compile(r"\bnsf[wl]\b", re.IGNORECASE)

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b\u2060\ufeff]")  # but not the joiners, which make emoji and scripts
_SPACES = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_SPAN = re.compile(r"((?<!`)`[^`\n]+`(?!`))")
_CLOSING = re.compile(r"```[ \t]*")
# Each pattern passes over what a backslash escapes, and no label or target runs over the beginning of another but one within it: so each character
# is looked at a bounded number of times, whatever the text.
_LABEL = r"((?:\\.|[^\[\]\\]|\[(?:\\.|[^\[\]\\]){0,200}\])*)"
_TARGET = r"\(\s{0,4}<?(?:\\.|[^()\s\\]|\((?:\\.|[^()\s\\])*\))*>?(?:\s{1,4}(?:\"[^\"]{0,200}\"|'[^']{0,200}'))?\s{0,4}\)"
_IMAGE = re.compile(rf"\\.|!\[{_LABEL}\]{_TARGET}")
_LINK = re.compile(rf"\\.|\[{_LABEL}\]{_TARGET}")
_REFERENCE = re.compile(rf"\\.|\[{_LABEL}\]\[[^\[\]]{{0,80}}\]")
_DEFINITION = re.compile(r"^[ ]{0,3}\[[^\[\]\n]{1,80}\]:[ \t]+\S.*$\n?", re.MULTILINE)
_ADDRESS = re.compile(r" ?<?\b(?:https?://|www\.)(?:[^\s<>()\[\]\"]|\([^\s<>()]*\))*(?:[^\s<>()\[\]\".,;:!?'’*_~]|\([^\s<>()]*\))>?", re.IGNORECASE)  # fmt: skip
_STRUCK = re.compile(r"~~(?=\S)[^~\n]{1,2000}~~ ?")
_SPOILER = re.compile(r">!\s?((?:[^!\n>]|!(?!<)|>(?!!)){1,2000}?)\s?!<")
_RAISED = re.compile(r"(?<![\w)\]^])\^++(?:\(([^()\n]*)\)|(?=\w))")  # small print; 10^3 stays
_RULE = re.compile(r"[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*|~{3,}[ \t]*|)")  # or a blank line


def plain_title(title: str) -> str:
    """A title on one line, what the API escapes (&amp; &lt; &gt;) decoded."""
    return " ".join(_SPACES.sub(" ", _UNSEEN.sub("", _unescaped(title))).split())


def to_markdown(body: str) -> str:
    """A body in Markdown without what leads elsewhere: links keep their text, images, addresses and struck-out words go, spoilers and small print
    are opened, entities decoded; rules at its two ends go. Code, between backticks, stays as it is."""
    body = _UNSEEN.sub("", _unescaped(body.replace("\r\n", "\n").replace("\r", "\n")))
    parts = [part if code else _prose(part) for code, part in _blocks(body)]
    lines = [line.rstrip() for line in "\n".join(parts).split("\n")]
    first = next((n for n, line in enumerate(lines) if not _RULE.fullmatch(line)), len(lines))
    last = next((n for n in range(len(lines) - 1, first, -1) if not _RULE.fullmatch(lines[n])), first)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines[first : last + 1]))


def _unescaped(text: str) -> str:
    """Once, as the API escaped it: &amp;#x200B; is an entity that the author wrote."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(whether it is code, lines): code is from a line that begins with ``` to the next that is ```; one that is never closed is none."""
    lines = text.split("\n")
    closings = [n for n, line in enumerate(lines) if _CLOSING.fullmatch(line)][::-1]
    start = at = 0
    while at < len(lines):
        while closings and closings[-1] <= at:
            closings.pop()
        if closings and lines[at].startswith("```"):
            if start < at:
                yield False, "\n".join(lines[start:at])
            start = closings.pop() + 1
            yield True, "\n".join(lines[at:start])
            at = start
        else:
            at += 1
    if start < len(lines):
        yield False, "\n".join(lines[start:])


def _prose(text: str) -> str:
    parts = _SPAN.split(text)
    parts[::2] = [_without_links(part) for part in parts[::2]]
    return "".join(parts)


def _without_links(text: str) -> str:
    text = _SPACES.sub(" ", _UNSEEN.sub("", html.unescape(text)))
    text = _DEFINITION.sub("", _IMAGE.sub(lambda found: found[0] if found[1] is None else "", text))
    text = _REFERENCE.sub(_label, _LINK.sub(_label, text))
    text = _ADDRESS.sub("", text)
    return _RAISED.sub(lambda found: found[1] or "", _SPOILER.sub(r"\1", _STRUCK.sub("", text)))


def _label(found: re.Match[str]) -> str:
    """The words of a link; what is only escaped stays."""
    return found[0] if found[1] is None else found[1]


def untagged(title: str) -> tuple[str, str | None]:
    """A title without the tags that say it is a prompt, a serious question or not for work, and a tag that makes it something else, or None.

    Of r/WritingPrompts, [WP] [SP] [EU] [RF] [CW] [FF] [TT] are prompts. A title that begins with any other tag is none to write to from its words
    alone: [IP] and [MP] need a picture or music, [PI] is a story, [PM] asks for prompts, [OT] and [MODPOST] are about the site. At a
    title's end only the known tags are tags; other brackets there are its words.
    """
    while found := _TAG.match(title):
        tag = " ".join((found[1] or found[2] or found[3]).lower().split())
        if found[3] or tag in _PROMPT_TAGS or _NSFW.search(tag):
            title = title[found.end() :]
        elif found[1]:
            return title, tag
        else:
            break  # words in round brackets
    while (found := _TAG_AT_END.search(title)) and (found[1].lower() in _PROMPT_TAGS or _NSFW.search(found[1])):
        title = title[: found.start()].rstrip()
    return title.strip(), None


def names_nsfw(title: str) -> bool:
    """Authors wrote it into titles before there was a flag, and still do."""
    return bool(_NSFW.search(title))


# --- who is spoken to -------------------------------------------------------------------------------------------------------

_ENDS = (300, 500)  # characters at the start and at the end where authors speak of their text rather than in it
_MENTION = re.compile(
    r"(?<![\w/.])/?[ru]/[A-Za-z0-9_-]{2,24}\b|\bsub-?reddits?\b|\b[Rr]eddit(?:ors?)?\b|\bOP\b(?!-)|\b(?:up|down)-?vot(?:e|es|ed|ing)\b"
)
_NOTE = re.compile(
    r"^[^\w\n]{0,10}_{0,3}(?:edit(?:ed)?|eta|update|tl;?\s?dr|(?:author|writer)['’]?s?\snote|a/n|disclaimer|obligatory|note|content\swarning|trigger\swarning|warning)\b[ \t]*\d*[*_ \t]*[:;,(\-–—]",
    re.IGNORECASE | re.MULTILINE,
)
_ASIDE = re.compile(
    r"""\bthank(?:s|\syou)\s(?:\w+\s){0,3}?(?:for\s(?:reading|all|everyone|every\w+|(?:the|your|my|this)\s(?:gold|silver|platinum|awards?|gild\w*|prompt|feedback
            |kind|comments?|replies|responses?|support|love|read))|everyone\b|guys\b|kind\sstranger|reddit)
    | \bhope\s(?:you|y['’]?all|everyone|that\syou)\s(?:\w+\s)?(?:enjoy|like)
    | \b(?:constructive\s)?(?:feedback|criticism|critiques?|cc|c&c|comments?)\s(?:\w+\s)?(?:is|are|would\sbe|always|very|much|welcome|appreciated)
    | \b(?:let\sme\sknow|tell\sme)\s(?:what\syou\sthink|if\syou|how\s(?:it|i)|whether)
    | \b(?:first|second|third|1st|2nd)\s(?:\w+\s)?(?:time\s(?:posting|writing|responding|replying|doing|trying|here|poster)|attempt\sat|prompt|response|reply|post|wp|submission)\b
    | \bsorry\s(?:\w+\s)?(?:for|about|if)\s(?:the\s|any\s|my\s|this\s|all\s)*(?:\w+\s)?(?:format|typo|grammar|spelling|length|mistake|error|late|english|bad|long|short|rushed|quality)
    | \b(?:written|wrote|writing|typed|typing|posted|posting|am|i['’]m)\s(?:\w+\s){0,2}?(?:on|from)\s(?:my\s)?(?:phone|mobile|ipad|tablet)
    | \benglish\sis(?:\snot|n['’]?t)\smy\b
    | \bthe\sprompt\b(?!\s\w+\s\w*(?:ed|s)\b)
    | \b(?:this|your|these|great|good|cool|awesome|fun|nice|amazing|interesting|original|other|more|of)\s(?:writing\s)?prompts?\b
    | \b(?:part|chapter|pt\.?)\s(?:two|three|four|2|3|4|ii|iii|next)\b(?:\s?[:.)\]]|\s(?:is|will|in|below|here|up|coming|soon|tomorrow|later|if|of))
    | \b(?:to\sbe\s|\(|\[)cont(?:inued|['’]?d|\.)?\b | \bcontinued\s(?:below|here|above|in\s(?:the|my|a|next|part|comments)) | \btbc\b
    | \b(?:more|other)\s(?:of\smy|stories|like\sthis|to\scome|at\s(?:my|r/)|if\s(?:you|people|there|anyone|wanted)|from\sme|writing)
    | \bmy\s(?:own\s)?(?:sub|blog|patreon|website|web\ssite|profile|page|account|twitter|wattpad|discord|youtube|kindle|book\son)\b
    | \b(?:check|find)\s(?:\w+\s)?(?:out\s)?(?:more|my|me)\b | \bsubscribe\b | \bthe\sgold\b(?=\W*$|,?\s(?:kind|strangers?|whoever)) | \bkarma\b | \binbox\b
    | \b(?:see|read|in|at)\s(?:the\s|my\s)?(?:comments|replies)\b | \b(?:comment|reply|replies|comments)\s(?:below|above)\b""",
    re.IGNORECASE | re.VERBOSE,
)


def speaks_to_readers(markdown: str) -> str | None:
    """The words by which an author turns to the site's readers: names of subreddits and users anywhere, notes ("Edit: ...") that begin a line, and,
    near the start or the end, thanks, excuses, talk of the prompt and of parts elsewhere. None where there are none.

    It is made for stories: within them "Edit" and "thanks for reading your letter" may be said, so most signs count at the two ends alone.
    """
    found = _MENTION.search(markdown) or _NOTE.search(markdown)
    if found is None:
        start, end = _ENDS
        pieces = [markdown] if len(markdown) <= start + end else [markdown[:start], markdown[-end:]]
        found = next((hit for piece in pieces if (hit := _ASIDE.search(piece))), None)
    return " ".join(found[0].split())[:80] if found else None
