"""DEITA: by complexity times quality, nothing too like what is taken."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import unit_rows

from limakit.pick import deita as module
from limakit.pick.deita import TOO_SIMILAR, deita
from limakit.pick.rows import Rows


def naive(rows, take, threshold):
    score = rows.columns["complexity"] * rows.columns["quality"]
    queue = sorted((i for i in range(len(rows)) if i not in rows.absent), key=lambda i: -score[i])
    picks, refused = [], set()
    for i in queue:
        if len(picks) == take:
            break
        if any(rows.vectors[i] @ rows.vectors[j] > threshold for j in picks):
            refused.add(i)
        else:
            picks.append(i)
    return picks, refused


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.2, 1.0), st.integers(1, 60), st.sampled_from([3, 512]))
def test_equals_one_row_after_another(seed, n, threshold, take, block):
    draw = np.random.default_rng(seed)
    made, _ = unit_rows(draw.standard_normal((n, 3)), complexity=draw.integers(1, 7, n), quality=draw.integers(1, 7, n))
    absent = {i: "no_score" for i in range(n) if draw.random() < 0.1}
    rows = Rows(made.ids, made.columns, made.vectors, absent)
    module.BLOCK, before = block, module.BLOCK
    try:
        picks = deita(rows, take, max_similarity=threshold)
    finally:
        module.BLOCK = before
    order, refused = naive(rows, take, threshold)
    assert list(picks.order) == order
    assert {i for i, reason in picks.reasons.items() if reason == TOO_SIMILAR} == refused
    assert {i for i, reason in picks.reasons.items() if reason == "no_score"} == set(absent)


def test_a_copy_is_refused_and_the_better_one_kept():
    rows, order = unit_rows([[1, 0], [1, 0.001], [0, 1]], complexity=[2, 3, 1], quality=[3, 3, 1])
    picks = deita(rows, 3)
    assert [order[i] for i in picks.order] == [1, 2]
    assert [(order[i], reason) for i, reason in picks.reasons.items()] == [(0, TOO_SIMILAR)]


def test_at_a_cosine_of_1_nothing_is_too_similar():
    """Of a copy float32 says a little more than 1 as often as a little less."""
    found = np.random.default_rng(4).standard_normal((40, 33))
    rows, _ = unit_rows(np.repeat(found, 2, axis=0), complexity=np.ones(80), quality=np.ones(80))
    assert len(deita(rows, 80, max_similarity=1.0).order) == 80
