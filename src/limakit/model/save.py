"""A model as a folder that plain transformers loads: weights in safetensors, config, tokenizer with its chat template, generation config."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from .chat import ChatFormat


@contextmanager
def rust_io_errors() -> Iterator[None]:
    """safetensors and tokenizers report a full disk in error types of their own: make it the OSError that atomic_dir turns into one message."""
    try:
        yield
    except Exception as error:  # tokenizers raises plain Exception
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def save_model(
    folder: Path, model: Any, chat: ChatFormat, generation: GenerationConfig | None = None, weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Write weights (safetensors), config, tokenizer with its chat template, and a generation config that stops at EOT.

    `weights`: the state dict to write, where the model itself is sharded over ranks or has an adapter beside it.
    """
    model.generation_config = generation or stop_at_eot(model, chat)
    with rust_io_errors():
        model.save_pretrained(folder, state_dict=weights)
    save_tokenizer(folder, chat)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # as the files beside it; safetensors makes them private


def save_tokenizer(folder: Path, chat: ChatFormat) -> None:
    """Write the tokenizer with its chat template."""
    for key in ("is_local", "local_files_only"):  # how it was loaded here; nothing that loads the folder needs to know
        chat.tokenizer.init_kwargs.pop(key, None)
    with rust_io_errors():
        chat.tokenizer.save_pretrained(folder)


def stop_at_eot(model: Any, chat: ChatFormat) -> GenerationConfig:
    """A generation config whose stop tokens are EOT and the model's own EOS. It pads with the model's padding token or EOS, never EOT."""
    own = model.config.get_text_config()
    eos = chat.tokenizer.eos_token_id if chat.tokenizer.eos_token_id is not None else own.eos_token_id
    others = [token for token in (eos if isinstance(eos, list) else [eos]) if token is not None]
    pad = chat.tokenizer.pad_token_id if chat.tokenizer.pad_token_id is not None else (others[0] if others else None)
    return GenerationConfig(bos_token_id=chat.tokenizer.bos_token_id, eos_token_id=[chat.eot_id, *others], pad_token_id=pad)
