"""`limakit review`: people look at candidates in the terminal, one at a time, or decide by name from a script."""

from __future__ import annotations

import getpass
import json
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..progress import escape_json, say, visible
from ..workspace import Workspace
from .decisions import DECISIONS, Action, Decision, Decisions, append_decision
from .edited import as_markdown, edit_of, words_of
from .page import counts_line
from .review import ReviewItem, count_states, decision_on, decisions_about, of_source, read_queue, source_of, state_of, waits
from .screen import Screen, is_terminal
from .sitting import Sitting


def default_reviewer() -> str:
    """Whose decision it is where nobody says: $USER, or else whom the system says is logged in; "" where it does not know either."""
    try:
        return os.environ.get("USER") or getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return ""


def list_candidates(workspace: Workspace, *, source: str | None = None, kept: bool = False, as_json: bool = False) -> None:
    """Print the candidates that wait, with `kept` all of the queue; as JSON with their texts and what was decided."""
    queue, decisions = read_queue(workspace)
    items = of_source(queue, source)
    shown = [item for item in items if kept or waits(item, decisions)]
    if as_json:
        rows = []
        for item in shown:
            decision = decision_on(item, decisions)
            decided = None if decision is None else decision.model_dump(mode="json")
            rows.append(item.model_dump(mode="json") | {"state": state_of(item, decisions), "decision": decided})
        counts = count_states(items, decisions)
        say(escape_json(json.dumps({"counts": counts, "candidates": rows}, indent=2, ensure_ascii=False)))
        return
    for source_ in dict.fromkeys(map(source_of, shown)):
        say(visible(source_))
        for item in (i for i in shown if source_of(i) == source_):
            state = state_of(item, decisions)
            say(visible(f"  {item.id}  {item.why if state == 'waiting' else state}  {_begins(item)}"))
    say(counts_line(items, decisions))


def _begins(item: ReviewItem) -> str:
    text = " ".join(item.turns[0].text.split())
    return text if len(text) <= 50 else text[:49] + "…"


def show_candidate(workspace: Workspace, id: str, *, source: str | None = None) -> None:
    """Print one candidate as the Markdown file that `decide` takes back as an edit; as it was edited, where it was."""
    queue, decisions = read_queue(workspace)
    [item] = _named(of_source(queue, source), [id])
    text = as_markdown(item, words_of(item, decisions))
    say("\n".join(map(visible, text.split("\n"))) if is_terminal() else text.rstrip("\n"))


def decide(
    workspace: Workspace,
    *,
    accept: Sequence[str] = (),
    reject: Sequence[str] = (),
    undo: Sequence[str] = (),
    edit: str | None = None,
    file: Path | None = None,
    source: str | None = None,
    note: str = "",
    reviewer: str | None = None,
) -> None:
    """Decide about candidates by their ids; all of them, or none where one of the ids is wrong. `source` tells candidates of one id apart.

    `edit` takes the words of `file`, Markdown as `show_candidate` prints it. `undo` also finds what the queue no longer has. Raises UsageError
    for ids that the queue does not have, or has of several candidates, or that are named twice, LimakitError for a file that is no example
    or prompt.
    """
    queue, decisions = read_queue(workspace)
    items = of_source(queue, source)
    if (edit is None) != (file is None):
        raise UsageError("an edit needs the candidate and the file", remedy="limakit review --edit ID --file FILE.md")
    asked: list[tuple[str, Action]] = [*((i, "accept") for i in accept), *((i, "reject") for i in reject)]
    asked += [] if edit is None else [(edit, "edit")]
    twice = [id for id, n in Counter([*(id for id, _ in asked), *undo]).items() if n > 1]
    if twice:
        raise UsageError(f"named twice: {', '.join(twice)}", remedy="name each candidate once; nothing was decided")
    who = default_reviewer() if reviewer is None else reviewer
    made = []
    for item, (_, action) in zip(_named(items, [id for id, _ in asked]), asked, strict=True):
        if action == "edit":
            assert file is not None
            made.append(edit_of(item, file, note, who))
        else:
            made.append(Decision(id=item.id, action=action, seen=item.seen, note=note, reviewer=who))
    for id in undo:
        undone = _undone(queue, items, decisions, id, alone=source is None)
        made += [Decision(id=d.id, action="undo", seen=d.seen, note=note, reviewer=who) for d in undone]
    path = workspace.root / DECISIONS
    for decision in made:
        append_decision(path, decision)
    say(f"wrote {_many(len(made), 'decision')} to {workspace.relative(path)}")
    _end(queue, decisions_about(queue, path))


def _named(items: Sequence[ReviewItem], ids: Sequence[str]) -> list[ReviewItem]:
    """The candidate of each id. Raises UsageError where there is none or there are several."""
    known: dict[str, list[ReviewItem]] = {}
    for item in items:
        known.setdefault(item.id, []).append(item)
    missing = [id for id in ids if id not in known]
    if missing:
        what = f"no candidate in the queue is called {', '.join(map(repr, missing[:5]))}" + (" …" if len(missing) > 5 else "")
        raise UsageError(what, remedy="limakit review --list --kept names them all; nothing was decided")
    for id in ids:
        if len(known[id]) > 1:
            labels = ", ".join(repr(item.label) for item in known[id])
            raise UsageError(
                f"{len(known[id])} candidates are called {id!r}, of the sources {labels}",
                remedy=f"say which: --source {shlex.quote(known[id][0].label)}; nothing was decided",
            )
    return [known[id][0] for id in ids]


def _undone(queue: Sequence[ReviewItem], items: Sequence[ReviewItem], decisions: Decisions, id: str, *, alone: bool) -> list[Decision]:
    """What an undo takes away: the decision about the candidate of this id, or about what it was before, also where the queue has it no more.

    `alone`: no source was named. Raises UsageError where there is nothing to undo, and as `_named`.
    """
    gone = list(decisions.under(id))
    if not (alone and gone and all(item.id != id for item in queue)):
        [item] = _named(items, [id])
        if decision := decisions.on(item.seen):
            return [decision]
    if not gone:
        raise UsageError(f"nothing was decided about {id!r}", remedy="limakit review --list --kept says what was; nothing was undone")
    return gone


def _end(items: Sequence[ReviewItem], decisions: Decisions) -> None:
    say(counts_line(items, decisions))
    say("limakit curate takes the decisions in")


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


def review(workspace: Workspace, *, source: str | None = None, kept: bool = False, reviewer: str | None = None) -> None:
    """Go through the candidates that wait, with `kept` also through those that need no review; without a terminal, list them.

    Each decision is on the disk before the next candidate is shown, so a later run goes on where this one stopped, however it ended.
    """
    queue, decisions = read_queue(workspace)
    of_source(queue, source)
    if not is_terminal():
        list_candidates(workspace, source=source, kept=kept)
        say("this is no terminal to ask in: decide with --accept ID, --reject ID or --edit ID --file FILE.md, or run it in a terminal")
        return
    path = workspace.root / DECISIONS
    with Screen() as screen:
        sitting = Sitting(screen, path, queue, decisions, source, kept, default_reviewer() if reviewer is None else reviewer)
        sitting.run()
    if sitting.made:
        say(f"decided now: {', '.join(f'{n} {what}' for what, n in sorted(sitting.made.items()))}")
    _end(queue, decisions_about(queue, path))
