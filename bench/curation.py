"""How quickly a Stack Exchange dump becomes candidates, beside the way it is usually read.

    python bench/curation.py [--mb 200] [--keep FILE]

Writes a dump of that size (real-shaped: see `write_dump`), then measures in one run: ours (XML -> candidates through the real `offer`; with
and without the hash of the input), the peer (lxml iterparse and BeautifulSoup on every body of a question or answer, as EleutherAI's, RedPajama's and
data-juicer's readers do; on the first part of the same dump, scaled by size), and two limits (wc -l, a bare scan). CPU seconds are those of a
process and all its children; memory is the largest sum of the resident sets of that process tree, looked at 20 times a second.
Prints a table, and as its last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

SLICE_MB = 12  # of the dump, for the peer: BeautifulSoup takes seconds for these
BODIES = 6_000  # different ones; a dump has each many times

# --- the dump -------------------------------------------------------------------------------------------------------------------------

# shares and lengths are those of the dumps of beer, coffee, bicycles-meta and conlang-meta: 1.1 to 1.5 kB a row; bodies lognormal, in characters of
# HTML (median, sigma); scores by their shares, 5 % of the answers with 10 or more
ANSWER, QUESTION = (655, 0.89), (475, 0.81)
SCORES = [
    (-1, 0.03),
    (0, 0.13),
    (1, 0.18),
    (2, 0.16),
    (3, 0.12),
    (4, 0.09),
    (5, 0.08),
    (6, 0.05),
    (7, 0.04),
    (8, 0.04),
    (9, 0.03),
    (10, 0.02),
    (12, 0.02),
    (25, 0.01),
]
WORDS = (  # noqa: SIM905
    "the of to and a in is it you that for with on are as this be or can not at have from if will your but by one more which when use there what about out "
    "other water time pressure grind bean brew glass bottle temperature wheel frame chain value table column server process file path index error simple "
    "however usually often because while small large first second different same between through better without problem reason result change longer "
    "keep make take give find need look work point part line place side hand year day people thing way number system light sound heat metal paper wood"
).split()


def _sentence(draw: random.Random, own: bool) -> str:
    words = draw.choices(WORDS, k=draw.randint(6, 22))
    if own:
        words[0:0] = draw.choice((["I", "think"], ["In", "my", "case"], ["I'd", "say"]))
    text = " ".join(words)
    mark = draw.random()
    if mark < 0.12:
        at = draw.choice(words)
        text = text.replace(f" {at} ", f' <a href="https://example.org/{at}?a=1&amp;b=2" rel="nofollow">{at}</a> ', 1)
    elif mark < 0.20:
        at = draw.choice(words)
        text = text.replace(f" {at} ", f" <strong>{at}</strong> ", 1)
    elif mark < 0.24:
        at = draw.choice(words)
        text = text.replace(f" {at} ", f" <code>{at}_x &lt; 3</code> ", 1)
    if mark > 0.97:
        text += draw.choice((", as it is said", " and the answer is no", " in another comment"))
    return text[0].upper() + text[1:] + draw.choice((".", ".", ".", "?", " (and so on)."))


def _body(draw: random.Random, chars: int) -> str:
    """HTML of about so many characters: paragraphs, lists, quotations, code."""
    parts, length = [], 0
    own = draw.random() < 0.8  # of the real ones of more than 1,200 characters 71 to 94 % say "I"
    while length < chars - 60:
        kind = draw.random()
        if kind < 0.84 or not parts or chars - length < 150:
            sentences = []
            most = draw.randint(1, 4)
            while not sentences or (length + sum(map(len, sentences)) + 60 < chars and len(sentences) < most):
                sentences.append(_sentence(draw, own and draw.random() < 0.25))
            parts.append(f"<p>{' '.join(sentences)}</p>\n")
        elif kind < 0.94:
            tag = draw.choice(("ul", "ul", "ul", "ol"))
            parts.append(f"<{tag}>\n" + "".join(f"<li>{_sentence(draw, False)}</li>\n" for _ in range(draw.randint(2, 6))) + f"</{tag}>\n")
        elif kind < 0.975:
            parts.append(f"<blockquote>\n  <p>{_sentence(draw, False)}</p>\n</blockquote>\n")
        else:
            lines = "".join(f"    if {draw.choice(WORDS)} &gt; {n}: return {n} &amp;&amp; x\n" for n in range(draw.randint(2, 9)))
            parts.append(f"<pre><code>{lines}</code></pre>\n")
        length = sum(map(len, parts))
    return "\n".join(parts)


def _quoted(text: str) -> str:
    """As an attribute's value in a dump: escaped once more, line feeds as references."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").replace("\n", "&#xA;")


