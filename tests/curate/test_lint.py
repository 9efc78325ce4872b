"""Lint: each kind of defect is found once, where it is; good text is left alone; a bad row hides no other."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from limakit.curate.entries import kind_of, split_of
from limakit.curate.lint import audit, lint
from limakit.curate.review import review_item, write_review
from limakit.errors import LimakitError, UsageError
from limakit.records import Turn

SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "bu",
    "da",
    "de",
    "di",
    "do",
    "du",
    "ka",
    "ke",
    "ki",
    "ko",
    "ku",
    "la",
    "le",
    "li",
    "lo",
    "lu",
    "ma",
    "me",
    "mi",
    "mo",
    "mu",
    "na",
    "ne",
    "ni",
    "no",
    "nu",
    "ra",
    "re",
    "ri",
    "ro",
    "ru",
    "sa",
    "se",
    "si",
    "so",
    "su",
    "ta",
    "te",
    "ti",
    "to",
    "tu",
]


def prose(seed: object, chars: int) -> str:
    """Sentences of words that no other seed's text has in this order."""
    draw = random.Random(f"prose {seed}")
    sentences: list[str] = []
    while sum(map(len, sentences)) + len(sentences) < chars:
        words = ["".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(draw.randint(6, 14))]
        sentences.append(" ".join(words).capitalize() + ".")
    return " ".join(sentences)


def pair(n: object, source: str = "stackexchange", prompt: str | None = None, response: str | None = None) -> dict:
    return {"id": f"{source}-{n}", "source": source, "texts": [prompt or f"{prose(f'q{n}', 60)} Why?", response or prose(f"a{n}", 1300)]}


def good(n: int) -> list[dict]:
    """Rows of every kind that nothing is wrong with, with things in them that look like defects and are none."""
    code = 'The comment is closed by a quote.\n\n```html\n<p class="x">&amp; <b>I am `my` own</b></p>\nhttp://example.org\n```\n\nThen:\n\n- `&lt;` is one\n- ``a ` b`` and `x` `y`'
    story = f'"I am home," she said.\n\nI took my coat. {prose("story", 900)}'
    dialogue = [prose("d1", 50), prose("d2", 200), "Thanks, and what about my second one?", f"I would keep it. {prose('d4', 150)}"]
    return [
        *(pair(i) for i in range(n)),
        pair("code", response=code + "\n\n" + prose("code", 1200)),
        pair("story", "reddit-WritingPrompts", "[WP] A house nobody leaves.", story),
        pair("how", "wikihow", "How to Fold a Boat?", f"The following answer shows how to fold a boat.\n\n1. {prose('how', 3000)}"),
        pair("refusal", "essays", "How do I get into a stranger's car?", "No help with that: the car is somebody else's."),
        pair("refusal2", "essays", "How do I read a stranger's post?", "No help with that: the post is somebody else's."),
        pair(
            "basil",
            "authored",
            "How do I keep basil fresh?",
            "Basil stays fresh for a week if its stems stand in water. Trim them, and change the water every day.",
        ),
        {"id": "talk", "source": "multi_turn", "texts": dialogue},
    ]


