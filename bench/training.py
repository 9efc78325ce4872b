"""Fine-tuning speed on the CPU: limakit's own step against TRL's SFTTrainer and against what dense rows of the same model cost.

    python bench/training.py [--rounds 3] [--threads N]

One LLaMA of 6.84 million parameters (width 256, 6 layers, 4 heads, MLP of 688, 8,192 tokens, input and output embeddings tied) and 64 examples of
made-up tokens whose prompts and responses are as long as LIMA's (paper, Table 1: by source, scattered around its means; 2,048 tokens at most).
All see the same 64 examples in two steps of 32 and are counted by the same real tokens, padding not among them.

    ours     take_step as `limakit train` takes it: packed rows, residual dropout 0.3, clipping, float32 AdamW, computing in bfloat16; with rows of
             2,048 tokens or of 4,096 (pack_tokens), float32 weights or the same in two halves (weights = "split"), whichever is quicker
    default  TRL as it comes: bfloat16, gradient checkpointing, 4 examples a batch, 8 batches a step
    best     TRL as it is quickest here: one example a batch (so nothing is padded), 32 a step, examples grouped by length, no checkpointing
    limit    the stock model alone: forward, backward and step over dense rows of 700 tokens, the quickest of autocast and bfloat16 weights, SDPA and
             eager attention

Each runs in a process of its own, as it would in life: `limakit train` has the C library keep what is freed (memory.keep_freed), and nobody else gets that.
Each may choose its variant and its number of threads: in a trial before the rounds it runs over the first 16 examples with 1 thread and with all.
Rounds alternate; a ratio is the median of the ratios within rounds, so that what else the machine does meets both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any, Literal

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from lima_lengths import MAX_TOKENS, lima_documents
from transformers import LlamaConfig, LlamaForCausalLM

from limakit.recipe import TrainSpec
from limakit.train.attach import attach
from limakit.train.memory import keep_freed
from limakit.train.optimizer import make_optimizer
from limakit.train.steps import Document, plan_steps
from limakit.train.update import take_step

VOCABULARY, LONGEST, BATCH, ROW, TRIAL = 8192, MAX_TOKENS, 32, 700, 16


def make_model(attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=LONGEST, tie_word_embeddings=True, attn_implementation=attention, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


Work = Callable[[], float]  # runs once; real tokens per second
Maker = Callable[[Sequence[Document]], Work]
clock = time.perf_counter  # --cpu-time: time.process_time (_quiet)


def ours(documents: Sequence[Document], weights: Literal["float32", "split"], budget: int) -> Work:
    spec = TrainSpec(precision="bfloat16", weights=weights, residual_dropout=0.3, max_tokens=LONGEST, pack_tokens=budget)
    keep_freed(torch.device("cpu"))
    model = make_model()
    attach(model, spec, max(len(d.ids) for d in documents))
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=weights)
    steps = plan_steps([len(d.ids) for d in documents], epochs=1, batch_examples=BATCH, budget=budget, pack=True, seed=1)

    def work() -> float:
        started = clock()
        logs = [
            take_step(model, optimizer, documents, step, lr=1e-5, clip_norm=spec.clip_norm, seed=1, packed=True, precision=spec.precision)
            for step in steps
        ]
        return sum(log.tokens for log in logs) / (clock() - started)

    return work


class Clock(transformers.TrainerCallback):
    """From the beginning of the first step to the end of the last, so neither set-up nor saving counts."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.started = clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = clock() - self.started


