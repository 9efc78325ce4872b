"""The model's own randomness is off in training, wherever its rate is kept, and comes back into the saved config; what stays random is refused."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from runs import run
from tiny import make_model, make_tokenizer, make_workspace
from transformers import AutoModelForCausalLM

from limakit.errors import LimakitError
from limakit.train.dropout import attach_residual_dropout, residual_dropouts

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.2}
RATES = {  # where each keeps its own: read from the config in forward; a router's jitter; modules and attributes
    "falcon": SMALL | {"hidden_dropout": 0.3, "attention_dropout": 0.2, "new_decoder_architecture": False, "multi_query": True},
    "mixtral": SMALL | {"intermediate_size": 48, "num_key_value_heads": 2, "num_local_experts": 4, "router_jitter_noise": 0.3},
    "gpt2": {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4, "resid_pdrop": 0.3, "embd_pdrop": 0.3, "attn_pdrop": 0.3},
    "opt": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.3, "layerdrop": 0.4},
}


def make(family, **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[family](**(RATES[family] | changes)))


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("family", RATES)
def test_with_residual_dropout_off_training_mode_is_eval_mode(family, p):
    model = make(family).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        torch.manual_seed(1)
        assert not torch.allclose(model.train()(input_ids=ids).logits, expected, rtol=1e-2)  # so there was something to switch off
        attach_residual_dropout(model, p)
        for dropout in residual_dropouts(model):
            dropout.set_rate(0.0)
        for _ in range(3):
            torch.testing.assert_close(model.train()(input_ids=ids).logits, expected)


@pytest.mark.parametrize("family", RATES)
def test_the_config_is_saved_as_the_base_has_it(family):
    model = make(family)
    before = model.config.to_dict()
    native = attach_residual_dropout(model, 0.0)
    assert {name for _, name, _ in native.found} == {
        name for name, value in before.items() if ("drop" in name or "jitter" in name) and value
    }
    with native.restored():
        assert model.config.to_dict() == before
    assert all(getattr(config, name) == 0 for config, name, _ in native.found)


def test_checkpoints_keep_the_rates_of_the_base(tmp_path):
    tokenizer = make_tokenizer("byte_bos")
    model = make("falcon", vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    folder = make_workspace(tmp_path / "w", base=tmp_path / "base", examples=6, epochs=2, batch_examples=4, pack=False)
    run(folder)
    for name in ("epochs/01", "epochs/02", "final"):
        config = json.loads((folder / "runs/tiny" / name / "config.json").read_text())
        assert (config["hidden_dropout"], config["attention_dropout"]) == (0.3, 0.2)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_randomness_that_cannot_be_switched_off_is_refused_by_name(p):
    model = make_model("llama")
    mlp = model.model.layers[0].mlp
    mlp.register_forward_hook(lambda module, _i, output: output + 0.1 * torch.randn_like(output) * output if module.training else output)
    with pytest.raises(LimakitError, match=r"llama: .*training mode still differs from eval mode") as caught:
        attach_residual_dropout(model, p)
    assert "another family" in caught.value.remedy
    assert not residual_dropouts(model)
