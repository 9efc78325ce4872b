"""The parts of gpu_training.py that train: LLaMA shapes with random weights made on the device, through limakit's own step, and the peers' loops."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lima_lengths import lima_documents
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from limakit.model.nf4 import linear_layers, pack_layer
from limakit.recipe import LoraSpec, TrainSpec
from limakit.train.attach import attach
from limakit.train.devices import DEVICES, TFLOP, epoch_flops
from limakit.train.memory import GIB, forget_peak, peak_bytes
from limakit.train.optimizer import make_optimizer
from limakit.train.shape import read_shape
from limakit.train.steps import Document, plan_steps
from limakit.train.update import take_step

EOT = 32_000  # LLaMA's 32,000 tokens and EOT: as many rows as a real run has
SEED, LR = 7, 1e-5
SIZES = {  # width, width of the MLP, layers, heads (Touvron et al. 2023, table 2)
    "7b": (4096, 11008, 32, 32),
    "13b": (5120, 13824, 40, 40),
    "65b": (8192, 22016, 80, 64),
    "tiny": (64, 160, 3, 4),
}


@dataclass(frozen=True)
class Setting:
    """What one process trains: the model's size, the recipe's [train], and how many examples a step has."""

    size: str
    train: dict[str, Any]
    examples: int = 32
    steps: int = 6


SPLIT = {"precision": "bfloat16", "weights": "split", "residual_dropout": 0.3}
# Of 7B, the one that is expected to be quickest first. Nothing is recomputed where that fits: `limakit plan` counts 88 GiB of weights, gradients and
# moments (63 with bfloat16 moments) and 6.3 MB a token of a row, which compiling lowers; an H200 has 139.
SETTINGS = {
    "7b": Setting("7b", SPLIT | {"compile": True, "pack_tokens": 8192}),
    "7b-eager": Setting("7b", SPLIT | {"moments": "bfloat16", "pack_tokens": 8192}),
    "7b-long": Setting("7b", SPLIT | {"moments": "bfloat16", "compile": True, "pack_tokens": 12288}),
    "7b-float32": Setting("7b", {"precision": "bfloat16", "compile": True, "recompute": True, "pack_tokens": 8192}, steps=3),
    "13b": Setting("13b", SPLIT | {"moments": "bfloat16", "recompute": True, "pack_tokens": 4096}, steps=3),
    "65b": Setting(
        "65b", {"precision": "bfloat16", "recompute": True, "pack_tokens": 8192, "lora": LoraSpec(rank=16, base="nf4")}, examples=8, steps=2
    ),
}


@dataclass(frozen=True)
class Bench:
    """Where and on what: a device and the documents; `tiny` for a rehearsal on the CPU."""

    device: torch.device
    tiny: bool

    @property
    def eot(self) -> int:
        return 319 if self.tiny else EOT

    def documents(self) -> list[Document]:
        made = lima_documents(self.eot + 1, 64 if self.tiny else 1000, scale=1 / 32 if self.tiny else 1.0)
        random.Random(SEED).shuffle(made)  # they come source by source, and the padded loop takes them in order
        return made

    def config(self, size: str) -> LlamaConfig:
        width, inner, layers, heads = SIZES["tiny" if self.tiny else size]
        return LlamaConfig(
            vocab_size=self.eot + 1, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
            max_position_embeddings=2048, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def train_setting(bench: Bench, name: str) -> dict[str, Any]:
    """Take a setting's steps as `limakit train` takes them; tokens/s, MFU and the peak of memory."""
    setting, started = SETTINGS[name], time.perf_counter()
    train = dict(setting.train)
    if bench.tiny:
        train["pack_tokens"] //= 32
    spec = TrainSpec(**train, device="auto")
    documents = bench.documents()
    torch.manual_seed(SEED)
    model = _packed_llama(bench, setting, spec) if spec.lora is not None else llama(bench, setting.size, torch.float32)
    forget_peak(bench.device)  # what building took is not what training takes
    attach(model, spec, max(len(d.ids) for d in documents))
    attention = model.config._attn_implementation
    optimizer = make_optimizer(model, spec.betas, spec.weight_decay, weights=spec.weights, moments=spec.moments)
    steps = plan_steps(
        [len(d.ids) for d in documents], epochs=1, batch_examples=setting.examples, budget=spec.pack_tokens or spec.max_tokens, pack=True,
        seed=SEED,
    )  # fmt: skip
    ready = time.perf_counter() - started

    def step(number: int) -> tuple[Sequence[Document], float]:
        planned = steps[number % (len(steps) - 1)]  # not the last, which is smaller
        row = take_step(
            model, optimizer, documents, planned, lr=LR, clip_norm=spec.clip_norm, seed=SEED, packed=True, precision=spec.precision
        )  # fmt: skip
        return [documents[i] for i in planned.examples], row.loss

    timed = _timed(bench, step, 2 if setting.steps > 3 else 1, 2 if bench.tiny else setting.steps)
    return {"attention": attention, "ready_s": round(ready, 1)} | _found(bench, timed, setting.size, spec)


