"""In short, preference and the training loss: whom they are about, what decides a word, what is out of date."""

from __future__ import annotations

import html as markup
import json
import re

import pytest

from limakit.errors import LimakitError
from limakit.records import Judgment, read_jsonl, write_jsonl
from limakit.report.page import write_report
from limakit.workspace import sha256_file, write_manifest


def report(writer) -> tuple[str, list[str], dict[str, dict]]:
    """The page, the bullets of "In short" as text, and the numbers by what they are."""
    write_report(writer.workspace, writer.recipe)
    page = (writer.workspace.report / "index.html").read_text()
    listing = json.loads((writer.workspace.report / "numbers.json").read_bytes())["numbers"]
    return page, bullets(page), {number["what"]: number for number in listing}


def bullets(page: str) -> list[str]:
    short = page[page.index('class="findings"') : page.index("</section>")]
    return [text_of(bullet) for bullet in re.findall("<li>(.*?)</li>", short, re.S)]


def text_of(piece: str) -> str:
    return " ".join(markup.unescape(re.sub("<[^>]*>", "", piece)).split())


def judgment(prompt: str, verdict: str | None, **more) -> Judgment:
    status = "ok" if verdict else "invalid"
    fields = {"prompt_id": prompt, "a": "tiny", "b": "base", "judge": "referee", "rubric": "pairwise"} | more
    return Judgment(**fields, status=status, verdict=verdict)


def write(writer, name: str, rows: list) -> None:
    write_jsonl(writer.workspace.judgments / f"{name}.jsonl", rows)


def test_in_short_is_about_the_recipes_model(writer):
    writer.prompts()
    writer.judgments(judges=("referee", "other judge"))
    verdicts = [judgment(i, "a", a="base", b="random-200") for i in writer.ids]
    write(writer, "others", verdicts)
    _page, short, numbers = report(writer)
    assert len(short) == 5  # two baselines, two judges; and how far these agree
    assert re.match(r"Agreement on verdicts \(rubric pairwise\), other judge – referee: tie-discounted \d+ % ", short.pop())
    order = [re.match("tiny against (.*), judged by (.*?):", bullet).groups() for bullet in short]
    # the recipe's own order of baselines
    assert order == [(b, judge) for b in ("random-200", "base") for judge in ("other judge", "referee")]
    assert all(re.search(r" on 23 prompts, 2 of 48 judgments invalid\.$", bullet) for bullet in short)
    assert any(what.startswith("win of base against random-200") for what in numbers)
    assert "base against random-200" not in " ".join(short)


def test_judgments_that_name_the_recipes_model_second_are_about_it_too(writer):
    write(writer, "people", [judgment(f"p{i}", "b", a="base", b="tiny") for i in range(24)])
    _page, short, _numbers = report(writer)
    assert [bullet for bullet in short if bullet.startswith("tiny against base, judged by referee: ahead. It wins 100 %")]


def test_one_bullet_for_a_judge_with_two_rubrics(writer):
    writer.prompts()
    write(writer, "x", [judgment(i, "a", rubric=rubric) for i in writer.ids for rubric in ("one", "two")])
    _, [bullet], _ = report(writer)
    assert bullet.count("(rubric one) ahead.") == bullet.count("(rubric two) ahead.") == 1
    assert "invalid" not in bullet and bullet.count("on 24 prompts.") == 2


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        ("a" * 24, "ahead"),
        ("b" * 24, "behind"),
        ("a" * 14 + "b" * 10, "no clear difference"),
        ("b" * 14 + "a" * 10, "no clear difference"),
        ("aab", "no clear difference"),
    ],
)
def test_ahead_is_decided_by_the_intervals(writer, verdicts, word):
    writer.prompts()
    write(writer, "x", [judgment(i, verdict) for i, verdict in zip(writer.ids, verdicts, strict=False)])
    _, [bullet], _ = report(writer)
    assert f": {word}. It wins" in bullet
    if len(verdicts) == 3:
        assert "67 %" in bullet


