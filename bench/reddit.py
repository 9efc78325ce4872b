"""How fast a month of Reddit comments is searched for one subreddit, beside decompressing it and looking for the name.

    python bench/reddit.py [--mb 1000] [--seed 1] [--window-log 27] [--keep FILE]

Writes a dump of that size (decompressed; rows shaped like those of 2020, 1 % of them the subreddit's) and reads it, each way in a process of its own:
ours (`read_rows`: every row of the subreddit found, parsed, its quirks read, packed), the peer (zstandard's stream and a search of each block for the
exact bytes "WritingPrompts", nothing parsed, no lines), the limit (decompressing alone), and what scripts usually do: a byte test of each line, orjson and
json of every line (on the first part, scaled). CPU seconds of the process; memory is its largest resident set, the interpreter's included. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUBREDDIT = "WritingPrompts"
OTHERS = [
    "AskReddit",
    "funny",
    "pics",
    "politics",
    "aww",
    "gaming",
    "nfl",
    "relationship_advice",
    "worldnews",
    "wallstreetbets",
    "teenagers",
]
SHARE = 0.01  # of the rows
PARSED_MB = 100  # of decompressed text, for the ways that parse every line


# --- the dump -------------------------------------------------------------------------------------------------------------------------


def write_month(path: Path, mb: int, seed: int, window_log: int) -> int:
    """A month of comments in one frame; returns the rows of the subreddit. Words are drawn by Zipf's law from an invented vocabulary."""
    import orjson
    import zstandard

    draw = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(30_000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    stock = draw.choices(words, weights, k=400_000)
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log, enable_ldm=True)
    written = n = ours = 0
    with open(path, "wb") as file, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as writer:
        while written < mb * 1_000_000:
            subreddit = SUBREDDIT if draw.random() < SHARE else draw.choice(OTHERS)
            line = orjson.dumps(_comment(draw, stock, n, subreddit)) + b"\n"
            writer.write(line)
            written += len(line)
            ours += subreddit == SUBREDDIT
            n += 1
    return ours


def _comment(draw: random.Random, stock: list[str], n: int, subreddit: str) -> dict:
    """A row with the keys of 2020; bodies of 25 words in the median, as seen by their lengths in the public samples."""
    at = draw.randrange(len(stock) - 2_000)
    body = " ".join(stock[at : at + 1 + min(int(draw.lognormvariate(3.2, 1.1)), 1_500)])
    post = format(draw.randrange(10**7, 10**8), "x")
    row: dict = {
        "all_awardings": [],
        "associated_award": None,
        "author": f"{stock[at]}{draw.randrange(10_000)}",
        "author_flair_css_class": None,
    }
    row |= {
        "author_flair_richtext": [],
        "author_flair_text": None,
        "author_flair_type": "text",
        "author_fullname": f"t2_{draw.randrange(10**9):x}",
    }
    row |= {"author_patreon_flair": False, "author_premium": False, "awarders": [], "body": body, "can_gild": True, "can_mod_post": False}
    row |= {"collapsed": False, "collapsed_because_crowd_control": None, "collapsed_reason": None, "controversiality": 0}
    row |= {
        "created_utc": 1_580_000_000 + n // 40,
        "distinguished": None,
        "edited": False,
        "gilded": 0,
        "gildings": {},
        "id": f"f{n + 10**8:x}",
    }
    row |= {"is_submitter": draw.random() < 0.1, "link_id": f"t3_{post}", "locked": False, "no_follow": True}
    row |= {
        "parent_id": f"t3_{post}" if draw.random() < 0.35 else f"t1_f{n:x}",
        "permalink": f"/r/{subreddit}/comments/{post}/{stock[at]}/f{n:x}/",
    }
    row |= {
        "retrieved_on": 1_590_000_000 + n // 90,
        "score": min(int(draw.paretovariate(0.9)), 40_000),
        "send_replies": True,
        "steward_reports": [],
    }
    row |= {"stickied": False, "subreddit": subreddit, "subreddit_id": "t5_2s3nb", "total_awards_received": 0}
    return row


# --- the ways, each in a process of its own -----------------------------------------------------------------------------------------------