def llama(bench: Bench, size: str, dtype: torch.dtype) -> Any:
    """Random weights, drawn on the device, in eval mode as a loaded model is."""
    with bench.device:
        return AutoModelForCausalLM.from_config(bench.config(size), dtype=dtype).eval()


def _packed_llama(bench: Bench, setting: Setting, spec: TrainSpec) -> Any:
    """A frozen model in 4 bits with adapters beside it, as `limakit train` has it. Each layer is drawn and packed by itself: 65B would not fit in 16."""
    from limakit.train.adapter import attach_adapter  # peft is an extra

    assert spec.lora is not None
    config = bench.config(setting.size)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    for name, module in linear_layers(model).items():
        weight = torch.randn(module.weight.shape, device=bench.device).mul_(0.02)
        model.set_submodule(name, pack_layer(module, weight, torch.bfloat16))
    with bench.device:
        model.model.rotary_emb = LlamaRotaryEmbedding(config)
    for module in list(model.modules()):
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_meta:
                values = (
                    torch.ones(parameter.shape) if parameter.ndim == 1 else torch.randn(parameter.shape, device=bench.device).mul_(0.02)
                )
                module._parameters[name] = nn.Parameter(values.to(bench.device, torch.bfloat16), requires_grad=False)
    attach_adapter(model, spec.lora, bench.eot, SEED)
    return model


@dataclass(frozen=True)
class Timed:
    """The steps that were timed: their documents and seconds, and how long those before took, which compile and allocate."""

    warm: float
    documents: list[Document]
    seconds: list[float]
    losses: list[float]


def _timed(bench: Bench, step: Callable[[int], tuple[Sequence[Document], float]], warm: int, steps: int) -> Timed:
    started = time.perf_counter()
    losses = [step(i)[1] for i in range(warm)]
    bench.synchronise()
    warmed = time.perf_counter() - started
    taken: list[Document] = []
    seconds = []
    for i in range(warm, warm + steps):
        before = time.perf_counter()
        documents, loss = step(i)
        bench.synchronise()
        seconds.append(time.perf_counter() - before)
        taken += documents
        losses.append(loss)
    return Timed(warmed, taken, seconds, losses)


def _found(bench: Bench, timed: Timed, size: str, spec: TrainSpec) -> dict[str, Any]:
    """What is reported. MFU: the operations of the formula in limakit/train/devices.py, for real tokens alone and never those of recomputing, over
    the device's peak."""
    shape = read_shape(bench.config(size), bench.eot)
    seconds, tokens = sum(timed.seconds), sum(len(d.ids) for d in timed.documents)
    tflops, peak = epoch_flops(shape, timed.documents, spec) / seconds / TFLOP, peak_tflops(bench.device)
    return {
        "tokens_per_s": round(tokens / seconds, 1), "mfu": round(tflops / peak, 4) if peak else None, "tflops": round(tflops, 3),
        "peak_gib": round(peak_bytes(bench.device) / GIB, 2), "step_s": round(seconds / len(timed.seconds), 4), "warm_s": round(timed.warm, 1),
        "step_seconds": [round(s, 4) for s in timed.seconds], "losses": [round(loss, 5) for loss in timed.losses], "tokens": tokens,
        "parameters": shape.parameters,
    }  # fmt: skip


