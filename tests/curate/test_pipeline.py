"""The whole of curate on dumps and sets the tests write: what is kept, what is dropped and why, and that it adds up."""

import errno
import json
import os
from collections import Counter

import pyarrow.parquet as pq
import pytest
from dumps import LONG, answer, question, recipe, row, stackexchange, write_site

from limakit.curate import pipeline
from limakit.curate.decisions import Decision, append_decision
from limakit.curate.pipeline import MANIFEST, OUTPUTS, curate
from limakit.curate.review import read_review
from limakit.errors import LimakitError
from limakit.recipe import read_recipe
from limakit.records import Example, Prompt, Provenance, read_jsonl
from limakit.workspace import check_data, find_workspace

AUTHORED = 'kind = "authored"\npath = "mine.jsonl"\n'


def run(path):
    workspace = find_workspace(path)
    return curate(workspace, read_recipe(path)), workspace.data


def candidates(data):
    return pq.read_table(data / "candidates.parquet").to_pylist()


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_every_reason_and_nothing_unaccounted_for(tmp_path):
    path = recipe(tmp_path, stackexchange(take=2, prompt="title", answer_chars=[50, 2000]))
    write_site(
        tmp_path / "dumps",
        "coffee",
        [
            question(1, "Kept?", score=50, Tags="|tea|heat|"), answer(2, 1),
            question(3, "Kept too?", score=40), answer(4, 3), answer(40, 3, "<p>short</p>", score=11),
            question(5, "Not drawn?", score=30), answer(6, 5),
            question(7, "No answer?"),
            question(8, "Top first, filter second?"), answer(9, 8, "<p>I say so</p>" + LONG, score=20), answer(10, 8, score=19),
            question(11, "Score 9 is less than 10?"), answer(12, 11, score=9),
            question(13, "Empty?"), answer(14, 13, "<p><img src='x'></p>"),
            question(15, "Short?"), answer(16, 15, "<p>Yes.</p>"),
            question(17, "Long?"), answer(18, 17, "<p>" + "word " * 500 + "</p>"),
            question(19, "Cites?"), answer(20, 19, LONG + "<p>As mentioned, no.</p>"),
            question(21, "Names?"), answer(22, 21, LONG + "<p>Ask on Stack Exchange.</p>"),
            question(23, "  "), answer(24, 23),
            question(25, " KEPT?\n", score=45), answer(26, 25),
            question(27, "Copied?", score=45), answer(28, 27, LONG + "<p>That  is RULE 2.</p>"),
            question(1000000010, "Planted?"),
            row(Id=50, PostTypeId=5, Score=0, Body="", Title="No question"),
        ],
    )  # fmt: skip
    wrote, data = run(path)
    assert [p.name for p in wrote] == [*OUTPUTS, MANIFEST]
    found = {c["id"]: c["reason"] or c["status"] for c in candidates(data)}
    assert found == {
        "coffee-1": "kept", "coffee-3": "kept", "coffee-5": "not_drawn", "coffee-7": "no_answer", "coffee-8": "first_person",
        "coffee-11": "score_too_low", "coffee-13": "empty", "coffee-15": "too_short", "coffee-17": "too_long",
        "coffee-19": "cites_other_answers", "coffee-21": "names_site", "coffee-23": "empty_prompt", "coffee-25": "duplicate",
        "coffee-27": "duplicate_response",
        "coffee-1000000010": "planted",
    }  # fmt: skip
    one, two = read_jsonl(data / "train.jsonl", Example)
    assert (one.id, one.prompt, one.tags, one.source) == ("coffee-1", "Kept?", ("tea", "heat"), "stackexchange-any")
    assert two.id == "coffee-3"
    assert "hot draws bitter" in one.response and "<" not in one.response
    kept = Counter(c["status"] for c in candidates(data))
    assert sum(kept.values()) == len(found) and kept == {"kept": 2, "dropped": 12, "not_drawn": 1}
    for line in ("| stackexchange-any | candidates | 15 |", "|  | first_person | 1 |", "|  | not_drawn | 1 |", "CC BY-SA 3.0 | 2 |"):
        assert line in (data / "card.md").read_text(), line


