"""How a candidate looks in the terminal: what is known about it, then its turns, each in a frame. Text is shown as it is, never as markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

from ..progress import visible
from .decisions import Decisions
from .edited import Words
from .review import ReviewItem, count_states, decision_on, source_of, state_of
from .screen import rendered

_WHY = {
    "required": "nothing of this source is taken unseen",
    "title_unclear": "the title may not stand alone",
    "changed": "it was decided about when it read otherwise",
    "": "kept without review; you may revise it",
}
_BORDERS = {"user": "cyan", "assistant": "green", "reference": "yellow"}
_KEYS = [
    "? help",
    "q quit",
    "a accept",
    "r reject",
    "e edit",
    "b back",
    "s skip",
    "n note",
    "o source",
]  # what a narrow terminal keeps first
_ORDER = ["a accept", "r reject", "e edit", "u undo", "n note", "s skip", "b back", "o source", "? help", "q quit"]
HELP = [
    "  a  accept: take it as it is",
    "  r  reject: asks why; Enter alone gives no reason",
    "  e  edit: the text in $VISUAL or $EDITOR. Unchanged is accepted,",
    "     an empty file leaves it undecided",
    "  n  note: saved with the decision",
    "  u  undo: as if nobody had looked at it",
    "  s  skip: not now",
    "  b  back: to the one before, also to decide otherwise",
    "  o  only one source",
    "  space, page up and down, arrows, j, k: read on",
    "  q  quit",
    "",
    "Each decision is saved at once. limakit curate takes them in.",
]


def foot(width: int, decided: bool) -> str:
    """The keys, as many as fit."""
    taken: list[str] = []
    for key in ["u undo", *_KEYS] if decided else _KEYS:
        if sum(len(k) + 2 for k in [*taken, key]) - 2 <= width:
            taken.append(key)
    return "  ".join(key for key in _ORDER if key in taken)


def counts_line(items: Sequence[ReviewItem], decisions: Decisions) -> str:
    """3 of 60 waiting, 40 accepted, 2 edited, 15 rejected."""
    counts = count_states(items, decisions)
    waiting = counts.pop("waiting", 0)
    changed = counts.pop("changed", 0)
    parts = [f"{waiting + changed} of {len(items)} waiting" + (f" ({changed} changed since they were decided)" if changed else "")]
    return ", ".join(parts + [f"{n} {state}" for state, n in counts.items()])


def candidate_page(item: ReviewItem, decisions: Decisions, words: Words, note: str, width: int) -> list[str]:
    """The lines of one candidate. `words` are shown, `note` is what will be saved with the decision."""
    parts: list[RenderableType] = [*_facts(item, decisions, note)]
    turns, reference = words
    changed = words != (item.turns, item.reference)
    for n, turn in enumerate(turns, start=1):
        name = f"turn {n}, {turn.role}" if len(turns) > 2 else {"user": "prompt", "assistant": "response"}[turn.role]
        parts.append(_framed(name, turn.text, _BORDERS[turn.role], changed))
    if reference is not None:
        parts.append(_framed("reference, for judges only", reference, _BORDERS["reference"], changed))
    return rendered(parts, width)


def _facts(item: ReviewItem, decisions: Decisions, note: str) -> list[Text]:
    scores = [
        f"question {item.score}" if item.score is not None else "",
        f"answer {item.answer_score}" if item.answer_score is not None else "",
    ]
    score = ", ".join(s for s in scores if s)
    lines = [(f"{item.id} · {source_of(item, ' · {}')}" + (f" · score: {score}" if score else ""), "bold")]
    if item.title and item.title.strip() != item.turns[0].text.strip():
        lines.append((item.title, ""))
    if item.url:
        lines.append((item.url, "dim"))
    state, decision = state_of(item, decisions), decision_on(item, decisions)
    why = _WHY.get(item.why, item.why) if item.why or state == "kept" else ""  # what was decided about says so below
    lines += [(f"{why}{': ' if why and item.detail else ''}{item.detail}", "yellow" if item.why else "dim")] if why or item.detail else []
    if decision is not None:
        by = f" by {decision.reviewer}" if decision.reviewer else ""
        said = f": {decision.note}" if decision.note else ""
        lines.append((f"reads otherwise than when it was decided ({decision.action}{by}{said})" if state == "changed" else f"{state}{by}{said}", "magenta"))  # fmt: skip
    if note:
        lines.append((f"note: {note}", "magenta"))
    return [Text(visible(line), style=style, overflow="fold") for line, style in lines]


def _framed(name: str, text: str, border: str, changed: bool) -> Panel:
    shown = Text("\n".join(visible(line) for line in text.expandtabs(4).split("\n")), overflow="fold")
    title = Text(f"{name}{' (edited)' if changed else ''} · {len(text):,} characters")
    return Panel(shown, title=title, title_align="left", border_style=border)