def peak_tflops(device: torch.device) -> float | None:
    """The device's bfloat16 peak by its data sheet; None for one that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device).lower()
    return next((known.bfloat16 for key, known in DEVICES.items() if key in name), None)


# the peers


def padded_loop(bench: Bench, *, plain: bool) -> dict[str, Any]:
    """What a user writes with transformers alone: batches padded to their longest, logits and loss at every position, gradient accumulation.

    float32 weights under autocast with its gradient checkpointing, without which they do not fit; or (`plain`) bfloat16 weights, which is quicker and
    loses most updates at this learning rate. Batches of 4, or of what fits.
    """
    documents = bench.documents()
    order = [documents[i : i + 32] for i in range(0, len(documents) - 31, 32)]
    torch.manual_seed(SEED)
    model = llama(bench, "7b", torch.bfloat16 if plain else torch.float32).train()
    if not plain:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batch = 4

    def accumulate(chosen: Sequence[Document], batch: int) -> float:
        total = 0.0
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            longest = max(len(d.ids) for d in part)
            ids_BL = torch.tensor([[*d.ids, *[0] * (longest - len(d.ids))] for d in part], device=bench.device)
            mask_BL = torch.tensor([[1] * len(d.ids) + [0] * (longest - len(d.ids)) for d in part], device=bench.device)
            labels = [[t if w else -100 for t, w in zip(d.ids, d.target, strict=True)] + [-100] * (longest - len(d.ids)) for d in part]
            with torch.autocast(bench.device.type, torch.bfloat16, enabled=not plain):
                out = model(input_ids=ids_BL, attention_mask=mask_BL, labels=torch.tensor(labels, device=bench.device), use_cache=False)
            loss = out.loss * len(part) / len(chosen)
            loss.backward()
            total += loss.item()
        return total

    def step(number: int) -> tuple[Sequence[Document], float]:
        nonlocal batch
        chosen = order[number % len(order)]
        while True:
            optimizer.zero_grad(set_to_none=True)
            try:
                loss = accumulate(chosen, batch)
                break
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
                batch //= 2
            torch.cuda.empty_cache()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return chosen, loss

    forget_peak(bench.device)
    timed = _timed(bench, step, 1, 2 if bench.tiny else 3)
    return {"batch": batch} | _found(bench, timed, "7b", TrainSpec(precision="bfloat16"))


def trl_packing(bench: Bench) -> dict[str, Any]:
    """TRL's SFTTrainer with packing, rows of 2,048, 12 rows a step (our step's tokens), bfloat16 autocast and gradient checkpointing."""
    try:
        import datasets
        import trl
    except ImportError as error:
        return {"skipped": f"{error.name} is not installed"}
    from tokenizers import Tokenizer, models

    documents = bench.documents()
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(bench.eot + 1)}, unk_token="t0"))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="t0", bos_token="t1", eos_token="t2", unk_token="t0")
    rows = {"input_ids": [list(d.ids) for d in documents]}
    clock: list[float] = []
    real: list[int] = []

    class Clocked(trl.SFTTrainer):
        def training_step(self, model: Any, inputs: Any, *more: Any, **keywords: Any) -> Any:
            bench.synchronise()
            clock.append(time.perf_counter())
            real.append(int((inputs["input_ids"] != 0).sum()))
            return super().training_step(model, inputs, *more, **keywords)

    rows_at_once, accumulation, steps = 4, 3, 2 if bench.tiny else 4
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.SFTConfig(
            output_dir=folder, packing=True, max_length=64 if bench.tiny else 2048, per_device_train_batch_size=rows_at_once,
            gradient_accumulation_steps=accumulation, max_steps=steps, learning_rate=LR, bf16=True, gradient_checkpointing=True,
            optim="adamw_torch_fused", save_strategy="no", report_to=[], logging_strategy="no", disable_tqdm=True, use_cpu=bench.device.type == "cpu",
        )  # fmt: skip
        trainer = Clocked(
            model=llama(bench, "7b", torch.float32), args=settings, train_dataset=datasets.Dataset.from_dict(rows), processing_class=wrapped
        )  # fmt: skip
        forget_peak(bench.device)
        trainer.train()
        bench.synchronise()
        clock.append(time.perf_counter())
    warm = accumulation  # the first step
    seconds = clock[-1] - clock[warm]
    return {
        "step_s": round(seconds / (steps - 1), 4), "tokens_per_s": round(sum(real[warm:]) / seconds, 1), "tokens": sum(real[warm:]),
        "peak_gib": round(peak_bytes(bench.device) / GIB, 2), "version": trl.__version__,
    }  # fmt: skip


def all_parts(bench: Bench) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every part's name and what runs it."""
    from gpu_numerics import check_numerics

    yield "numerics", lambda: check_numerics(bench)
    for name in SETTINGS:
        yield name, lambda name=name: train_setting(bench, name)
    yield "peer-padded", lambda: padded_loop(bench, plain=False)
    yield "peer-plain-bf16", lambda: padded_loop(bench, plain=True)
    yield "peer-trl", lambda: trl_packing(bench)
