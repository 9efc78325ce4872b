"""Format and grade: planted effects come back, none is found where none is, whatever models and lengths do."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.analyze.compare import show_comparison
from limakit.analyze.structure import NAMES, Features, features, show_structure, structures
from limakit.records import Grade, Response, write_jsonl


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("# Plan\n\nFirst this.", {"headings"}),
        ("**Plan:**\nFirst this.", {"headings"}),
        ("Take **two** of them.", {"bold"}),
        ("- one\n- two", {"bullets"}),
        ("- one alone", set()),
        ("1. one\n2) two", {"numbered"}),
        ("so:\n```python\n# no heading\n- a\n- b\n```\nend", {"code"}),
        ("* one\n* **two**", {"bullets", "bold"}),
        ("2 * 3 * 4 = 24, # is a hash, 1.5 litres", set()),
        ("", set()),
    ],
)
def test_features(text, has):
    found = features(text)
    assert {name for name in NAMES if getattr(found, name)} == has
    assert found.characters == len(text)


@given(st.text(alphabet="#*_`~-1.) \na•\u2028\x00{", max_size=200))
def test_any_text_has_features(text):
    assert features(text).characters == len(text)


def test_long_hostile_text_takes_no_time():
    started = time.perf_counter()
    for text in ("*" * 100_000, "**a" * 33_000, "#" * 100_000, " " * 100_000, "__" * 50_000, "**" + "a" * 100_000, "1" * 100_000):
        features(text)
    assert time.perf_counter() - started < 2


def study(seed, prompts=60, models=("a", "b", "c"), samples=2, effect=0.0, length=0.0, quality=(0.0, 0.0, 0.0), likes=(0.3, 0.3, 0.3)):
    """Prompts differ, models differ in `quality` and in how much they like headings, long answers have more of everything."""
    random = np.random.default_rng(seed)
    rows, known = [], {}
    for i in range(prompts):
        level = random.normal(3.5, 0.8)
        for model, good, liking in zip(models, quality, likes, strict=True):
            for sample in range(samples):
                doublings = random.normal(0, 1)
                headings = bool(random.random() < liking + 0.2 * (doublings > 0))
                bullets = bool(random.random() < 0.4 + 0.2 * headings)
                grade = level + good + effect * headings + length * doublings + random.normal(0, 0.7)
                value = str(int(np.clip(round(grade), 1, 6)))
                rows.append(Grade(prompt_id=f"p{i}", model=model, sample=sample, judge="j", rubric="r", status="ok", value=value))
                known[model, f"p{i}", sample, 0] = Features(headings, bullets, False, False, False, int(800 * 2**doublings))
    return rows, known


def told(seed, **how):
    [found] = structures(*study(seed, **how), scale=[str(n) for n in range(1, 7)])
    return {a.feature: a for a in found.associations}


def test_a_planted_effect_is_found_at_equal_length():
    found = told(0, effect=0.5, length=0.2, prompts=200)
    assert found["headings"].grade.value == pytest.approx(0.47, abs=0.12)  # a little is lost where grades end at 6
    assert found["headings"].adjusted < 0.01 and found["headings"].best.value > 0
    assert found["twice as long"].grade.value == pytest.approx(0.19, abs=0.06)
    assert found["bullets"].grade.low < 0 < found["bullets"].grade.high
    assert found["code"].grade is None and "none" in found["code"].problem


def test_none_is_found_where_a_better_model_likes_headings_and_length_is_rewarded():
    """Without the models' own levels and the lengths, headings would look worth a point."""
    hits, covered = 0, 0
    for seed in range(100):
        found = told(seed, quality=(0.0, 0.5, 1.0), likes=(0.05, 0.3, 0.7), length=0.3, prompts=40)
        hits += found["headings"].p < 0.05
        covered += found["headings"].grade.low <= 0 <= found["headings"].grade.high
    assert hits <= 11 and covered >= 89  # 5 and 95 are meant; beyond this once in two hundred times


