"""The face: parse, call one function, print. Heavy imports live inside the stage that needs them, so --help is quick."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from .errors import LimakitError

app = typer.Typer(
    name="limakit",
    help="Align a pretrained language model with very little, very good data, the way of LIMA.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeOption = Annotated[Optional[Path], typer.Option("--recipe", help="The recipe; default lima.toml here.", show_default=False)]


def _open(path: Path | None):
    from .recipe import read_recipe
    from .workspace import find_workspace

    workspace = find_workspace(path)
    return workspace, read_recipe(workspace.recipe_path)


def _wrote(paths: list[Path]) -> None:
    from .progress import say

    for path in paths:
        say(f"wrote {path}")


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where to put the demo's workspace.")] = Path("demo")) -> None:
    """The whole way on a small sample, offline: raw dumps to a judged response and a report."""
    from .progress import say
    from .world.demo import run_demo

    say(f"The report: {run_demo(out)}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new workspace.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe to start from: lima-65b, lima-30b or lima-7b.")] = "lima-7b",
) -> None:
    """Make a workspace: a commented recipe and folders to author in."""
    from .progress import say
    from .recipe import init_workspace

    for path in init_workspace(folder, recipe):
        say(f"wrote {path}")


@app.command()
def curate(
    cluster: Annotated[
        Optional[str], typer.Option(metavar="ADDRESS", help="Work on this Ray cluster, host:port; default: this machine.", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Build the training set and the dev and test prompts from the recipe's sources."""
    workspace, settings = _open(recipe)
    from .curate.pipeline import curate as run

    _wrote(run(workspace, settings, cluster))


@app.command()
def stats(
    file: Annotated[Path, typer.Argument(help="A set of ours or in the published format.")],
    tokenizer: Annotated[
        Optional[str],
        typer.Option(help="Count with this model's tokenizer (a hub id or a folder); default: the recipe's base.", show_default=False),
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Table 1 for a set: examples, mean prompt and response lengths by source."""
    from .curate.stats import show_stats

    show_stats(file, tokenizer, recipe)


@app.command()
def plan(recipe: RecipeOption = None) -> None:
    """Dry run: steps, tokens, trimmed examples, memory and time of the training. Nothing is trained."""
    workspace, settings = _open(recipe)
    from .train.estimate import show_plan

    show_plan(workspace, settings)


@app.command()
def train(
    show: Annotated[bool, typer.Option("--show", help="Print the first example token by token with its loss mask, and stop.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Fine-tune the base model on data/train.jsonl; run again to resume."""
    workspace, settings = _open(recipe)
    from .train.loop import show_example
    from .train.loop import train as run

    if show:
        show_example(workspace, settings)
    else:
        _wrote(run(workspace, settings))


@app.command()
def generate(
    model: Annotated[
        Optional[str], typer.Option(help="A checkpoint folder or hub id; default this recipe's runs/NAME/final.", show_default=False)
    ] = None,
    name: Annotated[
        Optional[str], typer.Option(help="What to call its responses; default the recipe's name or the folder's.", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Answer the prompts: responses/NAME.jsonl."""
    workspace, settings = _open(recipe)
    from .generate.run import generate as run

    _wrote(run(workspace, settings, model=model, name=name))


@app.command()
def judge(
    model: Annotated[Optional[str], typer.Option(help="Whose responses to judge; default the recipe's name.", show_default=False)] = None,
    against: Annotated[
        Optional[list[str]], typer.Option(help="A baseline's name; repeat for more. Default: the recipe's.", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Compare responses with the baselines' (both orders) and grade them."""
    workspace, settings = _open(recipe)
    from .judge.run import judge as run

    _wrote(run(workspace, settings, model=model, against=against))


@app.command()
def compare(
    files: Annotated[
        Optional[list[Path]], typer.Argument(help="Files of judgments; default judgments/*.jsonl.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Win, tie and lose with intervals, from any judgments."""
    from .analyze.preference import show_comparison

    show_comparison(files or None, recipe, as_json=as_json)


@app.command()
def report(recipe: RecipeOption = None) -> None:
    """Write report/index.html: every table and figure beside the paper's numbers."""
    workspace, settings = _open(recipe)
    from .report.page import write_report

    _wrote(write_report(workspace, settings))


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put it.")],
    checkpoint: Annotated[
        Optional[Path], typer.Option(help="Which one; default this recipe's runs/NAME/final.", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Write a checkpoint that other tools load and chat with."""
    workspace, settings = _open(recipe)
    from .model.export import export as run
    from .progress import say

    run(workspace, settings, folder, checkpoint)
    say(f"wrote {folder}")


# which extra brings a package that a stage may lack
_EXTRAS = {
    "torch": "train",
    "transformers": "train",
    "safetensors": "train",
    "pyarrow": "curate",
    "selectolax": "curate",
    "daft": "curate",
    "orjson": "curate",
    "zstandard": "curate",
    "ray": "cluster",
    "openai": "judge",
}


def main() -> None:
    """Run a command; a user's mistake is one message and an exit code, never a traceback (unless --debug)."""
    debug = "--debug" in sys.argv or os.environ.get("LIMAKIT_DEBUG") == "1"
    sys.argv = [a for a in sys.argv if a != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the letter shows its code
    try:
        app()
    except SystemExit as stop:
        if stop.code == 130:  # typer's word for Ctrl-C
            print("limakit: stopped; the same command goes on where it was", file=sys.stderr)
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        print(f"limakit: {_message(error)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


def _message(error: Exception) -> str:
    """What a user reads of an error: our own messages as they are, others in one line."""
    if isinstance(error, LimakitError):
        return error.message
    if isinstance(error, ModuleNotFoundError) and (extra := _EXTRAS.get((error.name or "").split(".")[0])):
        return f"this stage needs {error.name}, which is not installed\n  -> pip install 'limakit[{extra}]'"
    if isinstance(error, MemoryError):
        return "out of memory\n  -> close other programs, take less at once (batch, pack_tokens), or use a larger machine"
    if isinstance(error, OSError) and error.strerror:
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror}\n  -> check the path, its permissions and the space left"
    what = (str(error).splitlines() or [""])[0][:300]
    return f"failed in a way that nobody foresaw: {type(error).__name__}: {what}\n  -> the same command with --debug shows where; please report it"


if __name__ == "__main__":
    main()
