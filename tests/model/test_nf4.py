"""4-bit NormalFloat: the paper's values, the codes of bitsandbytes, a layer that keeps nothing else, and a model packed as it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, save_base
from torch import nn
from torch.nn import functional as F

from limakit.errors import LimakitError
from limakit.model import load_nf4 as loading
from limakit.model.load import load_causal_lm
from limakit.model.load_nf4 import load_nf4
from limakit.model.nf4 import BITS, BLOCK, VALUES, NF4Linear, dequantise, linear_layers, pack_layer, quantise, unpack_layers

IDS = torch.arange(3, 15)[None]


def random_weight(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.02


def test_the_values_are_quantiles_of_a_normal_distribution():
    """Appendix E: 8 negative, 0 and 7 positive ones, evenly spaced in probability from one end, the ends at -1 and 1."""
    end = (1 - 1 / 32 + 1 - 1 / 30) / 2
    positive = torch.special.ndtri(torch.linspace(end, 0.5, 9, dtype=torch.float64)[:-1])
    negative = -torch.special.ndtri(torch.linspace(end, 0.5, 8, dtype=torch.float64)[:-1])
    values = torch.cat([negative, torch.zeros(1), positive]).sort().values / positive.max()
    assert torch.allclose(torch.tensor(VALUES, dtype=torch.float64), values, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64, 64), (33, 50), (500, 300), (7, 3)])
def test_against_bitsandbytes(shape, dtype):
    oracle = pytest.importorskip("bitsandbytes.functional")
    weight = random_weight(*shape).to(dtype)
    ours = quantise(weight)
    theirs, state = oracle.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4", compress_statistics=True)
    n = (weight.numel() + 1) // 2
    assert torch.equal(ours.codes[:n], theirs.flatten()[:n])
    assert torch.equal(ours.scale_sizes, state.state2.absmax) and ours.scale_mean == state.offset
    different = ours.scales != state.absmax  # their search misses the nearest now and then
    largest = F.pad(weight.float().flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).abs().amax(1) - ours.scale_mean
    size = ours.scale_sizes.repeat_interleave(256)[: len(largest)]
    miss = [(state.state2.code[scales.int()] * size - largest).abs()[different] for scales in (ours.scales, state.absmax)]
    assert different.float().mean() < 0.01 or len(largest) == 1
    assert bool((miss[0] <= miss[1]).all())
    if not different.any():
        assert torch.equal(dequantise(ours, weight.shape, dtype), oracle.dequantize_4bit(theirs, state))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(1e-6, 1e6), st.integers(0, 2**31))
def test_each_weight_gets_the_nearest_value(n, size, seed):
    weight = random_weight(n, seed=seed) * size
    back = dequantise(quantise(weight), weight.shape, torch.float32)
    blocks = F.pad(weight, (0, -n % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(1, keepdim=True)
    values = torch.tensor(VALUES)
    nearest = (blocks[..., None] / largest.clamp_min(1e-38)[..., None] - values).abs().argmin(-1)
    # beyond the nearest value only the 8 bits of the scale are between the two
    assert torch.allclose(back, (values[nearest] * largest).flatten()[:n], atol=float(largest.max()) * 0.02)


def test_zeros_and_what_is_not_finite():
    assert torch.equal(dequantise(quantise(torch.zeros(5, 40)), (5, 40), torch.float32), torch.zeros(5, 40))
    for value in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match="not finite"):
            quantise(torch.tensor([1.0, value]))


def make_layer(dtype: torch.dtype = torch.float32) -> tuple[NF4Linear, torch.Tensor]:
    layer = pack_layer(nn.Linear(96, 160), random_weight(160, 96), dtype)
    layer.bias = nn.Parameter(random_weight(160), requires_grad=False)
    return layer, layer.weight


def test_the_layer_is_that_of_its_weight_and_keeps_nothing_dequantised():
    layer, weight_OI = make_layer()
    held = sum(
        tensor.nbytes for name, tensor in layer.state_dict().items() if name != "bias"
    )  # the tables to look up in are shared by all layers
    assert held == pytest.approx(96 * 160 * BITS / 8, rel=0.01) and not any(p.requires_grad for p in layer.parameters())
    x = random_weight(2, 7, 96, seed=1).requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    assert max(tensor.nbytes for tensor in kept) <= layer.codes.nbytes
    [gradient] = torch.autograd.grad(y.square().sum(), x)
    expected = F.linear(x, weight_OI, layer.bias)
    [wanted] = torch.autograd.grad(expected.square().sum(), x)
    assert torch.allclose(y, expected, rtol=1e-5, atol=1e-7) and torch.allclose(gradient, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_under_autocast_it_computes_as_a_linear_layer_does(held):
    layer, weight_OI = make_layer(held)
    x = random_weight(7, 96, seed=1).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, expected = layer(x), F.linear(x, weight_OI, layer.bias)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert torch.allclose(y.float(), expected.float(), rtol=2e-2, atol=1e-4)
    [gradient] = torch.autograd.grad(y.float().sum(), x)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_packed_as_it_is_read_is_the_model_with_rounded_weights(family, tmp_path):
    base = save_base(tmp_path / "base", family=family)
    packed, whole = load_nf4(str(base), device="cpu", dtype=torch.float32), load_causal_lm(str(base), device="cpu")
    assert not any(p.requires_grad or p.is_meta for p in packed.parameters())
    layers = linear_layers(whole)
    assert layers and {name for name, module in packed.named_modules() if isinstance(module, NF4Linear)} == set(layers)
    for module in layers.values():
        transposed = not isinstance(module, nn.Linear)
        weight = module.weight.data.T if transposed else module.weight.data
        rounded = dequantise(quantise(weight), weight.shape, torch.float32)
        module.weight.data = rounded.T.contiguous() if transposed else rounded
    with torch.no_grad():
        expected, got = whole(IDS).logits, packed(IDS).logits
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(unpack_layers(packed)(IDS).logits, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, NF4Linear) for module in packed.modules())
    packed.load_state_dict(whole.state_dict())


def test_no_more_than_one_weight_lies_there_unpacked(tmp_path, monkeypatch):
    base = save_base(tmp_path / "base")
    own, left = loading._put, []

    def look(model, key, tensor, shape, dtype):
        own(model, key, tensor, shape, dtype)
        plain = [module for module in linear_layers(model).values() if not isinstance(module, NF4Linear)]
        left.append(sum(not module.weight.is_meta for module in plain))

    monkeypatch.setattr(loading, "_put", look)
    load_nf4(str(base), device="cpu")
    assert left and max(left) == 0


def split_in_two(base: Path) -> None:
    """The checkpoint's weights in two files with an index."""
    weights = load_file(base / "model.safetensors")
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, base / f"part-{number}.safetensors", metadata={"format": "pt"})
        index |= dict.fromkeys(part, f"part-{number}.safetensors")
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (base / "model.safetensors").unlink()


