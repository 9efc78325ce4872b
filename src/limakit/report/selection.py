"""The page of a choice: runs/NAME/select/index.html, the dev prompts with what every epoch said, side by side, and what else there is to choose by."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from .. import __version__
from ..analyze.selection import EpochSeen, Selection, read_selection
from ..errors import LimakitError
from ..recipe import Recipe
from ..workspace import Workspace, stage_lock, write_json, write_text
from .canvas import Drawing
from .epoch_figures import Series, draw_against, draw_epochs
from .ledger import Ledger, Rows, count
from .page import environment
from .sections import Finding
from .tables import Cell, Table, mean, share

FOLD = 1_000_000  # characters: what is here to be read is not folded


def write_page(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Write runs/NAME/select/index.html and numbers.json; equal inputs give equal bytes. Returns both.

    Raises UsageError where nothing is trained yet, LimakitError where no epoch was looked at.
    """
    selection = read_selection(workspace, recipe)
    if not any(epoch.look for epoch in selection.epochs):
        remedy = "limakit train looks at each epoch as it ends; limakit select --answer looks at those whose weights are here"
        raise LimakitError("no epoch was looked at", where=workspace.relative(selection.run / "dev"), remedy=remedy)
    ledger = Ledger()
    folder = selection.run / "select"
    with stage_lock(folder, "select"):
        page = _page(recipe, selection, ledger)
        numbers = {"run": recipe.name, "limakit": __version__, "numbers": ledger.as_json(selection.files)}
        write_json(folder / "numbers.json", numbers)
        write_text(folder / "index.html", page)
    return [folder / "index.html", folder / "numbers.json"]


def _page(recipe: Recipe, selection: Selection, ledger: Ledger) -> str:
    files = resources.files("limakit.report")
    return (
        environment()
        .get_template("selection.html.j2")
        .render(
            selection=selection,
            name=recipe.name,
            answered=[epoch for epoch in selection.epochs if epoch.answers],
            table_of_epochs=_table(selection, ledger),
            finding=_finding(selection, ledger),
            drawings=_drawings(selection),
            collapse=FOLD,
            limakit=__version__,
            css="\n".join((files / name).read_text("utf-8") for name in ("page.css", "selection.css")),
        )
    )


def _table(selection: Selection, ledger: Ledger) -> Table:
    graded = next((epoch.graded.summary for epoch in selection.epochs if epoch.graded), None)
    columns = ["epoch", "loss", "perplexity", "examples", "answers", "mean tokens", "ended by itself"]
    columns += [f"grade by {graded.judge}, rubric {graded.rubric}"] if graded else []
    note = (
        "Loss: the mean over the epoch's own steps, dropout on. Perplexity: on the responses of held-out examples; its interval counts examples, the "
        "others count prompts. Weights that were dropped cannot be chosen."
    )
    return Table("Intervals: 95 %", (*columns, "weights"), tuple(_row(epoch, selection, ledger) for epoch in selection.epochs), note=note)


def _row(epoch: EpochSeen, selection: Selection, ledger: Ledger) -> tuple[Cell, ...]:
    n, names = epoch.number, tuple(selection.files)
    look = Rows(tuple(name for name in names if name.endswith(f"/dev/{n:02}.json")))
    said = Rows(tuple(name for name in names if name.endswith(f"/dev/{n:02}.jsonl")))
    log = Rows(tuple(name for name in names if name.endswith("/log.jsonl")), {"epoch": str(n)})
    chosen = selection.choice is not None and selection.choice.epoch == n
    cells: list[Cell] = [f"{n} (chosen)" if chosen else str(n)]
    cells.append(ledger.add("loss", f"mean loss, epoch {n}", epoch.loss, f"{epoch.loss:.3f}", rows=log) if epoch.loss is not None else "–")
    ppl = epoch.perplexity
    cells.append(
        "–" if ppl is None else ledger.add(
            "perplexity", f"held-out perplexity, epoch {n}", ppl.value, f"{ppl.value:.2f}", low=ppl.low, high=ppl.high,
            interval=f"{ppl.low:.2f}, {ppl.high:.2f}", n=epoch.held_out, of="examples", rows=look,
        )
    )  # fmt: skip
    cells.append(ledger.add("perplexity", f"held-out examples, epoch {n}", epoch.held_out, count(epoch.held_out), of="examples", rows=look))
    answers = len(epoch.answers)
    cells.append(ledger.add("answers", f"dev prompts answered, epoch {n}", answers, count(answers), of="prompts", rows=said))
    cells.append(mean(ledger, "answers", f"mean tokens, epoch {n}", epoch.tokens, 0, answers, said))
    cells.append(share(ledger, "answers", f"ended by itself, epoch {n}", epoch.stopped, answers, said))
    if any(other.graded for other in selection.epochs):
        graded = epoch.graded
        cells.append(
            "–" if graded is None
            else mean(ledger, "grade", f"mean grade, epoch {n}", graded.summary.mean, 2, graded.summary.prompts, Rows(graded.files))
            if graded.summary.mean
            else ", ".join(f"{value}: {k}" for value, k in graded.summary.counts.items())
        )  # fmt: skip
    return (*cells, "here" if epoch.kept else "dropped")


def _finding(selection: Selection, ledger: Ledger) -> Finding | None:
    """How perplexity goes with the grades."""
    found = selection.relation
    if found is None:
        return None
    low, high = found.interval or (None, None)
    rho = ledger.add(
        "relation", "Spearman's rho of held-out perplexity and mean grade over the epochs", found.rho, f"{found.rho:.2f}", low=low, high=high,
        interval=f"{low:.2f}, {high:.2f}" if found.interval else "", n=found.epochs, of="epochs",
        rows=Rows(tuple(name for name in selection.files if "/dev/" in name and not name.endswith(tuple(f"/{e.number:02}.jsonl" for e in selection.epochs)))),
    )  # fmt: skip
    over = f" over {found.epochs} epochs ({found.prompts} prompts and {found.examples} held-out examples resampled): "
    return ("Perplexity and grades: Spearman's rho ", rho, over + found.said + ".")


def _drawings(selection: Selection) -> Sequence[Drawing]:
    """Perplexity and mean grade over the epochs, and one against the other; what was not measured is not drawn."""
    chosen = selection.choice.epoch if selection.choice else None
    epochs = [epoch.number for epoch in selection.epochs]
    ppl = Series(
        "Held-out perplexity", f"{max(e.held_out for e in selection.epochs)} examples",
        {epoch.number: epoch.perplexity for epoch in selection.epochs if epoch.perplexity},
    )  # fmt: skip
    graded = {epoch.number: epoch.graded.summary for epoch in selection.epochs if epoch.graded}
    means = {number: summary.mean for number, summary in graded.items() if summary.mean}
    by = next((f"by {summary.judge}, {summary.prompts} prompts" for summary in graded.values()), "")
    grades = Series("Mean grade of the dev responses", by, means)
    series = [one for one in (ppl, grades) if one.values]
    drawings = []
    if series and len(epochs) > 1:
        said = "; ".join(f"{one.title}: " + ", ".join(f"{n} {one.values[n].value:.2f}" for n in sorted(one.values)) for one in series)
        drawings.append(draw_epochs(series, epochs, chosen, "epochs", f"By epoch. {said}"))
    if len(ppl.values.keys() & means.keys()) > 1:
        label = f"Mean grade against held-out perplexity, a point for each of {len(ppl.values.keys() & means.keys())} epochs."
        drawings.append(draw_against(ppl, grades, chosen, "against", label))
    return drawings
