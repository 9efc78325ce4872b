"""wikihowAll.csv and wikihowSep.csv: articles in pieces that do not lie together."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.sources import wikihow_csv
from limakit.sources.wikihow import Article, Fault
from limakit.sources.wikihow_csv import numbered, read_csv

SEP = ["overview", "headline", "text", "sectionLabel", "title"]


def write(path, header, *rows, bom=False, end="\n"):
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([header, *rows])
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + out.getvalue().encode())
    return path


def read(path, tmp_path):
    aside = tmp_path / "aside"
    aside.mkdir(exist_ok=True)
    found = [made for some in read_csv(path, aside, lambda n: None) for made in some]
    assert list(aside.iterdir()) == []  # nothing is left there
    return found


def told(article):
    return [(section.name, [(step.headline, step.description) for step in section.steps]) for section in article.sections]


def test_steps_that_lie_apart_are_one_article(tmp_path):
    path = write(
        tmp_path / "wikihowSep.csv", SEP,
        [" Tea is easy.\n", "\nBoil water.", " Fresh water.;\n", "In a pot", "How to Brew Tea"],
        ["", "\nFold it.", "Twice,\n\nor \"more\".", "Steps", "How to Fold Paper"],
        ["Tea is easy.", "\nPour it.", "", "In a pot", "How to Brew Tea"],
        ["Tea is easy.", "\nShake.", "With\nice", "In a shaker", "How to Brew Tea"],
        ["Tea is easy.", "\nPour it.", "", "In a pot", "How to Brew Tea"],
        bom=True, end="\r\n",
    )  # fmt: skip
    tea, paper = sorted(read(path, tmp_path), key=lambda a: a.title)
    assert (tea.title, tea.opening, tea.category, tea.place) == ("How to Brew Tea", "Tea is easy.", "", "wikihowSep.csv@line2")
    assert told(tea) == [("In a pot", [("Boil water.", "Fresh water."), ("Pour it.", "")]), ("In a shaker", [("Shake.", "With\nice")])]
    assert told(paper) == [("", [("Fold it.", 'Twice,\n\nor "more".')])]


def test_methods_of_one_article_have_digits_and_their_steps_are_paired(tmp_path):
    heads = "\nKeep supplies together.,\nClean the desk."
    texts = " Paints go with brushes, cleaner, etc. Some ideas include:\n\n\nEssentials.\nReference area.;\n, Each night.\n\n"
    path = write(
        tmp_path / "wikihowAll.csv", ["headline", "title", "text"],
        [heads, "How to Be an Organized Artist1", texts],
        ["\nDraw.", "How to Draw", "Take a pen."],
        ["\nLabel.", "How to Be an Organized Artist2", "Labels help., They do.\n"],
        ["\nLabel., \nStick.", "How to Be an Organized Artist2", "Labels, etc., Glue sticks."],
    )  # fmt: skip
    found = read(path, tmp_path)
    artist, more = [a for a in found if "Artist" in a.title]
    assert {a.title for a in found} == {"How to Be an Organized Artist", "How to Draw"}
    assert told(artist)[0] == (
        "",
        [
            ("Keep supplies together.", "Paints go with brushes, cleaner, etc. Some ideas include:\n\n\nEssentials.\nReference area."),
            ("Clean the desk.", "Each night."),
        ],
    )
    assert artist.problem == "1 headlines, 2 texts"
    assert told(more) == [("", [("Label.", "Labels, etc."), ("Stick.", "Glue sticks.")])] and more.problem == ""


@pytest.mark.parametrize(
    ("titles", "title", "result"),
    [
        (["Artist1", "Artist2"], "Artist2", ("Artist", 2)),
        (["Artist2"], "Artist2", ("Artist2", 1)),
        (["Artist1"], "Artist1", ("Artist", 1)),
        (["Install Windows 10"], "Install Windows 10", ("Install Windows 10", 1)),
        (["Install Windows 101", "Install Windows 102"], "Install Windows 102", ("Install Windows 10", 2)),
        (["Install Windows 101"], "Install Windows 101", ("Install Windows 101", 1)),
        (["Play MP3"], "Play MP3", ("Play MP3", 1)),
        (["Get Vitamin B1"], "Get Vitamin B1", ("Get Vitamin B1", 1)),
        (["Get Vitamin B12"], "Get Vitamin B12", ("Get Vitamin B12", 1)),
        ([f"Sing{n}" for n in range(1, 13)], "Sing12", ("Sing", 12)),
        (["7"], "7", ("7", 1)),
    ],
)
def test_digits_that_number_methods_and_digits_that_are_titles(titles, title, result):
    assert numbered(title, dict.fromkeys(titles)) == result


def test_damaged_rows_are_told_and_lose_nothing_else(tmp_path):
    path = tmp_path / "wikihowAll.csv"
    path.write_bytes(b'title,headline,text\nA,"\nh","t\x00ext"\nB,h\nC,h,t,u\nD,"h"x,t\nE,h,"caf\xe9"\n  ,h,t\n\nF,h,t')
    found = read(path, tmp_path)
    assert sorted(a.title for a in found if isinstance(a, Article)) == ["A", "F"]
    faults = [(made.place, made.what) for made in found if isinstance(made, Fault)]
    assert [place for place, _ in faults] == [f"wikihowAll.csv@line{n}" for n in (4, 5, 6, 7, 8)]
    assert [what[:26] for _, what in faults] == [
        "has 2 columns, expected 3",
        "has 4 columns, expected 3",
        "is no row of a CSV: ',' ex",
        "is not UTF-8",
        "has no title",
    ]
    assert next(told(a) for a in found if isinstance(a, Article) and a.title == "A") == [("", [("h", "text")])]


def test_an_article_that_would_lack_a_step_is_not_offered(tmp_path):
    path = tmp_path / "wikihowSep.csv"
    good = ["o", "h", "t", "Steps", "How to Brew Tea"]
    other = ["o", "h", "t", "Steps", "How to Nap"]
    write(path, SEP, good, other, bom=True)
    for damaged in (b'"o","caf\xe9","t","Steps","How to Brew Tea"\n', b'"o","h","t, more","x","Steps","How to Brew Tea"\n'):
        write(path, SEP, good, other)
        path.write_bytes(b"\n , \n" + path.read_bytes() + damaged)  # blank lines before the header
        found = read(path, tmp_path)
        assert [a.title for a in found if isinstance(a, Article)] == ["How to Nap"]
        row, article = sorted((a for a in found if isinstance(a, Fault)), key=lambda a: -len(a.place.split("+")), reverse=True)
        assert row.place == "wikihowSep.csv@line6"
        assert article.place == "wikihowSep.csv@line4+6" and "'How to Brew Tea' lacks its row in line 6" in article.what


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("title,headline,text\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
        (b"", "is no CSV of wikiHow's: it is empty"),
        (b"a,b\n1,2\n", "is no CSV of wikiHow's: its first line is 'a, b'"),
        (b'title,headline,text\nA,h,t\nB,"h,t\nC,h,t\n', r"wikihowAll\.csv, line 3: a quotation mark that opens here is never closed"),
    ],
)
def test_what_cannot_be_read_on_stops_with_the_line(tmp_path, data, what):
    (tmp_path / "wikihowAll.csv").write_bytes(data)
    with pytest.raises(LimakitError, match=what):
        read(tmp_path / "wikihowAll.csv", tmp_path)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["Steps", "One", "Two"]), st.text(max_size=5)), max_size=30),
    st.integers(40, 400),
)
@settings(max_examples=40, deadline=None)
def test_articles_are_whole_however_many_parts_there_are(tmp_path_factory, rows, part):
    tmp_path = tmp_path_factory.mktemp("csv")
    made = [
        ["o", f"h{n}", text.replace("\0", "").encode("utf-8", "ignore").decode(), label, f"How to {title}"]
        for n, (title, label, text) in enumerate(rows)
    ]
    path = write(tmp_path / "wikihowSep.csv", SEP, *made)
    whole = {a.title: told(a) for a in read(path, tmp_path)}
    assert sorted(h for article in whole.values() for _, steps in article for h, _ in steps) == sorted(row[1] for row in made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wikihow_csv, "PART", part)
        parted = read(path, tmp_path)
    assert {a.title: told(a) for a in parted} == whole and len(parted) == len(whole) == len({row[4] for row in made})
