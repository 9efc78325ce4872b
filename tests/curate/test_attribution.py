"""The attribution file names what CC BY-SA wants named, and shows names and titles as text."""

from limakit.curate.attribution import licence_url, write_attribution
from limakit.records import Author, Provenance

POST = Provenance(
    id="beer-1",
    source="stackexchange-other",
    url="https://alcohol.stackexchange.com/questions/1#2",
    authors=(
        Author(name="Ann *<b>*", url="https://alcohol.stackexchange.com/users/5", wrote="question"),
        Author(name="a deleted account", wrote="answer"),
    ),
    licence="CC BY-SA 2.5 (question), CC BY-SA 4.0 (answer)",
    changes="links removed",
    title="What is [malt]?\n# No heading",
)
OWN = Provenance(id="authored-1", source="authored", url=None, authors=(Author(name="us"),), licence="CC0-1.0")


def test_every_part_is_named(tmp_path):
    write_attribution(tmp_path / "a.md", [POST, OWN, POST.model_copy(update={"id": "beer-9"})])
    text = (tmp_path / "a.md").read_text()
    for licence in ("by-sa/2.5/", "by-sa/4.0/"):
        assert f"<https://creativecommons.org/licenses/{licence}>" in text
    entry = next(line for line in text.split("\n") if "beer-1" in line)
    for part in (
        "Ann \\*&lt;b&gt;\\* <https://alcohol.stackexchange.com/users/5> (question)",
        "a deleted account (answer)",
        "<https://alcohol.stackexchange.com/questions/1#2>",
        "CC BY-SA 2.5 (question), CC BY-SA 4.0 (answer)",
        "Changed: links removed",
        'What is \\[malt\\]? \\# No heading"',
    ):
        assert part in entry, part
    assert text.index("## authored") < text.index("## stackexchange-other") < text.index("beer-1") < text.index("beer-9")
    assert "- authored-1: by us (all); CC0-1.0. Not changed." in text and "endorse" in text


def test_addresses_of_licences():
    assert licence_url("CC BY-SA 3.0") == "https://creativecommons.org/licenses/by-sa/3.0/"
    assert licence_url("CC BY-NC-SA 3.0") == "https://creativecommons.org/licenses/by-nc-sa/3.0/"
    assert licence_url("CC0-1.0") == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert licence_url("unstated") is None and licence_url("CC BY-SA, version unknown") is None