class NoTokenizer(transformers.PreTrainedTokenizerFast):
    """TRL asks for a tokenizer, though the examples are tokens already."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer, models

        backend = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
        super().__init__(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def trl(documents: Sequence[Document], batch: int, folder: str, **settings: Any) -> Work:
    """SFTTrainer over one epoch; what is not set here is its default."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": list(d.ids), "labels": [token if wanted else -100 for token, wanted in zip(d.ids, d.target, strict=True)]}
        for d in documents
    ]
    config = SFTConfig(
        output_dir=folder, use_cpu=True, bf16=True, num_train_epochs=1, max_length=LONGEST, per_device_train_batch_size=batch,
        gradient_accumulation_steps=BATCH // batch, learning_rate=1e-5, save_strategy="no", logging_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=False, **settings,
    )  # fmt: skip
    watch = Clock()
    trainer = SFTTrainer(
        model=make_model(), args=config, train_dataset=Dataset.from_list(rows), processing_class=NoTokenizer(), callbacks=[watch]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    tokens = sum(len(d.ids) for d in documents)

    def work() -> float:
        trainer.train()
        return tokens / watch.seconds

    return work


def limit(_documents: Sequence[Document], autocast: bool, attention: str) -> Work:
    model = make_model(attention)
    model = model if autocast else model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids_BL = torch.randint(3, VOCABULARY, (1, ROW), generator=torch.Generator().manual_seed(0))

    def work() -> float:
        started = clock()
        for _ in range(BATCH):  # a step over as many tokens as ours has
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = model(input_ids=ids_BL, labels=ids_BL, use_cache=False).loss
            (loss / BATCH).backward()
        optimizer.step()
        optimizer.zero_grad()
        return BATCH * ROW / (clock() - started)

    return work


class Contender:
    """One of them in a process of its own."""

    def __init__(self, name: str, cpu_time: bool):
        self.name = name
        self.process = ProcessPoolExecutor(1, get_context("spawn"), _quiet, (cpu_time,))

    def prepare(self, make: Maker, documents: Sequence[Document]) -> None:
        self.process.submit(_prepare, make, documents).result()

    def speed(self, threads: int) -> float:
        return self.process.submit(_work, threads).result()

    def choose(self, makers: dict[str, Maker], documents: Sequence[Document], threads: Sequence[int]) -> tuple[str, int]:
        """Prepare the quickest variant, and return it with its number of threads: found over a few of the examples, each twice to warm up."""
        speeds = {}
        for variant, make in makers.items():
            self.prepare(make, documents[:TRIAL])
            for n in threads:
                self.speed(n)
                speeds[variant, n] = self.speed(n)
                print(f"  trial: {self.name:<8} {variant:<34} {n} threads {speeds[variant, n]:>8,.0f} tokens/s", flush=True)
        variant, n = max(speeds, key=lambda key: speeds[key])
        self.prepare(makers[variant], documents)
        return variant, n


prepared: list[Work] = []  # in a contender's process: the one it works at


def _quiet(cpu_time: bool) -> None:
    global clock
    clock = time.process_time if cpu_time else time.perf_counter
    import datasets

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # TRL's own use of transformers
    datasets.disable_progress_bars()


def _prepare(make: Maker, documents: Sequence[Document]) -> None:
    prepared[:] = []  # before the next one is made
    prepared[:] = [make(documents)]


def _work(threads: int) -> float:
    torch.set_num_threads(threads)
    return prepared[0]()


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="the most that a contender may choose")
    arguments.add_argument("--cpu-time", action="store_true", help="count CPU seconds, where others use the machine; means one thread")
    arguments.add_argument("--seed", type=int, default=0)
    asked = arguments.parse_args(argv)
    if asked.cpu_time:
        asked.threads = 1
    documents = lima_documents(VOCABULARY, 64, asked.seed)
    tokens, targets = sum(len(d.ids) for d in documents), sum(d.target_tokens for d in documents)
    print(
        f"{sum(p.numel() for p in make_model().parameters()):,} parameters, {len(documents)} examples, {tokens:,} tokens, {targets:,} in the loss"
    )

    with tempfile.TemporaryDirectory() as folder:
        contenders: dict[str, dict[str, Maker]] = {
            "ours": {
                f"{weights} weights, rows of {budget:,}": partial(ours, weights=weights, budget=budget)
                for weights, budget in product(("float32", "split"), (LONGEST, 2 * LONGEST))
            },
            "default": {"batch 4 x 8": partial(trl, batch=4, folder=folder)},
            "best": {
                "batch 1 x 32, by length": partial(
                    trl, batch=1, folder=folder, train_sampling_strategy="group_by_length", gradient_checkpointing=False
                )
            },
            "limit": {
                f"{'autocast' if autocast else 'bfloat16 weights'}, {attention}": partial(limit, autocast=autocast, attention=attention)
                for autocast, attention in product((True, False), ("sdpa", "eager"))
            },
        }
        counts = sorted({1, asked.threads})
        runners = {name: Contender(name, asked.cpu_time) for name in contenders}
        chosen = {name: runner.choose(contenders[name], documents, counts) for name, runner in runners.items()}
        for name, (_variant, n) in chosen.items():
            runners[name].speed(n)  # to warm up
        speeds: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(asked.rounds):
            for name, (_variant, n) in chosen.items():
                speeds[name].append(runners[name].speed(n))
        for runner in runners.values():
            runner.process.shutdown()

    print(f"\n{'':<10}{'':<36}{'threads':>8}{'tokens/s':>10}   rounds")
    for name, (variant, n) in chosen.items():
        rounds = " ".join(f"{speed:,.0f}" for speed in speeds[name])
        print(f"{name:<10}{variant:<36}{n:>8}{statistics.median(speeds[name]):>10,.0f}   {rounds}")
    ratios = {
        f"ratio_{name}": round(statistics.median(a / b for a, b in zip(speeds["ours"], speeds[name], strict=True)), 2)
        for name in ("default", "best", "limit")
    }
    mine, peer = (round(statistics.median(speeds[name])) for name in ("ours", "best"))
    print(json.dumps({"ours": mine, "peer": peer, "ratio": ratios["ratio_best"], "tokens_per_s": mine, **ratios,
                      **{name: round(statistics.median(speeds[name])) for name in ("default", "best", "limit")},
                      "threads": {name: n for name, (_variant, n) in chosen.items()}, "cpus": len(os.sched_getaffinity(0)),
                      "clock": "process_time" if asked.cpu_time else "perf_counter", "torch": torch.__version__}))  # fmt: skip


if __name__ == "__main__":
    main()
