"""Decoding: the same text alone, in any batch and in any order; equal to transformers' own generate where that is greedy."""

from collections import Counter
from copy import deepcopy

import pytest
import tiny
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from limakit.errors import LimakitError
from limakit.generate import local
from limakit.generate.local import Row, Stream, decode
from limakit.generate.sampling import Sampling
from limakit.model.load import load_causal_lm, load_tokenizer

VOCAB, EOS = 101, 2
PAPER = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2)
GREEDY = Sampling(temperature=0.0, top_p=1.0, repetition_penalty=1.0)


@pytest.fixture(scope="module", params=["llama", "gpt2", "mistral", "gemma3"])
def model(request):
    """Tiny random models: rotary with grouped heads, learnt positions, and sliding windows shorter than the texts in all layers or in some. Logits
    are spread, so texts vary."""
    torch.manual_seed(0)
    if request.param == "gpt2":
        config = GPT2Config(vocab_size=VOCAB, n_positions=96, n_embd=48, n_layer=3, n_head=4, eos_token_id=EOS, bos_token_id=1)
        built = GPT2LMHeadModel(config)
    else:
        shape = {"vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
                 "num_key_value_heads": 2, "max_position_embeddings": 96, "eos_token_id": EOS}  # fmt: skip
        if request.param == "llama":
            built = LlamaForCausalLM(LlamaConfig(**shape))
        elif request.param == "mistral":
            built = MistralForCausalLM(MistralConfig(**shape, sliding_window=8))
        else:
            layers = ["sliding_attention", "full_attention", "sliding_attention"]
            built = Gemma3ForCausalLM(Gemma3TextConfig(**shape, head_dim=12, sliding_window=8, layer_types=layers))
    with torch.no_grad():
        for weight in built.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
    return built.eval()


def prompts(n):
    generator = torch.Generator().manual_seed(1)
    return {f"p{i}": torch.randint(3, VOCAB, (1 + 5 * i % 23,), generator=generator).tolist() for i in range(n)}


def run(
    model, found, *, batch, sampling=PAPER, stops=(EOS,), ends=None, max_tokens=25, context=None, seed=7, samples=1, turn=0, on_step=None
):  # fmt: skip
    rows = [Row(p, s, ids, None if context is None else context - len(ids), turn) for p, ids in found.items() for s in range(samples)]
    done = list(
        decode(
            model, rows, stop_ids=frozenset(stops), ends=ends, max_tokens=max_tokens, sampling=sampling, stream=Stream(seed, "lima"),
            batch=batch, on_step=on_step or (lambda tokens: None),
        )
    )  # fmt: skip
    assert len(done) == len(rows)
    return {(row.prompt_id, row.sample): (row.generated, row.finish) for row in done}


def test_a_response_does_not_depend_on_its_batch(model):
    found = prompts(32)
    whole = run(model, found, batch=32)
    assert len({tuple(ids) for ids, _ in whole.values()}) > 25
    assert {finish for _, finish in whole.values()} == {"eot", "length"}
    for batch in (1, 2, 7):
        assert run(model, found, batch=batch) == whole
    assert run(model, dict(reversed(found.items())), batch=5) == whole
    few = dict(list(found.items())[10:13])
    assert run(model, few, batch=32) == {key: value for key, value in whole.items() if key[0] in few}


def test_the_batch_is_full_until_no_prompt_waits(model):
    """Rows that have ended make room: fewer steps than three batches one after the other, each as long as its longest row."""
    found, steps = prompts(48), []
    whole = run(model, found, batch=16, stops=range(8), max_tokens=60, on_step=steps.append)
    assert sum(steps) == sum(len(ids) for ids, _ in whole.values())
    ordered = sorted(found, key=lambda p: (len(found[p]), p))
    apart = [max(len(whole[p, 0][0]) for p in ordered[i : i + 16]) for i in range(0, 48, 16)]
    prefills = [n for n in steps if n <= 3]
    assert len(steps) - len(prefills) < 0.8 * sum(apart)
    busy = [n for i, n in enumerate(steps) if n > 3 and sum(steps[:i]) < 0.5 * sum(steps)]
    assert sum(busy) / len(busy) > 14


