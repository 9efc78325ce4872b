"""Packed documents never see each other (TRL #1230), positions restart, and a model for which that fails is refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from tiny import make_model

from limakit.errors import LimakitError
from limakit.model import attention
from limakit.model.attention import PACKED, VARLEN, attach_packing, row_inputs
from limakit.model.load import load_causal_lm

PACKABLE = ("llama", "mistral", "qwen2", "gpt2", "gpt_neox", "opt", "gemma2", "gemma3_text", "olmo2")


def logits(model, *documents, packed=True):
    ids = torch.cat([torch.tensor(d) for d in documents])[None]
    keywords = row_inputs([len(d) for d in documents], torch.device("cpu")) if packed else {}
    with torch.no_grad():
        return model.eval()(input_ids=ids, **keywords).logits[0]


@pytest.mark.parametrize("family", PACKABLE)
def test_packed_equals_apart_and_one_document_changes_nothing_in_another(family):
    model = make_model(family)
    documents = [[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22], [30], [40, 41, 42, 43, 44, 45]]
    apart = torch.cat([logits(model, d, packed=False) for d in documents])  # under the model's own attention
    attach_packing(model, longest=12)
    assert model.config._attn_implementation == PACKED
    packed = logits(model, *documents)
    torch.testing.assert_close(packed, apart, rtol=1e-4, atol=1e-5)
    changed = logits(model, [50, 51, 52, 53, 54, 55, 56, 57], *documents[1:])
    assert torch.equal(changed[8:], packed[8:]) and not torch.equal(changed[:8], packed[:8])
    assert not torch.allclose(
        logits(model, [token for document in documents for token in document]), packed, rtol=1e-2
    )  # the boundaries are what does it


def test_the_future_is_not_seen():
    model = make_model("llama")
    attach_packing(model, longest=12)
    assert torch.equal(logits(model, [1, 2, 3, 4], [5, 6, 7])[:2], logits(model, [1, 2, 90, 91], [5, 6, 7])[:2])


@pytest.mark.parametrize("family", ["bloom", "mamba"])
def test_a_model_that_cannot_be_packed_is_refused_by_name_and_left_as_it_was(family):
    model = make_model(family)
    own = model.config._attn_implementation
    before = logits(model, [3, 4, 5], packed=False)
    with pytest.raises(LimakitError) as caught:
        attach_packing(model, longest=12)
    assert family in str(caught.value.where) and "pack = false" in caught.value.remedy
    assert model.config._attn_implementation == own
    assert torch.equal(logits(model, [3, 4, 5], packed=False), before)


LONGROPE = {"rope_type": "longrope", "type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LLAMA4 = {"hidden_size": 32, "intermediate_size": 48, "intermediate_size_mlp": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2, "no_rope_layers": [1, 1, 0], "interleave_moe_layer_step": 2}  # fmt: skip
BY_LENGTH = {
    "phi3": tiny.FAMILIES["llama"] | {"original_max_position_embeddings": 16, "rope_scaling": LONGROPE},
    "llama4_text": LLAMA4 | {"attention_chunk_size": 16},
}


@pytest.mark.parametrize("family", BY_LENGTH)
def test_a_model_that_treats_long_documents_in_another_way_is_refused_only_where_there_are_such(family, monkeypatch):
    """Beyond 16 tokens one turns every position of the row by other factors, the other attends in chunks."""
    monkeypatch.setitem(tiny.FAMILIES, family, BY_LENGTH[family])
    attach_packing(make_model(family), longest=16)
    model = make_model(family)
    own = model.config._attn_implementation
    with pytest.raises(LimakitError, match="chunks of 16 tokens" if family == "llama4_text" else "treated by the row's longest"):
        attach_packing(model, longest=40)
    assert model.config._attn_implementation == own


def test_a_model_whose_layers_leak_is_caught():
    model = make_model("llama")
    layer = model.model.layers[1]
    layer.register_forward_hook(lambda _m, _i, output: output + 0.1 * output.mean(dim=1, keepdim=True))  # looks across the row
    with pytest.raises(LimakitError, match="see each other"):
        attach_packing(model, longest=12)


def test_a_real_model(shared):
    model = load_causal_lm(str(shared / "stories260K" / "hf"), device="cpu")
    documents = [[1, 403, 407, 261, 378], [1, 270, 417, 383, 300, 301, 302]]
    apart = torch.cat([logits(model, d, packed=False) for d in documents])
    attach_packing(model, longest=12)
    torch.testing.assert_close(logits(model, *documents), apart, rtol=1e-4, atol=1e-4)


def test_bfloat16_computation_packs_too():
    model = make_model("llama")
    attach_packing(model, "bfloat16", longest=12)
    assert model.dtype == torch.float32


def varlen_211(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
    """As torch 2.11 has it, by signature; computed by SDPA."""
    assert query.shape == key.shape == value.shape and cu_seq_q is cu_seq_k and window_size == (-1, 0) and return_aux is None
    given = {"cu_seq_lens_q": cu_seq_q, "scaling": scale}
    return attention.packed_attention(None, *(x.transpose(0, 1)[None] for x in (query, key, value)), None, **given)[0][0]


@pytest.fixture
def for_varlen(monkeypatch):
    """This machine taken for one with a GPU, and torch for 2.11."""
    monkeypatch.setattr(attention, "_is_for_varlen", lambda device, precision: precision == "bfloat16")
    monkeypatch.setattr(attention, "varlen_attn", varlen_211)
    monkeypatch.setattr(attention, "VARLEN_GROUPS", False)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_varlen_kernel_of_torch_2_11_serves_grouped_heads_too(for_varlen, family, capsys):
    """It has no `enable_gqa`: keys and values are repeated for it, and their gradients are those of the others."""
    ids, found = torch.tensor([[5, 6, 7, 8, 9, 20, 21, 22, 30]]), {}
    for implementation in (VARLEN, PACKED):
        model = make_model(family).eval()
        attach_packing(model, "bfloat16", longest=12)
        assert model.config._attn_implementation == VARLEN and capsys.readouterr().err == ""
        model.set_attn_implementation(implementation)
        logits_LV = model(input_ids=ids, **row_inputs([5, 3, 1], torch.device("cpu"))).logits[0]
        logits_LV.square().sum().backward()
        found[implementation] = [logits_LV.detach(), *(p.grad for p in model.parameters())]
    for ours, theirs in zip(found[VARLEN], found[PACKED], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_it_is_said_why_the_varlen_kernel_is_not_taken(for_varlen, monkeypatch, capsys):
    for family, reason in (("gemma2", "soft-capped scores, which torch's varlen kernel does not compute"), ("llama", "only for GPUs")):
        if family == "llama":
            monkeypatch.setattr(attention, "varlen_attn", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("only for GPUs\nat line 7")))
        model = make_model(family)
        attach_packing(model, "bfloat16", longest=12)
        said = capsys.readouterr().err
        assert model.config._attn_implementation == PACKED and said.count("note: ") == 1 and family in said and reason in said
    monkeypatch.setattr(attention, "varlen_attn", None)
    attach_packing(make_model("llama"), "bfloat16", longest=12)
    assert "built without it" in capsys.readouterr().err
    attach_packing(make_model("llama"), "float32", longest=12)
    assert capsys.readouterr().err == ""  # where it could not serve anyway