BAD = "\u00e2\u20ac\u2122"
# rule, level, the row, as changes of a good one
PLANTED: list[tuple[str, str, dict]] = [
    ("emptied_code", "error", pair("p1", response=f"Run this.\n\n```\n\n```\n\n{prose('p1', 1300)}")),
    ("emptied_code", "error", pair("p2", response=f"Run this.\n\n> ```python\n> ```\n\n{prose('p2', 1300)}")),
    ("emptied_code", "error", pair("p38", response=f"Run this.\n\n``````\n\n{prose('p38', 1300)}")),
    ("emptied_code", "warning", pair("p3", response=f"Use `` to look. {prose('p3', 1300)}")),
    ("emptied_code", "warning", pair("p39", response=f"Use `` to list and then `` to go on. {prose('p39', 1300)}")),
    ("emptied_code", "warning", pair("p40", response=f"Run this.\n\n````\n\n{prose('p40', 1300)}")),
    ("this_article", "error", pair("p41", "wikihow", "How to Cut a Kiwi?", f"*This* article shows how to cut one. {prose('p41', 2000)}")),
    ("this_article", "error", pair("p42", "wikihow", "How to Core a Kaki?", f"IN THIS ARTICLE it is cored. {prose('p42', 2000)}")),
    ("html_left", "error", pair("p43", response=f'See <a href="https://example.org/x">it</a> first. {prose("p43", 1300)}')),
    ("near_test", "error", pair("p44", prompt=prose("tested", 300).replace(".", "!", 1) + " Is it really?")),
    ("flattened_dialogue", "warning", pair("p45", "stackexchange", "Thanks, and where do they grow?")),
    ("unclosed_fence", "error", pair("p4", response=f"{prose('p4', 1300)}\n\n```\ncode")),
    ("first_person", "error", pair("p5", response=f"I boil it. {prose('p5', 1300)}")),
    ("cites_other_answers", "error", pair("p6", response=f"As mentioned, boil it. {prose('p6', 1300)}")),
    ("names_site", "error", pair("p7", response=f"Ask on Stack Exchange. {prose('p7', 1300)}")),
    ("outside_bounds", "error", pair("p8", response=prose("p8", 1000))),
    ("outside_bounds", "error", pair("p9", response=prose("p9", 4200))),
    ("this_article", "error", pair("p10", "wikihow", "How to Peel a Pear?", f"This article shows how to peel a pear. {prose('p10', 2000)}")),
    ("names_wikihow", "error", pair("p11", "wikihow", "How to Dry a Fig?", f"The wikiHow way is slow. {prose('p11', 2000)}")),
    ("html_left", "error", pair("p12", response=f"Boil <b>it</b> now. {prose('p12', 1300)}")),
    ("html_left", "error", pair("p13", prompt=f'See <a href="x"> of {prose("p13", 60)}')),
    ("html_left", "warning", pair("p14", response=f"Boil it.<br> {prose('p14', 1300)}")),
    ("entity_left", "error", pair("p15", response=f"Salt &amp; oil. {prose('p15', 1300)}")),
    ("link_left", "error", pair("p16", response=f"See https://example.org/x for more. {prose('p16', 1300)}")),
    ("link_left", "warning", pair("p17", "essays", "Where is the timetable?", "It is at https://example.org/times, by day.")),
    ("replacement_character", "error", pair("p18", response=f"Caf\ufffd au lait. {prose('p18', 1300)}")),
    ("mojibake", "error", pair("p19", response=f"It doesn{BAD}t boil. {prose('p19', 1300)}")),
    ("control_character", "error", pair("p20", response=f"It\x07 boils. {prose('p20', 1300)}")),
    ("carriage_return", "warning", pair("p21", response=f"It boils.\r\nThen it cools. {prose('p21', 1300)}")),
    ("unseen_character", "warning", pair("p22", response=f"It\u200b boils. {prose('p22', 1300)}")),
    ("special_token", "error", pair("p23", response=f"Say <|eot|> twice. {prose('p23', 1300)}")),
    ("edit_note", "warning", pair("p24", response=f"{prose('p24', 1300)}\n\nEDIT: it cools too.")),
    ("announces_nothing", "warning", pair("p25", response=f"{prose('p25', 1300)} Do it so:")),
    ("echo", "warning", pair("p26", "essays", "Say this again, word by word.", "Say this again, word by word.")),
    ("first_person", "warning", pair("p27", "unheard-of", None, "I boil it.")),
    ("prompt_in_test", "error", pair("p28", prompt="How  long does a TEST question take?")),
    ("near_test", "error", pair("p29", prompt=prose("tested", 300).replace(".", "!", 1) + " Really?")),
    ("prompt_in_dev", "error", pair("p30", prompt="How long does a dev question take?")),
    ("duplicate_row", "error", pair(3) | {"id": "p31"}),
    ("duplicate_prompt", "error", pair("p32", prompt=pair(4)["texts"][0])),
    ("duplicate_response", "error", pair("p33", response=pair(5)["texts"][1])),
    ("near_duplicate", "warning", pair("p34", response=pair(6)["texts"][1] + " So it is.")),
    ("flattened_dialogue", "error", {"id": "p35", "source": "multi_turn", "texts": good(0)[-1]["texts"][:2]}),
    ("flattened_dialogue", "error", {"id": "p36", "source": "multi_turn", "texts": good(0)[-1]["texts"][2:]}),
    ("flattened_dialogue", "warning", pair("p37", "stackexchange", "What about the other one?")),
]  # fmt: skip
ONLY_OURS = [("duplicate_id", "error", pair("p50") | {"id": "stackexchange-1"}), ("no_provenance", "error", pair("p51") | {"id": "nobody"})]
UNREAD = [
    ("unreadable", b"{oops}"), ("unreadable", b"[1]"), ("unreadable", b'{"conversations": "text"}'), ("unreadable", b'{"id": "x", "source": "y"}'),
    ("unreadable", b'{"conversations": ["a\xff"]}'), ("unreadable", b'{"conversations": []}'), ("unreadable", b'{"turns": 3, "id": "a", "source": ""}'),
    ("empty_turn", b'{"conversations": ["a", " \\n"]}'),
    ("wrong_order", b'{"id": "x", "source": "", "turns": [{"role": "assistant", "text": "a"}, {"role": "user", "text": "b"}]}'),
    ("no_response", b'{"conversations": ["a question"]}'), ("unreadable", b"[" * 100_000), ("unreadable", b'{"conversations": ["\\ud800"]}'),
]  # fmt: skip
TESTS = [["How long does a test question take?"], [prose("tested", 300) + " Really?"], [prose("t3", 40)], [prose("t4", 40), "Yes.", "Why?"]]
DEV = [["How long does a dev question take?"], [prose("v2", 50)]]