def test_a_long_prompt_enters_among_short_rows(model):
    """Longer than all that the batch has so far, so that its keys and values are moved; and rows leave soon, so that many enter."""
    found = prompts(9) | {f"long{i}": [3 + (7 * k + i) % 90 for k in range(20 + 8 * i)] for i in range(6)}
    for stops in (range(40), range(5)):
        whole = run(model, found, batch=3, stops=stops, max_tokens=25)
        assert whole == run(model, found, batch=1, stops=stops, max_tokens=25)


def test_samples_of_a_prompt_run_it_once(model, monkeypatch):
    forward, entered = local._Forward.__call__, []
    monkeypatch.setattr(
        local._Forward, "__call__", lambda self, ids, *rest: (entered.append(tuple(ids.shape)), forward(self, ids, *rest))[1]
    )
    found = prompts(3)
    rows = run(model, found, batch=12, samples=4)
    assert entered[0] == (3, max(map(len, found.values())))
    monkeypatch.undo()
    assert run(model, found, batch=1, samples=4) == rows


def test_a_turn_has_its_own_random_numbers(model):
    found = prompts(6)
    assert run(model, found, batch=3, turn=1) != run(model, found, batch=3)
    assert run(model, found, batch=3, turn=1) == run(model, found, batch=6, turn=1)


def test_end_texts(model):
    """A row ends where `ends` says so, as with EOT, whatever else is in the batch."""
    found, sought = prompts(12), set(range(40, 50))

    def ends(ids):
        return len(ids) > 2 and ids[-1] in sought

    free = run(model, found, batch=12)
    rows = run(model, found, batch=5, ends=ends)
    assert rows == run(model, found, batch=1, ends=ends)
    for key, (ids, finish) in free.items():
        cut = next((i + 1 for i in range(len(ids)) if ends(ids[: i + 1])), None)
        assert rows[key] == ((ids, finish) if cut is None else (ids[:cut], "eot"))
    assert rows != free


def test_memory_that_is_full_on_the_way_changes_no_text(model, monkeypatch):
    found = prompts(20)
    whole = run(model, found, batch=8)
    forward, calls = local._Forward.__call__, []

    def full(self, input_BT, *rest):
        calls.append(len(input_BT))
        if len(calls) > 12 and len(input_BT) > 4:
            raise torch.OutOfMemoryError("too large")
        return forward(self, input_BT, *rest)

    monkeypatch.setattr(local._Forward, "__call__", full)
    assert run(model, found, batch=8) == whole
    assert max(calls) == 8 and max(calls[14:]) <= 4
    monkeypatch.setattr(local._Forward, "__call__", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("too large")))
    with pytest.raises(LimakitError, match=r"does not hold a batch(.|\n)*lower generate.batch"):
        run(model, found, batch=8)


def test_greedy_is_that_of_transformers(model):
    found = prompts(12)
    ours = run(model, found, batch=5, sampling=GREEDY)
    for p, ids in found.items():
        theirs = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, max_new_tokens=25,
            eos_token_id=EOS, pad_token_id=0,
        )[0, len(ids) :].tolist()  # fmt: skip
        assert ours[p, 0][0] == theirs


def test_a_doubtful_choice_is_settled_alone(model, monkeypatch):
    """Rounding thousands of times as large as the real one, different in every batch shape: the texts stay the same where doubts are settled."""
    forward = local._Forward.__call__
    settled = Counter()

    def noisy(self, input_BT, *rest):
        logits = forward(self, input_BT, *rest)
        return logits + logits.abs().max() * 1e-2 * (2 * torch.rand(logits.shape) - 1)

    alone = local._Forward.alone
    monkeypatch.setattr(local._Forward, "__call__", noisy)
    monkeypatch.setattr(local._Forward, "alone", lambda self, ids: (settled.update(["alone"]), alone(self, ids))[1])
    found = prompts(8)
    monkeypatch.setattr(local, "TOLERANCE", 1.1e-2)
    whole = run(model, found, batch=12)
    assert settled["alone"] > 0
    assert run(model, found, batch=1) == run(model, found, batch=5) == whole
    monkeypatch.setattr(local, "TOLERANCE", 0.0)  # the same noise unsettled: other texts, so the settling did it
    assert run(model, found, batch=1) != run(model, found, batch=5)


