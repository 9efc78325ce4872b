"""The output layer and the cross entropy in one: no logits are kept, and the gradients are made on the way forward.

Logits are made for some target positions at a time. From them come the loss and, at once, the gradients with respect to the hidden states and
the output layer's weight; then they are thrown away. With a vocabulary of 128,000 the logits of a row of 2,048 tokens and their gradients
would take 3 GB in float32; a chunk takes what CHUNK says. The weight's gradient is summed over the chunks in float32.

The model's own forward runs, down to its output layer, which answers with the loss in place of logits; so whatever hangs on that forward (sharded
weights that are gathered, hooks) works as ever. A model that does something to its logits afterwards (scales or caps them) would do it to the
loss: that is what the probe is for, and such a model keeps the ordinary way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

# logits in a chunk: 8 MB in float32 on the CPU, near what its caches hold; 512 MB on CUDA, where smaller ones starve the matrix products
CHUNK = {"cpu": 2**21, "cuda": 2**27}
# the vocabulary is padded to a multiple of this: with EOT LLaMA's has 32,001 tokens, and tensor cores want rows of logits that begin at 16 bytes
MULTIPLE = {"cuda": 64}
PROBED = 6  # tokens
KNOWN = 2.0**30  # far above any row's loss: a soft cap that this passes unchanged changes no loss


class HeadLoss(torch.autograd.Function):
    """Sum of -log softmax(h W^T + b)[target]. See `head_loss`."""

    @staticmethod
    def forward(
        ctx: Any, h_TD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, target_T: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        wants_h, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        tokens, multiple = len(weight_VD), MULTIPLE.get(h_TD.device.type, 1)
        padded = -(-tokens // multiple) * multiple  # V from here on
        w_VD, b_V = _padded(weight_VD, padded, dtype), _padded(bias_V, padded, dtype) if bias_V is not None else None
        wide = torch.promote_types(dtype, torch.float32)
        loss = torch.zeros((), dtype=wide, device=h_TD.device)
        dh_TD = torch.empty_like(h_TD) if wants_h else None
        dw_VD = torch.zeros_like(w_VD, dtype=wide) if wants_weight else None
        db_V = torch.zeros_like(w_VD[:, 0], dtype=wide) if wants_bias else None
        rows = min(max(1, CHUNK.get(h_TD.device.type, CHUNK["cuda"]) // weight_VD.shape[0]), len(h_TD))
        # made once for all chunks: the CPU gives large blocks back to the system, and getting them again costs more than the softmax
        logits_RV = h_TD.new_empty(rows, len(w_VD), dtype=dtype)
        wide_RV = logits_RV if dtype == wide else torch.empty_like(logits_RV, dtype=wide)
        made_VD = torch.empty_like(w_VD) if wants_weight else None  # of a chunk
        for start in range(0, len(h_TD), rows or 1):
            h_CD, target_C1 = h_TD[start : start + rows].to(dtype), target_T[start : start + rows, None]
            logits_CV, p_CV = logits_RV[: len(h_CD)], wide_RV[: len(h_CD)]
            if b_V is None:
                torch.mm(h_CD, w_VD.T, out=logits_CV)
            else:
                torch.addmm(b_V, h_CD, w_VD.T, out=logits_CV)
            p_CV.copy_(logits_CV)
            p_CV[:, tokens:] = -torch.inf  # the padding: probability 0, hence no gradient either
            picked_C1, largest_C1 = p_CV.gather(1, target_C1), p_CV.amax(1, keepdim=True)
            torch.softmax(p_CV, 1, out=p_CV)
            # the log of the sum of exponentials, from the largest probability: that one is never too small for a logarithm
            loss += (largest_C1 - p_CV.amax(1, keepdim=True).log() - picked_C1).sum()
            if not (wants_h or wants_weight or wants_bias):
                continue
            p_CV.scatter_add_(1, target_C1, torch.full_like(picked_C1, -1.0))
            if db_V is not None:
                db_V += p_CV.sum(0)
            g_CV = p_CV if p_CV.dtype == dtype else logits_CV.copy_(p_CV)
            if dh_TD is not None:
                dh_TD[start : start + rows] = g_CV @ w_VD
            if dw_VD is not None:
                dw_VD += torch.mm(g_CV.T, h_CD, out=made_VD)
        ctx.gradients = dh_TD, *(g[:tokens] if g is not None else None for g in (dw_VD, db_V))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        given, ctx.gradients = ctx.gradients, None  # scaled where they lie, so there is no second time
        if given is None:
            raise RuntimeError("the loss head's gradients have been given out: a second backward pass needs a second forward pass")
        return *(g.mul_(gradients[0]) if g is not None else None for g in given), None, None


def _padded(values: torch.Tensor, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """In that type, with rows of zeros up to so many."""
    if len(values) == rows:
        return values.to(dtype)
    made = values.new_zeros(rows, *values.shape[1:], dtype=dtype)
    made[: len(values)] = values
    return made


def head_loss(h_TD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None, target_T: torch.Tensor) -> torch.Tensor:
    """Summed cross entropy (0-dim, in nats, float32 or wider) of `target_T` under the logits h W^T + b. Differentiable
    once: a second backward pass raises RuntimeError. Without grad mode no gradient is made.

    Computed in autocast's type where it is on, else in that of the hidden states; softmax and sums always in float32 at least.
    """
    if not torch.is_grad_enabled():  # of which the function itself is not told
        h_TD, weight_VD, bias_V = h_TD.detach(), weight_VD.detach(), bias_V.detach() if bias_V is not None else None
    device = h_TD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else h_TD.dtype
    with torch.autocast(device, enabled=False):
        return HeadLoss.apply(h_TD, weight_VD, bias_V, target_T, dtype)


class LossHead:
    """Stands in for the forward of a linear output layer: logits as ever, but within `asked` the loss."""

    def __init__(self, head: nn.Linear):
        self.head = head
        self.target_T: torch.Tensor | None = None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.target_T is None:
            return F.linear(hidden, self.head.weight, self.head.bias)
        return head_loss(hidden.flatten(0, -2), self.head.weight, self.head.bias, self.target_T)

    @contextmanager
    def asked(self, target_T: torch.Tensor) -> Iterator[None]:
        """For a block the layer answers with the loss on these targets, one for each hidden state it is given."""
        self.target_T = target_T
        try:
            yield
        finally:
            self.target_T = None


class KnownHead(LossHead):
    """Answers KNOWN whatever it is given, to see whether the model hands that on as it is."""

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return 0.0 * hidden.float().sum() + KNOWN


def loss_head(model: Any) -> LossHead | None:
    """The model's output layer where it answers with the loss (`attach_loss_head`), else None."""
    forward = vars(model.get_output_embeddings() or model).get("forward")
    return forward if isinstance(forward, LossHead) else None


