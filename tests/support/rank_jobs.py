"""What ranks do in tests (crowd.py): functions that each rank calls, in a process of its own."""

from __future__ import annotations

import copy
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny import make_model
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from limakit.errors import LimakitError, UsageError
from limakit.model.attention import attach_packing
from limakit.model.head import loss_head
from limakit.progress import say, warn
from limakit.recipe import LoraSpec, TrainSpec, read_recipe
from limakit.train import loop, update
from limakit.train import ranks as ranks_module
from limakit.train.branches import decoder_layers
from limakit.train.dropout import attach_residual_dropout
from limakit.train.optimizer import make_optimizer
from limakit.train.ranks import ALONE, Ranks, hashes_together, joined, shared_dir
from limakit.train.shard import full_weights, make_mesh, shard_out, whole
from limakit.train.state import load_state, save_state
from limakit.train.steps import Document, plan_steps
from limakit.train.update import add_gradients, run_steps
from limakit.workspace import find_workspace

HOW = {"lr": lambda step: 1e-2, "clip_norm": 1.0, "seed": 0, "packed": True}


def call(job: Callable[..., Any], arguments: tuple) -> Any:
    """As the command line ends: one message and an exit code."""
    sys.argv = ["limakit"]
    from limakit import cli

    answer: list[Any] = []
    cli.app = lambda: answer.append(job(*arguments))  # type: ignore[assignment]
    cli.main()
    return answer[0]


def documents(n: int, longest: int = 40, vocabulary: int = 97) -> list[Document]:
    draw = random.Random(n)
    made = []
    for i in range(n):
        length = draw.randint(3, longest)
        prompt = draw.randint(1, length - 1)
        made.append(
            Document(f"ex-{i}", tuple(draw.randrange(vocabulary) for _ in range(length)), tuple(k >= prompt for k in range(length)))
        )
    return made


def sharded(plain: Any, ranks: Ranks, **how: Any) -> Any:
    """A model as shard_out makes it, with the weights of one that every rank has whole."""

    def shell() -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(copy.deepcopy(plain.config), dtype=torch.float32).eval()

    return shard_out(lambda: copy.deepcopy(plain), shell, ranks, **how)