def test_rounding_is_far_below_the_tolerance(model):
    """The assumption behind promise 7, on these models: logits in a batch against logits alone."""
    worst = 0.0
    next_tokens = local._next_tokens

    def compare(forward, rows, logits_BV, *rest):
        nonlocal worst
        for row, logits in zip(rows, logits_BV, strict=True):
            exact = forward.alone(row.prompt + row.generated)[0]
            worst = max(worst, float((logits - exact).abs().max() / exact.abs().max()))
        return next_tokens(forward, rows, logits_BV, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "_next_tokens", compare)
        run(model, prompts(10), batch=10, max_tokens=15)
    assert worst < local.TOLERANCE / 3


def test_samples_and_seeds_differ(model):
    found = prompts(6)
    rows = run(model, found, batch=8, samples=3)
    assert all(len({tuple(rows[p, s][0]) for s in range(3)}) == 3 for p in found if len(rows[p, 0][0]) > 3)
    assert rows != run(model, found, batch=8, samples=3, seed=8)
    assert {key: v for key, v in rows.items() if key[1] == 0} == run(model, found, batch=8)


def test_finish(model):
    found = prompts(10)
    rows = run(model, found, batch=4, stops=(), max_tokens=90, context=96)
    for p, ids in found.items():
        generated, finish = rows[p, 0]
        assert len(generated) == min(90, 96 - len(ids))
        assert finish == ("length" if 96 - len(ids) >= 90 else "context")
    for generated, finish in run(model, found, batch=4, stops=range(50)).values():
        assert (generated[-1] < 50) == (finish == "eot")
        assert all(token >= 50 for token in generated[:-1])


def test_the_penalty_leaves_the_prompt_alone(model):
    """A penalty of a million forbids what was generated, and not what was asked: greedy never repeats itself, and may repeat the prompt."""
    found = prompts(12)
    harsh = Sampling(0.0, 1.0, 1e6)
    repeated = 0
    for (p, _), (generated, _) in run(model, found, batch=12, sampling=harsh, stops=(), max_tokens=20).items():
        positive = [token for token in generated if generated.count(token) > 1]
        assert not positive
        repeated += len(set(generated) & set(found[p]))
    assert repeated > 0