def test_provenance_names_both_authors_urls_and_licences(tmp_path):
    path = recipe(tmp_path, stackexchange(prompt="body"))
    folder = write_site(
        tmp_path / "dumps",
        "stackoverflow.com",
        [question(1, OwnerUserId=5, ContentLicense="CC BY-SA 2.5"), answer(2, 1, OwnerUserId=None, OwnerDisplayName="old|name", ContentLicense="CC BY-SA 4.0")],
    ).parent  # fmt: skip
    write_site(folder.parent, folder.name, [row(Id=5, DisplayName="Ann <b>"), row(Id=6, DisplayName="No")], tag="users")
    _, data = run(path)
    (item,) = read_jsonl(data / "provenance.jsonl", Provenance)
    assert (item.id, item.url, item.site) == ("stackoverflow-1", "https://stackoverflow.com/questions/1#2", "stackoverflow.com")
    assert [(a.name, a.url, a.wrote) for a in item.authors] == [
        ("Ann <b>", "https://stackoverflow.com/users/5", "question"),
        ("old|name", None, "answer"),
    ]
    assert item.licence == "CC BY-SA 2.5 (question), CC BY-SA 4.0 (answer)"
    assert "question's body" in item.changes and item.title == "Question number 1?"
    assert read_jsonl(data / "train.jsonl", Example)[0].prompt == "Why is that?"
    inputs = json.loads((data / MANIFEST).read_text())["inputs"]
    assert set(inputs) == {"dumps/stackoverflow.com/Posts.xml", "dumps/stackoverflow.com/Users.xml"}


def test_test_prompts_come_first_whatever_the_order_of_sources(tmp_path):
    """A training prompt that is a test or dev prompt goes, in any spelling; so does a dev prompt that is a test prompt."""
    jsonl(tmp_path / "train.jsonl", *({"prompt": p, "response": "r"} for p in ("In  TEST?", "in dev?", "own?", "own? ", "new?")))
    jsonl(tmp_path / "dev.jsonl", {"prompt": "In dev?"}, {"prompt": "in test?"})
    jsonl(tmp_path / "test.jsonl", {"prompt": "In test?", "reference": "yes"}, {"prompt": "in TEST?"})
    source = 'kind = "authored"\npath = "{0}.jsonl"\nsplit = "{0}"'
    _, data = run(recipe(tmp_path, *(source.format(s) for s in ("train", "dev", "test"))))
    assert [c["reason"] or "kept" for c in candidates(data)] == [
        "prompt_in_test", "prompt_in_dev", "kept", "duplicate", "kept",
        "kept", "prompt_in_test",
        "kept", "duplicate",
    ]  # fmt: skip
    (prompt,) = read_jsonl(data / "test.jsonl", Prompt)
    assert (prompt.id, prompt.text, prompt.reference) == ("authored-test-1", "In test?", "yes")
    assert [e.id for e in read_jsonl(data / "train.jsonl", Example)] == ["authored-3", "authored-5"]
    assert [p.id for p in read_jsonl(data / "provenance.jsonl", Provenance)] == [
        "authored-3",
        "authored-5",
        "authored-dev-1",
        "authored-test-1",
    ]


def test_a_question_is_not_trained_on_and_tested_with_even_if_the_prompts_differ(tmp_path):
    write_site(tmp_path / "dumps", "coffee", [question(1, score=9), answer(2, 1), question(3, "Other?", body="<p>Else?</p>"), answer(4, 3)])
    sources = stackexchange(prompt="title"), stackexchange(prompt="body", split="test", name="held-out")
    _, data = run(recipe(tmp_path, *sources))
    (example,), (prompt,) = read_jsonl(data / "train.jsonl", Example), read_jsonl(data / "test.jsonl", Prompt)
    assert (example.id, prompt.id) == ("coffee-3", "coffee-1")
    assert prompt.reference and "bitter" in prompt.reference and len(prompt.turns) == 1
    assert [c["reason"] for c in candidates(data) if c["split"] == "train"] == ["prompt_in_test", None]