def write_dump(folder: Path, mb: int, seed: int = 7) -> Path:
    """FOLDER/coffee/Posts.xml of `mb` MB: a byte order mark, CRLF, rows in the order of their Ids, attributes as the dumps have them."""
    draw, numbers = random.Random(seed), np.random.default_rng(seed)

    def bodies(median: float, sigma: float) -> list[str]:
        return [_quoted(_body(draw, max(int(n), 30))) for n in median * np.exp(sigma * numbers.standard_normal(BODIES))]

    asked, answered, good = bodies(*QUESTION), bodies(*ANSWER), bodies(ANSWER[0] * 1.45, ANSWER[1])
    path = folder / "coffee" / "Posts.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    scores, shares = zip(*SCORES, strict=True)
    post, recent, written = 0, [1], 0
    with open(path, "wb") as file:
        written += file.write(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n')
        while written < mb * 1_000_000:
            rows = []
            drawn = zip(numbers.random(10_000), numbers.choice(scores, 10_000, p=np.array(shares) / sum(shares)).tolist(), strict=True)
            for kind, score in drawn:
                post += 1
                date = f"20{10 + post % 14}-{1 + post % 12:02}-{1 + post % 28:02}T{post % 24:02}:{post % 60:02}:{post * 7 % 60:02}.{post % 1000:03}"
                rest = f'OwnerUserId="{post % 99_991}" LastEditorUserId="{post % 7_919}" LastEditDate="{date}" LastActivityDate="{date}"'
                if kind < 0.37 or post == 1:
                    recent = [*recent[-40:], post]
                    accepted = f'AcceptedAnswerId="{post + 1}" ' if kind < 0.2 else ""
                    title = " ".join(draw.choices(WORDS, k=8)).capitalize()
                    rows.append(
                        f'  <row Id="{post}" PostTypeId="1" {accepted}CreationDate="{date}" Score="{score}" ViewCount="{post % 9_999}" '
                        f'Body="{asked[post % BODIES]}" {rest} Title="What is the {title}, and why?" Tags="&lt;{WORDS[post % 90]}&gt;" '
                        f'AnswerCount="2" CommentCount="{post % 9}" ContentLicense="CC BY-SA 4.0" />\r\n'
                    )
                elif kind < 0.98:
                    body = (good if score >= 10 else answered)[post % BODIES]
                    rows.append(
                        f'  <row Id="{post}" PostTypeId="2" ParentId="{draw.choice(recent)}" CreationDate="{date}" Score="{score}" '
                        f'Body="{body}" {rest} CommentCount="{post % 5}" ContentLicense="CC BY-SA 4.0" />\r\n'
                    )
                else:
                    rows.append(
                        f'  <row Id="{post}" PostTypeId="{3 + post % 5}" CreationDate="{date}" Score="0" Body="" {rest} CommentCount="0" />\r\n'
                    )
            written += file.write("".join(rows).encode())
        file.write(b"</posts>")
    return path


# --- ours -----------------------------------------------------------------------------------------------------------------------------


def ours(path: Path) -> dict:
    """In a process of its own: the dump's candidates, by what became of them."""
    from limakit.curate.engine import Work
    from limakit.curate.from_stackexchange import offer
    from limakit.recipe_sources import StackExchangeSource

    source = StackExchangeSource(kind="stackexchange", path="x", take=1)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as cache:
        work = Work(7, Path(cache))
        hashed = _cpu()
        work.content(path)  # limakit curate hashes its inputs before anything else, once for each file that has changed
        hashed = _cpu() - hashed
        start, cpu = time.perf_counter(), _cpu()
        for batch in offer(source, path.parent.parent, work):
            for row in batch["reason"].value_counts().to_pylist():  # counted by Arrow: a Python object for each row is no part of the work
                outcomes[row["values"]] += row["counts"]
        wall, cpu = time.perf_counter() - start, _cpu() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "hash_s": hashed,
        "candidates": sum(outcomes.values()),
        "outcomes": {str(k): n for k, n in outcomes.most_common()},
    }