def test_a_checkpoint_in_parts(tmp_path):
    base = save_base(tmp_path / "base")
    with torch.no_grad():
        expected = load_nf4(str(base), device="cpu")(IDS).logits
        split_in_two(base)
        assert torch.equal(load_nf4(str(base), device="cpu")(IDS).logits, expected)


def _without(base: Path, name: str) -> None:
    weights = load_file(base / "model.safetensors")
    del weights[name]
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def _with_nan(base: Path) -> None:
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})


def _edit_config(base: Path, **changes: int) -> None:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE = {
    "a weight less": (lambda base: _without(base, "model.layers.1.self_attn.q_proj.weight"), "q_proj"),
    "a norm less": (lambda base: _without(base, "model.norm.weight"), "model.norm"),
    "an output layer less": (lambda base: _without(base, "lm_head.weight"), "lm_head"),
    "a layer too few": (lambda base: _edit_config(base, num_hidden_layers=4), "layers.3"),
    "another shape": (lambda base: _edit_config(base, intermediate_size=52), "has the shape"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), "cannot load"),
    "not a number": (_with_nan, "not finite"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_one_message(damage, tmp_path):
    base = save_base(tmp_path / "base")
    spoil, what = DAMAGE[damage]
    spoil(base)
    with pytest.raises(LimakitError, match=what) as caught:
        load_nf4("base", root=tmp_path, device="cpu")
    assert caught.value.where == "base" and caught.value.remedy and "\n" not in caught.value.what


def test_experts_in_one_tensor_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "mixtral", FAMILIES["llama"] | {"num_local_experts": 4})
    save_base(tmp_path / "base", family="mixtral")
    with pytest.raises(LimakitError, match="another layout") as caught:
        load_nf4("base", root=tmp_path, device="cpu")
    assert 'base = "full"' in caught.value.remedy


def test_tied_weights_stay_tied(tmp_path):
    base = save_base(tmp_path / "base", tie_word_embeddings=True)
    model = load_nf4(str(base), device="cpu")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_compiled_it_is_one_graph_and_the_same(tmp_path):
    layer, _ = make_layer()
    x = random_weight(7, 96, seed=1).requires_grad_()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for length in (7, 5):
        y, expected = compiled(x[:length]), layer(x[:length])
        assert torch.allclose(y, expected, atol=1e-6)
        [one], [two] = (torch.autograd.grad(each.square().sum(), x) for each in (y, expected))
        assert torch.allclose(one, two, atol=1e-6)
