"""wikiHow articles as candidates."""

import json

import pytest

from limakit.curate import from_wikihow
from limakit.curate.engine import Work
from limakit.curate.from_wikihow import inputs, offer
from limakit.curate.pool import write_pool
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import WikihowSource

LONG = "Water that is too hot draws bitter compounds out of the leaves. " * 3


def source(path="articles.jsonl", **keys):
    return WikihowSource.model_validate({"kind": "wikihow", "path": path, "take": 1} | keys)


def row(title="How to Brew Tea", category="Food and Entertaining", text=LONG, **more):
    steps = [{"headline": "Boil the tea.", "description": text}]
    return {
        "goal": title,
        "goal_description": "This article is short.",
        "category_hierarchy": [category],
        "methods": [{"name": "A", "steps": steps}],
    } | more


def write(tmp_path, *rows):
    path = tmp_path / "articles.jsonl"
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
    return path


def pool(tmp_path, made, path, name="pool"):
    return write_pool(tmp_path / name, offer(made, path, Work(7, tmp_path / "cache")))


def account(found):
    return [(r["id"], r["stratum"], r["reason"], r["detail"]) for table in found.account() for r in table.to_pylist()]


def test_every_article_and_row_has_its_fate(tmp_path):
    path = write(
        tmp_path, row(), b"{", row("How to Knit", "Hobbies and Crafts", "See the wikiHow."), row("How to Sit", "Youth", "As this article says."),
        row("How to Nap", "Youth", methods=None), row("How to Pack", "Category:Travel", "x" * 900), row("How to Brew Tea", "Youth", "x" * 900),
        row("How to Edit a wikiHow Page", ""), b"[1]", row("How to", "Health"),
    )  # fmt: skip
    found = pool(tmp_path, source(response_chars=[50, 700]), path)
    at = len(json.dumps(row())) + 1
    assert account(found) == [
        ("wikihow-Brew-Tea", "Food and Entertaining", None, None),
        (f"articles.jsonl@byte{at}", "uncategorised", "malformed", f"articles.jsonl@byte{at}: is no JSON, or cut short: unexpected end of data (character 2)"),
        ("wikihow-Knit", "Hobbies and Crafts", "names_site", "wikiHow"),
        ("wikihow-Sit", "Youth", "this_article", "this article"),
        ("wikihow-Nap", "Youth", "no_steps", None),
        ("wikihow-Pack", "Travel", "too_long", "953"),
        ("wikihow-Brew-Tea@2", "Youth", "duplicate_title", "wikihow-Brew-Tea"),
        ("wikihow-Edit-a-wikiHow-Page", "uncategorised", "names_site", "wikiHow"),
        (account(found)[8][0], "uncategorised", "malformed", f"{account(found)[8][0]}: is no JSON object"),
        (account(found)[9][0], "Health", "empty_prompt", None),
    ]  # fmt: skip
    ((_, tea),) = found.fit()
    assert tea.turns[0].text == "How to brew tea?" and tea.turns[1].text.startswith(
        "The following answer is short.\n\n1. **Boil the tea.** Water"
    )
    told = tea.text.provenance
    assert (told.url, told.licence, told.title) == ("https://www.wikihow.com/Brew-Tea", "CC BY-NC-SA 3.0", "How to Brew Tea")
    assert told.authors[0].name == "wikiHow contributors" and "opening rewritten" in told.changes
    assert tea.text.tags == ("Food and Entertaining",)
    ((_, prompt),) = pool(tmp_path, source(response_chars=[50, 700], split="test"), path, "test").fit()
    assert len(prompt.turns) == 1 and prompt.text.reference == tea.turns[1].text


def test_cut_into_ranges_or_not_the_pool_is_the_same(tmp_path, monkeypatch):
    path = write(tmp_path, *(row(f"How to Brew Tea {n % 37}") for n in range(120)), b"\xff{")
    whole = pool(tmp_path, source(), path, "whole")
    monkeypatch.setattr(from_wikihow, "RANGE", 1000)
    parted = pool(tmp_path, source(), path, "parted")
    assert whole.path.read_bytes() == parted.path.read_bytes()
    assert (
        sum(reason == "duplicate_title" for _, _, reason, _ in account(parted)) == 120 - 37 and len({r[0] for r in account(parted)}) == 121
    )


def test_of_copies_the_fit_one_stands_whatever_their_order(tmp_path):
    copies = [row(), row(text=LONG + "Wait."), row(methods=None)]
    fit = []
    for n, order in enumerate(((0, 1, 2), (2, 1, 0), (1, 2, 0))):
        found = pool(tmp_path, source(), write(tmp_path, *(copies[i] for i in order)), f"pool{n}")
        assert sorted(str(reason) for _, _, reason, _ in account(found)) == ["None", "duplicate_title", "duplicate_title"]
        assert len({id for id, *_ in account(found)}) == 3
        fit += [candidate.turns for _, candidate in found.fit()]
    assert fit[0] == fit[1] == fit[2]


