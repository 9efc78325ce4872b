"""The page as a whole: self-contained, honest about what is missing, deaf to what models write, the same bytes each time."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from limakit.errors import LimakitError
from limakit.records import Example, Turn, write_jsonl
from limakit.report.page import write_report

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title></svg></details><img src=http://evil.example/x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}{{ recipe }}",
    "one\u2028two\u2029three",
    "long " + "x" * 5000,
    "nul \x00 escape \x1b[31m del \x7f c1 \x9b",
    "<!-- ]]> <![CDATA[ &lt;b&gt; &amp; 'quoted' \"double\"",
    "\n\n  indented\n\tcode()\r\nend",
    "\u202e reversed \u2066 isolate",
    "$x^{2$ \\frac{ #1f2328 %d {}",
    " ",
    "好的 مرحبا 😀",
]
LOADS = {"src", "srcset", "data", "poster", "background", "action", "formaction", "href", "xlink:href", "ping", "manifest"}
VOID = {"meta", "br", "img", "input", "link", "hr", "base"}


class Page(HTMLParser):
    """What a browser would see: tags, loads, texts by class, the numbers, headings; nesting is checked."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.styles: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str] = []
        self.numbers: list[tuple[str, float, str]] = []
        self.texts: list[str] = []
        self.meta: dict[str, str] = {}
        self._open: list[tuple[str, dict[str, str]]] = []
        self._text: list[list[str]] = []
        self.all_text = ""
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {[tag for tag, _ in self._open]}"

    def handle_starttag(self, tag, attrs):
        given = {k: v or "" for k, v in attrs}
        assert len(given) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append(tag)
        self.loads += [v for k, v in given.items() if k in LOADS]
        self.styles += [v for k, v in given.items() if k == "style"]
        assert not [k for k in given if k.startswith("on")], given
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "svg":
            self.labels.append(given["aria-label"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)
        if tag == "meta" and "http-equiv" in given:
            self.meta[given["http-equiv"]] = given["content"]
        if tag not in VOID:
            self._open.append((tag, given))
            self._text.append([])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        opened, given = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"
        text = "".join(self._text.pop())
        if self._text:
            self._text[-1].append(text)
        if tag == "data":
            self.numbers.append((given["data-number"], float(given["value"]), text))
        if given.get("class") == "text":
            self.texts.append(text)
        if tag == "html":
            self.all_text = text

    def handle_data(self, data):
        if self._text:
            self._text[-1].append(data)


def report(writer) -> tuple[str, Page, dict]:
    written = write_report(writer.workspace, writer.recipe)
    assert [p.name for p in written] == ["index.html", "numbers.json", "figures"]
    html = written[0].read_bytes().decode()
    return html, Page(html), json.loads(written[1].read_bytes())


def test_loads_nothing_and_runs_nothing(writer):
    html, page, _ = report(writer.everything())
    assert page.loads and all(load.startswith("#") and load[1:] in page.ids for load in page.loads)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "img"} & set(page.tags)
    assert "default-src 'none'" in page.meta["Content-Security-Policy"]
    assert "://" not in html and "@import" not in html
    assert all(re.fullmatch("#[^)]*", url) for url in re.findall(r"url\(([^)]*)\)", html))
    assert '<html lang="en">' in html and "<title>tiny: limakit report</title>" in html


def test_structure_can_be_followed_without_seeing(writer):
    _, page, _ = report(writer.everything())
    levels = [int(h[1]) for h in page.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels)), levels
    assert len(page.ids) == len(set(page.ids))
    assert len(page.labels) == 6 and all(len(label) > 30 for label in page.labels)  # loss, schedule, ours, the paper's two, grades
    assert any("against base: wins" in label and "invalid" in label for label in page.labels)


def test_numbers_on_the_page_are_those_in_the_file(writer):
    _, page, listing = report(writer.everything())
    listed = {number["id"]: number for number in listing["numbers"]}
    assert len(listed) == len(listing["numbers"])
    assert {id for id, _, _ in page.numbers} == set(listed)
    for id, value, text in page.numbers:
        assert (value, text) == (listed[id]["value"], listed[id]["shown"])