def _cpu() -> float:
    """CPU seconds of this process and its children, those that still live included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    alive = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            alive += times.user + times.system
        except psutil.NoSuchProcess:
            pass
    return sum(u.ru_utime + u.ru_stime for u in used) + alive


def watched(command: list[str]) -> tuple[dict, float]:
    """(the JSON object that a command prints last, the peak of its process tree's memory in MB)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"LIMAKIT_PROGRESS": "0"})
    tree, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        sizes = 0
        try:
            for member in [tree, *tree.children(recursive=True)]:
                sizes += member.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, sizes)
        time.sleep(0.05)
    assert process.stdout is not None
    said = process.stdout.read()
    if process.returncode:
        sys.exit(f"{command} failed")
    return json.loads(said.splitlines()[-1]), peak / 1e6


# --- peer and limits ------------------------------------------------------------------------------------------------------------------


def peer(path: Path, parser: str, at_least: int | None = None) -> tuple[float, int]:
    """(CPU seconds, bodies) of lxml and BeautifulSoup; with `at_least` only for answers with that score, which no peer does."""
    from bs4 import BeautifulSoup
    from lxml import etree

    start, bodies = time.process_time(), 0
    for _, row in etree.iterparse(str(path), events=("end",), tag="row"):
        wanted = (
            row.get("PostTypeId") in ("1", "2") if at_least is None else row.get("PostTypeId") == "2" and int(row.get("Score")) >= at_least
        )
        if wanted:
            BeautifulSoup(row.get("Body"), parser).get_text()
            bodies += 1
        row.clear()
        while row.getprevious() is not None:
            del row.getparent()[0]
    return time.process_time() - start, bodies


def part_of(path: Path, mb: int) -> Path:
    """The beginning of the dump as a dump of its own."""
    data = path.open("rb").read(mb * 1_000_000)
    part = path.with_name("Part.xml")
    part.write_bytes(data[: data.rindex(b"  <row ")] + b"</posts>")
    return part


def counted(path: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["wc", "-l", str(path)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def scanned(path: Path) -> float:
    """Every "<" found, nothing else."""
    start = time.process_time()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            np.flatnonzero(np.frombuffer(data, np.uint8) == ord("<"))
    return time.process_time() - start


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--mb", type=int, default=200)
    options.add_argument("--keep", type=Path, help="a folder for the dump, which stays there and is used again")
    options.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.ours:
        print(json.dumps(ours(given.ours)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        path = folder / "coffee" / "Posts.xml"
        if not path.exists() or abs(path.stat().st_size - given.mb * 1_000_000) > 30_000_000:
            write_dump(folder, given.mb)
        mb = path.stat().st_size / 1e6
        result, peak = watched([sys.executable, __file__, "--ours", str(path)])
        part = part_of(path, min(SLICE_MB, given.mb))
        part_mb = part.stat().st_size / 1e6
        every = {parser: peer(part, parser)[0] / part_mb for parser in ("html.parser", "lxml")}
        few = peer(part, "lxml", at_least=10)[0] / part_mb
        limits = {"wc -l": counted(path) / mb, "bare scan": scanned(path) / mb}
        part.unlink()
    mine, hashing, best = result["cpu_s"] / mb, result["hash_s"] / mb, min(every.values())
    rows = [
        ("ours: XML to candidates", mine),
        ("the same, with the hash of the input", mine + hashing),
        ("peer: lxml + BeautifulSoup (html.parser), every body", every["html.parser"]),
    ]
    rows += [("peer: lxml + BeautifulSoup (lxml), every body", every["lxml"]), ("the same, only answers with 10 or more", few)]
    rows += [(f"limit: {name}", cost) for name, cost in limits.items()]
    print(
        f"{mb:,.0f} MB, {result['candidates']:,} candidates in {result['wall_s']:.1f} s; {result['cpu_s']:.1f} CPU seconds; peak {peak:,.0f} MB"
    )
    print(f"{'':55}{'MB per CPU-second':>20}{'times ours':>12}")
    for name, cost in rows:
        print(f"{name:55}{1 / cost:>20,.0f}{cost / mine:>12.2f}")
    print(
        json.dumps(
            {
                "ours": 1 / mine, "peer": 1 / best, "ratio": best / mine, "ratio_to_few_bodies": few / mine, "limit": 1 / limits["bare scan"],
                "unit": "MB per CPU-second", "peak_rss_mb": peak, "mb": mb, "mb_per_cpu_s": 1 / mine, "with_hash": 1 / (mine + hashing), "wall_s": result["wall_s"],
                "candidates": result["candidates"], "kept": result["outcomes"].get("None", 0), "outcomes": result["outcomes"],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
