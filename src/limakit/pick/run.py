"""`limakit pick`: take rows from any pool by a named strategy, with an account of every row.

FILE.jsonl holds the picked rows, best first; FILE.scores.jsonl every row of the pool with its score and why it was not picked; FILE.manifest.json what
made them. What takes long (losses, embeddings, ratings) is kept in .cache/pick beside them as it comes, so the same command goes on after a kill.
"""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..curate.stats import read_set
from ..errors import LimakitError, UsageError
from ..progress import say, warn
from ..recipe import read_recipe
from ..records import Example, write_jsonl
from ..workspace import PARTIAL, find_workspace, is_done, sha256_file, sha256_json, stage_lock, write_manifest
from .account import counts, show_account, write_account
from .basis import Judge, measure_rows, model_files
from .best import best
from .deita import deita
from .facility_location import facility_location
from .ifd import ifd
from .k_center import k_center
from .longest import longest
from .options import USES, Options, check_options
from .random_n import random_n
from .rows import Picks, Rows, drawn_order


def pick(
    pool: Path,
    *,
    by: str,
    take: int,
    out: Path,
    seed: int = 7,
    options: Options | None = None,
    allow_fewer: bool = False,
    recipe: Path | None = None,
) -> list[Path]:
    """Pick `take` rows of `pool` (ours or the published format) by a strategy; returns the files written, [] where they were there already.

    Raises UsageError for options that do not fit the strategy and for a `take` beyond the pool, LimakitError for unreadable or damaged inputs and,
    without `allow_fewer`, where fewer rows are fit to be picked. Nothing is written then.
    """
    options = options or Options()
    check_options(by, take, options)
    account, manifest = out.with_suffix(".scores.jsonl"), out.with_suffix(".manifest.json")
    given = [path for path in (pool, options.embeddings, options.scores) if path is not None]
    if recipe is not None and not (by == "rating" or (by == "deita" and options.scores is None)):
        raise UsageError("no judge is asked, so nothing looks at it", where="--recipe", remedy="leave it out; it is for rating and deita")
    _check_out(out, account, manifest, given)
    examples = _read_pool(pool, take)
    judge = _judge(by, options, recipe) if by == "rating" or (by == "deita" and options.scores is None) else None
    settings = _settings(by, take, seed, options, allow_fewer, judge)
    kept = out.parent / ".cache" / "pick"
    with stage_lock(kept, "pick"):
        for name in (out.name, account.name, manifest.name):
            for leaving in out.parent.glob(f"{PARTIAL}{glob.escape(name)}-*"):  # of a killed run
                leaving.unlink(missing_ok=True)
        inputs = {os.path.relpath(path, out.parent): sha256_file(path) for path in given}
        for model in (options.runs, options.tokenizer):
            inputs |= {f"{model}: {file}": digest for file, digest in model_files(model).items()} if model else {}
        if is_done(manifest, settings=settings | {"unrated": 0}, inputs=inputs):
            say(f"{out} is up to date: same pool, same settings; nothing to do")
            return []
        order = drawn_order([example.id for example in examples], seed)
        basis = measure_rows(by, examples, order, options, judge, kept)
        if basis.unanswered and not allow_fewer:
            what = f"to questions about {basis.unanswered} of the pool's {len(examples)} rows no answer came; nothing was written"
            raise LimakitError(what, where=pool, remedy="the same command asks them again, and them alone, or say --allow-fewer")
        picks = _choose(by, basis.rows, take, options)
        _check_number(picks, take, len(examples), by, allow_fewer, pool)
        picked = [examples[order[place]] for place in picks.order]
        packages = ("numpy", "torch", "transformers") if options.runs else ("numpy",)
        settings |= {"unrated": basis.unrated}
        # first a manifest that only says whose the files are, so that after a kill the same command may write over them
        write_manifest(
            manifest, stage="pick", settings=settings, inputs=inputs, outputs={out.name: "", account.name: ""}, packages=packages
        )
        write_account(account, order, basis.rows, picks, basis.answers)
        write_jsonl(out, picked)
        outputs = {path.name: sha256_file(path) for path in (out, account)}
        write_manifest(manifest, stage="pick", settings=settings, inputs=inputs, outputs=outputs, packages=packages)
    show_account(by, examples, picked, picks.reasons)
    if basis.note:
        warn(basis.note)
    return [out, account, manifest]


