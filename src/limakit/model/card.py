"""The model card of an export: what the model was made from, as its own run recorded it, and nothing about the machine it was made on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from ..recipe import Recipe
from ..records import Example, Provenance, read_jsonl
from ..workspace import Workspace, name_for_file, sha256_file


@dataclass(frozen=True)
class Run:
    """What runs/NAME/run.json says. `data`: the hash of the train.jsonl it read; `base` without where it lay."""

    name: str
    checkpoint: str  # within the run: "final", "epochs/07"
    base: str
    seed: int
    train: dict[str, Any]
    data: str | None


def read_run(checkpoint: Path) -> Run | None:
    """The run a checkpoint belongs to (runs/NAME/final, runs/NAME/epochs/NN), or None where it lies by itself or its run.json is unreadable."""
    checkpoint = checkpoint.resolve()
    folder = checkpoint.parent.parent if checkpoint.parent.name == "epochs" else checkpoint.parent
    within = checkpoint.relative_to(folder).as_posix()
    try:
        run = json.loads((folder / "run.json").read_bytes())
        settings, inputs = run["settings"], run["inputs"]
        base = public_name(settings["base"], is_folder="base/commit" not in inputs)
        return Run(folder.name, within, base, settings["seed"], dict(settings["train"]), inputs.get("data/train.jsonl"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def public_name(name: str, *, is_folder: bool) -> str:
    """A hub id whole; of a folder, or of what can only be one, the last part: where it lay is nobody's business."""
    if not (is_folder or Path(name).is_absolute() or name.startswith(("~", "."))):
        return name
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(".~")]
    return parts[-1] if parts else "a local folder"


def model_card(workspace: Workspace, recipe: Recipe, source: Path, generation: GenerationConfig) -> str:
    """The card of checkpoint `source` (Markdown with the hub's YAML header). Names from data and recipe appear as code, never as markup.

    Base, settings, seed and data are those of the checkpoint's run; the recipe may have changed since, or be another's.
    """
    run = read_run(source)
    name = run.name if run else source.resolve().name
    name = recipe.name if name == name_for_file(recipe.name) else name  # with the slash it may have
    lines = [
        "---",
        *([f"base_model: {json.dumps(run.base)}"] if run else []),
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# {_code(name)}",
        "",
        f"{_code(run.base) if run else 'A model'} fine-tuned on a small set of examples in the way of LIMA (Zhou et al. 2023), with limakit.",
        *([f"Checkpoint: {_code(run.checkpoint)} of the run {_code(run.name)}."] if run else []),
        "",
        "## Use",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        "tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)",
        'messages = [{"role": "user", "content": "How do I keep basil fresh?"}]',
        'inputs = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)',
        "print(tokenizer.decode(model.generate(**inputs)[0, inputs['input_ids'].shape[1] :], skip_special_tokens=True))",
        "```",
        "",
        "User and assistant turns alternate and each ends with `<|eot|>`; there is no system turn.",
        "",
        "## Data",
        "",
        *_data_lines(workspace, run),
        "",
        "## Settings",
        "",
        *_settings_lines(run),
        "",
        "Sampling (generation_config.json): "
        + ", ".join(
            f"{key} {_code(value)}"
            for key in ("do_sample", "temperature", "top_p", "repetition_penalty", "max_new_tokens")
            if (value := getattr(generation, key, None)) is not None
        )
        + ". transformers applies the repetition penalty to the prompt's tokens too, limakit generate to the generated ones only.",
        "",
    ]
    return "\n".join(lines)


def _data_lines(workspace: Workspace, run: Run | None) -> list[str]:
    """Examples by source, and their licences where the provenance is here; of the set the run read only."""
    train, provenance = workspace.data / "train.jsonl", workspace.data / "provenance.jsonl"
    if run is None:
        return ["Not known: the checkpoint was exported apart from the run that made it."]
    if not train.is_file():
        return ["The training set was not beside the model when it was exported."]
    if sha256_file(train) != run.data:
        return ["The training set beside the model was another one when it was exported, so nothing is said of it here."]
    examples = read_jsonl(train, Example)
    licences: dict[str, set[str]] = {}
    if provenance.is_file():
        by_id = {row.id: row.licence for row in read_jsonl(provenance, Provenance)}
        for example in examples:
            if example.id in by_id:
                licences.setdefault(example.source, set()).add(by_id[example.id])
    counts = Counter(example.source for example in examples)
    rows = [f"| {_code(name)} | {n} | {', '.join(map(_code, sorted(licences.get(name, set()))))} |" for name, n in sorted(counts.items())]
    return [f"{len(examples)} examples:", "", "| source | examples | licences |", "|---|---|---|", *rows]


def _settings_lines(run: Run | None) -> list[str]:
    if run is None:
        return ["Of its training not known: the checkpoint was exported apart from the run that made it."]
    settings = {key: value for key, value in run.train.items() if key != "lora"}
    lora = run.train.get("lora") or {}
    settings |= {f"lora {key}": value for key, value in lora.items()}
    rows = [f"| {key} | {_code(value)} |" for key, value in settings.items() if value is not None]
    return [*_adapter_lines(lora), "| setting | value |", "|---|---|", *rows, f"| seed | {_code(run.seed)} |"]


def _adapter_lines(lora: dict[str, Any]) -> list[str]:
    """That an adapter was trained, not the whole model, and beside which weights."""
    if not lora:
        return []
    line = "The base was frozen; what was trained is a low-rank adapter (Hu et al. 2021) and the row of `<|eot|>`, merged into it here."
    if lora.get("base") == "nf4":
        line += (
            " The base's linear layers were held in 4-bit NormalFloat (QLoRA, Dettmers et al. 2023), and what their 4 bits stand for is what the "
            "adapter was merged into: these weights are not the base's own."
        )
    return [line, ""]


def _code(value: object) -> str:
    """A value as Markdown code that cannot end early or break a table."""
    text = " ".join(str(value).split()).replace("|", "¦")
    fence = "`" * (max((len(run) for run in "".join(c if c == "`" else " " for c in text).split()), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
