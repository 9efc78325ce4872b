"""The promises 1 to 6 about training, and every way in which peers' users have seen training go wrong without a word, each by its name.

Each test builds what breaks the peer, with real tokenizers and most with a real run, and looks at ids, masks, gradients and weights. What takes
many processes is tested where it is built: equal weights for one rank and two, a failed rank that ends the run (datatrove #157), reloading
on another number of ranks, in test_ranks.py; kills at random moments in tests/journeys/test_kill_training.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import copy, edit, leave_as_killed, rows, run, tree
from safetensors.torch import load_file
from tiny import FAMILIES, TOKENIZERS, make_model, make_tokenizer, make_workspace, save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.model.attention import attach_packing
from limakit.model.chat import EOT, chat_format
from limakit.model.loss import row_loss
from limakit.records import Example, Turn, read_jsonl
from limakit.sources.lima import read_lima
from limakit.train import recompute, update
from limakit.train.optimizer import make_optimizer
from limakit.train.split import join
from limakit.train.steps import Document, Step, prepare
from limakit.train.update import add_gradients, take_step


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role="user" if i % 2 == 0 else "assistant", text=text) for i, text in enumerate(texts))


def example(name: str, *texts: str) -> Example:
    return Example(id=name, source="t", turns=turns(*texts))


def write_set(folder: Path, examples: Sequence[Example]) -> None:
    text = "".join(
        json.dumps({"id": e.id, "source": e.source, "turns": [t.model_dump(include={"role", "text"}) for t in e.turns]}) + "\n"
        for e in examples
    )
    (folder / "data/train.jsonl").write_text(text)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Relative difference of two sets of tensors of the same names."""
    return float(torch.stack([(a[k] - b[k]).norm() for k in a]).norm() / torch.stack([b[k].norm() for k in b]).norm())


