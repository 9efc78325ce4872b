"""`limakit select`: look at the epochs in the terminal, and write down which one is taken and why."""

from __future__ import annotations

import datetime
from pathlib import Path

from ..analyze.origin import Present
from ..analyze.selection import NO_PROMPTS, EpochSeen, Selection, epoch_numbers, no_epoch, read_selection
from ..choice import CHOICE, SUMS, Choice, choosing, epoch_folder, write_choice
from ..curate.desk import default_reviewer
from ..curate.screen import Screen, is_terminal
from ..errors import UsageError
from ..generate.look import Place
from ..progress import say, show_table, visible, warn
from ..recipe import Recipe
from ..workspace import Workspace, name_for_file, sha256_file
from .reading import Reading, prompt_lines


def show_epochs(selection: Selection) -> None:
    """A line an epoch, and how perplexity goes with the grades."""
    graded = next((epoch.graded.summary for epoch in selection.epochs if epoch.graded), None)
    examples, answers = ({epoch.held_out for epoch in selection.epochs}, {len(epoch.answers) for epoch in selection.epochs})
    with_n = len(examples) > 1 or len(answers) > 1  # else the title tells them once, and the table fits a narrow terminal
    of_examples = "" if with_n else f" of {min(examples)} examples"
    of_answers = "" if with_n else f" of {min(answers)} dev responses"
    title = [
        f"The epochs of {selection.run.name}; in brackets 95 % intervals",
        f"loss: of its own steps; perplexity{of_examples}, held out; tokens and stopped{of_answers}",
        f"grade: judge {graded.judge}, rubric {graded.rubric}" if graded else "",
    ]
    columns = ["epoch", "loss", "perplexity", *(["n"] if with_n else []), "tokens", "stopped", *(["n"] if with_n else [])]
    columns += [*(["grade"] if graded else []), "kept"]
    rows = [_cells(epoch, selection, with_n=with_n, graded=graded is not None) for epoch in selection.epochs]
    show_table("\n".join(filter(None, title)), columns, rows)
    for note in selection.notes:
        warn(visible(note))
    if text := relation_text(selection):
        say(text)
    if selection.choice is not None:
        say(visible(choice_text(selection.choice)))


def _cells(epoch: EpochSeen, selection: Selection, *, with_n: bool, graded: bool) -> list[str]:
    ppl, tokens, stopped = epoch.perplexity, epoch.tokens, epoch.stopped
    cells = [
        f"{epoch.number}{' *' if selection.choice is not None and selection.choice.epoch == epoch.number else ''}",
        f"{epoch.loss:.3f}" if epoch.loss is not None else "-",
        f"{ppl.value:.2f} [{ppl.low:.2f}–{ppl.high:.2f}]" if ppl else "-",
        *([str(epoch.held_out)] if with_n else []),
        f"{tokens.value:.0f} [{tokens.low:.0f}–{tokens.high:.0f}]" if tokens else "-",
        f"{100 * stopped.value:.0f} % [{100 * stopped.low:.0f}–{100 * stopped.high:.0f}]" if stopped else "-",
        *([str(len(epoch.answers))] if with_n else []),
    ]
    if graded:
        mean = epoch.graded.summary.mean if epoch.graded else None
        counts = ", ".join(f"{value}: {n}" for value, n in epoch.graded.summary.counts.items()) if epoch.graded else "-"
        cells.append(f"{mean.value:.2f} [{mean.low:.2f}–{mean.high:.2f}]" if mean else counts)
    return [*cells, "yes" if epoch.kept else "no"]


def relation_text(selection: Selection) -> str:
    """How perplexity goes with the grades over the epochs, or nothing where that is not known."""
    found = selection.relation
    if found is None:
        return ""
    interval = f" [{found.interval[0]:.2f} to {found.interval[1]:.2f}]" if found.interval else ""
    basis = f"{found.prompts} prompts and {found.examples} held-out examples resampled"
    return f"Perplexity and grades over {found.epochs} epochs: Spearman's rho {found.rho:.2f}{interval} ({basis}): {found.said}"


def choice_text(choice: Choice) -> str:
    by = f" by {choice.who}" if choice.who else ""
    return f"Chosen: epoch {choice.epoch}, on {choice.date}{by}: {choice.because}"


