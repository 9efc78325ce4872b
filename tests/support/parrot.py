"""A model that says one thing to whatever it is asked, as a folder plain transformers loads: its weights are written, not learnt."""

from __future__ import annotations

from itertools import pairwise

import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from limakit.model.chat import chat_format


def save_parrot(folder, said: str, *, or_else: str = "", context: int = 4096):
    """Each token leads to the next one of `said`, whatever stood before; after the end of a turn comes its first, after its last the end.

    With `or_else`, which has other tokens but for its beginning, both are as likely where they part. No token may occur twice.
    """
    tokenizer = tiny.make_tokenizer("byte")
    chat = chat_format(tokenizer, add_eot=True)
    n = len(tokenizer)
    n += -n % 4
    config = LlamaConfig(
        vocab_size=n, hidden_size=n, intermediate_size=8, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=context,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(n))  # a token is a direction, which nothing between disturbs
        for text in filter(None, (said, or_else)):
            ids = [chat.eot_id, *tokenizer(text, add_special_tokens=False)["input_ids"], chat.eot_id]
            assert len(set(ids)) == len(ids) - 1, "a token occurs twice"
            for before, after in pairwise(ids):
                model.lm_head.weight[after, before] = 2.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