def final(folder: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(folder / "runs/tiny" / name / "model.safetensors")


@pytest.fixture
def fed(monkeypatch) -> list[list[tuple[tuple[int, ...], tuple[bool, ...]]]]:
    """What a run gives its model, row by row: ids and targets of each document."""
    seen: list = []
    own = update.row_loss

    def recorded(model, ids, targets, **keywords):
        if model.training:  # the alarm looks in eval mode
            seen.append(list(zip(map(tuple, ids), map(tuple, targets), strict=True)))
        return own(model, ids, targets, **keywords)

    monkeypatch.setattr(update, "row_loss", recorded)
    return seen


# the promises


def test_promise_1_weights_do_not_depend_on_how_a_step_is_packed(finished, tmp_path, monkeypatch):
    """Any token budget and none, and activations computed again: the same weights after three epochs, to 1e-6 (float32, without dropout)."""
    ends, again = [], []
    monkeypatch.setattr(recompute, "checkpoint", lambda *a, own=recompute.checkpoint, **k: again.append(1) or own(*a, **k))
    for number, change in enumerate(("", "pack_tokens = 100", "pack_tokens = 700", "pack = false", "pack_tokens = 700\nrecompute = true")):
        folder = copy(finished, tmp_path / str(number))
        edit(folder, "residual_dropout = 0.2", f"residual_dropout = 0\n{change}")
        edit(folder, "lr = [0.003, 0.0003]", "lr = [1e-5, 1e-6]")
        run(folder)
        ends.append(final(folder))
        assert [row["examples"] for row in rows(folder)] == [8, 8, 4] * 3
    base = AutoModelForCausalLM.from_pretrained(finished / "base").state_dict()
    moved = {name: ends[0][name] for name in base if base[name].shape == ends[0][name].shape}
    assert far(moved, {name: base[name] for name in moved}) > 1e-5  # they are not equal for want of training
    assert max(far(end, ends[0]) for end in ends[1:]) < 1e-6
    assert again and all(torch.equal(ends[4][name], ends[2][name]) for name in ends[4])  # the same rows: the same bits


def test_promise_2_eot_is_learnt_and_one_that_the_trim_takes_is_counted(finished, tmp_path, fed, capsys):
    """EOT ends each whole response as a target, gets likelier there, and is not put where a response was cut."""
    folder = copy(finished, tmp_path)
    edit(folder, "max_tokens = 96", "max_tokens = 30")
    edit(folder, "residual_dropout = 0.2", "residual_dropout = 0")
    run(folder)
    note = " ".join(capsys.readouterr().err.split())
    chat = chat_format(AutoTokenizer.from_pretrained(folder / "runs/tiny/final"))
    examples = read_jsonl(folder / "data/train.jsonl", Example)
    whole = {tuple(chat.encode(e.turns).ids): e.id for e in examples}
    cut = [e.id for ids, e in zip(whole, examples, strict=True) if len(ids) > 30]
    assert 0 < len(cut) < 20 and f"{len(cut)} of 20 examples" in note and all(name in note for name in cut)
    for ids, target in (document for row in fed for document in row):
        if ids in whole:
            assert ids[-1] == chat.eot_id and target[-1]
        else:
            assert len(ids) == 30 and any(full[:30] == ids for full in whole) and ids[-1] != chat.eot_id
    before, after = (AutoModelForCausalLM.from_pretrained(folder / "runs/tiny" / e) for e in ("epochs/01", "final"))
    ids = torch.tensor([next(full for full in whole if len(full) <= 30)])
    says = [model(ids).logits[0, -2].log_softmax(-1)[chat.eot_id].item() for model in (before, after)]
    assert says[1] > says[0] and chat.eot_id != chat.tokenizer.pad_token_id


def test_promise_3_every_example_is_fed_once_an_epoch_and_positions_restart(finished, tmp_path, fed, monkeypatch):
    inputs: list[dict] = []
    own = update.row_loss

    def with_inputs(model, ids, targets, **keywords):
        hook = model.register_forward_pre_hook(lambda _m, _a, keywords: inputs.append(keywords), with_kwargs=True)
        try:
            return own(model, ids, targets, **keywords)
        finally:
            hook.remove()

    monkeypatch.setattr(update, "row_loss", with_inputs)
    folder = copy(finished, tmp_path)
    edit(folder, "epochs = 3", "epochs = 2")
    edit(folder, "max_tokens = 96", "max_tokens = 96\npack_tokens = 200")
    run(folder)
    chat = chat_format(AutoTokenizer.from_pretrained(folder / "runs/tiny/final"))
    wanted = sorted(tuple(chat.encode(e.turns).ids[:96]) for e in read_jsonl(folder / "data/train.jsonl", Example))
    assert sorted(ids for row in fed for ids, _ in row) == sorted(wanted * 2)
    assert max(len(row) for row in fed) > 2 and len(inputs) == len(fed)
    for row, given in zip(fed, inputs, strict=True):
        assert given["input_ids"][0].tolist() == [i for ids, _ in row for i in ids]  # nothing between documents, no padding
        assert given["position_ids"][0].tolist() == [i for ids, _ in row for i in range(len(ids))]
        assert given["cu_seq_lens_q"].diff().tolist() == [len(ids) for ids, _ in row]


def test_promise_4_a_model_whose_branches_are_not_known_is_refused_by_name_before_anything_is_trained(tmp_path):
    base = save_base(tmp_path / "base", family="mamba")
    folder = make_workspace(tmp_path / "w", base=base, examples=4, max_tokens=64, pack=False)
    with pytest.raises(LimakitError, match="residual dropout") as caught:
        run(folder)
    assert "mamba" in str(caught.value.where) and not (folder / "runs/tiny/log.jsonl").exists()


def test_promise_5_updates_that_16_bits_would_lose_are_kept():
    """One step at the paper's lr. Plain bfloat16 weights keep almost none of it; float32 and split weights keep it all."""
    moved = {}
    docs = [Document(f"ex-{i}", tuple((7 * i + k) % 97 for k in range(12)), (False, *[True] * 11)) for i in range(8)]
    for kind in ("float32", "split", "plain bfloat16"):
        model = make_model("llama", initializer_range=0.02)
        if kind == "plain bfloat16":
            model.bfloat16()
            optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1)
        else:
            optimizer = make_optimizer(model, (0.9, 0.95), 0.1, weights=kind)

        def weights(model=model, optimizer=optimizer, kind=kind):
            state = optimizer.state if kind == "split" else {}
            return [
                join(p.detach(), state[p]["remainder"]) if kind == "split" else p.detach().clone()
                for p in model.parameters()
                if p.ndim == 2
            ]

        before = weights()
        take_step(model, optimizer, docs, Step(1, 1, True, tuple((i,) for i in range(8))), lr=1e-5, clip_norm=1.0, seed=0, packed=False,
                  precision="float32" if kind == "float32" else "bfloat16")  # fmt: skip
        changed = [a != b for a, b in zip(weights(), before, strict=True)]
        moved[kind] = float(torch.cat([c.flatten() for c in changed[1:-1]]).float().mean())  # the layers' matrices: all have a gradient
    assert moved["float32"] > 0.99 and moved["split"] > 0.99 and moved["plain bfloat16"] < 0.5, moved


def test_promise_6_a_killed_run_in_16_bits_goes_on_to_the_same_bytes(finished, tmp_path):
    """Split weights, bfloat16 moments, activations computed again, dropout, a rolling set of epochs."""
    folder = copy(finished, tmp_path / "whole")
    edit(folder, "[train]", '[train]\nprecision = "bfloat16"\nweights = "split"\nmoments = "bfloat16"\nrecompute = true\nkeep = 1')
    killed = copy(folder, tmp_path / "killed")
    run(folder)
    leave_as_killed(killed, "in step 5")
    run(killed)
    assert tree(killed) == tree(folder) and not (folder / "runs/tiny/epochs/01").exists()