def test_one_prompt_is_singular(writer):
    writer.prompts()
    write(writer, "x", [judgment("p00", "a"), judgment("p00", None, first="b")])
    page, [bullet], _ = report(writer)
    assert bullet.endswith("on 1 prompt, 1 of 2 judgments invalid.")
    assert not re.search(r"\b1 (prompts|judgments|others)\b", text_of(page))


def test_the_n_of_the_agreement(writer):
    writer.prompts()
    rows = [judgment(i, "a") for i in writer.ids] + [judgment(i, "a", first="b") for i in writer.ids[:10]]
    write(writer, "x", rows)
    page, _, numbers = report(writer)
    whom = "of tiny against base, judged by referee (rubric pairwise)"
    assert numbers[f"both orders agree {whom}"]["n"] == numbers[f"prompts in both orders {whom}"]["value"] == 10
    assert numbers[f"win {whom}"]["n"] == 24
    assert "in both orders</th>" in page and "Orders agree: the same verdict whichever response came first" in page


def test_a_judge_of_all_rows_stands_in_the_caption(writer):
    writer.prompts()
    writer.judgments()
    page, _, _ = report(writer)
    assert "; judged by referee; rubric pairwise</p>" in page
    assert not re.search(">(judge|rubric)</th>", page)
    writer.judgments(judges=("referee", "other"))
    page, _, _ = report(writer)
    assert re.search(">judge</th>", page) and not re.search(">rubric</th>", page)


def test_rows_that_are_there_twice_name_both_places(writer):
    writer.prompts()
    writer.judgments(against=("base",))
    first = writer.workspace.judgments / "0.jsonl"
    write(writer, "copy", read_jsonl(first, Judgment)[3:4])
    with pytest.raises(LimakitError) as error:
        report(writer)
    assert "0.jsonl, row 4" in str(error.value) and "copy.jsonl, row 1" in str(error.value)


@pytest.mark.parametrize("folder", ["judgments", "grades", "responses"])
def test_a_file_without_rows_is_an_error(writer, folder):
    writer.everything()
    (writer.workspace.root / folder / "empty.jsonl").write_text("")
    with pytest.raises(LimakitError, match=rf"(?s)empty\.jsonl.*no {folder} in it|no {folder} in it.*empty"):
        report(writer)


def manifest(writer, path, stage: str, inputs: list[str]) -> None:
    root = writer.workspace.root
    write_manifest(path.with_suffix(".manifest.json"), stage=stage, settings={}, inputs={n: sha256_file(root / n) for n in inputs}, outputs={})  # fmt: skip


def test_out_of_date_judgments_are_told_and_left_out(writer, capsys):
    w = writer.everything().workspace
    manifest(writer, w.judgments / "0.jsonl", "judge", ["responses/0.jsonl", "data/test.jsonl"])
    manifest(writer, w.grades / "0.jsonl", "judge", ["responses/0.jsonl", "data/test.jsonl"])
    fresh, short, numbers = report(writer)
    assert "out of date" not in fresh.lower() and len(short) == 5 and capsys.readouterr().err == ""
    assert "than base (referee" in fresh and "grade <b>" in fresh

    (w.responses / "0.jsonl").write_bytes((w.responses / "0.jsonl").read_bytes() + b"\n")
    stale, short, after = report(writer)
    reason = "judged other responses than those now in responses/0.jsonl: run limakit judge"
    assert stale.count(f"Out of date: judgments/0.jsonl: {reason}.") == stale.count(f"Out of date: grades/0.jsonl: {reason}.") == 1
    assert capsys.readouterr().err.count(reason) == 2
    assert not [bullet for bullet in short if "against base" in bullet or "Mean grade" in bullet]
    assert "Left out, as they are out of date: judgments/0.jsonl, grades/0.jsonl" in stale
    samples = stale[stale.index('id="samples"') :]
    assert "base (referee" not in samples and "random-200 (referee" in samples
    assert samples.count("grade <b>") == samples.count("<h4>base</h4>")  # the baseline's own grades still stand
    # their numbers stand apart, in no figure
    assert "Out of date, so in no figure and not in short: share of prompts; judged by referee" in stale
    assert 'aria-label="tiny, judged by referee (rubric pairwise). against random-200' in stale
    whom = "win of tiny against base, judged by referee (rubric pairwise)"
    assert after[whom]["value"] == numbers[whom]["value"]