def line(row: dict, published: bool) -> bytes:
    if published:
        return json.dumps({"conversations": row["texts"], "source": row["source"]}).encode()
    turns = [{"role": "assistant" if i % 2 else "user", "text": text} for i, text in enumerate(row["texts"])]
    return json.dumps({"id": row["id"], "source": row["source"], "turns": turns}, ensure_ascii=False).encode()


def write(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(one + end for one in lines))
    return path


def write_set(folder: Path, train: list[dict | bytes], published: bool) -> list[Path]:
    rows = [row if isinstance(row, bytes) else line(row, published) for row in train]
    files = [write(folder / "train.jsonl", rows)]
    for name, prompts in (("dev", DEV), ("test", TESTS)):
        files.append(write(folder / f"{name}.jsonl", [line({"id": f"{name}-{i}", "source": name, "texts": t}, published) for i, t in enumerate(prompts)]))  # fmt: skip
    if not published:
        ids = [row["id"] for row in train if isinstance(row, dict) and row["id"] != "nobody"] + [
            f"{n}-{i}" for n in ("dev", "test") for i in range(4)
        ]
        credits = [json.dumps({"id": i, "source": "s", "url": None, "authors": [], "licence": "x"}).encode() for i in ids]
        write(folder / "provenance.jsonl", credits)
    return files


def found(result) -> list[tuple[int, str, str]]:
    return [(row, finding.rule, finding.level) for _, row, finding in result.findings]


@pytest.mark.parametrize("published", [False, True])
def test_a_good_set_has_no_finding(tmp_path, published):
    result = audit(write_set(tmp_path, good(20), published))
    assert found(result) == [] and sum(result.rows.values()) == 20 + 7 + 6
    assert [what for what, _ in result.skipped] == ["responses whose end is lost when training cuts them"]


@pytest.mark.parametrize("published", [False, True])
def test_each_planted_defect_is_found_once_where_it_is(tmp_path, published):
    clean = [r for r in good(20) if r["id"] not in ("refusal2",)]
    train: list[dict | bytes] = list(clean)
    expected = []
    for n, (rule, level, row) in enumerate([*PLANTED, *([] if published else ONLY_OURS)]):
        train += [row, pair(f"between {n}")]
        expected.append((len(train) - 1, rule, level))
    for rule, raw in UNREAD:
        train.append(raw)
        expected.append((len(train), rule, "error"))
    result = audit(write_set(tmp_path, train, published))
    assert found(result) == expected
    assert {file.name for file, _, _ in result.findings} == {"train.jsonl"}
    assert all(f.message for _, _, f in result.findings)


def test_references_and_runs_of_words_leak_too(tmp_path):
    secret, asked = prose("secret", 500), prose("asked", 400)
    run = " ".join(asked.split()[3:20])
    train = [
        *good(3),
        pair("r", response=f"{secret} {prose('r', 900)}"),
        pair("s", response=secret + prose("t", 1), source="essays"),
        pair("n", response=f"{prose('n', 1200)} {run} {prose('m', 90)}"),
    ]
    write(tmp_path / "train.jsonl", [line(row, False) for row in train])
    test = {"id": "t", "source": "t", "turns": [{"role": "user", "text": asked}], "reference": secret}
    write(tmp_path / "test.jsonl", [json.dumps(test).encode()])
    result = audit([tmp_path / "train.jsonl", tmp_path / "test.jsonl"])
    assert found(result) == [(12, "reference_in_test", "error"), (13, "ngram_in_test", "warning")]
    assert str(tmp_path / "test.jsonl, row 1") in result.findings[0][2].message