def _check_out(out: Path, account: Path, manifest: Path, given: Sequence[Path]) -> None:
    """Raise UsageError where writing could destroy what is not ours to write."""
    if out.suffix != ".jsonl":
        raise UsageError("picked rows are JSONL, and the name does not say so", where=out, remedy="let it end in .jsonl")
    if out.name.endswith(".scores.jsonl"):
        raise UsageError("that is the name of an account of scores", where=out, remedy="choose another --out")
    files = (out, account, manifest)
    if any(path.exists() and written.exists() and path.samefile(written) for path in given for written in files):
        raise UsageError("would be written over what it is made from", where=out, remedy="choose another --out")
    there = [path for path in files if path.exists()]
    if there and not (all(path.is_file() for path in there) and _is_ours(manifest, {out.name, account.name})):
        raise UsageError("is there, and limakit pick did not write it", where=there[0], remedy="choose another --out, or remove it")


def _is_ours(manifest: Path, names: set[str]) -> bool:
    try:
        told = json.loads(manifest.read_bytes())
        return told["stage"] == "pick" and set(told["outputs"]) == names
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _read_pool(pool: Path, take: int) -> list[Example]:
    examples = read_set(pool)
    twice = [row_id for row_id, n in Counter(example.id for example in examples).items() if n > 1]
    if twice:
        what = f"{len(twice)} ids come more than once, first {twice[0]!r}"
        raise LimakitError(what, where=pool, remedy="give every row an id of its own: scores and embeddings are told apart by it")
    if take > len(examples):
        raise UsageError(f"--take {take} of a pool of {len(examples)} rows", where=pool, remedy="take fewer, or name a larger pool")
    return examples


def _judge(by: str, options: Options, recipe: Path | None) -> Judge:
    """The recipe's judge and the rubrics. Raises UsageError where it is no endpoint that can be asked."""
    from ..endpoint.client import check_endpoint
    from ..judge.rubric import GRADE, PROMPT, load_rubric

    workspace = find_workspace(recipe)
    path = workspace.recipe_path
    spec = read_recipe(path).judge
    if spec.kind != "endpoint":
        remedy = 'set kind = "endpoint" with base_url and model under [judge], or bring scores'
        why = (
            "the oracle knows the prompts of its own world alone"
            if spec.kind == "oracle"
            else "rows are rated by a judge at an endpoint alone"
        )
        raise UsageError(why, where=path, remedy=remedy)
    check_endpoint(spec, "judge")
    if by == "rating":
        return Judge(spec, {"score": load_rubric(options.rubric or "rating", GRADE, Path())}, workspace.spent)
    return Judge(
        spec,
        {"complexity": load_rubric("complexity", PROMPT, Path()), "quality": load_rubric("helpfulness", GRADE, Path())},
        workspace.spent,
    )


def _settings(by: str, take: int, seed: int, options: Options, allow_fewer: bool, judge: Judge | None) -> dict[str, Any]:
    """What the result depends on, with the defaults spelt out. Files stand among the inputs, by their hashes."""
    settings: dict[str, Any] = {"strategy": by, "take": take, "seed": seed, "allow_fewer": allow_fewer}
    settings |= {name: value for name in USES[by] if (value := getattr(options, name)) is not None and not isinstance(value, Path)}
    if options.runs:
        from ..model.load import pick_device

        settings["device"] = pick_device(options.device or "auto").type  # type: ignore[arg-type]
    if by == "deita":
        settings["max_similarity"] = options.similarity
    if judge is not None:
        spec, rubrics = judge.spec, judge.rubrics
        settings |= {"judge": spec.model, "base_url": spec.base_url, "draws": spec.draws, "temperature": spec.temperature}
        settings |= {"max_tokens": spec.max_tokens, "rubrics": {name: rubric.name for name, rubric in rubrics.items()}}
        settings["rubrics_sha256"] = sha256_json([[rubric.text, *rubric.values] for rubric in rubrics.values()])
    return settings


def _choose(by: str, rows: Rows, take: int, options: Options) -> Picks:
    match by:
        case "random":
            return random_n(rows, take)
        case "longest":
            return longest(rows, take)
        case "ifd":
            return ifd(rows, take, keep_above_1=options.keep_above_1)
        case "k_center":
            return k_center(rows, take)
        case "facility_location":
            return facility_location(rows, take)
        case "deita":
            return deita(rows, take, max_similarity=options.similarity)
        case _:
            return best(rows, take, at_least=options.at_least)


def _check_number(picks: Picks, take: int, rows: int, by: str, allow_fewer: bool, pool: Path) -> None:
    n = len(picks.order)
    if n < take and not (allow_fewer and n):
        against: Mapping[int, str] = picks.reasons
        what = (
            f"{'only ' if n else ''}{n} of the pool's {rows} rows are fit to be picked, not {take} ({counts(against)}); nothing was written"
        )
        remedy = "take fewer, loosen the threshold, or say --allow-fewer" if n else f"look at what --by {by} goes by"
        raise LimakitError(what, where=pool, remedy=remedy)
