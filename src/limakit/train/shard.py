"""The model over the ranks: FSDP2 (fully_shard; Zhao et al. 2023), each decoder layer gathered when it is run, everything else at the root.

Rank 0 alone loads the model, into its host memory; the others make a shell of it that holds no weights, and each gets its shards of one
tensor after the other. So a node holds the model once and no GPU ever holds it whole. What is attached to a model (residual
dropout, packed attention) is attached afterwards and checked on the sharded model, whose forward is the real one: a 65B model would take
minutes on rank 0's CPU, and a small model of its class would prove something about another model.

Gradients are exchanged row by row. Adding them up first would take a whole model's gradients on each rank (27 GB for 7B), and with 32
examples a step over 8 ranks there are one or two rows to a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import LimakitError, UsageError
from ..model.attention import model_name
from .branches import decoder_layers
from .ranks import Ranks


def make_mesh(ranks: Ranks, kind: str) -> DeviceMesh:
    """The ranks as FSDP2 sees them: one row of all ("full"), or nodes by the ranks of each ("hybrid": sharded within a node, copied over nodes).

    Raises UsageError for "hybrid" on one node, or on nodes that have not equally many ranks.
    """
    if kind == "full":
        return init_device_mesh(ranks.device.type, (ranks.size,), mesh_dim_names=("shard",))
    local = ranks.gather(ranks.local_size)
    if len(set(local)) != 1:
        raise UsageError(
            f'shard = "hybrid" needs equally many ranks on each node; there are {min(local)} on one and {max(local)} on another',
            where="[train]", remedy='start as many processes everywhere, or set shard = "full"',
        )  # fmt: skip
    nodes = ranks.size // ranks.local_size
    if nodes < 2 or ranks.local_size < 2:
        raise UsageError(
            f'shard = "hybrid" shards within a node and copies over nodes, but here {"is one node" if nodes < 2 else "each node has one rank"}',
            where="[train]", remedy='set shard = "full"',
        )  # fmt: skip
    return init_device_mesh(ranks.device.type, (nodes, ranks.local_size), mesh_dim_names=("copy", "shard"))


def shard_out(load: Callable[[], Any], shell: Callable[[], Any], ranks: Ranks, *, kind: str = "full", precision: str = "float32") -> Any:
    """The model that `load` gives on rank 0 (on the CPU), sharded over the ranks, on their devices, in eval mode.

    `shell` makes the same model on the "meta" device, on every rank: the same parameters and buffers, without values. With precision = "bfloat16"
    layers are gathered and computed in bfloat16, and gradients are summed in float32 into float32 shards: half of what autocast over float32
    layers would send and hold.
    """
    mesh = make_mesh(ranks, kind)
    whole = load() if ranks.first else None
    model = shell()
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if precision == "bfloat16" else MixedPrecisionPolicy()
    )
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # by default the root would stay gathered after a forward without a backward, and model.parameters() would not be the shards
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    model.to_empty(device=ranks.device)
    tie = getattr(model, "tie_weights", None)
    if tie is not None:
        tie()  # to_empty has parted them
    _fill(model, whole, ranks)
    left = [
        name
        for name, module in model.named_modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and value.is_meta
    ]
    if left:
        raise LimakitError(f"cannot be sharded: {left[0]} keeps a tensor that is neither parameter nor buffer", where=model_name(model),
                           remedy="train it with one process")  # fmt: skip
    return model.eval()


def _fill(model: Any, whole: Any | None, ranks: Ranks) -> None:
    """Give every rank its part of each of rank 0's tensors, one after the other."""
    values = {} if whole is None else dict(whole.named_parameters()) | dict(whole.named_buffers())
    wanted = [*model.named_parameters(), *model.named_buffers()]
    if ranks.first and (absent := {name for name, _ in wanted} ^ values.keys()):
        raise LimakitError(f"cannot be sharded: what is loaded and what its configuration describes differ in {min(absent)}",
                           where=model_name(model), remedy="train it with one process")  # fmt: skip
    with torch.no_grad():
        for name, tensor in wanted:
            full = torch.empty(tensor.shape, dtype=tensor.dtype, device=ranks.device)
            if ranks.first:
                full.copy_(values[name])
            if isinstance(tensor, DTensor):
                tensor.to_local().copy_(distribute_tensor(full, tensor.device_mesh, tensor.placements).to_local())
            else:
                dist.broadcast(full, src=0)
                tensor.copy_(full)


def full_weights(model: Any, ranks: Ranks) -> dict[str, torch.Tensor] | None:
    """The state dict of a sharded model with every tensor whole, in rank 0's host memory; None on the other ranks. All of them have to call it.

    None also for one process: its model is whole.
    """
    if ranks.size == 1:
        return None
    weights: dict[str, torch.Tensor] = {}
    seen: dict[int, torch.Tensor] = {}  # a tied weight is gathered once, and stays tied
    for name, tensor in _state(model):
        if id(tensor) not in seen:
            full = tensor.detach().full_tensor() if isinstance(tensor, DTensor) else tensor.detach()
            seen[id(tensor)] = full.cpu() if ranks.first else full.new_empty(0)
        weights[name] = seen[id(tensor)]
    return weights if ranks.first else None


def _state(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of the state dict, tied ones under each of their names. state_dict() itself gives each a new tensor object."""
    kept = model.state_dict().keys()
    yield from ((name, p) for name, p in model.named_parameters(remove_duplicate=False) if name in kept)
    yield from ((name, b) for name, b in model.named_buffers() if name in kept)


@dataclass(frozen=True)
class Rows:
    """The rows of a parameter's first dimension that lie on this rank; `mine` where no other rank has to tell of the same ones."""

    start: int
    stop: int
    of: int
    mine: bool


def rows_of(parameter: torch.Tensor) -> Rows:
    """This rank's rows: all, or under FSDP2 its chunk of ceil(rows / ranks)."""
    rows = parameter.shape[0]
    if not isinstance(parameter, DTensor):
        return Rows(0, rows, rows, True)
    mesh = parameter.device_mesh
    chunk = -(-rows // mesh.size(mesh.ndim - 1))
    start = min(rows, chunk * mesh.get_local_rank(mesh.ndim - 1))
    stop = min(rows, start + chunk)
    assert parameter.to_local().shape[0] == stop - start
    return Rows(start, stop, rows, mesh.ndim == 1 or mesh.get_local_rank(0) == 0)


def shard_again(model: Any) -> None:
    """After a forward pass that may have failed on its way: FSDP2 would leave gathered what it had gathered by then, and an optimiser made of
    those parameters would see no gradient."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def whole(model: Any) -> Iterator[Any]:
    """The model with all its weights on every rank for a block, so that each can run it by itself (to generate, to measure).

    All ranks have to enter and leave. It takes the whole model in the precision it computes in on each device (7B in bfloat16: 13 GB);
    no gradients may be taken inside. transformers' generate needs synced_gpus=False. A model that is not sharded is given as it is.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    try:
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        with torch.no_grad():
            yield model
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)