def test_rows_without_a_manifest_count(writer):
    w = writer.everything().workspace
    before = report(writer)[1]
    (w.responses / "0.jsonl").write_bytes((w.responses / "0.jsonl").read_bytes() + b"\n")
    assert report(writer)[1] == before


def test_responses_of_another_checkpoint(writer):
    w = writer.everything().workspace
    weights = w.runs / "tiny" / "final" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_text("first")
    manifest(writer, w.responses / "0.jsonl", "generate", ["runs/tiny/final/model.safetensors"])
    manifest(writer, w.judgments / "0.jsonl", "judge", ["responses/0.jsonl"])
    assert any("ended by themselves" in bullet for bullet in report(writer)[1])
    weights.write_text("second")
    page, short, _ = report(writer)
    assert "made from another checkpoint than that now in runs/tiny/final: run limakit generate." in page
    assert "run limakit generate, then limakit judge." in page
    assert not any("ended by themselves" in bullet or "against base" in bullet for bullet in short)
    assert "<h4>tiny</h4>" not in page


def test_all_responses_out_of_date(writer):
    writer.prompts()
    writer.responses(("tiny",))
    manifest(writer, writer.workspace.responses / "0.jsonl", "generate", ["data/test.jsonl"])
    path = writer.workspace.data / "test.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    page, short, _ = report(writer)
    assert short == [] and "None is shown: the responses are out of date." in page


def test_the_mean_loss_is_weighted_by_target_tokens(writer):
    """A step's loss is a mean over its tokens: a short step must not weigh like a long one."""
    writer.log(epochs=2, per_epoch=2)
    path = writer.workspace.runs / "tiny" / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, (loss, tokens) in zip(rows, [(4.0, 300), (2.0, 100), (1.0, 100), (3.0, 900)], strict=True):
        row.update(loss=loss, target_tokens=tokens)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, _, numbers = report(writer)
    assert numbers["mean loss, first epoch"]["value"] == pytest.approx(3.5)
    assert numbers["mean loss, last epoch"]["value"] == pytest.approx(2.8)


def test_how_responses_ended_has_an_interval_over_prompts(writer):
    from limakit.records import Response

    writer.prompts()
    rows = [
        Response(prompt_id=i, model="tiny", sample=s, text="x", finish="eot" if s < 4 else "length", tokens=10 + s)
        for i in writer.ids for s in range(5)
    ]  # fmt: skip
    write_jsonl(writer.workspace.responses / "tiny.jsonl", rows)
    _, [bullet], numbers = report(writer)
    ended = numbers["tiny: ended by itself"]
    assert (ended["value"], ended["n"], ended["of"]) == (pytest.approx(0.8), 24, "prompts")
    assert ended["low"] == pytest.approx(0.8 * 0.025 ** (1 / 24))  # 24 prompts, all alike; not 120 responses
    assert bullet == f"Of the responses of tiny, {ended['shown']} ended by themselves, on 24 prompts."
    tokens = numbers["mean tokens of tiny"]
    assert tokens["low"] < tokens["value"] == 12 < tokens["high"] and tokens["n"] == 24
    assert numbers["responses of tiny"]["value"] == 120


def test_what_is_known_of_lengths_bounds_their_mean(writer):
    writer.prompts()
    writer.responses(("tiny",))
    highs = []
    for limit in (300, 3000):
        settings = {"sampling": {"max_tokens": limit}}
        write_manifest(writer.workspace.responses / "0.manifest.json", stage="generate", settings=settings, inputs={}, outputs={})
        highs.append(report(writer)[2]["mean tokens of tiny"]["high"])
    assert highs[0] < highs[1]


def test_headings_and_labels_say_what_there_is(writer):
    writer.everything()
    page = report(writer)[0]
    assert '<h2 id="data">The training set</h2>' in page
    assert re.search(r'<span class="id">id p\d\d, source askreddit</span>', page)
    assert page.count("its judge, prompts and baselines are others") == 2
    (writer.workspace.data / "train.jsonl").unlink()
    assert '<h2 id="data">The prompts</h2>' in report(writer)[0]