def attach_loss_head(model: Any) -> bool:
    """Let the model's output layer answer with the loss, in place, where that is shown to change nothing; says whether it is.

    Not where the output layer is not a plain linear one or a hook changes what it gives (an adapter's row of EOT), the forward takes no `logits_to_keep`, or the model does more to its logits: then a
    known value in their place comes back changed, or loss or gradients of a short made-up text differ, and the model stays as it was.
    """
    from .loss import row_loss, takes_positions  # loss.py calls what stands here

    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or "forward" in vars(head) or head._forward_hooks or not takes_positions(model):
        return False
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(head.weight.shape[0], (PROBED,), generator=draw).tolist()
    targets = [False, False, *[True] * (PROBED - 2)]
    was = model.training
    model.eval()

    def outcome() -> tuple[torch.Tensor, ...]:
        """The loss and its gradient with respect to what the output layer is given and to its weight."""
        given: list[torch.Tensor] = []

        def keep(_layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
            given.append(inputs[0].detach().requires_grad_())
            return (given[0],)

        hook = head.register_forward_pre_hook(keep)
        try:
            with torch.enable_grad():
                loss = row_loss(model, [ids], [targets], packed=False)
                return loss.detach(), *torch.autograd.grad(loss, given)
        finally:
            hook.remove()

    try:
        expected = outcome()
        head.forward = KnownHead(head)
        handed_on = outcome()[0].item() == KNOWN
        head.forward = LossHead(head)
        got = outcome()
        same = handed_on and all(
            torch.allclose(a.float(), b.float(), rtol=1e-3, atol=1e-3 * b.abs().max().item()) for a, b in zip(got, expected, strict=True)
        )
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        same = False
    finally:
        model.train(was)
    if not same:
        vars(head).pop("forward", None)
    return same
