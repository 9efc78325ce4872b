"""Which answers are surely too short, without cleaning them: most of those that have the score are."""

from __future__ import annotations

import re

_SAYS = re.compile(r"<p>(?:<em>|<strong>)?[A-Za-z'’]{1,40}[ ,]")  # a word that is no address stands in the text whatever follows
_GROWS = re.compile(r"<(?:(ol)|(ul|menu|dir|blockquote)|(pre|listing))", re.IGNORECASE)


def most_characters(html: str) -> int | None:
    """A number of characters that html.to_markdown(html) surely does not exceed, where it surely leaves something; None where that is not known.

    The text itself only shrinks. Two pieces of text are set apart by three characters at most (" | ", a blank line), and a tag of three or more stood
    between them; ticks round code take two, fences round a block eight and a language that its tag named. Every line may be indented by every list and
    quotation: by two characters, or twelve where items are numbered. Runs of backticks make longer fences: such a text is not judged.
    """
    if "`" in html or not _SAYS.match(html):
        return None
    tags = html.count("<")
    width = fences = 0
    for numbered, marked, fenced in _GROWS.findall(html):
        width += 12 if numbered else 2 if marked else 0
        fences += bool(fenced)
    lines = 2 + html.count("\n") + html.count("\r") + html.count("&") + 2 * tags + 2 * fences
    return len(html) + 3 * tags + 8 * fences + lines * width
