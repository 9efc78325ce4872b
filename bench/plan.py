"""What `limakit plan` says against what the run then takes: time and memory, on this machine's CPU.

    python bench/plan.py [--cpu-clock]

Random LLaMAs of two sizes on 48 made-up examples, packed and not, float32. Plan and run are processes of their own. --cpu-clock counts CPU seconds of one
thread in both instead of the clock on the wall, for machines on which others work. Memory is what torch's allocator has at its peak in two
steps (torch.profiler); the process has more: Python, libraries, and what malloc keeps. Prints a table, then one JSON object: planned / taken for time
and memory, for each case, and the furthest from 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limakit.recipe import Recipe
    from limakit.workspace import Workspace

EXAMPLES, EPOCHS = 48, 2
WORDS = ["water", "keep", "leaves", "glass", "stem", "garden", "trim", "stand", "cool", "fresh", "never", "between", "morning", "paper"]
SIZES = {
    "1.4M": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 4096},
    "6.8M": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 8192},
}


def make(folder: Path, size: str, pack: bool) -> None:
    """A workspace with a base of this size and examples of very unequal lengths."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from limakit.world.pretrain import make_tokenizer

    draw = random.Random(0)

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=round(draw.triangular(low, high, low))))

    rows = [
        {
            "id": f"ex-{i}",
            "source": "bench",
            "turns": [{"role": "user", "text": words(8, 60)}, {"role": "assistant", "text": words(40, 900)}],
        }
        for i in range(EXAMPLES)
    ]
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = make_tokenizer([" ".join(WORDS)] * 50, 600)
    config = LlamaConfig(**SIZES[size], max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    settings = [f"epochs = {EPOCHS}", "batch_examples = 16", "max_tokens = 1024", f"pack = {json.dumps(pack)}", 'device = "cpu"']
    (folder / "lima.toml").write_text("\n".join(['name = "bench"', "[model]", 'base = "base"', "[train]", *settings]) + "\n")


def child(what: str, folder: Path, cpu_clock: bool) -> dict[str, float]:
    """Plan, or train, in this process."""
    from limakit.recipe import read_recipe
    from limakit.train import estimate, loop, measure
    from limakit.workspace import find_workspace

    clock = time.process_time if cpu_clock else time.perf_counter
    workspace = find_workspace(folder / "lima.toml")
    recipe = read_recipe(workspace.recipe_path)
    if what == "train":
        started = clock()
        loop.train(workspace, recipe)
        seconds = clock() - started
        return {"seconds": seconds, "bytes": peak_of_steps(workspace, recipe)}
    measure.time.perf_counter = clock  # one module for estimate.py too
    said: dict[str, float] = {}
    own_time, own_memory = estimate.time_here, estimate.memory

    def keep_time(*inputs: object) -> estimate.Time:
        planned = own_time(*inputs)
        said["seconds"] = planned.total
        return planned

    def keep_memory(*inputs: object, **settings: object) -> estimate.Memory:
        parts = own_memory(*inputs, **settings)
        said.setdefault("bytes", parts.total)
        return parts

    estimate.time_here, estimate.memory = keep_time, keep_memory
    estimate.show_plan(workspace, recipe)
    return said


def peak_of_steps(workspace: Workspace, recipe: Recipe) -> int:
    """Bytes of tensors at the peak of the run's first two steps."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from limakit.train.measure import attached
    from limakit.train.optimizer import make_optimizer
    from limakit.train.training_set import read_training_set
    from limakit.train.update import take_step

    spec, data = recipe.train, read_training_set(workspace, recipe)
    model = attached(workspace, recipe, data, torch.device("cpu"))
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay)
    how = {"lr": 1e-5, "clip_norm": 1.0, "seed": 1, "packed": spec.pack}
    take_step(model, optimizer, data.documents, data.steps[0], **how)
    held = [*model.parameters(), *(p.grad for p in model.parameters()), *(t for state in optimizer.state.values() for t in state.values())]
    now = peak = sum(tensor.nbytes for tensor in held)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for step in data.steps[1:3]:
            take_step(model, optimizer, data.documents, step, **how)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def run(what: str, folder: Path, cpu_clock: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--folder", str(folder), *(["--cpu-clock"] if cpu_clock else [])]
    environment = os.environ | {"LIMAKIT_PROGRESS": "0"} | ({"OMP_NUM_THREADS": "1"} if cpu_clock else {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-clock", action="store_true")
    parser.add_argument("--child", choices=["plan", "train"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.folder, options.cpu_clock)))
        return
    cases: dict[str, dict[str, float]] = {}
    print(f"{'case':<18}{'planned s':>10}{'taken s':>10}{'ratio':>8}{'planned MiB':>13}{'taken MiB':>11}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        for size in SIZES:
            for pack in (True, False):
                name = f"{size} {'packed' if pack else 'apart'}"
                folder = Path(scratch) / name.replace(" ", "-")
                make(folder, size, pack)
                planned, taken = (run(what, folder, options.cpu_clock) for what in ("plan", "train"))
                ratios = {"time": planned["seconds"] / taken["seconds"], "memory": planned["bytes"] / taken["bytes"]}
                cases[name] = {key: round(value, 3) for key, value in ratios.items()}
                print(
                    f"{name:<18}{planned['seconds']:>10.1f}{taken['seconds']:>10.1f}{ratios['time']:>8.2f}"
                    f"{planned['bytes'] / 2**20:>13.0f}{taken['bytes'] / 2**20:>11.0f}{ratios['memory']:>8.2f}",
                    flush=True,
                )
    furthest = {key: max((case[key] for case in cases.values()), key=lambda x: abs(x - 1)) for key in ("time", "memory")}
    print(json.dumps({"bench": "plan", "clock": "cpu" if options.cpu_clock else "wall", "cases": cases, "furthest": furthest}))


if __name__ == "__main__":
    main()