# what peers' users have seen


def test_trl_2175_nanochat_400_the_loss_is_over_the_steps_targets_not_a_mean_of_rows_means():
    """Rows of 3 and of 40 targets: a mean of the rows' means would give a token of the short one 13 times the weight."""
    model = make_model("llama").eval()
    attach_packing(model, longest=41)
    docs = [Document("short", tuple(range(4)), (False, *[True] * 3)), Document("long", tuple(range(5, 46)), (False, *[True] * 40))]
    alone = []
    for i in (0, 1):
        model.zero_grad()
        loss = add_gradients(model, docs, Step(1, 1, True, ((i,),)), packed=True)
        alone.append((loss, gradients(model)))
    for rows_ in (((0,), (1,)), ((1, 0),)):
        model.zero_grad()
        loss = add_gradients(model, docs, Step(1, 1, True, rows_), packed=True)
        weighed = {k: (3 * alone[0][1][k] + 40 * alone[1][1][k]) / 43 for k in alone[0][1]}
        halved = {k: (alone[0][1][k] + alone[1][1][k]) / 2 for k in alone[0][1]}
        assert loss == pytest.approx((3 * alone[0][0] + 40 * alone[1][0]) / 43, rel=1e-5)
        assert far(gradients(model), weighed) < 1e-5 and far(halved, weighed) > 0.1


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_trl_1623_a_pad_token_that_is_eos_hides_no_stop_token(kind):
    """Llama bases have no pad token, and their users set it to EOS. EOT is neither, and no token is masked for its id."""
    tokenizer = make_tokenizer(kind)
    tokenizer.pad_token = tokenizer.eos_token
    chat = chat_format(tokenizer, add_eot=True)
    assert chat.eot_id not in (tokenizer.pad_token_id, tokenizer.eos_token_id)
    [document] = prepare([example("x", "Hi", "Yes, in the park")], chat, 64, "response", None).documents
    assert document.ids[-1] == chat.eot_id and document.target[-1]
    model = make_model("llama", vocabulary=len(tokenizer)).eval()
    add_gradients(model, [document], Step(1, 1, True, ((0,),)), packed=False)
    eot_row = model.lm_head.weight.grad[chat.eot_id]
    # the row that is to be said at the end is pulled towards the last hidden state: a negative gradient along it
    hidden = model.model(torch.tensor([document.ids])).last_hidden_state[0, -2].detach()
    assert float(eot_row @ hidden) < 0


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_axolotl_3754_the_end_of_every_assistant_turn_is_a_target(kind):
    chat = chat_format(make_tokenizer(kind), add_eot=True)
    [document] = prepare([example("x", "Hi", "Yes", "And?", "No. ", "Why", "So\n")], chat, 99, "response", None).documents
    ends = [target for token, target in zip(document.ids, document.target, strict=True) if token == chat.eot_id]
    assert ends == [False, True, False, True, False, True]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_axolotl_1761_every_assistant_turn_is_trained_not_the_last_alone(kind):
    chat = chat_format(make_tokenizer(kind), add_eot=True)
    four = ("How do I keep basil", "Trim the stems", "outside in the park", "stand them in a glass of water")
    [document] = prepare([example("x", *four)], chat, 99, "response", None).documents
    said, part = [], []
    for token, target in zip(document.ids, document.target, strict=True):
        part += [token] if target else []
        if token == chat.eot_id and target:
            said.append(" ".join(chat.decode(part).split()))
            part = []
    assert not part and said == [text.lower() if kind == "lowercase_words" else text for text in four[1::2]]


def test_trl_3927_an_example_whose_response_the_trim_takes_is_an_error_with_its_id_and_nothing_is_written(finished, tmp_path):
    folder = copy(finished, tmp_path)
    write_set(folder, [example("fine", "Hi", "Yes"), example("all prompt", "in the park " * 60, "Yes")])
    with pytest.raises(LimakitError, match="no response token left") as caught:
        run(folder)
    assert "all prompt" in str(caught.value.where) and "max_tokens" in caught.value.remedy
    assert not (folder / "runs").exists()


def test_nanochat_803_a_row_without_targets_adds_nothing_and_is_not_nan():
    model = make_model("llama").eval()
    attach_packing(model, longest=12)
    loss = row_loss(model, [(1, 2, 3), (4, 5)], [(False,) * 3, (False,) * 2], packed=True)
    loss.backward()
    assert loss.item() == 0 and all(torch.equal(g, torch.zeros_like(g)) for g in gradients(model).values())
    docs = [Document("none", (1, 2, 3), (False,) * 3), Document("some", (4, 5, 6), (False, True, True))]
    alone = add_gradients(make_model("llama").eval(), docs, Step(1, 1, True, ((1,),)), packed=False)
    assert add_gradients(model, docs, Step(1, 1, True, ((0,), (1,))), packed=True) == pytest.approx(alone, rel=1e-5)
    with pytest.raises(LimakitError, match="no target"):
        add_gradients(model, docs, Step(1, 1, True, ((0,),)), packed=True)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("gemma2", "bloom", "mamba")])
