"""`limakit review`: people look at candidates in the terminal, one at a time, or decide by name from a script."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from ..progress import escape_json, say, visible
from ..workspace import Workspace
from .decisions import DECISIONS, Action, Decision, append_decision, read_decisions
from .edited import as_markdown, edit_of, words_of
from .page import counts_line
from .review import ReviewItem, count_states, of_source, read_queue, state_of, waits
from .screen import Screen, is_terminal
from .sitting import Sitting


def default_reviewer() -> str:
    return os.environ.get("USER", "")


def list_candidates(workspace: Workspace, *, source: str | None = None, kept: bool = False, as_json: bool = False) -> None:
    """Print the candidates that wait, with `kept` all of the queue; as JSON with their texts and what was decided."""
    queue, decisions = read_queue(workspace)
    items = of_source(queue, source)
    shown = [item for item in items if kept or waits(item, decisions.get(item.id))]
    if as_json:
        rows = []
        for item in shown:
            decision = decisions.get(item.id)
            decided = None if decision is None else decision.model_dump(mode="json")
            rows.append(item.model_dump(mode="json") | {"state": state_of(item, decision), "decision": decided})
        counts = count_states(items, decisions)
        say(escape_json(json.dumps({"counts": counts, "candidates": rows}, indent=2, ensure_ascii=False)))
        return
    for label, split in dict.fromkeys((item.label, item.split) for item in shown):
        say(visible(f"{label} ({split})"))
        for item in (i for i in shown if (i.label, i.split) == (label, split)):
            state = state_of(item, decisions.get(item.id))
            say(visible(f"  {item.id}  {item.why if state == 'waiting' else state}  {_begins(item)}"))
    say(counts_line(items, decisions))


def _begins(item: ReviewItem) -> str:
    text = " ".join(item.turns[0].text.split())
    return text if len(text) <= 50 else text[:49] + "…"


def show_candidate(workspace: Workspace, id: str) -> None:
    """Print one candidate as the Markdown file that `decide` takes back as an edit; as it was edited, where it was."""
    queue, decisions = read_queue(workspace)
    [item] = _named(queue, [id])
    text = as_markdown(item, words_of(item, decisions.get(id)))
    say("\n".join(map(visible, text.split("\n"))) if is_terminal() else text.rstrip("\n"))


def decide(
    workspace: Workspace,
    *,
    accept: Sequence[str] = (),
    reject: Sequence[str] = (),
    undo: Sequence[str] = (),
    edit: str | None = None,
    file: Path | None = None,
    note: str = "",
    reviewer: str | None = None,
) -> None:
    """Decide about candidates by their ids; all of them, or none where one of the ids is wrong.

    `edit` takes the words of `file`, Markdown as `show_candidate` prints it. Raises UsageError for ids that the queue does not have or that
    are named twice, LimakitError for a file that is no example or prompt.
    """
    queue, _ = read_queue(workspace)
    if (edit is None) != (file is None):
        raise UsageError("an edit needs the candidate and the file", remedy="limakit review --edit ID --file FILE.md")
    asked: list[tuple[str, Action]] = [*((i, "accept") for i in accept), *((i, "reject") for i in reject), *((i, "undo") for i in undo)]
    asked += [] if edit is None else [(edit, "edit")]
    twice = [id for id, n in Counter(id for id, _ in asked).items() if n > 1]
    if twice:
        raise UsageError(f"named twice: {', '.join(twice)}", remedy="name each candidate once; nothing was decided")
    who = default_reviewer() if reviewer is None else reviewer
    made = []
    for item, (_, action) in zip(_named(queue, [id for id, _ in asked]), asked, strict=True):
        if action == "edit":
            assert file is not None
            made.append(edit_of(item, file, note, who))
        else:
            made.append(Decision(id=item.id, action=action, seen=item.seen, note=note, reviewer=who))
    path = workspace.root / DECISIONS
    for decision in made:
        append_decision(path, decision)
    say(f"wrote {_many(len(made), 'decision')} to {workspace.relative(path)}")
    _end(queue, read_decisions(path))


def _named(queue: Sequence[ReviewItem], ids: Sequence[str]) -> list[ReviewItem]:
    known = {item.id: item for item in queue}
    missing = [id for id in ids if id not in known]
    if missing:
        what = f"no candidate in the queue is called {', '.join(map(repr, missing[:5]))}" + (" …" if len(missing) > 5 else "")
        raise UsageError(what, remedy="limakit review --list --kept names them all; nothing was decided")
    return [known[id] for id in ids]


def _end(items: Sequence[ReviewItem], decisions: dict[str, Decision]) -> None:
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
    _end(queue, read_decisions(path))
