"""A small model that reads examples: the losses of responses (ifd), and embeddings (for k_center, facility_location and deita).

Rows of a batch are padded on the right and need no mask: a causal model sees nothing to the right of a token.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import LimakitError
from ..model.attention import model_name
from ..model.load import Device, context_length, load_causal_lm, load_tokenizer, longrope_length, pick_device
from ..records import Example
from ..workspace import versions
from .measure import Document, measure
from .rows import Floats
from .texts import Reader

LOGITS = 2**28  # of a batch: 1 GB
TOKENS = (512, 8192)  # of a batch, whatever the vocabulary


@dataclass(frozen=True)
class Small:
    """A model that measures: float32, in eval mode. `identity` is what its numbers depend on: hashes of its files, device, versions."""

    model: Any
    reader: Reader
    identity: dict[str, Any]
    folder: Path  # for what was measured

    @property
    def batch_tokens(self) -> int:
        least, most = TOKENS
        return min(most, max(least, LOGITS // self.model.get_input_embeddings().weight.shape[0]))


def load_small(name: str, files: dict[str, str], device: Device, folder: Path) -> Small:
    """Load the model that `name` means (a folder or a hub id), `files` being its fingerprint. Raises LimakitError where it cannot be loaded."""
    where = pick_device(device)
    tokenizer = load_tokenizer(name)
    model = load_causal_lm(name, device=where)
    # beyond such a length every position of a batch turns otherwise, and a row would depend on its neighbours
    lengths = [length for length in (context_length(model.config), longrope_length(model.config)) if length]
    identity = {"files": files, "device": where.type, "versions": versions("torch", "transformers")}
    return Small(model, Reader(tokenizer, min(lengths, default=None)), identity, folder)


def response_losses(small: Small, examples: Sequence[Example]) -> tuple[dict[str, Floats], dict[int, str]]:
    """Mean cross entropy of each last response (nats a token, float64 [n]) after its prompt and alone, over the same tokens; and, by place, why
    a row has none.

    Columns: loss_given_prompt, loss_alone, response_tokens (as far as they are read), tokens_cut (that the context had no room for). Raises
    LimakitError naming the row where a loss is not a number.
    """
    documents: list[Document] = []
    columns = {name: np.full(len(examples), np.nan) for name in ("loss_given_prompt", "loss_alone", "response_tokens", "tokens_cut")}
    absent: dict[int, str] = {}
    places = []
    for i, example in enumerate(examples):
        made = small.reader.with_and_without(example.turns)
        if isinstance(made, str):
            absent[i] = made
            continue
        given, alone, cut = made
        documents += [given, alone]
        places.append(i)
        columns["response_tokens"][i], columns["tokens_cut"][i] = len(given.ids) - given.start, cut
    if places:
        _check_ids(small, documents)
        sums = _measure(small, documents, lambda batch: _losses(small.model, batch), "losses", "ifd")[:, 0]
        for k, name in enumerate(("loss_given_prompt", "loss_alone")):
            columns[name][places] = sums[k::2] / columns["response_tokens"][places]
            _check_finite(small, columns[name][places], [examples[i].id for i in places], "loss")
    return columns, absent


def embeddings(small: Small, examples: Sequence[Example]) -> Floats:
    """The mean of the last hidden state over an example's tokens, as far as the context holds them; float32 [n, d].

    Raises LimakitError naming the row where there is no token or no number.
    """
    documents = []
    for example in examples:
        made = small.reader.whole(example.turns)
        if isinstance(made, str):
            raise LimakitError("its text has no token under this tokenizer", where=f"row {example.id!r}", remedy="remove the row")
        documents.append(made)
    _check_ids(small, documents)
    values = _measure(small, documents, lambda batch: _means(small.model, batch), "embeddings", "embed")
    _check_finite(small, values.sum(axis=1), [example.id for example in examples], "embedding")
    return values


def _measure(small: Small, documents: Sequence[Document], of_batch: Any, kind: str, label: str) -> Floats:
    key = [kind, small.identity, small.batch_tokens]
    try:
        return measure(documents, of_batch, batch_tokens=small.batch_tokens, key=key, folder=small.folder, label=label)
    except torch.OutOfMemoryError:
        remedy = "use a smaller model or --device cpu; the same command goes on with what is still open"
        raise LimakitError("the GPU's memory does not hold a batch", where=model_name(small.model), remedy=remedy) from None


def _pad(model: Any, batch: Sequence[Document]) -> torch.Tensor:
    longest = max(len(document.ids) for document in batch)
    ids_BL = np.zeros((len(batch), longest), np.int64)
    for row, document in zip(ids_BL, batch, strict=True):
        row[: len(document.ids)] = document.ids
    return torch.from_numpy(ids_BL).to(next(model.parameters()).device)


@torch.inference_mode()
def _losses(model: Any, batch: Sequence[Document]) -> Floats:
    """Summed cross entropy over the measured tokens of each document. [B, 1] float64"""
    ids_BL = _pad(model, batch)
    first = min(document.start for document in batch)
    selects = "logits_to_keep" in inspect.signature(model.forward).parameters
    wanted = {"logits_to_keep": torch.arange(first - 1, ids_BL.shape[1] - 1, device=ids_BL.device)} if selects else {}
    logits_BTV = model(input_ids=ids_BL, use_cache=False, **wanted).logits
    if not selects:
        logits_BTV = logits_BTV[:, first - 1 : -1]
    sums = []
    for logits_TV, ids_L, document in zip(logits_BTV, ids_BL, batch, strict=True):
        measured = slice(document.start, len(document.ids))
        at = slice(measured.start - first, measured.stop - first)
        sums.append(F.cross_entropy(logits_TV[at].float(), ids_L[measured], reduction="none").double().sum())
    return torch.stack(sums).cpu().numpy()[:, None]


@torch.inference_mode()
def _means(model: Any, batch: Sequence[Document]) -> Floats:
    """Mean last hidden state over the measured tokens of each document. [B, d] float32"""
    states_BLD = model.base_model(input_ids=_pad(model, batch), use_cache=False).last_hidden_state
    rows = [
        states_LD[document.start : len(document.ids)].float().mean(dim=0) for states_LD, document in zip(states_BLD, batch, strict=True)
    ]
    return torch.stack(rows).cpu().numpy()


def _check_ids(small: Small, documents: Sequence[Document]) -> None:
    known = small.model.get_input_embeddings().weight.shape[0]
    largest = max(int(document.ids.max()) for document in documents)
    if largest >= known:
        what = f"its tokenizer gives the id {largest}, and the model has embeddings for {known} tokens only"
        raise LimakitError(what, where=model_name(small.model), remedy="name a model with its own tokenizer beside it")


def _check_finite(small: Small, values: Floats, ids: Sequence[str], what: str) -> None:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise LimakitError(
            f"the {what} of {len(wrong)} of {len(ids)} rows is not a number, first of row {ids[wrong[0]]!r}",
            where=model_name(small.model), remedy="the checkpoint is broken (a training that diverged?); choose another",
        )  # fmt: skip
