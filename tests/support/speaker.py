"""A small model for somebody else's server: whatever it is asked, it answers `SAYS`, in its own chat template."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import make_model, make_tokenizer

SAYS = "Verdict: A"  # no byte comes twice, so each tells the next
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def save_speaker(folder: Path, context: int = 16384) -> Path:
    """A model without attention (what its layers attend to is multiplied by nothing) that has learnt which token comes after which."""
    tokenizer = make_tokenizer("byte")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    tokenizer.chat_template = TEMPLATE
    chain = [tokenizer.convert_tokens_to_ids("<|assistant|>")]
    for character in SAYS:  # a byte at a time, whatever pieces the tokenizer would make of it
        chain += tokenizer.convert_tokens_to_ids(["Ġ" if character == " " else character])
    chain.append(tokenizer.eos_token_id)
    assert len(set(chain)) == len(chain)
    model = make_model("llama", vocabulary=len(tokenizer), bos_token_id=1, max_position_embeddings=context)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.self_attn.o_proj.weight.requires_grad_(False)
    ids_BT = torch.tensor([chain])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(150):
        loss = model(input_ids=ids_BT, labels=ids_BT).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