def test_published_format_dialogues_whole_and_singles_as_prompts(tmp_path):
    jsonl(
        tmp_path / "lima.jsonl",
        {"conversations": ["a", "b", "c", "d"], "source": "multi_turn"},
        {"conversations": ["a", "b"], "source": "wikihow"},
        {"conversations": ["left open"], "source": "wikihow"},
    )
    jsonl(tmp_path / "test.jsonl", {"conversations": ["only?"], "source": "t"}, {"conversations": ["p", "r"]})
    lima = 'kind = "lima"\npath = "lima.jsonl"\nauthor = "Zhou et al."\nlicence = "CC BY-NC-SA"\nurl = "https://example.org/lima"'
    _, data = run(recipe(tmp_path, lima, 'kind = "lima"\npath = "test.jsonl"\nsplit = "test"'))
    dialogue, single = read_jsonl(data / "train.jsonl", Example)
    assert [t.text for t in dialogue.turns] == ["a", "b", "c", "d"] and dialogue.source == "multi_turn"
    assert single.prompt == "a"  # a dialogue that opens alike is another prompt
    assert [c["reason"] for c in candidates(data)] == [None, None, "no_answer", None, None]
    assert [(p.text, p.reference) for p in read_jsonl(data / "test.jsonl", Prompt)] == [("only?", None), ("p", "r")]
    first = read_jsonl(data / "provenance.jsonl", Provenance)[0]
    assert (first.authors[0].name, first.licence, first.url) == ("Zhou et al.", "CC BY-NC-SA", "https://example.org/lima")


def big_dump(root, reverse=False):
    """Three communities of 40, 20 and 5 good questions."""
    for name, n in (("coffee", 40), ("travel", 20), ("chess", 5)):
        rows = [
            r
            for i in range(1, n + 1)
            for r in (
                question(10 * i, f"{name} {i}?", f"<p>{name} body {i}</p>", score=i),
                answer(10 * i + 1, 10 * i, f"{LONG}<p>{name} {i}.</p>"),
            )
        ]
        write_site(root, name, rows[::-1] if reverse else rows)


def test_order_of_rows_does_not_matter_and_the_best_of_each_community_are_taken(tmp_path):
    for name, reverse in (("a", False), ("b", True)):
        big_dump(tmp_path / name / "dumps", reverse)
        run(recipe(tmp_path / name, stackexchange(take=30)))
    for name in OUTPUTS:
        assert (tmp_path / "a" / "data" / name).read_bytes() == (tmp_path / "b" / "data" / name).read_bytes(), name
    rows = candidates(tmp_path / "a" / "data")
    for site in ("coffee", "travel", "chess"):
        kept = [r["score"] for r in rows if r["stratum"] == site and r["status"] == "kept"]
        rest = [r["score"] for r in rows if r["stratum"] == site and r["status"] == "not_drawn"]
        assert kept and min(kept) > max(rest, default=0)
    assert sum(r["status"] == "kept" for r in rows) == 30
    prompts = [e.prompt for e in read_jsonl(tmp_path / "a" / "data" / "train.jsonl", Example)]
    assert 5 < sum("body" in p for p in prompts) < 25  # title or body, at random


def test_again_does_nothing_and_any_change_is_noticed(tmp_path, capsys):
    big_dump(tmp_path / "dumps")
    path = recipe(tmp_path, stackexchange(take=30))
    run(path)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "data").iterdir()}
    assert run(path)[0] == []
    assert "up to date" in capsys.readouterr().out
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "data").iterdir()} == before
    (tmp_path / "data" / "train.jsonl").write_bytes(b"")  # an output that was damaged
    assert run(path)[0]
    assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == {n: b for n, (b, _) in before.items()}
    path.write_text(path.read_text() + "[train]\nepochs = 2\n")  # not curate's business
    assert run(path)[0] == []
    recipe(tmp_path, stackexchange(take=30), seed=8)
    assert run(path)[0]
    assert (tmp_path / "data" / "train.jsonl").read_bytes() != before["train.jsonl"][0]
    write_site(tmp_path / "dumps", "anime", [question(1), answer(2, 1)])
    assert run(path)[0]


def test_a_quota_that_cannot_be_filled_says_how_many_there_were(tmp_path):
    write_site(tmp_path / "dumps", "coffee", [question(1), answer(2, 1), question(3), answer(4, 3, score=2), question(5)])
    path = recipe(tmp_path, stackexchange(take=2))
    with pytest.raises(LimakitError) as raised:
        run(path)
    text = str(raised.value)
    assert "lima.toml, source 1: source 'stackexchange-any' had 1 fit of 3 candidates (dropped: 1 no_answer, 1 score_too_low)" in text
    assert "asks for 2" in text and "allow_fewer" in text
    assert [p.name for p in (tmp_path / "data").iterdir()] == [".lock"]
    assert run(recipe(tmp_path, stackexchange(take=2, allow_fewer=True)))[0]