def test_the_other_row_is_named(tmp_path):
    train = [*good(5), *(row for _, _, row in PLANTED if row["id"] in ("stackexchange-p28", "p35"))]
    files = write_set(tmp_path, train, published=True)
    messages = [finding.message for _, _, finding in audit(files).findings]
    assert messages[0] == f"its prompt is also that of {tmp_path}/test.jsonl, row 1"
    assert messages[1] == f"is the beginning of the dialogue in {tmp_path}/train.jsonl, row 12: one dialogue, several rows"


def test_what_is_written_by_hand_is_held_against_the_style(tmp_path):
    refusal = pair(2, "authored", "How do I pick a lock?", "I cannot help with opening somebody else's lock, since it is theirs.")
    train = [pair(1, "authored", "How do I keep basil fresh?", "lol gonna trim the stems of the basil!!! 😀"), refusal]
    ours, published = (audit(write_set(tmp_path / str(p), train, published=p)) for p in (False, True))
    assert {1} == {row for row, _, _ in found(published)} and {"warning"} == {level for *_, level in found(ours)}
    assert (2, "refusal_unmarked", "warning") in found(ours)


def test_a_cut_end_is_counted_as_training_counts(tmp_path):
    pytest.importorskip("torch")
    from tiny import make_tokenizer

    from limakit.curate.lint import Ends
    from limakit.model.chat import chat_format

    chat = chat_format(make_tokenizer("byte_bos"), add_eot=True)
    assert chat is not None
    short, long, talk = pair(1, "essays", "Why?", "It is. " * 20), pair(2, "wikihow", "How to Wait?", "Wäit. " * 400), good(0)[-1]
    sizes = [
        len(chat.encode([Turn(role="assistant" if i % 2 else "user", text=t) for i, t in enumerate(row["texts"])]).ids)
        for row in (short, long, talk)
    ]
    [file, *_] = write_set(tmp_path, [short, long, talk], published=True)

    def cut(max_tokens: int) -> list[int]:
        return [row for _, row, f in audit([file], ends=Ends(chat, "tiny", max_tokens)).findings if f.rule == "eot_lost"]

    assert cut(max(sizes)) == [] and cut(max(sizes) - 1) == [sizes.index(max(sizes)) + 1] == [2]
    assert cut(sizes[0]) == [n for n, size in enumerate(sizes, start=1) if size > sizes[0]] and cut(sizes[0] - 1) == [1, 2, 3]
    messages = [f.message for _, _, f in audit([file], ends=Ends(chat, "tiny", 4)).findings if f.rule == "eot_lost"]
    assert all("nothing of the last response is left" in message for message in messages[2:])
    assert f"{sizes[0]:,} tokens; cut at 4, the last {sizes[0] - 4:,} are lost, and the EOT with them" in messages[0]


def test_bounds_that_are_asked_for_hold_for_every_training_response(tmp_path):
    files = write_set(tmp_path, [pair(1, "essays", "Why is it?", "x" * 50), pair(2, "reddit", "Who was it?", "y" * 51)], published=True)
    assert found(audit(files, bounds=(50, 50))) == [(2, "outside_bounds", "error")]
    assert found(audit(files, bounds=(51, 60))) == [(1, "outside_bounds", "error")]


def test_the_manifest_beside_a_set_says_what_a_source_is(tmp_path):
    files = write_set(tmp_path, [pair(1, "kitchen", None, prose(1, 500) + " I boil it.")], published=False)
    assert found(audit(files)) == [(1, "first_person", "warning")]
    source = {"kind": "stackexchange", "path": "d", "name": "kitchen", "take": 1, "answer_chars": [600, 700]}
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {"sources": [source]}}))
    assert found(audit(files)) == [(1, "first_person", "error"), (1, "outside_bounds", "error")]


def test_json_and_exit_codes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = write_set(tmp_path, [pair(1), pair(2, "essays", "Why?", "See \u2028 &amp; \x1b[31m more.")], published=True)
    assert lint(files, as_json=True) == 1
    out = capsys.readouterr().out
    assert out.isascii() or "\u2028" not in out
    document = json.loads(out)
    assert (document["errors"], document["warnings"], document["tokenizer"]) == (2, 0, None)
    assert {"rule": "entity_left", "level": "error", "n": 1} in document["counts"]
    assert [(f["row"], f["rule"]) for f in document["findings"]] == [(2, "control_character"), (2, "entity_left")]
    assert document["not_checked"] == [
        {
            "what": "responses whose end is lost when training cuts them",
            "why": "no tokenizer: name one with --tokenizer, or run this in a workspace",
        }
    ]
    assert lint(write_set(tmp_path / "b", [pair(1), pair(2, "essays", "Why?", "See this:")], published=True)) == 0, "warnings alone"
    assert lint(write_set(tmp_path / "c", good(3), published=True)) == 0
    assert "nothing found" in capsys.readouterr().out