def ours(path: Path) -> int:
    from limakit.curate.reddit_rows import read_rows, spellings_of

    return sum(spellings_of(read_rows(path, of="comments", subreddit=SUBREDDIT.lower(), floor=10)).values())


def _stream(path: Path):
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(open(path, "rb"), read_across_frames=True, closefd=True)


def decompress(path: Path) -> int:
    block = bytearray(1 << 18)
    with _stream(path) as stream:
        return sum(iter(lambda: stream.readinto(block), 0))


def peer(path: Path) -> int:
    needle, found, tail = f'"{SUBREDDIT}"'.encode(), 0, b""
    with _stream(path) as stream:
        while block := stream.read(1 << 18):
            found += block.count(needle) + (tail + block[: len(needle) - 1]).count(needle)
            tail = block[1 - len(needle) :]
    return found


def lines(path: Path) -> int:
    import io

    needle = f'"{SUBREDDIT}"'.encode()
    with _stream(path) as stream:
        return sum(needle in line for line in io.BufferedReader(stream, 1 << 18))


def orjson_lines(path: Path) -> int:
    import orjson

    return _parsed(path, orjson.loads)


def json_lines(path: Path) -> int:
    return _parsed(path, json.loads)


def _parsed(path: Path, loads) -> int:
    import io

    found = read = 0
    with _stream(path) as stream:
        for line in io.BufferedReader(stream, 1 << 18):
            found += loads(line)["subreddit"] == SUBREDDIT
            read += len(line)
            if read >= PARSED_MB * 1_000_000:
                break
    return found


WAYS = {way.__name__: way for way in (ours, peer, decompress, lines, orjson_lines, json_lines)}


def measure(way: str, path: Path) -> tuple[int, float, float]:
    """(what it found, CPU seconds, peak MB) of a way in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--way", way, str(path)], check=True, capture_output=True, text=True)
    found, seconds, peak = json.loads(done.stdout)
    return found, seconds, peak


def one_way(way: str, path: Path) -> None:
    if way == "ours":  # the libraries' loading is no part of the reading
        import limakit.curate.reddit_rows  # noqa: F401
    import orjson  # noqa: F401
    import zstandard  # noqa: F401

    started = time.process_time()
    found = WAYS[way](path)
    seconds = time.process_time() - started
    print(json.dumps([found, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--window-log", type=int, default=27)
    parser.add_argument("--keep", type=Path, help="write the dump here and leave it, or read the one that is there")
    parser.add_argument("--way", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        return one_way(asked.way[0], Path(asked.way[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = asked.keep or Path(folder) / "RC_2020-02.zst"
        if not path.exists():
            write_month(path, asked.mb, asked.seed, asked.window_log)
        mb = measure("decompress", path)[0] / 1e6
        results = {}
        print(f"{mb:,.0f} MB of comments, {path.stat().st_size / 1e6:,.0f} MB compressed\n")
        print(f"{'way':14}{'CPU s':>9}{'MB/s':>9}{'peak MB':>9}{'rows':>9}")
        for way in WAYS:
            runs = [measure(way, path) for _ in range(1 if "json" in way else 3)]
            found, seconds, peak = min(runs, key=lambda run: run[1])
            if "json" in way:
                seconds *= max(mb / PARSED_MB, 1)
            results[way] = seconds, peak, found
            print(f"{way:14}{seconds:9.2f}{mb / seconds:9.0f}{peak:9.0f}{found if way != 'decompress' else '':>9}")
        assert results["ours"][2] == results["peer"][2] == results["lines"][2], "the ways disagree"
        last = {
            "bench": "reddit",
            "ours": round(results["ours"][0], 3),
            "peer": round(results["peer"][0], 3),
            "ratio": round(results["ours"][0] / results["peer"][0], 3),
            "limit": round(results["decompress"][0], 3),
            "unit": "CPU seconds",
            "mb": round(mb),
            "ours_mb_per_cpu_s": round(mb / results["ours"][0]),
            "lines": round(results["lines"][0], 3),
            "orjson_every_line": round(results["orjson_lines"][0], 3),
            "json_every_line": round(results["json_lines"][0], 3),
            "peak_rss_mb": round(results["ours"][1]),
        }
        print(json.dumps(last))


if __name__ == "__main__":
    main()
