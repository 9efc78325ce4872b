"""A small random model of each family that training is tested with, and what was found of it: the table of docs/families.md.

python tests/support/families.py docs/families.md    writes the page
"""

from __future__ import annotations

import copy
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.model.loss import row_loss
from limakit.train.branches import find_branches
from limakit.train.compiled import compile_layers
from limakit.train.dropout import attach_residual_dropout
from limakit.train.recompute import recompute_layers

LAYERS = 3
_PLAIN = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": 64}
_SMALL = _PLAIN | {"intermediate_size": 48}
_GROUPED = _SMALL | {"num_key_value_heads": 2}
_HEADS = _GROUPED | {"head_dim": 8}
_GPT = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}
# windows and chunks that the documents of ROW exceed, in some layers; the others see everything
_WINDOW = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_MOE = _HEADS | {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "afmoe": _MOE | {"num_experts": 4, "num_dense_layers": 1} | _WINDOW,
    "apertus": _HEADS,
    "arcee": _HEADS,
    "biogpt": _SMALL,
    "bloom": {"hidden_size": 32, "n_layer": LAYERS, "n_head": 4},
    "codegen": _GPT | {"rotary_dim": 4},
    "cohere": _GROUPED,
    "cohere2": _HEADS | _WINDOW,
    "ernie4_5": _HEADS,
    "exaone4": _HEADS | _WINDOW,
    "falcon": _PLAIN | {"new_decoder_architecture": False, "multi_query": True},
    "flex_olmo": _GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
    "gemma": _HEADS,
    "gemma2": _HEADS | _WINDOW,
    "gemma3_text": _HEADS | _WINDOW,
    "glm": _HEADS,
    "glm4": _HEADS,
    "glm4_moe": _MOE | {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": {"hidden_size": 32, "num_layers": LAYERS, "num_heads": 4, "max_position_embeddings": 64,
                "attention_types": [[["global", "local", "global"], 1]], "window_size": 8},
    "gpt_neox": _SMALL,
    "gpt_oss": _HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2} | _WINDOW,
    "gptj": _GPT | {"rotary_dim": 4},
    "granite": _GROUPED | {"residual_multiplier": 0.22},
    "granitemoe": _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "residual_multiplier": 0.22},
    "helium": _HEADS,
    "hunyuan_v1_dense": _HEADS,
    "lfm2": _GROUPED | {"layer_types": ["conv", "full_attention", "conv"]},
    "llama": _GROUPED,
    "llama4_text": _HEADS | {"intermediate_size_mlp": 48, "num_local_experts": 2, "interleave_moe_layer_step": 2, "attention_chunk_size": 8,
                             "layer_types": ["chunked_attention", "full_attention", "chunked_attention"], "no_rope_layers": [1, 0, 1]},
    "mamba": {"hidden_size": 32, "num_hidden_layers": LAYERS},
    "ministral3": _HEADS,
    "mistral": _GROUPED | {"sliding_window": 8},
    "mixtral": _GROUPED | {"num_local_experts": 4},
    "mpt": {"d_model": 32, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": 64},
    "nemotron": _HEADS,
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "olmo3": _GROUPED | _WINDOW,
    "olmoe": _GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
    "opt": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "word_embed_proj_dim": 32,
            "max_position_embeddings": 64},
    "persimmon": _SMALL,
    "phi": _SMALL,
    "phi3": _GROUPED | {"sliding_window": 8},
    "qwen2": _GROUPED,
    "qwen2_moe": _MOE | {"num_experts": 4, "shared_expert_intermediate_size": 16},
    "qwen3": _HEADS,
    "qwen3_moe": _MOE | {"num_experts": 4},
    "seed_oss": _HEADS,
    "smollm3": _HEADS | {"no_rope_layers": [1, 0, 1]},
    "stablelm": _GROUPED,
    "starcoder2": _GROUPED | {"sliding_window": 8},
}  # fmt: skip


def make(family: str, **changes: Any) -> Any:
    """The family's model with weights large enough that what a branch adds is seen."""
    torch.manual_seed(0)
    settings = {"vocab_size": 97, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.2}
    config = transformers.CONFIG_MAPPING[family](**(settings | FAMILIES[family] | changes))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # else every norm is the same, and every bias 0
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@dataclass(frozen=True)
class Found:
    """A row of the table: where dropout sits, and for each of the others "yes" or why not."""

    family: str
    dropout: str
    packed: str
    compiled: str
    recomputed: str

    @property
    def row(self) -> str:
        return f"| `{self.family}` | {self.dropout} | {self.packed} | {self.compiled} | {self.recomputed} |"


ROW = [list(range(5, 17)), [20, 21, 22], list(range(40, 46))]