def test_every_number_names_existing_rows_or_a_place_in_the_paper(writer):
    from limakit.workspace import sha256_file

    _, _, listing = report(writer.everything())
    assert len(listing["numbers"]) > 80
    for number in listing["numbers"]:
        assert ("paper" in number) != ("rows" in number)
        if "paper" in number:
            assert re.search(r"2305\.11206, (figure|table|section) \d", number["paper"])
            continue
        assert number["rows"]["files"]
        for file in number["rows"]["files"]:
            path = writer.workspace.root / file["file"]
            assert sha256_file(path) == file["sha256"]
            rows = [json.loads(line) for line in path.read_text().split("\n") if line] if path.suffix == ".jsonl" else []
            where = number["rows"]["where"]
            assert not where or any(all(row[k] == v for k, v in where.items()) for row in rows)
        if number["low"] is not None:
            assert number["low"] <= number["value"] <= number["high"] and number["n"] and number["level"] == 0.95


def test_shares_agree_with_a_count_by_hand(writer):
    _, _, listing = report(writer.everything())
    rows = [json.loads(line) for line in (writer.workspace.judgments / "0.jsonl").read_text().splitlines()]
    by_prompt: dict[str, list[float]] = {}
    for row in rows:
        if row["status"] == "ok":
            by_prompt.setdefault(row["prompt_id"], []).append(row["verdict"] == "a")
    expected = sum(sum(v) / len(v) for v in by_prompt.values()) / len(by_prompt)
    [win] = [n for n in listing["numbers"] if n["what"].startswith("win of tiny against base")]
    assert win["value"] == pytest.approx(expected) and win["n"] == len(by_prompt) == 23
    [invalid] = [n for n in listing["numbers"] if n["what"].startswith("invalid judgments of tiny against base")]
    assert invalid["value"] == 2 and invalid["n"] == 48


def test_equal_inputs_give_equal_bytes(tmp_path, writer):
    other = type(writer)(tmp_path / "elsewhere" / "ws").everything()
    report(writer.everything())
    report(other)
    files = sorted(p.relative_to(writer.workspace.report) for p in writer.workspace.report.rglob("*") if p.is_file())
    assert len([f for f in files if f.suffix == ".png"]) == 6
    for file in files:
        assert (writer.workspace.report / file).read_bytes() == (other.workspace.report / file).read_bytes(), file
    before = (writer.workspace.report / "index.html").read_bytes()
    report(writer)
    assert (writer.workspace.report / "index.html").read_bytes() == before


ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # no such character may reach the page


def shown(text: str) -> str:
    """As the page must show it: line ends as line feeds, what would act as its picture or code."""
    text = re.sub("\r\n|[\u2028\u2029]", "\n", text)
    text = "".join(f"\\u{ord(c):04x}" if ACTING.match(c) and ord(c) > 0x7F else c for c in text)
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 0x20 and c not in "\n\t" else "\u2421" if c == "\x7f" else c for c in text)


def test_hostile_texts_are_text(writer):
    writer.prompts([t if t.strip() else "blank" for t in HOSTILE] * 2)
    writer.responses(("tiny", "base"), texts=HOSTILE * 2)
    found: set[str] = set()
    for seed in range(9):  # six prompts a page: with these seeds every text is on one of them
        writer.recipe = writer.recipe.model_copy(update={"seed": seed})
        html, page, _ = report(writer)
        assert not {"script", "img"} & set(page.tags) and all(load.startswith("#") for load in page.loads)
        assert html.count("<style>") == html.count("</style>") == 1
        assert not ACTING.search(html)
        found |= set(page.texts)
    for text in HOSTILE:
        assert not text.strip() or shown(text) in found, text


