"""Sampling on the CPU: limakit's decode against transformers' generate, one prompt at a time and in batches of the same size.

    python bench/generation.py [--rounds 2] [--threads N] [--prompts 96] [--batch 32]

One LLaMA of 8.9 million parameters (width 256, 6 layers, 4 heads, MLP of 688, 8,192 tokens), random, whose distributions are as narrow as
a trained model's (a nucleus of some twenty tokens) and which ends a response about every sixty tokens, at random: lengths are as scattered
as LIMA's over its sources. Prompts are made-up tokens, as long as LIMA's but for the longest (paper, Table 1). All sample with the paper's
settings: temperature 0.7, top_p 0.9, a repetition penalty of 1.2 on generated tokens; 256 tokens at most.

    ours      decode as `limakit generate` calls it: a response is the same in any batch, rows that have ended make room for others
    batched   generate on batches of prompts sorted by length, padded on the left, with its own processors for the same sampling
    one       generate on one prompt at a time

Counted are the tokens of the responses, EOT included, and neither padding nor what a batch's row is given after it has ended. Each
contender may choose its number of threads in a short trial. Rounds alternate; a ratio is the median of the ratios within rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from lima_lengths import lima_documents
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from limakit.generate.local import Row, Stream, decode
from limakit.generate.sampling import Sampling

VOCABULARY, EOT, MAX_TOKENS, LONGEST_PROMPT = 8192, 2, 256, 256
PAPER = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2)
NARROW = 3.5  # standard deviation of the logits
Work = Callable[[], tuple[int, float, list[int]]]  # runs once; tokens, seconds, lengths
clock = time.perf_counter  # --cpu-time: time.process_time


def make_model(hazard: float = 0.025) -> Any:
    """Logits spread as NARROW says; EOT's is what makes it the largest of all, by far, in one state of the model in 1 / hazard."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=2048, bos_token_id=1, eos_token_id=EOT, pad_token_id=0, initializer_range=0.06,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    head = torch.nn.Linear(config.hidden_size, VOCABULARY)
    with torch.no_grad():
        head.weight.normal_(0, NARROW / config.hidden_size**0.5)
        head.bias.zero_()
        head.weight[EOT] *= 3
        model.lm_head = head
        states = []
        for _ in range(8):
            ids = torch.randint(3, VOCABULARY, (8, 128))
            states.append(model.model(ids).last_hidden_state.flatten(0, 1))
        eot = torch.cat(states) @ head.weight[EOT]
        head.bias[EOT] = 14 - torch.quantile(eot, 1 - hazard)
    return model


def prompts(n: int, seed: int) -> list[list[int]]:
    documents = lima_documents(VOCABULARY, n, seed)
    return [[token for token, of_response in zip(d.ids, d.target, strict=True) if not of_response][:LONGEST_PROMPT] for d in documents]


def ours(model: Any, asked: Sequence[list[int]], batch: int) -> Work:
    seeds = iter(range(1000))

    def work() -> tuple[int, float, list[int]]:
        rows = [Row(str(i), 0, ids, None) for i, ids in enumerate(asked)]
        started = clock()
        done = decode(
            model, rows, stop_ids=frozenset([EOT]), max_tokens=MAX_TOKENS, sampling=PAPER, stream=Stream(next(seeds), "bench"), batch=batch
        )
        lengths = [len(row.generated) for row in done]
        return sum(lengths), clock() - started, lengths

    return work


def transformers_(model: Any, asked: Sequence[list[int]], batch: int) -> Work:
    ordered = sorted(asked, key=len)

    def work() -> tuple[int, float, list[int]]:
        started = clock()
        lengths = []
        for i in range(0, len(ordered), batch):
            some = ordered[i : i + batch]
            longest = max(map(len, some))
            ids_BT = torch.tensor([[0] * (longest - len(ids)) + ids for ids in some])
            mask_BT = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in some])
            penalty = RepetitionPenaltyLogitsProcessor(PAPER.repetition_penalty, prompt_ignore_length=longest)
            out_BT = model.generate(
                ids_BT, attention_mask=mask_BT, do_sample=True, temperature=PAPER.temperature, top_p=PAPER.top_p, top_k=0,
                logits_processor=LogitsProcessorList([penalty]), max_new_tokens=MAX_TOKENS, eos_token_id=EOT, pad_token_id=0,
            )[:, longest:]  # fmt: skip
            for row in out_BT.tolist():
                lengths.append(row.index(EOT) + 1 if EOT in row else MAX_TOKENS)
        return sum(lengths), clock() - started, lengths

    return work


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="the most that a contender may choose")
    arguments.add_argument("--prompts", type=int, default=96)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--cpu-time", action="store_true", help="count CPU seconds, where others use the machine; means one thread")
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args(argv)
    global clock
    if chosen.cpu_time:
        clock, chosen.threads = time.process_time, 1
    transformers.logging.set_verbosity_error()
    model, asked = make_model(), prompts(chosen.prompts, chosen.seed)
    ordered = sorted(asked, key=len)
    few = ordered[len(ordered) // 32 :: max(1, len(ordered) // 16)]
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(asked)} prompts of {sum(map(len, asked)):,} tokens, batches of {chosen.batch}"
    )

    contenders: dict[str, Work] = {
        "ours": ours(model, asked, chosen.batch),
        "batched": transformers_(model, asked, chosen.batch),
        "one": transformers_(model, asked, 1),
    }
    trials = {
        "ours": ours(model, few, chosen.batch),
        "batched": transformers_(model, few, chosen.batch),
        "one": transformers_(model, few[:2], 1),
    }
    threads = {}
    for name, work in trials.items():
        tried = {}
        for n in sorted({1, chosen.threads}):
            torch.set_num_threads(n)
            tokens, seconds, _ = work()
            tried[n] = tokens / seconds
            print(f"  trial: {name:<8} {n} threads {tried[n]:>8,.0f} tokens/s", flush=True)
        threads[name] = max(tried, key=lambda n: tried[n])
    runs: dict[str, list[tuple[int, float, list[int]]]] = {name: [] for name in contenders}
    for _ in range(chosen.rounds):
        for name, work in contenders.items():
            torch.set_num_threads(threads[name])
            runs[name].append(work())

    print(f"\n{'':<10}{'threads':>8}{'tokens':>9}{'mean length':>13}{'median':>8}{'longest':>9}{'tokens/s':>10}   rounds")
    speeds = {name: [tokens / seconds for tokens, seconds, _ in each] for name, each in runs.items()}
    for name, each in runs.items():
        lengths = [length for _, _, of in each for length in of]
        print(
            f"{name:<10}{threads[name]:>8}{sum(lengths):>9,}{statistics.mean(lengths):>13.0f}{statistics.median(lengths):>8.0f}{max(lengths):>9}"
            f"{statistics.median(speeds[name]):>10,.0f}   {' '.join(f'{speed:,.0f}' for speed in speeds[name])}"
        )
    ratio, batched = (
        round(statistics.median(a / b for a, b in zip(speeds["ours"], speeds[name], strict=True)), 2) for name in ("one", "batched")
    )
    mine, peer, peer_batched = (round(statistics.median(speeds[name])) for name in ("ours", "one", "batched"))
    print(json.dumps({"ours": mine, "peer": peer, "peer_batched": peer_batched, "ratio": ratio, "ratio_batched": batched, "tokens_per_s": mine,
                      "threads": threads, "cpus": len(os.sched_getaffinity(0)), "clock": clock.__name__, "torch": torch.__version__,
                      "transformers": transformers.__version__}))  # fmt: skip


if __name__ == "__main__":
    main()