def test_authored_take_and_ids_that_clash(tmp_path):
    jsonl(tmp_path / "mine.jsonl", *({"prompt": f"p{i}", "response": "r"} for i in range(10)))
    _, data = run(recipe(tmp_path, AUTHORED + "take = 4"))
    kept = [e.id for e in read_jsonl(data / "train.jsonl", Example)]
    assert len(kept) == 4 and kept == sorted(kept, key=lambda i: int(i.split("-")[1]))
    with pytest.raises(LimakitError, match=r"had 10 fit of 10 candidates, and the recipe asks for 11"):
        run(recipe(tmp_path, AUTHORED + "take = 11"))
    jsonl(tmp_path / "more.jsonl", {"prompt": "else", "response": "r"})
    with pytest.raises(LimakitError, match=r"(?s)the id 'authored-1' is also in source 'authored \(train, source 1\)'.*different names"):
        run(recipe(tmp_path, AUTHORED, AUTHORED.replace("mine", "more")))


def test_an_id_that_two_rows_of_one_source_come_to_names_both(tmp_path):
    jsonl(tmp_path / "mine.jsonl", {"prompt": "a", "response": "r", "id": "authored-2"}, {"prompt": "b", "response": "r"})
    with pytest.raises(LimakitError, match=r"mine\.jsonl, row 2: the id 'authored-2' is taken by .*mine\.jsonl, row 1"):
        run(recipe(tmp_path, AUTHORED))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_dialogue_that_comes_to_a_test_prompt_anywhere_leaks(tmp_path, split):
    """Each turn of the user counts, however it is written; of a held dialogue those that are more than a "Go on."."""
    dialogues = [
        ["hi", "Secret test?"],
        ["Ｓecret\u200b TEST?", "more"],
        ["hi", "and", "secret  test?"],
        ["Go on and tell me more of it.", "why"],
        ["Go on.", "why"],
        ["hi", "open"],
    ]
    rows = [
        {"turns": [t for user in users for t in ({"role": "user", "text": user}, {"role": "assistant", "text": "z"})]}
        for users in dialogues
    ]
    jsonl(tmp_path / "mine.jsonl", *rows)
    asked = [
        {"role": "user", "text": "Tell me."},
        {"role": "assistant", "text": "a"},
        {"role": "user", "text": "go on."},
        {"role": "assistant", "text": "b"},
        {"role": "user", "text": "go on and TELL me more of it."},
    ]
    jsonl(tmp_path / "held.jsonl", {"prompt": "Secret test?"}, {"turns": asked})
    _, data = run(recipe(tmp_path, AUTHORED, f'kind = "authored"\npath = "held.jsonl"\nsplit = "{split}"\nname = "held"'))
    assert [c["reason"] for c in candidates(data) if c["split"] == "train"] == [f"prompt_in_{split}"] * 4 + [None, None]