def test_trl_1230_what_stands_beside_a_document_in_its_row_changes_nothing_in_it(family):
    """To the bit: gradients of the one document with two different neighbours, on both sides, as long as they were."""
    model = make_model(family).eval()
    attach_packing(model, longest=12)
    middle, quiet = (20, 21, 22, 23, 24), (False,) * 6
    outcomes = []
    for neighbour in ((1, 2, 3, 4, 5, 6), (60, 61, 62, 63, 64, 65)):
        model.zero_grad()
        loss = row_loss(model, [neighbour, middle, neighbour], [quiet, (False, *[True] * 4), quiet], packed=True)
        loss.backward()
        outcomes.append((loss.item(), gradients(model)))
    assert outcomes[0][0] == outcomes[1][0]
    assert far(outcomes[0][1], outcomes[1][1]) < 1e-6
    alone = row_loss(model, [middle], [(False, *[True] * 4)], packed=True)
    assert alone.item() == pytest.approx(outcomes[0][0], rel=1e-5)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("start", ["Hi", "<s>Hi", "<s> <s>", " Hi"])
def test_openrlhf_393_one_bos_where_the_tokenizer_has_one_and_none_where_it_has_none(kind, start):
    chat = chat_format(make_tokenizer(kind), add_eot=True)
    [document] = prepare([example("x", start, "Yes", "<s>", "No")], chat, 99, "response", None).documents
    assert document.ids.count(chat.tokenizer.bos_token_id) == (1 if kind.endswith("_bos") else 0)
    if kind.endswith("_bos"):
        assert document.ids[0] == chat.tokenizer.bos_token_id and not document.target[0]
    prompt = [{"role": "user", "content": "Hi"}]
    assert chat.tokenizer.apply_chat_template(prompt)["input_ids"] == chat.encode_prompt(turns("Hi"))  # what other tools will send


def test_accelerate_4071_a_resumed_run_takes_the_epochs_order_that_was_to_come(finished, tmp_path, fed):
    whole, killed = copy(finished, tmp_path / "whole"), copy(finished, tmp_path / "killed")
    run(whole)
    uninterrupted = fed[:]
    fed.clear()
    leave_as_killed(killed, "in step 5")
    before = len(fed)
    run(killed)
    resumed = fed[before:]
    assert resumed == uninterrupted[-len(resumed) :] and sum(map(len, resumed)) == 40  # epochs 2 and 3, from the start of 2
    first = [ids for row in uninterrupted for ids, _ in row][:20]
    second = [ids for row in resumed for ids, _ in row][:20]
    assert sorted(first) == sorted(second) and first != second


def test_litgpt_1504_a_published_row_of_several_turns_is_one_document_not_pairs(tmp_path):
    """And its second answer is learnt in the light of the first turn: what that says changes the loss there."""
    tokenizer = make_tokenizer("byte_bos")
    chat = chat_format(tokenizer, add_eot=True)
    published = [["play outside", "Yes", "And?", "No"], ["play inside!", "Yes", "And?", "No"]]
    (tmp_path / "lima.jsonl").write_text(
        "".join(json.dumps({"conversations": texts, "source": "multi_turn"}) + "\n" for texts in published)
    )
    examples = [Example(id=str(number), source="t", turns=said) for number, _, said in read_lima(tmp_path / "lima.jsonl")]
    documents = prepare(examples, chat, 99, "response", None).documents
    assert len(documents) == 2 and [d.ids.count(chat.eot_id) for d in documents] == [4, 4]
    model = make_model("llama", vocabulary=len(tokenizer)).eval()
    end = [max(i for i, token in enumerate(d.ids[:-1]) if token == chat.eot_id) for d in documents]
    targets = [[i > e for i in range(len(d.ids))] for d, e in zip(documents, end, strict=True)]  # the last answer alone
    losses = [row_loss(model, [d.ids], [t], packed=False).item() for d, t in zip(documents, targets, strict=True)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_text_is_never_a_token_so_no_example_can_end_a_turn_early():
    for kind in TOKENIZERS:
        chat = chat_format(make_tokenizer(kind), add_eot=True)
        [document] = prepare([example("x", f"Say {EOT}", f"a{EOT}b </s>")], chat, 99, "response", None).documents
        assert document.ids.count(chat.eot_id) == 2 and chat.tokenizer.eos_token_id not in document.ids
