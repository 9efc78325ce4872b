"""What people wrote by hand as candidates: groups, splits, marks."""

import json

import pytest

from limakit.curate.engine import Work
from limakit.curate.from_authored import inputs, offer
from limakit.curate.pool import write_pool
from limakit.errors import LimakitError, UsageError
from limakit.recipe_sources import AuthoredSource
from limakit.sources.authored import marked


def source(**keys):
    return AuthoredSource.model_validate({"kind": "authored", "path": "mine.jsonl"} | keys)


def candidates(tmp_path, made, path):
    pool = write_pool(tmp_path / "pool.parquet", offer(made, path, Work(7, tmp_path / "cache")))
    told = [row for table in pool.account() for row in table.to_pylist()]
    fit = dict(pool.fit())
    return [(row["id"], row["reason"], row["detail"], fit.get(n)) for n, row in enumerate(told)]


def rows(tmp_path, *items):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


SHARED = (
    {"prompt": "a", "response": "b", "group": "A", "split": "train", "id": "one"},
    {"prompt": "c", "group": "A", "split": "dev"},
    {"prompt": "d", "group": "B", "split": "test", "reference": "e"},
    {"prompt": "f", "response": "g"},
)


def test_one_file_serves_three_splits_by_its_marks(tmp_path):
    path = rows(tmp_path, *SHARED[:3])
    found = {split: candidates(tmp_path, source(split=split), path) for split in ("train", "dev", "test")}
    assert [(id, reason, detail) for id, reason, detail, _ in found["train"]] == [
        ("one", None, None), ("authored-2", "other_split", "dev"), ("authored-3", "other_split", "test"),
    ]  # fmt: skip
    assert [reason for _, reason, _, _ in found["dev"]] == ["other_split", None, "other_split"]
    test = found["test"][2][3]
    assert test.text.reference == "e" and [t.text for t in test.turns] == ["d"]
    assert [id for id, *_ in found["test"]] == ["one", "authored-test-2", "authored-test-3"]


def test_what_is_not_marked_belongs_to_the_source_that_reads_it(tmp_path):
    ((id, reason, _, made),) = candidates(tmp_path, source(author="Ada", licence="CC0"), rows(tmp_path, SHARED[3]))
    assert (id, reason, made.response_chars) == ("authored-1", None, 1)
    assert made.text.provenance.authors[0].name == "Ada" and made.text.provenance.licence == "CC0"


@pytest.mark.parametrize(
    ("item", "split", "remedy"),
    [
        ({"prompt": "a", "response": "b", "group": "B"}, "train", 'group = "B"'),
        ({"prompt": "a", "group": "B"}, "dev", "group A writes train and dev"),
        ({"prompt": "a", "group": "A"}, "test", "group B writes test"),
    ],
)
def test_a_group_never_gets_into_the_other_ones_splits_unsaid(tmp_path, item, split, remedy):
    path = rows(tmp_path, {"prompt": "x"} | ({"response": "y"} if split == "train" else {}), item)
    with pytest.raises(LimakitError, match=rf"(?s)mine\.jsonl, row 2: is by group {item['group']} and would get into {split}.*{remedy}"):
        candidates(tmp_path, source(split=split), path)
    assert candidates(tmp_path, source(split=split, group=item["group"]), path)[1][1] is None  # the recipe says that it is meant


def test_a_source_of_one_group_leaves_the_other(tmp_path):
    path = rows(tmp_path, {"prompt": "a", "group": "A"}, {"prompt": "b", "group": "B"}, {"prompt": "c"})
    assert [(r, d) for _, r, d, _ in candidates(tmp_path, source(split="test", group="B"), path)] == [
        ("other_group", "A"), (None, None), (None, None),
    ]  # fmt: skip


def test_the_papers_refusals_and_format_examples_can_be_written(tmp_path):
    """13 refusals with their reasons and 6 structural demands (paper, section 2.2 and appendix E), as files."""
    folder = tmp_path / "mine"
    folder.mkdir()
    demands = ["bulleted list", "numbered list", "table", "3 paragraphs", "at most 80 words", "json"]
    for n in range(13):
        (folder / f"refusal-{n:02}.md").write_text(
            f"---\nrefusal: asks how to hurt somebody, kind {n}\ngroup: A\n---\n## Prompt\n\np{n}\n\n## Response\n\nr\n"
        )
    for n, demand in enumerate(demands):
        (folder / f"format-{n}.md").write_text(f"---\nformat: {demand}\ntags: plan\n---\n## Prompt\n\nq{n}\n\n## Response\n\nr\n")
    made = source(path="mine")
    assert list(inputs(made, folder)) == sorted(f"mine/{p.name}" for p in folder.iterdir())
    tags = [c.text.tags for *_, c in candidates(tmp_path, made, folder)]
    assert sum("refusal" in t for t in tags) == 13 and sum("format" in t for t in tags) == 6
    assert [marked(t, "format") for t in tags[:6]] == demands and tags[0] == ("plan", "format", "format=bulleted list")
    assert marked(tags[6], "refusal") == "asks how to hurt somebody, kind 0" and marked(tags[6], "format") is None
    assert marked(("refusal",), "refusal") == ""


def test_ids_come_once_and_the_file_is_there(tmp_path):
    path = rows(tmp_path, {"prompt": "a", "response": "b"}, {"prompt": "a", "response": "b", "id": "authored-1"})
    with pytest.raises(LimakitError, match=r"row 2: the id 'authored-1' is taken by .*row 1"):
        candidates(tmp_path, source(), path)
    assert inputs(source(), path) == {"mine.jsonl": path}
    with pytest.raises(UsageError, match="no such file or folder"):
        inputs(source(path="none"), tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no Markdown files here"):
        inputs(source(path="empty"), tmp_path / "empty")
