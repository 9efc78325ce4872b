"""What a small model says of a pool: IFD's losses equal plain transformers, whatever the batch; truncation is counted; a kill loses a chunk at most."""

import math

import numpy as np
import pytest
import torch
from pools import examples
from tiny import FAMILIES, make_model, make_tokenizer, save_base
from transformers import AutoModelForCausalLM, AutoTokenizer

from limakit.errors import LimakitError
from limakit.model.chat import chat_format, give_eot
from limakit.pick import measure, small
from limakit.pick.small import Small, embeddings, load_small, response_losses
from limakit.pick.texts import Reader
from limakit.records import Example, Turn


def example(prompt, response, row_id="x"):
    return Example(id=row_id, source="s", turns=(Turn(role="user", text=prompt), Turn(role="assistant", text=response)))


def plain_loss(model, before, response):
    """Mean loss of response tokens after `before`, by plain transformers: labels of the rest are -100."""
    ids, labels = torch.tensor([before + response]), torch.tensor([[-100] * len(before) + response])
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"), max_position_embeddings=256)


def test_equals_plain_transformers(base, tmp_path):
    rows = examples(12)
    columns, absent = response_losses(load_small(str(base), {}, "cpu", tmp_path), rows)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    assert absent == {}
    for i, row in enumerate(rows):
        before = "".join(turn.text + "\n\n" for turn in row.turns[:-1])
        asked = [tokenizer.bos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
        response = tokenizer(row.response, add_special_tokens=False)["input_ids"]
        assert columns["loss_given_prompt"][i] == pytest.approx(plain_loss(model, asked, response), rel=1e-4)
        assert columns["loss_alone"][i] == pytest.approx(plain_loss(model, [tokenizer.bos_token_id], response), rel=1e-4)
        assert columns["response_tokens"][i] == len(response)
        assert columns["tokens_cut"][i] == 0


def test_a_real_model_knows_which_prompt_helps(shared, tmp_path):
    folder = shared / "stories260K" / "hf"
    told = "Timmy liked to play with his red ball. He threw the ball and his dog ran to catch it."
    begun = example("Once upon a time, there was a boy named Timmy. He had a red ball and a dog. They went to the park.", told)
    other = example("Once upon a time, there was a little girl named Sue. She was sad.", told, "y")
    columns, _ = response_losses(load_small(str(folder), {}, "cpu", tmp_path), [begun, other])
    ratios = np.exp(columns["loss_given_prompt"] - columns["loss_alone"])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for i, row in enumerate((begun, other)):
        before, response = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (row.prompt + "\n\n", row.response))
        expected = math.exp(plain_loss(model, [1, *before], response) - plain_loss(model, [1], response))
        assert ratios[i] == pytest.approx(expected, rel=1e-4)
    assert ratios[0] < 0.8 * ratios[1]
    assert columns["loss_alone"][0] == columns["loss_alone"][1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_changes_nothing_in_any_family(family, tmp_path, monkeypatch):
    tokenizer = make_tokenizer("byte_bos")
    model = make_model(family, vocabulary=len(tokenizer)).eval()
    rows = examples(10)
    found = []
    for tokens in ((1, 1), (4000, 4000)):  # each document alone; all together
        monkeypatch.setattr(small, "TOKENS", tokens)
        one = Small(model, Reader(tokenizer, 64), {}, tmp_path / str(tokens[0]))
        found.append((response_losses(one, rows)[0], embeddings(one, rows)))
    for name in found[0][0]:
        assert np.allclose(found[0][0][name], found[1][0][name], rtol=1e-4), name
    assert np.allclose(found[0][1], found[1][1], atol=1e-3 * np.abs(found[0][1]).max())


def test_a_model_in_our_format_reads_our_format(tmp_path):
    tokenizer = make_tokenizer("byte_bos")
    chat = chat_format(tokenizer, add_eot=True)
    model = make_model("llama", vocabulary=len(tokenizer) - 1).eval()
    give_eot(model, chat)
    row = examples(5)[4]  # a dialogue
    columns, _ = response_losses(Small(model, Reader(tokenizer, None), {}, tmp_path), [row])
    encoded = chat.encode(row.turns).ids
    begin = [i for i, token in enumerate(encoded) if token == chat.eot_id][-2] + 1
    assert encoded[-1] == chat.eot_id
    assert columns["response_tokens"][0] == len(encoded) - begin  # EOT is one of them
    assert columns["loss_given_prompt"][0] == pytest.approx(plain_loss(model, encoded[:begin], encoded[begin:]), rel=1e-4)
    assert columns["loss_alone"][0] == pytest.approx(plain_loss(model, [1], encoded[begin:]), rel=1e-4)


def test_without_a_beginning_the_first_token_is_left_out_of_both(tmp_path):
    tokenizer = make_tokenizer("byte")
    tokenizer.bos_token = tokenizer.eos_token = None
    reader = Reader(tokenizer, None)
    given, alone, cut = reader.with_and_without(example("Why?", "Because it is so.").turns)
    assert (alone.start, cut) == (1, 0)
    assert given.ids[given.start :].tolist() == alone.ids[1:].tolist()
    assert len(given.ids) - given.start == len(alone.ids) - 1


def test_the_context_cuts_and_counts(base, tmp_path):
    held = load_small(str(base), {}, "cpu", tmp_path)
    assert held.reader.room == 256
    long = example("Why?", "flowers " * 400)
    rows = [long, example("how " * 400, "So.", "y"), example("Why?", "So.", "z")]
    columns, absent = response_losses(held, rows)
    assert absent == {1: "prompt_too_long"}
    assert np.isnan(columns["loss_alone"][1])
    whole = held.reader.split(long.turns)
    read = 256 - len(whole.start) - len(whole.before)
    assert columns["response_tokens"][0] == read
    assert columns["tokens_cut"][0] == len(whole.response) - read > 0
    assert columns["tokens_cut"][2] == 0


def test_the_text_of_a_special_token_is_text(tmp_path):
    for kind in ("byte_bos", "metaspace_first_bos", "prepend_bos"):
        tokenizer = make_tokenizer(kind)
        parts = Reader(tokenizer, None).split(example("What is </s>?", "</s> ends <s> a text").turns)
        assert {1, 2} & {*parts.before, *parts.response} == set(), kind


class Killed(BaseException):
    pass


def test_a_killed_measurement_goes_on_to_the_same_bits(base, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "CHUNK_TOKENS", 200)
    monkeypatch.setattr(small, "TOKENS", (64, 64))
    rows = examples(30)
    whole, _ = response_losses(load_small(str(base), {}, "cpu", tmp_path / "whole"), rows)
    calls = []

    def count(model, batch, kill_at=None, plain=small._losses):
        calls.append(len(batch))
        if len(calls) == kill_at:
            raise Killed
        return plain(model, batch)

    monkeypatch.setattr(small, "_losses", lambda model, batch: count(model, batch, kill_at=20))
    with pytest.raises(Killed):
        response_losses(load_small(str(base), {}, "cpu", tmp_path / "cut"), rows)
    kept = sorted((tmp_path / "cut").glob("*.npy"))
    assert kept
    kept[0].write_bytes(kept[0].read_bytes()[:50])  # and one of what is kept is damaged
    (tmp_path / "cut" / "note.npy").write_text("not ours")
    monkeypatch.setattr(small, "_losses", lambda model, batch: count(model, batch))
    calls.clear()
    again, _ = response_losses(load_small(str(base), {}, "cpu", tmp_path / "cut"), rows[::-1])  # the pool's order does not matter either
    for name in whole:
        assert np.array_equal(whole[name], again[name][::-1], equal_nan=True)
    done = len(calls)
    response_losses(load_small(str(base), {}, "cpu", tmp_path / "cut"), rows)
    assert len(calls) == done > 0
    response_losses(load_small(str(base), {"another": "model"}, "cpu", tmp_path / "cut"), rows)
    assert len(calls) > done


def test_embeddings_are_mean_states(base, tmp_path):
    rows = examples(6)
    found = embeddings(load_small(str(base), {}, "cpu", tmp_path), rows)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    for row, vector in zip(rows, found, strict=True):
        texts = ["".join(turn.text + "\n\n" for turn in row.turns[:-1]), row.response]
        ids = [tokenizer.bos_token_id, *(i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"])]
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, 1:]
        assert np.allclose(vector, states.mean(dim=0).numpy(), atol=1e-4)


def test_a_broken_model_is_told_and_named(base, tmp_path):
    held = load_small(str(base), {}, "cpu", tmp_path)
    with torch.no_grad():
        held.model.get_input_embeddings().weight[:] = math.nan
    with pytest.raises(LimakitError, match=r"the loss of 3 of 3 rows is not a number, first of row 'ex-0'"):
        response_losses(held, examples(3))
    with pytest.raises(LimakitError, match="embedding of 3 of 3"):
        embeddings(held, examples(3))
    other = Small(make_model("llama", vocabulary=40).eval(), held.reader, {}, tmp_path / "o")
    with pytest.raises(LimakitError, match="embeddings for 40 tokens only"):
        response_losses(other, examples(3))