def distance(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm of the second."""
    assert weights.keys() == others.keys()
    apart = sum(float((weights[name].double() - others[name].double()).square().sum()) for name in others)
    return (apart / sum(float(value.double().square().sum()) for value in others.values())) ** 0.5


def share_things() -> dict:
    """Answers, sums and the muted speech of the ranks."""
    with joined("cpu") as ranks:
        say(f"said by {ranks.rank}")
        warn(f"warned by {ranks.rank}")
        third = sum(1 / 3 for _ in range(ranks.rank + 1))
        here = os.getpid()
        return {
            "lead": ranks.lead(lambda: {"rank": ranks.rank, "text": "é\n", "none": None}),
            "once": ranks.lead(lambda: here),
            "gather": ranks.gather([ranks.rank, "x"]),
            "total": ranks.total(third, 1e300, float("nan") if ranks.rank else 0.0),
            "rank": [ranks.rank, ranks.size, ranks.local_size, ranks.first],
        }  # fmt: skip


def share_a_folder(folder: str, late: bool = False) -> dict:
    """`late`: no rank sees yet what another has written, as over NFS."""
    with joined("cpu") as ranks:
        with shared_dir(Path(folder), ranks) as part:
            (part / f"of-{ranks.rank}").write_text(str(ranks.rank))
            if late:
                Path.rglob = lambda self, _pattern: iter([self / f"of-{ranks.rank}"])  # type: ignore[assignment,method-assign,misc]
            hashes = hashes_together(part, ranks)
        return {"hashes": hashes, "there": sorted(p.name for p in Path(folder).iterdir())}


def fail_in_a_folder(folder: str) -> None:
    with joined("cpu") as ranks, shared_dir(Path(folder), ranks) as part:
        if ranks.rank == 1:
            raise OSError(28, "No space left on device")
        (part / "whole").write_text("never")


def fail(rank: int, how: str, where: str, silent: float = ranks_module.SILENT) -> None:
    """One rank fails while the others wait for it: in a collective, for an answer, asleep, or to meet it."""
    ranks_module.SILENT = silent
    if where == "meeting" and os.environ["RANK"] == str(rank):
        ranks_module._join = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with joined("cpu") as ranks:
        ranks.wait()
        if ranks.rank == rank:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise {"limakit": LimakitError("the disk is full", where="runs/x", remedy="free some space"), "bug": KeyError("oops"),
                   "usage": UsageError("no such key")}[how]  # fmt: skip
        if where == "sum":
            ranks.total(1.0)
        elif where == "answer":
            ranks.lead(lambda: time.sleep(60))
        else:
            time.sleep(60)


def mesh_of(kind: str, uneven: bool) -> list:
    if uneven:  # as three nodes of which one has one rank
        os.environ["LOCAL_WORLD_SIZE"] = "1" if os.environ["RANK"] == "0" else "2"
    with joined("cpu") as ranks:
        mesh = make_mesh(ranks, kind)
        return [mesh.mesh.tolist(), list(mesh.mesh_dim_names or ())]


def gradients(family: str, changes: dict, n: int, pack: bool, kind: str = "full") -> dict:
    """Gradients of one step by several ranks against those of one process, each relative to its own norm."""
    docs = documents(n)
    with joined("cpu") as ranks:
        plain = make_model(family, **changes).eval()
        model = sharded(plain, ranks, kind=kind)
        answer: dict[str, Any] = {"weights": distance(full_weights(model, ranks) or plain.state_dict(), plain.state_dict())}
        answer["buffers"] = all(torch.equal(a, b) for (_, a), (_, b) in zip(model.named_buffers(), plain.named_buffers(), strict=True))
        answer["held"] = sum(p.to_local().numel() for p in model.parameters()) / sum(p.numel() for p in plain.parameters())
        answer["gathered alone"] = len(decoder_layers(model))
        if pack:
            attach_packing(model, longest=40), attach_packing(plain, longest=40)
        where = {"epochs": 1, "batch_examples": n, "budget": 64, "pack": pack, "seed": 1}
        lengths = [len(d.ids) for d in docs]
        [step] = plan_steps(lengths, **where, rank=ranks.rank, ranks=ranks.size)
        [alone] = plan_steps(lengths, **where)
        loss = add_gradients(model, docs, step, packed=pack, ranks=ranks)
        expected = add_gradients(plain, docs, alone, packed=pack)
        total = torch.stack([p.grad.norm() for p in plain.parameters()]).norm()
        worst = 0.0
        for (_name, p), (_, q) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
            if q.grad.norm() > 1e-6 * total:  # a key's bias has gradient 0
                worst = max(worst, float((p.grad.full_tensor() - q.grad).norm() / q.grad.norm()))
        return answer | {"loss": abs(loss - expected) / expected, "worst": worst, "rows": len(step.rows), "idle": step.idle}


def precision(weights: str, moments: str) -> dict:
    """Three steps in bfloat16: what lies in memory, and what the ranks agree on."""
    docs = documents(6)
    with joined("cpu") as ranks:
        model = sharded(make_model("llama"), ranks, precision="bfloat16")
        attach_residual_dropout(model, 0.1)
        attach_packing(model, "bfloat16", longest=40)
        optimizer = make_optimizer(model, (0.9, 0.95), 0.1, weights=weights, moments=moments)
        steps = plan_steps(
            [len(d.ids) for d in docs], epochs=4, batch_examples=6, budget=64, pack=True, seed=1, rank=ranks.rank, ranks=ranks.size
        )
        logs = list(run_steps(model, optimizer, docs, steps, **HOW, precision="bfloat16", ranks=ranks))
        states = [value for p in model.parameters() for value in optimizer.state[p].values() if value.ndim]
        return {
            "losses": [log.loss for log in logs], "norms": [log.grad_norm for log in logs],
            "weights": sorted({str(p.dtype) for p in model.parameters()}),
            "sharded": all(isinstance(p, DTensor) for p in [*model.parameters(), *states]),
            "states": sorted({str(value.dtype) for value in states}),
        }  # fmt: skip


def spoilt_example(index: int) -> None:
    """Two steps over eight documents, one of which has a token that is not a number in the second rank's part of the embedding."""
    docs = documents(8)
    ids = [*docs[index].ids]
    ids[2] = 97
    docs[index] = replace(docs[index], ids=tuple(ids))
    with joined("cpu") as ranks:
        model = sharded(make_model("llama", vocabulary=98), ranks)
        attach_packing(model, longest=40)
        if ranks.rank == 1:
            with torch.no_grad():
                model.get_input_embeddings().weight.to_local()[-1, 0] = float("nan")
        steps = plan_steps(
            [len(d.ids) for d in docs], epochs=2, batch_examples=8, budget=64, pack=True, seed=1, rank=ranks.rank, ranks=ranks.size
        )
        list(run_steps(model, make_optimizer(model, (0.9, 0.95), 0.1), docs, steps, **HOW, ranks=ranks))


def dropout() -> dict:
    """Residual dropout on a sharded model: it acts, in each rank by itself; a branch that it would miss is refused."""
    with joined("cpu") as ranks:
        model = sharded(make_model("llama"), ranks)
        attach_residual_dropout(model, 0.5)
        ids = torch.arange(4, 12)[None]
        with torch.no_grad():
            plain = model.eval()(input_ids=ids).logits
            model.train()
            torch.manual_seed(update.step_seed(0, 1) + ranks.rank)
            once, twice = model(input_ids=ids).logits, model(input_ids=ids).logits
        other = sharded(make_model("llama"), ranks)
        layer = other.model.layers[1]
        own = layer.forward
        layer.forward = lambda hidden_states, **keywords: own(hidden_states, **keywords) + 0.01 * hidden_states
        try:
            attach_residual_dropout(other, 0.3)
            refused = ""
        except LimakitError as error:
            refused = error.message
        everywhere = ranks.gather(round(float(once.abs().sum()), 3))
        return {"acts": not torch.allclose(once, plain), "differs": not torch.allclose(once, twice), "refused": refused, "sums": everywhere}


def whole_model() -> dict:
    """Each rank runs the model by itself, as often as it likes, and training goes on afterwards."""
    docs = documents(6)
    with joined("cpu") as ranks:
        plain = make_model("llama", tie_word_embeddings=True)
        model = sharded(plain, ranks)
        optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
        steps = plan_steps(
            [len(d.ids) for d in docs], epochs=2, batch_examples=6, budget=64, pack=False, seed=1, rank=ranks.rank, ranks=ranks.size
        )
        how = HOW | {"packed": False, "ranks": ranks}
        list(run_steps(model, optimizer, docs, steps[:1], **how))
        plain.load_state_dict({name: p.full_tensor() for name, p in model.state_dict().items()})
        ids = torch.arange(4, 10)[None]
        with whole(model) as usable:
            usable.eval()
            for _ in range(1 + 2 * ranks.rank):  # not equally often
                same = torch.allclose(usable(input_ids=ids).logits, plain.eval()(input_ids=ids).logits, atol=1e-5)
            alone = {"max_new_tokens": 4, "do_sample": False, "synced_gpus": False}  # else transformers has the ranks wait for each other
            made = usable.generate(ids, **alone).tolist() if ranks.first else None
        apart = all(isinstance(p, DTensor) for p in model.parameters())
        more = [row.loss for row in run_steps(model, optimizer, docs, steps[1:], **how)]
        return {"same": same, "made": made, "sharded again": apart, "loss": more,
                "expected": plain.generate(ids, **alone).tolist()}  # fmt: skip


def state(folder: str, do: str, split: bool) -> dict:
    """Two steps and save, or load what other ranks saved; then two steps more."""
    docs = documents(7)
    with joined("cpu") as ranks:
        plain = make_model("llama", tie_word_embeddings=True)
        path = Path(folder)
        if do == "load":
            plain.load_state_dict(torch.load(path / "weights.pt"))
        how = HOW | {"packed": False, "ranks": ranks}
        model = sharded(plain, ranks) if ranks.size > 1 else plain
        optimizer = make_optimizer(model, (0.9, 0.95), 0.1, weights="split" if split else "float32")
        steps = plan_steps(
            [len(d.ids) for d in docs], epochs=4, batch_examples=7, budget=64, pack=False, seed=1, rank=ranks.rank, ranks=ranks.size
        )
        if do == "save":
            list(run_steps(model, optimizer, docs, steps[:2], **how))
            with shared_dir(path / "state", ranks) as part:
                save_state(part, model, optimizer, ranks)
            weights = full_weights(model, ranks) or {name: value.detach().clone() for name, value in model.state_dict().items()}
            if ranks.first:
                torch.save(weights, path / "weights.pt")
        else:
            load_state(path / "state", model, optimizer, "train again")
        ranks.wait()
        losses = [row.loss for row in run_steps(model, optimizer, docs, steps[2:], **how)]
        return {"losses": losses}


def train(folder: str, rank: int = 0, step: int = 0, how: str = "") -> list:
    """`limakit train` in a workspace; where `how` says so, that rank fails when it comes to that step."""
    workspace = find_workspace(Path(folder) / "lima.toml")
    own = update.take_step

    def take_step(model: Any, optimizer: Any, docs: Any, now: Any, **keywords: Any) -> Any:
        if (keywords["ranks"].rank, now.number) == (rank, step):
            match how:
                case "limakit":
                    raise LimakitError("cannot write: No space left on device", where="log.jsonl", remedy="free some space")
                case "nan":
                    next(model.parameters()).data.mul_(float("nan"))
                case "memory":
                    raise torch.OutOfMemoryError("CUDA out of memory")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
        return own(model, optimizer, docs, now, **keywords)

    update.take_step = take_step
    if how == "load" and os.environ["RANK"] == str(rank):
        loop.load_base = lambda *_a, **_k: (_ for _ in ()).throw(LimakitError("cannot load the model: damaged", where="base"))
    return [str(path) for path in loop.train(workspace, read_recipe(workspace.recipe_path))]


def finish(folder: str, epochs: int, steps: int) -> list[str]:
    """The end of a run, by itself; which files this rank looked at."""
    workspace = find_workspace(Path(folder) / "lima.toml")
    read: list[str] = []
    ranks_module.sha256_file = lambda path, own=ranks_module.sha256_file: read.append(str(path)) or own(path)
    with joined("cpu") as ranks:
        run = loop.run_folder(workspace, read_recipe(workspace.recipe_path), ranks)
        run.finish(epochs, steps, ranks)
        return [str(Path(path).relative_to(run.path)) for path in read]


def adapted() -> dict:
    """What some steps with an adapter do to what is trained, on several ranks and in one process: how far EOT's rows move, and how far apart they are."""
    from limakit.train.adapter import attach_adapter, trained_weights
    from limakit.train.attach import attach

    spec = TrainSpec(lora=LoraSpec(rank=4, alpha=8.0), residual_dropout=0.0, precision="float32")
    assert spec.lora is not None
    eot = 90
    docs = [Document(d.id, (*d.ids, eot), (*d.target, True)) for d in documents(6)]
    plan = {"epochs": 3, "batch_examples": 6, "budget": 64, "pack": True, "seed": 1}
    with joined("cpu") as ranks:
        base = make_model("llama").eval()
        alone = copy.deepcopy(base)
        attach_adapter(alone, spec.lora, eot, 0)

        def shell() -> Any:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(copy.deepcopy(base.config), dtype=torch.float32).eval()
                attach_adapter(model, spec.lora, eot, 0)
                return model

        together = shard_out(lambda: copy.deepcopy(alone), shell, ranks)
        before = {name: value.clone() for name, value in trained_weights(alone).items()}
        after = []
        for model, where in ((together, {"rank": ranks.rank, "ranks": ranks.size}), (alone, {})):
            attach(model, spec, longest=41)
            optimizer = make_optimizer(model, (0.9, 0.95), 0.0)
            steps = plan_steps([len(d.ids) for d in docs], **plan, **where)
            list(run_steps(model, optimizer, docs, steps, **HOW, ranks=ranks if where else ALONE))
            after.append(trained_weights(model))
        rows = [name for name in before if name.endswith("eot_row")]
        return {
            "rows": len(rows), "apart": distance(*after),
            "moved": [[float((weights[name] - before[name]).norm() / before[name].norm()) for name in rows] for weights in after],
        }  # fmt: skip


class Fussy(LlamaForCausalLM):
    """Wants logits, and fails at the end of its forward pass where it gets something else."""

    def forward(self, *inputs: Any, logits_to_keep: Any = 0, **keywords: Any) -> Any:
        output = super().forward(*inputs, logits_to_keep=logits_to_keep, **keywords)
        return output if output.logits.ndim == 3 else output.logits[0, 0]


def refused() -> dict:
    """A model that the loss head does not suit fails in its probe; afterwards it is sharded as before and can be trained."""
    from limakit.train.attach import attach

    docs = documents(4)
    with joined("cpu") as ranks:
        torch.manual_seed(0)
        config = make_model("llama").config
        plain = Fussy(config).eval()

        def shell() -> Any:
            with torch.device("meta"):
                return Fussy(config).eval()

        model = shard_out(lambda: copy.deepcopy(plain), shell, ranks)
        attach(model, TrainSpec(residual_dropout=0.0, precision="float32"), longest=40)
        whole_ones = [name for name, p in model.named_parameters() if not isinstance(p, DTensor)]
        optimizer = make_optimizer(model, (0.9, 0.95), 0.1)
        steps = plan_steps(
            [len(d.ids) for d in docs], epochs=3, batch_examples=4, budget=64, pack=True, seed=1, rank=ranks.rank, ranks=ranks.size
        )
        losses = [row.loss for row in run_steps(model, optimizer, docs, steps, **HOW, ranks=ranks)]
        return {"whole": whole_ones, "head": loss_head(model) is not None, "losses": losses}


def attached(compiled: bool, recomputed: bool) -> dict:
    """Gradients of a sharded model whose layers are compiled (without machine code), run again in the backward pass, or both, beside one process's."""
    from limakit.train.compiled import compile_layers
    from limakit.train.recompute import recompute_layers

    with joined("cpu") as ranks:
        plain = make_model("llama")
        docs = documents(6)
        model = sharded(plain, ranks)
        attach_packing(plain, longest=40), attach_packing(model, longest=40)
        lengths = [len(document.ids) for document in docs]
        [alone] = plan_steps(lengths, epochs=1, batch_examples=6, budget=64, pack=True, seed=0)
        [shared] = plan_steps(lengths, epochs=1, batch_examples=6, budget=64, pack=True, seed=0, rank=ranks.rank, ranks=ranks.size)
        expected_loss = add_gradients(plain.train(), docs, alone, packed=True)
        if compiled:
            compile_layers(model, "eager")
        if recomputed:
            recompute_layers(model)
        loss = add_gradients(model.train(), docs, shared, packed=True, ranks=ranks)
        expected = {name: p.grad for name, p in plain.named_parameters()}
        got = {name: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for name, p in model.named_parameters()}
        return {"loss": abs(loss - expected_loss), "worst": distance(got, expected)}


def generate_responses(recipe: str, fails: int | None = None) -> list[str]:
    """limakit generate by several ranks; `fails`: one of them, once it has a response."""
    from limakit.generate import here
    from limakit.generate.run import generate

    decode = here.decode

    def stops(*args: Any, **more: Any) -> Any:
        for row in decode(*args, **more):
            yield row
            if os.environ["RANK"] == str(fails):
                raise LimakitError("the GPU's memory does not hold a batch")

    here.decode = stops
    workspace = find_workspace(Path(recipe))
    return [path.name for path in generate(workspace, read_recipe(workspace.recipe_path), model=None, name=None)]
