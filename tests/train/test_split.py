"""A weight in two halves is the float32 weight, bit for bit (promise 5), and what cannot be halved is refused by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_model

from limakit.errors import LimakitError
from limakit.train.split import join, split, split_into, split_weights

INFINITE = 0x7F80_0000  # bits from which a magnitude is infinite or NaN
LARGEST = 0x7F7F_7FFF  # and the largest whose high half is finite


def floats(bits: torch.Tensor) -> torch.Tensor:
    """Unsigned patterns (int64) as float32."""
    return torch.where(bits >= 2**31, bits - 2**32, bits).to(torch.int32).view(torch.float32)


def comes_back(x: torch.Tensor) -> bool:
    high, remainder = split(x)
    assert high.dtype == torch.bfloat16 and remainder.dtype == torch.int16 and high.shape == remainder.shape == x.shape
    other = torch.empty_like(high), torch.empty_like(remainder)
    split_into(x.clone(), *other)
    assert torch.equal(other[0].view(torch.int16), high.view(torch.int16)) and torch.equal(other[1], remainder)
    return torch.equal(join(high, remainder).view(torch.int32), x.view(torch.int32))


@given(st.lists(st.integers(0, 2**32 - 1).filter(lambda bits: bits % 2**31 < INFINITE), min_size=1, max_size=40))
def test_any_finite_float32_comes_back(bits):
    assert comes_back(floats(torch.tensor(bits)))


def test_every_high_half_comes_back_with_the_low_halves_at_which_something_turns():
    lows = sorted({(turn + by) % 2**16 for turn in (0, 0x4000, 0x7FFF, 0x8000, 0xC000) for by in (-2, -1, 0, 1, 2)})
    highs = torch.arange(2**16) << 16
    highs = highs[highs % 2**31 < INFINITE]  # subnormals, both zeros and the largest values are among them
    for low in lows:
        assert comes_back(floats(highs + low))


@pytest.mark.slow
def test_every_finite_float32_there_is_comes_back():
    size = 2**19  # what a core's cache holds
    high, remainder = torch.empty(size, dtype=torch.bfloat16), torch.empty(size, dtype=torch.int16)
    for start in (*range(0, INFINITE, size), *range(-(2**31), -(2**31) + INFINITE, size)):
        bits = torch.arange(start, start + size, dtype=torch.int32)
        split_into(bits.clone().view(torch.float32), high, remainder)
        assert torch.equal(join(high, remainder).view(torch.int32), bits)


@given(st.lists(st.integers(0, 2**32 - 1).filter(lambda bits: bits % 2**31 <= LARGEST), min_size=1, max_size=40))
def test_the_high_half_is_the_nearest_bfloat16(bits):
    x = floats(torch.tensor(bits))
    high, remainder = split(x)
    usual = x.bfloat16()
    assert torch.equal((high.double() - x.double()).abs(), (usual.double() - x.double()).abs())
    tie = remainder == -(2**15)
    assert torch.equal(high[~tie], usual[~tie]) and bool((high[tie].double().abs() > x[tie].double().abs()).all())


def test_a_bfloat16_base_has_no_remainder():
    x = torch.randn(1000).bfloat16()
    high, remainder = split(x.float())
    assert torch.equal(high, x) and not remainder.any()


def test_a_model_is_split_in_place_and_its_buffers_and_ties_stay():
    model = make_model("llama", tie_word_embeddings=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frequencies = model.model.rotary_emb.inv_freq.clone()
    own = dict(model.named_parameters())
    remainders = split_weights(model)
    assert model.lm_head.weight is model.model.embed_tokens.weight and len(remainders) == len(before)
    for name, parameter in model.named_parameters():
        assert parameter is own[name] and parameter.dtype == torch.bfloat16 and parameter.requires_grad
        assert torch.equal(join(parameter.detach(), remainders[parameter]), before[name])
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)  # float32: in 16 bits positions would turn by other angles


def test_what_is_not_trained_is_rounded_and_has_no_remainder():
    model = make_model("llama")
    model.model.embed_tokens.weight.requires_grad_(False)
    remainders = split_weights(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.embed_tokens.weight not in remainders and len(remainders) == len(list(model.parameters())) - 1


@pytest.mark.parametrize("bad", [float("nan"), float("-inf"), 3.4e38])
def test_a_weight_without_a_finite_half_is_refused_by_name_and_nothing_changes(bad):
    model = make_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = bad
    with pytest.raises(LimakitError, match=r"model\.layers\.1\.mlp\.up_proj\.weight is not finite, or too large") as caught:
        split_weights(model)
    assert 'weights = "float32"' in caught.value.remedy
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_largest_weight_that_has_a_finite_half_is_taken():
    model = make_model("llama")
    largest = floats(torch.tensor([LARGEST]))[0]
    with torch.no_grad():
        model.model.norm.weight[0] = largest
    remainders = split_weights(model)
    assert join(model.model.norm.weight.detach(), remainders[model.model.norm.weight])[0] == largest
