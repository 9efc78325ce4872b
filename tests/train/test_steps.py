"""The planner: steps of exactly batch_examples, the epoch's order, packing, the trim (TRL #3927, accelerate #4071)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_tokenizer

from limakit.errors import LimakitError, UsageError
from limakit.model.chat import chat_format
from limakit.records import Example, Turn
from limakit.train.steps import epoch_order, pack_rows, plan_steps, prepare, share


def plan(lengths, **changes):
    return plan_steps(lengths, **({"epochs": 15, "batch_examples": 32, "budget": 2048, "pack": True, "seed": 7} | changes))


def test_the_papers_run_is_480_steps():
    steps = plan([700] * 1000)
    assert len(steps) == 480 and [s.number for s in steps] == list(range(1, 481))
    sizes = [len(s.examples) for s in steps]
    assert sizes == ([32] * 31 + [8]) * 15
    assert [s.number for s in steps if s.last_of_epoch] == [32 * e for e in range(1, 16)]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    budget=st.integers(1, 120),
    batch=st.integers(1, 40),
    pack=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_example_once_an_epoch_whatever_the_packing(lengths, budget, batch, pack, seed):
    steps = plan(lengths, epochs=2, batch_examples=batch, budget=budget, pack=pack, seed=seed)
    for epoch in (1, 2):
        own = [s for s in steps if s.epoch == epoch]
        assert sorted(i for s in own for i in s.examples) == list(range(len(lengths)))
        assert all(len(s.examples) == batch for s in own[:-1]) and 0 < len(own[-1].examples) <= batch
        assert [s.last_of_epoch for s in own] == [False] * (len(own) - 1) + [True]
    for step in steps:
        for row in step.rows:
            assert len(row) == 1 or (pack and sum(lengths[i] for i in row) <= budget)


@given(st.lists(st.integers(1, 100), max_size=50), st.integers(1, 300))
def test_packing_is_first_fit(lengths, budget):
    rows = pack_rows(lengths, budget)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    sums = [sum(lengths[i] for i in row) for row in rows]
    assert sum(s * 2 <= budget for s in sums) <= 1  # two half-empty rows would have been one


@given(n=st.integers(1, 80), seed=st.integers(0, 2**63 - 1), epoch=st.integers(1, 40))
def test_the_order_of_any_epoch_is_a_permutation_that_the_others_do_not_change(n, seed, epoch):
    """accelerate #4071: a run that goes on after an epoch has that epoch's order still to come, not the first one's again."""
    order = epoch_order(n, seed, epoch)
    assert sorted(order) == list(range(n)) and order == epoch_order(n, seed, epoch)
    # the same for a larger set: of two examples the one that came first still does, so what is appended moves nothing
    larger = epoch_order(n + 3, seed, epoch)
    assert [i for i in larger if i < n] == order


@given(st.lists(st.integers(1, 2048), min_size=1, max_size=64), st.integers(1, 9))
def test_ranks_get_equal_shares_of_the_tokens_within_the_longest_document(lengths, ranks):
    shares = share(lengths, ranks)
    assert len(shares) == ranks and sorted(i for own in shares for i in own) == list(range(len(lengths)))
    loads = [sum(lengths[i] for i in own) for own in shares]
    assert max(loads) - min(loads) <= max(lengths)


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    budget=st.integers(1, 120),
    batch=st.integers(1, 40),
    pack=st.booleans(),
    ranks=st.integers(1, 7),
)
def test_the_ranks_steps_are_together_the_step_of_one(lengths, budget, batch, pack, ranks):
    """Promise 1: each example of a step on one rank alone, the same examples whatever the number of ranks; and all run equally many rows,
    for a rank with fewer would leave the others waiting for it (FSDP gathers in every row)."""
    shape = {"epochs": 2, "batch_examples": batch, "budget": budget, "pack": pack}
    alone = plan(lengths, **shape)
    together = [plan(lengths, **shape, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {len(steps) for steps in together} == {len(alone)}
    for whole, *parts in zip(alone, *together, strict=True):
        assert sorted(i for part in parts for row in part.rows for i in row) == whole.examples  # each once
        for part in parts:
            assert part.examples == whole.examples
            assert (part.number, part.epoch, part.last_of_epoch) == (whole.number, whole.epoch, whole.last_of_epoch)
            assert all(len(row) == 1 or (pack and sum(lengths[i] for i in row) <= budget) for row in part.rows)
        rows = [len(part.rows) for part in parts]
        assert [part.idle for part in parts] == [max(rows) - n for n in rows]


def test_the_order_is_a_permutation_of_its_own_for_each_epoch_and_seed():
    orders = [epoch_order(100, seed, epoch) for seed in (7, 8) for epoch in (1, 2, 3)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6  # a resumed epoch never replays the first one's order
    assert epoch_order(8, 7, 1) == [3, 4, 7, 0, 1, 5, 2, 6]  # by sha256sum of 7/1/0 ... 7/1/7: it must not move between versions


def test_the_order_is_even():
    """Each index comes first about equally often: chi-square over 3,000 epochs, 9 degrees of freedom, well under its 99.9 % point 27.9."""
    firsts = [epoch_order(10, 7, epoch)[0] for epoch in range(3000)]
    assert sum((firsts.count(i) - 300) ** 2 / 300 for i in range(10)) < 27.9


def example(name, *texts):
    return Example(id=name, source="t", turns=tuple(Turn(role="user" if i % 2 == 0 else "assistant", text=t) for i, t in enumerate(texts)))


@pytest.fixture(scope="module")
def chat():
    return chat_format(make_tokenizer("byte_bos"), add_eot=True)


def test_a_cut_response_gets_no_eot_and_is_named(chat):
    short, long = example("short", "Hi", "Yes."), example("long", "Hi", "word " * 50)
    prepared = prepare([short, long], chat, 20, "response", 64)
    assert prepared.trimmed == ["long"] and [d.id for d in prepared.documents] == ["short", "long"]  # none dropped
    whole, cut = prepared.documents
    assert whole.ids[-1] == chat.eot_id and whole.target[-1]
    assert len(cut.ids) == 20 and cut.ids.count(chat.eot_id) == 1 and cut.target[-1]  # the user's EOT alone
    assert cut.ids == tuple(chat.encode(long.turns).ids[:20])


def test_exactly_max_tokens_is_not_cut(chat):
    one = example("one", "Hi", "Yes, it is.")
    length = len(chat.encode(one.turns).ids)
    assert prepare([one], chat, length, "response", None).trimmed == []
    assert prepare([one], chat, length - 1, "response", None).trimmed == ["one"]  # its EOT alone is lost: counted too


def test_a_cut_that_leaves_nothing_to_learn_is_an_error_with_its_id(chat):
    with pytest.raises(LimakitError, match="no response token") as caught:
        prepare([example("fine", "Hi", "Yes"), example("all prompt", "word " * 50, "Yes")], chat, 20, "response", 64)
    assert "all prompt" in str(caught.value.where) and "max_tokens" in caught.value.remedy


def test_max_tokens_beyond_the_context_and_an_empty_set_are_errors(chat):
    with pytest.raises(UsageError, match="64") as caught:
        prepare([example("x", "Hi", "Yes")], chat, 65, "response", 64)
    assert "max_tokens = 64" in caught.value.remedy
    with pytest.raises(LimakitError, match="empty"):
        prepare([], chat, 64, "response", 64)
