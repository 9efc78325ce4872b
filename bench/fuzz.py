"""Damaged input for every reader: only errors for users come out, each naming the file, soon, and without filling the memory.

    python bench/fuzz.py [--seconds 300] [--seed 1] [--target NAME] [--keep DIR]

For each target a small valid input is written, read once, then damaged again and again (bits, cuts, splices, repeats, special bytes) and read through
the doors that curate uses: `inputs` and `offer` of its source. A crash is any exception that is no LimakitError, a message that names
neither the damaged file nor its folder, rows that are not of the pool's schema, more than 10 seconds, or 2 GB of memory. Where expat accepts a damaged Posts.xml,
the scanner must find the rows that expat finds. Prints a table; the last line is one JSON object. Exit code 1 if there were crashes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from xml.sax.saxutils import quoteattr

import orjson
import pyarrow as pa
import zstandard

from limakit.curate import (
    from_authored,
    from_dialogues,
    from_lima,
    from_natural_instructions,
    from_reddit,
    from_stackexchange,
    from_wikihow,
)
from limakit.curate.engine import Work
from limakit.curate.html import to_markdown
from limakit.curate.pool import SCHEMA
from limakit.curate.stats import read_rows
from limakit.errors import LimakitError
from limakit.recipe import read_recipe
from limakit.recipe_sources import KINDS
from limakit.sources.opening import read_opening
from limakit.sources.scan import RowError, Scan, parse_row

SECONDS, BYTES = 10, 2 << 30  # of one input
LONG = "Water that is too hot draws bitter compounds out of the leaves, and water that is too cool leaves them flat. " * 14
SPECIAL = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\r", b"\n", b"\n\n", b'"', b"'", b"\\", b"\\u0000", b"\\ud800",
    b"<", b">", b"&", b"&#0;", b"&#x110000;", b"&lt;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x", b"?>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<row ",
    b"<row Id=\"1\" />", b"</posts>", b"/>", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-1", b"9" * 25, b"1.5",
    b"[" * 3000, b'{"a":' * 3000, b"```", b"~~~", b"---", b"## Prompt", b"## Response", b"+++", b"`", b"<div>" * 300, b"<a href='x'>", b"<pre><code>", b"</code>",
    b"t3_", b"[deleted]", b"[removed]", "ß\u0301\u202e\ufeff".encode(), "\U0001f600".encode(), b"\x1b[2J", b"../../etc/passwd", b"%s{}", b" " * 200,
]  # fmt: skip


@dataclass
class Target:
    """`write` puts a valid input into a folder and returns the files to damage; `read` reads the folder, one file of which is damaged."""

    name: str
    write: Callable[[Path], list[Path]]
    read: Callable[[Path, Path], object]
    packed: bool = False  # damage is also done before compression
    inputs: int = 0
    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    crashes: int = 0


# --- valid inputs ---------------------------------------------------------------------------------------------------------------------


def row(**attributes: object) -> str:
    pairs = (f"{k}={quoteattr(str(v), {chr(10): '&#xA;'})}" for k, v in attributes.items())
    return f"  <row {' '.join(pairs)} />"


def dump(folder: Path) -> list[Path]:
    site = folder / "coffee"
    site.mkdir(parents=True)
    posts, comments = [], []
    for n in range(1, 7):
        question, answer = 2 * n, 2 * n + 1
        posts.append(
            row(Id=question, PostTypeId=1, CreationDate="2015-03-01T10:00:00.000", Score=n, Body="<p>Why is that?</p>", OwnerUserId=10 + n,
                Title=f"Why does tea number {n} taste bitter?", Tags="<tea>", ContentLicense="CC BY-SA 3.0")
        )  # fmt: skip
        body = f"<p>{LONG}</p><ul><li>One</li><li><code>a &lt; b</code></li></ul><pre><code>x = {n}\n</code></pre><p>Rule {n}.</p>"
        posts.append(
            row(
                Id=answer,
                PostTypeId=2,
                ParentId=question,
                CreationDate="2015-03-02T10:00:00.000",
                Score=12 + n,
                Body=body,
                OwnerUserId=20 + n,
            )
        )
        for k, user in enumerate((10 + n, 20 + n, 10 + n, 20 + n)):
            comments.append(
                row(
                    Id=100 * n + k,
                    PostId=answer,
                    Score=0,
                    Text=f"And what of point {k}, @user?",
                    CreationDate=f"2015-03-03T10:0{k}:00.000",
                    UserId=user,
                )
            )
    users = [row(Id=n, DisplayName=f"user {n}") for n in range(10, 30)]
    files = []
    for name, rows in (("Posts", posts), ("Comments", comments), ("Users", users)):
        files.append(site / f"{name}.xml")
        lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{name.lower()}>", *rows, f"</{name.lower()}>"]
        files[-1].write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    return files


def wikihow(folder: Path) -> list[Path]:
    steps = [{"headline": "Boil the water.", "description": LONG}, {"headline": "Pour.", "description": "Slowly, <b>in</b> circles."}]
    rows = [
        {"goal": f"How to Brew Tea {n}", "goal_description": "This article teaches tea.", "category_hierarchy": ["Food", "Drinks"], "methods": [{"name": "Pot", "steps": steps}]}
        for n in range(4)
    ]  # fmt: skip
    path = folder / "articles.jsonl"
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return [path]


def wikihow_csv(folder: Path) -> list[Path]:
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(["overview", "headline", "text", "sectionLabel", "title"])
    for n in range(4):
        out.writerow(["An overview,\nin lines.", f'Step "{n}"', LONG, "Steps", f"How to Brew Tea {n // 2}"])
    path = folder / "wikihowSep.csv"
    path.write_text(text.getvalue())
    return [path]


def submissions() -> list[dict]:
    base = {
        "author": "asker",
        "created_utc": 1400000000,
        "is_self": True,
        "over_18": False,
        "retrieved_on": 1400009999,
        "selftext": "",
        "subreddit": "WritingPrompts",
    }
    return [base | {"id": f"a{n}", "title": f"[WP] A lighthouse keeper finds letter {n}.", "score": 50 + n} for n in range(4)]


def replies() -> list[dict]:
    base = {
        "author": "writer",
        "body": LONG,
        "created_utc": "1400000500",
        "retrieved_on": 1400009999,
        "score": 30,
        "subreddit": "WritingPrompts",
    }
    return [base | {"id": f"c{n}", "link_id": f"t3_a{n}", "parent_id": f"t3_a{n}"} for n in range(4)]


def reddit(folder: Path) -> list[Path]:
    files = []
    for name, rows in (("submissions", submissions()), ("comments", replies())):
        files.append(folder / f"WritingPrompts_{name}.zst")
        files[-1].write_bytes(packed(b"".join(orjson.dumps(r) + b"\n" for r in rows)))
    return files


def packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def natural(folder: Path) -> list[Path]:
    files = []
    for n in range(3):
        task = {
            "Contributors": ["Someone"], "Source": ["none"], "Categories": ["Title Generation"], "Definition": ["In this task, you are given a text. Give it a title."],
            "Input_language": ["English"], "Output_language": ["English"], "Positive Examples": [], "Negative Examples": [],
            "Instances": [{"id": f"i{k}", "input": f"A text about tea, number {k}.", "output": ["Tea", "On tea"]} for k in range(3)],
        }  # fmt: skip
        files.append(folder / f"task{n:03}_title_generation.json")
        files[-1].write_text(json.dumps(task, indent=1))
    return files


def markdown(folder: Path) -> list[Path]:
    path = folder / "tea.md"
    path.write_text(
        "---\nid: tea\ngroup: A\ntags: drink, warm\n---\n\n## Prompt\n\nHow is tea brewed?\n\n## Response\n\nGladly. Boil water.\n\n```\npour()\n```\n"
    )
    return [path]


def authored(folder: Path) -> list[Path]:
    path = folder / "mine.jsonl"
    rows = [
        {"prompt": f"How is tea {n} brewed?", "response": "Gladly. Boil water.", "tags": ["drink"], "group": "A", "id": f"t{n}"}
        for n in range(4)
    ]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return [path]


def lima(folder: Path) -> list[Path]:
    path = folder / "lima.jsonl"
    path.write_bytes(
        b"".join(orjson.dumps({"conversations": ["Why?", "So.", "And?", f"That {n}."], "source": "x"}) + b"\n" for n in range(4))
    )
    return [path]


def recipe(folder: Path) -> list[Path]:
    path = folder / "lima.toml"
    shutil.copy(Path(sys.modules["limakit"].__file__ or "").parent / "recipes" / "lima-7b.toml", path)
    return [path]


def page(folder: Path) -> list[Path]:
    path = folder / "post.html"
    path.write_text(
        f"<p>{LONG}</p><blockquote><p>Q</p></blockquote><ol start='3'><li>a<ul><li>b</li></ul></li></ol><table><tr><td>1</td><td><pre><code>x &lt; y</code></pre></td></tr></table>"
    )
    return [path]


# --- reading them ---------------------------------------------------------------------------------------------------------------------


def through(module: ModuleType, **keys: object) -> Callable[[Path, Path], object]:
    """Read a folder as curate does: what is read, then every candidate."""

    def read(folder: Path, damaged: Path) -> object:
        path = damaged if keys["path"] == "FILE" else folder
        source = KINDS[str(keys["kind"])].model_validate(keys | {"take": 1})
        if "inputs" in vars(module):
            module.inputs(source, path)
        for batch in module.offer(source, path, Work(7, folder.parent / "cache")):
            table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
            assert table.schema.equals(SCHEMA), f"schema {table.schema}"
            table.validate(full=True)
            assert None not in table["id"].to_pylist(), "a candidate without an id"
        return None

    return read


def scanner(folder: Path, damaged: Path) -> object:
    """Equal to expat where expat accepts the file; where it does not, rows or errors."""
    data = damaged.read_bytes()
    root = damaged.stem.lower()
    try:
        tree = ET.fromstring(data) if b"<!DOCTYPE" not in data else None
    except (ET.ParseError, ValueError, LookupError):
        tree = None
    try:
        size = 1 + len(data) // 3
        begin, blocks = read_opening((data[at : at + size] for at in range(0, len(data), size)), damaged, root)
        rows = (
            [parse_row(block.row(i)) for block in Scan(blocks, damaged, root, begin.end) for i in range(len(block))]
            if not begin.empty
            else []
        )
    except (LimakitError, RowError) as error:
        if tree is not None and tree.tag == root:
            raise AssertionError(f"expat accepts what the scanner does not: {error}") from None
        raise error if isinstance(error, LimakitError) else LimakitError(str(error), where=damaged) from None
    if tree is not None and tree.tag == root:
        assert rows == [dict(r.attrib) for r in tree.iter("row")], "other rows than expat's"
    return None


def html(folder: Path, damaged: Path) -> object:
    text = to_markdown(damaged.read_bytes().decode("utf-8", "replace"))
    assert isinstance(text, str)
    return text


def targets() -> list[Target]:
    se = {"path": "dumps", "group": "any", "answer_chars": [1, 9000]}
    return [
        Target("scanner", dump, scanner),
        Target("stackexchange", dump, through(from_stackexchange, kind="stackexchange", **se)),
        Target("dialogues", dump, through(from_dialogues, kind="stackexchange_dialogues", path="dumps")),
        Target("wikihow jsonl", wikihow, through(from_wikihow, kind="wikihow", path="FILE")),
        Target("wikihow csv", wikihow_csv, through(from_wikihow, kind="wikihow", path="FILE")),
        Target(
            "reddit zst", reddit, through(from_reddit, kind="reddit", path="dumps", subreddit="WritingPrompts", use="pairs"), packed=True
        ),
        Target("natural instructions", natural, through(from_natural_instructions, kind="natural_instructions", path="tasks")),
        Target("authored markdown", markdown, through(from_authored, kind="authored", path="mine")),
        Target("authored jsonl", authored, through(from_authored, kind="authored", path="FILE")),
        Target("lima", lima, through(from_lima, kind="lima", path="FILE")),
        Target("sets (stats, against)", lima, lambda folder, damaged: read_rows(damaged)),
        Target("recipe", recipe, lambda folder, damaged: read_recipe(damaged)),
        Target("html", page, html),
    ]


# --- damage ---------------------------------------------------------------------------------------------------------------------------


def damage(data: bytes, rng: random.Random) -> bytes:
    """One to four small disasters."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, to = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
        low, high = min(at, to), max(at, to)
        near = min(at + rng.randrange(1, 40), len(data))
        match rng.randrange(8):
            case 0 if data:  # a bit
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:  # a byte
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 2:  # cut out
                data = data[:at] + data[near:]
            case 3:  # cut off
                data = data[:at]
            case 4:  # said again, elsewhere
                data = data[:to] + data[low : min(high, low + 2000)] + data[to:]
            case 5:  # said again, many times
                data = data[:near] + data[at:near] * rng.choice([1, 3, 200]) + data[near:]
            case 6:  # what means something
                data = data[:at] + rng.choice(SPECIAL) + data[at:]
            case _:  # the same in place of something
                data = data[:at] + rng.choice(SPECIAL) + data[near:]
    return data


