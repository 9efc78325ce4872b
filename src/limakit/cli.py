"""The face: parse, call one function, print. Heavy imports live inside the stage that needs them, so --help is quick."""

from __future__ import annotations

import io
import os
import sys
import time
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
    from .progress import say, visible

    for path in paths:
        say(visible(f"wrote {path}"))


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
        Optional[str],
        typer.Option(metavar="ADDRESS", help="Work on this Ray cluster, host:port; default: this machine.", show_default=False),
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Build the training set and the dev and test prompts from the recipe's sources."""
    workspace, settings = _open(recipe)
    from .curate.pipeline import curate as run

    _wrote(run(workspace, settings, cluster))


@app.command()
def review(
    source: Annotated[
        Optional[str], typer.Option(help="Only candidates of this source; tells two of one ID apart.", show_default=False)
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Also what is kept and needs no review.")] = False,
    reviewer: Annotated[Optional[str], typer.Option(help="Who decides; default $USER.", show_default=False)] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the candidates that wait, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: as JSON, with their texts.")] = False,
    show: Annotated[Optional[str], typer.Option(metavar="ID", help="Print one candidate as Markdown, to edit.", show_default=False)] = None,
    accept: Annotated[Optional[list[str]], typer.Option(metavar="ID", help="Accept; repeat for more.", show_default=False)] = None,
    reject: Annotated[Optional[list[str]], typer.Option(metavar="ID", help="Reject; repeat for more.", show_default=False)] = None,
    undo: Annotated[Optional[list[str]], typer.Option(metavar="ID", help="As if nobody had looked.", show_default=False)] = None,
    edit: Annotated[Optional[str], typer.Option(metavar="ID", help="Take it with the words of --file.", show_default=False)] = None,
    file: Annotated[Optional[Path], typer.Option(help="Markdown, as --show prints it.", show_default=False)] = None,
    note: Annotated[str, typer.Option(help="Why.")] = "",
    recipe: RecipeOption = None,
) -> None:
    """Look at candidates that a person must judge: accept, reject, edit. Without options, one at a time in the terminal."""
    workspace, _ = _open(recipe)
    from .curate import desk
    from .errors import UsageError

    decisions = bool(accept or reject or undo or edit or file)
    if list_ + (show is not None) + decisions > 1:
        raise UsageError("these options do not go together", remedy="list, show one, or decide")
    form = "--list" if list_ else "--show" if show is not None else "a decision" if decisions else "the terminal"
    takes = {
        "--json": ("--list",),
        "--kept": ("--list", "the terminal"),
        "--note": ("a decision",),
        "--reviewer": ("a decision", "the terminal"),
    }
    for option, given in (("--json", as_json), ("--kept", kept), ("--note", bool(note)), ("--reviewer", reviewer is not None)):
        if given and form not in takes[option]:
            raise UsageError(f"{option} means nothing with {form}", remedy=f"it goes with {' or '.join(takes[option])}")
    if list_:
        desk.list_candidates(workspace, source=source, kept=kept, as_json=as_json)
    elif show is not None:
        desk.show_candidate(workspace, show, source=source)
    elif decisions:
        desk.decide(
            workspace, accept=accept or (), reject=reject or (), undo=undo or (), edit=edit, file=file, source=source, note=note,
            reviewer=reviewer,
        )  # fmt: skip
    else:
        desk.review(workspace, source=source, kept=kept, reviewer=reviewer)


def _bounds(text: str | None) -> tuple[int, int] | None:
    from .errors import UsageError

    low, colon, high = (text or ":").partition(":")
    if text is None:
        return None
    if not colon or not low.isdecimal() or not high.isdecimal() or int(low) > int(high):
        raise UsageError(f"--bounds {text!r} are no bounds", remedy="write two numbers of characters, e.g. --bounds 1200:4096")
    return int(low), int(high)


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sets of ours or in the published format, audited together.")],
    tokenizer: Annotated[
        Optional[str], typer.Option(help="Count tokens with this model's tokenizer; default: the recipe's base.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        Optional[int], typer.Option(min=2, help="Where training will cut; default: the recipe's, or 2,048.", show_default=False)
    ] = None,
    bounds: Annotated[
        Optional[str],
        typer.Option(
            metavar="LOW:HIGH", help="Characters of every response; default 1200:4096 for those from Stack Exchange.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Every finding, not only the first of each rule.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Audit sets for the defects of the published data and their like; exit code 1 where there are errors."""
    from .curate.lint import lint as run

    code = run(
        files, tokenizer=tokenizer, max_tokens=max_tokens, bounds=_bounds(bounds), as_json=as_json, show_all=show_all, recipe_path=recipe
    )
    raise typer.Exit(code)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A set of ours.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to put it.")],
) -> None:
    """Write a set in the published LIMA format; dialogues stay whole. Ids, tags and provenance have no place there."""
    from .curate.stats import read_rows
    from .errors import UsageError
    from .sources.lima import write_lima

    if out.exists():
        raise UsageError("is there already; nothing was touched", where=out, remedy="choose another name, or remove it")
    rows = read_rows(file)
    write_lima(out, rows)
    _wrote([out])


@app.command()
def pick(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="A set of ours or in the published format.")],
    by: Annotated[str, typer.Option(help="random, longest, ifd, k_center, facility_location, rating, deita or score.")],
    take: Annotated[int, typer.Option(help="How many.")],
    out: Annotated[Path, typer.Option(help="Where to put them: a .jsonl; scores and a manifest lie beside it.")],
    seed: Annotated[int, typer.Option(help="For draws and ties.")] = 7,
    model: Annotated[Optional[str], typer.Option(help="ifd: a small causal LM, a folder or hub id.", show_default=False)] = None,
    embeddings: Annotated[
        Optional[Path], typer.Option(help="k_center, facility_location, deita: .npy, .npz, .safetensors or .parquet.", show_default=False)
    ] = None,
    embed_model: Annotated[
        Optional[str], typer.Option(help="Instead of --embeddings: a small causal LM to make them with.", show_default=False)
    ] = None,
    scores: Annotated[Optional[Path], typer.Option(help="score, deita: .jsonl or .parquet with id and scores.", show_default=False)] = None,
    tokenizer: Annotated[Optional[str], typer.Option(help="longest: count tokens.", show_default=False)] = None,
    rubric: Annotated[Optional[str], typer.Option(help="rating: ours or a path.", show_default=False)] = None,
    at_least: Annotated[Optional[float], typer.Option(help="rating, score: the lowest that is picked.", show_default=False)] = None,
    max_similarity: Annotated[Optional[float], typer.Option(help="deita: cosine; default 0.9.", show_default=False)] = None,
    keep_above_1: Annotated[bool, typer.Option("--keep-above-1", help="ifd: pick also rows from 1 on.")] = False,
    device: Annotated[Optional[str], typer.Option(help="auto, cpu or cuda, where a model is run.", show_default=False)] = None,
    allow_fewer: Annotated[bool, typer.Option("--allow-fewer", help="Go on with fewer rows than --take.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Pick rows from any pool by a named strategy: the selection baselines."""
    from .pick.options import Options
    from .pick.run import pick as run

    options = Options(
        model=model,
        embeddings=embeddings,
        embed_model=embed_model,
        scores=scores,
        tokenizer=tokenizer,
        rubric=rubric,
        at_least=at_least,
        max_similarity=max_similarity,
        keep_above_1=keep_above_1,
        device=device,
    )
    _wrote(run(pool, by=by, take=take, out=out, seed=seed, options=options, allow_fewer=allow_fewer, recipe=recipe))


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
def plan(
    device: Annotated[str, typer.Option(help="here or cpu: measured on the spot; h100, h200, a100, 4090: estimated.")] = "here",
    devices: Annotated[int, typer.Option(help="How many share the training (torchrun); memory is that of each.")] = 1,
    recipe: RecipeOption = None,
) -> None:
    """Dry run: steps, tokens, trimmed examples, memory and time of the training. Nothing is trained."""
    workspace, settings = _open(recipe)
    from .train.estimate import show_plan

    show_plan(workspace, settings, device, devices)


@app.command()
def train(
    show: Annotated[bool, typer.Option("--show", help="Print the first example token by token with its loss mask, and stop.")] = False,
    example: Annotated[Optional[str], typer.Option(metavar="ID", help="With --show: this example instead.", show_default=False)] = None,
    recipe: RecipeOption = None,
) -> None:
    """Fine-tune the base model on data/train.jsonl; run again to resume."""
    workspace, settings = _open(recipe)
    from .errors import UsageError

    if example is not None and not show:
        raise UsageError("--example means nothing without --show", remedy="limakit train --show --example ID")
    if show:
        from .train.show import show_example

        show_example(workspace, settings, example)
        return
    # packed rows differ in length: without this CUDA's memory is cut into pieces that fit none of the next ones. Read when torch is imported
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    from .generate.dev import each_epoch
    from .train.loop import train as run

    _wrote(run(workspace, settings, each_epoch(workspace, settings)))


@app.command()
def select(
    epoch: Annotated[Optional[int], typer.Option(min=1, help="Choose this epoch; with --because.", show_default=False)] = None,
    because: Annotated[Optional[str], typer.Option(help="Why that one.", show_default=False)] = None,
    who: Annotated[Optional[str], typer.Option(help="Who chooses; default whoever is logged in.", show_default=False)] = None,
    prompt: Annotated[
        Optional[str], typer.Option(metavar="N", help="Print a dev prompt (number or id) with every epoch's response.", show_default=False)
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Write runs/NAME/select/index.html: all of it side by side, with figures.")] = False,
    judge_: Annotated[bool, typer.Option("--judge", help="Have the recipe's judge grade every epoch's responses.")] = False,
    answer: Annotated[
        bool, typer.Option("--answer", help="Ask the dev prompts of epochs that were not asked them, where their weights are here.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the choice back: the last epoch is taken again.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Choose an epoch by what it said to the dev prompts. Without options: a table and, in a terminal, the responses side by side."""
    workspace, settings = _open(recipe)
    from .errors import UsageError

    if sum((epoch is not None, prompt is not None, page, judge_, answer, undo)) > 1:
        raise UsageError("these options do not go together", remedy="choose, print one prompt, write the page, judge, answer, or undo")
    if who is not None and (prompt is not None or page or judge_ or answer or undo):
        raise UsageError("--who means nothing where nothing is chosen", remedy="it goes with --epoch, or the terminal")
    if because is not None and epoch is None:
        raise UsageError("--because means nothing without --epoch", remedy='limakit select --epoch 7 --because "..."')
    if answer:
        from .generate.dev import look_again

        _wrote(look_again(workspace, settings))
    elif judge_:
        from .judge.run import judge_epochs

        _wrote(judge_epochs(workspace, settings))
    elif page:
        from .report.selection import write_page

        _wrote(write_page(workspace, settings))
    else:
        from .analyze.selection import read_selection
        from .select import desk

        if epoch is not None:
            _wrote([desk.choose(workspace, settings, epoch, because or "", who)])
        elif undo:
            desk.unchoose(workspace, settings)
        elif prompt is not None:
            desk.show_prompt(read_selection(workspace, settings), prompt)
        else:
            desk.select(workspace, settings, who)


@app.command()
def generate(
    model: Annotated[
        Optional[str],
        typer.Option(
            help="A checkpoint folder or hub id; default the epoch chosen in this recipe's run, else its last.", show_default=False
        ),
    ] = None,
    name: Annotated[
        Optional[str], typer.Option(help="What to call its responses; default the recipe's name or the folder's.", show_default=False)
    ] = None,
    prompting: Annotated[
        Optional[str],
        typer.Option(
            help="auto, chat, plain or urial (examples in the prompt, for a base model); default the recipe's.", show_default=False
        ),
    ] = None,
    baseline: Annotated[
        Optional[list[str]],
        typer.Option(help="Answer with this one of the recipe's [[baselines]] instead; repeat for more.", show_default=False),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Answer with all of the recipe's [[baselines]].")] = False,
    import_: Annotated[
        Optional[Path], typer.Option("--import", metavar="FILE", help="Take somebody else's responses; with --name.", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
) -> None:
    """Answer the prompts: responses/NAME.jsonl. By a model here, by an endpoint, or from a file."""
    workspace, settings = _open(recipe)
    from .errors import UsageError

    if sum((model is not None, bool(baseline), baselines, import_ is not None)) > 1:
        raise UsageError("these options do not go together", remedy="name one of --model, --baseline, --baselines and --import")
    if (baseline or baselines) and (name is not None or prompting is not None):
        raise UsageError("a baseline has its name and prompting in the recipe", remedy="change them under [[baselines]]")
    if import_ is not None:
        if name is None or prompting is not None:
            raise UsageError("--import needs --name, and no --prompting", remedy="limakit generate --import FILE --name NAME")
        from .generate.imported import import_responses

        _wrote(import_responses(workspace, settings, import_, name))
    elif baseline or baselines:
        from .generate.baselines import generate_baselines

        _wrote(generate_baselines(workspace, settings, baseline or [one.name for one in settings.baselines]))
    else:
        from .generate.run import generate as run

        _wrote(run(workspace, settings, model=model, name=name, prompting=prompting))


@app.command()
def judge(
    model: Annotated[Optional[str], typer.Option(help="Whose responses to judge; default the recipe's name.", show_default=False)] = None,
    against: Annotated[
        Optional[list[str]], typer.Option(help="A baseline's name; repeat for more. Default: the recipe's.", show_default=False)
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say how many questions, what they cost and how long they take; ask nothing.")
    ] = False,
    recipe: RecipeOption = None,
) -> None:
    """Compare responses with the baselines' (both orders) and grade them."""
    workspace, settings = _open(recipe)
    from .judge.run import judge as run

    _wrote(run(workspace, settings, model=model, against=against, estimate=estimate))


@app.command()
def compare(
    files: Annotated[
        Optional[list[Path]],
        typer.Argument(help="Files of judgments or grades; default judgments/*.jsonl and grades/*.jsonl.", show_default=False),
    ] = None,
    prior: Annotated[
        float,
        typer.Option(metavar="GAMES", help="Ranking: tied games that every model plays more, so that the undefeated have a place too."),
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Win, tie and lose with intervals and tests, position and length effects, ranking, grades: from any judgments and grades."""
    from .analyze.compare import show_comparison

    show_comparison(files or None, recipe, as_json=as_json, prior=prior)


@app.command()
def agree(
    files: Annotated[
        Optional[list[Path]],
        typer.Argument(help="Files of judgments or grades; default judgments/*.jsonl and grades/*.jsonl.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    recipe: RecipeOption = None,
) -> None:
    """Agreement between any judges, people and models, with intervals and the level of chance."""
    from .analyze.agree import show_agreement

    show_agreement(files or None, recipe, as_json=as_json)


@app.command()
def power(
    difference: Annotated[
        Optional[float],
        typer.Option(help="The difference to see: wins minus losses in percent points, or points of a grade.", show_default=False),
    ] = None,
    prompts: Annotated[
        Optional[int], typer.Option(min=2, help="How many prompts there are: which difference can be seen?", show_default=False)
    ] = None,
    power_: Annotated[float, typer.Option("--power", help="How often a real difference is to be seen.")] = 0.8,
    level: Annotated[float, typer.Option(help="How often a difference that is none may be seen.")] = 0.05,
    ties: Annotated[Optional[float], typer.Option(help="Prompts that are tied, in percent; default 25.", show_default=False)] = None,
    grades: Annotated[bool, typer.Option("--grades", help="Of grades instead of preferences.")] = False,
    sd: Annotated[
        Optional[float], typer.Option(help="--grades: standard deviation over prompts of the two models' difference.", show_default=False)
    ] = None,
    pilot: Annotated[
        Optional[list[Path]], typer.Option(help="Take ties and spread from these judgments or grades instead.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """How many prompts it takes to see a difference, or which difference so many prompts can show; with both, how often it is seen."""
    from .analyze.designs import show_power

    show_power(
        difference=difference,
        prompts=prompts,
        power=power_,
        level=level,
        ties=ties,
        grades=grades,
        sd=sd,
        pilot=pilot or [],
        as_json=as_json,
    )


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
        Optional[Path], typer.Option(help="Which one; default the epoch chosen in this recipe's run, else its last.", show_default=False)
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
    "peft": "lora",
    "pyarrow": "curate",
    "selectolax": "curate",
    "daft": "curate",
    "orjson": "curate",
    "zstandard": "curate",
    "ray": "cluster",
    "httpx2": "judge",
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
        from .progress import visible  # a message may quote a file

        rank = next((f"{note}: " for note in getattr(error, "__notes__", []) if note.startswith("rank ")), "")  # train/ranks.py
        if not rank and os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(
                5
            )  # what fails before the ranks have met fails in each of them: the first on each machine tells it and ends the others
        else:
            print("\n".join(visible(line) for line in f"limakit: {rank}{_message(error)}".split("\n")), file=sys.stderr, flush=True)
        code = getattr(error, "exit_code", 1)
        if rank:
            os._exit(code)  # at once: an orderly end takes seconds, may wait for the other ranks, and torchrun would see them end first
        sys.exit(code)


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
