"""The loss: cross entropy at target positions only, summed; the caller divides by the step's target tokens.

Logits are computed at those positions alone where the model allows it: with a vocabulary of 32,000 and more, logits over a whole row cost
more memory than the rest of the row.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from .attention import autocast, row_inputs
from .head import loss_head


def target_positions(targets: Sequence[Sequence[bool]]) -> list[int]:
    """Positions in a row of documents whose token is to be predicted. A document's first token has nothing before it in its document."""
    positions, start = [], 0
    for target in targets:
        positions += [start + i for i, wanted in enumerate(target) if wanted and i > 0]
        start += len(target)
    return positions


def takes_positions(model: Any) -> bool:
    """Whether the model's forward makes logits at chosen positions alone (`logits_to_keep`)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # an adapter's own forward hides the model's
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def row_loss(
    model: Any, ids: Sequence[Sequence[int]], targets: Sequence[Sequence[bool]], *, packed: bool, precision: str = "float32"
) -> torch.Tensor:
    """Summed cross entropy (0-dim, float32, in nats) over the target tokens of one row of documents; in eval mode and without gradients that
    is what perplexity is made of.

    `packed` says that the model runs packed attention (attention.attach_packing); otherwise a row is one document. A row without
    target tokens gives 0 with a gradient of 0. A model with a loss head (head.py) keeps no logits at all.
    """
    device = next(model.parameters()).device
    ids_BL = torch.tensor([[token for document in ids for token in document]], device=device)
    positions = torch.tensor(target_positions(targets), dtype=torch.long, device=device)
    if not packed and len(ids) != 1:
        raise ValueError(f"{len(ids)} documents in a row that is not packed")
    inputs = row_inputs([len(document) for document in ids], device) if packed else {"use_cache": False}
    target_T = ids_BL[0, positions]
    if takes_positions(model):
        inputs["logits_to_keep"] = positions - 1
        head = loss_head(model)
        if head is not None:
            with autocast(model, precision), head.asked(target_T):
                return model(input_ids=ids_BL, **inputs).logits
    with autocast(model, precision):
        logits_BTV = model(input_ids=ids_BL, **inputs).logits
    logits_TV = logits_BTV[0] if "logits_to_keep" in inputs else logits_BTV[0, positions - 1]
    return F.cross_entropy(logits_TV.float(), target_T, reduction="sum")
