"""One dev prompt on the screen with what the epochs said to it, side by side: read, go on, choose."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..analyze.selection import EpochSeen, Selection
from ..curate.screen import PASTED, Screen, rendered
from ..errors import UsageError
from ..progress import visible
from ..records import Prompt

NARROWEST = 38  # columns that a response needs to be read
MOVES = {" ": "pgdn", "pgdn": "pgdn", "pgup": "pgup", "down": "down", "up": "up", "j": "down", "k": "up", "home": "home", "end": "end"}
KEYS = "n next prompt  p previous  g go to  l later epochs  h earlier  c choose  ? help  q quit"
HELP = [
    "  n, p  the next prompt, the previous one",
    "  g     go to a prompt by its number or id",
    "  l, h  later and earlier epochs, where not all fit side by side",
    "  c     choose an epoch: asks which, and why; the reason is kept with it",
    "  space, page up and down, arrows, j, k: read on",
    "  q     quit; nothing is chosen",
]
ENDED = {
    "eot": "ended by itself",
    "length": "cut at max_tokens",
    "context": "cut: context full",
    "filtered": "cut by a filter",
    "unknown": "end unknown",
}


def shown(text: str) -> str:
    """A text on several lines, in which nothing acts on the terminal."""
    return "\n".join(visible(line) for line in text.expandtabs(4).split("\n"))


def answer_facts(epoch: EpochSeen, prompt: Prompt) -> str:
    """How an epoch's answer ended, its length, its grades; or why there is none."""
    answer = epoch.answers.get(prompt.id)
    if answer is None:
        return "not answered"
    grades = epoch.graded.by_prompt.get(prompt.id, ()) if epoch.graded else ()
    return ", ".join([f"{answer.tokens} tokens", ENDED[answer.finish], *([f"grade {' '.join(grades)}"] if grades else [])])


def prompt_text(prompt: Prompt) -> str:
    if len(prompt.turns) == 1:
        return prompt.text
    return "\n\n".join(f"[{turn.role}]\n{turn.text}" for turn in prompt.turns)


def prompt_lines(selection: Selection, prompt: Prompt) -> list[str]:
    """A prompt and all its answers, one under the other, as plain lines."""
    number = selection.prompts.index(prompt) + 1
    lines = [visible(f"prompt {number} of {len(selection.prompts)}: {prompt.id}"), "", *shown(prompt_text(prompt)).split("\n")]
    if note := selection.reworded(prompt):
        lines += ["", f"note: {note}"]
    for epoch in selection.epochs:
        answer = epoch.answers.get(prompt.id)
        lines += ["", visible(f"--- epoch {epoch.number}: {answer_facts(epoch, prompt)}")]
        lines += shown(answer.text).split("\n") if answer else []
    return lines


class Reading:
    """One sitting: which prompt is on the screen, and from which epoch on."""

    def __init__(self, screen: Screen, selection: Selection):
        self.screen, self.selection = screen, selection
        self.epochs = [epoch for epoch in selection.epochs if epoch.answers]
        self.at = 0  # prompt
        self.first = 0  # of the epochs side by side
        self.said = ""

    def run(self) -> tuple[int, str] | None:
        """Until somebody leaves: the epoch chosen and why, or None."""
        move = "home"
        while True:
            self.screen.show(self._head(), self._body(), [self.said, KEYS], move=move)
            key = self.screen.key()
            move, self.said = MOVES.get(key, ""), ""
            if key in ("q", "eof"):
                return None
            if key == " " and self.screen.at_end:
                self._go(self.at + 1)
                move = "home"
            elif key in ("n", "p"):
                self._go(self.at + (1 if key == "n" else -1))
                move = "home"
            elif key in ("l", "h"):
                self._turn(1 if key == "l" else -1)
            elif key == "g":
                self._ask_for_prompt()
                move = "home"
            elif key == "c":
                if (chosen := self._choose()) is not None:
                    return chosen
            elif key == "?":
                self._help()
            elif not move and key not in ("resize", "unknown") and not key.startswith(PASTED):
                self.said = f"{visible(key)} does nothing here; ? tells what does"

    def _head(self) -> str:
        prompts = self.selection.prompts
        some = self._beside()
        epochs = (
            f"epochs {some[0].number} to {some[-1].number} of {self.selection.epochs[-1].number}"
            if len(some) > 1
            else f"epoch {some[0].number}"
        )
        return visible(f"prompt {self.at + 1} of {len(prompts)} · {prompts[self.at].id} · {epochs}")

    def _beside(self) -> Sequence[EpochSeen]:
        fit = max(1, min(len(self.epochs), self.screen.width // NARROWEST))
        self.first = max(0, min(self.first, len(self.epochs) - fit))
        return self.epochs[self.first : self.first + fit]

    def _body(self) -> list[str]:
        prompt, some = self.selection.prompts[self.at], self._beside()
        parts: list[RenderableType] = [
            Panel(Text(shown(prompt_text(prompt)), overflow="fold"), border_style="cyan", title="prompt", title_align="left")
        ]
        if note := self.selection.reworded(prompt):
            parts.append(Text(note, style="yellow"))
        table = Table(expand=True, show_edge=False, padding=(0, 1), header_style="")
        for epoch in some:
            chosen = self.selection.choice is not None and self.selection.choice.epoch == epoch.number
            head = f"epoch {epoch.number}{' (chosen)' if chosen else ''}\n{answer_facts(epoch, prompt)}"
            table.add_column(Text(head, style="green"), ratio=1, overflow="fold")
        answers = [epoch.answers.get(prompt.id) for epoch in some]
        table.add_row(*(Text(shown(answer.text) if answer else "", overflow="fold") for answer in answers))
        return rendered([*parts, table], self.screen.width)

    def _go(self, to: int) -> None:
        last = len(self.selection.prompts) - 1
        if not 0 <= to <= last:
            self.said = "this is the last prompt" if to > last else "this is the first prompt"
        self.at = max(0, min(to, last))

    def _turn(self, by: int) -> None:
        before = self.first
        self.first += by * len(self._beside())
        self._beside()
        if self.first == before:
            self.said = "these are the last epochs" if by > 0 else "these are the first epochs"

    def _ask_for_prompt(self) -> None:
        answer = self.screen.ask(self._head(), self._body(), "prompt (number or id)")
        if answer:
            try:
                self.at = self.selection.prompts.index(self.selection.prompt(answer))
            except UsageError as error:
                self.said = visible(error.what)

    def _choose(self) -> tuple[int, str] | None:
        answer = self.screen.ask(self._head(), self._body(), "which epoch is to be taken")
        if not answer:
            return None
        try:
            epoch = self.selection.epoch(int(answer) if answer.isdecimal() else 0)
        except UsageError as error:
            self.said = visible(error.what)
            return None
        if not epoch.kept:
            self.said = f"the weights of epoch {epoch.number} are not here any more; those that are: {', '.join(str(e.number) for e in self.selection.epochs if e.kept)}"
            return None
        because = self.screen.ask(self._head(), self._body(), f"why epoch {epoch.number}")
        if not because:
            self.said = "nothing was chosen: a choice needs its reason"
            return None
        return epoch.number, because

    def _help(self) -> None:
        self.screen.show("Keys", HELP, ["", "any key: back"], move="home")
        while self.screen.key() == "resize":
            self.screen.show("Keys", HELP, ["", "any key: back"])