@pytest.mark.parametrize("name", [t for t in HOSTILE if t.strip()])
def test_hostile_names_are_text_in_tables_and_figures(writer, name):
    writer.prompts()
    writer.responses(("tiny", name))
    writer.judgments(judges=(name,), against=(name,))
    writer.grades(("tiny", name))
    html, page, listing = report(writer)
    assert not {"script", "img"} & set(page.tags) and all(load.startswith("#") for load in page.loads)
    assert not ACTING.search(html)
    assert shown(name) in page.all_text
    assert all(re.fullmatch("[a-z-]+-[0-9]+", number["id"]) for number in listing["numbers"])
    assert any(number.get("rows", {}).get("where", {}).get("b") == name for number in listing["numbers"])
    assert sorted(p.name for p in (writer.workspace.report / "figures").iterdir()) == [
        "grades-1.png", "paper-figure-1.png", "paper-figure-2.png", "preference-1.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "absent"),
    [
        ("train_set", ["limakit train", "limakit judge", "limakit generate"]),
        ("log", ["limakit curate", "limakit judge", "limakit generate"]),
        ("responses", ["limakit curate", "limakit train", "limakit judge"]),
        ("judgments", ["limakit curate", "limakit train", "limakit generate"]),
        ("grades", ["limakit curate", "limakit train", "limakit generate"]),
    ],
)
def test_missing_inputs_are_named_with_the_command_that_makes_them(writer, stage, absent):
    writer.prompts()
    getattr(writer, stage)()
    html, page, listing = report(writer)
    for command in absent:
        assert re.search(rf'<p class="missing">[^<]*<code>{command}</code></p>', html), command
    assert {id for id, _, _ in page.numbers} == {number["id"] for number in listing["numbers"]}


def test_nothing_to_report(writer):
    writer.prompts()
    with pytest.raises(LimakitError, match="nothing to report") as caught:
        write_report(writer.workspace, writer.recipe)
    assert caught.value.remedy and not writer.workspace.report.exists()


def test_a_bad_row_is_named_and_the_old_page_stays(writer):
    report(writer.everything())
    before = {p: p.read_bytes() for p in writer.workspace.report.rglob("*.*") if p.is_file()}
    path = writer.workspace.judgments / "0.jsonl"
    path.write_text(path.read_text() + '{"prompt_id": "p00"}\n')
    with pytest.raises(LimakitError, match=r"0\.jsonl, row 49"):
        write_report(writer.workspace, writer.recipe)
    assert {p: p.read_bytes() for p in writer.workspace.report.rglob("*.*") if p.is_file()} == before


def test_a_run_that_still_goes_on(writer):
    writer.log(epochs=2)
    path = writer.workspace.runs / "tiny" / "log.jsonl"
    path.write_text(path.read_text() + '{"step": 25, "epo')
    html, _, _ = report(writer)
    assert "asks for 3 epochs" in html


def test_only_invalid_judgments(writer):
    writer.prompts()
    writer.judgments(against=("base",))
    path = writer.workspace.judgments / "0.jsonl"
    rows = [json.loads(line) | {"status": "invalid", "verdict": None} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    html, _, listing = report(writer)
    assert "no judgment by referee is valid" in html
    assert not [n for n in listing["numbers"] if n["what"].startswith("win of tiny")]


def test_old_figures_go(writer):
    report(writer.everything())
    for path in writer.workspace.grades.iterdir():
        path.unlink()
    report(writer)
    assert not (writer.workspace.report / "figures" / "grades-1.png").exists()


def test_a_dialogue_prompt_shows_who_says_what(writer):
    from limakit.records import Prompt

    writer.prompts()
    turns = (Turn(role="user", text="First?"), Turn(role="assistant", text="Yes."), Turn(role="user", text="And then?"))
    write_jsonl(writer.workspace.data / "test.jsonl", [Prompt(id="d", source="live", turns=turns)])
    writer.ids = ["d"]
    writer.responses(("tiny",))
    _, page, _ = report(writer)
    assert {"First?", "Yes.", "And then?"} <= set(page.texts)


def test_the_command(writer, limakit):
    writer.everything()
    done = limakit("report", cwd=writer.workspace.root)
    assert "wrote report/index.html" in done.stdout.splitlines()
    assert (writer.workspace.root / "report" / "numbers.json").is_file()


def test_an_example_set_alone(writer):
    turns = (Turn(role="user", text="a b c"), Turn(role="assistant", text="d e"))
    write_jsonl(writer.workspace.data / "train.jsonl", [Example(id="1", source="x", turns=turns)])
    _, page, _ = report(writer)
    assert Path(writer.workspace.report / "figures" / "paper-figure-1.png").read_bytes().startswith(b"\x89PNG")
    assert "There is no log of a run yet" in page.all_text