def test_duplicate_means_the_same_within_a_source_and_across(tmp_path):
    """The whole of what the user says: a dialogue is no duplicate of a prompt that opens alike."""
    dialogue = {"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}, {"role": "user", "text": "c"}]}
    for name, sources in (
        ("within", [[dialogue, {"prompt": "a"}, {"prompt": "A "}]]),
        ("across", [[dialogue], [{"prompt": "a"}], [{"prompt": "A"}]]),
    ):
        root = tmp_path / name
        tables = [f'kind = "authored"\npath = "{i}.jsonl"\nsplit = "test"\nname = "n{i}"\nallow_fewer = true' for i in range(len(sources))]
        path = recipe(root, *tables)
        for i, rows in enumerate(sources):
            jsonl(root / f"{i}.jsonl", *rows)
        assert [c["reason"] for c in candidates(run(path)[1])] == [None, None, "duplicate"]


def test_the_same_long_response_is_kept_once_and_the_same_short_one_twice(tmp_path):
    long = "Pour it slowly along the side of the glass. " * 8
    jsonl(
        tmp_path / "mine.jsonl", *({"prompt": f"p{i}", "response": r} for i, r in enumerate(["No.", "No.", long, long.upper(), long[:-8]]))
    )
    jsonl(tmp_path / "other.jsonl", {"prompt": "else", "response": long})
    _, data = run(recipe(tmp_path, AUTHORED, AUTHORED.replace("mine", "other") + 'name = "again"\nallow_fewer = true'))
    assert [c["reason"] for c in candidates(data)] == [None, None, None, "duplicate_response", None, "duplicate_response"]


def test_two_sources_of_one_name_draw_each_for_itself(tmp_path):
    for root in ("one", "two"):
        for name in ("coffee", "travel"):
            rows = [
                r
                for i in range(1, 61)
                for r in (question(2 * i, f"{root} {name} {i}?"), answer(2 * i + 1, 2 * i, f"{LONG}{root} {name} {i}"))
            ]
            write_site(tmp_path / root, name, rows)
    _, data = run(recipe(tmp_path, *(stackexchange(path=root, take=40, prompt="title") for root in ("one", "two"))))
    drawn = [row.prompt.split()[1] for row in read_jsonl(data / "train.jsonl", Example)]
    assert len(drawn) == 80 and drawn[:40] != drawn[40:]


def test_what_a_link_leads_to_is_hashed_too(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.md").write_text("## Prompt\n\np\n\n## Response\n\nr\n")
    (tmp_path / "mine" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    path = recipe(tmp_path, 'kind = "authored"\npath = "mine"')
    _, data = run(path)
    assert set(json.loads((data / MANIFEST).read_text())["inputs"]) == {"mine/linked/a.md"}
    (tmp_path / "elsewhere" / "a.md").write_text("## Prompt\n\np\n\n## Response\n\nother\n")
    assert run(path)[0] and read_jsonl(data / "train.jsonl", Example)[0].response == "other"


def test_progress_comes_to_its_total(tmp_path, monkeypatch):
    write_site(tmp_path / "dumps", "coffee", [r for i in range(1, 1001) for r in (question(2 * i), answer(2 * i + 1, 2 * i))])
    shown = []
    monkeypatch.setattr("limakit.progress.Progress.advance", lambda bar, n=1, **notes: shown.append((bar.label, bar.total, n)))
    run(recipe(tmp_path, stackexchange(prompt="body", take=1)))
    totals = {label: total for label, total, _ in shown}
    assert {"hash the inputs", "read Posts.xml", "judge stackexchange-any"} <= totals.keys()
    for label, total in totals.items():
        if total is not None:
            assert sum(n for name, _, n in shown if name == label) == total, label


def test_what_was_read_is_not_read_again_and_what_is_of_no_use_goes(tmp_path, monkeypatch):
    big_dump(tmp_path / "dumps")
    jsonl(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r"})
    read = []
    offers = {kind: reader.offer for kind, reader in pipeline._KINDS.items()}
    for kind, reader in pipeline._KINDS.items():
        monkeypatch.setattr(reader, "offer", lambda source, path, work, kind=kind: read.append(kind) or offers[kind](source, path, work))
    run(recipe(tmp_path, stackexchange(take=30), AUTHORED))
    assert read == ["stackexchange", "authored"]
    run(recipe(tmp_path, stackexchange(take=20, temperature=1.0), AUTHORED))  # other draws from the same candidates
    (tmp_path / "mine.jsonl").write_text('{"prompt": "q", "response": "r"}\n')
    run(recipe(tmp_path, stackexchange(take=20), AUTHORED))
    assert read == ["stackexchange", "authored", "authored"]
    held = set((tmp_path / ".cache" / "curate").iterdir())
    run(recipe(tmp_path, stackexchange(take=20, min_answer_score=11), AUTHORED))
    assert read[3:] == ["stackexchange"]
    left = set((tmp_path / ".cache" / "curate").iterdir())
    assert (
        len(left - held) == 5 == len(held - left)
    )  # the pool, its list and what was judged of three communities; not what was read of them


def test_the_review_goes_round(tmp_path):
    """What waits stands in the queue with its text; what was decided is in the set, with what was changed."""
    write_site(
        tmp_path / "dumps",
        "coffee",
        [r for i in range(1, 5) for r in (question(10 * i, f"What is this {i}?", score=9 - i), answer(10 * i + 1, 10 * i))],
    )
    path = recipe(tmp_path, stackexchange(take=2, prompt="title", titles="review"))
    _, data = run(path)
    assert not (data / "train.jsonl").read_bytes()
    items = read_review(data / "review.jsonl")
    assert [(i.id, i.why, i.score) for i in items] == [(f"coffee-{10 * n}", "title_unclear", 9 - n) for n in range(1, 5)]
    assert (
        items[0].detail
        and items[0].turns[0].text == "What is this 1?"
        and items[0].url == "https://coffee.stackexchange.com/questions/10#11"
    )
    assert {c["status"] for c in candidates(data)} == {"unreviewed"} and "| unreviewed | 4 |" in (data / "card.md").read_text()
    decisions = tmp_path / "decisions.jsonl"
    append_decision(decisions, Decision(id="coffee-10", action="reject", seen=items[0].seen, note="a riddle"))
    better = (items[1].turns[0].model_copy(update={"text": "What is a percolator?"}), items[1].turns[1])
    append_decision(decisions, Decision(id="coffee-20", action="edit", seen=items[1].seen, turns=better))
    append_decision(decisions, Decision(id="coffee-30", action="accept", seen=items[2].seen))
    assert run(path)[0], "decisions are an input"
    assert [e.prompt for e in read_jsonl(data / "train.jsonl", Example)] == ["What is a percolator?", "What is this 3?"]
    assert [p.changes.endswith("edited by hand") for p in read_jsonl(data / "provenance.jsonl", Provenance)] == [True, False]
    outcome = {c["id"]: (c["status"], c["reason"], c["detail"]) for c in candidates(data)}
    assert outcome["coffee-10"] == ("dropped", "rejected", "a riddle") and outcome["coffee-20"] == ("kept", None, None)
    again = read_review(data / "review.jsonl")
    assert [(i.id, i.why) for i in again] == [("coffee-40", "title_unclear"), ("coffee-20", ""), ("coffee-30", ""), ("coffee-10", "")]
    assert again[1].seen == items[1].seen, "a decision stays good: the queue shows what the source offers"
    assert "edited by hand" in (data / "attribution.md").read_text()
    assert run(path)[0] == []


def test_one_text_that_two_sources_offer_is_one_row_of_the_queue_and_two_texts_of_one_post_are_two(tmp_path, limakit):
    write_site(
        tmp_path / "dumps", "coffee", [r for i in (1, 2, 3) for r in (question(10 * i, f"What is this {i}?"), answer(10 * i + 1, 10 * i))]
    )
    one = stackexchange(take=1, split="test", prompt="title", titles="review", name="one")
    two = stackexchange(take=1, split="dev", prompt="title", titles="review", name="two")
    path = recipe(tmp_path, one, two, stackexchange(take=1, prompt="body"))
    _, data = run(path)
    items = read_review(data / "review.jsonl")
    assert sorted(i.id for i in items if i.why) == ["coffee-10", "coffee-20", "coffee-30"], "asked once"
    assert [i.split for i in items if not i.why] == ["train"]
    limakit("review", "--accept", "coffee-20", cwd=tmp_path)
    run(path)
    assert [p.id for p in read_jsonl(data / "test.jsonl", Prompt)] == ["coffee-20"]
    assert not any(i.why == "changed" for i in read_review(data / "review.jsonl")), "the decision was about a title, not about a body"


def test_the_sets_own_prompts_may_be_named_as_held_out(tmp_path):
    jsonl(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r"}, {"prompt": "held", "response": "r"})
    jsonl(tmp_path / "other.jsonl", {"conversations": ["Held"]})
    path = recipe(tmp_path, AUTHORED)
    text = path.read_text().replace("[decontaminate]", '[decontaminate]\nagainst = ["data/test.jsonl", "data/dev.jsonl", "other.jsonl"]')
    path.write_text(text)
    for _ in range(2):
        _, data = run(path)
        assert [e.prompt for e in read_jsonl(data / "train.jsonl", Example)] == ["p"]
    assert run(path)[0] == []


@pytest.mark.parametrize("damage", [b"{", b"", None])
def test_a_damaged_pool_is_made_again(tmp_path, damage):
    jsonl(tmp_path / "mine.jsonl", *({"prompt": f"p{i}", "response": f"r{i}"} for i in range(50)))
    path = recipe(tmp_path, AUTHORED)
    _, data = run(path)
    expected = {name: (data / name).read_bytes() for name in OUTPUTS}
    (data / MANIFEST).unlink()
    for file in (tmp_path / ".cache" / "curate").iterdir():
        file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    run(path)
    assert {name: (data / name).read_bytes() for name in OUTPUTS} == expected


def test_a_flipped_bit_in_a_pool_is_never_data(tmp_path):
    jsonl(tmp_path / "mine.jsonl", *({"prompt": f"prompt {i}", "response": f"response {i}"} for i in range(300)))
    path = recipe(tmp_path, AUTHORED)
    _, data = run(path)
    expected = (data / "train.jsonl").read_bytes()
    (pool,) = (tmp_path / ".cache" / "curate").glob("*.parquet")
    whole = pool.read_bytes()
    for at in range(10, len(whole), len(whole) // 25):
        (data / MANIFEST).unlink(missing_ok=True)
        pool.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        run(path)
        assert (data / "train.jsonl").read_bytes() == expected, at


def test_another_source_or_another_order_of_rows_changes_no_draw(tmp_path):
    rows = [{"prompt": f"p{i}", "response": f"r{i}"} for i in range(60)]
    jsonl(tmp_path / "mine.jsonl", *rows)
    jsonl(tmp_path / "dev.jsonl", {"prompt": "d"})
    _, data = run(recipe(tmp_path, AUTHORED + "take = 10"))
    expected = {e.prompt for e in read_jsonl(data / "train.jsonl", Example)}
    jsonl(tmp_path / "mine.jsonl", *rows[::-1])
    run(recipe(tmp_path, AUTHORED + "take = 10", 'kind = "authored"\npath = "dev.jsonl"\nsplit = "dev"'))
    assert {e.prompt for e in read_jsonl(data / "train.jsonl", Example)} == expected


def test_a_folder_in_the_way_is_said_and_nothing_touched(tmp_path):
    jsonl(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r"})
    path = recipe(tmp_path, AUTHORED)
    _, data = run(path)
    (data / "card.md").unlink()
    (data / "card.md").mkdir()
    before = {p.name: p.read_bytes() for p in data.iterdir() if p.is_file()}
    jsonl(tmp_path / "mine.jsonl", {"prompt": "q", "response": "r"})
    with pytest.raises(LimakitError, match=r"data/card\.md: a folder is in the way; nothing was touched\n  -> move it"):
        run(path)
    assert {p.name: p.read_bytes() for p in data.iterdir() if p.is_file()} == before


def test_a_move_that_fails_leaves_the_set_marked(tmp_path, monkeypatch):
    """A rename fails between two others (a disk that goes away): one message, the mark stays, and the next run mends it."""
    jsonl(tmp_path / "mine.jsonl", {"prompt": "p", "response": "r"})
    path = recipe(tmp_path, AUTHORED)
    _, data = run(path)
    jsonl(tmp_path / "mine.jsonl", {"prompt": "q", "response": "r"})
    real = os.replace

    def failing(source, target):
        if target == data / "test.jsonl":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(LimakitError, match=r"data/test\.jsonl: cannot write: Input/output error; the set here is not whole now"):
        run(path)
    monkeypatch.undo()
    with pytest.raises(LimakitError, match="curate was interrupted"):
        check_data(find_workspace(path))
    run(path)
    check_data(find_workspace(path))
    assert read_jsonl(data / "train.jsonl", Example)[0].prompt == "q"


def test_an_empty_set_is_an_error(tmp_path):
    (tmp_path / "mine.jsonl").write_text("\n")
    with pytest.raises(LimakitError, match="had 0 fit of 0 candidates"):
        run(recipe(tmp_path, AUTHORED))
    with pytest.raises(LimakitError, match="the set is empty"):
        run(recipe(tmp_path, AUTHORED + "allow_fewer = true"))
    with pytest.raises(LimakitError, match="names no sources"):
        run(recipe(tmp_path))


def test_hostile_names_and_text_are_data(tmp_path):
    jsonl(tmp_path / "mine.jsonl", {"prompt": "[red]{{ 7*7 }}[/nope] \u2028 <b>", "response": "`rm -rf` $(x) \x00"})
    _, data = run(recipe(tmp_path, AUTHORED + 'name = "a|[b]<i>`c"\nlicence = "x\\ny|z"'))
    (example,) = read_jsonl(data / "train.jsonl", Example)
    assert example.prompt == "[red]{{ 7*7 }}[/nope] \u2028 <b>" and example.response == "`rm -rf` $(x) \x00"
    text = (data / "card.md").read_text()
    assert "| a\\|\\[b\\]&lt;i&gt;\\`c | x y\\|z | 1 |" in text