def test_categories_in_lists_of_lists_and_tips_in_another_shape(tmp_path):
    path = write(tmp_path, row(category_hierarchy=[["Travel", "Packing"], ["Travel"]], tips=[["deep"], 7]))
    assert account(pool(tmp_path, source(), path)) == [("wikihow-Brew-Tea", "Travel", None, None)]


def test_a_folder_gives_what_the_lines_give(tmp_path):
    folder = tmp_path / "articles"
    folder.mkdir()
    rows = [row(f"How to Brew Tea {n}") for n in range(5)]
    for n, made in enumerate(rows):
        (folder / f"{n}.json").write_text(json.dumps(made, indent=1))
    (folder / "5.json").write_text("{")
    made = source("articles/")
    assert list(inputs(made, folder)) == [f"articles/{n}.json" for n in range(6)]
    from_folder = account(pool(tmp_path, made, folder))
    assert from_folder[:5] == account(pool(tmp_path, source(), write(tmp_path, *rows), "lines"))
    assert from_folder[5][:3] == ("5.json", "uncategorised", "malformed")


def test_the_csv_says_that_it_has_no_categories(tmp_path, capsys):
    path = tmp_path / "wikihowSep.csv"
    path.write_text(
        'overview,headline,text,sectionLabel,title\n"Short.","\nBoil the tea.","Hot",Steps,How to Brew Tea\n,"\nPour.",Slowly,Steps,How to Brew Tea\nbad\n'
    )
    found = pool(tmp_path, source("wikihowSep.csv"), path)
    assert account(found) == [
        ("wikihowSep.csv@line6", "uncategorised", "malformed", "wikihowSep.csv@line6: has 1 columns, expected 5"),
        ("wikihow-Brew-Tea", "uncategorised", None, None),
    ]
    ((_, tea),) = found.fit()
    assert [turn.text for turn in tea.turns] == ["How to brew tea?", "Short.\n\n1. **Boil the tea.** Hot\n2. **Pour.** Slowly"]
    assert capsys.readouterr().err.count("has no categories") == 1
    assert list((tmp_path / "cache").iterdir()) == []
    path.write_text('overview,headline,text,sectionLabel,title\n"never closed\n')
    with pytest.raises(LimakitError, match=r"wikihowSep\.csv, line 2: "):
        pool(tmp_path, source("wikihowSep.csv"), path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_some_categories_and_one_that_there_is_not(tmp_path):
    path = write(tmp_path, row("How to A", "Youth"), row("How to B", "Travel"))
    assert [r[2] for r in account(pool(tmp_path, source(categories=["youth"]), path))] == [None, "other_category"]
    with pytest.raises(UsageError, match=r"(?s)no article is in 'Travels'.*did you mean 'Travel'"):
        pool(tmp_path, source(categories=["Travels"]), path)


def test_sections_are_dropped_as_the_recipe_says(tmp_path):
    path = write(tmp_path, row(tips=["Warm the pot."], things_youll_need=["A pot"]))
    ((_, plain),) = pool(tmp_path, source(), path).fit()
    assert "Tips" not in plain.turns[1].text and "2 sections left out (Tips, Things You'll Need)" in plain.text.provenance.changes
    ((_, whole),) = pool(tmp_path, source(drop_sections=[]), path, "whole").fit()
    assert whole.turns[1].text.endswith("## Tips\n\n- Warm the pot.\n\n## Things You'll Need\n\n- A pot")


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        inputs(source(), tmp_path / "none.jsonl")
    assert inputs(source(), write(tmp_path, row())) == {"articles.jsonl": tmp_path / "articles.jsonl"}


def test_pages_of_another_site_are_credited_to_that_site(tmp_path):
    urls = (None, "https://de.wikihow.com/Tee", "https://howto.valley.example/Tea", "http:///tea")
    path = write(tmp_path, *(row(f"How to Brew Tea {n}", url=url) for n, url in enumerate(urls)))
    told = [c.text.provenance for _, c in pool(tmp_path, source(), path).fit()]
    assert [(p.site, p.authors[0].name) for p in told] == [
        ("www.wikihow.com", "wikiHow contributors"),
        ("de.wikihow.com", "wikiHow contributors"),
        ("howto.valley.example", "contributors of howto.valley.example"),
        ("www.wikihow.com", "wikiHow contributors"),
    ]
