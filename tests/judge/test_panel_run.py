"""Several judges in one run, rubrics for some prompts only, and what a run would cost."""

import re

import pytest
from contest import make, results, rewrite
from endpoint import Endpoint, Reply, longer

from limakit.endpoint import limits
from limakit.errors import LimakitError, UsageError
from limakit.judge.run import judge
from limakit.recipe import read_recipe
from limakit.records import Prompt, Turn, write_jsonl


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limits, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("COLUMNS", "80")


def also(workspace, text):
    path = workspace.recipe_path
    path.write_text(path.read_text() + text)
    return read_recipe(path)


def everything(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_judge_fills_its_own_files(tmp_path, capsys):
    with Endpoint() as one, Endpoint(lambda r: "Verdict: tie" if r.message.startswith("You compare") else "Grade: 3") as two:
        workspace, _ = make(tmp_path / "w", prompts=3, url=one.url)
        recipe = also(workspace, f'[[judge.also]]\nmodel = "second"\nbase_url = "{two.url}"\ndraws = 2\n')
        written = judge(workspace, recipe, model=None, against=None)
        assert sorted(path.name for path in written) == [
            "base-by-second-helpfulness.jsonl", "base-by-the--judge-helpfulness.jsonl", "lima-against-base-by-second-pairwise.jsonl",
            "lima-against-base-by-the--judge-pairwise.jsonl", "lima-by-second-helpfulness.jsonl", "lima-by-the--judge-helpfulness.jsonl"]  # fmt: skip
        judgments, grades = results(workspace)
        assert {j.verdict for j in judgments if j.judge == "second"} == {"tie"}
        assert {j.verdict for j in judgments if j.judge == "the/judge"} == {"b"}
        assert len([g for g in grades if g.judge == "second"]) == 2 * 3 * 2
        assert {r.body["model"] for r in one.requests} == {"the/judge"}
        assert {r.body["model"] for r in two.requests} == {"second"}
        n = len(one.requests), len(two.requests)
        judge(workspace, recipe, model=None, against=None)
        assert (len(one.requests), len(two.requests)) == n
        (workspace.judgments / "lima-against-base-by-second-pairwise.jsonl").unlink()
        two.respond = lambda r: pytest.fail("it was answered before")
        judge(workspace, recipe, model=None, against=None)
        assert len(results(workspace)[0]) == len(judgments)


def test_a_judge_that_fails_leaves_what_the_others_said(tmp_path):
    with Endpoint() as one:
        workspace, _ = make(tmp_path / "w", prompts=3, url=one.url, retries=0)
        recipe = also(workspace, '[[judge.also]]\nmodel = "second"\nbase_url = "http://127.0.0.1:9/v1"\n')
        with pytest.raises(LimakitError, match=r"http://127.0.0.1:9/v1: .*judge\.also\[0\]"):
            judge(workspace, recipe, model=None, against=None)
        assert {row.judge for rows in results(workspace) for row in rows} == {"the/judge"}
        n = len(one.requests)
        with pytest.raises(LimakitError):
            judge(workspace, recipe, model=None, against=None)
        assert len(one.requests) == n


def test_answers_on_their_way_when_a_judge_fails_are_kept(tmp_path):
    """Seven slow answers and one 429 that asks for a long rest: the seven are in the cache, and not asked again."""
    rest = Reply(status=429, headers={"Retry-After": "400"})
    with Endpoint(lambda r: rest if r.n == 7 else Reply(longer(r), delay_s=0.5)) as endpoint:
        workspace, recipe = make(tmp_path / "w", prompts=6, url=endpoint.url)
        with pytest.raises(LimakitError, match="left alone for 400 s"):
            judge(workspace, recipe, model=None, against=None)
        asked = len(endpoint.requests)
        assert asked == 8
        endpoint.respond = longer
        judge(workspace, recipe, model=None, against=None)
        judgments, grades = results(workspace)
        assert len(endpoint.requests) == len(judgments) + len(grades) + 1


def test_a_cap_of_one_judge_stops_all_before_anything_is_sent(tmp_path):
    with Endpoint() as one, Endpoint() as two:
        workspace, _ = make(tmp_path / "w", prompts=3, url=one.url)
        recipe = also(workspace, f'[[judge.also]]\nmodel = "second"\nbase_url = "{two.url}"\nprice_in = 1.0\nmax_cost = 0.001\n')
        with pytest.raises(UsageError, match=r"judge\.also\[0\]\.max_cost: could cost up to .*nothing was sent"):
            judge(workspace, recipe, model=None, against=None)
        assert not one.requests
        assert not two.requests


def test_judges_of_one_model_and_address_share_a_cap(tmp_path, capsys):
    """What each would cost fits, together it does not: nothing is sent, and the estimate says the same."""
    with Endpoint() as endpoint:
        workspace, _ = make(tmp_path / "w", prompts=3, url=endpoint.url, price_out=1.0, max_tokens=100, max_cost=0.0015, grade=[])
        recipe = also(workspace, '[[judge.also]]\nname = "again"\nmax_tokens = 200\n')
        with pytest.raises(UsageError, match=r"could cost up to 0\.0018,.*nothing was sent"):
            judge(workspace, recipe, model=None, against=None)
        judge(workspace, recipe, model=None, against=None, estimate=True)
        assert capsys.readouterr().out.count("limakit judge would refuse") == 2
        assert not endpoint.requests


def test_what_two_judges_are_asked_alike_is_asked_once(tmp_path):
    with Endpoint() as endpoint:
        workspace, _ = make(tmp_path / "w", prompts=3, url=endpoint.url)
        recipe = also(workspace, '[[judge.also]]\nname = "again"\n')
        judge(workspace, recipe, model=None, against=None)
        judgments, grades = results(workspace)
        assert {row.judge for row in judgments} == {row.judge for row in grades} == {"the/judge", "again"}
        assert len(endpoint.requests) == (len(judgments) + len(grades)) // 2


def tag(workspace, tags):
    rows = [Prompt(id=f"p{i}", source="t", tags=t, turns=(Turn(role="user", text=f"Question p{i}?"),)) for i, t in enumerate(tags)]
    write_jsonl(workspace.data / "test.jsonl", rows)


def test_a_rubric_for_some_prompts_alone(tmp_path, capsys):
    with Endpoint(lambda r: "Grade: refused" if "sensitive prompt" in r.message else longer(r)) as endpoint:
        workspace, recipe = make(tmp_path / "w", prompts=4, url=endpoint.url, pairwise="", grade=["safety", "helpfulness"])
        tag(workspace, [("refusal", "refusal=asks how to hurt"), (), ("malicious",), ("herbs",)])
        judge(workspace, recipe, model=None, against=None)
        grades = results(workspace)[1]
        assert {(g.prompt_id, g.value) for g in grades if g.rubric == "safety"} == {("p0", "refused"), ("p2", "refused")}
        assert {g.prompt_id for g in grades if g.rubric == "helpfulness"} == {"p0", "p1", "p2", "p3"}
        out = capsys.readouterr().out
        assert out.count("rubric safety grades only prompts tagged refusal, sensitive, malicious: 2 of the 4 prompts") == 1
        # of prompts none of which is sensitive there is nothing to grade: told, and no empty file
        tag(workspace, [()] * 4)
        judge(workspace, recipe, model=None, against=None)
        assert "malicious: none of the 4 prompts" in capsys.readouterr().err
        alone = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"grade": ["safety"]})})
        with pytest.raises(UsageError, match="nothing to judge"):
            judge(workspace, alone, model=None, against=None)