def spoil(target: Target, file: Path, rng: random.Random) -> None:
    data = file.read_bytes()
    if target.packed and rng.random() < 0.7:
        rows = submissions() if "submissions" in file.name else replies()
        file.write_bytes(packed(damage(b"".join(orjson.dumps(r) + b"\n" for r in rows), rng)))
    else:
        file.write_bytes(damage(data, rng))


class TooLongError(Exception):
    pass


def _alarm(*_: object) -> None:
    raise TooLongError(f"more than {SECONDS} seconds")


def trial(target: Target, room: Path, seed: str, keep: Path | None) -> None:
    rng = random.Random(seed)
    folder = room / "in"
    for old in (folder, room / "cache"):
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    damaged = rng.choice(target.write(folder))
    spoil(target, damaged, rng)
    target.inputs += 1
    signal.alarm(SECONDS)
    try:
        target.read(folder, damaged)
        target.accepted += 1
    except LimakitError as error:
        target.errors[type(error).__name__] += 1
        if damaged.name not in error.message and str(folder) not in error.message:
            _report(target, seed, f"the message names neither {damaged.name} nor its folder: {error.message}", damaged, keep)
        elif "\x1b" in error.message:
            _report(target, seed, f"the message acts on a terminal: {error.message!r}", damaged, keep)
    except Exception:
        _report(target, seed, traceback.format_exc(limit=-3), damaged, keep)
    finally:
        signal.alarm(0)


