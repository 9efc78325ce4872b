"""Weights and memory from a configuration alone, against the real model and the real tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import make_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

from limakit.model import head
from limakit.model.attention import attach_packing
from limakit.model.head import attach_loss_head
from limakit.recipe import LoraSpec, TrainSpec
from limakit.train import shape as module
from limakit.train.dropout import attach_residual_dropout
from limakit.train.optimizer import make_optimizer
from limakit.train.recompute import recompute_layers
from limakit.train.shape import memory, read_shape, row_bytes
from limakit.train.steps import Document, Step
from limakit.train.update import add_gradients

TOKENS, TARGETS = 384, 256


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "gpt_neox", "opt", "gemma2"])
def test_weights_are_counted_without_weights(family):
    config = make_model(family).config
    real = AutoModelForCausalLM.from_config(copy.deepcopy(config))  # resizing changes its config
    assert read_shape(config, 50).parameters == sum(p.numel() for p in real.parameters())
    real.resize_token_embeddings(98)
    shape = read_shape(config, 97)
    assert shape.parameters == sum(p.numel() for p in real.parameters())
    head = real.get_output_embeddings().weight
    assert shape.head == head.numel() and shape.tied == (head is real.get_input_embeddings().weight)
    assert shape.layers == 3 and shape.inner == sum(a * b for a, b in shape.linear.values())


def llama(**shape):
    return LlamaConfig(num_hidden_layers=6, vocab_size=1024, hidden_size=96, intermediate_size=256, num_attention_heads=4, **shape)


def test_the_known_models_have_their_known_sizes():
    sizes = {"hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80, "num_attention_heads": 64}
    shape = read_shape(LlamaConfig(vocab_size=32000, num_key_value_heads=64, **sizes), 0)
    assert shape.parameters == 65_285_660_672 and shape.attention_width == 8192 and not shape.tied


def real_peak(config, spec):
    """What torch's own allocator has at its peak in a row's forward and backward pass, beside weights and gradients."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    attach_residual_dropout(model, spec.residual_dropout)
    attach_packing(model, spec.precision, longest=TOKENS)
    attach_loss_head(model)
    if spec.recompute:
        recompute_layers(model)
    make_optimizer(model, (0.9, 0.95), 0.1, weights=spec.weights)  # splits
    model.train()
    document = Document("x", tuple(range(5, 5 + TOKENS)), tuple(i >= TOKENS - TARGETS for i in range(TOKENS)))

    def row():
        add_gradients(model, [document], Step(1, 1, True, ((0,),)), packed=True, precision=spec.precision)

    row()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        row()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"precision": "bfloat16"}, {"precision": "bfloat16", "weights": "split"}], ids=["float32", "bfloat16", "split"]
)
def test_a_rows_memory_is_what_torch_then_takes(more, recompute):
    spec = TrainSpec(**more, recompute=recompute)
    row = row_bytes(llama(), spec, TOKENS, TARGETS)
    parts = memory(read_shape(llama(), 0), spec, [TOKENS], row, blocks=spec.precision == "bfloat16")
    planned = parts.working + parts.activations
    assert planned == pytest.approx(real_peak(llama(), spec), rel=0.2)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("weights", ["float32", "split"])
def test_a_deep_models_row_is_known_from_a_few_layers(weights, recompute, monkeypatch):
    """7B's shape in small: of a few layers one pass has the higher peak, of many the other. Recomputed, with autocast's copies of float32 weights,
    activations once came out negative."""
    monkeypatch.setitem(head.CHUNK, "cpu", head.CHUNK["cpu"] // 256)  # as small as the model is
    config = LlamaConfig(num_hidden_layers=10, vocab_size=1001, hidden_size=128, intermediate_size=344, num_attention_heads=4)
    spec = TrainSpec(precision="bfloat16", weights=weights, recompute=recompute)
    fixed, activations = row_bytes(config, spec, 256, 32)
    monkeypatch.setattr(module, "FEW", (10, 10))  # none left out
    whole = row_bytes(config, spec, 256, 32)
    assert fixed + activations == pytest.approx(sum(whole), rel=0.01) and activations == pytest.approx(whole[1], rel=0.05)
    inner = sum(n * m for n, m in read_shape(config, 0).linear.values())
    copies = 2 * inner if weights == "float32" else 0
    assert copies <= fixed < copies + 10 * 1001 * 128 and activations > 10 * 256 * 128 * 2


def test_the_parts_are_those_of_the_settings_and_shards_are_shared_out():
    config = llama()
    shape = read_shape(config, 1024)
    n = shape.parameters

    def parts(devices=1, **settings):
        spec = TrainSpec(**settings)
        return memory(shape, spec, [TOKENS], row_bytes(config, spec, TOKENS, TARGETS), devices=devices)

    plain, split = parts(), parts(precision="bfloat16", weights="split", moments="bfloat16")
    assert (plain.weights, plain.remainder, plain.gradients, plain.moments, plain.adapters) == (4 * n, 0, 4 * n, 8 * n, 0)
    assert (split.weights, split.remainder, split.gradients, split.moments) == (2 * n, 2 * n, 2 * n, 4 * n)
    assert parts(precision="bfloat16").working >= 2 * shape.inner  # the copies that autocast makes
    assert parts(recompute=True).activations < 0.5 * plain.activations
    shared = parts(4)
    assert (shared.weights, shared.moments) == (n, 2 * n) and shared.activations == plain.activations
    lora, nf4 = parts(precision="bfloat16", lora=LoraSpec()), parts(precision="bfloat16", lora=LoraSpec(base="nf4"))
    assert lora.weights == 2 * n and nf4.weights < 0.65 * lora.weights and lora.gradients == lora.moments == 0
    assert lora.adapters == 16 * shape.adapters(LoraSpec()) and lora.total < plain.total


def test_adapters_are_counted_as_peft_makes_them():
    peft = pytest.importorskip("peft")
    config = llama()
    shape = read_shape(config, 0)
    for modules in ([], ["q_proj", "v_proj"]):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
        wanted = modules or list(shape.linear)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=wanted))
        low = sum(p.numel() for name, p in adapted.named_parameters() if "lora_" in name)
        eot_rows = 2 * config.hidden_size
        assert shape.adapters(LoraSpec(rank=8, modules=modules)) == low + eot_rows