def test_one_sample_each_and_few_prompts_cover_too():
    covered = 0
    for seed in range(100):
        found = told(seed, samples=1, prompts=20, models=("a", "b"), quality=(0.0, 0.6), likes=(0.3, 0.5))
        a = found["headings"]
        covered += a.grade is None or a.grade.low <= 0 <= a.grade.high
    assert covered >= 89


def test_as_statsmodels_with_an_intercept_for_each_prompt_and_model():
    from statsmodels.api import OLS

    rows, known = study(3, prompts=25, effect=0.4)
    prompts, models = sorted({r.prompt_id for r in rows}), sorted({r.model for r in rows})
    x, y = [], []
    for r in rows:
        f = known[r.model, r.prompt_id, r.sample, 0]
        names = [float(r.prompt_id == p) for p in prompts] + [float(r.model == m) for m in models[1:]]
        x.append([f.headings, f.bullets, np.log2(f.characters), *names])
        y.append(float(r.value))
    theirs = OLS(np.array(y), np.array(x, dtype=float)).fit().params
    [found] = structures(rows, known)
    ours = {a.feature: a.grade.value for a in found.associations if a.grade}
    assert [ours["headings"], ours["bullets"], ours["twice as long"]] == pytest.approx(theirs[:3].tolist(), abs=1e-9)


def test_what_cannot_be_told_is_said(capsys):
    rows, known = study(0, prompts=30)
    [few] = structures(rows[:30], known)
    assert few.problem and not few.associations
    [nothing] = structures(rows, {})
    assert nothing.unknown == len(rows) and nothing.problem
    always = {key: Features(f.headings, f.bullets, False, f.headings, False, f.characters) for key, f in known.items()}
    [twins] = structures(rows, always)
    [bold] = [a for a in twins.associations if a.feature == "bold"]
    assert bold.grade is None and "goes with" in bold.problem
    show_structure([few, nothing, twins])
    shown = capsys.readouterr().out
    assert "association" in shown and "not told" in shown
    assert max(len(line) for line in shown.split("\n") if line[:1] in "┃│") <= 80
    assert structures([r.model_copy(update={"value": "pass"}) for r in rows], known) == []


def test_the_order_of_rows_does_not_matter_and_draws_are_one_response():
    rows, known = study(1, prompts=20)
    assert structures(rows[::-1], known) == structures(rows, known)
    again = [r.model_copy(update={"draw": d}) for r in rows for d in range(3)]
    assert structures(again, known) == structures(rows, known)


def test_compare_reads_the_responses_that_lie_beside_the_grades(tmp_path, capsys):
    rows, known = study(2, prompts=30, models=("a", "b"), quality=(0, 0), likes=(0.3, 0.6))
    texts = {key: ("# Plan\n" if f.headings else "") + ("- x\n- y\n" if f.bullets else "") + "w" * f.characters for key, f in known.items()}
    write_jsonl(tmp_path / "grades" / "g.jsonl", rows)
    for model in "ab":
        mine = [
            Response(prompt_id=p, model=m, sample=s, turn=t, text=text, finish="unknown", tokens=None)
            for (m, p, s, t), text in texts.items()
            if m == model
        ]
        write_jsonl(tmp_path / "responses" / f"{model}.jsonl", mine)
    show_comparison([tmp_path / "grades" / "g.jsonl"], None, as_json=True)
    [found] = json.loads(capsys.readouterr().out)["format"]
    assert (found["prompts"], found["responses"], found["unknown"]) == (30, 120, 0)
    assert found["associations"][0]["feature"] == "headings" and found["associations"][0]["grade"]
    (tmp_path / "responses" / "b.jsonl").write_bytes(b"not JSON\n")
    show_comparison([tmp_path / "grades" / "g.jsonl"], None, as_json=True)
    [found] = json.loads(capsys.readouterr().out)["format"]
    assert found["unknown"] == 60 and found["responses"] == 60  # a's two samples still can be compared