def loss_and_gradients(model: Any, row: list[list[int]], packed: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Over one row, or over its documents one by one where the model cannot be packed; the masks are those of seed 0."""
    model.zero_grad()
    total = torch.zeros(())
    torch.manual_seed(0)
    for part in [row] if packed else [[document] for document in row]:
        loss = row_loss(model, part, [[True] * len(document) for document in part], packed=packed)
        loss.backward()
        total += loss.detach()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _reason(error: LimakitError) -> str:
    """What the message says, without the figures of one machine."""
    text = re.sub(r" \(with one of .*| \(logits by [^)]*\)", "", error.what.splitlines()[0])
    return "no: " + text.removeprefix("residual dropout: ").removeprefix("cannot run packed rows: ").replace("|", "\\|")


def examine(family: str) -> Found:
    """Try everything on a fresh model, with dropout on where the family has it."""
    model = make(family)
    try:
        attach_residual_dropout(model, 0.3)
        branches = find_branches(model)
        assert branches is not None
        dropout = " and ".join(f"`{end}`" for end in branches.ends)
    except LimakitError as error:
        dropout = _reason(error)
        model = make(family)
        attach_residual_dropout(model, 0.0)
    packed = _packs(model)
    return Found(family, dropout, packed, _compiles(model, packed == "yes"), _recomputes(model, packed == "yes"))


def _packs(model: Any) -> str:
    """Whether packing can be attached; it stays attached where it can for documents of any length."""
    try:
        attach_packing(model, longest=20)
        return "yes"
    except LimakitError as error:
        why_not = _reason(error)
    chunk = getattr(model.config, "attention_chunk_size", None)
    if chunk is None:
        return why_not
    attach_packing(copy.deepcopy(model), longest=chunk)
    return "documents of up to `attention_chunk_size` tokens"


def _compiles(model: Any, packed: bool) -> str:
    """Whether one set of graphs serves rows of other lengths, and without dropout gives the gradients of eager mode."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if hasattr(module, "set_rate"):
            module.set_rate(0.0)
    expected = loss_and_gradients(model, ROW, packed)[1]
    torch._dynamo.reset()
    try:
        compile_layers(model, backend="eager")
        got = loss_and_gradients(model, ROW, packed)[1]
        with torch._dynamo.config.patch(error_on_recompile=True):
            for row in ([[7] * 9, [8] * 20], [[9] * 4, [3] * 5, [4] * 6, [5] * 7]):
                loss_and_gradients(model, row, packed)
    except LimakitError as error:
        return _reason(error)
    except torch._dynamo.exc.RecompileError:
        return "no: rows of other lengths compile again"
    except Exception as error:  # whatever dynamo and the model's code make of each other
        return f"no: {type(error).__name__}"
    return "yes" if _equal(got, expected) else "no: other gradients"


def _recomputes(model: Any, packed: bool) -> str:
    """Whether gradients are bit for bit those without it, dropout and all."""
    model = copy.deepcopy(model).train()
    expected = loss_and_gradients(model, ROW, packed)[1]
    try:
        recompute_layers(model)
    except LimakitError as error:
        return _reason(error)
    got = loss_and_gradients(model, ROW, packed)[1]
    return "yes" if all(torch.equal(got[name], expected[name]) for name in expected) else "no: other gradients"


def _equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    total = torch.stack([g.norm() for g in expected.values()]).norm()
    return all((got[name] - expected[name]).norm() <= 1e-5 * (expected[name].norm() + total) for name in expected)


HEAD = """\
# Families of models

What was tried with each, on small random models, with transformers {transformers} and torch on the CPU. `tests/train/test_families.py` tries it
again and compares; `python tests/support/families.py docs/families.md` writes this page. Where a family comes with layers of several kinds (windows, chunks,
convolutions, experts, no positions), the small model has them too, and documents longer than its windows and chunks.

- **Residual dropout** (`residual_dropout` under `[train]`): the modules on whose output it acts, by their names within a decoder layer. A model
  of any family, in the table or not, is checked when dropout is attached, and refused by name if a layer adds anything that is not dropped.
- **Packed** (`pack`): several documents in one row, none of which sees another. Where it says no, set `pack = false`. Checked whenever it is attached.
- **Compiled** (`compile`): one set of graphs serves all rows, and gradients are those of eager mode up to rounding.
- **Recomputed** (`recompute`): gradients are bit for bit those without it.

| family | residual dropout on | packed | compiled | recomputed |
|---|---|---|---|---|
"""


def page() -> str:
    return HEAD.format(transformers=transformers.__version__) + "".join(f"{examine(family).row}\n" for family in FAMILIES)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
