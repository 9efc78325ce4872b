"""What people write by hand, in JSONL and Markdown."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit.errors import LimakitError, UsageError
from limakit.sources.authored import read_authored, read_markdown


def said(item):
    return [(t.role, t.text) for t in item.turns]


def write(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_jsonl_rows(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        {"prompt": "p", "response": "r", "tags": ["safety"], "id": "one"},
        {"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}]},
    )
    one, two = read_authored(path, split="train")
    assert (one.id, one.tags, said(one)) == ("one", ("safety",), [("user", "p"), ("assistant", "r")])
    assert (two.id, two.part, said(two)) == (None, "2", [("user", "a"), ("assistant", "b")])
    (prompt,) = read_authored(write(path, {"prompt": "p", "reference": "r"}), split="test")
    assert (said(prompt), prompt.reference) == ([("user", "p")], "r")


@pytest.mark.parametrize(
    ("row", "train", "what"),
    [
        ({"prompt": "p"}, True, "no response"),
        ({"response": "r"}, True, "no prompt"),
        ({"prompt": "p", "response": " "}, True, "turn 2 .* is empty"),
        ({"prompt": "p", "response": "r", "turns": []}, True, "has turns and a prompt"),
        ({"turns": []}, True, "no turns"),
        ({"turns": [{"role": "assistant", "text": "a"}]}, True, "turn 1 is by the assistant"),
        ({"prompt": "p", "response": "r"}, False, "no response"),
        ({"prompt": "p", "response": "r", "reference": "x"}, True, "no reference"),
        ({"prompt": "p", "respose": "r"}, True, "respose: unknown key"),
        ({"prompt": 3}, False, "prompt: "),
        ({"prompt": "p", "response": "r", "group": "C"}, True, "group: "),
        ({"prompt": "p", "response": "r", "split": "test"}, True, "a dev or test prompt has no response"),
        ({"prompt": "p", "split": "train"}, False, "no response"),
        ({"prompt": "p", "refusal": " "}, False, "refusal says nothing"),
        ([1], True, ""),
    ],
)
def test_bad_rows_are_named(tmp_path, row, train, what):
    good = {"prompt": "p", "response": "r"} if train else {"prompt": "p"}
    with pytest.raises(LimakitError, match=rf"(?s)a\.jsonl, row 2: .*{what}"):
        read_authored(write(tmp_path / "a.jsonl", good, row), split="train" if train else "test")


def test_an_id_comes_once(tmp_path):
    row = {"prompt": "p", "response": "r", "id": "x"}
    with pytest.raises(LimakitError, match=r"row 2: id 'x' is taken by .*row 1"):
        read_authored(write(tmp_path / "a.jsonl", row, row), split="train")


def test_markdown_dialogue_with_comment_tags_and_headings_in_code(tmp_path):
    path = tmp_path / "sub" / "tea.md"
    path.parent.mkdir()
    path.write_bytes(
        b"\xef\xbb\xbf---\r\ntags: safety, tea\r\nid: tea-1\r\n---\r\n<!-- a\n## Prompt -->\n\n<!-- b -->\n## Prompt\n\nHow?\r\n\r\n"
        b"## response ##\n\nSo:\n\n````md\n## Prompt\n```\n## Response\n````\n## Details\n\n    indented\n\n## Prompt\nAnd?\n## Response\nThus.\n"
    )
    (item,) = read_authored(tmp_path, split="train")
    assert (item.id, item.part, item.tags) == ("tea-1", "sub/tea", ("safety", "tea"))
    assert said(item) == [
        ("user", "How?"),
        ("assistant", "So:\n\n````md\n## Prompt\n```\n## Response\n````\n## Details\n\n    indented"),
        ("user", "And?"),
        ("assistant", "Thus."),
    ]


def test_markdown_prompts_with_reference_in_the_order_of_names(tmp_path):
    (tmp_path / "b.md").write_text("## Prompt\n\ntwo\n")
    (tmp_path / "a.md").write_text("## Prompt\n\none\n\n## Reference\n\nanswer\n")
    (tmp_path / ".draft.md").write_text("nothing")
    assert [(i.part, said(i)[0][1], i.reference) for i in read_authored(tmp_path, split="test")] == [
        ("a", "one", "answer"),
        ("b", "two", None),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no ## Prompt heading"),
        ("# Title\n\n## Prompt\n\nx", r"line 1: text before the first heading"),
        ("<!-- c\n -->\n\nx\n## Prompt\ny", r"line 4: text before the first heading"),
        ("## Response\n\nx", "heading 1 is ## Response, expected ## Prompt"),
        ("## Prompt\nx\n## Prompt\ny", "heading 2 is ## Prompt, expected ## Response"),
        ("## Prompt\n\n## Response\nx", r"nothing under heading 1"),
        ("## Prompt\nx\n## Reference\ny\n## Response\nz", "heading 2 is ## Reference"),
        ("## Prompt\nx", "no response"),
        ("---\ncolour: red\n---\n## Prompt\nx", "line 2: 'colour: red' is not understood"),
        ("---\n## Prompt\nx", 'no "---" line'),
        ("---\nid:\n---\n## Prompt\nx", "line 2: 'id:' is not understood"),
        ("---\nid: a\ngroup: C\n---\n## Prompt\nx", "line 3: group is 'C'"),
        ("---\nsplit: Dev\n---\n## Prompt\nx", "line 2: split is 'Dev'"),
        ("---\nrefusal:\n---\n## Prompt\nx", "line 2: 'refusal:' is not understood"),
        ("## Prompt\nx\n## Response\n```py\ncode\n\n## Prompt\ny\n## Response\nz\n", "line 4: the code fence ``` is never closed"),
        ("---\n---\n## Prompt\nx\n## Response\n~~~~\ncode\n~~~\n", "line 6: the code fence ~~~~ is never closed"),
    ],
)
def test_bad_markdown_is_named(tmp_path, text, what):
    (tmp_path / "x.md").write_text(text)
    with pytest.raises(LimakitError, match=rf"x\.md.*{what}"):
        read_authored(tmp_path, split="train")


@pytest.mark.parametrize("front", ["---\n---\n", "---\ntags:\n---\n", "---\n\n---\n"])
def test_front_matter_may_be_empty(tmp_path, front):
    (tmp_path / "x.md").write_text(front + "## Prompt\n\nx\n")
    (item,) = read_authored(tmp_path, split="test")
    assert (item.id, item.tags, said(item)) == (None, (), [("user", "x")])


def test_every_markdown_file_is_read_and_a_note_names_the_others(tmp_path, capsys):
    folder, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    for file in (folder / "a.MD", folder / "sub" / "b.markdown", elsewhere / "c.md", folder / "d.md.txt", folder / ".hidden.txt"):
        file.write_text(f"## Prompt\n\n{file.name}\n")
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "round").symlink_to(folder, target_is_directory=True)
    assert [i.part for i in read_authored(folder, split="test")] == ["a", "linked/c", "sub/b"]
    err = capsys.readouterr().err
    assert err.startswith("note: ") and err.rstrip().endswith("are: d.md.txt")
    (folder / "d.md.txt").unlink()
    read_authored(folder, split="test")
    assert capsys.readouterr().err == ""


def test_a_file_name_that_cannot_be_an_id_is_said(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("## Prompt\n\nx\n")
    with pytest.raises(UsageError, match=r"(?s)file name .*udce9.*rename"):
        read_authored(tmp_path, split="test")


def test_missing_empty_and_not_utf8(tmp_path):
    with pytest.raises(UsageError, match="no such file or folder"):
        read_authored(tmp_path / "none", split="train")
    with pytest.raises(UsageError, match="no Markdown files"):
        read_authored(tmp_path, split="train")
    (tmp_path / "x.md").write_bytes(b"## Prompt\n\xff")
    with pytest.raises(LimakitError, match=r"not UTF-8 \(byte 10\)"):
        read_authored(tmp_path, split="train")


words = st.lists(st.sampled_from(["word", "## Other", "```", "~~~~", "", "    code", "# Prompt", "text ## Prompt"]), min_size=1, max_size=8)


@given(words, words)
def test_any_content_without_open_fences_survives(tmp_path_factory, one, two):
    def closed(lines):
        return "\n".join(["start", *(line for line in lines if line not in ("```", "~~~~")), "```", "## Prompt", "```", "end"])

    path = tmp_path_factory.mktemp("md") / "x.md"
    path.write_text(f"## Prompt\n\n{closed(one)}\n\n## Response\n\n{closed(two)}\n")
    row = read_markdown(path)
    assert row.turns is not None
    assert [t.text for t in row.turns] == [closed(one), closed(two)]
