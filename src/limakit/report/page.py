"""The report: one self-contained page (no network, no script) and the numbers on it as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import LimakitError
from ..progress import visible as one_line
from ..progress import warn
from ..recipe import Recipe
from ..workspace import Workspace, atomic_dir, stage_lock, write_json, write_text
from . import paper
from .agreeing import agreement_section
from .canvas import Drawing
from .dataset import find_tokenizer, licence_table, outcome_table, size_section
from .grading import grade_section
from .inputs import Inputs, read_inputs
from .ledger import Ledger
from .samples import COLLAPSE
from .sections import paper_drawings, preference_section, sample_section
from .tables import Cell, Table, paper_preference_table
from .text import excerpt, visible
from .training import training_section


def write_report(workspace: Workspace, recipe: Recipe) -> list[Path]:
    """Write report/index.html, report/numbers.json and report/figures/*.png; equal inputs give equal bytes.

    Returns what was written, the page first. Raises LimakitError where there is nothing to report, or an input cannot be read.
    """
    inputs = read_inputs(workspace, recipe)
    if inputs.empty:
        raise LimakitError(
            "there is nothing to report yet: no data, run, responses, judgments or grades",
            where=workspace.root,
            remedy="run limakit curate first",
        )
    for found in (inputs.responses, inputs.judgments, inputs.grades):
        for name, reason in found.stale.items():
            warn(one_line(f"{name} is out of date: {reason}"))
    with stage_lock(workspace.report, "report"):
        page, ledger, drawings = _page(workspace, recipe, inputs)
        numbers = {
            "recipe": recipe.name,
            "base": recipe.model.base,
            "seed": recipe.seed,
            "limakit": __version__,
            "numbers": ledger.as_json(inputs.hashes),
        }
        index, listing, figures = workspace.report / "index.html", workspace.report / "numbers.json", workspace.report / "figures"
        with atomic_dir(figures) as folder:
            for drawing in drawings:
                (folder / f"{drawing.name}.png").write_bytes(drawing.png)
        write_json(listing, numbers)
        write_text(index, page)
    return [index, listing, figures]


def _page(workspace: Workspace, recipe: Recipe, inputs: Inputs) -> tuple[str, Ledger, list[Drawing]]:
    ledger = Ledger()
    tokenizer = find_tokenizer(workspace, recipe) if inputs.sets else None
    data = size_section(inputs, recipe, tokenizer, ledger)
    curation = [table for table in (outcome_table(inputs, ledger), licence_table(inputs, ledger)) if table]
    training = training_section(inputs, recipe, tokenizer, ledger)
    preference = preference_section(inputs, recipe, ledger)
    grades = grade_section(inputs, recipe, ledger)
    agreement = agreement_section(inputs, ledger)
    shown = sample_section(inputs, recipe, ledger)
    papers = paper_drawings()
    facts: list[tuple[str, Cell]] = [("base model", recipe.model.base), ("seed", str(recipe.seed)), ("limakit", __version__)]
    if data and data.examples:
        facts.insert(1, ("training examples", data.examples))
    context: dict[str, Any] = {
        "recipe": recipe,
        "facts": facts,
        "stale": [*inputs.responses.stale, *inputs.judgments.stale, *inputs.grades.stale],
        "findings": [finding for section in (preference, grades, agreement, shown, training) if section for finding in section.findings],
        "data": data,
        "data_heading": "The training set" if "train" in inputs.sets or not inputs.sets else "The prompts",
        "curation": curation,
        "training": training,
        "choice": inputs.choice,
        "choice_page": inputs.choice_page,
        "preference": preference,
        "papers": papers,
        "paper_preference": paper_preference_table(ledger),
        "grades": grades,
        "agreement": agreement,
        "samples": shown,
        "collapse": COLLAPSE,
        "paper": paper.PAPER,
        "recipe_file": workspace.recipe_path.name,
        "commands": _commands(recipe, inputs),
        "files": inputs.hashes,
        "files_table": Table("sha256 of each file", ("file", "sha256"), tuple(sorted(inputs.hashes.items())), texts=2),
        "css": (resources.files("limakit.report") / "page.css").read_text("utf-8"),
    }
    drawings = [
        *(training.drawings if training else ()),
        *(preference.drawings if preference else ()),
        *papers,
        *(grades.drawings if grades else ()),
    ]
    return environment().get_template("page.html.j2").render(context), ledger, drawings


def environment() -> Environment:
    """Autoescape for everything; text is made visible first, and what is not defined is an error, never an empty place."""
    environment = Environment(
        loader=PackageLoader("limakit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["excerpt"] = excerpt
    return environment


def _commands(recipe: Recipe, inputs: Inputs) -> Sequence[str]:
    """The stages that made what is here, in their order."""
    stages = (
        (inputs.sets, "limakit curate"),
        (inputs.log, "limakit train"),
        (inputs.responses, "limakit generate"),
        (inputs.judgments or inputs.grades, "limakit judge"),
    )
    return [command for there, command in stages if there] + ["limakit report"]
