"""ndjson files: every line is found, damage is named, memory does not grow with the file."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from limakit.errors import LimakitError
from limakit.sources import ndjson
from limakit.sources.ndjson import lines_at, lines_with

HIT = re.compile(rb"needle")


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.one_of(st.binary(max_size=40).filter(lambda b: b"\n" not in b), st.just(b'{"a":"needle"}')), max_size=30),
    frames=st.lists(st.integers(0, 800), max_size=4),
    ended=st.booleans(),
)
def test_finds_the_lines_that_splitting_finds(tmp_path_factory, lines, frames, ended):
    text = b'{"first":1}\n' + b"\n".join(lines) + (b"\n" if ended else b"")
    cuts = sorted({0, len(text), *(min(cut, len(text)) for cut in frames)})
    folder = tmp_path_factory.mktemp("ndjson")
    compressor = zstandard.ZstdCompressor()
    (folder / "a.zst").write_bytes(b"".join(compressor.compress(text[a:b]) for a, b in pairwise(cuts)))
    (folder / "a.jsonl").write_bytes(text)
    expected, at = [], 0
    for line in text.split(b"\n"):
        if b"needle" in line:
            expected.append((at, line))
        at += len(line) + 1
    for name in ("a.zst", "a.jsonl"):
        found = list(lines_with(folder / name, HIT))
        assert found == expected
        assert list(lines_at(folder / name, [at for at, _ in found])) == expected


def test_blocks_of_any_size_give_the_same_lines(tmp_path, monkeypatch):
    draw = random.Random(3)
    rows = [b'{"x":"%s"}' % (b"needle" * draw.randrange(2) + b"y" * draw.randrange(50_000)) for _ in range(60)]
    text = b"\n".join(rows)
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor().compress(text))
    expected = [row for row in rows if b"needle" in row]
    for size in (1, 7, 1000, 1 << 20):
        monkeypatch.setattr(ndjson, "_HELD", size)
        assert [line for _, line in lines_with(tmp_path / "a.zst", HIT)] == expected


def test_a_line_over_the_limit_is_told_and_the_next_ones_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(ndjson, "LONGEST", 100_000)
    monkeypatch.setattr(ndjson, "_PLAIN", 30_000)
    long = b'{"needle":"' + b"x" * 400_000 + b'"}'
    (tmp_path / "a.jsonl").write_bytes(b'{"needle":1}\n' + long + b'\n{"needle":2}\n{"y":1}\n{"needle":3}')
    at = len(b'{"needle":1}\n')
    assert list(lines_with(tmp_path / "a.jsonl", HIT)) == [
        (0, b'{"needle":1}'),
        (at, None),
        (at + len(long) + 1, b'{"needle":2}'),
        (at + len(long) + 1 + 13 + 8, b'{"needle":3}'),
    ]


def test_a_window_of_two_gibibytes_is_read(tmp_path):
    """As the publishers' own files have: a plain reader refuses them ("Frame requires too much memory for decoding")."""
    parameters = zstandard.ZstdCompressionParameters(window_log=31, hash_log=12, chain_log=12, enable_ldm=True, ldm_hash_log=12)
    sink = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=parameters).stream_writer(sink, closefd=False) as writer:
        for n in range(1000):
            writer.write(b'{"needle":%d}\n' % n)
    assert zstandard.get_frame_parameters(sink.getvalue()).window_size == 2**31
    (tmp_path / "a.zst").write_bytes(sink.getvalue())
    assert len(list(lines_with(tmp_path / "a.zst", HIT))) == 1000


def test_skippable_frames_are_passed_over(tmp_path):
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    frame = zstandard.ZstdCompressor().compress
    (tmp_path / "a.zst").write_bytes(skippable + frame(b'{"needle":1}\n{"nee') + skippable + frame(b'dle":2}\n') + skippable)
    assert [line for _, line in lines_with(tmp_path / "a.zst", HIT)] == [b'{"needle":1}', b'{"needle":2}']


@pytest.fixture
def whole(tmp_path):
    draw = random.Random(5)
    text = b"".join(b'{"needle":"%x"}\n' % draw.getrandbits(400) for _ in range(4000))
    return zstandard.ZstdCompressor(write_checksum=True).compress(text)


@pytest.mark.parametrize("kept", [3, 50, 40_000, -1])
def test_a_truncated_file_is_an_error_that_names_the_byte(tmp_path, whole, kept):
    """zstandard's own stream reader ends quietly there."""
    (tmp_path / "a.zst").write_bytes(whole[:kept])
    with pytest.raises(LimakitError, match=r"truncated: it ends within a zstd frame, at byte [\d,]+") as caught:
        list(lines_with(tmp_path / "a.zst", HIT))
    assert caught.value.where == tmp_path / "a.zst"
    assert f"{len(whole[:kept]):,}" in caught.value.what


def test_a_flipped_bit_is_an_error_that_names_the_bytes(tmp_path, whole):
    damaged = bytearray(whole)
    damaged[60_000] ^= 4
    (tmp_path / "a.zst").write_bytes(damaged)
    with pytest.raises(LimakitError, match=r"is damaged \(.*, bytes [\d,]+ to [\d,]+\)"):
        list(lines_with(tmp_path / "a.zst", HIT))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.zst", b"", "is empty"),
        ("a.zst", b"<html>not found</html>", "is no zstd file"),
        ("a.zst", zstandard.ZstdCompressor().compress(b"<?xml version='1.0'?>\n<posts>"), "is no ndjson"),
        ("a.jsonl", b"id,title\n1,needle\n", "is no ndjson"),
    ],
)
def test_what_is_no_dump_is_said_to_be_none(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LimakitError, match=what):
        list(lines_with(tmp_path / name, HIT))


def test_a_byte_order_mark_and_blank_lines_before_the_first_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf\r\n\n {"needle":1}\r\n')
    assert len(list(lines_with(tmp_path / "a.jsonl", HIT))) == 1


def test_a_few_bytes_that_stand_for_gigabytes_fill_no_memory(tmp_path):
    """1.5 GB of line feeds in some 50 kB, and as much in a line that never ends."""
    for name, filling in (("a", b"\n"), ("b", b"x")):
        with open(tmp_path / f"{name}.zst", "wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as writer:
            writer.write(b'{"id":999,"x":1}\n')
            for _ in range(1500):
                writer.write(filling * 1_000_000)
        assert (tmp_path / f"{name}.zst").stat().st_size < 200_000
        lines, grown_kb = in_a_process(tmp_path / f"{name}.zst")
        assert lines == (1 if name == "a" else 2)  # the long one is told
        assert grown_kb < 150_000


def test_memory_does_not_grow_with_the_file(tmp_path):
    """600 MB of rows."""
    compressor = zstandard.ZstdCompressor(level=1)
    block = b"".join(b'{"id":%d,"body":"%s"}\n' % (n, b"word " * 200) for n in range(1000))
    with open(tmp_path / "a.zst", "wb") as file, compressor.stream_writer(file) as writer:
        for _ in range(600):
            writer.write(block)
    lines, grown_kb = in_a_process(tmp_path / "a.zst")
    assert lines == 600
    assert grown_kb < 120_000


def in_a_process(path):
    """(lines found, kB that the largest resident set grew) of a reader in a process of its own."""
    code = (
        "import re, resource, sys; from pathlib import Path; from limakit.sources.ndjson import lines_with\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"n = sum(1 for _ in lines_with(Path({str(path)!r}), re.compile(b'\"id\":999,')))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines, grown_kb = map(int, done.stdout.split())
    return lines, grown_kb
