"""Floating point operations and named devices: figures that can be worked out by hand."""

from __future__ import annotations

import pytest
from transformers import LlamaConfig

from limakit.recipe import LoraSpec, TrainSpec
from limakit.train.devices import ASSUMED_MFU, DEVICES, epoch_flops, seconds_on
from limakit.train.shape import read_shape
from limakit.train.steps import Document

SEVEN_B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32}


def documents(n, length, targets):
    return [Document(f"ex-{i}", (1,) * length, tuple(k >= length - targets for k in range(length))) for i in range(n)]


def test_the_formula_on_7b():
    """6 x 6.476e9 a token inside, 6 x 131e6 at a target, 6 x 32 x 4096 x T for causal attention."""
    shape = read_shape(LlamaConfig(vocab_size=32000, **SEVEN_B), 0)
    flops = epoch_flops(shape, documents(1, 1000, 600), TrainSpec())
    assert flops == 6 * 6_476_005_376 * 1000 + 6 * 32000 * 4096 * 600 + 6 * 32 * 4096 * 1000**2
    lora = epoch_flops(shape, documents(1, 1000, 600), TrainSpec(lora=LoraSpec()))
    assert 0.6 < lora / flops < 0.75  # no gradients of the frozen weights


def test_the_papers_run_of_7b_takes_about_a_quarter_of_an_hour_on_an_h200_at_half_its_peak():
    """750,000 tokens an epoch, 15 epochs (anchors: about 15 minutes at 50 % MFU)."""
    shape = read_shape(LlamaConfig(vocab_size=32000, **SEVEN_B), 32000)
    paper = TrainSpec(precision="bfloat16")
    seconds = seconds_on(DEVICES["h200"], 1, shape, documents(1000, 750, 650), paper)
    assert 13 < seconds * ASSUMED_MFU / 0.5 / 60 < 17
    assert seconds_on(DEVICES["h200"], 8, shape, documents(1000, 750, 650), paper) == pytest.approx(seconds / 8)
    assert seconds_on(DEVICES["a100"], 1, shape, documents(1000, 750, 650), paper) > 3 * seconds
    again = paper.model_copy(update={"recompute": True})
    assert seconds_on(DEVICES["h200"], 1, shape, documents(1000, 750, 650), again) == pytest.approx(4 / 3 * seconds)