def test_the_penalty_on_the_prompt_spares_eot(model):
    """With penalise_prompt a penalty of a million forbids what was asked too, but never EOT, though it stands in the prompt as a format puts it
    there; and what the batch pads with is nobody's token."""
    found = {p: [*ids[: len(ids) // 2], EOS, *ids[len(ids) // 2 :]] for p, ids in prompts(12).items()}
    harsh = Sampling(0.0, 1.0, 1e6, penalise_prompt=True)
    rows = run(model, found, batch=12, sampling=harsh, max_tokens=20)
    assert rows == run(model, found, batch=1, sampling=harsh, max_tokens=20)
    for (p, _), (generated, _) in rows.items():
        assert not set(generated) & (set(found[p]) - {EOS})
    # logits that are all negative are multiplied by the penalty: what is spared comes at once
    with torch.no_grad():
        bias = torch.nn.Linear(model.get_output_embeddings().in_features, VOCAB).requires_grad_(False)
        bias.weight.zero_()
        bias.bias.copy_(torch.full((VOCAB,), -3.0))
        bias.bias[EOS] = -2.5
    plain, model.lm_head = model.lm_head, bias
    try:
        all_ids = {"p": [EOS, *range(1, VOCAB)]}
        long = Sampling(0.0, 1.0, 1.2, penalise_prompt=True)
        assert run(model, {"p": [*all_ids["p"][:60]]}, batch=1, sampling=long)["p", 0] == ([EOS], "eot")
    finally:
        model.lm_head = plain


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_a_model_that_rounds_coarsely_is_said_to(model, how, capsys):
    """In bfloat16 rounding chooses tokens, and a response is not the same in every batch."""
    run(model, prompts(6), batch=6)
    assert "rounds" not in capsys.readouterr().err
    coarse = deepcopy(model).bfloat16() if how == "weights" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        run(coarse, prompts(6), batch=6)
    said = capsys.readouterr().err
    assert "responses may depend on their batch" in said and said.count("rounds") == 1


def test_a_vocabulary_padded_with_minus_infinity(model, monkeypatch):
    """What a model never says is no broken weight; nothing of it is drawn, and doubts stay as few."""
    forward, alone, settled = local._Forward.__call__, local._Forward.alone, []

    def pad(logits_BV):
        return torch.nn.functional.pad(logits_BV, (0, 27), value=-torch.inf)

    free = run(model, prompts(8), batch=3)
    monkeypatch.setattr(local._Forward, "__call__", lambda *args: pad(forward(*args)))
    monkeypatch.setattr(local._Forward, "alone", lambda self, ids: (settled.append(ids), pad(alone(self, ids)))[1])
    assert run(model, prompts(8), batch=3) == free
    assert len(settled) < 10


def test_broken_weights_are_named(model):
    broken = type(model)(model.config).eval()
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(LimakitError, match=r"prompt 'p0'.*not numbers"):
        run(broken, prompts(1), batch=1)


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
HYBRID = {  # recurrent or convolutional states beside keys and values, or instead of them
    "lfm2": SMALL | {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
    "qwen3_next": SMALL | {
        "num_hidden_layers": 2, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    },
    "recurrent_gemma": SMALL | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
    "jamba": SMALL | {"num_hidden_layers": 8},
    "minimax": SMALL | {"num_hidden_layers": 4},
    "falcon_h1": SMALL | {"num_hidden_layers": 2, "head_dim": 8},
}  # fmt: skip


MORE = {  # what is cached, and what a query sees of it, in other ways: shared between layers, in chunks, with a sink, by biases; and not at all
    "gemma3n_text": SMALL | {
        "num_hidden_layers": 6, "head_dim": 8, "intermediate_size": [48] * 6, "num_kv_shared_layers": 2, "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"] * 3, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB,
        "laurel_rank": 4, "altup_num_inputs": 2, "activation_sparsity_pattern": [0.0] * 6,
    },
    "llama4_text": SMALL | {
        "num_hidden_layers": 4, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2, "moe_layers": [],
        "layer_types": ["chunked_attention"] * 3 + ["full_attention"], "attention_chunk_size": 5,
    },
    "gpt_oss": SMALL | {"num_hidden_layers": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": True},
    "openai-gpt": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
}  # fmt: skip


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *HYBRID, *MORE])
def test_families_are_decoded_right_or_refused(family, monkeypatch):
    """Every model ends some row before the others, so that rows leave the cache and others enter."""
    if family in HYBRID | MORE:
        monkeypatch.setitem(tiny.FAMILIES, family, (HYBRID | MORE)[family])
    model = tiny.make_model(family, vocabulary=VOCAB).eval()
    if family in ("mamba", "openai-gpt", *HYBRID):
        with pytest.raises(LimakitError, match="another way"):
            run(model, prompts(4), batch=4, max_tokens=8, stops=range(50))
    else:
        assert run(model, prompts(7), batch=3, max_tokens=8, stops=range(50)) == run(
            model, prompts(7), batch=1, max_tokens=8, stops=range(50)
        )
        assert run(model, prompts(4), batch=4, max_tokens=8) == run(model, prompts(4), batch=1, max_tokens=8)


def test_a_cache_that_cannot_let_rows_go_is_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setitem(tiny.FAMILIES, "lfm2", HYBRID["lfm2"])
    model = tiny.make_model("lfm2", vocabulary=VOCAB).eval()
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(LimakitError, match=r"lfm2.*another way"):
        run(model, prompts(1), batch=1)


def test_stories(shared):
    """A real pretrained model: its known greedy text, and the same sampled texts in every batch."""
    folder = str(shared / "stories260K" / "hf")
    tokenizer, stories = load_tokenizer(folder), load_causal_lm(folder, device="cpu")
    ids = tokenizer("Once upon a time")["input_ids"]
    greedy = run(stories, {"p": ids}, batch=1, sampling=GREEDY, max_tokens=40)["p", 0][0]
    assert tokenizer.decode(ids + greedy, skip_special_tokens=True).startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    starts = ["Once upon a time", "Tom had a dog", "The sun was", "One day, Lily and her mom went to the big, big store", "A"]
    found = {f"p{i}": tokenizer(f"{starts[i % 5]} {'very ' * (i // 5)}")["input_ids"] for i in range(10)}
    whole = run(stories, found, batch=10, stops=(tokenizer.eos_token_id,), max_tokens=60)
    for batch in (1, 7):
        assert run(stories, found, batch=batch, stops=(tokenizer.eos_token_id,), max_tokens=60) == whole
