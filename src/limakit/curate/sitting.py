"""One sitting of review: a candidate on the screen, a key, a decision on the disk, the next candidate."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from ..errors import LimakitError
from ..progress import visible
from .decisions import Action, Decision, Decisions, append_decision
from .edited import as_markdown, edit_of, editor, run_editor, words_of
from .page import HELP, candidate_page, foot
from .review import ReviewItem, decision_on, decisions_about, of_source, state_of, waits
from .screen import PASTED, Screen

MOVES = {" ": "pgdn", "pgdn": "pgdn", "pgup": "pgup", "down": "down", "up": "up", "j": "down", "k": "up", "home": "home", "end": "end"}


class Sitting:
    """One sitting: which candidate lies on the desk, and which did before it."""

    def __init__(
        self,
        screen: Screen,
        path: Path,
        queue: list[ReviewItem],
        decisions: Decisions,
        source: str | None,
        kept: bool,
        reviewer: str,
    ):
        self.screen, self.path, self.queue, self.decisions = screen, path, queue, decisions
        self.source, self.kept, self.reviewer = source, kept, reviewer
        self.past: list[ReviewItem] = []  # in the order they were on the desk
        self.passed: set[str] = set()  # the digests of what is not shown again in this sitting
        self.note = ""  # for the decision about the candidate on the desk
        self.said = ""  # what was done last
        self.made: Counter[str] = Counter()

    def run(self) -> None:
        item = self._next()
        move = "home"
        while True:
            head, body, below = self._page(item)
            self.screen.show(head, body, below, move=move)
            key = self.screen.key()
            move = MOVES.get(key, "")
            if key == " " and self.screen.at_end:
                move = "home"
            if key in ("q", "eof"):
                return
            if key in ("resize", "unknown") or move or key.startswith(PASTED):
                continue
            if key == "?":
                self._help()
                continue
            try:
                after = self._act(key, item)
            except LimakitError as error:
                self.said, after = error.message.replace("\n", " "), item
            if after is not item:
                item, move, self.note = after, "home", ""

    def _act(self, key: str, item: ReviewItem | None) -> ReviewItem | None:
        """Do what a key asks for; returns the candidate to show then."""
        if key == "b":
            return self._back(item)
        if key == "o":
            return self._other_source(item)
        if item is None:
            if key == "s":
                self.passed.clear()
                return self._next()
            return None
        if key == "s":
            self.passed.add(item.seen)
            return self._leave(item, "skipped")
        if key == "a":
            return self._decide(item, "accept", "accepted")
        if key == "r":
            why = self._ask(item, "why not (may be empty)", self.note)
            if why is None:
                return item
            self.note = why
            return self._decide(item, "reject", "rejected")
        if key == "u" and (decided := decision_on(item, self.decisions)):
            undo = Decision(id=decided.id, action="undo", seen=decided.seen, note=self.note, reviewer=self.reviewer)
            return self._save(undo, item, "undone:", leave=False)
        if key == "n":
            return self._take_note(item)
        if key == "e":
            return self._edit(item)
        self.said = f"{visible(key)} does nothing here; ? tells what does"
        return item

    def _page(self, item: ReviewItem | None) -> tuple[str, list[str], list[str]]:
        items = of_source(self.queue, self.source)
        left = sum(waits(i, self.decisions) for i in items)
        head = f"{left} of {len(items)} waiting" + (f" · {visible(self.source)}" if self.source else "")
        if item is None:
            later = f"\n\n{len(self.passed)} skipped: s goes through them again." if self.passed else ""
            return head, [*f"Nothing more to look at here.{later}".split("\n")], [self.said, "b back  o source  q quit"]
        body = candidate_page(item, self.decisions, words_of(item, self.decisions), self.note, self.screen.width)
        return head, body, [self.said, foot(self.screen.width, decision_on(item, self.decisions) is not None)]

    def _next(self) -> ReviewItem | None:
        """The first candidate that waits; with `kept` also those that need nobody, once a sitting."""
        self.decisions = decisions_about(self.queue, self.path)  # somebody else may be at it too
        for item in of_source(self.queue, self.source):
            wanted = waits(item, self.decisions) or (self.kept and state_of(item, self.decisions) == "kept")
            if wanted and item.seen not in self.passed:
                return item
        return None

    def _leave(self, item: ReviewItem, what: str) -> ReviewItem | None:
        self.said = f"{what} {visible(item.id)}"
        self.past.append(item)
        return self._next()

    def _decide(self, item: ReviewItem, action: Action, what: str, *, leave: bool = True) -> ReviewItem | None:
        return self._save(
            Decision(id=item.id, action=action, seen=item.seen, note=self.note, reviewer=self.reviewer), item, what, leave=leave
        )

    def _save(self, decision: Decision, item: ReviewItem, what: str, *, leave: bool = True) -> ReviewItem | None:
        append_decision(self.path, decision)
        self.made[what.rstrip(":")] += 1
        if leave:
            return self._leave(item, what)
        self.said = f"{what} {visible(item.id)}"
        self.decisions = decisions_about(self.queue, self.path)
        return item

    def _back(self, item: ReviewItem | None) -> ReviewItem | None:
        if not self.past:
            self.said = "this is the first of this sitting"
            return item
        before = self.past.pop()
        self.passed.discard(before.seen)
        self.said = ""
        self.decisions = decisions_about(self.queue, self.path)
        return before

    def _take_note(self, item: ReviewItem) -> ReviewItem | None:
        decision = self.decisions.on(item.seen)
        text = self._ask(item, "note", self.note or (decision.note if decision is not None else ""))
        if text is None:
            return item
        if decision is not None:
            return self._save(decision.model_copy(update={"note": text, "reviewer": self.reviewer}), item, "noted:", leave=False)
        self.note, self.said = text, "the note is saved with the decision"
        return item

    def _edit(self, item: ReviewItem) -> ReviewItem | None:
        """Edit until it can be read or is given up. Returns the next candidate, or this one where nothing was decided."""
        words = words_of(item, self.decisions)
        command = editor()
        with tempfile.TemporaryDirectory(prefix="limakit-") as folder:
            path = Path(folder) / "candidate.md"
            path.write_bytes(as_markdown(item, words).encode())
            while True:
                with self.screen.suspended():
                    run_editor(command, path)
                after = path.read_bytes() if path.exists() else b""
                if not after.strip():
                    self.said = "the file is empty: nothing was decided"
                    return item
                try:
                    decision = edit_of(item, path, self.note, self.reviewer)
                except LimakitError as error:
                    if self._gives_up(error):
                        return item
                    continue
                return self._save(decision, item, "edited" if decision.action == "edit" else "unchanged, so accepted:")

    def _gives_up(self, error: LimakitError) -> bool:
        where = str(error.where).rpartition("candidate.md")[2].lstrip(", ")
        text = [f"{where + ': ' if where else ''}{error.what}", f"-> {error.remedy}" if error.remedy else ""]
        self.screen.show(
            "This cannot be taken as it stands",
            [visible(line) for line in text],
            ["", "e edit it again   Esc drop the changes"],
            move="home",
        )
        while (key := self.screen.key()) not in ("e", "esc", "q", "eof"):
            pass
        self.said = "" if key == "e" else "the changes were dropped"
        return key != "e"

    def _ask(self, item: ReviewItem, question: str, text: str) -> str | None:
        head, body, _ = self._page(item)
        return self.screen.ask(head, body, question, text)

    def _other_source(self, item: ReviewItem | None) -> ReviewItem | None:
        labels = sorted({i.label for i in self.queue})
        lines = ["  0  all of them"]
        for n, label in enumerate(labels, start=1):
            left = sum(waits(i, self.decisions) for i in self.queue if i.label == label)
            lines.append(f"{n:>3}  {visible(label)} ({left} waiting)")
        answer = self.screen.ask("Which source?", lines, "number")
        if answer is None:
            return item
        if not answer.isdecimal() or int(answer) > len(labels):
            self.said = f"there is no source {visible(answer)!r}"
            return item
        self.source = labels[int(answer) - 1] if int(answer) else None
        self.said = ""
        return self._next()

    def _help(self) -> None:
        self.screen.show("Keys", HELP, ["", "any key: back"], move="home")
        while self.screen.key() == "resize":
            self.screen.show("Keys", HELP, ["", "any key: back"])