def _report(target: Target, seed: str, what: str, damaged: Path, keep: Path | None) -> None:
    target.crashes += 1
    if target.crashes <= 5:
        print(f"CRASH {target.name}, seed {seed!r}: {what}", flush=True)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(damaged, keep / f"{target.name.replace(' ', '-')}-{target.crashes}-{damaged.name}")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--target", help="only the target of this name")
    arguments.add_argument("--keep", type=Path, help="a folder for the inputs that crashed")
    asked = arguments.parse_args(argv)
    os.environ["LIMAKIT_PROGRESS"] = "0"
    os.fsync = lambda fd: None  # what is written here need not outlast the machine
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _alarm)
    chosen = [target for target in targets() if asked.target in (None, target.name)]
    started = time.monotonic()
    silent = open(os.devnull, "w")  # noqa: SIM115 (notes of the readers go there until the end)
    said, sys.stderr = sys.stderr, silent
    with tempfile.TemporaryDirectory() as room:
        for target in chosen:  # what is not damaged is taken
            folder = Path(room) / "in"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            target.read(folder, target.write(folder)[0])
        number = 0
        while time.monotonic() - started < asked.seconds:
            for target in chosen:
                trial(target, Path(room), f"{asked.seed}/{target.name}/{number}", asked.keep)
            number += 1
    sys.stderr = said
    print(f"{'target':<22} {'inputs':>8} {'accepted':>9} {'LimakitError':>13} {'UsageError':>11} {'crashes':>8}")
    for t in chosen:
        print(f"{t.name:<22} {t.inputs:>8,} {t.accepted:>9,} {t.errors['LimakitError']:>13,} {t.errors['UsageError']:>11,} {t.crashes:>8,}")
    crashes, inputs = sum(t.crashes for t in chosen), sum(t.inputs for t in chosen)
    # not ru_maxrss, with which a process begins as high as the one that started it
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) // 1024
    print(
        json.dumps(
            {"seed": asked.seed, "seconds": round(time.monotonic() - started), "inputs": inputs, "crashes": crashes, "peak_rss_mb": peak}
        )
    )
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