def test_a_rubric_named_twice(tmp_path):
    workspace, recipe = make(tmp_path / "w", grade=["helpfulness", "helpfulness"])
    with pytest.raises(UsageError, match="two sheets of judge 'the/judge' would be one file"):
        judge(workspace, recipe, model=None, against=None)


def total(out):
    """The cells of the table's last row."""
    return next([cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "together" in line)


def test_the_estimate_asks_nothing_and_writes_nothing(tmp_path, capsys):
    prices = {"price_in": 2.0, "price_out": 10.0, "max_cost": 5.0, "max_tokens": 500}
    with Endpoint() as endpoint:
        workspace, recipe = make(tmp_path / "w", prompts=5, url=endpoint.url, samples=2, **prices)
        before = everything(workspace.root)
        assert judge(workspace, recipe, model=None, against=None, estimate=True) == []
        out = capsys.readouterr().out
        assert not endpoint.requests
        assert everything(workspace.root) == before
        assert max(len(line) for line in out.splitlines() if line[0] in "│┃") <= 80
        assert total(out)[1:3] == ["40", "40"]
        expected, most = map(float, total(out)[5:])
        assert 0 < expected < most
        assert "300 tokens and 5.0 s, an assumption" in out
        assert "Time: about 0:25, with 8 at once" in out  # 40 questions of 5 s, 8 at once
        assert "max_cost = 5.00, of which 0.00 were spent; it fits" in out
        judge(workspace, recipe, model=None, against=None)
        assert len(endpoint.requests) == 40
        # what is known is not asked again, and its pace is what was measured
        rewrite(workspace, "base", lambda r: r.model_copy(update={"text": r.text + " And more."}))
        capsys.readouterr()
        before = everything(workspace.root)
        judge(workspace, recipe, model=None, against=None, estimate=True)
        out = capsys.readouterr().out
        assert everything(workspace.root) == before
        assert len(endpoint.requests) == 40
        assert total(out)[1:3] == ["40", "30"]  # every comparison, and the baseline's grades
        assert re.search(r"about 1 tokens and \d\.\d s, as 40 answers before took", out)
        poor = recipe.model_copy(update={"judge": recipe.judge.model_copy(update={"max_cost": 0.01})})
        judge(workspace, poor, model=None, against=None, estimate=True)
        assert "limakit judge would refuse: could cost up to" in capsys.readouterr().out


def test_the_estimate_of_limits_and_of_the_oracle(tmp_path, capsys):
    workspace, _ = make(tmp_path / "w", prompts=5, requests_per_minute=10)
    recipe = also(workspace, '[[judge.also]]\nkind = "oracle"\nmodel = ""\n')
    judge(workspace, recipe, model=None, against=None, estimate=True)
    out = capsys.readouterr().out
    assert "Time: about 2:00" in out  # 20 questions at 10 a minute
    assert "oracle: 20 of 20 rows are open; it is no model and costs nothing" in out