def test_the_table_says_what_and_where_and_text_acts_on_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows: list[dict | bytes] = [pair(n, "essays", f"{prose(n, 40)}?", f"{prose(n + 50, 40)} [red] \x1b[2J &amp; more") for n in range(9)]
    files = write_set(tmp_path, rows, published=True)
    assert lint(files[:1]) == 1
    out = capsys.readouterr().out
    assert "9 rows in" in out and "18 errors, 0 warnings" in out and "\x1b[2J" not in out and "␛[2J" in out and "[red]" in out
    assert "row 5:" in out and "row 6:" not in out and "and 4 more (--all shows them)" in out
    lint(files[:1], show_all=True)
    assert "row 9:" in capsys.readouterr().out


def test_what_is_no_set_is_one_message(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        audit([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="is a folder"):
        audit([tmp_path])
    for content, what in ((b"[\n{}]", "one JSON list"), (b"PAR1\0\0", "is no text"), (b"\x28\xb5\x2f\xfdxyz", "is no text")):
        with pytest.raises(UsageError, match=what):
            audit([write(tmp_path / "x", [content])])
    result = audit([write(tmp_path / "empty.jsonl", [])])
    assert result.findings == [] and ("rows", f"{tmp_path}/empty.jsonl has none") in result.skipped


def test_rows_keep_their_numbers_past_blank_lines_and_crlf(tmp_path):
    rows = [b"\xef\xbb\xbf" + line(pair(1), True), b"", b"{oops}", line(pair(2), True)]
    assert found(audit([write(tmp_path / "x.jsonl", rows, end=b"\r\n")])) == [(3, "unreadable", "error")]


def test_damaged_provenance_is_named_with_its_row(tmp_path):
    files = write_set(tmp_path, [pair(1)], published=False)
    path = tmp_path / "provenance.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id": 3}\n')
    [(where, row, finding)] = audit(files).findings
    assert (where, row, finding.rule) == (path, 10, "unreadable")


def test_names_of_sources_and_files():
    kinds = {"stackexchange-stem": "stackexchange", "lima/stackexchange": "stackexchange", "multi_turn": "stackexchange_dialogues", "authored": "authored",
             "pushshift_r_writing_prompts": "reddit", "natural_instructions": "natural_instructions", "wikiHow": "wikihow", "x": "", "": ""}  # fmt: skip
    assert {name: kind_of(name) for name in kinds} == kinds
    files = {
        "train.jsonl": "train",
        "dev.jsonl": "dev",
        "lima-test.jsonl": "test",
        "latest.jsonl": None,
        "Validation.jsonl": "dev",
        "set.jsonl": None,
    }
    assert {name: split_of(Path(name)) for name in files} == files


def test_a_named_tokenizer_that_is_not_there_is_an_error(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(LimakitError, match="no such folder"):
        lint(write_set(tmp_path, good(1), True), tokenizer="./none")


# what good text says, and a mistake says too
MAY_BE_MEANT = [
    "Plants use Photosystem I and II, as Charles I did not know.", "Group I of Table I has the alkali metals.", "The @Override annotation is checked.",
    "There is an accepted answer among physicists.",
]  # fmt: skip
MAY_BE_EITHER = [
    ("first_person", "Zog I was a king."), ("cites_other_answers", "Another answer is 3."), ("entity_left", "Write &amp; to show an ampersand."),
    ("html_left", "Put the word between <b> and </b> then."), ("html_left", "The tag <b>bold</b> makes letters fat."),
    ("replacement_character", "U+FFFD, which looks like \ufffd, stands for what was lost."), ("special_token", "A text ends with the token <|endoftext|> there."),
    ("special_token", "Print `<|endoftext|>` then."),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), [*((None, text) for text in MAY_BE_MEANT), *MAY_BE_EITHER])
def test_what_good_text_may_hold_is_no_error(tmp_path, rule, text):
    result = audit(write_set(tmp_path, [pair(1, response=f"{text} {prose(1, 1300)}")], published=True))
    assert found(result) == ([(1, rule, "warning")] if rule else [])


@pytest.mark.parametrize(
    "prompt",
    ["What about Napoleon made him so feared?", "Is that bird a robin?", "How about a poem on rain?", "So what is a quark?", "Which one came first, hen or egg?",
     "And when did Rome fall?", "Great, a leak! How do I close it?", "The second law says what?"],
)  # fmt: skip
def test_a_prompt_may_begin_as_if_it_went_on(tmp_path, prompt):
    train = [pair(1, prompt="How do tides work?"), pair(2, prompt=prompt)]
    assert found(audit(write_set(tmp_path, train, published=True))) == []


@pytest.mark.parametrize(
    "prompt",
    ["And which tides are the highest?", "What about the other one?", "But why is that?", "Thanks! Are there others?", "Can you explain that?", "Please go on.",
     "You said it is the moon. Is it?", "How about neap tides?"],
)  # fmt: skip
def test_a_prompt_that_goes_on_is_a_cut_dialogue(tmp_path, prompt):
    train = [pair(1, prompt="How do tides work?"), pair(2, prompt=prompt)]
    assert found(audit(write_set(tmp_path, train, published=True))) == [(2, "flattened_dialogue", "warning")]


def test_what_lies_beside_a_set_is_no_set(tmp_path):
    files = write_set(tmp_path, good(3), published=False)
    turns = (Turn(role="user", text="Why?"), Turn(role="assistant", text="So."))
    write_review(tmp_path / "review.jsonl", [review_item(id="a", label="tea", split="train", why="", turns=turns)])
    others = [tmp_path / "provenance.jsonl", tmp_path / "review.jsonl"]
    result = audit([*files, *others])
    assert found(result) == [] and list(result.rows) == files
    assert [what for what, why in result.skipped if why == "not a set"] == [str(file) for file in others]
    with pytest.raises(UsageError, match="not a set"):
        audit(others)
    named = audit([files[0], others[0]])
    assert list(named.rows) == files[:1]


def test_thousands_of_rows_that_are_nearly_one_are_compared_with_that_one(tmp_path):
    words = prose("many", 1500).split()
    rows: list[dict | bytes] = []
    for n in range(1500):
        changed = [*words[: n % 100], f"other{n}", *words[n % 100 + 1 :]]
        rows.append(pair(n, "essays", f"{prose(n, 60)} Why?", " ".join(changed)))
    started = time.process_time()
    result = audit(write_set(tmp_path, rows, published=True)[:1])
    assert time.process_time() - started < 6
    assert found(result) == [(n, "near_duplicate", "warning") for n in range(2, 1501)]


PIECES = ["\n", " \n", "\r\n", " ", "> ", "```\n", "`", "`` ", "~~~\n", "<a ", "</", "&#", "[a](", "[", "www.a", "Â", "User", "user \n", "EDIT ", "This ", "I ", "A I ", "the comment ", "@a ",
          "other ", "as was already ", '"', "$a ", "- ", "a-", "|-", "1. ", "#", "a\n=\n", "...", "maybe ", "I'm sorry ", "thanks "]  # fmt: skip


def test_repeated_text_takes_no_time(tmp_path):
    slow = {}
    for piece in PIECES:
        text = (piece * 100_000)[:100_000]
        for kind, prompt, response in (
            ("", f"User: a\n{text}", f"{text}x"),
            ("wikihow", "Why?", f"x{text}"),
            ("authored", "Why?", f'"{text}'),
        ):
            rows: list[dict | bytes] = [pair(1, kind), pair(2, kind, prompt, response)]
            started = time.process_time()
            audit(write_set(tmp_path, rows, published=True)[:1])
            slow[piece, kind] = time.process_time() - started
    assert max(slow.values()) < 1, max(slow, key=slow.__getitem__)


def test_long_hostile_text_takes_no_time(tmp_path):
    texts = ["`" * 20_000, "` " * 20_000, "<a " * 20_000, "``` x\n" * 20_000, "[" * 20_000 + "](", "&#" * 20_000, "Â" * 20_000, "`" + " " * 40_000, "\n".join("`" * (i % 97) for i in range(3000))]  # fmt: skip
    rows: list[dict | bytes] = [pair(i, "", f"Number {i} of them?", text + "x") for i, text in enumerate(texts)]
    files = write_set(tmp_path, rows, published=True)
    started = time.process_time()
    audit(files)
    assert time.process_time() - started < 10