def show_prompt(selection: Selection, which: str) -> None:
    """Print one dev prompt and what each epoch said to it, one under the other."""
    for line in prompt_lines(selection, selection.prompt(which)):
        say(line)


def choose(workspace: Workspace, recipe: Recipe, epoch: int, because: str, who: str | None = None) -> Path:
    """Write runs/NAME/choice.json. generate and export take that epoch from then on, and training keeps its weights.

    Raises UsageError for an epoch that is not there or whose weights were dropped, and for a choice without a reason.
    """
    run = workspace.runs / name_for_file(recipe.name)
    numbers = epoch_numbers(workspace, run)  # no more is read: a choice that is damaged is mended so
    if not because.strip():
        raise UsageError("a choice needs its reason", remedy=f'limakit select --epoch {epoch} --because "what you saw in the responses"')
    if epoch not in numbers:
        raise no_epoch(epoch, run, numbers)
    with choosing(run):
        folder = epoch_folder(run, epoch)
        if not (folder / SUMS).is_file():
            raise UsageError(
                f"the weights of epoch {epoch} are not here: dropped as train.keep says", where=workspace.relative(folder),
                remedy='choose one of those that are here; with keep = "all" under [train] a run keeps them all (train again under another name)',
            )  # fmt: skip
        answers = Place(run, epoch).responses
        choice = Choice(
            run=recipe.name, epoch=epoch, because=because.strip(), who=default_reviewer() if who is None else who,
            date=datetime.date.today().isoformat(), weights=sha256_file(folder / SUMS),
            responses=sha256_file(answers) if answers.is_file() else None,
        )  # fmt: skip
        path = write_choice(run, choice)
    say(visible(choice_text(choice)))
    if not choice.who:
        say("by whom is not known here: --who NAME says it")
    say(f"limakit generate and export take it from now on; {workspace.relative(run / 'final')} stays the last epoch")
    _say_what_next(workspace, recipe)
    if (
        going := [n for n in numbers if n not in (epoch, numbers[-1]) and epoch_folder(run, n).is_dir()]
        if recipe.train.keep == "picked"
        else []
    ):
        them = f"epochs {', '.join(map(str, going))}" if len(going) > 1 else f"epoch {going[0]}"
        say(f'the next limakit train drops the weights of {them} (train.keep = "picked"), and they cannot be chosen any more')
    return path


def _say_what_next(workspace: Workspace, recipe: Recipe) -> None:
    """What to run where the responses that are here are another epoch's."""
    responses = workspace.responses / f"{name_for_file(recipe.name)}.jsonl"
    if reason := Present(workspace.root).out_of_date(responses):
        say(visible(f"{workspace.relative(responses)}: {reason}, then limakit judge"))


def unchoose(workspace: Workspace, recipe: Recipe) -> None:
    """Take the choice back: the last epoch is taken again. Raises UsageError where there is none."""
    run = workspace.runs / name_for_file(recipe.name)
    epoch_numbers(workspace, run)
    with choosing(run):
        try:
            (run / CHOICE).unlink()  # whatever it holds
        except FileNotFoundError:
            remedy = "limakit select --epoch N --because WHY chooses"
            raise UsageError("nothing is chosen", where=workspace.relative(run), remedy=remedy) from None
    say("nothing is chosen any more: limakit generate and export take the last epoch")
    _say_what_next(workspace, recipe)


def select(workspace: Workspace, recipe: Recipe, who: str | None = None) -> None:
    """The table; in a terminal then the responses side by side, prompt by prompt, until somebody chooses or leaves."""
    selection = read_selection(workspace, recipe)
    show_epochs(selection)
    if not selection.prompts:
        say(f'{NO_PROMPTS}, so there are no responses to read; to choose: limakit select --epoch N --because "..."')
        return
    if not is_terminal() or not any(epoch.answers for epoch in selection.epochs):
        say('to read: limakit select --prompt N, or --page; to choose: limakit select --epoch N --because "..."')
        return
    with Screen() as screen:
        chosen = Reading(screen, selection).run()
    if chosen is not None:
        choose(workspace, recipe, *chosen, who)
