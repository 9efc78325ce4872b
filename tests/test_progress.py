"""Progress: a line now and then in a log, silence when asked, and text that is never markup."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limakit import progress


@pytest.fixture
def in_a_log(monkeypatch):
    monkeypatch.delenv("LIMAKIT_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)


def test_a_log_gets_lines(in_a_log, capsys):
    with progress.Progress("train", total=4, unit="steps") as bar:
        bar.skip(2)
        bar.advance(loss="1.25")
    assert "train: 3/4 steps, loss 1.25, 0:00 left" in capsys.readouterr().err


def test_silent(capsys):
    with progress.Progress("train", total=2) as bar:
        bar.advance(2, loss="1")
    assert list(progress.track([1, 2], "x")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_duration():
    assert [progress.duration(s) for s in (0, 7.4, 754, 10_921)] == ["0:00", "0:07", "12:34", "3:02:01"]


def test_cells_are_text(capsys):
    progress.show_table("[red]t", ["[b]a", "n"], [["[/]x", 3]])
    out = capsys.readouterr().out
    assert "[red]t" in out
    assert "[b]a" in out
    assert "[/]x" in out


def test_nothing_in_a_cell_acts_on_the_terminal(capsys, monkeypatch):
    """A title set by OSC, a colour by ESC or C1, a turned number, a second row made by a line end: all are seen, none happens."""
    monkeypatch.setenv("COLUMNS", "300")
    names = ["a\x1b]0;owned\x07", "b\x1b[31m", "c\x9b31m", "d\u202e001\u2066\u200f", "e\r\nf\u2028g\t", "好的 مرحبا"]
    progress.show_table(f"title {names[0]}\nsecond line", ["model", f"n {names[3]}"], [[name, 100] for name in names])
    out = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", out)
    for seen in ("a␛]0;owned␇", "b␛[31m", r"c\u009b31m", r"d\u202e001\u2066\u200f", r"e␍␊f\u2028g␉", names[5]):
        assert seen in out
    assert out.count("100") == len(names)
    assert "title a␛" in out.splitlines()[0] and out.splitlines()[1].strip() == "second line"


def test_a_table_too_wide_breaks_no_interval_and_the_first_column_gives_way(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    rows = [["crowd/somebody with quite a long name", 999, "94 [91–95]", ".86 [.81–.90]"], ["all", 999, "100 [99–100]", "-.02 [-.06–.03]"]]
    progress.show_table("t", ["judges", "n", "exact", "kappa"], rows)
    out = capsys.readouterr().out
    assert all(cell in out for row in rows for word in row[2:] for cell in word.split()) and "somebody" in out
    assert max(map(len, out.splitlines())) <= 60
    monkeypatch.setenv("COLUMNS", "20")
    progress.show_table("t", ["judges", "n", "exact", "kappa"], rows)  # nothing helps here; it is shown all the same


@given(st.text())
def test_visible_text_is_one_line_and_changes_nothing_else(text):
    seen = progress.visible(text)
    assert len(seen.splitlines()) <= 1
    assert progress.visible(seen) == seen
    assert seen == text or not text.isprintable()
